"""The command `train`: one run for each split and seed, each in its own folder, resumed or found done by the same command."""

import csv
import dataclasses
import difflib
import fcntl
import inspect
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from reelbank.data.recipe import canonical, option, signature
from reelbank.data.shelf import find_store
from reelbank.data.splits import cut_validation
from reelbank.data.store import Store, StoreWriter
from reelbank.heads import HEADS
from reelbank.heads.batches import Sequences, sequences
from reelbank.heads.fit import OPTIMISERS, SCHEDULES, Training, best_epoch, fit, outputs
from reelbank.heads.model import Model, build_model
from reelbank.heads.results import accuracies, print_results, print_run
from reelbank.heads.runs import PARTS, Run, folder_name, read_run, replacing, write_json


@dataclass(frozen=True)
class TrainOptions:
    """Options of the command `train`. Defaults train every head; the paper's Res-LSTM had no z-normalisation."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    store: str = option("", "which feature store: the start of its hash; not needed when one alone fits")
    dataset: str = option("", "the store's data set")
    stream: str = option("", "the store's stream")
    extractor: str = option("", "the store's extractor")
    head: str = option("reslstm", "network to train", choices=tuple(HEADS))
    split: tuple[str, ...] = option(("1",), "splits to train on, one run each; 'all' for every split of the data set")
    seed: tuple[int, ...] = option((0,), "seeds of weights, order and dropout, one run each")
    classes: tuple[str, ...] = option((), "train on these classes alone; their order stays the data set's")
    t: int | None = option(None, "T: rows of each video taken by sigma(t); without it all rows the store has")
    layers: int = option(2, "stacked recurrent layers")
    hidden: int = option(0, "units of a recurrent layer; 0: as many as features")
    residual: bool = option(True, "add a layer's input to its output (reslstm)")
    dropout: float = option(0.0, "dropout between layers and before the classifier")
    znorm: bool = option(True, "bring every feature to mean 0 and deviation 1 on the training part")
    pca: int = option(0, "PCA to this many dimensions, fitted on the training part after znorm; 0: none")
    optimiser: str = option("rmsprop", "optimiser; sgd has Nesterov momentum 0.9", choices=tuple(OPTIMISERS))
    lr: float = option(1e-4, "learning rate at the start")
    weight_decay: float = option(0.0, "L2 penalty on all weights")
    batch: int = option(32, "videos in a batch")
    epochs: int = option(60, "most epochs")
    schedule: str = option(
        "constant", "learning rate over epochs; plateau: /10 after 5 epochs without a lower validation loss", SCHEDULES
    )
    lr_drops: tuple[int, ...] = option((), "schedule step: epochs after which the learning rate is divided by 10")
    patience: int = option(5, "stop after this many epochs without a better validation accuracy; 0: never")
    validation: float = option(0.2, "share of the training part cut off for validation, by whole groups; 0: none")
    refit: bool = option(True, "then train anew on training and validation part together, as many epochs as were best")
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    workers: int = option(1, "runs trained at the same time")


@dataclass(frozen=True)
class Plan:
    """One run to be: where, its complete recipe, its videos by part, and lines for the user."""

    path: Path
    recipe: dict[str, Any]
    ids: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def train(options: TrainOptions) -> int:
    """Train what is not trained yet, print a line for each run and the table over all; returns the exit code.

    Raises InputError, before anything is trained, when a run is impossible: no such store, split or class, no labels,
    no training videos, an option the head does not have.
    """
    match = {name: value for name in ("dataset", "stream", "extractor") if (value := getattr(options, name))}
    with Store.open(find_store(Path(options.bank), options.store, **match)) as store:
        plans = plan_runs(store, options)
        for note in dict.fromkeys(note for plan in plans for note in plan.notes):
            print(f"note: {note}")
        missing = [plan for plan in plans if not (plan.path / "metrics.json").exists()]
        if missing:
            train_missing(missing, store, options)
    print_results([read_run(plan.path) for plan in plans])
    return 0


def plan_runs(store: Store, options: TrainOptions) -> list[Plan]:
    """One plan for each split and seed. Raises InputError for anything that makes one of them impossible."""
    check_numbers(options)
    if not any(store.labels):
        raise InputError(
            f"{store.path}: the store has no labels; extract from a data set with class folders or a CSV of labels"
        )
    splits = store.dataset["splits"]
    names = tuple(splits) if options.split == ("all",) else options.split
    for name in names:
        if name not in splits:
            raise InputError(f"SPLIT={name}: {store.dataset['name']} has the splits {', '.join(splits)}")
    return [plan_run(store, options, split, seed) for split in names for seed in options.seed]


def plan_run(store: Store, options: TrainOptions, split: str, seed: int) -> Plan:
    """Parts and recipe of one run. Raises InputError when it has nothing to train on."""
    classes = chosen_classes(store, options.classes)
    number = store.dataset["splits"].index(split)
    videos = {  # id -> (label, group, part)
        name: (label, group, parts[number])
        for name, label, group, parts in zip(store.video_ids, store.labels, store.groups, store.parts, strict=True)
        if label in classes and parts[number] in ("train", "test")
    }
    of_part = {part: tuple(name for name in videos if videos[name][2] == part) for part in ("train", "test")}
    if not of_part["train"]:
        raise InputError(f"SPLIT={split}: the store holds no training video of it; see 'reelbank inspect'")
    notes, held_out = [], set()
    if options.validation:
        labels, groups = ([videos[name][i] for name in of_part["train"]] for i in (0, 1))
        # always seed 0: the runs of a split share one validation part, so their validation figures and scores compare
        held_out = cut_validation(of_part["train"], labels, groups, options.validation, 0)
        if not held_out:
            notes.append(
                f"split {split}: no class has two groups of videos, so there is no validation part; the last epoch is kept"
            )
    if options.schedule == "plateau" and not held_out:
        raise InputError("SCHEDULE=plateau needs a validation part; give VALIDATION or another schedule")
    ids = {
        "train": tuple(name for name in of_part["train"] if name not in held_out),
        "validation": tuple(name for name in of_part["train"] if name in held_out),
        "test": of_part["test"],
    }
    for part, names in ids.items():
        without = [name for name in classes if name not in {videos[video][0] for video in names}]
        if without and (names or part == "test"):
            few = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
            notes.append(f"split {split}: no {part} video of {few}")
    rows = dict(zip(store.video_ids, map(int, store.rows), strict=True))
    coverage = signature({name: [*videos[name], rows[name], name in held_out] for name in videos})
    recipe = {
        "kind": "run",
        "store": store.identity,
        "dataset": store.dataset["name"],
        "stream": str(store.recipe.get("stream", "")),
        "extractor": str(store.recipe.get("extractor", "")),
        "coverage": coverage,
        "row_shape": list(store.row_shape),
        "classes": list(classes),
        "split": split,
        "seed": seed,
        "steps": options.t,
        "normalise": {"order": "znorm, pca", "znorm": options.znorm, "pca": options.pca, "fitted_on": "train"},
        "head": options.head,
        "head_options": head_options(options),
        "training": training_of(options, seed),
        "validation": options.validation,
        "refit": options.refit and bool(held_out),
    }
    return Plan(Path(options.bank, "runs", folder_name(recipe)), recipe, ids, tuple(notes))


def chosen_classes(store: Store, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The data set's classes that have a video in the store, or those wanted; always in the data set's order."""
    present = set(store.labels)
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, sorted(present), 1)
            raise InputError(
                f"CLASSES: the store has no video of class '{name}'" + (f"; did you mean {near[0]}?" if near else "")
            )
    return tuple(name for name in store.dataset["classes"] if name in (wanted or present))


