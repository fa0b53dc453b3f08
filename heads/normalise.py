"""What is done to features before a head sees them, fitted on rows of the training part and stored with the checkpoint."""

import numpy as np
import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError

CHUNK_ROWS = 8192
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

    def fit(self, rows: np.ndarray) -> None:
        """Fit on the training part's rows (R, D), any float type. Raises InputError when PCA needs more rows."""
        if self.pca > len(rows):
            raise InputError(f"PCA={self.pca}: the training part has only {len(rows)} rows; take PCA={len(rows)} or less")
        if not (self.znorm or self.pca):
            return
        chunks = range(0, len(rows), CHUNK_ROWS)
        mean = sum(rows[i : i + CHUNK_ROWS].sum(0, dtype=np.float64) for i in chunks) / len(rows)  # (D,)
        self.mean.copy_(torch.from_numpy(mean))
        if self.znorm:
            variance = sum(((rows[i : i + CHUNK_ROWS] - mean) ** 2).sum(0) for i in chunks) / len(rows)  # (D,)
            deviation = np.sqrt(variance)
            self.deviation.copy_(torch.from_numpy(np.where(deviation < CONSTANT, 1.0, deviation)))
        if self.pca:
            from sklearn.decomposition import PCA  # seconds to import, and few runs need it

            centred = np.empty(rows.shape, np.float32)
            for i in chunks:
                centred[i : i + CHUNK_ROWS] = self._scaled(
                    torch.from_numpy(rows[i : i + CHUNK_ROWS]).float().to(self.mean.device)
                ).cpu()
            fitted = PCA(self.pca, svd_solver="covariance_eigh").fit(centred)
            self.components.copy_(torch.from_numpy(fitted.components_.T.copy()))

    def _scaled(self, x: Tensor) -> Tensor:
        if self.znorm:
            return (x - self.mean) / self.deviation
        return x - self.mean if self.pca else x

    def forward(self, x: Tensor) -> Tensor:
        x = self._scaled(x)
        return x @ self.components if self.pca else x  # (..., D) -> (..., D')
