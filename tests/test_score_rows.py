"""Rows of other tools' score files are assigned to the right videos, the scale of their numbers is
recognised, and common file formats are read or named in the error."""

import codecs
import gzip
import io
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from conftest import testdata
from made_runs import made_scores

from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores, log_probabilities, probabilities
from reelbank.fusion.evaluation.score_files import ScoresOptions, score_file
from reelbank.fusion.late import fuse
from reelbank.fusion.metrics import accuracy

FAULTS = ("faults", "scores")


def read(
    path: Path, capsys: pytest.CaptureFixture | None = None, **words: str
) -> tuple[Scores, str]:
    """The table that `scores FILE=path TO=...` writes, and what it printed."""
    to = path.with_name("table-of-ours.npz")
    assert score_file(ScoresOptions(file=str(path), to=str(to), **words)) == 0
    return score_tables.load(to), capsys.readouterr().out if capsys else ""


def as_objects(values: list) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def write_tsn(path: Path, table: Scores, order: list[int]) -> None:
    """A file as tsn-pytorch leaves it: (frames, 1, C) of each video, in this order, without
    names."""
    rows = as_objects([table.logits[row][None, None] for row in order])
    np.savez(path, scores=rows, labels=table.labels[order])


def write_list(
    path: Path, table: Scores, order: list[int], labels: bool = True, first: int = 0
) -> None:
    lines = [
        f"{table.video_ids[row]} 100 {table.labels[row] + first}"
        if labels
        else table.video_ids[row]
        for row in order
    ]
    path.write_text("\n".join(lines))


def test_tsn_rows_belong_to_the_sorted_lines_of_their_list(tmp_path, capsys):
    """The right value of the issue: the flow list has another order, equal within each class, so
    its labels agree both ways."""
    tables = []
    for stream in ("rgb", "flow"):
        shutil.copy(testdata(*FAULTS, "tsn", f"{stream}.npz"), tmp_path)
        words = {"list": str(testdata(*FAULTS, "tsn", f"list_{stream}.txt"))}
        words["classes"] = str(testdata(*FAULTS, "tsn", "classes.txt"))
        tables.append(read(tmp_path / f"{stream}.npz", capsys, **words))
    assert accuracy(fuse([table for table, _ in tables], "product")).value == pytest.approx(0.8975)
    assert "sorted" not in tables[0][1]  # the list is sorted already
    assert (
        "the order of the sorted lines of LIST, in which tsn-pytorch saves scores" in tables[1][1]
        and "ORDER=list" in tables[1][1]
    )
    _, said = read(tmp_path / "flow.npz", capsys, order="list", **words)
    assert "sorted" not in said


@pytest.mark.parametrize("saved", ["sorted", "list"])
@pytest.mark.parametrize("first", [0, 1])
def test_the_one_order_that_agrees_with_the_labels_is_taken_and_said(
    tmp_path, capsys, saved, first
):
    table = made_scores(40, 2, seed=3)
    in_list = np.random.default_rng(0).permutation(40).tolist()
    in_file = sorted(range(40), key=table.video_ids.__getitem__) if saved == "sorted" else in_list
    write_tsn(tmp_path / "a.npz", table, in_file)
    write_list(
        tmp_path / "list.txt", table, in_list, first=first
    )  # some lists count classes from 1
    found, said = read(tmp_path / "a.npz", capsys, list=str(tmp_path / "list.txt"))
    row_of = {name: row for row, name in enumerate(found.video_ids)}
    np.testing.assert_array_equal(
        found.logits[[row_of[name] for name in table.video_ids]], table.logits
    )
    words = {"sorted": "the sorted lines of LIST", "list": "the lines in LIST;"}[saved]
    assert words in said and "in the other order (ORDER=" in said
    other = {"sorted": "list", "list": "sorted"}[saved]
    with pytest.raises(
        InputError,
        match=rf"ORDER={other}: LIST must have the same labels .* rows .*; use ORDER={saved}, which agrees",
    ):
        read(tmp_path / "a.npz", order=other, list=str(tmp_path / "list.txt"))


def test_a_list_that_contradicts_the_file_in_every_order_is_refused(tmp_path):
    table = made_scores(12, 2, seed=3)
    order = sorted(range(12), key=table.video_ids.__getitem__)
    write_tsn(tmp_path / "a.npz", table, order)
    write_list(tmp_path / "list.txt", table, order)
    lines = (tmp_path / "list.txt").read_text().splitlines()
    lines[4] = lines[4][:-1] + str((int(lines[4][-1]) + 1) % 6)
    (tmp_path / "list.txt").write_text("\n".join(lines))
    name = table.video_ids[order[4]]
    with pytest.raises(
        InputError,
        match="LIST must have the same labels as the score file, but they differ in 1 of 12 rows",
    ) as refused:
        read(tmp_path / "a.npz", list=str(tmp_path / "list.txt"))
    assert repr(name) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("saved", ["sorted", "list"])
