"""Features of other tools are imported by id, with labels and splits, and can be exported."""

import errno
import hashlib
import os
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from conftest import testdata
from made_stores import DATASET, RECIPE, fill, made_times, made_values, made_video

from reelbank.data.datasets import ucf101
from reelbank.data.errors import InputError
from reelbank.data.store import commands
from reelbank.data.store.bank import find_store
from reelbank.data.store.exchange import exporting
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.exchange.importing import import_store
from reelbank.data.store.file import format as feature_file
from reelbank.data.store.options import ExportOptions, ImportOptions
from reelbank.data.store.reader import Store
from reelbank.data.store.writer import StoreWriter

STEMS = ["v_Biking_g01_c01", "v_Biking_g09_c02", "v_HandStandPushups_g16_c01", "v_YoYo_g25_c04"]
CLASSES = ["Biking", "Biking", "HandstandPushups", "YoYo"]
IDS = [f"{label}/{stem}" for label, stem in zip(CLASSES, STEMS, strict=True)]
VALUES = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)


def run(path, bank, **options):
    return import_store(ImportOptions(file=str(path), bank=str(bank), **options))


def as_packed(path, **more):
    with h5py.File(path, "w") as file:
        file["features"], file["name"] = VALUES, np.array(STEMS, "S")
        for name, table in more.items():
            file[name] = table
    return path


def as_datasets(path):
    with h5py.File(path, "w") as file:
        for name, values in zip(IDS, VALUES, strict=True):
            file[name] = values
    return path


def as_npy(path):
    for stem, values in zip(STEMS, VALUES, strict=True):
        (path / "deep").mkdir(parents=True, exist_ok=True)
        np.save(path / "deep" / f"{stem}.npy", values)
    return path


@pytest.mark.parametrize("layout", [as_packed, as_datasets, as_npy])
def test_every_layout_becomes_the_same_store(tmp_path, layout, capsys):
    source = layout(tmp_path / "foreign.h5" if layout is not as_npy else tmp_path / "foreign")
    for _ in range(2):  # the second time it is there already
        assert run(source, tmp_path) == 0
        assert "4 of 4 videos" in capsys.readouterr().out
    commands.inspect(commands.InspectOptions(str(tmp_path)))
    shown = capsys.readouterr().out
    assert "the times of the rows are unknown" in shown and "seconds between rows" not in shown
    assert (
        "features made with versions that are not recorded" in shown
    )  # another tool's are not ours
    with Store.open(
        find_store(tmp_path, dataset="ucf101", stream="rgb", extractor="foreign")
    ) as store:
        assert store.finished and sorted(store.video_ids) == sorted(IDS)
        for video_id, values in zip(IDS, VALUES, strict=True):
            found, times_seconds = store.features(video_id)
            np.testing.assert_array_equal(found, values.astype(np.float16))
            np.testing.assert_array_equal(times_seconds, [0, 1, 2])
        at = store.video_ids.index(IDS[1])
        assert (store.labels[at], store.groups[at], store.parts[at]) == (
            "Biking",
            "Biking/g09",
            ["train", "test", "train"],
        )
        assert store.labels[store.video_ids.index(IDS[2])] == "HandstandPushups"
        assert store.dataset.classes == tuple(ucf101.CLASSES) and store.dataset.splits == (
            "1",
            "2",
            "3",
        )
        if layout is as_packed:
            assert (
                store.recipe["imported"]["sha256"]
                == hashlib.sha256(source.read_bytes()).hexdigest()
            )


