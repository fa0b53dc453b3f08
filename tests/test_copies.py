"""Test videos that are copies of training videos, or share a group with them, are found and
reported by `train` and in the report."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch
from conftest import testdata, writable_copy
from real_weights import LITE0, LITE0_WEIGHTS

from reelbank.data.datasets.registry import load_dataset
from reelbank.data.store.copies import NearCopies, near_copies, same_files
from reelbank.data.store.records import DatasetDescription, DatasetListing, StoredVideo
from reelbank.data.store.videos import StoredVideos
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import fingerprint
from reelbank.extract.networks.build import Network, build
from reelbank.extract.pipeline.crops import resize, take_crops
from reelbank.fusion.evaluation.evaluate import evaluate_runs
from reelbank.fusion.evaluation.options import EvaluateOptions
from reelbank.fusion.fuse import make_fused
from reelbank.fusion.options import FuseOptions
from reelbank.fusion.report.options import ReportOptions
from reelbank.fusion.report.page import write_report
from reelbank.heads.runs.folder import all_runs
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.leaks import copied_videos
from reelbank.heads.training.train import train

torch.set_num_threads(1)
CLASSES = ("jump", "run")
DIM = 24
OPTIONS = TrainOptions(head="meanpool", lr=0.01, epochs=1, patience=0, refit=False, device="cpu")


def digest(number: int) -> dict[str, object]:
    return {"bytes": 1000 + number, "digest": f"sampled:{number:032x}"}


def made_videos() -> list[StoredVideo]:
    """60 videos of 15 groups; every fifth group is tested."""
    videos = []
    for number in range(60):
        label, group = CLASSES[number % 2], number // 4
        name = f"{label}/film{group}_{number:03}"
        part = "test" if group % 5 == 0 else "train"
        videos.append(StoredVideo(name, label, f"film{group}", (part,), digest(number)))
    return videos


def rows_of(number: int) -> np.ndarray:
    """(3, DIM) float32: a row and small differences from it."""
    rng = np.random.default_rng(number)
    return (rng.normal(size=DIM) + 0.05 * rng.normal(size=(3, DIM))).astype(np.float32)


def write_store(
    bank: Path, videos: Sequence[StoredVideo], rows: Sequence[np.ndarray], views: bool = False
) -> None:
    """views: with three rows of an augmented view, which have nothing in common with the video's."""
    description = DatasetDescription("made", CLASSES, ("1",))
    recipe = {"stream": "rgb", "extractor": "torchvision:resnet18"}
    augmented = np.random.default_rng(0)
    with StoreWriter(bank / "stores" / "made.h5", recipe, description) as writer:
        for video, values in zip(videos, rows, strict=True):
            if views:
                both = np.concatenate([values, 9 * augmented.normal(size=(3, DIM))])
                writer.add(video, both, np.tile(np.arange(3) / 2, 2), np.repeat([0, 1], 3))
            else:
                writer.add(video, values, np.arange(3) / 2)
        writer.finish(videos)


def test_copies_of_test_videos_are_noted_by_train_and_everywhere_after(tmp_path, capsys):
    """Two files of the same bytes, and one video whose features are those of a training video but
    for noise. Other videos of the same film in training are no copies."""
    videos, rows = made_videos(), [rows_of(number) for number in range(60)]
    tests = [number for number, video in enumerate(videos) if video.parts == ("test",)]
    videos[tests[0]] = replace(videos[tests[0]], source=digest(10))  # as film2_010, in training
    rows[tests[1]] = rows_of(30) + 0.01
    write_store(tmp_path, videos, rows)
    options = replace(OPTIONS, bank=str(tmp_path))
    assert train(options) == 0
    said = capsys.readouterr().out
    same = f"the test part contains 1 video with the same bytes as a training video: {videos[tests[0]].id} = {videos[10].id}"
    near = (
        "the test part contains 1 video with nearly the same features as a validation video "
        "(cosine similarity above 0."
    )
    pair = f": {videos[tests[1]].id} ~ {videos[30].id}"
    assert f"note: split 1: {same}" in said
    assert f"note: split 1: {near}" in said and pair in said
    assert "group" not in said
    (run,) = all_runs(tmp_path)
    assert run.metrics.leaks[0] == f"split 1: {same}" and len(run.metrics.leaks) == 2
    train(options)  # finished: nothing is trained, but it is said again
    assert f"note: split 1: {same}" in capsys.readouterr().out
    train(replace(options, lr=0.02, read_from="disk"))
    assert f"note: split 1: {near}" in capsys.readouterr().out
    first, second = all_runs(tmp_path)
    fused = make_fused(FuseOptions(bank=str(tmp_path), runs=(first.path.name, second.path.name)))
    name = fused.folders[0].name
    page = write_report(ReportOptions(bank=str(tmp_path), runs=(name,), figures=False)).path
    assert f"Note: split 1: {same}" in page.read_text()
    notes = evaluate_runs(EvaluateOptions(bank=str(tmp_path), runs=(first.path.name,))).notes
    assert f"split 1: {same}" in notes


