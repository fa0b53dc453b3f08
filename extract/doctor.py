"""`reelbank doctor`: what works on this machine, and what to do about what does not."""

import importlib
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import reelbank
from reelbank.data.errors import repair_command
from reelbank.data.machine import SHARED_MEMORY, available_memory, cores
from reelbank.data.printing import printable
from reelbank.data.recipe import option

# module: (its distribution, what needs it); "" of what can be done without
NEEDED = {
    "torch": ("torch", "all networks"),
    "torchvision": ("torchvision", "all networks"),
    "av": ("av", "every decoding"),
    "h5py": ("h5py", "every store"),
    "cv2": ("opencv-python-headless", "extract and report"),
    "decord": ("decord", ""),
}
NAMES = {"av": "PyAV, the default decoder", "cv2": "OpenCV, flow and DECODER=opencv", "decord": "decord, DECODER=decord"}
SMALL_SHARED_BYTES = 1 << 26  # Docker's default


@dataclass(frozen=True)
class DoctorOptions:
    bank: str = option("bank", "folder that holds stores, runs and reports")


def doctor(options: DoctorOptions) -> int:
    """Print one line for each thing that matters. Returns 1 when a package that is needed does not load."""
    print(f"reelbank {reelbank.__version__}, Python {platform.python_version()}")
    usable, memory = cores(), available_memory()
    print(printable(f"cores: {usable.value} ({usable.source})"))
    print(printable(f"memory: {memory.value / 2**30:.1f} GiB left ({memory.source})"))
    print(_shared_memory())
    loads = {module: _loads(module) for module in NEEDED}
    if loads["torch"]:
        _print_gpus()
    compiler = shutil.which("g++") or shutil.which("clang++")
    print(f"torch.compile on the CPU: {compiler or 'no C++ compiler (g++): large jobs run uncompiled'}")
    bank = Path(options.bank).resolve()
    place = next(folder for folder in (bank, *bank.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    print(f"bank {bank}: {free:.0f} GiB free{'' if os.access(place, os.W_OK) else ', NOT WRITABLE: give BANK=<folder>'}")
    return int(not all(loads[module] for module, (_, needed_by) in NEEDED.items() if needed_by))


def _loads(module: str) -> bool:
    """Whether a package can be imported; prints its version, or what to do."""
    distribution, needed_by = NEEDED[module]
    name = NAMES.get(module, module)
    try:
        version = importlib.import_module(module).__version__
    except (ImportError, OSError, AttributeError) as error:  # a package without its files has no version
        verb = "needs" if needed_by.startswith("every") else "need"
        needs = f"; {needed_by} {verb} it" if needed_by else ""
        wheels = " (there are wheels for Linux on x86-64)" if module == "decord" else ""
        reason = " ".join(str(error).split())
        print(printable(f"{name}: does not load ({reason}){needs}; repair it: {repair_command(distribution)}{wheels}"))
        return False
    print(f"{name}: {version}")
    return True


def _print_gpus() -> None:
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            print(f"GPU cuda:{number}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    else:
        print("GPU: none that torch can use; networks run on the CPU")
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    weights = sorted(cache.glob("*.pth")) if cache.is_dir() else []
    print(f"torchvision weights in {cache}: {', '.join(path.name for path in weights) or 'none yet; fetched when first used'}")


def _shared_memory() -> str:
    """The line on shared memory, which `train WORKERS=` uses."""
    if not Path(SHARED_MEMORY).is_dir():
        return f"shared memory: no {SHARED_MEMORY}; WORKERS share features through {tempfile.gettempdir()}"
    usage = shutil.disk_usage(SHARED_MEMORY)
    sizes = f"shared memory ({SHARED_MEMORY}): {usage.total / 2**20:,.0f} MiB, {usage.free / 2**20:,.0f} MiB free"
    if usage.total <= SMALL_SHARED_BYTES:
        return f"{sizes}; enough: WORKERS share what does not fit through {tempfile.gettempdir()}"
    return sizes
