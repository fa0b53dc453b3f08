"""A child process of a command: its start, its socket, what it printed last and why it ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# The child finds the same packages as this process, also where these were installed by hand.
_START = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).serve(sys.argv[3:])"
)
_KILLED_SECONDS = 20.0  # maximum time to wait for the end of a killed process


class Child:
    """A new process that calls `serve(words)` of a module, and a socket that is connected to it.

    The words of `serve` are the number of its socket, the id of this process, and `words`. files:
    numbers of open files that the process inherits. environment: its environment variables.
    log_folder: where what it prints is kept until `close`; None is the folder for temporary files.
    """

    def __init__(
        self,
        module: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        files: Sequence[int] = (),
        log_folder: Path | None = None,
    ) -> None:
        self.socket, far = socket.socketpair()
        self._log = tempfile.TemporaryFile(dir=log_folder)  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", _START, json.dumps(sys.path), module),
                *(str(far.fileno()), str(os.getpid()), *words),
            ],
            pass_fds=[far.fileno(), *files],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=dict(environment),
            start_new_session=True,  # the terminal's Ctrl-C is only for the parent
        )
        far.close()

    def last_line(self) -> str:
        """The last line that the process printed; "" if it printed nothing."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def exit_code(self, seconds: float) -> int | None:
        """Wait for the end of the process, and return its exit code, or minus the number of the
        signal that ended it. If it does not end within `seconds`, kill it and return None."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        # A process that waits for a disk or server ends only when that answers.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_KILLED_SECONDS)

    def close(self) -> None:
        """Close the socket, and forget what the process printed."""
        self.socket.close()
        self._log.close()


def ending(exit_code: int) -> str:
    """How a process ended, in words: "SIGKILL: out of memory?" or "exit code 1"."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-exit_code}"
    return f"{name}: out of memory?" if exit_code == -signal.SIGKILL else name
