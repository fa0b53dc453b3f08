"""Fisher vectors of a video's rows, and linear SVMs on them (Wang and Schmid 2013; Perronnin et al.
2010).

Nothing is trained by gradient descent. PCA and a mixture of Gaussians are fitted to each block of
the rows (a trajectory's shape, HOG, HOF, MBH). One SVM per class is then fitted to the Fisher
vectors of the training videos. Of several numbers of dimensions to which PCA may reduce a block, the
one with the best validation accuracy is kept.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.heads.models.linear_svm import one_against_rest, put
from reelbank.heads.models.spec import GRADIENT_OPTIONS, HeadSpec, RowFacts, TrainingPart
from reelbank.heads.recipe import Classifier

SVM_C = 100.0
# A mixture is fitted to at most this many rows of the training part per Gaussian, drawn at random.
# This is 256,000 rows for 256 Gaussians.
ROWS_A_COMPONENT = 1000
HALF, ALL = "half", "all"  # values of DIMS; the others are numbers
# The dimensions that are tried on rows without descriptors. The first is used without a validation
# part: half is the rule for trajectories (Wang and Schmid 2013). All dimensions of a large network
# would take twice the memory of half of them.
DIMS_TO_TRY = (HALF, "64", "32", "128")
LEAST_VARIANCE = 1e-6
MOST_ITERATIONS = 30


class Fisher(nn.Module):
    """forward(x (N, T, D), lengths (N,)) -> logits (N, C), the SVMs' margins, and embedding (N, E),
    the Fisher vectors.

    Rows are split into `blocks` (sizes that sum to D; default: one block). PCA reduces each block
    to d dimensions. A block's Fisher vector is the gradient of the log-likelihood of the video's
    rows with respect to the parameters of a mixture of `components` Gaussians. It has 2 *
    components * d numbers, of which the signed root is taken, and is scaled to length 1. The
    blocks' vectors are concatenated. Until `fit` is called, the buffers are random.

    dims: d as a number (at most the size of the block), or "half" or "all" of the size of each
    block. If there are several, the head is built with the first, and `reduce` selects another. A
    loaded state selects its own.
    """

    parts: nn.ModuleList
    classifier: nn.Linear

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        components: int = 256,
        blocks: Sequence[int] = (),
        dims: Sequence[str] = (HALF,),
    ) -> None:
        super().__init__()
        sizes = list(blocks) or [feature_dim]
        if sum(sizes) != feature_dim:
            raise InputError(
                "the sizes of the feature blocks must add up to the feature dimension "
                f"{feature_dim} (got the sizes {sizes})"
            )
        self.sizes, self.components, self.num_classes = sizes, components, num_classes
        # Different values may mean the same dimensions: of these, the first is kept.
        distinct: dict[tuple[int, ...], str] = {}
        for text in dims:
            distinct.setdefault(self._reduced(text), text)
        self.choices = tuple(distinct.values())
        self.reduce(self.choices[0])

    def _reduced(self, dims: str) -> tuple[int, ...]:
        """The dimensions of each block."""
        if dims == HALF:
            return tuple(max(1, size // 2) for size in self.sizes)
        return tuple(size if dims == ALL else min(int(dims), size) for size in self.sizes)

    def reduce(self, dims: str, device: torch.device | None = None) -> None:
        """Reduce the blocks to these dimensions. The head has to be fitted, or loaded, again."""
        self.dims = dims
        sizes = zip(self.sizes, self._reduced(dims), strict=True)
        self.parts = nn.ModuleList(_Block(size, self.components, d) for size, d in sizes)
        inputs = sum(part.output_dim for part in self._blocks())
        self.classifier = nn.Linear(inputs, self.num_classes)
        self.to(device or torch.device("cpu"))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any, **more: Any
    ) -> None:
        # The recipe contains the dimensions that were tried, and the state those that were chosen.
        axes = [state_dict.get(f"{prefix}parts.{n}.axes") for n in range(len(self.sizes))]
        saved = tuple(one.shape[-1] for one in axes if one is not None)
        for dims in self.choices:
            if self._reduced(dims) == saved != self._reduced(self.dims):
                self.reduce(dims, self.classifier.weight.device)
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)

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
        self.fit_sample(self.sample(read, count, seed), seed)

    def sample(self, read: Callable[[], Iterable[np.ndarray]], count: int, seed: int) -> np.ndarray:
        """The rows (n, D) that `fit` draws."""
        if count < self.components:
            raise InputError(
                f"COMPONENTS={self.components} needs at least {self.components} rows of training "
                f"data, but the training part has only {count}; give fewer components"
            )
        rng = np.random.default_rng(seed)
        sample_size = min(count, ROWS_A_COMPONENT * self.components)
        sampled_rows = np.sort(rng.choice(count, sample_size, replace=False))
        sample, first = np.empty((0, 0)), 0
        for rows in read():
            if not first:
                # 436 MB for trajectories and 256 Gaussians
                sample = np.empty((sample_size, rows.shape[1]), rows.dtype)
            start, end = np.searchsorted(sampled_rows, [first, first + len(rows)])
            sample[start:end] = rows[sampled_rows[start:end] - first]
            first += len(rows)
        return sample

    def fit_sample(self, sample: np.ndarray, seed: int) -> None:
        """Fit PCA and mixtures to the rows (n, D)."""
        ends = np.cumsum(self.sizes)
        for block, size, end in zip(self._blocks(), self.sizes, ends.tolist(), strict=True):
            block.fit(sample[:, end - size : end].astype(np.float64), seed)


class _Block(nn.Module):
    """A block of a row, with PCA to d dimensions (default: half its size), and K Gaussians. Buffers:
    mean (D,), axes (D, d), shares (K,), means (K, d), deviations (K, d)."""

    mean: Tensor
    axes: Tensor
    shares: Tensor
    means: Tensor
    deviations: Tensor

    def __init__(self, size: int, components: int, reduced: int = 0) -> None:
        super().__init__()
        reduced = reduced or max(1, size // 2)
        self.components, self.output_dim = components, 2 * components * reduced
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size, reduced))
        self.register_buffer("shares", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.randn(components, reduced))
        self.register_buffer("deviations", torch.ones(components, reduced))

    def fit(self, rows: np.ndarray, seed: int) -> None:
        """rows (n, D) float64."""
        from sklearn.exceptions import ConvergenceWarning  # loading it takes 0.8 s
        from sklearn.mixture import GaussianMixture

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
    of the training sequences.

    Of several dimensions, those with the highest validation accuracy are kept, then those with the
    lowest validation loss, as for epochs; without a validation part, the first. Raises InputError for
    fewer than two classes.
    """
    sample = head.sample(part.rows, part.row_count, part.seed)
    device = head.classifier.weight.device
    logits = _fit_svms(head, part, sample)
    rank = part.rank() if len(head.choices) > 1 else ()
    if not rank:
        return logits
    dims, state = head.dims, head.state_dict()
    for other in head.choices[1:]:
        head.reduce(other, device)
        other_logits = _fit_svms(head, part, sample)
        if (other_rank := part.rank()) > rank:
            rank, logits, dims, state = other_rank, other_logits, other, head.state_dict()
    if head.dims != dims:
        head.reduce(dims, device)
        head.load_state_dict(state)
    return logits


