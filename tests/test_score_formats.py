"""Scores from other tools: each format gives the published figures, and pickles are never
executed."""

import csv
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import testdata
from hypothesis import given
from hypothesis import strategies as st
from made_runs import made_run, made_scores

from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.conversion import as_table
from reelbank.data.scores.formats import read_scores
from reelbank.data.scores.rows import read_classes, read_list
from reelbank.data.scores.safe_pickle import Refused, read_pickle
from reelbank.data.scores.table import Scores, probabilities
from reelbank.data.scores.writing import write_scores
from reelbank.fusion.evaluation.score_files import ScoresOptions, score_file
from reelbank.fusion.fuse import FuseOptions, fuse_runs
from reelbank.fusion.metrics import accuracy
from reelbank.heads.runs.folder import find_runs


class Runs:
    """Its pickle, when run, calls `function` with `arguments`."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _grown() -> bytes:
    """30 lists, each naming the one before ten times."""
    value: list = [1.0]
    for _ in range(30):
        value = [value] * 10
    return pickle.dumps(value)


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Pickles that would write <tmp_path>/ran, or reach for something else."""
    write = Runs(os.system, f"touch {tmp_path}/ran")
    inner = pickle.dumps(write)
    storage = Runs(torch.storage._load_from_bytes, inner)
    return {
        "alone": pickle.dumps(write),
        "in a result": pickle.dumps([{"pred_score": write, "gt_label": 1}]),
        "old protocol": pickle.dumps([write], protocol=0),
        "inside a tensor": pickle.dumps(
            [Runs(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, {})]
        ),
        "eval": pickle.dumps(Runs(eval, f"open('{tmp_path}/ran', 'w')")),
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\ntR.",
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93.",
        "torch.load": b"ctorch\nload\n(S'/etc/passwd'\ntR.",
        "state of a class": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb.",
        "another file": b"Pnumber\n.",
        "more objects than it contains": b"\x80\x02]r\xff\xff\xff\x7f.",
        "lists of lists of lists": _grown(),
    }


@pytest.mark.parametrize("which", list(hostile(Path("/none"))))
def test_a_pickle_that_would_run_code_is_refused_and_is_not_run(tmp_path: Path, which: str) -> None:
    path = tmp_path / "results.pkl"
    path.write_bytes(hostile(tmp_path)[which])
    with pytest.raises(InputError) as caught:
        read_scores(path)
    message = str(caught.value)
    assert (
        message.startswith(f"FILE={path}: cannot be read as a score file: ") and "\n" not in message
    )
    if which in ("alone", "in a result", "old protocol"):
        assert "posix.system, which could run arbitrary code, so it was not loaded" in message
    assert not (tmp_path / "ran").exists()


def test_the_pickles_above_do_run_where_they_are_believed(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    pickle.loads(hostile(tmp_path)["alone"])  # noqa: S301
    assert (tmp_path / "ran").exists()


def test_objects_in_an_npz_are_not_run_either(tmp_path: Path) -> None:
    scores = np.empty(2, dtype=object)
    scores[:] = [np.zeros((3, 4), np.float32), Runs(os.system, f"touch {tmp_path}/ran")]
    np.savez(tmp_path / "tsn.npz", scores=scores, labels=np.array([0, 1]))
    with pytest.raises(
        InputError,
        match=r"tsn\.npz: cannot be read as a score file: loading it would call posix\.system",
    ):
        read_scores(tmp_path / "tsn.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("dtype", "data", "line"),
    [
        ("<f4", b"abc", "it is damaged: a float32 number has 3 bytes instead of 4"),
        ("O", b"abcdefgh", "it contains an object instead of a number"),
    ],
)
def test_a_damaged_number_is_described(dtype: str, data: bytes, line: str) -> None:
    scalar = np.float32(0).__reduce__()[0]
    with pytest.raises(Refused, match=line):
        read_pickle(pickle.dumps([Runs(scalar, np.dtype(dtype), data)]))


def test_a_result_without_scores_is_numbered(tmp_path: Path) -> None:
    results = [{"pred_score": np.array([0.5, 0.5])}, {"gt_label": 1}]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(results))
    with pytest.raises(InputError, match="result 2 has no pred_score"):
        read_scores(tmp_path / "a.pkl")


