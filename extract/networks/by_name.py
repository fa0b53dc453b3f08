"""Networks that torch.fx does not follow, but that know the outputs of their modules."""

from torch import nn


class CutByName(nn.Module):
    """A network that gives the outputs of its modules itself."""

    def cut(self, nodes: tuple[str, ...], name: str) -> nn.Module:
        """The network up to `nodes`, as the function `networks.cut.cut` returns it."""
        raise NotImplementedError
