"""Predictions of runs for video files: the videos, their features, and the scores."""
