"""Choose the device that computes, and describe it for the user."""

import platform

import torch

from reelbank.data.console import as_run, print_lines
from reelbank.data.errors import InputError
from reelbank.data.ranges import DEVICE, DEVICES, check_value
from reelbank.data.store.versions import EXACT
from reelbank.data.system.machine import cores
from reelbank.extract.pipeline.forward import allow_tf32


def chosen_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU with the most free memory if there is one.

    Also switches TF32 off in this process, so that fp32 arithmetic is exact on a GPU too. Raises
    InputError for an invalid name and for a device that this machine does not have.
    """
    check_value("DEVICE", name, str, {"form": DEVICE})
    allow_tf32(False)
    if name == "auto":
        return _emptiest_gpu() if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise InputError(
            f"DEVICE={name}: PyTorch does not find this GPU; use DEVICE=cpu, or run "
            "'reelbank doctor' to see the GPUs"
        )
    return device


def chosen_devices(names: str) -> list[torch.device]:
    """The devices that share an extraction: "all" is every GPU, and "cuda:0 cuda:1" (or with a comma)
    the named ones.

    Raises InputError as `chosen_device` does, if a GPU is named twice, and if there is no GPU for
    "all".
    """
    check_value("DEVICE", names, str, {"form": DEVICES})
    if names == "all":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise InputError(
                "DEVICE=all: PyTorch does not find a GPU; use DEVICE=cpu, or run 'reelbank doctor' "
                "to see the GPUs"
            )
        names = " ".join(f"cuda:{number}" for number in range(count))
    devices = [chosen_device(name) for name in names.replace(",", " ").split()]
    gpus = [device.index or 0 for device in devices if device.type == "cuda"]
    if len(set(gpus)) < len(gpus):
        raise InputError(f"DEVICE={names}: must name each GPU only once")
    return devices


def check_device_of_cluster(name: str) -> None:
    """Raises InputError for a device that the workers of a cluster cannot be given: a GPU by its
    number, or several devices."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(
            f"DEVICE={name}: cannot be used with CLUSTER; use auto, cpu or cuda, and start one Dask "
            "worker for each GPU"
        )


def _emptiest_gpu() -> torch.device:
    """The visible GPU with the most free memory."""
    count = torch.cuda.device_count()
    if count == 1:
        return torch.device("cuda")
    free = [torch.cuda.mem_get_info(number)[0] for number in range(count)]
    chosen = free.index(max(free))
    print_lines(
        f"note: using cuda:{chosen}, which has the most free memory of {count} GPUs; "
        + as_run("'reelbank extract DEVICE=all' uses all of them")
    )
    return torch.device("cuda", chosen)


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor and the number of cores that may be used. Stores record
    it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) + EXACT
    count = cores().value
    return f"CPU ({platform.machine()}, {count} {'core' if count == 1 else 'cores'})"
