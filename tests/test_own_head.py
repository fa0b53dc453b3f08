"""A head in the user's own file, from videos to the report, without a change of the package."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import reelbank
from reelbank.data.datasets.toy import write_video
from reelbank.data.errors import InputError
from reelbank.heads.models.registry import HEADS, head_spec
from reelbank.heads.models.spec import HeadSpec
from reelbank.heads.predict import predicted
from reelbank.heads.runs.folder import Run, find_runs

torch.set_num_threads(1)  # the tensors are tiny

NETWORK = """
from torch import nn

def build():
    model = nn.Sequential(nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.add_module("fc", nn.Linear(24, 12))
    model.input_size, model.mean, model.std = (3, 16, 16), (0.4, 0.5, 0.6), (0.5, 0.5, 0.5)
    return model
"""

HEADS_FILE = """
import torch
from torch import nn

from reelbank.heads.models.spec import HeadSpec, TrainingPart


class Spread(nn.Module):
    '''Mean and range of the valid rows, then a linear classifier.'''

    def __init__(self, feature_dim, num_classes, dropout=0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * feature_dim, num_classes)

    def forward(self, x, lengths):
        valid = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        mean = torch.where(valid, x, 0.0).sum(1) / lengths[:, None]
        highest = torch.where(valid, x, -torch.inf).amax(1)
        lowest = torch.where(valid, x, torch.inf).amin(1)
        embedding = torch.cat([mean, highest - lowest], 1)
        return self.classifier(self.dropout(embedding)), embedding


class Centroids(nn.Module):
    '''Classes by the nearest mean of the videos' mean rows; fitted in closed form.'''

    def __init__(self, feature_dim, num_classes):
        super().__init__()
        self.classifier = nn.Linear(feature_dim, num_classes)

    def forward(self, x, lengths):
        valid = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        embedding = torch.where(valid, x, 0.0).sum(1) / lengths[:, None]
        return self.classifier(embedding), embedding


@torch.no_grad()
def fit(head, part: TrainingPart):
    embeddings = part.embed()
    assert sum(len(rows) for rows in part.rows()) == part.row_count
    for number in range(head.classifier.out_features):
        mean = embeddings[part.labels == number].mean(0)
        head.classifier.weight[number] = 2 * mean
        head.classifier.bias[number] = -(mean @ mean)
    return head.classifier(embeddings)


SPREAD = HeadSpec(Spread, options=("dropout",), defaults={"lr": 0.05})
CENTROIDS = HeadSpec(Centroids, fit=fit)
NOT_A_HEAD = Spread


class OneAnswer(Spread):
    def forward(self, x, lengths):
        return super().forward(x, lengths)[0]


class OtherClasses(Spread):
    def forward(self, x, lengths):
        logits, embedding = super().forward(x, lengths)
        return logits[:, :1], embedding


class Unnamed(nn.Module):
    def __init__(self, feature_dim, num_classes):
        super().__init__()
        self.last = nn.Linear(feature_dim, num_classes)


class Fails(Spread):
    def forward(self, x, lengths):
        return x.rows


class NoLengths(Spread):
    def forward(self, x):
        return super().forward(x, None)


NO_LENGTHS = HeadSpec(NoLengths)
ONE_ANSWER, OTHER_CLASSES = HeadSpec(OneAnswer), HeadSpec(OtherClasses)
UNNAMED, FAILS = HeadSpec(Unnamed), HeadSpec(Fails)
OTHER_OPTIONS = HeadSpec(Spread, options=("hidden",))
NOT_A_MODULE = HeadSpec(lambda *sizes: sizes)
NO_LOGITS = HeadSpec(Centroids, fit=lambda head, part: None)
DEFAULT_WITHOUT_EFFECT = HeadSpec(Spread, defaults={"epochs": 3})
DEFAULT_OF_NOTHING = HeadSpec(Spread, defaults={"learning_rate": 0.1})
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with a store of 12 videos of two classes, and the user's file of heads."""
    folder = tmp_path_factory.mktemp("own_head")
    rng = np.random.default_rng(0)
    for label, brightness in (("dark", 40), ("light", 200)):
        (folder / "clips" / label).mkdir(parents=True)
        for group in range(1, 4):
            for clip in range(1, 3):
                frames = rng.integers(0, 40, (6, 24, 32, 3)) + brightness
                name = f"v_{label}_g{group:02}_c{clip:02}.mp4"
                write_video(
                    folder / "clips" / label / name, frames.astype(np.uint8), np.zeros(4096, "f4")
                )
    (folder / "network.py").write_text(NETWORK)
    (folder / "my_heads.py").write_text(HEADS_FILE)
    command(
        "extract",
        folder,
        f"DATASET=folder ROOT={folder}/clips EXTRACTOR={folder}/network.py:build T=3 CROPS=1",
    )
    return folder


def command(name: str, bank: Path, words: str, code: int = 0) -> None:
    device = [] if name in ("evaluate", "fuse", "report", "runs") else ["DEVICE=cpu"]
    assert reelbank.main([name, f"BANK={bank}", *device, *words.split()]) == code


def own(bank: Path, name: str) -> str:
    return f"{bank}/my_heads.py:{name}"


def runs_of(bank: Path, head: str) -> list[Run]:
    return [run for run in find_runs(bank) if run.recipe["head"] == head]


def test_an_own_head_from_videos_to_the_report(
    bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = "EPOCHS=8 BATCH=4 SEED=0,1"
    command("train", bank, f"HEAD={own(bank, 'SPREAD')} {quick} DROPOUT=0.1")
    spread = sorted(runs_of(bank, "my_heads.SPREAD"), key=lambda run: run.recipe["seed"])
    assert len(spread) == 2
    assert spread[0].recipe["training"]["lr"] == 0.05  # the spec's default
    assert spread[0].recipe["head_options"] == {"dropout": 0.1}
    assert spread[0].path.name.startswith("my_heads.SPREAD-")
    assert all(run.metrics.test.top1 == 1.0 for run in spread)

    command("train", bank, f"HEAD={own(bank, 'CENTROIDS')}")
    (centroids,) = runs_of(bank, "my_heads.CENTROIDS")
    assert centroids.metrics.test.top1 == 1.0 and centroids.metrics.epochs == 1

    capsys.readouterr()
    command("evaluate", bank, f"HEAD={own(bank, 'SPREAD')}")
    evaluated = capsys.readouterr().out
    assert "my_heads.SPREAD" in evaluated and "my_heads.CENTROIDS" not in evaluated
    command("runs", bank, f"HEAD={own(bank, 'CENTROIDS')}")
    assert centroids.path.name in capsys.readouterr().out
    command("fuse", bank, f"{spread[0].path.name} {centroids.path.name} SEED=0")

    video = bank / "clips" / "light" / "v_light_g01_c01.mp4"
    own_code = f"EXTRACTOR={bank}/network.py:build"
    heads = f"HEAD={own(bank, 'SPREAD')},{own(bank, 'CENTROIDS')}"
    runs = f"RUN={spread[0].path.name},{centroids.path.name}"
    command("predict", bank, f"{video} {runs} {own_code} {heads} TO={bank}/said.csv")
    said = (bank / "said.csv").read_text().splitlines()
    assert "light" in said[1]
    with pytest.raises(InputError, match="give its path with HEAD=<path of my_heads.py>:SPREAD"):
        reelbank.predict(video, spread[0].path, extractor=f"{bank}/network.py:build")

    command("report", bank, f"OUT={bank}/report.html")
    page = (bank / "report.html").read_text()
    assert "my_heads.SPREAD" in page and "my_heads.CENTROIDS" in page


def test_a_sweep_over_own_and_other_heads_in_two_processes(
    bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = f"{own(bank, 'SPREAD')},meanpool"
    command("sweep", bank, f"HEAD={heads} LR=0.1,0.01 EPOCHS=2 BATCH=4 WORKERS=2")
    shown = capsys.readouterr().out
    assert "4 combinations, 4 runs" in shown
    (table,) = (bank / "sweeps").glob("*.csv")
    assert table.read_text().count("my_heads.py:SPREAD") == 2
    swept = [run.recipe["training"]["lr"] for run in runs_of(bank, "my_heads.SPREAD")]
    assert {0.1, 0.01} <= set(swept)


def test_a_changed_file_is_another_head(bank: Path, tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    path.write_text(HEADS_FILE)
    command("train", bank, f"HEAD={path}:CENTROIDS")
    (run,) = runs_of(bank, "changing.CENTROIDS")
    (store,) = (bank / "stores").glob("*.h5")
    path.write_text(HEADS_FILE + "\n# another version\n")
    with pytest.raises(InputError, match="this file has changed since the run was trained"):
        predicted(run.path, store, head=f"{path}:CENTROIDS")


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (
            "{file}:NOT_A_HEAD",
            r"HEAD=.*:NOT_A_HEAD: the name must refer to a HeadSpec object \(got an object of type type\)",
        ),
        ("{file}:MISSING", "does not define 'MISSING'"),
        ("{folder}/none.py:SPREAD", "does not exist"),
        ("grru", "HEAD=grru: choose from reslstm, lstm, gru.*did you mean gru"),
        ("lstn", "HEAD=lstn: choose from reslstm, lstm, gru.*did you mean lstm"),
        ("{file}:ONE_ANSWER", r"for N = 2 sequences and C = 2 classes it returned \(2, 2\)$"),
        ("{file}:OTHER_CLASSES", r"it returned \(2, 1\) and \(2, 24\)"),
        (
            "{file}:UNNAMED",
            r"last layer is a torch.nn.Linear named `classifier` \(got an object of type Unnamed\)",
        ),
        (
            "{file}:FAILS",
            r":FAILS: forward\(x, lengths\) with x of shape \(2, 2, 12\) raised \w+Error: .* in "
            r"my_heads.py, line \d+$",
        ),
        ("{file}:NO_LENGTHS", r"NO_LENGTHS: forward\(x, lengths\) .* but 3 were given$"),
        (
            "{file}:OTHER_OPTIONS",
            r"build\(feature_dim, num_classes, hidden\) raised TypeError: .*argument 'hidden'",
        ),
        ("{file}:DEFAULT_WITHOUT_EFFECT", "must not set a default for 'epochs'; only lr"),
        ("{file}:NOT_A_MODULE", r"must be a torch.nn.Module .*\(got an object of type tuple\)"),
        ("{file}:NO_LOGITS", r"fit\(\) must return logits .* training sequences \(got NoneType\)"),
        (
            "{file}:DEFAULT_OF_NOTHING",
            "an entry for 'learning_rate', which is not an option of 'reelbank train'",
        ),
    ],
)
def test_heads_that_cannot_be(
    bank: Path, head: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = head.format(file=bank / "my_heads.py", folder=bank)
    command("train", bank, f"HEAD={text}", code=2)
    assert re.search(line, capsys.readouterr().err.strip())


def test_options_of_a_spec_are_a_tuple() -> None:
    with pytest.raises(ValueError, match=r"write \('dropout',\)"):
        HeadSpec(torch.nn.Identity, options=("dropout"))


def test_options_that_an_own_head_does_not_take(
    bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("train", bank, f"HEAD={own(bank, 'SPREAD')} LAYERS=3", code=2)
    assert "LAYERS=3: the head" in capsys.readouterr().err
    command("train", bank, f"HEAD={own(bank, 'CENTROIDS')} LR=0.1", code=2)
    assert "is fitted in closed form" in capsys.readouterr().err


def test_every_head_of_the_registry_is_a_spec() -> None:
    specs = {name: head_spec(name) for name in HEADS}
    assert all(spec.takes_vectors or spec.takes_maps for spec in specs.values())
