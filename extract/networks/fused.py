"""Networks for the CPU, in float32: convolutions with the sums and activations that follow them in
one step, and faster maximum pooling. torch compiles to the same steps, but needs minutes for it."""

import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reelbank.data.system.memory import full_memory
from reelbank.extract.networks.backbones.i3d import same_padded
from reelbank.extract.networks.module import (
    NormalisedNetwork,
    features_of,
    print_once,
    relative_difference,
)
from reelbank.extract.networks.pooling import Padding, Triple, max_pool3d, same_padding

# Difference of the features, relative to their norm, that another order of float32 sums explains.
LARGEST_ERROR = 1e-5

_SUMS = (operator.add, operator.iadd, torch.add)
_RELU_FUNCTIONS = (F.relu, F.relu_, torch.relu, torch.relu_)
_RELU_METHODS = ("relu", "relu_")
# The name of an activation in oneDNN, and its numbers.
_Activation = tuple[str, list[float]]
_NONE: _Activation = ("none", [])
_RELU: _Activation = ("relu", [])
_RELU6: _Activation = ("hardtanh", [0.0, 6.0])


class FusedConvolution(nn.Module):
    """A convolution of float32, the sum with another tensor if there is one, and an activation:
    (N, C, [t,] h, w) -> (N, C', [t',] h', w').

    torch runs a convolution of 1 x 1 pixels, or of pictures in time alone, without oneDNN if it has
    one thread and fewer than 16 inputs. This module always runs it with oneDNN, and with weights
    that are already in oneDNN's order.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, activation: _Activation) -> None:
        super().__init__()
        self.bias = convolution.bias
        self.padding = list(convolution.padding)
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.groups = convolution.groups
        self.activation, self.numbers = activation
        # Not a buffer, because tensors in oneDNN's order cannot be copied or saved.
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            convolution.weight.detach(), self.padding, self.stride, self.dilation, self.groups
        )

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        settings = (self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        run = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return run(x, *settings, self.activation, self.numbers, "")
        after_sum = None if self.activation == "none" else self.activation
        total = run.binary(x, other, *settings, "add", 1.0, after_sum, self.numbers, "")
        if total.shape == other.shape:
            return total
        # oneDNN gives the sum the shape of the convolution, and drops what another shape adds.
        total = run(x, *settings, "none", [], "") + other
        if self.activation == "none":
            return total
        lowest, highest = self.numbers or (0.0, None)
        return total.clamp(lowest, highest)


class FastMaxPool3d(nn.Module):
    """`pooling.max_pool3d` with fixed settings. padding: None for 'same' padding by zeros."""

    def __init__(self, kernel: Triple, stride: Triple, padding: Padding | None) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if padding is None:
            frames, height, width = x.shape[2:]
            padding = same_padding((frames, height, width), self.kernel, self.stride)
        return max_pool3d(x, self.kernel, self.stride, padding, zeros=self.padding is None)


def with_fused_steps(
    network: NormalisedNetwork, inputs: Tensor, expected: Sequence[Tensor], extractor: str
) -> NormalisedNetwork:
    """The network with fused steps, for float32 on a CPU; it shares the other modules with
    `network`. Returns `network` itself if torch has no oneDNN here, or if torch.fx has not traced
    the network.

    inputs, expected: a batch and its features, with which the result is compared. If they differ,
    the network stays as it is, and a note says so.
    """
    if not torch.backends.mkldnn.is_available() or not isinstance(network.trunk, fx.GraphModule):
        return network
    try:
        fused = _fused(network, network.trunk)
        difference = relative_difference(features_of(fused, inputs), expected)
        reason = f"the features would differ by {difference:.1e}"
        if difference < LARGEST_ERROR:
            return fused
    except (RuntimeError, AttributeError) as error:  # oneDNN or this torch has no such steps
        if full_memory(error):
            raise
        reason = str(error).strip().splitlines()[0]
    print_once(
        f"note: EXTRACTOR={extractor}: its convolutions are not merged with the steps that follow "
        f"them ({reason}). Extraction is slower, and the features do not change"
    )
    return network


def is_mostly_fused(module: nn.Module) -> bool:
    """Whether most of the parameters of a network belong to fused convolutions."""
    of_convolutions = sum(
        part.weight.numel() for part in module.modules() if isinstance(part, FusedConvolution)
    )
    return of_convolutions > sum(parameter.numel() for parameter in module.parameters())


def _fused(network: NormalisedNetwork, traced: fx.GraphModule) -> NormalisedNetwork:
    trunk = fx.GraphModule(traced, copy.deepcopy(traced.graph))
    for node in list(trunk.graph.nodes):
        _fuse_convolution(trunk, node)
        _replace_pool(trunk, node)
    trunk.delete_all_unused_submodules()
    trunk.graph.lint()
    trunk.recompile()
    fused = copy.copy(network)
    fused._modules = {**network._modules, "trunk": trunk}
    fused.eval()
    return fused


def _fuse_convolution(trunk: fx.GraphModule, node: fx.Node) -> None:
    """Replace a convolution, and the sum and the activation that use its output, by one step."""
    convolution = _module(trunk, node)
    if not isinstance(convolution, nn.Conv2d | nn.Conv3d) or not _is_plain(convolution):
        return
    replaced, arguments = [node], [node.args[0]]
    total = _only_user(node)
    summand = _other_summand(total, node)
    if total is not None and summand is not None:
        replaced.append(total)
        arguments.append(summand)
    activating = _only_user(replaced[-1])
    activation = _activation(trunk, activating)
    if activating is not None and activation is not None:
        replaced.append(activating)
    name = f"fused_{node.name}"
    trunk.add_submodule(name, FusedConvolution(convolution, activation or _NONE))
    # The other summand may be computed after the convolution, so the step takes the last place.
    with trunk.graph.inserting_before(replaced[-1]):
        step = trunk.graph.call_module(name, tuple(arguments))
    replaced[-1].replace_all_uses_with(step)
    for old in reversed(replaced):
        trunk.graph.erase_node(old)


def _replace_pool(trunk: fx.GraphModule, node: fx.Node) -> None:
    """Replace maximum pooling of clips, also after 'same' padding, by a faster one."""
    pool = _fast_pool(trunk, node)
    if pool is None:
        return
    name = f"fast_{node.name}"
    trunk.add_submodule(name, pool)
    source = node.args[0]
    assert isinstance(source, fx.Node)
    padding = source if pool.padding is None else None
    with trunk.graph.inserting_before(node):
        step = trunk.graph.call_module(name, (padding.args[0] if padding else source,))
    node.replace_all_uses_with(step)
    trunk.graph.erase_node(node)
    if padding:
        trunk.graph.erase_node(padding)


def _fast_pool(trunk: fx.GraphModule, node: fx.Node) -> FastMaxPool3d | None:
    """The replacement of a node, if it is maximum pooling of clips."""
    pool = _module(trunk, node)
    if isinstance(pool, nn.MaxPool3d):
        if pool.ceil_mode or pool.return_indices or _triple(pool.dilation) != (1, 1, 1):
            return None
        front, top, left = _triple(pool.padding)
        sides = ((front, front), (top, top), (left, left))
        return FastMaxPool3d(_triple(pool.kernel_size), _triple(pool.stride), sides)
    # Pooling as I3D calls it: functional.max_pool3d(same_padded(x, kernel, stride), kernel, stride)
    if node.op != "call_function" or node.target is not F.max_pool3d or len(node.args) != 3:
        return None
    source, kernel, stride = node.args
    if not isinstance(source, fx.Node) or source.target is not same_padded:
        return None
    if _only_user(source) is not node or source.args[1:] != (kernel, stride):
        return None
    return FastMaxPool3d(_triple(kernel), _triple(stride), None)


def _module(trunk: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls with one tensor; None for another node."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    return trunk.get_submodule(str(node.target))


def _is_plain(convolution: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether a convolution is one of torch's own, in float32, padded by a number of zeros."""
    is_own = type(convolution) in (nn.Conv2d, nn.Conv3d)
    is_padded_by_number = not isinstance(convolution.padding, str)
    is_padded_by_zeros = convolution.padding_mode == "zeros"
    is_float32 = convolution.weight.dtype == torch.float32
    return is_own and is_padded_by_number and is_padded_by_zeros and is_float32


