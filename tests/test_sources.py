"""Which videos are unchanged since their features were made: size, modification time, digest."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from test_golden import BANK_86, MADE
from tiny_networks import POOLED

import reelbank
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import Digests, SourceFile, fingerprint, look

WORDS = [
    "extract",
    "DATASET=folder",
    "ROOT=videos",
    "EXTRACTOR=tiny.py:build",
    "CROPS=1",
    "T=2",
    "RESIZE=32",
    "SIZE=32",
]
pytestmark = pytest.mark.usefixtures("no_waiting")
Counted = Callable[..., tuple[int, int]]


def film(path: Path, grey: int, frames: int = 4) -> None:
    """A video of uncompressed pictures: equally long for every grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", 25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr24"
        for _ in range(frames):
            picture = np.full((32, 48, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())


def image(path: Path, grey: int) -> None:
    """A BMP image: equally long for every grey."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 32), (grey, grey, grey)).save(path)


@pytest.fixture
def counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Counted:
    """Extracts the folder `videos` and gives how many videos were there already and how many had to
    be extracted."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(POOLED)
    for number in range(3):
        film(Path(f"videos/clip{number}.avi"), 40 * number)

    def run(*more: str, code: int = 0) -> tuple[int, int]:
        capsys.readouterr()
        assert reelbank.main([*WORDS, "DEVICE=cpu", *more]) == code
        line = next(
            line for line in capsys.readouterr().out.splitlines() if " already extracted" in line
        )
        words = line.partition(" videos, ")[2].split()
        return int(words[0]), int(words[3])

    return run


def values(video_id: str) -> list:
    (path,) = Path("bank/stores").glob("*.h5")
    with Store.open(path) as store:
        return store.features(video_id)[0].tolist()


def test_a_video_replaced_by_another_of_its_size_is_extracted_again(counted: Counted) -> None:
    assert counted() == (0, 3)
    before, size = values("clip1"), Path("videos/clip1.avi").stat().st_size
    film(Path("videos/clip1.avi"), 200)
    os.utime("videos/clip1.avi", ns=(1, 1))  # also by an older one
    assert Path("videos/clip1.avi").stat().st_size == size
    assert counted("PLAN=1") == (2, 1)
    assert counted() == (2, 1)
    assert values("clip1") != before
    assert counted() == (3, 0)


def test_a_new_timestamp_costs_one_reading_and_no_extraction(counted: Counted) -> None:
    assert counted() == (0, 3)
    (path,) = Path("bank/stores").glob("*.h5")
    stored = path.read_bytes()
    for copy in Path("videos").iterdir():
        shutil.copyfile(copy, "copy")
        Path("copy").replace(copy)
        os.utime(copy, ns=(10**18, 10**18))
    assert counted("PLAN=1") == (3, 0)
    assert counted() == (3, 0)
    assert path.read_bytes() == stored
    # Known now: a file of this size and time is not read again, so that what only a reader could
    # see goes unseen.
    film(Path("videos/clip1.avi"), 200)
    os.utime("videos/clip1.avi", ns=(10**18, 10**18))
    assert counted() == (3, 0)
    Path("bank/digests.json").write_text("no JSON")  # only saves reading
    assert counted() == (2, 1)


def test_what_stands_in_the_place_of_the_kept_digests_stops_nothing(counted: Counted) -> None:
    assert counted() == (0, 3)
    os.utime("videos/clip1.avi", ns=(1, 1))
    kept = Path("bank/digests.json")
    kept.mkdir()
    assert counted() == (3, 0)
    kept.rmdir()
    os.mkfifo(kept)
    assert counted() == (3, 0)
    assert kept.is_file()


def test_equal_size_and_time_mean_unchanged_without_reading(counted: Counted) -> None:
    assert counted() == (0, 3)
    status = Path("videos/clip1.avi").stat()
    film(Path("videos/clip1.avi"), 200)
    os.utime("videos/clip1.avi", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counted() == (3, 0)
    assert not Path("bank/digests.json").exists()


def test_a_bad_file_replaced_by_a_video_of_its_size_is_tried_again(counted: Counted) -> None:
    good = Path("videos/clip1.avi").read_bytes()
    Path("videos/clip1.avi").write_bytes(b"no film\n" * (len(good) // 8) + b"." * (len(good) % 8))
    assert counted(code=1) == (0, 3)
    os.utime("videos/clip1.avi", ns=(1, 1))
    assert counted(code=1) == (3, 0)  # the same text: nothing new
    Path("videos/clip1.avi").write_bytes(good)
    assert counted() == (2, 1)
    assert counted() == (3, 0)


def test_a_video_replaced_by_a_bad_file_of_its_size_is_remembered(counted: Counted) -> None:
    assert counted() == (0, 3)
    size = Path("videos/clip1.avi").stat().st_size
    Path("videos/clip1.avi").write_bytes(b"." * size)
    assert counted(code=1) == (2, 1)
    assert counted(code=1) == (3, 0)  # failed, as its file is now
    film(Path("videos/clip1.avi"), 40)
    assert counted(code=1) == (3, 0)  # the first file is back: its features are there


def test_every_node_has_the_features_of_the_new_file(counted: Counted) -> None:
    assert counted("NODE=relu") == (0, 3)
    film(Path("videos/clip1.avi"), 200)
    assert counted("NODE=relu conv") == (0, 3)
    assert counted("NODE=relu conv") == (3, 0)
    held = []
    for path in Path("bank/stores").glob("*.h5"):
        with Store.open(path) as store:
            held.append(store.sources[store.video_ids.index("clip1")])
    assert held[0] == held[1]


def test_folders_of_images(counted: Counted) -> None:
    for number in range(1, 6):
        image(Path(f"videos/clip3/img_{number:05d}.bmp"), 20 * number)
    assert counted() == (0, 4)
    for path in Path("videos/clip3").iterdir():
        os.utime(path, ns=(10**18, 10**18))
    assert counted() == (4, 0)
    image(Path("videos/clip3/img_00003.bmp"), 250)
    assert counted() == (3, 1)
    image(Path("videos/clip3/img_00006.bmp"), 250)
    assert counted() == (3, 1)


def test_digest_of_the_whole_file_on_request(counted: Counted) -> None:
    film(Path("videos/long.avi"), 90, frames=80)
    assert Path("videos/long.avi").stat().st_size > 300_000
    assert counted() == (0, 4)
    change(
        Path("videos/long.avi"), 100_000
    )  # neither in the beginning, nor the middle, nor the end
    assert counted() == (4, 0)
    shutil.rmtree("bank")
    assert counted("DIGEST=whole") == (0, 4)
    change(Path("videos/long.avi"), 100_000)
    assert counted() == (
        3,
        1,
    )  # whatever is asked for now: the store's digest is compared with one of its kind


def change(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(place, path.stat().st_mtime_ns + 10**9))


@pytest.mark.parametrize(
    "place", [0, 65535, 200_000 - 32768, 200_000 + 32767, 400_000 - 65536, 399_999]
)
def test_beginning_middle_and_end_are_digested(tmp_path: Path, place: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(400_000))
    then = fingerprint(path, "sampled")
    change(path, place)
    now = look(path)
    assert now.bytes == then.bytes == 400_000 and now.modified != then.modified
    assert not Digests(tmp_path).is_same(path, now, then)
    change(path, place)
    assert Digests(tmp_path).is_same(path, look(path), then)


def test_where_a_store_has_no_digest_the_size_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    bank = shutil.copytree(BANK_86, tmp_path / "bank")
    clip = bank / "clips" / "Biking" / "v_Biking_g01_c01.mp4"
    words = ["extract", "DATASET=ucf101", "DEVICE=cpu", *MADE["EXTRACTIONS"]["rgb"].split()]
    words += [f"ROOT={bank / 'clips'}", f"BANK={bank}"]
    change(clip, clip.stat().st_size - 1)
    assert reelbank.main(words) == 0
    assert "6 already extracted, 0 to extract" in capsys.readouterr().out
    clip.write_bytes(clip.read_bytes() + b"\0")
    assert reelbank.main([*words, "PLAN=1"]) == 0
    assert "5 already extracted, 1 to extract" in capsys.readouterr().out


def test_what_a_store_says_of_a_source_may_be_anything(tmp_path: Path) -> None:
    assert SourceFile.of({"bytes": 3, "digest": 5, "modified": ["x"]}) == SourceFile(3)
    (tmp_path / "file").write_bytes(b"abc")
    strange = SourceFile(3, "0", "md5:00")
    assert not Digests(tmp_path).is_same(tmp_path / "file", look(tmp_path / "file"), strange)
    assert look(tmp_path / "none") == SourceFile(-1) == fingerprint(tmp_path / "none", "whole")


def test_the_digest_is_kept_with_features_and_failures_through_a_merge(tmp_path: Path) -> None:
    dataset = DatasetDescription(name="made", classes=[], splits=[], coarse={})
    metas = [StoredVideo(id=name, label="", group="", parts=[]) for name in "ab"]
    files = {name: SourceFile(7, "1", f"whole:{name}") for name in "ab"}
    with StoreWriter(tmp_path / "made.h5", {}, dataset) as writer:
        writer.add(replace(metas[0], source=files["a"].facts()), np.ones((1, 2)), np.zeros(1))
        writer.fail(replace(metas[1], source=files["b"].facts()), "no film")
        assert writer.finish(metas)
        assert writer.sources == {"a": files["a"]}
        # A failure of the same file does not remove its features; a failure of another file of the
        # same size is stored in addition to them.
        writer.fail(replace(metas[0], source={**files["a"].facts(), "modified": "2"}), "no film")
        writer.flush()
        assert set(writer.failed) == {"b"}
        writer.fail(
            replace(metas[0], source={**files["a"].facts(), "digest": "whole:c"}), "no film"
        )
        assert writer.finish(metas)
    with Store.open(tmp_path / "made.h5") as store:
        assert store.sources == [files["a"].facts()] and store.finished
        assert {name: failure.source.digest for name, failure in store.failures.items()} == {
            "a": "whole:c",
            "b": "whole:b",
        }


def test_a_video_whose_features_are_not_finite_fails_by_name_and_the_others_are_stored(
    counted: Counted,
) -> None:
    root = "(0.9 - x.mean((1, 2, 3))).sqrt()[:, None]"  # NaN for white pictures, whose mean is 1
    Path("tiny.py").write_text(POOLED.replace("return ", f"return {root} + ", 1))
    film(Path("videos/clip1.avi"), 255)
    assert counted(code=1) == (0, 3)
    (path,) = Path("bank/stores").glob("*.h5")
    with Store.open(path) as store:
        assert sorted(store.video_ids) == ["clip0", "clip2"]
        assert np.isfinite(store.load()[0]).all() and store.verify() == []
        reason = str(store.failures["clip1"])
    assert "computed NaN" in reason and "tiny" in reason and "PRECISION=fp32" in reason


def test_a_pipe_among_the_videos_is_not_waited_at(counted: Counted) -> None:
    os.mkfifo("videos/pipe.avi")
    Path("videos/zero.avi").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        then = SourceFile(0, "1", "whole:0")
        assert fingerprint(Path(f"videos/{name}.avi"), "whole").digest == ""
        assert not Digests("bank").is_same(
            Path(f"videos/{name}.avi"), look(Path(f"videos/{name}.avi")), then
        )
    assert counted("TIMEOUT=5", code=1) == (0, 5)
    (path,) = Path("bank/stores").glob("*.h5")
    with Store.open(path) as store:
        assert sorted(store.video_ids) == ["clip0", "clip1", "clip2"] and set(store.failures) == {
            "pipe",
            "zero",
        }
