"""Improved dense trajectories (Wang and Schmid, ICCV 2013). Points of a dense grid are followed
through 15 frames by optical flow. A trajectory is described by the shape of its path and by
gradients (HOG), flow (HOF) and motion boundaries (MBH) around it.

Flow is OpenCV's Farneback, computed once per frame and scaled for the coarser levels. The camera's
motion between two frames is a homography, found by RANSAC over matches of ORB features (the paper
uses SURF) and corners that are moved by the flow. The residual motion of a point is its motion
minus that of the camera. HOF, MBH and the shape are computed from residual motion, and trajectories
without residual motion are dropped.
"""

import math
from typing import NamedTuple

import numpy as np

from reelbank.data.video.opencv import cv2

TRACK_FRAMES = 15  # L: steps of a trajectory
GRID_PX = 5  # W: distance of new points
PATCH_PX = 32  # N: side of the volume's patches
# n_sigma, n_tau: cells of a patch along each side, and of the volume along time
CELLS, STEPS = 2, 3
SCALES, FACTOR = 8, 1 / math.sqrt(2)
# Share of the best corner's smaller eigenvalue. Below it, the surroundings of a point are too
# uniform to follow it.
QUALITY = 0.001
STILL_PX = 0.4  # flow shorter than this is counted in HOF's ninth bin
# Static paths, erratic paths, and paths with sudden steps are dropped.
LEAST_DEVIATION_PX, MOST_DEVIATION_PX, MOST_STEP_PX = math.sqrt(3), 50.0, 20.0
# Paths whose residual motion is smaller in all steps are dropped, because only the camera moves.
LEAST_MOTION_PX = 1.0
LEAST_INLIERS = 25  # of the homography; with fewer inliers the camera is assumed to be still
FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 10,
    "iterations": 2,
    "poly_n": 7,
    "poly_sigma": 1.5,
}
BLOCKS = {"shape": 2 * TRACK_FRAMES, "hog": 96, "hof": 108, "mbh": 2 * 96}  # mbh: x, then y
SIZE = sum(BLOCKS.values())  # 426


class Paths(NamedTuple):
    """Finished trajectories that began in the same frame.

    points: (n, L + 1, 2) float32, positions (x, y) in the picture
    moved: (n, L, 2) float32, the residual motion of each step
    descriptors: (n, 426) float32, in the order of BLOCKS
    middle: the number of the frame in the middle
    """

    points: np.ndarray
    moved: np.ndarray
    descriptors: np.ndarray
    middle: int


class Trajectories:
    """Follows points through the frames of one video, in order. Memory holds the points of the last
    15 frames."""

    def __init__(self) -> None:
        self._frames = 0
        self._last: np.ndarray | None = None
        # By scale: points that began in the same frame.
        self._cohorts: list[list[_Cohort]] = [[] for _ in range(SCALES)]

    def add(self, grey: np.ndarray) -> list[Paths]:
        """Add the next frame, (H, W) uint8, with the size of the first one. Returns the
        trajectories that end in it."""
        first, self._last = self._last, grey
        self._frames += 1
        if first is None:
            return []
        flow = cv2.calcOpticalFlowFarneback(first, grey, None, flags=0, **FARNEBACK)  # type: ignore[call-overload]
        residual = own_motion(flow, camera_motion(first, grey, flow))
        finished: list[Paths] = []
        for number, level in enumerate(pyramid(first, flow, residual)):
            picture = level.picture
            cohorts = self._cohorts[number]
            points = np.concatenate(
                [np.empty((0, 2), np.float32), *(cohort.now for cohort in cohorts)]
            )  # (n, 2)
            new = new_points(picture, points)
            if len(new):
                cohorts.append(_Cohort(new, self._frames - 2))
                points = np.concatenate([points, new])
            if not len(points):
                continue
            described = describe(picture, level.residual, points)  # (n, 132)
            smooth = np.dstack(
                [cv2.medianBlur(np.ascontiguousarray(level.flow[..., axis]), 3) for axis in (0, 1)]
            )
            at = _places(points, picture.shape)
            step, moved = smooth[at], level.residual[at]  # (n, 2) each
            inside = _inside(points + step, picture.shape)
            begin = 0
            for cohort in cohorts:
                span = slice(begin, begin + len(cohort.now))
                begin = span.stop
                cohort.go(step[span], moved[span], described[span], inside[span])
            ended = [cohort for cohort in cohorts if len(cohort.steps) == TRACK_FRAMES]
            self._cohorts[number] = [
                cohort for cohort in cohorts if len(cohort.steps) < TRACK_FRAMES and len(cohort.now)
            ]
            for cohort in ended:
                if len(cohort.now) and len((paths := cohort.finished(level.scale)).points):
                    finished.append(paths)
        return finished


