"""A sixth system is one recipe file: run whole, its tables say what is ours, and a change does only what it touches again."""

import csv
import fcntl
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reelbank.data import scores as score_tables
from reelbank.data import toy
from reelbank.data.errors import InputError
from reelbank.data.folder import dataset_name
from reelbank.fusion.metrics import accuracy
from reelbank.fusion.paper import cells, store_options
from reelbank.fusion.paper_file import read_paper
from reelbank.fusion.paper_tables import not_as_published, publish, table_folder
from reelbank.fusion.reproduce import ReproduceOptions, begin, chosen_cells, reproduce, train_options

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


@pytest.fixture(scope="session")
def drawn_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy set, drawn once for all processes that test: drawing takes longer than most tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "drawn-toy"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        toy.draw(folder)
    return folder


@pytest.fixture
def toy_bank(tmp_path: Path, drawn_toy: Path) -> Path:
    """A bank that holds the toy set alone."""
    shutil.copytree(drawn_toy, tmp_path / "toy")
    return tmp_path


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, drawn_toy: Path) -> Path:
    """A bank in which the sixth system was run."""
    folder = tmp_path_factory.mktemp("sixth bank")  # a name of two words
    shutil.copytree(drawn_toy, folder / "toy")
    (folder / "sixth.toml").write_text(RECIPE)
    assert reproduce(options(folder)) == 0
    return folder


def options(folder: Path, **more) -> ReproduceOptions:
    chosen = {"system": str(folder / "sixth.toml"), "dataset": "toy", "classes": CLASSES, "split": ("1",)}
    chosen["bank"] = str(folder)
    return ReproduceOptions(**(chosen | more))


def folder_of(bank: Path, **more) -> Path:
    return table_folder(options(bank, **more), "toy")


def rows_of(bank: Path, **more) -> dict[tuple[str, str, str], dict[str, str]]:
    with (folder_of(bank, **more) / "tables.csv").open(newline="") as file:
        return {(row["row"], row["column"], row["paper's data"].split()[0]): row for row in csv.DictReader(file)}


def test_ours_are_the_figures_of_the_runs_and_say_what_they_are(bank: Path) -> None:
    rows = rows_of(bank)
    made = json.loads((folder_of(bank) / "recipe.json").read_text())
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
        if row["unit"] == "" and row["ours"] == "0.25":
            assert (row["our data"], row["difference"]) == ("set by the recipe, not measured", "")
        elif not row["ours"].startswith("not run"):
            assert row["our data"].startswith("toy, 3 classes") and row["our data"].endswith("in place of ucf101")
            assert "random" in row["weights"] and "trunk frozen" in row["weights"] or row["unit"] == ""
    assert rows["both", "", "ucf101"]["not as published"] == "split 1 alone"


