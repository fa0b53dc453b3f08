"""Options of the command `completion`."""

from dataclasses import dataclass

from reelbank.data.options import option
from reelbank.data.ranges import Checked


@dataclass(frozen=True)
class CompletionOptions(Checked):
    """Options of the command `completion`."""

    shell: str = option(
        "bash", "shell for which to print the script", ("bash", "zsh", "fish"), positional=True
    )
