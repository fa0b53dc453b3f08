"""Small stores with known values, for the tests of the store and of the stages that use it."""

from typing import Any

import numpy as np

from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter

DATASET = DatasetDescription("made", ("dig", "fly"), ("1", "2"), {"all": ("dig", "fly")})
RECIPE: dict[str, Any] = {
    "stream": "rgb",
    "extractor": "torchvision:resnet18",
    "steps": None,
    "weights": {"name": "random"},
}


def made_video(number: int) -> StoredVideo:
    """Video `number`: its class, group and parts follow from the number."""
    label = DATASET.classes[number % 2]
    return StoredVideo(
        id=f"{label}/v{number:03d}",
        label=label,
        group=f"g{number // 4}",
        parts=("train" if number % 3 else "test", ("train", "test", "")[number % 3]),
        source={"bytes": 1000 + number, "frames": 10 * number + 10, "fps": 25.0},
    )


def made_values(number: int, row_shape: tuple[int, ...] = (5,)) -> np.ndarray:
    """(1 + number % 4, *row_shape) float32, the same for the same number."""
    return (
        np.random.default_rng(number).normal(size=(1 + number % 4, *row_shape)).astype(np.float32)
    )


def made_times(number: int) -> np.ndarray:
    """(K,) seconds."""
    return np.arange(1 + number % 4) * 0.5 + number


def fill(path, numbers, row_shape=(5,), finish=True, **options):
    videos = [made_video(number) for number in numbers]
    with StoreWriter(path, RECIPE, DATASET, **options) as writer:
        for number, video in zip(numbers, videos, strict=True):
            writer.add(video, made_values(number, row_shape), made_times(number))
        return writer.finish(videos) if finish else None


def check_holds(path, numbers, row_shape=(5,)):
    with Store.open(path) as store:
        assert sorted(store.video_ids) == sorted(made_video(number).id for number in numbers)
        for number in numbers:
            video = made_video(number)
            values, times_seconds = store.features(video.id)
            assert values.dtype == np.float16
            np.testing.assert_array_equal(values, made_values(number, row_shape).astype(np.float16))
            np.testing.assert_array_equal(times_seconds, made_times(number))
            at = store.video_ids.index(video.id)
            assert store.labels[at] == video.label and store.groups[at] == video.group
            assert tuple(store.parts[at]) == video.parts and store.sources[at] == video.source
            assert store.rows[at] == len(values)
