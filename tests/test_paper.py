"""Recipes as plans of papers: every published number is in them, and what stands beside each can be run."""

import re
from pathlib import Path

import pytest
from conftest import testdata_rows

from reelbank.data.errors import InputError
from reelbank.data.recipe import parse, words_of
from reelbank.data.ucf101 import CLASSES, COARSE
from reelbank.extract.options import ExtractOptions
from reelbank.extract.options import with_defaults as extract_defaults
from reelbank.fusion.paper import Cell, cells, model_options, named, needed, splits_of, store_options
from reelbank.fusion.paper_file import read_paper
from reelbank.heads.options import TrainOptions
from reelbank.heads.options import with_defaults as train_defaults
from reelbank.heads.pretrain_plan import PretrainOptions

SYSTEMS = ("mrrn", "multistream", "reslstm", "rlstm", "rrn")
# Of the papers' own rows those that no run of ours can give: a network's layers, what "around 0.5" means in general.
FACTS = {("rrn", "ResNet-50 with batch normalization after each layer"), ("rlstm", "fusion weight, in general")}


def as_published(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[key] for key in ("source", "row", "column", "dataset", "split", "value", "metric"))


def as_printed(cell: Cell) -> tuple[str, ...]:
    return (cell.source, cell.row, cell.column, cell.dataset, cell.split, cell.published, cell.metric)


def missing(rows: list[dict[str, str]], system: str) -> list[tuple[str, ...]]:
    """Published numbers that are not in the system's recipe."""
    there = {as_printed(cell) for cell in cells(read_paper(system))}
    return [as_published(row) for row in rows if row["system"] == system and as_published(row) not in there]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_published_number_stands_in_its_recipe(system: str) -> None:
    rows = testdata_rows("published.csv")
    assert sum(row["system"] == system for row in rows) > 40
    assert missing(rows, system) == []
    published = {as_published(row) for row in rows if row["system"] == system}
    extra = [cell for cell in cells(read_paper(system)) if cell.published and as_printed(cell) not in published]
    assert extra == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_changed_digit_would_be_noticed(system: str) -> None:
    rows = testdata_rows("published.csv")
    changed = next(row for row in rows if row["system"] == system and row["own"] == "yes")
    digit = next(one for one in reversed(changed["value"]) if one.isdigit())
    changed["value"] = changed["value"].replace(digit, str((int(digit) + 1) % 10))
    assert as_published(changed) in missing(rows, system)


def test_the_classes_and_categories_of_rows_are_the_data_sets() -> None:
    rows = [cell for system in SYSTEMS for cell in cells(read_paper(system)) if cell.dataset == "ucf101"]
    said = {match[1] for cell in rows for match in re.finditer(r" (?:class|group) (.+?)(?= [-%] |$)", cell.ours)}
    assert len(said) > 5 and said <= {*CLASSES, *COARSE}


@pytest.mark.parametrize("system", SYSTEMS)
def test_beside_every_own_number_stands_what_is_run(system: str) -> None:
    own = {as_published(row): row for row in testdata_rows("published.csv") if row["system"] == system}
    for cell in cells(read_paper(system)):
        if not cell.published:
            continue
        is_own = own[as_printed(cell)]["own"] == "yes" and (system, cell.row) not in FACTS
        assert bool(cell.ours) == is_own, cell


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_store_and_model_is_made_of_options_that_fit(system: str, quick: bool) -> None:
    recipe = read_paper(system, "", quick)
    models, fusions = needed(recipe, cells(recipe))
    assert set(models) == set(recipe["models"])
    assert set(fusions) == set(recipe.get("fusions", {}))
    for name, model in recipe["models"].items():
        train_defaults(parse(TrainOptions, words_of({**model_options(recipe, name), "store": model["on"]}), "train"))
    for name in recipe["stores"]:
        extract_defaults(parse(ExtractOptions, words_of(store_options(recipe, name)), "extract"))
    for own in recipe.get("pretrain", {}).values():
        parse(PretrainOptions, words_of(own), "pretrain")


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "made.toml"
    path.write_text(text)
    return str(path)


