"""`export` of one vector per video, read back by the rules of the tools that show such vectors."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from made_stores import DATASET, fill, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.options import ExportOptions
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter


def made_bank(folder: Path, videos: int = 5) -> ExportOptions:
    """A store, and empty files with the names of its videos."""
    fill(folder / "bank" / "stores" / "made.h5", range(videos))
    for number in range(videos):
        path = folder / "videos" / f"{made_video(number).id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return ExportOptions(bank=str(folder / "bank"), root=str(folder / "videos"))


def with_format(options: ExportOptions, name: str, to: Path, **changes: str) -> ExportOptions:
    return ExportOptions(
        **{"bank": options.bank, "root": options.root, "format": name, "to": str(to), **changes}
    )


def made_mean(number: int) -> np.ndarray:
    """(D,) float32, of the rows as float16, which a store keeps."""
    return made_values(number).astype(np.float16).astype(np.float32).mean(0)


def test_fiftyone_and_lightlystudio_find_a_vector_for_each_video(tmp_path: Path) -> None:
    options = made_bank(tmp_path)
    folder = tmp_path / "vectors"
    assert export(with_format(options, "embeddings", folder, split="2")) == 0
    matrix = np.load(folder / "embeddings.npy")
    with (folder / "samples.csv").open(newline="") as file:
        samples = list(csv.DictReader(file))
    # FiftyOne: a num_samples x num_dims array whose rows are in the order of the samples.
    assert matrix.shape == (len(samples), 5) and matrix.dtype == np.float32
    for number, (row, sample) in enumerate(zip(matrix, samples, strict=True)):
        video = made_video(number)
        np.testing.assert_allclose(row, made_mean(number), rtol=1e-6)
        assert Path(sample["filepath"]).is_file() and sample["id"] == video.id
        found = (sample["label"], sample["group"], sample["split"])
        assert found == (video.label, video.group, video.parts[1])
    # LightlyStudio: looks up an absolute path with forward slashes.
    of_path = {sample["filepath"]: row for sample, row in zip(samples, matrix, strict=True)}
    wanted = (tmp_path / "videos" / f"{made_video(3).id}.mp4").absolute().as_posix()
    np.testing.assert_allclose(of_path[wanted], made_mean(3), rtol=1e-6)


def read_by_lightly(path: Path) -> tuple[np.ndarray, list[int], list[str]]:
    """Vectors, labels and file names as lightly.utils.io.load_embeddings reads them."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter=",")
    assert all(name == name.strip() for name in header) and header[0] == "filenames"
    between = header[1 : header.index("labels")]
    assert all(re.match(r"embedding_\d+", name) for name in between) and header[-1] == "labels"
    assert all(rows)
    vectors = np.array([row[1:-1] for row in rows]).astype(np.float64)
    return vectors, [int(row[-1]) for row in rows], [row[0] for row in rows]


def test_lightly_reads_names_below_the_root_and_class_numbers(tmp_path: Path) -> None:
    options = made_bank(tmp_path)
    folder = tmp_path / "vectors"
    assert export(with_format(options, "lightly", folder)) == 0
    vectors, labels, names = read_by_lightly(folder / "embeddings.csv")
    for number in range(5):
        np.testing.assert_allclose(vectors[number], made_mean(number), rtol=1e-6)
        assert labels[number] == DATASET.classes.index(made_video(number).label)
        assert names[number] == f"{made_video(number).id}.mp4"


def test_names_are_written_as_they_are(tmp_path: Path) -> None:
    """Also those that a spreadsheet would take for formulas."""
    names = ["-abc", "=y", "+z, 1", "@a", 'say "b"', "plain"]
    videos = [StoredVideo(name, "=dig") for name in names]
    path = tmp_path / "bank" / "stores" / "names.h5"
    described = DatasetDescription("m", ("=dig",))
    with StoreWriter(path, {"stream": "rgb"}, described) as writer:
        for number, video in enumerate(videos):
            writer.add(video, np.full((2, 3), number), np.arange(2.0))
            (tmp_path / f"{video.id}.mp4").touch()
        writer.finish(videos)
    options = ExportOptions(bank=str(tmp_path / "bank"), root=str(tmp_path))
    export(with_format(options, "lightly", tmp_path / "lightly"))
    vectors, _, found = read_by_lightly(tmp_path / "lightly" / "embeddings.csv")
    assert found == [f"{name}.mp4" for name in names]
    np.testing.assert_array_equal(vectors, np.arange(6)[:, None].repeat(3, 1))
    export(with_format(options, "embeddings", tmp_path / "vectors"))
    with (tmp_path / "vectors" / "samples.csv").open(newline="", encoding="utf-8") as file:
        samples = list(csv.DictReader(file))
    assert [(each["id"], each["label"]) for each in samples] == [(name, "=dig") for name in names]


