"""Stores of every layout that was ever committed (tests/golden) are opened, verified and continued;
newer layouts are refused by name."""

import runpy
import shutil
import struct
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from made_stores import check_holds, fill

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, Failure, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import SourceFile

GOLDEN = Path(__file__).parent / "golden"
EARLY = runpy.run_path(str(GOLDEN / "make_early.py"), init_globals={"__name__": "early"})
FIRST = {
    0: [[0, 1, 2, 3], [4, 5, 6, 7]],
    1: [[8, 9, 10, 11], [12, 13, 14, 15]],
}  # number of the video -> its rows


DATASET = DatasetDescription.from_json(EARLY["DATASET"])


def early_video(number: int) -> StoredVideo:
    return StoredVideo(**EARLY["early_meta"](number))


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A copy of the stores of the first commit that had any."""
    return shutil.copytree(GOLDEN / "c4c631c", tmp_path / "bank")


def test_a_store_of_the_first_layout_opens(bank: Path, capsys: pytest.CaptureFixture) -> None:
    with Store.open(bank / "stores" / "finished.h5") as store:
        assert store.finished and not store.has_views
        for number, rows in FIRST.items():
            values, times_seconds = store.features(early_video(number).id)
            assert values.tolist() == rows and times_seconds.tolist() == [0.5, 1.5]
        assert store.load_views()[3].tolist() == [0, 0, 0, 0]
        assert store.sources == [{"bytes": 1000}, {"bytes": 1001}]
        assert store.failures == {"dig/broken": Failure("no pictures", SourceFile(7))}
        assert store.recipe == EARLY["RECIPE"]
    assert reelbank.main(["verify", f"BANK={bank}"]) == 0
    assert reelbank.main(["stores", f"BANK={bank}"]) == 0
    told = capsys.readouterr().out
    assert (
        "finished.h5: undamaged" in told
        and "unfinished.h5: undamaged" in told
        and "cannot be read" not in told
    )


def test_an_unfinished_store_of_the_first_layout_is_continued_in_the_newest(bank: Path) -> None:
    path, metas = (
        bank / "stores" / "unfinished.h5",
        [early_video(number) for number in (0, 1)],
    )
    with StoreWriter(path, {**EARLY["RECIPE"], "weights": "other"}, DATASET) as writer:
        assert list(writer.done) == [metas[0].id]
        writer.add(metas[1], EARLY["early_values"](1), np.array([0.5, 1.5]))
        assert writer.finish(metas)
    assert not path.with_suffix(".parts").exists()
    with Store.open(path) as store:
        assert [store.features(meta.id)[0].tolist() for meta in metas] == list(FIRST.values())


def test_a_store_of_the_first_layout_takes_more_videos(bank: Path) -> None:
    path = bank / "stores" / "finished.h5"
    more = replace(early_video(1), id="fly/more")
    metas = [early_video(0), early_video(1), more]
    with StoreWriter(path, EARLY["RECIPE"], DATASET) as writer:
        writer.add(more, np.ones((3, 4)), np.arange(3.0), np.array([0, 0, 1]))
        assert writer.finish(metas)
    with Store.open(path) as store:
        assert store.all_rows.tolist() == [2, 2, 3] and store.rows.tolist() == [2, 2, 2]
        assert store.features(metas[1].id)[0].tolist() == FIRST[1]
        assert "dig/broken" in store.failures


@pytest.mark.parametrize(
    ("version", "told"), [(4, "reads only 1 to 3; upgrade reelbank"), (0, "reads only 1 to 3")]
)
def test_another_version_is_named_and_not_called_damaged(
    bank: Path, version: int, told: str
) -> None:
    path = bank / "stores" / "finished.h5"
    content = bytearray(path.read_bytes())
    content[8:12] = struct.pack("<I", version)
    content[480:512] = sha256(content[:480]).digest()
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as refused:
        Store.open(path)
    assert "damaged" not in str(refused.value) and "delete" not in str(refused.value)


def test_what_is_written_now_says_so_in_its_header(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "new.h5", EARLY["RECIPE"], DATASET) as writer:
        writer.finish([])
    assert struct.unpack("<I", (tmp_path / "new.h5").read_bytes()[8:12]) == (3,)


def test_a_link_to_a_store_of_several_files_reads_all_of_them(tmp_path):
    path, link = tmp_path / "made" / "made.h5", tmp_path / "links" / "other.h5"
    path.parent.mkdir()
    link.parent.mkdir()
    fill(path, range(12), (400_000,))
    fill(path, range(12, 14), (400_000,))
    link.symlink_to(path)
    with Store.open(path) as store:
        assert len(store.files_bytes) > 1
    check_holds(link, range(14), (400_000,))
    with Store.open(link) as store:
        assert store.finished and store.verify() == [] and len(store.files_bytes) > 1
    with pytest.raises(InputError, match=f"other.h5: is a link to {path}.* give the path"):
        fill(link, range(15), (400_000,))
    shutil.copytree(path.parent / "made.parts", link.parent / "other.parts")
    with pytest.raises(InputError, match="contain files of the store"):
        Store.open(link)


def test_a_link_to_a_store_of_one_file_can_be_added_to(tmp_path):
    path, link = tmp_path / "made" / "made.h5", tmp_path / "made.h5"
    path.parent.mkdir()
    fill(path, range(4))
    link.symlink_to(path)
    fill(link, range(6))
    check_holds(link, range(6))
    check_holds(path, range(4))
