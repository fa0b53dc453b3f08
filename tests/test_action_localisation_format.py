"""Export for OpenTAD, ActionFormer and TriDet, and import of their folders. The readers below follow the
tools' own code: ActionFormer, libs/datasets/anet.py and thumos14.py, and libs/modeling/meta_archs.py;
OpenTAD, opentad/datasets/thumos.py, base/padding_dataset.py and transforms/loading.py."""

import json
import re
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
from reelbank.heads.training.planning.parts import used_videos

CLASSES = ("walk", "run", "jump")  # nobody walks
DATASET = DatasetDescription("made", CLASSES, ("1",))
RATES = (25.0, 30.0, 25.0)
ROWS = (5, 1, 8)
VIDEOS = [
    StoredVideo("a/one", "run", "", ("train",), {"bytes": 1, "fps": 25.0, "frames": 40}),
    StoredVideo("a/two", "jump", "", ("test",), {"bytes": 1, "fps": 30.0, "duration_seconds": 0.9}),
    StoredVideo("b/three", "jump", "", ("validation",), {"bytes": 1, "fps": 25.0}),
]


def values_of(number: int) -> np.ndarray:
    """(K, 6) float32, exact in float16."""
    return (number + np.arange(ROWS[number] * 6).reshape(-1, 6) / 8).astype(np.float32)


def times_of(number: int) -> np.ndarray:
    """Clips of 16 frames every 4 frames: the centre between the first and the last frame."""
    return (np.arange(ROWS[number]) * 4 + 7.5) / RATES[number]


def made_store(
    folder: Path, times=times_of, videos=VIDEOS, dataset=DATASET, failed_id="b/broken"
) -> Path:
    with StoreWriter(folder / "stores" / "made.h5", {"stream": "rgb"}, dataset) as writer:
        for number, video in enumerate(videos):
            writer.add(video, values_of(number), times(number))
        failed = StoredVideo(failed_id, "run", "", ("train",) * len(dataset.splits))
        writer.fail(failed, "damaged")
        assert writer.finish([*videos, failed])
    return folder


def export_made(folder: Path, to="out", **options) -> Path:
    options = {"format": "opentad", **options}
    assert export(ExportOptions(to=f"{folder}/{to}", bank=str(folder), **options)) == 0
    return folder / to


def import_made(path: Path, bank: Path, **options) -> Store:
    assert import_store(ImportOptions(file=str(path), bank=str(bank), **options)) == 0
    return Store.open(find_store(bank))


def setting(folder: Path, key: str) -> str:
    """A value of the snippet for ActionFormer, which is YAML in flow style."""
    text = (folder / "actionformer.yaml").read_text()
    (value,) = re.findall(rf"^  {key}: (.*),$", text, re.MULTILINE)
    return str(value)


def read_as_actionformer(folder: Path, subset: str) -> dict[str, dict]:
    """The items of its data set: features (C, T), segments in units of features, labels, fps."""
    stride, frames = float(setting(folder, "feat_stride")), float(setting(folder, "num_frames"))
    database = json.loads(Path(json.loads(setting(folder, "json_file"))).read_text())["database"]
    label_dict = {}
    for value in database.values():
        for act in value["annotations"]:
            label_dict[act["label"]] = act["label_id"]
    assert len(label_dict) == int(setting(folder, "num_classes"))
    items = {}
    for key, value in database.items():
        if value["subset"].lower() not in (subset,):
            continue
        default_fps = setting(folder, "default_fps")
        fps = value["fps"] if default_fps == "~" else float(default_fps)
        feat_folder = Path(json.loads(setting(folder, "feat_folder")))
        feats = np.load(feat_folder / f"{key}.npy").astype(np.float32)
        segments = np.array([act["segment"] for act in value["annotations"]], np.float32)
        items[key] = {
            "feats": np.ascontiguousarray(feats.transpose()),
            "segments": (segments * fps - 0.5 * frames) / stride,
            "labels": [label_dict[act["label"]] for act in value["annotations"]],
            "centres": (np.arange(len(feats)) * stride + 0.5 * frames) / fps,
            "duration": value["duration"],
        }
        assert feats.shape[1] == int(setting(folder, "input_dim"))
    return items


