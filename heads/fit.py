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
from reelbank.heads.batches import Sequences
from reelbank.heads.runs import replacing
from reelbank.heads.streaming import Streamed

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
}
SCHEDULES = ("constant", "step", "cosine", "plateau")
PLATEAU_EPOCHS, PLATEAU_FLOOR = 5, 1e-6
EVALUATED_VIDEOS, EVALUATED_BYTES = 256, 1 << 26  # at most, at once


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


def learning_rate(training: Training, history: list[dict[str, Any]]) -> float:
    """The next epoch's learning rate, a function of what came before alone, so that a resumed run has the same.

    step: a tenth after each epoch of `lr_drops`; cosine: half a wave down to 0 after the last epoch; plateau: a tenth
    after 5 epochs without a lower validation loss, not below 1e-6.
    """
    done, lr = len(history), training.lr
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


def best_epoch(history: list[dict[str, Any]]) -> int:
    """The epoch (from 1) with the highest validation accuracy, among equals the lowest validation loss, among these the
    first; without a validation part the last."""
    if history[-1]["validation_loss"] is None:
        return len(history)
    return max(history, key=lambda past: (past["validation_accuracy"], -past["validation_loss"], -past["epoch"]))["epoch"]


def finished(training: Training, history: list[dict[str, Any]]) -> bool:
    """All epochs done, or none of the last `patience` was the best."""
    if len(history) >= training.epochs:
        return True
    return bool(history and training.patience and len(history) - best_epoch(history) >= training.patience)


def fit(
    model: nn.Module,
    data: Sequences | Streamed,
    labels: Tensor,
    train: Tensor,
    validation: Tensor,
    training: Training,
    state_path: Path,
    on_epoch: Callable[[dict[str, Any]], None] = lambda past: None,
) -> list[dict[str, Any]]:
    """Train `model` in place on sequences `train` of `data` and leave it with the best epoch's weights; returns the history.

    labels: (S,) int64; train, validation: sequence numbers, int64; all on the model's device. An empty `validation` trains
    all epochs and keeps the last. After every epoch the state is written to `state_path`, whole or not at all; when it is
    there, training goes on from it and ends in the same weights. Raises InputError when the loss is no number any more.
    """
    device = labels.device
    optimiser = OPTIMISERS[training.optimiser](model.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    history, best = resume_state(state_path, model, optimiser, device)
    while not finished(training, history):
        began, epoch = time.perf_counter(), len(history) + 1
        # every epoch has its own seed: its order and dropout do not depend on whether the epochs before ran in this process
        torch.manual_seed((training.seed << 20) + epoch)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(training, history)
        model.train()
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        groups = train[torch.randperm(len(train)).to(device)].split(training.batch)
        for group, batch in zip(groups, data.batches(groups), strict=True):
            logits, _ = model(*batch)
            loss = nn.functional.cross_entropy(logits, labels[group])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(group)
            right += (logits.argmax(1) == labels[group]).sum()
        learned = float(total) / len(train), float(right) / len(train)
        add_epoch(history, learned, evaluate(model, data, labels, validation), optimiser, began)
        if best_epoch(history) == epoch:
            best = {name: value.clone() for name, value in model.state_dict().items()}
        save_state(state_path, model, optimiser, history, best)
        on_epoch(history[-1])
    model.load_state_dict(best)
    return history


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


@torch.inference_mode()
def evaluate(model: nn.Module, data: Sequences | Streamed, labels: Tensor, videos: Tensor) -> tuple[float | None, float | None]:
    """Mean cross-entropy and top-1 accuracy in [0, 1] over these videos; None, None when there are none."""
    if not len(videos):
        return None, None
    logits, _ = outputs(model, data, videos)
    truth = labels[videos]
    return float(nn.functional.cross_entropy(logits, truth)), float((logits.argmax(1) == truth).float().mean())


@torch.inference_mode()
def outputs(model: nn.Module, data: Sequences | Streamed, videos: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, C) and embeddings (n, E) of these videos, in their order, without dropout."""
    model.eval()
    at_once = min(EVALUATED_VIDEOS, max(1, EVALUATED_BYTES // data.longest_bytes))
    batches = data.batches(videos.split(at_once))
    logits, embeddings = zip(*(model(*batch) for batch in batches), strict=True)
    return torch.cat(logits), torch.cat(embeddings)


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
