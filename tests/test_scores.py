"""Score tables: reading gives what was written, tables are joined by id, and hostile or damaged
files are refused."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelbank.data.errors import InputError
from reelbank.data.scores.joining import join
from reelbank.data.scores.table import Scores, load, log_probabilities, probabilities, save

IDS = ("HandStand/v_a (1)!_g01", "b é 視", "c#d")
TABLE = Scores(
    IDS,
    np.array([1, -1, 0]),
    ("run <fast>", "läuft"),
    np.array([[0.5, 2], [-3, 1], [7, 7]]),
    {"split": "2", "n": [1]},
)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def test_round_trip(tmp_path: Path) -> None:
    save(TABLE, tmp_path / "scores-test.npz")
    back = load(tmp_path / "scores-test.npz")
    assert (back.video_ids, back.classes, back.about) == (
        TABLE.video_ids,
        TABLE.classes,
        TABLE.about,
    )
    np.testing.assert_array_equal(back.labels, [1, -1, 0])
    np.testing.assert_array_equal(back.logits, np.float32([[0.5, 2], [-3, 1], [7, 7]]))
    assert back.labels.dtype == np.int64
    assert back.logits.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["scores-test.npz"]


def test_it_can_be_read_with_only_numpy(tmp_path: Path) -> None:
    save(TABLE, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as plain:
        assert plain["video_ids"].tolist() == list(IDS)
        assert json.loads(plain["about"].item()) == {"split": "2", "n": [1]}


def test_an_empty_part_is_kept(tmp_path: Path) -> None:
    save(Scores((), [], ("a", "b"), np.zeros((0, 2))), tmp_path / "s.npz")
    assert load(tmp_path / "s.npz").logits.shape == (0, 2)


def test_save_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    save(TABLE, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        save(Scores(("a",), [0], ("x",), [[1.0]], {"loss": float("nan")}), path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"labels": [0, 1]}, r"labels must have shape \(3,\)"),
        ({"logits": np.zeros((3, 4))}, r"logits \(3, 2\) \(got \(3,\) and \(3, 4\)\)"),
        (
            {"logits": np.array([[0, 1], [0, np.nan], [0, 0]])},
            "those of 1 videos contain NaN or infinity; the first of these videos is 'b é 視'",
        ),
        ({"logits": np.array([[0, 1], [0, 1], [0, 1e300]])}, "first of these videos is .c#d."),
        ({"video_ids": ("a", "b", "a")}, "video id 'a' occurs more than once"),
        ({"classes": ("x", "x")}, "class 'x' occurs more than once"),
        ({"labels": [0, 2, 1]}, r"labels must be class numbers from 0 to 1, .* \(got 0 to 2\)"),
        ({"labels": [0, -2, 1]}, r"\(got -2 to 1\)"),
        ({"labels": [0.0, 1.0, 1.0]}, "whole numbers"),
        ({"classes": (), "logits": np.zeros((3, 0))}, "0 classes"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, line: str) -> None:
    given = {
        "video_ids": IDS,
        "labels": [0, 1, 1],
        "classes": ("x", "y"),
        "logits": np.zeros((3, 2)),
    } | change
    with pytest.raises(InputError, match=line):
        Scores(**given)


def test_probabilities() -> None:
    table = Scores(("a", "b"), [0, 0], ("x", "y"), [[0, np.log(3)], [3e4, -3e4]])
    np.testing.assert_allclose(probabilities(table), [[0.25, 0.75], [1, 0]], rtol=1e-6)
    assert np.isfinite(log_probabilities(table)).all()


class Runs:
    """Unpickled, it makes a file: the proof that something ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    pickle.loads(pickle.dumps(Runs(proof)))  # noqa: S301 - the trap works
    proof.unlink()
    save(TABLE, tmp_path / "s.npz")
    for name in members(tmp_path / "s.npz"):
        hostile = np.empty((3,) if name == "labels.npy" else (), dtype=object)
        hostile[...] = Runs(proof)
        path = write(
            tmp_path / "hostile.npz",
            members(tmp_path / "s.npz") | {name: npy(hostile, allow_pickle=True)},
        )
        with pytest.raises(InputError, match=r"hostile\.npz: cannot be read as a score file"):
            load(path)
    whole = tmp_path / "pickle.npz"
    whole.write_bytes(pickle.dumps(Runs(proof)))
    with pytest.raises(InputError, match=r"pickle\.npz"):
        load(whole)
    assert not proof.exists()


