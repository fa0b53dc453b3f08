"""Improved dense trajectories: a known displacement is measured, camera motion is removed, and
histograms have the documented meaning."""

import math
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from conftest import testdata, writable_copy

from reelbank.data.datasets.registry import load_dataset
from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.store.reader import Store
from reelbank.data.video.frames import decode
from reelbank.data.video.messages import Frames
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.in_decoders.trajectories import NO_TRAJECTORY
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import resize
from reelbank.extract.planned import planned_stores
from reelbank.extract.run import extract
from reelbank.extract.trajectories import idt
from reelbank.extract.trajectories.rows import Reservoir, VideoTrajectories


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth noise from 0 to 255, float32."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255


GROUND = texture(320, 400, 0)


def moved_by(picture: np.ndarray, x: float, y: float, size: tuple[int, int]) -> np.ndarray:
    """The picture's part from (40, 40) on, moved by (x, y) pixels: uint8 of `size` (width,
    height)."""
    matrix = np.array([[1, 0, x - 40], [0, 1, y - 40]], np.float64)
    return (
        cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )


def followed(frames: list[np.ndarray]) -> list[idt.Paths]:
    trajectories = idt.Trajectories()
    return [paths for frame in frames for paths in trajectories.add(frame)]


@pytest.mark.parametrize("step", [(2.0, 1.0), (-1.5, 2.5), (2.3, -0.7)])
def test_a_known_displacement_is_found_to_a_fifth_of_a_pixel(
    step: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        idt, "camera_motion", lambda *_: np.eye(3)
    )  # else the whole picture's motion is the camera's
    frames = [moved_by(GROUND, step[0] * k, step[1] * k, (160, 120)) for k in range(17)]
    found = followed(frames)
    steps = np.concatenate([np.diff(paths.points, axis=1) for paths in found])  # (n, 15, 2)
    assert len(steps) > 300
    assert np.abs(steps.mean(axis=(0, 1)) - step).max() < 0.05
    assert np.quantile(np.abs(steps.mean(axis=1) - step).max(axis=1), 0.95) < 0.2
    assert found[0].middle == 7 and {paths.middle for paths in found} <= {
        7,
        8,
    }  # begun in frames 0 and 1


