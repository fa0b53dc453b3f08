"""Any folder of videos: class folders with a drawn split, folders `train`, `val` and `test` of class
folders, videos listed in a CSV of path, label and split, or videos without labels."""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_named, find_videos
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.datasets.video_table import (
    PART_OF_NAME,
    Places,
    find_listed,
    read_video_table,
)
from reelbank.data.errors import InputError

NAME = "folder"
TEST_FRACTION = 0.3


def load(options: DatasetOptions) -> Dataset:
    """Load the videos below ROOT, or those of `files`; docs/datasets.md describes the rules for
    labels, groups and the split. Raises InputError for a ROOT without videos, for folders of parts
    instead of classes, and for a malformed CSV (line and column)."""
    if options.files:
        root, (paths, notes) = find_named(options.files)
        return _from_names(root, paths, notes=notes, seed=options.seed)
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
        raise InputError(
            f"ROOT={root} contains no videos{left_out}; give a folder with video files, such as "
            "<class>/<name>.mp4"
        )
    if table:
        return _from_csv(table, root, paths, notes=notes, seed=options.seed)
    return _from_names(root, paths, notes=notes, seed=options.seed)


def _from_names(root: Path, paths: dict[str, Path], *, notes: list[str], seed: int) -> Dataset:
    """The data set of videos whose labels, groups and parts are in their paths below `root`."""
    names = _names_in_parts(paths)
    labels = {
        video_id: name.split("/")[0] if "/" in name else "" for video_id, name in names.items()
    }
    classes = sorted(set(labels.values()) - {""})
    if classes and {name.casefold() for name in classes} <= PART_OF_NAME.keys():
        raise InputError(
            f"ROOT={root} must contain one folder per class (got a folder of one part of a split: "
            f"{', '.join(classes)}); to use only these videos, give ROOT={root / classes[0]}; to "
            "use a split, also give the folders of the other parts, or CSV=<file with the columns "
            "path,label,split>"
        )
    unlabelled = sum(label == "" for label in labels.values())
    if unlabelled:
        what = (
            "video has no label, because it is"
            if len(paths) == 1
            else "videos have no label, because they are"
        )
        notes.append(f"{unlabelled:,} of {len(paths):,} {what} not in a class folder")
    labelled = _Labelled(root, paths, labels, guess_groups(labels), notes)
    if any(names[video_id] != video_id for video_id in paths):
        part_of = {video_id: PART_OF_NAME[video_id.split("/")[0].casefold()] for video_id in paths}
        return _with_stated_split(labelled, part_of, stated_by="the folder of its part")
    return _with_drawn_split(labelled, seed)


def _names_in_parts(video_ids: Iterable[str]) -> dict[str, str]:
    """id -> id without its first folder, if these folders are parts of a split (`train/a/x.mp4`,
    `val/a/y.mp4`); otherwise the ids."""
    ids = list(video_ids)
    tops = {video_id.partition("/")[0] for video_id in ids}
    parts = {PART_OF_NAME.get(top.casefold(), "") for top in tops}
    if "" in parts or len(parts) < 2:
        return {video_id: video_id for video_id in ids}
    return {video_id: video_id.partition("/")[2] for video_id in ids}


@dataclass(frozen=True)
class _Labelled:
    """The videos of a folder without their parts: id -> path, label and group."""

    root: Path
    paths: Mapping[str, Path]
    labels: Mapping[str, str]
    groups: Mapping[str, str]
    notes: Sequence[str]

    def dataset(self, parts: Mapping[str, str] | None, notes: Sequence[str] = ()) -> Dataset:
        """parts: id -> part of the split, None if there is no split."""
        videos = tuple(
            Video(
                video_id,
                path,
                self.labels[video_id],
                self.groups[video_id],
                () if parts is None else (parts[video_id],),
            )
            for video_id, path in self.paths.items()
        )
        return Dataset(
            dataset_name(self.root),
            self.root,
            videos,
            classes=tuple(sorted(set(self.labels.values()) - {""})),
            splits=() if parts is None else ("1",),
            notes=(*self.notes, *notes),
        )


