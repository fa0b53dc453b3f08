"""What is done to features before a head sees them, fitted on rows of the training part and stored with the checkpoint."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError

CONSTANT = 1e-6  # a feature whose deviation is below this is only centred


class Normalise(nn.Module):
    """z-normalisation, then PCA: (..., D) -> (..., D'), D' = `pca` or D. Either may be off; both off changes nothing.

    Buffers: mean (D,), deviation (D,) when `znorm`; mean (D,), components (D, D') when `pca`. Until `fit` they are the
    identity's; load_state_dict restores a fitted one.
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor

    def __init__(self, feature_dim: int, znorm: bool = True, pca: int = 0) -> None:
        super().__init__()
        if pca > feature_dim:
            raise InputError(f"PCA={pca}: the features have only {feature_dim} dimensions")
        self.znorm, self.pca, self.output_dim = znorm, pca, pca or feature_dim
        if znorm or pca:
            self.register_buffer("mean", torch.zeros(feature_dim))
        if znorm:
            self.register_buffer("deviation", torch.ones(feature_dim))
        if pca:
            self.register_buffer("components", torch.eye(feature_dim, pca))

    def fit(self, read: Callable[[], Iterable[np.ndarray]]) -> None:
        """Fit on the training part's rows; `read()` gives them all, in pieces (R', D) of any real type, and is called up to
        three times. No more than one piece is held. Raises InputError when PCA needs more rows."""
        if not (self.znorm or self.pca):
            return
        count, total = 0, np.zeros(self.mean.shape)
        for rows in read():
            count, total = count + len(rows), total + rows.sum(0, dtype=np.float64)
        if self.pca > count:
            raise InputError(f"PCA={self.pca}: the training part has only {count} rows; take PCA={count} or less")
        mean = total / count  # (D,)
        self.mean.copy_(torch.from_numpy(mean))
        if self.znorm:
            variance = sum(((rows - mean) ** 2).sum(0) for rows in read()) / count  # (D,)
            deviation = np.sqrt(variance)
            self.deviation.copy_(torch.from_numpy(np.where(deviation < CONSTANT, 1.0, deviation)))
        if self.pca:
            self.components.copy_(self._principal(read()))

    def _principal(self, pieces: Iterable[np.ndarray]) -> Tensor:
        """The directions of largest variance of the scaled rows, (D, D'), each with its largest entry positive."""
        device = self.mean.device
        covariance = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64, device=device)
        for rows in pieces:
            x = self._scaled(torch.from_numpy(rows).float().to(device))  # (R', D), of mean 0 over all pieces
            covariance += x.T @ x
        _, vectors = torch.linalg.eigh(covariance)  # in columns, least variance first
        components = vectors[:, -self.pca :].flip(1)
        largest = components.abs().argmax(0, keepdim=True)  # (1, D')
        return components * components.gather(0, largest).sign()

    def _scaled(self, x: Tensor) -> Tensor:
        if self.znorm:
            return (x - self.mean) / self.deviation
        return x - self.mean if self.pca else x

    def forward(self, x: Tensor) -> Tensor:
        x = self._scaled(x)
        return x @ self.components if self.pca else x  # (..., D) -> (..., D')
