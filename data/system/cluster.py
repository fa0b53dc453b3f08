"""Tasks on the workers of a Dask cluster, for CLUSTER=. Dask is the optional dependency
reelbank[dask].

A task is a function of Reelbank that is given a text and returns a text. Dask sends its messages as
pickles, so a message contains nothing else, and nothing that was read from a store.

joblib's Dask backend is not used, because joblib.Parallel waits forever if Dask gives up a task,
which it does after a task has lost four workers, and if the scheduler is lost (joblib 1.6).
"""

import contextlib
import json
import logging
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reelbank.data.console import counted, print_lines, shortened
from reelbank.data.errors import InputError
from reelbank.data.system.cluster_worker import TaskFunction, call_after_task, run_task

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECTS_SECONDS = 20
_LOOKS_SECONDS = 1.0  # interval of the checks for workers that have joined
_RELEASES_SECONDS = 60.0  # the longest wait for the workers at the end
_STOPS_SECONDS = 5.0  # the same if the command is stopped while they work
_MOST_ATTEMPTS = 3  # of a task, each on another worker
_MOST_FAILURES = 3  # in a row, after which a worker is avoided

# The clusters that `tell_cluster` has printed about, within `told_once`.
_told: ContextVar[set[str] | None] = ContextVar("_told", default=None)


@dataclass(frozen=True)
class Answer:
    """The result of a task. name: of the task, "" if there are only lines; text: what its function
    returned; lines: to print; busy: another process works on it, so that it has to be repeated
    later."""

    name: str = ""
    text: str = ""
    lines: tuple[str, ...] = ()
    busy: str = ""


@dataclass
class _Task:
    """A task that has not ended. tried: the addresses of workers that failed."""

    name: str
    text: str
    tried: set[str] = field(default_factory=set)


class Tasks:
    """The tasks of one command on the workers of a cluster; `cluster_tasks` makes it.

    If a worker is lost, Dask gives its tasks to other workers. A task that fails is repeated on other
    workers. Workers that join late are used.
    """

    def __init__(
        self,
        client: "Client",
        address: str,
        function: TaskFunction,
        *,
        command: str,
        per_worker: int,
    ) -> None:
        self._client, self._address = client, address
        self._function, self._command, self._per_worker = function, command, per_worker
        self._under_way: dict[Future, _Task] = {}
        self._failures: Counter[str] = Counter()  # by worker, since its last success
        self._had_workers = True

    def workers(self) -> list[str]:
        """The addresses of the worker processes. Raises InputError if the scheduler is lost."""
        if self._client.status == "running":
            with contextlib.suppress(OSError):
                return list(self._client.ncores())
        raise self._lost()

    def has_room(self) -> bool:
        """Whether the workers need another task to be busy. Without workers one task is enough."""
        return len(self._under_way) < self._per_worker * max(1, len(self.workers()))

    def start(self, name: str, text: str) -> None:
        """Start a task. name: what it works on, for messages; no other task under way has it."""
        self._submit(_Task(name, text))

    def next(self) -> list[Answer]:
        """Wait at most a second, and return the answers of the tasks that have ended.

        Raises InputError if a task failed on several workers or on all of them, if Dask gave it up,
        and if the scheduler is lost.
        """
        from distributed import CancelledError, wait

        answers = []
        has_workers = bool(self.workers())
        if self._had_workers and not has_workers:
            answers.append(Answer(lines=(f"CLUSTER={self._address}: waiting for workers",)))
        self._had_workers = has_workers
        try:
            with contextlib.suppress(TimeoutError):
                wait(list(self._under_way), timeout=_LOOKS_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in self._under_way if future.done()]:
                answers.append(self._answer(future, self._under_way.pop(future)))
        except (CancelledError, OSError):
            raise self._lost() from None
        return answers

    def run(self, texts: Mapping[str, str]) -> Iterator[Answer]:
        """Run a task for each text, by name. Raises InputError as `next` does."""
        waiting, under_way = deque(texts), set[str]()
        told: set[str] = set()
        while waiting or under_way:
            while waiting and self.has_room():
                name = waiting.popleft()
                under_way.add(name)
                self.start(name, texts[name])
            for answer in self.next():
                under_way.discard(answer.name)
                if not answer.busy:
                    yield answer
                    continue
                waiting.append(answer.name)
                if answer.name not in told:
                    told.add(answer.name)
                    yield Answer(lines=(f"note: waiting, because {answer.busy}",))

    def end(self, release: Callable[[], None] | None) -> None:
        """Cancel the tasks that have not begun, and call `release` in all worker processes. A task
        that has begun cannot be stopped: its worker finishes it, also without this process, and then
        calls `release`. Never raises, so that it hides no other error."""
        from distributed import CancelledError, fire_and_forget, wait

        with contextlib.suppress(InputError, CancelledError, OSError):
            workers = self.workers()
            is_stopped = bool(self._under_way)
            self._client.cancel(list(self._under_way))
            releases = []
            for worker in workers if release else []:
                releases.append(
                    self._client.submit(
                        call_after_task,
                        release,
                        workers=[worker],
                        allow_other_workers=True,  # if it is lost; there, nothing is lost by it
                        key=f"reelbank-release-{uuid.uuid4().hex}",
                        pure=False,
                    )
                )
            if not releases:
                return
            fire_and_forget(releases)
            wait(releases, timeout=_STOPS_SECONDS if is_stopped else _RELEASES_SECONDS)

    def _submit(self, task: _Task) -> None:
        workers = self.workers()
        avoided = [
            worker
            for worker in workers
            if worker in task.tried or self._failures[worker] >= _MOST_FAILURES
        ]
        others = [worker for worker in workers if worker not in avoided]
        future = self._client.submit(
            run_task,
            self._function,
            self._command,
            str(Path.cwd()),
            task.text,
            workers=others if avoided and others else None,
            allow_other_workers=bool(avoided and others),  # if these are lost
            key=f"reelbank-{self._command}-{uuid.uuid4().hex}",
            pure=False,
        )
        self._under_way[future] = task

    def _answer(self, future: "Future", task: _Task) -> Answer:
        if future.status == "error":
            error = future.exception()
            raise InputError(
                f"CLUSTER={self._address}: Dask gave up {task.name} ({type(error).__name__}: "
                f"{shortened(str(error), 600)}); finished work is kept. Run the same command to "
                "continue"
            )
        document = json.loads(future.result())
        worker, reason = document["worker"], document["error"]
        lines = tuple(document["lines"])
        if not reason:
            self._failures[worker] = 0
            return Answer(task.name, document["text"], lines, document["busy"])
        self._failures[worker] += 1
        task.tried.add(worker)
        if len(task.tried) == _MOST_ATTEMPTS or not set(self.workers()) - task.tried:
            raise InputError(reason)
        self._submit(task)
        return Answer(
            lines=(*lines, f"note: {task.name} is given to another worker, because: {reason}")
        )

    def _lost(self) -> InputError:
        return InputError(
            f"CLUSTER={self._address}: the connection to the Dask scheduler is lost; finished work is "
            "kept. Run the same command to continue"
        )