def test_what_moves_with_the_camera_is_dropped_and_an_object_keeps_its_own_motion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ground goes 3 px to the left and turns a little; a square goes 2 px down over it."""
    frames = []
    thing = texture(60, 60, 1)
    for k in range(17):
        turn = cv2.getRotationMatrix2D((120, 90), 0.1 * k, 1.0)
        turn[:, 2] += (-3.0 * k - 20, -20)
        ground = cv2.warpAffine(
            GROUND, turn, (240, 180), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        ground[40 + 2 * k : 100 + 2 * k, 90:150] = thing
        frames.append(ground.clip(0, 255).astype(np.uint8))
    found = followed(frames)
    middles = np.concatenate([paths.points[:, 7] for paths in found])  # (n, 2)
    own = np.concatenate([paths.moved.mean(axis=1) for paths in found])
    far = (np.abs(middles[:, 0] - 120) >= 60) | (
        np.abs(middles[:, 1] - 85) >= 70
    )  # from the thing and the edges it uncovers
    monkeypatch.setattr(idt, "camera_motion", lambda *_: np.eye(3))
    before = np.concatenate([paths.points[:, 7] for paths in followed(frames)])
    far_before = (np.abs(before[:, 0] - 120) >= 60) | (np.abs(before[:, 1] - 85) >= 70)
    assert far_before.sum() > 500 and far.sum() == 0
    inner = (np.abs(middles[:, 0] - 120) < 18) & (np.abs(middles[:, 1] - 85) < 18)
    assert inner.sum() > 20
    camera = np.array([-3.0, 0.0])
    assert (
        np.abs(np.median(own[inner], axis=0) - (np.array([0.0, 2.0]) - camera)).max() < 0.35
    )  # it turns, too


def test_the_camera_is_known_exactly_where_flow_is() -> None:
    """own_motion of a flow that is a homography is nothing, and of the identity the flow itself."""
    camera = np.array([[1.01, 0.02, 3.0], [-0.01, 0.99, -2.0], [1e-5, 2e-5, 1.0]])
    x, y = np.meshgrid(np.arange(50.0), np.arange(40.0))
    went = np.tensordot(camera, np.stack([x, y, np.ones_like(x)]), 1)
    flow = np.dstack([went[0] / went[2] - x, went[1] / went[2] - y]).astype(np.float32)
    assert np.abs(idt.own_motion(flow, camera)).max() < 1e-3
    assert idt.own_motion(flow, np.eye(3)) is flow


def test_a_still_video_has_no_trajectories() -> None:
    assert followed([moved_by(GROUND, 0, 0, (96, 80))] * 17) == []


def test_descriptors_have_the_papers_sizes_and_are_the_same_again() -> None:
    frames = [moved_by(GROUND, 0, 0, (120, 100)) for _ in range(17)]
    for k, frame in enumerate(frames):
        frame[30:70, 20 + 2 * k : 60 + 2 * k] = texture(40, 40, 1)
    one, again = followed(frames), followed(frames)
    assert idt.SIZE == 426 and list(idt.BLOCKS.values()) == [30, 96, 108, 192]
    descriptors = np.concatenate([paths.descriptors for paths in one])
    assert len(descriptors) and descriptors.shape[1] == 426 and descriptors.dtype == np.float32
    assert np.isfinite(descriptors.astype(np.float16)).all()
    assert all(
        np.array_equal(a.descriptors, b.descriptors) for a, b in zip(one, again, strict=True)
    )
    shape = descriptors[:, :30].reshape(-1, 15, 2)
    np.testing.assert_allclose(
        np.linalg.norm(shape, axis=2).sum(axis=1), 1, atol=1e-4
    )  # over the path's length


def test_a_patch_is_counted_as_by_hand() -> None:
    """HOG of one point against loops over its pixels."""
    picture = moved_by(GROUND, 0, 0, (60, 50))
    point = np.array([[30.0, 24.0]], np.float32)
    found = idt.describe(picture, np.zeros((50, 60, 2), np.float32), point)[0]
    counted = np.zeros((2, 2, 8))
    values = picture.astype(np.float64)
    for y in range(8, 40):
        for x in range(14, 46):
            dx, dy = values[y, x + 1] - values[y, x - 1], values[y + 1, x] - values[y - 1, x]
            place = math.atan2(dy, dx) % (2 * math.pi) / (2 * math.pi / 8)
            low = int(place)
            cell = counted[(x - 14) // 16, (y - 8) // 16]
            cell[low % 8] += math.hypot(dx, dy) * (1 - (place - low))
            cell[(low + 1) % 8] += math.hypot(dx, dy) * (place - low)
    expected = np.sqrt(counted / counted.sum()).ravel()
    np.testing.assert_allclose(found[:32], expected, atol=2e-3)
    hof = found[32:68].reshape(4, 9)
    np.testing.assert_allclose(
        hof[:, 8], 0.5, atol=1e-6
    )  # nothing moves: all of it in the bin of the still
    assert hof[:, :8].max() == 0 and found[68:].max() == 0


def test_static_erratic_and_jumping_paths_are_dropped() -> None:
    line = np.column_stack([np.arange(16.0), np.zeros(16)])
    jump = line.copy()
    jump[8:, 0] += 60
    wild = line * 15
    paths = np.stack([line, line * 0.1, wild, jump])
    assert idt.is_valid(paths).tolist() == [True, False, False, False]
    own = np.zeros((2, 15, 2))
    own[1, 3] = (0.8, 0.7)
    assert idt.moves(own).tolist() == [False, True]


def reservoir(pieces: list[np.ndarray], most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    kept = Reservoir(most, seed)
    for number, rows in enumerate(pieces):
        kept.add(rows, number)
    return kept.kept()


def test_a_reservoir_keeps_all_rows_or_some_each_as_likely() -> None:
    rows = np.arange(1000, dtype=np.float32)[:, None]
    pieces = np.split(rows, [3, 40, 500, 501])
    all_rows, numbers = reservoir(pieces, 1000)
    assert (
        np.array_equal(all_rows, rows)
        and numbers.tolist() == np.repeat(range(5), [3, 37, 460, 1, 499]).tolist()
    )
    some, numbers = reservoir(pieces, 50)
    assert len(some) == 50 and (np.diff(some[:, 0]) > 0).all() and (np.diff(numbers) >= 0).all()
    again, _ = reservoir([rows], 50)
    assert np.array_equal(some, again)  # in whatever pieces they come
    assert not np.array_equal(some, reservoir(pieces, 50, seed=1)[0])
    counts = np.zeros(20)
    for seed in range(2000):
        counts[reservoir(np.split(rows[:20], 4), 5, seed)[0][:, 0].astype(int)] += 1
    np.testing.assert_allclose(counts / 2000, 0.25, atol=0.05)  # five deviations
    assert reservoir([], 5)[1].tolist() == []


def test_rows_are_the_trajectories_and_all_pictures_have_the_first_ones_size() -> None:
    frames = [
        cv2.cvtColor(moved_by(GROUND, 0, 0, (120, 100)), cv2.COLOR_GRAY2RGB) for _ in range(18)
    ]
    for k, frame in enumerate(frames):
        frame[30:70, 20 + 2 * k : 60 + 2 * k] = texture(40, 40, 1)[..., None]
    expected = followed([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    video = VideoTrajectories(10_000, 0)
    for frame in frames:
        video.see(frame)
    descriptors, middles = video.rows()
    np.testing.assert_array_equal(
        descriptors, np.concatenate([paths.descriptors for paths in expected])
    )
    assert middles.tolist() == [paths.middle for paths in expected for _ in paths.points]
    changing = VideoTrajectories(10_000, 0)
    for number, frame in enumerate(frames):
        if number >= 9:
            frame = cv2.resize(frame, (240, 200), interpolation=cv2.INTER_NEAREST)
        changing.see(frame)
    assert len(changing.rows()[0])


def clips(root: Path) -> Path:
    """Two real clips, and a still one that was made here, in the layout of UCF-101."""
    folder = root / "HorseRiding"
    folder.mkdir(parents=True)
    for name in ("v_HorseRiding_g01_c03.avi", "v_HorseRiding_g02_c04.avi"):
        writable_copy(testdata("clips", "ucf101", "HorseRiding", name), folder / name)
    with av.open(str(folder / "v_HorseRiding_g03_c01.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        picture = cv2.cvtColor(moved_by(GROUND, 0, 0, (160, 120)), cv2.COLOR_GRAY2RGB)
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return root


def asked(root: Path, bank: Path, *words: str) -> ExtractOptions:
    given = [
        f"ROOT={root}",
        f"BANK={bank}",
        "DATASET=ucf101",
        "STREAM=idt",
        "RESIZE=64",
        "DEVICE=cpu",
        *words,
    ]
    return parse(ExtractOptions, given, "extract")


@pytest.mark.long
def test_real_clips_give_equal_stores_with_or_without_another_stream_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = clips(tmp_path / "ucf101")
    options = asked(root, tmp_path / "one", "TRAJECTORIES=300")
    dataset = load_dataset("ucf101", str(root))
    (planned,) = planned_stores(options, dataset)
    assert (planned.stream, planned.finished_videos) == ("idt", 0)
    assert extract(asked(root, tmp_path / "one", "TRAJECTORIES=300", "PLAN=1")) == 0
    told = capsys.readouterr().out
    assert (
        "at most 900 rows" in told and "426 numbers per row" in told and "to track points" in told
    )
    assert extract(options) == 1  # the still one
    with Store.open(planned.path) as store:
        assert store.row_shape == (426,) and store.rows.tolist() == [300, 300] and store.finished
        assert {str(failure) for failure in store.failures.values()} == {NO_TRAJECTORY}
        first = store.load(store.video_ids)[0]
        times = store.times_seconds("HorseRiding/v_HorseRiding_g02_c04")
        source = store.sources[store.video_ids.index("HorseRiding/v_HorseRiding_g02_c04")]
        recipe, ids = store.recipe, store.video_ids
    assert (
        (np.diff(times) >= 0).all()
        and 7 / source["fps"] - 1e-3 <= times[0]
        and times[-1] < (source["frames"] - 7) / source["fps"]
    )
    capsys.readouterr()
    assert planned_stores(options, dataset)[0].finished_videos == 3
    assert extract(options) == 1 and "3 already extracted, 0 to extract" in capsys.readouterr().out

    words = [
        "TRAJECTORIES=300",
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "SIZE=64",
        "T=2",
        "CROPS=1",
    ]
    assert extract(asked(root, tmp_path / "two", "STREAM=rgb idt", *words)) == 1
    with Store.open(next((tmp_path / "two" / "stores").glob("*-idt-*.h5"))) as store:
        assert store.path.name == planned.path.name and store.recipe == recipe
        assert np.array_equal(store.load(ids)[0], first)  # with another stream, in any order
    with Store.open(next((tmp_path / "two" / "stores").glob("*-rgb-*.h5"))) as store:
        assert store.rows.tolist() == [2, 2, 2]

    made = options_again(recipe, UserFiles(), str(tmp_path), "ucf101")
    assert (made.trajectories, made.resize, made.stream) == (300, "64", ("idt",))
    (root / "HorseRiding" / "v_HorseRiding_g01_c03.avi").rename(
        root / "HorseRiding" / "v_HorseRiding_g25_c07.avi"
    )
    assert extract(asked(root, tmp_path / "three", "TRAJECTORIES=300")) == 1
    with Store.open(next((tmp_path / "three" / "stores").glob("*.h5"))) as store:
        renamed = store.features("HorseRiding/v_HorseRiding_g25_c07")[0]
    assert np.array_equal(renamed, first[:300])  # a video's rows do not depend on its name


def test_descriptors_of_a_store_are_those_of_the_clip(tmp_path: Path) -> None:
    """All trajectories are kept if a clip has at most as many as requested."""
    root = clips(tmp_path / "ucf101")
    path = root / "HorseRiding" / "v_HorseRiding_g02_c04.avi"
    for other in root.rglob("*.avi"):
        other.unlink() if other != path else None
    assert extract(asked(root, tmp_path / "bank", "TRAJECTORIES=1000000", "SEED=3")) == 0
    greys = []
    for message in decode(path, np.arange):
        if isinstance(message, Frames):
            pictures = resize(
                torch.from_numpy(message.pixels).permute(0, 3, 1, 2), Resize(64)
            ).permute(0, 2, 3, 1)
            greys += [
                cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
                for picture in pictures.numpy()
            ]
    expected = np.concatenate([paths.descriptors for paths in followed(greys)])
    with Store.open(next((tmp_path / "bank" / "stores").glob("*.h5"))) as store:
        np.testing.assert_array_equal(store.load(store.video_ids)[0], expected.astype(np.float16))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["EXTRACTOR=torchvision:resnet18"], "EXTRACTOR=torchvision:resnet18: STREAM=idt does not"),
        (["WEIGHTS=random"], "WEIGHTS=random: STREAM=idt does not use this option"),
        (["NODE=layer1"], "NODE=layer1: STREAM=idt does not use this option"),
        (["T=25"], "T=25: STREAM=idt does not use this option"),
        (["T=0"], "T=0: STREAM=idt does not use this option"),
        (["CROPS=10"], "CROPS=10: STREAM=idt does not use this option"),
        (["VIEWS=2"], "VIEWS=2: STREAM=idt does not use this option"),
        (["GRID=11"], "GRID=11: STREAM=idt does not use this option"),
        (["STRIDE=2"], "STRIDE=2: STREAM=idt does not use this option"),
        (["WINDOWS=3", "WINDOW=20"], "WINDOWS=3: STREAM=idt does not use this option"),
        (["CLIP=4"], "CLIP=4: STREAM=idt does not use this option"),
        (["SIZE=64"], "SIZE=64: STREAM=idt does not use this option"),
        (["FLOW=dis"], "FLOW=dis: STREAM=idt does not use this option"),
        (["POOL=0"], "POOL=0: STREAM=idt does not use this option"),
        (["SAMPLING=adaptive"], "SAMPLING=adaptive: STREAM=idt does not use this option"),
        (["STREAM=rgb idt", "SAMPLING=adaptive"], "extract idt in a separate command"),
        (["RESIZE=20"], "RESIZE=20: must be at least 32"),
        (["TRAJECTORIES=0"], "TRAJECTORIES=0: must be at least 1"),
        (["STREAM=rgb", "TRAJECTORIES=5"], "TRAJECTORIES=5: STREAM=rgb does not use this option"),
        (
            ["STREAM=rgb idt", "EXTRACTOR=rgb=torchvision:resnet18 idt=i3d", "WEIGHTS=random"],
            "EXTRACTOR=i3d: STREAM=idt does not use this option",
        ),
        (["STREAM=magnitude idt"], "magnitude cannot be extracted together with other streams"),
    ],
)
def test_what_it_has_no_use_for_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    root = tmp_path / "ucf101" / "HorseRiding"
    root.mkdir(parents=True)
    (root / "v_HorseRiding_g01_c01.avi").write_bytes(b"x")
    with pytest.raises(InputError, match=said):
        extract(
            parse(
                ExtractOptions,
                [f"ROOT={root.parent}", f"BANK={tmp_path}", "DATASET=ucf101", "STREAM=idt", *words],
                "extract",
            )
        )
