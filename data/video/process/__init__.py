"""A decode process as its parent sees it: shared memory, messages and its end."""
