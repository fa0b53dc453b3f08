"""The command `predict`: a trained run's scores for every video of a store."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.recipe import differences, option
from reelbank.data.scores import Scores
from reelbank.data.shelf import find_store, printable
from reelbank.data.store import Store
from reelbank.heads.fit import outputs
from reelbank.heads.leak import seen_videos
from reelbank.heads.plan import check_joined
from reelbank.heads.runs import find_runs, load_run, written_to
from reelbank.heads.scoring import Scoring
from reelbank.heads.sequences import Rule, tables
from reelbank.heads.stores import store_names
from reelbank.heads.streaming import open_features, views_of
from reelbank.heads.train import cut_out, labels_of, readings_of


@dataclass(frozen=True)
class PredictOptions:
    """Options of the command `predict`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    run: str = option("", "the run: its name, or the start of its hash")
    store: str = option(
        "", "the feature store: the start of its hash, or its file (a+b for mid fusion); not needed when only one is there"
    )
    extractor: str = option("", "file.py:function of a network of your own, where the run's head begins with the rest of one")
    top: int = option(3, "classes printed for each video")
    to: str = option("", "npz file for all scores; without it they are only printed")


def predict(options: PredictOptions) -> int:
    """Print each video's likeliest classes with their probabilities; returns the exit code. Raises InputError when the run
    or store is not there, the store was made in another way than the one the run was trained on, or TO cannot be written."""
    if not options.run:
        raise InputError("RUN= is not given; 'reelbank runs' lists them")
    (run,) = find_runs(options.bank, [options.run])
    paths = [find_store(options.bank, wanted) for wanted in store_names(options.store)]
    table = predicted(run.path, *paths, extractor=options.extractor)
    probabilities = torch.from_numpy(score_tables.probabilities(table))  # (V, C)
    values, classes = probabilities.topk(min(max(options.top, 1), len(table.classes)))  # (V, top) each
    for name, likely, numbers in zip(table.video_ids, values.tolist(), classes.tolist(), strict=True):
        found = (f"{table.classes[number]} {100 * value:.1f} %" for value, number in zip(likely, numbers, strict=True))
        print(printable(f"{name}: {', '.join(found)}"))
    seen = 0
    for path in paths:
        with Store.open(path) as store:
            seen = max(seen, len(seen_videos(store) & set(table.video_ids)))
    if seen:
        print(f"note: {seen} of the {len(table.video_ids)} videos were in what the backbone was trained on")
    if options.to:
        with written_to("TO", options.to):
            score_tables.save(table, options.to)
        print(f"scores of {len(table.video_ids)} videos: {options.to}")
    return 0


def predicted(run_path: str | Path, *store_paths: str | Path, extractor: str = "") -> Scores:
    """The run's scores for all videos of the store, or of the several that the run joins; labels where the first store has some
    that the run knows, else -1 (of several labels: 0)."""
    model, recipe = load_run(run_path, extractor)
    name, trained_on = Path(run_path).name, json.loads((Path(run_path) / "recipe.json").read_text())["store_recipes"]
    if len(store_paths) != len(trained_on):
        raise InputError(f"STORE: {name} was trained on {len(trained_on)} stores together; name as many, STORE=a+b")
    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(path)) for path in store_paths]
        for store, wanted in zip(stores, trained_on, strict=True):
            if lines := differences(store.recipe, wanted):
                raise InputError(f"{store.path}: made in another way than the store of {name}: {'; '.join(lines)}")
        if len(stores) > 1:
            check_joined(stores)
        store = stores[0]
        others = [set(other.video_ids) for other in stores[1:]]
        ids = tuple(one for one in store.video_ids if all(one in other for other in others))
        if not ids:
            raise InputError(f"{store.path}: holds no video")
        rule, scoring = Rule(**recipe["rows"]), Scoring(**recipe["scoring"])
        _, table = tables((views_of(store, one, False) for one in ids), rule, ids, cut_out(store))
        data = open_features(stores, ids, readings_of(stores, recipe), crops=bool(rule.crops))
        logits, _ = outputs(model, data, table, scoring, torch.arange(len(ids)))
        text_of = dict(zip(store.video_ids, store.labels, strict=True))
        labels = labels_of([text_of[one] for one in ids], recipe["classes"], store.dataset)
        about = {"dataset": store.dataset["name"], "store": store.identity, "name": name}
    about |= {"stream": recipe["stream"], "extractor": recipe["extractor"], "head": recipe["head"], "seed": recipe["seed"]}
    return Scores(ids, labels, tuple(recipe["classes"]), logits.numpy(), about)
