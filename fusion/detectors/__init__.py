"""Anomaly detectors. They are fitted on normal training videos, evaluated on test videos and stored
in the bank."""
