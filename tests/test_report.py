"""The report: complete, self-contained, safe with any name, with the numbers of the scores, and
interactive in a browser."""

import csv
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from in_browser import found_in_browser
from made_runs import CLASSES, COARSE, made_run
from PIL import Image
from test_protocols import make_store, trained

from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.store.records import DatasetDescription, StoredVideo, identity
from reelbank.data.store.versions import Made
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.detectors.methods import METHODS
from reelbank.fusion.fuse import FuseOptions, fuse_runs
from reelbank.fusion.metrics import accuracy, confusion
from reelbank.fusion.report import page
from reelbank.fusion.report.curves import read_history
from reelbank.fusion.report.drawings import matrices
from reelbank.fusion.report.drawings.svg import ticks
from reelbank.fusion.report.export import Plot, characters_without_font, png
from reelbank.fusion.report.page import ReportOptions, report
from reelbank.fusion.report.view import Drawing

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that every element is closed in its turn; gathers elements and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(bank: Path, **options) -> tuple[str, Page]:
    assert report(ReportOptions(bank=str(bank), **options)) == 0
    (path,) = (bank / "reports").glob("*.html")
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def two_models(bank: Path) -> list[Path]:
    return [
        made_run(bank, head, "rgb", split, seed, skill)
        for head, skill in (("reslstm", 3.0), ("meanpool", 1.5))
        for split in ("1", "2")
        for seed in (0, 1)
    ]


def test_every_run_and_its_figures_are_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = two_models(tmp_path)
    _, page = written(tmp_path)
    drawn = f"figures written to {tmp_path}/reports/made-figures (drawings as PNG, data as CSV)\n"
    (store,) = {
        json.loads((folder / "recipe.json").read_text())["recipe"]["store"] for folder in folders
    }
    assert capsys.readouterr().out == (
        f"{drawn}note: the map of made, 6 classes is not drawn: the feature store was not found: "
        f"{store[:8]}\nreport on 8 runs written to {tmp_path}/reports/made.html\n"
    )
    text = " ".join(page.text)
    values: dict[str, list[float]] = {}
    for folder in folders:
        value = accuracy(score_tables.load(folder / "scores-test.npz")).value
        values.setdefault(folder.name.split("-")[0], []).append(100 * value)
        assert folder.name in text
        assert f"{100 * value:.1f}" in text
    for head in ("reslstm", "meanpool"):
        assert f"{np.mean(values[head]):.1f} ± {np.std(values[head], ddof=1):.1f}" in text
    recipe = json.loads((folders[0] / "recipe.json").read_text())
    assert recipe["recipe"]["store"] in text
    assert recipe["environment"]["commit"] in text
    assert '"layers": 2' in text
    assert all(name in text for name in (*CLASSES, *COARSE))
    assert (
        len([polyline for polyline in page.of("polyline") if polyline["class"] == "validation"])
        == 2 * 8
    )
    assert (
        len([svg for svg in page.of("svg") if svg["class"] == "matrix"]) == 3
    )  # and their difference
    assert len([svg for svg in page.of("svg") if svg["class"] == "curves reliability"]) == 2


def test_it_needs_no_other_file_and_no_network(tmp_path: Path) -> None:
    two_models(tmp_path)
    text, page = written(tmp_path)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(", text.replace("// A click", ""))
    assert not [
        tag
        for tag, _ in page.elements
        if tag in ("link", "img", "iframe", "object", "embed", "base")
    ]
    assert not [attributes for _, attributes in page.elements if "src" in attributes]
    assert all((a["href"] or "").startswith("#") for a in page.of("a"))
    anchors = {attributes.get("id") for _, attributes in page.elements}
    assert {(a["href"] or "")[1:] for a in page.of("a")} <= anchors
    assert "default-src 'none'" in str(page.of("meta"))


def test_names_are_text_never_markup(tmp_path: Path) -> None:
    evil = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(2)>',
        "</style></svg>",
        "a'b",
        "e\u0301 視",
        "&lt;",
    )
    made_run(
        tmp_path,
        "<b>gru",
        "<i>rgb",
        "1",
        classes=evil,
        dataset="</title><script>x</script>",
        note="<pre></pre>",
    )
    text, page = written(tmp_path, name="evil")
    assert [one.get("type") for one in page.of("script")] == ["application/json", None]
    assert not page.of("img")
    assert not [tag for tag, _ in page.elements if tag in ("b", "i")]
    assert not [
        key for _, attributes in page.elements for key in attributes if key.startswith("on")
    ]
    for name in evil:
        assert name in " ".join(page.text)
    assert "alert(1)" in unescape(text)


