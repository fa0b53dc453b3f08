"""Which videos of a score table a model may be evaluated on: those it was not trained on."""

from collections import Counter
from collections.abc import Iterable, Sequence

from reelbank.data.errors import InputError
from reelbank.data.scores.joining import rows_of
from reelbank.data.scores.table import PARTS, Scores

# For several models together, the first of these that is true for one of the models counts.
_MOST_SEEN_FIRST = ("train", "validation", "unknown", "none", "test")
_WORDS = {
    "train": "the training part",
    "validation": "the validation part",
    "test": "the test part",
    "none": "no part",
    "unknown": "a part that is not recorded",
}


def parts_of(scores: Scores) -> tuple[str, ...]:
    """The part of each video, from `parts` or from `about["part"]`; () if none is recorded."""
    part = scores.about.get("part")
    if not scores.parts and part in PARTS:
        return (part,) * len(scores.video_ids)
    return scores.parts


def recorded_parts(scores: Scores) -> tuple[str, ...]:
    """The parts to write into a file of another form; () if a reader assumes them anyway, because
    all videos are in the test part."""
    parts = parts_of(scores)
    return parts if scores.parts or set(parts) - {"test"} else ()


def combined(parts: Iterable[str]) -> str:
    """The part of a video for several models together: it counts as held out only if it was held
    out for all of them."""
    distinct = set(parts)
    return next((part for part in _MOST_SEEN_FIRST if part in distinct), "unknown")


def fused_parts(tables: Sequence[Scores], video_ids: Sequence[str]) -> tuple[str, ...]:
    """The part of each video for the models of all tables that hold it; () if no table records
    parts per video."""
    if not any(table.parts for table in tables):
        return ()
    by_video: dict[str, list[str]] = {name: [] for name in video_ids}
    for table in tables:
        parts = parts_of(table) or ("unknown",) * len(table.video_ids)
        for name, part in zip(table.video_ids, parts, strict=True):
            by_video[name].append(part)
    return tuple(combined(by_video[name]) for name in video_ids)


def judged(scores: Scores, part: str, name: str) -> tuple[Scores, list[str]]:
    """The rows of one part, and notes on videos that are left out or whose part is not recorded.

    part: "test" means every held-out video, including videos in no part of the split. Videos whose
    part is not recorded are kept, with a note. name: of the table, for messages. Raises InputError
    if no video is left.
    """
    parts = parts_of(scores)
    if not parts:
        return scores, [
            f"{name} does not record on which videos its model was trained, so all of its "
            f"{len(scores.video_ids)} videos are evaluated, and the result may include training "
            "videos"
        ]
    if set(parts) == {part} != {"unknown"}:
        return scores, []
    kept_parts = {part, "unknown"} | ({"none"} if part == "test" else set())
    rows = [row for row, video_part in enumerate(parts) if video_part in kept_parts]
    left_out = Counter(video_part for video_part in parts if video_part not in kept_parts)
    where = " or ".join(f"{_WORDS[name]} ({left_out[name]})" for name in PARTS if left_out[name])
    if parts and not rows:
        raise InputError(
            f"{name}: none of the {len(parts)} videos belongs to the part '{part}' of the split "
            f"that the model was trained on; they belong to {where}"
        )
    notes = (
        [
            f"{name}: {left_out.total()} of {len(parts)} videos are left out, because they belong "
            f"to {where} of the split that the model was trained on"
        ]
        if left_out
        else []
    )
    if unknown := parts.count("unknown"):
        notes.append(
            f"for {unknown} of {len(parts)} videos, {name} does not record whether its model was "
            "trained on them; these videos are evaluated"
        )
    return (rows_of(scores, rows) if left_out else scores), notes
