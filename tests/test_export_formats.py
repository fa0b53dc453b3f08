"""Formats of other tools: each export is read back by code that follows the other tool's own reading
rules, and each import restores ids, times and labels."""

import io
import json
import re
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
from made_stores import DATASET, RECIPE, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.exchange.importing import import_store
from reelbank.data.store.options import ExportOptions, ImportOptions
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter


def export_made(folder, to, **options):
    """Exports the store of `fill`, in this folder, to this name in it."""
    return export(ExportOptions(to=f"{folder}/{to}", bank=str(folder), **options))


def test_format_selects_what_is_written(tmp_path):
    fill(tmp_path / "stores" / "made.h5", range(3))
    assert export_made(tmp_path, "out", format="npy") == 0
    values = np.load(tmp_path / "out" / "dig" / "v002.npy")
    np.testing.assert_array_equal(values, made_values(2).astype(np.float16))
    assert export_made(tmp_path, "out.HDF5", format="hdf5") == 0
    assert (tmp_path / "out.HDF5").is_file() and (tmp_path / "out.HDF5.csv").is_file()


@pytest.mark.parametrize(
    ("to", "format_name", "message"),
    [
        ("out", "hdf5", r"out: FORMAT=hdf5 writes an HDF5 file; give a name that ends in \.h5 or"),
        ("out.h5/", "hdf5", "give a name that ends in"),
        ("out.h5", "npy", r"FORMAT=npy writes a folder of \.npy files; give the name of a new"),
        ("out", "hdf", "FORMAT=hdf: choose from npy, npz, hdf5.*did you mean hdf5"),
    ],
)
def test_a_name_that_does_not_fit_the_format_is_refused(tmp_path, to, format_name, message):
    fill(tmp_path / "stores" / "made.h5", range(2))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        export_made(tmp_path, to, format=format_name)
    assert sorted(tmp_path.iterdir()) == before


def import_made(path, bank, **options):
    return import_store(ImportOptions(file=str(path), bank=str(bank), **options))


def check_equals_made(bank, numbers, *, with_fps=True, **wanted):
    """The imported store in this bank has ids, times, labels, groups, parts and frame rates of
    `fill`."""
    with Store.open(find_store(bank, **wanted)) as store:
        assert store.dataset == DATASET and store.recipe["times"] == "timestamps"
        assert sorted(store.video_ids) == sorted(made_video(number).id for number in numbers)
        for number in numbers:
            video = made_video(number)
            values, times_seconds = store.features(video.id)
            np.testing.assert_array_equal(values, made_values(number).astype(np.float16))
            np.testing.assert_array_equal(times_seconds, made_times(number))
            at = store.video_ids.index(video.id)
            labelling = (store.labels[at], store.groups[at], tuple(store.parts[at]))
            assert labelling == (video.label, video.group, video.parts)
            assert not with_fps or store.sources[at]["fps"] == 25.0


@pytest.mark.parametrize(("to", "format_name"), [("out.h5", ""), ("out", "npz")])
def test_times_rates_and_labels_come_back_without_a_table(tmp_path, to, format_name):
    fill(tmp_path / "stores" / "made.h5", range(6))
    assert export_made(tmp_path, to, format=format_name) == 0
    assert import_made(tmp_path / to, tmp_path / "bank") == 0
    check_equals_made(tmp_path / "bank", range(6), dataset="made", stream="rgb")
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert store.recipe["imported"]["recipe"] == RECIPE
        assert store.recipe["extractor"] == RECIPE["extractor"]
    assert import_made(tmp_path / to, tmp_path / "named", dataset="other", stream="flow") == 0
    with Store.open(find_store(tmp_path / "named", stream="flow")) as store:
        assert store.dataset == replace(DATASET, name="other")


