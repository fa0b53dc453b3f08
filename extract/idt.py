"""Improved dense trajectories (Wang and Schmid, ICCV 2013): points of a dense grid, followed through 15 frames by flow and
described by the shape of their path, gradients (HOG), flow (HOF) and motion boundaries (MBH) around it.

Flow is OpenCV's Farneback, computed once a frame and scaled for the coarser levels. The camera's motion between two frames is
a homography (RANSAC over ORB matches, in place of the paper's SURF, and corners that the flow moves). A point's own motion is
where it went, carried back by the homography: HOF, MBH and the shape see it, and what moves with the camera alone is dropped.
"""

import math
from typing import NamedTuple

import numpy as np

from reelbank.data.opencv import cv2

TRACK_FRAMES = 15  # L: steps of a trajectory
GRID_PX = 5  # W: distance of new points
PATCH_PX = 32  # N: side of the volume's patches
CELLS, STEPS = 2, 3  # n_sigma, n_tau: cells of a patch along each side, and of the volume along time
SCALES, FACTOR = 8, 1 / math.sqrt(2)
QUALITY = 0.001  # of the best corner's smaller eigenvalue: below it a place is too even to be followed
STILL_PX = 0.4  # HOF's ninth bin: flow shorter than this
LEAST_DEVIATION_PX, MOST_DEVIATION_PX, MOST_STEP_PX = math.sqrt(3), 50.0, 20.0  # static, erratic, and sudden paths are dropped
LEAST_MOTION_PX = 1.0  # its largest own motion in a step: below it the path is the camera's
LEAST_INLIERS = 25  # of the homography; with fewer the camera is taken as still
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 10, "iterations": 2, "poly_n": 7, "poly_sigma": 1.5}
BLOCKS = {"shape": 2 * TRACK_FRAMES, "hog": 96, "hof": 108, "mbh": 2 * 96}  # mbh: x, then y
SIZE = sum(BLOCKS.values())  # 426
RECIPE = {
    "kind": "improved dense trajectories",
    "track_frames": TRACK_FRAMES,
    "grid_px": GRID_PX,
    "patch_px": PATCH_PX,
    "scales": SCALES,
    "flow": {"method": "farneback", **FARNEBACK},
    "camera": "homography of ORB and flow matches",
    "version": 1,
}


class Paths(NamedTuple):
    """Finished trajectories. points (n, L + 1, 2) float32 pixels (x, y) in the picture; moved (n, L, 2) float32 own motion of
    each step, without the camera's; descriptors (n, 426) float32 in the order of BLOCKS; middle: number of the frame in
    their middle."""

    points: np.ndarray
    moved: np.ndarray
    descriptors: np.ndarray
    middle: int


class Trajectories:
    """Follows points through the frames of one video, given in order; holds what 15 frames need. `add` returns what ends."""

    def __init__(self) -> None:
        self._frames = 0
        self._last: np.ndarray | None = None
        self._cohorts: list[list[_Cohort]] = [[] for _ in range(SCALES)]  # by scale, points that began together

    def add(self, grey: np.ndarray) -> list[Paths]:
        """grey (H, W) uint8: the next frame, of the first one's size. Returns the trajectories that end at it."""
        first, self._last = self._last, grey
        self._frames += 1
        if first is None:
            return []
        flow = cv2.calcOpticalFlowFarneback(first, grey, None, flags=0, **FARNEBACK)  # type: ignore[call-overload]
        own = own_motion(flow, camera_motion(first, grey, flow))
        found = []
        for number, (picture, of_scale, own_of_scale, scale) in enumerate(pyramid(first, flow, own)):
            cohorts = self._cohorts[number]
            points = np.concatenate([np.empty((0, 2), np.float32), *(cohort.now for cohort in cohorts)])  # (n, 2)
            new = new_points(picture, points)
            if len(new):
                cohorts.append(_Cohort(new, self._frames - 2))
                points = np.concatenate([points, new])
            if not len(points):
                continue
            described = describe(picture, own_of_scale, points)  # (n, 132)
            smooth = np.dstack([cv2.medianBlur(np.ascontiguousarray(of_scale[..., axis]), 3) for axis in (0, 1)])
            at = _places(points, picture.shape)
            step, moved = smooth[at], own_of_scale[at]  # (n, 2) each
            inside = _inside(points + step, picture.shape)
            begin = 0
            for cohort in cohorts:
                span = slice(begin, begin + len(cohort.now))
                begin = span.stop
                cohort.go(step[span], moved[span], described[span], inside[span])
            ended = [cohort for cohort in cohorts if len(cohort.steps) == TRACK_FRAMES]
            self._cohorts[number] = [c for c in cohorts if len(c.steps) < TRACK_FRAMES and len(c.now)]
            found += [paths for cohort in ended if len(cohort.now) and len((paths := cohort.finished(scale)).points)]
        return found


