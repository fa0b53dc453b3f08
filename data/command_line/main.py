"""The `reelbank` command: runs a command line, and maps errors to messages and exit codes."""

import errno
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelbank.data.command_line.help import command_help, program_help
from reelbank.data.command_line.spelling import as_typed
from reelbank.data.command_line.table import COMMANDS
from reelbank.data.console import as_run, nearest, print_lines, shortened, warning_line
from reelbank.data.errors import InputError, repair_command
from reelbank.data.options import parse
from reelbank.data.plugins import user_reason
from reelbank.data.ranges import hints_of
from reelbank.data.system.machine import limit_threads
from reelbank.data.system.memory import enough_memory
from reelbank.data.system.stopping import heed_signals, silence_closed_terminal

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
INPUT_ERROR = 2  # exit code for errors that the user can correct


def run_command_line(words: Sequence[str], version: str) -> int:
    """Run a command line; returns the exit code: 2 for errors that the user can correct, 128 + n if
    signal n stopped the command."""
    command, *arguments = list(words) or ["--help"]
    if command in ("-V", "--version"):
        print_lines(version)
        return 0
    if command == "help" and arguments:
        command, arguments = arguments[0], ["--help"]
    if command in ("-h", "--help", "help"):
        return _print_help(program_help())
    if command not in COMMANDS:
        hint = nearest(command, COMMANDS) or "; 'reelbank --help' lists the commands"
        return _print_error(as_run(f"unknown command '{command}'{hint}"))
    if asks_for_help(arguments):
        return _print_help(command_help(command))
    return _run(command, arguments)


def asks_for_help(words: Sequence[str]) -> bool:
    options = words[: words.index("--")] if "--" in words else words
    return "--help" in options or "-h" in options


def _print_help(text: str) -> int:
    try:
        print_lines(*text.split("\n"))
        sys.stdout.flush()
    except BrokenPipeError:  # `reelbank --help | head`
        silence_closed_terminal()
    return 0


def _print_error(message: str) -> int:
    print_lines(shortened(f"reelbank: error: {message}"), file=sys.stderr)
    return INPUT_ERROR


def _run(command: str, words: Sequence[str]) -> int:
    entry = COMMANDS[command]
    signals = heed_signals()
    options = None
    warnings.formatwarning = warning_line
    limit_threads()  # before the libraries that compute are loaded
    try:
        options = parse(entry.load_options(), words, command)
        with enough_memory(command):
            return entry.load_function()(options)
    except InputError as error:
        return _print_error(as_typed(str(error), hints_of(entry.load_options()), words))
    except ImportError as error:  # also if a shared library that a package needs is missing
        if (error.name or "").startswith("reelbank"):  # a module of Reelbank: an error in the code
            raise
        return _package_does_not_load(error)
    except KeyboardInterrupt:
        return _stopped(signals)
    except BrokenPipeError:  # `reelbank stores | head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that cannot be written
        if signals:  # the terminal was closed, so nothing can be printed
            return _stopped(signals)
        if reason := user_reason(error):
            return _print_error(reason)
        if (
            error.errno is None and error.filename is None
        ):  # from ctypes, with which torch loads its libraries
            return _package_does_not_load(error)
        return _print_error(
            _read_only_bank(error, options) or f"{error.filename or ''}: {error.strerror or error}"
        )
    except Exception as error:
        if reason := user_reason(error):  # a mistake in a user's own stream, head, data set
            return _print_error(reason)
        raise


def _read_only_bank(error: OSError, options: Any) -> str:
    """The message if a file could not be written because the bank may only be read; otherwise
    ""."""
    bank, path = getattr(options, "bank", ""), error.filename
    if not bank or not isinstance(path, str) or error.errno not in _NOT_WRITABLE:
        return ""
    if not Path(path).absolute().is_relative_to(Path(bank).absolute()):
        return ""
    return (
        f"BANK={bank}: {path} cannot be written ({error.strerror}); choose another BANK, and give "
        f"BANKS={bank} to use the stores and runs of this one"
    )


def _stopped(signals: Sequence[int]) -> int:
    """Print the last line of a command that a signal stopped; returns the exit code."""
    try:
        print_lines(
            "",
            "reelbank: stopped. Finished work is kept; run the same command again to continue",
            file=sys.stderr,
        )
        sys.stdout.flush()
    except OSError:
        silence_closed_terminal()
    return 128 + (signals[0] if signals else 2)


def _package_does_not_load(error: Exception) -> int:
    todo = f"install this package if it is missing, or repair it: {repair_command('<package>')}"
    reason = " ".join(str(error).split())
    print_lines(f"reelbank: error: a package cannot be loaded: {reason}; {todo}", file=sys.stderr)
    return INPUT_ERROR
