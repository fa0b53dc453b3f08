"""The module that extraction runs: normalisation, the network up to its nodes, and pooling."""

import contextlib
import copy
import functools
import math
import sys
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.system.memory import full_memory
from reelbank.extract.networks.by_name import CutByName
from reelbank.extract.networks.inputs import NetworkKind
from reelbank.extract.networks.preprocessing import Preprocessing, pair

LARGEST_ERROR = 1e-4  # of features after batch norm was folded, relative to their norm
# Modules that torch.fx keeps whole, with the classes derived from them: timm's "same" padding
# depends on the size of the picture, and a trace cannot branch on a size.
SIZE_DEPENDENT = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # those that `fuse` folds


class NormalisedNetwork(nn.Module):
    """Normalises on the device and runs the trunk: (B, C, [s,] h, w) uint8 or (B, 96, 64) log-mel
    -> tuple of float32. The kind "waves" is an audio network with its own front end, whose inputs
    reach it unchanged."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        nodes: tuple[str, ...],
        preprocessing: Preprocessing,
        kind: NetworkKind | Literal["waves"],
        *,
        pool: bool,
    ) -> None:
        super().__init__()
        self.nodes, self.trunk, self.pool, self.kind = nodes, trunk, pool, kind
        self.bgr, self.size = preprocessing.order == "bgr", pair(preprocessing.crop_px)
        shape = (1, -1, 1, 1, 1) if kind == "video" else (1, -1, 1, 1)
        scale = 1 if kind in ("sound", "waves") else 255
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape) * scale)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape) * scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        output = self.trunk(inputs if self.kind == "waves" else self._normalised(inputs))
        is_cut = isinstance(output, dict)
        outputs = tuple(output[node] for node in self.nodes) if is_cut else (output,)
        return tuple((pooled(y) if self.pool else y).float().contiguous() for y in outputs)

    def _normalised(self, inputs: Tensor) -> Tensor:
        if self.kind == "sound":
            x = inputs[:, None]  # (B, 1, 96, 64)
            if tuple(x.shape[-2:]) != self.size:
                x = F.interpolate(x, self.size, mode="bilinear")
        else:
            x = (inputs.flip(1) if self.bgr else inputs).float()
        x = (x - self.mean) / self.std
        return x.contiguous(
            memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        )


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


def checked_inputs(
    whole: NormalisedNetwork, input_shape: tuple[int, ...], extractor: str
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """An input on which versions of a network are compared, with a batch of one, and the features
    of it. Raises InputError for a network that cannot read inputs of `input_shape`.

    A video network gets a clip of a quarter of the length, height and width, or of half of them, if
    it can read that: the comparison finds the same mistakes in a small part of the time.
    """
    shapes = [input_shape]
    if whole.kind == "video":
        channels, *sizes = input_shape
        shapes = [(channels, *(-(-size // part) for size in sizes)) for part in (4, 2)] + shapes
    for shape in shapes:
        inputs = example_input(whole.kind, shape)
        try:
            return inputs, features_of(whole, inputs)
        except Exception as error:  # noqa: BLE001 - a network raises anything for an input that it was not made for
            if full_memory(error):
                raise
            if shape == input_shape:
                raise _unreadable(input_shape, extractor, error) from error
    raise AssertionError("the last shape is that of the network")


def check_size(whole: NormalisedNetwork, input_shape: tuple[int, ...], extractor: str) -> None:
    """Raises InputError for a network that cannot read inputs of `input_shape`."""
    inputs = example_input(whole.kind, input_shape)
    # Without data, where the network can run so: it takes seconds with a clip of 64 frames.
    with contextlib.suppress(Exception):
        features_of(copy.deepcopy(whole).to("meta"), inputs.to("meta"))
        return
    try:
        features_of(whole, inputs)
    except Exception as error:  # noqa: BLE001 - as above
        if full_memory(error):
            raise
        raise _unreadable(input_shape, extractor, error) from error


def _unreadable(input_shape: tuple[int, ...], extractor: str, error: Exception) -> InputError:
    size = " x ".join(map(str, input_shape))
    return InputError(
        f"EXTRACTOR={extractor}: cannot process inputs of {size} ({_first_line(error)}); "
        "give a different SIZE or, for a video network, a different CLIP"
    )


def features_of(module: nn.Module, inputs: Tensor) -> tuple[Tensor, ...]:
    """The features of a batch, for inference."""
    with torch.inference_mode():
        features: tuple[Tensor, ...] = module(inputs)
    return features


def relative_difference(features: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The difference between features (B, ...) of each node, relative to their norm: the largest of
    all nodes."""
    differences = [
        ((a - b).norm() / b.norm().clamp_min(1e-12)).item()
        for a, b in zip(features, expected, strict=True)
    ]
    return max(differences, key=lambda difference: (math.isnan(difference), difference))


def with_folded_batch_norm(
    whole: NormalisedNetwork, inputs: Tensor, expected: Sequence[Tensor], extractor: str
) -> NormalisedNetwork:
    """Fold each batch norm into the convolution before it: the features are equal, and memory is
    read and written less.

    The result is compared with the features of the original network, `expected`. A network that
    torch.fx cannot trace, or whose result differs, stays as it is, and a note says so.
    """
    if isinstance(whole.trunk, CutByName):
        return whole
    folded = copy.copy(whole)
    folded._modules = dict(whole._modules)
    reason = ""
    try:
        graph = _Tracer().trace(whole.trunk)
        folded.trunk = fuse(fx.GraphModule(whole.trunk, graph), no_trace=True)
        difference = relative_difference(features_of(folded, inputs), expected)
        if not difference < LARGEST_ERROR:  # also for NaN
            reason = f"because the features would differ by {difference:.1e}"
    except Exception:  # noqa: BLE001 - torch.fx raises many kinds for a model that it cannot trace
        reason = "because torch.fx cannot trace its forward function"
    if reason:
        if any(isinstance(module, _NORMS) for module in whole.modules()):
            print_once(
                f"note: EXTRACTOR={extractor}: its batch norms are not merged with its convolutions, "
                f"{reason}. Extraction is slower, and the features do not change"
            )
        folded = whole
    for parameter in folded.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return folded


def largest_step(module: nn.Module, inputs: Tensor) -> float:
    """The memory that the largest layer reads and writes for one input, in bytes. inputs: a
    batch."""
    sizes_bytes = [0.0]

    def measure(layer: nn.Module, read: tuple[object, ...], written: object) -> None:
        tensors = [tensor for tensor in (*read, written) if isinstance(tensor, Tensor)]
        sizes_bytes.append(sum(tensor.nbytes for tensor in tensors))

    layers = [layer for layer in module.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(measure) for layer in layers]
    try:
        features_of(module, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes_bytes) / len(inputs)


@functools.cache  # a network is built several times
def print_once(line: str) -> None:
    """Print a note for the user, the first time."""
    print_lines(line, file=sys.stderr)


def example_input(kind: NetworkKind | Literal["waves"], input_shape: tuple[int, ...]) -> Tensor:
    """A batch of one input with random values, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, *input_shape)
    if kind in ("sound", "waves"):
        return torch.randn(shape, generator=generator)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
