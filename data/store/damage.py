"""Damage of the video files as a store records it, for the commands that show it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.data.console import counted, some


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
    named = list(zip(video_ids, sources, strict=True))
    return Damage(
        videos={name: text for name, source in named if (text := damage_of(source))},
        remarks={name: str(source["remark"]) for name, source in named if source.get("remark")},
        unknown=sum("frames" in source and "damage" not in source for source in sources),
    )


def damage_line(damaged: Mapping[str, str], videos: int, limit: int = 3) -> str:
    """'2 of 30 videos are damaged: a (28 of 102 frames could be decoded), b (...)'."""
    verb = "is" if len(damaged) == 1 else "are"
    named = some([f"{name} ({text})" for name, text in damaged.items()], limit)
    return f"{len(damaged):,} of {counted(videos, 'video')} {verb} damaged: {named}"
