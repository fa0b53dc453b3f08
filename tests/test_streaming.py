"""Training from disk: bit for bit the same runs as from memory, only a few batches in memory,
damage is found; and augmented views."""

import contextlib
import dataclasses
import pickle
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.system.machine import Limit
from reelbank.heads.models.normalise import Normalise
from reelbank.heads.predict import predicted
from reelbank.heads.recipe import Rule
from reelbank.heads.runs.folder import Run, all_runs
from reelbank.heads.training.batches import CHUNK_BYTES, RowReading, in_chunks
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.sequences import Table, tables
from reelbank.heads.training.streaming import (
    Streamed,
    excess,
    needed_bytes,
    open_features,
    views_of,
)
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are tiny
CLASSES = ("jump", "run", "sit")
QUICK = TrainOptions(
    head="meanpool", lr=0.01, batch=4, epochs=3, patience=0, refit=False, device="cpu"
)


def make_store(
    path: Path,
    views: int = 0,
    row_shape: tuple[int, ...] = (6,),
    other_views: tuple[str, ...] = (),
    finish: bool = True,
    **recipe: Any,
) -> Path:
    """3 classes x 5 groups x 2 clips, 2 to 5 clean rows, then `views` views of 1 to 3 rows of every
    video; the one split tests group 0. `other_views`: videos with other views and the same clean
    rows."""
    dataset = DatasetDescription(name="made", classes=list(CLASSES), splits=["1"], coarse={})
    videos = []
    with StoreWriter(
        path, {"stream": "rgb", "extractor": "made:6", **recipe}, dataset, part_videos=7
    ) as writer:
        for number in range(30):
            label, group, clip = CLASSES[number % 3], number // 6, number % 2
            name = f"{label}/g{group}_c{clip}"
            marks = np.repeat(
                np.arange(views + 1),
                [2 + number % 4, *(1 + (number + view) % 3 for view in range(views))],
            )
            values = (
                np.random.default_rng(number).normal(size=(len(marks), *row_shape)) + number % 3
            )
            if name in other_views:
                values[marks > 0] += 50
            part = "train" if group else "test"
            videos.append(
                StoredVideo(id=name, label=label, group=f"g{group}", parts=[part], source={})
            )
            writer.add(videos[-1], values, np.arange(len(marks)) / 2, marks.astype(np.uint8))
        if finish:
            assert writer.finish(videos)
    return path


def trained(bank: Path, options: TrainOptions = QUICK, **changes: Any) -> list[Run]:
    before = {run.path for run in all_runs(bank)}
    assert train(dataclasses.replace(options, bank=str(bank), **changes)) == 0
    return [run for run in all_runs(bank) if run.path not in before]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoint.safetensors")


def same(one: Run, other: Run) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def clean_table(store: Store, ids: tuple[str, ...], **rule: Any) -> Table:
    return tables(views_of(store, ids, views=False), Rule(**rule), ids)[1]


@pytest.mark.parametrize(
    ("store", "options"),
    [
        ({"views": 2}, {"head": "gru", "layers": 1, "hidden": 5, "dropout": 0.2, "refit": True}),
        (
            {"views": 1, "row_shape": (2, 6), "crops_kept": True, "finish": False},
            {"t": 3, "pca": 4},
        ),
        (
            {"views": 2},
            {"sampling": "segments", "t": 2, "positions": 2, "views": "one", "dropout": 0.2},
        ),
        (
            {"row_shape": (2, 6), "crops_kept": True},
            {"sampling": "windows", "t": 2, "stride": 1, "crops": "each"},
        ),
        ({"row_shape": (6, 2, 2)}, {}),
    ],
)
def test_from_disk_is_the_same_run_to_the_bit(
    tmp_path: Path, store: dict[str, Any], options: dict[str, Any]
) -> None:
    for bank in ("memory", "disk"):
        make_store(tmp_path / bank / "stores" / "a.h5", **store)
    (memory,) = trained(tmp_path / "memory", read_from="memory", **options)
    (disk,) = trained(tmp_path / "disk", read_from="disk", **options)
    assert memory.path.name == disk.path.name
    for name in (
        "checkpoint.safetensors",
        "scores-train.npz",
        "scores-validation.npz",
        "scores-test.npz",
    ):
        assert (memory.path / name).read_bytes() == (disk.path / name).read_bytes(), name
    with (
        Store.open(memory.path / "embeddings.h5") as one,
        Store.open(disk.path / "embeddings.h5") as other,
    ):
        assert one.checksums.tolist() == other.checksums.tolist() and len(one.video_ids) == 30
        assert [one.times_seconds(name) for name in one.video_ids] == [
            other.times_seconds(name) for name in one.video_ids
        ]


