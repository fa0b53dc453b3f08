"""The one error a user can mend."""


class InputError(Exception):
    """Bad input: one line that names the file or option, what was wrong and what to do.

    The command line prints it as it is and exits with 2; nothing already stored is touched.
    """
