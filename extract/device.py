"""Choose the device that computes, and describe it for the user."""

import platform

import torch

from reelbank.data.errors import InputError
from reelbank.data.ranges import DEVICE, check_value
from reelbank.data.store.versions import EXACT
from reelbank.data.system.machine import cores
from reelbank.extract.pipeline.forward import allow_tf32


def chosen_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU if there is one.

    Also switches TF32 off in this process, so that fp32 arithmetic is exact on a GPU too. Raises
    InputError for an invalid name and for a device that this machine does not have.
    """
    check_value("DEVICE", name, str, {"form": DEVICE})
    allow_tf32(False)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise InputError(
            f"DEVICE={name}: PyTorch does not find this GPU; use DEVICE=cpu, or run "
            "'reelbank doctor' to see the GPUs"
        )
    return device


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor and the number of cores that may be used. Stores record
    it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) + EXACT
    count = cores().value
    return f"CPU ({platform.machine()}, {count} {'core' if count == 1 else 'cores'})"
