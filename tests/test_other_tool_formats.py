"""Export for MS-TCN, RTFM and video_features, and import of their folders. The readers below follow the
tools' own code: yabufarha/ms-tcn, batch_gen.py and main.py; tianyu0207/RTFM, dataset.py and utils.py;
v-iashin/video_features, utils/utils.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.exchange.importing import import_store
from reelbank.data.store.options import ExportOptions, ImportOptions
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter

DATASET = DatasetDescription("made", ("Normal day", "fight"), ("1", "2"))
VIDEOS = [
    StoredVideo("a/v.one", "fight", "g", ("train", "test"), {"bytes": 1, "fps": 25.0}),
    StoredVideo("a/two", "Normal day", "", ("train", ""), {"bytes": 1, "fps": 25.0}),
    StoredVideo("b/three", "fight", "", ("test", "train"), {"bytes": 1}),
]
ROWS = (5, 1, 40)


def values_of(number: int, shape=(6,)) -> np.ndarray:
    """(K, *shape) float32, exact in float16."""
    count = ROWS[number] * int(np.prod(shape))
    return (number + np.arange(count).reshape(-1, *shape) % 99 / 8).astype(np.float32)


def times_of(number: int) -> np.ndarray:
    return np.arange(ROWS[number]) * 0.32 + 0.1


def made_store(
    folder: Path, shape=(6,), recipe=None, videos=VIDEOS, dataset=DATASET, times=times_of
) -> Path:
    recipe = recipe or {"stream": "rgb", "extractor": "torchvision:resnet50"}
    with StoreWriter(folder / "stores" / "made.h5", recipe, dataset) as writer:
        for number, video in enumerate(videos):
            writer.add(video, values_of(number, shape), times(number))
        assert writer.finish(videos)
    return folder


def export_made(folder: Path, **options) -> Path:
    assert export(ExportOptions(to=f"{folder}/out", bank=str(folder), **options)) == 0
    return folder / "out"


def import_made(path: Path, bank: Path, **options) -> Store:
    assert import_store(ImportOptions(file=str(path), bank=str(bank), **options)) == 0
    return Store.open(find_store(bank))


def check_restored(store: Store, shape=(6,)) -> None:
    """Ids, times, labels, groups, parts and frame rates are those of VIDEOS."""
    assert store.dataset == DATASET and store.recipe["times"] == "timestamps"
    assert store.video_ids == [video.id for video in VIDEOS]
    for number, video in enumerate(VIDEOS):
        values, times = store.features(video.id)
        np.testing.assert_array_equal(values, values_of(number, shape))
        np.testing.assert_array_equal(times, times_of(number))
        labelling = (store.labels[number], store.groups[number], tuple(store.parts[number]))
        assert labelling == (video.label, video.group, video.parts)
        assert store.sources[number].get("fps") == video.source.get("fps")


def read_as_mstcn(folder: Path, bundle: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(features, numbers of the classes) of each video, as its BatchGenerator reads them."""
    actions = (folder / "mapping.txt").read_text().split("\n")[:-1]
    actions_dict = {line.split()[1]: int(line.split()[0]) for line in actions}
    assert sorted(actions_dict.values()) == list(range(len(actions)))
    examples = (folder / "splits" / bundle).read_text().split("\n")[:-1]
    read = {}
    for vid in examples:
        features = np.load(f"{folder}/features/" + vid.split(".")[0] + ".npy")
        content = (folder / "groundTruth" / vid).read_text().split("\n")[:-1]
        classes = np.zeros(min(np.shape(features)[1], len(content)))
        for i in range(len(classes)):
            classes[i] = actions_dict[content[i]]
        read[vid] = (features, classes)
    return read


def test_mstcn_reads_the_features_and_the_class_of_every_row(tmp_path):
    folder = export_made(made_store(tmp_path), format="mstcn")
    assert (folder / "mapping.txt").read_text() == "0 Normal_day\n1 fight\n"
    read = read_as_mstcn(folder, "train.split1.bundle")
    assert list(read) == ["v_one.txt", "two.txt"]
    for number, (features, classes) in enumerate(read.values()):
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, values_of(number).T)
        assert classes.tolist() == [1 - number] * ROWS[number]
    assert list(read_as_mstcn(folder, "test.split1.bundle")) == ["three.txt"]
    assert list(read_as_mstcn(folder, "train.split2.bundle")) == ["three.txt"]
    assert list(read_as_mstcn(folder, "test.split2.bundle")) == ["v_one.txt"]
    with import_made(folder, tmp_path / "bank") as store:
        check_restored(store)


