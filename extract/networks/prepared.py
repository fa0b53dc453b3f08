"""The versions of a network that extraction uses: with batch norm folded, and with fused steps for the
CPU. Each is compared with the network as it was loaded."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from reelbank.extract.networks.backbones.registry import BACKBONES, load_backbone
from reelbank.extract.networks.fused import with_fused_steps
from reelbank.extract.networks.module import (
    NormalisedNetwork,
    check_size,
    checked_inputs,
    largest_step,
    with_folded_batch_norm,
)


@dataclass(frozen=True)
class Prepared:
    """The versions of a network, and `largest_step_bytes` as of Network."""

    module: nn.Module
    cpu_module: nn.Module
    largest_step_bytes: int = 0


class Modules:
    """The modules of a network. They are prepared when they are first used, because a plan only
    needs to know that the network can read its inputs."""

    def __init__(self, extractor: str, whole: nn.Module | None = None) -> None:
        """whole: a module that needs no preparation."""
        self._extractor = extractor
        self._ready = Prepared(whole, whole) if whole is not None else None
        self._checked: _Checked | None = None

    def check(self, whole: NormalisedNetwork, shape: tuple[int, ...]) -> None:
        """Prepare `whole` later. Raises InputError if it cannot read inputs of `shape`."""
        inputs, features = checked_inputs(whole, shape, self._extractor)
        # The check loads a part of torch that takes seconds, so it is left out where it is known.
        is_known = self._extractor in BACKBONES and load_backbone(self._extractor).reads_larger
        if inputs.shape[1:] != shape and not is_known:
            check_size(whole, shape, self._extractor)
        self._checked = _Checked(whole, shape, inputs, features)

    @property
    def prepared(self) -> Prepared:
        """The versions with batch norm folded, compared with the features of the network as it
        was."""
        if self._ready is None:
            assert self._checked is not None
            self._ready = self._checked.prepared(self._extractor)
            self._checked = None  # the weights before folding are no longer needed
        return self._ready


@dataclass(frozen=True)
class _Checked:
    """A network as it was loaded, and its features of an example input."""

    whole: NormalisedNetwork
    shape: tuple[int, ...]
    inputs: torch.Tensor
    features: tuple[torch.Tensor, ...]

    def prepared(self, extractor: str) -> Prepared:
        folded = with_folded_batch_norm(self.whole, self.inputs, self.features, extractor)
        on_cpu = with_fused_steps(folded, self.inputs, self.features, extractor)
        # The example of a video network may be smaller than its inputs.
        share = math.prod(self.shape) / self.inputs[0].numel()
        return Prepared(folded, on_cpu, round(largest_step(folded, self.inputs) * share))