@pytest.mark.parametrize("read_from", ["memory", "disk"])
def test_augmented_views_do_not_hide_a_copy(tmp_path, capsys, read_from):
    videos, rows = made_videos(), [rows_of(number) for number in range(60)]
    rows[0] = rows_of(30) + 0.01
    write_store(tmp_path, videos, rows, views=True)
    train(replace(OPTIONS, bank=str(tmp_path), read_from=read_from))
    assert f": {videos[0].id} ~ {videos[30].id}" in capsys.readouterr().out


def test_without_copies_nothing_is_noted(tmp_path, capsys):
    write_store(tmp_path, made_videos(), [rows_of(number) for number in range(60)])
    train(replace(OPTIONS, bank=str(tmp_path)))
    assert "note" not in capsys.readouterr().out
    assert all_runs(tmp_path)[0].metrics.leaks == ()


def test_copies_of_training_videos_in_the_validation_part_are_noted(tmp_path, capsys):
    """A file with the bytes of another, and one with nearly its features; both in the validation part."""
    videos, rows = made_videos(), [rows_of(number) for number in range(60)]
    for number in range(20, 40):
        videos[number] = replace(videos[number], parts=("validation",))
    videos[20] = replace(videos[20], source=digest(50))
    rows[21] = rows_of(51) + 0.01
    rows[0] = rows_of(30) + 0.01  # in test, of a validation video
    write_store(tmp_path, videos, rows)
    train(replace(OPTIONS, bank=str(tmp_path)))
    said = capsys.readouterr().out
    assert (
        "note: split 1: the validation part contains 1 video with the same bytes as a training video: "
        f"{videos[20].id} = {videos[50].id}" in said
    )
    assert (
        "the validation part contains 1 video with nearly the same features as a training" in said
    )
    assert f": {videos[21].id} ~ {videos[51].id}" in said
    assert "the test part contains 1 video with nearly the same features as a validation" in said
    assert f": {videos[0].id} ~ {videos[30].id}" in said


def test_a_span_of_a_file_is_no_copy_of_another_span():
    sources = {"whole": digest(1), "again": digest(1), "old": {"bytes": 1001}}
    for start in (0.0, 2.0):
        sources[f"from {start}"] = {**digest(1), "span_seconds": [start, start + 2]}
    names = list(sources)
    tests, others = (
        [names.index(name) for name in part]
        for part in (["again", "old", "from 2.0"], ["whole", "from 0.0"])
    )
    found = same_files(names, list(sources.values()), tests, others)
    assert [(copy.video, copy.original) for copy in found] == [("again", "whole")]


def near(means: np.ndarray, groups: Sequence[str], tests: int) -> NearCopies:
    ids = [f"v{number}" for number in range(len(means))]
    train = range(len(means) - tests)
    return near_copies(ids, means, groups, train=train, test=range(len(means) - tests, len(means)))


