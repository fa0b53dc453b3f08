"""Models are evaluated only on videos that they did not learn from, also when a table contains
scores of all videos."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata
from made_runs import made_run, made_scores

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.scores import joining as score_joining
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.held_out import combined, fused_parts, judged
from reelbank.data.scores.joining import completed, join
from reelbank.data.scores.table import Scores
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.late import fuse
from reelbank.fusion.metrics import accuracy
from reelbank.heads.predict import predicted as predicted_of
from reelbank.heads.runs.folder import find_runs

QUICK = ("HEAD=meanpool", "EPOCHS=2", "BATCH=8", "LR=0.01", "DEVICE=cpu")


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert reelbank.main(list(words)) == 0
    return capsys.readouterr().out


def table(parts: str, about: dict | None = None, right: str = "") -> Scores:
    """A video for each letter (t: train, v: validation, e: test, n: none, u: unknown), of class x;
    `right`: 0 where wrong."""
    names = {"t": "train", "v": "validation", "e": "test", "n": "none", "u": "unknown"}
    ids = tuple(f"v{number}" for number in range(len(parts)))
    wrong = np.array([letter == "0" for letter in right or "1" * len(parts)], dtype=np.float32)
    logits = np.stack([1 - wrong, wrong], axis=1)
    return Scores(
        ids,
        np.zeros(len(parts), int),
        ("x", "y"),
        logits,
        about or {},
        parts=tuple(names[one] for one in parts),
    )


def test_a_prediction_of_a_whole_store_is_evaluated_only_on_the_test_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """938 real clips, of which the run has learned from 678."""
    bank = f"BANK={tmp_path}"
    assert (
        reelbank.main(["import", f"FILE={testdata('features', 'ucf101_vgg16_fc6.h5')}", bank]) == 0
    )
    quick = ("HEAD=meanpool", "EPOCHS=1", "BATCH=128", "VALIDATION=0", "DEVICE=cpu")
    assert reelbank.main(["train", *quick, "SPLIT=1", bank]) == 0
    (run,) = find_runs(tmp_path)
    to = str(tmp_path / "all.npz")
    said = lines(capsys, "predict", f"RUN={run.path.name}", f"TO={to}", bank)
    assert "note: 678 of 938 videos were used to train or select a run" in said
    assert f"top-1 {100 * run.metrics.test.top1:.2f} % on the 260 held-out videos" in lines(
        capsys, "scores", f"FILE={to}"
    )
    said = lines(capsys, "evaluate", to, bank, f"OUT={tmp_path / 'out.csv'}")
    assert (
        "note: all.npz: 678 of 938 videos are left out, because they belong to "
        "the training part (678) of the split that the model was trained on" in said
    )
    with (tmp_path / "out.csv").open() as file:
        top1 = next(row for row in csv.DictReader(file) if row["measure"] == "top1")
    assert (int(top1["videos"]), float(top1["value"])) == (260, run.metrics.test.top1)
    said = lines(capsys, "evaluate", to, bank, "PART=train")
    assert "they belong to the test part (260) of the split that the model was trained on" in said

    # what was written before parts were recorded: the run, which it names, says them
    new = score_tables.load(to)
    old = replace(
        new, parts=(), about={key: value for key, value in new.about.items() if key != "split"}
    )
    score_tables.save(old, tmp_path / "old.npz")
    assert "old.npz: 678 of 938 videos are left out" in lines(
        capsys, "evaluate", str(tmp_path / "old.npz"), bank
    )
    said = lines(capsys, "evaluate", str(tmp_path / "old.npz"), f"BANK={tmp_path / 'other'}")
    assert (
        "old.npz does not record on which videos its model was trained, so all of its 938 videos are evaluated"
        in said
    )


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 videos of two classes; split 1 tests v0 to v7, split 2 v4 to v11; the last four are in no
    part of either. A run of each split without validation, and one of split 1 that keeps what was
    learned without its validation part."""
    folder = tmp_path_factory.mktemp("held-out")
    about = DatasetDescription(name="made", classes=["dig", "fly"], splits=["1", "2"], coarse={})
    metas = []
    for number in range(24):
        parts = ["test" if number in tested else "train" for tested in (range(8), range(4, 12))]
        parts = ["", ""] if number >= 20 else parts
        meta = StoredVideo(
            id=f"v{number}",
            label=about.classes[number % 2],
            group=f"g{number // 2}",
            parts=parts,
            source={"bytes": 1000 + number},
        )
        metas.append(meta)
    with StoreWriter(
        folder / "stores" / "made.h5", {"stream": "rgb", "extractor": "net"}, about
    ) as writer:
        for number, meta in enumerate(metas):
            values = np.random.default_rng(number).normal(size=(2, 4)) + 3 * (number % 2)
            writer.add(meta, values.astype(np.float32), np.arange(2.0))
        writer.finish(metas)
    words = (f"BANK={folder}", *QUICK)
    assert reelbank.main(["train", "SPLIT=all", "VALIDATION=0", *words]) == 0
    assert reelbank.main(["train", "SPLIT=1", "VALIDATION=0.3", "REFIT=0", *words]) == 0
    return folder


