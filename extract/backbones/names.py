"""Parameter names of public checkpoints."""

from torch import Tensor


def plain(state: dict[str, Tensor], prefixes: tuple[str, ...], classifiers: tuple[str, ...]) -> dict[str, Tensor]:
    """Names without their leading `prefixes` ("module." and the like, several too), without entries that then begin with one
    of `classifiers`. Of two names that become one, the second stays as it was."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        while prefix := next((one for one in prefixes if name.startswith(one)), ""):
            name = name.removeprefix(prefix)
        if not name.startswith(classifiers):
            found[key if name in found else name] = value
    return found
