"""State dicts: read from a file without running code in it, loaded into a model, and hashed."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelbank.data.console import print_lines, printable, some
from reelbank.data.errors import InputError
from reelbank.data.system.memory import full_memory
from reelbank.extract.networks.checkpoints import (
    AVERAGED_KEYS,
    chosen,
    fitted,
    read_document,
    refused_class,
    state_in,
)


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers, 64 hex digits."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def reason_of(error: Exception) -> str:
    """The first line of an error, or its class. torch's advice to load the file again and to run
    its code is left out."""
    if name := refused_class(error):
        return f"it needs {name}, which cannot be loaded without running code"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it is neither a safetensors file nor a torch file that loads without running code"
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def load_state(path: Path, option: str = "WEIGHTS") -> dict[str, Tensor]:
    """The state dict in a .safetensors or torch file (weights_only), also if training code stored
    it under a key. Names are not changed.

    option: the option that names the file. Raises InputError for a file that is missing, cannot be
    read without running code in it, or does not contain a state dict.
    """
    if not path.is_file():
        nor = (
            ", and no weights of 'reelbank pretrain' have this name" if option == "WEIGHTS" else ""
        )
        raise InputError(f"{option}={path}: the file does not exist{nor}")
    if not path.stat().st_size:
        raise InputError(
            f"{option}={path}: cannot be read as a state dict: the file is empty (0 bytes)"
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        read: Callable[[Path], object] = load_file
    else:
        read = read_document
    try:
        document = read(path)
    except Exception as error:  # noqa: BLE001 - whatever a damaged or hostile file raises, it is this file that is at fault
        if full_memory(error):
            raise
        convert = (
            "; load the file where the code of this class is installed, and save only the state "
            "dict with torch.save(model.state_dict(), 'weights.pt')"
        )
        remedy = convert if refused_class(error) else ""
        raise InputError(
            printable(
                f"{option}={path}: cannot be read as a state dict: {reason_of(error)}{remedy}"
            )
        ) from error
    try:
        key, state, others = state_in(document)
    except ValueError as error:
        raise InputError(printable(f"{option}={path}: {error}")) from None
    if others or key.rpartition(".")[2] in AVERAGED_KEYS:
        ignored = f" (ignored keys: {some(others)})" if others else ""
        print_lines(f"{option}={path}: using the weights under the key '{key}'{ignored}")
    return state


def fit_state(
    model: nn.Module,
    state: dict[str, Tensor],
    path: Path,
    name: str,
    *,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state,
    option: str = "WEIGHTS",
) -> dict[str, Tensor]:
    """Load a state dict into a model without its classifier. `model.classifier_name`, if it exists,
    names one or several modules to leave out.

    A prefix before all names is removed. The user is told about this, and about entries outside the
    prefix, which are ignored. If the first convolution does not read 3 channels, its RGB weights
    are converted by `cross_modal`. Returns the state dict with the names of the file, without the
    prefix. Raises InputError if names are missing or unknown, or a shape differs.
    """
    dropped = getattr(model, "classifier_name", ())
    dropped = (dropped,) if isinstance(dropped, str) else tuple(dropped)
    where = f"{option}={path}"
    fit = chosen(
        fitted(state, set(model.state_dict()), tuple(f"{part}." for part in dropped), translate),
        where,
        name,
    )
    state = fit.state
    first = first_convolution(model)
    if first and (key := f"{first[0]}.weight") in state:
        weight = state[key]
        if weight.ndim == first[1].weight.ndim and weight.shape[1] == 3 != first[1].in_channels:
            state = {**state, key: cross_modal(weight, first[1].in_channels)}
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(
            f"{where}: does not fit {name} ({str(error).splitlines()[1].strip()})"
        ) from error
    return fit.named


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d | nn.Conv3d] | None:
    """Name and module of the convolution that reads the input."""
    return next(
        ((n, part) for n, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Conv3d)),
        None,
    )


def cross_modal(weight: Tensor, channels: int) -> Tensor:
    """(O, 3, ...) weights for RGB -> (O, channels, ...): the mean over RGB, repeated (TSN paper,
    3.1, cross-modality initialisation); their sum for one channel, which is what a grey picture in
    all three would give."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.mean(1, keepdim=True).expand(-1, channels, *weight.shape[2:]).contiguous()


def set_batch_norm_eps(model: nn.Module, eps: float) -> None:
    """Give all batch norm of a model this epsilon, in place."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.eps = eps


def widen_input(model: nn.Module, channels: int, name: str, *, is_random: bool) -> None:
    """Change the first convolution, in place, to read `channels` instead of 3, with new random
    weights, or with its own by `cross_modal`. Raises InputError for a network whose first
    convolution does not read RGB."""
    first = first_convolution(model)
    if not first or first[1].in_channels != 3:
        raise InputError(
            f"{name}: the first convolution must read RGB pictures (3 channels) to be adapted to "
            f"the {channels} channels of this stream; use another network"
        )
    # The module is changed instead of replaced, because timm has its own convolution classes.
    convolution = first[1]
    weight = cross_modal(convolution.weight.detach(), channels)  # (O, channels, ...)
    convolution.in_channels = channels
    convolution.weight = nn.Parameter(weight)
    if is_random:
        convolution.reset_parameters()
    if hasattr(model, "transform_input"):  # torchvision's inception: normalises three channels
        model.transform_input = False  # type: ignore[assignment]


def seeded(seed: int, builder: Callable[[], Any]) -> Any:
    """What `builder` returns with this seed of the CPU's random numbers. The caller's random numbers
    stay as they are, and GPUs are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed all GPUs
        return builder()
