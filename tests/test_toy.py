"""The toy data set: its fixed properties, what is equal within its pairs, and killed or outdated
drawings."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from reelbank.data.datasets import toy, toy_drawing
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.errors import InputError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of every class, drawn once."""
    folder = tmp_path_factory.mktemp("toy")
    for video_id in chosen(["g01_c01", "g06_c02"]):
        (folder / video_id).parent.mkdir(exist_ok=True)
        toy._draw_video(folder, video_id, seed=0)
    return folder


def chosen(endings: list[str]) -> list[str]:
    return [video_id for video_id in toy.video_ids() if video_id[-7:] in endings]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pair(family: str, group: int = 3, clip: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Clean frames (T, H, W, 3) of a family's two classes, float."""
    one, two = (
        toy_drawing.render(label, group, clip, noise=False)[0].astype(float)
        for label in toy.COARSE[family]
    )
    return one, two


def fill(folder: Path) -> None:
    """Stand-ins for the drawn files: only their names matter."""
    for video_id in toy.video_ids():
        (folder / video_id).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{video_id}.mp4").write_bytes(b"")


def test_classes_groups_and_parts_are_fixed(tmp_path: Path) -> None:
    toy._claim(tmp_path, manifest(0))
    fill(tmp_path)
    dataset = load_dataset("toy", str(tmp_path))
    assert dataset.classes == (
        "look_stripes", "look_checks", "motion_up", "motion_down", "sound_low", "sound_high",
        "order_light_dark", "order_dark_light", "relation_alike", "relation_different",
    )  # fmt: skip
    assert list(dataset.coarse) == ["look", "motion", "sound", "order", "relation"]
    assert all(
        name.startswith(family + "_") for family, names in dataset.coarse.items() for name in names
    )
    assert (dataset.name, dataset.splits, len(dataset.videos)) == ("toy", ("1", "2", "3"), 360)
    assert [video.id for video in dataset.videos] == sorted(video.id for video in dataset.videos)
    for split in range(3):
        by_group = defaultdict(set)
        for video in dataset.videos:
            by_group[video.group].add(video.parts[split])
        assert all(len(parts) == 1 for parts in by_group.values())
        counts = Counter((video.label, video.parts[split]) for video in dataset.videos)
        assert all(
            (counts[name, "train"], counts[name, "test"]) == (24, 12) for name in dataset.classes
        )
    assert all(video.parts.count("test") == 1 for video in dataset.videos)


def manifest(seed: int) -> dict:
    return {"drawn_by": "reelbank toy", "version": toy.VERSION, "seed": seed}


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    for video_id in chosen(["g06_c02"])[::3]:
        (tmp_path / video_id).parent.mkdir()
        for seed in (0, 1):
            toy._draw_video(tmp_path, video_id, seed)
            same = digest(tmp_path / f"{video_id}.mp4") == digest(small / f"{video_id}.mp4")
            assert same == (seed == 0), video_id


def test_files_decode_with_picture_and_sound(small: Path) -> None:
    for path in small.rglob("*.mp4"):
        label, group, clip = toy._parse(path.relative_to(small).with_suffix("").as_posix())
        frames, sound = toy_drawing.render(label, group, clip)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate, stream.frames) == (
                96,
                96,
                25,
                len(frames),
            )
            decoded = np.stack(
                [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            )
        assert decoded.shape == frames.shape
        assert 48 <= len(frames) <= 56
        assert (
            abs(decoded.astype(float) - frames).mean() < 8
        )  # grey levels; chroma at half size costs most of it
        with av.open(str(path)) as container:
            assert (container.streams.audio[0].rate, container.streams.audio[0].channels) == (
                22_050,
                1,
            )
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])[
                : len(sound)
            ]
        assert len(sound) == round(len(frames) / 25 * 22_050)
        assert np.corrcoef(heard, sound[: len(heard)])[0, 1] > 0.98, path.name


def test_pairs_that_run_backwards_have_the_same_frames() -> None:
    for family in ("motion", "order"):
        one, two = pair(family)
        np.testing.assert_array_equal(one, two[::-1])
        assert abs(one - two).mean() > 1  # yet not the same video


def test_sound_pair_shows_the_same_pictures() -> None:
    one, two = pair("sound")
    np.testing.assert_array_equal(one, two)


def test_only_the_sound_family_differs_in_sound() -> None:
    for family, names in toy.COARSE.items():
        low, high = (toy_drawing.render(name, 2, 2, noise=False)[1] for name in names)
        if family != "sound":
            np.testing.assert_array_equal(low, high)
            continue
        peaks_hz = []
        for sound in (low, high):
            spectrum = abs(np.fft.rfft(sound * np.hanning(len(sound))))
            frequencies = np.fft.rfftfreq(len(sound), 1 / toy_drawing.RATE_HZ)
            peaks_hz.append(frequencies[np.argmax(np.where(frequencies > 200, spectrum, 0))])
        assert 220 <= peaks_hz[0] <= 440
        assert 880 <= peaks_hz[1] <= 1760
        assert peaks_hz[1] / peaks_hz[0] == pytest.approx(4, rel=0.01)
        assert np.std(low) == pytest.approx(np.std(high), rel=0.02)