def test_workers_open_the_store_for_themselves(tmp_path: Path) -> None:
    make_store(tmp_path / "stores" / "a.h5")
    with Store.open(tmp_path / "stores" / "a.h5") as store:
        ids = tuple(store.video_ids)
        table = clean_table(store, ids, steps=3)
        sent = pickle.dumps(Streamed([store], ids, [RowReading()], views=False, crops=False))
    assert len(sent) < 2000  # no features
    there = pickle.loads(sent)  # noqa: S301 - our own, as joblib does
    ((x, lengths),) = there.batches(table, [torch.tensor([3, 0])])
    assert x.shape == (2, 3, 6) and lengths.tolist() == [3, 3]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """120 videos of 16 rows of 4096 features: 15 MiB."""
    path = tmp_path_factory.mktemp("large") / "a.h5"
    dataset = DatasetDescription(name="made", classes=["a"], splits=["1"], coarse={})
    rng = np.random.default_rng(0)
    with StoreWriter(path, {"stream": "rgb"}, dataset) as writer:
        videos = [
            StoredVideo(id=f"v{n:03}", label="a", group="", parts=["train"], source={})
            for n in range(120)
        ]
        for video in videos:
            writer.add(video, rng.normal(size=(16, 4096)).astype(np.float16), np.arange(16.0))
        assert writer.finish(videos)
    with Store.open(path) as store:
        yield store


def test_memory_holds_a_few_batches(large: Store) -> None:
    batch_bytes = 4 * 16 * 4096 * 2
    data = open_features([large], tuple(large.video_ids), [RowReading()], read_from="disk")
    table = clean_table(large, data.ids)
    groups = torch.randperm(120).split(4)
    tracemalloc.start()
    try:
        total = sum(len(x) for x, _ in data.batches(table, groups))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 120
    assert peak < 6 * batch_bytes < needed_bytes(large, data.ids, False) // 4


def test_statistics_are_computed_piece_by_piece(large: Store) -> None:
    data = open_features([large], tuple(large.video_ids), [RowReading()], read_from="disk")
    table = clean_table(large, data.ids)
    lengths = torch.tensor([4, 5, 3, 12, 1, 9])
    pieces = in_chunks(
        torch.tensor([5, 0, 1, 2, 3, 4]), lengths, (CHUNK_BYTES // 4 // 10,)
    )  # pieces of ten rows
    assert [piece.tolist() for piece in pieces] == [[5], [0, 1], [2], [3], [4]]
    train = torch.tensor(
        sorted(torch.randperm(120)[:90].tolist()) * 2
    )  # 180 videos: 45 MiB as float32
    assert [len(rows) for rows in data.row_chunks(table, train)] == [2048, 832]
    normalise = Normalise(4096)
    normalise.fit(lambda: data.row_chunks(table, train))
    values = large.load([large.video_ids[number] for number in train])[0].astype(np.float64)
    np.testing.assert_allclose(normalise.mean, values.mean(0), atol=1e-6)
    np.testing.assert_allclose(normalise.deviation, values.std(0), atol=1e-5)


def readers() -> int:
    return sum(thread.name.startswith("reelbank-read") for thread in threading.enumerate())


def test_one_thread_reads_two_batches_ahead_and_ends(large: Store) -> None:
    data = open_features([large], tuple(large.video_ids), [RowReading()], read_from="disk")
    table = clean_table(large, data.ids)
    asked: list[int] = []

    def groups() -> Iterator[torch.Tensor]:
        for first in range(0, 120, 4):
            asked.append(first)
            yield torch.arange(first, first + 4)

    with contextlib.closing(data.batches(table, groups())) as batches:
        next(batches)
        assert asked == [0, 4, 8] and readers() == 1
        next(batches)
        assert asked == [0, 4, 8, 12] and readers() == 1
    assert readers() == 0


def test_damage_is_found_when_a_batch_is_read(tmp_path: Path) -> None:
    path = make_store(tmp_path / "stores" / "a.h5")
    with Store.open(path) as store:
        name = next(
            name
            for name, parts in zip(store.video_ids, store.parts, strict=True)
            if parts == ["train"]
        )
        rows = store.features(name)[0].tobytes()
    content = bytearray(path.read_bytes())
    at = content.find(rows)
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"the features of {name} are damaged"):
        trained(tmp_path, read_from="disk")
    assert readers() == 0