def test_a_damaged_array_is_described() -> None:
    frombuffer = np.arange(2.0).__reduce_ex__(5)[0]
    with pytest.raises(Refused, match=r"an array of 2 float32 numbers must have 8 bytes \(got 3\)"):
        read_pickle(pickle.dumps(Runs(frombuffer, b"abc", np.dtype("<f4"), (2,), "C")))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    for one in (data, pickle.dumps([np.arange(3.0)])[: len(data)]):
        try:
            assert not callable(read_pickle(one))
        except Refused as error:
            assert str(error)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_pickle_gives_numbers_or_is_refused(place: int, byte: int) -> None:
    data = bytearray(
        pickle.dumps(
            [
                {"pred_score": torch.tensor([0.25, 0.75]), "gt_label": torch.tensor([1])},
                np.arange(6.0),
            ]
        )
    )
    data[place % len(data)] = byte
    try:
        read_pickle(bytes(data))
    except Refused as error:
        assert str(error)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_arrays_and_tensors_come_out_as_they_went_in(protocol: int) -> None:
    arrays = [np.arange(6.0, dtype=kind).reshape(2, 3) for kind in ("<f4", ">f4", "<f8", "<f2")]
    arrays += [
        np.asfortranarray(arrays[0]),
        np.arange(4),
        np.array([], np.float32),
        np.array([True, False]),
    ]
    tensors = [torch.arange(6.0).reshape(2, 3).T, torch.tensor([1, 2]), torch.arange(8.0)[2:5]]
    found = read_pickle(
        pickle.dumps(
            [arrays, tensors, np.float32(1.5), {"a": ("x", None, True)}], protocol=protocol
        )
    )
    for got, sent in zip(
        [*found[0], *found[1]], [*arrays, *(one.numpy() for one in tensors)], strict=True
    ):
        np.testing.assert_array_equal(got, sent)
    assert found[2:] == [1.5, {"a": ["x", None, True]}]


def test_mmaction2_results(tmp_path: Path) -> None:
    table = made_scores(20, 2)
    shares = torch.from_numpy(probabilities(table)).float()
    rows = list(zip(shares, table.labels, table.video_ids, strict=True))
    new = [
        {"pred_score": row, "pred_label": row.argmax()[None], "gt_label": torch.tensor([label])}
        for row, label, _ in rows
    ]
    old = [
        {
            "pred_scores": {"item": row},
            "gt_labels": {"item": torch.tensor([label])},
            "frame_dir": name,
        }
        for row, label, name in rows
    ]
    for results in (new, old, [row.numpy() for row in shares]):
        (tmp_path / "r.pkl").write_bytes(pickle.dumps(results))
        found = read_scores(tmp_path / "r.pkl")
        got, taken = as_table(found, table.video_ids, like=table)
        assert taken == "probabilities"
        np.testing.assert_allclose(probabilities(got), probabilities(table), atol=1e-6)
        np.testing.assert_array_equal(got.labels, table.labels)
    with pytest.raises(InputError, match="does not contain the names of its 20 videos; give LIST"):
        as_table(found)


def test_tsn_means_over_frames_and_crops(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 25, 10, 3)).astype(np.float32)
    ragged = np.empty(4, dtype=object)
    ragged[:] = [values[0], values[1][:7], values[2][:, :1], values[3]]
    for scores in (values, ragged, values[:, :, :1]):
        np.savez(tmp_path / "t.npz", scores=scores, labels=np.array([0, 1, 2, 0]))
        found = read_scores(tmp_path / "t.npz")
        expected = [one.reshape(-1, 3).mean(axis=0) for one in scores]
        np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-6)
        assert found.labels.tolist() == [0, 1, 2, 0]


