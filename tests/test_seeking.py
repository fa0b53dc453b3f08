"""Frames that are found by seeking are those of reading in order, whichever are selected; where the
packets do not prove that, the file is read in order."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import testdata as real
from conftest import testdata_rows as real_rows
from drawn_videos import FRAMES, NAMES, draw

from reelbank.data.video.clips import clip_grid
from reelbank.data.video.decoders.scan import scan_file
from reelbank.data.video.frames import DecodeError, decode
from reelbank.data.video.limits import Guard
from reelbank.data.video.messages import Done, Frames, Restart, VideoInfo

SOUGHT = "pyav, seeking"
# Of each form, one file is tested in every run, and all of them in the long one.
USUAL = [
    "closed.mp4",
    "closed.mkv",
    "closed.ts",
    "open.mp4",
    "slices.ts",
    "slices.mp4",
    "unflagged.mp4",
    "open_all_flagged.mkv",
    "later.mp4",
    "variable.mkv",
    "hevc_open.mp4",
    "hevc_layers.ts",
    "vp9.webm",
    "av1.mkv",
]
IN_ORDER = [
    "closed.avi",
    "fields.mp4",
    "lossless.mp4",
    "unstamped.mp4",
    "cut.mp4",
    "open_cut.ts",
    "lost.mp4",
    "lost_start.mkv",
    "hevc_cut.mp4",
    "negative.mp4",
    "mpeg4.avi",
    "mpeg4_with_b.mp4",
    "mpeg2.mpg",
]
Pictures = dict[int, tuple[float, np.ndarray]]


def read(
    path: Path, select=np.arange, *, least: int = 1, span: tuple[float, float] | None = None
) -> tuple[Pictures, VideoInfo]:
    """The selected frames by number, each with its time, and the facts of the video. least: number
    of frames that seeking must save."""
    found: Pictures = {}
    for message in decode(path, select, span_seconds=span, least_skipped_frames=least):
        if isinstance(message, Restart):
            found = {}
        elif isinstance(message, Frames):
            for number, seconds, picture in zip(
                message.numbers.tolist(), message.seconds.tolist(), message.pixels, strict=True
            ):
                found[number] = (seconds, picture)
        elif isinstance(message, Done):
            return found, message.info
    raise AssertionError


def in_order(path: Path, select=np.arange, **options) -> tuple[Pictures, VideoInfo]:
    return read(path, select, least=1 << 40, **options)


def check_equal(found: Pictures, right: Pictures, numbers: list[int], case: object) -> None:
    assert list(found) == numbers, case
    for number in numbers:
        assert found[number][0] == right[number][0], (case, number)
        assert np.array_equal(found[number][1], right[number][1]), (case, number)


def drawn_sets(frames: int, count: int, seed: int) -> list[np.ndarray]:
    """Sets of frame numbers as extraction selects them, and drawn ones, ascending."""
    rng = np.random.default_rng(seed)
    sets = [clip_grid(frames, steps=5).ravel(), np.array([frames - 1]), np.array([frames * 2 // 5])]
    while len(sets) < count:
        size = int(rng.choice([1, 1, 2, 5, 12]))
        if rng.random() < 0.3:  # consecutive frames, as of a stack
            first = int(rng.integers(frames))
            sets.append(np.arange(first, min(frames, first + size)))
        else:
            sets.append(rng.integers(0, frames, size))
    return [np.unique(numbers) for numbers in sets[:count]]


def check_file(path: Path, *, sets: int, seed: int = 0) -> set[str]:
    """Compare selections and spans with reading in order. Returns the decoders that were used."""
    right, info = in_order(path)
    used = set()
    for numbers in drawn_sets(info.frames, sets, seed):
        found, sought = read(path, lambda frames, numbers=numbers: numbers[numbers < frames])
        check_equal(found, right, numbers.tolist(), (path.name, numbers))
        assert replace(sought, decoder="pyav") == info, path.name
        used.add(sought.decoder)
    rng = np.random.default_rng(seed)
    for first, end in np.sort(rng.integers(0, info.frames, (sets // 4, 2)), axis=1).tolist():
        if right[first][0] >= right[end][0]:
            continue
        span = (right[first][0], right[end][0])
        inside, whole = in_order(path, span=span)
        found, sought = read(path, span=span)
        check_equal(found, inside, list(inside), (path.name, span))
        assert replace(sought, decoder="pyav") == whole, (path.name, span)
    return used


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.mark.parametrize("name", USUAL)
def test_frames_found_by_seeking_are_those_of_reading_in_order(folder: Path, name: str) -> None:
    assert check_file(draw(folder / name), sets=8) == {SOUGHT}


@pytest.mark.parametrize("name", IN_ORDER)
def test_files_that_do_not_prove_it_are_read_in_order(folder: Path, name: str) -> None:
    assert check_file(draw(folder / name), sets=2) == {"pyav"}


@pytest.mark.long
def test_a_thousand_drawn_sets_of_every_kind_of_file(folder: Path) -> None:
    """Where a file is sought, it is one of the codecs and containers with a rule."""
    for name in NAMES:
        if name.startswith("hevc_lost"):
            continue  # its frames have other numbers in order, because some are lost there
        used = check_file(draw(folder / name), sets=12, seed=1)
        may_be_sought = not name.startswith(("mpeg", "vp8", "lost")) and name[-3:] not in (
            "avi",
            "flv",
        )
        assert used <= ({"pyav", SOUGHT} if may_be_sought else {"pyav"}), name


@pytest.mark.long
def test_drawn_sets_of_the_odd_files_and_the_real_clips() -> None:
    paths = [real("odd", row["file"]) for row in real_rows("odd.csv") if row["frames_pyav"]]
    # Clips of UCF-101 are AVI files, which are always read in order: some are enough.
    clips = [real(*row["file"].split("/")) for row in real_rows("clips.csv")]
    paths += [path for path in clips if "ucf101" not in path.parts]
    paths += [path for path in clips if "ucf101" in path.parts][::8]
    paths += sorted(real("clips", "other").glob("*.m[pk]*"))
    paths += sorted(real("faults", "video").iterdir())
    sought = 0
    for path in paths:
        sought += SOUGHT in check_file(path, sets=4 if "ucf101" not in path.parts else 2)
    assert len(paths) > 100 and sought > 35


@pytest.mark.parametrize("name", ["slices.mp4", "closed.mp4", "hevc_open.mp4"])
def test_tables_of_an_mp4_file_prove_the_same_as_its_packets(folder: Path, name: str) -> None:
    path = draw(folder / name)
    listed, read_one = (scan_file(path, Guard(), by_tables=each).index for each in (True, False))
    assert listed is not None and listed.is_listed
    assert read_one is not None and not read_one.is_listed
    for field in ("display", "packet_of", "is_disposable", "starts"):
        assert np.array_equal(getattr(listed, field), getattr(read_one, field)), field


@pytest.mark.parametrize("fault", ["second picture", "length", "first length", "other kind"])
def test_slices_that_are_not_of_one_picture_prove_nothing(folder: Path, fault: str) -> None:
    path = draw(folder / "slices.mp4")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][9]
        content, position = bytearray(bytes(packet)), packet.pos
    second = 4 + int.from_bytes(content[:4])  # where the length of the second slice stands
    if fault == "second picture":
        content[second + 5] |= 0x80  # its first macroblock becomes that of a picture
    elif fault == "length":
        content[second + 3] ^= 1
    elif fault == "first length":
        content[1] ^= 1  # beyond the end of the packet
    else:
        content[second + 4] ^= 0x60  # only one of the slices is needed by other pictures
    data = bytearray(path.read_bytes())
    assert position is not None
    data[position : position + len(content)] = content
    damaged = folder / f"slices, {fault}.mp4"
    damaged.write_bytes(data)
    assert scan_file(damaged, Guard()).index is None


def test_a_long_video_is_sought_and_a_short_one_is_not(folder: Path) -> None:
    """By default, at least 250 frames must be saved."""
    path = draw(folder / "closed.mp4", 400)
    sigma = clip_grid(400, steps=5).ravel()
    right, _ = in_order(path, lambda _: sigma)
    for selected, decoder in ((sigma, SOUGHT), (np.arange(200), "pyav")):
        messages = list(decode(path, lambda _, selected=selected: selected))
        assert messages[-1].info.decoder == decoder
    found, _ = read(path, lambda _: sigma, least=250)
    check_equal(found, right, sigma.tolist(), path.name)


def test_only_what_is_needed_is_decoded(folder: Path) -> None:
    """`alive` is called for each packet that is read and for each frame that is decoded."""
    path = draw(folder / "closed.mkv", 400)

    def calls(**options) -> int:
        counted: list[int] = []
        for _ in decode(path, alive=lambda: counted.append(1), **options):
            pass
        return len(counted) - 401  # those of the scan

    span = {"select": np.arange, "span_seconds": (15.6, 15.8)}
    assert calls(**span, least_skipped_frames=1) < 60
    assert calls(**span, least_skipped_frames=1000) > 390


def hole(path: Path, target: Path, frame: int) -> Path:
    """A copy in which the data of a frame, numbered in order of decoding, are overwritten."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position + 10 : position + size] = bytes([0x55]) * (size - 10)
    target.write_bytes(data)
    return target


