"""The command line: help, words, messages, JSON, completion and the page docs/cli.md."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_stores import fill

import reelbank
from reelbank.data.command_line import markdown
from reelbank.data.command_line.spelling import as_typed
from reelbank.data.command_line.table import COMMANDS, options_of
from reelbank.data.options import groups_of, parse
from reelbank.data.scores import rows, scales
from reelbank.data.video import clips, sampling, sources
from reelbank.extract import options as extract_options
from reelbank.extract.flow import methods
from reelbank.fusion import late
from reelbank.fusion import options as fusion_options
from reelbank.fusion.evaluation import options as evaluation_options
from reelbank.heads.models import registry
from reelbank.heads.runs import folder
from reelbank.heads.training import fit

HEAVY = (
    *("torch", "torchvision", "numpy", "scipy", "sklearn", "h5py", "cv2", "av", "joblib", "tqdm"),
    *("safetensors", "xxhash", "PIL"),
)
# Every line is the words of a command that ends before anything is computed.
QUICK = """
import contextlib, io, sys
import reelbank
from reelbank.data.command_line.table import COMMANDS
quick = [[], ["--help"], ["-h"], ["--version"], ["extrakt"], ["train", "HEADD=gru"],
         ["extract", "T=x"], *([name, "--help"] for name in COMMANDS)]
for words in quick:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        reelbank.main(words)
    heavy = [name for name in {heavy} if name in sys.modules]
    if heavy:
        sys.exit(f"reelbank {{' '.join(words)}} imports {{heavy}}")
