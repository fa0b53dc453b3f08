"""The methods that are compared. Each method gives a video a score. A higher score means that the
video is less similar to the normal training videos."""

AUTOENCODER = "autoencoder"
MAHALANOBIS = "mahalanobis"
ISOLATION_FOREST = "isolation forest"
METHODS = (AUTOENCODER, MAHALANOBIS, ISOLATION_FOREST)
