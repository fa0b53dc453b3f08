"""The name of a folder's data set, which is a part of the identity of its stores: a folder that was
moved finds its stores by its videos, and other videos never get into them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_extract import encode

import reelbank
from reelbank.data.banks import Banks
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.datasets.types import Dataset
from reelbank.data.errors import InputError
from reelbank.data.store.known_datasets import with_known_name
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, DatasetListing, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import fingerprint

NAMES = ("a/one.mp4", "a/two.mp4", "b/three.mp4", "b/four.mp4", "b/five.mp4")


def make_folder(root: Path, names: Sequence[str] = NAMES) -> Path:
    """Files with different contents, all of 3,000 bytes."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 3000)
    return root


def make_store(
    bank: Path,
    dataset: Dataset,
    *,
    stored: int = 99,
    listed: bool = True,
    stream: str = "rgb",
    file_bytes: int = 1 << 30,
) -> None:
    """A store of a data set. stored: how many videos it has yet; listed: whether its files record the
    videos of the data set, as they do since this is known; file_bytes: of the largest file."""
    path = bank / "stores" / f"{dataset.name}-{stream}-made.h5"
    listing = DatasetListing.of(dataset) if listed else None
    description = DatasetDescription.of(dataset)
    with StoreWriter(
        path,
        {"stream": stream},
        description,
        listing=listing,
        largest_file_bytes=file_bytes,
    ) as writer:
        videos = [
            StoredVideo(
                video.id,
                video.label,
                video.group,
                video.parts,
                fingerprint(video.path, "sampled").facts(),
            )
            for video in dataset.videos
        ]
        for video in videos[:stored]:
            writer.add(video, np.zeros((1, 4)), np.zeros(1))
        writer.finish(videos)


def load(root: Path, **options: object) -> Dataset:
    return load_dataset("folder", str(root), **options)  # type: ignore[arg-type]


def known(dataset: Dataset, *banks: Path) -> str:
    """The name that the data set gets."""
    return with_known_name(dataset, "folder", Banks.of(banks[0], banks[1:])).name


def moved(root: Path) -> Path:
    return root.rename(root.with_name("renamed"))


@pytest.mark.parametrize("listed", [True, False])
def test_a_folder_that_was_moved_keeps_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: bool
) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset, listed=listed)
    again = load(moved(dataset.root))
    assert again.name != dataset.name
    assert known(again, tmp_path / "bank") == dataset.name
    (line,) = capsys.readouterr().out.splitlines()
    assert f"ROOT contains the videos of the data set {dataset.name}" in line
    assert known(again, tmp_path / "empty") == again.name
    shutil.copytree(again.root, dataset.root)
    assert known(load(dataset.root), tmp_path / "bank") == dataset.name


def test_an_unfinished_store_is_continued_from_another_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset, stored=2)
    make_store(tmp_path / "earlier", dataset, stored=2, listed=False)
    again = load(moved(dataset.root))
    assert known(again, tmp_path / "bank") == dataset.name
    capsys.readouterr()
    # A store of an earlier version does not say which other videos its data set has.
    assert known(again, tmp_path / "earlier") == again.name
    assert f"DATASET_NAME={dataset.name} continues its stores" in capsys.readouterr().out


def test_a_copy_with_other_times_is_read_once(tmp_path: Path) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset)
    root = moved(dataset.root)
    for path in root.glob("*/*"):
        os.utime(path, ns=(1, 2_000_000))
    assert known(load(root), tmp_path / "bank") == dataset.name
    assert (tmp_path / "bank" / "digests.json").read_text().count("sampled:") == len(NAMES)


@pytest.mark.parametrize("kept_time", [True, False])
@pytest.mark.parametrize("stored", [99, 3])
def test_other_contents_of_the_same_sizes_are_other_videos(
    tmp_path: Path, kept_time: bool, stored: int
) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset, stored=stored)
    root = moved(dataset.root)
    path = root / NAMES[0]
    before = path.stat().st_mtime_ns
    path.write_bytes(b"x" * 3000)
    os.utime(path, ns=(before, before if kept_time else before + 10**9))
    again = load(root)
    assert known(again, tmp_path / "bank") == again.name


@pytest.mark.parametrize("change", ["more", "fewer", "renamed", "larger"])
@pytest.mark.parametrize("listed", [True, False])
def test_other_videos_get_stores_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, listed: bool
) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset, listed=listed)
    root = moved(dataset.root)
    if change == "more":
        (root / "a" / "six.mp4").write_bytes(b"6" * 3000)
    elif change == "fewer":
        (root / NAMES[0]).unlink()
    elif change == "renamed":
        (root / NAMES[0]).rename(root / "a" / "uno.mp4")
    else:
        (root / NAMES[0]).write_bytes(b"0" * 3001)
    again = load(root)
    assert known(again, tmp_path / "bank") == again.name
    said = capsys.readouterr().out
    assert (f"DATASET_NAME={dataset.name} continues" in said) == (change == "more")


