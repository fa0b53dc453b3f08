"""Predictions from video files equal those through a store, for any kind of run, and unsuitable
videos are reported."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
from conftest import testdata
from made_runs import made_run
from PIL import Image
from tiny_networks import LAYERED

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.options import parse
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores, probabilities
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo, identity
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.frames import decode
from reelbank.data.video.messages import Frames
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.fill import lengths_alone, with_defaults
from reelbank.extract.flow.methods import build_flow
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import plan_streams
from reelbank.fusion.late import fuse
from reelbank.fusion.options import PredictOptions
from reelbank.fusion.predict import predict, predict_videos, predict_with, top
from reelbank.fusion.prediction.named_videos import named_videos
from reelbank.heads.predict import predicted
from reelbank.heads.runs.folder import Run, find_runs

WHOLE = (
    "STREAM=rgb flow audio",
    "EXTRACTOR=torchvision:squeezenet1_1",
    "WEIGHTS=random",
    "FLOW=farneback",
    "T=3",
    "CROPS=1",
)
SIZES = "RESIZE=rgb=32 flow=32", "SIZE=rgb=32 flow=32 audio=32", "CLIP=flow=2"


def encode(path: Path, number: int, frames: int = 30, sound: bool = True) -> Path:
    """A small real video, mpeg4 and PCM in avi: class by class another drift and pitch."""
    rng = np.random.default_rng(number)
    base = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        voice = container.add_stream("pcm_s16le", 16_000, layout="mono") if sound else None
        for step in range(frames):
            moved = np.roll(base, (2 * step, 0) if number % 2 else (0, 2 * step), (0, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())
        if voice:
            tone = np.sin(np.arange(640 * frames) * (0.1 + 0.2 * (number % 2)) + number)
            wave = av.AudioFrame.from_ndarray((8000 * tone).astype(np.int16)[None], "s16", "mono")
            wave.rate = 16_000
            container.mux(voice.encode(wave))
            container.mux(voice.encode())
    return path


class Made(NamedTuple):
    """A bank with runs of every kind by name; of single ones also the paths of the stores they were
    trained on."""

    bank: Path
    videos: Path
    runs: dict[str, Run]
    stores: dict[str, list[Path]]


def command(bank: Path, *words: str) -> list[Run]:
    """Run a command on the bank; the runs that are new."""
    before = {run.path for run in find_runs(bank)}
    assert reelbank.main([*words, f"BANK={bank}"]) in (0, 1)
    return [run for run in find_runs(bank) if run.path not in before]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("predict")
    bank, videos = folder / "bank", folder / "videos"
    for number in range(24):
        encode(
            videos / ("left", "down")[number % 2] / f"clip_g{number // 2:02d}_c01.avi",
            number,
            30 + number % 3,
        )
    command(bank, "extract", "DATASET=folder", f"ROOT={videos}", *WHOLE, *SIZES)
    paths = {path.name.split("-")[3]: path for path in (bank / "stores").glob("*.h5")}
    assert set(paths) == {"rgb", "flow", "audio"}
    learn = ("train", "EPOCHS=3", "VALIDATION=0.3", "SPLIT=1", "DEVICE=cpu")
    runs, stores = {}, {}
    for stream in paths:
        (runs[stream],) = command(bank, *learn, f"STREAM={stream}", "HEAD=meanpool")
        stores[stream] = [paths[stream]]
    (runs["recurrent"],) = command(bank, *learn, "STREAM=rgb", "HEAD=gru", "HIDDEN=8")
    (runs["mid"],) = command(bank, *learn, "STREAM=rgb+flow", "HEAD=gru", "HIDDEN=8")
    stores |= {"recurrent": [paths["rgb"]], "mid": [paths["rgb"], paths["flow"]]}
    embeddings = runs["recurrent"].path / "embeddings.h5"
    (runs["chained"],) = command(bank, *learn, f"STORE={embeddings}", "HEAD=meanpool")
    stores["chained"] = [embeddings]
    names = [runs[stream].path.name for stream in ("rgb", "flow", "audio")]
    (runs["fused"],) = command(bank, "fuse", *names, "HOW=sum", "WEIGHTS=1,2,1.5")
    (runs["searched"],) = command(bank, "fuse", *names[:2], "SEARCH=1")
    (runs["svm"],) = command(bank, "svm", *names)
    (runs["masked"],) = command(bank, "svm", *names, "MISSING=allow")
    return Made(bank, videos, runs, stores)


def of_store(made: Made, name: str) -> Scores:
    """What a run says of its data set's videos: of its stores, or of a joined run its own test
    scores."""
    if name in made.stores:
        return predicted(made.runs[name].path, *made.stores[name])
    return made.runs[name].scores("test")


def close(table: Scores, other: Scores, of: dict[str, str] | None = None) -> bool:
    """Whether `table` holds the probabilities that `other` has of the same videos, to rounding."""
    rows = [other.video_ids.index((of or {}).get(name, name)) for name in table.video_ids]
    return np.allclose(probabilities(table), probabilities(other)[rows], atol=1e-4)


KINDS = (
    "rgb",
    "flow",
    "audio",
    "recurrent",
    "mid",
    "chained",
    "fused",
    "searched",
    "svm",
    "masked",
)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_gets_what_its_store_gets(made: Made, name: str) -> None:
    own = of_store(made, name)
    files = [made.videos / f"{video}.avi" for video in own.video_ids[:2]]
    table = predict(files, made.runs[name].path, bank=made.bank)
    assert len(table.video_ids) == 2 and table.about["failed"] == {}
    whole = {Path(video).name: video for video in own.video_ids[:2]}
    names = {
        one: next((v for n, v in whole.items() if n == one), one.split("videos/")[-1])
        for one in table.video_ids
    }
    assert close(table, own, names)
    assert (table.labels == -1).all() and table.classes == own.classes
    assert (
        np.ptp(probabilities(own)[:, 0]) > 1e-3
    )  # equal probabilities for all videos would make this test pass trivially


def test_a_run_is_found_by_name_and_hash_too(made: Made) -> None:
    file, run = made.videos / "left" / "clip_g00_c01.avi", made.runs["rgb"]
    by_folder = predict(str(file), [run.path], bank="nowhere")
    for word in (run.path.name, run.signature[:8]):
        np.testing.assert_array_equal(predict(file, word, bank=made.bank).logits, by_folder.logits)
    for given in (run, [run]):  # as `train` returns it
        np.testing.assert_array_equal(predict(file, given, bank="nowhere").logits, by_folder.logits)
    assert by_folder.video_ids == ("clip_g00_c01",)
    likely = top(by_folder, 1)["clip_g00_c01"]
    assert likely == [
        (
            by_folder.classes[int(by_folder.logits.argmax())],
            pytest.approx(float(probabilities(by_folder).max())),
        )
    ]
    assert len(top(by_folder)["clip_g00_c01"]) == 2


def test_several_runs_are_fused(made: Made) -> None:
    files = [made.videos / "left" / f"clip_g0{number}_c01.avi" for number in range(2)]
    names = ["rgb", "flow", "audio"]
    single = [predict(files, made.runs[name].path, bank=made.bank) for name in names]
    for how, weights in (("product", ()), ("sum", (1.0, 2.0, 1.5))):
        table = predict(
            files, [made.runs[name].path for name in names], how, weights, bank=made.bank
        )
        np.testing.assert_allclose(table.logits, fuse(single, how, weights).logits, atol=1e-6)
    fused = predict(files, made.runs["fused"].path, bank=made.bank)
    np.testing.assert_allclose(fused.logits, table.logits, atol=1e-6)
    with pytest.raises(InputError, match="WEIGHTS=1 2: give 3 numbers"):
        predict(files, [made.runs[name].path for name in names], "sum", (1, 2), bank=made.bank)
    with pytest.raises(InputError, match="WEIGHTS needs several runs"):
        predict(files, made.runs["rgb"].path, "sum", (1,), bank=made.bank)


def test_a_video_without_sound(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = encode(tmp_path / "silent.avi", 3, sound=False)
    sounding = made.videos / "left" / "clip_g00_c01.avi"
    runs = {name: made.runs[name].path for name in ("audio", "rgb", "flow")}
    table = predict([silent, sounding], list(runs.values()), bank=made.bank)
    assert table.video_ids == ("silent", "clip_g00_c01")  # as they were named, whoever knows which
    assert (
        f"note: {runs['audio'].name} is not used for silent (the file has no sound track)"
        in capsys.readouterr().err
    )
    without = predict(silent, [runs["rgb"], runs["flow"]], bank=made.bank)
    np.testing.assert_allclose(table.logits[0], without.logits[0], atol=1e-6)
    whole = predict(sounding, list(runs.values()), bank=made.bank)
    np.testing.assert_allclose(table.logits[1], whole.logits[0], atol=1e-6)
    with pytest.raises(InputError, match="silent: the file has no sound track"):
        predict(silent, runs["audio"], bank=made.bank)
    alone = predict([silent, sounding], runs["audio"], bank=made.bank)
    assert alone.video_ids == ("clip_g00_c01",) and alone.about["failed"] == {
        "silent": "the file has no sound track"
    }
    assert predict([silent, sounding], made.runs["svm"].path, bank=made.bank).about[
        "failed"
    ].keys() == {"silent"}
    for number, weights in (
        (1, (1.0, 0.0)),
        (0, (0.0, 1.0)),
    ):  # audio, rgb: what has no weight is not asked
        found = predict(
            [silent, sounding], [runs["audio"], runs["rgb"]], "sum", weights, bank=made.bank
        )
        assert found.about["failed"].keys() == ({"silent"} if number else set())
        assert found.video_ids[-1] == "clip_g00_c01"
    capsys.readouterr()
    assert (
        predict([silent, sounding], made.runs["masked"].path, bank=made.bank).about["failed"] == {}
    )
    assert f"{runs['audio'].name} is not used for silent" in capsys.readouterr().err


def run_command(made: Made, *words: str) -> int:
    return predict_videos(parse(PredictOptions, [*words, f"BANK={made.bank}"], "predict"))


def test_one_video_is_a_line_for_each_class(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(made.videos / "left" / "clip_g00_c01.avi")
    assert run_command(made, file, f"RUN={made.runs['rgb'].path}") == 0
    name, *lines = capsys.readouterr().out.splitlines()
    assert name == file and len(lines) == 2
    shares = [float(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.2)
    assert {line.split()[-1] for line in lines} == {"left", "down"}
    run = str(made.runs["rgb"].path)
    prediction = predict_with(PredictOptions(bank=str(made.bank), videos=(file,), run=run))
    assert capsys.readouterr().out == ""
    assert list(prediction.lines()) == [name, *lines]
    (record,) = json.loads(json.dumps(prediction.records(k=1)))
    assert record["video"] == file and record["error"] == ""
    assert [best["name"] for best in record["classes"]] == [lines[0].split()[-1]]


def test_broken_videos_do_not_stop_the_prediction_of_others(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = made.videos / "left" / "clip_g00_c01.avi"
    cut, empty, text = tmp_path / "cut.avi", tmp_path / "empty.mp4", tmp_path / "text.mp4"
    cut.write_bytes(good.read_bytes()[:4000])
    empty.touch()
    text.write_text("no video\n")
    target = tmp_path / "out.csv"
    words = [str(path) for path in (cut, good, empty, text)]
    assert (
        run_command(
            made,
            *words,
            f"RUN={made.runs['mid'].path} {made.runs['rgb'].path.name}",
            f"TO={target}",
        )
        == 1
    )
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if "%" in line][0].startswith(f"{good}: ")
    for path, reason in ((cut, "truncated"), (empty, "empty file"), (text, "not a video file")):
        assert any(line.startswith(f"failed: {path}: {reason}") for line in said.err.splitlines())
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == words
    assert [bool(row["error"]) for row in rows] == [True, False, True, True]
    assert float(rows[1]["probability1"]) + float(rows[1]["probability2"]) == pytest.approx(
        1, abs=1e-5
    )
    assert {rows[1]["class1"], rows[1]["class2"]} == {"left", "down"} and rows[0]["class1"] == ""
    assert run_command(made, str(empty), f"RUN={made.runs['rgb'].path}") == 1
    with pytest.raises(
        InputError, match=r"empty: empty file \(0 bytes\) \(and 1 more video failed\)"
    ):
        predict([empty, text], made.runs["rgb"].path)


def test_a_video_is_held_to_the_limits_of_extraction(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    video = made.videos / "left" / "clip_g00_c01.avi"
    assert run_command(made, str(video), f"RUN={made.runs['rgb'].path}", "PICTURE_MPX=0.001") == 1
    assert f"failed: {video}: its pictures of " in capsys.readouterr().err


def test_a_folder_leaves_a_table(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my clips"
    for name in ("a/same.avi", "b/same.avi"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(made.videos / "left" / "clip_g00_c01.avi", folder / name)
    (folder / "tone.wav").touch()
    assert run_command(made, str(folder), f"RUN={made.runs['rgb'].path}") == 0
    said, target = capsys.readouterr(), made.bank / "reports" / "predict-my_clips.csv"
    assert (
        said.out.splitlines()[-1] == f"scores of 2 videos written to {target}"
        and "tone.wav" in said.err
    )
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == [
        str(folder / "a/same.avi"),
        str(folder / "b/same.avi"),
    ]
    assert (
        run_command(made, str(folder), f"RUN={made.runs['rgb'].path}", f"TO={tmp_path / 'all.npz'}")
        == 0
    )
    assert score_tables.load(tmp_path / "all.npz").video_ids == ("a/same", "b/same")


def test_videos_of_one_name_do_not_collide(tmp_path: Path) -> None:
    for name in ("a/clip.avi", "b/clip.avi", "b/clip.mp4", "b/other.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    words = [
        tmp_path / name
        for name in ("a/clip.avi", "b/clip.avi", "b/clip.mp4", "b/other.avi", "b/other.avi")
    ]
    named = named_videos(words)
    videos, shown = named.videos, named.shown
    below = tmp_path.as_posix().lstrip("/")
    assert [video.id for video in videos] == [
        f"{below}/a/clip.avi",
        f"{below}/b/clip.avi",
        "clip.mp4",
        "other",
    ]
    assert [video.path for video in videos] == words[:4] and shown["other"] == str(words[3])
    with pytest.raises(InputError, match="gone.avi: no such file"):
        named_videos([tmp_path / "gone.avi"])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none contains no videos"):
        named_videos([tmp_path / "none"])


def test_what_is_impossible_is_refused_before_work(made: Made, tmp_path: Path) -> None:
    file, run = str(made.videos / "left" / "clip_g00_c01.avi"), f"RUN={made.runs['rgb'].path}"
    (tmp_path / "folder.csv").mkdir()
    for words, line in (
        ((file,), "RUN= is required"),
        ((file, run, "TOP=0"), "TOP=0: must be at least 1"),
        ((file, run, "STORE=abc"), "give a store or videos, not both"),
        ((file, run, "TO=x.txt"), r"TO=x.txt: the name must end in .csv .* or .npz"),
        (
            (file, run, f"TO={tmp_path}/no/x.csv"),
            r"no/x.csv: cannot be written, because the folder .*no does not exist",
        ),
        (
            (file, run, f"TO={tmp_path}/folder.csv"),
            r"folder.csv: cannot be written \(Is a directory\); give the name of a file",
        ),
        ((file, "RUN=none"), "the run name 'none' must match exactly one finished run"),
        ((file, run, "HOW=mean"), "HOW=mean: choose from"),
    ):
        with pytest.raises(InputError, match=line):
            run_command(made, *words)


def copied(made: Made, tmp_path: Path, *names: str) -> Path:
    """A bank with copies of these runs alone."""
    for name in names:
        shutil.copytree(made.runs[name].path, tmp_path / "runs" / made.runs[name].path.name)
    return tmp_path


def test_members_that_are_gone_or_files(made: Made, tmp_path: Path) -> None:
    file = made.videos / "left" / "clip_g00_c01.avi"
    bank = copied(made, tmp_path, "fused", "rgb", "flow")
    with pytest.raises(
        InputError, match=f"its member {made.runs['audio'].path.name} is not in .*runs"
    ):
        predict(file, made.runs["fused"].path.name, bank=bank)
    of_file = {"members": [{"head": "idt", "sha256": "0" * 64}], "weights": [1.0], "how": "sum"}
    with pytest.raises(InputError, match="its member idt is a score file"):
        predict(
            file, made_run(tmp_path / "other", head="fused", **of_file), bank=tmp_path / "other"
        )
    bank = copied(made, tmp_path / "chained", "chained")
    with pytest.raises(
        InputError,
        match=f"the embeddings of the run {made.runs['recurrent'].path.name}, which is not among",
    ):
        predict(file, made.runs["chained"].path.name, bank=bank)


def changed_recipe(made: Made, tmp_path: Path, **changes: Any) -> Path:
    """A copy of the RGB run whose features were made otherwise."""
    bank = copied(made, tmp_path, "rgb")
    path = bank / "runs" / made.runs["rgb"].path.name
    document = json.loads((path / "recipe.json").read_text())
    (one,) = document["store_recipes"]
    document["store_recipes"] = [
        {**one, **changes} if changes != {"imported": True} else {"imported": {}, "stream": "rgb"}
    ]
    (path / "recipe.json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"imported": True}, "the features were imported from another tool"),
        ({"features_version": 1}, "extracted with version 1 of the stream"),
        (
            {"extractor": "evil.py:build"},
            "names the file evil.py:build as extractor; this file is not run",
        ),
        ({"extractor": "mine.build"}, "your own network, build.. of mine.py; give EXTRACTOR="),
        (
            {"weights": {"source": "random, seed 0", "sha256": "0" * 64}},
            r"weights.sha256: [0-9a-f]{12}\.\.\..*, not 000000000000",
        ),
        (
            {"weights": {"source": "file w.pt", "sha256": "0" * 64}},
            "came from the file w.pt; give EXTRACTOR_WEIGHTS=",
        ),
        (
            {"weights": {"source": "trained here, x", "family": "0" * 64, "saw": {"split": "1"}}},
            "were made with weights 00000000 of split 1, but .* does not contain",
        ),
        (
            {"weights": 3},
            "does not say where its network.s weights can be found .*'3'.*; extract and train",
        ),
        ({"stream": "smell"}, "stream 'smell', which this version does not know"),
        ({"more": 1}, "more: None, not 1"),
    ],
)
def test_features_that_cannot_be_made_as_in_training_are_refused(
    made: Made, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    path = changed_recipe(made, tmp_path, **changes)
    with pytest.raises(InputError, match=line) as refused:
        predict(made.videos / "left" / "clip_g00_c01.avi", path)
    assert path.name in str(refused.value) and "\n" not in str(refused.value)


R18 = "EXTRACTOR=torchvision:resnet18 WEIGHTS=random"
SMALL = "RESIZE=64 SIZE=64"
WAYS = (
    f"{R18} {SMALL} SEED=3 T=7 CROPS=5 KEEP_CROPS=1",
    f"{R18} {SMALL} AT=layer4 SAMPLING=segments T=0",
    f"{R18} NODE=layer3 RESIZE=128 SIZE=96 PRECISION=bf16 DECODER=pyav",
    f"{R18} {SMALL} VIEWS=2 SEED=4 WINDOWS=3 WINDOW=64 STRIDE=2",
    f"{R18} {SMALL} STREAM=flow FLOW=raft_small FLOW_WEIGHTS=random SEED=2 CLIP=3 GRID=12",
    f"{R18} STREAM=audio SIZE=64 T=0",
    f"{R18} {SMALL} SAMPLING=adaptive FLOW=dis T=20",
    f"{R18} {SMALL} STREAM=flow SAMPLING=adaptive FLOW=farneback T=20",
    f"{R18} STREAM=audio SAMPLING=adaptive T=5",
    "EXTRACTOR=torchvision:r3d_18 WEIGHTS=random CLIP=8 SIZE=64 RESIZE=64",
    "EXTRACTOR=motion_cnn WEIGHTS=random STREAM=flow WIDTH=0.02 FLOW=tvl1",
    "STREAM=magnitude FLOW=dis",
    "EXTRACTOR=pixels RESIZE=64",
    "EXTRACTOR=pixels STREAM=flow CLIP=5 FLOW=dis",
    f"{R18} {SMALL} FPS=12.5 STRIDE=0.5s",
    f"{R18} {SMALL} FPS=10 STRIDE=0.25s CLIP=2s WINDOWS=3 WINDOW=64",
    f"{R18} {SMALL} STRIDE=0.125s GRID=1.5s",
    f"{R18} {SMALL} STREAM=flow FLOW=dis CLIP=1.5s FPS=20 GRID=2s",
    f"{R18} {SMALL} STREAM=flow FLOW=dis CLIP=3 STRIDE=0.1s",
    "EXTRACTOR=torchvision:r3d_18 WEIGHTS=random CLIP=2s STRIDE=1s SIZE=64 RESIZE=64",
    f"{R18} STREAM=audio SIZE=64 T=0 STRIDE=0.5s GRID=2s",
    f"{R18} STREAM=audio FPS=25 GRID=16 SAMPLING=segments T=7 WINDOWS=2 WINDOW=50 STRIDE=3",
)


@pytest.mark.parametrize("way", WAYS)
def test_options_are_read_back_from_a_recipe(way: str, tmp_path: Path) -> None:
    options = with_defaults(
        parse(ExtractOptions, [*way.split(" "), "DATASET=folder", "DEVICE=cpu"], "extract")
    )
    pictures = {"flow", "magnitude"} & set(options.stream) or options.sampling == "adaptive"
    flow = (
        build_flow(options.flow, "cpu", options.flow_weights or "pretrained", options.seed)
        if pictures
        else None
    )
    magnitude = ""
    if options.sampling == "adaptive" and "audio" not in options.stream:
        magnitude = identity(
            plan_streams(lengths_alone(options), "made", flow)[0].recipes[0].to_json(), "made"
        )
    (before,) = plan_streams(options, "made", flow, magnitude)
    recipe = json.loads(json.dumps(before.recipes[0].to_json()))
    again = options_again(recipe, UserFiles(), str(tmp_path), "made", "cpu")
    flow = build_flow(again.flow, "cpu", again.flow_weights or "pretrained", again.seed)
    (plan,) = plan_streams(again, "made", flow, magnitude)
    assert json.loads(json.dumps(plan.recipes[0].to_json())) == recipe
    assert FeatureRecipe.from_json(recipe).to_json() == recipe


@pytest.mark.long
def test_adaptive_sampling_is_followed_again(made: Made, tmp_path: Path) -> None:
    words = (
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "SAMPLING=adaptive",
        "FLOW=farneback",
        "T=4",
        "RESIZE=32",
        "SIZE=32",
    )
    command(tmp_path, "extract", "DATASET=folder", f"ROOT={made.videos}", "CROPS=1", *words)
    (run,) = command(
        tmp_path,
        "train",
        "EXTRACTOR=torchvision:resnet18",
        "HEAD=meanpool",
        "EPOCHS=2",
        "VALIDATION=0.3",
        "SPLIT=1",
    )
    (path,) = (tmp_path / "stores").glob("*resnet18*.h5")
    own = predicted(run.path, path)
    table = predict(made.videos / f"{own.video_ids[1]}.avi", run.path)
    np.testing.assert_allclose(probabilities(table)[0], probabilities(own)[1], atol=1e-4)
    folder = tmp_path / "frames"  # the same video as images, whose seconds nobody knows
    folder.mkdir()
    for message in decode(made.videos / f"{own.video_ids[1]}.avi", np.arange):
        for number, picture in (
            zip(message.numbers.tolist(), message.pixels, strict=True)
            if isinstance(message, Frames)
            else ()
        ):
            Image.fromarray(picture).save(folder / f"{number}.png")
    with pytest.raises(InputError, match="IMAGE_FPS=<frames per second>"):
        predict(folder, run.path)
    table = predict(folder, run.path, image_fps=25.0)
    np.testing.assert_allclose(probabilities(table)[0], probabilities(own)[1], atol=1e-4)


@pytest.fixture
def tiny(made: Made, tmp_path: Path) -> Iterator[tuple[Path, Path, str]]:
    """A bank with weights trained here for a user's network, and a run on features from them."""
    (tmp_path / "tiny.py").write_text(LAYERED)
    extractor = f"{tmp_path / 'tiny.py'}:build"
    root = ("DATASET=folder", f"ROOT={made.videos}")
    quick = ("EPOCHS=1", "BATCH=8", "DEVICE=cpu", "VALIDATION=0.3")
    command(
        tmp_path,
        "pretrain",
        *root,
        "STREAM=flow",
        "FLOW=farneback",
        f"EXTRACTOR={extractor}",
        "SPLIT=1",
        *quick,
    )
    (folder,) = (tmp_path / "weights").glob("*split1")
    of_weights = ("STREAM=flow", f"WEIGHTS={folder}", f"EXTRACTOR={extractor}")
    command(tmp_path, "extract", *root, *of_weights, "T=3", "CROPS=1")
    (path,) = (path for path in (tmp_path / "stores").glob("*.h5") if "pixels" not in path.name)
    (run,) = command(
        tmp_path, "train", f"STORE={path}", "HEAD=meanpool", "EPOCHS=2", "VALIDATION=0.3", "SPLIT=1"
    )
    yield path, run.path, extractor


