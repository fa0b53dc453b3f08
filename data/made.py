"""What made features: device, streams and the versions of packages, for people. None of it is part of a store's identity.

Versions belong to videos, for a store that is continued after an upgrade holds videos of both; merging keeps them. What stays
equal across versions is in docs/store.md.
"""

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

# What decodes and what computes: name in a store -> the names that its distribution may have. FFmpeg comes with PyAV.
_DISTRIBUTIONS = {
    "reelbank": ("reelbank",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "av": ("av",),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "pillow": ("pillow",),
    "numpy": ("numpy",),
}
_LONGEST = 100  # characters of a name or a version; a store may come from a stranger


@dataclass(frozen=True)
class Versions:
    """Name and version of each package, sorted by name; none where a store does not say with what it was made."""

    packages: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """'av 18.1.0, torch 2.14.1', or 'versions that are not recorded'."""
        return ", ".join(f"{name} {version}" for name, version in self.packages) or "versions that are not recorded"

    def only(self, names: Sequence[str]) -> Self:
        """The versions of these packages, '-' for one that is not there."""
        known = dict(self.packages)
        return type(self)(tuple((name, known.get(name, "-")) for name in names) if known else ())


NOT_RECORDED = Versions()


@functools.cache
def current_versions() -> Versions:
    """What is installed here; packages that are missing are left out."""
    found = {name: _installed(distributions) for name, distributions in _DISTRIBUTIONS.items()}
    found["ffmpeg"] = _ffmpeg()
    return Versions(tuple(sorted((name, version) for name, version in found.items() if version)))


@dataclass(frozen=True)
class Made:
    """device: what computed; streams: names of all that were extracted in the same pass, separated by blanks."""

    device: str = ""
    streams: str = ""
    versions: Versions = field(default_factory=current_versions)


def installed_version(distribution: str) -> str:
    """Version of an installed distribution; '' when it is not there."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _installed(distributions: Sequence[str]) -> str:
    return next((version for one in distributions if (version := installed_version(one))), "")


def _ffmpeg() -> str:
    try:
        import av  # only where features are written: a store is read without it
    except (ImportError, OSError):
        return ""
    return str(av.ffmpeg_version_info)


def that_count(versions: Versions, recipe: Mapping[str, Any]) -> Versions:
    """The versions that features of this recipe can depend on: all but ours, for which the recipe's features_version stands,
    and but those of timm and OpenCV where the recipe does not use them."""
    extractor, flow = str(recipe.get("extractor", "")), recipe.get("flow")
    method = flow.get("method") if isinstance(flow, Mapping) else ""
    uses_opencv = recipe.get("stream") == "idt" or recipe.get("decoder") == "opencv" or method in ("dis", "farneback")
    is_own_file = "." in extractor  # it may import what it likes
    unused = {"reelbank"}
    unused |= set() if uses_opencv or is_own_file else {"opencv"}
    unused |= set() if extractor.startswith("timm:") or is_own_file else {"timm"}
    return Versions(tuple(pair for pair in versions.packages if pair[0] not in unused))


def apart(several: Sequence[Versions]) -> list[Versions]:
    """The same without the packages in which all agree."""
    recorded = [dict(one.packages) for one in several if one.packages]
    names = dict.fromkeys(name for one in recorded for name in one)
    differing = [name for name in names if len({one.get(name) for one in recorded}) > 1]
    return [one.only(differing) if differing else one for one in several]


def versions_to_json(of_videos: Sequence[Versions]) -> dict[str, Any]:
    """The versions of each of V videos: {"versions": [{name: version}], "of": (V,) which of these made the video}."""
    distinct = {one: number for number, one in enumerate(dict.fromkeys(of_videos))}
    return {"versions": [dict(one.packages) for one in distinct], "of": [distinct[one] for one in of_videos]}


def versions_from_json(value: Any, videos: int) -> list[Versions]:
    """The versions of each video, from a file of anybody: NOT_RECORDED for all where they are not what `versions_to_json`
    makes."""
    unknown = [NOT_RECORDED] * videos
    if not isinstance(value, dict):
        return unknown
    listed, codes = value.get("versions"), value.get("of")
    if not isinstance(listed, list) or not isinstance(codes, list) or len(codes) != videos:
        return unknown
    if not all(_are_versions(one) for one in listed):
        return unknown
    if not all(type(code) is int and 0 <= code < len(listed) for code in codes):
        return unknown
    distinct = [Versions(tuple(sorted(one.items()))) for one in listed]
    return [distinct[code] for code in codes]


def _are_versions(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) > _LONGEST:
        return False
    texts = [text for pair in value.items() for text in pair]
    return all(isinstance(text, str) and len(text) <= _LONGEST for text in texts)
