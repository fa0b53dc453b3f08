"""The `about` of a feature file as JSON: its recipe, data set and who wrote it, and what it says
about each video."""

import datetime
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.identity import canonical, differences
from reelbank.data.store.file.hdf5_checks import UnsafeFile
from reelbank.data.store.records import Cost, DatasetDescription, Failure, identity
from reelbank.data.store.versions import (
    Versions,
    current_versions,
    installed_version,
    versions_from_json,
    versions_to_json,
)

FORMAT = "reelbank features 1"
_KEYS = {
    "format": str,
    "identity": str,
    "recipe": dict,
    "dataset": dict,
    "sources": list,
    "failures": dict,
    "written": dict,
}
_DATASET_KEYS = {"name": str, "classes": list, "splits": list, "coarse": dict, "multilabel": bool}
# What our commands read of a source; all other facts may have any form.
_SOURCE_KEYS = {
    "bytes": int,
    "damage": str,
    "remark": str,
    "damaged_frames": int,
    "promised_frames": int,
}
_FAILURE_KEYS = {"reason": str, "bytes": int, "modified": str, "digest": str, "kind": str}
_OPTIONAL_FAILURE_KEYS = {"modified": "", "digest": "", "kind": ""}


@dataclass(frozen=True)
class About:
    """What a feature file says about all of its videos. written: versions, time and cost of the last
    writing."""

    recipe: dict[str, Any]
    dataset: DatasetDescription
    written: Mapping[str, Any]

    @functools.cached_property
    def identity(self) -> str:
        """The identity of the store that the file belongs to."""
        return identity(self.recipe, self.dataset.name)

    @property
    def cost(self) -> Cost:
        """What the file has cost."""
        return Cost.from_json(self.written.get("cost"))


@dataclass(frozen=True)
class VideoFacts:
    """What a feature file says about each of V videos, and about videos without features.

    sources: (V,) facts about the video files. versions: (V,) package versions with which the
    features were computed. failures: id -> why a video has no features.
    """

    sources: Sequence[Mapping[str, Any]]
    versions: Sequence[Versions]
    failures: Mapping[str, Failure]


def recipe_differences(recipe: Mapping[str, Any], dataset_name: str, other: About) -> list[str]:
    """Lines that name what differs between a recipe with a data set and those of a file."""
    return differences(
        {"dataset": dataset_name, **recipe}, {"dataset": other.dataset.name, **other.recipe}
    )


def written_now(cost: Cost) -> dict[str, object]:
    """About.written of a file that is written now."""
    return {
        **dict(current_versions().packages),
        "h5py": installed_version("h5py"),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cost": cost.to_json(),
    }


def to_text(about: About, facts: VideoFacts) -> str:
    """The JSON text that a file keeps."""
    failures = {video_id: failure.to_json() for video_id, failure in facts.failures.items()}
    document = {
        "format": FORMAT,
        "identity": about.identity,
        "recipe": about.recipe,
        "dataset": about.dataset.to_json(),
        "sources": list(facts.sources),
        "failures": failures,
        "written": {"made": versions_to_json(facts.versions), **about.written},
    }
    return canonical(document)


def parse_about(text: bytes, videos: int) -> tuple[About, VideoFacts]:
    """`about` of an untrusted file of that many videos, and what it says about each. Raises
    UnsafeFile, and InputError for an id or a class that is not allowed."""
    document = _parse_json(text)
    require(_has(document, _KEYS), "/about does not have the expected keys")
    dataset = document["dataset"]
    require(
        _has({"multilabel": False, **dataset}, _DATASET_KEYS),
        "/about: dataset does not have the expected keys",
    )
    names = [dataset["classes"], dataset["splits"], *dataset["coarse"].values()]
    require(all(map(_is_text_list, names)), "/about: class and split names must be text")
    sources = document["sources"]
    require(len(sources) == videos, "/about: must have one source per video")
    require(
        {type(source) for source in sources} <= {dict}, "/about: a source must be a JSON object"
    )
    for name, kind in _SOURCE_KEYS.items():
        types_in_file = {type(source.get(name, kind())) for source in sources}
        require(types_in_file <= {kind}, f"/about: {name} of a source has the wrong type")
    failures = document["failures"]
    require(
        all(map(_is_failure, failures.values())),
        "/about: a failure does not have the expected form",
    )
    require(
        document["format"] == FORMAT,
        f"/about: format must be {FORMAT!r} (got {document['format']!r})",
    )
    written = dict(document["written"])
    facts = VideoFacts(
        sources=sources,
        versions=versions_from_json(written.pop("made", None), videos),
        failures={video_id: Failure.from_json(failure) for video_id, failure in failures.items()},
    )
    about = About(
        recipe=document["recipe"],
        dataset=DatasetDescription.from_json(dataset),
        written=written,
    )
    require(
        document["identity"] == about.identity, "/about: the identity does not match the recipe"
    )
    return about, facts


def require(condition: bool, line: str) -> None:
    """Raises UnsafeFile with this line unless the condition holds."""
    if not condition:
        raise UnsafeFile(line)


def _parse_json(text: bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise UnsafeFile(f"/about is not valid JSON ({error})") from None


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _has(value: Any, kinds: Mapping[str, type]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(isinstance(value[key], kinds[key]) for key in kinds)
    )


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_failure(value: Any) -> bool:
    return isinstance(value, dict) and _has({**_OPTIONAL_FAILURE_KEYS, **value}, _FAILURE_KEYS)


def check_ids(video_ids: Iterable[str]) -> None:
    """Ids become file names on export. Raises InputError for one that could lead out of a folder,
    or is not valid text."""
    names = list(video_ids)
    # All at once first: there may be a million.
    if _is_bad(f"/{'/0/'.join(names)}/") or any("\0" in name for name in names):
        for name in names:
            if _is_bad(f"/{name}/") or "\0" in name:
                raise InputError(
                    f"video id {name!r}: must be a relative path with '/', and must not contain "
                    "'.' or '..' as a folder; rename the file"
                )


def _is_bad(framed: str) -> bool:
    try:
        framed.encode()
    except UnicodeEncodeError:
        return True
    return "//" in framed or "/./" in framed or "/../" in framed