def read_as_opentad(folder: Path, subset_name: str) -> dict[str, dict]:
    """The items of its ThumosPaddingDataset with this subset."""
    config: dict = {}
    exec((folder / "opentad.py").read_text(), config)
    database = json.loads(Path(config["annotation_path"]).read_text())["database"]
    blocked = Path(config["block_list"]).read_text().splitlines()
    class_map = Path(config["class_map"]).read_text(encoding="utf8").splitlines()
    offset, stride = int(config["offset_frames"]), int(config["feature_stride"])
    items = {}
    for name, info in database.items():
        if name in blocked or info["subset"] not in subset_name:
            continue
        scale = info["frame"] / info["duration"]
        segments = [
            [int(each / info["duration"] * info["frame"]) for each in anno["segment"]]
            for anno in info["annotations"]
        ]
        feats = np.load(config["data_path"] + f"{name}.npy").astype(np.float32)
        items[name] = {
            "feats": feats,
            "segments": (np.array(segments, np.float32) - offset) / stride,
            "labels": [class_map.index(anno["label"]) for anno in info["annotations"]],
            "centres": (np.arange(len(feats)) * stride + offset) / scale,
        }
    return items


def test_actionformer_reads_features_at_the_times_of_the_store(tmp_path, capsys):
    folder = export_made(made_store(tmp_path))
    shown = capsys.readouterr().out
    assert "stride 4 frames, offset 7.5 frames (num_frames 15), the frame rate of each" in shown
    assert "each video is one action of its class" in shown
    read = {
        **read_as_actionformer(folder, "training"),
        **read_as_actionformer(folder, "testing"),
        **read_as_actionformer(folder, "validation"),
    }
    assert list(read) == ["one", "two", "three"]
    for number, (name, label) in enumerate(zip(read, [0, 1, 1], strict=True)):
        item = read[name]
        assert item["feats"].dtype == np.float32 and item["labels"] == [label]
        np.testing.assert_array_equal(item["feats"], values_of(number).T)
        np.testing.assert_allclose(item["centres"], times_of(number), atol=1e-12)
    # 40 frames at 25 fps: from 0 to 1.6 s, which is feature (1.6 * 25 - 7.5) / 4
    np.testing.assert_allclose(read["one"]["segments"], [[-1.875, 8.125]])
    assert [item["duration"] for item in read.values()][:2] == [1.6, 0.9]
    # without a recorded length, the video ends with the last clip: half a clip after its centre
    assert read["three"]["duration"] == pytest.approx((7 * 4 + 15) / 25)


def test_opentad_reads_the_same_up_to_its_whole_frames(tmp_path):
    folder = export_made(made_store(tmp_path))
    (name, item), *others = read_as_opentad(folder, "training").items()
    assert name == "one" and not others and item["labels"] == [0]
    np.testing.assert_array_equal(item["feats"], values_of(0))
    assert np.abs(item["centres"] - times_of(0)).max() <= 0.5 / 25 + 1e-9
    np.testing.assert_allclose(item["segments"], [[(0 - 7) / 4, (40 - 7) / 4]])
    assert np.load(folder / "features" / "one.npy").dtype == np.float32
    assert (folder / "features" / "missing_files.txt").read_text() == "broken\n"
    assert (folder / "category_idx.txt").read_text() == "run\njump\n"


def test_an_export_is_imported_again(tmp_path):
    folder = export_made(made_store(tmp_path))
    with import_made(folder, tmp_path / "bank") as store:
        assert store.dataset == DATASET and store.recipe["times"] == "timestamps"
        assert store.video_ids == [video.id for video in VIDEOS]
        for number, video in enumerate(VIDEOS):
            values, times = store.features(video.id)
            np.testing.assert_array_equal(values, values_of(number))
            np.testing.assert_array_equal(times, times_of(number))
            assert (store.labels[number], tuple(store.parts[number])) == (video.label, video.parts)
            assert store.sources[number]["fps"] == RATES[number]


