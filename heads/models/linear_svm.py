"""Linear SVMs that replace the softmax classifier. They are fitted to the embeddings that were
trained with the softmax (multi-stream paper, Table I)."""

import numpy as np
from torch import Tensor, nn, no_grad

from reelbank.data.errors import InputError

MOST_ITERATIONS = 100_000
COLUMNS = 4096  # number of columns that are converted to float64 at once


def put_svm(head: nn.Module, embeddings: Tensor, labels: Tensor, l2: float) -> None:
    """Replace the weights of `head.classifier` in place. The logits are then the margins of linear
    SVMs, one class against the rest.

    embeddings (n, E), labels (n,) of the training part; l2: see `c_of_lambda`. Raises InputError
    for fewer than two classes.
    """
    classifier = head.classifier
    assert isinstance(classifier, nn.Linear)
    c = c_of_lambda(l2, len(labels))
    put(
        classifier,
        *fitted_svm(embeddings.cpu().numpy(), labels.cpu().numpy(), classifier.out_features, c),
    )


@no_grad()
def put(classifier: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    """Copy weight (C, E) and bias (C,) into the layer, in place."""
    for parameter, value in ((classifier.weight, weight), (classifier.bias, bias)):
        parameter.copy_(Tensor(value))


def c_of_lambda(l2: float, videos: int) -> float:
    """scikit-learn's C of |w|^2 / 2 + C times the sum of hinge losses, for a paper's lambda of
    lambda |w|^2 + their mean over n videos: 1 / (2 lambda n) (decided)."""
    return 1 / (2 * l2 * videos)


def fitted_svm(
    embeddings: np.ndarray, labels: np.ndarray, num_classes: int, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, E) and bias (C,) float64 of scikit-learn's LinearSVC, one class against the rest.
    A class without a training video has weight 0 and bias -1, so its margin is always -1. Raises
    InputError for fewer than two classes."""
    trained_classes = np.unique(labels)
    if len(trained_classes) < 2:
        raise InputError(
            "a linear SVM needs at least two classes, but all training videos are of the "
            "same class; train on at least two classes"
        )
    from sklearn.svm import LinearSVC  # loading it takes 0.8 s

    svm = LinearSVC(C=c, loss="hinge", random_state=0, max_iter=MOST_ITERATIONS)
    svm.fit(embeddings.astype(np.float64), labels)
    trained_weight, trained_bias = svm.coef_, svm.intercept_
    if len(trained_classes) == 2:  # scikit-learn fits one plane between two classes
        trained_weight = np.concatenate([-trained_weight, trained_weight])
        trained_bias = np.concatenate([-trained_bias, trained_bias])
    weight = np.zeros((num_classes, embeddings.shape[1]))
    bias = np.full(num_classes, -1.0)
    weight[trained_classes], bias[trained_classes] = trained_weight, trained_bias
    return weight, bias


def one_against_rest(
    vectors: np.ndarray, positive: np.ndarray, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, E) and bias (C,) of linear SVMs (LIBSVM's, hinge loss, bias not penalised) on few
    long vectors. Only the vectors' inner products are used: memory holds n x n numbers and no copy
    of the vectors.

    vectors (n, E) float32; positive (n, C) bool. A class without positive vectors has weight 0 and
    bias -1; one without negative vectors has weight 0 and bias 1.
    """
    from sklearn.svm import SVC  # loading it takes 0.8 s

    products = np.zeros((len(vectors), len(vectors)))
    for first in range(0, vectors.shape[1], COLUMNS):
        columns = vectors[:, first : first + COLUMNS].astype(np.float64)
        products += columns @ columns.T
    weight = np.zeros((positive.shape[1], vectors.shape[1]), np.float32)
    bias = np.where(positive.all(0), 1.0, -1.0)
    for number, is_positive in enumerate(positive.T):
        if is_positive.any() and not is_positive.all():
            svm = SVC(C=c, kernel="precomputed").fit(products, is_positive)
            share = svm.dual_coef_[0].astype(np.float32)
            # The product is computed in pieces because most vectors may be support vectors.
            for first in range(0, vectors.shape[1], COLUMNS):
                piece = slice(first, first + COLUMNS)
                weight[number, piece] = share @ vectors[:, piece][svm.support_]
            bias[number] = svm.intercept_[0]
    return weight, bias