def annotated(folder: Path) -> str:
    actions = [["pour", 0.0, 0.5], ["stir", 0.4, 1.0]]
    entries = {
        name: {
            "subset": "training",
            "annotations": [{"label": label, "segment": segment} for label, *segment in actions],
        }
        for name in ("v.one", "two", "three")
    }
    (folder / "actions.json").write_text(json.dumps({"database": entries}))
    return str(folder / "actions.json")


def test_mstcn_gets_the_actions_of_a_file(tmp_path):
    made_store(tmp_path)
    folder = export_made(tmp_path, format="mstcn", annotations=annotated(tmp_path))
    _, classes = read_as_mstcn(folder, "train.split1.bundle")["v_one.txt"]
    names = [line.split()[1] for line in (folder / "mapping.txt").read_text().splitlines()]
    # rows at 0.10, 0.42, 0.74, 1.06 and 1.38 s; of two actions the one that begins last
    wanted = ["pour", "stir", "stir", "background", "background"]
    assert [names[int(number)] for number in classes] == wanted
    with import_made(folder, tmp_path / "bank") as store:
        assert store.sources[0]["annotations"] == [["pour", 0.0, 0.5], ["stir", 0.4, 1.0]]
    again = tmp_path / "again"
    options = ExportOptions(to=str(again), bank=str(tmp_path / "bank"), format="mstcn")
    assert export(options) == 0
    for name in ("mapping.txt", "groundTruth/v_one.txt"):
        assert (again / name).read_text() == (folder / name).read_text()


def test_mstcn_refuses_annotations_that_do_not_name_all_videos(tmp_path):
    path = Path(annotated(tmp_path))
    document = json.loads(path.read_text())
    del document["database"]["two"]
    path.write_text(json.dumps(document))
    made_store(tmp_path)
    with pytest.raises(InputError, match="missing, such as .*two; add them, with an empty list"):
        export_made(tmp_path, format="mstcn", annotations=str(path))
    document["database"]["two"] = {"subset": "training", "annotations": []}
    path.write_text(json.dumps(document))
    export_made(tmp_path, format="mstcn", annotations=str(path))


def foreign_mstcn(folder: Path) -> Path:
    for name in ("features", "groundTruth", "splits"):
        (folder / name).mkdir(parents=True)
    for number, name in enumerate(("s1", "s2", "s3")):
        np.save(folder / "features" / f"{name}.npy", values_of(number).T)
        labels = (["pour"] * 2 + ["background"] + ["stir"] * 40)[: ROWS[number]]
        (folder / "groundTruth" / f"{name}.txt").write_text("".join(f"{x}\n" for x in labels))
    (folder / "mapping.txt").write_text("1 pour\n0 stir\n2 background\n")
    (folder / "splits" / "train.split1.bundle").write_text("s1.txt\ns2.txt\n")
    (folder / "splits" / "test.split1.bundle").write_text("s3.txt\n")
    return folder


def test_a_folder_of_mstcn_is_imported_with_times_and_labels(tmp_path):
    source = foreign_mstcn(tmp_path / "gtea")
    with import_made(source, tmp_path / "bank", stride=1.0, fps=15.0) as store:
        assert store.video_ids == ["s1", "s2", "s3"]
        assert store.dataset.classes == ("stir", "pour") and store.dataset.multilabel
        assert store.labels == ["stir;pour", "pour", "stir;pour"]
        assert store.parts == [["train"], ["train"], ["test"]] and store.dataset.splits == ("1",)
        values, times = store.features("s1")
        np.testing.assert_array_equal(values, values_of(0))
        np.testing.assert_allclose(times, np.arange(5) / 15)
    # the class of every row is kept
    again = tmp_path / "again"
    options = ExportOptions(to=str(again), bank=str(tmp_path / "bank"), format="mstcn")
    assert export(options) == 0
    for name in ("s1", "s2", "s3"):
        file = Path("groundTruth") / f"{name}.txt"
        assert (again / file).read_text() == (source / file).read_text()


