"""The command `train`: one run for each split and seed, each in its own folder, resumed or found done by the same command."""

import csv
import dataclasses
import fcntl
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

import reelbank
from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.parts import parts_folder
from reelbank.data.recipe import canonical, signature
from reelbank.data.shelf import printable
from reelbank.data.store import Store, StoreWriter
from reelbank.heads.batches import Sequences
from reelbank.heads.fit import Training, best_epoch, fit, outputs
from reelbank.heads.model import Model, build_model
from reelbank.heads.plan import Plan, TrainOptions, plan_runs
from reelbank.heads.results import accuracies, print_results, print_run
from reelbank.heads.runs import PARTS, Run, commit, read_run, replacing, write_json
from reelbank.heads.stores import chosen_stores
from reelbank.heads.streaming import Streamed, open_sequences

SMALL_HEAD_WEIGHTS = 1_000_000
TENSORS = ("values", "rows", "lengths", "video")  # of Sequences


def train(options: TrainOptions) -> int:
    """Train what is not trained yet, print a line for each run and the table over all; returns the exit code.

    Raises InputError, before anything is trained, when a run is impossible: no such store, split or class, no labels,
    no training videos, an option the head does not have, or a backbone that has seen videos of the test part.
    """
    with ExitStack() as stack:
        planned = []
        for path, splits in chosen_stores(options).items():
            store = stack.enter_context(Store.open(path))
            planned.append((store, plan_runs(store, dataclasses.replace(options, split=splits))))
        plans = [plan for _, own in planned for plan in own]
        for note in dict.fromkeys(note for plan in plans for note in plan.notes):
            print(printable(f"note: {note}"))
        for store, own in planned:
            if missing := [plan for plan in own if not (plan.path / "metrics.json").exists()]:
                train_missing(missing, store, options)
    print_results([read_run(plan.path) for plan in plans])
    return 0