def test_templates_escape_everything_but_our_own_style_and_script() -> None:
    templates = Path(page.__file__).with_name("templates")
    unescaped = {
        expression
        for path in templates.glob("*.html")
        for expression in re.findall(
            r"{{[^}]*safe[^}]*}}|{%[^%]*autoescape[^%]*%}", path.read_text()
        )
    }
    assert unescaped == {"{{ style | safe }}", "{{ script | safe }}"}


def test_what_stores_and_models_cost_and_what_is_abnormal(tmp_path: Path) -> None:
    """A store of the bank that a model read, with what it took; one that none read is not there;
    detectors of the data set."""
    dataset = DatasetDescription(name="made", classes=list(CLASSES), splits=["1"], coarse={})
    identities = []
    for stream in ("rgb", "flow"):
        recipe = {"stream": stream, "extractor": "torchvision:resnet18"}
        path = tmp_path / "stores" / f"{stream}.h5"
        meta = StoredVideo(id="a", label=CLASSES[0], group="", parts=["train"], source={"bytes": 1})
        with StoreWriter(
            path, recipe, dataset, made=Made(f"device of {stream}", "rgb flow")
        ) as writer:
            writer.add(meta, np.ones((5, 4)), np.arange(5.0))
            assert writer.finish([meta])
        identities.append(identity(recipe, "made"))
    run = made_run(tmp_path, "gru", "rgb", store=identities[0])
    for seed, auc in ((0, 0.9), (1, 0.7)):
        folder = tmp_path / "anomalies" / f"made-{seed}"
        folder.mkdir(parents=True)
        recipe = {
            "abnormal": ["<b>"],
            "dataset": "made",
            "stream": "rgb",
            "store": identities[0],
            "split": "1",
            "seed": seed,
            "bottleneck": 16,
            "hidden": 128,
            "epochs": 300,
            "lr": 0.001,
            "validation": 0.2,
            "false_alarms": [0.05],
            "coverage": "c",
        }
        (folder / "recipe.json").write_text(json.dumps({"recipe": recipe}))
        metrics = {
            "auc": dict.fromkeys(METHODS, auc),
            "interval": [0.5, 0.95],
            "normal_videos": 4,
            "abnormal_videos": 2,
        }
        metrics["thresholds"] = [
            {"asked": 0.05, "threshold": 1.0, "false_alarms": 0.125, "detected": 0.625}
        ]
        (folder / "metrics.json").write_text(json.dumps(metrics))
    text, page = written(tmp_path)
    cost = text[text.index("<h2>Cost</h2>") : text.index("<h2>Where the numbers")]
    assert "device of rgb" in cost and "device of flow" not in cost
    assert identities[0][:8] in cost and identities[1][:8] not in cost
    seconds = json.loads((run / "metrics.json").read_text())["seconds"]
    assert f">{seconds:.1f}</td>" in cost
    found = text[text.index("<h2>Anomalies</h2>") :]
    assert (
        "0.800 ± 0.141" in found and "0.500–0.950" in found and "12.5" in found and "62.5" in found
    )
    assert "<b>" in page.text


def test_all_stores_of_mid_fusion_are_named(tmp_path: Path) -> None:
    for stream, seed in (("rgb", 0), ("flow", 1)):
        make_store(tmp_path / "stores" / f"{stream}.h5", stream=stream, seed=seed)
    (run,) = trained(tmp_path, stream="rgb+flow", mid="sum")
    identities = run.recipe["mid"]["stores"]
    text, _ = written(tmp_path)
    cost = text[text.index("<h2>Cost</h2>") : text.index("<h2>Where the numbers")]
    assert len(identities) == 2 and all(identity[:8] in cost for identity in identities)
    assert ", ".join(identities) in text  # where the numbers come from