def test_labels_of_like_tell_the_order_of_a_list_without_labels(tmp_path, saved):
    table = made_scores(40, 2, seed=3)
    score_tables.save(table, tmp_path / "like.npz")
    in_list = np.random.default_rng(0).permutation(40).tolist()
    in_file = sorted(range(40), key=table.video_ids.__getitem__) if saved == "sorted" else in_list
    write_tsn(tmp_path / "a.npz", table, in_file)
    write_list(tmp_path / "list.txt", table, in_list, labels=False)
    found, _ = read(
        tmp_path / "a.npz", list=str(tmp_path / "list.txt"), like=str(tmp_path / "like.npz")
    )
    np.testing.assert_array_equal(found.logits, table.logits)


def test_a_list_given_with_a_file_that_has_names_must_agree_with_it(tmp_path):
    table = made_scores(10, 2, seed=3)
    np.savez(
        tmp_path / "a.npz", names=np.array(table.video_ids), a=table.logits, labels=table.labels
    )
    write_list(tmp_path / "list.txt", table, list(range(9, -1, -1)))
    assert read(tmp_path / "a.npz", list=str(tmp_path / "list.txt"))[0].video_ids == table.video_ids
    for more in ({"list": str(tmp_path / "list.txt")}, {}):
        with pytest.raises(InputError, match="ORDER=list: applies only if"):
            read(tmp_path / "a.npz", order="list", **more)
    lines = (tmp_path / "list.txt").read_text().splitlines()
    (tmp_path / "other.txt").write_text("\n".join([f"else 100 {table.labels[9]}", *lines[1:]]))
    with pytest.raises(
        InputError,
        match="LIST must name the same videos as the score file, but 2 videos are in only one of the two",
    ):
        read(tmp_path / "a.npz", list=str(tmp_path / "other.txt"))
    moved = [lines[0][:-1] + str((int(lines[0][-1]) + 1) % 6), *lines[1:]]
    (tmp_path / "other.txt").write_text("\n".join(moved))
    with pytest.raises(InputError, match="differ in 1 of 10 rows"):
        read(tmp_path / "a.npz", list=str(tmp_path / "other.txt"))


def test_our_tsn_file_tells_its_videos(tmp_path):
    table = made_scores(20, 2, seed=3)
    score_tables.save(table, tmp_path / "own.npz")
    assert (
        score_file(ScoresOptions(file=str(tmp_path / "own.npz"), to=str(tmp_path / "a.tsn.npz")))
        == 0
    )
    found, _ = read(tmp_path / "a.tsn.npz", like=str(tmp_path / "own.npz"))
    np.testing.assert_array_equal(found.logits, table.logits)
    assert np.load(tmp_path / "a.tsn.npz")["labels"].tolist() == [
        int(table.labels[table.video_ids.index(name)]) for name in sorted(table.video_ids)
    ]


def write_csv(path: Path, shares: np.ndarray, decimals: int) -> None:
    """Scores (V, C) as text of so many decimals."""
    heads = ["video_id", "label", *(f"c{number}" for number in range(shares.shape[1]))]
    rows = [
        [f"v{row}", "", *(f"{value:.{decimals}f}" for value in values)]
        for row, values in enumerate(shares)
    ]
    path.write_text("\n".join(",".join(row) for row in [heads, *rows]) + "\n")


def test_probabilities_of_three_decimals_are_probabilities(tmp_path, capsys):
    tables = {}
    for name in ("a", "b", "b_3_decimals"):
        with gzip.open(testdata(*FAULTS, f"probabilities_{name}.csv.gz")) as packed:
            (tmp_path / f"{name}.csv").write_bytes(packed.read())
        tables[name], said = read(tmp_path / f"{name}.csv", capsys)
        assert "CSV, probabilities, 1,500 videos" in said
    both = [tables["a"], tables["b"]]
    assert accuracy(fuse(both, "product")).value == pytest.approx(0.8787, abs=5e-5)
    assert accuracy(fuse(both, "sum")).value == pytest.approx(0.8073, abs=5e-5)
    rounded = [tables["a"], tables["b_3_decimals"]]
    assert accuracy(fuse(rounded, "product")).value == pytest.approx(0.8787, abs=2e-3)
    assert accuracy(fuse(rounded, "sum")).value == pytest.approx(0.8073, abs=2e-3)


