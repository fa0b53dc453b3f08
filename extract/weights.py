"""State dicts: fetched, read from a file without running code, fitted to a model, and hashed."""

import contextlib
import hashlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers, 64 hex digits."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def fetching(name: str, place: str, remedy: str, option: str = "WEIGHTS") -> Iterator[None]:
    """Turns whatever a loader raises when it cannot fetch or read weights into what the user can do about it; `option` is the
    one that asked for them."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - urllib, requests, httpx and the hub's own errors share no base class
        raise InputError(
            f"{option}=pretrained: {name}'s weights could not be loaded from {place} ({_reason(error)}). With no network, "
            f"{remedy}, or give {option}=<path of a state dict>, or {option}=random"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, or what kind it is; never torch's advice to load a file once more and let its code run."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "neither safetensors nor a torch file that loads without running code"
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def load_state(path: Path, option: str = "WEIGHTS") -> dict[str, Tensor]:
    """A state dict from .safetensors or a torch file (weights_only), out of the usual nests, without `module.` before its
    names; `option` names the file. Raises InputError for one that is not there, cannot be read without running its code, or
    holds something else."""
    if not path.is_file():
        nor = ", nor weights trained here of that name ('reelbank pretrain')" if option == "WEIGHTS" else ""
        raise InputError(f"{option}={path}: there is no such file{nor}")
    if not path.stat().st_size:
        raise InputError(f"{option}={path}: not a readable state dict: the file is empty (0 bytes)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever a damaged or hostile file raises, it is this file that is at fault
        raise InputError(f"{option}={path}: not a readable state dict: {_reason(error)}") from error
    for nest in ("state_dict", "model_state", "model"):
        if isinstance(state, dict) and isinstance(state.get(nest), dict):
            state = state[nest]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise InputError(f"{option}={path}: holds no state dict (names to tensors)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def fit_state(
    model: nn.Module,
    state: dict[str, Tensor],
    path: Path,
    name: str,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state,
    option: str = "WEIGHTS",
) -> None:
    """Load a state dict into a model without its classifier (`model.classifier_name`, when there, names what to leave out).

    Weights for RGB are fitted to a first convolution of other channels by `cross_modal`. Raises InputError when names are
    missing or unknown, or a shape differs.
    """
    state = translate(state)
    dropped = getattr(model, "classifier_name", None)
    if dropped:
        state = {key: value for key, value in state.items() if not key.startswith(dropped + ".")}
    first = first_convolution(model)
    if first and (key := f"{first[0]}.weight") in state:
        given = state[key]
        if given.ndim == first[1].weight.ndim and given.shape[1] == 3 != first[1].in_channels:
            state = {**state, key: cross_modal(given, first[1].in_channels)}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"{option}={path}: does not fit {name} ({str(error).splitlines()[1].strip()})") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise InputError(
            f"{option}={path}: does not fit {name}: {len(missing)} names missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} unknown ({', '.join(unexpected[:3])})"
        )


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d | nn.Conv3d] | None:
    """Name and module of the convolution that reads the input."""
    return next(((n, part) for n, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Conv3d)), None)


def cross_modal(weight: Tensor, channels: int) -> Tensor:
    """(O, 3, ...) weights for RGB -> (O, channels, ...): the mean over RGB, repeated (TSN paper, 3.1, cross-modality
    initialisation); their sum for one channel, which is what a grey picture in all three would give."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.mean(1, keepdim=True).expand(-1, channels, *weight.shape[2:]).contiguous()


def widen_input(model: nn.Module, channels: int, fresh: bool, name: str) -> None:
    """Make the first convolution read `channels` instead of 3, in place: `fresh` with new random weights of its own kind, else
    by `cross_modal`. Raises InputError when no convolution reads RGB."""
    found = first_convolution(model)
    if not found or found[1].in_channels != 3:
        raise InputError(f"{name}: no first convolution over RGB to widen to {channels} channels; it cannot take this stream")
    old = found[1]
    weight = cross_modal(old.weight.detach(), channels)  # (O, channels, ...)
    old.in_channels, old.weight = channels, nn.Parameter(weight)  # in place: timm has many kinds of convolution
    if fresh:
        old.reset_parameters()
    if hasattr(model, "transform_input"):  # torchvision's inception: a change of normalisation of three channels
        model.transform_input = False  # type: ignore[assignment]
