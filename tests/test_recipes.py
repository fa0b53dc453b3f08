"""Recipes: the settings of the papers as data, the precedence of their sources, and that each
recipe contains what its paper states."""

from pathlib import Path

import pytest

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.recipes import read_recipe, recipe_files
from reelbank.extract.fill import with_defaults
from reelbank.extract.options import ExtractOptions
from reelbank.extract.streams.per_stream import applicable
from reelbank.heads.models.registry import HEADS
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import with_defaults as train_defaults

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
    assert (
        with_defaults(parse(ExtractOptions, [f"RECIPE={name}", "DATASET=folder"], "extract")).recipe
        == name
    )


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
    assert (reslstm.rmsprop_alpha, reslstm.pca) == (0.9, 0)  # TSN's features need no PCA
    assert (options("RECIPE=reslstm:c3d").pca, options("RECIPE=reslstm:c3d").t) == (1024, 25)
    rrn = options("RECIPE=rrn")
    assert (rrn.optimiser, rrn.batch_share, rrn.skip, rrn.context) == ("adam", 0.01, "identity", 2)
    gru = options("RECIPE=rrn", "HEAD=gru")
    assert (gru.layers, gru.hidden, gru.batch_share) == (1, 128, 0)
    mrrn = options("RECIPE=mrrn")
    assert (mrrn.head, mrrn.layers, mrrn.hidden, mrrn.pool) == ("sru", 3, 1024, "mean")
    assert (mrrn.rnn_dropout, mrrn.dropout) == (0.5, 0)
    assert (mrrn.sampling, mrrn.t, mrrn.stride, mrrn.windows) == ("windows", 30, 8, 20)
    assert (mrrn.optimiser, mrrn.lr, mrrn.lr_drops, mrrn.epochs, mrrn.batch) == (
        "adam",
        1e-5,
        (8,),
        12,
        28,
    )
    assert options("RECIPE=mrrn:low").lr == options("RECIPE=mrrn:mid").lr == 1e-4
    multistream = options("RECIPE=multistream")
    assert (multistream.head, multistream.layers, multistream.hidden, multistream.batch) == (
        "bigru",
        2,
        512,
        32,
    )
    assert (
        multistream.dropout,
        multistream.input_dropout,
        multistream.optimiser,
        multistream.lr,
    ) == (0.5, 0.5, "sgd", 1e-2)
    assert (multistream.schedule, multistream.best_by, multistream.patience) == (
        "plateau",
        "loss",
        10,
    )
    svm = options("RECIPE=multistream:svm")
    assert (svm.classifier, svm.svm_lambda) == ("svm", 0.01) and options(
        "RECIPE=multistream:attention"
    ).attention
    # The anomaly detector holds out videos that no stream has learned.
    models = read_recipe("multistream")["models"]
    assert models["normal_audio"]["validation_store"] == models["normal_rgb"]["on"]
    rlstm = options("RECIPE=rlstm")
    assert (rlstm.sampling, rlstm.t, rlstm.positions, rlstm.crops, rlstm.average) == (
        "segments",
        8,
        4,
        "each",
        "logits",
    )
    assert (rlstm.optimiser, rlstm.lr, rlstm.weight_decay, rlstm.batch, rlstm.dropout) == (
        "momentum",
        5e-4,
        5e-4,
        24,
        0.8,
    )
    assert (rlstm.lr_drops, rlstm.epochs, rlstm.norm_momentum) == ((35, 45), 50, 1e-3)
    flow = options("RECIPE=rlstm:flow")
    assert (flow.dropout, flow.lr_drops, flow.epochs) == (0.7, (45, 55), 60)
    assert options("RECIPE=rlstm:charades").over_clips == "max"


def test_what_is_given_wins_wherever_it_stands() -> None:
    for words in (
        ["RECIPE=mrrn", "LR=0.5", "LR_DROPS=3 4"],
        ["LR=0.5", "LR_DROPS=3 4", "RECIPE=mrrn"],
    ):
        found = options(*words)
        assert (found.lr, found.lr_drops, found.hidden) == (0.5, (3, 4), 1024)


