"""Projections of video vectors to the two dimensions of the map. They are fitted on training videos
only; the other videos are projected with what was fitted."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.fusion.report.videos.packing import evenly

LEAST_VIDEOS = 3
# More change a projection to two dimensions little. 2,048 features of this many take 80 MB.
_MOST_FITTED = 10_000
_SEED = 0


@dataclass(frozen=True)
class Projection:
    """positions: (V, 2) float32. about: sentences on how they were computed."""

    positions: np.ndarray
    about: str


def project(method: str, vectors: np.ndarray, is_training: np.ndarray) -> Projection:
    """Project vectors (V, D) float32 with one of PROJECTIONS. is_training: (V,) bool, the videos to
    fit it on; if there are more than 10,000, as many, evenly chosen. Raises InputError if there
    are fewer than LEAST_VIDEOS, and if the package of the method is not installed."""
    training = np.flatnonzero(is_training)
    if len(training) < LEAST_VIDEOS:
        raise InputError(
            f"the projection needs at least {LEAST_VIDEOS} training videos of the split (got "
            f"{len(training)})"
        )
    fitted = training[evenly(len(training), _MOST_FITTED)]
    positions, about = PROJECTIONS[method](vectors, fitted)
    chosen = ", evenly chosen" if len(fitted) < len(training) else ""
    on = f"It was fitted on {counted(len(fitted), 'training video')}{chosen}, and not on others."
    return Projection(positions.astype(np.float32), f"{about} {on}")


def check_installed(method: str) -> None:
    """Raises InputError if the package of a method is not installed."""
    if method == "umap" and not importlib.util.find_spec("umap"):
        raise InputError(
            'MAP=umap needs the package umap-learn; install it with "pip install '
            "'reelbank[umap]'\", or use MAP=pca"
        )


def _pca(vectors: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, str]:
    from sklearn.decomposition import PCA

    few = min(2, vectors.shape[1])
    # the full solver is exact; the others are for matrices that are too large for it
    solver = "full" if min(len(fitted), vectors.shape[1]) <= 500 else "randomized"
    with np.errstate(invalid="ignore"):  # videos that are all the same have no variance
        pca = PCA(few, svd_solver=solver, random_state=_SEED).fit(vectors[fitted])
    positions = np.zeros((len(vectors), 2), np.float32)
    # not `transform`, which copies all vectors
    positions[:, :few] = vectors @ pca.components_.T - pca.mean_ @ pca.components_.T
    shares = [f"{100 * share:.0f} %" for share in np.nan_to_num(pca.explained_variance_ratio_)]
    return positions, (
        "The projection is a principal component analysis (PCA); its components have "
        f"{' and '.join(shares)} of the variance."
    )


def _umap(vectors: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, str]:
    from umap import UMAP

    neighbours = min(15, len(fitted) - 1)
    # with a seed, UMAP uses one thread; with two, it would not give the same map again
    umap = UMAP(
        n_neighbors=neighbours,
        metric="cosine",
        # the spectral initialisation needs more points than it computes eigenvectors, which are three
        init="spectral" if len(fitted) > 3 else "random",
        random_state=_SEED,
        n_jobs=1,
    )
    positions = np.empty((len(vectors), 2), np.float32)
    positions[fitted] = umap.fit_transform(vectors[fitted])
    others = np.setdiff1d(np.arange(len(vectors)), fitted)
    if len(others):
        positions[others] = umap.transform(vectors[others])
    return positions, (
        f"The projection is UMAP (cosine, {neighbours} neighbours, fixed seed). It keeps "
        "neighbours together; distances between groups of points mean little."
    )


# The projection of vectors (V, D), fitted on some of them (numbers), as positions (V, 2) and
# sentences about it.
PROJECTIONS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, str]]] = {
    "pca": _pca,
    "umap": _umap,
}
