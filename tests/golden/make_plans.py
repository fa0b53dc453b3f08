"""Writes `plans.json`: the names of the stores and runs that a commit's own code gives the options in
`cases.py`, and the recipes of the stores.

    git worktree add /somewhere/old ed07f68
    cd tests/golden && PYTHONPATH=/somewhere/old python make_plans.py ed07f68/plans.json

Written for the modules of that commit.
"""

import dataclasses
import json
import shlex
import sys
import tempfile
from pathlib import Path

from cases import EXTRACT, STORES, TRAIN, fill_store

HERE = Path(__file__).parent


def main(target: Path) -> None:
    from reelbank.data.datasets import load_dataset
    from reelbank.data.errors import InputError
    from reelbank.data.recipe import canonical, parse
    from reelbank.data.store import Store, StoreWriter
    from reelbank.extract.options import ExtractOptions, with_defaults
    from reelbank.extract.run import _plans, with_image_fps
    from reelbank.extract.streams import chosen_device, flow_of_weights
    from reelbank.heads.options import TrainOptions
    from reelbank.heads.plan import plan_runs

    ucf101 = load_dataset("ucf101", str(HERE / "86d6a64" / "clips"))
    extract, recipes = [], []
    for name, text in EXTRACT:
        words = shlex.split(text.format(tests=HERE.parent))
        kind = "folder" if name.startswith("folder") else name
        options = parse(ExtractOptions, [f"DATASET={kind}", "DEVICE=cpu", *words], "extract")
        dataset = dataclasses.replace(ucf101, name=name)
        try:
            options = with_image_fps(with_defaults(flow_of_weights(options)), dataset)
            plans, _, _ = _plans(options, dataset, chosen_device("cpu"))
        except InputError as error:
            print("REFUSED", name, text, error)
            recipes.append([])
            continue
        stores = [
            (path.name, canonical(one))
            for plan in plans
            for path, one in zip(plan.paths, plan.recipes, strict=True)
        ]
        print(name, text, [store for store, _ in stores])
        extract.append({"dataset": name, "options": text, "stores": dict(stores)})
        recipes.append([json.loads(recipe) for _, recipe in stores])
    train = []
    with tempfile.TemporaryDirectory() as bank:
        for name, (case, number, shape) in STORES.items():
            recipe = recipes[case][number]
            about = {
                "name": "ucf101",
                "classes": list(ucf101.classes),
                "splits": list(ucf101.splits),
                "coarse": {},
            }
            videos = [
                {"id": v.id, "label": v.label, "group": v.group, "parts": list(v.parts)}
                for v in ucf101.videos
            ]
            with StoreWriter(Path(bank, f"{name}.h5"), recipe, about) as writer:
                fill_store(writer, videos, recipe, shape)
        for names, text in TRAIN:
            options = parse(TrainOptions, [f"BANK={bank}", *shlex.split(text)], "train")
            stores = [Store.open(Path(bank, f"{name}.h5")) for name in names.split()]
            try:
                plans = plan_runs(stores, options)
            except InputError as error:
                print("REFUSED", names, text, error)
                continue
            train.append(
                {"stores": names, "options": text, "runs": [plan.path.name for plan in plans]}
            )
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"extract": extract, "train": train}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
