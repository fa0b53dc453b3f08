"""One vector per video, the mean of its clean rows, for tools that show and search collections of
videos: FiftyOne and LightlyStudio (a matrix and a table), and Lightly (a table)."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from reelbank.data.console import some
from reelbank.data.datasets.discovery import existing_folder, find_videos
from reelbank.data.errors import InputError
from reelbank.data.similarity.vectors import check_rows, vector_length, video_means
from reelbank.data.store.exchange.formats.types import Export, ExportFormat, Written
from reelbank.data.store.reader import Store
from reelbank.data.text_files import write_exact_csv

MATRIX, TABLE, LIGHTLY_TABLE = "embeddings.npy", "samples.csv", "embeddings.csv"


def _write_matrix(export: Export) -> Written:
    """`embeddings.npy` (V, D) float32; `samples.csv` has a row for each row of it."""
    store = export.store
    check_rows(store)
    paths = _paths_of(export)
    export.path.mkdir()
    shape = (len(store.video_ids), vector_length(store))
    matrix = np.lib.format.open_memmap(
        export.path / MATRIX, mode="w+", dtype=np.float32, shape=shape
    )
    for row, mean in zip(matrix, _means(store), strict=True):
        row[...] = mean
    matrix.flush()
    splits = store.dataset.splits
    split_number = splits.index(export.options.split) if export.options.split else 0
    label_column = "labels" if store.dataset.multilabel else "label"
    header = ["filepath", "id", label_column, "group", "split"]
    columns = (store.video_ids, store.labels, store.groups, store.parts)
    lines = (
        [paths[video_id].as_posix(), video_id, label, group, parts[split_number] if splits else ""]
        for video_id, label, group, parts in zip(*columns, strict=True)
    )
    write_exact_csv(export.path / TABLE, chain([header], lines))
    return Written()


def _write_lightly(export: Export) -> Written:
    """`embeddings.csv` with a line for each video: its name below ROOT, the numbers, and the index of
    its class, -1 if it has none."""
    store = export.store
    if store.dataset.multilabel:
        raise InputError(
            f"FORMAT=lightly: a file has one class for each video, but {store.path} is multi-label; "
            "use FORMAT=embeddings"
        )
    root = Path(export.options.root).expanduser().absolute()
    check_rows(store)
    paths = _paths_of(export)
    number_of = {name: number for number, name in enumerate(store.dataset.classes)}
    columns = (store.video_ids, store.labels, _means(store))
    export.path.mkdir()
    header = ["filenames", *map("embedding_{}".format, range(vector_length(store))), "labels"]
    lines = (
        [paths[video_id].relative_to(root).as_posix(), *mean.tolist(), number_of.get(label, -1)]
        for video_id, label, mean in zip(*columns, strict=True)
    )
    write_exact_csv(export.path / LIGHTLY_TABLE, chain([header], lines))
    return Written()


def _paths_of(export: Export) -> dict[str, Path]:
    """The file of each video. Raises InputError if ROOT is not given, or does not contain all."""
    if not export.options.root:
        raise InputError(
            f"ROOT must be the folder of the videos with FORMAT={export.options.format}, because "
            "the files name the path of each video"
        )
    root = existing_folder(export.options.root, "ROOT", export.store.dataset.name)
    found = find_videos(root.absolute()).paths
    missing = [video_id for video_id in export.store.video_ids if video_id not in found]
    if missing:
        raise InputError(
            f"ROOT={export.options.root}: does not contain {len(missing)} of the "
            f"{len(export.store.video_ids)} videos of {export.store.path.name}: {some(missing)}; "
            "give the folder from which the features were extracted"
        )
    return found


def _means(store: Store) -> Iterator[np.ndarray]:
    """Each video's mean over time, crops and, of feature maps, over space: (D,) float32."""
    for _, means in video_means(store):
        yield from means


EMBEDDINGS = ExportFormat(
    "a folder with one vector per video", _write_matrix, own_options=("root",)
)
LIGHTLY = ExportFormat("a folder with a table of vectors", _write_lightly, own_options=("root",))
