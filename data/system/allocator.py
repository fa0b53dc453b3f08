"""How the C library returns memory to the system."""

import ctypes
import os
import sys

# Parameters of mallopt in glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# In bytes: the largest C int, and what glibc before 2.35 accepts at most.
_THRESHOLDS = (2**31 - 1, 1 << 25)
# With these a user has chosen settings of glibc's malloc.
_SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and use it again, instead of returning it to
    the system. Returns whether the C library can do so (glibc can).

    A network on the CPU allocates and frees the same large buffers for each batch. By default, glibc
    returns each of them to the system, which has to clear the pages for the next use: 0.1 to 0.6 s
    per input of a video network, up to a quarter of the time. `predict STORE=` does the same with the
    pieces of a store. The process then keeps its largest memory until it ends.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SET_BY_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    # -1 switches trimming off. Either setting alone leaves about half of the cost.
    is_set = any(mallopt(_MMAP_THRESHOLD, threshold) for threshold in _THRESHOLDS)
    return bool(mallopt(_TRIM_THRESHOLD, -1)) and is_set
