"""Which rows of a video make which sequence: what a head is trained on, and what a video's scores are made of."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reelbank.data.clips import segments, sigma, sliding_windows
from reelbank.data.errors import InputError

SAMPLINGS = ("sigma", "segments", "windows")


@dataclass(frozen=True)
class Rule:
    """How a video's rows become sequences; part of a run's recipe. `views` of the video are taken each by itself.

    sampling: "sigma" takes `steps` rows (None: all); "segments" one row of each of `steps` equal segments, in training a random
    one anew in every epoch, in scoring those at `positions` places (clips.segments); "windows" windows of `steps` rows every
    `stride` rows, at most `most` (clips.sliding_windows). clips: windows that the store itself cut whole videos into, each
    taken by itself; crops: how many crops a row has that are taken one by one (0: they are averaged).
    """

    sampling: str = "sigma"
    steps: int | None = None
    stride: int = 0
    most: int = 0
    positions: int = 1
    clips: int = 1
    crops: int = 0


@dataclass(frozen=True, eq=False)
class Table:
    """S sequences of V videos, all (S,) int64: `video`; `clip` and `place`, both counted over all videos: the clip of the
    video, and the place in it, by which sequences that differ in view or crop alone are the same; `view`, 0 a clean one;
    `crop`; `lengths`. rows (S, K) int64: which of its video's rows, padded with 0 to the longest.

    draws: None, or the T rows that `drawn` takes of each sequence for an epoch.
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
        """Numbers of all sequences of these videos, in the table's order. (n,) -> (S',) int64."""
        return torch.nonzero(torch.isin(self.video, videos)).flatten()

    def drawn(self, generator: torch.Generator) -> Table:
        """The table of one epoch: of K rows of each sequence one random one in each of T equal segments (TSN paper, 3.1; as
        clips.jittered_segments). The same table where nothing is to be drawn."""
        if self.draws is None:
            return self
        steps = self.draws
        rows_of = self.lengths[:, None]  # (S, 1) K
        chance = torch.rand(len(self.rows), steps, generator=generator, dtype=torch.float64).to(self.rows.device)
        places = torch.arange(steps, device=self.rows.device) * rows_of + (chance * rows_of).long()  # in T-ths of a row
        rows = self.rows.gather(1, places // steps)  # (S, T)
        return replace(self, rows=rows, lengths=torch.full_like(self.lengths, steps), draws=None)

    def one_of_each(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """Of these sequences one at random of each place: one view and crop. (n,) -> (n',) int64, by place."""
        shuffled = numbers[torch.randperm(len(numbers), generator=generator).to(numbers.device)]
        place = self.place[shuffled]
        ordered = torch.argsort(place, stable=True)
        first = torch.ones(len(ordered), dtype=torch.bool, device=numbers.device)
        first[1:] = place[ordered][1:] != place[ordered][:-1]
        return shuffled[ordered[first]]


def tables(views: Iterable[np.ndarray], rule: Rule, names: Sequence[str], cut_out: Collection[str] = ()) -> tuple[Table, Table]:
    """What is trained on, of clean rows and augmented views, and what is scored, of clean rows alone.

    views: for each video the view of each of its rows, (K,) uint8, 0 clean; cut_out: videos that are one clip, having been cut
    out of a longer one (Charades' actions). Raises InputError naming the video whose rows cannot be parted into `rule.clips`.
    """
    training: list[tuple[int, ...]] = []
    scoring: list[tuple[int, ...]] = []
    rows: dict[str, list[np.ndarray]] = {"training": [], "scoring": []}
    clip = place = 0
    for video, (own, name) in enumerate(zip(views, names, strict=True)):
        by_view = [np.flatnonzero(own == view) for view in np.unique(own).tolist()]
        clips = 1 if name in cut_out else rule.clips
        if any(len(one) % clips for one in by_view):
            raise InputError(f"video {name}: its {len(by_view[0])} rows are not {clips} windows of as many each")
        for number in range(clips):
            parts = [one.reshape(clips, -1)[number] for one in by_view]
            learned, scored = [_learned(part, rule) for part in parts], _scored(parts[0], rule)
            for view, sequences in enumerate(learned):
                for at, taken in enumerate(sequences):
                    for crop in range(max(1, rule.crops)):
                        training.append((video, clip, place + at, view, crop))
                        rows["training"].append(taken)
            for at, taken in enumerate(scored):
                for crop in range(max(1, rule.crops)):
                    scoring.append((video, clip, place + at, 0, crop))
                    rows["scoring"].append(taken)
            place += max(len(scored), *map(len, learned))
            clip += 1
    draws = rule.steps if rule.sampling == "segments" else None
    return _table(training, rows["training"], draws), _table(scoring, rows["scoring"], None)


def _learned(rows: np.ndarray, rule: Rule) -> list[np.ndarray]:
    """The sequences of one clip that are trained on; of segments the rows that an epoch draws from."""
    return [rows] if rule.sampling == "segments" else _scored(rows, rule)


def _scored(rows: np.ndarray, rule: Rule) -> list[np.ndarray]:
    if rule.sampling == "windows":
        assert rule.steps
        return list(rows[sliding_windows(len(rows), rule.steps, rule.stride or rule.steps, rule.most)])
    if rule.sampling == "segments":
        assert rule.steps
        return [rows[segments(len(rows), rule.steps, p, rule.positions)] for p in range(rule.positions)]
    return [rows[sigma(len(rows), rule.steps)] if rule.steps else rows]


def _table(facts: list[tuple[int, ...]], rows: list[np.ndarray], draws: int | None) -> Table:
    video, clip, place, view, crop = torch.tensor(facts, dtype=torch.int64).reshape(-1, 5).T.contiguous()
    lengths = torch.tensor([len(own) for own in rows], dtype=torch.int64)
    padded = np.zeros((len(rows), max(map(len, rows), default=1)), np.int64)
    for one, own in zip(padded, rows, strict=True):
        one[: len(own)] = own
    return Table(video, clip, place, view, crop, lengths, torch.from_numpy(padded), draws)
