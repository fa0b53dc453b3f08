"""The module that extraction runs: normalisation, the network up to its nodes, and pooling."""

import copy
import functools
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.system.memory import full_memory
from reelbank.extract.networks.cut import SIZE_DEPENDENT
from reelbank.extract.networks.inputs import NetworkKind
from reelbank.extract.networks.preprocessing import Preprocessing, pair

LARGEST_ERROR = 1e-4  # of features after batch norm was folded, relative to their norm
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # those that `fuse` folds


class NormalisedNetwork(nn.Module):
    """Normalises on the device and runs the trunk: (B, C, [s,] h, w) uint8 or (B, 96, 64) log-mel
    -> tuple of float32."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        nodes: tuple[str, ...],
        preprocessing: Preprocessing,
        kind: NetworkKind,
        *,
        pool: bool,
    ) -> None:
        super().__init__()
        self.nodes, self.trunk, self.pool, self.kind = nodes, trunk, pool, kind
        self.bgr, self.size = preprocessing.order == "bgr", pair(preprocessing.crop_px)
        shape = (1, -1, 1, 1, 1) if kind == "video" else (1, -1, 1, 1)
        scale = 1 if kind == "sound" else 255
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape) * scale)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape) * scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        if self.kind == "sound":
            x = inputs[:, None]  # (B, 1, 96, 64)
            if tuple(x.shape[-2:]) != self.size:
                x = F.interpolate(x, self.size, mode="bilinear")
        else:
            x = (inputs.flip(1) if self.bgr else inputs).float()
        x = (x - self.mean) / self.std
        x = x.contiguous(
            memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        )
        output = self.trunk(x)
        is_cut = isinstance(output, dict)
        outputs = tuple(output[node] for node in self.nodes) if is_cut else (output,)
        return tuple((pooled(y) if self.pool else y).float().contiguous() for y in outputs)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_whole = isinstance(m, SIZE_DEPENDENT)
        return is_whole or super().is_leaf_module(m, module_qualified_name)


class Pixels(nn.Module):
    """Returns its input, uint8, unchanged."""

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return (inputs,)


def pooled(y: Tensor) -> Tensor:
    """Mean over space and time: (B, C, [t,] h, w), (B, [t,] h, w, C) or tokens (B, n, C) -> (B, C);
    vectors stay.

    Channels stand last where the two axes before the last are equal and the last is not (swin's
    maps).
    """
    if y.ndim == 3 or (y.ndim > 3 and y.shape[-3] == y.shape[-2] != y.shape[-1]):
        return y.flatten(1, -2).mean(1)
    return y.flatten(2).mean(2) if y.ndim > 3 else y


def with_folded_batch_norm(
    whole: NormalisedNetwork, input_shape: tuple[int, ...], extractor: str
) -> NormalisedNetwork:
    """Fold each batch norm into the convolution before it: the features are equal, and memory is
    read and written less.

    The result is compared with the original network on one input. A network that torch.fx cannot
    trace, or whose result differs, stays as it is, and a note says so. Raises InputError for a
    network that cannot read inputs (without the batch) of `input_shape`.
    """
    inputs = _example(whole.kind, input_shape)
    try:
        with torch.inference_mode():
            expected = whole(inputs)
    except Exception as error:  # noqa: BLE001 - a network raises anything for an input that it was not made for
        if full_memory(error):
            raise
        size = " x ".join(map(str, input_shape))
        raise InputError(
            f"EXTRACTOR={extractor}: cannot process inputs of {size} ({_first_line(error)}); "
            "give another SIZE, or for a video network another CLIP"
        ) from error
    folded = copy.copy(whole)
    folded._modules = dict(whole._modules)
    reason = ""
    try:
        graph = _Tracer().trace(whole.trunk)
        folded.trunk = fuse(fx.GraphModule(whole.trunk, graph), no_trace=True)
        with torch.inference_mode():
            pairs = list(zip(folded(inputs), expected, strict=True))
        error_norms = [((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in pairs]
        if not max(error_norms) < LARGEST_ERROR:  # also for NaN
            reason = f"because the features would differ by {max(error_norms):.1e}"
    except Exception:  # noqa: BLE001 - torch.fx raises many kinds for a model that it cannot trace
        reason = "because torch.fx cannot trace its forward function"
    if reason:
        if any(isinstance(module, _NORMS) for module in whole.modules()):
            _print_once(
                f"note: EXTRACTOR={extractor}: its batch norms are not merged with its convolutions, "
                f"{reason}. Extraction is slower, and the features do not change"
            )
        folded = whole
    for parameter in folded.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return folded


@functools.cache  # a network is built several times
def _print_once(line: str) -> None:
    print_lines(line, file=sys.stderr)


def _example(kind: NetworkKind, input_shape: tuple[int, ...]) -> Tensor:
    """A batch of one input with random values, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, *input_shape)
    if kind == "sound":
        return torch.randn(shape, generator=generator)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
