"""The machine: its memory, cores and faults, and processes that stop when they should."""