def test_the_tables_are_markdown_and_stand_in_the_report(bank: Path) -> None:
    folder = folder_of(bank)
    text = (folder / "tables.md").read_text()
    rows = rows_of(bank)
    assert "# A sixth system: published and ours" in text and "say nothing of the paper's figures" in text
    lines = [line for line in text.splitlines() if line.startswith("| low ")]
    assert lines[0].split(" | ")[3:5] == ["40.0", rows["low", "", "ucf101"]["ours"]]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    page = (folder / "report.html").read_text()
    assert "A sixth system: published and ours" in page and page.index("Table 1: Levels") < page.index("<h2>Results")
    results = page[page.index("<h2>Results") :]
    assert all(f"{name}<small>" in results or f"{name} <small>" in results for name in ("mean", "low", "joined", "both"))


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
    assert plan(set="models.joined.hidden=9") == there | {"joined": "to do"}
    assert plan(set="heads.meanpool.lr=0.01", only=("recurrent",)) == {"levels": "there", "joined": "there"}
    assert plan(set="train.epochs=3") == there | dict.fromkeys(("mean", "low", "joined"), "to do")
    changed = plan(set="stores.levels.size=36")
    assert changed == dict.fromkeys(("levels", "mean", "low", "joined"), "to do") | {"both": "in moments"}
    assert plan(quick=True) == there | dict.fromkeys(("mean", "low", "joined"), "to do")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 2", 'epochs = "two"', r"\[models.mean\] with \[train\] and \[heads\]: .*'two' is not a number"),
        ("epochs = 2", "epochs = -2", r"\[models.mean\] with .*EPOCHS=-2"),
        ("hidden = 8", "hidden = 8\nmid = 'product'", r"\[models.joined\] with .*MID=product"),
        ("t = 4", "stride = -4", r"\[stores.levels\] with \[extract\]: STRIDE=-4"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_done(toy_bank: Path, old: str, new: str, said: str) -> None:
    assert old in RECIPE
    (toy_bank / "sixth.toml").write_text(RECIPE.replace(old, new))
    with pytest.raises(InputError, match=said):
        reproduce(options(toy_bank))
    assert not list(toy_bank.glob("stores/*"))


def test_what_cannot_be_run_is_said_in_its_row_and_the_rest_is_done(bank: Path, capsys: pytest.CaptureFixture) -> None:
    text = RECIPE.replace('on = "levels.layer1"\nhead = "gru"', 'on = "levels"\nhead = "gru"')
    (bank / "seventh.toml").write_text(text)
    assert reproduce(options(bank, system=str(bank / "seventh.toml"))) == 1
    assert "not done: joined: [models.joined] on = 'levels': 2 stores are so named" in capsys.readouterr().out
    rows = rows_of(bank, system=str(bank / "seventh.toml"))
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
    rows = rows_of(bank, system=str(bank / "eighth.toml"))
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
        ({"system": "nothing"}, "SYSTEM=nothing: choose from"),
        ({"only": ("table9",)}, "ONLY=table9: the recipe's tables are levels, recurrent"),
        ({"split": ("7",)}, "SPLIT=7: toy has the splits 1, 2, 3"),
        ({"resize": "64"}, "RESIZE=64: is of EXTRACTOR"),
        ({"device": "cuda:99"}, "DEVICE=cuda:99"),
        ({"bank": "/proc/none"}, "BANK=/proc/none: cannot be written"),
        ({"set": "models.nothing.lr=1"}, r"no \[models.nothing\]"),
    ],
)
def test_what_makes_no_sense_is_refused(bank: Path, more: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        reproduce(options(bank, **more))


def test_tables_without_any_run_are_written_too(bank: Path) -> None:
    work = begin(options(bank, only=("recurrent",)))
    stale = folder_of(bank, only=("recurrent",)) / "report.html"
    stale.parent.mkdir(exist_ok=True)
    stale.write_text("of runs that are gone")
    before = (folder_of(bank) / "tables.csv").read_bytes()
    publish(work)
    assert rows_of(bank, only=("recurrent",))["gru", "", "ucf101"]["ours"] == "not run: joined is not there"
    assert (folder_of(bank) / "tables.csv").read_bytes() == before  # all tables stay as they were
    assert not stale.exists()


def test_what_runs_in_a_networks_place_is_what_the_row_says(bank: Path) -> None:
    network = {"extractor": "nets/mine.py:build", "weights": "own", "resize": "64", "size": "56"}
    recipe = read_paper(str(bank / "sixth.toml"))
    expected = {"stream": "rgb", "crops": 1, "t": 4}
    assert store_options(recipe, "levels", network) == network | expected | {"node": "layer1 layer2"}  # models name them
    unnamed = {**recipe, "models": {"one": {"on": "levels"}}}
    assert store_options(unnamed, "levels", network) == network | expected
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


NINTH = """
title = "Trained on each split"

[extract]
resize = "40"
size = "32"
crops = 1
t = 2

[train]
head = "meanpool"
epochs = 1
patience = 0
validation = 0
refit = false

[stores.motion]
stream = "flow"
extractor = "motion_cnn"
flow = "dis"
pretrain = "motion"
trunk = "trained here; {flow} in another's place"

[stores.colours]
stream = "rgb"
extractor = "torchvision:resnet18"
weights = "random"

[pretrain.motion]
stream = "flow"
extractor = "motion_cnn"
flow = "dis"
width = 0.125
clip = 2
t = 2
resize = 40
size = 32
epochs = 1

[models.motion]
on = "motion"

[models.colours]
on = "colours"

[fusions.both]
members = ["motion", "colours"]
how = "sum"

[tables.all]
title = "All"
source = "Table 1"
rows = [
  ["motion", "", "toy", "1", "40.0", "accuracy_percent", "motion"],
  ["motion", "of all", "toy", "mean of 3", "40.0", "accuracy_percent", "motion"],
  ["both", "", "toy", "mean of 3", "60.0", "accuracy_percent", "both"],
  ["gain", "", "toy", "2", "20.0", "gain_points", "both - motion"],
]
"""


def test_a_row_takes_its_own_splits_also_where_each_split_has_weights_of_its_own(toy_bank: Path) -> None:
    (toy_bank / "ninth.toml").write_text(NINTH)
    more = {"system": str(toy_bank / "ninth.toml"), "split": ("1", "2"), "classes": CLASSES[:2]}
    assert reproduce(options(toy_bank, **more)) == 0
    rows = rows_of(toy_bank, **more)
    made = json.loads((folder_of(toy_bank, **more) / "recipe.json").read_text())["runs"]
    value: dict[tuple[str, str], float] = {}
    for name in ("motion", "both"):
        for run in made[name]:
            recipe = json.loads((toy_bank / "runs" / run / "recipe.json").read_text())["recipe"]
            value[name, recipe["split"]] = 100 * accuracy(score_tables.load(toy_bank / "runs" / run / "scores-test.npz")).value
    assert {split for _, split in value} == {"1", "2"}
    first, every = rows["motion", "", "toy"], rows["motion", "of all", "toy"]
    assert first["ours"] == f"{value['motion', '1']:.2f}" and len(first["runs"].split()) == 1
    assert first["our data"].endswith("split 1") and first["not as published"] == ""
    assert float(every["ours"]) == pytest.approx((value["motion", "1"] + value["motion", "2"]) / 2, abs=0.006)
    assert every["not as published"] == "split 1 2 alone" and len(every["runs"].split()) == 2
    assert float(rows["gain", "", "toy"]["ours"]) == pytest.approx(value["both", "2"] - value["motion", "2"], abs=0.006)
    assert "trunk trained here; dis in another's place" in first["weights"] and "flow on dis motion_cnn" in first["weights"]
    changed = begin(options(toy_bank, **more, set="pretrain.motion.epochs=2 fusions.both.how=product"))
    row = next(cell for cell in changed.cells if cell.ours == "both")
    said = not_as_published(changed, row)
    assert "both.how: product, not sum" in said and "pretrain.motion.epochs: 2, not 1" in said


def test_what_cannot_be_read_is_missing_from_ours(bank: Path, tmp_path: Path) -> None:
    """With a broken test video ours is of fewer videos, and no difference is given."""
    work = begin(options(bank))
    lines = ["path,label,split"]
    for video in work.dataset.videos:
        (tmp_path / video.label).mkdir(exist_ok=True)
        path = tmp_path / video.label / video.path.name
        path.write_bytes(video.path.read_bytes())
        lines.append(f"{path.relative_to(tmp_path)},{video.label},{video.parts[0]}")
    broken = next(video for video in work.dataset.videos if video.parts[0] == "test")
    (tmp_path / broken.label / broken.path.name).write_bytes(broken.path.read_bytes()[:300])
    (tmp_path / "videos.csv").write_text("\n".join(lines))
    name = dataset_name(tmp_path)
    text = RECIPE.replace('"ucf101", "1", "40.0"', f'"{name}", "1", "40.0"')
    (tmp_path / "tenth.toml").write_text(text + f'[videos]\n"{name}" = {len(work.dataset.videos)}\n')
    more = {"system": str(tmp_path / "tenth.toml"), "dataset": "folder", "root": str(tmp_path)}
    more |= {"csv": str(tmp_path / "videos.csv"), "classes": (), "split": ()}
    assert reproduce(options(tmp_path, **more)) == 0
    (table,) = (tmp_path / "reproductions").glob("tenth-*/tables.csv")
    with table.open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["row"] == "low")
    assert "low lacks 1 test videos" in row["our data"] and row["difference"] == "not comparable"


