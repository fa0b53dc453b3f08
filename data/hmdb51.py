"""HMDB-51 (Kuehne et al. 2011): class folders, and the official 70/30 lists `<class>_test_split<n>.txt`.

Names are `<film>_<class>_<visible parts>_<camera>_np<people>_<view>_<quality>_<number>`: the film is the group.
"""

import re
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.videos import Dataset, DatasetOptions, Video, check_level, existing_folder, find_videos, some

SPLITS = ("1", "2", "3")
COARSE = {
    name: tuple(classes.split())
    for name, classes in {
        "facial actions": "chew laugh smile talk",
        "facial actions with object": "drink eat smoke",
        "body movements": """cartwheel clap climb climb_stairs dive fall_floor flic_flac handstand jump pullup pushup run sit
            situp somersault stand turn walk wave""",
        "body movements with object": """brush_hair catch draw_sword dribble golf hit kick_ball pick pour push ride_bike
            ride_horse shoot_ball shoot_bow shoot_gun swing_baseball sword_exercise throw""",
        "human interaction": "fencing hug kick kiss punch shake_hands sword",
    }.items()
}
CLASSES = tuple(sorted(name for names in COARSE.values() for name in names))
_BY_FOLDED = {name.casefold(): name for name in CLASSES}
_PARTS = {"0": "", "1": "train", "2": "test"}  # 0: in neither part


def film(stem: str, label: str) -> str:
    """The source a clip was cut from; '' when the name is not of HMDB's form."""
    match = re.fullmatch(rf"(.*)_{re.escape(label)}_[a-z]_[a-z]{{2}}_np\d+_[a-z]{{2}}_[a-z]{{3}}_\d+", stem)
    return match[1] if match else ""


def read_lists(folder: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """(class, stem) -> its part in each of the three splits. Raises InputError (file and line) for a missing list, a malformed
    line, or a video that a class's three lists do not all name."""
    parts: dict[tuple[str, str], tuple[str, ...]] = {}
    for label in CLASSES:
        columns = [_read_list(folder / f"{label}_test_split{split}.txt") for split in SPLITS]
        for split, column in zip(SPLITS, columns, strict=True):
            odd = sorted(column.keys() ^ columns[0].keys())
            if odd:
                raise InputError(f"{folder}: {label}_test_split1.txt and {label}_test_split{split}.txt differ in {some(odd)}")
        for stem in columns[0]:
            parts[label, stem] = tuple(column[stem] for column in columns)
    return parts


def _read_list(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"LISTS: {path} is missing; the folder must hold all 153 official HMDB-51 lists") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"LISTS: {path} cannot be read: {error}") from None
    column: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, code = line.strip().rpartition(" ")
        stem = name.strip().removesuffix(".avi")
        if not stem or code not in _PARTS:
            raise InputError(f"{path}, line {number}: '{line.strip()}' is not '<name>.avi <0, 1 or 2>'")
        if stem in column:
            raise InputError(f"{path}, line {number}: '{stem}' is named twice")
        column[stem] = _PARTS[code]
    return column


def load(options: DatasetOptions) -> Dataset:
    """Videos below ROOT with the parts of the official lists. Raises InputError for a wrong ROOT or list folder."""
    root = existing_folder(options.root, "ROOT", "hmdb51")
    check_level(root, CLASSES, "HMDB-51")
    if not options.splits_dir:
        raise InputError(
            "DATASET=hmdb51 needs its official lists: LISTS=<folder testTrainMulti_7030_splits>, from "
            "test_train_splits.rar on the HMDB-51 site"
        )
    lists = read_lists(existing_folder(options.splits_dir, "LISTS", "hmdb51"))
    found, notes = find_videos(root)
    videos, foreign, unlisted = [], set(), []
    for video_id, path in found.items():
        folder, _, stem = video_id.rpartition("/")
        label = _BY_FOLDED.get(folder.casefold())
        if label is None:
            foreign.add(video_id.split("/")[0])
        elif (label, stem) not in lists:
            unlisted.append(video_id)
        else:
            videos.append(Video(video_id, path, label, film(stem, label), lists[label, stem]))
    if not videos:
        raise InputError(f"ROOT={root} holds no video that the lists in {options.splits_dir} name")
    if foreign:
        notes.append(f"left out, not a class of HMDB-51: {some(sorted(foreign))}")
    if unlisted:
        notes.append(f"left out, in no official list: {some(unlisted)}")
    if len(videos) < len(lists):
        present = len({video.label for video in videos})
        notes.append(f"{len(videos):,} of {len(lists):,} videos present; {present} of {len(CLASSES)} classes")
    return Dataset("hmdb51", root, tuple(videos), CLASSES, SPLITS, COARSE, tuple(notes))
