"""Feature sequences on the device: loaded once, indexed there batch by batch; no loader processes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reelbank.data.clips import sigma
from reelbank.data.errors import InputError


@dataclass(frozen=True)
class Sequences:
    """The rows of V videos end to end, and which of them make each video's sequence.

    ids: V video ids; values: (R, D) float16 or float32; rows: (V, K) int64 into values, padded with 0 to the longest;
    lengths: (V,) int64; times_seconds: (V,) float64, each video's mean row time.
    """

    ids: tuple[str, ...]
    values: Tensor
    rows: Tensor
    lengths: Tensor
    times_seconds: np.ndarray

    def to(self, device: torch.device) -> Sequences:
        return replace(self, values=self.values.to(device), rows=self.rows.to(device), lengths=self.lengths.to(device))

    def batch(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, T, D) float32, zeros after each sequence's end, T the longest of these; lengths (N,) int64."""
        lengths = self.lengths[videos]
        steps = int(lengths.max())
        x = self.values[self.rows[videos, :steps]].float()  # (N, T) rows -> (N, T, D)
        return x * (torch.arange(steps, device=x.device) < lengths[:, None])[..., None], lengths

    def rows_of(self, videos: Tensor) -> np.ndarray:
        """All rows of these videos, (R', D), as a head is given them (repeats included)."""
        valid = torch.arange(self.rows.shape[1], device=self.rows.device) < self.lengths[videos][:, None]  # (N, K)
        return self.values[self.rows[videos][valid]].cpu().numpy()


def sequences(
    ids: tuple[str, ...],
    values: np.ndarray,
    offsets: np.ndarray,
    times_seconds: np.ndarray,
    steps: int | None = None,
    crops_kept: bool = False,
) -> Sequences:
    """From a store's arrays: values (R, D) or, `crops_kept`, (R, crops, D); offsets (V+1,); times_seconds (R,).

    Crops are averaged. `steps` (T) takes T rows of each video by sigma(t); None takes all. Raises InputError for token and
    feature maps and for values that are not finite.
    """
    if crops_kept and values.ndim == 3:
        values = np.stack([row.mean(0, dtype=np.float32) for row in values]).astype(values.dtype)  # (R, D)
    if values.ndim != 2:
        shape = " x ".join(map(str, values.shape[1:]))
        raise InputError(f"the store's rows have shape {shape}: heads take vectors; extract with POOL=1")
    counts = np.diff(offsets)  # (V,)
    taken = [sigma(int(k), steps) if steps else np.arange(k) for k in counts]
    lengths = np.array([len(t) for t in taken], np.int64)
    rows = np.zeros((len(ids), lengths.max(initial=1)), np.int64)
    times = np.zeros(len(ids))
    for video, own in enumerate(taken):
        own = own + offsets[video]
        if not np.isfinite(values[own]).all():
            raise InputError(f"video {ids[video]} has features that are not finite; extract it again")
        rows[video, : len(own)] = own
        times[video] = times_seconds[own].mean()
    return Sequences(ids, torch.from_numpy(values), torch.from_numpy(rows), torch.from_numpy(lengths), times)
