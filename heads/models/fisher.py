"""Fisher vectors of a video's rows, and linear SVMs on them (Wang and Schmid 2013; Perronnin et al.
2010).

Nothing is trained by gradient descent. PCA and a mixture of Gaussians are fitted to each block of
the rows (a trajectory's shape, HOG, HOF, MBH). One SVM per class is then fitted to the Fisher
vectors of the training videos.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.heads.models.linear_svm import one_against_rest, put
from reelbank.heads.models.spec import GRADIENT_OPTIONS, HeadSpec, RowFacts, TrainingPart
from reelbank.heads.recipe import Classifier

SVM_C = 100.0
# A mixture is fitted to at most this many rows of the training part per Gaussian, drawn at random.
# This is 256,000 rows for 256 Gaussians.
ROWS_A_COMPONENT = 1000
LEAST_VARIANCE = 1e-6
MOST_ITERATIONS = 30


class Fisher(nn.Module):
    """forward(x (N, T, D), lengths (N,)) -> logits (N, C), the SVMs' margins, and embedding (N, E),
    the Fisher vectors.

    Rows are split into `blocks` (sizes that sum to D; default: one block). PCA halves each block. A
    block's Fisher vector is the gradient of the log-likelihood of the video's rows with respect to
    the parameters of a mixture of `components` Gaussians. It has 2 * components * (size // 2)
    numbers, of which the signed root is taken, and is scaled to length 1. The blocks' vectors are
    concatenated. Until `fit` is called, the buffers are random.
    """

    def __init__(
        self, feature_dim: int, num_classes: int, components: int = 256, blocks: Sequence[int] = ()
    ) -> None:
        super().__init__()
        sizes = list(blocks) or [feature_dim]
        if sum(sizes) != feature_dim:
            raise InputError(
                "the sizes of the feature blocks must add up to the feature dimension "
                f"{feature_dim} (got the sizes {sizes})"
            )
        self.sizes = sizes
        self.parts = nn.ModuleList(_Block(size, components) for size in sizes)
        self.classifier = nn.Linear(sum(part.output_dim for part in self._blocks()), num_classes)

    def _blocks(self) -> "list[_Block]":
        return list(self.parts)  # type: ignore[arg-type]

    @torch.no_grad()
    def vectors(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The Fisher vectors of x (N, T, D) with lengths (N,): (N, E) float32. Each block has
        length 1."""
        video_vectors = []
        # Videos are processed one by one because the (T, components) densities of all videos would
        # not fit into memory.
        for rows, length in zip(x, lengths.tolist(), strict=True):
            pieces = rows[:length].double().split(self.sizes, 1)
            block_vectors = [
                _unit(_root(block(piece)))
                for block, piece in zip(self._blocks(), pieces, strict=True)
            ]
            video_vectors.append(torch.cat(block_vectors))
        return torch.stack(video_vectors).float()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.vectors(x, lengths)
        return self.classifier(embedding), embedding

    def fit(self, read: Callable[[], Iterable[np.ndarray]], count: int, seed: int) -> None:
        """Fit PCA and mixtures to the training part's rows.

        `read()` yields all `count` rows in pieces (R', D). At most ROWS_A_COMPONENT rows per
        component are kept, drawn with `seed`. Raises InputError when there are too few rows.
        """
        components = self._blocks()[0].components
        if count < components:
            raise InputError(
                f"COMPONENTS={components} needs at least {components} rows of training "
                f"data, but the training part has only {count}; give fewer components"
            )
        rng = np.random.default_rng(seed)
        sample_size = min(count, ROWS_A_COMPONENT * components)
        sampled_rows = np.sort(rng.choice(count, sample_size, replace=False))
        sample, first = np.empty((0, 0)), 0
        for rows in read():
            if not first:
                # 436 MB for trajectories and 256 Gaussians
                sample = np.empty((sample_size, rows.shape[1]), rows.dtype)
            start, end = np.searchsorted(sampled_rows, [first, first + len(rows)])
            sample[start:end] = rows[sampled_rows[start:end] - first]
            first += len(rows)
        ends = np.cumsum(self.sizes)
        for block, size, end in zip(self._blocks(), self.sizes, ends.tolist(), strict=True):
            block.fit(sample[:, end - size : end].astype(np.float64), seed)


class _Block(nn.Module):
    """A block of a row, with PCA to half its size, d, and K Gaussians. Buffers: mean (D,), axes (D,
    d), shares (K,), means (K, d), deviations (K, d)."""

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
        _, vectors = np.linalg.eigh(
            np.cov(rows - mean, rowvar=False, bias=True).reshape(len(mean), -1)
        )
        axes = vectors[:, ::-1][:, : self.axes.shape[1]]  # directions of largest variance first
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        reduced = ((rows - mean) @ axes).astype(np.float32)
        mixture = GaussianMixture(
            self.components,
            covariance_type="diag",
            init_params="k-means++",  # the same likelihood as with k-means, in less time
            random_state=seed % 2**32,  # scikit-learn's largest seed
            reg_covar=LEAST_VARIANCE,
            max_iter=MOST_ITERATIONS,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a rough mixture is enough
            mixture.fit(reduced)
        fitted = (mean, axes, mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_))
        for buffer, values in zip(
            (self.mean, self.axes, self.shares, self.means, self.deviations), fitted, strict=True
        ):
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)))

    def forward(self, rows: Tensor) -> Tensor:
        """The Fisher vector of rows (T, D) float64, (2 K d,). It is the mean gradient of the rows'
        log-likelihood with respect to the means of all Gaussians, followed by that with respect to
        their deviations (the paper's G_mu and G_sigma). Both are divided by the root of the Fisher
        information."""
        x = (rows - self.mean) @ self.axes.double()  # (T, d)
        shares, means, deviations = (
            self.shares.double(),
            self.means.double(),
            self.deviations.double(),
        )
        gamma = self.log_densities(x).softmax(1)  # (T, K), the share of each Gaussian in each row
        total = gamma.sum(0)[:, None]  # (K, 1)
        first, second = gamma.T @ x, gamma.T @ x**2  # (K, d)
        by_mean = (first - total * means) / deviations
        by_deviation = (second - 2 * means * first + total * means**2) / deviations**2 - total
        root = shares.sqrt()[:, None] * len(rows)
        return torch.cat([(by_mean / root).flatten(), (by_deviation / (root * 2**0.5)).flatten()])

    def log_densities(self, x: Tensor) -> Tensor:
        """The logarithm of each Gaussian's share times its density at each row: (T, d) -> (T,
        K)."""
        shares, means, precisions = (
            self.shares.double(),
            self.means.double(),
            self.deviations.double() ** -2,
        )
        squares = (
            x**2 @ precisions.T - 2 * x @ (means * precisions).T + (means**2 * precisions).sum(1)
        )
        return shares.log() - 0.5 * (
            squares - precisions.log().sum(1) + means.shape[1] * np.log(2 * np.pi)
        )


