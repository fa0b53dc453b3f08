"""The contents of a store as plain data, for --json and for the tables of `stores` and `inspect`."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from reelbank.data.datasets.types import PARTS
from reelbank.data.store.damage import damage_among
from reelbank.data.store.reader import Store


@dataclass(frozen=True)
class Missing:
    """The videos without features, id -> reason: those without sound (which is not a failure), those
    that failed, and those that the machine could not read, which are tried again."""

    without_sound: dict[str, str]
    failed: dict[str, str]
    not_read: dict[str, str]


def missing_videos(store: Store) -> Missing:
    """The store's videos without features, by kind of failure."""
    missing = Missing({}, {}, {})
    for video_id, failure in store.failures.items():
        if failure.by_machine:
            missing.not_read[video_id] = failure.reason
        elif failure.is_absence:
            missing.without_sound[video_id] = failure.reason
        else:
            missing.failed[video_id] = str(failure)
    return missing


def store_line(store: Store) -> dict[str, Any]:
    """A store for the list of `reelbank stores --json`."""
    missing = missing_videos(store)
    recipe = store.recipe
    return {
        "hash": store.identity,
        "path": str(store.path),
        "dataset": store.dataset.name,
        "stream": recipe.get("stream"),
        "extractor": recipe.get("extractor"),
        "node": recipe.get("node", "embedding"),
        "t": recipe.get("steps"),
        "crops": recipe.get("crops"),
        "videos": len(store),
        "rows": int(store.rows.sum()),
        "size_bytes": int(store.size_bytes),
        "finished": store.finished,
        "failed": len(missing.failed),
        "without_sound": len(missing.without_sound),
        "not_read": len(missing.not_read),
        "damaged_videos": len(damage_among(store.ids_when_used, store.sources).videos),
        "damaged_parts": len(store.damaged),
    }


def store_document(store: Store) -> dict[str, Any]:
    """A store for `reelbank inspect --json`: its line with videos by name, its recipe and splits."""
    splits = {}
    for number, split in enumerate(store.dataset.splits):
        counts = Counter(parts[number] for parts in store.parts)
        splits[split] = {**{part: counts[part] for part in PARTS}, "neither": counts[""]}
    return {
        **store_line(store),
        **asdict(missing_videos(store)),
        "damaged_videos": damage_among(store.video_ids, store.sources).videos,
        "damaged_parts": [str(reason) for reason in store.damaged.values()],
        "classes": list(store.dataset.classes),
        "groups": len(set(store.groups) - {""}),
        "multilabel": store.dataset.multilabel,
        "splits": splits,
        "row_shape": list(store.row_shape),
        "dtype": str(store.dtype),
        "seconds": store.cost.seconds,
        "weights": [each.to_json() for each in store.weights],
        "recipe": store.recipe,
    }
