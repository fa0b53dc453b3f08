"""Data sets: official parts, groups, wrong folders, lists and tables that disagree, and cuts by
whole groups."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import testdata, testdata_rows, writable_copy
from hypothesis import given, settings
from hypothesis import strategies as st

from reelbank.data.datasets import hmdb51, ucf101
from reelbank.data.datasets.discovery import find_videos
from reelbank.data.datasets.folder import guess_groups
from reelbank.data.datasets.registry import Dataset, load_dataset
from reelbank.data.datasets.splits import cut_validation
from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.recipes import read_recipe
from reelbank.extract.options import ExtractOptions


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def refusal(*args: object, **options: object) -> str:
    """The message, one line, of the InputError that load_dataset raises."""
    with pytest.raises(InputError) as caught:
        load_dataset(*args, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parts_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {video.id: video.parts for video in dataset.videos}


# UCF-101


def test_ucf101_rule_equals_the_official_lists_for_all_videos() -> None:
    folder = testdata("splits", "ucf101")
    seen = 0
    for split in range(3):
        counts: Counter[str] = Counter()
        for part in ("train", "test"):
            for line in (folder / f"{part}list0{split + 1}.txt").read_text().split("\n"):
                if line.strip():
                    parsed = ucf101.parse_id(line.split()[0].removesuffix(".avi"))
                    assert parsed is not None, line
                    assert ucf101.official_parts(parsed[1])[split] == part, line
                    assert line.startswith(parsed[0] + "/")
                    counts[part] += 1
        assert (counts["train"], counts["test"]) == [(9537, 3783), (9586, 3734), (9624, 3696)][
            split
        ]
        seen += counts.total()
    assert seen == 3 * 13_320
    assert [len(named) for named in ucf101.read_lists(folder)] == [13_320] * 3


def test_class_order_and_categories_are_the_official_ones() -> None:
    categories = json.loads(testdata("splits", "categories.json").read_text())
    listed = [
        line.split()[1]
        for line in testdata("splits", "ucf101", "classInd.txt").read_text().splitlines()
        if line.strip()
    ]
    assert list(ucf101.CLASSES) == listed
    for module, name in ((ucf101, "ucf101"), (hmdb51, "hmdb51")):
        assert {key: set(names) for key, names in module.COARSE.items()} == {
            key: set(v) for key, v in categories[name].items()
        }
    assert [len(names) for names in ucf101.COARSE.values()] == [20, 16, 5, 10, 50]
    assert [len(names) for names in hmdb51.COARSE.values()] == [4, 3, 19, 18, 7]
    hmdb_lists = testdata("splits", "hmdb51").glob("*_test_split1.txt")
    assert list(hmdb51.CLASSES) == sorted(
        path.name.removesuffix("_test_split1.txt") for path in hmdb_lists
    )


def test_ucf101_real_clips_with_and_without_lists() -> None:
    root = str(testdata("clips", "ucf101"))
    plain = load_dataset("ucf101", root)
    listed = load_dataset("ucf101", root, splits_dir=str(testdata("splits", "ucf101")))
    assert plain == listed
    rows = {
        row["file"].removeprefix("clips/ucf101/")[:-4]: row
        for row in testdata_rows("clips.csv")
        if "ucf101" in row["file"]
    }
    assert len(rows) == 208
    assert {video.id for video in plain.videos} == set(rows)
    for video in plain.videos:
        row = rows[video.id]
        assert video.parts == (row["split1"], row["split2"], row["split3"])
        assert (video.label, video.group) == (row["class"], f"{row['class']}/g{row['group']}")
        assert video.path.is_file()
    assert plain.notes == (
        "ROOT contains 208 of the 13,320 videos and 30 of the 101 classes of UCF-101",
    )
    assert len(plain.classes) == 101
    mini = load_dataset("ucf101", root, classes=["TennisSwing", "Basketball"])
    assert Counter(video.label for video in mini.videos) == {"Basketball": 32, "TennisSwing": 32}
    assert (
        Counter((video.label, video.parts[0]) for video in mini.videos)["Basketball", "train"] == 18
    )
    assert mini.classes == plain.classes


def test_ucf101_odd_names(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "YoYo/v_YoYo_g25_c03.avi",
        "YoYo/v_Archery_g01_c01.avi",
        "YoYo/copy of v_YoYo_g01_c01.avi",
        "YoYo/.v_YoYo_g01_c02.avi",
        "Dancing/v_Dancing_g01_c01.avi",
        "YoYo/notes.txt",
    )
    dataset = load_dataset("ucf101", str(root))
    assert parts_of(dataset) == {
        "HandstandPushups/v_HandStandPushups_g08_c01": ("train", "test", "train"),
        "YoYo/v_YoYo_g25_c03": ("train", "train", "train"),
    }
    assert [video.group for video in dataset.videos] == ["HandstandPushups/g08", "YoYo/g25"]
    notes = " | ".join(dataset.notes)
    assert "not class folders of UCF-101: Dancing" in notes
    assert "YoYo/copy of v_YoYo_g01_c01, YoYo/v_Archery_g01_c01" in notes
    assert "ROOT contains 2 of the 13,320 videos and 2 of the 101 classes of UCF-101" in notes


def test_ucf101_wrong_lists_are_named_with_file_and_line(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "YoYo/v_YoYo_g01_c01.avi")
    lists = tmp_path / "lists"
    writable_copy(testdata("splits", "ucf101"), lists)
    options = {"splits_dir": str(lists)}
    assert load_dataset("ucf101", str(root), **options).videos[0].parts == (
        "test",
        "train",
        "train",
    )  # type: ignore[arg-type]
    path = lists / "testlist02.txt"
    original = path.read_bytes()

    def replaced(old: bytes, new: bytes) -> None:
        assert old in original
        path.write_bytes(original.replace(old, new, 1))

    replaced(b"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02", b"ApplyEyeMakeup/v_ApplyEyeMakeup_g15_c02")
    line = refusal("ucf101", str(root), **options)
    assert (
        "testlist02.txt, line 2" in line and "group 15" in line and "train part of split 2" in line
    )
    replaced(b"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c03", b"ApplyEyeMakeup/v_Apply")
    line = refusal("ucf101", str(root), **options)
    assert "testlist02.txt, line 3" in line and "v_Apply" in line
    path.unlink()
    assert "testlist02.txt is missing" in refusal("ucf101", str(root), **options)
    path.write_bytes(original)
    train = lists / "trainlist01.txt"
    lines = train.read_bytes()
    train.write_bytes(lines.replace(b"_g08_c01.avi 1\r", b"_g08_c01.avi 7\r", 1))
    line = refusal("ucf101", str(root), **options)
    assert (
        "trainlist01.txt, line 1" in line
        and "the number of class ApplyEyeMakeup must be 1 (got 7)" in line
    )
    train.write_bytes(lines)
    classes = lists / "classInd.txt"
    lines = classes.read_bytes()
    classes.write_bytes(lines.replace(b"3 Archery", b"3 Archery2", 1))
    line = refusal("ucf101", str(root), **options)
    assert "classInd.txt, line 3: expected '3 Archery' (got '3 Archery2')" in line
    classes.write_bytes(lines.rstrip() + b"\r\n102 Chess\r\n")
    line = refusal("ucf101", str(root), **options)
    assert "line 102: the official list has only 101 lines (got '102 Chess')" in line
    classes.write_bytes(lines)
    touch(root, "YoYo/v_YoYo_g01_c99.avi")
    line = refusal("ucf101", str(root), **options)
    assert "testlist01.txt" in line and "YoYo/v_YoYo_g01_c99" in line


def test_wrong_level_of_root_is_answered_with_the_right_folder(tmp_path: Path) -> None:
    inner = tmp_path / "data" / "UCF-101"
    touch(inner, "YoYo/v_YoYo_g01_c01.avi", "Archery/v_Archery_g01_c01.avi")
    touch(tmp_path / "data" / "hmdb", "punch/x.avi")
    assert f"use ROOT={inner}" in refusal("ucf101", str(tmp_path / "data"))
    assert f"use ROOT={inner}" in refusal("ucf101", str(tmp_path))
    assert f"give the folder of all classes, ROOT={inner}" in refusal("ucf101", str(inner / "YoYo"))
    assert "the folder does not exist" in refusal("ucf101", str(tmp_path / "nowhere"))
    assert "is a file" in refusal("ucf101", str(inner / "YoYo" / "v_YoYo_g01_c01.avi"))
    (tmp_path / "empty").mkdir()
    line = refusal("ucf101", str(tmp_path / "empty"))
    assert "empty" in line and "UCF-101" in line
    line = refusal("hmdb51", str(touch(tmp_path / "else", "a/b.avi")), splits_dir=str(tmp_path))
    assert "no class folders" in line and "HMDB-51" in line
    assert "no videos" in refusal("folder", str(tmp_path / "empty"))
    assert "needs ROOT=" in refusal("ucf101")


def test_names_and_options_that_do_not_fit(tmp_path: Path) -> None:
    root = str(touch(tmp_path, "YoYo/v_YoYo_g01_c01.avi"))
    line = refusal("ucf10", root)
    assert "DATASET=ucf10: choose from ucf101, " in line and "did you mean ucf101?" in line
    line = refusal("ucf101", root, classes=["yoyo"])
    assert line.startswith("CLASSES") and "yoyo" in line and "did you mean YoYo?" in line
    line = refusal("ucf101", root, classes=["YoYo", "Archery"])
    assert line.startswith("CLASSES") and "contains no videos of the classes Archery" in line
    line = refusal("ucf101", root, csv="x.csv")
    assert "CSV=" in line and "folder" in line
    line = refusal("folder", root, splits_dir="x")
    assert "LISTS=" in line and "folder" in line


# HMDB-51


def test_hmdb51_all_official_videos(tmp_path: Path) -> None:
    lists = testdata("splits", "hmdb51")
    official = hmdb51.read_lists(lists)
    assert len(official) == 6766
    for split in range(3):
        counts = Counter((label, parts[split]) for (label, _), parts in official.items())
        for label in hmdb51.CLASSES:
            assert (counts[label, "train"], counts[label, "test"]) == (70, 30)
    wanted = [key for key in official if key[0] in ("kick", "kick_ball", "sword", "chew")]
    root = touch(
        tmp_path,
        *(f"{label}/{stem}.avi" for label, stem in wanted),
        "kick/not in any list.avi",
        "sing/a.avi",
    )
    dataset = load_dataset("hmdb51", str(root), splits_dir=str(lists))
    assert parts_of(dataset) == {f"{label}/{stem}": official[label, stem] for label, stem in wanted}
    assert all(
        video.group and f"_{video.label}_" not in video.group[-len(video.label) - 2 :]
        for video in dataset.videos
    )
    notes = " | ".join(dataset.notes)
    assert "no official list contains them: kick/not in any list" in notes
    assert "not class folders of HMDB-51: sing" in notes
    assert (
        f"ROOT contains {len(wanted):,} of the 6,766 videos and 4 of the 51 classes of HMDB-51"
        in notes
    )
    assert all(hmdb51.film(stem, label) for label, stem in official)


def test_hmdb51_names_with_brackets_and_marks() -> None:
    dataset = load_dataset(
        "hmdb51", str(testdata("clips", "hmdb51")), splits_dir=str(testdata("splits", "hmdb51"))
    )
    assert [(video.label, video.group, video.parts) for video in dataset.videos] == [
        (
            "climb",
            "(HQ)_Rock_Climbing_-_Free_Solo_Speed_Climb_-_Dan_Osman",
            ("train", "test", "train"),
        ),
        ("golf", "Golf_Tips_-_Hit_The_Driver_300+_Yards!!!", ("train", "train", "test")),
        ("punch", "AdvancedBoxingTechniquesandExercises", ("test", "train", "train")),
    ]


def test_hmdb51_lists_missing_or_malformed(tmp_path: Path) -> None:
    root = str(testdata("clips", "hmdb51"))
    line = refusal("hmdb51", root)
    assert "LISTS=" in line and "testTrainMulti_7030_splits" in line
    lists = tmp_path / "lists"
    writable_copy(testdata("splits", "hmdb51"), lists)
    path = lists / "golf_test_split2.txt"
    original = path.read_text()
    path.write_text(original.replace(" 1", " 3", 1))
    line = refusal("hmdb51", root, splits_dir=str(lists))
    assert "golf_test_split2.txt, line" in line and "0, 1 or 2" in line
    path.write_text(original[original.index("\n") + 1 :])
    assert "golf_test_split1.txt and golf_test_split2.txt must contain the same videos" in refusal(
        "hmdb51", root, splits_dir=str(lists)
    )
    path.unlink()
    line = refusal("hmdb51", root, splits_dir=str(lists))
    assert "LISTS: " in line and "golf_test_split2.txt is missing" in line


# Any folder


def test_folder_of_other_clips_is_unlabelled_and_names_the_wav() -> None:
    dataset = load_dataset("folder", str(testdata("clips", "other")))
    assert len(dataset.videos) == 10
    assert (dataset.classes, dataset.splits) == ((), ())
    assert {(video.label, video.group, video.parts) for video in dataset.videos} == {("", "", ())}
    assert any(
        "names have no video file extension" in note and "mmaction2_test.wav" in note
        for note in dataset.notes
    )
    assert any("have no label" in note for note in dataset.notes)


def test_folder_split_never_parts_a_group(tmp_path: Path) -> None:
    names = [
        f"{c}/clip_g{g:02d}_c{k:02d}.mp4"
        for c in ("ants", "bees")
        for g in range(1, 11)
        for k in range(1, 4)
    ]
    root = str(touch(tmp_path, *names))
    dataset = load_dataset("folder", root)
    assert (dataset.classes, dataset.splits) == (("ants", "bees"), ("1",))
    by_group = defaultdict(set)
    for video in dataset.videos:
        by_group[video.group].add(video.parts[0])
    assert len(by_group) == 20
    assert all(len(parts) == 1 for parts in by_group.values())
    assert {(v.label, v.parts[0]) for v in dataset.videos} == {
        (c, p) for c in ("ants", "bees") for p in ("train", "test")
    }
    assert load_dataset("folder", root) == dataset
    assert parts_of(load_dataset("folder", root, seed=1)) != parts_of(dataset)


def test_groups_read_from_names() -> None:
    def groups(*names: str) -> list[str]:
        return list(guess_groups({name: name.split("/")[0] for name in names}).values())

    assert groups("a/v_x_g07_c01", "a/v_x_g7") == ["a/g07", "a/g07"]
    assert groups("a/tape1/x", "a/tape1/deep/y", "a/tape2/x_1") == [
        "a/tape1",
        "a/tape1/deep",
        "a/tape2",
    ]
    assert groups("a/cup_01", "a/cup_02", "a/derby-1", "a/derby (2)") == [
        "a/cup",
        "a/cup",
        "a/derby",
        "a/derby",
    ]
    assert groups("a/video_01", "a/video_02", "a/video_03") == ["", "", ""]
    assert groups("a/x1", "a/x2") == ["a/x1", "a/x2"]
    assert guess_groups({"bare_g01_c01": ""}) == {"bare_g01_c01": ""}
    assert guess_groups({"bare_g01_c01": "a"}) == {"bare_g01_c01": "a/g01"}


def test_folder_with_a_class_of_one_group_and_bare_videos(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "one/x_g01_c01.avi", "one/x_g01_c02.avi", "two/p.avi", "two/q.avi", "bare.avi"
    )
    dataset = load_dataset("folder", str(root))
    parts = {video.id: video.parts[0] for video in dataset.videos}
    assert parts["one/x_g01_c01"] == parts["one/x_g01_c02"] == "train"
    assert sorted([parts["two/p"], parts["two/q"]]) == ["test", "train"]
    assert parts["bare"] == ""
    assert any(
        "without test videos" in note and ": one." in note and "give a CSV= file" in note
        for note in dataset.notes
    )
    assert any(
        "1 of 5 videos have no label, because they are not in a class folder" in note
        for note in dataset.notes
    )
    line = refusal("folder", str(touch(tmp_path / "kinetics", "train/a/x.mp4", "train/a/y.mp4")))
    assert "one folder per class" in line and "CSV=" in line and "ROOT=" in line


def test_csv(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "a/x.avi", "b/y.avi", "z.mp4", "Grüße, Welt.mp4", "raw")
    table = tmp_path / "table.csv"
    table.write_text(
        "\ufeffpath,label,split,group,remark\n"
        "a/x.avi,cat,train,g1,\n"
        '"Grüße, Welt.mp4",dog,test,g2,quoted\n'
        "videos/b/y.avi,dog,,g2,\n"
        "raw,cat,train,,no ending\n"
        "gone.avi,cat,train,,\n"
    )
    dataset = load_dataset("folder", str(root), csv=str(table))
    assert [(v.id, v.label, v.group, v.parts) for v in dataset.videos] == [
        ("Grüße, Welt", "dog", "g2", ("test",)),
        ("a/x", "cat", "g1", ("train",)),
        ("b/y", "dog", "g2", ("",)),
        ("raw", "cat", "", ("train",)),
    ]
    assert dataset.classes == ("cat", "dog")
    assert any(
        "1 of the 5 videos listed in table.csv are not in ROOT: gone.avi" in note
        for note in dataset.notes
    )
    assert any(
        "1 of the 5 videos in ROOT are left out, because table.csv does not list them" in note
        for note in dataset.notes
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na/x.avi,cat\n", ["line 1", "'path'"]),
        ("path,label,split\na/x.avi,cat\n", ["line 2", "column split"]),
        ("path,label\na/x.avi,cat,train\n", ["line 2", "column number 3"]),
        (
            "path,label,split\na/x.avi,cat,train\n,cat,test\n",
            ["line 3", "column path", "must not be empty"],
        ),
        ("path,label,split\na/x.avi,cat,evaluation\n", ["line 2", "column split", "evaluation"]),
        ("path,label\na/x.avi,cat\n./a/x.avi,dog\n", ["line 3", "column path", "twice"]),
        ("path,path\na/x.avi,cat\n", ["line 1", "column 'path' occurs twice"]),
        ("path,label\n", ["no rows"]),
        ("", ["line 1", "none"]),
        ("path,label\nelsewhere.avi,cat\n", ["none of the 1 videos"]),
        ('path,label\n"a/x.avi,cat\n', ["line"]),
        ("path\n../outside.avi\n", ["none of the 1 videos"]),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, words: list[str]) -> None:
    root = touch(tmp_path / "videos", "a/x.avi")
    touch(tmp_path, "outside.avi")
    (tmp_path / "t.csv").write_text(text)
    line = refusal("folder", str(root), csv=str(tmp_path / "t.csv"))
    assert all(word in line for word in ["t.csv", *words]), line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_in_a_list_or_table_changes_nothing(
    tmp_path: Path, encoding: str
) -> None:
    root = touch(tmp_path / "root", "a/x.avi", "b/y.avi")
    (tmp_path / "t.csv").write_text(
        "path,label,split\na/x.avi,dig,train\nb/y,fly,test\n", encoding=encoding
    )
    dataset = load_dataset("folder", str(root), csv=str(tmp_path / "t.csv"))
    assert [(video.id, video.label, *video.parts) for video in dataset.videos] == [
        ("a/x", "dig", "train"),
        ("b/y", "fly", "test"),
    ]
    lists = tmp_path / "lists"
    for name, read in (("ucf101", ucf101.read_lists), ("hmdb51", hmdb51.read_lists)):
        writable_copy(testdata("splits", name), lists / name)
        for path in (lists / name).glob("*.txt"):
            path.write_text(path.read_text(encoding="utf-8-sig"), encoding=encoding)
        assert read(lists / name) == read(testdata("splits", name))
    recipe = tmp_path / "own.toml"
    recipe.write_text("[extract]\nt = 7\n", encoding=encoding)
    assert read_recipe(str(recipe)) == {"extract": {"t": 7}}


def test_other_encodings_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a/x.avi")
    (tmp_path / "t.csv").write_text("path,label\na/x.avi,dig\n", encoding="utf-16")
    assert "t.csv: must be UTF-8 text (got UTF-16); save it as UTF-8" in refusal(
        "folder", root, csv=str(tmp_path / "t.csv")
    )
    (tmp_path / "t.csv").write_text("path,label\na/x.avi,d\xefg\n", encoding="latin-1")
    assert "t.csv: must be UTF-8 text (got byte 0xef in line 2)" in refusal(
        "folder", root, csv=str(tmp_path / "t.csv")
    )
    (tmp_path / "own.toml").write_text("[extract]\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"own.toml: must be UTF-8 text \(got UTF-16"):
        read_recipe(str(tmp_path / "own.toml"))


def test_a_class_with_a_comma_is_named_in_quotation_marks(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "cut, slice/x.avi", "run/y.avi")
    options = parse(ExtractOptions, ['CLASSES="cut, slice"', f"ROOT={root}"], "extract")
    kept = load_dataset("folder", str(root), classes=options.classes)
    assert [video.id for video in kept.videos] == ["cut, slice/x"]
    words = parse(ExtractOptions, ["CLASSES=cut, slice"], "extract").classes
    line = refusal("folder", root, classes=words)
    assert "has no class 'cut'" in line and "CLASSES='\"cut, slice\"'" in line


def test_names_that_end_in_a_space_are_found_in_a_table(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a /x .avi", "b/y.avi")
    (tmp_path / "t.csv").write_text("path,label\na /x ,dig\n b/y ,fly\n")
    dataset = load_dataset("folder", str(root), csv=str(tmp_path / "t.csv"))
    assert {video.id: video.label for video in dataset.videos} == {"a /x ": "dig", "b/y": "fly"}


def test_what_is_found(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "root",
        "a/x.MP4",
        "a/y.avi",
        "a/y.webm",
        ".hidden/z.avi",
        "a/.z.avi",
        "old.parts/z.avi",
        "a/x.wav",
        "a/x.jpg",
    )
    outside = touch(tmp_path / "elsewhere", "linked.mkv")
    (root / "link").symlink_to(outside)
    (root / "a" / "loop").symlink_to(root)
    (root / "broken.avi").symlink_to(tmp_path / "nothing")
    found, notes = find_videos(root)
    assert list(found) == ["a/x", "a/y.avi", "a/y.webm", "link/linked"]
    assert notes == [
        "files left out because their names have no video file extension: a/x.wav",
        "symbolic links left out because their targets do not exist: broken.avi",
    ]


# Cutting by groups


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=60),
    st.floats(0.01, 0.9),
    st.integers(0, 5),
    st.booleans(),
)
def test_cut_properties(
    videos: list[tuple[str, int]], fraction: float, seed: int, shared: bool
) -> None:
    """Group 0 stands for 'unknown'. `shared`: groups span classes."""
    ids = [f"v{i}" for i in range(len(videos))]
    labels = [label for label, _ in videos]
    groups = ["" if g == 0 else str(g) if shared else f"{label}{g}" for label, g in videos]
    cut = cut_validation(ids, labels, groups, fraction, seed)
    assert cut <= set(ids)
    sides = defaultdict(set)
    known, class_groups = defaultdict(set), defaultdict(set)
    for video_id, label, group in zip(ids, labels, groups, strict=True):
        sides[label].add(video_id in cut)
        class_groups[label].add(group or video_id)
        if group:
            known[group].add(video_id in cut)
    assert all(len(side) == 1 for side in known.values())
    for label, own in class_groups.items():
        assert False in sides[label]
        if len(own) == 1:
            assert sides[label] == {False}
        elif not shared:
            assert sides[label] == {True, False}
    order = list(range(len(ids)))[::-1]
    again = cut_validation(
        [ids[i] for i in order],
        [labels[i] for i in order],
        [groups[i] for i in order],
        fraction,
        seed,
    )
    assert again == cut


def test_cut_takes_about_the_fraction_of_each_class() -> None:
    videos = [
        (f"{c}{g}{k}", c, f"{c}{g}") for c in "abc" for g in range(20) for k in range(1 + g % 4)
    ]
    ids, labels, groups = (list(column) for column in zip(*videos, strict=True))
    cut = cut_validation(ids, labels, groups, 0.2, seed=3)
    assert cut != cut_validation(ids, labels, groups, 0.2, seed=4)
    counts = Counter(label for video_id, label, _ in videos if video_id in cut)
    assert all(abs(counts[c] - 10) <= 2 for c in "abc"), counts
    assert cut_validation(ids, labels, groups, 0, seed=3) == set()
    with pytest.raises(InputError, match="fraction"):
        cut_validation(ids, labels, groups, 1.0, seed=3)
