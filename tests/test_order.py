"""Tasks that only some heads can solve: which of two events came first, and whether two places of a
frame show the same thing."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reelbank.heads.models.registry import head_spec

torch.set_num_threads(1)  # the tensors are tiny
D, T = 6, 10
RECURRENT = ("lstm", "gru", "bilstm", "bigru", "sru", "reslstm")


def events(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Event A at one step and event B at another, in noise; the label says which is first. Equal
    when averaged over time."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(0, 0.3, (count, T, D)), rng.integers(0, 2, count)
    for row, label in zip(x, labels, strict=True):
        first, second = np.sort(rng.choice(T, 2, replace=False))
        row[first, label] += 2
        row[second, 1 - label] += 2
    return torch.from_numpy(x).float(), torch.from_numpy(labels)


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Maps (N, 2, D, 3, 3), noise but at two places, which hold the same of two things, or
    different ones: how much of each there is does not tell, summed over a pair of frames."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(0, 0.3, (count, 2, D, 9)), rng.integers(0, 2, count)
    for row, label in zip(x, labels, strict=True):
        for t, (one, other) in enumerate([(0, 0), (1, 1)] if label else [(0, 1), (1, 0)]):
            here, there = rng.choice(9, 2, replace=False)
            row[t, one, here] += 3
            row[t, other, there] += 3
    return torch.from_numpy(x).float().unflatten(3, (3, 3)), torch.from_numpy(labels)


def learned(
    head: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], steps: int
) -> float:
    """Accuracy on `test` after so many steps of Adam."""
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for numbers in torch.randint(len(train[0]), (steps, 64)):
        x = train[0][numbers]
        loss = nn.functional.cross_entropy(
            head(x, torch.full((len(x),), x.shape[1]))[0], train[1][numbers]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    head.eval()
    with torch.no_grad():
        logits, _ = head(test[0], torch.full((len(test[0]),), test[0].shape[1]))
    return float((logits.argmax(1) == test[1]).float().mean())


@pytest.mark.parametrize("name", [*RECURRENT, "meanpool", "tsn"])
def test_recurrent_heads_tell_the_order_of_events_and_means_do_not(name: str) -> None:
    torch.manual_seed(0)
    options = {"layers": 2, "hidden": 24} if name in RECURRENT else {}
    accuracy = learned(head_spec(name).build(D, 2, **options), events(400, 0), events(400, 1), 150)
    assert accuracy >= 0.9 if name in RECURRENT else 0.4 < accuracy < 0.6


def test_relational_lstm_tells_pairs_alike_or_different_and_the_mean_does_not() -> None:
    torch.manual_seed(0)
    train, test = pairs(600, 0), pairs(400, 1)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = head_spec("rlstm").build(D, 2, trunk=pool, trunk_dim=D, branches="nonlocal")
    assert learned(head, train, test, 400) >= 0.85
    means = [(x.mean((3, 4)), labels) for x, labels in (train, test)]
    assert 0.4 < learned(head_spec("meanpool").build(D, 2), means[0], means[1], 400) < 0.6
