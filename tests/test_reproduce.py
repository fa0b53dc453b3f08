"""A sixth system is one recipe file: run whole, its tables say what is ours, and a change does only what it touches again."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.fusion.metrics import accuracy
from reelbank.fusion.paper import cells, read_paper, store_options
from reelbank.fusion.paper_tables import not_as_published, publish
from reelbank.fusion.reproduce import ReproduceOptions, begin, chosen_cells, reproduce

CLASSES = ("look_stripes", "look_checks", "motion_up")
RECIPE = """
title = "A sixth system"

[extract]
stream = "rgb"
weights = "random"
resize = "40"
size = "32"
crops = 1
t = 4

[train]
epochs = 2
patience = 0
validation = 0.2
refit = false

[stores.levels]
extractor = "torchvision:resnet18"
node = "layer1 layer2"
trunk = "frozen"

[models.mean]
on = "levels.layer2"
head = "meanpool"

[models.low]
on = "levels.layer1"
head = "meanpool"

[models.joined]
on = "levels.layer1"
head = "gru"
layers = 1
hidden = 8

[fusions.both]
members = ["mean", "low"]
how = "sum"
weights = { ucf101 = [0.75, 0.25], hmdb51 = [0.5, 0.5] }

[tables.levels]
title = "Levels"
source = "Table 1"
rows = [
  ["low", "", "ucf101", "1", "40.0", "accuracy_percent", "low"],
  ["high", "", "ucf101", "1", "0.400", "error_rate", "mean"],
  ["high", "", "hmdb51", "1", "0.500", "error_rate", "mean"],
  ["both", "", "ucf101", "mean of 3", "60.0", "accuracy_percent", "both"],
  ["gain", "of both over low", "ucf101", "1", "20.0", "gain_points", "both - low"],
  ["gain", "of high over another's", "ucf101", "1", "3.5", "gain_points", "mean - 56.5"],
  ["stripes", "high", "ucf101", "1", "90", "accuracy_percent", "mean class look_stripes"],
  ["Pizza Tossing", "high", "ucf101", "1", "66.7", "accuracy_percent", "mean class PizzaTossing"],
  ["weight", "low", "ucf101", "1", "0.25", "fusion_weight", "weight both low"],
  ["sequences", "test", "ucf101", "1", "3,783", "count", "sequences mean test"],
  ["another's", "", "ucf101", "1", "56.5", "accuracy_percent", ""],
]

[tables.recurrent]
title = "Recurrent"
source = "Table 2"
rows = [["gru", "", "ucf101", "1", "70.0", "accuracy_percent", "joined"]]

