"""The feature store: what was written is read by id, after any order, parts, kills and full
disks."""

import itertools
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_stores import DATASET, RECIPE, check_holds, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store import writer as store_writer
from reelbank.data.store.file import format as feature_file
from reelbank.data.store.merging.files import OpenParts, PartFile
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Cost, DatasetDescription, Failure, StoredVideo, identity
from reelbank.data.store.versions import Made
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import SourceFile

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("row_shape", [(5,), (10, 3), (2, 7, 7)])
@pytest.mark.parametrize("compression", ["", "gzip", "lzf"])
def test_a_finished_store_is_one_file_that_gives_back_what_went_in(
    tmp_path, row_shape, compression
):
    path = tmp_path / "made.h5"
    assert fill(path, range(9), row_shape, part_videos=4, compression=compression)
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]
    check_holds(path, range(9), row_shape)
    with Store.open(path) as store:
        assert store.finished and store.row_shape == row_shape and store.verify() == []
        assert (store.recipe, store.dataset, store.identity) == (
            RECIPE,
            DATASET,
            identity(RECIPE, "made"),
        )


def test_load_gives_rows_end_to_end_in_the_order_asked_for(tmp_path):
    fill(tmp_path / "made.h5", range(7))
    with Store.open(tmp_path / "made.h5") as store:
        values, offsets, times_seconds = store.load([made_video(n).id for n in (5, 0, 3)])
        np.testing.assert_array_equal(offsets, [0, 2, 3, 7])
        np.testing.assert_array_equal(
            values, np.concatenate([made_values(n) for n in (5, 0, 3)]).astype(np.float16)
        )
        np.testing.assert_array_equal(
            times_seconds, np.concatenate([made_times(n) for n in (5, 0, 3)])
        )
        assert len(store.load()[0]) == store.rows.sum()
        assert store.load([])[0].shape == (0, 5)
        with pytest.raises(
            InputError, match=r"does not contain 1 of the 2 requested videos, such as 'dig/none'"
        ):
            store.load([made_video(0).id, "dig/none"])


def test_videos_of_many_reads_come_back_whole_in_any_order(tmp_path):
    fill(
        tmp_path / "made.h5", range(9), (150_000,), part_videos=4
    )  # 0.3 MB a row: some videos share a read, some fill one
    order = [4, 5, 6, 7, 8, 0, 1, 2, 3, 3, 2, 8]
    with Store.open(tmp_path / "made.h5") as store:
        for numbers in (range(9), order):
            values, _, _ = store.load([made_video(number).id for number in numbers])
            np.testing.assert_array_equal(
                values,
                np.concatenate([made_values(n, (150_000,)) for n in numbers]).astype(np.float16),
            )


def test_an_unfinished_store_is_read_and_taken_up_again(tmp_path):
    path = tmp_path / "made.h5"
    metas = [made_video(number) for number in range(6)]
    with StoreWriter(path, RECIPE, DATASET, part_videos=2) as writer:
        for number in range(3):
            writer.add(metas[number], made_values(number), made_times(number))
        assert writer.done == {
            meta.id: meta.source["bytes"] for meta in metas[:2]
        }  # the third is not committed yet
        assert not writer.finish(metas)
    assert not path.exists()
    for name in (path, tmp_path / "made.parts"):
        check_holds(name, range(3))
    with Store.open(path) as store:
        assert not store.finished
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.done.keys() == {meta.id for meta in metas[:3]}
        for number in range(3, 6):
            writer.add(metas[number], made_values(number), made_times(number))
        assert writer.finish(metas)
    check_holds(path, range(6))


def test_a_part_closes_after_its_seconds(tmp_path):
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET, part_seconds=0.05) as writer:
        writer.add(made_video(0), made_values(0), made_times(0))
        assert not writer.done
        time.sleep(0.06)
        writer.add(made_video(1), made_values(1), made_times(1))
        assert len(writer.done) == 2