def test_more_declared_than_there_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    save(TABLE, tmp_path / "s.npz")
    good = members(tmp_path / "s.npz")
    header = good["logits.npy"].replace(b"(3, 2), }" + b" " * 12, b"(3000000000, 2000), }")
    assert header != good["logits.npy"]
    with pytest.raises(InputError, match="declares .* bytes, but stores"):
        load(write(tmp_path / "h.npz", good | {"logits.npy": header}))
    bomb = good | {"logits.npy": npy(np.zeros((3000, 2000), dtype=np.float32))}
    with pytest.raises(InputError, match="compressed"):
        load(write(tmp_path / "h.npz", bomb, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "change",
    [
        {"format.npy": npy(np.array("something else"))},
        {"about.npy": npy(np.array("[1]"))},
        {"about.npy": npy(np.array("[" * 100_000))},
        {"labels.npy": npy(np.array([0.0, 1.0, 1.0]))},
        {"labels.npy": npy(np.array([0, 1, 9]))},
        {"video_ids.npy": npy(np.array([1, 2, 3]))},
        {"video_ids.npy": npy(np.array([2**31 - 1] * 3, dtype=np.uint32).view("<U1"))},
        {"logits.npy": b""},
        {"logits.npy": b"\x93NUMPY\x01\x00\x10\x00((((((((((((((("},
        {"logits.npy": npy(np.zeros((3, 2), dtype=[("f", "f4")]))},
    ],
)
def test_wrong_contents_are_refused(tmp_path: Path, change: dict[str, bytes]) -> None:
    save(TABLE, tmp_path / "s.npz")
    with pytest.raises(InputError, match=r"^[^\n]*h\.npz: cannot be read as a score file"):
        load(write(tmp_path / "h.npz", members(tmp_path / "s.npz") | change))


def test_missing_files_and_members(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the score file does not exist"):
        load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
    save(TABLE, tmp_path / "s.npz")
    files = members(tmp_path / "s.npz")
    del files["labels.npy"]
    with pytest.raises(InputError, match=r"labels\.npy"):
        load(write(tmp_path / "s.npz", files))


def test_damage_is_found_or_harmless(tmp_path: Path) -> None:
    """Any byte changed, or any cut: refused, or (where the byte says nothing, as a file time) the
    same table."""
    path, bad = tmp_path / "s.npz", tmp_path / "bad.npz"
    save(TABLE, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(whole), size=400):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        for data in (bytes(flipped), whole[:place]):
            bad.write_bytes(data)
            try:
                back = load(bad)
            except InputError:
                refused += 1
                continue
            assert back.video_ids == TABLE.video_ids
            np.testing.assert_array_equal(back.logits, TABLE.logits)
            np.testing.assert_array_equal(back.labels, TABLE.labels)
    assert refused > 700


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.randoms(use_true_random=False))
def test_join_is_by_id_and_class_name(videos: int, classes: int, random) -> None:
    """Rows and columns shuffled: the joined table equals the unshuffled one, labels and all."""
    ids, names = [f"v{i}" for i in range(videos)], [f"c{i}" for i in range(classes)]
    labels = np.array([random.randrange(-1, classes) for _ in ids])
    logits = np.arange(videos * classes, dtype=np.float32).reshape(videos, classes)
    first = Scores(tuple(ids), labels, tuple(names), -logits)
    rows, columns = random.sample(range(videos), videos), random.sample(range(classes), classes)
    shuffled = Scores(
        tuple(ids[r] for r in rows),
        [columns.index(labels[r]) if labels[r] >= 0 else -1 for r in rows],
        tuple(names[c] for c in columns),
        logits[rows][:, columns],
        {"head": "gru"},
    )
    one, two = join([first, shuffled])
    assert one is first
    assert (two.video_ids, two.classes, two.about) == (
        first.video_ids,
        first.classes,
        {"head": "gru"},
    )
    np.testing.assert_array_equal(two.labels, labels)
    np.testing.assert_array_equal(two.logits, logits)


def test_join_refuses_what_differs() -> None:
    def table(ids: str, labels: list[int], classes: str = "xy", name: str = "a") -> Scores:
        return Scores(
            tuple(ids), labels, tuple(classes), np.zeros((len(ids), len(classes))), {"name": name}
        )

    first = table("abc", [0, 1, 0], name="rgb")
    with pytest.raises(
        InputError,
        match=r"rgb and flow have scores of different videos: 3 in the first and 7 in the second; only in the first: b; "
        r"only in the second: d, e, f and 2 more",
    ):
        join([first, table("acdefgh", [0] * 7, name="flow")])
    with pytest.raises(
        InputError,
        match=r"different classes: 2 in the first and 3 in the second; only in the second: z",
    ):
        join([first, table("abc", [0, 1, 0], "xyz")])
    with pytest.raises(InputError, match=r"have different labels for 2 videos: a, c"):
        join([first, table("cab", [1, 1, 1])])
    with pytest.raises(InputError, match="no scores were given"):
        join([])
