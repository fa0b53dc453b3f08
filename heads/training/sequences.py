"""The rows of a video that make each sequence, for training a head and for scoring a video."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reelbank.data.errors import InputError
from reelbank.data.video.clips import segments, sigma, sliding_windows
from reelbank.heads.recipe import Rule


@dataclass(frozen=True, eq=False)
class Table:
    """S sequences of V videos. rows: (S, K) int64, the rows of each sequence in its video, padded
    with 0 to the longest sequence; all other arrays are (S,) int64.

    clip: clip of the video; place: place in the clip, the same for sequences that differ only in
    view or crop (clips and places are counted over all videos); view: 0 for a clean sequence.
    draws: None, or the number T of rows that `drawn` takes from each sequence for an epoch.
    """

    video: Tensor
    clip: Tensor
    place: Tensor
    view: Tensor
    crop: Tensor
    lengths: Tensor
    rows: Tensor
    draws: int | None = None

    @functools.cached_property
    def uniform(self) -> bool:
        """Whether all sequences are equally long."""
        return bool((self.lengths == self.rows.shape[1]).all())

    def to(self, device: torch.device) -> Table:
        names = ("video", "clip", "place", "view", "crop", "lengths", "rows")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def of(self, videos: Tensor) -> Tensor:
        """The numbers of all sequences of these videos, in the table's order. (n,) -> (S',)
        int64."""
        return torch.nonzero(torch.isin(self.video, videos)).flatten()

    def drawn(self, generator: torch.Generator) -> Table:
        """The table of one epoch. It takes a random row in each of T equal segments of the K rows
        of each sequence (TSN paper, 3.1; like clips.jittered_segments). Without `draws`, it is the
        table itself."""
        if self.draws is None:
            return self
        steps = self.draws
        rows_of = self.lengths[:, None]  # (S, 1) K
        chance = torch.rand(len(self.rows), steps, generator=generator, dtype=torch.float64).to(
            self.rows.device
        )
        places = (
            torch.arange(steps, device=self.rows.device) * rows_of + (chance * rows_of).long()
        )  # in T-ths of a row
        rows = self.rows.gather(1, places // steps)  # (S, T)
        return replace(self, rows=rows, lengths=torch.full_like(self.lengths, steps), draws=None)

    def one_of_each(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """One random sequence (one view and crop) of each place among these. (n,) -> (n',) int64,
        ordered by place."""
        shuffled = numbers[torch.randperm(len(numbers), generator=generator).to(numbers.device)]
        place = self.place[shuffled]
        ordered = torch.argsort(place, stable=True)
        first = torch.ones(len(ordered), dtype=torch.bool, device=numbers.device)
        first[1:] = place[ordered][1:] != place[ordered][:-1]
        return shuffled[ordered[first]]


def tables(
    views: Iterable[np.ndarray | int],
    rule: Rule,
    names: Sequence[str],
    cut_out: Collection[str] = (),
) -> tuple[Table, Table]:
    """The table of training, from clean rows and augmented views, and the table of scoring, from
    clean rows only.

    views: for each video the view of each of its rows, (K,) uint8, 0 clean; or K if all are clean.
    cut_out: videos that are one clip because they were cut out of a longer video (Charades'
    actions). Raises InputError for a video whose rows cannot be divided into `rule.clips`.
    """
    views = list(views)
    clips = np.full(len(views), rule.clips)
    if cut_out:
        clips[[name in cut_out for name in names]] = 1
    firsts, numbers = _alike(views, clips)
    patterns = [
        _pattern(views[first], rule, names[first], int(clips[first])) for first in firsts.tolist()
    ]
    clips_before = _before(np.array([pattern.clips for pattern in patterns], np.int64)[numbers])
    places = _before(np.array([pattern.places for pattern in patterns], np.int64)[numbers])
    draws = rule.steps if rule.sampling == "segments" else None
    learn = _table([pattern.learned for pattern in patterns], numbers, clips_before, places, draws)
    if draws is None and all(pattern.learned is pattern.scored for pattern in patterns):
        return learn, learn
    return learn, _table(
        [pattern.scored for pattern in patterns], numbers, clips_before, places, None
    )


@dataclass(frozen=True)
class _Sequences:
    """The sequences of one video. facts: (S, 4) int64, clip and place counted from the video's
    first, view and crop; rows: of each sequence."""

    facts: np.ndarray
    rows: list[np.ndarray]


@dataclass(frozen=True)
class _Pattern:
    """The sequences of all videos with the same views: those that are learned from, and those that
    are scored. clips, places: how many there are."""

    learned: _Sequences
    scored: _Sequences
    clips: int
    places: int


def _pattern(views: np.ndarray | int, rule: Rule, name: str, clips: int) -> _Pattern:
    row_views = np.zeros(views, np.uint8) if isinstance(views, int) else views
    by_view = [np.flatnonzero(row_views == view) for view in np.unique(row_views).tolist()]
    if any(len(rows_of_view) % clips for rows_of_view in by_view):
        raise InputError(
            f"video {name}: its {len(by_view[0])} rows cannot be divided into {clips} windows "
            "of equal length; extract it again"
        )
    training: list[tuple[int, ...]] = []
    scoring: list[tuple[int, ...]] = []
    rows: dict[str, list[np.ndarray]] = {"training": [], "scoring": []}
    place = 0
    for clip in range(clips):
        parts = [rows_of_view.reshape(clips, -1)[clip] for rows_of_view in by_view]
        learned, scored = [_learned(part, rule) for part in parts], _scored(parts[0], rule)
        for view, sequences in enumerate(learned):
            for at, taken in enumerate(sequences):
                for crop in range(max(1, rule.crops)):
                    training.append((clip, place + at, view, crop))
                    rows["training"].append(taken)
        for at, taken in enumerate(scored):
            for crop in range(max(1, rule.crops)):
                scoring.append((clip, place + at, 0, crop))
                rows["scoring"].append(taken)
        place += max(len(scored), *map(len, learned))
    of_scoring = _Sequences(np.array(scoring, np.int64).reshape(-1, 4), rows["scoring"])
    of_training = of_scoring
    if len(by_view) > 1 or rule.sampling == "segments":
        of_training = _Sequences(np.array(training, np.int64).reshape(-1, 4), rows["training"])
    return _Pattern(of_training, of_scoring, clips, place)


def _alike(views: Sequence[np.ndarray | int], clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first video of each pattern, (P,) int64, and the pattern of each video, (V,) int64. There
    are few patterns, because most videos have the same views and the same number of clips, (V,)."""
    if set(map(type, views)) <= {int}:  # a million of them without a dictionary
        codes = np.array(views, np.int64)
    else:
        number_of: dict[int | bytes, int] = {}
        keys = (each if isinstance(each, int) else each.tobytes() for each in views)
        codes = np.array([number_of.setdefault(key, len(number_of)) for key in keys], np.int64)
    codes = codes * (clips.max(initial=0) + 1) + clips
    _, firsts, numbers = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(firsts)  # so that an error names the first video
    return firsts[order], np.argsort(order)[numbers]


def _before(counts: np.ndarray) -> np.ndarray:
    """How many there are of all earlier videos together, (V,) int64."""
    return np.cumsum(counts) - counts


def _learned(rows: np.ndarray, rule: Rule) -> list[np.ndarray]:
    """The sequences of one clip that are trained on. For segments, these are the rows that an epoch
    draws from."""
    return [rows] if rule.sampling == "segments" else _scored(rows, rule)


def _scored(rows: np.ndarray, rule: Rule) -> list[np.ndarray]:
    if rule.sampling == "windows":
        assert rule.steps
        return list(
            rows[sliding_windows(len(rows), rule.steps, rule.stride or rule.steps, rule.most)]
        )
    if rule.sampling == "segments":
        assert rule.steps
        return [
            rows[segments(len(rows), rule.steps, p, rule.positions)] for p in range(rule.positions)
        ]
    return [rows[sigma(len(rows), rule.steps)] if rule.steps else rows]


def _table(
    patterns: Sequence[_Sequences],
    numbers: np.ndarray,
    clips: np.ndarray,
    places: np.ndarray,
    draws: int | None,
) -> Table:
    """numbers: (V,) the pattern of each video; clips, places: (V,) how many all earlier videos
    have."""
    counts = np.array([len(pattern.facts) for pattern in patterns], np.int64)
    video = np.repeat(np.arange(len(numbers)), counts[numbers])  # (S,)
    # Where in the sequences of all patterns, one after another, each sequence is described.
    first = _before(counts)[numbers] - _before(counts[numbers])
    described = first[video] + np.arange(len(video))
    facts = np.concatenate([pattern.facts for pattern in patterns] or [np.zeros((0, 4), np.int64)])
    rows = list(itertools.chain.from_iterable(pattern.rows for pattern in patterns))
    padded = np.zeros((len(rows), max(map(len, rows), default=1)), np.int64)
    for padded_row, sequence in zip(padded, rows, strict=True):
        padded_row[: len(sequence)] = sequence
    lengths = np.array([len(sequence) for sequence in rows], np.int64)
    columns = {
        "clip": facts[described, 0] + clips[video],
        "place": facts[described, 1] + places[video],
        "view": facts[described, 2],
        "crop": facts[described, 3],
        "lengths": lengths[described],
        "rows": padded[described],
    }
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    return Table(video=torch.from_numpy(video), **tensors, draws=draws)
