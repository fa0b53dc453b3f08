"""Signals that stop a command: Ctrl-C, SIGTERM of a scheduler, SIGHUP of a closed terminal."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

_AGAIN_SECONDS = 0.01
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AT_ONCE = (
    b"\nreelbank: stopped at once. Committed work is kept; run the same command again to continue\n"
)


def heed_signals() -> list[int]:
    """Install handlers: the first signal raises KeyboardInterrupt in the main thread, so that
    finished work is kept. A second Ctrl-C or SIGTERM ends the process at once. A signal that is
    already ignored (by nohup, or a shell's &) stays ignored. Returns a list that will contain the
    first signal."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        return heard

    def heed(number: int, frame: FrameType | None) -> None:
        if not heard:
            heard.append(number)
            _interrupt(number, heard.clear)
        if (
            number != signal.SIGHUP
        ):  # closing a window may send two: one from the shell and one from the terminal
            with suppress(OSError):
                os.write(2, _AT_ONCE)
            os._exit(128 + number)

    for number in _STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, heed)
    return heard


def heed_first_signal() -> None:
    """Install handlers in a process that a command has started: the first signal raises
    KeyboardInterrupt, so that finished work is kept, and all later ones are ignored. A scheduler
    sends its signal to every process, in addition to that of the command, and the command kills the
    process if it takes too long."""

    def listen() -> None:
        for stop in _STOPS:
            signal.signal(stop, heed)

    def heed(number: int, frame: FrameType | None) -> None:
        for stop in _STOPS:
            signal.signal(stop, signal.SIG_IGN)
        _interrupt(number, listen)

    listen()


def _interrupt(number: int, listen: Callable[[], object]) -> NoReturn:
    """Raise KeyboardInterrupt for signal `number`. Python discards an exception that is raised while it
    runs a weakref callback or __del__. In this case `listen` is called, and the signal is sent
    again."""
    usual_hook = sys.unraisablehook

    def hook(discarded: "sys.UnraisableHookArgs") -> None:
        if not issubclass(discarded.exc_type, KeyboardInterrupt):
            usual_hook(discarded)
            return
        sys.unraisablehook = usual_hook
        listen()
        # Sent at once, it would arrive here, where its exception is discarded too.
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        with suppress(RuntimeError):  # Python is ending anyway, and starts no more threads
            again.start()

    sys.unraisablehook = hook
    raise KeyboardInterrupt


def silence_closed_terminal() -> None:
    """Discard the text in the buffers after a write to the terminal has failed, so that the flush
    at exit does not fail again."""
    with Path(os.devnull).open("w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            with suppress(
                OSError, ValueError
            ):  # in a notebook or a test the stream may have no file
                os.dup2(nowhere.fileno(), stream.fileno())