def test_real_features_are_imported_by_id_with_the_official_splits(tmp_path):
    path = testdata("features", "ucf101_vgg16_fc6.h5")
    assert run(path, tmp_path, dataset="ucf101", extractor="vgg16 fc6") == 0
    listed = {
        line.split()[0].removesuffix(".avi")
        for line in testdata("splits", "ucf101", "testlist01.txt").read_text().splitlines()
        if line.strip()
    }
    with Store.open(find_store(tmp_path)) as store, h5py.File(path) as file:
        assert (
            len(store.video_ids) == 938 and store.row_shape == (1024,) and set(store.rows) == {25}
        )
        for number in range(0, 938, 97):
            stem = file["name"][number].decode()
            video_id = next(name for name in store.video_ids if name.endswith("/" + stem))
            np.testing.assert_array_equal(store.features(video_id)[0], file["features"][number])
        tests = {
            name
            for name, parts in zip(store.video_ids, store.parts, strict=True)
            if parts[0] == "test"
        }
        assert tests == listed & set(store.video_ids)
        assert len(tests) == int(file["is_test_split123"][:, 0].sum())
        assert set(store.labels) == set(ucf101.CLASSES[1:8])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"label_classInd": np.array([11, 11, 36, 101])},
            "v_HandStandPushups_g16_c01: the class number in the file must be 37",
        ),
        (
            {"is_test_split123": np.eye(4, 3)[::-1]},
            "v_Biking_g01_c01: the splits in the file differ from the official splits of this video; "
            "is_test_split123 must be [1, 0, 0] (got [0.0, 0.0, 0.0])",
        ),
    ],
)
def test_a_file_that_contradicts_the_names_is_refused(tmp_path, more, told):
    with pytest.raises(InputError, match=re.escape(told)):
        run(as_packed(tmp_path / "foreign.h5", **more), tmp_path)