MADE = """
[train]
head = "gru"
hidden = 64
residual = true
[heads.meanpool]
lr = 0.5
[stores.s]
stream = "rgb"
[models.a]
on = "s"
[models.b]
on = "s"
head = "meanpool"
[fusions.ab]
members = ["a", "b"]
how = "sum"
[tables.one]
title = "T"
source = "Table 1"
rows = [
  ["GRU", "x", "ucf101", "1", "50.0", "accuracy_percent", "a"],
  ["both", "x", "ucf101", "mean of 3", "60.0", "accuracy_percent", "ab"],
  ["gain", "x", "ucf101", "not stated", "10", "gain_points", "ab - a"],
]
[quick]
divide = { hidden = 8 }
[quick.train]
epochs = 2
"""


def test_what_the_rows_need_and_on_which_splits(tmp_path: Path) -> None:
    recipe = read_paper(write(tmp_path, MADE))
    rows = cells(recipe)
    assert needed(recipe, rows[:1]) == (["a"], [])
    assert needed(recipe, rows) == (["a", "b"], ["ab"])
    assert splits_of(recipe, rows, ["1", "2", "3"]) == {"a": ["1", "2", "3"], "ab": ["1", "2", "3"], "b": ["1", "2", "3"]}
    assert splits_of(recipe, rows[::2], ["1", "2", "3"]) == {"a": ["1"], "ab": ["1"], "b": ["1"]}
    assert splits_of(recipe, rows[:1], ["val"]) == {"a": ["val"]}


def test_options_are_the_recipes_then_the_heads_then_the_models_own(tmp_path: Path) -> None:
    path = write(tmp_path, MADE)
    recipe = read_paper(path)
    assert model_options(recipe, "a") == {"head": "gru", "hidden": 64}  # a GRU has no residual
    assert model_options(recipe, "b") == {"head": "meanpool", "lr": 0.5}
    quick = read_paper(path, "models.a.layers=3 train.optimiser=adam", quick=True)
    assert model_options(quick, "a") == {"head": "gru", "hidden": 8, "epochs": 2, "layers": 3, "optimiser": "adam"}


def test_changes_may_be_lists_and_have_spaces(tmp_path: Path) -> None:
    path = write(tmp_path, MADE)
    recipe = read_paper(path, "train.lr_drops=[3, 5] stores.s.weights=rgb=/a.b/c flow=/d.e,models.a.layers=2")
    assert recipe["train"]["lr_drops"] == [3, 5] and recipe["models"]["a"]["layers"] == 2
    assert recipe["stores"]["s"]["weights"] == "rgb=/a.b/c flow=/d.e"


