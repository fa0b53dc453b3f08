"""Runs, which are finished trainings in a bank."""
