"""Compares the training speed of heads with that of other implementations.

    python benchmarks/heads.py [ROUNDS]

Measures one training step (forward, cross-entropy, backward, RMSprop) on 32 x 25 x 1024 features, on
the CPU with one thread per core. All cases take turns in one process, and a first round is not
counted. A ratio is the other implementation's time divided by ours, so above 1 ours is faster. Where
both should compute the same, their outputs are compared first. On a CUDA GPU, an epoch of the size of UCF-101 is also measured.

The package sru is not a dependency of Reelbank. To include it, run `pip install sru ninja`; it is
compiled with g++.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelbank.data.system.machine import cores
from reelbank.heads.models.registry import head_spec
from reelbank.heads.recipe import Rule
from reelbank.heads.training.batches import loaded
from reelbank.heads.training.sequences import tables

BATCH, STEPS, FEATURES, CLASSES = 32, 25, 1024, 101
OPTIONS: dict[str, dict[str, Any]] = {
    "sru": {"layers": 3},
    "reslstm": {"layers": 2},
    "bigru": {"layers": 2, "hidden": FEATURES // 2},
}
LOOP_LIMIT, PACKAGE_LIMIT, LSTM_LIMIT = 1.8, 1.0, 0.9  # smallest acceptable ratios
EPOCH = (9537, 25, 2048)  # UCF-101, split 1
EPOCH_HEADS = ("meanpool", "tsn", "reslstm", "lstm", "gru", "bilstm", "bigru", "sru")


class LoopSRU(nn.Module):
    """The head `sru` with the same weights, but with matrix products computed step by step."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        steps = list(x.unbind(1))  # T times (N, D)
        for layer in self.head.layers:
            hidden = len(layer.bias) // 2
            forget_bias, reset_bias = layer.bias.split(hidden)
            c = torch.zeros(len(x), hidden)
            for t, x_t in enumerate(steps):
                candidate, forget, reset, *projected = nn.functional.linear(
                    x_t, layer.weight
                ).split(hidden, -1)
                f, r = torch.sigmoid(forget + forget_bias), torch.sigmoid(reset + reset_bias)
                c = f * c + (1 - f) * candidate
                steps[t] = r * torch.tanh(c) + (1 - r) * (projected[0] if projected else x_t)
        top = torch.tanh(torch.stack(steps, 1))  # (N, T, E)
        valid = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        embedding = torch.where(valid, top, 0.0).sum(1) / lengths[:, None]
        return self.head.classifier(embedding), embedding


class PackageSRU(nn.Module):
    """The package's cell with the same weights and, with these arguments, the same equations.

    On the CPU, the package has two implementations. This is the one with a gradient, which computes
    matrix products at once and the rest step by step. The compiled operator is only for inference.
    """

    def __init__(self, package: Any, head: nn.Module) -> None:
        super().__init__()
        sizes = {"input_size": FEATURES, "hidden_size": FEATURES, "num_layers": len(head.layers)}
        self.rnn = package.SRU(**sizes, dropout=0.0, use_tanh=True, rescale=False, v1=True)
        self.classifier = nn.Linear(FEATURES, CLASSES)
        self.classifier.load_state_dict(head.classifier.state_dict())
        with torch.no_grad():
            for cell, layer in zip(self.rnn.rnn_lst, head.layers, strict=True):
                by_unit = layer.weight.view(3, FEATURES, FEATURES).permute(
                    2, 1, 0
                )  # (3, E, D) -> (D, E, 3)
                cell.weight.copy_(by_unit.reshape(FEATURES, -1))
                cell.bias.copy_(layer.bias)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.rnn(x.transpose(0, 1))  # (N, T, D) -> (T, N, E)
        embedding = torch.tanh(outputs).mean(0)
        return self.classifier(embedding), embedding


class TwoLSTMs(nn.Module):
    """Two nn.LSTM in sequence, with the weights and the classifier of a `reslstm` without residuals."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.first, self.second = head.layers
        self.classifier = head.classifier

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.second(self.first(x.transpose(0, 1))[0])
        return self.classifier(outputs[-1]), outputs[-1]


class TwoGRUs(nn.Module):
    """A bidirectional nn.GRU of two layers, and a classifier on the last states of the top layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, FEATURES // 2, 2, bidirectional=True)
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedding = torch.cat(self.rnn(x.transpose(0, 1))[1][-2:].unbind(), 1)
        return self.classifier(embedding), embedding


@dataclass(frozen=True)
class Comparison:
    """Names of two cases to compare. at_least: smallest acceptable ratio."""

    ours: str
    peer: str
    at_least: float = 0.0


