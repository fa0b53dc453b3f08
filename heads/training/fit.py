"""The epoch loop. It runs gradient descent, keeps the best epoch and saves its state after every
epoch.

Heads and backbones are both trained with it. They differ in their `Examples`.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.system.machine import available_memory
from reelbank.data.text_files import csv_file
from reelbank.heads.recipe import Training

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, **options: torch.optim.SGD(
        parameters, momentum=0.9, nesterov=True, **options
    ),
    "momentum": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, **options),
}
PLATEAU_EPOCHS, PLATEAU_FLOOR = 5, 1e-6
SMALL_MODEL_WEIGHTS = 1_000_000


@dataclass(frozen=True)
class Judgement:
    """Mean loss, and accuracy in [0, 1] (mean average precision for multi-label data). Both are
    None if there is no example."""

    loss: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class EpochRecord:
    """One line of a run's history. `epoch` counts from 1."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        # dataclasses.asdict is not used because it copies deeply, and the state contains the whole
        # history in every epoch.
        return dict(vars(self))


@dataclass(frozen=True)
class Batch:
    """The arguments of a model, and the labels of these examples."""

    inputs: tuple[Tensor, ...]
    labels: Tensor


@dataclass(frozen=True)
class Epoch:
    """One pass over the training examples: `count` examples in `steps` batches."""

    count: int
    steps: int
    batches: Iterator[Batch]


class Examples(Protocol):
    """The examples that a model is trained and validated on, on the device of its labels."""

    @property
    def device(self) -> torch.device: ...

    def epoch(self, number: int) -> Epoch:
        """The training examples of epoch `number`, which counts from 1. All randomness in it
        depends only on the seed and the number."""
        ...

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch."""
        ...

    def validate(self, model: nn.Module) -> Judgement:
        """Evaluate the model on the validation part."""
        ...


def learning_rate(
    training: Training, history: Sequence[EpochRecord], rates: Sequence[float] = ()
) -> float:
    """The learning rate of the next epoch. It depends only on the history, so a resumed run has the
    same rate.

    step: divided by 10 after each epoch of `lr_drops`; cosine: half a cosine wave down to 0 after
    the last epoch; plateau: divided by 10 after 5 epochs without a lower validation loss, not below
    1e-6. rates: the rate of every epoch, instead of the schedule's rates.
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
            validation_loss = past.validation_loss
            # the plan rejects SCHEDULE=plateau without a validation part
            assert validation_loss is not None
            waited = 0 if validation_loss < best else waited + 1
            best = min(best, validation_loss)
            if waited == PLATEAU_EPOCHS:
                lr, waited = max(lr / 10, min(PLATEAU_FLOOR, training.lr)), 0
    return lr


def best_epoch(history: Sequence[EpochRecord], best_by: str = "accuracy") -> int:
    """The epoch (from 1) with the highest validation accuracy. Among several, it is the epoch with
    the lowest validation loss, then the first. With `best_by` "loss", it is the epoch with the
    lowest validation loss. Without a validation part, it is the last epoch."""

    def rank(past: EpochRecord) -> tuple[float, ...]:
        assert past.validation_loss is not None and past.validation_accuracy is not None
        by_loss = (-past.validation_loss, -past.epoch)
        return by_loss if best_by == "loss" else (past.validation_accuracy, *by_loss)

    if history[-1].validation_loss is None:
        return len(history)
    return max(history, key=rank).epoch


def finished(training: Training, history: Sequence[EpochRecord], steps: int = 1) -> bool:
    """Whether all epochs are done, or training has waited long enough for a better epoch.

    With `patience_steps`, it waits since the last epoch that had a higher validation accuracy or a
    lower validation loss than all epochs before it, for `patience` epochs and at least that many
    steps of the optimiser. Otherwise, it waits for `patience` epochs since the best epoch. steps:
    number of steps of an epoch.
    """
    if len(history) >= training.epochs:
        return True
    if not history or not training.patience:
        return False
    if not training.patience_steps:
        return len(history) - best_epoch(history, training.best_by) >= training.patience
    waited = len(history) - last_progress(history)
    return waited >= training.patience and waited * steps >= training.patience_steps


def last_progress(history: Sequence[EpochRecord]) -> int:
    """The last epoch (from 1) with a higher validation accuracy or a lower validation loss than all
    epochs before it. Without a validation part, it is the last epoch."""
    last, highest_accuracy, lowest_loss = len(history), -math.inf, math.inf
    for past in history:
        loss, accuracy = past.validation_loss, past.validation_accuracy
        if loss is None or accuracy is None:
            continue
        if accuracy > highest_accuracy or loss < lowest_loss:
            last = past.epoch
        highest_accuracy, lowest_loss = max(highest_accuracy, accuracy), min(lowest_loss, loss)
    return last


def epoch_seed(seed: int, epoch: int) -> int:
    """Each epoch has its own seed, so its order and dropout do not depend on whether the epochs
    before it ran in this process."""
    return ((seed << 20) + epoch) % 2**64


