"""What somebody who types the commands for the first time meets: videos without options, ROOT in a
command that does not need it, a bank with other stores, plans, and commands in messages."""

import ast
import os
import re
from pathlib import Path

import pytest
from test_extract import encode, only_store
from test_make import ROOT, clone, make_alone
from tiny_networks import POOLED

import reelbank
from reelbank.data.command_line.table import COMMANDS
from reelbank.data.datasets import toy
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.datasets.toy_drawing import frames_of, render
from reelbank.data.store.reader import Store

SMALL = ("EXTRACTOR=tiny.py:build", "CROPS=1", "T=2", "CLIP=1")
VIDEOS = [f"{label}/{label}{number}.avi" for label in ("left", "right") for number in range(4)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a folder v of eight videos in two classes, and a tiny network."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(VIDEOS):
        encode(tmp_path / "v" / name, 6, number)
    (tmp_path / "v" / "notes.txt").write_text("about the videos")
    (tmp_path / "tiny.py").write_text(POOLED)
    return tmp_path


def run(*words: str) -> int:
    return reelbank.main(list(words))


def ids_of(store_path: Path) -> list[str]:
    with Store.open(store_path) as store:
        assert store.finished
        return sorted(store.video_ids)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder as b""."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


ALL = [name.removesuffix(".avi") for name in VIDEOS]


@pytest.mark.parametrize("words", [["v"], ["v/left", "v/right"], [f"v/{n}" for n in VIDEOS]])
def test_videos_are_the_data_set_of_their_folder(home: Path, words: list[str]) -> None:
    """Ids, labels, groups, parts and the name are equal, so the stores are the same."""
    of_files = load_dataset("folder", files=words)
    of_root = load_dataset("folder", "v")
    assert [video.id for video in of_root.videos] == ALL and of_root.classes == ("left", "right")
    assert of_files == of_root


@pytest.mark.parametrize("words", [["v"], ["--root", "v"]])
def test_extract_reads_the_folder_that_is_typed(home: Path, words: list[str]) -> None:
    name = load_dataset("folder", "v").name
    assert run("extract", *words, *SMALL) == 0
    assert ids_of(only_store()) == ALL and only_store().name.startswith(f"{name}-rgb-")
    assert not Path("bank", "toy").exists() and len(list(Path("v").rglob("*.*"))) == 9


def test_files_are_read_as_a_part_of_their_folder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The features of one video stay when others of the folder are extracted."""
    assert run("extract", "v/left/left2.avi", "v/right/right0.avi", "v/notes.txt", *SMALL) == 0
    said = capsys.readouterr().out
    assert "files left out because they are not videos: v/notes.txt" in said
    (first,) = Path("bank", "stores").glob("*.h5")
    assert ids_of(first) == ["left/left2", "right/right0"]
    assert run("extract", "v", *SMALL) == 0
    assert "8 videos, 2 already extracted, 6 to extract" in capsys.readouterr().out
    assert ids_of(only_store()) == ALL
    assert run("extract", "v/left/left0.avi", "v/right", *SMALL) == 0
    assert "5 videos, 5 already extracted, 0 to extract" in capsys.readouterr().out
    assert ids_of(only_store()) == ALL


def test_a_folder_of_numbered_images_is_one_video(home: Path) -> None:
    from PIL import Image

    for number in range(4):
        (home / "frames" / "walk").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (60 * number, 0, 0)).save(home / f"frames/walk/{number:03d}.png")
    assert run("extract", "frames/walk", *SMALL) == 0
    assert ids_of(only_store()) == ["walk"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["w"], "error: w: no such file or folder"),
        (["v", "ROOT=v"], "ROOT=v and VIDEOS=v both name the videos; give one of them"),
        (
            ["empty", "DATASET=folder"],
            "error: empty contains no videos; give a folder with video files",
        ),
        (["v/notes.txt"], "VIDEOS contains no videos (files left out because they are not"),
        (["v/left", "v/right", "DATASET=ucf101"], "DATASET=ucf101 reads one folder; give ROOT="),
        (["v/left", "v/right", "CSV=t.csv"], "CSV=t.csv: the videos of a CSV file are in one"),
        (["v", "DATASET=hmdb51"], "ROOT=v contains no class folders of HMDB-51"),
    ],
)
def test_other_words_are_explained(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (home / "t.csv").write_text("path\n")
    (home / "empty").mkdir()
    before = contents(home)
    assert run("extract", *words, *SMALL) == 2
    assert message.replace("ROOT=v contains", "contains") in capsys.readouterr().err
    assert contents(home) == before


def test_a_link_to_itself_is_an_error_and_no_traceback(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "loop").symlink_to("loop")
    assert run("import", "loop") == 2
    assert capsys.readouterr().err.startswith("reelbank: error: ")


def test_root_without_dataset_never_means_the_toy_set(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pretrain", "ROOT=w") == 2
    assert "ROOT=w: the folder does not exist" in capsys.readouterr().err
    assert run("reproduce", "SYSTEM=reslstm", "ROOT=v") == 2
    assert "ROOT=v needs DATASET: the data set of these videos" in capsys.readouterr().err
    assert run("extract", "DATASET=toy", "ROOT=v") == 2  # as before: toy draws into ROOT
    assert "must be new, empty, or made by DATASET=toy" in capsys.readouterr().err


TRAIN = ("train", "HEAD=meanpool", "EPOCHS=1", "REFIT=0", "DEVICE=cpu")


def test_root_of_train_selects_the_stores_of_its_videos(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("extract", "ROOT=v", *SMALL) == 0
    first = only_store()
    (home / "w").mkdir()
    for name in VIDEOS[:3] + VIDEOS[4:7]:
        encode(home / "w" / name, 7, 99)
    assert run("extract", "ROOT=w", *SMALL) == 0
    (second,) = set(Path("bank", "stores").glob("*.h5")) - {first}
    capsys.readouterr()
    assert run(*TRAIN) == 2
    assert "2 stores match" in capsys.readouterr().err
    for root, path in (("v", first), ("w", second)):
        assert run(*TRAIN, f"ROOT={root}") == 0
        said = capsys.readouterr().out
        assert f"store {path}\n" in said and "did you mean" not in said
    (home / "v").rename(home / "moved")  # its features are still those of this folder
    assert run(*TRAIN, "--root", "moved") == 0
    assert f"store {first}\n" in capsys.readouterr().out
    assert run("sweep", "HEAD=meanpool", "EPOCHS=1 2", "REFIT=0", "ROOT=moved") == 0
    assert run(*TRAIN, "ROOT=v") == 2
    assert (
        "ROOT=v: the folder does not exist. Training does not need the videos; leave ROOT out"
        in capsys.readouterr().err
    )
    (home / "moved" / "left" / "left0.avi").unlink()
    assert run(*TRAIN, "ROOT=moved") == 2
    error = capsys.readouterr().err
    assert "no store in bank/stores has the videos in ROOT=moved; the stores there are" in error
    assert error.endswith("make one with 'reelbank extract ROOT=moved'\n")
    with Store.open(first) as store:
        assert run(*TRAIN, "ROOT=moved", f"STORE={store.identity[:8]}") == 0
    assert "note: ROOT=moved is not used, because STORE names" in capsys.readouterr().err


def test_train_says_what_is_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*TRAIN) == 2
    assert (
        "no store of features in bank/stores; make one with 'reelbank extract ROOT=<folder of the "
        "videos>'\n" in capsys.readouterr().err
    )
    assert run("extract", "ROOT=v", "EXTRACTOR=pixels", "CROPS=1", "T=2", "RESIZE=32x32") == 0
    with Store.open(only_store()) as store:
        name, key = store.dataset.name, store.identity[:8]
    capsys.readouterr()
    assert run(*TRAIN) == 2
    assert (
        f"no store of features in bank/stores; the stores there are {key} ({name}, rgb, raw pixels "
        "for 'reelbank pretrain', not features); make one with" in capsys.readouterr().err
    )
    assert run("extract", "ROOT=v", *SMALL) == 0
    capsys.readouterr()
    assert run(*TRAIN, "--stream", "flow") == 2
    error = capsys.readouterr().err
    assert "with --stream=flow; the stores there are " in error
    assert f"({name}, rgb, tiny.build)" in error
    assert "'reelbank extract --stream=flow --root=<folder of the videos>'" in error


SYSTEM = """
title = "A network that is trained first"

[extract]
crops = 1
t = 2

[train]
head = "meanpool"

[stores.motion]
stream = "flow"
extractor = "motion_cnn"
flow = "dis"
pretrain = "motion"

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

[tables.all]
title = "All"
source = "Table 1"
rows = [["motion", "", "toy", "1", "40.0", "accuracy_percent", "motion"]]
"""
PLANS = [
    ("extract", "moved", *SMALL, "PLAN=1"),
    ("extract", "--root", "drawn", "--dataset", "toy", *SMALL, "--stream", "rgb flow", "--plan"),
    ("extract", *SMALL, "PLAN=1"),
]


def test_a_plan_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the toy videos, nor the digests of files that are compared with a store."""
    assert run("extract", "ROOT=v", *SMALL) == 0
    (home / "v").rename(home / "moved")
    for path in (home / "moved").glob("*/*"):
        os.utime(path, (1, 1))  # so that the digests are read
    before = contents(home)
    for words in PLANS:
        code = run(*words)
        assert code == 0, (words, capsys.readouterr().err)
        assert contents(home) == before, words
    said = capsys.readouterr().out
    assert "360 of the 360 videos of toy do not exist yet; the extraction draws them in " in said
    assert "8 videos, 8 already extracted, 0 to extract" in said


@pytest.mark.long
def test_the_plan_of_a_system_writes_nothing(home: Path) -> None:
    """Its network is trained first, on videos that are not drawn either."""
    (home / "system.toml").write_text(SYSTEM)
    before = contents(home)
    assert run("reproduce", "SYSTEM=system.toml", "PLAN=1") == 0
    assert contents(home) == before


def test_the_plan_of_undrawn_videos_is_that_of_the_drawn_ones(tmp_path: Path) -> None:
    """Their headers are known without drawing them."""
    planned = load_dataset("toy", bank=str(tmp_path), seed=3, draws=False)
    assert len(planned.undrawn) == len(planned.videos) == 360 and not list(tmp_path.iterdir())
    for label, group, clip in (("look_checks", 1, 1), ("sound_low", 12, 3), ("motion_up", 5, 2)):
        frames = len(render(label, group, clip, 3).frames)
        assert frames_of(label, group, clip, 3) == frames
        path = tmp_path / f"toy-seed3/{label}/v_{label}_g{group:02d}_c{clip:02d}.mp4"
        assert planned.undrawn[path].frames == frames
    assert toy.undrawn(tmp_path / "toy-seed3", 3) == [video.id for video in planned.videos]


@pytest.mark.parametrize(
    ("words", "installed", "by_make"),
    [
        (["train"], "make one with 'reelbank extract ROOT=", "make one with 'make extract ROOT="),
        (["train", "--head", "gru"], "'reelbank extract --root=", "'make extract --root="),
        (["runs"], "'reelbank train' makes one", "'make train' makes one"),
        (["train", "XYZ=1"], "'reelbank train --help'", "'.venv/bin/reelbank train --help'"),
        (["inspect", "STORE=1"], "'reelbank stores' lists", "'make stores' lists"),
    ],
)
def test_messages_show_commands_in_the_form_that_the_user_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    installed: str,
    by_make: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REELBANK_RUN_BY", raising=False)
    for form in (installed, by_make):
        run(*words)
        said = "".join(capsys.readouterr())
        assert form in said
        assert form == by_make or "make " not in said.replace("make one", "")
        monkeypatch.setenv("REELBANK_RUN_BY", "make")


def test_make_tells_the_command_that_it_runs_it(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    stub = '#!/bin/sh\necho "run by ${REELBANK_RUN_BY-nothing}"\n'
    for name in ("reelbank", "python"):
        (folder / ".venv" / "bin" / name).write_text(stub)
    assert make_alone(folder, "train").stdout == "run by make\n"
    assert "run by make\n" in make_alone(folder, "demo").stdout
    assert "run by nothing\n" in make_alone(folder, "test").stdout  # tests see the installed form


def texts_of(path: Path) -> list[str]:
    """The text literals of a module that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    docstrings = [id(node) for node in statements if isinstance(node, ast.Constant)]
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def test_no_text_of_the_package_names_make() -> None:
    """Messages and help show `reelbank extract`; only `as_run` turns it into `make extract`."""
    named = re.compile(rf"\bmake ({'|'.join(COMMANDS)}|setup|demo|test)\b|\bmake's\b|Makefile")
    assert named.search("give 'make extract ROOT=v'") and named.search("on make's command line")
    page = ROOT / "data" / "command_line" / "markdown.py"  # it explains both forms
    for folder in ("data", "extract", "heads", "fusion"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found = [text for text in texts_of(path) if named.search(text)]
            assert not found or path == page, f"{path}: {found}"