def test_a_choice_of_classes_does_not_make_another_data_set(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "videos")
    dataset = load(root, classes=["b"])
    make_store(tmp_path / "bank", dataset)
    make_store(tmp_path / "earlier", dataset, listed=False)
    root = moved(root)
    for classes in ([], ["a"], ["a", "b"], ["b"]):
        assert known(load(root, classes=classes), tmp_path / "bank") == dataset.name
    assert known(load(root, classes=["b"]), tmp_path / "earlier") == dataset.name
    whole = load(root)
    assert known(whole, tmp_path / "earlier") == whole.name


def test_own_stores_come_first_then_those_of_bank_then_those_of_other_banks(tmp_path: Path) -> None:
    datasets = []
    for name in ("one", "two", "three"):
        root = make_folder(tmp_path / "videos")
        datasets.append(load(root.rename(tmp_path / name)))
    one, two, three = datasets
    for dataset in datasets:  # whose files have different times
        for path in dataset.root.glob("*/*"):
            os.utime(path, ns=(1, 1_000_000))
    make_store(tmp_path / "bank", one)
    make_store(tmp_path / "other", two)
    assert known(three, tmp_path / "bank", tmp_path / "other") == one.name
    assert known(three, tmp_path / "other", tmp_path / "bank") == two.name
    make_store(tmp_path / "other", three, stream="flow")
    assert known(three, tmp_path / "bank", tmp_path / "other") == three.name


def test_data_sets_with_fixed_names_keep_them(tmp_path: Path) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset)
    again = load(moved(dataset.root))
    assert with_known_name(again, "ucf101", Banks.of(tmp_path / "bank")) is again


def test_a_store_that_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset)
    broken = tmp_path / "bank" / "stores" / "folder-a-rgb-made.h5"
    broken.write_bytes(b"no store")
    assert known(load(moved(dataset.root)), tmp_path / "bank") == dataset.name
    assert str(broken) in capsys.readouterr().err


def test_the_listing_survives_merges_and_packing(tmp_path: Path) -> None:
    dataset = load(make_folder(tmp_path / "videos"))
    make_store(tmp_path / "bank", dataset, stored=2)
    make_store(tmp_path / "bank", dataset, file_bytes=1)
    (path,) = (tmp_path / "bank" / "stores").glob("*.h5")
    assert len(list((tmp_path / "bank" / "stores").glob("*.parts/more*.h5"))) > 0
    assert reelbank.main(["pack", str(path)]) == 0
    with Store.open(path) as store:
        assert store.finished and store.listing == DatasetListing.of(dataset)
        assert store.listing.is_drawn


def test_dataset_name_names_the_data_set(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "videos")
    for name in ("clips", "folder-clips"):
        assert load(root, dataset_name=name).name == "folder-clips"
    for name in ("a/b", " ", "folder-", 61 * "a"):
        with pytest.raises(InputError, match="DATASET_NAME=.*letters"):
            load(root, dataset_name=name)
    with pytest.raises(InputError, match="DATASET_NAME=x: DATASET=ucf101 has a fixed name"):
        load_dataset("ucf101", str(root), dataset_name="x")


def extract(*words: str) -> int:
    fixed = ("DATASET=folder", "EXTRACTOR=pixels", "CROPS=1", "T=2", "DEVICE=cpu", "WORKERS=1")
    return reelbank.main(["extract", *fixed, *words])


def test_extract_continues_the_stores_of_a_folder_that_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By two shards, whose first was extracted at the old place; and under a name of its own."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        encode(tmp_path / "old" / "ab"[number % 2] / f"clip_g{number:02d}_c01.avi", 6, number)
    assert extract("ROOT=old", "SHARD=1/2") == 0
    (tmp_path / "old").rename(tmp_path / "new")
    capsys.readouterr()
    assert extract("ROOT=new", "PLAN=1") == 0
    assert "4 videos, 2 already extracted, 2 to extract" in capsys.readouterr().out
    assert extract("ROOT=new", "SHARD=2/2") == 0
    assert "note: ROOT contains the videos of the data set folder-old-" in capsys.readouterr().out
    (path,) = (tmp_path / "bank" / "stores").iterdir()
    assert path.name.startswith("folder-old-") and path.suffix == ".h5"
    assert extract("ROOT=new", "DATASET_NAME=mine") == 0
    assert "4 to extract" in capsys.readouterr().out
    assert len(list((tmp_path / "bank" / "stores").glob("folder-mine-rgb-*.h5"))) == 1