def test_auto_streams_beyond_half_of_the_free_memory(tmp_path: Path) -> None:
    free = Limit(100, "memory of the machine")
    assert [bool(excess(wanted, free)) for wanted in (50, 51)] == [False, True]
    assert [bool(excess(wanted, free, workers=2)) for wanted in (33, 34)] == [False, True]
    with Store.open(make_store(tmp_path / "a.h5", views=2, row_shape=(2, 6))) as store:
        ids = tuple(store.video_ids[:2])
        values, _, _, views = store.load_views(ids)
        assert needed_bytes(store, ids, True) == values.nbytes
        assert needed_bytes(store, ids, False) == values[views == 0].nbytes < values.nbytes


@pytest.mark.parametrize(("workers", "most"), [(1, 30), (2, 15), (4, 7)])
def test_each_worker_has_a_copy_on_the_gpu(workers: int, most: int) -> None:
    free, gpu = Limit(1000, "memory of the machine"), Limit(60, "memory of the GPU")
    assert excess(most, free, gpu, workers=workers) == ""
    reason = excess(most + 1, free, gpu, workers=workers)
    assert reason.endswith("(memory of the GPU)")
    assert (f"for each of {workers} processes" in reason) == (workers > 1)


def test_predict_streams_too(tmp_path: Path) -> None:
    path = make_store(tmp_path / "stores" / "a.h5")
    (run,) = trained(tmp_path, read_from="disk")
    table, own = predicted(run.path, path), run.scores("test")
    rows = [table.video_ids.index(name) for name in own.video_ids]
    np.testing.assert_allclose(table.logits[rows], own.logits, atol=1e-6)


@pytest.mark.parametrize("read_from", ["memory", "disk"])
@pytest.mark.parametrize("steps", [None, 2])
def test_every_view_is_a_sequence_of_its_own(
    tmp_path: Path, read_from: str, steps: int | None
) -> None:
    with Store.open(make_store(tmp_path / "a.h5", views=2)) as store:
        ids = tuple(store.video_ids[4:7])
        data = open_features([store], ids, [RowReading()], views=True, read_from=read_from)
        learn, _ = tables(views_of(store, ids, views=True), Rule(steps=steps), ids)
        assert (
            learn.video.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
            and learn.view.tolist() == [0, 1, 2] * 3
        )
        ((x, lengths),) = data.batches(learn, [torch.arange(9)])
        wanted = []
        for video, view in zip(learn.video.tolist(), learn.view.tolist(), strict=True):
            values, _, _, marks = store.load_views([ids[video]])
            own = values[marks == view]
            wanted.append(own if steps is None else own[[0, len(own) - 1]])  # sigma(t) for T = 2
        assert lengths.tolist() == [len(own) for own in wanted]
        for got, own in zip(x, wanted, strict=True):
            np.testing.assert_array_equal(got[: len(own)], own.astype(np.float32))
            assert not got[len(own) :].any()


def test_only_views_of_training_videos_are_trained_on(tmp_path: Path) -> None:
    make_store(tmp_path / "a" / "stores" / "a.h5", views=2)
    (one,) = trained(tmp_path / "a")
    assert one.recipe["views"] == "all"
    parts = {part: one.scores(part).video_ids for part in ("train", "validation", "test")}
    assert [len(names) for names in parts.values()] == [18, 6, 6]  # views are not counted as videos
    for part, refit, equal in (
        ("test", False, True),
        ("validation", False, True),
        ("train", False, False),
    ):
        bank = tmp_path / f"{part}-{refit}"
        make_store(bank / "stores" / "a.h5", views=2, other_views=parts[part])
        (other,) = trained(bank, refit=refit)
        assert same(one, other) == equal, part
        for name in ("mean", "deviation"):  # of clean rows
            assert torch.equal(
                weights(one)[f"normalise.{name}"], weights(other)[f"normalise.{name}"]
            )
    (refitted,) = trained(tmp_path / "a", refit=True)
    (other,) = trained(tmp_path / "validation-False", refit=True)
    assert not same(refitted, other)


def test_without_views_a_run_is_as_if_there_were_none(tmp_path: Path) -> None:
    make_store(tmp_path / "with" / "stores" / "a.h5", views=2)
    make_store(tmp_path / "without" / "stores" / "a.h5")
    (off,) = trained(tmp_path / "with", views="none")
    (plain,) = trained(tmp_path / "without")
    assert "views" not in off.recipe and "views" not in plain.recipe and same(off, plain)
