"""Names of files in one folder, for tools that know no folders in the ids of videos."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import count


def flat_names(video_ids: Sequence[str], *, dots: bool = True) -> list[str]:
    """A name without '/' for each video: the last part of its id if these differ, otherwise the id
    with '__' between its parts. dots: whether names may contain dots; they become '_' otherwise."""
    names = [_last(video_id, dots=dots) for video_id in video_ids]
    if _are_distinct(names):
        return names
    names = [_whole(video_id, dots=dots) for video_id in video_ids]
    if _are_distinct(names):
        return names
    return _numbered(names)


def _numbered(names: Sequence[str]) -> list[str]:
    """Names that occur several times with a number at the end, such that all differ."""
    count_of = Counter(map(str.lower, names))
    taken = set(count_of)
    distinct = []
    for number, name in enumerate(names):
        if count_of[name.lower()] > 1:
            candidates = (f"{name}__{each}" for each in count(number))
            name = next(each for each in candidates if each.lower() not in taken)
            taken.add(name.lower())
        distinct.append(name)
    return distinct


def _are_distinct(names: Sequence[str]) -> bool:
    """Also on file systems that ignore case."""
    return len({name.lower() for name in names}) == len(names)


def _last(video_id: str, *, dots: bool) -> str:
    return _whole(video_id.rpartition("/")[2], dots=dots)


def _whole(video_id: str, *, dots: bool) -> str:
    # Lists have a name per line, so it must not contain control characters.
    name = re.sub(r"[\x00-\x1f\x7f]", "_", video_id.replace("/", "__"))
    return name if dots else name.replace(".", "_")