ANNOTATIONS = {
    "one": {
        "subset": "Training",
        "duration": 1.6,
        "fps": 25,
        "annotations": [
            {"label": "Diving", "segment": [0.2, 0.8], "label_id": 1},
            {"label": "Billiards", "segment": [0.5, 1.5], "label_id": 0},
        ],
    },
    "gone": {
        "subset": "Training",
        "duration": 2.0,
        "annotations": [{"label": "Diving", "segment": [0, 1], "label_id": 1}],
    },
    "two": {
        "subset": "Test",
        "duration": 0.9,
        "frame": 27,
        "annotations": [{"label": "Diving", "segment": [0, 0.3], "label_id": 1}],
    },
}


def written_annotations(folder: Path, database=None) -> str:
    path = folder / "thumos.json"
    path.write_text(json.dumps({"database": ANNOTATIONS if database is None else database}))
    return str(path)


def test_annotations_of_untrimmed_videos_are_taken_from_a_file(tmp_path, capsys):
    annotations = written_annotations(tmp_path)
    folder = export_made(made_store(tmp_path), annotations=annotations)
    shown = capsys.readouterr().out
    assert "left out 1 video that ANNOTATIONS does not name: b/three" in shown
    assert f"wrote 2 videos to {folder}\n" in shown and len(list(folder.rglob("*.npy"))) == 2
    assert (folder / "features" / "missing_files.txt").read_text() == "gone\n"
    (item,) = read_as_opentad(folder, "Training").values()
    assert item["labels"] == [1, 0]
    np.testing.assert_allclose(
        item["segments"], [[(5 - 7) / 4, (20 - 7) / 4], [(12 - 7) / 4, (37 - 7) / 4]]
    )
    (item,) = read_as_actionformer(folder, "test").values()
    np.testing.assert_allclose(item["segments"], [[-7.5 / 4, (9 - 7.5) / 4]], atol=1e-6)
    np.testing.assert_allclose(item["centres"], times_of(1))


def subset_setting(folder: Path, key: str) -> str:
    """The only subset of train_split or val_split."""
    text = (folder / "actionformer.yaml").read_text()
    (value,) = re.findall(rf"^{key}: \[(.*)\]$", text, re.MULTILINE)
    return str(value)


@pytest.mark.parametrize(
    ("subsets", "train", "held_out", "notes"),
    [
        (("Training", "Validation"), "training", "validation", 0),
        (("Validation", "Test"), "validation", "test", 0),  # THUMOS14
        (("train", "Testing"), "train", "testing", 0),
        (("Test", "Test"), "training", "test", 1),
        (("Training", "x"), "training", "validation", 1),
    ],
)
def test_actionformer_trains_on_subsets_that_occur(
    tmp_path, capsys, subsets, train, held_out, notes
):
    database = {
        name: {**ANNOTATIONS[name], "subset": subset}
        for name, subset in zip(("one", "two"), subsets, strict=True)
    }
    annotations = written_annotations(tmp_path, database)
    folder = export_made(made_store(tmp_path), annotations=annotations)
    assert subset_setting(folder, "train_split") == train
    assert subset_setting(folder, "val_split") == held_out
    assert capsys.readouterr().out.count("in actionformer.yaml: the subsets are") == notes
    for subset, name in ((train, "one"), (held_out, "two")):
        if not notes:
            assert list(read_as_actionformer(folder, subset)) == [name]


