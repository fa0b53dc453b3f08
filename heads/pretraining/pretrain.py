"""The command `pretrain`. It trains or fine-tunes a backbone on the training part of a split, with
one run per split."""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from reelbank.data.console import bar_options, percent, print_lines, print_table, printable
from reelbank.data.errors import InputError
from reelbank.data.options_json import options_from_json, options_to_json
from reelbank.data.plugins import is_user_file
from reelbank.data.store.reader import Store
from reelbank.data.system.cluster import tell_cluster
from reelbank.extract.device import check_device_of_cluster, chosen_device
from reelbank.extract.networks.trained import CHECKPOINT, SEEN, family_of, finished
from reelbank.extract.planned import planned_stores
from reelbank.extract.streams.loading import load_stream
from reelbank.heads.pretraining.augment import augmented
from reelbank.heads.pretraining.inputs import (
    initial_trunk,
    initial_weights,
    pixels_extraction,
    pixels_store,
    weights_of,
)
from reelbank.heads.pretraining.network import SegmentNetwork, freeze_before
from reelbank.heads.pretraining.plan import (
    PretrainOptions,
    PretrainPlan,
    plan_run,
    plan_splits,
    with_defaults,
)
from reelbank.heads.pretraining.snippets import (
    SnippetBatch,
    fixed_batches,
    read_ahead,
    training_batches,
)
from reelbank.heads.runs.on_cluster import check_same_run, train_on_workers, unless_finished
from reelbank.heads.runs.writing import environment, locked, save_tensors, write_json
from reelbank.heads.training.fit import (
    Batch,
    Epoch,
    EpochRecord,
    Judgement,
    best_epoch,
    fit,
    past_epochs,
    write_history,
)
from reelbank.heads.training.repeatable import notes_on, repeatable


def pretrain(options: PretrainOptions) -> int:
    """Train the runs that are not trained yet and print the table. Returns the exit code.

    Raises InputError before training starts when a run is impossible. Reasons are an unknown
    network, split, class or FREEZE module, no training videos, or weights that were trained on test
    videos.
    """
    options = with_defaults(options)
    if options.cluster:
        check_device_of_cluster(options.device)
        tell_cluster(options.cluster)
    with Store.open(pixels_store(options)) as store:
        return pretrain_on(store, options)


def pretrain_on(store: Store, options: PretrainOptions) -> int:
    """`pretrain` on an existing pixel store, whose rows are (C, [s,] H, W) uint8."""
    options = with_defaults(options)
    plans = _plans(store, options)
    notes = [plan.notes for plan in plans]
    for note in dict.fromkeys(itertools.chain.from_iterable(notes)):
        print_lines(f"note: {note}")
    missing = [plan for plan in plans if not finished(plan.path)]
    if options.cluster:
        _train_on_cluster(missing, store, options)
    else:
        device = chosen_device(options.device)
        for plan in missing:
            train_run(plan, store, options, device)
    print_runs(plans)
    return 0


def _train_on_cluster(
    plans: Sequence[PretrainPlan], store: Store, options: PretrainOptions
) -> None:
    """Train each run by a task on a worker of the cluster. Raises InputError if the cluster cannot be
    reached or is lost, and if several workers cannot train a run."""
    tasks: dict[Path, str] = {}
    for plan in plans:
        alone = dataclasses.replace(options, split=(plan.recipe.split,))
        task = {"store": str(store.path), "options": options_to_json(alone), "run": plan.path.name}
        tasks[plan.path] = json.dumps(task)
    if tasks:
        trained = train_on_workers(options.cluster, pretrain_task, tasks, command="pretrain")
        for folder in trained:
            tqdm.write(printable(f"trained {folder}"))


def pretrain_task(text: str) -> str:
    """The task in a worker process: train a run, or continue it, and write its folder. text: JSON.
    Returns "".

    Raises InputError if the run cannot be trained here, and BusyError if another process trains it.
    """
    task = json.loads(text)
    options = options_from_json(PretrainOptions, task["options"])
    device = chosen_device(options.device)
    with Store.open(Path(task["store"])) as store:
        (plan,) = _plans(store, options)
        check_same_run(plan.path, task["run"])
        unless_finished(plan.path, lambda: train_run(plan, store, options, device))
    return ""


