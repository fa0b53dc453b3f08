"""Recipes as plans of papers: they contain every published number, and the experiment listed with
each number can be run."""

import itertools
import re
from pathlib import Path

import pytest
import timm
import torch
from conftest import testdata, testdata_rows
from real_weights import LITE0, LITE0_WEIGHTS

from reelbank.data.datasets.ucf101 import CLASSES, COARSE
from reelbank.data.errors import InputError
from reelbank.data.options import parse, words_of
from reelbank.extract.fill import with_defaults as extract_defaults
from reelbank.extract.networks.cut import cut
from reelbank.extract.options import ExtractOptions
from reelbank.fusion.reproduce.plan import (
    Cell,
    cells,
    figures_of,
    model_options,
    named,
    needed,
    pretrained,
    splits_of,
    store_options,
    stores_of,
)
from reelbank.fusion.reproduce.recipe.reading import read_paper
from reelbank.heads.models.trunk import build_trunk
from reelbank.heads.pretraining.plan import PretrainOptions
from reelbank.heads.recipe import TrunkRecipe
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import with_defaults as train_defaults

SYSTEMS = ("mrrn", "multistream", "reslstm", "rlstm", "rrn")
# Of the papers' own rows those that no run of ours can give: a network's layers, what "around 0.5"
# means in general.
FACTS = {
    ("rrn", "ResNet-50 with batch normalization after each layer"),
    ("rlstm", "fusion weight, in general"),
}
# Numbers of the papers' texts that are not in published.csv: system -> value -> its words in the paper.
STATED = {
    "reslstm": {"6,849": "consists of 6,849 videos", "13,320": "provides 13,320 videos"},
    "mrrn": {
        "13320": "has 13320 videos",
        "3570": "3570 training clips",
        "1530": "1530 testing clips",
    },
    "multistream": {
        "80.4": "80.4% accuracy on the test set of the ImageNet",
        "95.3": "95.3% top-5 accuracy",
        "13320": "contains 13320 video clips",
    },
    "rlstm": {
        "13,320": "consists of 13,320 short video clips",
        "6,766": "consists of 6,766 short video clips",
        "9,848": "contains 9,848 videos",
    },
    "rrn": {},
}
ROOT = Path(__file__).parents[1]
DOCS, RECIPES = ROOT / "docs" / "systems.md", ROOT / "recipes"
PAPERS = {"reslstm": "000", "rrn": "001", "mrrn": "002", "multistream": "003", "rlstm": "004"}