def test_copies_in_training_do_not_hide_copies_of_test_videos():
    """The threshold is set on training videos of different groups; a twentieth of them are copies
    of each other."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(220, 40)).astype(np.float32)
    means[10:20] = means[30:40] + 0.01 * rng.normal(size=(10, 40))
    means[210] = means[50] + 0.1 * rng.normal(size=40)
    found = near(means, [f"g{number}" for number in range(220)], tests=20)
    assert [(copy.video, copy.original) for copy in found.copies] == [("v210", "v50")]
    assert found.threshold == 0.9 < found.copies[0].cosine


def test_videos_of_the_same_group_do_not_raise_the_threshold():
    """Each training video has four others of its film, nearly the same."""
    rng = np.random.default_rng(1)
    films = rng.normal(size=(50, 40)).repeat(4, 0)
    means = (films + 0.1 * rng.normal(size=films.shape)).astype(np.float32)
    means = np.concatenate([means, means[:1] + 0.1, rng.normal(size=(9, 40))]).astype(np.float32)
    groups = [f"g{number // 4}" for number in range(200)] + [""] * 10
    assert [copy.video for copy in near(means, groups, tests=10).copies] == ["v200"]
    # with unknown groups, the tenth nearest video is of another film
    unknown = near(means, [""] * 210, tests=10)
    assert [copy.video for copy in unknown.copies] == ["v200"] and unknown.threshold < 0.95


def test_too_few_videos_give_no_threshold():
    means = np.ones((12, 4), np.float32)
    found = near(means, [""] * 12, tests=2)
    assert np.isnan(found.threshold) and found.copies == []
    one_film = near(np.random.default_rng(0).normal(size=(60, 4)), ["film"] * 60, tests=10)
    assert np.isnan(one_film.threshold) and one_film.copies == []


def test_copies_in_ucf101_are_found_in_real_features():
    """Some groups of UCF-101 show the same film: of split 1's test part, Basketball's groups 3 and
    7 and a clip of BalanceBeam are in training under other numbers."""
    with h5py.File(testdata("features", "ucf101_vgg16_fc6.h5")) as file:
        means = file["features"][:].astype(np.float32).mean(1)
        names = [name.decode() for name in file["name"][:]]
        tested = file["is_test_split123"][:, 0] > 0
    groups = [name.rpartition("_")[0] for name in names]
    found = near_copies(
        names, means, groups, train=np.flatnonzero(~tested), test=np.flatnonzero(tested)
    )
    pairs = {copy.video: copy.original for copy in found.copies}
    assert pairs["v_Basketball_g03_c01"] == "v_Basketball_g23_c01"
    assert {name.rpartition("_")[0] for name in pairs} == {
        "v_Basketball_g03",
        "v_Basketball_g07",
        "v_BalanceBeam_g01",
    }
    assert 0.94 < found.threshold < 0.96
    assert len(pairs) == 10


@torch.inference_mode()
def test_a_real_clip_that_was_encoded_again_is_found(tmp_path):
    """A clip of each of 22 classes in training; in test the same file under another name, a copy
    that was encoded again, and three other clips."""
    clips = sorted(testdata("clips", "ucf101").glob("*/*.avi"))
    first_of = {clip.parent.name: clip for clip in reversed(clips)}
    training = sorted(first_of.values())[:22]
    others = [clip for clip in clips if clip.stem[:-4] not in {one.stem[:-4] for one in training}]
    again = encoded_again(first_of["Diving"], tmp_path / "again.mp4")
    copied = writable_copy(first_of["Archery"], tmp_path / "copied.avi")
    tested = [again, copied, *others[::60]]
    videos = [StoredVideo(clip.stem, source=facts_of(clip)) for clip in training + tested]
    network = build(LITE0, weights=str(LITE0_WEIGHTS))
    means = np.stack([mean_features(network, clip) for clip in training + tested])
    ids = {"train": [clip.stem for clip in training], "test": [clip.stem for clip in tested]}
    columns = zip(
        *((each.id, each.label, each.group, each.parts, each.source) for each in videos),
        strict=True,
    )
    same, near = copied_videos(
        StoredVideos(*map(list, columns)), means, {**ids, "validation": []}, "1"
    )
    assert same.endswith(f": copied = {first_of['Archery'].stem}")
    assert near.endswith(f": again ~ {first_of['Diving'].stem}")


def encoded_again(source: Path, target: Path) -> Path:
    """The first pictures, in another format."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 400_000
        for frame in itertools.islice(old.decode(video=0), 30):
            picture = frame.to_ndarray(format="rgb24")
            new.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        new.mux(stream.encode())
    return target