def test_videos_without_features_are_not_in_the_annotations(tmp_path, capsys):
    """ActionFormer opens the features of all, and reads the duration of all."""
    database = {
        **ANNOTATIONS,
        "one": {key: ANNOTATIONS["one"][key] for key in ("subset", "annotations")},
        "gone": {
            "subset": "Training",
            "annotations": [{"label": "Archery", "segment": [0, 1], "label_id": 7}],
        },
    }
    annotations = written_annotations(tmp_path, database)
    folder = export_made(made_store(tmp_path), annotations=annotations)
    (item,) = read_as_actionformer(folder, "training").values()
    assert item["duration"] == 1.6 and item["labels"] == [1, 0]
    assert (folder / "features" / "missing_files.txt").read_text() == "gone\n"
    assert (folder / "category_idx.txt").read_text() == "Billiards\nDiving\n"
    assert "without an action in a video with features: Archery" in capsys.readouterr().out


def test_a_missing_file_never_has_the_name_of_one_that_exists(tmp_path):
    folder = export_made(made_store(tmp_path, failed_id="b/one"))
    assert (folder / "features" / "missing_files.txt").read_text() == "b__one\n"
    assert list(read_as_opentad(folder, "training")) == ["a__one"]


def test_names_of_annotations_with_folders_become_names_of_files(tmp_path, capsys):
    database = {f"{part}/{name}": ANNOTATIONS[name] for part, name in (("a", "one"), ("a", "two"))}
    database["c/one"] = ANNOTATIONS["gone"]
    annotations = written_annotations(tmp_path, database)
    folder = export_made(made_store(tmp_path), annotations=annotations)
    assert "or differ only in case: a/one is a__one" in capsys.readouterr().out
    (item,) = read_as_actionformer(folder, "training").values()
    np.testing.assert_array_equal(item["feats"], values_of(0).T)
    assert list(read_as_opentad(folder, "Test")) == ["a__two"]
    assert (folder / "features" / "missing_files.txt").read_text() == "c__one\n"


def test_a_folder_of_these_tools_is_imported_with_times_and_labels(tmp_path):
    (tmp_path / "i3d").mkdir()
    for number, name in enumerate(("one", "v_two")):
        np.save(tmp_path / "i3d" / f"{name}.npy", values_of(number))
    options = {"annotations": written_annotations(tmp_path), "stride": 4.0, "offset": 8.0}
    with import_made(tmp_path / "i3d", tmp_path / "bank", **options) as store:
        assert store.video_ids == ["one", "two"] and store.dataset.multilabel
        assert store.dataset.classes == ("Billiards", "Diving")
        assert store.labels == ["Billiards;Diving", "Diving"]
        assert store.parts == [["train"], ["test"]]
        np.testing.assert_allclose(store.times_seconds("one"), [8 / 25, 12 / 25, 0.64, 0.8, 0.96])
        np.testing.assert_allclose(store.times_seconds("two"), [8 / 30])  # 27 frames in 0.9 s
        assert store.recipe["times"] == "timestamps"
        bank = store.path.parent.parent
    # the annotations are kept, so they are exported again
    folder = tmp_path / "again"
    assert export(ExportOptions(to=str(folder), bank=str(bank), format="opentad")) == 0
    np.testing.assert_allclose(
        read_as_actionformer(folder, "training")["one"]["segments"],
        [[(5 - 8) / 4, (20 - 8) / 4], [(12.5 - 8) / 4, (37.5 - 8) / 4]],
        rtol=1e-6,
    )


def test_fps_replaces_the_rates_of_the_annotations(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "one.npy", values_of(0))
    options = {"annotations": written_annotations(tmp_path), "stride": 4.0, "fps": 10.0}
    with import_made(tmp_path / "in", tmp_path / "bank", **options) as store:
        np.testing.assert_allclose(store.times_seconds("one"), [0, 0.4, 0.8, 1.2, 1.6])


def equal_steps(number: int) -> np.ndarray:
    return np.arange(ROWS[number]) * 0.5 + 0.25


def test_rows_at_equal_times_get_a_grid_of_30_frames_a_second(tmp_path, capsys):
    """With STRIDE=0.5s, a step is 12.5 or 15 frames of the files."""
    folder = export_made(made_store(tmp_path, equal_steps))
    assert "stride 15 frames, offset 7.5 frames (num_frames 15), 30 fps" in capsys.readouterr().out
    centres = read_as_actionformer(folder, "validation")["three"]["centres"]
    np.testing.assert_allclose(centres, equal_steps(2))


