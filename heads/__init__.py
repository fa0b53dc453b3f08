"""Stage two: heads, their training, and runs."""
