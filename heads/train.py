"""The command `train`: one run for each split and seed, each in its own folder, resumed or found done by the same command."""

import csv
import dataclasses
import fcntl
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
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
from reelbank.data.index import label_names
from reelbank.data.machine import cores
from reelbank.data.parts import parts_folder
from reelbank.data.printing import printable
from reelbank.data.recipe import canonical, signature
from reelbank.data.replacing import replacing
from reelbank.data.store import Store, StoreWriter
from reelbank.extract.networks import Trunk
from reelbank.extract.streams import chosen_device
from reelbank.heads.batches import Loaded, Reading
from reelbank.heads.fisher import SVM_C, Fisher
from reelbank.heads.fit import Material, Training, best_epoch, evaluate, fit, outputs, sequence_outputs
from reelbank.heads.model import Model, build_model
from reelbank.heads.options import TrainOptions
from reelbank.heads.plan import Plan, plan_runs, videos_of
from reelbank.heads.results import accuracies, print_results, print_run
from reelbank.heads.runs import PARTS, Run, commit, read_run, write_json
from reelbank.heads.scoring import Scoring
from reelbank.heads.sequences import Rule, Table, tables
from reelbank.heads.stores import chosen_stores
from reelbank.heads.streaming import Streamed, open_features, sharing_folder, views_of
from reelbank.heads.svm import one_against_rest, put, put_svm
from reelbank.heads.trunk import backbone

SMALL_HEAD_WEIGHTS = 1_000_000


@dataclass(frozen=True)
class Source:
    """What the runs on the same rows share: the features, which rows make which sequence, and what the stores say. videos: the
    metadata of `data`'s videos, in order; times_seconds: (V,) the mean time of the rows that are scored."""

    data: Loaded | Streamed
    learn: Table
    score: Table
    times_seconds: np.ndarray
    dataset: dict[str, Any]
    recipes: list[dict[str, Any]]
    paths: list[str]
    videos: list[dict[str, Any]]


def train(options: TrainOptions) -> int:
    """Train what is not trained yet, print a line for each run and the table over all; returns the exit code.

    Raises InputError, before anything is trained, when a run is impossible: no such store, split or class, no labels,
    no training videos, an option the head does not have, or a backbone that has seen videos of the test part.
    """
    with ExitStack() as stack:
        planned = []
        for paths, splits in chosen_stores(options).items():
            stores = [stack.enter_context(Store.open(path)) for path in paths]
            planned.append((stores, plan_runs(stores, dataclasses.replace(options, split=splits))))
        plans = [plan for _, own in planned for plan in own]
        for note in dict.fromkeys(note for plan in plans for note in plan.notes):
            print(printable(f"note: {note}"))
        waiting = [(stores, [plan for plan in own if not is_finished(plan)]) for stores, own in planned]
        for stores, missing in waiting:
            check_backbones(missing, stores[0].recipe)
        for stores, missing in waiting:
            if missing:
                train_missing(missing, stores, options)
    print_results([read_run(plan.path) for plan in plans])
    return 0


def is_finished(plan: Plan) -> bool:
    """Is this run there already?"""
    return (plan.path / "metrics.json").exists()


def check_backbones(plans: Sequence[Plan], store_recipe: dict[str, Any]) -> None:
    """Raises InputError when the network that a head on maps begins with is not to be had, or has other weights than the
    store's."""
    for plan in {canonical(plan.recipe.get("trunk", {})): plan for plan in plans}.values():
        _backbone(plan, store_recipe)


def _backbone(plan: Plan, store_recipe: dict[str, Any]) -> Trunk | None:
    about = plan.recipe.get("trunk", {})
    if about.get("kind") != "backbone":
        return None
    return backbone(store_recipe, about, plan.bank, plan.extractor, plan.trunk_weights)


