"""Turns errors about full memory into a one-line message. Python, PyTorch, CUDA and its libraries
raise different exceptions for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from reelbank.data.errors import InputError

_OF_GPU = re.compile(
    r"\b(CUDA|HIP|XPU|MPS)\b.*out of memory|CU\w+_STATUS_ALLOC_FAILED", re.IGNORECASE | re.DOTALL
)
_OF_COMPUTER = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|Failed to allocate \d+ bytes"
)
# How to use less memory, by command.
_TODO = {
    "extract": "use a smaller BATCH, fewer streams, fewer WORKERS, or for optical flow a smaller RESIZE",
    "pretrain": "use a smaller BATCH, SIZE or SEGMENTS",
    "train": "use a smaller BATCH, READ_FROM=disk, or fewer WORKERS",
    "sweep": "use a smaller BATCH, READ_FROM=disk, or fewer WORKERS",
    "predict": "classify fewer videos at a time, or use fewer WORKERS",
}
_ELSE = "end other programs that use memory, or use a machine with more memory"


@contextmanager
def enough_memory(command: str) -> Iterator[None]:
    """Wraps the work of a command: errors about full memory become an InputError that says what to
    do."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        full = full_memory(error)
        if not full:
            raise
        todo = _TODO.get(command, _ELSE) + (", or DEVICE=cpu" if full == "GPU" else "")
        raise InputError(
            f"the memory of the {full} is full; {todo}. Finished work is kept"
        ) from error


def full_memory(error: Exception) -> str:
    """Whose memory is full ("GPU" or "computer") according to an error; "" for any other error."""
    if isinstance(error, MemoryError):
        return "computer"
    # torch.OutOfMemoryError is recognised by its name, because torch may not be imported.
    if type(error).__name__ == "OutOfMemoryError" or _OF_GPU.search(str(error)):
        return "GPU"
    return "computer" if _OF_COMPUTER.search(str(error)) else ""
