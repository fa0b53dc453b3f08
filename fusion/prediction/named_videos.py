"""The videos that paths on the command line name."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import printable
from reelbank.data.datasets.discovery import find_videos
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.video import images as frames_folder


@dataclass(frozen=True)
class NamedVideos:
    """Videos, each once. shown: the path of each video as it was given, by id; notes: lines about
    files that are left out."""

    videos: tuple[Video, ...]
    shown: dict[str, str]
    notes: tuple[str, ...]


def named_videos(words: Sequence[str | Path]) -> NamedVideos:
    """The videos that files and folders name.

    The id of a video is the file's name without extension, and below a folder it includes the
    subfolders. If two ids would be the same, they keep the extension, or become the whole path.
    Raises InputError for a path that does not exist and a folder without videos.
    """
    short_ids: dict[Path, str] = {}  # by absolute path
    given_paths: dict[Path, str] = {}
    notes: list[str] = []
    for word in words:
        path = Path(word).expanduser()
        if not path.exists():
            raise InputError(f"{word}: no such file or folder")
        paths = {path.name.removesuffix(path.suffix): path}
        if path.is_dir() and not frames_folder.is_video(entry.name for entry in path.iterdir()):
            paths, remarks = find_videos(path)
            notes += [f"{path}: {remark}" for remark in remarks]
            if not paths:
                reason = f" ({remarks[0]})" if remarks else ""
                raise InputError(f"{word} contains no videos{reason}")
        for name, video in paths.items():
            _check_text(name, video)
            whole = Path(os.path.normpath(video.absolute()))
            if whole not in short_ids:
                short_ids[whole], given_paths[whole] = name, str(video)
    ids = _distinct_ids(short_ids)
    return NamedVideos(
        videos=tuple(Video(ids[whole], whole, "", "", ()) for whole in short_ids),
        shown={ids[whole]: text for whole, text in given_paths.items()},
        notes=tuple(notes),
    )


def _check_text(name: str, path: Path) -> None:
    """Raises InputError for a name that is not valid UTF-8. Such a name contains surrogates, which
    no table can store."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise InputError(
            f"{printable(ascii(str(path)))}: the file name is not valid UTF-8; rename the file"
        )


def _distinct_ids(short_ids: Mapping[Path, str]) -> dict[Path, str]:
    """The ids, made unique. An id that occurs more than once becomes the file's name, or else the
    whole path."""
    ids = dict(short_ids)
    file_names = {whole: whole.name for whole in ids}
    whole_paths = {whole: whole.as_posix().lstrip("/") for whole in ids}
    for longer in (file_names, whole_paths):
        times = Counter(ids.values())
        ids = {whole: longer[whole] if times[name] > 1 else name for whole, name in ids.items()}
    return ids
