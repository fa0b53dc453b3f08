"""Evaluation of models, and comparison of two models."""
