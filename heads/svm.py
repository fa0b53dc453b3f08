"""A linear SVM in the softmax classifier's place, on the embeddings that were trained with it (multi-stream paper, Table I)."""

import numpy as np
from sklearn.svm import LinearSVC
from torch import Tensor, nn, no_grad

from reelbank.data.errors import InputError

MOST_ITERATIONS = 100_000


def put_svm(head: nn.Module, embeddings: Tensor, labels: Tensor, l2: float) -> None:
    """Replace the weights of `head.classifier` in place: logits are then the margins of linear SVMs, one class against the
    rest.

    embeddings (n, E), labels (n,) of the training part; l2: see `c_of_lambda`. Raises InputError for fewer than two classes.
    """
    classifier = head.classifier
    assert isinstance(classifier, nn.Linear)
    c = c_of_lambda(l2, len(labels))
    weight, bias = fitted_svm(embeddings.cpu().numpy(), labels.cpu().numpy(), classifier.out_features, c)
    with no_grad():
        for parameter, value in ((classifier.weight, weight), (classifier.bias, bias)):
            parameter.copy_(Tensor(value))


def c_of_lambda(l2: float, videos: int) -> float:
    """scikit-learn's C of |w|^2 / 2 + C times the sum of hinge losses, for a paper's lambda of lambda |w|^2 + their mean over
    n videos: 1 / (2 lambda n) (decided)."""
    return 1 / (2 * l2 * videos)


def fitted_svm(embeddings: np.ndarray, labels: np.ndarray, num_classes: int, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, E) and bias (C,) float64 of scikit-learn's LinearSVC, one class against the rest. A class without a video here
    has weight 0 and bias -1: every margin is kept. Raises InputError for fewer than two classes."""
    known = np.unique(labels)
    if len(known) < 2:
        raise InputError("a linear SVM needs two classes, the training part has videos of one only")
    svm = LinearSVC(C=c, loss="hinge", random_state=0, max_iter=MOST_ITERATIONS)
    svm.fit(embeddings.astype(np.float64), labels)
    own_weight, own_bias = svm.coef_, svm.intercept_
    if len(known) == 2:  # one plane between two classes
        own_weight, own_bias = np.concatenate([-own_weight, own_weight]), np.concatenate([-own_bias, own_bias])
    weight = np.zeros((num_classes, embeddings.shape[1]))
    bias = np.full(num_classes, -1.0)
    weight[known], bias[known] = own_weight, own_bias
    return weight, bias