def test_classes_of_rows_become_actions_for_opentad(tmp_path):
    source = foreign_mstcn(tmp_path / "gtea")
    import_made(source, tmp_path / "bank", stride=1.0, fps=15.0).close()
    options = ExportOptions(to=str(tmp_path / "out"), bank=str(tmp_path / "bank"), format="opentad")
    assert export(options) == 0
    database = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]
    # rows 0 and 1 are pour, 3 and 4 are stir; an action ends between two rows
    pour, stir = database["s1"]["annotations"]
    assert (pour["label"], stir["label"]) == ("pour", "stir")
    np.testing.assert_allclose(pour["segment"], [0, 1.5 / 15])
    np.testing.assert_allclose(stir["segment"], [2.5 / 15, 4.5 / 15])


def test_actions_of_rows_end_in_the_middle_between_two_rows(tmp_path):
    """Also after a gap, so that a row between two actions of one class remains background."""
    times = np.array([0.0, 1.0, 2.0, 3.0, 20.0])
    runs = [["pour", 2], ["background", 1], ["pour", 1], ["stir", 1]]
    video = StoredVideo("x", "fight", parts=("train", ""), source={"bytes": 1, "row_labels": runs})
    made_store(tmp_path, videos=[video], times=lambda number: times)
    folder = export_made(tmp_path, format="mstcn")
    expected = "pour\npour\nbackground\npour\nstir\n"
    assert (folder / "groundTruth" / "x.txt").read_text() == expected
    with import_made(folder, tmp_path / "bank") as store:
        assert store.sources[0]["annotations"] == [
            ["pour", 0.0, 1.5],
            ["pour", 2.5, 11.5],
            ["stir", 11.5, 28.5],
        ]
    options = ExportOptions(to=str(tmp_path / "again"), bank=str(tmp_path / "bank"), format="mstcn")
    assert export(options) == 0
    assert (tmp_path / "again" / "groundTruth" / "x.txt").read_text() == expected


ROW_NUMBERS = {"stream": "rgb", "extractor": "x", "times": "row numbers"}


@pytest.mark.parametrize(
    "recipe",
    [
        ROW_NUMBERS,
        {"stream": "rgb", "times": "timestamps", "imported": {"recipe": ROW_NUMBERS}},
    ],
)
def test_row_numbers_are_never_written_as_seconds(tmp_path, recipe):
    made_store(tmp_path, recipe=recipe)
    wanted = "contains row numbers; import the features with STRIDE= and FPS="
    for name in ("opentad", "video_features"):
        with pytest.raises(InputError, match=wanted):
            export_made(tmp_path, format=name)
    with pytest.raises(InputError, match=wanted):
        export_made(tmp_path, format="mstcn", annotations=annotated(tmp_path))
    # the class of a video is that of its rows at any time
    assert "fight" in (export_made(tmp_path, format="mstcn") / "mapping.txt").read_text()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mapping.txt", "pour 1\n", r"mapping.txt: expected a number and a class"),
        ("mapping.txt", "0 pour\n1 stir\n", r"s1.txt: the class 'background' must be one of"),
        ("groundTruth/s2.txt", None, r"s2.txt: cannot be read \(No such file"),
    ],
)
def test_a_malformed_folder_of_mstcn_is_refused(tmp_path, file, text, message):
    source = foreign_mstcn(tmp_path / "gtea")
    (source / file).unlink() if text is None else (source / file).write_text(text)
    with pytest.raises(InputError, match=message):
        import_made(source, tmp_path / "bank")


def test_videos_of_several_classes_need_annotations_for_mstcn(tmp_path):
    dataset = DatasetDescription("made", ("a", "b"), multilabel=True)
    made_store(tmp_path, videos=[StoredVideo("x", "a;b")], dataset=dataset)
    with pytest.raises(InputError, match="x has several classes.*give ANNOTATIONS="):
        export_made(tmp_path, format="mstcn")


CROPS = {"stream": "rgb", "extractor": "i3d", "crops": 10, "crops_kept": True}


