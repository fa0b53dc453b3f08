"""The map of the bank: the videos of the feature store of the best model, in two dimensions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelbank.data.console import counted, some
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.positions import positions
from reelbank.data.similarity.vectors import (
    check_features,
    crop_axes,
    mean_vector,
    vector_length,
    video_vectors,
)
from reelbank.data.store.reader import Store
from reelbank.data.store.videos import StoredVideos
from reelbank.fusion.evaluation.contests import Contest
from reelbank.fusion.evaluation.experiments import Entry
from reelbank.fusion.report.costs import StoreCost
from reelbank.fusion.report.drawings.scatter import Category, categories_of
from reelbank.fusion.report.videos.answers import Answer, answers_of, numbered, packed_answers
from reelbank.fusion.report.videos.frames import MapFrames, read_frames
from reelbank.fusion.report.videos.packing import evenly, packed_numbers, shown
from reelbank.fusion.report.videos.projection import project
from reelbank.fusion.report.view import Section, VideoMap, note
from reelbank.heads.runs.folder import parts_in_run, read_run

MOST_POINTS = 100_000
_MOST_BYTES = 8 << 30  # of features that are read; a store of large feature maps has fewer points
_PIECE_BYTES = 64 << 20
_MOST_TOGETHER = 1000  # videos of a piece; to find more at once, a store reads all its ids
_STEPS = 2**16 - 1  # of the longer side of the map
PART_NAMES = ("train", "validation", "test", "")


@dataclass(frozen=True)
class BankMap:
    """V videos of a store as points, in the order of their ids.

    positions: (V, 2) float32. answers: of the model `letter`. first_labels: the first class of each
    video, "" if unknown. parts: one of PART_NAMES for each video. classes: of the model. videos: of
    the store, of which V are drawn. about: sentences about the projection.
    """

    letter: str
    store: str
    split: str
    positions: np.ndarray
    answers: Sequence[Answer]
    first_labels: Sequence[str]
    parts: Sequence[str]
    classes: Sequence[str]
    frames: MapFrames
    videos: int
    about: str


@dataclass(frozen=True)
class MapOptions:
    """projection: one of PROJECTIONS; frames: maximum number of frames."""

    projection: str
    frames: int


def read_map(
    contest: Contest,
    letters: Sequence[str],
    stores: Sequence[StoreCost],
    files: Mapping[str, Video],
    options: MapOptions,
) -> BankMap | None:
    """The map of the best model whose feature store was found. stores: those that were found;
    files: the videos with their files, by id. Returns None if no model names a store (score files).
    Raises InputError if no store was found, or it cannot be drawn."""
    path_of = {store.identity: store.path for store in stores}
    named: dict[str, None] = {}  # unique, in order
    for letter, group in zip(letters, contest.groups, strict=True):
        entry = group.entries[0]
        named |= dict.fromkeys(group.stores())
        for identity in group.stores():
            if identity in path_of:
                with Store.open(path_of[identity]) as store:
                    return _map_of(store, entry, letter, files, options)
    if not named:
        return None
    raise InputError(f"the feature store was not found: {some([name[:8] for name in named])}")


def _map_of(
    store: Store, entry: Entry, letter: str, files: Mapping[str, Video], options: MapOptions
) -> BankMap:
    check_features(store)
    numbers = _drawn(store)
    stored = StoredVideos.of(store, numbers)
    ids, split = list(stored.ids), entry.fact("split")
    parts = _parts(stored, store.dataset.splits, entry)
    projection = project(
        options.projection, read_vectors(store, ids), np.array([part == "train" for part in parts])
    )
    answers = _answers(ids, entry)
    labels = [store.dataset.label_names(label) for label in stored.labels]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    in_order = [answers[i]._replace(label=", ".join(labels[i])) for i in order]
    return BankMap(
        letter=letter,
        store=store.path.stem,
        split=split,
        positions=projection.positions[order],
        answers=in_order,
        first_labels=[labels[i][0] if labels[i] else "" for i in order],
        parts=[parts[i] for i in order],
        classes=entry.table.outline.classes,
        frames=read_frames(in_order, files, options.frames),
        videos=len(store),
        about=projection.about,
    )


def _drawn(store: Store) -> np.ndarray:
    """The numbers of the videos that are drawn, (V,) int64, evenly chosen."""
    with_rows = np.flatnonzero(store.rows)
    row_bytes = int(np.prod(store.row_shape)) * store.dtype.itemsize
    mean_bytes = max(1.0, float(store.all_rows.mean()) * row_bytes)
    most = min(MOST_POINTS, int(_MOST_BYTES / mean_bytes))
    return with_rows[evenly(len(with_rows), most)]


def read_vectors(store: Store, video_ids: Sequence[str]) -> np.ndarray:
    """One vector for each of these videos, (V, D) float32 of length 1, as `video_vectors` makes
    them. Raises InputError for features that are not finite."""
    if len(video_ids) == np.count_nonzero(store.rows):
        return video_vectors(store).values  # faster: the store is read from end to end
    vectors = np.empty((len(video_ids), vector_length(store)), np.float32)
    row_bytes = int(np.prod(store.row_shape)) * store.dtype.itemsize
    mean_bytes = max(1.0, float(store.all_rows.mean()) * row_bytes)
    together = int(min(max(1, _PIECE_BYTES / mean_bytes), _MOST_TOGETHER))
    for first in range(0, len(video_ids), together):
        names = video_ids[first : first + together]
        rows, offsets, _ = store.load(names)
        for place in range(len(names)):
            of_video = rows[offsets[place] : offsets[place + 1]]
            vectors[first + place] = mean_vector(of_video, crop_axes(store))
    is_finite = np.isfinite(vectors).all(axis=1)
    if not is_finite.all():
        example = video_ids[int(is_finite.argmin())]
        raise InputError(
            f"{store.path}: the features of {counted(int((~is_finite).sum()), 'video')} contain NaN "
            f"or infinity, such as those of {example}"
        )
    return vectors


def _parts(stored: StoredVideos, splits: Sequence[str], entry: Entry) -> list[str]:
    """The part of each video in the split of a run. The run decides which training videos it holds
    out for validation."""
    split = entry.fact("split")
    number = splits.index(split) if split in splits else -1
    of_run = parts_in_run(read_run(entry.path)) if entry.path.is_dir() else {}
    of_store = [parts[number] if number >= 0 else "" for parts in stored.parts]
    pairs = zip(stored.ids, of_store, strict=True)
    return [of_run.get(video_id, part) for video_id, part in pairs]


def _answers(video_ids: Sequence[str], entry: Entry) -> list[Answer]:
    """The model's answer to each of these videos. Their labels are those of the scores."""
    scores = entry.scores
    rows = positions(video_ids, scores.video_ids, absent=-1)
    evaluated = iter(answers_of(scores, rows[rows >= 0]))
    pairs = zip(video_ids, rows.tolist(), strict=True)
    return [next(evaluated) if row >= 0 else Answer(video_id, "") for video_id, row in pairs]


