"""Runs that are trained by the workers of a Dask cluster (CLUSTER=), one at a time by each."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from reelbank.data.console import bar_options, printable
from reelbank.data.errors import BusyError, InputError
from reelbank.data.system.cluster import TaskFunction, cluster_tasks
from reelbank.data.system.locks import STALE_SECONDS

METRICS = "metrics.json"  # written last
_LOOKS_SECONDS = 0.5


def train_on_workers(
    cluster: str,
    function: TaskFunction,
    texts: Mapping[Path, str],
    *,
    command: str,
    release: Callable[[], None] | None = None,
) -> Iterator[Path]:
    """Run a task for each run folder, with a progress bar, and yield each folder when its run is
    finished. release: is called in each worker process at the end. Raises InputError as
    `cluster_tasks` and `Tasks.next` do."""
    folders = {folder.name: folder for folder in texts}
    with (
        cluster_tasks(cluster, function, command=command, per_worker=1, release=release) as tasks,
        tqdm(total=len(texts), desc="runs", unit="run", leave=False, **bar_options()) as bar,
    ):
        for answer in tasks.run({folder.name: text for folder, text in texts.items()}):
            for line in answer.lines:
                bar.write(printable(line))
            if answer.name:
                _wait_for(folders[answer.name])
                bar.update()
                yield folders[answer.name]


def _wait_for(folder: Path) -> None:
    """Wait until this machine sees what a worker wrote; NFS remembers for up to 60 s that a file did
    not exist. Raises InputError if it does not see it."""
    deadline = time.monotonic() + STALE_SECONDS
    while METRICS not in (path.name for path in folder.glob("*")):
        if time.monotonic() > deadline:
            raise InputError(
                f"{folder}: a worker has trained this run, but this machine does not see it; BANK "
                "must be the same folder on all machines of the cluster"
            )
        time.sleep(_LOOKS_SECONDS)


def check_same_run(planned: Path, expected: str) -> None:
    """Raises InputError if this machine would train another run than the command planned."""
    if planned.name != expected:
        raise InputError(
            f"this machine would train the run {planned.name} instead of {expected}; install the same "
            "versions of Reelbank and its packages on all machines of the cluster"
        )


def unless_finished(folder: Path, work: Callable[[], object]) -> None:
    """Call `work`, which trains the run in `folder`, unless the run is finished.

    If another process has the lock of the run, wait for as long as the lock of a dead process can
    last. Raises BusyError if the process is alive.
    """
    deadline = time.monotonic() + 1.25 * STALE_SECONDS
    while not (folder / METRICS).exists():
        try:
            work()
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOKS_SECONDS)