@contextlib.contextmanager
def cluster_tasks(
    address: str,
    function: TaskFunction,
    *,
    command: str,
    per_worker: int,
    release: Callable[[], None] | None = None,
) -> Iterator[Tasks]:
    """A context with the tasks of a command on the Dask scheduler at `address`, such as
    tcp://host:8786, or tls://host:8786 with the certificates that Dask's own configuration names.

    function: what every task calls, a module's function; per_worker: the number of tasks for each
    worker process, of which it runs one at a time; release: is called in each worker process at the
    end. Raises InputError if Dask is not installed or the scheduler does not answer.
    """
    with _connected(address) as client:
        tasks = Tasks(client, address, function, command=command, per_worker=per_worker)
        try:
            yield tasks
        finally:
            tasks.end(release)


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """A context in which `tell_cluster` prints about each cluster once, for a command that runs
    others."""
    outside = _told.set(set())
    try:
        yield
    finally:
        _told.reset(outside)


def tell_cluster(address: str) -> None:
    """Print how many workers the cluster has. Raises InputError if Dask is not installed or the
    scheduler does not answer."""
    told = _told.get()
    if told is not None:
        if address in told:
            return
        told.add(address)
    with _connected(address) as client:
        count = len(client.ncores())
    waits = "" if count else "; the work begins when one has joined"
    print_lines(f"cluster {address}: {counted(count, 'worker')}{waits}", flush=True)


@contextlib.contextmanager
def _connected(address: str) -> Iterator["Client"]:
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            f"CLUSTER={address}: needs the package 'distributed'; install it with: "
            "pip install 'reelbank[dask]'"
        ) from None
    with _quiet():
        try:
            client = Client(address, timeout=CONNECTS_SECONDS)
        # TypeError: tls:// without certificates; RuntimeError: tcp:// although Dask's configuration
        # requires encryption.
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"CLUSTER={address}: the Dask scheduler cannot be reached "
                f"({shortened(str(error), 600)}); give the address that 'dask scheduler' printed, and "
                "if it begins with tls://, set the certificates (docs/clusters.md)"
            ) from None
        with client:
            yield client


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A context in which Dask's client logs nothing: a lost connection becomes an InputError."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
