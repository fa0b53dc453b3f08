"""The output folder of v-iashin/video_features: `<video>_<key>.npy` for each kind of features of the
extractor, and for most extractors also `<video>_fps.npy` and `<video>_timestamps_ms.npy` (see its
utils/utils.py, make_path)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reelbank.data.errors import InputError

FPS, TIMESTAMPS = "fps", "timestamps_ms"
# Keys of its extractors that write only features. The keys of the other extractors are recognised
# by the files of fps and timestamps of the same video.
_KEYS_WITHOUT_SIDES = re.compile(r"r21d(_rgb)?|s3d|vggish|clip|timm|raft|pwc|i3d|resnet\d*")
_BY_KEY = ("rgb", "flow")  # keys of i3d, which may write both


@dataclass(frozen=True)
class VideoFiles:
    """A video's files, as numbers in the list of names. name: without the key. key: of its
    features, "" in a folder of another tool. None: the file is missing."""

    name: str
    key: str
    features: int | None
    fps: int | None = None
    timestamps: int | None = None


def arranged(names: Sequence[str], stream: str) -> list[VideoFiles]:
    """The videos in a folder of .npy files; in a folder of another tool, every file is a video.

    names: of the files, without ending. stream: the key to choose if there are features of several.
    Raises InputError if it is not among them.
    """
    number_of = {name: number for number, name in enumerate(names)}
    side_files = {side: _side_files(number_of, side) for side in (FPS, TIMESTAMPS)}
    bases = side_files[FPS].keys() | side_files[TIMESTAMPS].keys()
    sides = {*side_files[FPS].values(), *side_files[TIMESTAMPS].values()}
    of_base: dict[str, dict[str, int]] = {}  # video -> key -> number of its file
    others = []
    for name, number in number_of.items():
        base = _base(name, bases)
        if number in sides:
            continue
        if base:
            of_base.setdefault(base, {})[name[len(base) + 1 :]] = number
        else:
            others.append(number)
    if not of_base:
        return _without_sides(names)
    keys: set[str] = set().union(*of_base.values())
    key = _chosen(keys, stream)
    videos = [VideoFiles(base, key, of_base.get(base, {}).get(key)) for base in sorted(bases)]
    videos = [
        replace(
            video,
            fps=side_files[FPS].get(video.name),
            timestamps=side_files[TIMESTAMPS].get(video.name),
        )
        for video in videos
    ]
    for number in others:  # features without files of fps and timestamps
        own_key = next((key for key in keys if names[number].endswith(f"_{key}")), "")
        if own_key in ("", key):
            videos.append(VideoFiles(names[number].removesuffix(f"_{own_key}"), own_key, number))
    return videos


def _side_files(number_of: dict[str, int], side: str) -> dict[str, int]:
    """video -> number of its file of this kind, FPS or TIMESTAMPS."""
    return {
        name.removesuffix(f"_{side}"): number
        for name, number in number_of.items()
        if name.endswith(f"_{side}")
    }


def _base(name: str, bases: set[str]) -> str:
    """The longest video name that a file's name begins with."""
    ends = [match.start() for match in re.finditer("_", name)]
    return next((name[:end] for end in reversed(ends) if name[:end] in bases), "")


def _chosen(keys: set[str], stream: str) -> str:
    if stream in keys:
        return stream
    if len(keys) > 1 or keys <= set(_BY_KEY):
        raise InputError(
            f"STREAM={stream}: must be one of the features in the folder, {', '.join(sorted(keys))}"
        )
    return min(keys)


def _without_sides(names: Sequence[str]) -> list[VideoFiles]:
    matches = [re.fullmatch(rf"(.+?)_({_KEYS_WITHOUT_SIDES.pattern})", name) for name in names]
    keys = {match[2] if match else "" for match in matches}
    if len(keys) == 1 and "" not in keys:  # every name ends in the key of one tool
        return [
            VideoFiles(match[1], match[2], number) for number, match in enumerate(matches) if match
        ]
    return [VideoFiles(name, "", number) for number, name in enumerate(names)]