def head_options(options: TrainOptions) -> dict[str, Any]:
    """The options that the head takes. Raises InputError for one that was set and that it does not have."""
    taken = inspect.signature(HEADS[options.head]).parameters
    chosen = {}
    for field in dataclasses.fields(TrainOptions):
        if field.name not in ("layers", "hidden", "residual", "dropout"):
            continue
        value = getattr(options, field.name)
        if field.name in taken:
            chosen[field.name] = value
        elif value != field.default:
            raise InputError(f"{field.name.upper()}={value}: the head {options.head} has no such option")
    if chosen.get("layers", 1) < 1 or chosen.get("hidden", 0) < 0 or not 0 <= options.dropout < 1:
        raise InputError("LAYERS must be at least 1, HIDDEN at least 0, DROPOUT at least 0 and below 1")
    return chosen


def check_numbers(options: TrainOptions) -> None:
    """Raises InputError for values that cannot be."""
    for name in ("lr", "batch", "epochs", "workers", "t"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"{name.upper()}={value}: must be above 0")
    for name in ("weight_decay", "patience", "pca"):
        if not getattr(options, name) >= 0:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be at least 0")
    if not 0 <= options.validation < 1:
        raise InputError(f"VALIDATION={options.validation}: must be at least 0 and below 1")
    if not options.split or not options.seed or min(options.seed) < 0:
        raise InputError("SPLIT and SEED need at least one value each, and seeds are at least 0")
    if bool(options.lr_drops) != (options.schedule == "step"):
        raise InputError("SCHEDULE=step and LR_DROPS (the epochs after which the rate falls) go together")


