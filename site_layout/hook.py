"""Hook of mkdocs: pages of the site that are not in docs/.

README.md becomes the first page, and CONTRIBUTING.md and CHANGELOG.md are pages too. The links between
them and docs/ are written for the repository, and are changed here for the site, where all pages are
in one folder.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

# Page of the site -> file of the repository.
PAGES = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
_LINK = re.compile(r"\]\((?:docs/|\.\./)([\w-]+\.\w+)")


def on_files(files: Files, *, config: Any) -> Files:
    """Called by mkdocs when it has found the pages of docs/."""
    root = Path(config.config_file_path).parent
    for page, name in PAGES.items():
        content = (root / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    linked = _LINK.sub(r"](\1", markdown)
    return linked.replace("](README.md", "](index.md")