def test_csv_and_tsn_go_out_and_come_back(tmp_path: Path) -> None:
    table = made_scores(15, 1)
    labels = np.where(np.arange(15) == 3, -1, table.labels)
    table = Scores(table.video_ids, labels, table.classes, table.logits, groups=("g",) * 15)
    write_scores(table, tmp_path / "a.csv")
    back, _ = as_table(read_scores(tmp_path / "a.csv"))
    assert (back.video_ids, back.classes, back.groups) == (
        table.video_ids,
        table.classes,
        table.groups,
    )
    np.testing.assert_array_equal(back.logits, table.logits)
    np.testing.assert_array_equal(back.labels, table.labels)
    write_scores(table, tmp_path / "a.tsn.npz")
    found = read_scores(tmp_path / "a.tsn.npz")
    assert found.names == tuple(
        sorted(table.video_ids)
    )  # the order in which tsn-pytorch saves, and reads by place
    back, _ = as_table(found, classes=table.classes, like=table)
    np.testing.assert_array_equal(back.logits, table.logits)
    with pytest.raises(InputError, match="can read pickles, but not write them"):
        write_scores(table, tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label,a\n", "its first line must be video_id"),
        ("video_id,label\nx,\n", "its first line must be video_id"),
        (
            "video_id,label,a,b\nx,a,1\n",
            r"line 2 must have as many fields as the first line, 4 \(got 3\)",
        ),
        ("video_id,label,a,b\nx,c,1,2\n", "the label 'c' is not one of the classes"),
        ("video_id,label,a,b\nx,a,1,two\n", "its scores are not numbers"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_scores(tmp_path / "a.csv")


def test_ids_labels_and_classes_are_taken_from_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = made_run(tmp_path)
    own = score_tables.load(folder / "scores-test.npz")
    stems = [Path(name).name for name in own.video_ids][::-1]
    other = made_scores(60, 3, seed=12, noise=5).logits
    np.savez(
        tmp_path / "idt.npz",
        names=np.array([f"{stem}.avi" for stem in stems]),
        idt=other,
        labels=own.labels[::-1],
    )
    words = {
        "file": str(tmp_path / "idt.npz"),
        "like": folder.name,
        "bank": str(tmp_path),
        "to": str(tmp_path / "out.npz"),
    }
    assert score_file(ScoresOptions(**words)) == 0
    assert "npz of arrays, logits, 60 videos (60 labelled), 6 classes" in capsys.readouterr().out
    table = score_tables.load(tmp_path / "out.npz")
    assert (table.video_ids, table.classes) == (own.video_ids, own.classes)
    np.testing.assert_array_equal(table.logits, other[::-1].astype(np.float32))
    assert (
        fuse_runs(FuseOptions(bank=str(tmp_path), runs=(folder.name, str(tmp_path / "out.npz"))))
        == 0
    )
    np.savez(tmp_path / "idt.npz", names=np.array(["else.avi", *stems[1:]]), idt=other)
    with pytest.raises(
        InputError,
        match="must contain the same videos as the score file, but 2 videos are in only one",
    ):
        score_file(ScoresOptions(**words))
    np.savez(tmp_path / "idt.npz", names=np.array([stems[1], *stems[1:]]), idt=other)
    with pytest.raises(InputError, match="occurs twice"):
        score_file(ScoresOptions(**words))


@pytest.mark.parametrize("several", [False, True])
def test_labels_of_the_file_must_be_the_runs(tmp_path: Path, several: bool) -> None:
    own = made_scores(30, 2, several=several)
    names = np.array(own.video_ids)
    labels = own.labels.argmax(axis=1) if several else own.labels  # one that the video has
    labels = np.where(own.labels.any(axis=-1) if several else True, labels, -1)
    np.savez(tmp_path / "a.npz", names=names, a=own.logits, labels=labels)
    assert (
        as_table(read_scores(tmp_path / "a.npz"), like=own)[0].labels.tolist()
        == own.labels.tolist()
    )
    turned = (1, 2, 3, 4, 5, 0)  # the same classes, in another order
    columns = list(turned)
    numbers = np.where(labels < 0, -1, np.argsort(columns)[labels])
    np.savez(tmp_path / "b.npz", names=names, b=own.logits[:, columns], labels=numbers)
    with pytest.raises(
        InputError,
        match=r"LIKE must have the same labels .* \d+ of \d+ videos differ; .* with CLASSES",
    ):
        as_table(read_scores(tmp_path / "b.npz"), like=own)
    back, _ = as_table(
        read_scores(tmp_path / "b.npz"),
        classes=[own.classes[number] for number in turned],
        like=own,
    )
    np.testing.assert_array_equal(back.logits, own.logits)
    np.savez(tmp_path / "c.npz", names=names, c=own.logits, labels=np.full(30, 6))
    with pytest.raises(InputError, match=r"must be class numbers from 0 to 5 \(got 6 to 6\)"):
        as_table(read_scores(tmp_path / "c.npz"), like=own)


def test_a_file_of_ours_keeps_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "ours.npz"
    score_tables.save(made_scores(9, 2, about={"split": "1"}), path)
    out = str(tmp_path / "o.npz")
    assert (
        score_file(
            ScoresOptions(file=str(path), to=out, name="mine", dataset="ucf101", part="validation")
        )
        == 0
    )
    about = score_tables.load(out).about
    assert [about[key] for key in ("name", "dataset", "split", "part")] == [
        "mine",
        "ucf101",
        "1",
        "validation",
    ]
    assert "Reelbank's npz" in capsys.readouterr().out
    for more, said in (
        ({"split": "2"}, "SPLIT=2 contradicts .* records '1'"),
        ({"key": "a"}, "KEY=a: .* was written by Reelbank"),
        ({"like": "a"}, "LIKE=a: .* was written by Reelbank"),
        ({"scale": "logits"}, "SCALE=logits: .* was written by Reelbank"),
    ):
        with pytest.raises(InputError, match=said):
            score_file(ScoresOptions(file=str(path), **more))


def test_classes_taken_on_trust_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = made_run(tmp_path)
    own = score_tables.load(folder / "scores-test.npz")
    words = {"file": str(tmp_path / "a.npz"), "like": folder.name, "bank": str(tmp_path)}
    for labels, said in (({}, True), ({"labels": own.labels}, False)):
        np.savez(tmp_path / "a.npz", names=np.array(own.video_ids), a=own.logits, **labels)
        assert score_file(ScoresOptions(**words)) == 0
        assert (
            "assumed to have the same order as those of LIKE" in capsys.readouterr().out
        ) == said


def test_a_class_may_be_called_group(tmp_path: Path) -> None:
    table = made_scores(8, 2, classes=("group", "other"))
    write_scores(table, tmp_path / "a.csv")
    found = read_scores(tmp_path / "a.csv")
    assert found.classes == ("group", "other") and found.groups == ()
    np.testing.assert_array_equal(as_table(found)[0].logits, table.logits)


def test_a_name_that_utf8_cannot_encode_leaves_the_existing_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("before")
    table = made_scores(2, 1)
    table = Scores(("a", "b\udcff"), table.labels, table.classes, table.logits)
    with pytest.raises(
        InputError, match=r"a\.csv: .* cannot be written as UTF-8; .* ends in \.npz"
    ):
        write_scores(table, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def _objects(*values: object) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


NO_TABLES = {
    "text": {"scores": np.array(["a", "b"])},
    "no axis": {"scores": np.array(1.0)},
    "no classes": {"scores": np.zeros((5, 0))},
    "no classes in crops": {"scores": np.zeros((5, 2, 0))},
    "dicts": {"scores": _objects({"a": 1}, {"a": 2})},
    "ragged": {"scores": _objects([[1.0], [1.0, 2.0]], [[1.0]])},
    "not alike": {"scores": _objects(np.zeros((2, 3)), np.zeros((2, 4)))},
    "complex": {"scores": np.zeros((2, 3), complex)},
    "not finite": {"scores": np.array([[1.0, 2.0], [1.0, np.nan]])},
    "labels of text": {"scores": np.zeros((2, 3)), "labels": np.array(["a", "b"])},
    "a name of no axis": {"names": np.array(3), "a": np.zeros((2, 3))},
    "names that are numbers": {"names": np.array([1, 2]), "a": np.zeros((2, 3))},
    "an empty table with names": {"names": np.array(["a"]), "a": np.zeros((4_000_000, 0))},
}
NO_RESULTS = {
    "label of text": [{"pred_score": [1.0], "gt_label": "abc"}],
    "label that is not a number": [{"pred_score": [1.0], "gt_label": float("nan")}],
    "broken label": [{"pred_score": [1.0], "gt_label": 1.7}],
    "ragged labels": [{"pred_score": [1.0], "gt_label": [[1], [1, 2]]}],
    "text": [{"pred_score": ["a"]}],
    "texts": ["a", "b"],
    "numbers": 3,
}


@pytest.mark.parametrize("which", list(NO_TABLES))
def test_arrays_that_are_not_scores_are_refused(tmp_path: Path, which: str) -> None:
    np.savez(tmp_path / "a.npz", **NO_TABLES[which])
    with pytest.raises(
        InputError, match=r"FILE=.*a\.npz: cannot be read as a score file: ."
    ) as caught:
        read_scores(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", list(NO_RESULTS))
def test_results_that_are_not_scores_are_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(NO_RESULTS[which]))
    with pytest.raises(InputError, match=r"FILE=.*a\.pkl: cannot be read as a score file: ."):
        read_scores(tmp_path / "a.pkl")


def test_names_as_bytes_are_texts(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", names=np.array([b"x.avi", b"y.avi"]), a=np.zeros((2, 3)))
    assert read_scores(tmp_path / "a.npz").names == ("x.avi", "y.avi")


def test_what_would_grow_is_refused_before_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.empty((100_000, 0), dtype=object)
    with pytest.raises(Refused, match="an array of objects is empty"):
        read_pickle(pickle.dumps(many))
    array = np.zeros(100_000)
    with pytest.raises(Refused, match="much larger"):
        read_pickle(pickle.dumps([array] * 200))  # a hundred names of one array
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
        archive.writestr("archive/data/0", bytes(10_000_000))
    storage = Runs(torch.storage._load_from_bytes, packed.getvalue())
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(Refused, match="the data of a tensor is compressed"):
        read_pickle(
            pickle.dumps([Runs(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, {})])
        )


def test_lists_of_videos_and_classes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("A/v_A_g01_c01.avi 1\r\nB/v B.avi 120 2\n\nC/c.mp4 3\n")
    assert list(read_list(tmp_path / "list.txt").names) == [
        "A/v_A_g01_c01.avi",
        "B/v B.avi",
        "C/c.mp4",
    ]
    (tmp_path / "classes.txt").write_text("1 ApplyEyeMakeup\n2 ride a bike\n")
    assert read_classes(tmp_path / "classes.txt") == ["ApplyEyeMakeup", "ride a bike"]
    for text in (
        "3 point shot\nhigh jump\n",
        "3 point shot\n4 square\n",
        "clip 01\nclip 02\n",
        "1 a\n2\n",
    ):
        (tmp_path / "other.txt").write_text(text)
        assert read_classes(tmp_path / "other.txt") == text.splitlines()
    (tmp_path / "list.txt").write_text("clip 01\nclip 02\n")
    assert list(read_list(tmp_path / "list.txt").names) == ["clip 01", "clip 02"]
    with pytest.raises(InputError, match=r"LIST=.*none\.txt: cannot be read"):
        read_list(tmp_path / "none.txt")


def test_the_commands_give_the_published_figures_of_real_scores(tmp_path: Path) -> None:
    """HMDB-51, three splits: by commands alone, from files as they were published to mean and
    deviation."""
    files: dict[str, list[str]] = {"rgb": [], "flow": []}
    for split in "123":
        source = testdata("scores", "hmdb51_seqvlad", f"plain_split{split}.npz")
        for stream, some in files.items():
            some.append(str(tmp_path / f"{stream}{split}.npz"))
            words = {
                "file": str(source),
                "key": stream,
                "to": some[-1],
                "name": stream,
                "split": split,
                "dataset": "hmdb51",
            }
            assert score_file(ScoresOptions(**words)) == 0
    for how, weights, expected in (
        ("logits", (1.0, 1.5), [0.7288, 0.7039, 0.7118]),
        ("product", (), [0.7248, 0.6902, 0.7039]),
    ):
        options = FuseOptions(
            bank=str(tmp_path / how), runs=(*files["rgb"], *files["flow"]), how=how, weights=weights
        )
        assert fuse_runs(options) == 0
        runs = sorted(find_runs(tmp_path / how), key=lambda run: run.recipe["split"])
        assert [round(run.metrics.test.top1, 4) for run in runs] == expected
        assert all(accuracy(run.scores("test")).value == run.metrics.test.top1 for run in runs)
        assert runs[0].scores("test").groups == ()  # HMDB's names say no groups


def test_ucf_names_give_groups(tmp_path: Path) -> None:
    source = testdata("scores", "ucf101_seqvlad_split2.npz")
    with pytest.raises(InputError, match="KEY=: .* contains the score arrays flow, idt, rgb"):
        read_scores(source)
    assert score_file(ScoresOptions(file=str(source), key="rgb", to=str(tmp_path / "rgb.csv"))) == 0
    with (tmp_path / "rgb.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 3735 and rows[0][2] == "group"
    assert all(row[2] == f"{row[1]}/g{row[0].partition('_g')[2][:2]}" for row in rows[1:])


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reelbank.data.scores.formats.MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", bytes(100_000))
    with pytest.raises(InputError, match="unpacked data must have at most"):
        read_scores(tmp_path / "a.npz")
    monkeypatch.undo()
    np.savez_compressed(tmp_path / "b.npz", scores=np.zeros((1000, 10_000), np.int8))
    with pytest.raises(InputError, match="unpacked data must have at most"):
        read_scores(tmp_path / "b.npz")


def test_probabilities_of_several_labels_become_logits(tmp_path: Path) -> None:
    own = made_scores(12, 1, several=True)
    shares = 1 / (1 + np.exp(-own.logits.astype(np.float64)))
    np.savez(
        tmp_path / "m.npz", names=np.array([Path(name).name for name in own.video_ids]), m=shares
    )
    with pytest.raises(
        InputError,
        match="SCALE: the scale of multi-label .* SCALE=logits, SCALE=probabilities or SCALE=percent",
    ):
        as_table(read_scores(tmp_path / "m.npz"), like=own)
    table, taken = as_table(read_scores(tmp_path / "m.npz"), like=own, scale="probabilities")
    assert taken == "probabilities"
    np.testing.assert_allclose(table.logits, own.logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="scores must be at most 1"):
        as_table(
            read_scores(tmp_path / "m.npz").__class__("npz", shares * 3, own.video_ids),
            like=own,
            scale="probabilities",
        )


def test_a_damaged_packed_npz_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "z.npz",
        names=np.array(list("abcd")),
        s=np.random.default_rng(0).normal(size=(4, 300)),
    )
    data = bytearray((tmp_path / "z.npz").read_bytes())
    for place in range(100, len(data) - 100, 97):
        damaged = data.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "d.npz").write_bytes(damaged)
        try:
            assert read_scores(tmp_path / "d.npz").scores.shape == (4, 300)
        except InputError as error:
            assert "\n" not in str(error)
