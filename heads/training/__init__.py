"""The commands `train` and `sweep`."""
