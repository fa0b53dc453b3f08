"""A model of transformers as a network: one row for each input, and outputs of its modules by
name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reelbank.data.console import nearest
from reelbank.data.errors import InputError
from reelbank.extract.networks.by_name import CutByName
from reelbank.extract.networks.huggingface.families import Family


class TransformersNetwork(CutByName):
    """(N, 3, h, w), (N, 3, s, h, w) for a video model, or prepared sound -> rows (N, D)."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.model, self.family = model, family

    def forward(self, inputs: Tensor) -> Tensor:
        return self._row(self._output(inputs))

    def _output(self, inputs: Tensor) -> Any:
        family = self.family
        if family.kind == "video":
            inputs = inputs.transpose(1, 2)  # (N, s, 3, h, w)
        arguments = {family.inputs: inputs, **family.arguments}
        part: Any = self.model.get_submodule(family.part) if family.part else self.model
        if getattr(getattr(part, "config", None), "enable_fusion", False):
            # CLAP with fusion: its feature extractor says so for a single example.
            arguments["is_longer"] = torch.ones(
                len(inputs), 1, dtype=torch.bool, device=inputs.device
            )
        run: Callable[..., Any] = getattr(part, family.method) if family.method else part
        return run(**arguments)

    def _row(self, output: Any) -> Tensor:
        if self.family.row == "pooled_or_tokens":
            pooled: Tensor | None = getattr(output, "pooler_output", None)
            return output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1)
        if self.family.row in ("tokens", "first"):
            tokens: Tensor = output.last_hidden_state  # (N, n, D)
            return tokens.mean(1) if self.family.row == "tokens" else tokens[:, 0]
        row: Tensor = getattr(output, self.family.row)
        if self.family.then:
            row = self.model.get_submodule(self.family.then)(row)
        return row.squeeze(1) if row.ndim == 3 else row  # VideoPrism's is (N, 1, D)

    def cut(self, nodes: tuple[str, ...], name: str) -> nn.Module:
        modules = dict(self.model.named_modules())
        for node in nodes:
            if node not in modules:
                tops = [module for module in modules if module and module.count(".") < 2]
                raise InputError(
                    f"NODE={node}: {name} has no such node{nearest(node, list(modules))}; its nodes "
                    f"are its modules, such as {', '.join(tops[:12])}"
                )
        return _Nodes(self, nodes)


class _Nodes(CutByName):
    """(N, ...) -> {node: tensor (N, ...)}."""

    def __init__(self, whole: TransformersNetwork, nodes: tuple[str, ...]) -> None:
        super().__init__()
        self.whole, self.nodes = whole, nodes

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}

        def keeping(node: str) -> Callable[[nn.Module, Any, Any], None]:
            def keep(module: nn.Module, read: Any, written: Any) -> None:
                outputs[node] = _of_inputs(_tensor_of(written), len(inputs))

            return keep

        modules = [self.whole.model.get_submodule(node) for node in self.nodes]
        hooks = [
            module.register_forward_hook(keeping(node))
            for module, node in zip(modules, self.nodes, strict=True)
        ]
        try:
            self.whole(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        for node in self.nodes:
            if node not in outputs:
                raise InputError(f"NODE={node}: the network does not use this module; give another")
        return outputs


def _tensor_of(output: Any) -> Tensor:
    """The output of a module, without the values that are returned with it."""
    if isinstance(output, Tensor):
        return output
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]


def _of_inputs(values: Tensor, inputs: int) -> Tensor:
    """(N, ...), also if a model runs a module on each frame of its clips, (N * s, ...); then the
    tokens of all frames of a clip follow each other, (N, s * n, D)."""
    if len(values) == inputs:
        return values
    return values.reshape(inputs, -1, values.shape[-1])
