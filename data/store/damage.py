"""Damage of the video files as a store records it, for the commands that show it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reelbank.data.console import counted, some
from reelbank.data.store.file.columns import CHUNK, LazySequence

_FEW = 16  # the share of videos that are parsed one by one is below 1 / _FEW


@dataclass(frozen=True)
class Damage:
    """Damage among some videos. videos: id -> what is wrong. remarks: id -> which timestamps were
    taken to be wrong. unknown: number of videos stored by versions that did not check for damage.
    sound: state of the sound -> number of videos."""

    videos: dict[str, str]
    remarks: dict[str, str]
    unknown: int
    sound: Counter[str]


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


def damage_among(video_ids: Sequence[str], sources: Sequence[Mapping[str, Any]]) -> Damage:
    """The damage that these sources, one per video, record."""
    damage = Damage({}, {}, 0, Counter())
    unknown = 0
    for number, source in notable_sources(sources):
        if text := damage_of(source):
            damage.videos[video_ids[number]] = text
        if source.get("remark"):
            damage.remarks[video_ids[number]] = str(source["remark"])
        sound = source.get("sound")
        if isinstance(sound, dict) and sound.get("state"):
            damage.sound[str(sound["state"])] += 1
        unknown += "frames" in source and "damage" not in source
    return replace(damage, unknown=unknown)


def notable_sources(
    sources: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The number of each video, and what its source says, but for videos without sound whose source
    says that nothing is wrong: of a million videos, these are not parsed."""
    if not isinstance(sources, LazySequence):
        yield from enumerate(sources)
        return
    for first in range(0, len(sources), CHUNK):
        last = min(len(sources), first + CHUNK)
        texts = sources.encoded(first, last)
        joined = b"".join(texts)  # searched at once, which is ten times faster than one by one
        if (
            joined.count(b'"damage":""') == len(texts)
            and b'"remark"' not in joined
            and b'"sound"' not in joined
        ):
            continue
        notable = [
            number
            for number, text in enumerate(texts, first)
            if not (b'"damage":""' in text and b'"remark"' not in text) or b'"sound"' in text
        ]
        # Many are parsed at once: finding one alone takes longer than parsing it.
        parsed = sources[first:last] if len(notable) > (last - first) // _FEW else None
        for number in notable:
            yield number, parsed[number - first] if parsed else sources[number]


def damage_line(damaged: Mapping[str, str], videos: int, limit: int = 3) -> str:
    """'2 of 30 videos are damaged: a (28 of 102 frames could be decoded), b (...)'."""
    verb = "is" if len(damaged) == 1 else "are"
    named = some([f"{name} ({text})" for name, text in damaged.items()], limit)
    return f"{len(damaged):,} of {counted(videos, 'video')} {verb} damaged: {named}"
