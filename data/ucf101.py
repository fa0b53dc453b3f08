"""UCF-101 (Soomro, Zamir, Shah 2012): class folders as distributed, names `v_<Class>_g<group>_c<clip>`.

The official splits follow from the group: groups 1-7, 8-14 and 15-21 are the test parts of splits 1, 2 and 3, all others train.
"""

import re
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.videos import Dataset, DatasetOptions, Video, check_level, existing_folder, find_videos, some

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
CLASSES = tuple(sorted((name for names in COARSE.values() for name in names), key=str.lower))  # the order of classInd.txt
_BY_FOLDED = {name.casefold(): name for name in CLASSES}


def official_parts(group: int) -> tuple[str, ...]:
    """'train' or 'test' in each of the three official splits, from the group number."""
    return tuple("test" if 7 * split < group <= 7 * (split + 1) else "train" for split in range(3))


def parse_id(video_id: str) -> tuple[str, int] | None:
    """(class, group number) of `<Class>/v_<Class>_gNN_cNN`, None for any other name. Letter case is free: the class folder
    HandstandPushups holds files named v_HandStandPushups_*."""
    match = re.fullmatch(r"([^/]+)/v_([^/]+)_g(\d\d)_c\d\d", video_id)
    if not match or match[1].casefold() != match[2].casefold() or match[1].casefold() not in _BY_FOLDED:
        return None
    return _BY_FOLDED[match[1].casefold()], int(match[3])


def read_lists(folder: Path) -> list[set[str]]:
    """The official lists trainlist0N.txt and testlist0N.txt: for each split the ids they name, in folded case. Raises
    InputError (file and line) for a malformed line, a class number out of order, or a part that the group rule contradicts."""
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
                    raise InputError(f"{path}, line {number}: '{line}' does not name a UCF-101 video")
                label, group = parsed
                if len(words) == 2 and words[1] != str(CLASSES.index(label) + 1):
                    raise InputError(
                        f"{path}, line {number}: class {label} has number {CLASSES.index(label) + 1}, not {words[1]}"
                    )
                if official_parts(group)[split] != part:
                    raise InputError(
                        f"{path}, line {number}: group {group:02d} belongs to the {official_parts(group)[split]} part of split "
                        f"{split + 1}, and this list says {part}; use the official lists or leave LISTS out"
                    )
                named[split].add(video_id.casefold())
    return named


def _check_class_list(path: Path) -> None:
    if path.exists():
        for number, line in _lines(path):
            if line.split() != [str(number), CLASSES[number - 1]] if number <= len(CLASSES) else True:
                raise InputError(f"{path}, line {number}: '{line}' is not the official class list's line")


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"LISTS: {path} is missing; the folder must hold the official UCF-101 lists") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"LISTS: {path} cannot be read: {error}") from None
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def load(options: DatasetOptions) -> Dataset:
    """Videos below ROOT with their official parts; a list folder, when given, is checked against the rule and the videos.
    Raises InputError for a wrong ROOT or a list that disagrees."""
    root = existing_folder(options.root, "ROOT", "ucf101")
    check_level(root, CLASSES, "UCF-101")
    lists = read_lists(existing_folder(options.splits_dir, "LISTS", "ucf101")) if options.splits_dir else []
    found, notes = find_videos(root)
    videos, foreign, misnamed = [], set(), []
    for video_id, path in found.items():
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
        raise InputError(f"ROOT={root} holds no video of UCF-101 (such as {CLASSES[0]}/v_{CLASSES[0]}_g01_c01.avi)")
    if foreign:
        notes.append(f"left out, not a class of UCF-101: {some(sorted(foreign))}")
    if misnamed:
        notes.append(f"left out, not named as UCF-101 names its videos: {some(misnamed)}")
    if len(videos) < VIDEOS:
        present = len({video.label for video in videos})
        notes.append(f"{len(videos):,} of {VIDEOS:,} videos present; {present} of {len(CLASSES)} classes")
    return Dataset("ucf101", root, tuple(videos), CLASSES, SPLITS, COARSE, tuple(notes))
