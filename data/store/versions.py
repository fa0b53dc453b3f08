"""How features were made: the device, the streams and the package versions, for information only.
They are not part of a store's identity.

Versions are stored per video, because a store that is continued after an upgrade holds videos of
both versions; merging keeps them. docs/store.md says which results stay equal across versions.
"""

import functools
import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.store.weights import PublishedWeights

# Packages that decode or compute: name in a store -> the names that its distribution may have.
# FFmpeg comes with PyAV.
_DISTRIBUTIONS = {
    "reelbank": ("reelbank",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "transformers": ("transformers",),
    "av": ("av",),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "pillow": ("pillow",),
    "numpy": ("numpy",),
}
# All packages whose version a file records when it is written.
_WRITTEN = (*_DISTRIBUTIONS, "ffmpeg", "h5py")
_LONGEST = 100  # characters of a name or a version in an untrusted store


@dataclass(frozen=True)
class Versions:
    """Name and version of each package, sorted by name; empty if a store does not record them."""

    packages: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """'av 18.1.0, torch 2.14.1', or 'versions that are not recorded'."""
        return (
            ", ".join(f"{name} {version}" for name, version in self.packages)
            or "versions that are not recorded"
        )

    def only(self, names: Sequence[str]) -> Self:
        """The versions of these packages, '-' for a missing one."""
        versions = dict(self.packages)
        if not versions:
            return type(self)()
        return type(self)(tuple((name, versions.get(name, "-")) for name in names))


NOT_RECORDED = Versions()


@functools.cache
def current_versions() -> Versions:
    """The installed versions; missing packages are left out."""
    installed = {name: _installed(names) for name, names in _DISTRIBUTIONS.items()}
    installed["ffmpeg"] = _ffmpeg()
    pairs = [(name, version) for name, version in installed.items() if version]
    return Versions(tuple(sorted(pairs)))


def packages_among(written: Mapping[str, Any]) -> Versions:
    """The package versions among the facts about the last write, which an untrusted file records."""
    versions = [(name, written.get(name)) for name in sorted(_WRITTEN)]
    return Versions(
        tuple((name, version) for name, version in versions if isinstance(version, str) and version)
    )


# Follows a GPU's name if it resizes to the same bytes as the CPU and computes in full fp32.
EXACT = " (exact)"


def is_inexact(devices: str) -> bool:
    """Whether one of a store's devices is a GPU whose arithmetic was not exact yet."""
    return bool(re.sub(rf"CPU \([^()]*\)|[^,]+{re.escape(EXACT)}", "", devices).strip(", "))


@dataclass(frozen=True)
class Made:
    """How a store's features are made. device: the computing device; streams: all streams of the
    same pass, separated by spaces; weights: published ones that the features are computed with."""

    device: str = ""
    streams: str = ""
    weights: tuple[PublishedWeights, ...] = ()
    versions: Versions = field(default_factory=current_versions)


def installed_version(distribution: str) -> str:
    """Version of an installed distribution; '' if it is missing."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _installed(distributions: Sequence[str]) -> str:
    return next(filter(None, map(installed_version, distributions)), "")


def _ffmpeg() -> str:
    try:
        import av  # needed only for writing; stores are read without it
    except (ImportError, OSError):
        return ""
    return str(av.ffmpeg_version_info)


def that_count(versions: Versions, recipe: Mapping[str, Any]) -> Versions:
    """The versions that features of this recipe can depend on: all except reelbank's, which the
    recipe's features_version covers, and those of timm, transformers and OpenCV if the recipe does
    not use them."""
    features = FeatureRecipe.from_json(recipe)
    may_use_all = features.has_own_code  # it may import any package
    unused = {"reelbank"}
    if not (features.uses_opencv or may_use_all):
        unused.add("opencv")
    if not (features.uses_timm or may_use_all):
        unused.add("timm")
    if not (features.uses_transformers or may_use_all):
        unused.add("transformers")
    return Versions(tuple(pair for pair in versions.packages if pair[0] not in unused))


def apart(several: Sequence[Versions]) -> list[Versions]:
    """The same without the packages in which all agree."""
    recorded = [dict(versions.packages) for versions in several if versions.packages]
    names: dict[str, str] = {}
    for packages in recorded:
        names |= packages
    differing = [name for name in names if len({packages.get(name) for packages in recorded}) > 1]
    return [versions.only(differing) if differing else versions for versions in several]


def listed_versions(value: Any) -> list[Versions]:
    """A list of versions in an untrusted file; empty unless it has the form [{name: version}]."""
    if not isinstance(value, list) or not all(map(_are_versions, value)):
        return []
    return [Versions(tuple(sorted(packages.items()))) for packages in value]


def versions_from_json(value: Any, videos: int) -> list[Versions]:
    """The versions of each video in an untrusted file of format version 1 or 2; NOT_RECORDED for all
    unless they have the form {"versions": [{name: version}], "of": (V,) each video's entry of that
    list}."""
    unknown = [NOT_RECORDED] * videos
    if not isinstance(value, dict):
        return unknown
    distinct, codes = listed_versions(value.get("versions")), value.get("of")
    if not isinstance(codes, list) or len(codes) != videos:
        return unknown
    if not all(type(code) is int and 0 <= code < len(distinct) for code in codes):
        return unknown
    return [distinct[code] for code in codes]


def _are_versions(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) > _LONGEST:
        return False
    texts = [*value.keys(), *value.values()]
    return all(isinstance(text, str) and len(text) <= _LONGEST for text in texts)
