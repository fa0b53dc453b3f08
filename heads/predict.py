"""The command `predict`: a trained run's scores for every video of a store."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.recipe import differences, option
from reelbank.data.scores import Scores
from reelbank.data.shelf import find_store, printable
from reelbank.data.store import Store
from reelbank.heads.fit import outputs
from reelbank.heads.leak import seen_videos
from reelbank.heads.runs import find_runs, load_run, written_to
from reelbank.heads.streaming import open_sequences


@dataclass(frozen=True)
class PredictOptions:
    """Options of the command `predict`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    run: str = option("", "the run: its name, or the start of its hash")
    store: str = option("", "the feature store: the start of its hash, or its file; not needed when there is only one")
    top: int = option(3, "classes printed for each video")
    to: str = option("", "npz file for all scores; without it they are only printed")


def predict(options: PredictOptions) -> int:
    """Print each video's likeliest classes with their probabilities; returns the exit code. Raises InputError when the run
    or store is not there, the store was made in another way than the one the run was trained on, or TO cannot be written."""
    if not options.run:
        raise InputError("RUN= is not given; 'reelbank runs' lists them")
    (run,) = find_runs(options.bank, [options.run])
    path = find_store(options.bank, options.store)
    table = predicted(run.path, path)
    probabilities = torch.from_numpy(score_tables.probabilities(table))  # (V, C)
    values, classes = probabilities.topk(min(max(options.top, 1), len(table.classes)))  # (V, top) each
    for name, likely, numbers in zip(table.video_ids, values.tolist(), classes.tolist(), strict=True):
        found = (f"{table.classes[number]} {100 * value:.1f} %" for value, number in zip(likely, numbers, strict=True))
        print(printable(f"{name}: {', '.join(found)}"))
    with Store.open(path) as store:
        seen = len(seen_videos(store) & set(table.video_ids))
    if seen:
        print(f"note: {seen} of the {len(table.video_ids)} videos were in what the backbone was trained on")
    if options.to:
        with written_to("TO", options.to):
            score_tables.save(table, options.to)
        print(f"scores of {len(table.video_ids)} videos: {options.to}")
    return 0


def predicted(run_path: str | Path, store_path: str | Path) -> Scores:
    """The run's scores for all videos of the store; labels where the store has one that the run knows, else -1."""
    model, recipe = load_run(run_path)
    trained_on: dict[str, Any] = json.loads((Path(run_path) / "recipe.json").read_text())["store_recipe"]
    with Store.open(store_path) as store:
        if lines := differences(store.recipe, trained_on):
            raise InputError(f"{store.path}: made in another way than the store of {Path(run_path).name}: {'; '.join(lines)}")
        if not store.video_ids:
            raise InputError(f"{store.path}: holds no video")
        data = open_sequences(store, tuple(store.video_ids), recipe["steps"])
        logits, _ = outputs(model, data, torch.arange(len(data.ids)))
        number_of = {name: number for number, name in enumerate(recipe["classes"])}
        labels = torch.tensor([number_of.get(label, -1) for label in store.labels]).numpy()
        about = {"dataset": store.dataset["name"], "store": store.identity, "name": Path(run_path).name}
    about |= {"stream": recipe["stream"], "extractor": recipe["extractor"], "head": recipe["head"], "seed": recipe["seed"]}
    return Scores(data.ids, labels, tuple(recipe["classes"]), logits.numpy(), about)