"""


def test_help_and_wrong_words_import_nothing_that_is_slow():
    code = QUICK.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def choices(command: str, name: str) -> set[str]:
    return set(options_of(command).__dataclass_fields__[name].metadata["choices"])


def test_choices_are_what_the_modules_that_compute_accept():
    """Options modules repeat them, since they import none of these modules."""
    assert set(extract_options.SAMPLINGS) == set(sampling.SAMPLINGS) > set(clips.SAMPLINGS)
    assert set(extract_options.DIGESTS) == set(sources.DIGESTS)
    assert set(extract_options.FLOW_METHODS) == set(methods.METHODS)
    assert choices("train", "head") == set(registry.HEADS)
    assert choices("train", "optimiser") == choices("pretrain", "optimiser") == set(fit.OPTIMISERS)
    assert set(fusion_options.HOW_CHOICES) == set(late.HOWS)
    assert choices("evaluate", "part") == set(folder.PARTS)
    assert set(evaluation_options.ORDERS) == set(rows.ORDERS)
    assert set(evaluation_options.SCALES) == set(scales.SCALES)


COMMANDS_AND_OPTIONS = [
    (command, field)
    for command, entry in COMMANDS.items()
    for field in dataclasses.fields(entry.load_options())
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_once_in_a_group_and_fits_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert reelbank.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    options = options_of(command)
    grouped = [name for names in groups_of(options).values() for name in names]
    assert sorted(grouped) == sorted(field.name for field in dataclasses.fields(options))
    assert "Other options" not in groups_of(options)
    assert len(grouped) <= 8 or len(groups_of(options)) > 1
    lines = shown.split("\n")
    assert max(map(len, lines)) < 80
    for name in grouped:
        dashed = "--" + name.replace("_", "-")
        assert sum(line.split()[:1] == [dashed] for line in lines) == 1


def test_a_default_is_printed_once_and_comes_from_the_definition() -> None:
    for command, field in COMMANDS_AND_OPTIONS:
        text = field.metadata["help"]
        assert "default" not in text, f"{command} {field.name}: give unset= instead"
        empty = field.default in (None, "", ())
        assert empty or not field.metadata["unset"], f"{command} {field.name} has two defaults"


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    expected = markdown.page()
    written = markdown.PAGE.read_text(encoding="utf-8")
    assert written == expected, "run python -m reelbank.data.command_line.markdown"
    for command, field in COMMANDS_AND_OPTIONS:
        section = expected.split(f"## {command}\n")[1].split("\n## ")[0]
        assert f"| `--{field.name.replace('_', '-')}" in section


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "--epochs", "0"], "--epochs=0: must be at least 1"),
        (["train", "EPOCHS=0"], "EPOCHS=0: must be at least 1"),
        (["train", "--batch-size", "8"], "unknown option --batch-size; did you mean --batch"),
        (["train", "BATCHES=8"], "unknown option BATCHES; did you mean BATCH?"),
        (["train", "--lr"], "--lr needs a value"),
        (["train", "EPOCHS=3", "--lr-drops=x"], "--lr-drops=x: must be a list of whole numbers"),
        (["train", "--epochs=3", "LR=x"], "LR=x: must be a number"),
        (["train", "gru"], "'gru' is not an option"),
        (["inspect", "aa", "bb"], "takes one STORE (got aa and bb)"),
        (["evaluat"], "unknown command 'evaluat'; did you mean evaluate?"),
    ],
)
def test_messages_name_options_as_they_were_typed(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reelbank.main(words) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "words", "expected"),
    [
        ("SAMPLING=windows needs T", ["--sampling=windows"], "--sampling=windows needs --t"),
        ("SAMPLING=windows needs T", ["SAMPLING=windows"], "SAMPLING=windows needs T"),
        ("give BATCH or LR", ["--batch", "8", "LR=1"], "give --batch or LR"),
        ("leave out LR_DROPS.", ["--epochs", "8"], "leave out --lr-drops."),
        ("ROOT=/x/T/a CSV: gone", ["--root=/x/T/a CSV"], "--root=/x/T/a CSV: gone"),
        ("STORE=T=1: no store", ["--store", "T=1"], "--store=T=1: no store"),
        ("CSV=a.csv: not a CSV file", ["--csv=a.csv"], "--csv=a.csv: not a CSV file"),
        ("[train] epochs=x", ["--recipe=a.toml"], "[train] epochs=x"),
        ("PREBATCH=1 and BATCH_SIZE", ["--batch=1"], "PREBATCH=1 and BATCH_SIZE"),
        ("ROOT=clips: no such folder; give ROOT=", ["clips"], "clips: no such folder; give ROOT="),
        ("ROOT=clips/a and ROOT=clips2", ["clips"], "ROOT=clips/a and ROOT=clips2"),
        (f"ROOT={Path('a b').resolve()} is empty", ["a b", "--t=4"], "a b is empty"),
        ("BATCH=8: too few", ["--batch", "8", "clips"], "--batch=8: too few"),
        ("CSV=t needs ROOT=clips", ["clips"], "CSV=t needs ROOT=clips"),
        ("T=5: too many", ["5"], "T=5: too many"),
        ("ROOT=5 and ROOT=5", ["5", "ROOT=5"], "ROOT=5 and ROOT=5"),
    ],
)
def test_names_in_messages_follow_what_was_typed(
    message: str, words: list[str], expected: str
) -> None:
    names = ("batch", "lr", "lr_drops", "sampling", "t", "root", "store", "csv", "recipe")
    assert as_typed(message, names, words) == expected


def test_lists_and_hashes_come_as_words_or_by_name() -> None:
    predict, fuse, inspect = (options_of(name) for name in ("predict", "fuse", "inspect"))
    for words in (["a", "b"], ["VIDEOS=a b"], ["--videos", "a b"], ["--videos=a", "b"]):
        assert parse(predict, [*words, "--run", "c"], "predict").videos == ("a", "b")
    for words in (["a", "b"], ["RUNS=a b"], ["--runs", "a", "b"], ["--", "a", "b"]):
        assert parse(fuse, ["--search", *words], "fuse").runs == ("a", "b")
    for words in (["ab12"], ["STORE=ab12"], ["--store", "ab12"], ["--store=ab12"]):
        assert parse(inspect, [*words, "--json"], "inspect") == inspect(store="ab12", json=True)
    for command in ("verify", "remove", "export"):
        assert parse(options_of(command), ["ab12"], command).store == "ab12"


def test_a_switch_takes_the_next_word_only_if_it_is_a_value() -> None:
    predict = options_of("evaluate")
    assert parse(predict, ["--per-class", "run"], "evaluate") == predict(
        per_class=True, runs=("run",)
    )
    assert not parse(predict, ["--per-class", "0"], "evaluate").per_class


def test_a_video_whose_name_has_a_space_is_one_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my clip.mp4").touch()
    assert parse(options_of("predict"), ["--videos", "my clip.mp4"], "predict").videos == (
        "my clip.mp4",
    )


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_printed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reelbank.main([word]) == 0
    assert capsys.readouterr().out == f"{reelbank.__version__}\n"


def document(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert reelbank.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_of_a_bank_and_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = f"--bank={tmp_path}"
    assert document(capsys, "stores", bank) == {"stores": [], "unreadable": []}
    assert document(capsys, "runs", bank) == {"runs": []}
    path = tmp_path / "stores" / "made.h5"
    fill(path, range(6))
    (tmp_path / "stores" / "broken.h5").write_text("no HDF5")
    found = document(capsys, "stores", bank)
    (store,) = found["stores"]
    assert [Path(each["path"]).name for each in found["unreadable"]] == ["broken.h5"]
    assert store["path"] == str(path) and store["finished"]
    whole = document(capsys, "inspect", bank, store["hash"][:8])
    assert whole["recipe"]["stream"] == store["stream"] == "rgb"
    assert set(store) < set(whole) and whole["failed"] == {}
    assert sum(whole["splits"]["1"].values()) == store["videos"] == whole["videos"] > 0
    machine = document(capsys, "doctor", bank)
    assert machine["ok"] and machine["bank"]["path"] == str(tmp_path)
    assert {"torch", "h5py"} <= {package["module"] for package in machine["packages"]}


COMPLETE = """
reelbank_completion=$({python} -c 'import reelbank; reelbank.main(["completion", "bash"])')
eval "$reelbank_completion"
complete_words() {{
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
  _reelbank 2> /dev/null
  printf '%s\\n' "${{COMPREPLY[*]}}"
}}
"""
# words of a command line as bash splits them, and what completes the last of them
COMPLETED = [
    (("reelbank", "extr"), "extract"),
    (("reelbank", "train", "--ep"), "--epochs"),
    (("reelbank", "train", "EP"), "EPOCHS="),
    (("reelbank", "train", "HEAD", "=", "gr"), "gru"),
    (("reelbank", "train", "--head", "=", "gr"), "gru"),
    (("reelbank", "train", "--head", "gr"), "gru"),
    (("reelbank", "train", "PCA", "="), "file.txt"),
    (("reelbank", "evaluate", "--per-class", "--int"), "--interval"),
    (("reelbank", "predict", "fi"), "file.txt"),
    (("reelbank", "completion", "z"), "zsh"),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_choices_and_files(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    script = COMPLETE.format(python=shlex.quote(sys.executable))
    script += "".join(f"complete_words {shlex.join(words)}\n" for words, _ in COMPLETED)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == [completed for _, completed in COMPLETED], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_every_option_and_parse(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reelbank.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for _, field in COMMANDS_AND_OPTIONS:
        dashed = field.name.replace("_", "-")
        assert f"--{dashed}" in script or f"-l {dashed} " in script
        assert f"{field.name.upper()}=" in script or f"{field.name.upper()}:" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
