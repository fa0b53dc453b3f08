"""The report's section of pictures. It shows the predictions of a model for some videos with a
frame of each, and the flow and the sound of one video."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from reelbank.data.errors import InputError
from reelbank.data.scores.joining import rows_of
from reelbank.data.scores.likeliest import likeliest
from reelbank.data.scores.table import Scores
from reelbank.data.video.frames import decode
from reelbank.data.video.messages import Frames, Restart, Sound
from reelbank.data.video.opencv import cv2
from reelbank.data.video.opening import DecodeError
from reelbank.data.video.sound import read_sound
from reelbank.extract.flow.methods import build_flow
from reelbank.extract.pipeline.logmel import logmel
from reelbank.fusion.metrics import hits, labelled
from reelbank.fusion.report.drawings import bar_charts, prediction_cards
from reelbank.fusion.report.view import (
    Block,
    Card,
    Drawing,
    Gallery,
    Heading,
    Image,
    Section,
    note,
    percent,
)

EACH = 4  # number of correct and of wrong videos
BARS = 5  # number of most likely classes of each
FRAME_PX = 320  # width of a frame
SOUND_EXAMPLES = 12  # maximum number of examples of 0.96 s


def chosen_videos(scores: Scores, files: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """The ids of correctly and of wrongly classified videos, up to EACH of both. They are drawn
    with a fixed seed from the videos that have a file."""
    correct, rows = hits(scores), np.flatnonzero(labelled(scores))
    right: list[str] = []
    wrong: list[str] = []
    for i in np.random.default_rng(0).permutation(len(rows)):
        name = scores.video_ids[rows[i]]
        if name in files:
            (right if correct[i] else wrong).append(name)
    return right[:EACH], wrong[:EACH]


def gallery_section(
    letter: str, scores: Scores, files: Mapping[str, Path], show: str = ""
) -> Section | None:
    """Frames of videos with correct and wrong predictions, the most likely classes as bars
    (Res-LSTM paper, Fig. 4), and the flow and the sound of one video.

    files: the file of each video by id; show: id of the video whose flow and sound are drawn, or ""
    for the first correctly classified video with sound. A file that cannot be decoded gets a line
    with the reason. None if no video has a file.
    """
    right, wrong = chosen_videos(scores, files)
    if not right and not wrong:
        return None
    blocks: list[Block] = [
        note(
            "The videos were chosen at random with a fixed seed. The bars show the five "
            "most likely classes in %. The true class is shown in the strong colour."
        )
    ]
    for title, names in (("Right", right), ("Wrong", wrong)):
        if names:
            cards = [_card(scores, name, files[name]) for name in names]
            blocks += [Heading(title), Gallery(cards)]
    for name in [show] if show else right:
        if flow_and_sound := _flow_and_sound(name, files[name], requested=bool(show)):
            blocks += flow_and_sound
            break
    return Section(f"Example predictions of {letter}", blocks)


def _card(scores: Scores, name: str, path: Path) -> Card:
    true, likeliest = _likeliest(scores, name)
    bars = bar_charts.bars(likeliest, strong=true, width=90)
    image, reason = _middle(name, path)
    return Card([name, f"true: {true}"], image, reason, bars)


def _likeliest(scores: Scores, name: str) -> tuple[str, list[bar_charts.NamedValue]]:
    """The true class of a video, and its BARS most likely classes with their probabilities."""
    row = scores.video_ids.index(name)
    best = likeliest(rows_of(scores, [row]), BARS)
    bars = [
        bar_charts.NamedValue(scores.classes[number], chance, percent(chance))
        for number, chance in zip(best.numbers[0], best.chances[0].tolist(), strict=True)
    ]
    return scores.classes[scores.labels[row]], bars


def _middle(name: str, path: Path) -> tuple[Image | None, str]:
    """The frame in the middle of a video, or None and the reason."""
    try:
        (frame, *_), _ = middle_frames(path)
    except (DecodeError, OSError) as error:
        return None, str(error)
    return photograph(frame, f"a frame of {name}"), ""


def disputed_videos(
    first: Scores, second: Scores, files: Mapping[str, Path]
) -> tuple[list[str], list[str]]:
    """Ids of videos that only the first model predicts correctly, and that only the second does, up
    to EACH of both, drawn with a fixed seed from those that have a file."""
    right = [
        {scores.video_ids[row] for row in np.flatnonzero(_right(scores))}
        for scores in (first, second)
    ]
    both = [name for name in first.video_ids if name in set(second.video_ids) and name in files]
    only_first: list[str] = []
    only_second: list[str] = []
    for i in np.random.default_rng(0).permutation(len(both)):
        is_right = [both[i] in names for names in right]
        if is_right[0] != is_right[1]:
            (only_first if is_right[0] else only_second).append(both[i])
    return only_first[:EACH], only_second[:EACH]


def _right(scores: Scores) -> np.ndarray:
    """Whether each video, (V,) bool, has a class and is predicted correctly."""
    correct = np.zeros(len(scores.video_ids), bool)
    correct[labelled(scores)] = hits(scores)
    return correct


def predictions(
    models: Mapping[str, Scores], files: Mapping[str, Path]
) -> tuple[Drawing, list[tuple[object, ...]]]:
    """Videos with the most likely classes of one model or two as one drawing, and its numbers,
    headings first.

    One model: the videos of `gallery_section`, those predicted correctly above the others (MRRN
    paper, Fig. 3). Two models: side by side on the same videos, those that only the first predicts
    correctly above those that only the second does (Relational LSTM paper, Fig. 4). Raises InputError
    if no video has a file, and if two models are right on the same videos.
    """
    first, *others = models.values()
    chosen = disputed_videos(first, others[0], files) if others else chosen_videos(first, files)
    cards: list[list[prediction_cards.Predicted]] = []
    numbers: list[tuple[object, ...]] = [("video", "true class", "model", "class", "probability")]
    for names in chosen:
        row = []
        for name in names:
            bars: dict[str, list[bar_charts.NamedValue]] = {}
            for model, scores in models.items():
                true, bars[model] = _likeliest(scores, name)
                numbers += [(name, true, model, bar.name, bar.value) for bar in bars[model]]
            image, reason = _middle(name, files[name])
            row.append(prediction_cards.Predicted(name, true, bars, image, reason))
        cards.append(row)
    if not any(cards):
        raise InputError(
            f"{' and '.join(models)} predict the same videos correctly, so there is no "
            "difference to show"
            if others and any(name in files for name in first.video_ids)
            else "none of the scored videos has a file from which a frame could be shown"
        )
    return prediction_cards.predictions([row for row in cards if row]), numbers


def middle_frames(path: Path) -> tuple[list[np.ndarray], float]:
    """The frame in the middle of a video and the next frame, (H, W, 3) uint8 each, and the time of
    the first frame in seconds. There is only one frame if no other follows. Raises DecodeError
    where it cannot be decoded."""
    frames: list[np.ndarray] = []
    times: list[float] = []
    for message in decode(
        path, lambda count: np.unique(np.minimum([count // 2, count // 2 + 1], count - 1))
    ):
        if isinstance(message, Restart):
            frames, times = [], []
        elif isinstance(message, Frames):
            frames += list(message.pixels.copy())
            times += message.seconds.tolist()
    return frames, times[0]


def _flow_and_sound(name: str, path: Path, *, requested: bool) -> list[Block]:
    """The flow in the middle of a video and its log-mel spectrogram. It is [] if the video has no
    sound or cannot be decoded, unless the video was requested by name."""
    try:
        waves = _waves(path)
        if not waves and not requested:
            return []
        frames, seconds = middle_frames(path)
    except (DecodeError, OSError) as error:
        return [note(f"{name}: {error}")] if requested else []
    # a folder of images has no times
    place = "Frame in the middle" if path.is_dir() else f"Frame at {seconds:.2f} s"
    cards = _flow_cards(frames, place) if len(frames) > 1 else []
    cards.append(_sound_card(waves) if waves else Card(reason="The video has no sound."))
    return [Heading(f"Flow and sound of {name}"), Gallery(cards)]


def _waves(path: Path) -> list[np.ndarray]:
    """The first examples of a video's sound, (n, 15600), or [] if the video has no sound."""
    messages = read_sound(path, lambda count: np.arange(min(count, SOUND_EXAMPLES)))
    return [message.waves for message in messages if isinstance(message, Sound)]