def train_missing(plans: list[Plan], store: Store, options: TrainOptions) -> None:
    """Load the store once, or stream it, and train these runs, `workers` at a time."""
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("DEVICE=cuda: torch finds no CUDA device here; see 'reelbank doctor'")
    ids = tuple(name for name, parts in zip(store.video_ids, store.parts, strict=True) if any(parts))
    data = open_sequences(store, ids, options.t, "views" in plans[0].recipe, options.read_from, device)
    of_store: dict[str, Any] = {
        "path": str(store.path),
        "identity": store.identity,
        "dataset": store.dataset,
        "recipe": store.recipe,
    }
    of_store["videos"] = [
        {"id": name, "label": label, "group": group, "parts": list(parts), "source": source}
        for name, label, group, parts, source in zip(
            store.video_ids, store.labels, store.groups, store.parts, store.sources, strict=True
        )
        if any(parts)
    ]
    workers = min(options.workers, len(plans))
    if workers <= 1:
        for plan in plans:
            print_run(train_run(plan, data, of_store, device))
        return
    from joblib import Parallel, delayed

    threads = max(1, (os.cpu_count() or 1) // workers)
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", mmap_mode="c")
    shared = data if isinstance(data, Streamed) else _arrays(data)
    jobs = (delayed(_train_in_worker)(plan, shared, of_store, device, threads) for plan in plans)
    for run in tqdm(parallel(jobs), total=len(plans), desc="runs", unit="run", disable=None, leave=False):
        print_run(run)


def _arrays(data: Sequences) -> dict[str, Any]:
    """As numpy arrays, which joblib maps into its workers' memory without a copy."""
    return {"ids": data.ids, "times_seconds": data.times_seconds, **{name: getattr(data, name).numpy() for name in TENSORS}}


def _train_in_worker(plan: Plan, shared: dict[str, Any] | Streamed, of_store: dict[str, Any], device: str, threads: int) -> Run:
    torch.set_num_threads(threads)
    if isinstance(shared, Streamed):  # this process has opened the store for itself
        return train_run(plan, shared, of_store, device, quiet=True)
    tensors = {name: torch.from_numpy(shared[name]) for name in TENSORS}
    data = Sequences(ids=shared["ids"], times_seconds=shared["times_seconds"], **tensors)
    return train_run(plan, data, of_store, device, quiet=True)


def train_run(plan: Plan, data: Sequences | Streamed, of_store: dict[str, Any], device: str, quiet: bool = False) -> Run:
    """Train one run, or go on with it, and write its folder.

    of_store: path, identity, recipe and dataset of the store, and `videos`, the metadata of the videos in `data`, in order.
    """
    began = time.perf_counter()
    recipe = plan.recipe
    plan.path.mkdir(parents=True, exist_ok=True)
    with locked(plan.path), few_threads(recipe):
        document = {"signature": signature(recipe), "recipe": recipe, "store_path": of_store["path"]}
        document["store_recipe"] = of_store["recipe"]
        write_json(plan.path / "recipe.json", {**document, "environment": environment(device)})
        data = data.to(torch.device(device))
        classes = {name: number for number, name in enumerate(recipe["classes"])}
        labels = torch.tensor([classes.get(video["label"], -1) for video in of_store["videos"]], device=device)
        labels = labels[data.video]  # (V,) -> (S,): a view has its video's label
        number_of = {name: number for number, name in enumerate(data.ids)}
        parts = {
            part: torch.tensor([number_of[name] for name in names], dtype=torch.int64, device=device)
            for part, names in plan.ids.items()
        }
        training = Training(**recipe["training"])
        model, history = _fitted(plan, data, labels, parts, training, "", quiet)
        scored = {"validation": _table(plan, "validation", model, data, labels, parts["validation"], of_store)}
        epochs = best_epoch(history)
        if recipe["refit"]:
            parts["train"] = torch.cat([parts["train"], parts["validation"]])
            whole = parts | {"validation": parts["validation"][:0]}
            again = dataclasses.replace(training, epochs=epochs, patience=0)
            model, _ = _fitted(plan, data, labels, whole, again, "refit-", quiet)
        scored |= {part: _table(plan, part, model, data, labels, parts[part], of_store) for part in ("train", "test")}
        with replacing(plan.path / "checkpoint.safetensors") as temporary:
            tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            save_file(tensors, temporary, {"recipe": canonical(recipe)})
        for part, table in scored.items():
            if table is not None:
                score_tables.save(table, plan.path / f"scores-{part}.npz")
        _, embeddings = outputs(model, data, torch.arange(len(data.ids), device=device))
        write_embeddings(plan, data, embeddings.cpu().numpy(), of_store)
        metrics = {part: accuracies(scored[part]) for part in PARTS}
        seconds = round(sum(past["seconds"] for past in history), 2)
        about = {"best_epoch": epochs, "epochs": len(history), "training_seconds": seconds, "notes": list(plan.notes)}
        about["seconds"] = round(time.perf_counter() - began, 2)
        write_json(plan.path / "metrics.json", {**metrics, **about})
        for state in plan.path.glob("*state.safetensors"):
            state.unlink()
    return read_run(plan.path)


def _fitted(
    plan: Plan,
    data: Sequences | Streamed,
    labels: Tensor,
    parts: dict[str, Tensor],
    training: Training,
    prefix: str,
    quiet: bool,
) -> tuple[Model, list[dict[str, Any]]]:
    """A new model, its normalisation fitted on part "train" and its head trained on it and the augmented views of its videos;
    the history goes to <prefix>history.csv."""
    torch.manual_seed(training.seed)
    model = build_model(plan.recipe).to(labels.device)
    train = parts["train"]
    model.normalise.fit(lambda: data.row_chunks(train))
    views = torch.arange(len(data.ids), len(data.video), device=train.device)
    with_views = torch.cat([train, views[torch.isin(data.video[views], train)]])
    with tqdm(total=training.epochs, desc=plan.path.name, unit="epoch", leave=False, disable=True if quiet else None) as bar:

        def show(past: dict[str, Any]) -> None:
            bar.update(past["epoch"] - bar.n)
            if past["validation_accuracy"] is not None:
                bar.set_postfix(validation=f"{100 * past['validation_accuracy']:.1f} %")

        state = plan.path / f"{prefix}state.safetensors"
        history = fit(model, data, labels, with_views, parts["validation"], training, state, show)
    with replacing(plan.path / f"{prefix}history.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    return model, history


def _table(
    plan: Plan,
    part: str,
    model: Model,
    data: Sequences | Streamed,
    labels: Tensor,
    videos: Tensor,
    of_store: dict[str, Any],
) -> score_tables.Scores | None:
    """The model's scores of one part; None when it has no videos."""
    if not len(videos):
        return None
    logits, _ = outputs(model, data, videos)
    about = {key: plan.recipe[key] for key in ("dataset", "stream", "extractor", "store", "split", "seed", "head")}
    about |= {"part": part, "signature": signature(plan.recipe), "name": plan.path.name}
    about |= {"coarse": of_store["dataset"].get("coarse", {})}
    ids = tuple(data.ids[number] for number in videos.tolist())
    return score_tables.Scores(ids, labels[videos].cpu().numpy(), tuple(plan.recipe["classes"]), logits.cpu().numpy(), about)


def write_embeddings(plan: Plan, data: Sequences | Streamed, embeddings: np.ndarray, of_store: dict[str, Any]) -> None:
    """A feature store with one row (1, E) float16 for each video of `data`; its time is the mean of its rows' times."""
    path = plan.path / "embeddings.h5"
    path.unlink(missing_ok=True)
    shutil.rmtree(parts_folder(path), ignore_errors=True)
    recipe = {"kind": "embedding", "run": signature(plan.recipe), "stream": plan.recipe["stream"], "extractor": plan.path.name}
    writer = StoreWriter(path, recipe, of_store["dataset"], part_videos=len(data.ids))
    try:
        for video, embedding, seconds in zip(of_store["videos"], embeddings, data.times_seconds, strict=True):
            writer.add(video, embedding[None].astype(np.float16), np.array([seconds]))  # (1, E), (1,)
        if not writer.finish(of_store["videos"]):
            raise RuntimeError(f"{path} could not be finished")
    finally:
        writer.close()


def environment(device: str) -> dict[str, Any]:
    """What a run's figures may depend on besides its recipe."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "reelbank": reelbank.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@contextmanager
def few_threads(recipe: dict[str, Any]) -> Iterator[None]:
    """One thread for a small head: more gain nothing there, and on a busy machine they wait for each other (a mean-pool run
    took 11 s with one thread, 137 s with two, on two cores with other work)."""
    before = torch.get_num_threads()
    weights = sum(parameter.numel() for parameter in build_model(recipe).parameters())
    torch.set_num_threads(1 if weights < SMALL_HEAD_WEIGHTS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder; the lock goes with the process. Raises InputError when another process trains this run."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being trained by another process; wait for it or end it") from None
        yield
