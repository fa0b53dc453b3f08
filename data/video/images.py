"""A folder of numbered images as a video: `img_00001.jpg`, `frame000001.jpg`, `000001.png`, in the
order of their numbers.

All images must have the same prefix and ending, and consecutive numbers; the first number may be
any. Other files in the folder, including images without a number, are ignored.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from reelbank.data.video.opening import DecodeError

ENDINGS = frozenset({"jpg", "jpeg", "png", "bmp", "webp"})
# Frame rate of a folder if it is unknown; FFmpeg assumes the same for a stream without a container.
ASSUMED_FPS = 25.0
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_NUMBERED = re.compile(r"(.*?)(\d+)\.([^.]+)", re.ASCII | re.DOTALL)


def kinds(names: Iterable[str]) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """The numbered images among file names: (prefix, ending) -> [(number, name)], in the order of
    `names`."""
    images_of_kind: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and match[3].lower() in ENDINGS and not name.startswith("."):
            images_of_kind[match[1], match[3].lower()].append((int(match[2]), name))
    return images_of_kind


def is_video(names: Iterable[str]) -> bool:
    """Whether the files with these names are a video: two or more numbered images of one kind, and
    no other images."""
    return [len(images) > 1 for images in kinds(names).values()] == [True]


def images(folder: Path) -> list[Path]:
    """The images of a video in order. Raises DecodeError if the folder contains no numbered images
    or several kinds of them, if a number is missing or occurs twice, or if an image is empty;
    OSError if the folder cannot be read."""
    with os.scandir(folder) as entries:
        bytes_of = {entry.name: entry.stat().st_size for entry in entries if not entry.is_dir()}
    images_of_kind = kinds(bytes_of)
    if not images_of_kind:
        raise DecodeError("a folder without numbered images, not a video file")
    if len(images_of_kind) > 1:
        prefixes = ", ".join(sorted(f"{prefix}*.{ending}" for prefix, ending in images_of_kind))
        raise DecodeError(f"a folder with images of several kinds: {prefixes}")
    ordered = sorted(*images_of_kind.values())
    for (number, name), (following, other) in zip(ordered, ordered[1:], strict=False):
        if following == number:
            raise DecodeError(f"two images have the number {number}: {name} and {other}")
        if following > number + 1:
            raise DecodeError(f"image {number + 1} is missing")
    empty = [name for _, name in ordered if not bytes_of[name]]
    if empty:
        raise DecodeError(f"image {empty[0]} is empty (0 bytes)")
    return [folder / name for _, name in ordered]


def statuses(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Name and status of all numbered images, sorted by name. Raises OSError."""
    with os.scandir(folder) as entries:
        status_of = {entry.name: entry.stat() for entry in entries if not entry.is_dir()}
    numbered: list[str] = []
    for numbers_and_names in kinds(status_of).values():
        numbered += [name for _, name in numbers_and_names]
    return [(name, status_of[name]) for name in sorted(numbered)]


def read_image(path: Path, admit: Callable[[int, int], None]) -> np.ndarray:
    """(H, W, 3) uint8 RGB. `admit` is called with width and height before anything is decoded, and
    raises DecodeError for a picture that is too large. Raises DecodeError, which names the image,
    if it cannot be read completely."""
    from PIL import Image  # imported here: workers that read no images start faster without it

    # Pillow's own limit is below PICTURE_MPX and would print warnings; `admit` checks the size.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=_FORMATS) as image:
            admit(*image.size)
            if image.mode.startswith("I") or image.mode == "F":
                raise DecodeError(f"image {path.name} has more than 8 bits per channel")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        reason = str(error).replace(str(path), path.name)
        raise DecodeError(f"image {path.name} cannot be read: {reason}") from None
