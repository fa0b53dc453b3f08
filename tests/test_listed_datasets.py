"""Data sets that are described by their official lists: Kinetics, Something-Something V2, ActivityNet,
THUMOS'14 and EPIC-KITCHENS-100. The lists here are small ones in the official formats."""

import json
from pathlib import Path

import pytest
from test_datasets import refusal, touch

from reelbank.data.datasets.registry import is_of_dataset, load_dataset, loadable_name
from reelbank.data.datasets.types import Dataset

# Kinetics

ONE, TWO, THREE, FOUR, FIVE = (f"{name:-<11}" for name in ("one", "two", "three", "four", "_5"))
KINETICS_LISTS = {
    "train.csv": (
        "label,youtube_id,time_start,time_end,split\n"
        f"abseiling,{ONE},20,30,train\n"
        f'"passing American football (in game), live",{TWO},117,127,train\n'
        f"abseiling,{FIVE},0,10,train\n"
    ),
    "validate.csv": (
        f"label,youtube_id,time_start,time_end,split,is_cc\nzumba,{THREE},3,13,validate,0\n"
    ),
    "test.csv": f"youtube_id,time_start,time_end,split\n{FOUR},1,11,test\n",
}


def write_lists(folder: Path, lists: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def kinetics(root: Path, **lists: str) -> Dataset:
    named = {name.replace("_", "."): text for name, text in lists.items()}
    folder = write_lists(root.parent / "lists", KINETICS_LISTS | named)
    return load_dataset("kinetics", str(root), splits_dir=str(folder))


def test_kinetics(tmp_path: Path) -> None:
    """Class folders or none; names with times or without them; most videos are absent."""
    root = touch(
        tmp_path / "videos",
        f"train/abseiling/{ONE}_000020_000030.mp4",
        f"train/passing/{TWO}.mp4",
        f"val/{THREE}_000003_000013.mp4",
        f"{FOUR}_000001_000011.webm",
        f"extra/{ONE}_000020_000030.mp4",
        f"extra/{ONE}_000021_000031.mp4",
        "extra/other.mp4",
    )
    dataset = kinetics(root)
    football = "passing American football (in game), live"
    assert dataset.name == "kinetics-3" and dataset.splits == ("1", "val")
    assert dataset.classes == ("abseiling", football, "zumba")
    by_id = {video.id: (video.label, video.group, video.parts) for video in dataset.videos}
    assert by_id == {
        f"extra/{ONE}_000020_000030": ("abseiling", ONE, ("train", "train")),
        f"train/passing/{TWO}": (football, TWO, ("train", "train")),
        f"val/{THREE}_000003_000013": ("zumba", THREE, ("validation", "test")),
        f"{FOUR}_000001_000011": ("", FOUR, ("test", "")),
    }
    counts, foreign, again = dataset.notes
    assert counts == (
        "ROOT contains 4 of the 5 listed videos (2 of 3 for training, 1 of 1 for validation, "
        "1 of 1 for testing)"
    )
    assert foreign.startswith("2 videos left out because no list contains them")
    assert f"train/abseiling/{ONE}_000020_000030" in again


def test_editions_of_kinetics_are_data_sets_of_their_own() -> None:
    assert is_of_dataset("kinetics-400", "kinetics") and is_of_dataset(
        "kinetics-400", "kinetics-400"
    )
    assert not is_of_dataset("kinetics-400", "ssv2") and not is_of_dataset("ssv2-1", "ssv2")
    assert loadable_name("kinetics-400") == "kinetics"


def test_a_name_without_times_must_be_unambiguous(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", f"{ONE}.mp4", f"{TWO}.mp4")
    more = KINETICS_LISTS["train.csv"] + f"zumba,{ONE},50,60,train\n"
    assert [video.id for video in kinetics(root, train_csv=more).videos] == [TWO]


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train_csv": "label,time_start,time_end\n"}, ["train.csv, line 1", "'youtube_id'"]),
        (
            {"train_csv": f"label,youtube_id,time_start,time_end\nzumba,{ONE},1\n"},
            ["train.csv, line 2", "expected 4 cells"],
        ),
        (
            {"train_csv": "label,youtube_id,time_start,time_end\nzumba,short,1,2\n"},
            ["line 2, column youtube_id"],
        ),
        (
            {"train_csv": f"label,youtube_id,time_start,time_end\nzumba,{ONE},1.5,2\n"},
            ["line 2, column time_start"],
        ),
        (
            {"test_csv": f"label,youtube_id,time_start,time_end\nabseiling,{ONE},20,30\n"},
            ["test.csv, line 2", f"{ONE} from second 20", "training as 'abseiling'"],
        ),
    ],
)
def test_malformed_lists_of_kinetics_are_named(
    tmp_path: Path, lists: dict[str, str], words: list[str]
) -> None:
    folder = write_lists(
        tmp_path / "lists",
        KINETICS_LISTS | {name.replace("_", "."): text for name, text in lists.items()},
    )
    root = touch(tmp_path / "videos", f"{ONE}_000020_000030.mp4")
    line = refusal("kinetics", str(root), splits_dir=str(folder))
    assert all(word in line for word in words), line