def predicted(bank: Path, to: Path, **match: object) -> Scores:
    runs = [
        run.path.name
        for run in find_runs(bank)
        if all(run.recipe.get(key) == value for key, value in match.items())
    ]
    assert reelbank.main(["predict", f"RUN={' '.join(runs)}", f"TO={to}", f"BANK={bank}"]) == 0
    return score_tables.load(to)


def test_parts_are_those_of_the_run_and_of_its_own_validation(bank: Path, tmp_path: Path) -> None:
    found = predicted(bank, tmp_path / "one.npz", split="1", validation=0.3)
    (run,) = (run for run in find_runs(bank) if run.recipe.get("validation") == 0.3)
    of_run = {
        name: part
        for part in ("train", "validation", "test")
        for name in run.scores(part).video_ids
    }
    assert len(found.video_ids) == 24 and set(of_run.values()) == {"train", "validation", "test"}
    assert (
        list(found.parts) == [of_run.get(name, "none") for name in found.video_ids]
        and found.parts.count("none") == 4
    )
    assert found.about["split"] == "1"


def test_videos_of_another_data_set_are_known_by_name_and_size(bank: Path, tmp_path: Path) -> None:
    """Copies of the run's videos in folders of their own, another video of a name that the run has,
    and a new one."""
    sizes = {"a/v0": 1000, "a/v12": 1012, "a/v20": 1020, "a/v13": 7, "v14": 8, "new": 9}
    (run,) = (
        run
        for run in find_runs(bank)
        if run.recipe.get("validation") == 0.0 and run.recipe["split"] == "1"
    )
    for name, sized in (("other", True), ("unsized", False)):
        about = DatasetDescription(name=name, classes=["dig", "fly"], splits=[], coarse={})
        path = tmp_path / f"{name}.h5"
        with StoreWriter(path, {"stream": "rgb", "extractor": "net"}, about) as writer:
            metas = [
                StoredVideo(
                    id=video, label="dig", group="", parts=[], source={"bytes": sized * count}
                )
                for video, count in sizes.items()
            ]
            for meta in metas:
                writer.add(meta, np.zeros((2, 4), np.float32), np.arange(2.0))
            writer.finish(metas)
        found = predicted_of(run.path, path)
        part_of = dict(zip(found.video_ids, found.parts, strict=True))
        others = dict.fromkeys(("a/v13", "v14"), "unknown" if sized else "train")
        assert (
            part_of == {"a/v0": "test", "a/v12": "train", "a/v20": "none", "new": "none"} | others
        )


