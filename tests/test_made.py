"""Package versions that features were made with: recorded for each video, kept when parts are
merged, and reported when mixed."""

import dataclasses
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_files import as_bytes, build, datasets_of, earlier_datasets_of
from made_stores import DATASET, RECIPE, check_holds, fill, made_times, made_values, made_video
from test_extract import BASIC, encode, only_store, ours, run  # noqa: F401

from reelbank.data.store import commands as shelf
from reelbank.data.store.reader import Store
from reelbank.data.store.records import identity
from reelbank.data.store.versions import NOT_RECORDED, Made, Versions, current_versions, that_count
from reelbank.data.store.writer import StoreWriter

OLD = Versions((("av", "18.1.0"), ("numpy", "2.4.6"), ("torch", "2.14.1")))
NEW = Versions((("av", "19.0.2"), ("numpy", "2.4.6"), ("torch", "2.15.0")))


def versions_by_id(path: Path) -> dict[str, Versions]:
    with Store.open(path) as store:
        return dict(zip(store.video_ids, store.versions, strict=True))


def ids(*numbers: int) -> list[str]:
    return [made_video(number).id for number in numbers]


def rewritten(path: Path, made: Any, version: int = 2, codes: Any = None) -> None:
    """Write a finished store again with something else, or None for nothing, as what made it. codes:
    of each video, since version 3."""
    datasets = datasets_of(path) if version > 2 else earlier_datasets_of(path)
    with Store.open(path) as store:
        features = store.load()[0]
    about = json.loads(datasets["about"].tobytes())
    del about["written"]["made"]
    if made is not None:
        about["written"]["made"] = made
    if codes is not None:
        datasets["versions"] = np.array(codes, np.uint32)
    build(path, {**datasets, "about": as_bytes(about)}, features, version)


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert shelf.inspect(shelf.InspectOptions(store=str(path))) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_store_says_with_what_it_was_made(tmp_path, capsys):
    fill(tmp_path / "a.h5", range(3))
    (versions,) = set(versions_by_id(tmp_path / "a.h5").values())
    installed = dict(versions.packages)
    expected = {
        "av": av.__version__,
        "numpy": np.__version__,
        "torch": importlib.metadata.version("torch"),
    }
    expected["ffmpeg"] = av.ffmpeg_version_info
    assert {name: installed[name] for name in expected} == expected
    assert installed["opencv"] and "h5py" not in installed
    lines = inspected(tmp_path / "a.h5", capsys)
    (line,) = [line for line in lines if line.startswith("features made with ")]
    assert f"av {av.__version__}, " in line and f"ffmpeg {av.ffmpeg_version_info}, " in line
    assert not [line for line in lines if "MIXED" in line or "{" in line]


def test_versions_are_each_videos_own_in_parts_and_when_merged(tmp_path, capsys):
    path = tmp_path / "a.h5"
    fill(path, range(4), finish=False, made=Made(versions=OLD))
    fill(path, range(4, 6), finish=False, made=Made(versions=NEW))
    expected = dict.fromkeys(ids(0, 1, 2, 3), OLD) | dict.fromkeys(ids(4, 5), NEW)
    assert versions_by_id(path) == expected
    lines = inspected(path, capsys)
    with StoreWriter(path, RECIPE, DATASET) as writer:  # by a third: merging makes no features
        assert writer.finish([made_video(number) for number in (3, 4, 0, 5, 2, 1)])
    assert versions_by_id(path) == expected
    check_holds(path, range(6))
    for shown in (lines, inspected(path, capsys)):
        at = shown.index(
            "MIXED: the videos were extracted with 2 different sets of package versions; "
            "docs/store.md explains which results stay the same"
        )
        told = sorted(shown[at + 1 : at + 3])
        assert [line.partition(" videos ")[0] for line in told] == ["2", "4"]
        assert told[0].startswith("2 videos av 19.0.2, torch 2.15.0 ") and told[1].startswith(
            "4 videos av 18.1.0, torch 2.14.1 "
        )
        assert set(told[0].split(" torch 2.15.0 ")[1].split(", ")) == set(ids(4, 5))
    assert not [line for line in lines[lines.index("recipe") :] if "numpy" in line]  # equal in both


