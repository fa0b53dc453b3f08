"""Charades: annotated actions are cut out for training, whole videos are used for the test, and
wrong annotations are reported."""

from pathlib import Path

import numpy as np
import pytest

from reelbank.data.datasets.charades import read_annotations, read_classes
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.datasets.splits import cut_validation
from reelbank.data.datasets.toy_drawing import write_video
from reelbank.data.errors import InputError
from reelbank.data.video.frames import decode
from reelbank.data.video.messages import Frames

NAMES = [
    "c000 Holding some clothes",
    "c001 Putting clothes somewhere",
    "c002 Watching/Reading/Looking at a book",
]
HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
# commas, quotes and line ends inside cells, as in the real files
TRAIN = (
    'AAAA1,S1,Kitchen,6,7,Yes,"A person says ""hi, you"", sits.",bag;door,"walks; sits,\ntakes a bag",'
    "c001 11.90 21.20;c000 0.00 12.60;c001 2.5 4,30.00\n"
    "AAAA2,S2,Bedroom,6,7,Yes,A person runs.,,runs,c002 0.40 1.00;c000 1.5 3.10;c000 2.0 2.0;c001 2.2 2.4,2.04\n"
    "AAAA3,S1,Bedroom,,,No,,,,,12.5\n"
    "AAAA4,S3,Garage,6,7,Yes,x,,x,c000 1 2,9\n"
)
TEST = "BBBB1,S9,Hall,5,7,Yes,x,,x,c002 0.10 1.00;c000 0.5 1.2;c002 1.1 1.9,2.04\nBBBB2,S9,Hall,5,7,Yes,x,,x,,2.04\n"


def made(
    folder: Path,
    train: str = HEADER + TRAIN,
    test: str = HEADER + TEST,
    classes: str = "\n".join(NAMES),
) -> Path:
    """The lists, and empty files as the videos, all but AAAA4's."""
    (folder / "lists").mkdir(parents=True)
    (folder / "videos").mkdir()
    for name, text in (("train.csv", train), ("test.csv", test), ("classes.txt", classes)):
        (folder / "lists" / f"Charades_v1_{name}").write_text(text, newline="")
    for name in ("AAAA1.mp4", "AAAA2.mp4", "AAAA3.mp4", "BBBB1.mp4", "BBBB2.avi", "ZZZZ9.mp4"):
        (folder / "videos" / name).write_bytes(b"")
    return folder


def load(folder: Path, **options: object):
    return load_dataset(
        "charades", str(folder / "videos"), splits_dir=str(folder / "lists"), **options
    )  # type: ignore[arg-type]


def test_actions_are_cut_out_of_training_videos_and_test_videos_are_whole(tmp_path: Path) -> None:
    dataset = load(made(tmp_path))
    rows = [
        (video.id, video.path.name, video.label, video.group, video.parts, video.span_seconds)
        for video in dataset.videos
    ]
    assert rows == [
        ("AAAA1/c000-1", "AAAA1.mp4", NAMES[0], "S1", ("train",), (0.0, 12.6)),
        ("AAAA1/c001-1", "AAAA1.mp4", NAMES[1], "S1", ("train",), (11.9, 21.2)),
        ("AAAA1/c001-2", "AAAA1.mp4", NAMES[1], "S1", ("train",), (2.5, 4.0)),
        (
            "AAAA2/c000-1",
            "AAAA2.mp4",
            NAMES[0],
            "S2",
            ("train",),
            (1.5, 2.04),
        ),  # ended at 3.10 of 2.04 s
        ("AAAA2/c002-1", "AAAA2.mp4", NAMES[2], "S2", ("train",), (0.4, 1.0)),
        ("BBBB1", "BBBB1.mp4", f"{NAMES[0]};{NAMES[2]}", "S9", ("test",), None),
        ("BBBB2", "BBBB2.avi", "", "S9", ("test",), None),  # no action: negative for every class
    ]
    assert dataset.classes == tuple(NAMES) and dataset.splits == ("1",) and dataset.multilabel
    assert dataset.files == 5  # one of them without an action
    assert dataset.notes == (
        "ROOT contains 5 of the 6 videos in the CSV files; missing: AAAA4",
        "videos left out because neither CSV file lists them: ZZZZ9",
        "left out 2 actions without a duration, or with a start after the end of the video",
        "shortened 1 action with an end after the end of the video",
        "training videos left out because they contain no actions: AAAA3",
    )


