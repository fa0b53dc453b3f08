"""A data set that a user defines in a file of their own: from video to report, without a change to
the package."""

import shutil
from pathlib import Path

import pytest
from test_extract import encode
from tiny_networks import PAUSING

import reelbank
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.heads.runs.folder import find_runs

# Files such as left-03.avi; the number is the group, and every third group is tested.
OWN = """
from pathlib import Path

from reelbank.data.datasets import Dataset, DatasetOptions, DatasetSpec, Video


def load(options: DatasetOptions) -> Dataset:
    root = Path(options.root).absolute()
    videos = []
    for path in sorted(root.glob("*.avi")):
        label, _, number = path.stem.partition("-")
        part = "test" if int(number) % 3 == 0 else "train"
        videos.append(Video(path.stem, path, label, number, (part,)))
    return Dataset(options.name, root, tuple(videos), ("left", "right"), ("1",))


CLIPS = DatasetSpec(load)
MISNAMED = DatasetSpec(lambda options: Dataset("other", Path(options.root), (), (), ()))
UNFINISHED = load
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        encode(folder / f"left-{number}.avi", 6, number)
        encode(folder / f"right-{number}.avi", 6, 100 + number)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: Path) -> Path:
    """A working folder with the data set's file in a folder whose path it is known by nowhere."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(PAUSING)
    Path("code").mkdir()
    Path("code/my clips.py").write_text(OWN)
    return tmp_path


TEXT = "code/my clips.py:CLIPS"
NAME = "my_clips.CLIPS"  # in recipes, and in names of files


def run(*words: str) -> int:
    return reelbank.main(list(words))


def test_an_own_data_set_from_video_to_report(
    workplace: Path, videos: Path, capsys: pytest.CaptureFixture
) -> None:
    small = ("EXTRACTOR=tiny.py:build", "CROPS=1", "T=2", "DEVICE=cpu", "WORKERS=1")
    extraction = ("extract", f"DATASET={TEXT}", f"ROOT={videos}", *small)
    assert run(*extraction, "PLAN=1") == 0
    assert not Path("bank/stores").exists()
    assert run(*extraction) == 0
    path = find_store("bank", dataset=TEXT)
    assert path.name.startswith(f"{NAME}-rgb-")
    with Store.open(path) as store:
        assert store.dataset.name == NAME
        assert len(store.video_ids) == 12

    training = ("HEAD=meanpool", "EPOCHS=1", "DEVICE=cpu")
    assert run("train", f"DATASET={TEXT}", *training) == 0
    assert find_runs("bank", dataset=TEXT) == find_runs("bank", dataset=NAME) != []
    assert run("evaluate", f"DATASET={TEXT}") == 0
    assert NAME in capsys.readouterr().out
    assert run("report", f"DATASET={TEXT}", f"ROOT={videos}") == 0
    page = Path(f"bank/reports/{NAME}.html").read_text()
    assert NAME in page
    assert "data:image/" in page  # frames of videos, which only the user's file finds

    # The name does not depend on the folder of the file: the store is found again.
    shutil.move("code", "elsewhere")
    assert find_store("bank", dataset="elsewhere/my clips.py:CLIPS") == path


@pytest.mark.long
def test_pretraining_and_reproducing_take_an_own_data_set(
    workplace: Path, videos: Path, capsys: pytest.CaptureFixture
) -> None:
    places = (f"DATASET={TEXT}", f"ROOT={videos}")
    network = ("EXTRACTOR=motion_cnn", "WIDTH=0.0625", "FLOW=dis", "CLIP=2", "DEVICE=cpu")
    training = ("T=1", "SEGMENTS=1", "EPOCHS=1", "RESIZE=64", "SIZE=64", "BATCH=8")
    assert run("pretrain", *places, *network, *training) == 0
    assert NAME in find_store("bank", dataset=TEXT, extractor="pixels").name
    assert run("reproduce", "SYSTEM=reslstm", *places, "PLAN=1", "QUICK=1") == 0
    assert NAME in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code/absent.py:CLIPS", "the file code/absent.py does not exist"),
        ("code/my clips.py:ABSENT", "does not define 'ABSENT'"),
        (
            "code/my clips.py:UNFINISHED",
            r"must be a reelbank.data.datasets.DatasetSpec \(got function\)",
        ),
        (
            "code/my clips.py:MISNAMED",
            "must return a Dataset whose name is '",
        ),
    ],
)
def test_an_own_data_set_that_cannot_be_loaded(
    workplace: Path, videos: Path, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(text, str(videos))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("return Dataset", "Dataset", r"load\(\) must return a Dataset \(got NoneType\)"),
        ("(options: DatasetOptions)", "()", r"load\(options\) raised TypeError: load\(\) takes 0"),
        ("label, number, (", "label, numbr, (", r"load\(options\) raised NameError: .*, line 13$"),
        ('("left", "right")', '{"left", "right"}', r"`classes` .* tuple of str \(got set\)"),
        ('("left", "right")', '"left"', r"`classes` .* tuple of str \(got str\)"),
        ('("left", "right")', '("left", "left")', "`classes` of the Dataset contains 'left' twice"),
        ('("1",)', "(1,)", r"`splits` .* only strings \(got 1\)"),
        ("tuple(videos)", "iter(videos)", r"`videos` .* tuple of Video \(got list_iterator\)"),
        ('"right")', '"rigth")', "'right-0': the label 'right' is not in `classes`; did you mean"),
        ("(path.stem,", "(label,", "two videos have the id 'left'; give each video a unique id"),
        ("stem, path,", "stem, str(path),", "video 'left-0': `path` must be a Path"),
        ("number, (part", "int(number), (part", "'left-0': `group` must be a str"),
        (
            '"test" if',
            '"tst" if',
            r"'left-0': `parts` .* each of the 1 splits, .* \(got \('tst',\)\)",
        ),
        ("(part,)", "part", r"'left-0': `parts` must be .* \(got 'test'\)"),
        ("(part,)", "(part, part)", r"`parts` must be .* \(got \('test', 'test'\)\)"),
    ],
)
def test_a_mistake_in_an_own_data_set_is_found_when_it_is_loaded(
    workplace: Path, videos: Path, right: str, wrong: str, message: str
) -> None:
    assert right in OWN
    Path("code/my clips.py").write_text(OWN.replace(right, wrong))
    with pytest.raises(InputError, match=f"^DATASET=code/my clips.py:CLIPS: .*{message}"):
        load_dataset(TEXT, str(videos))


def test_an_own_data_set_says_which_inputs_it_takes(workplace: Path, videos: Path) -> None:
    with pytest.raises(InputError, match="LISTS=lists: .* does not use official lists"):
        load_dataset(TEXT, str(videos), splits_dir="lists")
    with pytest.raises(
        InputError,
        match="CSV=t.csv: .* does not use a CSV file; leave CSV out, or use DATASET=folder",
    ):
        load_dataset(TEXT, str(videos), csv="t.csv")


def test_a_recipe_cannot_name_an_own_data_set(
    workplace: Path, videos: Path, capsys: pytest.CaptureFixture
) -> None:
    """A recipe may be untrusted, and the file of a data set is code that would run."""
    Path("untrusted.toml").write_text(f'[extract]\ndataset = "{TEXT}"\n')
    assert run("extract", "RECIPE=untrusted.toml", f"ROOT={videos}") == 2
    assert "[extract] dataset must not name a Python file" in capsys.readouterr().err