def test_another_head_takes_what_it_has_options_for() -> None:
    found = train_defaults(options("RECIPE=mrrn", "HEAD=meanpool"))
    assert (found.head, found.hidden, found.rnn_dropout) == ("meanpool", 0, 0)
    assert (found.t, found.lr) == (30, 1e-5)
    with pytest.raises(InputError, match="HIDDEN=5: the head meanpool has no such option"):
        from reelbank.heads.training.planning.filled import head_options

        head_options(train_defaults(options("HEAD=meanpool", "HIDDEN=5")))


def test_a_users_recipe_and_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[train]\nhead = "gru"\nhidden = 7\n[variants.small]\nhidden = 3\n')
    assert options(f"RECIPE={path}").hidden == 7 and options(f"RECIPE={path}:small").hidden == 3
    for text, line in (
        ("[train]\nhiden = 7\n", r"\[train\] has no option hiden; did you mean hidden\?"),
        (
            "[train]\nbank = 'x'\n",
            r"\[train\] sets bank, which can only be set on the command line",
        ),
        ("[train\n", "cannot be read"),
        ("[train]\nhidden = 'many'\n", "hidden=many: must be a whole number"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=line):
            options(f"RECIPE={path}")
    for text, line in (
        ("heads = 3\n[train]\nhead = 'gru'\n", r"\[heads\] must be a table"),
        ("train = 'x'\n", r"\[train\] must be a table of options \(got x\)"),
        ("variants = ['a']\n", r"\[variants\] must be a table"),
        ("[train]\nhead = {a = 1}\n", "head must be a string, a number"),
        (
            "[train]\nextractor = '/x/evil.py:build'\n",
            "must not name a Python file, .* give EXTRACTOR=/x/evil.py:build on",
        ),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=line):
            options(f"RECIPE={path}")
    with pytest.raises(
        InputError,
        match=r"RECIPE=mrnn: choose from mrrn, multistream, reslstm, rlstm, rrn, or give a \.toml file",
    ):
        options("RECIPE=mrnn")
    with pytest.raises(InputError, match="mrrn has the variants low, mid"):
        options("RECIPE=mrrn:high")
    with pytest.raises(InputError, match="gone.toml cannot be read"):
        options(f"RECIPE={tmp_path}/gone.toml")


@pytest.mark.parametrize("command", ["extract", "train", "sweep", "reproduce"])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[trian]\nhidden = 8\n", "unknown section [trian]; did you mean train?"),
        ("[extarct]\ncrops = 1\n", "unknown section [extarct]; did you mean extract?"),
        ("[train]\nhiden = 8\n", "[train] has no option hiden; did you mean hidden?"),
        ("[extract]\ncorps = 1\n", "[extract] has no option corps; did you mean crops?"),
        ("[heads.grru]\nhidden = 8\n", "[heads.grru]: unknown head grru; did you mean gru?"),
        ("[heads.gru]\nlayrs = 1\n", "[heads.gru] has no option layrs; did you mean layers?"),
        (
            "[variants.small]\nhiden = 8\n",
            "[variants.small] has no option hiden; did you mean hidden?",
        ),
        (
            "[variants.small.extract]\nsise = 8\n",
            "[variants.small.extract] has no option sise; did you mean size?",
        ),
        (
            "[fusions.two]\nmisssing = 'allow'\n",
            "[fusions.two] has no option misssing; did you mean missing?",
        ),
        (
            "[quick.train]\nepoch = 1\n",
            "[quick]: [train] has no option epoch; did you mean epochs?",
        ),
        (
            "[models.a]\non = 'x'\nlr = inf\n",
            "[models.a] lr=inf: must be above 0 and at most 1e+38",
        ),
        (
            "[train]\nhidden = true\n",
            "[train] hidden = true: the values true and false are only for switches",
        ),
        ("[train]\nepochs = 2.5\n", "[train] epochs=2.5: must be a whole number"),
        ("[train]\nlr = [1, 2]\n", "[train] lr=1 2: must be a number"),
        ("[extract]\nstream = 'rgp'\n", "[extract] stream=rgp: choose from rgb, flow"),
        (
            "[train]\nhead = 1979-05-27\n",
            "[train] head must be a string, a number, true, false or a list of these (got 1979-05-27)",
        ),
        ("[train]\nhead = 'gru\n", "cannot be read"),
    ],
)
def test_what_is_mistyped_in_a_recipe_is_one_line_of_every_command(
    command: str, text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{text}[tables.one]\nrows = []\n")
    option = "SYSTEM" if command == "reproduce" else "RECIPE"
    assert reelbank.main([command, f"{option}={path}", f"BANK={tmp_path}"]) == 2
    errors = capsys.readouterr().err
    assert (
        errors.startswith(f"reelbank: error: {option}={path}: ")
        and line in errors
        and errors.count("\n") == 1
    )


def test_the_nearest_recipe_is_named() -> None:
    for option in ("SYSTEM", "RECIPE"):
        with pytest.raises(
            InputError, match=rf"^{option}=rnn: choose from .*; did you mean rrn\?$"
        ):
            read_recipe("rnn", option)
        with pytest.raises(InputError, match=rf"^{option}=xyzzy: .* give a .toml file$"):
            read_recipe("xyzzy", option)


def test_a_recipe_names_no_code_to_extract_with(tmp_path: Path) -> None:
    path = tmp_path / "untrusted.toml"
    path.write_text(f"[extract]\nextractor = '{tmp_path}/evil.py:build'\n")
    with pytest.raises(InputError, match="must not name a Python file"):
        parse(ExtractOptions, [f"RECIPE={path}"], "extract")


def test_another_sampling_or_schedule_leaves_out_what_is_of_the_recipes() -> None:
    found = train_defaults(options("RECIPE=mrrn", "SAMPLING=sigma", "SCHEDULE=constant"))
    assert (found.stride, found.windows, found.lr_drops, found.t, found.hidden) == (
        0,
        0,
        (),
        30,
        1024,
    )
    assert train_defaults(options("RECIPE=rlstm", "SAMPLING=sigma")).positions == 1
    found = train_defaults(options("RECIPE=rrn", "BATCH=16"))
    assert (found.batch, found.batch_share) == (16, 0)


def test_a_variant_that_the_head_has_no_use_for_is_refused() -> None:
    with pytest.raises(
        InputError,
        match="RECIPE=multistream:attention sets ATTENTION, which has no effect with HEAD=sru",
    ):
        options("RECIPE=multistream:attention", "HEAD=sru")


def test_variants_have_features_of_their_own() -> None:
    pooled = parse(ExtractOptions, ["RECIPE=rrn:pooled"], "extract")
    assert (pooled.at, pooled.node, pooled.stride) == ("", "layer2 layer3 layer4", "10")
    assert parse(ExtractOptions, ["RECIPE=reslstm:temporal"], "extract").t == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["MID=product"], "MID=product: applies only if several stores are combined"),
        (["SVM_LAMBDA=0.5"], "SVM_LAMBDA=0.5: applies only to CLASSIFIER=svm"),
        (
            ["HEAD=rrn", "CONTEXT=5", "SKIPS=layer4.2"],
            "CONTEXT=5: has no effect if SKIPS is given; omit CONTEXT",
        ),
        (
            ["BATCH=5", "BATCH_SHARE=0.1"],
            "BATCH=5: has no effect if BATCH_SHARE is given; omit BATCH",
        ),
    ],
)
def test_options_without_their_counterpart_are_refused(words: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        train_defaults(options(*words))


@pytest.mark.parametrize(
    ("extractor", "is_used"),
    [
        ("motion_cnn", True),
        ("rgb=timm:resnet18 flow=motion_cnn", True),
        ("torchvision:resnet18", False),
        ("", False),
    ],
)
def test_the_width_of_a_recipe_is_used_for_networks_that_have_one(
    extractor: str, is_used: bool
) -> None:
    used = applicable({"extractor": extractor, "width": 0.5, "t": 3}, ("rgb", "flow"))
    assert ("width" in used, "t" in used) == (is_used, True)