class _Cohort:
    """Points of one scale that began in one frame; `points` (n, 2) at each step, `steps`, `moved`, `described` between."""

    def __init__(self, points: np.ndarray, frame: int) -> None:
        self.frame = frame
        self.points = [points]
        self.steps: list[np.ndarray] = []
        self.moved: list[np.ndarray] = []
        self.described: list[np.ndarray] = []

    @property
    def now(self) -> np.ndarray:
        return self.points[-1]

    def go(self, step: np.ndarray, moved: np.ndarray, described: np.ndarray, inside: np.ndarray) -> None:
        """One frame on; what leaves the picture is forgotten."""
        self.points = [*self.points, self.now + step]
        self.steps, self.moved, self.described = [*self.steps, step], [*self.moved, moved], [*self.described, described]
        if not inside.all():
            for name in ("points", "steps", "moved", "described"):
                setattr(self, name, [one[inside] for one in getattr(self, name)])

    def finished(self, scale: float) -> Paths:
        """The trajectories that are kept, in pixels of the picture."""
        points, moved = np.stack(self.points, 1), np.stack(self.moved, 1)  # (n, L + 1, 2), (n, L, 2)
        kept = is_valid(points / scale) & moves(moved / scale)
        described = np.stack(self.described, 1)[kept]  # (n, L, 132)
        points, moved = points[kept] / scale, moved[kept] / scale
        middle = self.frame + TRACK_FRAMES // 2
        return Paths(points.astype(np.float32), moved.astype(np.float32), joined(moved, described), middle)


