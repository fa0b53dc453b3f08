"""Weights published by torchvision and timm: find them in the caches, download them, or describe
what would be downloaded.

If a server cannot be reached within ten seconds, it is not asked again for five minutes, so that an
offline command with many networks ends quickly. huggingface_hub's own loader would ask the server
eighteen times per network.
"""

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.networks.checkpoints import read_document
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.weights import reason_of

TIMEOUT_SECONDS = 10.0
REMEMBERED_SECONDS = 300.0
HUB_REMEDY = "copy the folder HF_HOME (~/.cache/huggingface) from a machine that has these weights"
# Server -> the time until which it is not asked again, and the error.
_unreachable: dict[str, tuple[float, str]] = {}


@contextlib.contextmanager
def fetching(
    name: str,
    place: str,
    remedy: str,
    option: str = "WEIGHTS",
    server: str = "",
    *,
    has_other_weights: bool = True,
) -> Iterator[None]:
    """Context that turns errors of a loader into an InputError with a remedy.

    option: the option that requests the weights; server: remembered if it cannot be reached;
    has_other_weights: whether the option may be a file or "random" instead
    """
    try:
        until, reason = _unreachable.get(server, (0.0, ""))
        if time.monotonic() < until:
            raise ConnectionError(reason)
        yield
    except Exception as error:  # noqa: BLE001 - urllib, requests, httpx and the hub's own errors share no base class
        reason = reason_of(error)
        if server and _is_no_connection(error):
            _unreachable[server] = (time.monotonic() + REMEMBERED_SECONDS, reason)
        others = f", or give {option}=<path of a state dict> or {option}=random"
        raise InputError(
            f"{option}=pretrained: the weights of {name} could not be loaded from {place} "
            f"({reason}). Without a network connection, {remedy}{others if has_other_weights else ''}"
        ) from error


def _is_no_connection(error: Exception) -> bool:
    """Whether the server was not reached. An HTTP error is an answer of the server."""
    if isinstance(error, urllib.error.HTTPError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names
        & {
            "URLError",
            "ConnectionError",
            "TimeoutError",
            "TransportError",
            "Timeout",
            "OfflineModeIsEnabled",
        }
    )


# ---- torchvision


def torchvision_cache(choice: Any) -> Path:
    """Where the file of torchvision's weights `choice` is, or will be."""
    return Path(torch.hub.get_dir()) / "checkpoints" / choice.url.rsplit("/", 1)[-1]


def torchvision_absent(choice: Any) -> str:
    """Description of the download; "" if the file is in the cache."""
    path = torchvision_cache(choice)
    if path.is_file():
        return ""
    return f"{path.name}, {choice.meta.get('_file_size', 0) * 2**20 / 1e6:.0f} MB"


def torchvision_origin(choice: Any) -> Provenance:
    """Where torchvision's weights `choice` come from. Their revision is the name of their file, which
    contains the beginning of its hash. torchvision states the license of few of its weights."""
    return replace(
        Provenance.of_torchvision(choice),
        revision=torchvision_cache(choice).name,
        license=str(choice.meta.get("license") or ""),
    )


def torchvision_state(name: str, choice: Any, option: str = "WEIGHTS") -> dict[str, Tensor]:
    """The state dict of torchvision's weights, downloaded if it is not in the cache. Raises
    InputError."""
    path = torchvision_cache(choice)
    with fetching(
        name,
        choice.url,
        f"put the file at {path}",
        option,
        "" if path.is_file() else urlsplit(choice.url).netloc,
    ):
        # torch's download has no time limit for a server that does not answer, so it is asked
        # first.
        if not path.is_file():
            asked = urllib.request.Request(choice.url, method="HEAD")  # noqa: S310 - an address of torchvision's own
            urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS).close()  # noqa: S310
        # weights_only: torch.hub's default, which torchvision's builders use, runs code in the
        # file.
        return choice.get_state_dict(progress=True, check_hash=True, weights_only=True)


# ---- timm, on the Hugging Face hub


def timm_absent(config: Any, model: nn.Module) -> str:
    """Description of the download of a timm network's weights; "" if they are in the cache."""
    names = _hub_names(config)
    if _cached(config, names):
        return ""
    size_bytes = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return f"{config.hf_hub_id or config.url}, about {size_bytes / 1e6:.0f} MB"


def timm_state(name: str, config: Any) -> dict[str, Tensor] | None:
    """The state dict of a timm network's weights as published, downloaded if they are not in the
    cache; None if only timm can read them. Raises InputError."""
    names = _hub_names(config)
    if not names:
        return None
    path = _cached(config, names) or _downloaded(name, config, names)
    if path is None:
        return None
    with fetching(name, str(path), "copy this file from another machine"):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return read_document(path)


def timm_revision(config: Any) -> str:
    """The commit on the hub of a timm network's weights in the cache; "" if it is not known."""
    path = _cached(config, _hub_names(config))
    # The cache of the hub keeps files in models--<owner>--<name>/snapshots/<commit>/.
    return path.parent.name if path and path.parent.parent.name == "snapshots" else ""


def _hub_names(config: Any) -> list[str]:
    """The names that a network's file may have in its repository, in timm's order; [] if timm
    reads it in another way."""
    if not config.hf_hub_id or config.custom_load or config.file or config.state_dict:
        return []
    name = config.hf_hub_filename or "pytorch_model.bin"
    if name == "pytorch_model.bin":
        return ["model.safetensors", name]
    if name.endswith(".safetensors"):
        return [name]
    return [f"{Path(name).with_suffix('')}.safetensors", name]


def _repository(config: Any) -> tuple[str, str | None]:
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or None


def _cached(config: Any, names: Sequence[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        repository, revision = _repository(config)
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def _downloaded(network: str, config: Any, names: Sequence[str]) -> Path | None:
    """Download the first of these files that the repository has; None if it has none of them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision = _repository(config)
    for name in names:
        url = hf_hub_url(repository, name, revision=revision)
        with fetching(
            network, f"the Hugging Face hub, {url}", HUB_REMEDY, server=urlsplit(url).netloc
        ):
            try:
                # Asks once; the download below would retry for minutes.
                get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)
            except EntryNotFoundError:
                continue
            return Path(hf_hub_download(repository, name, revision=revision))
    return None