@pytest.mark.parametrize("name", ["kinetics", "ssv2", "activitynet", "thumos14", "epic"])
def test_lists_and_videos_are_needed(tmp_path: Path, name: str) -> None:
    root = touch(tmp_path / "videos", "other.mp4")
    (tmp_path / "empty").mkdir()
    assert "LISTS=<folder with" in refusal(name, str(root))
    assert "LISTS" in refusal(name, str(root), splits_dir=str(tmp_path / "empty"))
    lists = {"kinetics": KINETICS_LISTS, "ssv2": SSV2_LISTS, "activitynet": ACTIVITYNET_LISTS}
    lists["epic"] = EPIC_LISTS
    folder = write_lists(tmp_path / "lists", lists.get(name, THUMOS14_LISTS))
    line = refusal(name, str(root), splits_dir=str(folder))
    assert f"ROOT={root} contains no video that is listed" in line


# Something-Something V2

SSV2_LISTS = {
    "labels.json": json.dumps({"Bending something until it breaks": "1", "Holding something": "0"}),
    "train.json": json.dumps(
        [
            {
                "id": "78687",
                "label": "holding a potato",
                "template": "Holding [something]",
                "placeholders": ["a potato"],
            },
            {"id": "2", "template": "Bending [something] until it breaks"},
        ]
    ),
    "validation.json": json.dumps([{"id": "3", "template": "Holding [something]"}]),
    "test.json": json.dumps([{"id": "4"}]),
}


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_something_something(tmp_path: Path, prefix: str) -> None:
    lists = {f"{prefix}{name}": text for name, text in SSV2_LISTS.items()}
    folder = write_lists(tmp_path / "lists", lists)
    root = touch(tmp_path / "videos", "78687.webm", "3.webm", "4.webm", "sub/3.webm", "9.webm")
    dataset = load_dataset("ssv2", str(root), splits_dir=str(folder))
    assert dataset.classes == ("Holding something", "Bending something until it breaks")
    assert [(video.id, video.label, *video.parts) for video in dataset.videos] == [
        ("3", "Holding something", "test"),
        ("4", "", ""),
        ("78687", "Holding something", "train"),
    ]
    assert dataset.notes[0] == "ROOT contains 3 of the 4 listed videos"
    assert dataset.notes[1].startswith("2 videos left out")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labels.json", '{"Holding something": "1"}', ["labels.json", "from 0 on"]),
        ("train.json", "[", ["train.json", "not valid JSON"]),
        ("train.json", '[{"id": "x"}]', ["train.json, entry 1", "a number"]),
        ("train.json", '[{"id": "1", "template": "[x]"}]', ["entry 1", "'[x]' is not a class"]),
        ("train.json", '[{"id": "1"}, {"id": 1}]', ["entry 2", "twice"]),
        ("train.json", '[{"id": "3"}]', ["validation.json", "video 3 is also in another list"]),
    ],
)
def test_malformed_lists_of_something_something_are_named(
    tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    folder = write_lists(tmp_path / "lists", SSV2_LISTS | {name: text})
    line = refusal("ssv2", str(touch(tmp_path / "v", "3.webm")), splits_dir=str(folder))
    assert all(word in line for word in words), line


# ActivityNet and THUMOS'14: long videos

YOUTUBE = "sJKZEb7TUuM"
DATABASE = {
    YOUTUBE: {
        "duration": 30.0,
        "subset": "training",
        "resolution": "320x240",
        "url": "",
        "annotations": [
            {"label": "Waxing skis", "segment": [1.5, 12.25]},
            {"label": "Skiing", "segment": [11, 31.0]},
            {"label": "Waxing skis", "segment": [13, 14]},
            {"label": "Skiing", "segment": [30.5, 31]},
        ],
    },
    "bbbbbbbbbbb": {
        "duration": 20.0,
        "subset": "validation",
        "annotations": [
            {"label": "Waxing skis", "segment": [0, 3]},
            {"label": "Skiing", "segment": [4, 5]},
            {"label": "Skiing", "segment": [6, 7]},
        ],
    },
    "ccccccccccc": {"duration": 9.0, "subset": "testing", "annotations": []},
    "ddddddddddd": {
        "duration": 9.0,
        "subset": "training",
        "annotations": [{"label": "Archery", "segment": [0, 1]}],
    },
}
ACTIVITYNET_LISTS = {
    "activity_net.v1-3.min.json": json.dumps({"version": "VERSION 1.3", "database": DATABASE})
}


def facts(dataset: Dataset) -> list[tuple[object, ...]]:
    return [
        (video.id, video.label, video.group, *video.parts, video.span_seconds)
        for video in dataset.videos
    ]


def test_activitynet(tmp_path: Path) -> None:
    """Actions of training videos are videos, others are whole. One video is absent."""
    folder = write_lists(tmp_path / "lists", ACTIVITYNET_LISTS)
    root = touch(
        tmp_path / "videos", f"v_{YOUTUBE}.mp4", "val/bbbbbbbbbbb.mkv", "v_ccccccccccc.mp4"
    )
    dataset = load_dataset("activitynet", str(root), splits_dir=str(folder))
    assert dataset.classes == ("Archery", "Skiing", "Waxing skis") and dataset.multilabel
    assert dataset.files == 3
    assert facts(dataset) == [
        ("v_ccccccccccc", "", "ccccccccccc", "", None),
        (f"v_{YOUTUBE}/Skiing-1", "Skiing", YOUTUBE, "train", (11.0, 30.0)),
        (f"v_{YOUTUBE}/Waxing_skis-1", "Waxing skis", YOUTUBE, "train", (1.5, 12.25)),
        (f"v_{YOUTUBE}/Waxing_skis-2", "Waxing skis", YOUTUBE, "train", (13.0, 14.0)),
        ("val/bbbbbbbbbbb", "Skiing;Waxing skis", "bbbbbbbbbbb", "test", None),
    ]
    assert dataset.notes == (
        "ROOT contains 3 of the 4 listed videos",
        "left out 1 action without a duration, or with a start after the end of the video",
        "shortened 1 action with an end after the end of the video",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subset": "train"}, ["video bad", "subset", "'train'"]),
        ({"duration": -1}, ["video bad", "duration"]),
        ({"annotations": [{"label": "x", "segment": [1]}]}, ["video bad", "segment"]),
        ({"annotations": [{"label": "a;b", "segment": [1, 2]}]}, ["video bad", "a;b"]),
    ],
)
def test_malformed_annotations_of_activitynet_are_named(
    tmp_path: Path, change: dict[str, object], words: list[str]
) -> None:
    entry = {"duration": 9.0, "subset": "training", "annotations": []} | change
    text = json.dumps({"database": DATABASE | {"bad": entry}})
    folder = write_lists(tmp_path / "lists", {"activity_net.v1-3.min.json": text})
    root = touch(tmp_path / "videos", f"v_{YOUTUBE}.mp4")
    line = refusal("activitynet", str(root), splits_dir=str(folder))
    assert all(word in line for word in words), line