def as_published(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(
        row[key] for key in ("source", "row", "column", "dataset", "split", "value", "metric")
    )


def as_printed(cell: Cell) -> tuple[str, ...]:
    return (
        cell.source,
        cell.row,
        cell.column,
        cell.dataset,
        cell.split,
        cell.published,
        cell.metric,
    )


def missing(rows: list[dict[str, str]], system: str) -> list[tuple[str, ...]]:
    """Published numbers that are not in the system's recipe."""
    there = {as_printed(cell) for cell in cells(read_paper(system))}
    return [
        as_published(row)
        for row in rows
        if row["system"] == system and as_published(row) not in there
    ]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_published_number_stands_in_its_recipe(system: str) -> None:
    rows = testdata_rows("published.csv")
    assert sum(row["system"] == system for row in rows) > 40
    assert missing(rows, system) == []
    published = {as_published(row) for row in rows if row["system"] == system}
    extra = [
        cell.published
        for cell in cells(read_paper(system))
        if cell.published and as_printed(cell) not in published
    ]
    assert sorted(extra) == sorted(STATED[system])
    (paper,) = testdata("papers").glob(f"{PAPERS[system]}_*.txt")
    text = paper.read_text(encoding="utf-8")
    assert all(words in text for words in STATED[system].values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_changed_digit_would_be_noticed(system: str) -> None:
    rows = testdata_rows("published.csv")
    changed = next(row for row in rows if row["system"] == system and row["own"] == "yes")
    digit = next(one for one in reversed(changed["value"]) if one.isdigit())
    changed["value"] = changed["value"].replace(digit, str((int(digit) + 1) % 10))
    assert as_published(changed) in missing(rows, system)


def test_the_classes_and_categories_of_rows_are_the_data_sets() -> None:
    rows = [
        cell for system in SYSTEMS for cell in cells(read_paper(system)) if cell.dataset == "ucf101"
    ]
    said = {
        match[1]
        for cell in rows
        for match in re.finditer(r" (?:class|group) (.+?)(?= [-%] |$)", cell.ours)
    }
    assert len(said) > 5 and said <= {*CLASSES, *COARSE}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_number_of_the_systems_own_names_the_experiment_to_run(system: str) -> None:
    own = {
        as_published(row): row for row in testdata_rows("published.csv") if row["system"] == system
    }
    for cell in cells(read_paper(system)):
        if not cell.published or as_printed(cell) not in own:
            continue
        is_own = own[as_printed(cell)]["own"] == "yes" and (system, cell.row) not in FACTS
        assert bool(cell.ours) == is_own, cell


@pytest.mark.parametrize("network", ["", LITE0])
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_store_and_model_is_made_of_options_that_fit(
    system: str, quick: bool, network: str
) -> None:
    recipe = read_paper(system, quick=quick, network=network)
    names = needed(recipe, cells(recipe))
    assert set(names.models) <= set(recipe["models"])
    if not quick:  # QUICK may leave rows out
        assert set(names.models) == set(recipe["models"])
    assert set(names.fusions) == set(recipe.get("fusions", {}))
    assert set(names.anomalies) == set(recipe.get("anomalies", {}))
    for name, model in recipe["models"].items():
        train_defaults(
            parse(
                TrainOptions,
                words_of({**model_options(recipe, name), "store": model["on"]}),
                "train",
            )
        )
    replaced = {"extractor": network, "weights": str(LITE0_WEIGHTS)} if network else {}
    for name in recipe["stores"]:
        options = words_of(store_options(recipe, name, replaced))
        extract_defaults(parse(ExtractOptions, options, "extract"))
    for own in recipe.get("pretrain", {}).values():
        options = {key: value for key, value in own.items() if key != "normal_of"}
        parse(PretrainOptions, words_of(options), "pretrain")


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_another_network_takes_the_place_of_every_pretrained_image_network(
    system: str, quick: bool
) -> None:
    """Also where QUICK trains a network in the pretrained one's place."""
    paper, recipe = read_paper(system), read_paper(system, quick=quick, network=LITE0)
    replaced = {"extractor": LITE0, "weights": str(LITE0_WEIGHTS)}
    for name in recipe["stores"]:
        if name not in paper["stores"] or pretrained(paper["stores"][name]):
            continue
        own, ours = store_options(paper, name), store_options(recipe, name, replaced)
        is_image = own.get("stream") not in ("audio", "idt")
        assert (ours.get("extractor"), ours.get("weights")) == (
            (LITE0, str(LITE0_WEIGHTS)) if is_image else (own.get("extractor"), ours.get("weights"))
        )
        assert not pretrained(recipe["stores"][name])
        models = [model for model in recipe["models"].values() if name in stores_of(model)]
        nodes = f"{ours.get('node', '')} {ours.get('at', '')} {ours.get('stream')}".split()
        for model in models:
            parts = [one.partition(".")[2] for one in model["on"].split("+")]
            assert all(part in ("", *nodes) for part in parts), model


def test_positions_of_rrns_skips() -> None:
    """'Recurrent Residual Learning', 4.2: Mid Block4 is the last skip with a convolution."""
    recipe = read_paper("rrn")
    assert recipe["extract"]["extractor"] == "timm:resnet50.tv_in1k"  # of the paper's time
    network = timm.create_model("resnet50", pretrained=False)
    with_convolution = [
        name for name, block in network.named_modules() if getattr(block, "downsample", None)
    ]
    models = recipe["models"]
    assert models["mid_block4"]["skips"] == with_convolution[-1:] == ["layer4.0"]
    assert models["linear"]["skips"] == models["identity"]["skips"] == ["layer4.2"]
    assert (models["block1"]["skips"], models["block2"]["skips"]) == (["layer1.0"], ["layer2.3"])
    order = [name for name, _ in network.named_modules()]
    for model in models.values():
        if skips := model.get("skips"):
            at = recipe["stores"][model["on"]]["at"]
            last = [name for name in order if name == at or name.startswith(f"{at}.")][-1]
            # the maps are those that the first block with a skip reads
            between = order[order.index(last) + 1 : order.index(skips[0])]
            assert all("." not in name for name in between), between


def test_skips_of_another_network_come_right_after_the_maps_of_their_store() -> None:
    recipe = read_paper("rrn", network=LITE0)
    maps = {}
    picture = torch.zeros(1, 3, 64, 64)
    for name, model in recipe["models"].items():
        if skips := model.get("skips"):
            node = recipe["stores"][model["on"]]["at"]
            if node not in maps:
                whole = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
                maps[node] = cut(whole, (node,), LITE0)(picture)[node][0].shape
            facts = TrunkRecipe(
                "backbone", LITE0, node, stream="rgb", skips=tuple(skips), skip=model["skip"]
            )
            trunk, size = build_trunk(facts, tuple(maps[node]))
            assert size == 1280, name


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_change_that_the_documentation_names_applies(system: str) -> None:
    page = DOCS.read_text(encoding="utf-8")
    section = page.split(f"\n## {system}\n")[1].split("\n## ")[0]
    changes = [match[2] for match in re.finditer(r"SET=([\"'])(.+?)\1", section, re.DOTALL)]
    assert changes
    plain = read_paper(system)
    for change in changes:
        assert read_paper(system, " ".join(change.split())) != plain, change


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
    assert needed(recipe, rows[:1]) == (["a"], [], [])
    assert needed(recipe, rows) == (["a", "b"], ["ab"], [])
    assert splits_of(recipe, rows, ["1", "2", "3"]) == {
        "a": ["1", "2", "3"],
        "ab": ["1", "2", "3"],
        "b": ["1", "2", "3"],
    }
    assert splits_of(recipe, rows[::2], ["1", "2", "3"]) == {"a": ["1"], "ab": ["1"], "b": ["1"]}
    assert splits_of(recipe, rows[:1], ["val"]) == {"a": ["val"]}


def test_options_are_the_recipes_then_the_heads_then_the_models_own(tmp_path: Path) -> None:
    path = write(tmp_path, MADE)
    recipe = read_paper(path)
    assert model_options(recipe, "a") == {"head": "gru", "hidden": 64}  # a GRU has no residual
    assert model_options(recipe, "b") == {"head": "meanpool", "lr": 0.5}
    quick = read_paper(path, "models.a.layers=3 train.optimiser=adam", quick=True)
    assert model_options(quick, "a") == {
        "head": "gru",
        "hidden": 8,
        "epochs": 2,
        "layers": 3,
        "optimiser": "adam",
    }


def test_the_options_for_another_network_are_merged_after_quick(tmp_path: Path) -> None:
    own = """
[networks."timm:small"]
stores.s.extractor = "timm:small"
stores.s.node = "end"
train.epochs = 3
[quick.networks."timm:small"]
stores.s.resize = "96"
[quick.train]"""
    path = write(tmp_path, MADE.replace("[quick.train]", own))
    network = {"extractor": "timm:small", "weights": "w.pth"}
    whole = read_paper(path, network="timm:small")
    assert store_options(whole, "s", network) == network | {"stream": "rgb", "node": "end"}
    quick = read_paper(path, "train.epochs=7", quick=True, network="timm:small")
    assert store_options(quick, "s", network)["resize"] == "96"
    assert store_options(quick, "s", network | {"resize": "64"})["resize"] == "64"
    assert quick["train"]["epochs"] == 7  # SET comes last
    other = read_paper(path, quick=True, network="timm:other")
    assert other == read_paper(path, quick=True)
    assert other["stores"]["s"] == {"stream": "rgb"} and "networks" not in other
    bad = MADE + '[networks."timm:small".stores.s]\nnoed = "end"\n'
    with pytest.raises(InputError, match=r'\[networks."timm:small"\]: \[stores.s\] has no option'):
        read_paper(write(tmp_path, bad))


def test_changes_may_be_lists_and_have_spaces(tmp_path: Path) -> None:
    path = write(tmp_path, MADE)
    changes = "train.schedule=step train.lr_drops=[3, 5] stores.s.weights=rgb=/a.b/c flow=/d.e,models.a.layers=2"
    recipe = read_paper(path, changes)
    assert recipe["train"]["lr_drops"] == [3, 5] and recipe["models"]["a"]["layers"] == 2
    assert recipe["stores"]["s"]["weights"] == "rgb=/a.b/c flow=/d.e"
    figure = FIGURE.replace('"classes"', '"batch_times"').replace("models", "batch = 2\nmodels")
    networks = 'batches = 3\nnetworks = { c3d = 4, "timm:x.y" = 5 }\nmodels'
    path = write(tmp_path, MADE + figure.replace("models", networks))
    changes = 'figures.f.networks.c3d=1 figures.f.networks."timm:x.y"=2,train.lr=0.5'
    recipe = read_paper(path, changes)
    assert recipe["figures"]["f"]["networks"] == {"c3d": 1, "timm:x.y": 2}
    assert recipe["train"]["lr"] == 0.5


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
        ('"a"],\n  ["both"', '"c"],\n  ["both"', "'c' is neither a model nor a fusion"),
        (
            'on = "s"\nhead',
            'on = "t"\nhead',
            r"\[models.b\] reads the store 't', which is not in \[stores\]",
        ),
        ('members = ["a", "b"]', 'members = ["a", "z"]', "the member 'z'"),
        ('"accuracy_percent", "a"', '"seconds", "a"', "seconds is not a metric"),
        ('"1", "50.0"', '"50.0"', "a row must be a list of seven strings"),
        ('stream = "rgb"', 'pretrain = "p"', "has pretrain = 'p'"),
        ('stream = "rgb"', 'extractor = "evil.py:build"', "must not name a Python file"),
        ("[tables.one]", "[other.one]", r"has no \[tables\], so"),
        ("[tables.one]", "[tables.two]\n[tables.one]", r"\[tables.two\] has no rows"),
        ('how = "sum"', "", r"\[fusions.ab\] how = '': choose from sum"),
        ('how = "sum"', 'how = "sun"', r"\[fusions.ab\] how = 'sun': choose from sum"),
        (
            'how = "sum"',
            'how = "sum"\nweights = [1, 2, 3]',
            r"weights = \[1, 2, 3\]: give 2 numbers, one for each member",
        ),
        (
            'members = ["a", "b"]',
            'members = ["a"]',
            r"\[fusions.ab\] has 1 member; give two or more models",
        ),
        ('members = ["a", "b"]', "members = 3", r"\[fusions.ab\] members must be a list"),
        ('on = "s"\nhead', "head", r"\[models.b\] has no option 'on'"),
        ("rows = [", "rows = 3\nold = [", r"\[tables.one\]"),
        ("[train]\nhead", "[trian]\nhead", r"unknown section \[trian\]; did you mean train\?"),
        ("hidden = 64", "hiden = 64", r"\[train\] has no option hiden; did you mean hidden\?"),
        ("lr = 0.5", "rate = 0.5", r"\[heads.meanpool\] has no option rate"),
        (
            "[quick]",
            '[videos]\nucf101 = "many"\n[quick]',
            r"\[videos\] ucf101 must be a whole number of 1 or more \(got many\)",
        ),
        ('"50.0"', '"fifty"', r"must be a number, such as '93.4', or '' \(got 'fifty'\)"),
        ('"50.0"', '"500"', "500 is not a valid accuracy_percent; the maximum is 100"),
        ('"50.0"', '"50,0"', "50,0 is not a valid accuracy_percent"),
        ('"mean of 3"', '"mean of 4"', "'mean of 4' is not a split"),
        ('"ab - a"', '"86.7 - a"', "a number is allowed only to the right of ' - '"),
        ('"ab - a"', '"a % 80"', "a number is allowed only to the right of ' - '"),
        ('"ab - a"', '"a top7 - b"', "'a top7' must be a model"),
        ('"ab - a"', '"range a b - b"', "'range a b' must be a model"),
        ('"ab - a"', '"ab"', "'ab' does not fit the metric gain_points, which needs: a - b"),
        (
            '"accuracy_percent", "a"',
            '"accuracy_percent", "ab - a"',
            "accuracy_percent, which needs: a model",
        ),
        (
            '"gain_points", "ab - a"',
            '"fusion_weight", "weight ab ab"',
            r"name a member of ab \(a, b\)",
        ),
        (
            '"gain_points", "ab - a"',
            '"fusion_weight", "weight a b"',
            r"name a member of a \(it has no members\)",
        ),
        (
            '"gain_points", "ab - a"',
            '"count", "sequences a all"',
            "the part must be one of train, validation, test$",
        ),
        (
            '"gain_points", "ab - a"',
            '"count", "videos each"',
            "the part must be one of train, validation, test, all$",
        ),
        (
            '"gain_points", "ab - a"',
            '"auc", "auc ab"',
            r"names 'ab', which is not in \[anomalies\]; add \[anomalies.ab\]$",
        ),
        (
            "[fusions.ab]",
            '[anomalies.x]\nmembers = ["a"]\n[fusions.ab]',
            "x] has neither abnormal nor abnormal_every",
        ),
        (
            "[fusions.ab]",
            '[anomalies.x]\nmembers = ["c"]\nabnormal_every = 2\n[fusions.ab]',
            r"has the member 'c', which is not in \[models\]; add \[models.c\], or choose from a, b",
        ),
        (
            "[models.b]",
            '[models.c]\non = "s"\nnormal_of = "x"\n[models.b]',
            "normal_of = 'x', which is not in",
        ),
        (
            "[models.b]",
            '[models.c]\non = "s"\nvalidation_store = "x"\n[models.b]',
            "reads the store 'x', which is not in",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in MADE
    with pytest.raises(InputError, match=said):
        read_paper(write(tmp_path, MADE.replace(old, new)))


FIGURE = """
[figures.f]
title = "A figure"
source = "Fig. 9"
dataset = "ucf101"
split = "1"
draw = "classes"
models = ["a", "ab"]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"classes"', '"pie"', "draw = 'pie': choose from classes, confusion"),
        (
            '"classes"',
            '"confusion"',
            "shows 2 models, but draw = 'confusion' takes at least 1 and at most 1",
        ),
        (
            '"a", "ab"',
            '"a", "c"',
            "shows 'c', which is neither a model nor a fusion; choose from a, ab, b",
        ),
        ('split = "1"', 'split = "9 to 5"', "'9 to 5' is not a split"),
        ('title = "A figure"', "", "has no title; add title = '...'"),
        ('"A figure"', "3", r"title must be a string in quotation marks \(got 3\)"),
        ("models", "batch = 3\nmodels", "batch applies only to draw = 'batch_times'"),
        ('"classes"', '"batch_times"', "draw = 'batch_times' needs batch and batches"),
        (
            '"classes"',
            '"lines"',
            "shows 'ab', which is not in .models.; draw = 'lines' takes only models",
        ),
        (
            '"classes"\nmodels = ["a", "ab"]',
            '"lines"\nmodels = ["a", "b"]',
            "draw = 'lines' needs the option of the horizontal axis",
        ),
        ('"classes"', '"lines"\nover = "t"', "shows 'ab', which is not in .models."),
        (
            '"classes"\nmodels = ["a", "ab"]',
            '"lines"\nover = "head"\nmodels = ["a", "b"]',
            r"over = 'head': \[models.a\] does not set this option to a number",
        ),
        ("models", 'over = "t"\nmodels', "over applies only to draw = 'lines'"),
        ("models", "classes = 3\nmodels", "classes applies only to draw = 'gains'"),
        (
            '"classes"',
            '"gains"\nclasses = 0',
            r"classes must be a whole number of 1 or more \(got 0\)",
        ),
        ("models", "model", "has no option model; did you mean models"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    recipe = read_paper(write(tmp_path, MADE + FIGURE))
    assert figures_of(recipe)[0].models == ("a", "ab") and not figures_of(recipe, ["one"])
    with pytest.raises(InputError, match=rf"\[figures.f\] {said}"):
        read_paper(write(tmp_path, MADE + FIGURE.replace(old, new)))


def test_reslstm_has_the_whole_sweep_of_figure_3() -> None:
    """Section 4.1: d_m of 256 to 2048, depth 2 to 4, with and without residuals; PCA to d_m only on
    C3D features."""
    recipe = read_paper("reslstm")
    depth = next(one for one in figures_of(recipe) if one.source == "Fig. 3b and 3c")
    swept = {}
    for name in depth.models:
        options = model_options(recipe, name)
        swept[options["pca"], options["layers"], options["residual"]] = name
        assert options["rmsprop_alpha"] == 0.9 and options["t"] == 25 and "hidden" not in options
    sizes, depths = (256, 512, 1024, 2048), (2, 3, 4)
    assert set(swept) == set(itertools.product(sizes, depths, (True, False)))
    size = next(one for one in figures_of(recipe) if one.source == "Fig. 3a")
    hidden = [model_options(recipe, name)["hidden"] for name in size.models]
    assert hidden == list(sizes) and (size.over, depth.over) == ("hidden", "layers")
    for dataset in ("hmdb51", "ucf101"):
        rows = {cell.ours for cell in cells(recipe) if cell.dataset == dataset}
        assert rows >= {*size.models, *depth.models}
        for pca, layers in itertools.product(
            sizes, depths
        ):  # residual against plain, with interval
            assert f"{swept[pca, layers, True]} - {swept[pca, layers, False]}" in rows
    for name, model in recipe["models"].items():
        if model_options(recipe, name).get("pca"):
            assert stores_of(model)[0].startswith("c3d")


def test_the_figures_of_reslstm_compare_the_models_that_the_paper_names() -> None:
    recipe = read_paper("reslstm")
    figures = {one.source: one for one in figures_of(recipe)}
    final, with_idt = "late_product", "with_idt"
    assert (figures["Fig. 4"].draw, figures["Fig. 4"].models) == ("predictions", (final,))
    assert (figures["Fig. 5"].draw, figures["Fig. 5"].models) == ("confusion", (final,))
    assert (figures["Fig. 6a"].draw, figures["Fig. 6a"].models) == ("confusion", (with_idt,))
    for source, draw in (("Fig. 6b", "difference"), ("Fig. 6c", "gains")):
        assert (figures[source].draw, figures[source].models) == (draw, (with_idt, final))
    assert recipe["fusions"][final]["members"] == ["rgb", "flow"]
    assert recipe["fusions"][with_idt]["members"] == ["rgb", "flow", "idt"]
    windows = model_options(recipe, "windows")  # data strategy 1, as a row
    assert windows["sampling"] == "windows"
    assert {"windows", "each_crop"} <= {cell.ours for cell in cells(recipe, ["strategies"])}


@pytest.mark.parametrize("system", ["mrrn", "reslstm"])
def test_figures_show_models_that_are_trained(system: str) -> None:
    for quick in (False, True):
        recipe = read_paper(system, quick=quick)
        for figure in figures_of(recipe):
            names = needed(recipe, [figure.cell])
            assert set(figure.models) <= {*names.models, *names.fusions}


def test_the_figures_of_mrrn_show_the_three_levels() -> None:
    figures = {figure.source: figure for figure in figures_of(read_paper("mrrn"))}
    levels = ("low", "mid", "high_1024_3")
    assert (figures["Fig. 4"].draw, figures["Fig. 4"].models) == ("classes", levels)
    times = figures["Fig. 6"]
    assert (times.draw, times.models) == ("batch_times", levels)
    assert (times.networks, times.batch) == ({"c3d": 40}, 10)
    for figure in (figures["Fig. 3"], figures["Fig. 5"]):
        assert len(figure.models) == 1
    assert (figures["Fig. 3"].draw, figures["Fig. 5"].draw) == ("predictions", "confusion")


FIGURES = {  # those of each paper that show results; the others show the architecture
    "mrrn": {"Fig. 3", "Fig. 4", "Fig. 5", "Fig. 6"},
    "multistream": set(),
    "reslstm": {
        "Fig. 3a",
        "Fig. 3b",
        "Fig. 3c",
        "Fig. 4",
        "Fig. 5",
        "Fig. 6a",
        "Fig. 6b",
        "Fig. 6c",
    },
    "rlstm": {"Fig. 3", "Fig. 4"},
    "rrn": set(),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_figure_that_shows_results_is_drawn_and_documented(system: str) -> None:
    """The table in docs/systems.md names the command that draws each of them."""
    sources = "".join(f"{figure.source}; " for figure in figures_of(read_paper(system)))
    drawn = set(re.findall(r"Fig\. \w+", re.sub(r"(Fig\. \w+) and (\w+)", r"\1 Fig. \2", sources)))
    assert drawn == FIGURES[system]
    page = DOCS.read_text(encoding="utf-8")
    rows = re.findall(rf"^\| `{system}` \| (.+?) \| .+? \| (.*?) ?\|$", page, re.MULTILINE)
    assert rows
    commands = dict(rows)
    assert ("none" in commands) == (not drawn)
    listed = {}
    for names, command in rows:
        for name in re.findall(r"\b\d\w?\b", names):
            listed[f"Fig. {name}"] = command
    assert set(listed) == drawn
    for figure in figures_of(read_paper(system)):
        command = listed[re.match(r"Fig\. \w+", figure.source)[0]]
        wanted = f"make reproduce SYSTEM={system} ONLY={figure.name} DATASET="
        assert wanted in command and cells(read_paper(system), [figure.name]) == []
        dataset = re.search(r"DATASET=(\w+)", command)
        assert dataset and dataset[1] in figure.dataset.split()


def test_what_the_rrn_paper_does_not_state_is_marked_as_ours() -> None:
    recipe = read_paper("rrn")["train"]
    values = (recipe["validation"], recipe["epochs"], recipe["patience"], recipe["refit"])
    assert values == (0.2, 20, 5, True)
    text = " ".join((RECIPES / "rrn.toml").read_text(encoding="utf-8").split())
    comment = "# The paper states neither a validation part nor the number of epochs. Ours: a fifth"
    assert comment in text
    page = " ".join(DOCS.read_text(encoding="utf-8").split())
    section = page.partition(" ## rrn ")[2].partition(" ## ")[0]
    (own,) = re.findall(r"- The paper states neither a validation part .*?(?= - )", section)
    for words in ("a fifth", "at most 20 epochs", "5 epochs without improvement", "trained again"):
        assert words in own
    (weights,) = re.findall(r"- The ImageNet weights are .*?(?= - )", section)
    assert "IMAGENET1K_V1" in weights and "`resnet50.tv_in1k`" in weights


def test_the_documented_command_of_reslstm_gives_weights_to_every_store_that_needs_them() -> None:
    """C3D and TSN have no weights to download."""
    page = DOCS.read_text(encoding="utf-8")
    section = page.partition("\n## reslstm\n")[2].partition("\n## ")[0]
    about = section.partition("**Weights.**")[2].partition("\n- **TSN.**")[0]
    named_stores = set(re.findall(r"stores\.(\w+)\.weights=", about))
    recipe = read_paper("reslstm")
    needing = {
        name
        for name in recipe["stores"]
        if store_options(recipe, name).get("extractor") in ("c3d", "bn_inception")
    }
    assert named_stores == needing
    tables = {
        table: {
            store
            for model in needed(recipe, cells(recipe, [table])).models
            for store in stores_of(recipe["models"][model])
        }
        for table in recipe["tables"]
    }
    c3d, tsn = {"c3d", "c3d_centre"}, {"tsn", "tsn_crops"}
    assert "`figure3` and `table1` need C3D" in " ".join(about.split())
    for table, stores in tables.items():
        if table in ("figure3", "table1"):
            assert stores <= c3d
        elif table == "strategies":
            assert stores & c3d and stores & tsn
        elif stores:
            assert not stores & c3d and stores & tsn


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("models.c.hidden=1", r"no section \[models.c\]; choose from a, b"),
        ("hidden", "section.name.option"),
        ("hidden=3", "section.name"),
        ("train.lr_drops=[3,5", "neither a word nor a TOML value"),
        ("tables.one.rows=3", r"\[tables\] contains facts about the paper"),
        ("videos.ucf101=108", r"\[videos\] contains facts about the paper"),
        ("fusions.ab.members=a", "members must be a list"),
        ("models.a.hiden=3", r"\[models.a\] has no option hiden; did you mean hidden\?"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_paper(write(tmp_path, MADE), change)
    with pytest.raises(
        InputError, match="ONLY=two: the recipe has no such table or figure; choose from one"
    ):
        cells(read_paper(write(tmp_path, MADE)), ["two"])


def test_a_cut_down_form_that_names_nothing_is_refused(tmp_path: Path) -> None:
    for old, new, said in (
        ("[quick.train]", "[quick.trian]", r"\[quick\]: unknown section \[trian\]"),
        ("[quick.train]", "[quick.models.c]", r"\[models.c\] has no option 'on'"),
    ):
        with pytest.raises(InputError, match=said):
            read_paper(write(tmp_path, MADE.replace(old, new)), quick=True)
