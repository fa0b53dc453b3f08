"""Runs the tasks of cluster.py in a worker process of a Dask cluster."""

import contextlib
import io
import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from reelbank.data.console import shortened
from reelbank.data.errors import BusyError, InputError
from reelbank.data.plugins import user_reason
from reelbank.data.system.machine import limit_threads
from reelbank.data.system.memory import enough_memory

TaskFunction = Callable[[str], str]

# A worker with several threads runs several tasks at the same time, but the working folder, the standard
# output and torch's random numbers belong to the process.
_one_task = threading.Lock()


def run_task(function: TaskFunction, command: str, folder: str, text: str) -> str:
    """The Dask task: call the function in a folder, which is the working folder of the command,
    because options may contain relative paths. Returns JSON."""
    from distributed import get_worker

    printed = io.StringIO()
    answer = reason = busy = ""
    with _one_task:
        try:
            limit_threads()
            with _working_in(folder), contextlib.redirect_stdout(printed), enough_memory(command):
                answer = function(text)
        except BusyError as error:
            busy = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a task raises, the command reports it
            # Sent as text, because Dask would send the exception as a pickle.
            if not isinstance(error, InputError):
                traceback.print_exc()
            reason = f"on {socket.gethostname()}: {shortened(_reason(error), 600)}"
    return json.dumps(
        {
            "worker": get_worker().address,
            "text": answer,
            "error": reason,
            "busy": busy,
            "lines": printed.getvalue().splitlines(),
        }
    )


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or ''}: {error.strerror}"
    return user_reason(error) or f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _working_in(folder: str) -> Iterator[None]:
    """Raises InputError if this machine does not have the folder."""
    if not Path(folder).is_dir():
        raise InputError(
            f"{folder}: is the command's working folder, but does not exist on this machine; start "
            "the command in a folder that all machines of the cluster share"
        )
    with contextlib.chdir(folder):
        yield


def call_after_task(release: Callable[[], None]) -> None:
    """Call the function as soon as this process works on no task."""
    with _one_task:
        release()
