"""Presets: the preprocessing that published weights were trained with, by name."""

from collections.abc import Mapping, Sequence

from reelbank.data.console import print_lines, some
from reelbank.extract.networks.preprocessing import Preprocessing


def print_preset(
    file: str, preset: str, presets: Mapping[str, Preprocessing], published: str = ""
) -> None:
    """Print the preset that is used for the weights in a file, and which other presets differ from
    it. published: the preset whose weights are published under the file's name."""
    used = presets[preset]
    others = [f"{name} ({described(how)})" for name, how in presets.items() if how != used]
    advice = f"; give PRESET to use another preprocessing: {some(others)}" if others else ""
    if published and presets[published] != used:
        advice = (
            f"; the name of the file is that of the published weights {published} "
            f"({described(presets[published])}); if the file contains these weights, give "
            f"PRESET={published}"
        )
    print_lines(f"WEIGHTS={file}: using the preprocessing of {preset} ({described(used)}){advice}")


def described(preprocessing: Preprocessing) -> str:
    """'resize 232, crop 224, bilinear', and what is unusual in it."""
    resize, crop = _size_text(preprocessing.resize_px), _size_text(preprocessing.crop_px)
    unusual = "" if preprocessing.antialias else ", not antialiased"
    unusual += ", with a border" if preprocessing.fill else ""
    return f"resize {resize}, crop {crop}, {preprocessing.interpolation}{unusual}"


def size_px(size: Sequence[int]) -> int | tuple[int, int]:
    """One number for a square, else height and width."""
    return size[0] if size[0] == size[-1] else (size[0], size[-1])


def _size_text(size_px: int | tuple[int, int]) -> str:
    return " x ".join(map(str, size_px)) if isinstance(size_px, tuple) else str(size_px)
