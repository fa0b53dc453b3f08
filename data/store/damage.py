"""Damage of the video files as a store records it, for the commands that show it."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reelbank.data.console import counted, some
from reelbank.data.store.file.columns import CHUNK, LazySequence


@dataclass(frozen=True)
class Damage:
    """Damage among some videos. videos: id -> what is wrong. remarks: id -> which timestamps were
    taken to be wrong. unknown: number of videos stored by versions that did not check for damage."""

    videos: dict[str, str]
    remarks: dict[str, str]
    unknown: int


def damage_of(source: Mapping[str, Any]) -> str:
    """What is wrong with a video's file, "" if nothing is. source: its entry in a store's sources;
    in older stores that has only the number of repaired frames."""
    sound = source.get("sound")
    of_sound = str(sound.get("damage", "")) if isinstance(sound, dict) else ""
    if "damage" in source:
        return "; ".join(text for text in (str(source["damage"]), of_sound) if text)
    repaired = source.get("damaged_frames", 0)
    return (
        f"{repaired} of its {source.get('frames', '?')} frames had to be mended" if repaired else ""
    )


def damage_among(video_ids: Iterable[str], sources: Sequence[Mapping[str, Any]]) -> Damage:
    """The damage that these sources, one per video, record."""
    damage = Damage({}, {}, 0)
    unknown = 0
    for name, source in zip(video_ids, noteworthy(sources), strict=True):
        if source is None:
            continue
        if text := damage_of(source):
            damage.videos[name] = text
        if source.get("remark"):
            damage.remarks[name] = str(source["remark"])
        unknown += "frames" in source and "damage" not in source
    return replace(damage, unknown=unknown)


# Facts of a file that nothing is wrong with contain the first of these, and none of the others.
_UNDAMAGED, _NOTEWORTHY = b'"damage":""', (b'"remark"', b'"sound"', b"\\u")


def noteworthy(
    sources: Sequence[Mapping[str, Any]],
) -> Iterator[Mapping[str, Any] | None]:
    """The facts about each video's file; None if the video has no sound and nothing is wrong with
    its file. Most of a million videos are such, and parsing what a store keeps about them would
    take seconds."""
    if not isinstance(sources, LazySequence):
        yield from sources
        return
    for first in range(0, len(sources), CHUNK):
        texts = sources.encoded(first, min(len(sources), first + CHUNK))
        together = b"\n".join(texts)
        is_plain = together.count(_UNDAMAGED) == len(texts) and not _has_any(together)
        if is_plain:  # most chunks, which are quick to search as one text
            yield from itertools.repeat(None, len(texts))
            continue
        for number, text in enumerate(texts, first):
            is_plain = _UNDAMAGED in text and not _has_any(text)
            yield None if is_plain else sources[number]


def _has_any(text: bytes) -> bool:
    return any(word in text for word in _NOTEWORTHY)


def damage_line(damaged: Mapping[str, str], videos: int, limit: int = 3) -> str:
    """'2 of 30 videos are damaged: a (28 of 102 frames could be decoded), b (...)'."""
    verb = "is" if len(damaged) == 1 else "are"
    named = some([f"{name} ({text})" for name, text in damaged.items()], limit)
    return f"{len(damaged):,} of {counted(videos, 'video')} {verb} damaged: {named}"