@pytest.mark.parametrize(
    ("decimals", "whole", "taken"),
    [(2, 1, "probabilities"), (6, 1, "probabilities"), (1, 100, "percent")],
)
def test_what_was_rounded_is_known_by_its_sum(tmp_path, capsys, decimals, whole, taken):
    table = made_scores(30, 4)
    shares = probabilities(table)
    write_csv(tmp_path / "a.csv", whole * shares, decimals)
    found, said = read(tmp_path / "a.csv", capsys)
    assert f"CSV, {taken}, 30 videos" in said
    np.testing.assert_allclose(probabilities(found), shares, atol=6 * 10.0**-decimals / whole)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_probabilities_of_half_precision_are_probabilities(tmp_path, capsys, kind):
    table = made_scores(30, 4)
    np.savez(
        tmp_path / "a.npz", names=np.array(table.video_ids), a=probabilities(table).astype(kind)
    )
    assert "npz of arrays, probabilities," in read(tmp_path / "a.npz", capsys)[1]


def test_logits_stay_logits(tmp_path, capsys):
    table = made_scores(30, 4)
    for logits in (table.logits, log_probabilities(table), table.logits * 50):
        np.savez(tmp_path / "a.npz", names=np.array(table.video_ids), a=logits)
        found, said = read(tmp_path / "a.npz", capsys)
        assert "npz of arrays, logits," in said
        np.testing.assert_array_equal(found.logits, logits.astype(np.float32))


@pytest.mark.parametrize(
    "change", ["sigmoids", "counts", "one row halved", "one row of zeros", "noise below 0"]
)
@pytest.mark.parametrize("whole", [1, 100])
def test_what_is_neither_is_refused_with_the_choices(tmp_path, change, whole):
    table = made_scores(30, 4)
    shares = probabilities(table)
    if change == "sigmoids":
        shares = 1 / (1 + np.exp(-table.logits.astype(np.float64)))
    elif change == "counts":
        shares = np.random.default_rng(0).integers(0, 9, shares.shape) * 1.0
    elif change == "noise below 0":
        shares = np.where(shares == shares.min(), -1e-9, shares)
    else:
        shares[7] *= 0.5 if change == "one row halved" else 0
    np.savez(tmp_path / "a.npz", names=np.array(table.video_ids), a=whole * shares)
    with pytest.raises(
        InputError, match="SCALE: .* SCALE=logits, SCALE=probabilities or SCALE=percent"
    ):
        read(tmp_path / "a.npz")
    if change == "sigmoids":
        scale = {1: "probabilities", 100: "percent"}[whole]
        found, _ = read(tmp_path / "a.npz", scale=scale)
        np.testing.assert_allclose(found.logits, np.log(shares), rtol=1e-5)
    assert read(tmp_path / "a.npz", scale="logits")[0].logits.shape == shares.shape


def test_a_scale_that_cannot_be_is_refused(tmp_path):
    table = made_scores(30, 4)
    np.savez(
        tmp_path / "percent.npz", names=np.array(table.video_ids), a=100 * probabilities(table)
    )
    with pytest.raises(
        InputError,
        match="SCALE=probabilities: scores must be at most 1, but some are larger; are they percentages",
    ):
        read(tmp_path / "percent.npz", scale="probabilities")
    np.savez(tmp_path / "logits.npz", names=np.array(table.video_ids), a=table.logits)
    for scale in ("probabilities", "percent"):
        with pytest.raises(InputError, match=f"SCALE={scale}: scores must be at least 0"):
            read(tmp_path / "logits.npz", scale=scale)


def test_percentages_of_several_labels_must_be_said(tmp_path):
    own = made_scores(12, 1, several=True)
    score_tables.save(own, tmp_path / "own.npz")
    shares = 1 / (1 + np.exp(-own.logits.astype(np.float64)))
    np.savez(tmp_path / "a.npz", names=np.array(own.video_ids), a=100 * shares)
    with pytest.raises(
        InputError,
        match="SCALE: the scale of multi-label scores cannot be detected",
    ):
        read(tmp_path / "a.npz", like=str(tmp_path / "own.npz"))
    found, _ = read(tmp_path / "a.npz", like=str(tmp_path / "own.npz"), scale="percent")
    np.testing.assert_allclose(found.logits, own.logits, rtol=1e-4, atol=1e-4)


