"""Small frames of the videos on the map."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import PIL.Image
from tqdm import tqdm

from reelbank.data.console import bar_options
from reelbank.data.datasets.types import Video
from reelbank.data.system.machine import cores
from reelbank.data.video.frames import decode
from reelbank.data.video.messages import Frames, Restart
from reelbank.data.video.opening import DecodeError
from reelbank.fusion.report.gallery import encoded
from reelbank.fusion.report.videos.answers import UNKNOWN, WRONG, Answer
from reelbank.fusion.report.videos.packing import evenly

_LONGER_SIDE_PX = 120
_QUALITY = 60


@dataclass(frozen=True)
class MapFrames:
    """Base64 of a JPEG for some points of a map, by number of the point. failed: the reasons why
    videos have none, by id; about: a sentence on which points have one."""

    jpegs: Mapping[int, str]
    failed: Mapping[str, str]
    about: str


def read_frames(answers: Sequence[Answer], files: Mapping[str, Video], most: int) -> MapFrames:
    """The frames in the middle of at most `most` videos that have a file: those with wrong
    predictions, then those with right ones, then the others, each evenly chosen."""
    with_file = [i for i, answer in enumerate(answers) if answer.video_id in files]
    chosen = _chosen([answers[i] for i in with_file], most)
    numbers = [with_file[i] for i in chosen]
    chosen_videos = [files[answers[number].video_id] for number in numbers]
    jpegs: dict[int, str] = {}
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(cores().value) as pool:
        decoded = pool.map(_small_frame, chosen_videos)
        bar = tqdm(decoded, "frames of the map", len(numbers), unit="video", **bar_options())
        for number, (frame, reason) in zip(numbers, bar, strict=True):
            if reason:
                failed[answers[number].video_id] = reason
            else:
                jpegs[number] = frame
    return MapFrames(jpegs, failed, _about(len(jpegs), len(answers), len(with_file), most))


def _chosen(answers: Sequence[Answer], most: int) -> Iterator[int]:
    """The numbers of at most `most` answers."""
    left = most
    for rank in range(3):
        of_rank = [i for i, answer in enumerate(answers) if _rank(answer) == rank]
        for place in evenly(len(of_rank), left).tolist():
            yield of_rank[place]
        left -= min(left, len(of_rank))


def _rank(answer: Answer) -> int:
    if answer.state == WRONG:
        return 0
    return 1 if answer.state != UNKNOWN else 2


def _about(frames: int, points: int, with_file: int, most: int) -> str:
    if not with_file:
        return "The map shows frames if ROOT= names the folder of the videos."
    if with_file <= most:
        return f"{frames:,} of the {points:,} points show a frame from the middle of the video."
    return (
        f"{frames:,} of the {points:,} points show a frame from the middle of the video: first "
        "those with wrong predictions, then those with right ones, then the others, each evenly "
        "chosen."
    )


def _middle(count: int) -> np.ndarray:
    return np.array([count // 2])


def _small_frame(video: Video) -> tuple[str, str]:
    """Base64 of a JPEG of the frame in the middle of a video, and ""; or "" and the reason."""
    frame: np.ndarray | None = None
    try:
        for message in decode(video.path, _middle, span_seconds=video.span_seconds):
            if isinstance(message, Restart):
                frame = None
            elif isinstance(message, Frames):
                frame = message.pixels[0].copy()
    except (DecodeError, OSError) as error:
        return "", str(error)
    assert frame is not None  # a video without frames raises DecodeError
    picture = PIL.Image.fromarray(frame)
    picture.thumbnail((_LONGER_SIDE_PX, _LONGER_SIDE_PX), PIL.Image.Resampling.BILINEAR)
    return encoded(picture, "jpeg", _QUALITY), ""
