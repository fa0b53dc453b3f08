"""A folder of numbered images as a video: `img_00001.jpg`, `frame000001.jpg`, `000001.png`, in the order of their numbers.

The images must be all of one prefix and one ending and follow each other without a gap; the first number may be any. Other
files in the folder, images without a number too, are passed over.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from reelbank.data.opening import DecodeError

ENDINGS = frozenset({"jpg", "jpeg", "png", "bmp", "webp"})
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_NUMBERED = re.compile(r"(.*?)(\d+)\.([^.]+)", re.ASCII | re.DOTALL)


def kinds(names: Iterable[str]) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """Numbered images among file names by (prefix, ending): their (number, name), in the order given."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and match[3].lower() in ENDINGS and not name.startswith("."):
            found[match[1], match[3].lower()].append((int(match[2]), name))
    return found


def is_video(names: Iterable[str]) -> bool:
    """Are the files of these names, all those of one folder, a video: two or more numbered images of one kind, no others?"""
    return [len(images) > 1 for images in kinds(names).values()] == [True]


def images(folder: Path) -> list[Path]:
    """The images of a video in order. Raises DecodeError when the folder holds none or several kinds, when a number is missing
    or doubled, or an image is empty; OSError when it cannot be read."""
    with os.scandir(folder) as entries:
        bytes_of = {entry.name: entry.stat().st_size for entry in entries if not entry.is_dir()}
    found = kinds(bytes_of)
    if not found:
        raise DecodeError("a folder, not a file, and without numbered images")
    if len(found) > 1:
        prefixes = ", ".join(sorted(f"{prefix}*.{ending}" for prefix, ending in found))
        raise DecodeError(f"a folder with images of several kinds: {prefixes}")
    ordered = sorted(*found.values())
    for (number, name), (following, other) in zip(ordered, ordered[1:], strict=False):
        if following == number:
            raise DecodeError(f"two images have the number {number}: {name} and {other}")
        if following > number + 1:
            raise DecodeError(f"image {number + 1} is missing")
    empty = [name for _, name in ordered if not bytes_of[name]]
    if empty:
        raise DecodeError(f"image {empty[0]} is empty (0 bytes)")
    return [folder / name for _, name in ordered]


def size_bytes(folder: Path) -> int:
    """Of all numbered images together; what a video's own size is to a file. Raises OSError."""
    with os.scandir(folder) as entries:
        bytes_of = {entry.name: entry.stat().st_size for entry in entries if not entry.is_dir()}
    return sum(bytes_of[name] for of_kind in kinds(bytes_of).values() for _, name in of_kind)


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises DecodeError, naming the image, when it cannot be read whole."""
    from PIL import Image  # only where there are images: workers start faster without

    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise DecodeError(f"image {path.name} has more than 8 bits a channel")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = str(error).replace(str(path), path.name)
        raise DecodeError(f"image {path.name} cannot be read: {said}") from None
