"""Features of other tools come in by id, with labels and splits; and go out again."""

import hashlib
import re

import h5py
import numpy as np
import pytest
from conftest import testdata
from made_stores import DATASET, RECIPE, fill, made_meta, made_times, made_values

from reelbank.data import feature_file, importers, shelf, ucf101
from reelbank.data.errors import InputError
from reelbank.data.store import Store, StoreWriter

STEMS = ["v_Biking_g01_c01", "v_Biking_g09_c02", "v_HandStandPushups_g16_c01", "v_YoYo_g25_c04"]
CLASSES = ["Biking", "Biking", "HandstandPushups", "YoYo"]
IDS = [f"{label}/{stem}" for label, stem in zip(CLASSES, STEMS, strict=True)]
VALUES = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)


def run(path, bank, **options):
    return importers.import_store(importers.ImportOptions(file=str(path), bank=str(bank), **options))


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
    shelf.inspect(shelf.InspectOptions(str(tmp_path)))
    shown = capsys.readouterr().out
    assert "times unknown" in shown and "seconds from row to row" not in shown
    assert "made with versions that are not recorded" in shown  # another tool's are not ours
    with Store.open(shelf.find_store(tmp_path, dataset="ucf101", stream="rgb", extractor="foreign")) as store:
        assert store.finished and sorted(store.video_ids) == sorted(IDS)
        for video_id, values in zip(IDS, VALUES, strict=True):
            found, times_seconds = store.features(video_id)
            np.testing.assert_array_equal(found, values.astype(np.float16))
            np.testing.assert_array_equal(times_seconds, [0, 1, 2])
        at = store.video_ids.index(IDS[1])
        assert (store.labels[at], store.groups[at], store.parts[at]) == ("Biking", "Biking/g09", ["train", "test", "train"])
        assert store.labels[store.video_ids.index(IDS[2])] == "HandstandPushups"
        assert store.dataset["classes"] == list(ucf101.CLASSES) and store.dataset["splits"] == ["1", "2", "3"]
        if layout is as_packed:
            assert store.recipe["imported"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_real_features_are_imported_by_id_with_the_official_splits(tmp_path):
    path = testdata("features", "ucf101_vgg16_fc6.h5")
    assert run(path, tmp_path, dataset="ucf101", extractor="vgg16 fc6") == 0
    listed = {
        line.split()[0].removesuffix(".avi")
        for line in testdata("splits", "ucf101", "testlist01.txt").read_text().splitlines()
        if line.strip()
    }
    with Store.open(shelf.find_store(tmp_path)) as store, h5py.File(path) as file:
        assert len(store.video_ids) == 938 and store.row_shape == (1024,) and set(store.rows) == {25}
        for number in range(0, 938, 97):
            stem = file["name"][number].decode()
            video_id = next(name for name in store.video_ids if name.endswith("/" + stem))
            np.testing.assert_array_equal(store.features(video_id)[0], file["features"][number])
        tests = {name for name, parts in zip(store.video_ids, store.parts, strict=True) if parts[0] == "test"}
        assert tests == listed & set(store.video_ids)
        assert len(tests) == int(file["is_test_split123"][:, 0].sum())
        assert set(store.labels) == set(ucf101.CLASSES[1:8])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"label_classInd": np.array([11, 11, 36, 101])}, "v_HandStandPushups_g16_c01: the file calls it class 36"),
        ({"is_test_split123": np.eye(4, 3)[::-1]}, "v_Biking_g01_c01: the file's splits"),
    ],
)
def test_a_file_that_contradicts_the_names_is_refused(tmp_path, more, told):
    with pytest.raises(InputError, match=re.escape(told)):
        run(as_packed(tmp_path / "foreign.h5", **more), tmp_path)


