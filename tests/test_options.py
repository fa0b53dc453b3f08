"""Every option of every command with absurd values: one line and exit code 2, or an ordinary
start."""

import dataclasses
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

import reelbank
from reelbank.data.command_line.table import COMMANDS, options_of
from reelbank.data.errors import InputError
from reelbank.data.options import option, parse
from reelbank.data.ranges import LONGEST_TEXT, Checked, between
from reelbank.extract.device import chosen_device
from reelbank.extract.fill import stream_options
from reelbank.extract.options import ExtractOptions
from reelbank.fusion.predict import predict, top
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.filled import with_defaults as train_defaults
from reelbank.heads.training.sweep import combinations

NUMBERS = (
    "1" + 30 * "0",
    "-1",
    "9" * 400,
    "9" * 5000,
    "nan",
    "1e999",
    "",
    "\u0663",
    "0 inf",
    "[[[[",
)
TEXTS = (
    "",
    "meta",
    "nan",
    "-1",
    "a\0b",
    "x" * 100_000,
    "rgb=" + "7" * 40,
    "\x1b[31mred\nline",
    "\ud800",
    ",",
)
# Options added to the tested one so that the command computes nothing: the data set and the bank
# are empty.
OTHER_WORDS = {
    "extract": ("DATASET=folder", "ROOT={empty}", "PLAN=1"),
    "pretrain": ("DATASET=folder", "ROOT={empty}", "WIDTH=0.01", "WEIGHTS=random"),
    "reproduce": ("SYSTEM=reslstm", "DATASET=folder", "ROOT={empty}", "PLAN=1"),
    "anomaly": ("EACH=1",),
}


def numeric(hint: object) -> bool:
    kinds = {hint, *typing.get_args(hint)}
    return bool(kinds & {int, float}) and bool not in kinds


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_has_a_lowest_and_a_highest_value_and_help_says_so(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = options_of(command)
    assert issubclass(kind, Checked)
    assert reelbank.main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        within, choices = field.metadata["range"], field.metadata["choices"]
        assert not numeric(hints[field.name]) or within or choices, (
            f"{command} {field.name} has no range"
        )
        assert not within or within.brief() in shown


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "doctor"])
def test_absurd_values_of_every_option_are_one_line(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No value raises, so users never see a traceback. Valid output paths may be created, here in an
    empty folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: "no")
    others = [word.format(empty=tmp_path / "empty") for word in OTHER_WORDS.get(command, ())]
    kind = options_of(command)
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = field.name.upper()
        own = [word for word in others if not word.startswith(f"{name}=")]
        for value in NUMBERS if numeric(hints[field.name]) or field.metadata["range"] else TEXTS:
            code = reelbank.main([command, *own, f"{name}={value}"])
            _, errors = capsys.readouterr()
            said = f"{command} {name}={value[:30]!r}: {code}, {errors[:300]!r}"
            assert code in (0, 1, 2), said
            if code == 2:
                assert errors.startswith("reelbank: error: ") and errors.count("\n") == 1, said
                assert len(errors) < 2000 and all(one.isprintable() for one in errors[:-1]), said


