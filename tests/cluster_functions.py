"""Functions of tasks for test_cluster.py, which worker processes import."""

from pathlib import Path

from reelbank.data.errors import BusyError, InputError


def fails_once(text: str) -> str:
    """Fails for the first worker that is given this file."""
    try:
        Path(text).open("x").close()
    except FileExistsError:
        return "by another worker"
    raise InputError("the disk of this worker is full")


def fails(text: str) -> str:
    raise ValueError(f"{text} is damaged")


def busy_once(text: str) -> str:
    try:
        Path(text).open("x").close()
    except FileExistsError:
        return "done"
    raise BusyError(f"{text} is being trained by another process")