def test_other_names_need_a_table(tmp_path):
    np.save(tmp_path / "a clip.npy", VALUES[0])
    np.save(tmp_path / "b.npy", VALUES[1][0])  # a vector is one row
    with pytest.raises(
        InputError,
        match="only if the video is named as in UCF-101 .got a clip.; give CSV=",
    ):
        run(tmp_path, tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("path,label,split\na clip,dig,train\n")
    with pytest.raises(
        InputError,
        match="must list all videos of FILE, but 1 of the 2 videos are missing, such as b; add a row "
        r"for each .its label may be empty., or give a FILE that contains only listed videos",
    ):
        run(tmp_path, tmp_path, csv=str(table))
    table.write_text(
        "path,label,group,split\na clip,dig,g1,train\nb,fly,g2,test\nelsewhere,fly,g3,test\n"
    )
    assert run(tmp_path, tmp_path, csv=str(table), dataset="mine") == 0
    with Store.open(find_store(tmp_path, dataset="mine")) as store:
        assert (store.video_ids, store.labels, store.groups) == (
            ["a clip", "b"],
            ["dig", "fly"],
            ["g1", "g2"],
        )
        assert store.parts == [["train"], ["test"]] and store.rows.tolist() == [3, 1]


def test_videos_without_a_label_in_a_table_are_named(tmp_path, capsys):
    for name in ("a", "b", "c"):
        np.save(tmp_path / f"{name}.npy", VALUES[0])
    table = tmp_path / "table.csv"
    table.write_text("path,label,split\na,dig,train\nb,,train\nc,,test\n")
    assert run(tmp_path, tmp_path, csv=str(table)) == 0
    shown = capsys.readouterr().out
    assert "note: 1 training video has no label and is not used for training: b\n" in shown
    assert "note: 1 test video has no label and is not used for evaluation: c\n" in shown
    table.write_text("path,label,split\na,,train\nb,,train\nc,,test\n")  # a data set without labels
    assert run(tmp_path, tmp_path / "other", csv=str(table)) == 0
    assert "note" not in capsys.readouterr().out


def test_features_that_cannot_be_stored_fail_only_their_own_video(tmp_path, capsys):
    as_npy(tmp_path / "foreign")
    np.save(tmp_path / "foreign" / "deep" / f"{STEMS[0]}.npy", np.full((3, 6), np.inf))
    np.save(
        tmp_path / "foreign" / "deep" / f"{STEMS[1]}.npy",
        np.array([{"a": 1}], object),
        allow_pickle=True,
    )
    broken = tmp_path / "foreign" / "deep" / f"{STEMS[2]}.npy"
    broken.write_bytes(broken.read_bytes()[:-1])
    assert run(tmp_path / "foreign", tmp_path) == 1
    shown = capsys.readouterr().out
    assert (
        "1 of 4 videos" in shown
        and f"failed: {IDS[0]}: {IDS[0]}: its features contain NaN or infinity" in shown
    )
    for number in (1, 2):
        assert re.search(
            f"failed: {IDS[number]}: FILE=.*{STEMS[number]}.npy: cannot be read as .npy", shown
        )
    with Store.open(find_store(tmp_path)) as store:
        assert store.finished and store.video_ids == IDS[3:] and set(store.failures) == set(IDS[:3])


def test_foreign_files_are_checked_before_they_are_read(tmp_path):
    path = tmp_path / "foreign.h5"
    for number, (hostile, told) in enumerate(
        [
            (
                lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/y")),
                "is a link, which is not allowed",
            ),
            (
                lambda file: file.create_dataset(
                    "x", (3,), "<f4", external=[("/etc/passwd", 0, 12)]
                ),
                "data in another file",
            ),
            (lambda file: file.create_dataset("x", (1 << 40, 4), "<f4"), "declares"),
            (
                lambda file: file.create_dataset("x", data=["a"], dtype=h5py.string_dtype()),
                "fixed-length strings",
            ),
            (lambda file: file.create_group("g").__setitem__("loop", file), "nested more than"),
        ]
    ):
        as_datasets(path)
        with h5py.File(path, "a") as file:
            hostile(file)
        with pytest.raises(InputError, match=told):
            run(path, tmp_path / str(number))


def test_what_cannot_be_imported_is_refused_with_a_list_of_what_can(tmp_path):
    (tmp_path / "x.csv").write_text("text")
    (tmp_path / "empty").mkdir()
    accepted = (
        "must be an HDF5 file, a .parquet file, or a folder with .npy, .npz or .parquet files, such as "
        "that of video_features, MS-TCN or 'reelbank export'"
    )
    for wrong, told in (
        ("x.csv", r"cannot be read as HDF5 \(.*file signature not found.*\)"),
        ("none", "does not exist"),
        ("empty", "contains no features"),
    ):
        message = f"^FILE={tmp_path / wrong}: {told}; FILE {re.escape(accepted)}$"
        with pytest.raises(InputError, match=message):
            run(tmp_path / wrong, tmp_path)
    with pytest.raises(InputError, match=re.escape(f"FILE is missing; it {accepted}")):
        run("", tmp_path)
    path = as_datasets(tmp_path / "cut.h5")  # of the right kind
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cannot be read as HDF5 \(.*truncated.*\)$"):
        run(path, tmp_path)


def test_a_single_value_is_refused_as_features(tmp_path):
    path = as_datasets(tmp_path / "foreign.h5")
    with h5py.File(path, "a") as file:
        file["version"] = 3
    with pytest.raises(InputError, match=r"foreign.h5: /version must be an array of features"):
        run(path, tmp_path)
    with h5py.File(path, "w") as file:
        file["features"], file["name"] = 1.0, np.array(STEMS, "S")
    with pytest.raises(InputError, match="/features must be an array of features"):
        run(path, tmp_path)
    assert (
        run(as_packed(tmp_path / "packed.h5", version=3), tmp_path) == 0
    )  # packed features do not use the version


def test_export_says_where_it_cannot_write(tmp_path):
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        metas = [replace(made_video(0), id=video_id) for video_id in ("a/b", "a")]
        for meta in metas:
            writer.add(meta, made_values(0), made_times(0))
        assert writer.finish(metas)
    (tmp_path / "file").write_text("")
    for to, told in (
        ("", "give TO=<new folder>"),
        ("/", "already exists"),
        (
            str(tmp_path / "file" / "x"),
            "cannot be written, because .*file is not a folder; choose another",
        ),
        (str(tmp_path / ("n" * 300)), "cannot be written .File name too long.; choose a shorter"),
    ):
        with pytest.raises(InputError, match=f"TO=.*{told}|{told}"):
            export(ExportOptions(to=to, bank=str(tmp_path)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="cannot contain the videos a and a/b"):
        export(ExportOptions(to=str(tmp_path / "x.h5"), bank=str(tmp_path)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free disk space, or choose another folder"),
        (errno.EACCES, "choose a folder that you may write to"),
        (errno.EROFS, "choose a folder that you may write to"),
        (errno.ENOENT, "choose another folder, in which files can be created"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.EIO, "check the disk, or choose another folder"),
    ],
)
def test_the_remedy_fits_the_error_of_writing(tmp_path, monkeypatch, number, remedy):
    fill(tmp_path / "stores" / "made.h5", range(4))

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(exporting, "temporary_folder", fail)
    with pytest.raises(InputError) as refused:
        export(ExportOptions(to=str(tmp_path / "out"), bank=str(tmp_path)))
    reason = f"cannot be written ({os.strerror(number)}); {remedy}"
    assert str(refused.value) == f"TO={tmp_path}/out: {reason}"


def test_an_export_of_damaged_features_leaves_nothing(tmp_path):
    path = tmp_path / "stores" / "made.h5"
    fill(path, range(4))
    content = bytearray(path.read_bytes())
    content[feature_file.FeatureFile(path).header.features_start + 2 * 5 * 5] ^= (
        1  # of video 2, after one row and two
    )
    path.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    for to in ("out", "out.h5"):
        with pytest.raises(InputError, match="the features of dig/v002 are damaged"):
            export(ExportOptions(to=str(tmp_path / to), bank=str(tmp_path)))
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("unreadable", ["folder", "dangling link"])
def test_a_file_that_cannot_be_opened_is_one_line_that_names_it(tmp_path, unreadable):
    as_npy(tmp_path / "foreign")
    path = tmp_path / "foreign" / "v_Biking_g02_c01.npy"
    path.mkdir() if unreadable == "folder" else path.symlink_to("nowhere")
    with pytest.raises(
        InputError, match=rf"FILE={path}: cannot be read \(.*\); repair it, or move it away"
    ) as refused:
        run(tmp_path / "foreign", tmp_path)
    assert "\n" not in str(refused.value) and not (tmp_path / "stores").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + bytes(60), b"\x93NUMPY\x01\x00v\x00{'descr': (" + bytes(99)]
)
def test_a_broken_npy_fails_only_its_own_video(tmp_path, content, capsys):
    as_npy(tmp_path / "foreign")
    (tmp_path / "foreign" / "deep" / f"{STEMS[0]}.npy").write_bytes(content)
    assert run(tmp_path / "foreign", tmp_path) == 1
    shown = capsys.readouterr().out
    assert "3 of 4 videos" in shown and f"{STEMS[0]}.npy: cannot be read as .npy" in shown


