"""Worker processes that end when their parent ends, for whatever reason."""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reelbank.data.system.locks import release_files

_LOOKS_SECONDS = 0.5  # interval of the checks whether the parent is alive


def end_with_parent(parent: int, tidy: Callable[[], None] = lambda: None) -> None:
    """Make this process end within a second after `parent`, the process that started it, even if it
    is busy or the parent is killed. `tidy` is called first.

    A thread checks the id of the parent. The kernel's signal (PR_SET_PDEATHSIG) is not used,
    because it is sent as soon as the thread that started this process ends, and joblib and
    notebooks start processes from short-lived threads.
    """
    threading.Thread(
        target=_watch, args=(parent, tidy), daemon=True, name="reelbank-parent"
    ).start()


def _watch(parent: int, tidy: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOKS_SECONDS)
    tidy()
    release_files()
    os._exit(1)


def ignore_stops() -> None:
    """Ignore the signals that stop a command. Terminals and schedulers send them to all processes
    of a command; its main process decides what to do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def in_processes(jobs: Iterable[Any], workers: int, **options: Any) -> Iterator[Any]:
    """The results of `joblib.delayed` calls from `workers` processes, in the order in which they
    finish. options: for joblib.Parallel."""
    from joblib import Parallel, delayed

    # Parallel takes an initializer from joblib 1.6 on only, so each job prepares its process.
    prepared = (delayed(_work)(os.getpid(), *job) for job in jobs)
    return Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", **options)(
        prepared
    )


def _work(
    parent: int, function: Callable[..., Any], arguments: Iterable[Any], named: dict[str, Any]
) -> Any:
    if os.getpid() != parent:  # joblib runs one worker's jobs in the process that calls it
        _begin_work(parent)
    return function(*arguments, **named)


@functools.cache
def _begin_work(parent: int) -> None:
    """Once per process."""
    ignore_stops()
    end_with_parent(parent)
