"""A trained run's scores, and embeddings, for every video of a store that was made as the run's own."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelbank.data.errors import InputError
from reelbank.data.recipe import differences
from reelbank.data.scores import Scores
from reelbank.data.store import Store
from reelbank.heads.fit import outputs
from reelbank.heads.plan import check_joined
from reelbank.heads.runs import load_run
from reelbank.heads.scoring import Scoring
from reelbank.heads.sequences import Rule, tables
from reelbank.heads.streaming import open_features, views_of
from reelbank.heads.train import cut_out, labels_of, readings_of


def predicted(run_path: str | Path, *store_paths: str | Path, extractor: str = "") -> Scores:
    """The run's scores for all videos of the store, or of the several that the run joins; labels where the first store has some
    that the run knows, else -1 (of several labels: 0). Raises InputError when a store was made in another way than the one
    that the run was trained on."""
    return predicted_and_embedded(run_path, *store_paths, extractor=extractor)[0]


def predicted_and_embedded(
    run_path: str | Path, *store_paths: str | Path, extractor: str = "", of_files: bool = False
) -> tuple[Scores, np.ndarray]:
    """As `predicted`, and the videos' embeddings (V, E) float32. of_files: the stores were made of the same files by one
    program, so that each row belongs to its like whatever time stamps a file has; a video is left out where the stores have
    different numbers of its rows."""
    model, recipe = load_run(run_path, extractor)
    name, trained_on = Path(run_path).name, store_recipes(run_path)
    if len(store_paths) != len(trained_on):
        raise InputError(f"STORE: {name} was trained on {len(trained_on)} stores together; name as many, STORE=a+b")
    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(path)) for path in store_paths]
        for store, wanted in zip(stores, trained_on, strict=True):
            if lines := differences(store.recipe, wanted):
                raise InputError(f"{store.path}: made in another way than the store of {name}: {'; '.join(lines)}")
        if len(stores) > 1 and not of_files:
            check_joined(stores)
        store = stores[0]
        rows = [dict(zip(one.video_ids, one.rows.tolist(), strict=True)) for one in stores]
        ids = tuple(name for name in store.video_ids if all(name in other for other in rows))
        if of_files:
            ids = tuple(name for name in ids if len({other[name] for other in rows}) == 1)
        if not ids:
            raise InputError(f"{store.path}: holds no video that can be scored")
        rule, scoring = Rule(**recipe["rows"]), Scoring(**recipe["scoring"])
        _, table = tables((views_of(store, one, False) for one in ids), rule, ids, cut_out(store))
        data = open_features(stores, ids, readings_of(stores, recipe), crops=bool(rule.crops))
        logits, embeddings = outputs(model, data, table, scoring, torch.arange(len(ids)))
        text_of = dict(zip(store.video_ids, store.labels, strict=True))
        labels = labels_of([text_of[one] for one in ids], recipe["classes"], store.dataset)
        about = {"dataset": store.dataset["name"], "store": store.identity, "name": name}
    about |= {"stream": recipe["stream"], "extractor": recipe["extractor"], "head": recipe["head"], "seed": recipe["seed"]}
    return Scores(ids, labels, tuple(recipe["classes"]), logits.numpy(), about), embeddings.numpy()


def store_recipes(run_path: str | Path) -> list[dict[str, Any]]:
    """The recipes of the stores that a run was trained on, in the order it joins them. Raises InputError where its folder does
    not hold them."""
    recipes = json.loads((Path(run_path) / "recipe.json").read_text()).get("store_recipes")
    if not recipes or not isinstance(recipes, list) or not all(isinstance(one, dict) for one in recipes):
        raise InputError(f"{run_path}: does not say how its features were made (store_recipes); train it again")
    return recipes
