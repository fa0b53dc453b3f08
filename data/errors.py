"""The one error a user can mend."""

import sys


class InputError(Exception):
    """Bad input: one line that names the file or option, what was wrong and what to do.

    The command line prints it as it is and exits with 2; nothing already stored is touched.
    """


def repair_command(distribution: str) -> str:
    """The command that installs a package of this environment again, with the Python that runs now."""
    return f"{sys.executable} -m pip install --force-reinstall --no-deps {distribution}"