def _fit_svms(head: Fisher, part: TrainingPart, sample: np.ndarray) -> Tensor:
    """Fit mixtures to the sample of rows, then SVMs to the Fisher vectors of all rows."""
    head.fit_sample(sample, part.seed)
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


def _of_rows(rows: RowFacts) -> dict[str, list[Any]]:
    """The stream's blocks if the head's input is whole rows, otherwise one block, whose dimensions
    are chosen on the validation part. Blocks are halved, as in the paper, which is the default of
    `Fisher`."""
    if rows.blocks and sum(rows.blocks) == rows.dim:
        return {"blocks": list(rows.blocks)}
    return {"blocks": [rows.dim], "dims": list(DIMS_TO_TRY)}


def _chosen(head: Fisher) -> dict[str, list[str]]:
    return {"dims": [head.dims]} if len(head.choices) > 1 else {}


SPEC = HeadSpec(
    Fisher,
    options=("components", "dims"),
    defaults={"znorm": False},
    row_options=_of_rows,
    fit=_fit,
    chosen=_chosen,
    classifier=Classifier("svm", c=SVM_C),
    unused=dict.fromkeys(
        GRADIENT_OPTIONS,
        "has no effect because this head fits Gaussian mixtures to the training rows, and then "
        "linear SVMs with C = 100, without gradient descent",
    ),
)