def test_other_data_sets_are_not_multilabel(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").write_bytes(b"")
    dataset = load_dataset("folder", str(tmp_path))
    assert not dataset.multilabel and dataset.videos[0].span_seconds is None


def test_validation_takes_whole_subjects(tmp_path: Path) -> None:
    rows = "".join(f"V{i:04d},S{i % 6},x,,,,,,,c00{i % 3} 0 1;c000 1 2,5\n" for i in range(60))
    folder = made(tmp_path, train=HEADER + rows)
    for i in range(60):
        (folder / "videos" / f"V{i:04d}.mp4").write_bytes(b"")
    train = [video for video in load(folder).videos if video.parts == ("train",)]
    taken = cut_validation(
        [v.id for v in train], [v.label for v in train], [v.group for v in train], 0.3, 0
    )
    mine = {video.group for video in train if video.id in taken}
    assert (
        len(train) == 120
        and mine
        and not mine & {video.group for video in train if video.id not in taken}
    )


def test_classes_keeps_videos_with_any_of_them(tmp_path: Path) -> None:
    dataset = load(made(tmp_path), classes=[NAMES[2]])
    assert [video.id for video in dataset.videos] == ["AAAA2/c002-1", "BBBB1"]
    assert dataset.videos[1].label == f"{NAMES[0]};{NAMES[2]}" and dataset.classes == tuple(NAMES)
    assert dataset.files == 2
    with pytest.raises(InputError, match=r"charades has no class 'c002'"):
        load(tmp_path, classes=["c002"])


def test_spans_decode_to_the_frames_of_the_action(tmp_path: Path) -> None:
    """Real files of 51 frames at 25 Hz whose grey tells the frame's number."""
    folder = made(tmp_path)
    grey = np.arange(51, dtype=np.uint8) * 4 + 20
    for name in ("AAAA2.mp4", "BBBB1.mp4"):
        write_video(
            folder / "videos" / name,
            np.broadcast_to(grey[:, None, None, None], (51, 64, 64, 3)),
            np.zeros(0, np.float32),
        )
    videos = {video.id: video for video in load(folder).videos}
    shown: dict[str, list[int]] = {}
    for name in ("AAAA2/c000-1", "AAAA2/c002-1", "BBBB1"):
        messages = decode(
            videos[name].path,
            lambda frames: np.arange(frames)[:, None],
            span_seconds=videos[name].span_seconds,
        )
        pixels = np.concatenate(
            [message.pixels for message in messages if isinstance(message, Frames)]
        )  # (n, H, W, 3)
        shown[name] = [round((float(frame.mean()) - 20) / 4) for frame in pixels]
    assert shown == {
        "AAAA2/c000-1": list(range(38, 51)),  # from 1.5 s (frame 37.5) to 2.04 s, the video's end
        "AAAA2/c002-1": list(
            range(10, 25)
        ),  # from 0.40 s, which is frame 10, to before frame 25 at 1.00 s
        "BBBB1": list(range(51)),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "AAAA1,S1,x,,,,,,,c001 11.90,30\n",
            [
                "line 2, column actions",
                "expected '<class> <start> <end>', such as 'c092 11.90 21.20' (got 'c001 11.90')",
            ],
        ),
        ("AAAA1,S1,x,,,,,,,c001 1 2;;c002 1 2,30\n", ["line 2, column actions", "(got '')"]),
        ("AAAA1,S1,x,,,,,,,c001 nan 2,30\n", ["column actions", "'c001 nan 2'"]),
        ("AAAA1,S1,x,,,,,,,c001 -1 2,30\n", ["column actions"]),
        (
            "AAAA1,S1,x,,,,,,,c157 1 2,30\n",
            ["column actions", "class c157 is not listed in Charades_v1_classes.txt"],
        ),
        ("AAAA1,S1,x,,,,,,,c001 1 2,long\n", ["line 2, column length", "'long'"]),
        ("AAAA1,S1,x,,,,,,,c001 1 2,nan\n", ["line 2, column length", "'nan'"]),
        (
            f"AAAA1,S1,x,,,,,,,c001 1 2,{'9' * 400}\n",
            ["line 2, column length", "below 1,000,000"],
        ),
        (
            f"AAAA1,S1,x,,,,,,,c001 1 {'9' * 400},30\n",
            ["line 2, column actions", "below 1,000,000"],
        ),
        ("AAAA1,S1,x,,,,,,,c001 1000000 2,30\n", ["line 2, column actions", "'1000000'"]),
        (",S1,x,,,,,,,c001 1 2,30\n", ["line 2, column id"]),
        ("AAAA1,S1,x\n", ["line 2", "expected 11 cells, one per column (got 3)"]),
        (TRAIN + "AAAA1,S1,x,,,,,,,,30\n", ["video AAAA1 occurs twice"]),
        (TRAIN + "BBBB1,S1,x,,,,,,,,30\n", ["video BBBB1 occurs twice"]),
        ('AAAA1,S1,"x,,,,,,,,30\n', ["Charades_v1_train.csv, line 2"]),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    assert_refused(made(tmp_path, train=HEADER + text), ["Charades_v1_t", *words])


def assert_refused(folder: Path, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load(folder)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("c000 Holding\nc002 Taking\n", ["line 2", "expected 'c001 <name>' (got 'c002 Taking')"]),
        ("c000 Holding; folding\n", ["line 1", "';'"]),
        ("c000\n", ["line 1"]),
        ("", ["is empty"]),
    ],
)
def test_malformed_class_lists_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    assert_refused(made(tmp_path, classes=text), ["Charades_v1_classes.txt", *words])


