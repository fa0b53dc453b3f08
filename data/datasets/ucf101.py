"""UCF-101 (Soomro, Zamir, Shah 2012): class folders as distributed, with names
`v_<Class>_g<group>_c<clip>`.

The group determines the official splits: groups 1-7, 8-14 and 15-21 are the test parts of splits 1,
2 and 3; all other groups are used for training.
"""

import re
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.datasets.discovery import check_level, existing_folder, find_videos
from reelbank.data.datasets.types import (
    Dataset,
    DatasetOptions,
    DatasetSpec,
    NamedVideo,
    Naming,
    Video,
)
from reelbank.data.errors import InputError
from reelbank.data.text_files import read_text

VIDEOS = 13_320
SPLITS = ("1", "2", "3")
COARSE = {
    name: tuple(classes.split())
    for name, classes in {
        "human-object interaction": """ApplyEyeMakeup ApplyLipstick BlowDryHair BrushingTeeth CuttingInKitchen Hammering
            HulaHoop JugglingBalls JumpRope Knitting Mixing MoppingFloor Nunchucks PizzaTossing ShavingBeard SkateBoarding
            SoccerJuggling Typing WritingOnBoard YoYo""",
        "body-motion only": """BabyCrawling BlowingCandles BodyWeightSquats HandstandPushups HandstandWalking JumpingJack Lunges
            PullUps PushUps RockClimbingIndoor RopeClimbing Swing TaiChi TrampolineJumping WalkingWithDog WallPushups""",
        "human-human interaction": "BandMarching Haircut HeadMassage MilitaryParade SalsaSpin",
        "playing musical instruments": """Drumming PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano
            PlayingSitar PlayingTabla PlayingViolin""",
        "sports": """Archery BalanceBeam BaseballPitch Basketball BasketballDunk BenchPress Biking Billiards Bowling
            BoxingPunchingBag BoxingSpeedBag BreastStroke CleanAndJerk CliffDiving CricketBowling CricketShot Diving Fencing
            FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing HammerThrow HighJump HorseRace HorseRiding
            IceDancing JavelinThrow Kayaking LongJump ParallelBars PoleVault PommelHorse Punch Rafting Rowing Shotput Skiing
            Skijet SkyDiving SoccerPenalty StillRings SumoWrestling Surfing TableTennisShot TennisSwing ThrowDiscus UnevenBars
            VolleyballSpiking""",
    }.items()
}
# In the order of classInd.txt.
CLASSES = tuple(sorted(chain.from_iterable(COARSE.values()), key=str.lower))
_BY_FOLDED = {name.casefold(): name for name in CLASSES}


def official_parts(group: int) -> tuple[str, ...]:
    """'train' or 'test' in each of the three official splits, from the group number."""
    return tuple("test" if 7 * split < group <= 7 * (split + 1) else "train" for split in range(3))


class ParsedId(NamedTuple):
    """The class and the group number in a video's id."""

    label: str
    group: int


def parse_id(video_id: str) -> ParsedId | None:
    """Parse `<Class>/v_<Class>_gNN_cNN`; None for any other name. Letter case is ignored, because
    the class folder HandstandPushups contains files named v_HandStandPushups_*."""
    match = re.fullmatch(r"([^/]+)/v_([^/]+)_g(\d\d)_c\d\d", video_id)
    if (
        not match
        or match[1].casefold() != match[2].casefold()
        or match[1].casefold() not in _BY_FOLDED
    ):
        return None
    return ParsedId(_BY_FOLDED[match[1].casefold()], int(match[3]))


def read_lists(folder: Path) -> list[set[str]]:
    """The ids in the official lists trainlist0N.txt and testlist0N.txt, one set per split, with
    case folded. Raises InputError (file and line) for a malformed line, a wrong class number, or a
    part that contradicts the rule of groups."""
    _check_class_list(folder / "classInd.txt")
    named: list[set[str]] = []
    for split in range(3):
        named.append(set())
        for part in ("train", "test"):
            path = folder / f"{part}list0{split + 1}.txt"
            for number, line in _lines(path):
                words = line.split()
                video_id = words[0].removesuffix(".avi")
                parsed = parse_id(video_id)
                if parsed is None or len(words) > 2:
                    raise InputError(
                        f"{path}, line {number}: expected the name of a UCF-101 video (got '{line}')"
                    )
                label, group = parsed
                if len(words) == 2 and words[1] != str(CLASSES.index(label) + 1):
                    raise InputError(
                        f"{path}, line {number}: the number of class {label} must be "
                        f"{CLASSES.index(label) + 1} (got {words[1]})"
                    )
                if official_parts(group)[split] != part:
                    raise InputError(
                        f"{path}, line {number}: group {group:02d} belongs to the "
                        f"{official_parts(group)[split]} part of split {split + 1}, but is in "
                        f"the {part} list; use the official lists or leave LISTS out"
                    )
                named[split].add(video_id.casefold())
    return named


