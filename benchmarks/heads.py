"""How fast heads train, against named peers: one training step (forward, cross-entropy, backward, RMSprop) on 32 x 25 x 1024.

    python benchmarks/heads.py [rounds]

On the CPU with as many threads as it has cores. The steps of all are interleaved in one run, one warm-up round is not counted.
A ratio is the peer's time through ours, round by round: above 1 ours is the faster. That the peers compute what they should is
looked at first. With a CUDA GPU, also how long an epoch of UCF-101's size takes. The package sru is not among Reelbank's own:
`pip install sru ninja` (it compiles itself with g++) to have it compared.
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

from reelbank.data.machine import cores
from reelbank.heads import HEADS
from reelbank.heads.batches import loaded
from reelbank.heads.sequences import Rule, tables

BATCH, STEPS, FEATURES, CLASSES = 32, 25, 1024, 101
OPTIONS: dict[str, dict[str, Any]] = {
    "sru": {"layers": 3},
    "reslstm": {"layers": 2},
    "bigru": {"layers": 2, "hidden": FEATURES // 2},
}
LOOP_LIMIT, PACKAGE_LIMIT, LSTM_LIMIT = 1.8, 1.0, 0.9  # least ratios
EPOCH = (9537, 25, 2048)  # UCF-101, split 1
EPOCH_HEADS = ("meanpool", "tsn", "reslstm", "lstm", "gru", "bilstm", "bigru", "sru")


class LoopSRU(nn.Module):
    """The head `sru` with the same weights, its products and everything else step after step."""

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
                candidate, forget, reset, *projected = nn.functional.linear(x_t, layer.weight).split(hidden, -1)
                f, r = torch.sigmoid(forget + forget_bias), torch.sigmoid(reset + reset_bias)
                c = f * c + (1 - f) * candidate
                steps[t] = r * torch.tanh(c) + (1 - r) * (projected[0] if projected else x_t)
        top = torch.tanh(torch.stack(steps, 1))  # (N, T, E)
        valid = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        embedding = torch.where(valid, top, 0.0).sum(1) / lengths[:, None]
        return self.head.classifier(embedding), embedding


class PackageSRU(nn.Module):
    """The package's cell with the same weights and, as it is built here, the same equations. Of its two ways on the CPU the one
    that has a gradient: products at once, the rest step after step (its compiled operator is for inference)."""

    def __init__(self, package: Any, head: nn.Module) -> None:
        super().__init__()
        sizes = {"input_size": FEATURES, "hidden_size": FEATURES, "num_layers": len(head.layers)}
        self.rnn = package.SRU(**sizes, dropout=0.0, use_tanh=True, rescale=False, v1=True)
        self.classifier = nn.Linear(FEATURES, CLASSES)
        self.classifier.load_state_dict(head.classifier.state_dict())
        with torch.no_grad():
            for cell, layer in zip(self.rnn.rnn_lst, head.layers, strict=True):
                by_unit = layer.weight.view(3, FEATURES, FEATURES).permute(2, 1, 0)  # (3, E, D) -> (D, E, 3)
                cell.weight.copy_(by_unit.reshape(FEATURES, -1))
                cell.bias.copy_(layer.bias)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.rnn(x.transpose(0, 1))  # (N, T, D) -> (T, N, E)
        embedding = torch.tanh(outputs).mean(0)
        return self.classifier(embedding), embedding


class TwoLSTMs(nn.Module):
    """Two nn.LSTM one after the other, with the weights of a `reslstm` without residuals, and its classifier."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.first, self.second = head.layers
        self.classifier = head.classifier

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.second(self.first(x.transpose(0, 1))[0])
        return self.classifier(outputs[-1]), outputs[-1]


class TwoGRUs(nn.Module):
    """nn.GRU, two layers both ways, and a classifier on the top layer's last states."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, FEATURES // 2, 2, bidirectional=True)
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedding = torch.cat(self.rnn(x.transpose(0, 1))[1][-2:].unbind(), 1)
        return self.classifier(embedding), embedding


@dataclass(frozen=True)
class Comparison:
    """What `ours` is laid beside; names of cases. at_least: the least ratio that is right."""

    ours: str
    peer: str
    at_least: float = 0.0


def sru_package() -> Any:
    """The package, or None after a line that says why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its CUDA kernels, which nothing here uses
            import sru
        warnings.filterwarnings("ignore", module="sru")  # that it is slow on the CPU
    except (ImportError, OSError, RuntimeError) as error:  # not there; or its extension did not compile or load
        print(f"the package sru is not compared: {type(error).__name__}: {str(error).splitlines()[0]}")
        return None
    return sru


