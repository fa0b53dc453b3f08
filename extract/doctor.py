"""`reelbank doctor`: what works on this machine, and what to do about what does not."""

import importlib
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import reelbank
from reelbank.data.machine import SHARED_MEMORY, available_memory, cores
from reelbank.data.recipe import option
from reelbank.data.shelf import printable

DECODERS = {"pyav": "av", "opencv": "cv2", "decord": "decord"}
REMEDIES = {
    "opencv": "pip install --force-reinstall --no-deps opencv-python-headless",
    "decord": "pip install decord (there are wheels for Linux on x86-64)",
    "pyav": "pip install av",
}
SMALL_SHARED_BYTES = 1 << 26  # Docker's default


@dataclass(frozen=True)
class DoctorOptions:
    bank: str = option("bank", "folder that holds stores, runs and reports")


def doctor(options: DoctorOptions) -> int:
    """Print one line for each thing that matters. Returns 1 when the default decoder does not work."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"reelbank {reelbank.__version__}, {versions}")
    usable, memory = cores(), available_memory()
    print(printable(f"cores: {usable.value} ({usable.source})"))
    print(printable(f"memory: {memory.value / 2**30:.1f} GiB left ({memory.source})"))
    print(_shared_memory())
    broken = False
    for decoder, module in DECODERS.items():
        try:
            version = importlib.import_module(module).__version__
        except (ImportError, OSError, AttributeError) as error:  # a package without its files has no version
            print(f"decoder {decoder}: does not load ({error}); {REMEDIES[decoder]}")
            broken |= decoder == "pyav"
        else:
            print(f"decoder {decoder}: {version}{' (the default)' if decoder == 'pyav' else ''}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            print(f"GPU cuda:{number}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    else:
        print("GPU: none that torch can use; networks run on the CPU")
    compiler = shutil.which("g++") or shutil.which("clang++")
    print(f"torch.compile on the CPU: {compiler or 'no C++ compiler (g++): large jobs run uncompiled'}")
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    weights = sorted(cache.glob("*.pth")) if cache.is_dir() else []
    print(f"torchvision weights in {cache}: {', '.join(path.name for path in weights) or 'none yet; fetched when first used'}")
    bank = Path(options.bank).resolve()
    place = next(folder for folder in (bank, *bank.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    print(f"bank {bank}: {free:.0f} GiB free{'' if os.access(place, os.W_OK) else ', NOT WRITABLE: give BANK=<folder>'}")
    return int(broken)


def _shared_memory() -> str:
    """The line on shared memory, which `train WORKERS=` uses."""
    if not Path(SHARED_MEMORY).is_dir():
        return f"shared memory: no {SHARED_MEMORY}; WORKERS share features through {tempfile.gettempdir()}"
    usage = shutil.disk_usage(SHARED_MEMORY)
    sizes = f"shared memory ({SHARED_MEMORY}): {usage.total / 2**20:,.0f} MiB, {usage.free / 2**20:,.0f} MiB free"
    if usage.total <= SMALL_SHARED_BYTES:
        return f"{sizes}; enough: WORKERS share what does not fit through {tempfile.gettempdir()}"
    return sizes