def train_missing(plans: list[Plan], stores: Sequence[Store], options: TrainOptions) -> None:
    """Load the stores once, or stream them, and train these runs, which take the same rows, `workers` at a time."""
    device = str(chosen_device(options.device))
    workers = min(options.workers, len(plans))
    source = open_source(stores, plans[0].recipe, options.read_from, device, workers)
    if workers <= 1:
        for plan in plans:
            print_run(train_run(plan, source, device))
        return
    from joblib import Parallel, delayed

    threads = max(1, min(cores().value, torch.get_num_threads()) // workers)
    folder = _sharing_folder_of(source.data, workers)
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", mmap_mode="c", temp_folder=folder or None)
    jobs = (delayed(_train_in_worker)(plan, source, device, threads) for plan in plans)
    try:
        for run in tqdm(parallel(jobs), total=len(plans), desc="runs", unit="run", disable=None, leave=False):
            print_run(run)
    except BrokenProcessPool:
        raise InputError(
            f"WORKERS={workers}: a process that trained a run was killed, most likely because memory was full; run the command "
            "again with fewer WORKERS, it goes on from the last whole epoch of each run"
        ) from None


def _sharing_folder_of(data: Loaded | Streamed, workers: int) -> str:
    """Where the workers share the features; "" where each reads them for itself. Raises InputError where there is no room."""
    if isinstance(data, Streamed):
        return ""
    folder = sharing_folder(data.values.nbytes)
    if not folder:
        size_gib = data.values.nbytes / 2**30
        raise InputError(
            f"WORKERS={workers}: no room for the {size_gib:.1f} GiB of features that the processes share; give "
            "READ_FROM=disk, WORKERS=1, or a folder in the environment variable JOBLIB_TEMP_FOLDER"
        )
    return folder


def open_source(
    stores: Sequence[Store], recipe: dict[str, Any], read_from: str = "auto", device: str = "cpu", workers: int = 1
) -> Source:
    """What runs of a recipe are trained on, `workers` of them at a time: all videos that the stores have in common and a split
    uses."""
    store, ids = stores[0], videos_of(stores)
    has_views = "views" in recipe
    rule = Rule(**recipe["rows"])
    learn, score = tables((views_of(store, name, has_views) for name in ids), rule, ids, cut_out(store))
    data = open_features(
        stores,
        ids,
        readings_of(stores, recipe),
        views=has_views,
        crops=bool(rule.crops),
        read_from=read_from,
        device=device,
        workers=workers,
    )
    times = np.array([store.times_seconds(name)[scored_rows(score, video)].mean() for video, name in enumerate(ids)])
    facts = zip(store.video_ids, store.labels, store.groups, store.parts, store.sources, strict=True)
    about = {
        name: {"id": name, "label": label, "group": group, "parts": list(parts), "source": source}
        for name, label, group, parts, source in facts
    }
    recipes, paths = [one.recipe for one in stores], [str(one.path) for one in stores]
    return Source(data, learn, score, times, store.dataset, recipes, paths, [about[name] for name in ids])


def readings_of(stores: Sequence[Store], recipe: dict[str, Any]) -> list[Reading]:
    """What is done to each store's rows as they are read for a run of this recipe."""
    kept = [bool(store.recipe.get("crops_kept")) for store in stores]
    takes_vectors, apart = len(recipe["input_shape"]) == 1, bool(recipe["rows"]["crops"])
    return [
        Reading(average_crops=crops and not apart, pool=takes_vectors and len(store.row_shape) - crops == 3)
        for store, crops in zip(stores, kept, strict=True)
    ]


def cut_out(store: Store) -> set[str]:
    """The videos that were cut out of longer ones: stage one does not cut them into windows."""
    return {name for name, source in zip(store.video_ids, store.sources, strict=True) if source.get("span_seconds")}


def scored_rows(score: Table, video: int) -> np.ndarray:
    """The rows of one video that are scored, each as often as it is."""
    numbers = range(*torch.searchsorted(score.video, torch.tensor([video, video + 1])).tolist())  # a video's stand together
    return np.concatenate([score.rows[number, : int(score.lengths[number])].numpy() for number in numbers])


def _train_in_worker(plan: Plan, source: Source, device: str, threads: int) -> Run:
    torch.set_num_threads(threads)
    return train_run(plan, source, device, quiet=True)


def train_run(plan: Plan, source: Source, device: str, quiet: bool = False) -> Run:
    """Train one run, or go on with it, and write its folder."""
    began = time.perf_counter()
    recipe = plan.recipe
    plan.path.mkdir(parents=True, exist_ok=True)
    with locked(plan.path):
        document = {"signature": signature(recipe), "recipe": recipe, "store_paths": source.paths}
        about = {"store_recipes": source.recipes, "environment": environment(device)}
        write_json(plan.path / "recipe.json", document | about)
        material = _material(recipe, source, torch.device(device))
        number_of = {name: number for number, name in enumerate(material.data.ids)}
        parts = {
            part: torch.tensor([number_of[name] for name in names], dtype=torch.int64, device=device)
            for part, names in plan.ids.items()
        }
        training = Training(**recipe["training"])
        model, history = _fitted(plan, material, parts, training, source, "", quiet)
        scored = {"validation": _table(plan, "validation", model, material, parts["validation"], source)}
        epochs = best_epoch(history, training.best_by)
        if recipe["refit"]:
            del model  # as large as the one that takes its place
            parts["train"] = torch.cat([parts["train"], parts["validation"]])
            whole = parts | {"validation": parts["validation"][:0]}
            again = dataclasses.replace(training, epochs=epochs, patience=0)
            rates = tuple(past["lr"] for past in history[:epochs])  # as they were: the schedule had its end, or its plateaus
            model, _ = _fitted(plan, material, whole, again, source, "refit-", quiet, rates)
        scored |= {part: _table(plan, part, model, material, parts[part], source) for part in ("train", "test")}
        with replacing(plan.path / "checkpoint.safetensors") as temporary:
            tensors = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            save_file(tensors, temporary, {"recipe": canonical(recipe)})
        for part, table in scored.items():
            if table is not None:
                score_tables.save(table, plan.path / f"scores-{part}.npz")
        everything = torch.arange(len(material.data.ids), device=device)
        _, embeddings = outputs(model, material.data, material.score, material.scoring, everything)
        write_embeddings(plan, source, embeddings.cpu().numpy())
        metrics = {part: accuracies(table) if (table := scored[part]) else None for part in PARTS}
        seconds = round(sum(past["seconds"] for past in history), 2)
        ended = {"best_epoch": epochs, "epochs": len(history), "training_seconds": seconds, "notes": list(plan.notes)}
        sequences = material.score.video.bincount(minlength=len(material.data.ids))
        ended["sequences"] = {part: int(sequences[videos].sum()) for part, videos in parts.items()}
        ended["seconds"] = round(time.perf_counter() - began, 2)
        write_json(plan.path / "metrics.json", {**metrics, **ended})
        for state in plan.path.glob("*state.safetensors"):
            state.unlink()
    return read_run(plan.path)


def _material(recipe: dict[str, Any], source: Source, device: torch.device) -> Material:
    """The source with labels, on the device."""
    scoring = Scoring(**recipe["scoring"])
    known = labels_of([video["label"] for video in source.videos], recipe["classes"], source.dataset)
    labels = torch.from_numpy(known.astype(np.float32) if scoring.multilabel else known).to(device)
    return Material(source.data.to(device), source.learn.to(device), source.score.to(device), labels, scoring)


def labels_of(texts: Sequence[str], classes: Sequence[str], dataset: dict[str, Any]) -> np.ndarray:
    """A store's labels as numbers: (V,) int64 into `classes`, -1 for another; of several labels a video (V, C) uint8."""
    number_of = {name: number for number, name in enumerate(classes)}
    if not dataset.get("multilabel"):
        return np.array([number_of.get(text, -1) for text in texts], np.int64)
    labels = np.zeros((len(texts), len(classes)), np.uint8)
    for row, text in zip(labels, texts, strict=True):
        row[[number_of[name] for name in label_names(text, dataset) if name in number_of]] = 1
    return labels


def _fitted(
    plan: Plan,
    material: Material,
    parts: dict[str, Tensor],
    training: Training,
    source: Source,
    prefix: str,
    quiet: bool,
    rates: tuple[float, ...] = (),
) -> tuple[Model, list[dict[str, Any]]]:
    """A new model, its normalisation fitted on part "train" and its head trained on it and the augmented views of its videos,
    or fitted to its rows; the history goes to <prefix>history.csv."""
    recipe, data = plan.recipe, material.data
    network = _backbone(plan, source.recipes[0])
    torch.manual_seed(training.seed)
    model = build_model(recipe, plan.extractor, network).to(material.labels.device)
    with few_threads(model):
        train = material.score.of(parts["train"])
        model.normalise.fit(lambda: data.row_chunks(material.score, train))
    if isinstance(model.head, Fisher):
        history = [_fitted_at_once(model, model.head, material, train, parts["validation"], training.seed)]
    else:
        history = _trained(plan, model, material, parts, training, prefix, quiet, rates)
    with replacing(plan.path / f"{prefix}history.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    return model, history


def _trained(
    plan: Plan,
    model: Model,
    material: Material,
    parts: dict[str, Tensor],
    training: Training,
    prefix: str,
    quiet: bool,
    rates: tuple[float, ...],
) -> list[dict[str, Any]]:
    """Train the model in place, by gradients; the history."""
    recipe = plan.recipe
    with few_threads(model):
        with tqdm(
            total=training.epochs, desc=plan.path.name, unit="epoch", leave=False, disable=True if quiet else None
        ) as bar:

            def show(past: dict[str, Any]) -> None:
                bar.update(past["epoch"] - bar.n)
                if past["validation_accuracy"] is not None:
                    bar.set_postfix(validation=f"{100 * past['validation_accuracy']:.1f} %")

            state = plan.path / f"{prefix}state.safetensors"
            history = fit(model, material, parts["train"], parts["validation"], training, state, show, rates)
        if recipe["classifier"]["kind"] == "svm":
            train = material.score.of(parts["train"])
            _, embeddings = sequence_outputs(model, material.data, material.score, train)
            put_svm(model.head, embeddings, material.labels[material.score.video[train]], recipe["classifier"]["lambda"])
    return history


def _fitted_at_once(
    model: Model, head: Fisher, material: Material, train: Tensor, validation: Tensor, seed: int
) -> dict[str, Any]:
    """Fit the head in place to the rows of the sequences `train` (n,), then SVMs to their Fisher vectors; the one entry of the
    history, whose losses are of the SVMs' margins. Raises InputError for fewer than two classes."""
    began = time.perf_counter()
    device = material.labels.device

    def chunks() -> Iterator[np.ndarray]:
        """The training part's rows as the head is given them, (R', D) each."""
        for rows in material.data.row_chunks(material.score, train):
            yield model.normalise(torch.from_numpy(rows).float().to(device)[None])[0].cpu().numpy()

    head.fit(chunks, int(material.score.lengths[train].sum()), seed)
    _, vectors = sequence_outputs(model, material.data, material.score, train)
    labels = material.labels[material.score.video[train]]
    positive = labels > 0 if labels.ndim == 2 else labels[:, None] == torch.arange(head.classifier.out_features, device=device)
    if positive.any(0).sum() < 2:
        raise InputError("a linear SVM needs two classes, the training part has videos of one only")
    put(head.classifier, *one_against_rest(vectors.cpu().numpy(), positive.cpu().numpy(), SVM_C))
    with torch.no_grad():
        logits = head.classifier(vectors)
    loss, worth = evaluate(model, material, validation)
    return {
        "epoch": 1,
        "train_loss": float(material.scoring.loss(logits, labels)),
        "train_accuracy": material.scoring.worth(logits, labels),
        "validation_loss": loss,
        "validation_accuracy": worth,
        "lr": 0.0,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _table(
    plan: Plan, part: str, model: Model, material: Material, videos: Tensor, source: Source
) -> score_tables.Scores | None:
    """The model's scores of one part; None when it has no videos."""
    if not len(videos):
        return None
    logits, _ = outputs(model, material.data, material.score, material.scoring, videos)
    about = {key: plan.recipe[key] for key in ("dataset", "stream", "extractor", "store", "split", "seed", "head")}
    about |= {"part": part, "signature": signature(plan.recipe), "name": plan.path.name}
    about |= {"coarse": source.dataset.get("coarse", {})}
    ids = tuple(material.data.ids[number] for number in videos.tolist())
    labels = material.labels[videos].cpu().numpy().astype(np.uint8 if material.scoring.multilabel else np.int64)
    groups = tuple(source.videos[number]["group"] for number in videos.tolist())
    return score_tables.Scores(ids, labels, tuple(plan.recipe["classes"]), logits.cpu().numpy(), about, groups)


def write_embeddings(plan: Plan, source: Source, embeddings: np.ndarray) -> None:
    """A feature store with one row (1, E) float16 for each video; its time is the mean of its rows' times."""
    path = plan.path / "embeddings.h5"
    path.unlink(missing_ok=True)
    shutil.rmtree(parts_folder(path), ignore_errors=True)
    recipe = {"kind": "embedding", "run": signature(plan.recipe), "stream": plan.recipe["stream"], "extractor": plan.path.name}
    recipe["weights"] = {"source": f"head, {plan.path.name}", "saw": plan.saw}
    writer = StoreWriter(path, recipe, source.dataset, part_videos=len(source.videos))
    try:
        for video, embedding, seconds in zip(source.videos, embeddings, source.times_seconds, strict=True):
            writer.add(video, embedding[None].astype(np.float16), np.array([seconds]))  # (1, E), (1,)
        if not writer.finish(source.videos):
            raise RuntimeError(f"{path} could not be finished")
    finally:
        writer.close()


def environment(device: str) -> dict[str, Any]:
    """What a run's figures may depend on besides its recipe."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "reelbank": reelbank.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@contextmanager
def few_threads(model: torch.nn.Module) -> Iterator[None]:
    """One thread for a small head: more gain nothing there, and on a busy machine they wait for each other (a mean-pool run
    took 11 s with one thread, 137 s with two, on two cores with other work)."""
    before = torch.get_num_threads()
    weights = sum(parameter.numel() for parameter in model.parameters())
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