def heads_and_peers() -> tuple[dict[str, nn.Module], list[Comparison]]:
    """Every head and peer by name, and which are laid side by side. Ends the program when two should compute the same and do
    not."""
    torch.manual_seed(0)
    made = {name: HEADS[name](FEATURES, CLASSES, **options) for name, options in OPTIONS.items()}
    plain = HEADS["reslstm"](FEATURES, CLASSES, layers=2, residual=False)
    x, lengths = torch.randn(BATCH, STEPS, FEATURES), torch.full((BATCH,), STEPS)

    def check(name: str, peer: nn.Module, ours: nn.Module) -> nn.Module:
        with torch.no_grad():
            if (peer(x, lengths)[0] - ours(x, lengths)[0]).abs().max() > 1e-5:
                raise SystemExit(f"{name}: computes something else than what it is compared with")
        return peer

    def copy_of(head: nn.Module, name: str) -> nn.Module:  # one step of the one must not move the other's weights
        copied = HEADS[name](FEATURES, CLASSES, **OPTIONS[name])
        copied.load_state_dict(head.state_dict())
        return copied

    made["sru, loop over steps"] = check("loop", LoopSRU(copy_of(made["sru"], "sru")), made["sru"])
    comparisons = [Comparison("sru", "sru, loop over steps", LOOP_LIMIT)]
    if package := sru_package():
        made["sru, the package"] = check("package", PackageSRU(package, made["sru"]), made["sru"])
        comparisons.append(Comparison("sru", "sru, the package", PACKAGE_LIMIT))
    made["two nn.LSTM"] = check("two nn.LSTM", TwoLSTMs(plain), plain)
    comparisons.append(Comparison("reslstm", "two nn.LSTM", LSTM_LIMIT))
    made["nn.GRU both ways"] = TwoGRUs()
    comparisons.append(Comparison("bigru", "nn.GRU both ways"))
    return made, comparisons


def training_step(head: nn.Module) -> Callable[[Tensor, Tensor, Tensor], None]:
    """x (N, T, D), lengths (N,), labels (N,) -> one step of `head`."""
    optimiser = torch.optim.RMSprop(head.parameters(), lr=1e-4)

    def step(x: Tensor, lengths: Tensor, labels: Tensor) -> None:
        logits, _ = head(x, lengths)
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimiser.step()

    return step


def interleaved(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each case in each round, (rounds,); all in turn, after one round that is not counted."""
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
    """Print times and ratios; whether every ratio's median is at least what it should be."""
    for name, taken in seconds.items():
        low, middle, high = quartiles(taken)
        print(f"{name:24} {middle * 1e3:7.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})")
    held = True
    for one in comparisons:
        low, middle, high = quartiles(seconds[one.peer] / seconds[one.ours])
        wanted = f"at least {one.at_least}: {'yes' if middle >= one.at_least else 'NO'}" if one.at_least else "no claim"
        print(f"{one.ours} against {one.peer}: {middle:.2f} x ({low:.2f} to {high:.2f}), {wanted}")
        held &= middle >= one.at_least
    return held


def steps_on_cpu(rounds: int) -> bool:
    """Training steps of heads and peers; whether the limits hold."""
    torch.set_num_threads(cores().value)
    made, comparisons = heads_and_peers()
    batch = (
        torch.randn(BATCH, STEPS, FEATURES),
        torch.full((BATCH,), STEPS),
        torch.randint(CLASSES, (BATCH,)),
    )
    steps = {name: training_step(head) for name, head in made.items()}
    print(f"a step on {BATCH} x {STEPS} x {FEATURES}, CPU, {torch.get_num_threads()} threads, {rounds} rounds")
    return compare(interleaved({name: lambda step=step: step(*batch) for name, step in steps.items()}, rounds), comparisons)


def epochs_on_gpu(rounds: int) -> None:
    """Seconds of a training epoch of every head on vectors, features in the GPU's memory as in training."""
    if not torch.cuda.is_available():
        print("no CUDA GPU: epochs are not timed")
        return
    device = torch.device("cuda")
    videos, rows, features = EPOCH
    values = np.random.default_rng(0).random((videos * rows, features), np.float32).astype(np.float16)
    names = tuple(map(str, range(videos)))
    data = loaded(names, values, np.arange(videos + 1) * rows).to(device)
    table = tables([np.zeros(rows, np.uint8)] * videos, Rule(), names)[0].to(device)
    labels = torch.randint(CLASSES, (videos,), device=device)

    def epoch(step: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        groups = torch.randperm(videos, device=device).split(BATCH)
        for group, (x, lengths) in zip(groups, data.batches(table, groups), strict=True):
            step(x, lengths, labels[group])
        torch.cuda.synchronize()

    steps = {name: training_step(HEADS[name](features, CLASSES).to(device)) for name in EPOCH_HEADS}
    print(f"an epoch of {videos} x {rows} x {features} on {torch.cuda.get_device_name()}, batches of {BATCH}, {rounds} rounds")
    compare(interleaved({name: lambda step=step: epoch(step) for name, step in steps.items()}, rounds), [])


def main(rounds: int = 15) -> int:
    """Print the tables; 1 when a ratio is less than its limit."""
    held = steps_on_cpu(rounds)
    epochs_on_gpu(3)
    return int(not held)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