def map_section(bank_map: BankMap, *, part: str) -> Section:
    """part: the part that the model was evaluated on."""
    drawn = len(bank_map.answers)
    sentences = [
        f"Each point is a video of the feature store {bank_map.store}, placed by the mean of its "
        "features (as a vector of length 1).",
        bank_map.about,
        f"Right and wrong are the answers of model {bank_map.letter} to the {part} part"
        + (f" of split {bank_map.split}." if bank_map.split else "."),
        bank_map.frames.about,
    ]
    if drawn < bank_map.videos:
        sentences.insert(
            1, f"{drawn:,} of its {bank_map.videos:,} videos are drawn, evenly chosen."
        )
    failed = bank_map.frames.failed
    if failed:
        video_id, reason = next(iter(failed.items()))
        example = f"{video_id}: {reason}".rstrip(".")
        sentences.append(
            f"{counted(len(failed), 'frame')} could not be decoded, such as {example}."
        )
    return Section("Map of the videos", [note(" ".join(sentences)), VideoMap(packed_map(bank_map))])


@dataclass(frozen=True)
class Colouring:
    """A category for each video. numbers: (V,) int64, of its category."""

    categories: Sequence[Category]
    numbers: np.ndarray


def colourings(bank_map: BankMap) -> dict[str, Colouring]:
    """The colourings of the map by name: by class, by answer, and by part."""
    names, of_class = numbered(bank_map.first_labels)
    answers = [
        Category("not evaluated", colour=-1, shape=0),
        Category("right", colour=0, shape=3),
        Category("wrong", colour=1, shape=5),
    ]
    states = np.array([answer.state for answer in bank_map.answers], np.int64)
    of_part = np.array([PART_NAMES.index(part) for part in bank_map.parts], np.int64)
    return {
        "class": Colouring(categories_of([name or "unknown" for name in names]), of_class),
        "answer": Colouring(answers, states),
        "part": Colouring(categories_of([name or "in no part" for name in PART_NAMES]), of_part),
    }


def packed_map(bank_map: BankMap) -> dict[str, object]:
    """The map in the form for the page's script, which JSON can contain."""
    low = bank_map.positions.min(axis=0)
    side = float((bank_map.positions.max(axis=0) - low).max())
    steps = (bank_map.positions - low) * (_STEPS / side if side else 0.0)
    numbers = sorted(bank_map.frames.jpegs)
    colours = {
        name: {
            "names": [shown(category.name) for category in colouring.categories],
            "colours": [category.colour for category in colouring.categories],
            "shapes": [category.shape for category in colouring.categories],
            "numbers": packed_numbers(colouring.numbers),
        }
        for name, colouring in colourings(bank_map).items()
    }
    return {
        **packed_answers(bank_map.answers, bank_map.classes),
        "x": packed_numbers(steps[:, 0]),
        "y": packed_numbers(steps[:, 1]),
        "colourings": colours,
        "framed": packed_numbers(np.array(numbers)),
        "frames": [bank_map.frames.jpegs[number] for number in numbers],
    }