@pytest.mark.parametrize(
    "times",
    [
        lambda number: times_of(number) ** 2,
        lambda number: times_of(number) + number,  # not from the beginning
        lambda number: times_of(number) * (1 + number),
        lambda number: np.zeros(ROWS[number]),
    ],
)
def test_rows_that_are_not_on_a_grid_are_refused(tmp_path, times):
    made_store(tmp_path, times)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"made.h5: the (rows must be|format needs).*T=0"):
        export_made(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_parts_of_files_and_rows_that_are_not_vectors_are_refused(tmp_path):
    cut = [StoredVideo("a/run-1", "run", "", ("train",), {"bytes": 1, "span_seconds": [1, 2]})]
    made_store(tmp_path / "cut", videos=cut)
    with pytest.raises(InputError, match=r"a/run-1 is a part of a file.*ANNOTATIONS=<JSON file>"):
        export_made(tmp_path / "cut")
    with StoreWriter(tmp_path / "stores" / "made.h5", {"stream": "rgb"}, DATASET) as writer:
        writer.add(VIDEOS[0], np.ones((5, 2, 3)), times_of(0))
        assert writer.finish([VIDEOS[0]])
    with pytest.raises(InputError, match=r"needs rows that are vectors \(got \(2, 3\)\)"):
        export_made(tmp_path)


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ({}, "must be a JSON object with the key 'database'"),
        ({"one": []}, "video one: expected an object"),
        (
            {"one": {"annotations": [{"label": "a", "segment": [1]}]}},
            "expected annotations such as",
        ),
        ({"one": {"annotations": [{"label": "a;b", "segment": [1, 2]}]}}, "expected annotations"),
        ({"one": {"annotations": [{"label": "a", "segment": [-1, 1]}]}}, "expected annotations"),
        ({"one": {"annotations": [{"label": "a", "segment": [0, 10**400]}]}}, "expected annotat"),
        ({"one": {"duration": 10**400}}, "must be finite numbers"),
        ({"one": {"duration": 1e-300, "frame": 1e300}}, "larger than those of any video"),
        ({"one": {"duration": -1}}, "duration, frame and fps must be finite numbers"),
        (
            {n: {"annotations": [{"label": "a", "segment": [0, 1], "label_id": n}]} for n in "01"},
            "label_id of a must be the same whole number",
        ),
        ({"x": {"subset": "test"}}, "it names no video of the store"),
    ],
)
def test_malformed_annotations_are_refused(tmp_path, database, message):
    annotations = written_annotations(tmp_path, database)
    with pytest.raises(InputError, match=message):
        export_made(made_store(tmp_path), annotations=annotations)


