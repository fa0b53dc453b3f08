"""A store that videos are added to: what is stored already is not written again, few files remain, and
they hold together what one file would hold."""

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_stores import DATASET, RECIPE, check_holds, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store import commands as shelf
from reelbank.data.store.merging.pack import pack
from reelbank.data.store.merging.tiers import (
    FULL,
    LARGEST_BYTES,
    MOST_FILES,
    files_to_merge,
    output_bounds,
    size_class,
)
from reelbank.data.store.options import InspectOptions, PackOptions, RemoveOptions, VerifyOptions
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Failure
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import SourceFile

# One row has 256 KiB, a video 1 to 4 rows: a few videos are more than a small file.
LARGE = (256, 512)


def add(path: Path, numbers, row_shape=LARGE, **options) -> None:
    """Add videos, and name no others."""
    assert fill(path, numbers, row_shape, **options)


def files_of(path: Path) -> list[Path]:
    """The files of a finished store, oldest first."""
    return [path, *sorted(path.with_suffix(".parts").glob("*"))]


def contents(path: Path) -> dict[str, tuple]:
    """What a store says about each video, in its order."""
    with Store.open(path) as store:
        assert store.finished and store.verify() == [] and len(store) == len(store.video_ids)
        return {
            video_id: (
                store.features(video_id)[0].tobytes(),
                store.features(video_id)[1].tolist(),
                store.labels[number],
                store.groups[number],
                list(store.parts[number]),
                store.sources[number],
            )
            for number, video_id in enumerate(store.video_ids)
        }


def test_adding_leaves_the_files_of_a_store_as_they_are(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    before = path.stat()
    add(path, [8, 9])
    add(path, [11, 10])
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(files_of(path)) > 1 and files_of(path)[-1].name.startswith("more+")
    check_holds(path, range(12), LARGE)
    add(tmp_path / "once.h5", [*range(10), 11, 10])
    assert list(contents(path).items()) == list(contents(tmp_path / "once.h5").items())


def test_small_stores_stay_one_file(tmp_path):
    path = tmp_path / "made.h5"
    for number in range(20):
        add(path, [number], (5,))
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]
    check_holds(path, range(20))


def test_many_additions_leave_few_files_and_rewrite_little(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(40))  # about 27 MB
    inode, most = path.stat().st_ino, 0
    for number in range(40, 100):
        add(path, [number])
        most = max(most, len(files_of(path)))
    assert path.stat().st_ino == inode and most <= 2 * MOST_FILES + 2
    check_holds(path, range(100), LARGE)