def pyramid(grey: np.ndarray, flow: np.ndarray, own: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """The picture (h, w) uint8, its flow and its own motion (h, w, 2) at each scale that holds a patch, and the scale."""
    found = []
    height, width = grey.shape
    for number in range(SCALES):
        scale = FACTOR**number
        size = (round(width * scale), round(height * scale))
        if min(size) < PATCH_PX:
            break
        if number == 0:
            found.append((grey, flow, own, 1.0))
            continue
        picture = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        smaller = [cv2.resize(field, size, interpolation=cv2.INTER_AREA) * np.float32(scale) for field in (flow, own)]
        found.append((picture, *smaller, scale))  # type: ignore[arg-type]
    return found


def camera_motion(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The homography (3, 3) float64 that carries the background of `first` (H, W) uint8 to `second`; the identity where too few
    points agree. RANSAC with 1 px over ORB matches and corners moved by the flow (H, W, 2) (3.1 of the paper)."""
    corners = cv2.goodFeaturesToTrack(first, 1000, QUALITY, 3)
    sources, targets = [], []
    if corners is not None:
        at = corners[:, 0]  # (n, 2)
        sources.append(at)
        targets.append(at + flow[_places(at, first.shape)])
    orb = cv2.ORB_create(500)  # type: ignore[attr-defined]
    (keys, one), (others, other) = (orb.detectAndCompute(picture, None) for picture in (first, second))
    if one is not None and other is not None:
        matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one, other)
        if matches:
            sources.append(np.array([keys[match.queryIdx].pt for match in matches], np.float32))
            targets.append(np.array([others[match.trainIdx].pt for match in matches], np.float32))
    if not sources or len(src := np.concatenate(sources)) <= 2 * LEAST_INLIERS:
        return np.eye(3)
    cv2.setRNGSeed(0)
    found, mask = cv2.findHomography(src, np.concatenate(targets), cv2.RANSAC, 1.0)
    return np.eye(3) if found is None or int(mask.sum()) <= LEAST_INLIERS else found


def own_motion(flow: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Flow (H, W, 2) less the camera's motion: where a pixel went, carried back by the homography, less where it was. The same
    (H, W, 2) float32 as flow towards the second picture warped by the inverse homography."""
    if np.array_equal(camera, np.eye(3)):
        return flow
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    went = np.stack([x + flow[..., 0], y + flow[..., 1], np.ones_like(x)])  # (3, H, W)
    back = np.tensordot(np.linalg.inv(camera), went, 1)
    depth = np.where(np.abs(back[2]) < 1e-9, 1e-9, back[2])
    return np.dstack([back[0] / depth - x, back[1] / depth - y]).astype(np.float32)


def new_points(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Middles (n, 2) float32 of the grid's cells that hold no point yet and that can be followed: the smaller eigenvalue of the
    gradients there is at least QUALITY of the picture's largest."""
    height, width = picture.shape
    rows, columns = height // GRID_PX, width // GRID_PX
    free = np.ones((rows, columns), bool)
    if len(points):
        cells = (points // GRID_PX).astype(np.int64)
        here = (cells[:, 0] >= 0) & (cells[:, 0] < columns) & (cells[:, 1] >= 0) & (cells[:, 1] < rows)
        free[cells[here, 1], cells[here, 0]] = False
    smallest = cv2.cornerMinEigenVal(picture, 3, ksize=3)
    y, x = np.nonzero(free)
    x, y = x * GRID_PX + GRID_PX // 2, y * GRID_PX + GRID_PX // 2
    good = smallest[y, x] > QUALITY * float(smallest.max())
    return np.column_stack([x[good], y[good]]).astype(np.float32)


def is_valid(points: np.ndarray) -> np.ndarray:
    """Which paths (n, L + 1, 2) are neither static nor erratic nor jump (the released code's bounds): (n,) bool."""
    deviation = points.std(axis=1)  # (n, 2)
    lengths = np.linalg.norm(np.diff(points, axis=1), axis=2)  # (n, L)
    longest, total = lengths.max(axis=1), lengths.sum(axis=1)
    static = (deviation < LEAST_DEVIATION_PX).all(axis=1)
    erratic = (deviation > MOST_DEVIATION_PX).any(axis=1)
    jumps = (longest > MOST_STEP_PX) & (longest > 0.7 * total)
    return ~(static | erratic | jumps)


def moves(moved: np.ndarray) -> np.ndarray:
    """Which paths move by themselves: their largest step (n, L, 2) without the camera's motion is above a pixel. (n,) bool"""
    return np.linalg.norm(moved, axis=2).max(axis=1) > LEAST_MOTION_PX


def joined(moved: np.ndarray, described: np.ndarray) -> np.ndarray:
    """Descriptors (n, 426) float32: own steps (n, L, 2) over the path's length, and each histogram's mean over the thirds of
    the path, from what the frames say (n, L, 132)."""
    lengths = np.linalg.norm(moved, axis=2).sum(axis=1)  # (n,)
    shape = (moved / np.maximum(lengths, 1e-6)[:, None, None]).reshape(len(moved), 2 * TRACK_FRAMES)
    each = TRACK_FRAMES // STEPS
    thirds = described.reshape(len(described), STEPS, each, described.shape[2]).mean(axis=2)  # (n, 3, 132)
    ends = np.cumsum([0, 32, 36, 32, 32])
    blocks = [thirds[:, :, a:b].reshape(len(described), STEPS * (b - a)) for a, b in zip(ends, ends[1:], strict=False)]
    return np.concatenate([shape, *blocks], axis=1).astype(np.float32)


def describe(picture: np.ndarray, own: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Of each point (n, 2) the histograms of the patch around it in one frame, (n, 132) float32: HOG 4 x 8, HOF 4 x 9, MBHx and
    MBHy 4 x 8, each scaled to sum 1 and square-rooted. picture (h, w) uint8, own (h, w, 2) motion."""
    return np.concatenate(
        [
            _patches(orientations(*gradients(picture.astype(np.float32)), 8), points),
            _patches(orientations(own[..., 0], own[..., 1], 9, STILL_PX), points),
            *(_patches(orientations(*gradients(own[..., axis]), 8), points) for axis in (0, 1)),
        ],
        axis=1,
    )


def gradients(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of (h, w) float32 along x and y."""
    values = np.ascontiguousarray(values)
    return cv2.Sobel(values, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(values, cv2.CV_32F, 0, 1, ksize=1)


def orientations(x: np.ndarray, y: np.ndarray, bins: int, still: float = 0.0) -> np.ndarray:
    """(h, w, bins) float32: the length of each vector, shared by the two nearest of the directions over 360 degrees. With
    `still` the last bin counts vectors shorter than that, each as 1, and there are bins - 1 directions."""
    directions = bins - 1 if still else bins
    length, angle = cv2.cartToPolar(np.ascontiguousarray(x), np.ascontiguousarray(y))
    place = angle * np.float32(directions / (2 * np.pi))
    lower = np.floor(place)
    share = place - lower
    lower = lower.astype(np.int64) % directions
    found = np.zeros((x.size, bins), np.float32)
    each = np.arange(x.size)
    moving = np.ones(x.size, np.float32) if not still else (length.ravel() >= still).astype(np.float32)
    found[each, lower.ravel()] = (length * (1 - share)).ravel() * moving
    found[each, (lower.ravel() + 1) % directions] = (length * share).ravel() * moving
    if still:
        found[:, -1] = 1 - moving
    return found.reshape(*x.shape, bins)


def _patches(histograms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Sums over the four cells of the patch around each point, moved into the picture where it would leave it, of (h, w, bins);
    root of the share: (n, 4 * bins) float32."""
    height, width = histograms.shape[:2]
    summed = cv2.integral(histograms, sdepth=cv2.CV_64F)  # (h + 1, w + 1, bins)
    corner = np.round(points).astype(np.int64) - PATCH_PX // 2
    left = np.clip(corner[:, 0], 0, width - PATCH_PX)
    above = np.clip(corner[:, 1], 0, height - PATCH_PX)
    side = PATCH_PX // CELLS
    cells = []
    for column in range(CELLS):
        for row in range(CELLS):
            a, b = above + row * side, left + column * side
            cells.append(summed[a + side, b + side] - summed[a, b + side] - summed[a + side, b] + summed[a, b])
    found = np.maximum(np.concatenate(cells, axis=1), 0)  # (n, 4 * bins)
    return np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _places(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixel nearest to each point (n, 2)."""
    nearest = np.round(points).astype(np.int64)
    return np.clip(nearest[:, 1], 0, shape[0] - 1), np.clip(nearest[:, 0], 0, shape[1] - 1)


def _inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    x, y = points[:, 0], points[:, 1]
    return (x > 0) & (x < shape[1] - 1) & (y > 0) & (y < shape[0] - 1)