def sru_package() -> Any:
    """The package sru, or None if it cannot be used; a line is printed that says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its CUDA kernels, which are not used here
            import sru
        warnings.filterwarnings("ignore", module="sru")  # about its speed on the CPU
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # not installed, or its extension cannot be compiled or loaded
        print(
            f"the package sru is not compared: {type(error).__name__}: {str(error).splitlines()[0]}"
        )
        return None
    return sru


def heads_and_peers() -> tuple[dict[str, nn.Module], list[Comparison]]:
    """All heads and peers by name, and the pairs to compare. Ends the program if two that should
    compute the same do not."""
    torch.manual_seed(0)
    made = {
        name: head_spec(name).build(FEATURES, CLASSES, **options)
        for name, options in OPTIONS.items()
    }
    plain = head_spec("reslstm").build(FEATURES, CLASSES, layers=2, residual=False)
    x, lengths = torch.randn(BATCH, STEPS, FEATURES), torch.full((BATCH,), STEPS)

    def check(name: str, peer: nn.Module, ours: nn.Module) -> nn.Module:
        with torch.no_grad():
            if (peer(x, lengths)[0] - ours(x, lengths)[0]).abs().max() > 1e-5:
                raise SystemExit(
                    f"{name}: its outputs differ from those of the head that it is compared with"
                )
        return peer

    def copy_of(
        head: nn.Module, name: str
    ) -> nn.Module:  # a separate copy, because training steps change the weights
        copied = head_spec(name).build(FEATURES, CLASSES, **OPTIONS[name])
        copied.load_state_dict(head.state_dict())
        return copied

    made["sru, loop over steps"] = check("loop", LoopSRU(copy_of(made["sru"], "sru")), made["sru"])
    comparisons = [Comparison("sru", "sru, loop over steps", LOOP_LIMIT)]
    if package := sru_package():
        made["sru, the package"] = check("package", PackageSRU(package, made["sru"]), made["sru"])
        comparisons.append(Comparison("sru", "sru, the package", PACKAGE_LIMIT))
    made["two nn.LSTM"] = check("two nn.LSTM", TwoLSTMs(plain), plain)
    comparisons.append(Comparison("reslstm", "two nn.LSTM", LSTM_LIMIT))
    made["bidirectional nn.GRU"] = TwoGRUs()
    comparisons.append(Comparison("bigru", "bidirectional nn.GRU"))
    return made, comparisons


def training_step(head: nn.Module) -> Callable[[Tensor, Tensor, Tensor], None]:
    """A function that trains `head` for one step on x (N, T, D), lengths (N,) and labels (N,)."""
    optimiser = torch.optim.RMSprop(head.parameters(), lr=1e-4)

    def step(x: Tensor, lengths: Tensor, labels: Tensor) -> None:
        logits, _ = head(x, lengths)
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimiser.step()

    return step


def interleaved(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each case in each round, (rounds,). The cases take turns, and a first round is not
    counted."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = np.percentile(list(values), [25, 50, 75])
    return float(low), float(middle), float(high)


def compare(seconds: dict[str, np.ndarray], comparisons: list[Comparison]) -> bool:
    """Print times and ratios. Returns whether the median of every ratio is at least its limit."""
    for name, taken in seconds.items():
        low, middle, high = quartiles(taken)
        print(f"{name:24} {middle * 1e3:7.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})")
    held = True
    for one in comparisons:
        low, middle, high = quartiles(seconds[one.peer] / seconds[one.ours])
        wanted = (
            f"at least {one.at_least}: {'yes' if middle >= one.at_least else 'NO'}"
            if one.at_least
            else "no limit"
        )
        print(
            f"{one.ours} compared with {one.peer}: {middle:.2f} x ({low:.2f} to {high:.2f}), {wanted}"
        )
        held &= middle >= one.at_least
    return held


def steps_on_cpu(rounds: int) -> bool:
    """Measure training steps of heads and peers. Returns whether all limits are met."""
    torch.set_num_threads(cores().value)
    made, comparisons = heads_and_peers()
    batch = (
        torch.randn(BATCH, STEPS, FEATURES),
        torch.full((BATCH,), STEPS),
        torch.randint(CLASSES, (BATCH,)),
    )
    steps = {name: training_step(head) for name, head in made.items()}
    print(
        f"a step on {BATCH} x {STEPS} x {FEATURES}, CPU, {torch.get_num_threads()} threads, {rounds} rounds"
    )
    return compare(
        interleaved({name: lambda step=step: step(*batch) for name, step in steps.items()}, rounds),
        comparisons,
    )


def epochs_on_gpu(rounds: int) -> None:
    """Measure a training epoch of every head on vectors, with the features in the GPU's memory."""
    if not torch.cuda.is_available():
        print("epochs are not measured, because there is no CUDA GPU")
        return
    device = torch.device("cuda")
    videos, rows, features = EPOCH
    values = (
        np.random.default_rng(0).random((videos * rows, features), np.float32).astype(np.float16)
    )
    names = tuple(map(str, range(videos)))
    data = loaded(names, values, np.arange(videos + 1) * rows).to(device)
    table = tables([np.zeros(rows, np.uint8)] * videos, Rule(), names)[0].to(device)
    labels = torch.randint(CLASSES, (videos,), device=device)

    def epoch(step: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        groups = torch.randperm(videos, device=device).split(BATCH)
        for group, (x, lengths) in zip(groups, data.batches(table, groups), strict=True):
            step(x, lengths, labels[group])
        torch.cuda.synchronize()

    steps = {
        name: training_step(head_spec(name).build(features, CLASSES).to(device))
        for name in EPOCH_HEADS
    }
    print(
        f"an epoch of {videos} x {rows} x {features} on {torch.cuda.get_device_name()}, batches of {BATCH}, {rounds} rounds"
    )
    compare(
        interleaved({name: lambda step=step: epoch(step) for name, step in steps.items()}, rounds),
        [],
    )


def main(rounds: int = 15) -> int:
    """Print the tables. Returns 1 if a ratio is below its limit, else 0."""
    held = steps_on_cpu(rounds)
    epochs_on_gpu(3)
    return int(not held)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