def test_new_videos_join_a_finished_store_and_newer_metadata_replaces_older(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(3))
    before = path.stat().st_ino
    assert fill(path, range(5))
    assert path.stat().st_ino != before
    check_holds(path, range(5))
    changed = replace(made_video(1), label="dig", group="h", parts=["", "test"])
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([changed])  # a list of one: the others stay
    with Store.open(path) as store:
        at = store.video_ids.index(changed.id)
        assert (store.labels[at], store.groups[at], store.parts[at]) == ("dig", "h", ["", "test"])
        assert len(store.video_ids) == 5 and store.finished


def test_finishing_again_with_nothing_new_writes_nothing(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(3))
    before = path.stat()
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([made_video(number) for number in reversed(range(3))])
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]


def test_what_a_store_has_cost_is_added_up_over_parts_and_runs(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("reelbank.data.store.writer.time.monotonic", lambda: clock[0])
    path = tmp_path / "a.h5"
    for numbers, device, seconds in ((range(2), "CPU", 3.0), (range(2, 4), "GPU", 1.5)):
        with StoreWriter(path, RECIPE, DATASET, made=Made(device, "rgb flow")) as writer:
            for number in numbers:
                clock[0] += seconds
                writer.add(made_video(number), made_values(number), made_times(number))
                writer.flush()
    expected = Cost(9.0, "CPU, GPU", "rgb flow")
    with Store.open(path) as store:
        assert store.cost == expected
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([made_video(number) for number in range(4)])
    with Store.open(path) as store:
        assert store.finished and store.cost == expected


@pytest.mark.parametrize(
    "cost",
    [None, "much", {"seconds": "1"}, {"seconds": -1}, {}, {"seconds": True, "device": ["x"]}],
)
def test_a_store_that_does_not_say_its_cost_has_none(tmp_path, monkeypatch, cost):
    monkeypatch.setattr(store_writer, "written_now", lambda *_: {"cost": cost})
    fill(tmp_path / "a.h5", range(2))
    with Store.open(tmp_path / "a.h5") as store:
        assert store.cost.seconds is None


def test_a_data_set_that_grows_keeps_what_was_known(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(2))
    wider = DatasetDescription(
        name="made", classes=["cut", "dig", "fly"], splits=["2", "3"], coarse={"some": ["cut"]}
    )
    with StoreWriter(path, RECIPE, wider) as writer:
        new = replace(made_video(2), label="cut", parts=["train", "test"])
        writer.add(new, made_values(2), made_times(2))
        assert writer.finish([new])
    with Store.open(path) as store:
        assert store.dataset.classes == ("cut", "dig", "fly")
        assert store.dataset.splits == ("2", "3", "1")
        assert store.dataset.coarse == {**DATASET.coarse, "some": ("cut",)}
        parts_by_id = dict(zip(store.video_ids, store.parts, strict=True))
        assert parts_by_id[made_video(1).id] == ["test", "", "train"] and parts_by_id[new.id] == [
            "train",
            "test",
            "",
        ]


def test_failures_are_kept_with_their_reason_until_the_video_succeeds(tmp_path):
    path, metas = tmp_path / "made.h5", [made_video(0), made_video(1)]
    with StoreWriter(path, RECIPE, DATASET) as writer:
        for meta in metas:
            writer.fail(meta, "no frame\ndecoded")
        assert writer.finish(metas)  # all failed: finished, with no videos
    with Store.open(path) as store:
        assert store.finished and store.video_ids == [] and store.load()[0].shape == (0, 0)
        assert store.failures[metas[0].id] == Failure("no frame decoded", SourceFile(1000))
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.failed.keys() == {meta.id for meta in metas}
        writer.add(metas[0], made_values(0), made_times(0))
        writer.fail(metas[0], "features override failures")
        assert writer.finish(metas)
        assert writer.failed.keys() == {metas[1].id} and writer.done.keys() == {metas[0].id}
    check_holds(path, [0])


def test_the_facts_of_all_videos_and_which_of_a_list_are_absent(tmp_path):
    path, videos = tmp_path / "made.h5", [made_video(number) for number in range(9)]
    fill(path, range(6), part_videos=4)
    changed = replace(videos[2], source={"bytes": 7, "damage": "a gap"})
    with StoreWriter(path, RECIPE, DATASET, part_videos=2) as writer:
        for number, video in ((7, videos[7]), (2, changed), (6, videos[6])):
            writer.add(video, made_values(number), made_times(number))
        writer.flush()
        for _ in range(2):  # in parts, and merged
            facts = {video.id: video.source for video in [*videos[:8], changed]}
            assert writer.facts() == facts
            assert writer.absent({video.id for video in videos}) == {videos[8].id}
            assert writer.absent({videos[8].id}) == {videos[8].id}
            assert writer.absent({videos[2].id, videos[7].id}) == set()
            assert writer.finish(videos[:8])


def test_a_changed_file_that_fails_is_recorded_and_its_old_features_are_kept(tmp_path):
    path, meta = tmp_path / "made.h5", made_video(0)
    changed = replace(meta, source={"bytes": 7})
    fill(path, [0])
    for _ in range(2):
        with StoreWriter(path, RECIPE, DATASET) as writer:
            writer.fail(changed, "moov atom not found")
            writer.flush()
            assert writer.failed == {meta.id: Failure("moov atom not found", SourceFile(7))}
            assert writer.done == {meta.id: 1000}
            assert writer.finish([meta])
    check_holds(path, [0])
    with Store.open(path) as store:
        assert store.finished and store.failures[meta.id].source.bytes == 7
    with StoreWriter(
        path, RECIPE, DATASET
    ) as writer:  # mended: its new features end the failure, whatever came before
        writer.add(replace(meta, source={"bytes": 8}), made_values(0), made_times(0))
        assert writer.finish([meta])
        assert writer.failed == {} and writer.done == {meta.id: 8}
    with Store.open(path) as store:
        assert store.failures == {}


def test_an_empty_data_set_makes_an_empty_store(tmp_path):
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer:
        assert writer.finish([])
    with Store.open(tmp_path / "made.h5") as store:
        assert store.finished and store.load()[1].tolist() == [0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([[70000.0, 1.0]], "exceed the largest float16 number"),
        ([[np.nan, 1.0]], "contain NaN"),
        ([[np.inf, 1.0]], "contain NaN or infinity"),
        ([1.0, 2.0], "must be numbers of shape"),
        (np.empty((0, 2)), "must be numbers of shape"),
        (
            [[1.0, 2.0, 3.0]],
            "rows must be (2,) float16 like the other rows of the store (got (3,) float16)",
        ),
        ([["a", "b"]], "must be numbers"),
    ],
)
def test_features_that_cannot_be_kept_are_refused_by_name(tmp_path, values, told):
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer:
        writer.add(made_video(0), np.ones((1, 2)), np.zeros(1))
        with pytest.raises(InputError, match=re.escape(told)) as refused:
            writer.add(made_video(1), np.array(values), np.zeros(1))
        assert made_video(1).id in str(refused.value)
        assert writer.finish([made_video(0)]) and writer.done.keys() == {made_video(0).id}


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([0.0], "must have one time for each of its 2 rows (got times of shape (1,))"),
        ([0.0, np.nan], "times must be finite, but 1 of 2 are NaN or infinite"),
    ],
)
def test_times_that_do_not_fit_the_rows_are_refused_with_the_reason(tmp_path, times, told):
    with (
        StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer,
        pytest.raises(InputError, match=re.escape(f"{made_video(0).id}: {told}")),
    ):
        writer.add(made_video(0), np.ones((2, 2)), np.array(times))