def facts_of(clip: Path) -> dict[str, object]:
    return fingerprint(clip, "sampled").facts()


def mean_features(network: Network, clip: Path) -> np.ndarray:
    """(1280,) float32 of two pictures, the first and the 25th."""
    with av.open(str(clip)) as container:
        frames = list(itertools.islice(container.decode(video=0), 25))[::24]
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    how = network.preprocessing
    small = resize(torch.from_numpy(pictures).permute(0, 3, 1, 2), how.resize)
    return network.module(take_crops(small, how.crop_px, 1)[:, 0])[0].mean(0).numpy()


def test_groups_that_a_csv_divides_are_noted_by_train_and_in_the_report(tmp_path, capsys):
    """They are guessed from names, and stored as unknown."""
    root, lines = tmp_path / "clips", ["path,label,split"]
    for number in range(40):
        label, film = CLASSES[number % 2], number // 8
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"film{film}_{number:02}.mp4").touch()
        part = "test" if film == 4 or number < 2 else "train"  # film0 lies in both
        lines.append(f"{label}/film{film}_{number:02}.mp4,{label},{part}")
    (root / "list.csv").write_text("\n".join(lines))
    dataset = load_dataset("folder", csv=str(root / "list.csv"))
    recipe = {"stream": "rgb", "extractor": "torchvision:resnet18"}
    bank = tmp_path / "bank"
    with StoreWriter(bank / "stores" / "made.h5", recipe, DatasetDescription.of(dataset)) as writer:
        stored = [
            StoredVideo(video.id, video.label, video.group, video.parts, digest(number))
            for number, video in enumerate(dataset.videos)
        ]
        for number, video in enumerate(stored):
            writer.add(video, rows_of(number), np.arange(3) / 2)
        writer.finish(stored)
    train(replace(OPTIONS, bank=str(bank)))
    line = (
        "split 1: the test part contains 2 videos from groups of related videos that are also in "
        "the training part. Groups (guessed from file names): jump/film0, run/film0"
    )
    assert f"note: {line}" in capsys.readouterr().out
    page = write_report(ReportOptions(bank=str(bank), figures=False)).path
    assert f"Note: {line}" in page.read_text()


def test_recorded_groups_that_a_split_divides_are_noted_too(tmp_path, capsys):
    videos = made_videos()
    videos[0] = replace(videos[0], parts=("train",))
    write_store(tmp_path, videos, [rows_of(number) for number in range(60)])
    train(replace(OPTIONS, bank=str(tmp_path)))
    line = (
        "split 1: the test part contains 3 videos from groups of related videos that are also in "
        "the training part. Groups: film0"
    )
    assert f"note: {line}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "is_drawn", "known", "line"),
    [
        ("folder-x", True, 0, "split 1 was drawn at random, and the groups of 60 of its 60 videos"),
        ("folder-x", True, 60, "split 1 was drawn at random; no group of related videos"),
        ("folder-x", False, 20, "split 1: the groups of 40 of its 60 videos are unknown. If"),
        ("folder-x", False, 60, ""),
        ("ucf101", False, 0, ""),
    ],
)
def test_a_drawn_split_and_unknown_groups_are_noted(
    tmp_path, capsys, dataset, is_drawn, known, line
):
    videos = [
        replace(video, group=video.group if number < known else "")
        for number, video in enumerate(made_videos())
    ]
    description = DatasetDescription(dataset, CLASSES, ("1",))
    listing = DatasetListing("ids", is_drawn)
    path = tmp_path / "stores" / "made.h5"
    with StoreWriter(path, {"stream": "rgb"}, description, listing=listing) as writer:
        for number, video in enumerate(videos):
            writer.add(video, rows_of(number), np.arange(3) / 2)
        writer.finish(videos)
    train(replace(OPTIONS, bank=str(tmp_path)))
    said = capsys.readouterr().out
    if line:
        assert f"note: {line}" in said
    else:
        assert "drawn at random" not in said and "are unknown" not in said