def test_other_names_need_a_table(tmp_path):
    np.save(tmp_path / "a clip.npy", VALUES[0])
    np.save(tmp_path / "b.npy", VALUES[1][0])  # a vector is one row
    with pytest.raises(InputError, match=r"names such as a clip are not UCF-101's; give CSV="):
        run(tmp_path, tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("path,label,split\na clip,dig,train\n")
    with pytest.raises(InputError, match="does not name b"):
        run(tmp_path, tmp_path, csv=str(table))
    table.write_text("path,label,group,split\na clip,dig,g1,train\nb,fly,g2,test\nelsewhere,fly,g3,test\n")
    assert run(tmp_path, tmp_path, csv=str(table), dataset="mine") == 0
    with Store.open(shelf.find_store(tmp_path, dataset="mine")) as store:
        assert (store.video_ids, store.labels, store.groups) == (["a clip", "b"], ["dig", "fly"], ["g1", "g2"])
        assert store.parts == [["train"], ["test"]] and store.rows.tolist() == [3, 1]


def test_features_that_cannot_be_stored_fail_alone(tmp_path, capsys):
    as_npy(tmp_path / "foreign")
    np.save(tmp_path / "foreign" / "deep" / f"{STEMS[0]}.npy", np.full((3, 6), np.inf))
    np.save(tmp_path / "foreign" / "deep" / f"{STEMS[1]}.npy", np.array([{"a": 1}], object), allow_pickle=True)
    broken = tmp_path / "foreign" / "deep" / f"{STEMS[2]}.npy"
    broken.write_bytes(broken.read_bytes()[:-1])
    assert run(tmp_path / "foreign", tmp_path) == 1
    shown = capsys.readouterr().out
    assert "1 of 4 videos" in shown and f"failed: {IDS[0]}: {IDS[0]}: its features hold NaN or infinity" in shown
    for number in (1, 2):
        assert re.search(f"failed: {IDS[number]}: FILE=.*{STEMS[number]}.npy: not readable as .npy", shown)
    with Store.open(shelf.find_store(tmp_path)) as store:
        assert store.finished and store.video_ids == IDS[3:] and set(store.failures) == set(IDS[:3])


def test_foreign_files_are_checked_before_they_are_read(tmp_path):
    path = tmp_path / "foreign.h5"
    for number, (hostile, told) in enumerate(
        [
            (lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/y")), "link to elsewhere"),
            (lambda file: file.create_dataset("x", (3,), "<f4", external=[("/etc/passwd", 0, 12)]), "data in another file"),
            (lambda file: file.create_dataset("x", (1 << 40, 4), "<f4"), "declares"),
            (lambda file: file.create_dataset("x", data=["a"], dtype=h5py.string_dtype()), "fixed-length strings"),
            (lambda file: file.create_group("g").__setitem__("loop", file), "nested more than"),
        ]
    ):
        as_datasets(path)
        with h5py.File(path, "a") as file:
            hostile(file)
        with pytest.raises(InputError, match=told):
            run(path, tmp_path / str(number))
    path.write_bytes(b"text")
    (tmp_path / "empty").mkdir()
    for wrong, told in (("foreign.h5", "not readable as HDF5"), ("none", "give the HDF5 file"), ("empty", "no features")):
        with pytest.raises(InputError, match=told):
            run(tmp_path / wrong, tmp_path)


def test_a_single_value_is_no_features(tmp_path):
    path = as_datasets(tmp_path / "foreign.h5")
    with h5py.File(path, "a") as file:
        file["version"] = 3
    with pytest.raises(InputError, match=r"foreign.h5: /version is a single value"):
        run(path, tmp_path)
    with h5py.File(path, "w") as file:
        file["features"], file["name"] = 1.0, np.array(STEMS, "S")
    with pytest.raises(InputError, match="/features is a single value"):
        run(path, tmp_path)
    assert run(as_packed(tmp_path / "packed.h5", version=3), tmp_path) == 0  # beside packed features it tells nothing


def test_export_says_where_it_cannot_write(tmp_path):
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        metas = [{**made_meta(0), "id": video_id} for video_id in ("a/b", "a")]
        for meta in metas:
            writer.add(meta, made_values(0), made_times(0))
        assert writer.finish(metas)
    (tmp_path / "file").write_text("")
    for to, told in (("", "TO= is needed"), ("/", "not replaced"), (str(tmp_path / "file" / "x"), "cannot be written")):
        with pytest.raises(InputError, match=f"TO=.*{told}|{told}"):
            importers.export(importers.ExportOptions(to=to, bank=str(tmp_path)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="cannot be written"):  # HDF5 has no room for `a` and `a/b`
        importers.export(importers.ExportOptions(to=str(tmp_path / "x.h5"), bank=str(tmp_path)))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_of_damaged_features_leaves_nothing(tmp_path):
    path = tmp_path / "stores" / "made.h5"
    fill(path, range(4))
    content = bytearray(path.read_bytes())
    content[feature_file.FeatureFile(path).header.features_start + 2 * 5 * 5] ^= 1  # of video 2, after one row and two
    path.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    for to in ("out", "out.h5"):
        with pytest.raises(InputError, match="the features of dig/v002 are damaged"):
            importers.export(importers.ExportOptions(to=str(tmp_path / to), bank=str(tmp_path)))
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("unreadable", ["folder", "dangling link"])
def test_a_file_that_cannot_be_opened_is_one_line_that_names_it(tmp_path, unreadable):
    as_npy(tmp_path / "foreign")
    path = tmp_path / "foreign" / "v_Biking_g02_c01.npy"
    path.mkdir() if unreadable == "folder" else path.symlink_to("nowhere")
    with pytest.raises(InputError, match=rf"FILE={path}: cannot be read \(.*\); mend it, or move it away") as refused:
        run(tmp_path / "foreign", tmp_path)
    assert "\n" not in str(refused.value) and not (tmp_path / "stores").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(60), b"\x93NUMPY\x01\x00v\x00{'descr': (" + bytes(99)])
def test_a_broken_npy_fails_alone_whatever_it_holds(tmp_path, content, capsys):
    as_npy(tmp_path / "foreign")
    (tmp_path / "foreign" / "deep" / f"{STEMS[0]}.npy").write_bytes(content)
    assert run(tmp_path / "foreign", tmp_path) == 1
    shown = capsys.readouterr().out
    assert "3 of 4 videos" in shown and f"{STEMS[0]}.npy: not readable as .npy" in shown


@pytest.mark.parametrize("target", ["out", "out.h5"])
def test_uint8_goes_out_and_in_again_without_its_views(tmp_path, target):
    meta, values = made_meta(0), np.arange(30, dtype=np.uint8).reshape(5, 2, 3)
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        writer.add(meta, values, np.arange(5), [0, 0, 0, 1, 2])
        assert writer.finish([meta])
    assert importers.export(importers.ExportOptions(to=str(tmp_path / target), bank=str(tmp_path))) == 0
    assert run(tmp_path / target, tmp_path / "bank", csv=str(tmp_path / f"{target}.csv")) == 0
    with Store.open(shelf.find_store(tmp_path / "bank")) as store:
        assert store.dtype == np.uint8 and not store.has_views
        np.testing.assert_array_equal(store.load()[0], values[:3])


@pytest.mark.parametrize("target", ["out", "out.h5"])
def test_what_is_exported_is_imported_again(tmp_path, target, capsys):
    fill(tmp_path / "stores" / "made.h5", range(6))
    options = importers.ExportOptions(to=str(tmp_path / target), bank=str(tmp_path), split="2")
    assert importers.export(options) == 0
    with pytest.raises(InputError, match="what is there is not replaced"):
        importers.export(options)
    if target == "out":
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "dig" / "v002.npy"), made_values(2).astype(np.float16))
    else:
        with h5py.File(tmp_path / target) as file:
            np.testing.assert_array_equal(file["dig/v002"][:], made_values(2).astype(np.float16))
    table = str(tmp_path / f"{target}.csv")
    assert run(tmp_path / target, tmp_path / "bank", csv=table) == 0
    with Store.open(shelf.find_store(tmp_path / "bank")) as store:
        for number in range(6):
            meta, at = made_meta(number), store.video_ids.index(made_meta(number)["id"])
            np.testing.assert_array_equal(store.features(meta["id"])[0], made_values(number).astype(np.float16))
            assert (store.labels[at], store.groups[at], store.parts[at]) == (meta["label"], meta["group"], meta["parts"][1:])


def test_several_classes_a_video_go_out_and_in_again(tmp_path):
    labels = ["dig;fly", "", "fly"]
    metas = [{**made_meta(number), "label": label} for number, label in enumerate(labels)]
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, {**DATASET, "multilabel": True}) as writer:
        for number, meta in enumerate(metas):
            writer.add(meta, made_values(number), made_times(number))
        assert writer.finish(metas)
    assert importers.export(importers.ExportOptions(to=str(tmp_path / "out"), bank=str(tmp_path))) == 0
    table = tmp_path / "out.csv"
    assert table.read_text().splitlines()[:2] == ["path,labels,group,split", "dig/v000,dig;fly,g0,test"]
    assert run(tmp_path / "out", tmp_path / "bank", csv=str(table)) == 0
    with Store.open(shelf.find_store(tmp_path / "bank")) as store:
        assert store.dataset["multilabel"] is True and store.dataset["classes"] == ["dig", "fly"]
        assert dict(zip(store.video_ids, store.labels, strict=True)) == {meta["id"]: meta["label"] for meta in metas}
