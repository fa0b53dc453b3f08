"""Copies among videos: files with the same bytes, and videos whose mean features are nearly the
same.

Features are compared by the cosine of their means, from which the mean of the training videos is
subtracted. How similar different videos are depends on the network and the data, so the threshold is
measured on training videos (`measured_threshold`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelbank.data.similarity.nearest import nearest
from reelbank.data.similarity.unit import centre, to_unit_length
from reelbank.data.store.file.columns import Taken
from reelbank.data.video.sources import SourceFile

LEAST_VIDEOS = 20  # for a threshold
MOST_VIDEOS = 2000  # that a threshold is set on, evenly spaced
LEAST_COSINE = 0.9  # of what is called nearly the same
DEVIATIONS = 5.0  # between the median of different videos and the threshold
RANK_OF_OTHERS = 10  # of a video's neighbours, from which on they are taken for different videos
HIGHEST_COSINE = 1 - 1e-7  # of float32 vectors that are equal up to rounding


@dataclass(frozen=True)
class Copy:
    """A video and another one that it is a copy of. cosine: of their features; 1 for files with
    the same bytes."""

    video: str
    original: str
    cosine: float = 1.0


def same_files(
    ids: Sequence[str],
    sources: Sequence[Mapping[str, Any]],
    videos: Sequence[int] | np.ndarray,
    among: Sequence[int] | np.ndarray,
) -> list[Copy]:
    """The `videos` whose files have the same bytes as one of `among`, by size and stored digest.

    ids: (V,); sources: (V,) facts about the files, as stores keep them; videos, among: numbers of
    videos. Files without a digest are left out, and different spans of one file are no copies.
    """
    numbers = np.asarray(videos, np.int64)
    # Only the contents of `videos` are kept: there may be a million others.
    content_of = list(map(_content, Taken([(sources, numbers)])))
    searched = set(content_of) - {()}
    first: dict[tuple[Any, ...], int] = {}
    others = np.asarray(among, np.int64) if searched else np.empty(0, np.int64)
    for number, source in zip(others, Taken([(sources, others)]), strict=True):
        content = _content(source)
        if content in searched:
            first.setdefault(content, int(number))
    copies = []
    for number, content in zip(numbers.tolist(), content_of, strict=True):
        original = first.get(content)
        if original is not None:
            copies.append(Copy(ids[number], ids[original]))
    return copies


def _content(source: Mapping[str, Any]) -> tuple[Any, ...]:
    """What equal files have in common; () if it is not known."""
    file = SourceFile.of(source)
    span_seconds = source.get("span_seconds")
    if not file.digest:
        return ()
    return (file.bytes, file.digest, str(span_seconds) if span_seconds else "")


@dataclass(frozen=True)
class NearCopies:
    """Copies found by their features, the most similar first, and the threshold of the cosine; nan
    where too few training videos are of different groups to measure one.

    copies: test videos that are nearly training or validation videos; of_validation: validation
    videos that are nearly training videos.
    """

    threshold: float
    copies: list[Copy]
    of_validation: list[Copy]


def near_copies(
    ids: Sequence[str],
    means: np.ndarray,
    groups: Sequence[str],
    *,
    train: Sequence[int] | np.ndarray,
    test: Sequence[int] | np.ndarray,
    validation: Sequence[int] | np.ndarray = (),
) -> NearCopies:
    """The test and validation videos whose mean features are nearly those of a video that a head
    learns from.

    ids, groups: (V,), of groups "" if unknown; means: (V, D) float32, overwritten, because a copy of
    those of a million videos takes gigabytes; train, test, validation: numbers of videos.
    """
    learned = np.concatenate([np.asarray(train, np.int64), np.asarray(validation, np.int64)])
    if len(learned) < LEAST_VIDEOS or not len(test) + len(validation):
        return NearCopies(float("nan"), [], [])
    vectors = means  # of length 1 from here on
    to_unit_length(vectors)
    centre(vectors, learned)
    threshold = measured_threshold(vectors, groups, learned)

    def similar(
        videos: Sequence[int] | np.ndarray, among: Sequence[int] | np.ndarray
    ) -> list[Copy]:
        found = nearest(vectors, videos, among)
        columns = zip(videos, found.numbers[:, 0], found.cosines[:, 0], strict=True)
        copies = [
            Copy(ids[video], ids[other], float(cosine))
            for video, other, cosine in columns
            if cosine > threshold
        ]
        return sorted(copies, key=lambda copy: -copy.cosine)

    return NearCopies(threshold, similar(test, learned), similar(validation, train))


def measured_threshold(
    vectors: np.ndarray, groups: Sequence[str], train: Sequence[int] | np.ndarray
) -> float:
    """The cosine above which two videos are nearly the same, measured on training videos.

    Each of them (of many, those in `measured_on`) is compared with the nearest video of another group. If its
    group is unknown, its nearest neighbours may be of the same recording, and it is compared with
    the RANK_OF_OTHERS-th nearest video instead. vectors: (V, D) float32, of length 1; groups: (V,),
    "" if unknown; train: numbers of videos. nan if there are too few videos.
    """
    numbers, others, sample = group_numbers(groups), np.asarray(train, np.int64), measured_on(train)
    is_known = numbers[sample] >= 0
    of_known = nearest(vectors, sample[is_known], others, numbers)
    of_unknown = nearest(vectors, sample[~is_known], others, numbers, count=RANK_OF_OTHERS)
    return copy_threshold(np.concatenate([of_known.cosines[:, 0], of_unknown.cosines[:, -1]]))


def measured_on(train: Sequence[int] | np.ndarray) -> np.ndarray:
    """The training videos on which a threshold is measured: all, or at most MOST_VIDEOS of them."""
    numbers = np.asarray(train, np.int64)
    return numbers[:: max(1, -(-len(numbers) // MOST_VIDEOS))]


def copy_threshold(cosines: np.ndarray) -> float:
    """The cosine above which two videos are taken for copies, from the cosines of videos with
    similar ones that are not copies.

    Fisher's z of these cosines is about normal; the threshold lies DEVIATIONS deviations above
    their median. The deviation comes from the median absolute deviation, so that a few copies
    among these videos do not change it. At least LEAST_COSINE; nan for fewer than LEAST_VIDEOS.
    """
    known = cosines[cosines > -1]
    if len(known) < LEAST_VIDEOS:
        return float("nan")
    z = np.arctanh(np.minimum(known.astype(np.float64), HIGHEST_COSINE))
    median = np.median(z)
    deviation = 1.4826 * np.median(np.abs(z - median))  # the normal distribution's
    return max(LEAST_COSINE, float(np.tanh(median + DEVIATIONS * deviation)))


def group_numbers(groups: Sequence[str]) -> np.ndarray:
    """(V,) int64, equal for videos of the same group; a video of group "" has its own, which is
    negative."""
    number_of: dict[str, int] = {}
    numbers = (
        number_of.setdefault(group, len(number_of)) if group else -1 - video
        for video, group in enumerate(groups)
    )
    return np.fromiter(numbers, np.int64, len(groups))