def test_look_pair_differs_in_texture_not_in_brightness() -> None:
    ratios = []
    for group in range(1, 7):
        one, two = pair("look", group)
        ratios.append(one.mean() / two.mean())
        assert abs(one - two).mean() > 8
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)
    assert min(ratios) < 1 < max(ratios)


def test_relation_pair_shows_the_same_objects_otherwise_paired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for group in (1, 2, 3, 4):
        shown = {}
        for label in toy.COARSE["relation"]:
            drawn: list[tuple[int, int]] = []  # (first frame, kind)
            paint = toy_drawing._Stage.paint

            def note(stage, distance_px, colour, when=slice(None), drawn=drawn, paint=paint):
                kinds = [
                    int(
                        np.argmin(
                            [
                                abs(colour / colour.sum() - k / k.sum()).sum()
                                for _, k in toy_drawing._KINDS
                            ]
                        )
                    )
                ]
                drawn.append((when.start, kinds[0]))
                paint(stage, distance_px, colour, when)

            monkeypatch.setattr(toy_drawing._Stage, "paint", note)
            toy_drawing.render(label, group, 1)
            monkeypatch.undo()
            shown[label] = drawn
        alike, different = shown["relation_alike"], shown["relation_different"]
        assert (
            Counter(kind for _, kind in alike)
            == Counter(kind for _, kind in different)
            == {0: 4, 1: 4, 2: 4}
        )
        assert [start for start, _ in alike] == [start for start, _ in different]
        for objects, equal in ((alike, True), (different, False)):
            assert all((objects[i][1] == objects[i + 1][1]) == equal for i in range(0, 12, 2))


def test_paths_do_not_tell_forwards_from_backwards() -> None:
    """Mean distance from the middle at the beginning and at the end of a drift is the same."""
    ends = []
    for seed in range(4000):
        y, x = toy_drawing._drift(np.random.default_rng(seed), 50, 24)
        ends.append([np.hypot(y[0] - 48, x[0] - 48), np.hypot(y[-1] - 48, x[-1] - 48)])
    gap = np.diff(ends, axis=1)
    assert abs(gap.mean()) < 3 * gap.std() / np.sqrt(len(gap))


def test_a_killed_drawing_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "import sys; from pathlib import Path; from reelbank.data.datasets import toy; "
    script += "toy.draw(Path(sys.argv[1]), 0, workers=1)"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*/v_*.mp4"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*/v_*.mp4")}
    assert 3 <= len(done) < 360
    for path in done:  # every file that has its name is whole
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == container.streams.video[0].frames
    for video_id in toy.video_ids()[:-2]:  # stand-ins for all but two of the rest, to be quick
        path = tmp_path / f"{video_id}.mp4"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(b"")
    assert toy.draw(tmp_path, 0, workers=1) == 2
    assert capsys.readouterr().err == ""  # a bar is only for a terminal
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert toy.draw(tmp_path, 0, workers=1) == 0
    assert all(
        (tmp_path / f"{video_id}.mp4").stat().st_size > 1000 for video_id in toy.video_ids()[-2:]
    )


def test_another_seed_or_version_is_not_mixed_in(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    with pytest.raises(InputError, match="must be new, empty, or made by DATASET=toy"):
        toy._claim(tmp_path / "a", manifest(0))
    assert (tmp_path / "a" / f"{toy.video_ids()[0]}.mp4").exists()
    (tmp_path / "b").mkdir()
    toy._claim(tmp_path / "b", manifest(0))
    fill(tmp_path / "b")
    toy._claim(tmp_path / "b", manifest(0))
    assert len(list((tmp_path / "b").rglob("*.mp4"))) == 360
    toy._claim(tmp_path / "b", manifest(0) | {"version": toy.VERSION + 1})
    assert not list((tmp_path / "b").rglob("*.mp4"))


def test_seeds_have_folders_and_names_of_their_own(tmp_path: Path) -> None:
    for seed, name in ((0, "toy"), (7, "toy-seed7")):
        folder = tmp_path / name
        folder.mkdir()
        toy._claim(folder, manifest(seed))
        fill(folder)
        dataset = load_dataset("toy", seed=seed, bank=str(tmp_path))
        assert (dataset.name, dataset.root) == (name, folder)
    with pytest.raises(InputError, match="cannot write the toy data set"):
        load_dataset("toy", str(tmp_path / "toy" / "toy.json"))
