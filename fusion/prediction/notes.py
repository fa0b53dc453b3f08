"""Notes to the user about the videos that are predicted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from reelbank.data.console import as_run, counted
from reelbank.data.store.damage import damage_among, damage_line
from reelbank.data.store.reader import Store
from reelbank.fusion.prediction.same_features import FILES
from reelbank.heads.runs.leak_guard import seen_videos


class WithParts(Protocol):
    """Anything with parts as those of `Scores`."""

    @property
    def parts(self) -> Sequence[str]: ...


def training_notes(table: WithParts) -> list[str]:
    """A line if a run was trained or selected on some of the videos."""
    used = table.parts.count("train") + table.parts.count("validation")
    if not used:
        return []
    videos, verb = counted(len(table.parts), "video"), "was" if used == 1 else "were"
    return [
        f"{used} of {videos} {verb} used to train or select a run; "
        + as_run("'reelbank evaluate' and similar commands leave these videos out")
    ]


def backbone_notes(paths: Sequence[Path], video_ids: set[str], *, of_files: bool) -> list[str]:
    """A line if the backbone of a store was trained on some of its videos."""
    trained_on = 0
    for path in paths:
        with Store.open(path) as store:
            if of_files:
                # the files are not part of the store's data set, so they are recognised only by
                # name and size
                store.dataset = replace(store.dataset, name=FILES)
            trained_on = max(trained_on, len(seen_videos(store) & video_ids))
    if not trained_on:
        return []
    verb = "was" if trained_on == 1 else "were"
    return [
        f"{trained_on} of {counted(len(video_ids), 'video')} {verb} used to train the backbone, "
        "so the scores of such videos are too optimistic"
    ]


def damage_notes(paths: Sequence[Path], video_ids: set[str]) -> list[str]:
    """A line if files are damaged, and one for each file whose time stamps are not plausible."""
    damaged: dict[str, str] = {}
    remarks: dict[str, str] = {}
    for path in paths:
        with Store.open(path) as store:
            damage = damage_among(store.ids_when_used, store.sources)
        damaged |= {name: text for name, text in damage.videos.items() if name in video_ids}
        remarks |= {name: text for name, text in damage.remarks.items() if name in video_ids}
    notes = [damage_line(damaged, len(video_ids))] if damaged else []
    return notes + [f"{name}: {text}" for name, text in remarks.items()]
