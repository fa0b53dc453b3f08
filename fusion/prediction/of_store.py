"""The command `predict STORE=` with one run. The videos are scored and written piece by piece, so a
store of any size needs little memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reelbank.data.console import counted, percent, print_lines
from reelbank.data.csv_columns import fits_column, probability_column, rows_text, text_column
from reelbank.data.scores.likeliest import Likeliest, likeliest
from reelbank.data.scores.table import Scores, TableFacts, save_in_pieces
from reelbank.data.store.bank import find_store
from reelbank.data.system.allocator import keep_freed_memory
from reelbank.data.text_files import SafeWriter, csv_file
from reelbank.fusion.options import PredictOptions
from reelbank.fusion.prediction.notes import backbone_notes, damage_notes, training_notes
from reelbank.fusion.prediction.runs import own_head
from reelbank.fusion.prediction.same_features import own_files
from reelbank.heads.predict import Scorer, scorer
from reelbank.heads.runs.folder import Run
from reelbank.heads.runs.writing import written_to
from reelbank.heads.training.planning.stores import store_names

# Nobody reads more lines than these if the same is in a file.
MOST_PRINTED = 1000
_WRITTEN_BYTES = 1 << 22  # of names in the rows that are written at once


class _Piece(NamedTuple):
    scores: Scores
    best: Likeliest


def predict_store(run: Run, options: PredictOptions, to: str) -> int:
    """Score all videos of the store that the options name, print the most likely classes of each,
    and write them to the file `to` if it is not "". Returns the exit code, 0. Raises InputError as
    `predict_with` does."""
    paths = [find_store(options.searched, name) for name in store_names(options.store)]
    keep_freed_memory()  # mostly, a piece can use that of the piece before it
    with scorer(
        run.path,
        *paths,
        extractor=options.extractor,
        head=own_head(run, options.head),
        streams=own_files(options.stream),
    ) as opened:
        most = MOST_PRINTED if to else len(opened.ids)
        pieces = _printed(opened, options.top, most=most)
        if to:
            _write_or_tell(opened, pieces, options.top, to)
        else:
            for _ in pieces:
                pass
        left_out = len(opened.ids) - most
        if left_out > 0:
            print_lines(f"... and {counted(left_out, 'more video')}; {to} contains all of them")
        ids = set(opened.ids)
        notes = training_notes(opened) + backbone_notes(paths, ids, of_files=False)
    notes += damage_notes(paths, ids)
    for note in notes:
        print_lines(f"note: {note}")
    if to:
        print_lines(f"scores of {counted(len(ids), 'video')} written to {to}")
    return 0


class _SourceError(Exception):
    """An OSError, its cause, that is not about the file that is written."""


def _marked(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """The pieces. An OSError of reading or printing becomes a _SourceError."""
    try:
        yield from pieces
    except OSError as error:
        raise _SourceError from error


def _write_or_tell(opened: Scorer, pieces: Iterator[_Piece], k: int, to: str) -> None:
    """Write the pieces. Raises InputError when the file `to` cannot be written, and what else goes wrong
    unchanged."""
    try:
        with written_to("TO", to):
            _write(opened, _marked(pieces), k, Path(to))
    except _SourceError as error:
        assert error.__cause__
        raise error.__cause__ from None


def _printed(opened: Scorer, k: int, *, most: int) -> Iterator[_Piece]:
    """The pieces. The lines of the first `most` videos are printed."""
    printed = 0
    for piece in opened.pieces():
        best = likeliest(piece.scores, k)
        shown = slice(0, max(0, most - printed))
        for line in lines(piece.scores, best, shown, is_only=len(opened.ids) == 1):
            print_lines(line)
        printed += len(piece.scores.video_ids)
        yield _Piece(piece.scores, best)


def lines(scores: Scores, best: Likeliest, shown: slice, *, is_only: bool) -> Iterator[str]:
    """The most likely classes of each video as lines of text."""
    rows = zip(
        scores.video_ids[shown],
        best.numbers[shown].tolist(),
        best.chances[shown].tolist(),
        strict=True,
    )
    for name, numbers, chances in rows:
        texts = [
            (scores.classes[number], percent(chance, 1))
            for number, chance in zip(numbers, chances, strict=True)
        ]
        if is_only:
            yield name
            for class_name, text in texts:
                yield f"  {text:>5} %  {class_name}"
        else:
            yield f"{name}: {', '.join(f'{class_name} {text} %' for class_name, text in texts)}"


def _write(opened: Scorer, pieces: Iterator[_Piece], k: int, to: Path) -> None:
    """Write all scores as .npz, or the most likely classes as .csv."""
    if to.suffix == ".csv":
        with csv_file(to) as writer:
            for number, piece in enumerate(pieces):
                if not number:
                    writer.writerow(csv_heading(piece.best.numbers.shape[1]))
                _write_rows(writer, piece)
        return
    labels: list[np.ndarray] = []
    about: dict[str, object] = {}

    def logits() -> Iterator[np.ndarray]:
        for piece in pieces:
            labels.append(piece.scores.labels)
            about.update(piece.scores.about)
            yield piece.scores.logits

    classes = opened.recipe.classes
    save_in_pieces(
        to,
        opened.ids,
        len(classes),
        logits(),
        lambda: TableFacts(
            opened.ids, np.concatenate(labels), classes, about, opened.groups, opened.parts
        ),
    )


def csv_heading(count: int) -> list[str]:
    """The first row of a CSV file with the `count` most likely classes of each video."""
    cells = ["video"]
    for place in range(1, count + 1):
        cells += [f"class{place}", f"probability{place}"]
    return [*cells, "error"]


def csv_cells(likeliest: Iterable[tuple[str, float]]) -> list[str]:
    """The cells of a video's most likely classes, given as name and probability."""
    return [cell for name, chance in likeliest for cell in (name, f"{chance:.6f}")]


def _write_rows(writer: SafeWriter, piece: _Piece) -> None:
    best, scores = piece.best, piece.scores
    if not (fits_column(scores.classes) and fits_column(scores.video_ids)):
        for name, numbers, chances in zip(scores.video_ids, *best, strict=True):
            classes = map(scores.classes.__getitem__, numbers)
            writer.writerow([name, *csv_cells(zip(classes, chances, strict=True)), ""])
        return
    names, ids = text_column(scores.classes), text_column(scores.video_ids)
    step = max(1, _WRITTEN_BYTES // (ids.itemsize + best.numbers.shape[1] * names.itemsize))
    for first in range(0, len(ids), step):
        rows = slice(first, first + step)
        columns = [ids[rows]]
        for numbers, chances in zip(best.numbers[rows].T, best.chances[rows].T, strict=True):
            columns += [names[numbers], probability_column(chances)]
        writer.write_rows(rows_text([*columns, np.zeros(len(columns[0]), "S1")]))
