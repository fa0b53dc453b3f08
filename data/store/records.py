"""What a store says about its data set, about each video, and about videos without features.

In memory these are dataclasses; `to_json` and `from_json` are the form that a store's file keeps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import xxhash

from reelbank.data.datasets.types import Dataset
from reelbank.data.errors import InputError
from reelbank.data.identity import signature
from reelbank.data.system.faults import MACHINE, is_machine_fault
from reelbank.data.video.sources import SourceFile

NO_SOUND, REFUSED = "no sound", "refused as damaged"
KINDS = ("", NO_SOUND, REFUSED, MACHINE)
_UNKNOWN_FILE = SourceFile(0)
_SEPARATOR = ": "  # between a failure's kind and its reason, in the text that a file keeps


def identity(recipe: Mapping[str, Any], dataset_name: str) -> str:
    """The identity of a store: SHA-256 of its recipe and its data set's name, 64 hex digits."""
    return signature({"dataset": dataset_name, "recipe": recipe})


@dataclass(frozen=True)
class DatasetDescription:
    """The description of a data set in a store.

    classes: all classes in their official order. coarse: maps each category to its classes.
    multilabel: whether a video can have any number of classes; its label then contains their names
    separated by ';'.
    """

    name: str
    classes: Sequence[str] = ()
    splits: Sequence[str] = ()
    coarse: Mapping[str, Sequence[str]] = field(default_factory=dict)
    multilabel: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "splits", tuple(self.splits))
        coarse = {category: tuple(classes) for category, classes in self.coarse.items()}
        object.__setattr__(self, "coarse", coarse)

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The description of a data set that was loaded."""
        return cls(
            dataset.name,
            dataset.classes,
            dataset.splits,
            dataset.coarse,
            multilabel=dataset.multilabel,
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The description that a file keeps."""
        return cls(
            document["name"],
            document["classes"],
            document["splits"],
            document["coarse"],
            multilabel=document.get("multilabel", False),
        )

    def to_json(self) -> dict[str, object]:
        """`multilabel` is left out when it is False, as in files from before it existed."""
        document: dict[str, object] = {
            "name": self.name,
            "classes": list(self.classes),
            "splits": list(self.splits),
            "coarse": {category: list(classes) for category, classes in self.coarse.items()},
        }
        return document | ({"multilabel": True} if self.multilabel else {})

    def label_names(self, label: str) -> list[str]:
        """The classes that a video's label names: at most one, or any number if `multilabel`."""
        if not label:
            return []
        return label.split(";") if self.multilabel else [label]

    def check_classes(self) -> None:
        """Raises InputError for a class of a multi-label data set whose name has a ';'."""
        for name in self.classes if self.multilabel else ():
            if ";" in name or not name:
                raise InputError(
                    f"class {name!r}: must not contain ';', which separates the classes of a "
                    "multi-label video; rename the class"
                )

    def combined(self, newer: "DatasetDescription") -> "DatasetDescription":
        """Classes, splits and categories of both. The order is that of the description that has all
        of them; if neither has, the newer one's come first."""
        if self == newer:
            return newer
        return DatasetDescription(
            newer.name,
            _combined(self.classes, newer.classes),
            _combined(self.splits, newer.splits),
            {**self.coarse, **newer.coarse},
            multilabel=newer.multilabel,
        )


def _combined(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    old_has_all = set(new) < set(old)
    return tuple(old) if old_has_all else tuple(dict.fromkeys([*new, *old]))


@dataclass(frozen=True)
class DatasetListing:
    """The videos of a data set when it was last extracted, as the files of its stores record it.

    ids: digest of the ids of all its videos, also of those that CLASSES= left out, "" if unknown.
    is_drawn: whether the split was drawn at random.
    """

    ids: str = ""
    is_drawn: bool = False

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The listing of a data set that was loaded."""
        videos = (*dataset.videos, *dataset.unselected)
        return cls(ids_text_digest(video.id for video in videos), dataset.is_drawn)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self | None:
        """From `written` of a file; None if the file does not record it."""
        ids = document.get("dataset_ids")
        return cls(ids, document.get("split") == "drawn") if isinstance(ids, str) else None

    def to_json(self) -> dict[str, str]:
        """The form in `written` of a file."""
        return {"dataset_ids": self.ids, "split": "drawn" if self.is_drawn else "stated"}


def ids_text_digest(video_ids: Iterable[str]) -> str:
    """128-bit xxh3 of these ids in any order, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(video_ids)).encode("utf-8", "replace"))