def test_a_wrong_header_and_missing_files(tmp_path: Path) -> None:
    folder = made(tmp_path, train=HEADER.replace("actions,", "acts,") + TRAIN)
    assert_refused(folder, ["line 1", "column 'actions'"])
    (folder / "lists" / "Charades_v1_test.csv").unlink()
    (folder / "lists" / "Charades_v1_train.csv").write_text(HEADER + TRAIN, newline="")
    assert_refused(folder, ["Charades_v1_test.csv", "missing"])
    with pytest.raises(
        InputError, match="LISTS=<folder with Charades_v1_train.csv, Charades_v1_test.csv"
    ):
        load_dataset("charades", str(folder / "videos"))


def test_a_wrong_root_names_the_folder_below(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "videos").rename(folder / "Charades_v1_480")
    (folder / "videos").mkdir()
    (folder / "Charades_v1_480").rename(folder / "videos" / "Charades_v1_480")
    assert_refused(folder, [f"use ROOT={folder / 'videos' / 'Charades_v1_480'}"])
    assert_refused(made(tmp_path / "empty", test=HEADER, train=HEADER), ["contains no video"])


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path)
    table, listed = (
        folder / "lists" / "Charades_v1_train.csv",
        folder / "lists" / "Charades_v1_classes.txt",
    )
    classes = read_classes(listed)
    plain = read_annotations(table, "train", classes)
    listed.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes().replace(b"\n", b"\r\n"))
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert read_classes(listed) == classes
    assert read_annotations(table, "train", classes) == plain
    assert len(plain) == 4 and plain[0].actions[0] == ("c001", 11.9, 21.2)
