"""Any folder of videos: class folders with a seeded split, a CSV of path, label, split, or videos without labels."""

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.videos import Dataset, DatasetOptions, Video, existing_folder, find_videos, some

TEST_FRACTION = 0.3
_PART_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def load(options: DatasetOptions) -> Dataset:
    """See docs/datasets.md for the rules of labels, groups and the split. Raises InputError for a ROOT without videos, for part
    folders in the place of class folders, and for a malformed CSV (line and column)."""
    table = Path(options.csv).expanduser().absolute() if options.csv else None
    root = table.parent if table and not options.root else existing_folder(options.root, "ROOT", "folder")
    if table and not table.is_file():
        raise InputError(f"CSV={options.csv}: no such file")
    found, notes = find_videos(root)
    if not found:
        left_out = f" ({notes[0]})" if notes else ""
        raise InputError(f"ROOT={root} holds no videos{left_out}")
    if table:
        return _from_csv(table, root, found, notes, options.seed)
    labels = {video_id: video_id.split("/")[0] if "/" in video_id else "" for video_id in found}
    classes = tuple(sorted(set(labels.values()) - {""}))
    if classes and {name.casefold() for name in classes} <= _PART_FOLDERS:
        raise InputError(
            f"ROOT={root} holds the parts {', '.join(classes)}, not classes; use ROOT={root / classes[0]} for one "
            f"part, or give CSV=<file of path,label,split>"
        )
    bare = sum(label == "" for label in labels.values())
    if bare:
        notes.append(f"{bare:,} of {len(found):,} videos lie in no class folder: unlabelled")
    groups = guess_groups(labels)
    return _with_seeded_split(root, found, labels, groups, notes, options.seed)


def guess_groups(labels: dict[str, str]) -> dict[str, str]:
    """id -> group, read from the names of labelled videos (id -> label). `_gNN`, as in UCF-101, is group NN of its class; else
    a folder inside the class folder is the group; else, for the rest of a class, the name before a last number (`match3_07`
    -> `match3`), unless more than half of these videos share one such name: then the number merely counts them, and the
    group is unknown (''), as it is without a label."""
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
    """`folder-<last folder of ROOT>-<hash of the whole path>`: two folders are two data sets, and so two stores."""
    resolved = root.resolve()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", resolved.name)[:40]
    return f"folder-{plain}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:6]}"


def seeded_test_part(labels: dict[str, str], groups: dict[str, str], seed: int) -> set[str]:
    """Ids (of id -> label, id -> group) in the test part: those of groups whose hash with `seed`, as a fraction, is below 0.3;
    a video of group '' is its own group. So a group's part does not depend on what else is present, save where a class would
    miss one: a class of several groups and none in test gives the one of least hash to test, then a class of none in
    training the one of greatest hash to training."""
    members: dict[tuple[str, str], set[str]] = defaultdict(set)  # group -> ids
    of_class: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for video_id, label in labels.items():
        key = (groups[video_id], "" if groups[video_id] else video_id)
        members[key].add(video_id)
        of_class[label].add(key)
    place = {key: int(hashlib.sha256("\0".join((str(seed), *key)).encode()).hexdigest()[:12], 16) / 16**12 for key in members}
    test = {key for key in members if place[key] < TEST_FRACTION}
    for _, keys in sorted(of_class.items()):
        if len(keys) > 1 and not keys & test:
            test.add(min(keys, key=place.__getitem__))
    for _, keys in sorted(of_class.items()):
        if keys <= test:
            test.remove(max(keys, key=place.__getitem__))
    return {video_id for key in test for video_id in members[key]}


def _with_seeded_split(
    root: Path, found: dict[str, Path], labels: dict[str, str], groups: dict[str, str], notes: list[str], seed: int
) -> Dataset:
    labelled = [video_id for video_id in found if labels[video_id]]
    test = seeded_test_part({video_id: labels[video_id] for video_id in labelled}, groups, seed)
    alone = sorted({labels[i] for i in labelled} - {labels[i] for i in test})
    if alone:
        notes.append(f"in the training part only, for lack of a second group: {some(alone)}")
    splits = ("1",) if labelled else ()
    videos = []
    for video_id, path in found.items():
        part = ("test" if video_id in test else "train") if labels[video_id] else ""
        videos.append(Video(video_id, path, labels[video_id], groups[video_id], (part,) if splits else ()))
    classes = tuple(sorted({labels[i] for i in labelled}))
    return Dataset(dataset_name(root), root, tuple(videos), classes, splits, notes=tuple(notes))


