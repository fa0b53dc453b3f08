"""Two baselines that are not trained by gradient descent."""

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest

from reelbank.fusion.detectors.methods import ISOLATION_FOREST, MAHALANOBIS
from reelbank.heads.models.normalise import mean_and_scale

TREES = 200


def baseline_scores(train: np.ndarray, vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Fit the Mahalanobis distance (Ledoit-Wolf covariance) and IsolationForest on train (n, D).
    Returns the scores (V,) of vectors (V, D) by method."""
    mean, scale = mean_and_scale(train)
    x, every = (train - mean) / scale, (vectors - mean) / scale
    distance = LedoitWolf().fit(x).mahalanobis(every)
    forest = IsolationForest(n_estimators=TREES, random_state=seed % 2**32).fit(x)
    return {MAHALANOBIS: distance, ISOLATION_FOREST: -forest.score_samples(every)}