def test_every_command_that_judges_leaves_out_what_was_learned_from(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "all.npz"
    predicted(bank, to, split="1", validation=0.0)
    scored = score_tables.load(to)
    tested = [row for row, part in enumerate(scored.parts) if part == "test"]
    other = replace(score_joining.rows_of(scored, tested), about=scored.about | {"name": "another"})
    score_tables.save(other, tmp_path / "test.npz")
    words = (str(to), str(tmp_path / "test.npz"), f"BANK={bank}")
    note = (
        "all.npz: 12 of 24 videos are left out, because they belong to "
        "the training part (12) of the split that the model was trained on"
    )
    for command in (
        ("fuse", "MISSING=allow"),
        ("report", "FIGURES=0", f"OUT={tmp_path / 'page.html'}"),
        ("evaluate",),
    ):
        assert note in lines(capsys, command[0], *words, *command[1:])
    assert "12 of 24 videos are left out" in (tmp_path / "page.html").read_text()
    without = [row for row, part in enumerate(scored.parts) if part != "none"]
    score_tables.save(score_joining.rows_of(scored, without), to)
    said = lines(capsys, "compare", *words, f"OUT={tmp_path / 'gains.csv'}")
    assert "all.npz: 12 of 20 videos are left out" in said and "A - B: +0.00 points" in said


def test_of_runs_of_two_splits_is_held_out_what_both_have_not_learned_from(
    bank: Path, tmp_path: Path
) -> None:
    found = predicted(bank, tmp_path / "two.npz", validation=0.0)
    part_of = dict(zip(found.video_ids, found.parts, strict=True))
    held_out = {name for name, part in part_of.items() if part in ("test", "none")}
    assert (
        held_out == {"v4", "v5", "v6", "v7", "v20", "v21", "v22", "v23"}
        and "split" not in found.about
    )
    kept, notes = judged(found, "test", "two")
    assert set(kept.video_ids) == held_out
    assert notes == [
        "two: 16 of 24 videos are left out, because they belong to "
        "the training part (16) of the split that the model was trained on"
    ]


def test_a_video_is_held_out_only_if_it_is_for_every_member() -> None:
    one, two = table("tvenuet"), table("eeeeett")
    assert fused_parts([one, two], one.video_ids) == (
        "train",
        "validation",
        "test",
        "none",
        "unknown",
        "train",
        "train",
    )
    assert fuse([one, two]).parts == fused_parts([one, two], one.video_ids)
    assert [
        combined(parts)
        for parts in (("none", "test"), ("unknown", "test"), ("train", "unknown"), ())
    ] == [*("none", "unknown", "train", "unknown")]
    whole = replace(one, parts=(), about={"part": "test"})
    assert fuse([whole, two]).parts == two.parts and fuse([whole, whole]).parts == ()
    silent = replace(one, parts=())
    assert fuse([silent, replace(two, parts=("test",) * 7)]).parts == ("unknown",) * 7
    few = Scores(
        two.video_ids[:2], two.labels[:2], two.classes, two.logits[:2], parts=("train", "test")
    )
    assert fuse([few, table("eee")], missing="allow").parts == (
        "train",
        "test",
        "test",
    )  # the third: by the second alone


def test_parts_follow_their_videos() -> None:
    one = table("tve")
    other = Scores(
        ("v2", "v0", "v1"), one.labels, ("y", "x"), one.logits, parts=("none", "test", "train")
    )
    other = replace(other, labels=np.ones(3, int))
    assert join([one, other])[1].parts == ("test", "train", "none")
    without_others = Scores(("v9",), one.labels[:1], one.classes, one.logits[:1], parts=("test",))
    assert completed([one, without_others])[0].parts == ("train", "validation", "test", "unknown")
    for parts, line in (
        (("train",), "parts must be empty or have one entry for each"),
        (("train", "tset", "test"), "'tset' is not a part"),
    ):
        with pytest.raises(InputError, match=line):
            replace(one, parts=parts)


def test_what_is_judged_and_what_is_said() -> None:
    kept, notes = judged(table("ttveenu", right="1111010"), "test", "a.npz")
    assert kept.video_ids == ("v3", "v4", "v5", "v6") and accuracy(kept).value == 0.5
    assert notes == [
        "a.npz: 3 of 7 videos are left out, because they belong to "
        "the training part (2) or the validation part (1) of the split that the model was trained on",
        "for 1 of 7 videos, a.npz does not record whether its model was trained on them; these videos are evaluated",
    ]
    assert judged(table("ttveenu"), "validation", "a.npz")[0].video_ids == ("v2", "v6")
    whole = replace(table("eee"), parts=(), about={"part": "test"})
    assert judged(whole, "test", "a.npz") == (whole, [])
    with pytest.raises(
        InputError,
        match=r"a.npz: none of the 2 videos belongs to the part 'test' .* the training part \(2\)",
    ):
        judged(table("tt"), "test", "a.npz")


def test_parts_stay_in_files_of_every_form_and_old_files_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = replace(made_scores(12, 2.0), parts=("train", "test", "none") * 4)
    score_tables.save(one, tmp_path / "one.npz")
    assert score_tables.load(tmp_path / "one.npz").parts == one.parts
    for words in (
        (f"FILE={tmp_path}/one.npz", f"TO={tmp_path}/one.csv"),
        (f"FILE={tmp_path}/one.csv", f"TO={tmp_path}/two.npz"),
    ):
        assert "parts: train 4, test 4, none 4" in lines(capsys, "scores", *words)
    back = score_tables.load(tmp_path / "two.npz")
    assert dict(zip(back.video_ids, back.parts, strict=True)) == dict(
        zip(one.video_ids, one.parts, strict=True)
    )
    score_tables.save(replace(one, parts=()), tmp_path / "old.npz")
    assert score_tables.load(tmp_path / "old.npz").parts == ()
    named = Scores(
        ("a", "b"), np.array([0, 1]), ("part", "y"), np.eye(2), {}
    )  # a class that is called so
    score_tables.save(named, tmp_path / "named.npz")
    for words in (("named.npz", "named.csv"), ("named.csv", "back.npz")):
        lines(capsys, "scores", f"FILE={tmp_path / words[0]}", f"TO={tmp_path / words[1]}")
    assert score_tables.load(tmp_path / "back.npz").classes == ("part", "y")


def test_parts_come_back_from_files_of_other_tools(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a table names one part for all of its videos; a file of the test part stays as
    other tools know it."""
    several = replace(made_scores(12, 2.0), parts=("train", "test", "none") * 4)
    for one in (several, replace(several, parts=(), about={"part": "train"})):
        score_tables.save(one, tmp_path / "one.npz")
        wanted = dict(zip(one.video_ids, one.parts or ("train",) * 12, strict=True))
        for name in ("other.tsn.npz", "other.csv"):
            lines(capsys, "scores", f"FILE={tmp_path}/one.npz", f"TO={tmp_path}/{name}")
            lines(capsys, "scores", f"FILE={tmp_path}/{name}", f"TO={tmp_path}/back.npz")
            back = score_tables.load(tmp_path / "back.npz")
            assert dict(zip(back.video_ids, back.parts, strict=True)) == wanted
    score_tables.save(replace(several, parts=(), about={"part": "test"}), tmp_path / "one.npz")
    lines(capsys, "scores", f"FILE={tmp_path}/one.npz", f"TO={tmp_path}/other.tsn.npz")
    assert set(np.load(tmp_path / "other.tsn.npz").files) == {"scores", "labels", "names"}


def test_videos_used_for_retraining_are_not_a_validation_part(bank: Path, tmp_path: Path) -> None:
    shutil.copytree(bank / "stores", tmp_path / "stores")
    assert (
        reelbank.main(["train", "SPLIT=1", "VALIDATION=0.3", "REFIT=1", f"BANK={tmp_path}", *QUICK])
        == 0
    )
    (run,) = find_runs(tmp_path)
    found = predicted_of(run.path, tmp_path / "stores" / "made.h5")
    part_of = dict(zip(found.video_ids, found.parts, strict=True))
    assert {part_of[name] for name in run.scores("validation").video_ids} == {"train"}


def test_a_search_takes_the_validation_rows_of_a_table_of_all_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank, words = tmp_path / "bank", []
    for name, parts in (("a", "vvvvttee"), ("b", "vvvtttee")):
        one = replace(table(parts, {"name": name}), about={"name": name, "dataset": "made"})
        score_tables.save(one, tmp_path / f"{name}.npz")
        words.append(str(tmp_path / f"{name}.npz"))
    assert (
        reelbank.main(
            [
                "fuse",
                *words,
                "SEARCH=1",
                f"VALIDATION={' '.join(words)}",
                "MISSING=allow",
                f"BANK={bank}",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "a.npz: 6 of 8 videos are left out, because they belong to "
        "the training part (2) or the validation part (4) of the split that the model was trained on"
        in said
    )
    assert "weights found on validation" in said
    (run,) = find_runs(bank)
    assert run.scores("test").video_ids == ("v6", "v7") and run.metrics.test.videos == 2


def test_runs_of_training_are_judged_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made_run(tmp_path, "gru")
    said = lines(capsys, "evaluate", f"BANK={tmp_path}")
    assert "left out" not in said and "does not record" not in said and " 60 " in said
    assert json.loads((path / "metrics.json").read_text())["test"]["top1"] == 0.5
