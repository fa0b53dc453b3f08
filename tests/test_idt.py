"""Improved dense trajectories: a known displacement is found, the camera's is taken away, and histograms are what they say."""

import math

import cv2
import numpy as np
import pytest

from reelbank.extract import idt


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth noise from 0 to 255, float32."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255


GROUND = texture(320, 400, 0)


def moved_by(picture: np.ndarray, x: float, y: float, size: tuple[int, int]) -> np.ndarray:
    """The picture's part from (40, 40) on, moved by (x, y) pixels: uint8 of `size` (width, height)."""
    matrix = np.array([[1, 0, x - 40], [0, 1, y - 40]], np.float64)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def followed(frames: list[np.ndarray]) -> list[idt.Paths]:
    trajectories = idt.Trajectories()
    return [paths for frame in frames for paths in trajectories.add(frame)]


@pytest.mark.parametrize("step", [(2.0, 1.0), (-1.5, 2.5), (2.3, -0.7)])
def test_a_known_displacement_is_found_to_a_fifth_of_a_pixel(
    step: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idt, "camera_motion", lambda *_: np.eye(3))  # else the whole picture's motion is the camera's
    frames = [moved_by(GROUND, step[0] * k, step[1] * k, (160, 120)) for k in range(17)]
    found = followed(frames)
    steps = np.concatenate([np.diff(paths.points, axis=1) for paths in found])  # (n, 15, 2)
    assert len(steps) > 300
    assert np.abs(steps.mean(axis=(0, 1)) - step).max() < 0.05
    assert np.quantile(np.abs(steps.mean(axis=1) - step).max(axis=1), 0.95) < 0.2
    assert found[0].middle == 7 and {paths.middle for paths in found} <= {7, 8}  # begun in frames 0 and 1


def test_what_moves_with_the_camera_is_dropped_and_an_object_keeps_its_own_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ground goes 3 px to the left and turns a little; a square goes 2 px down over it."""
    frames = []
    thing = texture(60, 60, 1)
    for k in range(17):
        turn = cv2.getRotationMatrix2D((120, 90), 0.1 * k, 1.0)
        turn[:, 2] += (-3.0 * k - 20, -20)
        ground = cv2.warpAffine(GROUND, turn, (240, 180), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        ground[40 + 2 * k : 100 + 2 * k, 90:150] = thing
        frames.append(ground.clip(0, 255).astype(np.uint8))
    found = followed(frames)
    middles = np.concatenate([paths.points[:, 7] for paths in found])  # (n, 2)
    own = np.concatenate([paths.moved.mean(axis=1) for paths in found])
    far = (np.abs(middles[:, 0] - 120) >= 60) | (np.abs(middles[:, 1] - 85) >= 70)  # from the thing and the edges it uncovers
    monkeypatch.setattr(idt, "camera_motion", lambda *_: np.eye(3))
    before = np.concatenate([paths.points[:, 7] for paths in followed(frames)])
    far_before = (np.abs(before[:, 0] - 120) >= 60) | (np.abs(before[:, 1] - 85) >= 70)
    assert far_before.sum() > 500 and far.sum() == 0
    inner = (np.abs(middles[:, 0] - 120) < 18) & (np.abs(middles[:, 1] - 85) < 18)
    assert inner.sum() > 20
    camera = np.array([-3.0, 0.0])
    assert np.abs(np.median(own[inner], axis=0) - (np.array([0.0, 2.0]) - camera)).max() < 0.35  # it turns, too


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
    assert idt.SIZE == 426 and list(idt.BLOCKS.values()) == [30, 96, 108, 96, 96]
    descriptors = np.concatenate([paths.descriptors for paths in one])
    assert len(descriptors) and descriptors.shape[1] == 426 and descriptors.dtype == np.float32
    assert np.isfinite(descriptors.astype(np.float16)).all()
    assert all(np.array_equal(a.descriptors, b.descriptors) for a, b in zip(one, again, strict=True))
    shape = descriptors[:, :30].reshape(-1, 15, 2)
    np.testing.assert_allclose(np.linalg.norm(shape, axis=2).sum(axis=1), 1, atol=1e-4)  # over the path's length


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
    np.testing.assert_allclose(hof[:, 8], 0.5, atol=1e-6)  # nothing moves: all of it in the bin of the still
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
