"""Charades (Sigurdsson et al. 2016): homes, 157 actions, several a video. Training videos are cut into their annotated actions,
each a video of its own; test videos stay whole, with every action in them as label. One split, the official one.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.videos import Dataset, DatasetOptions, Video, existing_folder, find_videos, some

CSV_FILES = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
CLASSES_FILE = "Charades_v1_classes.txt"
_ALL_FILES = ", ".join((*CSV_FILES.values(), CLASSES_FILE))
_COLUMNS = ("id", "subject", "actions", "length")  # those that are read, of eleven
_NUMBER = r"\d+(?:\.\d*)?"
_LONGEST_SECONDS = 1e6  # eleven days; a number of 400 digits would be infinite


@dataclass(frozen=True)
class Annotated:
    """A row of a CSV. `actions` are (class, start, end), in seconds, as they stand there; `length_seconds` is the video's."""

    id: str
    part: str
    subject: str
    actions: tuple[tuple[str, float, float], ...]
    length_seconds: float


def read_classes(path: Path) -> dict[str, str]:
    """Code -> whole line, `c000` -> `c000 Holding some clothes`: what the class is called here. Raises InputError (file, line)
    for a malformed line, a code out of order, and a name with ';', which joins the names of a label."""
    classes: dict[str, str] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        code = f"c{len(classes):03d}"
        if not re.fullmatch(rf"{code} \S.*", name):
            raise InputError(f"{path}, line {number}: '{name}' is not '{code} <name>'")
        if ";" in name:
            raise InputError(f"{path}, line {number}: ';' in '{name}' would part it in two; replace it")
        classes[code] = name
    if not classes:
        raise InputError(f"{path} is empty; wanted lines such as 'c000 Holding some clothes'")
    return classes


def read_annotations(path: Path, part: str, classes: dict[str, str]) -> list[Annotated]:
    """The rows of one of the two CSVs; `classes` as of `read_classes`. Raises InputError naming line and column."""
    rows: list[Annotated] = []
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        columns = next(reader, [])
        absent = [name for name in _COLUMNS if columns.count(name) != 1]
        if absent:
            raise InputError(f"{path}, line 1: wants one column '{absent[0]}' among {some(columns, 12) or 'none'}")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(columns):
                raise InputError(f"{where}: {len(cells)} cells, {len(columns)} columns")
            row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
            if not re.fullmatch(r"[\w-]+", row["id"]):
                raise InputError(f"{where}, column id: '{row['id']}' is no id")
            length_seconds = _seconds(row["length"], f"{where}, column length")
            actions = tuple(_actions(row["actions"], f"{where}, column actions", classes))
            rows.append(Annotated(row["id"], part, row["subject"], actions, length_seconds))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None
    return rows


def _actions(text: str, where: str, classes: dict[str, str]) -> Iterator[tuple[str, float, float]]:
    for one in text.split(";") if text else ():
        match = re.fullmatch(rf"(c\d{{3}}) ({_NUMBER}) ({_NUMBER})", one.strip())
        if not match:
            raise InputError(f"{where}: '{one.strip()}' is not '<class> <start> <end>', such as 'c092 11.90 21.20'")
        if match[1] not in classes:
            raise InputError(f"{where}: {match[1]} is not in {CLASSES_FILE}")
        yield match[1], _seconds(match[2], where), _seconds(match[3], where)


def _seconds(text: str, where: str) -> float:
    if not re.fullmatch(_NUMBER, text) or not float(text) < _LONGEST_SECONDS:
        raise InputError(f"{where}: '{text[:40]}' is not a time in seconds, from 0 to less than {_LONGEST_SECONDS:,.0f}")
    return float(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"LISTS: {path} is missing; the folder must hold {_ALL_FILES}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"LISTS: {path} cannot be read: {error}") from None


def cut_out(row: Annotated, path: Path, classes: dict[str, str]) -> tuple[list[Video], Counter[str]]:
    """Each action of a training video as a Video `<id>/<code>-<n>`, n counted from 1 in each class, and how many were odd: 'cut
    short' ends beyond the video's length are its length, 'left out' are those of no duration or that begin beyond it."""
    videos, odd, seen = [], Counter[str](), Counter[str]()
    for code, start, end in row.actions:
        seen[code] += 1
        inside = min(end, row.length_seconds)
        if start >= inside:
            odd["left out"] += 1
            continue
        odd["cut short"] += inside < end
        video_id = f"{row.id}/{code}-{seen[code]}"
        videos.append(Video(video_id, path, classes[code], row.subject, ("train",), (start, inside)))
    return videos, odd


def load(options: DatasetOptions) -> Dataset:
    """See docs/datasets.md. Raises InputError for a wrong ROOT or LISTS, and a malformed annotation (file, line, column)."""
    root = existing_folder(options.root, "ROOT", "charades")
    if not options.splits_dir:
        raise InputError(f"DATASET=charades needs its annotations: LISTS=<folder with {_ALL_FILES}>")
    lists = existing_folder(options.splits_dir, "LISTS", "charades")
    classes = read_classes(lists / CLASSES_FILE)
    rows: dict[str, Annotated] = {}
    for part, name in CSV_FILES.items():
        for row in read_annotations(lists / name, part, classes):
            if row.id in rows:
                raise InputError(f"{lists / name}: {row.id} is named twice, here or in the other part; leave one out")
            rows[row.id] = row
    found, notes = find_videos(root)
    present = {video_id: path for video_id, path in found.items() if video_id in rows}
    if not present:
        below = Counter(video_id.rpartition("/")[0] for video_id in found if video_id.rpartition("/")[2] in rows)
        instead = f"; use ROOT={root / below.most_common(1)[0][0]}" if below else " (such as 46GP8.mp4)"
        raise InputError(f"ROOT={root} holds no video that {' or '.join(CSV_FILES.values())} names{instead}")
    videos, odd, bare = [], Counter[str](), []
    for video_id, path in present.items():
        row = rows[video_id]
        if row.part == "test":
            label = ";".join(classes[code] for code in sorted({code for code, _, _ in row.actions}))
            videos.append(Video(video_id, path, label, row.subject, ("test",)))
            continue
        actions, oddities = cut_out(row, path, classes)
        videos += actions
        odd += oddities
        bare += [] if actions else [video_id]
    missing = [video_id for video_id in rows if video_id not in found]
    foreign = [video_id for video_id in found if video_id not in rows]
    for count, note in (
        (len(missing), f"{len(present):,} of {len(rows):,} videos present; not in ROOT: {some(missing)}"),
        (len(foreign), f"left out, in neither CSV: {some(foreign)}"),
        (odd["left out"], f"actions left out, of no duration or beyond their video's length: {odd['left out']:,}"),
        (odd["cut short"], f"actions that end beyond their video's length, cut there: {odd['cut short']:,}"),
        (len(bare), f"training videos without an action, so without a clip: {some(bare)}"),
    ):
        if count:
            notes.append(note)
    ordered = tuple(sorted(videos, key=lambda video: video.id))
    return Dataset(
        "charades", root, ordered, tuple(classes.values()), ("1",), notes=tuple(notes), multilabel=True, files=len(present)
    )