def _flow_cards(frames: Sequence[np.ndarray], place: str) -> list[Card]:
    first, second = frames[:2]
    about = (
        "Optical flow (DIS) to the next frame. The hue shows the direction, and the "
        "strength of the colour shows the length relative to the longest vectors"
    )
    return [
        Card([place], photograph(first, "frame")),
        Card([about], photograph(flow_picture(first, second), "optical flow")),
    ]


def _sound_card(waves: Sequence[np.ndarray]) -> Card:
    wave = np.concatenate(waves)  # (n, 15600)
    about = (
        f"Log-mel spectrogram of the first {0.96 * len(wave):.1f} s. The frequency axis "
        "goes from 125 Hz (bottom) to 7500 Hz (top)"
    )
    picture = PIL.Image.fromarray(spectrogram(wave))
    return Card([about], _image(picture, "log-mel spectrogram", "png"), wide=True)


def flow_picture(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Optical flow between two frames (H, W, 3) uint8 as colours, (H, W, 3) uint8. Hue shows its
    direction, and saturation shows its length."""
    pair = [
        torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in (first, second)
    ]  # (1, 3, H, W) uint8
    ((x, y),) = build_flow("dis", "cpu")(*pair).numpy()  # (2, H, W) px
    length = np.hypot(x, y)
    hue = (np.degrees(np.arctan2(y, x)) % 360) / 2  # OpenCV counts hue in steps of two degrees
    # the 99th percentile, because a few outliers would leave all other vectors pale
    strength = 255 * np.minimum(length / max(float(np.quantile(length, 0.99)), 1e-6), 1)
    hsv = np.stack([hue, strength, np.full_like(hue, 255)], axis=-1).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def spectrogram(waves: np.ndarray) -> np.ndarray:
    """Examples (n, 15600) as a picture (128, 96 n, 3) uint8. Time runs to the right and frequency
    upwards."""
    mel = logmel(torch.from_numpy(waves)).numpy().reshape(-1, 64)  # (96 n, 64)
    low, high = float(mel.min()), float(mel.max())
    grey = (255 * (mel.T[::-1] - low) / max(high - low, 1e-6)).astype(np.uint8)
    return cv2.cvtColor(
        cv2.applyColorMap(np.repeat(grey, 2, axis=0), cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB
    )


def photograph(frame: np.ndarray, alt: str) -> Image:
    """A frame (H, W, 3) uint8 as JPEG, at most FRAME_PX wide."""
    picture = PIL.Image.fromarray(frame)
    if picture.width > FRAME_PX:
        height = max(1, round(picture.height * FRAME_PX / picture.width))
        picture = picture.resize((FRAME_PX, height), PIL.Image.Resampling.LANCZOS)
    return _image(picture, alt, "jpeg")


def _image(picture: PIL.Image.Image, alt: str, file_type: str) -> Image:
    data = encoded(picture, file_type)
    return Image(file_type, data, picture.width, picture.height, alt)


def encoded(picture: PIL.Image.Image, file_type: str, quality: int = 80) -> str:
    """Base64 of a picture as a file of this type. quality: of a JPEG."""
    buffer = BytesIO()
    picture.save(buffer, file_type, quality=quality)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
