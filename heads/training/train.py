"""The command `train`. It trains one run for each split and seed, each in its own folder. The same
command resumes an interrupted run and skips a finished one."""

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any

import torch
from tqdm import tqdm

from reelbank.data.console import bar_options, print_lines
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.system.cluster import tell_cluster
from reelbank.data.system.machine import cores
from reelbank.data.system.processes import in_processes
from reelbank.extract.device import chosen_device
from reelbank.heads.recipe import TrunkRecipe
from reelbank.heads.runs.folder import Run, read_run
from reelbank.heads.training.batches import Loaded
from reelbank.heads.training.cluster import check_cluster, train_on_cluster
from reelbank.heads.training.job import Job, print_leaks, tell_untracked, with_copied_videos
from reelbank.heads.training.material import SharedRows, open_rows
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.former import former_notes
from reelbank.heads.training.planning.plan import RunPlan, plan_runs
from reelbank.heads.training.planning.stores import chosen_stores
from reelbank.heads.training.results import print_results, print_run
from reelbank.heads.training.run import is_finished, store_network, train_run
from reelbank.heads.training.streaming import Streamed, sharing_folder
from reelbank.heads.training.tracking.session import check_tracker


def train(options: TrainOptions) -> int:
    """Run the command, which trains and prints the table of all runs. Returns the exit code."""
    print_results(train_runs(options))
    return 0


def train_runs(options: TrainOptions) -> list[Run]:
    """Train the runs that are not finished and print a line for each. Returns all runs.

    Raises InputError before anything is trained when a run is impossible. Reasons are an unknown
    store, split or class, no labels, no training videos, an option that the head does not have, or
    a backbone that was trained on videos of the test part.
    """
    check_cluster(options)
    check_tracker(options)
    with ExitStack() as stack:
        jobs = []
        for paths, splits in chosen_stores(options).items():
            stores = [stack.enter_context(Store.open(path)) for path in paths]
            jobs.append(Job(stores, plan_runs(stores, dataclasses.replace(options, split=splits))))
        opened = itertools.chain.from_iterable(job.stores for job in jobs)
        print_lines(*dict.fromkeys(f"store {store.path}" for store in opened))
        plans = list(itertools.chain.from_iterable(job.plans for job in jobs))
        for note in dict.fromkeys(itertools.chain.from_iterable(plan.notes for plan in plans)):
            print_lines(f"note: {note}")
        tell_untracked(options.track, plans)
        missing = [job.missing() for job in jobs]
        to_train = itertools.chain.from_iterable(job.plans for job in missing)
        for note in former_notes(to_train):
            print_lines(f"note: {note}")
        print_leaks(read_run(plan.path).metrics.leaks or () for plan in plans if is_finished(plan))
        for job in missing:
            check_backbones(job.plans, job.stores[0].recipe)
        if options.cluster:
            tell_cluster(options.cluster)
            train_on_cluster(missing, options.cluster)
        else:
            for job in missing:
                train_missing(job, options)
    return [read_run(plan.path) for plan in plans]


def check_backbones(plans: Sequence[RunPlan], store_recipe: dict[str, Any]) -> None:
    """Raises InputError when the network that a head on maps begins with cannot be found, or when
    its weights differ from the store's."""
    by_trunk: dict[TrunkRecipe | None, RunPlan] = {plan.recipe.trunk: plan for plan in plans}
    for plan in by_trunk.values():
        store_network(plan, store_recipe)


def train_missing(job: Job, options: TrainOptions) -> None:
    """Load the stores once, or stream them, and train these runs, which use the same rows.
    `workers` runs are trained at a time."""
    if not job.plans:
        return
    device = str(chosen_device(options.device))
    workers = min(options.workers, len(job.plans))
    rows = open_rows(
        job.stores,
        job.plans[0].recipe,
        read_from=options.read_from,
        device=device,
        workers=workers,
    )
    plans = with_copied_videos(job.plans, rows, job.stores[0])
    print_leaks(plan.leaks for plan in plans)
    if workers > 1:
        _train_in_workers(plans, rows, device, workers)
        return
    for plan in plans:
        print_run(train_run(plan, rows, device))


def _train_in_workers(plans: list[RunPlan], rows: SharedRows, device: str, workers: int) -> None:
    from joblib import delayed

    threads = max(1, min(cores().value, torch.get_num_threads()) // workers)
    folder = _sharing_folder_of(rows.data, workers)
    calls = (delayed(_train_in_worker)(plan, rows, device, threads) for plan in plans)
    try:
        ended = in_processes(calls, workers, mmap_mode="c", temp_folder=folder or None)
        for run in tqdm(
            ended, total=len(plans), desc="runs", unit="run", leave=False, **bar_options()
        ):
            print_run(run)
    except BrokenProcessPool:
        raise InputError(
            f"WORKERS={workers}: a training process was killed, most likely because memory was "
            "full; run the command again with fewer WORKERS. It continues from the last complete "
            "epoch of each run"
        ) from None


def _train_in_worker(plan: RunPlan, rows: SharedRows, device: str, threads: int) -> Run:
    torch.set_num_threads(threads)
    return train_run(plan, rows, device, quiet=True)


def _sharing_folder_of(data: Loaded | Streamed, workers: int) -> str:
    """The folder in which the workers share the features, or "" if each worker reads them from
    disk. Raises InputError when there is not enough room."""
    if isinstance(data, Streamed):
        return ""
    folder = sharing_folder(data.values.nbytes)
    if not folder:
        size_gib = data.values.nbytes / 2**30
        raise InputError(
            f"WORKERS={workers}: there is not enough space for the {size_gib:.1f} GiB of "
            "features that the processes share; give READ_FROM=disk or WORKERS=1, or set "
            "the environment variable JOBLIB_TEMP_FOLDER to a folder with more space"
        )
    return folder
