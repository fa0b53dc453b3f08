"""The error for input that a user can correct."""

import sys


class InputError(Exception):
    """Raised for input that is wrong. The message is one line: the file or option, what is wrong,
    and what to do.

    On the command line, the message is printed and the command exits with 2. Stored data is not
    changed.
    """


class BusyError(InputError):
    """Raised if another process works on the same thing. It is possible later."""


def repair_command(distribution: str) -> str:
    """The command that reinstalls a package in the environment of the running Python."""
    return f"{sys.executable} -m pip install --force-reinstall --no-deps {distribution}"