def process_feat(feat: np.ndarray, length: int) -> np.ndarray:
    """The segments of RTFM's utils.py."""
    new_feat = np.zeros((length, feat.shape[1])).astype(np.float32)
    r = np.linspace(0, len(feat), length + 1, dtype=int)
    for i in range(length):
        if r[i] != r[i + 1]:
            new_feat[i, :] = np.mean(feat[r[i] : r[i + 1], :], 0)
        else:
            new_feat[i, :] = feat[r[i], :]
    return new_feat


def test_rtfm_reads_ten_crops_with_the_abnormal_videos_first(tmp_path, capsys):
    folder = export_made(made_store(tmp_path, (10, 6), CROPS), format="tencrop")
    assert (
        "train.list: 1 abnormal video, then 1 video of the class Normal day"
        in capsys.readouterr().out
    )
    with (folder / "train.list").open() as opened:
        lines = list(opened)
    read = []
    for line in lines:
        features = np.array(np.load(line.strip("\n")), dtype=np.float32)  # no pickled objects
        divided = [process_feat(feature, 32) for feature in features.transpose(1, 0, 2)]
        read.append(np.array(divided, dtype=np.float32))
    assert [array.shape for array in read] == [(10, 32, 6)] * 2
    np.testing.assert_array_equal(read[0][:, 0], values_of(0, (10, 6))[0])  # abnormal: fight
    np.testing.assert_array_equal(read[1][:, 31], values_of(1, (10, 6))[0])
    (line,) = (folder / "test.list").read_text().splitlines()
    np.testing.assert_array_equal(np.load(line), values_of(2, (10, 6)))
    with import_made(folder, tmp_path / "bank") as store:
        check_restored(store, (10, 6))
        assert (store.recipe["crops"], store.recipe["crops_kept"]) == (10, True)


def test_ten_crop_files_of_another_tool_are_kept_as_crops(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "x_i3d.npy", values_of(0, (10, 6)))
    np.save(tmp_path / "in" / "y_i3d.npy", values_of(1, (10, 6)))
    table = tmp_path / "t.csv"
    table.write_text("path,label,split\nx_i3d,fight,train\ny_i3d,Normal day,test\n")
    options = {"csv": str(table), "crops": 10, "stride": 16.0, "offset": 8.0, "fps": 24.0}
    with import_made(tmp_path / "in", tmp_path / "bank", **options) as store:
        assert store.row_shape == (10, 6) and store.recipe["crops_kept"] is True
        assert store.labels == ["fight", "Normal day"]
        np.testing.assert_allclose(store.times_seconds("x_i3d"), [1 / 3, 1, 5 / 3, 7 / 3, 3])
    options = ImportOptions(
        file=str(tmp_path / "in"), bank=str(tmp_path / "b"), csv=str(table), crops=5
    )
    assert import_store(options) == 1


def test_ten_crops_need_kept_crops_and_a_normal_class(tmp_path):
    made_store(tmp_path)
    with pytest.raises(InputError, match="extract with CROPS=10 KEEP_CROPS=1"):
        export_made(tmp_path, format="tencrop")
    dataset = DatasetDescription("made", ("a", "b"), ("1",))
    videos = [StoredVideo("x", "a", parts=("train",)), StoredVideo("y", "b", parts=("train",))]
    made_store(tmp_path / "named", (10, 6), CROPS, videos=videos, dataset=dataset)
    with pytest.raises(InputError, match="give NORMAL=<class of the normal"):
        export_made(tmp_path / "named", format="tencrop")
    with pytest.raises(InputError, match="NORMAL=c: must be a class of the store"):
        export_made(tmp_path / "named", format="tencrop", normal="c")
    folder = export_made(tmp_path / "named", format="tencrop", normal="a")
    names = [Path(line).name for line in (folder / "train.list").read_text().splitlines()]
    assert names == ["y.npy", "x.npy"]


def test_videos_without_a_class_are_neither_normal_nor_abnormal(tmp_path, capsys):
    videos = [*VIDEOS[:2], StoredVideo("b/three", "", parts=("train", ""))]
    folder = export_made(made_store(tmp_path, (10, 6), CROPS, videos=videos), format="tencrop")
    names = [Path(line).name for line in (folder / "train.list").read_text().splitlines()]
    assert names == ["v.one.npy", "two.npy"]
    assert "do not contain 1 video without a class: b/three" in capsys.readouterr().out
    with import_made(folder, tmp_path / "bank") as store:
        assert store.labels == ["fight", "Normal day", ""]


