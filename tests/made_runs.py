"""Run folders in the form that training writes, drawn from a seed, for the tests of stage three."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.identity import signature
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores

CLASSES = ("apply <b>paint</b>", "bow & arrow", "clap", "dive", "eat", "fly")
COARSE = {
    "with object": ["apply <b>paint</b>", "bow & arrow", "eat"],
    "body": ["clap", "dive", "fly"],
}


def made_scores(
    videos: int,
    skill: float,
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
    noise: int = 0,
    about: dict[str, Any] | None = None,
    several: bool = False,
) -> Scores:
    """Scores whose labels depend on `seed` alone and whose errors on `noise` too; higher `skill`,
    fewer errors. `several`: of any number of labels a video."""
    labels = np.random.default_rng(seed).integers(len(classes), size=videos)
    logits = np.random.default_rng((seed, noise)).normal(size=(videos, len(classes)))
    logits[np.arange(videos), labels] += skill
    ids = tuple(
        f"{classes[label]}/v_s{seed:03}_g{i % 7:02}_c{i:04}" for i, label in enumerate(labels)
    )
    if several:
        labels = (np.random.default_rng(seed).random(logits.shape) < 0.3).astype(np.uint8)
        logits += skill * (labels - 0.5)
    return Scores(
        ids,
        labels,
        classes,
        logits,
        {"coarse": COARSE if classes is CLASSES else {}} | (about or {}),
    )


def made_run(
    bank: Path,
    head: str = "gru",
    stream: str = "rgb",
    split: str = "1",
    seed: int = 0,
    skill: float = 2.0,
    videos: int = 60,
    classes: tuple[str, ...] = CLASSES,
    several: bool = False,
    **recipe: Any,
) -> Path:
    """A finished run in the bank; recipe: more of the recipe, so that two runs can differ in it."""
    complete = {
        "kind": "run",
        "store": signature({"stream": stream}),
        "dataset": "made",
        "stream": stream,
        "extractor": "net",
    }
    complete |= {
        "coverage": signature({"split": split}),
        "classes": list(classes),
        "split": split,
        "seed": seed,
        "head": head,
    }
    complete |= {"head_options": {"layers": 2}, "training": {"lr": 0.001, "seed": seed}} | recipe
    folder = bank / "runs" / f"{head}-{signature(complete)[:12]}"
    folder.mkdir(parents=True)
    document = {
        "signature": signature(complete),
        "recipe": complete,
        "store_path": str(bank / "stores" / "gone.h5"),
    }
    environment = {"commit": "c0ffee" * 6, "torch": "2.6", "device": "x86_64"}
    (folder / "recipe.json").write_text(json.dumps(document | {"environment": environment}))
    about = {
        key: complete[key]
        for key in ("dataset", "stream", "extractor", "store", "split", "seed", "head")
    }
    noise = int(signature(complete)[:8], 16)
    for number, part in enumerate(("train", "validation", "test")):
        facts = about | {"part": part, "signature": signature(complete), "name": folder.name}
        table = made_scores(videos, skill, classes, int(split) * 10 + number, noise, facts, several)
        score_tables.save(table, folder / f"scores-{part}.npz")
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "epoch",
                "train_loss",
                "train_accuracy",
                "validation_loss",
                "validation_accuracy",
                "lr",
                "seconds",
            ]
        )
        for epoch in range(1, 9):
            decay = 0.7**epoch + 0.01 * seed
            writer.writerow(
                [epoch, 1.8 * decay, 1 - decay, 2 * decay + 0.05 * epoch, 0.9 - decay, 0.001, 0.5]
            )
    test = {"map": 0.5, "videos": videos} if several else {"top1": 0.5}
    metrics = {
        "test": test,
        "best_epoch": 6,
        "epochs": 8,
        "training_seconds": 4.0,
        "notes": [],
        "seconds": 4.5,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