@pytest.mark.parametrize(
    ("row_shape", "recipe", "length"),
    [((2, 3), {"crops_kept": True}, 3), ((3, 2, 2), {}, 3), ((4, 3, 2, 2), {"crops_kept": 1}, 3)],
)
def test_crops_and_maps_are_averaged(
    tmp_path: Path, row_shape: tuple[int, ...], recipe: dict[str, object], length: int
) -> None:
    values = np.arange(2 * np.prod(row_shape)).reshape(2, *row_shape).astype(np.float32)
    described = DatasetDescription("made", ("dig",), ())
    path = tmp_path / "bank" / "stores" / "maps.h5"
    with StoreWriter(path, {"stream": "rgb", **recipe}, described) as writer:
        writer.add(StoredVideo("a", "dig"), values, np.arange(2.0))
        writer.finish([StoredVideo("a", "dig")])
    (tmp_path / "a.mp4").touch()
    options = ExportOptions(bank=str(tmp_path / "bank"), root=str(tmp_path))
    export(with_format(options, "embeddings", tmp_path / "vectors"))
    axis = values.ndim - (3 if len(row_shape) > 2 else 1)
    expected = values.mean(tuple(number for number in range(values.ndim) if number != axis))
    np.testing.assert_allclose(np.load(tmp_path / "vectors" / "embeddings.npy"), expected[None])
    assert len(expected) == length


@pytest.mark.parametrize(("row_shape", "recipe"), [((10, 7), {}), ((7,), {"crops_kept": True})])
def test_rows_with_crops_that_the_recipe_does_not_name_are_refused(
    tmp_path: Path, row_shape: tuple[int, ...], recipe: dict[str, object]
) -> None:
    path = tmp_path / "bank" / "stores" / "crops.h5"
    with StoreWriter(
        path, {"stream": "rgb", **recipe}, DatasetDescription("m", ("dig",))
    ) as writer:
        writer.add(StoredVideo("a", "dig"), np.ones((2, *row_shape)), np.arange(2.0))
        writer.finish([StoredVideo("a", "dig")])
    (tmp_path / "a.mp4").touch()
    options = ExportOptions(bank=str(tmp_path / "bank"), root=str(tmp_path))
    for name in ("embeddings", "lightly"):
        with pytest.raises(InputError, match=r"crops\.h5: rows must be vectors .*CROPS="):
            export(with_format(options, name, tmp_path / "vectors"))
    assert not (tmp_path / "vectors").exists()


def test_videos_that_cannot_be_named_are_an_error(tmp_path: Path) -> None:
    options = made_bank(tmp_path)
    to = tmp_path / "vectors"
    with pytest.raises(InputError, match="^ROOT must be the folder of the videos with FORMAT=emb"):
        export(with_format(options, "embeddings", to, root=""))
    (tmp_path / "videos" / f"{made_video(3).id}.mp4").unlink()
    with pytest.raises(InputError, match="does not contain 1 of the 5 videos .*fly/v003"):
        export(with_format(options, "embeddings", to))
    with pytest.raises(InputError, match="ROOT is used only with FORMAT=embeddings or lightly"):
        export(with_format(options, "npy", to))
    assert not to.exists()
    path = tmp_path / "many" / "stores" / "many.h5"
    described = DatasetDescription("many", ("cook", "eat"), multilabel=True)
    with StoreWriter(path, {"stream": "rgb"}, described) as writer:
        writer.add(StoredVideo("a", "cook;eat"), np.ones((1, 2)), np.zeros(1))
        writer.finish([StoredVideo("a", "cook;eat")])
    with pytest.raises(InputError, match=r"^FORMAT=lightly: .* multi-label; use FORMAT=embeddings"):
        export(with_format(options, "lightly", to, bank=str(tmp_path / "many")))