def test_exports_of_hdf5_and_npz_are_read_with_h5py_and_numpy_only(tmp_path):
    fill(tmp_path / "stores" / "made.h5", range(3))
    assert export_made(tmp_path, "out.h5") == 0
    with h5py.File(tmp_path / "out.h5") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        assert names == ["dig/v000", "dig/v002", "fly/v001"]  # nothing but features
        attributes = file["dig/v002"].attrs
        assert attributes["times_seconds"].tolist() == made_times(2).tolist()
        assert (attributes["label"], attributes["fps"]) == (b"dig", 25.0)
        assert attributes["parts"].tolist() == [b"train", b""]
        about = json.loads(file.attrs["reelbank"])
    assert about["recipe"] == RECIPE and about["dataset"]["classes"] == ["dig", "fly"]
    assert export_made(tmp_path, "out", format="npz") == 0
    with np.load(tmp_path / "out" / "dig" / "v002.npz") as arrays:  # no pickled objects
        assert arrays["features"].tolist() == made_values(2).astype(np.float16).tolist()
        assert arrays["times_seconds"].tolist() == made_times(2).tolist()
        assert (str(arrays["label"]), float(arrays["fps"])) == ("dig", 25.0)
        assert arrays["parts"].tolist() == ["train", ""]
    assert json.loads((tmp_path / "out" / "about.json").read_text()) == about


def test_a_video_with_more_times_than_an_old_hdf5_attribute_can_hold(tmp_path):
    rows = 8_200  # 64 KiB hold 8,192 times
    video, times = made_video(0), np.arange(rows) / 30
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        writer.add(video, np.zeros((rows, 1)), times)
        assert writer.finish([video])
    assert export_made(tmp_path, "out.h5") == 0
    assert import_made(tmp_path / "out.h5", tmp_path / "bank") == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        np.testing.assert_array_equal(store.times_seconds(video.id), times)


def test_an_id_that_is_a_folder_of_another_id_needs_another_format(tmp_path):
    videos = [
        StoredVideo(name, DATASET.classes[0], parts=("train", "test"))
        for name in ("a/p", "a/p/x", "a/px")
    ]
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        for video in videos:
            writer.add(video, np.ones((2, 3)), np.arange(2))
        assert writer.finish(videos)
    with pytest.raises(InputError, match=r"the videos a/p and a/p/x, .*; give FORMAT=npz"):
        export_made(tmp_path, "out.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stores"]
    assert export_made(tmp_path, "out", format="npz") == 0
    assert import_made(tmp_path / "out", tmp_path / "bank") == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert sorted(store.video_ids) == [video.id for video in videos]


def test_multilabel_data_and_unlabelled_videos_come_back(tmp_path):
    dataset = DatasetDescription("set", ("ä b", "c"), (), multilabel=True)
    videos = [StoredVideo(f"v{n}", label) for n, label in enumerate(["ä b;c", "", "c"])]
    with StoreWriter(tmp_path / "stores" / "made.h5", {"stream": "audio"}, dataset) as writer:
        for video in videos:
            writer.add(video, np.ones((2, 3)), np.arange(2))
        assert writer.finish(videos)
    for to, format_name in (("out.h5", ""), ("out", "npz")):
        assert export_made(tmp_path, to, format=format_name) == 0
        assert import_made(tmp_path / to, tmp_path / format_name / "bank") == 0
        with Store.open(find_store(tmp_path / format_name / "bank", stream="audio")) as store:
            assert store.dataset == dataset and store.labels == [video.label for video in videos]
            assert "fps" not in store.sources[0]


def test_an_exported_network_still_knows_the_videos_it_was_trained_on(tmp_path):
    saw = {"dataset": "made", "split": "1", "part": "train", "videos": "", "validation_videos": ""}
    recipe = {**RECIPE, "weights": {"source": "trained here, x", "saw": saw}}
    with StoreWriter(tmp_path / "stores" / "made.h5", recipe, DATASET) as writer:
        writer.add(made_video(0), made_values(0), made_times(0))
        assert writer.finish([made_video(0)])
    assert export_made(tmp_path, "out.h5") == 0
    assert import_made(tmp_path / "out.h5", tmp_path / "bank") == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert store.recipe["weights"] == recipe["weights"]