@pytest.mark.parametrize(
    "change",
    [
        {"label": "swim"},
        {"parts": ["train"]},
        {"parts": ["train", "dev"]},
        {"id": "../x"},
        {"id": "/x"},
    ],
)
def test_metadata_that_does_not_fit_the_data_set_is_refused(tmp_path, change):
    meta = replace(made_video(0), **change)
    with (
        StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer,
        pytest.raises(InputError, match=re.escape(meta.id)),
    ):
        writer.add(meta, np.ones((1, 2)), np.zeros(1))


def test_another_recipe_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(2))
    with pytest.raises(InputError, match=r"weights\.name: pretrained, not random"):
        StoreWriter(path, {**RECIPE, "weights": {"name": "pretrained"}}, DATASET)
    with pytest.raises(InputError, match="dataset: other, not made"):
        StoreWriter(path, RECIPE, replace(DATASET, name="other"))
    other = tmp_path / "other.h5"
    with StoreWriter(other, {**RECIPE, "steps": 25}, DATASET) as writer:
        writer.add(made_video(5), made_values(5), made_times(5))
    (tmp_path / "made.parts").mkdir()
    for part in (tmp_path / "other.parts").glob("part+*"):
        part.rename(tmp_path / "made.parts" / part.name)
    with pytest.raises(InputError, match="steps: 25, not None"):
        Store.open(path)
    assert feature_file.FeatureFile(path).damage() == []  # the finished file is as it was


