"""The measured time of a training step: what is said where memory is too small for it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from reelbank.data.errors import InputError
from reelbank.fusion.reproduce import batch_times
from reelbank.fusion.reproduce.plan import Figure, figures_of
from reelbank.fusion.reproduce.recipe.reading import read_paper

NETWORK = "timm:mobilenetv3_small_050.lamb_in1k"
RECIPE = f"""
[train]
head = "gru"
[stores.s]
stream = "rgb"
[models.a]
on = "s"
[tables.one]
title = "T"
source = "Table 1"
rows = [["GRU", "x", "ucf101", "1", "50.0", "accuracy_percent", "a"]]
[figures.seconds]
title = "Time"
source = "Fig. 6"
dataset = "ucf101"
split = "1"
draw = "batch_times"
models = ["a"]
batch = 2
batches = 3
networks = {{ "{NETWORK}" = 40 }}
"""


def refused(figure: Figure, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The message of a computer without free memory."""
    monkeypatch.setattr(batch_times, "available_memory", lambda: SimpleNamespace(value=0))
    dataset = SimpleNamespace(name="made", classes=("run",), splits=("1",), coarse={})
    dataset.videos, dataset.multilabel = [SimpleNamespace(label="run")], False
    work = SimpleNamespace(options=SimpleNamespace(device="cpu"), dataset=dataset)
    with pytest.raises(InputError, match="needs about .* of memory") as caught:
        batch_times.measured_times(work, figure, folder)
    return str(caught.value)


def test_the_change_that_is_suggested_for_a_smaller_batch_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a network whose name contains a dot."""
    path = tmp_path / "made.toml"
    path.write_text(RECIPE)
    (figure,) = figures_of(read_paper(str(path)))
    without_models = Figure(**{**vars(figure), "models": ()})
    said = refused(without_models, tmp_path, monkeypatch)
    change = f'figures.seconds.networks."{NETWORK}"=1'
    assert said.endswith(f"use a GPU, or a smaller batch, such as SET='{change}'")
    (smaller,) = figures_of(read_paper(str(path), f"train.epochs=2 {change}"))
    assert smaller.networks == {NETWORK: 1}
    # no batch is smaller than 1
    smallest = Figure(**{**vars(smaller), "models": ()})
    said = refused(smallest, tmp_path, monkeypatch)
    assert said.endswith("use a GPU, or a computer with more memory") and "SET" not in said