def planned_weights(options: PretrainOptions, fetch: bool = True) -> dict[str, Path]:
    """The folder of each split's weights, whether it exists or not. It is {} while some pixels are
    not extracted, or, without `fetch`, while the initial weights are not downloaded. Nothing is
    decoded or written."""
    options = with_defaults(options)
    extraction, dataset = pixels_extraction(options, plan=not fetch)
    (store,) = planned_stores(extraction, dataset)
    if store.finished_videos < len(dataset.videos):
        return {}
    with Store.open(store.path) as opened:
        return {plan.recipe.split: plan.path for plan in _plans(opened, options, fetch)}


def _plans(store: Store, options: PretrainOptions, fetch: bool = True) -> list[PretrainPlan]:
    """One plan per split. It is [] if, without `fetch`, the initial weights are not downloaded."""
    if store.dtype != np.uint8 or len(store.row_shape) not in (3, 4):
        raise InputError(
            f"{store.path} is not a store of pixels; make one with 'reelbank extract EXTRACTOR=pixels'"
        )
    if store.recipe["stream"] != options.stream:
        raise InputError(
            f"STREAM={options.stream}: {store.path} holds pictures of stream "
            f"{store.recipe['stream']}; give STREAM={store.recipe['stream']}, or another store"
        )
    plans = []
    weights_by_split = initial_weights(options.searched, options.weights)
    for split in plan_splits(options, store.dataset.name, store.dataset.splits):
        weights = weights_of(weights_by_split, split, options)
        trunk = initial_trunk(options, store, weights, fetch)
        if trunk.to_download:
            return []
        freeze_before(trunk.model, options.freeze)
        plans.append(plan_run(store, options, split=split, weights=weights, trunk=trunk))
    return plans


def train_run(
    plan: PretrainPlan, store: Store, options: PretrainOptions, device: torch.device
) -> None:
    """Train one run, or continue it, and write its folder."""
    began = time.perf_counter()
    plan.path.mkdir(parents=True, exist_ok=True)
    with locked(plan.path), repeatable(device) as unrepeatable:
        _write_recipe(plan, store, device)
        network = _network(plan, store, options).to(device)
        history = _fitted(network, PixelExamples(store, plan, device, options.workers))
        write_history(plan.path / "history.csv", history)
        save_tensors(plan.path / CHECKPOINT, network.state_dict())
        metrics = _metrics(plan, history)
        metrics["notes"] += notes_on(unrepeatable)
        metrics["seconds"] = round(time.perf_counter() - began, 2)
        # written last, because a run without it is not finished
        write_json(plan.path / "metrics.json", metrics)
        (plan.path / "state.safetensors").unlink(missing_ok=True)


def _write_recipe(plan: PretrainPlan, store: Store, device: torch.device) -> None:
    recipe = plan.recipe.to_json()
    document = {
        "family": family_of(recipe),
        "recipe": recipe,
        "store_path": str(store.path),
        "store_recipe": store.recipe,
        "environment": environment(device.type),
    }
    write_json(plan.path / "recipe.json", document)
    # for human readers, because the recipe contains only hashes
    write_json(plan.path / SEEN, plan.ids)


def _network(plan: PretrainPlan, store: Store, options: PretrainOptions) -> SegmentNetwork:
    trunk = initial_trunk(options, store, plan.weights)
    torch.manual_seed(options.seed)
    return SegmentNetwork(
        trunk.model,
        trunk.preprocessing,
        snippet=(*store.row_shape[:-2], *plan.crops.crop_px),
        classes=len(plan.recipe.classes),
        dropout=plan.recipe.dropout or 0.0,
        freeze=plan.recipe.freeze,
    )


def _fitted(network: SegmentNetwork, examples: "PixelExamples") -> list[EpochRecord]:
    """Train the network in place. Afterwards it has the best epoch's weights."""
    plan = examples.plan
    videos = sum(map(len, plan.ids.values()))
    state_path = plan.path / "state.safetensors"
    with tqdm(
        total=examples.training.epochs * videos,
        initial=len(past_epochs(state_path)) * videos,
        desc=printable(plan.path.name),
        unit="video",
        leave=False,
        dynamic_ncols=True,
        **bar_options(),
    ) as bar:

        def show(past: EpochRecord) -> None:
            figures = {
                "train": _percent(past.train_accuracy),
                "validation": _percent(past.validation_accuracy),
            }
            bar.set_postfix(epoch=past.epoch, **figures)

        examples.on_videos = bar.update
        return fit(network, examples, examples.training, state_path, on_epoch=show)