def _root(vector: Tensor) -> Tensor:
    return vector.sign() * vector.abs().sqrt()


def _unit(vector: Tensor) -> Tensor:
    """The vector scaled to length 1. A zero vector stays zero."""
    return vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _fit(head: Fisher, part: TrainingPart) -> Tensor:
    """Fit mixtures to the rows, then SVMs to the Fisher vectors. Returns the SVMs' margins (n, C)
    of the training sequences. Raises InputError for fewer than two classes."""
    head.fit(part.rows, part.row_count, part.seed)
    vectors = part.embed()
    labels, classes = part.labels, head.classifier.out_features
    one_hot = labels if labels.ndim == 2 else nn.functional.one_hot(labels, classes)
    positive = one_hot > 0
    if positive.any(0).sum() < 2:
        raise InputError(
            "a linear SVM needs at least two classes, but all training videos are of the "
            "same class; train on at least two classes"
        )
    put(head.classifier, *one_against_rest(vectors.cpu().numpy(), positive.cpu().numpy(), SVM_C))
    with torch.no_grad():
        return head.classifier(vectors)


def _blocks_of(rows: RowFacts) -> dict[str, list[int]]:
    """The stream's blocks if the head's input is whole rows, otherwise one block."""
    is_whole = sum(rows.blocks) == rows.dim
    return {"blocks": list(rows.blocks) if is_whole else [rows.dim]}


SPEC = HeadSpec(
    Fisher,
    options=("components",),
    defaults={"znorm": False},
    row_options=_blocks_of,
    fit=_fit,
    classifier=Classifier("svm", c=SVM_C),
    unused=dict.fromkeys(
        GRADIENT_OPTIONS,
        "has no effect because this head fits Gaussian mixtures to the training rows, and then "
        "linear SVMs with C = 100, without gradient descent",
    ),
)
