"""The training loop: epochs over sequences on the device, the best epoch kept, a state file after every epoch."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.data.machine import available_memory
from reelbank.data.replacing import replacing
from reelbank.heads.batches import Loaded
from reelbank.heads.scoring import Scoring
from reelbank.heads.sequences import Table
from reelbank.heads.streaming import Streamed

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
    "momentum": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, **options),
}
SCHEDULES = ("constant", "step", "cosine", "plateau")
BEST_BY = ("accuracy", "loss")
PLATEAU_EPOCHS, PLATEAU_FLOOR = 5, 1e-6
EVALUATED_SEQUENCES, EVALUATED_BYTES = 256, 1 << 26  # at most, at once


@dataclass(frozen=True)
class Training:
    """How to train; every value is part of a run's recipe. See TrainOptions for what each means."""

    optimiser: str
    lr: float
    weight_decay: float
    batch: int
    epochs: int
    schedule: str
    lr_drops: tuple[int, ...]
    patience: int
    seed: int
    best_by: str = "accuracy"
    batch_share: float = 0.0
    one_view: bool = False


def learning_rate(training: Training, history: list[dict[str, Any]], rates: tuple[float, ...] = ()) -> float:
    """The next epoch's learning rate, a function of what came before alone, so that a resumed run has the same.

    step: a tenth after each epoch of `lr_drops`; cosine: half a wave down to 0 after the last epoch; plateau: a tenth
    after 5 epochs without a lower validation loss, not below 1e-6. `rates`: those of each epoch, to be taken again.
    """
    done, lr = len(history), training.lr
    if rates:
        return rates[done]
    if training.schedule == "step":
        return lr * 0.1 ** sum(done >= epoch for epoch in training.lr_drops)
    if training.schedule == "cosine":
        return lr * (1 + math.cos(math.pi * done / training.epochs)) / 2
    if training.schedule == "plateau":
        best, waited = math.inf, 0
        for past in history:
            better = past["validation_loss"] < best
            best, waited = min(best, past["validation_loss"]), 0 if better else waited + 1
            if waited == PLATEAU_EPOCHS:
                lr, waited = max(lr / 10, min(PLATEAU_FLOOR, training.lr)), 0
    return lr


def best_epoch(history: list[dict[str, Any]], best_by: str = "accuracy") -> int:
    """The epoch (from 1) with the highest validation accuracy, among equals the lowest validation loss, among these the
    first; `best_by` "loss": the lowest validation loss alone. Without a validation part the last."""
    if history[-1]["validation_loss"] is None:
        return len(history)
    if best_by == "loss":
        return max(history, key=lambda past: (-past["validation_loss"], -past["epoch"]))["epoch"]
    return max(history, key=lambda past: (past["validation_accuracy"], -past["validation_loss"], -past["epoch"]))["epoch"]


def finished(training: Training, history: list[dict[str, Any]]) -> bool:
    """All epochs done, or none of the last `patience` was the best."""
    if len(history) >= training.epochs:
        return True
    waited = len(history) - best_epoch(history, training.best_by) if history else 0
    return bool(training.patience and waited >= training.patience)


@dataclass(frozen=True)
class Material:
    """What a head is trained and scored on, all on its device. data: the features of V videos; learn, score: which rows make
    which sequence in training and in scoring; labels: (V,) int64, or (V, C) float32 of several labels a video."""

    data: Loaded | Streamed
    learn: Table
    score: Table
    labels: Tensor
    scoring: Scoring