@pytest.mark.parametrize("target", ["out", "out.h5"])
def test_uint8_goes_out_and_in_again_without_its_views(tmp_path, target):
    meta, values = made_video(0), np.arange(30, dtype=np.uint8).reshape(5, 2, 3)
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        writer.add(meta, values, np.arange(5), [0, 0, 0, 1, 2])
        assert writer.finish([meta])
    assert export(ExportOptions(to=str(tmp_path / target), bank=str(tmp_path))) == 0
    assert run(tmp_path / target, tmp_path / "bank", csv=str(tmp_path / f"{target}.csv")) == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert store.dtype == np.uint8 and not store.has_views
        np.testing.assert_array_equal(store.load()[0], values[:3])


@pytest.mark.parametrize("target", ["out", "out.h5"])
def test_what_is_exported_is_imported_again(tmp_path, target, capsys):
    fill(tmp_path / "stores" / "made.h5", range(6))
    options = ExportOptions(to=str(tmp_path / target), bank=str(tmp_path), split="2")
    assert export(options) == 0
    with pytest.raises(InputError, match="already exists"):
        export(options)
    if target == "out":
        np.testing.assert_array_equal(
            np.load(tmp_path / "out" / "dig" / "v002.npy"), made_values(2).astype(np.float16)
        )
    else:
        with h5py.File(tmp_path / target) as file:
            np.testing.assert_array_equal(file["dig/v002"][:], made_values(2).astype(np.float16))
    table = str(tmp_path / f"{target}.csv")
    assert run(tmp_path / target, tmp_path / "bank", csv=table) == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        for number in range(6):
            meta, at = made_video(number), store.video_ids.index(made_video(number).id)
            np.testing.assert_array_equal(
                store.features(meta.id)[0], made_values(number).astype(np.float16)
            )
            assert (store.labels[at], store.groups[at], store.parts[at]) == (
                meta.label,
                meta.group,
                list(meta.parts[1:]),
            )


