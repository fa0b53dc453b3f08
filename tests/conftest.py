"""The location of the real data. Tests that need it are skipped without it, with a message; with
REELBANK_REQUIRE_TESTDATA=1 they fail instead."""

import contextlib
import csv
import ctypes
import gc
import importlib.metadata
import os
import platform
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# No test depends on the clock, and this machine may be busy with other work.
settings.register_profile("reelbank", deadline=None)
settings.load_profile("reelbank")

os.environ.setdefault("TQDM_MININTERVAL", "10")
# Tiny tensors gain nothing from threads, and threads that wait for each other on a busy machine
# cost a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def testdata(*parts: str) -> Path:
    """A file or folder of the real data, or a skip (a failure where CI requires it)."""
    root = os.environ.get("REELBANK_TESTDATA")
    path = Path(root or "").joinpath(*parts)
    if root and path.exists():
        return path
    missing = (
        f"real data missing: {path}"
        if root
        else f"REELBANK_TESTDATA is not set (wanted {'/'.join(parts)})"
    )
    if os.environ.get("REELBANK_REQUIRE_TESTDATA") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(autouse=True, scope="module")
def freed_memory_is_returned() -> Iterator[None]:
    """Extraction keeps freed memory for its next batch. In a process that runs thousands of tests
    this would become gigabytes, and each fork copies their page tables."""
    yield
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """A test that waits for ever fails after a minute."""

    def fail(*_: object) -> None:
        raise TimeoutError("waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def writable_copy(source: Path, target: Path) -> Path:
    """Copy a file, or a folder with all that is in it, without its permissions: the real data may
    be read-only."""
    if source.is_dir():
        target.mkdir(parents=True)
        for path in source.iterdir():
            writable_copy(path, target / path.name)
    else:
        shutil.copyfile(source, target)
    return target


def testdata_rows(name: str) -> list[dict[str, str]]:
    """The rows of one of the real data's CSV files."""
    with testdata(name).open(newline="") as file:
        return list(csv.DictReader(file))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The versions that were tested stand above the counts."""
    names = ["torch", "torchvision", "av", "numpy", "scikit-learn", "scipy", "h5py", "pillow"]
    names += ["opencv-python", "opencv-python-headless"]  # whichever is there
    installed = {one.name.lower(): one.version for one in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {installed[name]}" for name in names if name in installed)
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    terminalreporter.write_line(
        f"{platform.platform()}, Python {platform.python_version()}, as {user}: {versions}"
    )