def test_weights_trained_here_are_found_and_tell_what_they_saw(
    made: Made, tiny: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, run, extractor = tiny
    own = predicted(run, path)
    with Store.open(path) as store:
        learned = [
            name
            for name, parts in zip(store.video_ids, store.parts, strict=True)
            if parts == ["train"]
        ]
        tested = [
            name
            for name, parts in zip(store.video_ids, store.parts, strict=True)
            if parts == ["test"]
        ]
    assert (
        set(own.parts) == {"train", "test"}
        and own.parts[own.video_ids.index(learned[0])] == "train"
    )
    words = [f"RUN={run}", f"EXTRACTOR={extractor}", f"BANK={run.parent.parent}"]
    for names, seen in (([learned[0], tested[0]], 1), ([tested[0]], 0)):
        files = [str(made.videos / f"{name}.avi") for name in names]
        capsys.readouterr()
        assert predict_videos(parse(PredictOptions, [*files, *words], "predict")) == 0
        assert (
            f"note: {seen} of {len(names)} videos was used to train the backbone"
            in capsys.readouterr().err
        ) == bool(seen)
        table = predict(files, run, extractor=extractor)
        assert (
            table.parts == ("train", "test")[-len(names) :]
        )  # by their names, as a training video's file may lie anywhere
        rows = [own.video_ids.index(name) for name in names]
        np.testing.assert_allclose(probabilities(table), probabilities(own)[rows], atol=1e-4)
    with pytest.raises(
        InputError,
        match=r"the network of these weights is in your own.*give EXTRACTOR=.*tiny.py:build",
    ):
        predict(files, run)
    (folder,) = (run.parent.parent / "weights").glob("*split1")
    moved = folder.rename(run.parent.parent / folder.name)
    with pytest.raises(
        InputError, match="does not contain these weights, or their training is not finished"
    ):
        predict(files, run, extractor=extractor)
    again = predict(files, run, extractor=extractor, extractor_weights=str(moved))
    np.testing.assert_array_equal(again.logits, table.logits)


def test_weights_of_a_file_may_lie_elsewhere_but_must_be_those(made: Made, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(LAYERED)
    extractor, weights = f"{tmp_path / 'tiny.py'}:build", tmp_path / "w.pt"
    model: dict[str, Any] = {}
    exec(compile(LAYERED, "tiny.py", "exec"), model)
    torch.manual_seed(7)
    torch.save(model["build"]().state_dict(), weights)
    root = ("DATASET=folder", f"ROOT={made.videos}", "T=2", "CROPS=1")
    command(tmp_path, "extract", *root, f"EXTRACTOR={extractor}", f"WEIGHTS={weights}")
    (run,) = command(tmp_path, "train", "HEAD=meanpool", "EPOCHS=2", "VALIDATION=0.3", "SPLIT=1")
    file = made.videos / "left" / "clip_g00_c01.avi"
    (tmp_path / "moved").mkdir()
    moved = weights.rename(tmp_path / "moved" / "w.pt")
    own = predicted(run.path, *(tmp_path / "stores").glob("*.h5"))
    table = predict(file, run.path, extractor=extractor, extractor_weights=str(moved))
    row = own.video_ids.index("left/clip_g00_c01")
    np.testing.assert_allclose(probabilities(table)[0], probabilities(own)[row], atol=1e-4)
    torch.manual_seed(8)
    torch.save(model["build"]().state_dict(), moved)
    with pytest.raises(InputError, match="weights.sha256: .*give the files"):
        predict(file, run.path, extractor=extractor, extractor_weights=str(moved))


def test_several_labels_a_video_stay_several(made: Made, tmp_path: Path) -> None:
    about = DatasetDescription(
        name="several", classes=["down", "left"], splits=["1"], coarse={}, multilabel=True
    )
    metas = []
    with (
        Store.open(made.stores["rgb"][0]) as store,
        StoreWriter(tmp_path / "stores" / "s.h5", store.recipe, about) as writer,
    ):
        for number, name in enumerate(store.video_ids):
            label = ("down", "left", "down;left", "")[number % 4]
            part = ["train" if number % 8 < 6 else "test"]
            metas.append(
                StoredVideo(
                    id=name, label=label, group=f"g{number}", parts=part, source={"bytes": 9}
                )
            )
            writer.add(metas[-1], *store.features(name))
        assert writer.finish(metas)
    (run,) = command(tmp_path, "train", "HEAD=meanpool", "EPOCHS=2", "VALIDATION=0.3", "SPLIT=1")
    own = predicted(run.path, tmp_path / "stores" / "s.h5")
    video = made.videos / "left" / "clip_g00_c01.avi"
    with pytest.raises(InputError, match="HOW=rank: for multi-label data"):
        predict(video, [run.path, run.path], "rank")
    table = predict(video, run.path)
    assert table.multilabel and own.multilabel and not table.labels.any()
    np.testing.assert_allclose(
        probabilities(table)[0],
        probabilities(own)[own.video_ids.index("left/clip_g00_c01")],
        atol=1e-4,
    )


@pytest.mark.long
def test_any_real_video_is_predicted(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = made.runs["mid"].path, testdata("clips", "other")
    assert run_command(made, str(other), f"RUN={run}", "TO=" + str(made.bank / "other.csv")) == 0
    said = capsys.readouterr()
    assert (
        sum("%" in line for line in said.out.splitlines()) == 10
        and "mmaction2_test.wav" in said.err
    )
    odd = [
        testdata("odd", name)
        for name in ("one.mp4", "two.mp4", "twovideo.mp4", "noext", "%03d.mp4", "rot90.mp4")
    ]
    assert predict(odd, run).video_ids == ("one", "two", "twovideo", "noext", "%03d", "rot90")
    with pytest.raises(InputError, match=r"mmaction2_test: no video track \(audio only\)"):
        predict(other / "mmaction2_test.wav", run)
    assert predict(other / "mmaction2_test.wav", made.runs["audio"].path).video_ids == (
        "mmaction2_test",
    )