def test_one_writer_a_shard_and_only_while_it_lives(tmp_path):
    path = tmp_path / "made.h5"
    with StoreWriter(path, RECIPE, DATASET):
        with pytest.raises(InputError, match="another extraction into this store is running"):
            StoreWriter(path, RECIPE, DATASET)
        with StoreWriter(path, RECIPE, DATASET, shard="1-of-2") as other:
            other.add(made_video(1), made_values(1), made_times(1))
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert list(writer.done) == [made_video(1).id]


def test_shards_fill_one_store_and_the_last_one_finishes_it(tmp_path):
    path, metas = tmp_path / "made.h5", [made_video(number) for number in range(6)]
    with (
        StoreWriter(path, RECIPE, DATASET, shard="0") as even,
        StoreWriter(path, RECIPE, DATASET, shard="1-of-2") as odd,
    ):
        for number in range(6):
            (odd if number % 2 else even).add(
                metas[number], made_values(number), made_times(number)
            )
        assert not even.finish(metas)
        assert odd.finish(metas)
        assert even.finish(metas) and len(even.done) == 6
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]
    check_holds(path, range(6))


def test_parts_left_by_a_kill_next_to_the_finished_file_are_harmless(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(4), finish=False, part_videos=2)
    kept = {part.name: part.read_bytes() for part in (tmp_path / "made.parts").iterdir()}
    fill(path, range(4))
    inode = path.stat().st_ino
    (tmp_path / "made.parts").mkdir()
    for (
        name,
        content,
    ) in kept.items():  # as when the kill falls between giving the name and removing the parts
        (tmp_path / "made.parts" / name).write_bytes(content)
    with Store.open(path) as store:
        assert store.finished and len(store.video_ids) == 4
    check_holds(path, range(4))
    assert fill(path, range(0)) and path.stat().st_ino == inode
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]


def test_a_newer_part_overrides_the_finished_file_and_an_older_part(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, [1])
    meta = made_video(1)
    for value in (2.0, 3.0):
        with StoreWriter(path, RECIPE, DATASET) as writer:
            writer.add(
                replace(meta, source={"bytes": int(value)}), np.full((2, 5), value), np.zeros(2)
            )
    with Store.open(path) as store:
        assert store.features(meta.id)[0].tolist() == [[3.0] * 5] * 2
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.done == {meta.id: 3} and writer.finish([meta])
    with Store.open(path) as store:
        assert store.features(meta.id)[0].tolist() == [[3.0] * 5] * 2