def test_extracting_again_with_one_version_removes_the_mixture(tmp_path, capsys):
    path = tmp_path / "a.h5"
    fill(path, range(2), made=Made(versions=OLD))
    with StoreWriter(path, RECIPE, DATASET, made=Made(versions=NEW)) as writer:
        assert writer.versions() == {OLD: 2}
        metas = [
            dataclasses.replace(made_video(number), source={"bytes": 9}) for number in range(2)
        ]
        for number, meta in enumerate(metas):
            writer.add(meta, made_values(number), made_times(number))
            writer.flush()
            assert writer.versions() == ({OLD: 1, NEW: 1}, {NEW: 2})[number]
        assert writer.finish(metas)
    assert versions_by_id(path) == dict.fromkeys(ids(0, 1), NEW)
    assert "features made with av 19.0.2, numpy 2.4.6, torch 2.15.0" in inspected(path, capsys)


def test_versions_do_not_change_a_stores_identity(tmp_path):
    for name, versions in (("a.h5", OLD), ("b.h5", NEW), ("c.h5", NOT_RECORDED)):
        fill(tmp_path / name, range(2), made=Made(versions=versions))
        with Store.open(tmp_path / name) as store:
            assert store.identity == identity(RECIPE, DATASET.name)


def test_an_older_store_does_not_say_and_goes_on(tmp_path, capsys):
    path = tmp_path / "a.h5"
    fill(path, range(3))
    rewritten(path, None)
    check_holds(path, range(3))
    assert set(versions_by_id(path).values()) == {NOT_RECORDED}
    assert "features made with versions that are not recorded" in inspected(path, capsys)
    fill(path, range(3, 5), finish=False, made=Made(versions=NEW))
    with StoreWriter(path, RECIPE, DATASET) as writer:
        assert writer.finish([made_video(number) for number in range(5)])
    assert versions_by_id(path) == dict.fromkeys(ids(0, 1, 2), NOT_RECORDED) | dict.fromkeys(
        ids(3, 4), NEW
    )
    lines = inspected(path, capsys)
    assert [line for line in lines if line.startswith("3 videos versions that are not recorded ")]
    assert [
        line for line in lines if line.startswith("2 videos av 19.0.2, numpy 2.4.6, torch 2.15.0 ")
    ]


ONE = {"av": "1"}


@pytest.mark.parametrize(
    "made",
    [
        "much",
        [],
        {"versions": [ONE]},
        {"versions": ONE, "of": [0, 0]},
        {"versions": [ONE], "of": 0},
        {"versions": [ONE], "of": [0]},
        {"versions": [ONE], "of": [0, 1]},
        {"versions": [ONE], "of": [0, -1]},
        {"versions": [ONE], "of": [0, False]},
        {"versions": [ONE], "of": [0, 0.0]},
        {"versions": [["av", "1"]], "of": [0, 0]},
        {"versions": [{"av": 1}], "of": [0, 0]},
        {"versions": [{"av": "1" * 101}], "of": [0, 0]},
        {"versions": [{f"p{n}": "1" for n in range(101)}], "of": [0, 0]},
    ],
)
def test_what_no_writer_of_ours_writes_is_not_recorded(tmp_path, made):
    fill(tmp_path / "a.h5", range(2))
    rewritten(tmp_path / "a.h5", made)
    assert set(versions_by_id(tmp_path / "a.h5").values()) == {NOT_RECORDED}
    check_holds(tmp_path / "a.h5", range(2))


@pytest.mark.parametrize(
    ("made", "codes"),
    [
        (None, [0, 0]),
        ("much", [0, 0]),
        ({"versions": [ONE], "of": [0, 0]}, [0, 0]),
        ([], [0, 0]),
        ([ONE], [1, 2**32 - 1]),
        ([["av", "1"]], [0, 0]),
        ([{"av": 1}], [0, 0]),
        ([{"av": "1" * 101}], [0, 0]),
        ([{f"p{n}": "1" for n in range(101)}], [0, 0]),
    ],
)
def test_codes_of_no_versions_are_not_recorded(tmp_path, made, codes):
    fill(tmp_path / "a.h5", range(2))
    rewritten(tmp_path / "a.h5", made, 3, codes)
    assert set(versions_by_id(tmp_path / "a.h5").values()) == {NOT_RECORDED}
    check_holds(tmp_path / "a.h5", range(2))


