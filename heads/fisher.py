"""Fisher vectors of a video's rows, and linear SVMs on them (Wang and Schmid 2013; Perronnin et al. 2010).

Nothing is trained by gradients: PCA and a mixture of Gaussians are fitted to each block of the rows (a trajectory's shape, HOG,
HOF, MBH), then one SVM a class to the Fisher vectors of the training videos.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from reelbank.data.errors import InputError

SVM_C = 100.0
ROWS_A_COMPONENT = 1000  # of the training part at most, drawn at random: 256,000 for 256 Gaussians
LEAST_VARIANCE = 1e-6
MOST_ITERATIONS = 30


class Fisher(nn.Module):
    """forward(x (N, T, D), lengths (N,)) -> logits (N, C), the SVMs' margins, and embedding (N, E), the Fisher vectors.

    Rows are cut into `blocks` (sizes that sum to D; none: one block); each is brought to half its size by PCA and described by
    how `components` Gaussians would have to change to explain the video's rows better, 2 components * size // 2 numbers, signed
    root, scaled to length 1; the blocks side by side. Until `fit` buffers are drawn at random.
    """

    def __init__(self, feature_dim: int, num_classes: int, components: int = 256, blocks: Sequence[int] = ()) -> None:
        super().__init__()
        sizes = list(blocks) or [feature_dim]
        if sum(sizes) != feature_dim:
            raise InputError(f"the blocks {sizes} of a row do not sum to its {feature_dim} numbers")
        self.sizes = sizes
        self.parts = nn.ModuleList(_Block(size, components) for size in sizes)
        self.classifier = nn.Linear(sum(part.output_dim for part in self._blocks()), num_classes)

    def _blocks(self) -> "list[_Block]":
        return list(self.parts)  # type: ignore[arg-type]

    @torch.no_grad()
    def vectors(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, D), (N,) -> (N, E) float32, each block of length 1."""
        found = []
        for rows, length in zip(x, lengths.tolist(), strict=True):  # one by one: T x components of all would not fit
            pieces = rows[:length].double().split(self.sizes, 1)
            found.append(torch.cat([_unit(_root(block(own))) for block, own in zip(self._blocks(), pieces, strict=True)]))
        return torch.stack(found).float()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.vectors(x, lengths)
        return self.classifier(embedding), embedding

    def fit(self, read: Callable[[], Iterable[np.ndarray]], count: int, seed: int) -> None:
        """PCA and mixtures of the training part's rows; `read()` gives all `count` of them in pieces (R', D), of which at most
        ROWS_A_COMPONENT a component, drawn by `seed`, are kept. Raises InputError where there are too few."""
        components = self._blocks()[0].components
        if count < components:
            raise InputError(f"COMPONENTS={components}: the training part has only {count} rows; give fewer")
        rng = np.random.default_rng(seed)
        wanted = np.sort(rng.choice(count, min(count, ROWS_A_COMPONENT * components), replace=False))
        sample, first = np.empty((0, 0)), 0
        for rows in read():
            if not first:
                sample = np.empty((len(wanted), rows.shape[1]), rows.dtype)  # 436 MB of trajectories for 256 Gaussians
            start, end = np.searchsorted(wanted, [first, first + len(rows)])
            sample[start:end] = rows[wanted[start:end] - first]
            first += len(rows)
        ends = np.cumsum(self.sizes)
        for block, size, end in zip(self._blocks(), self.sizes, ends.tolist(), strict=True):
            block.fit(sample[:, end - size : end].astype(np.float64), seed)


class _Block(nn.Module):
    """A part of a row: PCA to half its size d, and K Gaussians. Buffers: mean (D,), axes (D, d), shares (K,), means (K, d),
    deviations (K, d)."""

    mean: Tensor
    axes: Tensor
    shares: Tensor
    means: Tensor
    deviations: Tensor

    def __init__(self, size: int, components: int) -> None:
        super().__init__()
        reduced = max(1, size // 2)
        self.components, self.output_dim = components, 2 * components * reduced
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size, reduced))
        self.register_buffer("shares", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.randn(components, reduced))
        self.register_buffer("deviations", torch.ones(components, reduced))

    def fit(self, rows: np.ndarray, seed: int) -> None:
        """rows (n, D) float64."""
        mean = rows.mean(0)
        _, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False, bias=True).reshape(len(mean), -1))
        axes = vectors[:, ::-1][:, : self.axes.shape[1]]  # of largest variance first
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        reduced = ((rows - mean) @ axes).astype(np.float32)
        mixture = GaussianMixture(
            self.components,
            covariance_type="diag",
            init_params="k-means++",  # as likely a mixture as with k-means, sooner
            random_state=seed,
            reg_covar=LEAST_VARIANCE,
            max_iter=MOST_ITERATIONS,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # any mixture will do
            mixture.fit(reduced)
        fitted = (mean, axes, mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_))
        for buffer, values in zip((self.mean, self.axes, self.shares, self.means, self.deviations), fitted, strict=True):
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)))

    def forward(self, rows: Tensor) -> Tensor:
        """(T, D) float64 -> (2 K d,): of each Gaussian by its mean, then of each by its deviation, the mean gradient of the
        rows' log-likelihood over the root of its Fisher information (the paper's G_mu and G_sigma)."""
        x = (rows - self.mean) @ self.axes.double()  # (T, d)
        shares, means, deviations = self.shares.double(), self.means.double(), self.deviations.double()
        gamma = self.log_densities(x).softmax(1)  # (T, K), the share of each Gaussian in each row
        total = gamma.sum(0)[:, None]  # (K, 1)
        first, second = gamma.T @ x, gamma.T @ x**2  # (K, d)
        by_mean = (first - total * means) / deviations
        by_deviation = (second - 2 * means * first + total * means**2) / deviations**2 - total
        root = shares.sqrt()[:, None] * len(rows)
        return torch.cat([(by_mean / root).flatten(), (by_deviation / (root * 2**0.5)).flatten()])

    def log_densities(self, x: Tensor) -> Tensor:
        """Of each Gaussian, times its share: (T, d) -> (T, K)."""
        shares, means, precisions = self.shares.double(), self.means.double(), self.deviations.double() ** -2
        squares = x**2 @ precisions.T - 2 * x @ (means * precisions).T + (means**2 * precisions).sum(1)
        return shares.log() - 0.5 * (squares - precisions.log().sum(1) + means.shape[1] * np.log(2 * np.pi))


def _root(vector: Tensor) -> Tensor:
    return vector.sign() * vector.abs().sqrt()


def _unit(vector: Tensor) -> Tensor:
    """Scaled to length 1; nothing stays nothing."""
    return vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-12)