def test_fused_runs_and_score_files_are_listed_with_the_other_models(tmp_path: Path) -> None:
    rgb, flow = made_run(tmp_path, "gru", "rgb"), made_run(tmp_path, "gru", "flow")
    fuse_runs(FuseOptions(bank=str(tmp_path), how="sum"))
    (fused,) = (tmp_path / "runs").glob("fused-*")
    shutil.copy(flow / "scores-test.npz", tmp_path / "idt.npz")
    _, page = written(tmp_path, runs=(rgb.name, fused.name, str(tmp_path / "idt.npz")))
    text = " ".join(page.text)
    assert "sum of 2" in text
    assert fused.name in text
    assert "idt.npz" in text
    assert (
        len([one for one in page.of("polyline") if one["class"] != "reached"]) == 4
    )  # only the trained run has curves


def test_data_sets_are_never_compared_with_each_other(tmp_path: Path) -> None:
    made_run(tmp_path, classes=tuple("abcdef"), dataset="one")
    made_run(tmp_path, classes=tuple("abc"), dataset="two")
    _, page = written(tmp_path)
    text = " ".join(page.text)
    assert "one, 6 classes" in text
    assert "two, 3 classes" in text
    assert len([svg for svg in page.of("svg") if svg["class"] == "whisker"]) == 2
    assert text.count("Top-5") == 1  # of three classes five are always right


def test_a_history_without_validation_and_a_damaged_one(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["epoch", "train_loss", "validation_loss"], [1, 0.5, ""], [2, 0.25, ""]]
        )
    assert read_history(folder) == [
        {"epoch": 1, "train_loss": 0.5},
        {"epoch": 2, "train_loss": 0.25},
    ]
    written(tmp_path)
    for text in (
        "epoch,train_loss\n1,good\n",
        "epoch,train_loss\n,1\n",
        "epoch,train_loss\n1,nan\n",
        "epoch\n1,2\n",
    ):
        (folder / "history.csv").write_text(text)
        with pytest.raises(InputError, match=r"history\.csv cannot be read"):
            read_history(folder)