def training_of(options: TrainOptions, seed: int) -> dict[str, Any]:
    """The training part of the recipe."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Training) if field.name != "seed"}
    return dataclasses.asdict(Training(seed=seed, **values)) | {"lr_drops": list(options.lr_drops)}


def train_missing(plans: list[Plan], store: Store, options: TrainOptions) -> None:
    """Load the store once and train these runs, `workers` at a time."""
    ids = tuple(name for name, parts in zip(store.video_ids, store.parts, strict=True) if any(parts))
    data = sequences(ids, *store.load(ids), steps=options.t)
    of_store = {"path": str(store.path), "identity": store.identity, "dataset": store.dataset, "recipe": store.recipe}
    of_store["videos"] = [
        {"id": name, "label": label, "group": group, "parts": list(parts), "source": source}
        for name, label, group, parts, source in zip(
            store.video_ids, store.labels, store.groups, store.parts, store.sources, strict=True
        )
        if any(parts)
    ]
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("DEVICE=cuda: torch finds no CUDA device here; see 'reelbank doctor'")
    workers = min(options.workers, len(plans))
    if workers <= 1:
        for plan in plans:
            print_run(train_run(plan, data, of_store, device))
        return
    from joblib import Parallel, delayed

    threads = max(1, (os.cpu_count() or 1) // workers)
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", mmap_mode="c")
    jobs = (delayed(_train_in_worker)(plan, _arrays(data), of_store, device, threads) for plan in plans)
    for run in tqdm(parallel(jobs), total=len(plans), desc="runs", unit="run", disable=None, leave=False):
        print_run(run)


def _arrays(data: Sequences) -> dict[str, Any]:
    """As numpy arrays, which joblib maps into its workers' memory without a copy."""
    tensors = {name: getattr(data, name).numpy() for name in ("values", "rows", "lengths")}
    return {"ids": data.ids, "times_seconds": data.times_seconds, **tensors}


def _train_in_worker(plan: Plan, arrays: dict[str, Any], of_store: dict[str, Any], device: str, threads: int) -> Run:
    torch.set_num_threads(threads)
    tensors = {name: torch.from_numpy(arrays[name]) for name in ("values", "rows", "lengths")}
    data = Sequences(ids=arrays["ids"], times_seconds=arrays["times_seconds"], **tensors)
    return train_run(plan, data, of_store, device, quiet=True)


def train_run(plan: Plan, data: Sequences, of_store: dict[str, Any], device: str, quiet: bool = False) -> Run:
    """Train one run, or go on with it, and write its folder.

    of_store: path, identity, recipe and dataset of the store, and `videos`, the metadata of the videos in `data`, in order.
    """
    began = time.perf_counter()
    recipe = plan.recipe
    plan.path.mkdir(parents=True, exist_ok=True)
    with locked(plan.path):
        document = {"signature": signature(recipe), "recipe": recipe, "store_path": of_store["path"]}
        write_json(plan.path / "recipe.json", {**document, "environment": environment(device)})
        data = data.to(torch.device(device))
        classes = {name: number for number, name in enumerate(recipe["classes"])}
        labels = torch.tensor([classes.get(video["label"], -1) for video in of_store["videos"]], device=device)
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
    plan: Plan, data: Sequences, labels: Tensor, parts: dict[str, Tensor], training: Training, prefix: str, quiet: bool
) -> tuple[Model, list[dict[str, Any]]]:
    """A new model, its normalisation fitted on part "train" and its head trained; the history goes to <prefix>history.csv."""
    torch.manual_seed(training.seed)
    model = build_model(plan.recipe).to(labels.device)
    model.normalise.fit(data.rows_of(parts["train"]))
    with tqdm(total=training.epochs, desc=plan.path.name, unit="epoch", leave=False, disable=True if quiet else None) as bar:

        def show(past: dict[str, Any]) -> None:
            bar.update(past["epoch"] - bar.n)
            if past["validation_accuracy"] is not None:
                bar.set_postfix(validation=f"{100 * past['validation_accuracy']:.1f} %")

        state = plan.path / f"{prefix}state.safetensors"
        history = fit(model, data, labels, parts["train"], parts["validation"], training, state, show)
    with replacing(plan.path / f"{prefix}history.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    return model, history


def _table(
    plan: Plan, part: str, model: Model, data: Sequences, labels: Tensor, videos: Tensor, of_store: dict[str, Any]
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


def write_embeddings(plan: Plan, data: Sequences, embeddings: np.ndarray, of_store: dict[str, Any]) -> None:
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


def commit() -> str:
    """The git commit of this code; "" when it is no checkout."""
    root = Path(reelbank.__file__).parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    return subprocess.run(
        [git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder; the lock goes with the process. Raises InputError when another process trains this run."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being trained by another process; wait for it or end it") from None
        yield
