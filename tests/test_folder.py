"""Plain folders: each is its own data set, and no group is in several parts of its split, which is
drawn, or stated by a CSV file or by folders."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_stores import DATASET, RECIPE, made_times, made_values, made_video
from test_datasets import refusal, touch

from reelbank.data.datasets.folder import seeded_test_part
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.writer import StoreWriter


def test_each_folder_is_a_data_set_of_its_own(tmp_path: Path) -> None:
    one, other = (
        touch(tmp_path / "one" / "my clips!", "a/x.mp4"),
        touch(tmp_path / "other" / "my clips!", "a/x.mp4"),
    )
    names = [load_dataset("folder", str(root)).name for root in (one, other)]
    assert names[0] != names[1]
    assert all(re.fullmatch("folder-my_clips_-[0-9a-f]{6}", name) for name in names)
    (tmp_path / "link").symlink_to(one)
    assert load_dataset("folder", str(tmp_path / "link")).name == names[0]
    (one / "t.csv").write_text("path,label,split\na/x.mp4,b,test\n")
    assert load_dataset("folder", str(one), csv=str(one / "t.csv")).name == names[0]


def test_a_group_keeps_its_part_whatever_comes_and_goes(tmp_path: Path) -> None:
    groups = range(1, 41)
    whole = load_dataset(
        "folder", str(touch(tmp_path, *(f"a/x_g{g:02d}_c{c}.mp4" for g in groups for c in (1, 2))))
    )
    part = {video.group: video.parts[0] for video in whole.videos}
    assert 0.15 < list(part.values()).count("test") / 40 < 0.45
    for path in tmp_path.glob("a/*"):
        if int(path.name[3:5]) % 4 == 0:
            path.unlink()
    touch(tmp_path, *(f"a/x_g{g:02d}_c3.mp4" for g in range(1, 80)), "b/y_g01_c1.mp4")
    later = load_dataset("folder", str(tmp_path))
    assert {video.group: video.parts[0] for video in later.videos if video.group in part} == part


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1, max_size=12),
    st.integers(0, 9),
)
def test_seeded_split_fills_both_parts_of_every_class(
    videos: list[tuple[str, int]], seed: int
) -> None:
    labels = {f"v{i}": label for i, (label, _) in enumerate(videos)}
    groups = {f"v{i}": f"{label}{g}" if g else "" for i, (label, g) in enumerate(videos)}
    test = seeded_test_part(labels, groups, seed)
    for label in set(labels.values()):
        units = {(groups[i] or i, i in test) for i in labels if labels[i] == label}
        assert len({unit for unit, _ in units}) == len(units)  # no group in both
        assert {side for _, side in units} == ({False, True} if len(units) > 1 else {False})


def test_a_split_given_by_csv_that_tears_groups(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "a/x_1.avi", "a/x_2.avi", "a/y_1.avi", "a/y_2.avi")
    rows = [
        ("a/x_1.avi", "train", "g"),
        ("a/x_2.avi", "test", "g"),
        ("a/y_1.avi", "test", "h"),
        ("a/y_2.avi", "test", "h"),
    ]
    table = tmp_path / "t.csv"
    table.write_text(
        "path,label,split,group\n"
        + "".join(f"{path},a,{part},{group}\n" for path, part, group in rows)
    )
    line = refusal("folder", str(root), csv=str(table))
    assert "t.csv, column split" in line and "group g has videos in several" in line
    table.write_text("path,label,split\n" + "".join(f"{path},a,{part}\n" for path, part, _ in rows))
    dataset = load_dataset("folder", str(root), csv=str(table))
    assert [video.group for video in dataset.videos] == ["", "", "a/y", "a/y"]
    assert any(
        "guessed from the file names, because" in note and note.endswith(": a/x")
        for note in dataset.notes
    )


def test_a_folders_group_never_lies_in_both_parts(tmp_path):
    def write(name, number, part):
        meta = replace(made_video(number), group="match3", parts=[part, ""])
        with StoreWriter(tmp_path / f"{name}.h5", RECIPE, replace(DATASET, name=name)) as writer:
            writer.add(meta, made_values(number), made_times(number))
            return writer.finish([meta])

    for name in ("folder-clips-012345", "hmdb51"):
        assert write(name, 0, "train") and write(name, 1, "")
    assert write("hmdb51", 2, "test")
    with pytest.raises(InputError, match="group match3 would be in several of split 1"):
        write("folder-clips-012345", 2, "test")
    with Store.open(tmp_path / "folder-clips-012345.h5") as store:
        assert len(store.video_ids) == 3 and not store.finished  # nothing is lost


TABLE = """Path,LABEL,Split
a/x_1.avi,cat,Train
a/x_2.avi,cat,TRAINING
b/y_1.avi,dog,val
b/y_2.avi,dog,Valid
c/z_1.avi,dog,validation
c/z_2.avi,cat,TEST
d.avi,cat,
"""


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_be_separated_in_three_ways_and_names_three_parts(
    tmp_path: Path, separator: str
) -> None:
    names = ["a/x_1", "a/x_2", "b/y_1", "b/y_2", "c/z_1", "c/z_2", "d"]
    root = touch(tmp_path / "videos", *(f"{name}.avi" for name in names))
    (tmp_path / "t.csv").write_text(TABLE.replace(",", separator))
    dataset = load_dataset("folder", str(root), csv=str(tmp_path / "t.csv"))
    assert [(video.id, video.label, *video.parts) for video in dataset.videos] == [
        ("a/x_1", "cat", "train"),
        ("a/x_2", "cat", "train"),
        ("b/y_1", "dog", "validation"),
        ("b/y_2", "dog", "validation"),
        ("c/z_1", "dog", "validation"),
        ("c/z_2", "cat", "test"),
        ("d", "cat", ""),
    ]


def test_a_label_may_contain_the_other_separators(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "x;1.avi", "y.avi")
    (tmp_path / "t.csv").write_text("label,path\nrun; jump\tfast,x;1.avi\nrun,y\n")
    dataset = load_dataset("folder", str(root), csv=str(tmp_path / "t.csv"))
    assert [(video.id, video.label) for video in dataset.videos] == [
        ("x;1", "run; jump\tfast"),
        ("y", "run"),
    ]


def test_a_group_in_training_and_validation_is_divided(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "a/x_1.avi", "a/x_2.avi", "b/y_1.avi", "b/y_2.avi")
    (tmp_path / "t.csv").write_text(
        "path,label,split\na/x_1,a,train\na/x_2,a,val\nb/y_1,a,val\nb/y_2,a,val\n"
    )
    dataset = load_dataset("folder", str(root), csv=str(tmp_path / "t.csv"))
    assert [video.group for video in dataset.videos] == ["", "", "a/y", "a/y"]
    (tmp_path / "t.csv").write_text(
        "path,label,split,group\na/x_1,a,train,g\na/x_2,a,val,g\nb/y_1,b,,h\nb/y_2,b,val,h\n"
    )
    assert "group g has videos in several" in refusal(
        "folder", str(root), csv=str(tmp_path / "t.csv")
    )


def test_folders_of_parts_state_the_split(tmp_path: Path) -> None:
    """Groups are those of the names below the folders, as in class folders."""
    root = touch(
        tmp_path / "videos",
        "Train/cat/x_g01_c01.mp4",
        "Train/cat/x_g02_c01.mp4",
        "Train/dog/film_1.mp4",
        "Train/dog/derby_1.mp4",
        "val/cat/x_g03_c01.mp4",
        "val/dog/cup_1.mp4",
        "test/cat/x_g02_c02.mp4",
        "test/dog/cup final/1.mp4",
        "test/bare.mp4",
    )
    dataset = load_dataset("folder", str(root))
    assert dataset.classes == ("cat", "dog") and dataset.splits == ("1",)
    assert [(video.id, video.label, video.group, *video.parts) for video in dataset.videos] == [
        ("Train/cat/x_g01_c01", "cat", "cat/g01", "train"),
        ("Train/cat/x_g02_c01", "cat", "", "train"),
        ("Train/dog/derby_1", "dog", "dog/derby", "train"),
        ("Train/dog/film_1", "dog", "dog/film", "train"),
        ("test/bare", "", "", "test"),
        ("test/cat/x_g02_c02", "cat", "", "test"),
        ("test/dog/cup final/1", "dog", "dog/cup final", "test"),
        ("val/cat/x_g03_c01", "cat", "cat/g03", "validation"),
        ("val/dog/cup_1", "dog", "dog/cup", "validation"),
    ]
    assert sum("several parts of the split: cat/g02" in note for note in dataset.notes) == 1
    two = touch(tmp_path / "two", "train/a/001.mp4", "train/a/002.mp4", "val/a/001.mp4")
    assert [video.group for video in load_dataset("folder", str(two)).videos] == ["", "", ""]
    assert not load_dataset("folder", str(two)).notes


def test_a_folder_of_parts_next_to_a_class_folder_is_a_class(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/x.mp4", "test/y.mp4", "bus/z.mp4")
    assert load_dataset("folder", str(root)).classes == ("bus", "test", "train")


@pytest.mark.parametrize("grouped", [True, False])
def test_a_drawn_split_is_announced_with_its_unknown_groups(tmp_path: Path, grouped: bool) -> None:
    form = "a/film{0}_1.mp4" if grouped else "a/film_{0}.mp4"
    names = [form.format(number) for number in range(10)]
    dataset = load_dataset("folder", str(touch(tmp_path, *names)), seed=3)
    (note,) = dataset.notes
    tests = sum(video.parts == ("test",) for video in dataset.videos)
    assert note.startswith(
        f"the split was drawn at random (SEED=3): {10 - tests} training and {tests} test videos"
    )
    assert dataset.is_drawn
    assert ("groups of 10 of the 10 videos are unknown" in note) == (not grouped)
