"""HMDB-51 (Kuehne et al. 2011): class folders, and the official 70/30 lists
`<class>_test_split<n>.txt`.

Names are `<film>_<class>_<visible parts>_<camera>_np<people>_<view>_<quality>_<number>`. The group
is the film.
"""

import re
from itertools import chain
from pathlib import Path

from reelbank.data.console import some
from reelbank.data.datasets.discovery import check_level, existing_folder, find_videos
from reelbank.data.datasets.lists import list_text
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.errors import InputError

SPLITS = ("1", "2", "3")
FPS = 30.0  # rate of all videos (Kuehne et al. 2011, 3.1), and of frames extracted from them
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
CLASSES = tuple(sorted(chain.from_iterable(COARSE.values())))
_BY_FOLDED = {name.casefold(): name for name in CLASSES}
_PARTS = {"0": "", "1": "train", "2": "test"}  # 0: in neither part


def film(stem: str, label: str) -> str:
    """The film that a clip was cut from; '' if the name does not have HMDB's form."""
    match = re.fullmatch(
        rf"(.*)_{re.escape(label)}_[a-z]_[a-z]{{2}}_np\d+_[a-z]{{2}}_[a-z]{{3}}_\d+", stem
    )
    return match[1] if match else ""


def read_lists(folder: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """(class, stem) -> its part in each of the three splits. Raises InputError (file and line) for
    a missing list, a malformed line, or a video that is not in all three lists of its class."""
    parts: dict[tuple[str, str], tuple[str, ...]] = {}
    for label in CLASSES:
        columns = [_read_list(folder / f"{label}_test_split{split}.txt") for split in SPLITS]
        for split, column in zip(SPLITS, columns, strict=True):
            different = sorted(column.keys() ^ columns[0].keys())
            if different:
                raise InputError(
                    f"{folder}: the lists {label}_test_split1.txt and "
                    f"{label}_test_split{split}.txt must contain the same videos, but only one of "
                    f"them contains {some(different)}; use the official lists"
                )
        for stem in columns[0]:
            parts[label, stem] = tuple(column[stem] for column in columns)
    return parts


def _read_list(path: Path) -> dict[str, str]:
    lines = list_text(path, "all 153 official HMDB-51 lists").splitlines()
    column: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, code = line.strip().rpartition(" ")
        stem = name.strip().removesuffix(".avi")
        if not stem or code not in _PARTS:
            raise InputError(
                f"{path}, line {number}: expected '<name>.avi <0, 1 or 2>' (got '{line.strip()}')"
            )
        if stem in column:
            raise InputError(
                f"{path}, line {number}: '{stem}' occurs twice; remove one of the lines"
            )
        column[stem] = _PARTS[code]
    return column


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT, with their parts in the official lists. Raises InputError for a
    wrong ROOT or folder of lists."""
    root = existing_folder(options.root, "ROOT", options.name)
    check_level(root, CLASSES, "HMDB-51")
    if not options.splits_dir:
        raise InputError(
            f"DATASET={options.name} needs the official lists of its splits; give LISTS=<folder "
            "testTrainMulti_7030_splits>, which is in test_train_splits.rar on the HMDB-51 site"
        )
    lists = read_lists(existing_folder(options.splits_dir, "LISTS", options.name))
    paths, notes = find_videos(root)
    videos, foreign, unlisted = [], set(), []
    for video_id, path in paths.items():
        folder, _, stem = video_id.rpartition("/")
        label = _BY_FOLDED.get(folder.casefold())
        if label is None:
            foreign.add(video_id.split("/")[0])
        elif (label, stem) not in lists:
            unlisted.append(video_id)
        else:
            videos.append(Video(video_id, path, label, film(stem, label), lists[label, stem]))
    if not videos:
        raise InputError(
            f"ROOT={root} contains no video that is listed in LISTS={options.splits_dir}; correct "
            "ROOT or LISTS"
        )
    if foreign:
        notes.append(
            "files and folders in ROOT left out because they are not class folders of HMDB-51: "
            f"{some(sorted(foreign))}"
        )
    if unlisted:
        notes.append(f"videos left out because no official list contains them: {some(unlisted)}")
    if len(videos) < len(lists):
        present = len({video.label for video in videos})
        notes.append(
            f"ROOT contains {len(videos):,} of the {len(lists):,} videos and {present} of the "
            f"{len(CLASSES)} classes of HMDB-51"
        )
    return Dataset(
        options.name,
        root,
        tuple(videos),
        CLASSES,
        SPLITS,
        coarse=COARSE,
        notes=tuple(notes),
        image_fps=FPS,
    )


HMDB51 = DatasetSpec(load, takes_lists=True)
