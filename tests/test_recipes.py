"""Recipes: the papers' settings as data, what wins over what, and that every one of them is what its paper states."""

from pathlib import Path

import pytest

from reelbank.data.errors import InputError
from reelbank.data.recipe import parse
from reelbank.data.recipes import read_recipe, recipe_files
from reelbank.extract.options import ExtractOptions, with_defaults
from reelbank.heads import HEADS
from reelbank.heads.options import TrainOptions
from reelbank.heads.options import with_defaults as train_defaults

SYSTEMS = ("mrrn", "multistream", "reslstm", "rlstm", "rrn")


def options(*words: str) -> TrainOptions:
    return parse(TrainOptions, words, "train")


def test_the_five_systems_are_there() -> None:
    assert tuple(recipe_files()) == SYSTEMS


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_recipe_and_variant_is_made_of_options_that_fit_their_heads(name: str) -> None:
    recipe = read_recipe(name)
    heads = [recipe["train"]["head"], *recipe.get("heads", {})]
    for head in heads:
        for variant in ("", *(f":{one}" for one in recipe.get("variants", {}))):
            found = train_defaults(options(f"RECIPE={name}{variant}", f"HEAD={head}"))
            assert found.head == head in HEADS and found.recipe == f"{name}{variant}"
    assert options(f"RECIPE={name}").head == heads[0]
    assert with_defaults(parse(ExtractOptions, [f"RECIPE={name}", "DATASET=folder"], "extract")).recipe == name


def test_settings_of_the_papers() -> None:
    """By hand from the papers: 000 4.1, 001 4, 002 4.2, 003 V.D, 004 5.2."""
    reslstm = options("RECIPE=reslstm")
    assert (reslstm.head, reslstm.layers, reslstm.optimiser, reslstm.lr, reslstm.znorm) == (
        "reslstm",
        2,
        "rmsprop",
        1e-3,
        False,
    )
    rrn = options("RECIPE=rrn")
    assert (rrn.optimiser, rrn.batch_share, rrn.skip, rrn.context) == ("adam", 0.01, "identity", 2)
    gru = options("RECIPE=rrn", "HEAD=gru")
    assert (gru.layers, gru.hidden, gru.batch_share) == (1, 128, 0)
    mrrn = options("RECIPE=mrrn")
    assert (mrrn.head, mrrn.layers, mrrn.hidden, mrrn.pool, mrrn.dropout) == ("sru", 3, 1024, "mean", 0.5)
    assert (mrrn.sampling, mrrn.t, mrrn.stride, mrrn.windows) == ("windows", 30, 8, 20)
    assert (mrrn.optimiser, mrrn.lr, mrrn.lr_drops, mrrn.epochs, mrrn.batch) == ("adam", 1e-5, (8,), 12, 28)
    assert options("RECIPE=mrrn:low").lr == options("RECIPE=mrrn:mid").lr == 1e-4
    multistream = options("RECIPE=multistream")
    assert (multistream.head, multistream.layers, multistream.hidden, multistream.batch) == ("bigru", 2, 512, 32)
    assert (multistream.dropout, multistream.input_dropout, multistream.optimiser, multistream.lr) == (0.5, 0.5, "sgd", 1e-2)
    assert (multistream.schedule, multistream.best_by, multistream.patience) == ("plateau", "loss", 10)
    svm = options("RECIPE=multistream:svm")
    assert (svm.classifier, svm.svm_lambda) == ("svm", 0.01) and options("RECIPE=multistream:attention").attention
    rlstm = options("RECIPE=rlstm")
    assert (rlstm.sampling, rlstm.t, rlstm.positions, rlstm.crops, rlstm.average) == ("segments", 8, 4, "each", "logits")
    assert (rlstm.optimiser, rlstm.lr, rlstm.weight_decay, rlstm.batch, rlstm.dropout) == ("momentum", 5e-4, 5e-4, 24, 0.8)
    assert (rlstm.lr_drops, rlstm.epochs, rlstm.norm_momentum) == ((35, 45), 50, 1e-3)
    flow = options("RECIPE=rlstm:flow")
    assert (flow.dropout, flow.lr_drops, flow.epochs) == (0.7, (45, 55), 60)
    assert options("RECIPE=rlstm:charades").over_clips == "max"