def changed_hdf5(folder, change):
    with h5py.File(folder / "out.h5", "a") as file:
        change(file)
    return folder / "out.h5"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.create("reelbank", np.bytes_("{")), "not valid JSON"),
        (lambda file: file.attrs.create("reelbank", "{}"), "must contain plain numbers or fixed-l"),
        (lambda file: file.attrs.create("reelbank", np.bytes_("{}")), "must have the format"),
        (lambda file: file.attrs.create("reelbank", np.bytes_("[" * 9000)), "not valid JSON"),
        (lambda file: file["dig/v000"].attrs.create("label", np.bytes_("run")), "one of the data"),
        (lambda file: file["dig/v000"].attrs.create("label", 3), "label must be a fixed-length"),
        (lambda file: file["dig/v000"].attrs.create("parts", np.ones(2)), "parts must be a list"),
        (
            lambda file: file["dig/v000"].attrs.create("label", np.bytes_(b"\xff")),
            "label must be UTF-8",
        ),
    ],
)
def test_untrusted_labels_of_an_hdf5_file_are_checked(tmp_path, change, message):
    fill(tmp_path / "stores" / "made.h5", range(2))
    assert export_made(tmp_path, "out.h5") == 0
    with pytest.raises(InputError, match=message):
        import_made(changed_hdf5(tmp_path, change), tmp_path / "bank")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file["dig/v000"].attrs.__delitem__("times_seconds"), "times_seconds is mis"),
        (
            lambda file: file["dig/v000"].attrs.create("times_seconds", [1.0, 2]),
            "one time for each",
        ),
        (lambda file: file["dig/v000"].attrs.create("fps", -1.0), "fps must be one number"),
        (
            lambda file: file["dig/v000"].attrs.create("fps", np.bytes_("25")),
            "fps must be one number",
        ),
    ],
)
def test_a_wrong_time_or_rate_fails_only_its_own_video(tmp_path, change, reason, capsys):
    fill(tmp_path / "stores" / "made.h5", range(2))
    assert export_made(tmp_path, "out.h5") == 0
    assert import_made(changed_hdf5(tmp_path, change), tmp_path / "bank") == 1
    shown = capsys.readouterr().out
    assert "1 of 2 videos" in shown and re.search(f"failed: dig/v000: .*{reason}", shown), shown


def rewritten(path, **arrays):
    """An .npz with some arrays replaced; objects are pickled."""
    with np.load(path) as old:
        np.savez(path, **{**dict(old), **arrays})


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"features": np.array([None])}, "contains Python objects, which are not read"),
        ({"fps": np.zeros(2)}, "fps must be one number"),
        ({"times_seconds": np.zeros(9)}, "one time for each"),
    ],
)
def test_an_npz_with_a_wrong_array_fails_only_its_own_video(tmp_path, arrays, reason, capsys):
    fill(tmp_path / "stores" / "made.h5", range(2))
    assert export_made(tmp_path, "out", format="npz") == 0
    rewritten(tmp_path / "out" / "dig" / "v000.npz", **arrays)
    assert import_made(tmp_path / "out", tmp_path / "bank") == 1
    shown = capsys.readouterr().out
    assert "1 of 2 videos" in shown and re.search(f"failed: dig/v000: .*{reason}", shown), shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "about.json").write_text("[]"), "about.json: cannot be read"),
        (lambda folder: rewritten(folder / "dig/v000.npz", label=np.float64(1)), "label must be"),
        (lambda folder: rewritten(folder / "dig/v000.npz", parts=np.str_("a")), "parts must be"),
        (lambda folder: np.save(folder / "a.npy", np.ones((1, 5))), r"either \.npy or \.npz"),
    ],
)
def test_untrusted_labels_of_an_npz_folder_are_checked(tmp_path, change, message):
    fill(tmp_path / "stores" / "made.h5", range(2))
    assert export_made(tmp_path, "out", format="npz") == 0
    change(tmp_path / "out")
    with pytest.raises(InputError, match=message):
        import_made(tmp_path / "out", tmp_path / "bank")