def test_a_reader_keeps_the_file_it_opened_while_a_new_one_takes_the_name(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(3))
    with Store.open(path) as store:
        fill(path, range(40))
        values, _, _ = store.load()
        np.testing.assert_array_equal(
            values, np.concatenate([made_values(n) for n in range(3)]).astype(np.float16)
        )


def test_a_reader_of_parts_that_were_merged_meanwhile_is_told(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(3), finish=False)
    with Store.open(path) as store:
        fill(path, range(3))
        with pytest.raises(InputError, match="open the store again"):
            store.load()


@pytest.mark.parametrize(
    "use",
    [
        lambda part: part.index,
        lambda part: part.damage(),
        lambda part: part.reading().__enter__(),
    ],
)
def test_a_part_that_is_opened_again_may_have_been_merged(tmp_path, use):
    path = tmp_path / "made.h5"
    fill(path, range(2), finish=False, part_videos=1)
    kept = OpenParts(most=1)
    parts = sorted((tmp_path / "made.parts").glob("part+*"))
    first, second = (PartFile(feature_file.FeatureFile(part), kept) for part in parts)
    assert len(first.index) == len(second.index) == 1
    for part in parts:
        part.unlink()
    with pytest.raises(InputError, match=f"{re.escape(first.path.name)}.* open the store again"):
        use(first)


def test_arrays_of_a_store_belong_to_the_caller(tmp_path):
    fill(tmp_path / "made.h5", range(4))
    with Store.open(tmp_path / "made.h5") as store:
        for ask in (store.times_seconds, store.views):
            before = ask("fly/v003").copy()
            array = ask("fly/v003")
            array += 1
            np.testing.assert_array_equal(ask("fly/v003"), before)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    videos=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="/.\0"), min_size=1, max_size=8),
        st.lists(
            st.lists(st.floats(-65000, 65000), min_size=3, max_size=3), min_size=1, max_size=4
        ),
        max_size=8,
    ),
    part_videos=st.integers(1, 4),
)
def test_any_features_come_back_by_id_in_float16(tmp_path_factory, videos, part_videos):
    path = tmp_path_factory.mktemp("round") / "made.h5"
    metas = [
        StoredVideo(id=name, label="", group="", parts=["", ""], source={"bytes": 1})
        for name in videos
    ]
    with StoreWriter(path, RECIPE, DATASET, part_videos=part_videos) as writer:
        for meta in metas:
            writer.add(meta, np.array(videos[meta.id]), np.zeros(len(videos[meta.id])))
        assert writer.finish(metas)
    with Store.open(path) as store:
        assert store.video_ids == list(videos)
        for name, rows in videos.items():
            np.testing.assert_array_equal(
                store.features(name)[0], np.array(rows).astype(np.float16)
            )


@settings(max_examples=12, deadline=None)
@given(data=st.data(), count=st.integers(1, 12))
def test_any_order_and_interleaving_of_parts_merges_to_the_same(tmp_path_factory, data, count):
    path = tmp_path_factory.mktemp("merge") / "made.h5"
    order = data.draw(st.permutations(range(count)))
    shards = data.draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    metas = [made_video(number) for number in range(count)]
    writers = {
        shard: StoreWriter(path, RECIPE, DATASET, part_videos=2, shard=shard) for shard in "abc"
    }
    for number, shard in zip(order, shards, strict=True):
        writers[shard].add(metas[number], made_values(number), made_times(number))
        if data.draw(st.booleans()):
            writers[shard].finish(metas)
    finished = [writer.finish(metas) for writer in writers.values()]
    for writer in writers.values():
        writer.close()
    assert finished[-1] and [name.name for name in path.parent.iterdir()] == ["made.h5"]
    check_holds(path, range(count))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .*; choose another BANK"):
        StoreWriter(tmp_path / "file" / "made.h5", RECIPE, DATASET)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        StoreWriter(tmp_path / "made.h5", RECIPE, DATASET)
    tmp_path.chmod(0o700)


