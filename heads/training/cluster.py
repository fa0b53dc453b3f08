"""Training on the workers of a Dask cluster (CLUSTER=): a task trains one run.

The worker process opens the stores in the shared bank, plans the run again and trains it as this
process would. It keeps the features in memory for the next run on the same rows.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.options_json import options_from_json, options_to_json
from reelbank.data.store.reader import Store
from reelbank.extract.device import check_device_of_cluster, chosen_device
from reelbank.heads.runs.folder import read_run
from reelbank.heads.runs.on_cluster import check_same_run, train_on_workers, unless_finished
from reelbank.heads.training.job import Job, print_leaks, rows_key, with_copied_videos
from reelbank.heads.training.material import SharedRows, open_rows
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.plan import RunPlan, plan_runs
from reelbank.heads.training.results import print_run
from reelbank.heads.training.run import train_run


def check_cluster(options: TrainOptions) -> None:
    """Raises InputError for options that have no effect or no meaning with CLUSTER."""
    if not options.cluster:
        return
    check_device_of_cluster(options.device)
    if options.workers > 1:
        raise InputError(
            f"WORKERS={options.workers}: has no effect with CLUSTER, because each worker of the cluster "
            "trains one run; leave WORKERS out, and start more workers"
        )


def train_on_cluster(jobs: Sequence[Job], cluster: str) -> None:
    """Train the runs of the jobs and print a line for each. Raises InputError if the cluster cannot
    be reached or is lost, and if several workers cannot train a run."""
    tasks: dict[Path, str] = {}
    for job in jobs:
        for plan in job.plans:
            tasks[plan.path] = _task(plan, job.stores)
    if not tasks:
        return
    printed: set[str] = set()
    for path in train_on_workers(cluster, train_task, tasks, command="train", release=release):
        run = read_run(path)
        leaks = [leak for leak in run.metrics.leaks or () if leak not in printed]
        print_leaks([leaks])
        printed.update(leaks)
        print_run(run)


def _task(plan: RunPlan, stores: Sequence[Store]) -> str:
    return json.dumps(
        {
            "run": plan.path.name,
            "options": options_to_json(plan.options),
            "stores": [str(store.path) for store in stores],
        }
    )


class _Place:
    """The features that a worker process keeps between tasks. closing: closes their stores, from
    which streamed features are read."""

    key = ""
    rows: SharedRows | None = None
    closing = ExitStack()

    @classmethod
    def of(
        cls, plan: RunPlan, stores: Sequence[Store], closing: ExitStack, device: str
    ) -> SharedRows:
        """The rows of a run. closing: closes the stores; it is emptied if they remain open."""
        stats = [store.path.stat() for store in stores]
        key = json.dumps(
            [
                rows_key(plan),
                [str(store.path.absolute()) for store in stores],
                [[stat.st_ino, stat.st_size, stat.st_mtime_ns] for stat in stats],
                [plan.options.read_from, device],
            ]
        )
        if cls.rows is None or cls.key != key:
            release()
            cls.rows = open_rows(
                stores, plan.recipe, read_from=plan.options.read_from, device=device
            )
            cls.key, cls.closing = key, closing.pop_all()
        return cls.rows


def train_task(text: str) -> str:
    """The task in a worker process: train a run, or continue it, and write its folder. text: JSON.
    Returns "".

    Raises InputError if the run cannot be trained here, and BusyError if another process trains it.
    """
    task = json.loads(text)
    options = options_from_json(TrainOptions, task["options"])
    with ExitStack() as closing:
        stores = [closing.enter_context(Store.open(Path(path))) for path in task["stores"]]
        (plan,) = plan_runs(stores, options)
        check_same_run(plan.path, task["run"])
        device = str(chosen_device(options.device))
        rows = _Place.of(plan, stores, closing, device)
        (plan,) = with_copied_videos([plan], rows, stores[0])
        unless_finished(plan.path, lambda: train_run(plan, rows, device, quiet=True))
    return ""


def release() -> None:
    """Release the features of this worker process."""
    _Place.key, _Place.rows = "", None
    _Place.closing.close()