def _only_user(node: fx.Node) -> fx.Node | None:
    """The node that uses the output of `node`, if it is the only one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _other_summand(total: fx.Node | None, summand: fx.Node) -> fx.Node | None:
    """What is added to `summand`, if `total` is a sum of two tensors."""
    if total is None or total.op != "call_function" or total.target not in _SUMS or total.kwargs:
        return None
    others = [value for value in total.args if value is not summand]
    other = others[0] if len(others) == 1 else None
    return other if isinstance(other, fx.Node) else None


def _activation(trunk: fx.GraphModule, node: fx.Node | None) -> _Activation | None:
    """The activation that a node computes, if oneDNN has it."""
    if node is None:
        return None
    kind = type(_module(trunk, node))
    is_function = node.op == "call_function" and node.target in _RELU_FUNCTIONS
    is_method = node.op == "call_method" and node.target in _RELU_METHODS
    if kind is nn.ReLU or is_function or is_method:
        return _RELU
    return _RELU6 if kind is nn.ReLU6 else None


def _triple(setting: Any) -> Triple:  # noqa: ANN401 - an argument in a graph of torch.fx
    """A setting of pooling for each axis, from one number or three."""
    frames, height, width = (setting,) * 3 if isinstance(setting, int) else setting
    return frames, height, width