THUMOS14_LISTS = {
    "val/annotation/Diving_val.txt": "video_validation_0000051  67.5 75.9\n",
    "val/annotation/CliffDiving_val.txt": (
        "video_validation_0000051  67.5 75.9\nvideo_validation_0000052  1 2.5\n"
    ),
    "val/annotation/Ambiguous_val.txt": "video_validation_0000052  30.0 31.0\n",
    "test/annotation/Diving_test.txt": "video_test_0000004  0.2 1.1\n\n",
    "test/annotation/CliffDiving_test.txt": "video_test_0000004  3 4\n",
    "readme.txt": "not a list\n",
}


def test_thumos14(tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "lists", THUMOS14_LISTS)
    names = ("val/video_validation_0000051", "video_validation_0000052", "video_test_0000004")
    root = touch(tmp_path / "videos", *(f"{name}.mp4" for name in names))
    dataset = load_dataset("thumos14", str(root), splits_dir=str(folder))
    assert dataset.classes == ("CliffDiving", "Diving") and not dataset.notes
    assert facts(dataset) == [
        (
            f"{names[0]}/CliffDiving-1",
            "CliffDiving",
            "video_validation_0000051",
            "train",
            (67.5, 75.9),
        ),
        (f"{names[0]}/Diving-1", "Diving", "video_validation_0000051", "train", (67.5, 75.9)),
        (names[2], "CliffDiving;Diving", names[2], "test", None),
        (f"{names[1]}/CliffDiving-1", "CliffDiving", names[1], "train", (1.0, 2.5)),
    ]
    (tmp_path / "lists" / "val" / "annotation" / "Diving_val.txt").write_text("video_1 2 3\n")
    line = refusal("thumos14", str(root), splits_dir=str(folder))
    assert "Diving_val.txt, line 1" in line and "video_1 2 3" in line


