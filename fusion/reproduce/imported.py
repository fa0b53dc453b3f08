"""Score files of other tools in place of a recipe's models (SCORES), as the papers took improved
dense trajectories from others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from reelbank.data.console import counted, print_lines
from reelbank.data.errors import InputError
from reelbank.data.identity import in_file_name
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.joining import rows_of
from reelbank.data.scores.table import Scores
from reelbank.fusion.reproduce.output import table_folder
from reelbank.fusion.reproduce.work import Work


def import_model(work: Work, name: str) -> list[Path]:
    """Write the scores that stand in for a model into the reproduction's folder, one file for each
    split; returns the files.

    They hold the test videos of the split, with the groups and categories of the data set. Raises
    InputError for a file that cannot be read, that does not say of which split it is, or whose
    labels are not those of the data set, and when a split has no file.
    """
    folder = table_folder(work.options, work.dataset.name) / "scores"
    files: dict[str, Path] = {}
    for path in map(Path, work.imported[name]):
        scores = score_tables.load(path)
        split = _split_of(work, scores, path)
        if split in files:
            raise InputError(
                f"SCORES={name}={path}: two files are given for split {split}; give only one"
            )
        files[split] = folder / f"{in_file_name(name)}-split{in_file_name(split)}.npz"
        tested = _tested(work, scores, split, path)
        about = _about(work, name, split) | {"file": path.name}
        folder.mkdir(parents=True, exist_ok=True)
        score_tables.save(replace(tested, about=about), files[split])
        videos = counted(len(tested.video_ids), "test video")
        print_lines(f"== import {name}: split {split}, {videos} of {path}")
    missing = [split for split in work.splits[name] if split not in files]
    if missing:
        raise InputError(
            f"SCORES: {name} has no file for split {', '.join(missing)}; give one file for each "
            "split, or select other splits with SPLIT="
        )
    return [files[split] for split in work.splits[name]]


def _split_of(work: Work, scores: Scores, path: Path) -> str:
    splits = work.dataset.splits
    split = str(scores.about.get("split", "")) or (splits[0] if len(splits) == 1 else "")
    if split not in splits:
        said = f"split '{split}'" if split else "no split"
        raise InputError(
            f"SCORES={path}: the file must record one of the splits of "
            f"{work.dataset.name}, which are {', '.join(splits)} (it records {said}); "
            f"write a file that records the split with 'reelbank scores FILE={path} "
            "SPLIT=... TO=...'"
        )
    return split


def _tested(work: Work, scores: Scores, split: str, path: Path) -> Scores:
    """The rows of the split's test videos, with the data set's groups."""
    videos = {video.id: video for video in work.dataset.videos}
    tests = work.tests[split]
    rows = [row for row, video_id in enumerate(scores.video_ids) if video_id in tests]
    if not rows:
        raise InputError(
            f"SCORES={path}: the file contains no test video of split {split}; its video "
            "ids must be paths below ROOT without the file extension, such as "
            f"{min(tests, default='-')}"
        )
    tested = rows_of(scores, rows)
    if not tested.multilabel:
        for video_id, label in zip(tested.video_ids, tested.labels.tolist(), strict=True):
            stated = tested.classes[label] if label >= 0 else ""
            if stated not in ("", videos[video_id].label):
                raise InputError(
                    f"SCORES={path}: the class of {video_id} must be {videos[video_id].label}, as in "
                    f"{work.dataset.name} (got {stated}); give scores of this data set"
                )
    groups = tuple(videos[video_id].group for video_id in tested.video_ids)
    return replace(tested, groups=groups, parts=())


def _about(work: Work, name: str, split: str) -> dict[str, Any]:
    coarse = {category: list(classes) for category, classes in work.dataset.coarse.items()}
    dataset = work.dataset.name
    return {"name": name, "dataset": dataset, "split": split, "part": "test", "coarse": coarse}
