"""Finds the pairs of similar videos of a store."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.similarity.approximate import MOST_COMPARED, probably_nearest
from reelbank.data.similarity.components import Components
from reelbank.data.similarity.duplicates.options import MOST_PAIRS, DuplicatesOptions
from reelbank.data.similarity.duplicates.proposals import (
    Proposal,
    check_groups_option,
    first_components,
    proposal_of,
    takes_groups,
)
from reelbank.data.similarity.duplicates.videos import ComparedVideos, compared_videos
from reelbank.data.similarity.pairs import (
    MostSimilar,
    SimilarPairs,
    pairs_above,
    pairs_of_neighbours,
)
from reelbank.data.store.bank import find_store
from reelbank.data.store.copies import LEAST_VIDEOS, measured_on, measured_threshold
from reelbank.data.store.reader import Store

_MOST_NEIGHBOURS = 32  # of a video that are compared if there are very many videos
RELATIONS = ("same", "other", "unknown")  # of the groups of two videos


@dataclass(frozen=True)
class Threshold:
    """The cosine above which pairs are listed. measured_on: number of training videos on which it was
    measured, 0 if the user gave it."""

    value: float
    measured_on: int = 0


class Tally:
    """Counts pairs, and the videos that are in them.

    pairs: (parts, parts, relations) int64, number of pairs by the part of either video, in ascending
    order, and by RELATIONS. has_similar: (N, parts) bool, whether a video is similar to any video of
    each part.
    """

    def __init__(self, videos: ComparedVideos) -> None:
        parts = len(videos.part_names)
        self._videos = videos
        self.pairs = np.zeros((parts, parts, len(RELATIONS)), np.int64)
        self.has_similar = np.zeros((len(videos), parts), bool)

    def add(self, pairs: SimilarPairs) -> None:
        parts, groups = self._videos.parts, self._videos.group_numbers
        of_first, of_second = parts[pairs.first], parts[pairs.second]
        self.has_similar[pairs.first, of_second] = True
        self.has_similar[pairs.second, of_first] = True
        first, second = groups[pairs.first], groups[pairs.second]
        relation = np.where(first == second, 0, 1)
        relation[(first < 0) | (second < 0)] = 2
        place = (np.minimum(of_first, of_second), np.maximum(of_first, of_second), relation)
        np.add.at(self.pairs, place, 1)

    @property
    def total(self) -> int:
        """Number of pairs."""
        return int(self.pairs.sum())


@dataclass(frozen=True)
class Found:
    """Similar videos of a split. threshold: None if only COUNT limits the pairs. pairs: those that
    are listed, the most similar first. tally: of all pairs above the threshold, or of the listed ones
    if there is no threshold. is_approximate: whether only pairs of near neighbours were found."""

    store: Path
    videos: ComparedVideos
    threshold: Threshold | None
    pairs: SimilarPairs
    tally: Tally
    proposal: Proposal | None
    is_approximate: bool = False


def find_duplicates(options: DuplicatesOptions, *, most_compared: int = MOST_COMPARED) -> Found:
    """Compare all videos of the split; if they are more than `most_compared`, each with its nearest
    ones, which an approximate index finds. Raises InputError for an unknown store or split, if there are
    too few videos to measure a threshold, and for GROUPS if it has no meaning."""
    path = find_store(options.searched, options.store)
    with Store.open(path) as store:
        check_groups_option(store, options)
        videos, vectors = compared_videos(store, options.split)
        if options.between == "parts" and not videos.split:
            raise InputError(
                f"BETWEEN=parts: {store.dataset.name} has no split, so it has no parts; leave BETWEEN out"
            )
        threshold = _threshold(options, vectors, videos)
        is_approximate = len(videos) > most_compared
        pairs_over = partial(_pairs_of_neighbours if is_approximate else pairs_above, vectors)
        scan = _scan(options, videos, threshold, MostSimilar(vectors, _most(options)), pairs_over)
        proposal = None
        if threshold and takes_groups(store) and (options.groups or videos.has_unknown_groups):
            proposal = proposal_of(store, videos, scan.components)
    return Found(
        path,
        videos,
        threshold,
        pairs=scan.pairs,
        tally=scan.tally,
        proposal=proposal,
        is_approximate=is_approximate,
    )


def _threshold(
    options: DuplicatesOptions, vectors: np.ndarray, videos: ComparedVideos
) -> Threshold | None:
    """The threshold of the options. Raises InputError if there is none and it cannot be measured."""
    if options.threshold is not None:
        return Threshold(options.threshold)
    if options.count is not None:
        return None
    value = measured_threshold(vectors, videos.groups, videos.fitted)
    if math.isnan(value):
        raise InputError(
            f"no threshold can be measured, because this needs {LEAST_VIDEOS} training videos that are "
            f"not all of one group (got {len(videos.fitted)} videos); give THRESHOLD=0.95 or "
            "another value, or COUNT=20 to list the most similar pairs"
        )
    return Threshold(value, len(measured_on(videos.fitted)))


class _Scan(NamedTuple):
    pairs: SimilarPairs
    tally: Tally
    components: Components


def _scan(
    options: DuplicatesOptions,
    videos: ComparedVideos,
    threshold: Threshold | None,
    most_similar: MostSimilar,
    pairs_over: Callable[[Callable[[], float]], Iterator[SimilarPairs]],
) -> _Scan:
    """The listed pairs, the counts, and the groups that all pairs above the threshold connect.
    pairs_over: gives the pairs whose cosine is above a floor."""
    tally, components = Tally(videos), Components(first_components(videos))
    if threshold is None:
        for pairs in pairs_over(lambda: most_similar.floor):
            most_similar.add(_wanted(pairs, videos, options.between))
        listed = most_similar.pairs()
        tally.add(listed)
        return _Scan(listed, tally, components)
    for pairs in pairs_over(lambda: threshold.value):
        components.connect(pairs.first, pairs.second)
        wanted = _wanted(pairs, videos, options.between)
        tally.add(wanted)
        most_similar.add(wanted)
    return _Scan(most_similar.pairs(), tally, components)


def _most(options: DuplicatesOptions) -> int:
    """How many pairs are listed."""
    return MOST_PAIRS if options.count is None else options.count


def _pairs_of_neighbours(vectors: np.ndarray, floor: Callable[[], float]) -> Iterator[SimilarPairs]:
    """As `pairs_above`, but only pairs of a vector and its nearest ones, which an index finds. Raises
    InputError if its package is not installed."""
    numbers = np.arange(len(vectors))
    found = probably_nearest(vectors, numbers, count=_MOST_NEIGHBOURS)
    yield pairs_of_neighbours(found, floor())


def _wanted(pairs: SimilarPairs, videos: ComparedVideos, between: str) -> SimilarPairs:
    """The pairs that BETWEEN selects."""
    if between == "all":
        return pairs
    of_videos = videos.parts if between == "parts" else videos.group_numbers
    return pairs.where(of_videos[pairs.first] != of_videos[pairs.second])
