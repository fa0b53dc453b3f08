"""Writes a run's folder, with one writer at a time and no partly written files."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import reelbank
from reelbank.data.errors import BusyError, InputError
from reelbank.data.files import is_read_only, replacing, write_remedy
from reelbank.data.system.locks import holder, lock

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def written_to(name: str, path: str | Path) -> Iterator[None]:
    """A context for writing the file that the option `name` gives. Raises InputError when that path
    cannot be written."""
    try:
        yield
    except OSError as error:
        if not Path(path).parent.exists():
            raise InputError(
                f"{name}={path}: cannot be written, because the folder {Path(path).parent} does not "
                "exist; create it, or give another path"
            ) from None
        raise InputError(
            f"{name}={path}: cannot be written ({error.strerror}); {write_remedy(error)}"
        ) from None


def output_file(given: str, usual: Path) -> Path | None:
    """The file that a command writes: the one that its option gives, otherwise the usual one in the
    bank, or None if the bank is read-only."""
    if given:
        return Path(given)
    return None if is_read_only(usual.parent) else usual


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run folder. Raises BusyError when another process trains this run. If the lock is
    lost meanwhile, `data.files.replacing` writes no more files to the folder."""
    path = folder / ".lock"
    taken = lock(path, wait=False)
    if taken is None:
        raise BusyError(
            f"{folder} is being trained by another process{holder(path)}; wait until that process has "
            "finished, or stop it"
        )
    try:
        yield
    finally:
        taken.release(remove=False)


def write_json(path: Path, document: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. A partly written file is never visible."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        on_cpu = {name: value.cpu().contiguous() for name, value in tensors.items()}
        save_file(on_cpu, temporary, metadata)


def environment(device: str) -> dict[str, Any]:
    """The environment of a run, which its figures may depend on in addition to its recipe."""
    import numpy as np
    import torch

    is_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "reelbank": reelbank.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def commit() -> str:
    """The git commit of this code, or "" outside a checkout."""
    root = Path(reelbank.__file__).parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    return subprocess.run(
        [git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
