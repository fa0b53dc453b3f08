"""The report's section of pictures: what a model said of some videos, under a frame of each; a video's flow and sound."""

import base64
from collections.abc import Mapping
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reelbank.data.decode import decode
from reelbank.data.opencv import cv2
from reelbank.data.opening import DecodeError
from reelbank.data.scores import Scores, probabilities
from reelbank.data.sound import read_sound
from reelbank.extract.flow import build_flow
from reelbank.extract.logmel import logmel
from reelbank.fusion import figures
from reelbank.fusion.metrics import hits, labelled

EACH = 4  # right and wrong videos
FRAME_PX = 320  # width
SOUND_EXAMPLES = 12  # of 0.96 s, at most


def chosen_videos(scores: Scores, have: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """Ids of videos given their right class, and of others, up to EACH, drawn with a fixed seed from those that have a file."""
    right, known = hits(scores), np.flatnonzero(labelled(scores))
    order = np.random.default_rng(0).permutation(len(known))
    ids = [(scores.video_ids[known[i]], bool(right[i])) for i in order]

    def some(wanted: bool) -> list[str]:
        return [name for name, good in ids if good is wanted and name in have][:EACH]

    return some(True), some(False)


def gallery_section(mark: str, scores: Scores, have: Mapping[str, Path], shown: str = "") -> list[str]:
    """Frames of right and wrong videos with the five likeliest classes as bars (Res-LSTM paper, Fig. 4); flow and sound of one.

    have: id -> file. shown: id of the video whose flow and sound are drawn; "": the first of the right ones with sound. A file
    that cannot be decoded stands as a line with its reason.
    """
    right, wrong = chosen_videos(scores, have)
    made = [
        f"<section><h2>What {mark} said</h2>",
        '<p class="quiet">Drawn at random with a fixed seed, not picked. The bars are the'
        " five likeliest classes in %, the true class’s in the strong colour.</p>",
    ]
    for title, some in (("Right", right), ("Wrong", wrong)):
        if some:
            cards = "".join(_card(scores, name, have[name]) for name in some)
            made.append(f"<h3>{title}</h3><div class='gallery'>{cards}</div>")
    for name in [shown] if shown else right:
        found = _flow_and_sound(name, have[name], bool(shown))
        if found:
            made += found
            break
    return [*made, "</section>"] if right or wrong else []


def _card(scores: Scores, name: str, path: Path) -> str:
    row = scores.video_ids.index(name)
    shares = probabilities(scores)[row]
    best = np.argsort(-shares, kind="stable")[:5]
    true = scores.classes[scores.labels[row]]
    bars = figures.bars([(scores.classes[i], float(shares[i]), f"{100 * shares[i]:.1f}") for i in best], strong=true, width=90)
    try:
        (frame, *_), _ = middle_frames(path)
        picture = _img(Image.fromarray(frame), f"a frame of {name}", "JPEG")
    except (DecodeError, OSError) as error:
        picture = f'<p class="quiet">{escape(str(error))}</p>'
    return f"<figure>{picture}<figcaption>{escape(name)}<br>true: {escape(true)}</figcaption>{bars}</figure>"


def middle_frames(path: Path) -> tuple[list[np.ndarray], float]:
    """The frame in the middle of a video and the next one, (H, W, 3) uint8 each (one where there is but one), and the time of
    the first in seconds. Raises DecodeError where it cannot be decoded."""
    frames: list[np.ndarray] = []
    times: list[float] = []
    for message in decode(path, lambda count: np.unique(np.minimum([count // 2, count // 2 + 1], count - 1))):
        if message[0] == "restart":
            frames, times = [], []
        elif message[0] == "frames":
            frames += list(message[3].copy())
            times += message[2].tolist()
    return frames, times[0]


def _flow_and_sound(name: str, path: Path, asked: bool) -> list[str]:
    """A video's flow in the middle and its log-mel spectrogram; [] where it has no sound, unless it was asked for by name."""
    try:
        waves = [
            message[3]
            for message in read_sound(path, lambda count: np.arange(min(count, SOUND_EXAMPLES)))
            if message[0] == "sound"
        ]
        if not waves and not asked:
            return []
        frames, seconds = middle_frames(path)
    except (DecodeError, OSError) as error:
        return [f'<p class="quiet">{escape(name)}: {escape(str(error))}</p>'] if asked else []
    made = [f"<h3>Flow and sound of {escape(name)}</h3><div class='gallery'>"]
    if len(frames) > 1:
        made.append(_figure(_img(Image.fromarray(frames[0]), "frame", "JPEG"), f"Frame at {seconds:.2f} s"))
        said = "Optical flow (DIS) to the next frame: hue is direction, strength is length, relative to the longest"
        made.append(_figure(_img(Image.fromarray(flow_picture(*frames[:2])), "optical flow", "JPEG"), said))
    if waves:
        wave = np.concatenate(waves)  # (n, 15600)
        said = f"Log-mel spectrogram, first {0.96 * len(wave):.1f} s, 125 to 7500 Hz upwards"
        made.append(_figure(_img(Image.fromarray(spectrogram(wave)), "log-mel spectrogram", "PNG"), said, "wide"))
    else:
        made.append('<p class="quiet">It has no sound.</p>')
    return [*made, "</div>"]


def _figure(picture: str, caption: str, style: str = "") -> str:
    return f'<figure class="{style}">{picture}<figcaption>{caption}</figcaption></figure>'


def flow_picture(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Optical flow between two frames (H, W, 3) uint8 as colours, (H, W, 3) uint8: hue its direction, saturation its length."""
    pair = [torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in (first, second)]  # (1, 3, H, W) uint8
    ((x, y),) = build_flow("dis", "cpu")(*pair).numpy()  # (2, H, W) px
    length = np.hypot(x, y)
    hue = (np.degrees(np.arctan2(y, x)) % 360) / 2  # OpenCV's half degrees
    strength = 255 * np.minimum(length / max(float(np.quantile(length, 0.99)), 1e-6), 1)
    hsv = np.stack([hue, strength, np.full_like(hue, 255)], axis=-1).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def spectrogram(waves: np.ndarray) -> np.ndarray:
    """Examples (n, 15600) as a picture (128, 96 n, 3) uint8: time to the right, frequency upwards."""
    mel = logmel(torch.from_numpy(waves)).numpy().reshape(-1, 64)  # (96 n, 64)
    low, high = float(mel.min()), float(mel.max())
    grey = (255 * (mel.T[::-1] - low) / max(high - low, 1e-6)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(np.repeat(grey, 2, axis=0), cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def _img(picture: Image.Image, about: str, kind: str) -> str:
    if picture.width > FRAME_PX and kind == "JPEG":
        picture = picture.resize((FRAME_PX, max(1, round(picture.height * FRAME_PX / picture.width))), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, kind, quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="data:image/{kind.lower()};base64,{data}" {size} alt="{escape(about)}">'