def _metrics(plan: PretrainPlan, history: Sequence[EpochRecord]) -> dict[str, Any]:
    best = best_epoch(history, plan.recipe.training.best_by)
    chosen = history[best - 1]
    accuracies = {"train": chosen.train_accuracy, "validation": chosen.validation_accuracy}
    metrics: dict[str, Any] = {
        part: None if accuracy is None else {"videos": len(plan.ids[part]), "top1": accuracy}
        for part, accuracy in accuracies.items()
    }
    return metrics | {
        "best_epoch": best,
        "epochs": len(history),
        "notes": list(plan.notes),
        "training_seconds": round(sum(past.seconds for past in history), 2),
    }


class PixelExamples:
    """The videos of a plan as `Examples`, which are snippets of pixels from the store."""

    def __init__(
        self, store: Store, plan: PretrainPlan, device: torch.device, workers: int
    ) -> None:
        self.store, self.plan, self.device, self.workers = store, plan, device, workers
        self.training = plan.recipe.training
        self.on_videos: Callable[[int], Any] = lambda videos: None
        counts = dict(zip(store.video_ids, store.rows.tolist(), strict=True))
        self.rows = {
            part: np.array([counts[name] for name in names], np.int64)
            for part, names in plan.ids.items()
        }
        self.labels = {
            part: torch.tensor(numbers, dtype=torch.int64, device=device)
            for part, numbers in plan.labels.items()
        }

    def epoch(self, number: int) -> Epoch:
        rng = np.random.default_rng([self.training.seed, number])
        snippets = training_batches(
            rng,
            self.rows["train"],
            self.plan.recipe.segments,
            self.training.batch,
            self.plan.crops,
        )
        count = len(self.labels["train"])
        steps = math.ceil(count / self.training.batch)
        return Epoch(count, steps, self._batches("train", snippets))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Judgement:
        """Loss and accuracy on the validation part, with middle rows and centre crops."""
        count = len(self.labels["validation"])
        if not count:
            return Judgement()
        model.eval()
        snippets = fixed_batches(
            self.rows["validation"],
            self.plan.recipe.segments,
            self.training.batch,
            self.plan.crops,
        )
        total, right = (torch.zeros((), device=self.device) for _ in range(2))
        for batch in self._batches("validation", snippets):
            logits = model(*batch.inputs)
            total += nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
            right += (logits.argmax(1) == batch.labels).sum()
        return Judgement(float(total) / count, float(right) / count)

    def _batches(self, part: str, snippets: Iterable[SnippetBatch]) -> Iterator[Batch]:
        for batch, pixels in read_ahead(self.store, self.plan.ids[part], snippets, self.workers):
            crops = augmented(
                pixels.to(self.device),
                batch.boxes,
                self.plan.crops.crop_px,
                load_stream(self.plan.recipe.stream).uses_flow,
            )
            numbers = torch.from_numpy(batch.videos).to(self.device)
            yield Batch((crops,), self.labels[part][numbers])
            self.on_videos(len(numbers))


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.1f} %"


def print_runs(plans: list[PretrainPlan]) -> None:
    """Print a row for each run, and the WEIGHTS= value that selects its weights."""
    lines: list[tuple[str, ...]] = [
        (
            "split",
            "training + validation videos",
            "train %",
            "validation %",
            "epochs",
            "best epoch",
            "seconds",
            "weights",
        )
    ]
    for plan in plans:
        metrics = json.loads((plan.path / "metrics.json").read_text())
        accuracies = [
            percent((metrics[part] or {}).get("top1")) for part in ("train", "validation")
        ]
        ended = [str(metrics[key]) for key in ("epochs", "best_epoch")]
        videos = f"{plan.recipe.videos}+{plan.recipe.validation_videos}"
        lines.append(
            (
                plan.recipe.split,
                videos,
                *accuracies,
                *ended,
                f"{metrics['seconds']:.1f}",
                plan.path.name,
            )
        )
    print_table(lines)
    for family in dict.fromkeys(family_of(plan.recipe.to_json())[:8] for plan in plans):
        extractor = plans[0].recipe.extractor  # a user's file is run only if the user names it
        own_network = f" EXTRACTOR={extractor}" if is_user_file(extractor) else ""
        print_lines(f"to extract features with these networks, give WEIGHTS={family}{own_network}")
