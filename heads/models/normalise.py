"""Normalisation of features before the head, fitted on rows of the training part and stored with
the checkpoint."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError

CONSTANT = 1e-6  # a feature with a smaller deviation than this is only centred


def mean_and_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and divisor of vectors (n, D), (D,) each. The divisor is the deviation, or 1 for a
    constant dimension."""
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation < CONSTANT, 1.0, deviation)


class Normalise(nn.Module):
    """z-normalisation, then PCA: (N, T, D) -> (N, T, D'), D' = `pca` or D. Either step may be off.
    If both are off, features pass unchanged.

    Feature maps (N, T, D, h, w) are normalised channel by channel, and each of their positions
    counts as a row. Buffers: mean (D,), deviation (D,) when `znorm`; mean (D,), components (D, D')
    when `pca`. Until `fit` is called, they describe the identity. load_state_dict restores fitted
    buffers.
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor

    def __init__(self, feature_dim: int, znorm: bool = True, pca: int = 0) -> None:
        super().__init__()
        if pca > feature_dim:
            raise InputError(
                f"PCA={pca} is larger than the number of feature dimensions, which is "
                f"{feature_dim}; give a smaller PCA"
            )
        self.znorm, self.pca, self.output_dim = znorm, pca, pca or feature_dim
        if znorm or pca:
            self.register_buffer("mean", torch.zeros(feature_dim))
        if znorm:
            self.register_buffer("deviation", torch.ones(feature_dim))
        if pca:
            self.register_buffer("components", torch.eye(feature_dim, pca))

    def fit(self, read: Callable[[], Iterable[np.ndarray]]) -> None:
        """Fit on the training part's rows. `read()` yields all rows in pieces (R', D) or (R', D, h,
        w) of any real type. It is called up to three times, and one piece is in memory at a time.
        Raises InputError when PCA needs more rows."""
        if not (self.znorm or self.pca):
            return
        self._fit(lambda: map(_places, read()))

    def _fit(self, read: Callable[[], Iterable[np.ndarray]]) -> None:
        count, total = 0, np.zeros(self.mean.shape)
        for rows in read():
            count, total = count + len(rows), total + rows.sum(0, dtype=np.float64)
        if self.pca > count:
            raise InputError(
                f"PCA={self.pca} needs at least {self.pca} rows of training data, but the "
                f"training part has only {count}; give PCA={count} or less"
            )
        mean = total / count  # (D,)
        self.mean.copy_(torch.from_numpy(mean))
        if self.znorm:
            variance = sum(((rows - mean) ** 2).sum(0) for rows in read()) / count  # (D,)
            deviation = np.sqrt(variance)
            self.deviation.copy_(torch.from_numpy(np.where(deviation < CONSTANT, 1.0, deviation)))
        if self.pca:
            self.components.copy_(self._principal(read()))

    def _principal(self, pieces: Iterable[np.ndarray]) -> Tensor:
        """The directions of largest variance of the scaled rows, (D, D'). The largest entry of each
        direction is positive, which makes its sign unique."""
        device = self.mean.device
        covariance = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64, device=device)
        for rows in pieces:
            # (R', D), of mean 0 over all pieces
            x = self._scaled(torch.from_numpy(rows).float().to(device))
            covariance += x.T @ x
        # one direction per column, smallest variance first
        _, vectors = torch.linalg.eigh(covariance)
        components = vectors[:, -self.pca :].flip(1)
        largest = components.abs().argmax(0, keepdim=True)  # (1, D')
        return components * components.gather(0, largest).sign()

    def _scaled(self, x: Tensor) -> Tensor:
        if self.znorm:
            return (x - self.mean) / self.deviation
        return x - self.mean if self.pca else x

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim > 3 and (self.znorm or self.pca):
            # (N, T, D, h, w) -> (N, T, h, w, D) -> (N, T, D', h, w)
            return self._vectors(x.movedim(2, -1)).movedim(-1, 2)
        return self._vectors(x)

    def _vectors(self, x: Tensor) -> Tensor:
        x = self._scaled(x)
        return x @ self.components if self.pca else x  # (..., D) -> (..., D')


def _places(rows: np.ndarray) -> np.ndarray:
    """Maps (R, D, h, w) as rows (R h w, D). Rows (R, D) are returned unchanged."""
    return rows if rows.ndim == 2 else np.moveaxis(rows, 1, -1).reshape(-1, rows.shape[1])


class MidFusion(nn.Module):
    """Normalises and fuses the rows of several streams, which are concatenated when they are read
    (Res-LSTM paper, 3.3: x_t^0 = x_t^rgb (+ or *) x_t^flow): (N, T, D_1 + D_2 ...) -> (N, T, D').
    Each stream is normalised separately."""

    def __init__(
        self, feature_dims: Iterable[int], how: str, znorm: bool = True, pca: int = 0
    ) -> None:
        """Raises InputError when sizes that are to be summed or multiplied differ."""
        super().__init__()
        self.feature_dims, self.how = tuple(feature_dims), how
        self.parts = nn.ModuleList(Normalise(size, znorm, pca) for size in self.feature_dims)
        sizes: list[int] = [part.output_dim for part in self._normalises()]
        if how != "concat" and len(set(sizes)) > 1:
            dimensions = " and ".join(map(str, sizes))
            raise InputError(
                f"MID={how} needs the same number of feature dimensions in every stream "
                f"(got {dimensions}); give PCA=<number> to reduce all streams to the same "
                "number, or MID=concat"
            )
        self.output_dim = sum(sizes) if how == "concat" else sizes[0]

    def _normalises(self) -> list[Any]:
        return list(self.parts)

    def fit(self, read: Callable[[], Iterable[np.ndarray]]) -> None:
        """As `Normalise.fit`, stream by stream."""
        ends = np.cumsum(self.feature_dims).tolist()
        for part, size, end in zip(self._normalises(), self.feature_dims, ends, strict=True):
            part.fit(lambda first=end - size, last=end: (rows[:, first:last] for rows in read()))

    def forward(self, x: Tensor) -> Tensor:
        streams = [
            normalise(rows)
            for normalise, rows in zip(self.parts, x.split(self.feature_dims, -1), strict=True)
        ]
        if self.how == "concat":
            return torch.cat(streams, -1)
        joined = streams[0]
        for stream in streams[1:]:
            joined = joined + stream if self.how == "sum" else joined * stream
        return joined