# EPIC-KITCHENS-100

_EPIC_HEADER = (
    "uid,narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame"
)
_EPIC_LABELLED = (
    f"{_EPIC_HEADER},narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
EPIC_LISTS = {
    "EPIC_100_verb_classes.csv": (
        "id,key,instances,category\n"
        "0,take,\"['get', 'take']\",retrieve\n1,turn-on,['turn-on'],access\n2,open,['open'],access\n"
    ),
    "EPIC_100_noun_classes.csv": (
        "id,key,instances,category\n0,tap,['tap'],appliances\n1,door,\"['door', 'gate']\",appliances\n"
    ),
    "EPIC_100_train.csv": (
        f"{_EPIC_LABELLED}\n"
        "0,P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,2,gate,1,"
        "\"['gate', 'tap']\",\"[1, 0]\"\n"
        "1,P01_01_1,P01,P01_01,,01:02:03.5,01:02:04,1,2,take tap,get,0,tap,0,['tap'],[0]\n"
        "2,P01_01_2,P01,P01_01,,00:00:05.00,00:00:05.00,1,2,take tap,get,0,tap,0,['tap'],[0]\n"
        "3,P02_01_0,P02,P02_01,,00:00:05.00,00:00:06.00,1,2,take door,get,0,door,1,['door'],[1]\n"
    ),
    "EPIC_100_validation.csv": (
        f"{_EPIC_LABELLED}\n"
        "4,P01_11_0,P01,P01_11,,00:00:00.00,00:00:01.89,1,113,turn on tap,turn-on,1,tap,0,['tap'],[0]\n"
    ),
    "EPIC_100_test_timestamps.csv": (
        f"{_EPIC_HEADER}\n1924,P01_101_0,P01,P01_101,00:00:02.851,00:00:02.86,00:00:03.87,143,193\n"
    ),
}


@pytest.mark.parametrize(
    ("name", "classes", "labels"),
    [
        (
            "epic",
            ("take tap", "take door", "turn-on tap", "open door"),
            ("open door", "take tap", "turn-on tap"),
        ),
        ("epic_verb", ("take", "turn-on", "open"), ("open", "take", "turn-on")),
        ("epic_noun", ("tap", "door"), ("door", "tap", "tap")),
    ],
)
def test_epic_kitchens(
    tmp_path: Path, name: str, classes: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    """Each action is a video of a file, with a verb, a noun or both as its class. One video is absent,
    and one action has no duration."""
    folder = write_lists(tmp_path / "lists", EPIC_LISTS)
    names = ("P01/videos/P01_01.MP4", "P01/videos/P01_11.MP4", "P01/videos/P01_101.MP4")
    root = touch(tmp_path / "videos", *names, "P01/again/P01_11.mp4", "P03/P03_01.MP4")
    dataset = load_dataset(name, str(root), splits_dir=str(folder))
    assert (dataset.name, dataset.classes, dataset.multilabel) == (name, classes, False)
    assert dataset.files == 3
    first, second, tested = labels
    at = "P01/videos"
    assert facts(dataset) == [
        ("P01/again/P01_11/P01_11_0", tested, "P01_11", "test", (0.0, 1.89)),
        (f"{at}/P01_01/P01_01_0", first, "P01_01", "train", (0.14, 3.37)),
        (f"{at}/P01_01/P01_01_1", second, "P01_01", "train", (3723.5, 3724.0)),
        (f"{at}/P01_101/P01_101_0", "", "P01_101", "", (2.86, 3.87)),
    ]
    assert dataset.notes == (
        "ROOT contains 3 of the 4 listed videos",
        "left out 1 action without a duration, or with a start after the end of the video",
        "2 videos left out because no list contains them, or because ROOT contains them twice: "
        "P01/videos/P01_11, P03/P03_01",
    )
    (folder / "EPIC_100_test_timestamps.csv").unlink()
    dataset = load_dataset(name, str(root), splits_dir=str(folder))
    assert len(dataset.videos) == 3 and dataset.classes == classes


def _changed(name: str, old: str, new: str) -> dict[str, str]:
    assert old in EPIC_LISTS[name]
    return {name: EPIC_LISTS[name].replace(old, new)}


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (
            _changed("EPIC_100_train.csv", "verb_class", "verbs"),
            ["train.csv, line 1", "'verb_class'"],
        ),
        (
            _changed("EPIC_100_train.csv", "00:00:03.37", "3.37"),
            ["train.csv, line 2, column stop_timestamp", "'3.37'"],
        ),
        (
            _changed("EPIC_100_train.csv", "open,2,", "open,3,"),
            ["train.csv, line 2, column verb_class", "0 to 2", "'3'"],
        ),
        (
            _changed("EPIC_100_train.csv", "P02_01_0", "../x"),
            ["train.csv, line 5, column narration_id", "'../x'"],
        ),
        (
            _changed("EPIC_100_train.csv", "P01_01_1", "P01_01_0"),
            ["train.csv", "P01_01_0 occurs twice"],
        ),
        (
            _changed("EPIC_100_validation.csv", "P01_11,", "P02_01,"),
            ["validation.csv", "P02_01 is also in another list"],
        ),
        (
            _changed("EPIC_100_noun_classes.csv", "1,door", "2,door"),
            ["noun_classes.csv, line 3, column id", "expected 1"],
        ),
        (
            _changed("EPIC_100_verb_classes.csv", "1,turn-on", "1,take"),
            ["verb_classes.csv, line 3, column key", "'take'"],
        ),
    ],
)
def test_malformed_lists_of_epic_kitchens_are_named(
    tmp_path: Path, lists: dict[str, str], words: list[str]
) -> None:
    folder = write_lists(tmp_path / "lists", EPIC_LISTS | lists)
    line = refusal("epic", str(touch(tmp_path / "v", "P01_01.MP4")), splits_dir=str(folder))
    assert all(word in line for word in words), line