def make_path(output_root: Path, video_path: str, output_key: str, ext: str) -> Path:
    """The files of video_features' utils.py."""
    return output_root / f"{Path(video_path).stem}_{output_key}{ext}"


@pytest.mark.parametrize(
    ("extractor", "key"), [("torchvision:resnet50", "resnet"), ("i3d", "rgb"), ("timm:a.b", "a_b")]
)
def test_video_features_finds_its_files(tmp_path, extractor, key):
    recipe = {"stream": "rgb", "extractor": extractor}
    folder = export_made(made_store(tmp_path, recipe=recipe), format="video_features")
    for number, video in enumerate(VIDEOS):
        path = f"videos/{video.id}.mp4"
        features = np.load(make_path(folder, path, key, ".npy"))
        np.testing.assert_array_equal(features, values_of(number))
        timestamps = np.load(make_path(folder, path, "timestamps_ms", ".npy"))
        np.testing.assert_allclose(timestamps, times_of(number) * 1000)
        if number < 2:
            assert float(np.load(make_path(folder, path, "fps", ".npy"))) == 25.0
    with import_made(folder, tmp_path / "bank") as store:
        check_restored(store)
        assert store.recipe["extractor"] == extractor


def test_a_folder_of_video_features_without_our_file_is_imported_by_its_own_rules(tmp_path):
    folder = export_made(made_store(tmp_path), format="video_features")
    (folder / "reelbank.npz").unlink()
    table = tmp_path / "t.csv"
    table.write_text("path,label\nv.one,fight\ntwo,Normal day\nthree,fight\n")
    with import_made(folder, tmp_path / "bank", csv=str(table)) as store:
        assert sorted(store.video_ids) == ["three", "two", "v.one"]
        np.testing.assert_allclose(store.times_seconds("v.one"), times_of(0))
        assert store.sources[store.video_ids.index("two")]["fps"] == 25.0


def test_every_video_gets_files_of_its_own(tmp_path):
    """`a__b__0` is the numbered name of a/b, and the name of another video."""
    ids = ["a/b", "a__b", "a__b__0"]
    videos = [StoredVideo(each, "fight", parts=("train", "")) for each in (*ids, "c/b", "C/B")]
    recipe = {"stream": "rgb", "extractor": "torchvision:resnet50"}
    with StoreWriter(tmp_path / "stores" / "made.h5", recipe, DATASET) as writer:
        for number, video in enumerate(videos):
            writer.add(video, np.full((2, 6), number), np.arange(2.0))
        assert writer.finish(videos)
    folder = export_made(tmp_path, format="video_features")
    assert len(list(folder.glob("*_resnet.npy"))) == len(videos)
    with import_made(folder, tmp_path / "bank") as store:
        for number, video in enumerate(videos):
            assert (store[video.id] == number).all()


@pytest.mark.parametrize("fps", [10**400, -1, True])
def test_a_frame_rate_that_is_not_a_number_is_unknown(tmp_path, capsys, fps):
    video = StoredVideo("x", "fight", parts=("train", ""), source={"bytes": 1, "fps": fps})
    made_store(tmp_path, videos=[video])
    folder = export_made(tmp_path, format="video_features")
    assert not list(folder.glob("*_fps.npy"))
    assert "no _fps.npy for 1 video" in capsys.readouterr().out


@pytest.mark.parametrize("format_name", ["mstcn", "video_features"])
def test_formats_of_vectors_refuse_other_rows(tmp_path, format_name):
    made_store(tmp_path, (10, 6), CROPS)
    with pytest.raises(InputError, match=r"needs rows that are vectors \(got \(10, 6\)\)"):
        export_made(tmp_path, format=format_name)