def test_the_matrix_groups_classes_and_shows_every_count(tmp_path: Path) -> None:
    table = score_tables.load(made_run(tmp_path) / "scores-test.npz")
    counts = confusion(table)
    page = Page(matrices.matrix(counts, table.classes, COARSE).svg)
    cells = [a for a in page.of("rect") if a["class"] in ("hit", "miss")]
    assert len(cells) == np.count_nonzero(counts)
    titles = [text for text in page.text if "\N{RIGHTWARDS ARROW}" in text]
    for true, said in np.argwhere(counts):
        share = 100 * counts[true, said] / counts[true].sum()
        name = f"{table.classes[true]} \N{RIGHTWARDS ARROW} {table.classes[said]}"
        assert f"{name}: {counts[true, said]} of {counts[true].sum()} ({share:.1f} %)" in titles
    assert matrices.grouped_order(table.classes, COARSE) == (
        [0, 1, 4, 2, 3, 5],
        {"with object": (0, 3), "body": (3, 6)},
    )
    assert matrices.grouped_order(("a", "b", "c"), {"x": ["c"]}) == (
        [2, 0, 1],
        {"x": (0, 1), "other": (1, 3)},
    )
    assert matrices.grouped_order(("a", "b"), {}) == ([0, 1], {})


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 2, [1, 1.2, 1.4, 1.6, 1.8, 2]),
        (0, 0.037, [0, 0.01, 0.02, 0.03]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


CHECK = """
  const room = document.documentElement.clientWidth;
  const under = (table, heading) => {
    const n = [...document.querySelectorAll(`${table} thead th`)].findIndex((th) => th.textContent.startsWith(heading));
    return [...document.querySelectorAll(`${table} tbody tr`)].map((row) => row.children[n]);
  };
  const inView = (cell) => cell.getBoundingClientRect().left >= 0 && cell.getBoundingClientRect().right <= room;
  const of = (table) => [...document.querySelectorAll(`${table} tbody tr`)].map((row) => row.children[0].textContent);
  const order = () => of(".classes:not(.gains)");
  const click = (n) => document.querySelectorAll(".classes:not(.gains) th button")[n].click();
  found.first = order();
  found.figures = [
    ...under("section:nth-of-type(1) table", "Top-1"),
    ...under(".classes:not(.gains)", "A "),
    ...under(".gains", "B %"),
  ].map(inView);
  click(1); found.up = order();
  click(0); found.names = order();
  click(0); found.back = order();
  found.gains = [...document.querySelectorAll(".gains td.gain")].map((cell) => Number(cell.dataset.v));
  document.querySelectorAll(".gains th button")[3].click();
  found.losses = [...document.querySelectorAll(".gains td.gain")].map((cell) => Number(cell.dataset.v));
  found.hidden = [...document.querySelectorAll("svg")].filter((svg) => svg.checkVisibility() && !svg.getBBox().width).length;
  found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_it_sorts_and_fits(tmp_path: Path, width: int) -> None:
    two_models(tmp_path)
    text, _ = written(tmp_path)
    found = found_in_browser(tmp_path, text, CHECK, width)
    assert found["errors"] == []
    assert found["up"] == found["first"][::-1] != found["first"]
    assert found["names"] == sorted(CLASSES)
    assert found["back"] == sorted(CLASSES)[::-1]
    assert found["gains"] == sorted(found["gains"], reverse=True) and found["losses"] == sorted(
        found["gains"]
    )
    assert found["gains"][0] > found["gains"][-1]
    assert found["hidden"] == 0
    assert found["wide"] == 0
    assert found["figures"] == [True] * (2 + 2 * len(CLASSES))  # without scrolling sideways


def test_the_report_shows_sweeps_of_its_data_set_with_the_chosen_row_marked(tmp_path: Path) -> None:
    made_run(tmp_path)
    (tmp_path / "sweeps").mkdir()
    heads = "chosen,dataset,head,hidden,runs,validation,validation_deviation,test,test_deviation,seconds,names"
    rows = [
        "yes,made,gru<b>,256,3,91.5,0.5,90.25,,12.5,a b c",
        ",made,lstm,512,3,80.0,,88.0,,9.0,d",
    ]
    (tmp_path / "sweeps" / "one.csv").write_text("\n".join([heads, *rows]))
    (tmp_path / "sweeps" / "other.csv").write_text(
        "\n".join([heads, rows[1].replace("made", "elsewhere")])
    )
    (tmp_path / "sweeps" / "broken.csv").write_text("no,table\n1,2\n")
    assert report(ReportOptions(bank=str(tmp_path))) == 0
    page = (tmp_path / "reports" / "made.html").read_text()
    section = page.split("<h2>Sweeps</h2>")[1].split("</section>")[0]
    assert (
        "gru&lt;b&gt;" in section
        and "91.5 ± 0.5" in section
        and "other.csv" not in page
        and "broken.csv" not in page
    )
    assert section.count('class="n best"') == 1 and "chosen on validation data only" in section


def test_drawings_of_several_data_sets_stay_in_the_folder_whatever_they_are_called(
    tmp_path: Path,
) -> None:
    bank = tmp_path / "bank"
    for dataset in ("../../out", "a/b", "a b"):
        made_run(bank, "gru", dataset=dataset, videos=12, classes=("x", "y"))
    written(bank)
    (folder,) = (bank / "reports").glob("*-figures")
    assert sorted(path.name for path in folder.iterdir()) == ["1-_.._out-2", "2-a_b-2", "3-a_b-2"]
    assert all(list(path.glob("*.png")) for path in folder.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_every_drawing_is_a_png_with_its_numbers_as_csv(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    _, page = written(tmp_path)
    folder = tmp_path / "reports" / "made-figures"
    names = sorted(path.stem for path in folder.glob("*.png"))
    expected = [
        f"{what}-{mark}"
        for what in ("accuracy", "calibration", "classes", "confusion", "loss")
        for mark in "AB"
    ]
    assert names == sorted([*expected, "difference-A-B", "gains-A-B", "results"])
    assert names == sorted(path.stem for path in folder.glob("*.csv"))
    assert (
        len(page.of("svg"))
        == len([name for name in names if not name.startswith(("classes", "gains", "results"))]) + 2
    )
    for name in names:
        pixels = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))
        assert min(pixels.shape[:2]) >= 150 or name in ("results", "gains-A-B")
        colours = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        assert len(np.unique(colours)) > 20  # lines, words and colours, no empty sheet
        assert (pixels[0, 0] == 255).all()
    assert (
        0x2A in np.asarray(Image.open(folder / "confusion-A.png").convert("RGB"))[..., 0]
    )  # the accent colour was found
    with (folder / "confusion-A.csv").open(newline="") as file:
        heads, *rows = list(csv.reader(file))
    tables = [
        score_tables.load(one / "scores-test.npz")
        for one in folders
        if one.name.startswith("reslstm")
    ]
    np.testing.assert_array_equal(
        np.array([row[1:] for row in rows], int), np.sum([confusion(one) for one in tables], axis=0)
    )
    assert heads[1:] == list(CLASSES)
    with (folder / "results.csv").open(newline="") as file:
        wilson = list(csv.DictReader(file))
    written(tmp_path, interval="videos")
    with (folder / "results.csv").open(newline="") as file:
        assert [row["low"] for row in csv.DictReader(file)] != [
            row["low"] for row in wilson
        ]  # as the page says
    with (folder / "loss-A.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 4 * 2 * 8


def test_names_are_drawn_in_our_font_and_characters_that_no_font_has_are_named(
    tmp_path: Path, capsys
) -> None:
    nowhere = "\U000b0000"  # of no script yet
    unseen = "\u00a0\u2009\u3000\u00ad\u200b\ufe0f"  # spaces and the like
    drawn = [
        Plot(
            "one",
            Drawing(
                f"<svg><title>\U000b0001</title><text>Aé &lt;Ж&gt; {nowhere}{unseen}</text></svg>"
            ),
            [],
        )
    ]
    assert characters_without_font(drawn) == nowhere
    pictures = {
        png(
            Drawing(
                '<svg width="40" height="40">'
                f'<text x="8" y="28" font-size="20">{character}</text></svg>'
            )
        )
        for character in "AéЖω↑–…×"
    }
    assert len(pictures) == 8  # all differ, also on a machine without fonts
    made_run(tmp_path, "gru", classes=("x", "y"), videos=12)
    written(tmp_path)
    assert "no font on this machine" not in capsys.readouterr().out
    made_run(tmp_path, "lstm", classes=("x", f"y{nowhere}"), videos=12)
    written(tmp_path)
    assert (
        "note: the PNG files do not show ? because no font on this machine has these characters"
        in capsys.readouterr().out
    )


def test_two_models_are_set_against_each_other_as_asked(tmp_path: Path) -> None:
    for head, skill in (("gru", 3.0), ("lstm", 2.0), ("sru", 1.0)):
        made_run(tmp_path, head, skill=skill)
    text, _ = written(tmp_path, pair=("A", "C"), figures=False)
    assert (
        "<h2>A compared with C</h2>" in text
        and not (tmp_path / "reports" / "made-figures").exists()
    )
    first, third = (next((tmp_path / "runs").glob(f"{head}-*")) for head in ("gru", "sru"))
    tables = [score_tables.load(folder / "scores-test.npz") for folder in (first, third)]
    apart = 100 * (accuracy(tables[0]).value - accuracy(tables[1]).value)
    assert f"A − C: <strong>{apart:+.1f} points</strong>" in text
    for pair, said in (
        (("A", "Z"), "the report has no model Z; choose from A, B, C"),
        (("A",), "give the letters of two models"),
    ):
        with pytest.raises(InputError, match=said):
            report(ReportOptions(bank=str(tmp_path), pair=pair))
    made_run(tmp_path, "tsn", split="2", skill=9.0)  # the highest, of other videos
    text, _ = written(tmp_path)
    assert "The two models cannot be compared video by video" in text
    with pytest.raises(InputError, match="every model needs exactly one run per split and seed"):
        report(ReportOptions(bank=str(tmp_path), pair=("A", "B")))


@pytest.mark.parametrize("classes", [2, 5, 101, pytest.param(400, marks=pytest.mark.long)])
def test_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    names = tuple(f"class number {i:03}" for i in range(classes))
    for head, skill in (("gru", 5.0), ("lstm", 3.0)):
        made_run(tmp_path, head, skill=skill, videos=4 * classes, classes=names)
    text, page = written(tmp_path)
    assert len(text) < 15e6
    assert len([svg for svg in page.of("svg") if svg["class"] == "matrix"]) == 3
    assert all(name in text for name in names)


def test_heads_of_the_table_of_classes_are_letters_where_there_are_many_models(
    tmp_path: Path,
) -> None:
    for number in range(7):
        made_run(tmp_path, "gru", seed=0, videos=12, extractor=f"net{number}")
        if number >= 5:
            text, _ = written(tmp_path, figures=False)
            section = text.split("<h2>Classes</h2>")[1].split("</section>")[0]
            few = number == 5
            assert ("A gru rgb" in section) == few and (
                "letters denote the models as in the table of results" in section
            ) != few
