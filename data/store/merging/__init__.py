"""Keeping the files of a store few: which are merged, and how."""
