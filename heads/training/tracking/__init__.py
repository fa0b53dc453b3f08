"""Experiment trackers, to which the figures of a run are sent while it is trained (TRACK=)."""
