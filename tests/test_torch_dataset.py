"""A store as a data set of torch, in a DataLoader."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_stores import fill, made_times, made_values, made_video
from test_validation_part import trained, write_store
from torch.utils.data import DataLoader

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter


def test_an_item_is_the_rows_times_and_label_of_a_video(tmp_path: Path) -> None:
    fill(tmp_path / "a.h5", range(6))
    dataset = reelbank.FeatureDataset(tmp_path / "a.h5")
    numbers = [1, 2, 4, 5]  # made_video: every third video is a test video of split 1
    assert dataset.classes == ("dig", "fly") and len(dataset) == 4
    for number, item in zip(numbers, dataset, strict=True):
        assert item.video_id == made_video(number).id
        expected = torch.from_numpy(made_values(number).astype(np.float16)).float()
        assert item.features.dtype == torch.float32 and torch.equal(item.features, expected)
        assert item.times_seconds.tolist() == made_times(number).tolist()
        assert item.label.dtype == torch.int64 and item.label == number % 2
    assert dataset[-1].video_id == made_video(5).id
    with pytest.raises(IndexError):
        dataset[4]
    test = reelbank.FeatureDataset(tmp_path / "a.h5", part="test", split="2", classes=["fly"])
    assert test.video_ids == (made_video(1).id,) and test.labels.tolist() == [0]
    everything = reelbank.FeatureDataset(str(tmp_path / "a.h5"), part="all", classes=["fly"])
    assert everything.labels.tolist() == [-1, 0] * 3


def test_spawned_processes_read_padded_batches(tmp_path: Path, no_waiting: None) -> None:
    fill(tmp_path / "a.h5", range(8), row_shape=(2, 3))
    with reelbank.Store.open(tmp_path / "a.h5") as store:
        dataset = reelbank.FeatureDataset(store, part="all")
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=2,
        multiprocessing_context="spawn",
        collate_fn=reelbank.collate_features,
    )
    batches = list(loader)
    assert [batch.video_ids for batch in batches] == [
        [made_video(number).id for number in numbers] for numbers in (range(4), range(4, 8))
    ]
    for batch, numbers in zip(batches, (range(4), range(4, 8)), strict=True):
        assert batch.features.shape == (4, 4, 2, 3) and batch.lengths.tolist() == [1, 2, 3, 4]
        assert batch.labels.tolist() == [0, 1, 0, 1]
        for place, number in enumerate(numbers):
            length = 1 + place
            expected = made_values(number, (2, 3)).astype(np.float16)
            np.testing.assert_array_equal(batch.features[place, :length], expected)
            assert not batch.features[place, length:].any()
            assert batch.times_seconds[place, :length].tolist() == made_times(number).tolist()
            assert not batch.times_seconds[place, length:].any()


def test_only_the_videos_of_a_batch_are_read(tmp_path: Path) -> None:
    fill(tmp_path / "a.h5", range(6), row_shape=(4096,))
    with (tmp_path / "a.h5").open("r+b") as file:
        content = file.read()
        stored = made_values(2, (4096,)).astype(np.float16).tobytes()
        file.seek(content.index(stored) + 100)
        file.write(b"\xff")
    dataset = reelbank.FeatureDataset(tmp_path / "a.h5", part="all")
    assert torch.equal(
        dataset[3].features, torch.from_numpy(made_values(3, (4096,)).astype(np.float16)).float()
    )
    with pytest.raises(InputError, match="dig/v002"):
        dataset[2]


def test_the_validation_part_is_that_of_train(tmp_path: Path) -> None:
    path = write_store(tmp_path)
    of_part = {
        part: reelbank.FeatureDataset(path, part=part).video_ids
        for part in ("train", "validation", "test")
    }
    assert of_part["train"] == tuple(f"v{number:02}" for number in range(6))
    assert of_part["validation"] == ("v06", "v07") and of_part["test"] == ("v08", "v09")

    fill(tmp_path / "made" / "stores" / "made.h5", range(30))
    run = trained(tmp_path / "made", validation=0.3, epochs=1, refit=False)
    store = tmp_path / "made" / "stores" / "made.h5"
    for part in ("train", "validation", "test"):
        dataset = reelbank.FeatureDataset(store, part=part, validation=0.3)
        assert sorted(dataset.video_ids) == sorted(run.scores(part).video_ids)


def test_labels_of_a_multi_label_store_are_multi_hot(tmp_path: Path) -> None:
    described = DatasetDescription("many", ("cook", "dress", "eat"), ("1",), multilabel=True)
    labels = {"a": "cook;eat", "b": "dress", "c": ""}
    videos = [
        StoredVideo(name, label, parts=("test" if name == "c" else "train",))
        for name, label in labels.items()
    ]
    with StoreWriter(tmp_path / "m.h5", {"stream": "rgb"}, described) as writer:
        for video in videos:
            writer.add(video, np.ones((2, 3)), np.arange(2.0))
        writer.finish(videos)
    dataset = reelbank.FeatureDataset(tmp_path / "m.h5")
    batch = reelbank.collate_features([dataset[0], dataset[1]])
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert reelbank.FeatureDataset(tmp_path / "m.h5", part="test")[0].label.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "trian"}, r"^part='trian': must be one of train, validation, test, all$"),
        ({"split": "3"}, r"^split='3': must be one of the splits of .*a\.h5, 1, 2; part='all'"),
        ({"split": "3", "part": "all"}, r"^split='3': must be one of the splits of"),
        ({"part": "validation"}, r"^part='validation': split 1 of .* validation=0\.2 takes"),
        ({"validation": 1.0}, r"^validation=1\.0: must be at least 0 and less than 1$"),
        ({"classes": ["swim"]}, r"has no video of class 'swim'"),
        ({"classes": "fly"}, r"^classes='fly': must be a list of names, such as \['fly'\]$"),
    ],
)
def test_a_wrong_choice_is_one_line(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    fill(tmp_path / "a.h5", range(6))
    with pytest.raises(InputError, match=message):
        reelbank.FeatureDataset(tmp_path / "a.h5", **options)  # type: ignore[arg-type]


def test_all_videos_of_chosen_classes_have_labels_in_the_order_of_the_data_set(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a.h5", range(3))
    dataset = reelbank.FeatureDataset(tmp_path / "a.h5", part="all", split="2", classes=["fly"])
    labels = dict(zip(dataset.video_ids, dataset.labels.tolist(), strict=True))
    assert labels == {"dig/v000": -1, "fly/v001": 0, "dig/v002": -1}
    both = reelbank.FeatureDataset(tmp_path / "a.h5", part="all", classes=["fly", "dig"])
    assert both.classes == ("dig", "fly")
