"""A backbone with a linear classifier, as it is trained: snippets of each video, their logits averaged (TSN paper, 3.1)."""

import difflib

import torch
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.preprocessing import Preprocessing


class SegmentNetwork(nn.Module):
    """forward(x (N, S, C, [s,] h, w) float32 in 0..255) -> logits (N, classes), the mean over the S snippets.

    trunk: normalised (n, C, [s,] h, w) -> (n, D). State dict: `trunk.*` and `classifier.*`, nothing else.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        preprocessing: Preprocessing,
        snippet: tuple[int, ...],
        classes: int,
        dropout: float = 0.0,
        freeze: str = "",
    ) -> None:
        """snippet: (C, [s,] h, w) of what the trunk is given, from which the size of its embedding is found."""
        super().__init__()
        shape = (1, -1) + (1,) * (len(snippet) - 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape) * 255, persistent=False)
        self.is_bgr = preprocessing.order == "bgr" and snippet[0] == 3
        self.trunk = trunk.requires_grad_(True)
        self.frozen = freeze_before(trunk, freeze)
        trunk.eval()
        with torch.inference_mode():
            found = trunk(torch.zeros(1, *snippet))
        if found.ndim != 2:
            raise InputError(f"EXTRACTOR: gives {tuple(found.shape[1:])} for a snippet {snippet}; a classifier needs a vector")
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(found.shape[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        videos, segments = x.shape[:2]
        x = x.flatten(0, 1)  # (N, S, C, [s,] h, w) -> (N S, C, [s,] h, w)
        if self.is_bgr:
            x = x.flip(1)
        logits = self.classifier(self.dropout(self.trunk((x - self.mean) / self.std)))  # (N S, classes)
        return logits.unflatten(0, (videos, segments)).mean(1)

    def train(self, mode: bool = True) -> "SegmentNetwork":
        """As nn.Module's; frozen modules stay in eval mode, so that their batch norms' statistics do not move."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self


def freeze_before(trunk: nn.Module, node: str) -> list[nn.Module]:
    """Stop everything that is registered before module `node` from training; returns these modules ("" freezes nothing).

    Raises InputError when the trunk has no such module.
    """
    if not node:
        return []
    names = dict(trunk.named_modules())
    if node not in names:
        tops = [name for name, _ in trunk.named_children()]
        near = difflib.get_close_matches(node, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"the outermost are {', '.join(tops)}"
        raise InputError(f"FREEZE={node}: the network has no such module; {hint}")
    frozen = []
    for name, module in names.items():  # parents before what they hold, in the order of registration
        if name == node:
            break
        holds_node = node.startswith(f"{name}.") or not name
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if not holds_node:
            frozen.append(module)
    return frozen
