"""Draws the videos of the toy data set (see `toy`) and their sound."""

from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

COARSE: dict[str, tuple[str, ...]] = {
    "look": ("look_stripes", "look_checks"),
    "motion": ("motion_up", "motion_down"),
    "sound": ("sound_low", "sound_high"),
    "order": ("order_light_dark", "order_dark_light"),
    "relation": ("relation_alike", "relation_different"),
}
CLASSES = tuple(chain.from_iterable(COARSE.values()))
SIZE_PX, FPS, RATE_HZ = 96, 25, 22_050
# The same seed must give the same bytes. More threads change them, and without cpu-independent x264
# made up to five different files in eight encodings of the same frames.
_REPEATABLE = {"threads": "1", "x264-params": "threads=1:lookahead-threads=1:cpu-independent=1"}


def write_video(path: Path, frames: np.ndarray, sound: np.ndarray) -> None:
    """Encode frames (T, H, W, 3) uint8 and mono sound (n,) float32 in -1 to 1 as H.264 and AAC in
    mp4."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream(
            "libx264",
            rate=FPS,
            options={"preset": "veryfast", "crf": "16", "g": "25", **_REPEATABLE},
        )
        picture.width, picture.height, picture.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        voice = container.add_stream("aac", rate=RATE_HZ, layout="mono", options={"b": "64k"})
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        for begin in range(0, len(sound), 1024):
            # Blocks of 1024 samples, the frame size of AAC. Without a time stamp PyAV places a
            # block 1024 samples late.
            block = av.AudioFrame.from_ndarray(
                sound[None, begin : begin + 1024], format="fltp", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = RATE_HZ, begin, Fraction(1, RATE_HZ)
            container.mux(voice.encode(block))
        container.mux(voice.encode(None))


class ToyVideo(NamedTuple):
    """frames: (T, 96, 96, 3) uint8. sound: mono, (n,) float32 at 22,050 Hz, T / 25 seconds long."""

    frames: np.ndarray
    sound: np.ndarray


def frames_of(label: str, group: int, clip: int, seed: int = 0) -> int:
    """The number of frames of a video, which `render` draws."""
    return _frame_count(_scene(_family_number(label), group, clip, seed))


def _family_number(label: str) -> int:
    return list(COARSE).index(label.split("_")[0])


def _scene(number: int, group: int, clip: int, seed: int) -> np.random.Generator:
    """The random numbers of a scene, which the two classes of a family share."""
    return np.random.default_rng([seed, number, group, clip])


def _frame_count(scene: np.random.Generator) -> int:
    """The first random number of a scene."""
    return int(scene.integers(48, 57))


def render(label: str, group: int, clip: int, seed: int = 0, *, noise: bool = True) -> ToyVideo:
    """Draw one video, not yet encoded. noise: add grain and hiss, which differ between the two
    classes of a pair."""
    family = label.split("_")[0]
    second = COARSE[family].index(label) == 1
    number = _family_number(label)
    style = np.random.default_rng([seed, number, group])
    scene = _scene(number, group, clip, seed)
    grain = np.random.default_rng([seed, number, group, clip, second])
    frames = _frame_count(scene)
    stage = _Stage(style, scene, frames)
    picture = _DRAWN_BY[family](stage, style, scene, second=second)
    sound = _voice(style, scene, frames, high=second if family == "sound" else None)
    if noise:
        picture = picture + 0.015 * grain.standard_normal(picture.shape, dtype=np.float32)
        sound = sound + 0.003 * grain.standard_normal(len(sound), dtype=np.float32)
    return ToyVideo(
        frames=(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8),
        sound=np.clip(sound, -1, 1).astype(np.float32),
    )


class _Stage:
    """A background that depends on the group, a camera that trembles, and a brush that paints
    objects with soft edges."""

    def __init__(self, style: np.random.Generator, scene: np.random.Generator, frames: int) -> None:
        self.frames = frames
        wobble = scene.normal(0, 1, (frames + 12, 2))
        kernel = np.hanning(13)[:, None]
        # (T, 2), about a pixel
        smooth = np.stack([(wobble[t : t + 13] * kernel).sum(0) for t in range(frames)]) / 3
        grid = np.arange(SIZE_PX, dtype=np.float32)
        self.y = grid[None, :, None] - smooth[:, 0, None, None].astype(np.float32)  # (T, H, 1)
        self.x = grid[None, None, :] - smooth[:, 1, None, None].astype(np.float32)  # (T, 1, W)
        base = style.uniform(0.2, 0.42, 3).astype(np.float32)
        offset_y, offset_x = (float(o) for o in scene.uniform(0, SIZE_PX, 2))
        light = scene.uniform(0.85, 1.15)
        ripple = np.zeros((frames, SIZE_PX, SIZE_PX), np.float32)
        for _ in range(3):
            fy, fx = (float(f) for f in style.uniform(-1, 1, 2) * 2 * np.pi / style.uniform(18, 50))
            ripple += np.sin(
                fy * (self.y + offset_y) + fx * (self.x + offset_x) + style.uniform(0, 6.28)
            )
        tint = style.uniform(0.02, 0.06, 3).astype(np.float32)
        self.picture = (base + tint * ripple[..., None]) * np.float32(light)  # (T, H, W, 3)

    def local(
        self,
        y: np.ndarray,
        x: np.ndarray,
        angle: np.ndarray | float = 0.0,
        when: slice = slice(None),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in an object at (y, x), each (T,) or a number, turned by `angle`: two arrays
        (T, H, W)."""
        dy, dx = self.y[when] - _column(y), self.x[when] - _column(x)
        cos, sin = np.cos(_column(angle)), np.sin(_column(angle))
        return cos * dy + sin * dx, cos * dx - sin * dy

    def paint(self, distance_px: np.ndarray, colour: np.ndarray, when: slice = slice(None)) -> None:
        """Paint frames `when` where the signed distance (T, H, W) is negative, soft by a pixel;
        colour (3,) or (T, H, W, 3)."""
        cover = np.clip(0.5 - distance_px, 0, 1)[..., None]
        self.picture[when] += cover * (colour.astype(np.float32) - self.picture[when])


