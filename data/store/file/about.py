"""The `about` of a feature file as JSON: its recipe, its data set and who wrote it. In format versions
1 and 2 it also has the facts about each video."""

import datetime
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.identity import canonical, differences, reject_constant
from reelbank.data.store.file.hdf5_checks import UnsafeFile
from reelbank.data.store.records import Cost, DatasetDescription, Failure, identity
from reelbank.data.store.versions import (
    Versions,
    current_versions,
    installed_version,
    listed_versions,
    versions_from_json,
)

FORMAT = "reelbank features 3"
_EARLIER_FORMAT = "reelbank features 1"  # of versions 1 and 2
_KEYS = {"format": str, "identity": str, "recipe": dict, "dataset": dict, "written": dict}
_EARLIER_KEYS = {**_KEYS, "sources": list, "failures": dict}
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


def to_text(about: About, made: Sequence[Versions]) -> str:
    """The JSON text that a file keeps. made: the different versions that its videos were made with,
    in the order of their codes."""
    document = {
        "format": FORMAT,
        "identity": about.identity,
        "recipe": about.recipe,
        "dataset": about.dataset.to_json(),
        "written": {"made": [dict(versions.packages) for versions in made], **about.written},
    }
    return canonical(document)


def parse_about(text: bytes) -> tuple[About, list[Versions]]:
    """`about` of an untrusted file, and the versions that its videos were made with, in the order of
    their codes. Raises UnsafeFile, and InputError for a class that is not allowed."""
    document = _parse_document(text, FORMAT, _KEYS)
    written = dict(document["written"])
    made = listed_versions(written.pop("made", None))
    return _about(document, written), made


def parse_earlier_about(text: bytes, videos: int) -> tuple[About, VideoFacts]:
    """`about` of an untrusted file of version 1 or 2 with that many videos, and what it says about
    each. Raises UnsafeFile, and InputError for an id or a class that is not allowed."""
    document = _parse_document(text, _EARLIER_FORMAT, _EARLIER_KEYS)
    sources, failures = document["sources"], document["failures"]
    require(len(sources) == videos, "/about: must have one source per video")
    require(
        {type(source) for source in sources} <= {dict}, "/about: a source must be a JSON object"
    )
    for reason in map(source_fault, sources):
        require(not reason, reason)
    for reason in map(failure_fault, failures.values()):
        require(not reason, reason)
    written = dict(document["written"])
    facts = VideoFacts(
        sources=sources,
        versions=versions_from_json(written.pop("made", None), videos),
        failures={video_id: Failure.from_json(failure) for video_id, failure in failures.items()},
    )
    return _about(document, written), facts


def source_fault(source: Mapping[str, Any]) -> str:
    """What is wrong with the facts about a video file in an untrusted file; "" if nothing is."""
    for name, kind in _SOURCE_KEYS.items():
        if name in source and type(source[name]) is not kind:
            return f"/about: {name} of a source has the wrong type"
    return ""


def failure_fault(failure: Any) -> str:
    """What is wrong with a failure in an untrusted file; "" if nothing is."""
    is_failure = isinstance(failure, dict) and _has(
        {**_OPTIONAL_FAILURE_KEYS, **failure}, _FAILURE_KEYS
    )
    return "" if is_failure else "/about: a failure does not have the expected form"


def _parse_document(text: bytes, form: str, keys: Mapping[str, type]) -> dict[str, Any]:
    document = parse_json(text)
    require(_has(document, keys), "/about does not have the expected keys")
    check_dataset(document["dataset"])
    require(
        document["format"] == form,
        f"/about: format must be {form!r} (got {document['format']!r})",
    )
    return dict(document)


def check_dataset(dataset: Any) -> None:
    """Raises UnsafeFile unless a value from JSON has the form of a data set's description."""
    require(
        isinstance(dataset, dict) and _has({"multilabel": False, **dataset}, _DATASET_KEYS),
        "/about: dataset does not have the expected keys",
    )
    names = [dataset["classes"], dataset["splits"], *dataset["coarse"].values()]
    require(all(map(_is_text_list, names)), "/about: class and split names must be text")


def _about(document: Mapping[str, Any], written: Mapping[str, Any]) -> About:
    about = About(
        recipe=document["recipe"],
        dataset=DatasetDescription.from_json(document["dataset"]),
        written=written,
    )
    require(
        document["identity"] == about.identity, "/about: the identity does not match the recipe"
    )
    about.dataset.check_classes()
    return about


def require(condition: bool, line: str) -> None:
    """Raises UnsafeFile with this line unless the condition holds."""
    if not condition:
        raise UnsafeFile(line)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from an untrusted file. Raises UnsafeFile."""
    try:
        return json.loads(text, parse_constant=reject_constant)
    except (ValueError, RecursionError) as error:
        raise UnsafeFile(f"/about is not valid JSON ({error})") from None


def _has(value: Any, kinds: Mapping[str, type]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(isinstance(value[key], kinds[key]) for key in kinds)
    )


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def check_ids(video_ids: Iterable[str]) -> None:
    """Ids become file names on export. Raises InputError for one that could lead out of a folder,
    or is not valid text."""
    reason = ids_fault(list(video_ids))
    if reason:
        raise InputError(reason)


def ids_fault(video_ids: Sequence[str]) -> str:
    """What is wrong with an id that could lead out of a folder, or is not valid text; "" if all ids
    are allowed."""
    # All at once first: there may be a million.
    if _is_bad(f"/{'/0/'.join(video_ids)}/"):
        for name in video_ids:
            if _is_bad(f"/{name}/"):
                return (
                    f"video id {name!r}: must be a relative path with '/', and must not contain "
                    "'.' or '..' as a folder; rename the file"
                )
    return ""


def _is_bad(framed: str) -> bool:
    try:
        framed.encode()
    except UnicodeEncodeError:
        return True
    return any(part in framed for part in ("//", "/./", "/../", "\0"))
