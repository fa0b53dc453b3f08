"""Equal weights from equal seeds on a GPU."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_WITHOUT = re.compile(r"(\S+) does not have a deterministic implementation")


@contextmanager
def repeatable(device: torch.device) -> Iterator[list[str]]:
    """Use torch's deterministic algorithms on a GPU, so that the same computation gives the same
    bits again. On the CPU, where it does so anyway, nothing changes.

    Yields a list of the operations without such an algorithm. It is filled while they are used.
    """
    operations: list[str] = []
    if device.type == "cpu":
        yield operations
        return
    # cuBLAS, also inside cuDNN's recurrent layers, sums in a fixed order if it has a workspace of
    # fixed size. It reads this variable when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was_enabled = torch.are_deterministic_algorithms_enabled()
    was_warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    was_filled = settings.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_WITHOUT.pattern)
        show = warnings.showwarning

        def collect(message: Warning | str, *where: Any, **more: Any) -> None:
            if not (found := _WITHOUT.match(str(message))):
                show(message, *where, **more)
            elif found[1] not in operations:
                operations.append(found[1])

        warnings.showwarning = collect
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling new memory costs time, and only matters to code that reads it before it writes.
        settings.fill_uninitialized_memory = False
        try:
            yield operations
        finally:
            settings.fill_uninitialized_memory = was_filled
            torch.use_deterministic_algorithms(was_enabled, warn_only=was_warn_only)


def notes_on(operations: list[str]) -> tuple[str, ...]:
    """The note for a run in which these operations were used, or () if there are none."""
    if not operations:
        return ()
    return (
        f"torch has no deterministic algorithm for {', '.join(operations)} on a GPU: another "
        "training with the same seed gives slightly different weights",
    )