def test_a_file_that_changed_is_extracted_again(bank: Path, capsys: pytest.CaptureFixture) -> None:
    work = begin(options(bank))
    path = work.dataset.videos[0].path
    before = path.read_bytes()
    path.write_bytes(before + b"\0")
    try:
        assert reproduce(options(bank, plan=True)) == 0
    finally:
        path.write_bytes(before)
    assert f"to do: 1 of {len(work.dataset.videos)} videos" in capsys.readouterr().out


def test_a_seed_is_of_the_heads_alone(bank: Path, capsys: pytest.CaptureFixture) -> None:
    assert reproduce(options(bank, plan=True, seed=(1,))) == 0
    found = states(capsys.readouterr().out)
    assert found["levels"] == "there" and found["low"] == "to do"


def test_a_plan_estimates_what_is_to_be_trained_first_and_ends_in_1_where_something_cannot_be(
    toy_bank: Path, capsys: pytest.CaptureFixture
) -> None:
    (toy_bank / "ninth.toml").write_text(NINTH)
    more = {"system": str(toy_bank / "ninth.toml"), "split": ("1", "2"), "classes": CLASSES[:2], "plan": True}
    assert reproduce(options(toy_bank, **more)) == 0
    said = capsys.readouterr().out
    for line in (
        "motion, what it learns from:",
        "motion, for each of 2 splits (its file is named when its network is trained):",
        "colours:",
    ):
        assert f"\n{line}\n" in said
    (toy_bank / "ninth.toml").write_text(NINTH.replace("torchvision:resnet18", "torchvision:resnet17"))
    assert reproduce(options(toy_bank, **more)) == 1
    assert "colours: EXTRACTOR=torchvision:resnet17" in capsys.readouterr().out


def test_a_network_of_the_users_is_given_to_heads_that_begin_with_its_end(bank: Path) -> None:
    text = (
        RECIPE.replace('node = "layer1 layer2"', 'at = "layer4"')
        .replace("levels.layer1", "levels")
        .replace("levels.layer2", "levels")
    )
    text = re.sub(r"levels\.layer\d", "levels", text)
    (bank / "maps.toml").write_text(text.replace('head = "gru"\nlayers = 1\nhidden = 8', 'head = "rlstm"'))
    weights = bank / "maps.toml"  # any file
    work = begin(options(bank, system=str(bank / "maps.toml"), extractor="net.py:build", weights=str(weights)))
    given = train_options(work, "joined", [bank / "s.h5"], ["1"])
    assert given.extractor == "net.py:build" and given.trunk_weights == str(weights)
    assert train_options(work, "mean", [bank / "s.h5"], ["1"]).extractor == ""