def test_a_byte_order_mark_changes_nothing(tmp_path):
    """The lists and the table of the issue, with their marks and without."""
    tables = []
    for mark in (True, False):
        folder = tmp_path / str(mark)
        folder.mkdir()
        for name in ("list_bom.txt", "cls_bom.txt", "bom.csv"):
            data = testdata(*FAULTS, name).read_bytes()
            assert data.startswith(codecs.BOM_UTF8)
            (folder / name).write_bytes(data if mark else data.removeprefix(codecs.BOM_UTF8))
        own = made_scores(40, 2, classes=tuple(f"c{number}" for number in range(101)))
        write_tsn(
            folder / "tsn.npz",
            Scores(own.video_ids, np.full(40, -1), own.classes, own.logits),
            list(range(40)),
        )
        words = {"list": str(folder / "list_bom.txt"), "classes": str(folder / "cls_bom.txt")}
        tables.append([read(folder / "tsn.npz", **words)[0], read(folder / "bom.csv")[0]])
    for marked, plain in zip(*tables, strict=True):
        assert (marked.video_ids, marked.classes) == (plain.video_ids, plain.classes)
        np.testing.assert_array_equal(marked.logits, plain.logits)
    assert tables[0][0].video_ids[0] == "v_YoYo_g01_c01" and tables[0][0].classes[:2] == (
        "c0",
        "c1",
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_text_of_another_encoding_is_named(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("video_id,label,ä,b\nx,,1,2\n", encoding=encoding)
    names = {"utf-16": "UTF-16", "utf-32": "UTF-32", "latin-1": "got byte"}
    with pytest.raises(
        InputError, match=rf"a\.csv: must be UTF-8 text .*{names[encoding]}.*; save it as UTF-8"
    ):
        read(tmp_path / "a.csv")
    np.savez(tmp_path / "a.npz", scores=np.zeros((1, 2)) - 1)
    (tmp_path / "list.txt").write_text("ä", encoding=encoding)
    with pytest.raises(InputError, match=r"list\.txt: must be UTF-8 text .*; save it as UTF-8"):
        read(tmp_path / "a.npz", list=str(tmp_path / "list.txt"))


def test_coviar_names_its_videos(tmp_path, capsys):
    shutil.copy(testdata(*FAULTS, "coviar.npz"), tmp_path)
    table, said = read(tmp_path / "coviar.npz", capsys)
    with np.load(testdata(*FAULTS, "coviar.npz"), allow_pickle=True) as plain:
        assert (
            table.video_ids == tuple(plain["names"])
            and table.labels.tolist() == plain["labels"].tolist()
        )
        expected = [pair[0].mean(axis=0) for pair in plain["scores"]]
        np.testing.assert_allclose(table.logits, expected, rtol=1e-6)
    assert "CoViAR's npz, logits, 40 videos" in said


def _saved(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def other_files() -> dict[str, tuple[bytes, str]]:
    """Files that people have instead: name -> content, and how it is called."""
    hdf5 = _saved(
        lambda stream: (
            h5py.File(stream, "w").create_dataset("scores", data=np.zeros((2, 3))).file.close()
        )
    )
    matlab = _saved(lambda stream: scipy.io.savemat(stream, {"scores": np.zeros((2, 3))}))
    return {
        "a.h5": (hdf5, "an HDF5 file"),
        "a.mat": (matlab, r"a MATLAB file \(.mat\)"),
        "b.mat": (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + hdf5, "a MATLAB file"),
        "a.npy": (_saved(lambda stream: np.save(stream, np.zeros((2, 3)))), "a single numpy array"),
        "a.pkl.gz": (gzip.compress(b"x"), "a gzip file"),
        "a.json": (b'[{"pred_score": [0.1, 0.9]}]', "a text"),
        "a.pth": (
            _saved(lambda stream: torch.save({"a": torch.zeros(2)}, stream)),
            "an archive that contains .*, but only arrays",
        ),
    }


@pytest.mark.parametrize("name", list(other_files()))
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, name):
    content, kind = other_files()[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=rf"{name}: cannot be read as a score file: it is {kind}"
    ) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_packed_csv_is_read(tmp_path):
    write_csv(tmp_path / "a.csv", probabilities(made_scores(5, 3)), 4)
    with gzip.open(tmp_path / "a.csv.gz", "wb") as packed:
        packed.write((tmp_path / "a.csv").read_bytes())
    np.testing.assert_array_equal(
        read(tmp_path / "a.csv.gz")[0].logits, read(tmp_path / "a.csv")[0].logits
    )
    (tmp_path / "b.csv.gz").write_bytes((tmp_path / "a.csv.gz").read_bytes()[:-9])
    with pytest.raises(
        InputError, match="b.csv.gz: cannot be read as a score file: it is not a CSV table"
    ):
        read(tmp_path / "b.csv.gz")