@pytest.mark.parametrize(
    ("ours", "names"),
    [
        ("", []),
        ("a", ["a"]),
        ("a top5", ["a"]),
        ("a class Long Jump", ["a"]),
        ("ab class Long Jump - 86.7", ["ab"]),
        ("ab - a", ["ab", "a"]),
        ("a % b", ["a", "b"]),
        ("range a b ab", ["a", "b", "ab"]),
        ("kept a b", ["a", "b"]),
        ("sequences a train", ["a"]),
        ("weight ab b", ["ab"]),
        ("videos test", []),
    ],
)
def test_the_names_in_a_rows_last_text(ours: str, names: list[str]) -> None:
    assert named(ours) == names


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"a"],\n  ["both"', '"c"],\n  ["both"', "'c' is neither model nor fusion"),
        ('on = "s"\nhead', 'on = "t"\nhead', r"\[models.b\] is on 't', which is not in \[stores\]"),
        ('members = ["a", "b"]', 'members = ["a", "z"]', "the member 'z'"),
        ('"accuracy_percent", "a"', '"seconds", "a"', "seconds is no metric"),
        ('"1", "50.0"', '"50.0"', "is not seven texts"),
        ('stream = "rgb"', 'pretrain = "p"', "wants pretrain 'p'"),
        ('stream = "rgb"', 'extractor = "evil.py:build"', "names a file of code"),
        ("[tables.one]", "[other.one]", "has no tables"),
        ("[tables.one]", "[tables.two]\n[tables.one]", r"\[tables.two\] has no rows"),
        ('how = "sum"', "", r"\[fusions.ab\] how = '': choose from sum"),
        ('how = "sum"', 'how = "sun"', r"\[fusions.ab\] how = 'sun': choose from sum"),
        ('how = "sum"', 'how = "sum"\nweights = [1, 2, 3]', r"weights = \[1, 2, 3\]: give a number for each of 2 members"),
        ('members = ["a", "b"]', 'members = ["a"]', r"\[fusions.ab\] has 1 members; a fusion takes two"),
        ('members = ["a", "b"]', "members = 3", r"\[fusions.ab\] members is no list"),
        ('on = "s"\nhead', "head", r"\[models.b\] does not say on which store it is"),
        ("rows = [", "rows = 3\nold = [", r"\[tables.one\]"),
        ("[train]\nhead", "[trian]\nhead", r"no section \[trian\]; did you mean train\?"),
        ("hidden = 64", "hiden = 64", r"\[train\] has no option hiden; did you mean hidden\?"),
        ("lr = 0.5", "rate = 0.5", r"\[heads.meanpool\] has no option rate"),
        ("[quick]", '[videos]\nucf101 = "many"\n[quick]', r"\[videos\] ucf101 is no number"),
        ('"50.0"', '"fifty"', "'fifty' is no number"),
        ('"50.0"', '"500"', "500 is no accuracy_percent, of which 100 is the most"),
        ('"50.0"', '"50,0"', "50,0 is no accuracy_percent"),
        ('"mean of 3"', '"mean of 4"', "'mean of 4' is no split"),
        ('"ab - a"', '"86.7 - a"', "a number stands to the right of a -"),
        ('"ab - a"', '"a % 80"', "a number stands to the right of a -"),
        ('"ab - a"', '"a top7 - b"', "'a top7': give a model"),
        ('"ab - a"', '"range a b - b"', "'range a b': give a model"),
        ('"ab - a"', '"ab"', "'ab': beside gain_points stands a - b"),
        ('"accuracy_percent", "a"', '"accuracy_percent", "ab - a"', "beside accuracy_percent stands a model"),
        ('"gain_points", "ab - a"', '"fusion_weight", "weight ab ab"', "ab has the members a, b"),
        ('"gain_points", "ab - a"', '"fusion_weight", "weight a b"', "a has the members none"),
        ('"gain_points", "ab - a"', '"count", "sequences a training"', "the part is train, validation or test"),
        ('"gain_points", "ab - a"', '"count", "videos all"', "the part is train, validation or test"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in MADE
    with pytest.raises(InputError, match=said):
        read_paper(write(tmp_path, MADE.replace(old, new)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("models.c.hidden=1", r"no \[models.c\]; there are a, b"),
        ("hidden", "section.name.option"),
        ("hidden=3", "section.name"),
        ("train.lr_drops=[3,5", "neither a word nor a value"),
        ("tables.one.rows=3", "rows is no list"),
        ("fusions.ab.members=a", "members is no list"),
        ("models.a.hiden=3", r"\[models.a\] has no option hiden; did you mean hidden\?"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_paper(write(tmp_path, MADE), change)
    with pytest.raises(InputError, match="ONLY=two: the recipe's tables are one"):
        cells(read_paper(write(tmp_path, MADE)), ["two"])


def test_a_cut_down_form_that_names_nothing_is_refused(tmp_path: Path) -> None:
    for old, new, said in (
        ("[quick.train]", "[quick.trian]", r"\[quick\]: there is no section \[trian\]"),
        ("[quick.train]", "[quick.models.c]", r"\[models.c\] does not say on which store it is"),
    ):
        with pytest.raises(InputError, match=said):
            read_paper(write(tmp_path, MADE.replace(old, new)), quick=True)