def _column(values: np.ndarray | float) -> np.ndarray:
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def _disc(y: np.ndarray, x: np.ndarray, radius_px: np.ndarray | float) -> np.ndarray:
    return np.hypot(y, x) - _column(radius_px)


def _square(y: np.ndarray, x: np.ndarray, radius_px: np.ndarray | float) -> np.ndarray:
    return np.maximum(abs(y), abs(x)) - 0.88 * _column(radius_px)


def _cross(y: np.ndarray, x: np.ndarray, radius_px: np.ndarray | float) -> np.ndarray:
    arm = 0.38 * _column(radius_px)
    return np.maximum(
        np.maximum(abs(y), abs(x)) - 1.1 * _column(radius_px), np.minimum(abs(y), abs(x)) - arm
    )


def _drift(
    scene: np.random.Generator, frames: int, margin_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """A slow straight path inside the margins, in any direction: y (T,), x (T,)."""
    ends = scene.uniform(margin_px, SIZE_PX - margin_px, (2, 2))
    ends[1] = ends[0] + np.clip(ends[1] - ends[0], -14, 14)
    # Otherwise more paths would end near the middle than begin there, which would reveal whether a
    # video is played backwards.
    if scene.integers(2):
        ends = ends[::-1]
    path = np.linspace(ends[0], ends[1], frames)
    return path[:, 0], path[:, 1]


def _bright(style: np.random.Generator) -> np.ndarray:
    colour = style.uniform(0.45, 1, 3)
    colour[style.integers(3)] = style.uniform(0.1, 0.4)
    return colour.astype(np.float32)


def _look(
    stage: _Stage, style: np.random.Generator, scene: np.random.Generator, *, second: bool
) -> np.ndarray:
    """One disc or square, striped or checked."""
    light = style.uniform(0.7, 1, 3).astype(np.float32)
    dark = style.uniform(0, 0.25, 3).astype(np.float32)
    shape = (_disc, _square)[scene.integers(2)]
    angle = scene.uniform(-0.3, 0.3) + np.linspace(0, scene.uniform(-0.4, 0.4), stage.frames)
    radius = scene.uniform(32, 40)
    y, x = stage.local(*_drift(scene, stage.frames, 34), angle)
    wave = 2 * np.pi / scene.uniform(10, 15)
    bands, rows = (
        np.sin(wave * x + scene.uniform(0, 6.28)),
        np.sin(wave * y + scene.uniform(0, 6.28)),
    )
    pattern = 1.3 * bands * rows if second else bands
    share = (0.5 + 0.5 * np.tanh(4 * pattern))[..., None]
    stage.paint(shape(y, x, radius), dark + share * (light - dark))
    return stage.picture


def _motion(
    stage: _Stage, style: np.random.Generator, scene: np.random.Generator, *, second: bool
) -> np.ndarray:
    """Four objects that rise, leave at the top and return from below; backwards they sink."""
    colours = [_bright(style) for _ in range(4)]
    time = np.arange(stage.frames)
    for number, lane in enumerate(scene.permutation(4)):
        radius = scene.uniform(8, 12)
        loop = SIZE_PX + 2 * radius + 6
        y = (scene.uniform(0, loop) - scene.uniform(1.4, 3.0) * time) % loop - radius - 3
        x = 12 + 24 * lane + 4 * np.sin(scene.uniform(0.05, 0.2) * time + scene.uniform(0, 6.28))
        place = stage.local(y, x)
        stage.paint((_disc, _square)[scene.integers(2)](*place, radius), colours[number])
    return stage.picture[::-1] if second else stage.picture


def _speaker(
    stage: _Stage, style: np.random.Generator, scene: np.random.Generator, *, second: bool
) -> np.ndarray:
    """A loudspeaker at rest; its looks do not depend on its sound."""
    del second
    case, cone = style.uniform(0, 0.3, 3), _bright(style)
    y, x = scene.uniform(34, SIZE_PX - 34, 2)
    size = scene.uniform(22, 30)
    place = stage.local(y, x)
    stage.paint(_square(*place, size), case)
    for share, colour in ((0.75, cone), (0.55, case), (0.35, cone)):
        stage.paint(_disc(*place, share * size), colour)
    return stage.picture


def _order(
    stage: _Stage, style: np.random.Generator, scene: np.random.Generator, *, second: bool
) -> np.ndarray:
    """A disc; the light flares up, and later goes down; backwards it goes down first."""
    colour = _bright(style)
    lengths = scene.integers(13, 18, 2)
    half = stage.frames // 2
    begins = [
        scene.integers(2, half - lengths[0]),
        scene.integers(half, stage.frames - lengths[1] - 2),
    ]
    flare, dusk = (
        _event(stage.frames, int(b), int(n)) for b, n in zip(begins, lengths, strict=True)
    )
    stage.paint(
        _disc(*stage.local(*_drift(scene, stage.frames, 24)), scene.uniform(12, 20)), colour
    )
    light = np.float32(1) - np.float32(0.85) * dusk[:, None, None, None]
    white = np.float32(0.8) * flare[:, None, None, None]
    stage.picture = light * stage.picture * (1 - white) + white
    return stage.picture[::-1] if second else stage.picture


def _event(frames: int, begin: int, length: int) -> np.ndarray:
    """0 outside the event; inside it rises to 1 and falls symmetrically. (T,) float32."""
    shape = np.zeros(frames, np.float32)
    shape[begin : begin + length] = np.minimum(
        1, 2 * np.sin(np.pi * (np.arange(length) + 0.5) / length)
    )
    return shape


# Kinds differ in both shape and colour, so that only the comparison has to be learnt.
_KINDS = (
    (_disc, np.array([0.9, 0.2, 0.2])),
    (_square, np.array([0.2, 0.85, 0.3])),
    (_cross, np.array([0.3, 0.4, 0.95])),
)


def _relation(
    stage: _Stage, style: np.random.Generator, scene: np.random.Generator, *, second: bool
) -> np.ndarray:
    """Six pairs in sequence; in both classes each kind appears twice as the first and twice as the
    second object."""
    del style
    pairs = 2 * len(_KINDS)
    firsts = np.arange(pairs) // 2
    turned = (firsts + scene.integers(1, 3)) % 3  # each kind twice, never paired with itself
    others = turned if second else firsts
    cuts = np.linspace(0, stage.frames, pairs + 1).round().astype(int)
    for begin, end, pair in zip(cuts[:-1], cuts[1:], scene.permutation(pairs), strict=True):
        angle, apart = scene.uniform(0, 2 * np.pi), scene.uniform(40, 50)
        middle = scene.uniform(43, SIZE_PX - 43, 2)
        for side, kind in ((1, firsts[pair]), (-1, others[pair])):
            shape, colour = _KINDS[kind]
            y, x = middle + side * apart / 2 * np.array([np.sin(angle), np.cos(angle)])
            shade = np.clip(colour * scene.uniform(0.9, 1.1), 0, 1)
            turn = scene.uniform(-0.3, 0.3)
            when = slice(begin, end)
            stage.paint(shape(*stage.local(y, x, turn, when), scene.uniform(14, 17)), shade, when)
    return stage.picture


def _voice(
    style: np.random.Generator, scene: np.random.Generator, frames: int, high: bool | None
) -> np.ndarray:
    """A quiet hum that depends on the group, and, unless `high` is None, beeps of high or low
    pitch. (n,) float64 at RATE_HZ."""
    time = np.arange(round(frames / FPS * RATE_HZ)) / RATE_HZ  # (n,) seconds
    sound = _tone(time, style.uniform(90, 180), style.uniform(0.1, 0.6, 5)) * scene.uniform(
        0.02, 0.05
    )
    if high is None:
        return sound
    pitch_hz = 220 * 2 ** scene.uniform(0, 1) * (4 if high else 1)
    beats_hz, share = scene.uniform(3, 6), scene.uniform(0.35, 0.7)
    phase = (beats_hz * time + scene.uniform(0, 1)) % 1 / share
    beeps = np.where(phase < 1, np.sin(np.pi * np.clip(phase, 0, 1)) ** 0.5, 0)
    return sound + beeps * _tone(time, pitch_hz, style.uniform(0.1, 0.5, 3)) * scene.uniform(
        0.1, 0.3
    )


def _tone(time_seconds: np.ndarray, pitch_hz: float, overtones: np.ndarray) -> np.ndarray:
    """A tone with overtones; its mean square is 1/2 for every timbre."""
    strengths = np.concatenate([[1.0], overtones / np.arange(2, len(overtones) + 2)])
    waves = [
        s * np.sin(2 * np.pi * pitch_hz * (k + 1) * time_seconds) for k, s in enumerate(strengths)
    ]
    return np.sum(waves, axis=0) / np.sqrt((strengths**2).sum())


_DRAWN_BY = {
    "look": _look,
    "motion": _motion,
    "sound": _speaker,
    "order": _order,
    "relation": _relation,
}
