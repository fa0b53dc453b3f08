"""Improved dense trajectories."""
