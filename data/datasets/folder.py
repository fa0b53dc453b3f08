"""Any folder of videos: class folders with a drawn split, videos listed in a CSV of path, label and
split, or videos without labels."""

import csv
import hashlib
import io
import os
import re
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_videos
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.errors import InputError
from reelbank.data.text_files import csv_text, read_text, readings

NAME = "folder"
TEST_FRACTION = 0.3
_PART_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT; docs/datasets.md describes the rules for labels, groups and the
    split. Raises InputError for a ROOT without videos, for folders of parts instead of classes, and
    for a malformed CSV (line and column)."""
    table = Path(options.csv).expanduser().absolute() if options.csv else None
    root = (
        table.parent
        if table and not options.root
        else existing_folder(options.root, "ROOT", options.name)
    )
    if table and not table.is_file():
        raise InputError(f"CSV={options.csv}: the file does not exist")
    paths, notes = find_videos(root)
    if not paths:
        left_out = f" ({notes[0]})" if notes else ""
        raise InputError(f"ROOT={root} contains no videos{left_out}")
    if table:
        return _from_csv(table, root, paths, notes=notes, seed=options.seed)
    labels = {video_id: video_id.split("/")[0] if "/" in video_id else "" for video_id in paths}
    classes = tuple(sorted(set(labels.values()) - {""}))
    if classes and {name.casefold() for name in classes} <= _PART_FOLDERS:
        raise InputError(
            f"ROOT={root} must contain one folder per class (got the folders of a split: "
            f"{', '.join(classes)}); to use only these videos, give ROOT={root / classes[0]}; to "
            "use all videos, give CSV=<file with the columns path,label,split>"
        )
    unlabelled = sum(label == "" for label in labels.values())
    if unlabelled:
        notes.append(
            f"{unlabelled:,} of {len(paths):,} videos have no label, because they are not in "
            "a class folder"
        )
    return _with_drawn_split(
        root, paths, labels, groups=guess_groups(labels), notes=notes, seed=options.seed
    )


def guess_groups(labels: dict[str, str]) -> dict[str, str]:
    """id -> group, guessed from the names of labelled videos (id -> label); '' if the group is
    unknown, as for unlabelled videos.

    The group is the first of these that exists: NN of `_gNN`, as in UCF-101; the folder inside the
    class folder; the name before its last number (`match3_07` -> `match3`). If more than half of
    the remaining videos of a class have the same name before the number, the number only counts
    videos, and their groups are unknown.
    """
    groups = dict.fromkeys(labels, "")
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for video_id, label in labels.items():
        folder, _, name = video_id.rpartition("/")
        numbered = re.search(r"_g(\d+)(?=_|$)", name)
        if label and numbered:
            groups[video_id] = f"{label}/g{int(numbered[1]):02d}"
        elif label and "/" in folder:
            groups[video_id] = folder
        elif label:
            stems[label][video_id] = re.sub(r"[ _.(-]+\d+\)?$", "", name)
    for label, names in stems.items():
        most = Counter(names.values()).most_common(1)[0][1]
        if 2 * most <= len(names):
            groups |= {video_id: f"{label}/{stem}" for video_id, stem in names.items()}
    return groups


def dataset_name(root: Path) -> str:
    """`folder-<last folder of ROOT>-<hash of the whole path>`: each folder is a separate data set
    with its own stores."""
    resolved = root.resolve()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", resolved.name)[:40]
    return f"{NAME}-{plain}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:6]}"


def seeded_test_part(labels: dict[str, str], groups: dict[str, str], seed: int) -> set[str]:
    """The ids in the test part, from id -> label and id -> group.

    A group is in the test part if its hash with `seed`, as a fraction, is below TEST_FRACTION, so
    its part does not depend on the other videos. There are two exceptions: if a class has several
    groups and none is in test, its group with the lowest hash is moved to test; then, if a class
    has none in training, its group with the highest hash is moved to training. A video of group ''
    is its own group.
    """
    members: dict[tuple[str, str], set[str]] = defaultdict(set)  # group -> ids
    of_class: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for video_id, label in labels.items():
        key = (groups[video_id], "" if groups[video_id] else video_id)
        members[key].add(video_id)
        of_class[label].add(key)
    fractions = {key: _hash_fraction(str(seed), *key) for key in members}
    test = {key for key in members if fractions[key] < TEST_FRACTION}
    for _, keys in sorted(of_class.items()):
        if len(keys) > 1 and not keys & test:
            test.add(min(keys, key=fractions.__getitem__))
    for _, keys in sorted(of_class.items()):
        if keys <= test:
            test.remove(max(keys, key=fractions.__getitem__))
    return set(chain.from_iterable(members[key] for key in test))


def _hash_fraction(*words: str) -> float:
    """A number in [0, 1) from a hash of the words."""
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()
    return int(digest[:12], 16) / 16**12  # 48 bits, which a float represents exactly


def _with_drawn_split(
    root: Path,
    paths: dict[str, Path],
    labels: dict[str, str],
    *,
    groups: dict[str, str],
    notes: list[str],
    seed: int,
) -> Dataset:
    labelled = [video_id for video_id in paths if labels[video_id]]
    test = seeded_test_part({video_id: labels[video_id] for video_id in labelled}, groups, seed)
    train_only = sorted({labels[i] for i in labelled} - {labels[i] for i in test})
    if train_only:
        notes.append(
            "classes without test videos, because all their videos belong to one group, and a "
            f"group is never divided between train and test: {some(train_only)}. To test them, give "
            "a CSV= file with other groups or with a split (docs/datasets.md)"
        )
    splits = ("1",) if labelled else ()
    videos = []
    for video_id, path in paths.items():
        part = "test" if video_id in test else "train"
        if not labels[video_id]:
            part = ""
        videos.append(
            Video(video_id, path, labels[video_id], groups[video_id], (part,) if splits else ())
        )
    classes = tuple(sorted({labels[i] for i in labelled}))
    return Dataset(dataset_name(root), root, tuple(videos), classes, splits, notes=tuple(notes))


def _from_csv(
    table: Path, root: Path, paths: dict[str, Path], *, notes: list[str], seed: int
) -> Dataset:
    listing = read_csv(table)
    rows, columns = listing.rows, listing.columns
    by_path = {path: video_id for video_id, path in paths.items()}
    named: dict[str, dict[str, str]] = {}
    missing = []
    for line, row in rows:
        video_id = _look_up(row["path"], root, table.parent, paths, by_path)
        if video_id is None:
            missing.append(row["path"])
            continue
        if video_id in named:
            raise InputError(
                f"{table}, line {line}, column path: each video must occur only once, but "
                f"{row['path']} occurs twice; remove one of the rows"
            )
        named[video_id] = row
    if not named:
        raise InputError(
            f"{table}: ROOT={root} contains none of the {len(rows):,} videos that this file lists, "
            f"such as {some(missing)}; correct ROOT, or the paths in the file"
        )
    if missing:
        notes.append(
            f"{len(missing):,} of the {len(rows):,} videos listed in {table.name} are not in "
            f"ROOT: {some(missing)}"
        )
    if len(named) < len(paths):
        notes.append(
            f"{len(paths) - len(named):,} of the {len(paths):,} videos in ROOT are left out, "
            f"because {table.name} does not list them"
        )
    listed = {video_id: path for video_id, path in sorted(paths.items()) if video_id in named}
    labels = {video_id: named[video_id].get("label", "") for video_id in listed}
    groups = guess_groups(labels)
    if "group" in columns:
        groups = {video_id: row["group"] for video_id, row in named.items()}
    if "split" not in columns:
        return _with_drawn_split(root, listed, labels, groups=groups, notes=notes, seed=seed)
    divided = _divided(
        {video_id: groups[video_id] for video_id in listed},
        {i: row["split"] for i, row in named.items()},
    )
    if divided and "group" in columns:
        raise InputError(
            f"{table}, column split: all videos of a group must be in train, or all in test, but "
            f"group {divided[0]} has videos in both; correct the column split, or remove the "
            "column group"
        )
    if divided:  # the groups were guessed, the split was given
        notes.append(
            "ignored these groups, which were guessed from the file names, because "
            f"{table.name} assigns their videos to both train and test: {some(divided)}"
        )
        groups = {i: "" if group in divided else group for i, group in groups.items()}
    videos = [
        Video(i, path, labels[i], groups[i], (named[i]["split"],)) for i, path in listed.items()
    ]
    classes = tuple(sorted(set(labels.values()) - {""}))
    return Dataset(dataset_name(root), root, tuple(videos), classes, ("1",), notes=tuple(notes))


def _divided(groups: dict[str, str], part_of: dict[str, str]) -> list[str]:
    """The groups with videos in both train and test, from id -> group and id -> part."""
    sides: dict[str, set[str]] = defaultdict(set)
    for video_id, group in groups.items():
        sides[group].add(part_of[video_id])
    return sorted(group for group, parts in sides.items() if group and {"train", "test"} <= parts)


class Listing(NamedTuple):
    """A CSV of videos. rows: (number of the line, column -> cell). columns: their names."""

    rows: list[tuple[int, dict[str, str]]]
    columns: list[str]


def read_csv(table: Path) -> Listing:
    """Read a CSV of videos. Spaces around cells are removed, except in `path`, for `readings`.
    Raises InputError with line and column."""
    try:
        reader = csv.reader(io.StringIO(read_text(table), newline=""), strict=True)
        columns = [name.strip().lower() for name in next(reader, [])]
        if "path" not in columns:
            raise InputError(
                f"{table}, line 1: the column 'path' is missing; expected path,label,split (got "
                f"{some(columns, 6) or 'none'})"
            )
        twice = [name for name, times in Counter(columns).items() if times > 1]
        if twice:
            raise InputError(
                f"{table}, line 1: the column '{twice[0]}' occurs twice; remove one of them"
            )
        rows = []
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                where = f"number {len(columns) + 1}"
                if len(cells) < len(columns):
                    where = columns[len(cells)]
                raise InputError(
                    f"{table}, line {line}, column {where}: expected {len(columns)} cells, one per "
                    f"column (got {len(cells)})"
                )
            row = {name: csv_text(cell.strip()) for name, cell in zip(columns, cells, strict=True)}
            # Unchanged: a name may begin or end with spaces, see `readings`.
            row["path"] = cells[columns.index("path")]
            if not row["path"].strip():
                raise InputError(f"{table}, line {line}, column path: must not be empty")
            if row.get("split", "") not in ("train", "test", ""):
                raise InputError(
                    f"{table}, line {line}, column split: must be train, test or empty (got '{row['split']}')"
                )
            rows.append((line, row))
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num}: {error}") from None
    except OSError as error:
        raise InputError(f"CSV={table} cannot be read: {error}") from None
    if not rows:
        raise InputError(f"{table}: contains no rows below the header; expected one row per video")
    return Listing(rows, columns)


def _look_up(
    cell: str, root: Path, csv_folder: Path, paths: dict[str, Path], by_path: dict[Path, str]
) -> str | None:
    """The id that a CSV cell names: as a path relative to ROOT or to the folder of the CSV, or as
    an id. A file without a video's ending is accepted if the cell contains its full name; it is
    added to `paths` under that name."""
    for text in readings(cell):
        video_id = _named(text, root, csv_folder, paths, by_path)
        if video_id is not None:
            return video_id
    return None


def _named(
    text: str, root: Path, csv_folder: Path, paths: dict[str, Path], by_path: dict[Path, str]
) -> str | None:
    for base in (root, csv_folder):
        path = Path(os.path.normpath(base / text))
        if path in by_path:
            return by_path[path]
        if path.is_file() and root in path.parents:
            video_id = by_path[path] = path.relative_to(root).as_posix()
            paths[video_id] = path
            return video_id
    text = text.removeprefix("./")
    return text if text in paths else None


FOLDER = DatasetSpec(load, takes_csv=True, names_folders=True)