def fit(
    model: nn.Module,
    examples: Examples,
    training: Training,
    state_path: Path,
    *,
    on_epoch: Callable[[EpochRecord], None] = lambda past: None,
    rates: Sequence[float] = (),
) -> list[EpochRecord]:
    """Train `model` in place and leave it with the best epoch's weights. Returns the history.

    Without a validation part all epochs are trained and the last is kept. rates: a learning rate
    for each epoch, instead of the schedule's. After every epoch the state is written to
    `state_path`; if the file exists at the start, training continues from it and ends in the same
    weights. Raises InputError when the loss is not finite.
    """
    device = examples.device
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    own_options = {"alpha": training.rmsprop_alpha} if training.optimiser == "rmsprop" else {}
    optimiser = OPTIMISERS[training.optimiser](
        learned, lr=training.lr, weight_decay=training.weight_decay, **own_options
    )
    history, best = resume_state(state_path, model, optimiser, device)
    weights_bytes = sum(value.nbytes for value in model.state_dict().values())
    # Best weights that are mapped from the state file need no additional memory, but training takes
    # a few per cent longer.
    maps_best = device.type == "cpu" and weights_bytes > available_memory().value // 8
    # A resumed training needs this before its first epoch.
    steps = examples.epoch(1).steps if training.patience_steps else 1
    while not finished(training, history, steps):
        began, number = time.perf_counter(), len(history) + 1
        torch.manual_seed(epoch_seed(training.seed, number))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(training, history, rates)
        train = _train_epoch(model, examples, optimiser, number)
        validation = examples.validate(model)
        history.append(_record(number, train, validation, optimiser, began))
        if best_epoch(history, training.best_by) == number:
            best = {name: value.clone() for name, value in model.state_dict().items()}
        save_state(state_path, model, optimiser, history, best)
        if maps_best:
            best = best_weights(state_path)
        on_epoch(history[-1])
    model.load_state_dict(best)
    return history


def _train_epoch(
    model: nn.Module, examples: Examples, optimiser: torch.optim.Optimizer, number: int
) -> Judgement:
    model.train()
    epoch = examples.epoch(number)
    total, right = (torch.zeros((), device=examples.device) for _ in range(2))
    for batch in epoch.batches:
        outputs = model(*batch.inputs)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        loss = examples.loss(logits, batch.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(batch.labels)
        right += _right(logits.detach(), batch.labels)
        del batch, outputs, logits, loss  # this frees the memory before the next batch is read
    # Gradients are as large as the weights, so they are freed while the epoch is validated and
    # saved.
    optimiser.zero_grad()
    return Judgement(float(total) / epoch.count, float(right) / epoch.count)


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of examples whose highest score is that of one of their classes."""
    highest = logits.argmax(1)
    return (labels.gather(1, highest[:, None]) if labels.ndim == 2 else labels == highest).sum()


def _record(
    number: int,
    train: Judgement,
    validation: Judgement,
    optimiser: torch.optim.Optimizer,
    began: float,
) -> EpochRecord:
    """The record of an epoch that began at `began` (time.perf_counter). Raises InputError when a
    loss is not finite."""
    assert train.loss is not None and train.accuracy is not None
    if not all(math.isfinite(loss or 0.0) for loss in (train.loss, validation.loss)):
        raise InputError(
            f"training diverged in epoch {number}: the loss is not finite; give a lower LR"
        )
    return EpochRecord(
        epoch=number,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        validation_loss=validation.loss,
        validation_accuracy=validation.accuracy,
        lr=optimiser.param_groups[0]["lr"],
        seconds=round(time.perf_counter() - began, 3),
    )


def save_state(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    history: Sequence[EpochRecord],
    best: dict[str, Tensor],
) -> None:
    """Write the state from which `resume_state` continues the training."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"optimiser.{number}.{name}": value
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
    records = [past.to_json() for past in history]
    with replacing(path) as temporary:
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, temporary, {"history": json.dumps(records)})


def best_weights(path: Path) -> dict[str, Tensor]:
    """The best weights of a state file, on the CPU, mapped into memory. The system reads them when
    they are used and may drop them again, which saves memory because weights, gradients and the
    optimiser's state are equally large. The file must not be shortened meanwhile, or the process
    ends with SIGBUS. It is only ever replaced."""
    with safe_open(path, "pt") as file:
        names = [key for key in file.keys() if key.startswith("best.")]  # noqa: SIM118 - not a dict
        return {name.removeprefix("best."): file.get_tensor(name) for name in names}


def past_epochs(path: Path) -> list[EpochRecord]:
    """The history in a state file, or [] if there is no file."""
    if not path.exists():
        return []
    with safe_open(path, "pt") as file:
        return [EpochRecord(**past) for past in json.loads(file.metadata()["history"])]


def resume_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> tuple[list[EpochRecord], dict[str, Tensor]]:
    """Set the model's and the optimiser's state from the file. Returns the history and the best
    weights so far, which are both empty at the start."""
    if not path.exists():
        return [], {}
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
    with safe_open(path, "pt", device=str(device)) as file:
        for key in file.keys():  # noqa: SIM118 - a handle of safetensors, not a dict
            part, name = key.split(".", 1)
            parts[part][name] = file.get_tensor(key)
    model.load_state_dict(parts["model"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimiser"].items():
        number, name = key.split(".", 1)
        # torch keeps the number of steps on the CPU. On a GPU, each step would wait for it once for
        # each parameter.
        state.setdefault(int(number), {})[name] = value.cpu() if name == "step" else value
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
    return past_epochs(path), parts["best"]


def write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    """Write history.csv with a line for each epoch."""
    with csv_file(path) as writer:
        writer.write_records([past.to_json() for past in history])


@contextmanager
def few_threads(model: nn.Module) -> Iterator[None]:
    """Use one thread for a small model. More threads do not make it faster, and on a busy machine
    they wait for each other. A mean-pool run took 11 s with one thread and 137 s with two, on two
    cores with other work."""
    before = torch.get_num_threads()
    weights = sum(parameter.numel() for parameter in model.parameters())
    torch.set_num_threads(1 if weights < SMALL_MODEL_WEIGHTS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