def test_options_that_do_not_fit_together_are_refused(tmp_path):
    folder = export_made(made_store(tmp_path), to="npz", format="npz")
    annotations = written_annotations(tmp_path)
    for options, message in (
        ({"stride": 4.0}, "contains the times of the rows; leave STRIDE out"),
        ({"fps": 25.0}, "STRIDE is missing"),
        ({"annotations": annotations, "csv": "x.csv"}, "leave one out"),
        (
            {"annotations": annotations},
            "1 of the 3 videos are missing, such as b/three; add them, with an empty list 'annotations' "
            "if they contain no action, or give a FILE that contains only listed videos",
        ),
        ({"annotations": "none.json"}, "none.json: cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            import_made(folder, tmp_path / "bank", **options)
    with pytest.raises(InputError, match="ANNOTATIONS is used only with FORMAT=opentad"):
        export_made(tmp_path, to="x", format="npy", annotations=annotations)


def test_a_video_without_a_known_rate_fails(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "gone.npy", values_of(0))
    np.save(tmp_path / "in" / "one.npy", values_of(0))
    options = ImportOptions(
        file=str(tmp_path / "in"),
        bank=str(tmp_path / "bank"),
        annotations=written_annotations(tmp_path),
        stride=4.0,
    )
    assert import_store(options) == 1
    assert "failed: gone: its frame rate is not known; give FPS=" in capsys.readouterr().out


def test_a_stride_without_any_rate_is_refused_before_a_store_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "gone.npy", values_of(0))
    annotations = written_annotations(tmp_path)
    with pytest.raises(InputError, match=r"^FPS is missing; STRIDE=4 needs it"):
        import_made(tmp_path / "in", tmp_path / "bank", annotations=annotations, stride=4.0)
    assert not (tmp_path / "bank").exists()


def test_other_annotations_make_another_store(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "one.npy", values_of(0))
    for end, fps in ((2.0, 25.0), (3.0, 50.0)):
        action = {"label": "run", "segment": [1.0, end]}
        database = {"one": {"subset": "training", "fps": fps, "annotations": [action]}}
        annotations = written_annotations(tmp_path, database)
        options = ImportOptions(
            file=str(tmp_path / "in"), bank=str(tmp_path), annotations=annotations, stride=4.0
        )
        assert import_store(options) == 0
    stored = []
    for path in (tmp_path / "stores").glob("*.h5"):
        with Store.open(path) as store:
            actions = store.sources[0]["annotations"]
            stored.append((actions, store.times_seconds("one")[1]))
    assert sorted(stored) == [([["run", 1.0, 2.0]], 4 / 25), ([["run", 1.0, 3.0]], 4 / 50)]


@pytest.mark.parametrize("is_import", [True, False])
def test_actions_that_end_before_they_start_are_left_out_and_named(is_import, tmp_path, capsys):
    backwards = {"label": "Sprint", "segment": [1.5, 1.0], "label_id": 2}
    one = ANNOTATIONS["one"]
    database = {**ANNOTATIONS, "one": {**one, "annotations": [backwards, *one["annotations"]]}}
    annotations = written_annotations(tmp_path, database)
    if is_import:
        (tmp_path / "in").mkdir()
        np.save(tmp_path / "in" / "one.npy", values_of(0))
        made = {"annotations": annotations, "stride": 4.0}
        with import_made(tmp_path / "in", tmp_path / "bank", **made) as store:
            actions = store.sources[0]["annotations"]
        assert actions == [["Diving", 0.2, 0.8], ["Billiards", 0.5, 1.5]]
    else:
        folder = export_made(made_store(tmp_path), annotations=annotations)
        written = json.loads((folder / "annotations.json").read_text())["database"]["one"]
        assert written["annotations"] == one["annotations"]
    note = "left out 1 action with an end before the start, of one"
    assert f"note: ANNOTATIONS={annotations}: {note}" in capsys.readouterr().err


def import_annotated(folder: Path, database: dict[str, dict], **options) -> Store:
    """Files of five rows for the videos of a database, imported with it."""
    (folder / "in").mkdir()
    for name in database:
        np.save(folder / "in" / f"{name}.npy", values_of(0))
    options["annotations"] = written_annotations(folder, database)
    return import_made(folder / "in", folder / "bank", **options)


@pytest.mark.parametrize("multilabel", [False, True])
def test_videos_without_an_action_are_named_with_what_train_does(multilabel, tmp_path, capsys):
    action = {"label": "run", "segment": [0.0, 1.0]}
    other = {"label": "jump", "segment": [0.5, 0.75]}
    backwards = {"label": "run", "segment": [1.0, 0.5]}
    annotations_of = {
        "full": ("training", [action, other] if multilabel else [action]),
        "backwards": ("training", [backwards]),
        "empty": ("training", []),
        "held": ("validation", [action]),
        "unknown": ("testing", []),
        "unused": ("none", []),
    }
    database = {
        name: {"subset": subset, "annotations": annotations}
        for name, (subset, annotations) in annotations_of.items()
    }
    with import_annotated(tmp_path, database, stride=4.0, fps=25.0) as store:
        assert store.dataset.multilabel == multilabel
        train = used_videos(store, store.video_ids, store.dataset.classes, "1")
    assert list(train) == ["full", "held", *(["unknown"] if multilabel else [])]
    effect = "counts as a negative for every class" if multilabel else "is not used for evaluation"
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: 2 training videos have no usable action, so they have no label and are not used for training: "
        "backwards, empty",
        f"note: 1 test video has no usable action, so it has no label and {effect}: unknown",
    ]


