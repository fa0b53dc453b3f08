"""`reelbank doctor`: check the packages and the machine, and print how to repair what does not
work."""

import importlib
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import reelbank
from reelbank.data.console import print_json, print_lines
from reelbank.data.errors import repair_command
from reelbank.data.options import bank_option, json_option
from reelbank.data.ranges import Checked
from reelbank.data.system.machine import SHARED_MEMORY, available_memory, cores

# module -> (its distribution, what needs it); "" if it is optional
NEEDED = {
    "torch": ("torch", "all networks"),
    "torchvision": ("torchvision", "all networks"),
    "av": ("av", "every decoder"),
    "h5py": ("h5py", "every store"),
    "cv2": ("opencv-python-headless", "the commands extract and report"),
    "decord": ("decord", ""),
}
NAMES = {
    "av": "PyAV (default decoder)",
    "cv2": "OpenCV (optical flow and DECODER=opencv)",
    "decord": "decord (DECODER=decord)",
}
SMALL_SHARED_BYTES = 1 << 26  # Docker's default


@dataclass(frozen=True)
class DoctorOptions(Checked):
    """Options of the command `doctor`."""

    bank: str = bank_option()
    json: bool = json_option()


@dataclass(frozen=True)
class Package:
    """Whether a package loads: its version, or the reason why it does not."""

    module: str
    version: str | None
    reason: str = ""

    @property
    def is_fatal(self) -> bool:
        return self.version is None and bool(NEEDED[self.module][1])

    def line(self) -> str:
        """The line to print: the version, or the repair."""
        distribution, needed_by = NEEDED[self.module]
        name = NAMES.get(self.module, self.module)
        if self.version is not None:
            return f"{name}: {self.version}"
        verb = "needs" if needed_by.startswith("every") else "need"
        needs = f"; {needed_by} {verb} it" if needed_by else ""
        wheels = " (there are wheels for Linux on x86-64)" if self.module == "decord" else ""
        repair = repair_command(distribution)
        return f"{name}: does not load ({self.reason}){needs}; repair the package with: {repair}{wheels}"


@dataclass(frozen=True)
class Gpu:
    device: str
    name: str
    memory_bytes: int

    def line(self) -> str:
        return f"GPU {self.device}: {self.name}, {self.memory_bytes / 2**30:.0f} GiB"


@dataclass(frozen=True)
class BankPlace:
    """The folder of the bank, and the free space on its disk. The folder may not exist yet."""

    path: str
    free_bytes: int
    writable: bool

    def line(self) -> str:
        problem = "" if self.writable else ", not writable; give BANK=<another folder>"
        return f"bank {self.path}: {self.free_bytes / 2**30:.0f} GiB free{problem}"


def doctor(options: DoctorOptions) -> int:
    """Print the state of packages and machine. Returns 1 if a required package does not load."""
    packages = [_loaded(module) for module in NEEDED]
    has_torch = packages[0].version is not None
    gpus = _gpus() if has_torch else []
    compiler = shutil.which("g++") or shutil.which("clang++")
    bank = _bank_place(options.bank)
    usable, memory = cores(), available_memory()
    ok = not any(package.is_fatal for package in packages)
    if options.json:
        print_json(
            {
                "ok": ok,
                "reelbank": reelbank.__version__,
                "python": platform.python_version(),
                "cores": usable.value,
                "memory_bytes": memory.value,
                "packages": [
                    {"module": each.module, "version": each.version, "reason": each.reason or None}
                    for each in packages
                ],
                "gpus": [asdict(gpu) for gpu in gpus],
                "compiler": compiler,
                "bank": asdict(bank),
            }
        )
        return int(not ok)
    print_lines(f"reelbank {reelbank.__version__}, Python {platform.python_version()}")
    print_lines(f"cores: {usable.value} ({usable.source})")
    print_lines(f"memory: {memory.value / 2**30:.1f} GiB available ({memory.source})")
    print_lines(_shared_memory())
    print_lines(*(package.line() for package in packages))
    if has_torch:
        print_lines(*([gpu.line() for gpu in gpus] or [_WITHOUT_GPU]), _torchvision_weights())
    without = "not available without a C++ compiler (g++), so networks run uncompiled"
    print_lines(f"torch.compile on the CPU: {compiler or without}")
    print_lines(bank.line())
    return int(not ok)


_WITHOUT_GPU = "GPU: PyTorch finds none, so networks run on the CPU"


def _bank_place(bank: str) -> BankPlace:
    path = Path(bank).resolve()
    place = next(folder for folder in (path, *path.parents) if folder.exists())
    free_bytes = shutil.disk_usage(place).free
    return BankPlace(str(path), free_bytes, writable=os.access(place, os.W_OK))


def _loaded(module: str) -> Package:
    try:
        return Package(module, importlib.import_module(module).__version__)
    # AttributeError: a package whose files are deleted is imported as an empty namespace.
    except (ImportError, OSError, AttributeError) as error:
        return Package(module, None, " ".join(str(error).split()))


def _gpus() -> list[Gpu]:
    import torch

    gpus = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(number)
        gpus.append(Gpu(f"cuda:{number}", properties.name, properties.total_memory))
    return gpus


def _torchvision_weights() -> str:
    """The line about downloaded weights."""
    import torch

    cache = Path(torch.hub.get_dir()) / "checkpoints"
    weights = sorted(cache.glob("*.pth")) if cache.is_dir() else []
    names = ", ".join(path.name for path in weights)
    return f"torchvision weights in {cache}: {names or 'none yet; they are downloaded when first used'}"


def _shared_memory() -> str:
    """The line about shared memory, which `train WORKERS=` uses."""
    folder = tempfile.gettempdir()
    if not Path(SHARED_MEMORY).is_dir():
        return (
            f"shared memory: {SHARED_MEMORY} does not exist, so the processes of train WORKERS= "
            f"share features through files in {folder}"
        )
    usage = shutil.disk_usage(SHARED_MEMORY)
    total, free = (f"{size / 2**20:,.0f} MiB" for size in (usage.total, usage.free))
    line = f"shared memory ({SHARED_MEMORY}): {total}, {free} free"
    if usage.total <= SMALL_SHARED_BYTES:
        return (
            f"{line}; features that need more space are shared by the processes of train WORKERS= "
            f"through files in {folder}"
        )
    return line
