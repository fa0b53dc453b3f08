"""Lines that `import` prints about videos without a label, and about actions of rows without times."""

from collections.abc import Sequence

from reelbank.data.console import counted, some
from reelbank.data.datasets.types import PARTS
from reelbank.data.store.exchange.labels import Labelled
from reelbank.data.store.exchange.source import Source
from reelbank.data.store.options import ImportOptions
from reelbank.data.store.records import StoredVideo

# Name of a part -> its name in a line, and what its videos without a label are not used for.
_PURPOSES = {
    "train": ("training", "training"),
    "validation": ("validation", "validation"),
    "test": ("test", "evaluation"),
}


def unlabelled_notes(data: Labelled, *, of_actions: bool) -> list[str]:
    """A line for each part with videos without a label, which says how `train` uses them; none for
    data without any labels, unless actions were given. of_actions: whether the labels are those of
    annotated actions."""
    if not data.dataset.classes and not of_actions:
        return []
    unlabelled = [video for video in data.videos if not video.label]
    notes = []
    for part in PARTS:
        if videos := [video for video in unlabelled if part in video.parts]:
            is_negative = data.dataset.multilabel and part != "train"
            notes.append(_line(videos, part, is_negative=is_negative, of_actions=of_actions))
    return notes


def _line(videos: Sequence[StoredVideo], part: str, *, is_negative: bool, of_actions: bool) -> str:
    name, purpose = _PURPOSES[part]
    is_one = len(videos) == 1
    cause = f"{'has' if is_one else 'have'} no label"
    if of_actions:
        cause = (
            "has no usable action, so it has no label"
            if is_one
            else "have no usable action, so they have no label"
        )
    effect = f"{'is' if is_one else 'are'} not used for {purpose}"
    if is_negative:
        effect = f"{'counts' if is_one else 'count'} as a negative for every class"
    ids = some(video.id for video in videos)
    return f"note: {counted(len(videos), f'{name} video')} {cause} and {effect}: {ids}"


def row_numbers_note(source: Source, options: ImportOptions, *, is_rated: bool) -> str:
    """The line for annotated actions, which are in seconds, of rows whose times are only numbers.
    is_rated: whether the frame rate of a video is known."""
    given = "STRIDE=" if is_rated else "STRIDE= and FPS="
    remedy = f"give {given} to compute the times"
    if source.timed:  # STRIDE is not allowed with an export
        remedy = f"import the files that were exported to {options.file} again, with {given}"
    return (
        "note: the times of the rows are unknown, so the actions of ANNOTATIONS cannot be matched "
        f"with rows; {remedy}"
    )
