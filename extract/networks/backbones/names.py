"""Parameter names of public checkpoints."""

from torch import Tensor


def plain(
    state: dict[str, Tensor], prefixes: tuple[str, ...], classifiers: tuple[str, ...]
) -> dict[str, Tensor]:
    """Remove all leading `prefixes` (such as "module.") from the names, and drop entries that then
    begin with one of `classifiers`. If two names become equal, the second one is not changed."""
    without_prefixes: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        while prefix := next((text for text in prefixes if name.startswith(text)), ""):
            name = name.removeprefix(prefix)
        if not name.startswith(classifiers):
            without_prefixes[key if name in without_prefixes else name] = value
    return without_prefixes