@pytest.mark.parametrize(
    ("fps", "remedy"), [(0.0, "give STRIDE= and FPS= to"), (25.0, "give STRIDE= to")]
)
def test_actions_cannot_be_matched_with_rows_without_times(fps, remedy, tmp_path, capsys):
    action = {"label": "run", "segment": [0.0, 1.0]}
    database = {
        "one": {"subset": "training", "annotations": [action]} | ({"fps": fps} if fps else {})
    }
    with import_annotated(tmp_path, database) as store:
        assert store.recipe["times"] == "row numbers"
        bank = store.path.parent.parent
    note = "the times of the rows are unknown, so the actions of ANNOTATIONS cannot be matched with rows"
    assert f"note: {note}; {remedy} compute the times\n" in capsys.readouterr().out
    out = export_made(
        bank, format="npz"
    )  # its times are row numbers too, and STRIDE is not allowed
    capsys.readouterr()
    import_made(
        out, tmp_path / "again", annotations=written_annotations(tmp_path, database)
    ).close()
    assert f"note: {note}; import the files that were exported to {out}" in capsys.readouterr().out


def test_two_files_of_one_video_are_refused(tmp_path):
    for name in ("p/one", "q/v_one"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        np.save(tmp_path / "in" / f"{name}.npy", values_of(0))
    annotations = written_annotations(tmp_path)
    with pytest.raises(InputError, match="but p/one and q/v_one are both the video one"):
        import_made(tmp_path / "in", tmp_path / "bank", annotations=annotations)


@pytest.mark.parametrize("format_name", ["npz", "hdf5", "parquet"])
def test_row_numbers_are_not_taken_for_times_after_an_export(tmp_path, format_name):
    if format_name == "parquet":
        pytest.importorskip("pyarrow")
    recipe = {"stream": "rgb", "extractor": "x", "times": "row numbers"}
    # An export of an earlier version called them timestamps.
    nested = {"stream": "rgb", "extractor": "x", "times": "timestamps", "imported": {}}
    nested["imported"] = {"recipe": recipe}
    for number, own in enumerate((recipe, nested)):
        folder = tmp_path / str(number)
        videos = [StoredVideo("one", "run", "", ("train",), {"bytes": 1, "fps": 25.0})]
        with StoreWriter(folder / "stores" / "made.h5", own, DATASET) as writer:
            writer.add(videos[0], values_of(0), np.arange(5.0))
            writer.finish(videos)
        endings = {"hdf5": "out.h5", "parquet": "out.parquet"}
        out = export_made(folder, to=endings.get(format_name, "out"), format=format_name)
        with import_made(out, folder / "bank") as store:
            assert store.recipe["times"] == "row numbers"


def test_times_that_an_import_computed_from_a_stride_are_times(tmp_path):
    recipe = {"stream": "rgb", "extractor": "x", "times": "timestamps"}
    recipe["imported"] = {"stride": 4.0, "recipe": {**recipe, "times": "row numbers"}}
    videos = [StoredVideo("one", "run", "", ("train",), {"bytes": 1, "fps": 25.0})]
    with StoreWriter(tmp_path / "stores" / "made.h5", recipe, DATASET) as writer:
        writer.add(videos[0], values_of(0), np.arange(5.0) * 4 / 25)
        writer.finish(videos)
    out = export_made(tmp_path, format="opentad")
    assert "feat_stride: 4," in (out / "actionformer.yaml").read_text()