@pytest.mark.parametrize(
    ("command", "word", "line"),
    [
        ("extract", "T=1000000000000", "T=1000000000000: must be at least 0 and at most 1,000,000"),
        ("extract", "TIMEOUT=nan", "TIMEOUT=nan: must be above 0 and at most 1,000,000"),
        ("extract", "SIZE=100000", "SIZE=100000: must be at least 1 and at most 16,384"),
        (
            "extract",
            f"SEED={2**63}",
            f"SEED={2**63}: must be at least 0 and at most 9,223,372,036,854,775,807",
        ),
        ("train", "SEED=" + "9" * 400, "SEED=999999999999... (400 characters): must be at least 0"),
        ("train", "LR=inf", "LR=inf: must be above 0 and at most 1e+38"),
        ("train", "LAYERS=100000", "LAYERS=100000: must be at least 1 and at most 100"),
        ("train", "DEVICE=meta", "DEVICE=meta: must be auto, cpu, cuda or cuda:<number>"),
        ("train", "LR_DROPS=3 -4", "LR_DROPS=-4: must be at least 0"),
        ("train", "T=\u0663", "must be a whole number"),
        ("fuse", "WEIGHTS=1 nan", "WEIGHTS=nan: must be at least 0"),
        ("anomaly", "FALSE_ALARMS=0.5 1", "FALSE_ALARMS=1.0: must be above 0 and below 1"),
        ("predict", "TOP=0", "TOP=0: must be at least 1"),
        ("stores", "BANK=a\0b", "must not contain a NUL character"),
        (
            "runs",
            "HEAD=" + "x" * (LONGEST_TEXT + 1),
            "HEAD=xxxxxxxxxxxx... (20,001 characters): must have at most 20,000",
        ),
    ],
)
def test_what_is_out_of_range_is_named(
    command: str, word: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    others = ["DATASET=folder", "ROOT=gone"] if command == "extract" else []
    code = reelbank.main([command, *others, word])
    if "SIZE" in word:  # is read for each stream by itself, after the data set
        with pytest.raises(InputError, match="SIZE=100000: must be at least 1 and at most 16,384"):
            stream_options(parse(ExtractOptions, [word], "extract"), "rgb")
    else:
        assert code == 2 and line in capsys.readouterr().err


def test_programs_are_refused_what_commands_are() -> None:
    for wrong, line in (
        ({"lr": float("inf")}, "LR=inf"),
        (
            {"layers": 10**30},
            "LAYERS=1000000000000000000000000000000: must be at least 1 and at most 100",
        ),
        ({"epochs": 2.5}, "EPOCHS=2.5: must be a whole number"),
        ({"batch": True}, "BATCH=True: must be a whole number"),
        ({"split": "1"}, "SPLIT=1: must be a list"),
        ({"head": "lstm5"}, "HEAD=lstm5: choose from"),
        ({"device": "meta"}, "DEVICE=meta: must be auto"),
    ):
        with pytest.raises(InputError, match=line):
            TrainOptions(**wrong)
    with pytest.raises(InputError, match="SEED=-1"):
        dataclasses.replace(TrainOptions(), seed=(-1,))
    with pytest.raises(InputError, match="DEVICE=meta"):
        chosen_device("meta")
    table = reelbank.Scores(("a",), np.array([0]), ("x", "y"), np.zeros((1, 2)))
    with pytest.raises(InputError, match="TOP=-1: must be at least 1"):
        top(table, -1)
    for name, value in (("seed", -1), ("seed", 2**64), ("image_fps", float("nan"))):
        with pytest.raises(InputError, match=f"{name.upper()}=.*: must be at least 0"):
            reelbank.load_dataset("folder", str(Path.cwd()), **{name: value})
    for wrong in (
        *({"workers": 10**9}, {"device": "meta"}, {"weights": [float("nan")]}),
        *({"image_fps": float("nan")}, {"damaged": "perhaps"}),
    ):
        with pytest.raises(InputError, match="must be|give auto|choose from"):
            predict("gone.mp4", "gone", **wrong)


def test_the_ends_of_a_range_are_allowed_or_not_as_it_says() -> None:
    closed, share = between(1, 100), between(0, None, below=1)
    assert closed and share
    assert [n in closed for n in (0, 1, 100, 101, float("nan"))] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert [n in share for n in (0, 0.999, 1, float("inf"), -float("inf"))] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert str(between(None, 1000, above=0)) == "above 0 and at most 1,000"
    with pytest.raises(ValueError):
        option(0, "half a range", lowest=0)


def test_what_the_ranges_allow_starts() -> None:
    """The highest seed can be drawn from by whatever draws; options that recipes set are in
    range."""
    highest = TrainOptions.__dataclass_fields__["seed"].metadata["range"].high
    torch.manual_seed(highest)
    np.random.default_rng(highest)
    assert train_defaults(TrainOptions(layers=100, lr=1000.0, seed=(highest,))).layers == 100


def test_options_longer_than_a_file_name_are_read() -> None:
    words = ",".join(f"class {number}" for number in range(500))
    assert len(parse(ExtractOptions, [f"CLASSES={words}"], "extract").classes) == 500


def test_a_sweep_of_too_many_combinations_is_refused_at_once() -> None:
    ten = " ".join(map(str, range(1, 11)))
    with pytest.raises(InputError, match="100,000 combinations, but at most 10,000 are allowed"):
        combinations(dict.fromkeys(("layers", "hidden", "batch", "epochs", "patience"), ten))


@pytest.mark.skipif(sys.maxsize < 2**60, reason="of 64 bits")
def test_deeply_nested_text_does_not_recurse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep.toml"
    for text in (
        *("[train]\nhead = " + "[" * 100_000, "[train]\nlr = " + "9" * 5000),
        *(f"[{'.'.join(['quick'] * 3000)}]\nx = 1", f"[extract]\n{'.'.join('a' * 3000)} = 1"),
    ):
        path.write_text(text)
        for words in (
            ["train", f"RECIPE={path}"],
            ["extract", f"RECIPE={path}"],
            ["reproduce", f"SYSTEM={path}"],
        ):
            assert reelbank.main(words) == 2
            errors = capsys.readouterr().err
            assert "cannot be read" in errors and errors.count("\n") == 1
    for value in ("[" * 15_000, f"{{{'.'.join('a' * 3000)} = 1}}"):
        assert (
            reelbank.main(
                [
                    "reproduce",
                    "SYSTEM=reslstm",
                    f"SET=models.reslstm.hidden={value}",
                    f"BANK={tmp_path}",
                ]
            )
            == 2
        )
        assert capsys.readouterr().err.count("\n") == 1