[quick.train]
epochs = 1
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank in which the sixth system was run."""
    folder = tmp_path_factory.mktemp("sixth")
    (folder / "sixth.toml").write_text(RECIPE)
    assert reproduce(options(folder)) == 0
    return folder


def options(bank: Path, **more) -> ReproduceOptions:
    chosen = {"system": str(bank / "sixth.toml"), "dataset": "toy", "classes": CLASSES, "split": ("1",), "bank": str(bank)}
    return ReproduceOptions(**(chosen | more))


def rows_of(bank: Path, name: str = "sixth-toy") -> dict[tuple[str, str, str], dict[str, str]]:
    with (bank / "reproductions" / name / "tables.csv").open(newline="") as file:
        return {(row["row"], row["column"], row["paper's data"].split()[0]): row for row in csv.DictReader(file)}


def test_ours_are_the_figures_of_the_runs_and_say_what_they_are(bank: Path) -> None:
    rows = rows_of(bank)
    made = json.loads((bank / "reproductions" / "sixth-toy" / "recipe.json").read_text())
    value = {}
    for name in ("low", "mean", "both", "joined"):
        (run,) = made["runs"][name]
        value[name] = 100 * accuracy(score_tables.load(bank / "runs" / run / "scores-test.npz")).value
    assert rows["low", "", "ucf101"]["ours"] == f"{value['low']:.2f}"
    assert rows["high", "", "ucf101"]["ours"] == f"{1 - value['mean'] / 100:.3f}"
    assert rows["both", "", "ucf101"]["ours"] == f"{value['both']:.2f}"
    assert rows["gru", "", "ucf101"]["ours"] == f"{value['joined']:.2f}"
    assert float(rows["gain", "of both over low", "ucf101"]["ours"]) == pytest.approx(value["both"] - value["low"], abs=0.006)
    refused = "not run: against the published 56.5 only on the paper's whole data"
    assert rows["gain", "of high over another's", "ucf101"]["ours"] == refused
    assert rows["weight", "low", "ucf101"]["ours"] == "0.25"
    tests = accuracy(score_tables.load(bank / "runs" / made["runs"]["mean"][0] / "scores-test.npz")).videos
    assert rows["sequences", "test", "ucf101"]["ours"] == str(tests)
    low, high = map(float, rows["low", "", "ucf101"]["95 %"].split(" to "))
    assert low < value["low"] < high
    assert rows["Pizza Tossing", "high", "ucf101"]["ours"] == "not run: the data has no class PizzaTossing"
    assert rows["high", "", "hmdb51"]["ours"] == "not run: of another data set"
    assert rows["another's", "", "ucf101"]["ours"] == "not run"
    for row in rows.values():
        assert row["difference"] in ("", "not comparable")  # nothing of ours is set against the paper on other data
        if not row["ours"].startswith("not run"):
            assert row["our data"].startswith("toy, 3 classes") and row["our data"].endswith("in place of ucf101")
            assert "random" in row["weights"] and "trunk frozen" in row["weights"] or row["unit"] == ""
    assert rows["both", "", "ucf101"]["not as published"] == "split 1 alone"


def test_the_tables_are_markdown_and_stand_in_the_report(bank: Path) -> None:
    folder = bank / "reproductions" / "sixth-toy"
    text = (folder / "tables.md").read_text()
    rows = rows_of(bank)
    assert "# A sixth system: published and ours" in text and "say nothing of the paper's figures" in text
    lines = [line for line in text.splitlines() if line.startswith("| low ")]
    assert lines[0].split(" | ")[3:5] == ["40.0", rows["low", "", "ucf101"]["ours"]]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    page = (folder / "report.html").read_text()
    assert "A sixth system: published and ours" in page and page.index("Table 1: Levels") < page.index("<h2>Results")


def test_the_second_time_nothing_is_done_again(bank: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.stat().st_mtime_ns for path in [*bank.glob("stores/*"), *bank.glob("runs/*/checkpoint.safetensors")]}
    assert reproduce(options(bank)) == 0
    said = capsys.readouterr().out
    assert "== extract" not in said and "== train" not in said
    assert before == {path: path.stat().st_mtime_ns for path in before}


def states(text: str) -> dict[str, str]:
    """name -> state of the lines of a plan."""
    found = re.findall(r"^(?:extract|train|fuse|pretrain)\s+(\S+?):?\s.*?(there|to do|in moments).*$", text, re.MULTILINE)
    return dict(found)


def test_the_plan_shows_that_a_change_touches_only_what_depends_on_it(bank: Path, capsys: pytest.CaptureFixture) -> None:
    def plan(**more) -> dict[str, str]:
        before = sorted(bank.rglob("*"))
        assert reproduce(options(bank, plan=True, **more)) == 0
        assert sorted(bank.rglob("*")) == before  # a plan writes nothing
        return states(capsys.readouterr().out)

    there = {"levels": "there", "mean": "there", "low": "there", "joined": "there", "both": "in moments"}
    assert plan() == there
    assert plan(set=("models.joined.hidden=9",)) == there | {"joined": "to do"}
    assert plan(set=("heads.meanpool.lr=0.01",), only=("recurrent",)) == {"levels": "there", "joined": "there"}
    assert plan(set=("train.epochs=3",)) == there | dict.fromkeys(("mean", "low", "joined"), "to do")
    changed = plan(set=("stores.levels.size=36",))
    assert changed == dict.fromkeys(("levels", "mean", "low", "joined"), "to do") | {"both": "in moments"}
    assert plan(quick=True) == there | dict.fromkeys(("mean", "low", "joined"), "to do")


def test_what_cannot_be_run_is_said_in_its_row_and_the_rest_is_done(bank: Path, capsys: pytest.CaptureFixture) -> None:
    text = RECIPE.replace('on = "levels.layer1"\nhead = "gru"', 'on = "levels"\nhead = "gru"')
    (bank / "seventh.toml").write_text(text)
    assert reproduce(options(bank, system=str(bank / "seventh.toml"))) == 1
    assert "not done: joined: [models.joined] on = 'levels': 2 stores are so named" in capsys.readouterr().out
    rows = rows_of(bank, "seventh-toy")
    assert rows["gru", "", "ucf101"]["ours"].startswith("not run: [models.joined] on = 'levels'")
    assert rows["low", "", "ucf101"]["ours"] == rows_of(bank)["low", "", "ucf101"]["ours"]


def test_a_difference_is_given_on_the_papers_whole_data_alone(bank: Path) -> None:
    """With as many videos as the recipe says its data set has, and rows of that data set."""
    work = begin(options(bank))
    (bank / "eighth.toml").write_text(
        RECIPE.replace('"ucf101", "1", "40.0"', '"toy", "1", "40.0"').replace('"ucf101", "1", "3.5"', '"toy", "1", "3.5"')
        + f"[videos]\ntoy = {len(work.dataset.videos)}\n"
    )
    assert reproduce(options(bank, system=str(bank / "eighth.toml"))) == 0
    rows = rows_of(bank, "eighth-toy")
    row = rows["low", "", "toy"]
    assert float(row["difference"]) == pytest.approx(float(row["ours"]) - 40, abs=0.006)
    gain, error = rows["gain", "of high over another's", "toy"], rows_of(bank)["high", "", "ucf101"]["ours"]
    assert float(gain["ours"]) == pytest.approx(100 - 100 * float(error) - 56.5, abs=0.06)
    assert rows["high", "", "ucf101"]["ours"] == "not run: of another data set"


def test_rows_of_the_data_set_are_run_or_of_another_the_first(bank: Path) -> None:
    work = begin(options(bank))
    assert [(cell.row, cell.dataset) for cell in work.cells if cell.row == "high"] == [("high", "ucf101")]
    every = [cell for cell in work.cells if cell.ours]
    assert chosen_cells(every, work.dataset) == every


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"system": ""}, "SYSTEM= is needed"),
        ({"system": "nothing"}, "choose from"),
        ({"only": ("table9",)}, "ONLY=table9: the recipe's tables are levels, recurrent"),
        ({"split": ("7",)}, "SPLIT=7: toy has the splits 1, 2, 3"),
        ({"resize": "64"}, "RESIZE=64: is of EXTRACTOR"),
        ({"set": ("models.nothing.lr=1",)}, r"no \[models.nothing\]"),
    ],
)
def test_what_makes_no_sense_is_refused(bank: Path, more: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        reproduce(options(bank, **more))


def test_tables_without_any_run_are_written_too(bank: Path) -> None:
    work = begin(options(bank, only=("recurrent",)))
    before = (bank / "reproductions" / "sixth-toy" / "tables.csv").read_bytes()
    folder = publish(work)
    assert rows_of(bank, folder.name)["gru", "", "ucf101"]["ours"] == "not run: joined is not there"
    assert (bank / "reproductions" / "sixth-toy" / "tables.csv").read_bytes() == before  # all tables stay as they were


def test_what_runs_in_a_networks_place_is_what_the_row_says(bank: Path) -> None:
    network = {"extractor": "nets/mine.py:build", "weights": "own", "resize": "64", "size": "56"}
    recipe = read_paper(str(bank / "sixth.toml"))
    assert store_options(recipe, "levels", network) == network | {"stream": "rgb", "crops": 1, "t": 4}
    for stream in ("audio", "idt"):  # no picture goes into a network
        sound = {**recipe, "stores": {"levels": recipe["stores"]["levels"] | {"stream": stream}}}
        assert store_options(sound, "levels", network) == store_options(sound, "levels")
    trained = {**recipe, "stores": {"levels": recipe["stores"]["levels"] | {"pretrain": "small"}}}
    assert store_options(trained, "levels", network) == store_options(trained, "levels")
    work = begin(options(bank))
    (cell,) = [cell for cell in cells(recipe, ()) if cell.ours == "mean" and cell.dataset == "ucf101" and cell.row == "high"]
    said = not_as_published(replace(work, options=replace(work.options, **network)), cell)
    assert "levels.extractor: mine.py:build, not torchvision:resnet18" in said
    assert "levels.resize: 64, not 40" in said and "levels.size: 56, not 32" in said