def test_damage_of_the_selected_frames_is_reported_as_in_order(folder: Path) -> None:
    path = hole(draw(folder / "closed.mp4"), folder / "damaged.mp4", 60)
    numbers = np.arange(62, 66)
    right, info = in_order(path, lambda _: numbers)
    assert info.damaged_frames
    found, same = read(path, lambda _: numbers)
    assert same == info
    check_equal(found, right, numbers.tolist(), path.name)


def test_damage_between_the_selected_frames_does_not_change_them(folder: Path) -> None:
    """It is not noticed: these frames are not decoded."""
    whole = draw(folder / "closed.mp4")
    path = hole(whole, folder / "damaged.mp4", 60)
    numbers = np.array([0, 20, 100, FRAMES - 1])
    right, _ = in_order(whole, lambda _: numbers)
    found, info = read(path, lambda _: numbers)
    assert (info.decoder, info.damage, info.frames) == (SOUGHT, "", FRAMES)
    check_equal(found, right, numbers.tolist(), path.name)


def test_a_file_that_gives_fewer_frames_than_its_tables_claim(folder: Path) -> None:
    """Without the pictures that others need, HEVC pictures are not displayed."""
    found, info = in_order(draw(folder / "hevc_lost.mp4"))
    assert list(found) == list(range(info.frames)) and info.frames < FRAMES - 2
    sought, _ = read(folder / "hevc_lost.mp4", lambda _: np.array([3, 20]))
    check_equal(sought, found, [3, 20], "before the loss")


def test_a_truncated_file_is_refused_before_it_is_sought(folder: Path) -> None:
    data = draw(folder / "closed.mkv").read_bytes()
    path = folder / "truncated.mkv"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match="^truncated: "):
        read(path, lambda _: np.array([3]))