def _from_csv(table: Path, root: Path, found: dict[str, Path], notes: list[str], seed: int) -> Dataset:
    rows, columns = read_csv(table)
    by_path = {path: video_id for video_id, path in found.items()}
    named: dict[str, dict[str, str]] = {}
    missing = []
    for line, row in rows:
        video_id = _look_up(row["path"], root, table.parent, found, by_path)
        if video_id is None:
            missing.append(row["path"])
            continue
        if video_id in named:
            raise InputError(f"{table}, line {line}, column path: {row['path']} is named twice")
        named[video_id] = row
    if not named:
        raise InputError(f"{table}: none of its {len(rows):,} videos is in ROOT={root} (first: {some(missing)})")
    if missing:
        notes.append(f"{len(missing):,} of {len(rows):,} videos of {table.name} are not in ROOT: {some(missing)}")
    if len(named) < len(found):
        notes.append(f"{len(found) - len(named):,} of {len(found):,} videos in ROOT are not named in {table.name}: left out")
    kept = {video_id: path for video_id, path in sorted(found.items()) if video_id in named}
    labels = {video_id: named[video_id].get("label", "") for video_id in kept}
    groups = {video_id: row["group"] for video_id, row in named.items()} if "group" in columns else guess_groups(labels)
    if "split" not in columns:
        return _with_seeded_split(root, kept, labels, groups, notes, seed)
    torn = _torn({video_id: groups[video_id] for video_id in kept}, {i: row["split"] for i, row in named.items()})
    if torn and "group" in columns:
        raise InputError(
            f"{table}, column split: group {torn[0]} is in both train and test; mend it, or leave the column group out"
        )
    if torn:  # the groups were guessed, the split was given
        notes.append(f"groups read from names that {table.name} splits, so taken as unknown: {some(torn)}")
        groups = {video_id: "" if group in torn else group for video_id, group in groups.items()}
    videos = [Video(i, path, labels[i], groups[i], (named[i]["split"],)) for i, path in kept.items()]
    classes = tuple(sorted(set(labels.values()) - {""}))
    return Dataset(dataset_name(root), root, tuple(videos), classes, ("1",), notes=tuple(notes))


def _torn(groups: dict[str, str], parts: dict[str, str]) -> list[str]:
    """The groups (of id -> group) with videos in both train and test (of id -> part)."""
    sides: dict[str, set[str]] = defaultdict(set)
    for video_id, group in groups.items():
        sides[group].add(parts[video_id])
    return sorted(group for group, found in sides.items() if group and {"train", "test"} <= found)


def read_csv(table: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """[(line, row)] and the column names. Raises InputError naming line and column."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip().lower() for name in next(reader, [])]
            if "path" not in columns:
                raise InputError(
                    f"{table}, line 1: no column 'path' among {some(columns, 6) or 'none'}; wanted path,label,split"
                )
            twice = [name for name, times in Counter(columns).items() if times > 1]
            if twice:
                raise InputError(f"{table}, line 1: column '{twice[0]}' appears twice")
            rows = []
            for cells in reader:
                line = reader.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(columns):
                    where = columns[len(cells)] if len(cells) < len(columns) else f"number {len(columns) + 1}"
                    raise InputError(f"{table}, line {line}, column {where}: {len(cells)} cells, {len(columns)} columns")
                row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
                if not row["path"]:
                    raise InputError(f"{table}, line {line}, column path: empty")
                if row.get("split", "") not in ("train", "test", ""):
                    raise InputError(f"{table}, line {line}, column split: '{row['split']}' is neither train, test nor empty")
                rows.append((line, row))
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"CSV={table} cannot be read: {error}") from None
    if not rows:
        raise InputError(f"{table}: no rows below the header")
    return rows, columns


def _look_up(text: str, root: Path, beside: Path, found: dict[str, Path], by_path: dict[Path, str]) -> str | None:
    """The id a CSV cell names: a path relative to ROOT or to the CSV, or an id. A file of another ending counts when it is
    named outright; it is added to `found` under its whole name."""
    for base in (root, beside):
        path = Path(os.path.normpath(base / text))
        if path in by_path:
            return by_path[path]
        if path.is_file() and root in path.parents:
            video_id = by_path[path] = path.relative_to(root).as_posix()
            found[video_id] = path
            return video_id
    text = text.removeprefix("./")
    return text if text in found else None