@pytest.mark.parametrize("seed", range(4))
def test_the_classes_of_the_files_bound_their_number_and_what_is_written(seed):
    """Additions of any sizes, as numbers only."""
    chance = random.Random(seed)
    sizes: list[int] = []
    added = written = 0
    for _ in range(3000):
        new = int(2 ** chance.uniform(10, 30 if seed else 22))
        count = files_to_merge(sizes, new)
        merged = new + sum(sizes[len(sizes) - count :])
        bounds = output_bounds(np.full(max(1, merged >> 20), min(merged, 1 << 20)))
        outputs = [
            max(1, last - first) << 20 if merged > 1 << 20 else merged
            for first, last in zip(bounds, bounds[1:], strict=False)
        ]
        assert max(outputs) <= LARGEST_BYTES or count == 0
        sizes = [*sizes[: len(sizes) - count], *outputs]
        added, written = added + new, written + merged
        classes = [size_class(size) for size in sizes]
        assert all(classes.count(number) <= MOST_FILES for number in set(classes) - {FULL, 0})
        assert classes.count(0) <= 1
    assert written < 7 * added
    assert sum(each < LARGEST_BYTES // 2 for each in sizes) <= 5 * MOST_FILES


def test_a_new_version_of_a_video_replaces_the_old_one_in_any_file(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    for value, numbers in ((2.0, [1, 9]), (3.0, [9])):
        changed = [replace(made_video(n), source={"bytes": int(value)}) for n in numbers]
        with StoreWriter(path, RECIPE, DATASET) as writer:
            for video in changed:
                writer.add(video, np.full((2, *LARGE), value), np.zeros(2))
            assert writer.finish(changed)
            assert len(writer.done) == 12 and writer.done[made_video(9).id] == value
    order = [made_video(number).id for number in range(12)]
    sizes = []
    for _ in range(2):
        with Store.open(path) as store:
            assert store.video_ids == order and len(store) == 12
            assert (store[made_video(1).id] == 2).all() and (store[made_video(9).id] == 3).all()
            assert (store[made_video(0).id] == made_values(0, LARGE).astype(np.float16)).all()
            sizes.append(store.size_bytes)
        assert pack(PackOptions(store=str(path))) == 0
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]
    assert sizes[1] < sizes[0] - 6 * (2 * 256 * 512)  # the old versions are gone


def extract_again(path: Path, number: int, value: float) -> None:
    """A new version of a video: one row of this value."""
    changed = replace(made_video(number), source={"bytes": int(value)})
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.add(changed, np.full((1, *LARGE), value), np.zeros(1))
        assert writer.finish([changed])


def check_counts(path: Path, numbers) -> None:
    """The length, the iteration and the ids agree, and every video can be read."""
    with Store.open(path) as store:
        assert len(store) == len(list(store)) == len(store.video_ids) == len(numbers)
        assert set(store) == {made_video(number).id for number in numbers}
        assert store.verify() == [] and all(len(store[name]) for name in store)


def test_a_video_that_changes_twice_is_counted_once(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    for value in (2.0, 3.0, 4.0):
        extract_again(path, 3, value)  # merged with the small file of the version before
        assert len(files_of(path)) == 2
        check_counts(path, range(8))
        with Store.open(path) as store:
            assert (store[made_video(3).id] == value).all()
    assert pack(PackOptions(store=str(path))) == 0
    check_counts(path, range(8))


def test_the_videos_are_counted_again_if_an_earlier_file_is_gone(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    extract_again(path, 9, 2.0)
    assert len(files_of(path)) == 3
    files_of(path)[1].unlink()
    check_counts(path, [*range(8), 9])
    add(path, [8, 10, 11])
    check_counts(path, range(12))


def test_a_divided_merge_that_ends_early_leaves_a_right_store(tmp_path):
    limit, numbers = {"largest_file_bytes": 3 << 20}, range(3, 39, 4)  # 1 MiB each
    path = tmp_path / "0" / "made.h5"
    path.parent.mkdir()
    for number in numbers[:-1]:
        add(path, [number], **limit)
    fill(path, numbers[-1:], LARGE, finish=False, **limit)
    assert len(files_of(path)) == len(numbers)
    shutil.copytree(path.parent, tmp_path / "before")
    add(path, [], **limit)
    outputs = files_of(path)
    check_counts(path, numbers)
    assert len(outputs) > 3
    for count in range(1, len(outputs)):  # the newest ones get their names first
        stopped = tmp_path / str(count) / "made.h5"
        shutil.copytree(tmp_path / "before", stopped.parent)
        for output in outputs[-count:]:
            shutil.copy(output, stopped.with_suffix(".parts"))
        check_counts(stopped, numbers)
        add(stopped, [], **limit)
        check_counts(stopped, numbers)
        check_holds(stopped, numbers, LARGE)
        add(stopped, [40, 43], **limit)
        check_counts(stopped, [*numbers, 40, 43])


def test_other_labels_groups_and_parts_reach_videos_in_every_file(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    first = path.stat().st_ino
    changed = replace(made_video(9), label="dig", group="h", parts=["", "test"])
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([changed])
    assert path.stat().st_ino == first  # only the file with the video is written again
    changed_too = replace(made_video(2), group="k")
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([changed_too])
    found = contents(path)
    assert list(found) == [made_video(number).id for number in range(12)]
    assert found[changed.id][2:5] == ("dig", "h", ["", "test"])
    assert found[changed_too.id][3] == "k"
    assert found[made_video(8).id][3] == made_video(8).group


def test_what_a_data_set_adds_without_videos_is_kept(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    inode = path.stat().st_ino
    wider = replace(DATASET, classes=("cut", "dig", "fly"), coarse={"some": ("cut",)})
    with StoreWriter(path, RECIPE, wider) as writer:
        assert writer.finish([])
    assert path.stat().st_ino == inode
    names = [file.name for file in files_of(path)]
    with Store.open(path) as store:
        assert store.finished and store.dataset.classes == ("cut", "dig", "fly")
        assert store.dataset.coarse == {**DATASET.coarse, "some": ("cut",)}
    with StoreWriter(path, RECIPE, wider) as writer:
        assert writer.finish([])
    assert [file.name for file in files_of(path)] == names  # nothing new, nothing written


def test_failures_of_added_videos_are_kept_until_they_succeed(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    failed, changed = made_video(8), replace(made_video(1), source={"bytes": 7})
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.fail(failed, "no frame decoded")
        writer.fail(changed, "moov atom not found")
        assert writer.finish([failed])
    for numbers in ([9, 10, 11], [12, 13, 14, 15]):
        add(path, numbers)  # the file with the failures is merged with these
        with Store.open(path) as store:
            assert store.finished and store.failures == {
                failed.id: Failure("no frame decoded", SourceFile(1008)),
                changed.id: Failure("moov atom not found", SourceFile(7)),
            }
            assert changed.id in store and failed.id not in store
    assert pack(PackOptions(store=str(path))) == 0
    with Store.open(path) as store:
        assert store.failures.keys() == {failed.id, changed.id}
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.add(failed, made_values(8, LARGE), made_times(8))
        writer.add(replace(changed, source={"bytes": 8}), made_values(1, LARGE), made_times(1))
        assert writer.finish([failed, changed])
        assert writer.failed == {}
    with Store.open(path) as store:
        assert store.failures == {} and len(store) == 16


def test_a_first_extraction_that_is_too_large_for_one_file_makes_several(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(20), largest_file_bytes=4 << 20, part_videos=3)
    sizes = [file.stat().st_size for file in files_of(path)]
    assert len(sizes) > 2 and max(sizes) < 4.3e6
    check_holds(path, range(20), LARGE)
    add(tmp_path / "once.h5", range(20))
    assert list(contents(path).items()) == list(contents(tmp_path / "once.h5").items())
    for number in range(20, 40):
        add(path, [number], largest_file_bytes=4 << 20)
    assert max(file.stat().st_size for file in files_of(path)) < 4.3e6
    check_holds(path, range(40), LARGE)
    assert pack(PackOptions(store=str(path))) == 0
    assert [name.name for name in tmp_path.iterdir() if "made" in name.name] == ["made.h5"]
    check_holds(path, range(40), LARGE)


def test_a_failure_stays_with_old_features_in_any_file_of_a_divided_store(tmp_path):
    path, numbers = tmp_path / "made.h5", range(3, 43, 4)
    changed = [replace(made_video(number), source={"bytes": 7}) for number in (3, 19, 39)]
    absent = made_video(50)
    videos = [made_video(number) for number in numbers]
    with StoreWriter(path, RECIPE, DATASET, largest_file_bytes=3 << 20) as writer:
        for number, video in zip(numbers, videos, strict=True):
            writer.add(video, made_values(number, LARGE), made_times(number))
        writer.flush()
        for video in (*changed, absent):
            writer.fail(video, "moov atom not found")
        assert writer.finish([*videos, absent])
        assert writer.failed.keys() == {video.id for video in (*changed, absent)}
    assert len(files_of(path)) > 3
    with Store.open(path) as store:
        assert store.finished and len(store) == len(numbers)
        assert store.failures.keys() == {video.id for video in (*changed, absent)}


@pytest.mark.parametrize(
    "name", ["more+" + "9" * 20 + "+" + "0" * 32 + ".h5", "part+" + "9" * 25 + "++0.h5"]
)
def test_a_file_that_no_later_one_could_follow_is_refused(tmp_path, name):
    path = tmp_path / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    more = files_of(path)[1]
    hostile = more.rename(more.with_name(name))
    before = hostile.read_bytes()
    with pytest.raises(InputError, match=f"{re.escape(name)}: the number in its name must be"):
        add(path, [12])
    assert hostile.read_bytes() == before
    hostile.rename(more)
    add(path, [12])
    check_holds(path, range(13), LARGE)


def test_nothing_is_removed_unless_the_new_files_belong_to_the_store(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    more, video = files_of(path)[1], made_video(12)
    hostile = more.with_name("more+" + "9" * 20 + "+" + "0" * 32 + ".h5")
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.add(video, made_values(12, LARGE), made_times(12))
        writer.flush()
        more.rename(hostile)  # no name for a further file sorts after this one
        with pytest.raises(
            InputError, match="is not among the files of this store now; nothing was"
        ):
            writer.finish([video])
    check_holds(path, range(13), LARGE)
    hostile.rename(more)
    add(path, [])
    check_holds(path, range(13), LARGE)
    check_counts(path, range(13))


def test_files_that_a_killed_merge_has_left_are_ignored_and_removed(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    kept = {}
    for number in range(8, 12):
        add(path, [number])
        kept |= {file: file.read_bytes() for file in files_of(path)[1:]}
    left = [file for file in kept if not file.exists()]
    assert left  # merged with a later one, and removed
    for file in left:
        file.write_bytes(kept[file])
    check_holds(path, range(12), LARGE)
    with Store.open(path) as store:
        assert store.finished and len(store) == 12
        assert store.size_bytes == sum(file.stat().st_size for file in files_of(path)[:1]) + sum(
            file.stat().st_size for file in files_of(path)[1:] if file not in left
        )
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([])
    assert not any(file.exists() for file in left)
    check_holds(path, range(12), LARGE)


def test_a_reader_goes_on_while_its_files_are_merged(tmp_path):
    path = tmp_path / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    with Store.open(path) as store:
        names = files_of(path)
        add(path, range(12, 40))
        assert pack(PackOptions(store=str(path))) == 0 and not names[1].exists()
        for number in (0, 8, 11):
            values, _ = store.features(made_video(number).id)
            assert (values == made_values(number, LARGE).astype(np.float16)).all()
    check_holds(path, range(40), LARGE)


def test_damage_in_an_added_file_is_named(tmp_path, capsys):
    path = tmp_path / "stores" / "made.h5"
    add(path, range(8))
    add(path, range(8, 12))
    more = files_of(path)[1]
    content = bytearray(more.read_bytes())
    content[len(content) // 2] ^= 1
    more.write_bytes(content)
    assert shelf.verify(VerifyOptions(str(tmp_path))) == 1
    assert str(more) in capsys.readouterr().out
    with pytest.raises(InputError, match="are damaged; restore the file"):
        pack(PackOptions(store=str(path)))
    assert more.read_bytes() == content and files_of(path) == [path, more]
    more.write_bytes(content[:-1])
    with pytest.raises(
        InputError, match="shortened or extended; replace the file with a good copy"
    ):
        Store.open(path)


def test_inspect_names_all_files_and_says_how_to_make_one(tmp_path, capsys):
    path = tmp_path / "stores" / "made.h5"
    add(path, range(8))
    assert shelf.inspect(InspectOptions(str(tmp_path))) == 0
    assert "reelbank pack" not in capsys.readouterr().out
    add(path, range(8, 12))
    assert shelf.inspect(InspectOptions(str(tmp_path))) == 0
    output = capsys.readouterr().out
    assert all(str(file) in output for file in files_of(path))
    assert "2 files ('reelbank pack' merges them into one" in output
    assert shelf.remove(RemoveOptions(str(tmp_path), str(path), yes=True)) == 0
    assert list(path.parent.iterdir()) == []


def test_only_a_finished_store_is_packed(tmp_path):
    path = tmp_path / "made.h5"
    fill(path, range(3), finish=False)
    with pytest.raises(InputError, match=r"is unfinished; finish it with 'reelbank extract'"):
        pack(PackOptions(store=str(path)))
    fill(path, range(3))
    assert pack(PackOptions(store=str(path))) == 0
    check_holds(path, range(3))
    assert [name.name for name in tmp_path.iterdir()] == ["made.h5"]
