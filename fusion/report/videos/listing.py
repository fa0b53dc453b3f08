"""The report's list of all evaluated videos, with the answers of the best model."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from reelbank.data.console import counted
from reelbank.fusion.evaluation.experiments import Entry, Group
from reelbank.fusion.report.videos.answers import Answer, answers_of, packed_answers
from reelbank.fusion.report.videos.packing import evenly, packed_texts
from reelbank.fusion.report.view import Section, VideoList, note

MOST_LISTED = 100_000  # of all splits together; the page then takes a second to open


class _Row(NamedTuple):
    answer: Answer
    split: str


def list_section(letter: str, group: Group, *, part: str, link_of: Callable[[str], str]) -> Section:
    """The evaluated videos of a model. letter: of the model; part: of the split; link_of: the
    address of a video's file by id, "" if it has none."""
    runs = _first_of_each_split(group)
    rows: list[_Row] = []
    videos = 0
    for entry in runs:
        scores = entry.scores
        videos += len(scores.video_ids)
        chosen = evenly(len(scores.video_ids), MOST_LISTED // len(runs))
        rows += [_Row(answer, entry.fact("split")) for answer in answers_of(scores, chosen)]
    rows.sort(key=lambda row: (row.answer.video_id, row.split))
    links = [link_of(row.answer.video_id) for row in rows]
    sentences = [
        _about_runs(letter, group, runs),
        _about_columns(multilabel=group.multilabel),
        _about_links(sum(map(bool, links)), len(links)),
    ]
    if len(rows) < videos:
        sentences.insert(0, f"{len(rows):,} of the {videos:,} videos are listed, evenly chosen.")
    splits = [row.split for row in rows]
    data = {
        **packed_answers([row.answer for row in rows], runs[0].table.outline.classes),
        "links": packed_texts(links if any(links) else ()),
        "splits": packed_texts(splits if len(runs) > 1 else ()),
    }
    return Section(
        f"Videos of the {part} part", [note(" ".join(sentences)), VideoList(data, len(runs) > 1)]
    )


def _first_of_each_split(group: Group) -> list[Entry]:
    """One run for each split, which is the one with the lowest seed."""
    first: dict[str, Entry] = {}
    for entry in group.entries:  # sorted by split and seed
        first.setdefault(entry.fact("split"), entry)
    return list(first.values())


def _about_runs(letter: str, group: Group, runs: Sequence[Entry]) -> str:
    seed = runs[0].fact("seed")
    which = f", seed {seed}" if len(runs) < len(group.entries) and seed else ""
    several = " A video that several splits test has a row for each." if len(runs) > 1 else ""
    return f"The answers are those of model {letter} ({group.label}{which}).{several}"


def _about_columns(*, multilabel: bool) -> str:
    if multilabel:
        return (
            "The prediction is the most probable class, and the score is its probability. It is "
            "right if it is one of the video's classes."
        )
    return "The score is the probability of the predicted class."


def _about_links(linked: int, listed: int) -> str:
    if not linked:
        return "The names are links to the video files if ROOT= names the folder of the videos."
    rows = counted(listed - linked, "row")
    absent = f" {rows} without a link, because the file was not found." if linked < listed else ""
    return (
        "A name is a link to the file where it was when the report was written. Browsers play MP4 "
        f"and WebM files, and save other files or open them with another program.{absent}"
    )