@pytest.mark.parametrize("version", [2, 3])
def test_versions_from_untrusted_files_are_printable(tmp_path, capsys, version):
    for of in ([0, 0], [0, 1]):
        (tmp_path / "a.h5").unlink(missing_ok=True)
        fill(tmp_path / "a.h5", range(2))
        made: Any = [{"av\x1b[2J": "1\n\x07"}, {"av": "\u202e2"}]
        codes = of if version > 2 else None
        made = made if version > 2 else {"versions": made, "of": of}
        rewritten(tmp_path / "a.h5", made, version, codes)
        capsys.readouterr()
        shelf.inspect(shelf.InspectOptions(store=str(tmp_path / "a.h5")))
        shown = capsys.readouterr().out
        assert "av?[2J 1??" in shown and not [c for c in shown if not c.isprintable() and c != "\n"]


@pytest.fixture
def upgraded(monkeypatch):
    """A call after which a package has another version."""
    real = importlib.metadata.version

    def upgrade(package: str, version: str) -> None:
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: version if name == package else real(name)
        )
        current_versions.cache_clear()

    yield upgrade
    current_versions.cache_clear()


def test_extract_says_when_it_mixes_versions_and_only_then(ours, capsys, upgraded):  # noqa: F811
    def notes() -> list[str]:
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]

    basic = (*BASIC, "CLASSES=left")
    assert run(*basic) == 0
    assert notes() == []  # new
    encode(ours / "videos" / "left" / "clip_g90_c01.avi", 9, 90)
    assert run(*basic) == 0
    assert notes() == []  # continued with the same
    path, now = only_store(), importlib.metadata.version("torch")
    upgraded("torch", "9.9\x1b")
    assert run(*basic) == 0
    assert notes() == []  # nothing to do
    encode(ours / "videos" / "left" / "clip_g91_c01.avi", 9, 91)
    assert run(*basic) == 0
    (note,) = notes()
    assert note.startswith(
        f"note: the features of 13 videos in {path.name} were computed with torch {now}; "
        "those of new videos are computed with torch 9.9?. "
    )
    assert "docs/store.md" in note
    assert list(versions_by_id(path)) and len(set(versions_by_id(path).values())) == 2
    assert run(*basic, "T=4") == 0
    assert notes() == []  # another store
    rewritten(path, None)
    encode(ours / "videos" / "left" / "clip_g92_c01.avi", 9, 92)
    assert run(*basic) == 0
    (note,) = notes()
    assert note.startswith(
        f"note: the features of 14 videos in {path.name} were computed with versions that are not "
        "recorded; "
    )


@pytest.mark.parametrize(
    ("recipe", "counting"),
    [
        ({"stream": "rgb", "extractor": "torchvision:resnet18", "decoder": "auto"}, {"av"}),
        (
            {"stream": "rgb", "extractor": "timm:resnet18", "decoder": "opencv"},
            {"av", "timm", "opencv"},
        ),
        (
            {
                "stream": "flow",
                "extractor": "motion_cnn",
                "decoder": "auto",
                "flow": {"method": "dis"},
                "bound_px": 20,
            },
            {"av", "opencv"},
        ),
        (
            {
                "stream": "flow",
                "extractor": "motion_cnn",
                "decoder": "auto",
                "flow": {"method": "tvl1"},
            },
            {"av"},
        ),
        (
            {
                "stream": "idt",
                "extractor": "trajectories",
                "decoder": "auto",
                "descriptor": {"grid_px": 5},
            },
            {"av", "opencv"},
        ),
        (
            {"stream": "rgb", "extractor": "mine.build", "decoder": "auto"},
            {"av", "timm", "opencv"},
        ),  # imports what it likes
    ],
)
def test_only_what_a_recipe_depends_on_counts(recipe, counting):
    versions = Versions(tuple((name, "1") for name in ("av", "opencv", "reelbank", "timm")))
    assert {name for name, _ in that_count(versions, recipe).packages} == counting
    assert that_count(NOT_RECORDED, recipe) == NOT_RECORDED


def test_another_version_of_ours_mixes_nothing(tmp_path, capsys):
    later = Versions((*OLD.packages[:2], ("reelbank", "9.0"), *OLD.packages[2:]))
    fill(tmp_path / "a.h5", range(2), finish=False, made=Made(versions=OLD))
    fill(tmp_path / "a.h5", range(2, 4), made=Made(versions=later))
    assert "features made with av 18.1.0, numpy 2.4.6, torch 2.14.1" in inspected(
        tmp_path / "a.h5", capsys
    )