def test_an_npz_that_declares_more_than_it_holds_is_refused(tmp_path, capsys):
    huge = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4)}
    np.lib.format.write_array_header_1_0(huge, header)
    with zipfile.ZipFile(tmp_path / "v_YoYo_g01_c01.npz", "w") as archive:
        archive.writestr("features.npy", huge.getvalue() + bytes(64))
    assert import_made(tmp_path, tmp_path / "bank") == 1
    assert "does not have the size that its header declares" in capsys.readouterr().out


def test_an_npz_of_another_tool_has_times_only_if_all_files_have(tmp_path):
    (tmp_path / "in").mkdir()
    values = np.ones((2, 3), np.float32)
    np.savez_compressed(tmp_path / "in" / "v_YoYo_g01_c01.npz", feats=values)
    np.savez(tmp_path / "in" / "v_YoYo_g02_c01.npz", feats=values, times_seconds=np.arange(2))
    assert import_made(tmp_path / "in", tmp_path / "bank") == 0
    with Store.open(find_store(tmp_path / "bank", dataset="ucf101")) as store:
        assert store.recipe["times"] == "row numbers" and store.labels == ["YoYo", "YoYo"]


@pytest.mark.parametrize("damage", ["cut", "zlib", "lzma"])
def test_a_damaged_npz_fails_only_its_own_video(tmp_path, damage, capsys):
    fill(tmp_path / "stores" / "made.h5", range(3))
    assert export_made(tmp_path, "out", format="npz") == 0
    damaged = tmp_path / "out" / "dig" / "v000.npz"
    with np.load(damaged) as arrays:
        contents = dict(arrays)
    method = zipfile.ZIP_LZMA if damage == "lzma" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(damaged, "w", method) as archive:
        for name, values in contents.items():
            npy = io.BytesIO()
            np.save(npy, values)
            archive.writestr(f"{name}.npy", npy.getvalue())
        end = archive.infolist()[1].header_offset
    content = bytearray(damaged.read_bytes())
    start = 60 if damage == "lzma" else 42  # in the compressed features
    content[start:end] = b"\xff" * (end - start)
    damaged.write_bytes(b"PK\x03\x04" if damage == "cut" else content)
    assert import_made(tmp_path / "out", tmp_path / "bank") == 1
    assert re.search("failed: dig/v000: .*cannot be read as .npz", capsys.readouterr().out)
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert store.video_ids == ["dig/v002", "fly/v001"]
        np.testing.assert_array_equal(store.times_seconds("dig/v002"), made_times(2))


def test_a_video_may_have_the_name_of_our_file(tmp_path):
    video = replace(made_video(0), id="reelbank")
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        writer.add(video, made_values(0), made_times(0))
        writer.finish([video])
    assert export_made(tmp_path, "out", format="npz") == 0
    assert import_made(tmp_path / "out", tmp_path / "bank") == 0
    with Store.open(find_store(tmp_path / "bank")) as store:
        assert store.video_ids == ["reelbank"] and store.labels == [video.label]


def test_other_files_in_a_folder_of_npy_are_not_imported(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "v_YoYo_g01_c01.npy", np.ones((2, 3)))
    np.savez(tmp_path / "in" / "means.npz", mean=np.ones(3))
    (tmp_path / "in" / "table.parquet").write_bytes(b"PAR1")
    assert import_made(tmp_path / "in", tmp_path / "bank") == 0
    shown = capsys.readouterr().out
    assert "2 .npz or .parquet files are not" in shown and "imported 1 of 1 videos" in shown


def test_a_frame_rate_larger_than_any_float_is_unknown(tmp_path):
    video = replace(made_video(0), source={"bytes": 1, "fps": 10**400})
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET) as writer:
        writer.add(video, made_values(0), made_times(0))
        writer.finish([video])
    assert export_made(tmp_path, "out", format="npz") == 0
    with np.load(tmp_path / "out" / f"{video.id}.npz") as arrays:
        assert arrays["fps"] == 0