@dataclass(frozen=True)
class StoredVideo:
    """What a store records about a video in addition to its features.

    label: class name, "" if unlabelled; in a multi-label data set, class names separated by ';'.
    group: the recording that the video was cut from, "" if unknown. parts: "train",
    "validation", "test" or "" for each split. source: facts about the file, such as its size in `bytes`, the number of frames
    and the decoder (JSON-serialisable).
    """

    id: str
    label: str = ""
    group: str = ""
    parts: Sequence[str] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))


@dataclass(frozen=True)
class Failure:
    """The reason why a store has no features of a video.

    kind: NO_SOUND (the video has no sound, which is not an error), REFUSED (the video is damaged,
    and DAMAGED=refuse was set), MACHINE (the machine could not read the file; the video is tried
    again), or "" for any other reason. source: facts about the video file.
    """

    reason: str
    source: SourceFile = _UNKNOWN_FILE
    kind: str = ""

    @classmethod
    def of(cls, text: str, source: SourceFile = _UNKNOWN_FILE, *, by_machine: bool = False) -> Self:
        """From the text that a file keeps, which begins with the kind NO_SOUND or REFUSED."""
        if by_machine:
            return cls(text, source, MACHINE)
        for kind in (NO_SOUND, REFUSED):
            if text.startswith(kind + _SEPARATOR):
                return cls(text.removeprefix(kind + _SEPARATOR), source, kind)
        return cls(text, source)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The failure that a file keeps."""
        return cls.of(
            document["reason"], SourceFile.of(document), by_machine=is_machine_fault(document)
        )

    def to_json(self) -> dict[str, object]:
        """The form in a file: NO_SOUND and REFUSED are a part of the reason's text."""
        document = {"reason": str(self), **self.source.facts()}
        return document | ({"kind": MACHINE} if self.by_machine else {})

    def __str__(self) -> str:
        """The reason; for NO_SOUND and REFUSED the kind comes first."""
        is_prefixed = self.kind in (NO_SOUND, REFUSED)
        return f"{self.kind}{_SEPARATOR}{self.reason}" if is_prefixed else self.reason

    @property
    def by_machine(self) -> bool:
        """Whether the machine could not read the file; the video is tried again."""
        return self.kind == MACHINE

    @property
    def is_absence(self) -> bool:
        """Whether the video has no sound to extract from, which is a fact and not an error."""
        return self.kind == NO_SOUND


@dataclass(frozen=True)
class Cost:
    """The time that it took to compute a store.

    seconds: wall time of all extractions that wrote the store, None if it is not recorded. device:
    the devices that were used, separated by ', '. streams: the streams that were extracted at the
    same time, separated by ', '.
    """

    seconds: float | None
    device: str = ""
    streams: str = ""

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The cost that a file keeps; seconds None if the file does not say or makes no sense."""
        facts = document if isinstance(document, Mapping) else {}
        seconds: Any = facts.get("seconds")
        is_time = type(seconds) in (int, float) and 0 <= seconds < float("inf")
        return cls(
            float(seconds) if is_time else None,
            str(facts.get("device", "")),
            str(facts.get("streams", "")),
        )

    def to_json(self) -> dict[str, object]:
        """Texts that are empty are left out."""
        texts = {"device": self.device, "streams": self.streams}
        return {"seconds": self.seconds, **{key: text for key, text in texts.items() if text}}

    @classmethod
    def total(cls, costs: Sequence["Cost"]) -> Self:
        """The sum; seconds None if one of the costs has none."""
        times = [cost.seconds for cost in costs if cost.seconds is not None]
        return cls(
            round(sum(times), 3) if len(times) == len(costs) else None,
            ", ".join(dict.fromkeys(cost.device for cost in costs if cost.device)),
            ", ".join(dict.fromkeys(cost.streams for cost in costs if cost.streams)),
        )