def guess_groups(labels: dict[str, str]) -> dict[str, str]:
    """id -> group, guessed from the names of labelled videos (id -> label); '' if the group is
    unknown, as for unlabelled videos.

    The group is the first of these that exists: NN of `_gNN`, as in UCF-101; the folder inside the
    class folder; the name before its last number (`match3_07` -> `match3`). If more than half of
    the remaining videos of a class have the same name before the number, the number only counts
    videos, and their groups are unknown. The folders of the parts of a split are ignored, so a
    group can be in several of them; names that are numbers tell nothing there.
    """
    groups = dict.fromkeys(labels, "")
    names_in_parts = _names_in_parts(labels)
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for video_id, label in labels.items():
        folder, _, name = names_in_parts[video_id].rpartition("/")
        numbered = re.search(r"_g(\d+)(?=_|$)", name)
        if label and numbered:
            groups[video_id] = f"{label}/g{int(numbered[1]):02d}"
        elif label and "/" in folder:
            groups[video_id] = folder
        elif label and not (name.isdecimal() and names_in_parts[video_id] != video_id):
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


def seeded_test_part(labels: Mapping[str, str], groups: Mapping[str, str], seed: int) -> set[str]:
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


def _with_drawn_split(videos: _Labelled, seed: int) -> Dataset:
    labels = {video_id: label for video_id, label in videos.labels.items() if label}
    test = seeded_test_part(labels, videos.groups, seed)
    notes = []
    train_only = sorted(set(labels.values()) - {labels[video_id] for video_id in test})
    if train_only:
        notes.append(
            "classes without test videos, because all their videos belong to one group, and a "
            f"group is never divided between train and test: {some(train_only)}. To test them, give "
            "a CSV= file with other groups or with a split (docs/datasets.md)"
        )
    if not labels:
        return videos.dataset(None)
    parts = dict.fromkeys(videos.paths, "") | dict.fromkeys(labels, "train")
    drawn = (
        f"the split was drawn at random (SEED={seed}): {len(labels) - len(test):,} training and "
        f"{len(test):,} test videos"
    )
    unknown = sum(not videos.groups[video_id] for video_id in labels)
    if unknown:
        drawn += (
            f". The groups of {unknown:,} of the {len(labels):,} videos are unknown: if some of "
            "these videos come from the same recording, test results will be too high. To prevent "
            "this, give a CSV= file with groups or with a split (docs/datasets.md)"
        )
    else:
        drawn += "; no group of related videos is divided"
    dataset = videos.dataset(parts | dict.fromkeys(test, "test"), [*notes, drawn])
    return replace(dataset, is_drawn=True)


def _with_stated_split(videos: _Labelled, part_of: Mapping[str, str], *, stated_by: str) -> Dataset:
    """With the part of each video. Guessed groups that it divides are unknown. stated_by: for the
    note about them."""
    divided = divided_groups(videos.groups, part_of)
    if not divided:
        return videos.dataset(part_of)
    note = (
        "ignored these groups, which were guessed from the file names, because "
        f"{stated_by} assigns their videos to several parts of the split: {some(divided)}"
    )
    groups = {i: "" if group in divided else group for i, group in videos.groups.items()}
    return replace(videos, groups=groups).dataset(part_of, [note])


def _from_csv(
    table: Path, root: Path, paths: dict[str, Path], *, notes: list[str], seed: int
) -> Dataset:
    rows, columns = read_video_table(table)
    places = Places(root, table.parent, paths, {path: i for i, path in paths.items()})
    named: dict[str, dict[str, str]] = {}
    missing = []
    for line, row in rows:
        video_id = find_listed(row["path"], places)
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
        groups = {video_id: named[video_id]["group"] for video_id in listed}
    videos = _Labelled(root, listed, labels, groups, notes)
    if "split" not in columns:
        return _with_drawn_split(videos, seed)
    part_of = {video_id: named[video_id]["split"] for video_id in listed}
    divided = divided_groups(groups, part_of)
    if divided and "group" in columns:
        raise InputError(
            f"{table}, column split: all videos of a group must be in one part of the split, but "
            f"group {divided[0]} has videos in several; correct the column split, or remove the "
            "column group"
        )
    return _with_stated_split(videos, part_of, stated_by=table.name)


def divided_groups(groups: Mapping[str, str], part_of: Mapping[str, str]) -> list[str]:
    """The groups with videos in several parts of a split, from id -> group and id -> part."""
    parts: dict[str, set[str]] = defaultdict(set)
    for video_id, group in groups.items():
        if part_of[video_id]:
            parts[group].add(part_of[video_id])
    return sorted(group for group in parts if group and len(parts[group]) > 1)


FOLDER = DatasetSpec(load, takes_csv=True, takes_files=True, names_folders=True)
