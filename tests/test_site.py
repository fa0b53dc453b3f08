"""The documentation as a site: it is built without a network, all of its links lead somewhere, and its
pages load nothing from other servers."""

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Attributes with which a page loads a resource. A link (<a>) loads nothing.
LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. Each warning of mkdocs is an error; with --quiet, it would count
    none."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, env={**os.environ, **NO_NETWORK}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


class Page(html.parser.HTMLParser):
    """The resources, links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if tag in LOADING and LOADING[tag] in values:
            self.loaded.append(values[LOADING[tag]])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").glob("*.md")))
    for path in pages:
        page = Page(path)
        assert len(page.loaded) > 3
        assert not [url for url in page.loaded if re.match(r"(https?:)?//", url)], path.name
        # mkdocs-material loads these from a server, on pages that have them
        assert 'class="mermaid"' not in path.read_text() and not page.anchors & {"__comments"}
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text())
    assert (site / "search" / "search_index.json").stat().st_size > 100_000


def test_links_between_pages_work_in_the_site_and_in_the_repository(site: Path) -> None:
    pages = {path.name: Page(path) for path in site.glob("*.html")}
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if name == "404.html" or re.match(r"https?:|mailto:|data:", target):
                continue
            assert (site / (target or name)).exists(), f"{name}: {link}"
            if anchor and target.endswith(".html"):
                assert anchor in pages[target].anchors, f"{name}: {link}"
    contributing = pages["streams.html"].links
    assert "CONTRIBUTING.html#add-a-stream" in contributing  # in the repository ../CONTRIBUTING.md
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_first_page_is_the_readme_and_every_page_is_in_the_menu(site: Path) -> None:
    first = (site / "index.html").read_text(encoding="utf-8")
    assert "Reelbank extracts features from video clips once" in first
    menu = set(Page(site / "index.html").links)
    names = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert names | {"CONTRIBUTING.html", "CHANGELOG.html"} <= menu
