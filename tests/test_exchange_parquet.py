"""Parquet files: written for pandas and Hugging Face's datasets, and read back."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made_stores import RECIPE, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.exchange.importing import import_store
from reelbank.data.store.exchange.sources import open_source
from reelbank.data.store.options import ExportOptions, ImportOptions
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
NUMBERS = range(7)


def exported(folder: Path, name: str = "a.parquet", **options: str) -> Path:
    target = folder / name
    assert export(ExportOptions(bank=str(folder / "bank"), to=str(target), **options)) == 0  # type: ignore[arg-type]
    return target


def imported(folder: Path, file: Path, **options: str) -> Store:
    bank = folder / "imported"
    assert import_store(ImportOptions(file=str(file), bank=str(bank), **options)) == 0  # type: ignore[arg-type]
    (path,) = (bank / "stores").glob("*.h5")
    return Store.open(path)


def test_pandas_reads_a_line_for_each_row(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    fill(tmp_path / "bank" / "stores" / "made.h5", NUMBERS)
    table = pandas.read_parquet(exported(tmp_path, split="2"))
    assert table.id.unique().tolist() == [made_video(number).id for number in NUMBERS]
    for number in NUMBERS:
        video = made_video(number)
        rows = table[table.id == video.id]
        expected = made_values(number).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(np.stack(rows.features), expected)
        assert rows.time_seconds.tolist() == made_times(number).tolist()
        assert set(rows.label) == {video.label} and set(rows.group) == {video.group}
        assert set(rows.fps) == {25.0} and set(rows.part_1) == {video.parts[0]}
        assert rows.part.fillna("").tolist() == [video.parts[1]] * len(rows)
    about = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"reelbank"])
    assert about["recipe"] == RECIPE and about["dataset"]["classes"] == ["dig", "fly"]


def test_datasets_loads_the_parts_of_a_folder(tmp_path: Path) -> None:
    fill(tmp_path / "bank" / "stores" / "made.h5", NUMBERS)
    folder = exported(tmp_path, "folder", format="datasets", split="2")
    # Hugging Face's datasets takes the split from the name of a file: train, validation or test.
    of_part = {path.stem: pq.read_table(path) for path in folder.iterdir()}
    ids = {part: sorted(set(table["id"].to_pylist())) for part, table in of_part.items()}
    assert ids == {
        "train": [made_video(number).id for number in (0, 6, 3)],
        "test": [made_video(number).id for number in (4, 1)],
        "rest": [made_video(number).id for number in (2, 5)],
    }


def test_an_export_is_imported_with_ids_times_and_labels(tmp_path: Path) -> None:
    fill(tmp_path / "bank" / "stores" / "made.h5", NUMBERS, row_shape=(2, 3))
    with imported(tmp_path, exported(tmp_path)) as store:
        assert store.dataset.name == "made" and store.recipe["extractor"] == RECIPE["extractor"]
        assert [source["fps"] for source in store.sources] == [25.0] * len(NUMBERS)
        for number in NUMBERS:
            video = made_video(number)
            values, times_seconds = store.features(video.id)
            np.testing.assert_array_equal(values, made_values(number, (2, 3)).astype(np.float16))
            np.testing.assert_array_equal(times_seconds, made_times(number))
            at = store.video_ids.index(video.id)
            assert (store.labels[at], store.groups[at]) == (video.label, video.group)
            assert tuple(store.parts[at]) == video.parts


def test_a_multi_label_store_of_bytes_comes_back_from_a_folder(tmp_path: Path) -> None:
    described = DatasetDescription("many", ("cook", "dress", "eat"), ("1",), multilabel=True)
    labels = {"a": "cook;eat", "b": "", "c": "dress"}
    parts = {"a": "train", "b": "test", "c": ""}
    videos = [StoredVideo(name, label, parts=(parts[name],)) for name, label in labels.items()]
    with StoreWriter(tmp_path / "bank/stores/m.h5", {"stream": "rgb"}, described) as writer:
        for number, video in enumerate(videos):
            writer.add(video, np.full((2, 3), number, np.uint8), np.arange(2.0))
        writer.finish(videos)
    folder = exported(tmp_path, "folder", format="datasets")
    assert pq.read_table(folder / "train.parquet")["labels"].to_pylist() == [["cook", "eat"]] * 2
    with imported(tmp_path, folder) as store:
        found = dict(zip(store.video_ids, zip(store.labels, store.parts, strict=True), strict=True))
        assert found == {name: (labels[name], [parts[name]]) for name in labels}
        assert store.dtype == np.uint8 and store["c"].tolist() == [[2] * 3] * 2


def test_a_table_of_another_tool_is_imported_in_batches(tmp_path: Path) -> None:
    # 3 videos of 2,000 rows of 4 KiB: more than one batch, and one row group.
    values = (np.arange(6000 * 1024) % 1009).astype(np.float32).reshape(6000, 1024)
    ids = np.repeat(["a", "b", "c"], 2000)
    columns = {"id": ids, "features": list(values), "extra": ids}
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")
    (tmp_path / "l.csv").write_text("path,label,split\na,dig,train\nb,fly,test\nc,dig,train\n")
    with imported(
        tmp_path, tmp_path / "other.parquet", csv=str(tmp_path / "l.csv"), dataset="x"
    ) as store:
        assert store.labels == ["dig", "fly", "dig"] and store.recipe["times"] == "row numbers"
        for number, name in enumerate("abc"):
            rows = values[2000 * number : 2000 * (number + 1)].astype(np.float16)
            np.testing.assert_array_equal(store[name], rows)


def test_only_one_row_group_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reelbank.data.store.exchange.formats import parquet

    monkeypatch.setattr(parquet, "GROUP_BYTES", 4 * 5 * 4)  # 4 rows of 5 float32
    fill(tmp_path / "bank" / "stores" / "made.h5", NUMBERS)
    metadata = pq.read_metadata(exported(tmp_path))
    counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert counts == [3, 3, 4, 3, 3] and sum(counts) == metadata.num_rows


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a"], "features": [[1.0]]}, "must have the columns id and features"),
        ({"id": ["a", "b", "a"], "features": [[1.0]] * 3}, "those of 'a' do not; sort the table"),
        ({"id": [1], "features": [[1.0]]}, "the column id must be text"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        import_store(ImportOptions(file=str(tmp_path / "a.parquet"), bank=str(tmp_path)))


def test_damage_and_wrong_values_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "bank" / "stores" / "made.h5", NUMBERS)
    content = exported(tmp_path).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-20])
    with pytest.raises(InputError, match=r"cut\.parquet: cannot be read as Parquet"):
        import_store(ImportOptions(file=str(tmp_path / "cut.parquet"), bank=str(tmp_path)))
    table = pq.read_table(tmp_path / "a.parquet")
    numbers = pa.array(range(len(table)))
    pq.write_table(table.set_column(1, "label", numbers), tmp_path / "numbers.parquet")
    with pytest.raises(InputError, match=r"numbers\.parquet: the column label must be text"):
        import_store(ImportOptions(file=str(tmp_path / "numbers.parquet"), bank=str(tmp_path)))
    np.savez(tmp_path / "b.npz", features=np.ones((1, 2)))
    with pytest.raises(InputError, match=r"either \.npz or \.parquet files \(got 1 \.npz and 3"):
        import_store(ImportOptions(file=str(tmp_path), bank=str(tmp_path / "bank")))
    ragged = {"id": ["a", "a"], "features": [[1.0], [1.0, 2.0]]}
    pq.write_table(pa.table(ragged), tmp_path / "ragged.parquet")
    (tmp_path / "l.csv").write_text("path,label\na,dig\n")
    options = ImportOptions(
        file=str(tmp_path / "ragged.parquet"), csv=str(tmp_path / "l.csv"), bank=str(tmp_path)
    )
    assert import_store(options) == 1
    assert "failed: a: " in (printed := capsys.readouterr().out)
    assert "must have vectors of one length" in printed


def test_labels_of_another_type_are_refused(tmp_path: Path) -> None:
    described = DatasetDescription("many", ("cook", "eat"), (), multilabel=True)
    with StoreWriter(tmp_path / "bank" / "stores" / "m.h5", RECIPE, described) as writer:
        writer.add(StoredVideo("a", "cook;eat"), np.ones((2, 3)), np.arange(2.0))
        writer.finish([StoredVideo("a", "cook;eat")])
    table = pq.read_table(exported(tmp_path))
    changed = table.set_column(table.schema.names.index("labels"), "labels", pa.array([1, 1]))
    pq.write_table(changed, tmp_path / "numbers.parquet")
    options = ImportOptions(file=str(tmp_path / "numbers.parquet"), bank=str(tmp_path))
    with pytest.raises(InputError, match=r"numbers\.parquet: the column labels must be lists of"):
        import_store(options)


def test_a_small_file_of_many_rows_needs_little_memory(tmp_path: Path) -> None:
    rows = 100_000
    ids = pa.DictionaryArray.from_arrays(np.repeat(np.int32([0, 1]), rows // 2), ["a", "b"])
    features = pa.FixedSizeListArray.from_arrays(np.zeros(rows, np.float32), 1)
    columns = {"id": ids, "features": features, "time_seconds": np.arange(rows) // 25_000 * 1.0}
    pq.write_table(pa.table(columns), tmp_path / "small.parquet", compression="zstd")
    tracemalloc.start()
    try:
        with open_source(tmp_path / "small.parquet", "rgb") as source:
            assert source.names == [("a",), ("b",)]
            read = source.read(1)
            assert read.times_seconds is not None and read.values.shape == (rows // 2, 1)
            assert read.times_seconds[[0, -1]].tolist() == [2, 3]
        assert tracemalloc.get_traced_memory()[1] < 100 * rows  # a dict for a row is larger
    finally:
        tracemalloc.stop()


def test_a_video_may_go_on_in_the_next_batch(tmp_path: Path) -> None:
    counts = (70_000, 1, 62_000)  # batches have 65,536 rows
    ids = np.repeat(["a", "b", "c"], counts)
    values = np.random.default_rng(0).integers(0, 9, (len(ids), 1)).astype(np.uint8)
    columns = {"id": ids, "features": pa.FixedSizeListArray.from_arrays(values.ravel(), 1)}
    pq.write_table(pa.table(columns), tmp_path / "long.parquet")
    (tmp_path / "l.csv").write_text("path,label\na,dig\nb,fly\nc,fly\n")
    with imported(tmp_path, tmp_path / "long.parquet", csv=str(tmp_path / "l.csv")) as store:
        assert store.rows.tolist() == list(counts)
        np.testing.assert_array_equal(store["c"], values[70_001:])