class _Cohort:
    """Points of one scale that began in the same frame. points: positions (n, 2) at each frame;
    steps, moved, described: between frames, the flow, the residual motion and the histograms."""

    def __init__(self, points: np.ndarray, frame: int) -> None:
        self.frame = frame
        self.points = [points]
        self.steps: list[np.ndarray] = []
        self.moved: list[np.ndarray] = []
        self.described: list[np.ndarray] = []

    @property
    def now(self) -> np.ndarray:
        return self.points[-1]

    def go(
        self, step: np.ndarray, moved: np.ndarray, described: np.ndarray, inside: np.ndarray
    ) -> None:
        """Move the points by one frame, and drop those that leave the picture."""
        self.points = [*self.points, self.now + step]
        self.steps = [*self.steps, step]
        self.moved = [*self.moved, moved]
        self.described = [*self.described, described]
        if not inside.all():
            for name in ("points", "steps", "moved", "described"):
                setattr(self, name, [array[inside] for array in getattr(self, name)])

    def finished(self, scale: float) -> Paths:
        """The valid trajectories, in pixels of the original picture."""
        points = np.stack(self.points, 1)  # (n, L + 1, 2)
        moved = np.stack(self.moved, 1)  # (n, L, 2)
        kept = is_valid(points / scale) & moves(moved / scale)
        described = np.stack(self.described, 1)[kept]  # (n, L, 132)
        points, moved = points[kept] / scale, moved[kept] / scale
        middle = self.frame + TRACK_FRAMES // 2
        return Paths(
            points.astype(np.float32), moved.astype(np.float32), joined(moved, described), middle
        )


class Level(NamedTuple):
    """A picture (h, w) uint8 at one scale, with its flow and residual motion (h, w, 2)."""

    picture: np.ndarray
    flow: np.ndarray
    residual: np.ndarray
    scale: float


def pyramid(grey: np.ndarray, flow: np.ndarray, residual: np.ndarray) -> list[Level]:
    """The picture at each scale at which a patch fits into it."""
    levels = []
    height, width = grey.shape
    for number in range(SCALES):
        scale = FACTOR**number
        size = (round(width * scale), round(height * scale))
        if min(size) < PATCH_PX:
            break
        if number == 0:
            levels.append(Level(grey, flow, residual, 1.0))
            continue
        picture = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        smaller_flow, smaller_residual = (
            cv2.resize(field, size, interpolation=cv2.INTER_AREA) * np.float32(scale)
            for field in (flow, residual)
        )
        levels.append(Level(picture, smaller_flow, smaller_residual, scale))
    return levels