def fit(
    model: nn.Module,
    material: Material,
    train: Tensor,
    validation: Tensor,
    training: Training,
    state_path: Path,
    on_epoch: Callable[[dict[str, Any]], None] = lambda past: None,
    rates: tuple[float, ...] = (),
) -> list[dict[str, Any]]:
    """Train `model` in place on the sequences of videos `train` and leave it with the best epoch's weights; returns the
    history.

    train, validation: video numbers, int64, on the model's device. An empty `validation` trains all epochs and keeps the last.
    `rates`: a learning rate for each epoch, in place of the schedule's. After every epoch the state is written to
    `state_path`, whole or not at all; when it is there, training goes on from it and ends in the same weights. Raises
    InputError when the loss is no number any more.
    """
    device = material.labels.device
    optimiser = OPTIMISERS[training.optimiser](model.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    history, best = resume_state(state_path, model, optimiser, device)
    weights_bytes = sum(value.nbytes for value in model.state_dict().values())
    # Mapped from the state file the best weights take no memory of their own, but training a few per cent more time.
    maps_best = device.type == "cpu" and weights_bytes > available_memory().value // 8
    numbers = material.learn.of(train)
    while not finished(training, history):
        began, epoch = time.perf_counter(), len(history) + 1
        # every epoch has its own seed: its order and dropout do not depend on whether the epochs before ran in this process
        seed = (training.seed << 20) + epoch
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)  # of its own: reading ahead does not change what dropout draws
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(training, history, rates)
        model.train()
        table = material.learn.drawn(generator)
        own = table.one_of_each(numbers, generator) if training.one_view else numbers
        batch = max(1, round(training.batch_share * len(own))) if training.batch_share else training.batch
        groups = own[torch.randperm(len(own), generator=generator).to(device)].split(batch)
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        for group, inputs in zip(groups, material.data.batches(table, groups), strict=True):
            labels = material.labels[table.video[group]]
            logits, _ = model(*inputs)
            loss = material.scoring.loss(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(group)
            right += _right(logits.detach(), labels)
        optimiser.zero_grad()  # gradients are as large as the weights: free while the epoch is judged and its weights kept
        learned = float(total) / len(own), float(right) / len(own)
        add_epoch(history, learned, evaluate(model, material, validation), optimiser, began)
        if best_epoch(history, training.best_by) == epoch:
            best = {name: value.clone() for name, value in model.state_dict().items()}
        save_state(state_path, model, optimiser, history, best)
        if maps_best:
            best = best_weights(state_path)
        on_epoch(history[-1])
    model.load_state_dict(best)
    return history


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many sequences' highest score is of their class, or of one of theirs."""
    highest = logits.argmax(1)
    return (labels.gather(1, highest[:, None]) if labels.ndim == 2 else labels == highest).sum()


def add_epoch(
    history: list[dict[str, Any]],
    train: tuple[float, float],
    validation: tuple[float | None, float | None],
    optimiser: torch.optim.Optimizer,
    began: float,
) -> None:
    """Write an epoch that began at `began` (time.perf_counter) into the history: loss and accuracy of both parts. Raises
    InputError when a loss is no number any more."""
    history.append(
        {
            "epoch": len(history) + 1,
            "train_loss": train[0],
            "train_accuracy": train[1],
            "validation_loss": validation[0],
            "validation_accuracy": validation[1],
            "lr": optimiser.param_groups[0]["lr"],
            "seconds": round(time.perf_counter() - began, 3),
        }
    )
    if not all(math.isfinite(loss or 0.0) for loss in (train[0], validation[0])):
        raise InputError(f"training diverged in epoch {len(history)}: the loss is no number any more; take a lower LR")


def evaluate(model: nn.Module, material: Material, videos: Tensor) -> tuple[float | None, float | None]:
    """Mean loss and top-1 accuracy in [0, 1] (of several labels: mean average precision) over these videos; None, None when
    there are none."""
    if not len(videos):
        return None, None
    logits, _ = outputs(model, material.data, material.score, material.scoring, videos)
    labels = material.labels[videos]
    return float(material.scoring.loss(logits, labels)), material.scoring.worth(logits, labels)


@torch.inference_mode()
def outputs(model: nn.Module, data: Loaded | Streamed, table: Table, scoring: Scoring, videos: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, C), of each video's sequences together, and their mean embeddings (n, E), in the videos' order, without
    dropout."""
    numbers = table.of(videos)
    logits, embeddings = sequence_outputs(model, data, table, numbers)
    video = table.video[numbers]
    known, of_video = torch.unique(video, return_inverse=True)
    means = torch.zeros(len(known), embeddings.shape[1], device=embeddings.device).index_add_(0, of_video, embeddings)
    del embeddings  # of Fisher vectors gigabytes
    means /= torch.bincount(of_video)[:, None]
    if not torch.equal(known, videos):
        means = means[torch.searchsorted(known, videos)]
    return scoring.combined(logits, video, table.clip[numbers], videos), means


@torch.inference_mode()
def sequence_outputs(model: nn.Module, data: Loaded | Streamed, table: Table, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (S', C) and embeddings (S', E) of these sequences, in their order, without dropout."""
    model.eval()
    longest_bytes = table.rows.shape[1] * math.prod(data.row_shape) * 4
    at_once = min(EVALUATED_SEQUENCES, max(1, EVALUATED_BYTES // longest_bytes))
    logits = embeddings = torch.empty(0)
    first = 0
    for batch in data.batches(table, numbers.split(at_once)):
        own_logits, own_embeddings = model(*batch)
        if not first:  # room for all, so that they are held once
            logits = own_logits.new_empty(len(numbers), own_logits.shape[1])
            embeddings = own_embeddings.new_empty(len(numbers), own_embeddings.shape[1])
        last = first + len(own_logits)
        logits[first:last], embeddings[first:last] = own_logits, own_embeddings
        first = last
    return logits, embeddings


def save_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, history: list[dict[str, Any]], best: dict[str, Tensor]
) -> None:
    """Write all that training goes on from, whole or not at all; `resume_state` reads it."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    with replacing(path) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, {"history": json.dumps(history)})


def best_weights(path: Path) -> dict[str, Tensor]:
    """The best weights of a state file, on the CPU. They are mapped, not read: the system reads them when they are used and
    may drop them from memory, where weights, gradients and the optimiser's state are each as large. Nobody may shorten the file
    meanwhile (it is replaced, never written to): the process would end with SIGBUS."""
    with safe_open(path, "pt") as file:
        names = [key for key in file.keys() if key.startswith("best.")]  # noqa: SIM118 - a handle of safetensors, not a dict
        return {name.removeprefix("best."): file.get_tensor(name) for name in names}


def resume_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """History and best weights so far, the model's and optimiser's state set; nothing and an empty dict at the start."""
    if not path.exists():
        return [], {}
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
    with safe_open(path, "pt", device=str(device)) as file:
        history = json.loads(file.metadata()["history"])
        for key in file.keys():  # noqa: SIM118 - a handle of safetensors, not a dict
            part, name = key.split(".", 1)
            parts[part][name] = file.get_tensor(key)
    model.load_state_dict(parts["model"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimiser"].items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return history, parts["best"]