def utf8(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def rewrite_sidecar(folder: Path, **arrays) -> None:
    with np.load(folder / "reelbank.npz") as old:
        content = {**dict(old), **arrays}
    np.savez(folder / "reelbank.npz", **content)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": utf8('["../a", "b", "c"]')}, "must be a relative path"),
        ({"names": utf8('["a", "b"]')}, "one entry per video"),
        ({"fps": np.array(["a", "b", "c"])}, "the array fps must have 1 axes and the type f"),
        ({"about": utf8("{}")}, "must have the format"),
        ({"actions": utf8("[]")}, "actions"),
        ({"labels": np.array([None] * 3)}, "contains Python objects"),
        ({"labels": np.array(["x", "y", "z"])}, "the array labels must contain texts as JSON"),
        ({"labels": utf8('["x", "y", "z"]')}, "must be one of the data set's classes"),
        ({"labels": utf8('["x", 1, "z"]')}, "the array labels must contain texts as JSON"),
        ({"labels": utf8("[")}, "the array labels"),
        ({"parts": utf8('[["train"], ["train"], ["test"]]')}, "must have one part"),
        ({"facts": utf8('{"0": {"frames": "9"}}')}, "its facts must be numbers"),
        ({"actions": utf8('{"0": [["a", 0, 1%s]]}' % ("0" * 400))}, "must be lists of a class"),
    ],
)
def test_an_untrusted_file_of_ours_is_checked(tmp_path, arrays, message):
    folder = export_made(made_store(tmp_path), format="mstcn")
    rewrite_sidecar(folder, **arrays)
    with pytest.raises(InputError, match=message):
        import_made(folder, tmp_path / "bank")


def test_a_file_of_ours_restores_facts_and_is_small(tmp_path):
    facts = {"frames": 90, "duration_seconds": 3.5, "span_seconds": [1.0, 4.5]}
    long_name = ";".join(f"class {number}" for number in range(500))
    dataset = DatasetDescription("made", tuple(long_name.split(";")), (), multilabel=True)
    videos = [StoredVideo(f"v{n}", long_name if not n else "class 1") for n in range(3)]
    videos[1] = StoredVideo("v1", "class 2", source={"bytes": 1, **facts})
    with made_folder(tmp_path, videos, dataset) as store:
        assert store.labels == [long_name, "class 2", "class 1"]
        assert store.sources[1] == {"bytes": 0, **facts}
    with np.load(tmp_path / "out" / "reelbank.npz") as arrays:
        assert arrays["labels"].nbytes < 2 * len(long_name)


def made_folder(folder: Path, videos, dataset) -> Store:
    """The store that is imported from an export of these videos."""
    exported = export_made(
        made_store(folder, videos=videos, dataset=dataset), format="video_features"
    )
    return import_made(exported, folder / "bank")


def test_features_and_classes_of_different_lengths_are_cut(tmp_path, capsys):
    source = foreign_mstcn(tmp_path / "gtea")
    (source / "groundTruth" / "s1.txt").write_text("pour\n" * 5 + "stir\n")  # 5 rows
    (source / "groundTruth" / "s3.txt").write_text("stir\n" * 39)  # 40 rows
    with import_made(source, tmp_path / "bank", stride=1.0, fps=15.0) as store:
        assert store.labels == ["pour", "pour", "stir"]
        assert store.rows.tolist() == [5, 1, 39]
        assert store.sources[0]["row_labels"] == [["pour", 5]]
        np.testing.assert_array_equal(store["s3"], values_of(2)[:39])
    assert "2 of 3 videos have different numbers of features and classes" in capsys.readouterr().out


def test_a_corrected_class_makes_another_store(tmp_path):
    source = foreign_mstcn(tmp_path / "gtea")
    import_made(source, tmp_path / "bank").close()
    (source / "groundTruth" / "s2.txt").write_text("stir\n")
    options = ImportOptions(file=str(source), bank=str(tmp_path / "bank"))
    assert import_store(options) == 0
    labels = []
    for path in sorted((tmp_path / "bank" / "stores").glob("*.h5")):
        with Store.open(path) as store:
            labels.append(store.sources[1]["row_labels"])
    assert sorted(labels) == [[["pour", 1]], [["stir", 1]]]


@pytest.mark.parametrize("runs", [[1], 7, [["pour", "2"]], [["pour", -1]]])
def test_classes_of_rows_in_another_form_are_one_line(tmp_path, runs):
    videos = [StoredVideo("v", "fight", "", ("train", ""), {"bytes": 1, "row_labels": runs})]
    with pytest.raises(InputError, match="row_labels of a video must be lists"):
        export_made(made_store(tmp_path, videos=videos), format="mstcn")