def camera_motion(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The homography (3, 3) float64 that maps the background of `first` (H, W) uint8 to `second`,
    or the identity if too few points agree. RANSAC with 1 px over ORB matches and corners moved by
    the flow (H, W, 2) (3.1 of the paper)."""
    corners = cv2.goodFeaturesToTrack(first, 1000, QUALITY, 3)
    sources, targets = [], []
    if corners is not None:
        at = corners[:, 0]  # (n, 2)
        sources.append(at)
        targets.append(at + flow[_places(at, first.shape)])
    orb = cv2.ORB_create(500)  # type: ignore[attr-defined]
    first_keys, first_features = orb.detectAndCompute(first, None)
    second_keys, second_features = orb.detectAndCompute(second, None)
    if first_features is not None and second_features is not None:
        matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
        matches = matcher.match(first_features, second_features)
        if matches:
            from_points = [first_keys[match.queryIdx].pt for match in matches]
            to_points = [second_keys[match.trainIdx].pt for match in matches]
            sources.append(np.array(from_points, np.float32))
            targets.append(np.array(to_points, np.float32))
    if not sources or len(src := np.concatenate(sources)) <= 2 * LEAST_INLIERS:
        return np.eye(3)
    cv2.setRNGSeed(0)  # RANSAC draws at random; the same pictures must give the same rows
    homography, mask = cv2.findHomography(src, np.concatenate(targets), cv2.RANSAC, 1.0)
    if homography is None or int(mask.sum()) <= LEAST_INLIERS:
        return np.eye(3)
    return homography


def own_motion(flow: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """The residual motion (H, W, 2) float32: flow without the camera's motion. The target of each
    pixel is mapped back by the homography, and the pixel's position is subtracted. This equals the
    flow towards the second picture warped by the inverse homography."""
    if np.array_equal(camera, np.eye(3)):
        return flow
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    went = np.stack([x + flow[..., 0], y + flow[..., 1], np.ones_like(x)])  # (3, H, W)
    back = np.tensordot(np.linalg.inv(camera), went, 1)
    depth = np.where(np.abs(back[2]) < 1e-9, 1e-9, back[2])
    return np.dstack([back[0] / depth - x, back[1] / depth - y]).astype(np.float32)


def new_points(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Centres (n, 2) float32 of the grid cells that contain no point yet and that can be followed:
    the smaller eigenvalue of their gradients is above QUALITY times the picture's largest."""
    height, width = picture.shape
    rows, columns = height // GRID_PX, width // GRID_PX
    free = np.ones((rows, columns), bool)
    if len(points):
        cells = (points // GRID_PX).astype(np.int64)
        inside = (
            (cells[:, 0] >= 0) & (cells[:, 0] < columns) & (cells[:, 1] >= 0) & (cells[:, 1] < rows)
        )
        free[cells[inside, 1], cells[inside, 0]] = False
    smallest = cv2.cornerMinEigenVal(picture, 3, ksize=3)
    y, x = np.nonzero(free)
    x, y = x * GRID_PX + GRID_PX // 2, y * GRID_PX + GRID_PX // 2
    good = smallest[y, x] > QUALITY * float(smallest.max())
    return np.column_stack([x[good], y[good]]).astype(np.float32)


def is_valid(points: np.ndarray) -> np.ndarray:
    """(n,) bool: which paths (n, L + 1, 2) are not static, not erratic and without jumps. The
    bounds are those of the authors' code."""
    deviation = points.std(axis=1)  # (n, 2)
    lengths = np.linalg.norm(np.diff(points, axis=1), axis=2)  # (n, L)
    longest, total = lengths.max(axis=1), lengths.sum(axis=1)
    static = (deviation < LEAST_DEVIATION_PX).all(axis=1)
    erratic = (deviation > MOST_DEVIATION_PX).any(axis=1)
    jumps = (longest > MOST_STEP_PX) & (longest > 0.7 * total)
    return ~(static | erratic | jumps)


def moves(moved: np.ndarray) -> np.ndarray:
    """(n,) bool: which paths have a step with a residual motion (n, L, 2) of more than a pixel."""
    return np.linalg.norm(moved, axis=2).max(axis=1) > LEAST_MOTION_PX


def joined(moved: np.ndarray, described: np.ndarray) -> np.ndarray:
    """Descriptors (n, 426) float32: the steps (n, L, 2) of residual motion, divided by the length
    of the path, and the means of the histograms (n, L, 132) over each third of the path."""
    lengths = np.linalg.norm(moved, axis=2).sum(axis=1)  # (n,)
    shape = (moved / np.maximum(lengths, 1e-6)[:, None, None]).reshape(len(moved), 2 * TRACK_FRAMES)
    each = TRACK_FRAMES // STEPS
    # (n, 3, 132)
    thirds = described.reshape(len(described), STEPS, each, described.shape[2]).mean(axis=2)
    ends = np.cumsum([0, 32, 36, 32, 32])  # of HOG, HOF, MBHx and MBHy
    blocks = [
        thirds[:, :, a:b].reshape(len(described), STEPS * (b - a))
        for a, b in zip(ends, ends[1:], strict=False)
    ]
    return np.concatenate([shape, *blocks], axis=1).astype(np.float32)


def describe(picture: np.ndarray, residual: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The histograms of the patch around each point (n, 2) in one frame, (n, 132) float32: HOG 4 x
    8, HOF 4 x 9, MBHx and MBHy 4 x 8, each scaled to sum 1 and square-rooted. picture: (h, w)
    uint8; residual: (h, w, 2), the residual motion."""
    return np.concatenate(
        [
            _patches(orientations(*gradients(picture.astype(np.float32)), 8), points),
            _patches(orientations(residual[..., 0], residual[..., 1], 9, STILL_PX), points),
            *(
                _patches(orientations(*gradients(residual[..., axis]), 8), points)
                for axis in (0, 1)
            ),
        ],
        axis=1,
    )


def gradients(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of (h, w) float32 along x and y."""
    values = np.ascontiguousarray(values)
    along_x = cv2.Sobel(values, cv2.CV_32F, 1, 0, ksize=1)
    along_y = cv2.Sobel(values, cv2.CV_32F, 0, 1, ksize=1)
    return along_x, along_y


def orientations(x: np.ndarray, y: np.ndarray, bins: int, still: float = 0.0) -> np.ndarray:
    """(h, w, bins) float32: the length of each vector, divided between the two nearest directions
    of a full circle. With `still`, the last bin counts vectors shorter than that, each as 1, and
    there are bins - 1 directions."""
    directions = bins - 1 if still else bins
    length, angle = cv2.cartToPolar(np.ascontiguousarray(x), np.ascontiguousarray(y))
    place = angle * np.float32(directions / (2 * np.pi))
    lower = np.floor(place)
    share = place - lower
    lower = lower.astype(np.int64) % directions
    histograms = np.zeros((x.size, bins), np.float32)
    each = np.arange(x.size)
    moving = (
        np.ones(x.size, np.float32) if not still else (length.ravel() >= still).astype(np.float32)
    )
    histograms[each, lower.ravel()] = (length * (1 - share)).ravel() * moving
    histograms[each, (lower.ravel() + 1) % directions] = (length * share).ravel() * moving
    if still:
        histograms[:, -1] = 1 - moving
    return histograms.reshape(*x.shape, bins)


def _patches(histograms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 4 * bins) float32: the sums of (h, w, bins) over the four cells of the patch around each
    point, scaled to sum 1 and square-rooted. Patches are moved to lie within the picture."""
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
            cells.append(
                summed[a + side, b + side]
                - summed[a, b + side]
                - summed[a + side, b]
                + summed[a, b]
            )
    # Rounding in the integral image may give sums slightly below 0.
    sums = np.maximum(np.concatenate(cells, axis=1), 0)  # (n, 4 * bins)
    return np.sqrt(sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _places(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixel nearest to each point (n, 2)."""
    nearest = np.round(points).astype(np.int64)
    return np.clip(nearest[:, 1], 0, shape[0] - 1), np.clip(nearest[:, 0], 0, shape[1] - 1)


def _inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(n,) bool: which points lie within the picture."""
    x, y = points[:, 0], points[:, 1]
    return (x > 0) & (x < shape[1] - 1) & (y > 0) & (y < shape[0] - 1)