def _check_class_list(path: Path) -> None:
    if path.exists():
        for number, line in _lines(path):
            if number > len(CLASSES):
                raise InputError(
                    f"{path}, line {number}: the official list has only {len(CLASSES)} lines "
                    f"(got '{line}'); use the official lists or leave LISTS out"
                )
            if line.split() != [str(number), CLASSES[number - 1]]:
                raise InputError(
                    f"{path}, line {number}: expected '{number} {CLASSES[number - 1]}' (got "
                    f"'{line}'); use the official lists or leave LISTS out"
                )


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise InputError(
            f"LISTS: {path} is missing; the folder must contain the official UCF-101 lists"
        ) from None
    except OSError as error:
        raise InputError(f"LISTS: {path} cannot be read: {error}") from None
    return [
        (number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT with their official parts. If a folder of lists is given, the
    lists are compared with the rule of groups and the videos. Raises InputError for a wrong ROOT or
    a list that differs."""
    root = existing_folder(options.root, "ROOT", options.name)
    check_level(root, CLASSES, "UCF-101")
    lists = []
    if options.splits_dir:
        lists = read_lists(existing_folder(options.splits_dir, "LISTS", options.name))
    paths, notes = find_videos(root)
    videos, foreign, misnamed = [], set(), []
    for video_id, path in paths.items():
        parsed = parse_id(video_id)
        if parsed is None:
            if video_id.split("/")[0].casefold() in _BY_FOLDED:
                misnamed.append(video_id)
            else:
                foreign.add(video_id.split("/")[0])
            continue
        for split, named in enumerate(lists):
            if video_id.casefold() not in named:
                raise InputError(
                    f"{options.splits_dir}: neither trainlist0{split + 1}.txt nor testlist0{split + 1}.txt names {video_id}, "
                    f"which is in ROOT; use the official lists or leave LISTS out"
                )
        label, group = parsed
        videos.append(Video(video_id, path, label, f"{label}/g{group:02d}", official_parts(group)))
    if not videos:
        raise InputError(
            f"ROOT={root} contains no video of UCF-101; expected videos such as "
            f"{CLASSES[0]}/v_{CLASSES[0]}_g01_c01.avi"
        )
    if foreign:
        notes.append(
            "files and folders in ROOT left out because they are not class folders of UCF-101: "
            f"{some(sorted(foreign))}"
        )
    if misnamed:
        notes.append(
            "videos left out because their names do not have UCF-101's form "
            f"(v_<class>_g01_c01): {some(misnamed)}"
        )
    if len(videos) < VIDEOS:
        present = len({video.label for video in videos})
        notes.append(
            f"ROOT contains {len(videos):,} of the {VIDEOS:,} videos and {present} of the "
            f"{len(CLASSES)} classes of UCF-101"
        )
    # image_fps stays unknown: some of the videos have 25 frames per second, others 29.97.
    return Dataset(
        options.name, root, tuple(videos), CLASSES, SPLITS, coarse=COARSE, notes=tuple(notes)
    )


def read_name(name: str) -> NamedVideo | None:
    """Parse the name `v_<Class>_gNN_cNN`, bare or at the end of a path; None for any other name."""
    stem = name.rpartition("/")[2].removesuffix(".avi")
    match = re.fullmatch(r"v_([^/]+)_g\d\d_c\d\d", stem)
    parsed = parse_id(f"{match[1]}/{stem}") if match else None
    if parsed is None:
        return None
    label, group = parsed
    return NamedVideo(f"{label}/{stem}", label, f"{label}/g{group:02d}", official_parts(group))


NAMING = Naming(
    title="UCF-101",
    form="v_<Class>_gNN_cNN",
    read=read_name,
    classes=CLASSES,
    splits=SPLITS,
    coarse=COARSE,
)
UCF101 = DatasetSpec(load, takes_lists=True, naming=NAMING)
