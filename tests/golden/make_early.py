"""Makes a golden folder of a commit that had a store but no commands yet: a finished store and an unfinished one.

git worktree add /somewhere/old <commit>
cd tests/golden && PYTHONPATH=/somewhere/old python make_early.py <commit>
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.store import StoreWriter

DATASET: dict[str, Any] = {"name": "made", "classes": ["dig", "fly"], "splits": ["1"], "coarse": {}}
RECIPE: dict[str, Any] = {"stream": "rgb", "extractor": "torchvision:resnet18", "weights": "random"}


def early_values(number: int) -> np.ndarray:
    """(2, 4) float16: the rows of video `number`."""
    return np.arange(8, dtype=np.float16).reshape(2, 4) + 8 * number


def early_meta(number: int) -> dict[str, Any]:
    """Video `number`, in the words of the store."""
    label, part = DATASET["classes"][number], ("train", "test")[number]
    return {
        "id": f"{label}/v{number}",
        "label": label,
        "group": label,
        "parts": [part],
        "source": {"bytes": 1000 + number},
    }


def main(stores: Path) -> None:
    """A finished store of two videos and a failure; a folder of one part with one video."""
    metas = [early_meta(0), early_meta(1)]
    with StoreWriter(stores / "finished.h5", RECIPE, DATASET) as writer:
        for number, meta in enumerate(metas):
            writer.add(meta, early_values(number), np.array([0.5, 1.5]))
        broken = {**early_meta(0), "id": "dig/broken", "source": {"bytes": 7}}
        writer.fail(broken, "no pictures")
        writer.finish([*metas, broken])
    with StoreWriter(stores / "unfinished.h5", {**RECIPE, "weights": "other"}, DATASET) as writer:
        writer.add(metas[0], early_values(0), np.array([0.5, 1.5]))


if __name__ == "__main__":
    main(Path(sys.argv[1], "stores"))
