"""Score tables: the scores that a model gave to each video. `from reelbank.data import scores;
scores.load("scores-test.npz")`."""

from reelbank.data.scores.table import Scores, load, log_probabilities, probabilities, save

__all__ = ["Scores", "load", "log_probabilities", "probabilities", "save"]