def test_several_classes_a_video_go_out_and_in_again(tmp_path):
    labels = ["dig;fly", "", "fly"]
    metas = [replace(made_video(number), label=label) for number, label in enumerate(labels)]
    with StoreWriter(
        tmp_path / "stores" / "made.h5", RECIPE, replace(DATASET, multilabel=True)
    ) as writer:
        for number, meta in enumerate(metas):
            writer.add(meta, made_values(number), made_times(number))
        assert writer.finish(metas)
    assert export(ExportOptions(to=str(tmp_path / "out"), bank=str(tmp_path))) == 0
    table = tmp_path / "out.csv"
    assert table.read_text().splitlines()[:2] == [
        "path,labels,group,split",
        "dig/v000,dig;fly,g0,test",
    ]
    assert run(tmp_path / "out", tmp_path / "bank", csv=str(table)) == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert store.dataset.multilabel and store.dataset.classes == (
            "dig",
            "fly",
        )
        assert dict(zip(store.video_ids, store.labels, strict=True)) == {
            meta.id: meta.label for meta in metas
        }


def as_video_features(
    folder, key="resnet", videos=("v_Biking_g01_c01", "v_YoYo_g25_c04"), with_times=True, rows=3
):
    """Files as v-iashin/video_features writes them: float64 features and, for most extractors, the
    fps and the times of the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(videos):
        np.save(folder / f"{stem}_{key}.npy", np.full((rows, 6), number, np.float64))
        if with_times:
            np.save(folder / f"{stem}_fps.npy", np.array(19.62 + number))
            np.save(folder / f"{stem}_timestamps_ms.npy", 40.0 * np.arange(rows))
    return folder


def test_video_features_come_with_their_times_and_names(tmp_path, capsys):
    source = as_video_features(tmp_path / "resnet50")
    assert run(source, tmp_path) == 0
    assert "2 of 2 videos" in capsys.readouterr().out
    commands.inspect(commands.InspectOptions(str(tmp_path)))
    assert "0.04 to 0.04 seconds between rows" in capsys.readouterr().out
    with Store.open(find_store(tmp_path, dataset="ucf101", extractor="resnet50")) as store:
        assert sorted(store.video_ids) == ["Biking/v_Biking_g01_c01", "YoYo/v_YoYo_g25_c04"]
        for number, name in enumerate(sorted(store.video_ids)):
            values, times_seconds = store.features(name)
            assert values.tolist() == [[number] * 6] * 3
            np.testing.assert_allclose(times_seconds, [0, 0.04, 0.08])
            assert store.sources[store.video_ids.index(name)]["fps"] == pytest.approx(
                19.62 + number
            )


@pytest.mark.parametrize("named", ["", "_resnet"])
def test_a_table_may_name_videos_or_their_files(tmp_path, named):
    source = as_video_features(tmp_path / "in", videos=("a_b", "a"))
    (tmp_path / "t.csv").write_text(f"path,label\na_b{named},dig\na{named},fly\n")
    assert run(source, tmp_path, csv=str(tmp_path / "t.csv")) == 0
    with Store.open(find_store(tmp_path)) as store:
        assert dict(zip(store.video_ids, store.labels, strict=True)) == {
            f"a_b{named}": "dig",
            f"a{named}": "fly",
        }
        assert store.features(f"a{named}")[0].tolist() == [[1] * 6] * 3


def test_of_i3d_each_stream_is_taken_by_its_name(tmp_path):
    for number, key in enumerate(("rgb", "flow")):
        as_video_features(tmp_path / "i3d", key, rows=3 - number)
    np.save(
        tmp_path / "i3d" / "v_YoYo_g25_c04_timestamps_ms.npy", 40.0 * np.arange(3)
    )  # a flow less than frames
    np.save(tmp_path / "i3d" / "v_Biking_g01_c01_timestamps_ms.npy", 40.0 * np.arange(3))
    for stream, rows in (("rgb", 3), ("flow", 2)):
        assert run(tmp_path / "i3d", tmp_path, stream=stream) == 0
        with Store.open(find_store(tmp_path, stream=stream)) as store:
            assert store.rows.tolist() == [rows, rows]
            np.testing.assert_allclose(
                store.times_seconds(store.video_ids[0]), 0.04 * np.arange(rows)
            )
    with pytest.raises(
        InputError, match="STREAM=audio: must be one of the features in the folder, flow, rgb"
    ):
        run(tmp_path / "i3d", tmp_path, stream="audio")
    with pytest.raises(
        InputError, match="STREAM=rgb: must be one of the features in the folder, flow"
    ):
        run(as_video_features(tmp_path / "flow alone", "flow"), tmp_path)


@pytest.mark.parametrize("key", ["r21d", "s3d", "vggish"])
def test_a_key_that_all_names_end_with_is_removed_from_them(tmp_path, key):
    assert run(as_video_features(tmp_path / "in", key, with_times=False), tmp_path) == 0
    with Store.open(find_store(tmp_path)) as store:
        assert sorted(store.video_ids) == ["Biking/v_Biking_g01_c01", "YoYo/v_YoYo_g25_c04"]
        assert store.recipe["times"] == "row numbers"
    source = as_video_features(tmp_path / "other", key, ("a", "b"), with_times=False)
    (tmp_path / "t.csv").write_text(
        f"path,label\na_{key},dig\nb_{key},fly\n"
    )  # a table that has it in its names
    assert run(source, tmp_path / "bank", csv=str(tmp_path / "t.csv")) == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert sorted(store.video_ids) == [f"a_{key}", f"b_{key}"]


def test_inconsistent_files_of_video_features_fail_only_their_own_video(tmp_path, capsys):
    names = [f"v_YoYo_g25_c0{number}" for number in range(1, 7)]
    source = as_video_features(tmp_path / "in", videos=names)
    np.save(source / f"{names[0]}_timestamps_ms.npy", np.arange(7.0))
    (source / f"{names[1]}_timestamps_ms.npy").unlink()
    (source / f"{names[2]}_resnet.npy").unlink()
    np.save(source / f"{names[3]}_fps.npy", np.arange(2.0))
    np.save(source / f"{names[4]}_timestamps_ms.npy", np.full(3, np.nan))
    assert run(source, tmp_path) == 1
    shown = capsys.readouterr().out
    reasons = [
        "one time for each of the 3 rows of features \\(got 7\\)",
        "its _timestamps_ms.npy is missing",
        r"its features \(resnet\) are missing",
        "its _fps.npy must contain one number",
        "times must be finite, but 3 of 3 are NaN or infinite",
    ]
    for name, reason in zip(names, reasons, strict=False):
        assert re.search(f"failed: YoYo/{name}: .*{reason}", shown), shown
    assert "1 of 6 videos" in shown


@pytest.mark.parametrize("ending", [".npz", ".json", ".csv", ".npy", ".mat", ".H5X", ".zip"])
def test_an_ending_that_is_not_written_is_refused_with_those_that_are(
    tmp_path, monkeypatch, ending
):
    fill(tmp_path / "stores" / "made.h5", range(2))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        InputError,
        match=rf"TO=out\{ending}: cannot write \{ending} files.* \.h5 or \.hdf5.*folder",
    ):
        export(ExportOptions(to=f"out{ending}", bank="."))
    assert sorted(tmp_path.iterdir()) == before
    assert export(ExportOptions(to=f"out{ending}/", bank=".")) == 0  # plainly a folder
    assert len(list((tmp_path / f"out{ending}").rglob("*.npy"))) == 2


@pytest.mark.parametrize(
    ("to", "is_file"),
    [("set-1.5", False), ("out.HDF5", True), ("a.b/out", False), ("out.h5", True)],
)
def test_names_that_are_a_folder_or_a_file_by_their_ending(tmp_path, to, is_file):
    fill(tmp_path / "stores" / "made.h5", range(2))
    assert export(ExportOptions(to=str(tmp_path / to), bank=str(tmp_path))) == 0
    assert (tmp_path / to).is_file() == is_file


def test_a_pipe_is_not_imported(tmp_path):
    os.mkfifo(tmp_path / "features.h5")
    with pytest.raises(InputError, match=r"must be a file \(got a pipe\)"):
        import_store(ImportOptions(file=str(tmp_path / "features.h5"), bank=str(tmp_path)))
