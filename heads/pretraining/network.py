"""A backbone with a linear classifier for training. The logits of each video's snippets are
averaged (TSN paper, 3.1)."""

import torch
from torch import Tensor, nn

from reelbank.data.console import nearest_word
from reelbank.data.errors import InputError
from reelbank.extract.networks.preprocessing import Preprocessing


class SegmentNetwork(nn.Module):
    """forward(x (N, S, C, [s,] h, w) float32 in 0..255) -> logits (N, classes), the mean over the S
    snippets.

    trunk: normalised (n, C, [s,] h, w) -> (n, D). The state dict has only `trunk.*` and
    `classifier.*`.
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
        """snippet: (C, [s,] h, w), the shape of the trunk's input. It is used to measure the size
        of the embedding."""
        super().__init__()
        shape = (1, -1) + (1,) * (len(snippet) - 1)
        self.register_buffer(
            "mean", torch.tensor(preprocessing.mean).view(shape) * 255, persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(preprocessing.std).view(shape) * 255, persistent=False
        )
        self.is_bgr = preprocessing.order == "bgr" and snippet[0] == 3
        self.trunk = trunk.requires_grad_(True)
        self.frozen = freeze_before(trunk, freeze)
        trunk.eval()
        with torch.inference_mode():
            embedding = trunk(torch.zeros(1, *snippet))
        if embedding.ndim != 2:
            raise InputError(
                "EXTRACTOR: the network must return one vector for each input (got an "
                f"output of shape {tuple(embedding.shape[1:])} for an input of shape "
                f"{snippet})"
            )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(embedding.shape[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        videos, segments = x.shape[:2]
        x = x.flatten(0, 1)  # (N, S, C, [s,] h, w) -> (N S, C, [s,] h, w)
        if self.is_bgr:
            x = x.flip(1)
        embedding = self.trunk((x - self.mean) / self.std)  # (N S, D)
        logits = self.classifier(self.dropout(embedding))  # (N S, classes)
        return logits.unflatten(0, (videos, segments)).mean(1)

    def train(self, mode: bool = True) -> "SegmentNetwork":
        """Like `nn.Module.train`, but frozen modules stay in eval mode, so that the statistics of
        their batch norms do not change."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self


def freeze_before(trunk: nn.Module, node: str) -> list[nn.Module]:
    """Freeze all modules that are registered before the module `node`, and return them. "" freezes
    nothing.

    Raises InputError when the trunk has no such module.
    """
    if not node:
        return []
    names = dict(trunk.named_modules())
    if node not in names:
        tops = [name for name, _ in trunk.named_children()]
        similar = nearest_word(node, names)
        hint = (
            f"did you mean {similar}?"
            if similar
            else f"the outermost modules are {', '.join(tops)}"
        )
        raise InputError(f"FREEZE={node}: the network has no module of this name; {hint}")
    frozen = []
    for (
        name,
        module,
    ) in names.items():  # parents come before their children, in the order of registration
        if name == node:
            break
        holds_node = node.startswith(f"{name}.") or not name
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if not holds_node:
            frozen.append(module)
    return frozen