def test_files_that_are_not_stores_are_refused(tmp_path):
    with pytest.raises(InputError, match="this store does not exist"):
        Store.open(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"must end in \.h5"):
        Store.open(tmp_path / "none.npz")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.ones((3, 4), np.float16)
    with pytest.raises(InputError, match="not a feature store of reelbank"):
        Store.open(tmp_path / "other.h5")


def test_the_five_lines_of_the_document_read_a_store(tmp_path):
    text = (REPOSITORY / "docs" / "store.md").read_text()
    lines = re.search(r"```python\n(import h5py\n.*?)```", text, re.DOTALL)[1]
    assert len(lines.strip().splitlines()) == 5
    fill(tmp_path / "store.h5", range(6))
    names = {}
    exec(lines.replace('"store.h5"', repr(str(tmp_path / "store.h5"))), names)
    with Store.open(tmp_path / "store.h5") as store:
        np.testing.assert_array_equal(names["values"], store.features(store.video_ids[2])[0])
        assert names["label"] == store.labels[2] and names["recipe"] == RECIPE


def test_the_file_keeps_what_the_document_says(tmp_path):
    fill(tmp_path / "made.h5", range(6))
    with h5py.File(tmp_path / "made.h5") as file:
        assert file.userblock_size == 512
        assert json.loads(bytes(file["about"][:]))["format"] == "reelbank features 3"
        assert h5py.check_string_dtype(file["video_ids"].dtype).encoding == "utf-8"
        for first, last in itertools.pairwise(file["offsets"][:]):
            number = list(file["offsets"][:]).index(first)
            assert file["checksums"][number] == feature_file.checksum(file["features"][first:last])
        assert file["parts"][:].tolist() == [
            [{"": 0, "train": 1, "test": 2}[p] for p in made_video(n).parts] for n in range(6)
        ]


@pytest.mark.parametrize(
    "separator", ["+", "-"]
)  # the second was used by this project's first commits
def test_a_part_is_newer_than_those_that_were_there_whatever_their_clock_said(tmp_path, separator):
    path, meta = tmp_path / "made.h5", made_video(1)
    folder = tmp_path / "made.parts"
    for value in (2.0, 3.0):
        with StoreWriter(path, RECIPE, DATASET) as writer:
            writer.add(
                replace(meta, source={"bytes": int(value)}), np.full((2, 5), value), np.zeros(2)
            )
            writer.flush()
            if (
                value == 2.0
            ):  # earlier versions put the time into the name, in ns: here of a clock in the year 2200
                (part,) = folder.glob("part*")
                part.rename(
                    folder
                    / separator.join(
                        ["part", f"{7_258_118_400_000_000_000:020d}", "", "0" * 32 + ".h5"]
                    )
                )
    with Store.open(path) as store:
        assert store.features(meta.id)[0].tolist() == [[3.0] * 5] * 2
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.done == {meta.id: 3} and writer.finish([meta])
    with Store.open(path) as store:
        assert store.features(meta.id)[0].tolist() == [[3.0] * 5] * 2
    assert not folder.exists()


def test_parts_of_several_shards_are_in_the_order_they_were_written(tmp_path):
    path, meta = tmp_path / "made.h5", made_video(1)
    with (
        StoreWriter(path, RECIPE, DATASET, shard="z") as one,
        StoreWriter(path, RECIPE, DATASET, shard="a") as other,
    ):
        for number in range(24):  # more than nine: numbers are compared as numbers
            writer = (one, other)[number % 2]
            writer.add(
                replace(meta, source={"bytes": 100 + number}),
                np.full((1, 5), float(number)),
                np.zeros(1),
            )
            writer.flush()
            with Store.open(path) as store:
                assert store.features(meta.id)[0].tolist() == [[float(number)] * 5]