def test_what_is_given_wins_wherever_it_stands() -> None:
    for words in (["RECIPE=mrrn", "LR=0.5", "LR_DROPS=3 4"], ["LR=0.5", "LR_DROPS=3 4", "RECIPE=mrrn"]):
        found = options(*words)
        assert (found.lr, found.lr_drops, found.hidden) == (0.5, (3, 4), 1024)


def test_another_head_takes_what_it_has_options_for() -> None:
    found = train_defaults(options("RECIPE=mrrn", "HEAD=meanpool"))
    assert (found.head, found.hidden, found.t, found.dropout) == ("meanpool", 0, 30, 0.5)
    with pytest.raises(InputError, match="HIDDEN=5: the head meanpool has no such option"):
        from reelbank.heads.options import head_options

        head_options(train_defaults(options("HEAD=meanpool", "HIDDEN=5")))


def test_a_recipe_of_ones_own_and_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[train]\nhead = "gru"\nhidden = 7\n[variants.small]\nhidden = 3\n')
    assert options(f"RECIPE={path}").hidden == 7 and options(f"RECIPE={path}:small").hidden == 3
    for text, line in (
        ("[train]\nhiden = 7\n", "sets hiden, which is no option of train"),
        ("[train]\nbank = 'x'\n", "sets bank"),
        ("[train\n", "cannot be read"),
        ("[train]\nhidden = 'many'\n", "'many' is not a number"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=line):
            options(f"RECIPE={path}")
    for text, line in (
        ("heads = 3\n[train]\nhead = 'gru'\n", r"\[heads\] is no table"),
        ("train = 'x'\n", r"\[train\] is no table"),
        ("variants = ['a']\n", r"\[variants\] is no table"),
        ("[train]\nhead = {a = 1}\n", "head is neither text, a number"),
        ("[train]\nextractor = '/x/evil.py:build'\n", "names a file of code; give EXTRACTOR=/x/evil.py:build beside it"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=line):
            options(f"RECIPE={path}")
    with pytest.raises(
        InputError, match=r"RECIPE=mrnn: choose from mrrn, multistream, reslstm, rlstm, rrn, or give a \.toml file"
    ):
        options("RECIPE=mrnn")
    with pytest.raises(InputError, match="mrrn has the variants low, mid"):
        options("RECIPE=mrrn:high")
    with pytest.raises(InputError, match="gone.toml cannot be read"):
        options(f"RECIPE={tmp_path}/gone.toml")


def test_a_recipe_names_no_code_to_extract_with(tmp_path: Path) -> None:
    path = tmp_path / "strangers.toml"
    path.write_text(f"[extract]\nextractor = '{tmp_path}/evil.py:build'\n")
    with pytest.raises(InputError, match="names a file of code"):
        parse(ExtractOptions, [f"RECIPE={path}"], "extract")


def test_another_sampling_or_schedule_leaves_out_what_is_of_the_recipes() -> None:
    found = train_defaults(options("RECIPE=mrrn", "SAMPLING=sigma", "SCHEDULE=constant"))
    assert (found.stride, found.windows, found.lr_drops, found.t, found.hidden) == (0, 0, (), 30, 1024)
    assert train_defaults(options("RECIPE=rlstm", "SAMPLING=sigma")).positions == 1
    found = train_defaults(options("RECIPE=rrn", "BATCH=16"))
    assert (found.batch, found.batch_share) == (16, 0)


def test_a_variant_that_the_head_has_no_use_for_is_refused() -> None:
    with pytest.raises(InputError, match="RECIPE=multistream:attention: sets ATTENTION, which is of no use to HEAD=sru"):
        options("RECIPE=multistream:attention", "HEAD=sru")


def test_variants_have_features_of_their_own() -> None:
    pooled = parse(ExtractOptions, ["RECIPE=rrn:pooled"], "extract")
    assert (pooled.at, pooled.node, pooled.stride) == ("", "layer2 layer3 layer4", 10)
    assert parse(ExtractOptions, ["RECIPE=reslstm:temporal"], "extract").t == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["MID=product"], "MID=product: is of several stores"),
        (["SVM_LAMBDA=0.5"], "SVM_LAMBDA=0.5: is of CLASSIFIER=svm"),
        (["HEAD=rrn", "CONTEXT=5", "SKIPS=layer4.2"], "CONTEXT=5: is of rrn without SKIPS"),
        (["BATCH=5", "BATCH_SHARE=0.1"], "BATCH=5: is of training without BATCH_SHARE"),
    ],
)
def test_options_without_their_counterpart_are_refused(words: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        train_defaults(options(*words))
