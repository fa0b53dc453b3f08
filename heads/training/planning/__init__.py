"""The plan of `train`: which runs, on which stores and videos, with which recipe."""
