"""The command `pretrain`: trains or fine-tunes a backbone on the training part of a split, one run for each split."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.replacing import replacing
from reelbank.data.store import Store
from reelbank.extract.run import planned_stores
from reelbank.extract.streams import chosen_device
from reelbank.extract.trained import CHECKPOINT, SEEN, family_of, finished
from reelbank.heads.augment import augmented
from reelbank.heads.fit import OPTIMISERS, Training, add_epoch, best_epoch, learning_rate, resume_state, save_state
from reelbank.heads.fit import finished as trained_enough
from reelbank.heads.pretrain_inputs import initial_trunk, initial_weights, pixels_extraction, pixels_store, weights_of
from reelbank.heads.pretrain_plan import Plan, PretrainOptions, plan_run, plan_splits, with_defaults
from reelbank.heads.runs import percent, write_json
from reelbank.heads.segment_network import SegmentNetwork, freeze_before
from reelbank.heads.snippets import Batch, fixed_batches, read_ahead, training_batches
from reelbank.heads.train import environment, locked


def pretrain(options: PretrainOptions) -> int:
    """Train what is not trained yet and print the table; returns the exit code.

    Raises InputError, before anything is trained, when a run is impossible: no such network, split, class or module to freeze
    before, no training videos, weights that have seen test videos.
    """
    options = with_defaults(options)
    with Store.open(pixels_store(options)) as store:
        return pretrain_on(store, options)


def pretrain_on(store: Store, options: PretrainOptions) -> int:
    """`pretrain` on a pixel store that is there already; its rows are uint8 (C, [s,] H, W)."""
    options = with_defaults(options)
    device = chosen_device(options.device)
    plans = _plans(store, options)
    for note in dict.fromkeys(note for plan in plans for note in plan.notes):
        print(printable(f"note: {note}"))
    for plan in plans:
        if not finished(plan.path):
            train_run(plan, store, options, device)
    print_runs(plans)
    return 0


def planned_weights(options: PretrainOptions) -> dict[str, Path]:
    """The folder that each split's weights will have, there or not; {} while the pixels they learn from are not all extracted.
    Nothing is decoded or written."""
    options = with_defaults(options)
    extraction, dataset = pixels_extraction(options)
    (store,) = planned_stores(extraction, dataset)
    if store.there < len(dataset.videos):
        return {}
    with Store.open(store.path) as opened:
        return {str(plan.recipe["split"]): plan.path for plan in _plans(opened, options)}


def _plans(store: Store, options: PretrainOptions) -> list[Plan]:
    if store.dtype != np.uint8 or len(store.row_shape) not in (3, 4):
        raise InputError(f"{store.path}: is no store of pixels; 'make extract EXTRACTOR=pixels' makes one")
    if store.recipe["stream"] != options.stream:
        raise InputError(f"STREAM={options.stream}: {store.path} holds pictures of stream {store.recipe['stream']}")
    plans = []
    beginnings = initial_weights(options.bank, options.weights)
    for split in plan_splits(options, store.dataset["name"], store.dataset["splits"]):
        weights = weights_of(beginnings, split, options)
        trunk = initial_trunk(options, store, weights)
        freeze_before(trunk.model, options.freeze)
        plans.append(plan_run(store, options, split, weights, trunk))
    return plans


def train_run(plan: Plan, store: Store, options: PretrainOptions, device: torch.device) -> None:
    """Train one run, or go on with it, and write its folder."""
    began = time.perf_counter()
    recipe = plan.recipe
    plan.path.mkdir(parents=True, exist_ok=True)
    with locked(plan.path):
        document = {"family": family_of(recipe), "recipe": recipe}
        document |= {"store_path": str(store.path), "store_recipe": store.recipe, "environment": environment(device.type)}
        write_json(plan.path / "recipe.json", document)
        write_json(plan.path / SEEN, plan.ids)  # for people; the recipe has it as hashes
        trunk = initial_trunk(options, store, plan.weights)
        torch.manual_seed(options.seed)
        snippet = (*store.row_shape[:-2], *plan.crops.crop_px)
        network = SegmentNetwork(
            trunk.model, trunk.preprocessing, snippet, len(recipe["classes"]), recipe["dropout"], recipe["freeze"]
        ).to(device)
        learner = Learner(network, store, plan, device, options.workers)
        history, best = learner.fit(Training(**recipe["training"]), plan.path / "state.safetensors")
        with replacing(plan.path / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]))
            writer.writeheader()
            writer.writerows(history)
        with replacing(plan.path / CHECKPOINT) as temporary:
            save_file({name: value.cpu().contiguous() for name, value in best.items()}, temporary)
        epoch = best_epoch(history)
        metrics: dict[str, Any] = {}
        for part in ("train", "validation"):
            accuracy = history[epoch - 1][f"{part}_accuracy"]
            metrics[part] = None if accuracy is None else {"videos": len(plan.ids[part]), "top1": accuracy}
        metrics |= {"best_epoch": epoch, "epochs": len(history), "notes": list(plan.notes)}
        metrics["training_seconds"] = round(sum(past["seconds"] for past in history), 2)
        metrics["seconds"] = round(time.perf_counter() - began, 2)
        write_json(plan.path / "metrics.json", metrics)  # last: without it the run is not finished
        (plan.path / "state.safetensors").unlink(missing_ok=True)


class Learner:
    """A network in training on the videos of a plan; all randomness of an epoch follows from the seed and its number."""

    def __init__(self, network: SegmentNetwork, store: Store, plan: Plan, device: torch.device, workers: int) -> None:
        self.network, self.store, self.plan, self.device, self.workers = network, store, plan, device, workers
        counts = dict(zip(store.video_ids, store.rows.tolist(), strict=True))
        self.rows = {part: np.array([counts[name] for name in names], np.int64) for part, names in plan.ids.items()}
        self.labels = {part: torch.tensor(numbers, dtype=torch.int64, device=device) for part, numbers in plan.labels.items()}

    def fit(self, training: Training, state_path: Path) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        """Train until all epochs are done or patience ends; returns the history and the best epoch's state dict.

        After every epoch the state is written to `state_path`, whole or not at all; when it is there, training goes on from
        it and ends in the same weights. Raises InputError when the loss is no number any more.
        """
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimiser = OPTIMISERS[training.optimiser](learning, lr=training.lr, weight_decay=training.weight_decay)
        history, best = resume_state(state_path, self.network, optimiser, self.device)
        videos = sum(map(len, self.plan.ids.values()))
        with tqdm(
            total=training.epochs * videos,
            initial=len(history) * videos,
            desc=self.plan.path.name,
            unit="video",
            leave=False,
            disable=None,
            dynamic_ncols=True,
        ) as bar:
            while not trained_enough(training, history):
                began, epoch = time.perf_counter(), len(history) + 1
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(training, history)
                learned = self._train(optimiser, training, epoch, bar.update)
                validated = self.validate(training.batch, bar.update)
                add_epoch(history, learned, validated, optimiser, began)
                if best_epoch(history) == epoch:
                    best = {name: value.clone() for name, value in self.network.state_dict().items()}
                save_state(state_path, self.network, optimiser, history, best)
                bar.set_postfix(epoch=epoch, train=_shown(learned[1]), validation=_shown(validated[1]))
        return history, best

    def _train(
        self, optimiser: torch.optim.Optimizer, training: Training, epoch: int, on_videos: Callable[[int], Any]
    ) -> tuple[float, float]:
        """One epoch; its mean loss and accuracy."""
        torch.manual_seed((training.seed << 20) + epoch)  # dropout
        rng = np.random.default_rng([training.seed, epoch])
        batches = training_batches(rng, self.rows["train"], self.plan.recipe["segments"], training.batch, self.plan.crops)
        self.network.train()
        total, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for batch, pixels in read_ahead(self.store, self.plan.ids["train"], batches, self.workers):
            logits, labels = self._logits(batch, pixels, "train")
            loss = nn.functional.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(labels)
            right += (logits.argmax(1) == labels).sum()
            on_videos(len(labels))
        count = len(self.labels["train"])
        return float(total) / count, float(right) / count

    @torch.inference_mode()
    def validate(self, batch: int, on_videos: Callable[[int], Any] = lambda videos: None) -> tuple[float | None, float | None]:
        """Mean loss and accuracy on the validation part, from middle rows and centre crops; None, None when there is none."""
        count = len(self.labels["validation"])
        if not count:
            return None, None
        self.network.eval()
        batches = fixed_batches(self.rows["validation"], self.plan.recipe["segments"], batch, self.plan.crops)
        total, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for one, pixels in read_ahead(self.store, self.plan.ids["validation"], batches, self.workers):
            logits, labels = self._logits(one, pixels, "validation")
            total += nn.functional.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
            on_videos(len(labels))
        return float(total) / count, float(right) / count

    def _logits(self, batch: Batch, pixels: Tensor, part: str) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and labels (N,) of a batch."""
        crops = augmented(pixels.to(self.device), batch.boxes, self.plan.crops.crop_px, self.plan.recipe["stream"] == "flow")
        return self.network(crops), self.labels[part][torch.from_numpy(batch.videos).to(self.device)]


def _shown(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.1f} %"


def print_runs(plans: list[Plan]) -> None:
    """A row for each run, and how its weights are asked for."""
    lines = [("split", "videos", "train %", "validation %", "epochs", "best", "seconds", "weights")]
    for plan in plans:
        metrics = json.loads((plan.path / "metrics.json").read_text())
        shown = [percent(metrics[part]) for part in ("train", "validation")]
        ended = [str(metrics[key]) for key in ("epochs", "best_epoch")]
        videos = f"{plan.recipe['videos']}+{plan.recipe['validation_videos']}"
        lines.append((plan.recipe["split"], videos, *shown, *ended, f"{metrics['seconds']:.1f}", plan.path.name))
    print_table(lines)
    for family in dict.fromkeys(family_of(plan.recipe)[:8] for plan in plans):
        print(f"extract with WEIGHTS={family}")
