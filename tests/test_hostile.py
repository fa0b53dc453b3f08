"""Names and facts from untrusted files cannot control a terminal, imitate the program's own lines,
break a page or run in a spreadsheet."""

import csv
import os
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_runs import made_run, made_scores
from test_extract import encode
from tiny_networks import PAUSING

import reelbank
from reelbank.data import console as printing
from reelbank.data import text_files as texts
from reelbank.data.scores import table as scores
from reelbank.data.scores.conversion import as_table
from reelbank.data.scores.formats import read_scores
from reelbank.data.scores.table import Scores
from reelbank.data.scores.writing import write_scores
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.report import export as plots
from reelbank.fusion.report.drawings import bar_charts

# A window's title, a colour (in one byte, too), text that runs backwards, one that has no width,
# and a line of ours.
EVIL = "\x1b]0;taken\x07\x9b31m\u202egnp.\u200b\r\nx.h5: all well\t\x7f"
FORMULA = '=HYPERLINK("x","y")'


def harmless(out: str, err: str) -> None:
    """Nothing but visible characters, spaces and line ends; on stderr the progress bar returns to
    its line's beginning."""
    for text, allowed in ((out, " \n"), (err, " \n\r")):
        wrong = {
            character
            for character in text
            if character not in allowed and unicodedata.category(character)[0] in "CZ"
        }
        assert not wrong, f"{sorted(wrong)} in {text!r}"
        assert "x.h5: all well" not in re.split("[\r\n]", text)


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    """Runs a command in an empty folder, checks what it prints and returns it: (exit code, stdout,
    stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = reelbank.main(list(words))
        out, err = capfd.readouterr()
        harmless(out, err)
        return code, out, err

    return run


def test_extract_inspect_verify_export_and_import(command, tmp_path):
    encode(tmp_path / "videos" / f"a{EVIL}" / f"clip{EVIL}.avi", 6, 0)
    encode(tmp_path / "videos" / "b" / "clip.avi", 6, 1)
    (tmp_path / "videos" / "b" / f"broken{EVIL}.avi").write_bytes(b"no video" * 99)
    (tmp_path / "videos" / "b" / os.fsdecode(b"not text \xff\x1b.avi")).write_bytes(b"x")
    (tmp_path / "tiny.py").write_text(PAUSING)
    code, out, _ = command(
        "extract", "DATASET=folder", "ROOT=videos", "EXTRACTOR=tiny.py:build", "T=2"
    )
    assert code == 1 and "failed" in out and "?]0;taken??31m?gnp.???x.h5: all well??" in out
    for words in (
        ["stores"],
        ["inspect"],
        ["verify"],
        ["export", f"TO=out{EVIL}"],
        ["export", "TO=out.h5"],
    ):
        assert command(*words)[0] == 0, words
    (store,) = Path("bank/stores").glob("*.h5")
    with Store.open(store) as opened:
        names, labels = opened.video_ids, opened.labels
        features = [opened.features(name)[0] for name in names]
    assert any("\x1b" in name for name in names)
    for source in (f"out{EVIL}", "out.h5"):
        assert (
            command("import", f"FILE={source}", f"CSV={source}.csv", "DATASET=again", "BANK=other")[
                0
            ]
            == 0
        )
        (copy,) = Path("other/stores").glob("*.h5")
        with Store.open(copy) as opened:
            assert (opened.video_ids, opened.labels) == (names, labels)
            for name, values in zip(names, features, strict=True):
                np.testing.assert_array_equal(opened.features(name)[0], values)
        copy.unlink()
    content = bytearray(store.read_bytes())
    content[-1] ^= 1
    store.with_name(f"bad{EVIL}.h5").write_bytes(content)
    assert command("verify")[0] == 1
    assert command("stores")[0] == 0
    assert command("remove", f"STORE={store}", "YES=1")[0] == 0


def test_import_tells_of_what_it_cannot_take(command, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / f"one{EVIL}.npy", np.zeros((2, 3), np.float32))
    np.save(tmp_path / "in" / f"two{EVIL}.npy", np.full((2, 3), np.nan))
    code, _, err = command("import", "FILE=in")
    assert code == 2 and "(got one?]0;taken" in err
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["path", "label"], [f"one{EVIL}", f"x{EVIL}"], [f"two{EVIL}", "y"]]
        )
    code, out, _ = command("import", "FILE=in", "CSV=t.csv")
    assert code == 1 and "1 of 2 videos" in out and "failed: two?]0;taken" in out
    with h5py.File(tmp_path / f"bad{EVIL}.h5", "w") as file:
        file[f"x{EVIL}"] = h5py.ExternalLink(f"/etc{EVIL}", "/y")
    assert command("import", f"FILE=bad{EVIL}.h5", "CSV=t.csv")[0] == 2
    assert command("import", f"FILE={EVIL}")[0] == 2


HOSTILE_CLASSES = (
    f"a{EVIL}",
    FORMULA,
    "</script><script>alert(1)</script>",
    "-1.5",
    "b|c",
    "\ufffe\ud800\x00\x01",
)


def hostile_bank(bank: Path) -> list[str]:
    """Two runs and two score files, every name and fact of them hostile."""
    for head in ("gru", "lstm"):
        folder = made_run(bank, head, classes=HOSTILE_CLASSES, videos=30)
        (folder / "history.csv").unlink()
    (bank / "runs" / f"broken{EVIL}").mkdir()
    files = []
    about = {
        "name": f"n{EVIL}",
        "head": f"h{EVIL}",
        "dataset": f"made{EVIL}",
        "split": f"1{EVIL}",
        "stream": EVIL,
    }
    for skill in (1, 3):
        table = made_scores(
            30, skill, HOSTILE_CLASSES, noise=skill, about=about | {"extractor": f"x{skill}{EVIL}"}
        )
        files.append(str(bank / f"file{skill}.npz"))
        scores.save(table, files[-1])
    return files


def test_evaluate_compare_report_and_fuse(command, tmp_path):
    files = hostile_bank(tmp_path / "bank")
    runs = [
        path.name
        for path in sorted((tmp_path / "bank" / "runs").iterdir())
        if "broken" not in path.name
    ]
    for some in (runs, files):
        named = f"RUNS={' '.join(some)}"
        for words in (["evaluate", "PER_CLASS=1"], ["compare"], ["fuse", "HOW=sum"]):
            assert command(*words, named)[0] == 0, words
        assert command("report", named, "OUT=page.html")[0] == 0
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "<script>alert" not in page and not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page
        )
        assert "\N{REPLACEMENT CHARACTER}" in page
        check_nesting(page)
        for svg in re.findall("<svg.*?</svg>", page, re.DOTALL):
            ElementTree.fromstring(svg)
        drawings = list((tmp_path / "page-figures").rglob("*.png"))
        assert drawings and all(path.read_bytes().startswith(b"\x89PNG") for path in drawings)
    assert command("report", named, "FIGURES=0")[0] == 0  # its name is the data set's
    assert command("runs")[0] == 0
    tables = [
        *(tmp_path / "bank" / "reports").glob("*.csv"),
        *(tmp_path / "page-figures").rglob("*.csv"),
    ]
    made = [path for name in ("reports", "runs") for path in (tmp_path / "bank" / name).iterdir()]
    assert all(path.name.isprintable() for path in made if "broken" not in path.name)
    cells = []
    for path in tables:
        with path.open(newline="", encoding="utf-8") as file:
            cells += [cell for row in csv.reader(file) for cell in row]
    assert f"'{FORMULA}" in cells and "-1.5" in cells
    assert not [cell for cell in cells if re.match("[=+@\t\r-]", cell) and not is_number(cell)]


def is_number(text: str) -> bool:
    try:
        return bool(str(float(text)))
    except ValueError:
        return False


def check_nesting(page: str) -> None:
    """Every element that is opened is closed, in order."""
    opened: list[str] = []

    class Nesting(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br", "img", "input"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Nesting().feed(page)
    assert not opened


def test_scores_and_words_that_are_none(command, tmp_path):
    files = hostile_bank(tmp_path / "bank")
    assert command("scores", f"FILE={files[0]}")[0] == 0
    (tmp_path / f"t{EVIL}.csv").write_text(f'video_id,label,"x{EVIL}",y\nv{FORMULA},z{EVIL},1,2\n')
    assert command("scores", f"FILE=t{EVIL}.csv")[0] == 2
    (tmp_path / f"t{EVIL}.csv").write_text(
        f'video_id,label,"x{EVIL}",y\n"v{EVIL}",y,-1,2\n', newline=""
    )
    code, out, _ = command("scores", f"FILE=t{EVIL}.csv", f"TO=o{EVIL}.npz", f"NAME={EVIL}")
    assert code == 0 and "1 video (1 labelled), 2 classes" in out
    assert scores.load(f"o{EVIL}.npz").video_ids == (f"v{EVIL}",)
    for words in (
        [EVIL],
        ["extract", f"{EVIL}=1"],
        ["extract", f"ROOT={EVIL}", "DATASET=folder"],
        ["extract", f"STREAM={EVIL}"],
        ["train", f"STORE={EVIL}"],
        ["train", f"RECIPE={EVIL}.toml"],
        ["sweep", f"HEAD={EVIL}"],
        ["evaluate", f"RUNS={EVIL}"],
        ["predict", f"bank/{EVIL}.mp4", "RUN=gru"],
        ["scores", f"FILE={files[0]}", f"SPLIT={EVIL}"],
        ["reproduce", f"SYSTEM={EVIL}"],
        ["pretrain", f"STORE={EVIL}"],
        ["anomaly", f"STORE={EVIL}"],
        ["svm", f"RUNS={EVIL}"],
        ["inspect", f"STORE={EVIL}"],
    ):
        assert command(*words)[0] == 2, words


def test_a_warning_of_a_library_is_one_line(command, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    assert command("stores")[0] == 0
    line = warnings.formatwarning(UserWarning(EVIL), UserWarning, f"a{EVIL}.py", 3)
    harmless(line, "")
    assert line.count("\n") == 1 and "3: UserWarning: ?]0;taken" in line


def test_a_hostile_error_of_the_system(command, tmp_path):
    (tmp_path / f"file{EVIL}").write_text("")
    assert command("report", f"OUT=file{EVIL}/page.html", f"BANK=file{EVIL}")[0] == 2
    assert command("doctor", f"BANK=file{EVIL}/x")[0] in (0, 1)


def test_cells_of_a_csv_do_not_run_and_come_back(tmp_path):
    ids = (
        FORMULA,
        "+1 more",
        "-x",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "'=x",
        "''+x",
        "'plain",
        "-1.5",
        "+2e3",
        "plain",
        "a=b",
        "'",
    )
    table = made_scores(len(ids), 1, classes=("=c", "d", "-7", "'@e", "f", "g"))
    table = Scores(
        ids, table.labels, table.classes, table.logits, groups=("=g", *["h"] * (len(ids) - 1))
    )
    write_scores(table, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    assert heads == ["video_id", "label", "group", "'=c", "d", "-7", "''@e", "f", "g"]
    assert rows[0][0] == f"'{FORMULA}" and rows[0][2] == "'=g"
    assert [row[0] for row in rows if re.match("[=+@\t\r-]", row[0])] == ["-1.5", "+2e3"]
    np.testing.assert_array_equal(
        np.array([row[3:] for row in rows], np.float32), table.logits
    )  # numbers stay numbers
    back, _ = as_table(read_scores(tmp_path / "a.csv"))
    assert (back.video_ids, back.classes, back.groups) == (
        table.video_ids,
        table.classes,
        table.groups,
    )
    np.testing.assert_array_equal(back.labels, table.labels)


def test_records_without_a_value_leave_its_cell_empty(tmp_path):
    with texts.csv_file(tmp_path / "a.csv") as writer:
        writer.write_records([{"a": 1, "b": 2, "c": "=x1"}, {"c": 3, "a": None}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["a,b,c", "1,2,'=x1", ",,3"]


def test_exported_names_come_back_whatever_they_begin_or_end_with(command, tmp_path):
    ids = ["=a", "-b", "c ", " d", "e", "'+f", "g/ h ", "=i "]
    metas = [
        StoredVideo(id=name, label="=x" if n % 2 else "y", group=f"@{n}", parts=[])
        for n, name in enumerate(ids)
    ]
    about = DatasetDescription(name="made", classes=["=x", "y"], splits=[], coarse={})
    with StoreWriter(Path("bank/stores/made.h5"), {"stream": "rgb"}, about) as writer:
        for number, meta in enumerate(metas):
            writer.add(meta, np.full((1, 2), number), np.zeros(1))
        assert writer.finish(metas)
    for to in ("out", "out.h5"):
        assert command("export", f"TO={to}")[0] == 0
        with Path(f"{to}.csv").open(newline="") as file:
            assert not [
                cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "-", "@"))
            ]
        assert (
            command("import", f"FILE={to}", f"CSV={to}.csv", "DATASET=again", "BANK=other")[0] == 0
        )
        (copy,) = Path("other/stores").glob("*.h5")
        with Store.open(copy) as opened:
            found = {name: row for row, name in enumerate(opened.video_ids)}
            assert set(found) == set(ids)
            for number, meta in enumerate(metas):
                row = found[meta.id]
                assert (opened.labels[row], opened.groups[row]) == (meta.label, meta.group)
                assert opened.features(meta.id)[0].tolist() == [[number] * 2]
        copy.unlink()


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x9b", "\ud800", "\ufffe", "\uffff", "\u202e", "<", "&"]
)
def test_a_drawing_holds_any_name(character):
    drawn = bar_charts.bars([bar_charts.NamedValue(f"a{character}b", 0.5, "50")])
    assert plots.png(drawn).startswith(b"\x89PNG")
    ElementTree.fromstring(printing.drawable(drawn.svg))


def test_markdown_cells_are_text():
    assert printing.markdown_text("a|b\n# <script>\x1b") == "a/b?# &lt;script&gt;?"


def test_the_names_that_a_cell_may_mean():
    assert texts.readings("'=a ") == ("=a ", "'=a ", "=a", "'=a")
    assert texts.readings("a") == ("a",)
