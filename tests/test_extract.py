"""Stage one as its users run it: real clips compared with a straightforward script, kills, changed
options, bad input."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import testdata, testdata_rows, writable_copy
from test_limits import write_gif
from tiny_networks import PAUSING
from torchvision import models, transforms
from torchvision.transforms import v2
from tqdm import tqdm

import reelbank
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Failure, StoredVideo
from reelbank.data.video.clips import sigma
from reelbank.data.video.sampling import Sampling
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.pipeline.resize import resize_exactly


def encode(path: Path, frames: int, seed: int) -> None:
    """A small real video: moving noise, mpeg4 in avi."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.roll(base, 2 * number, 1), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A folder of 24 small videos in two classes, a tiny network, and an empty bank as the working
    folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        encode(
            tmp_path
            / "videos"
            / ("left", "right")[number % 2]
            / f"clip_g{number // 2:02d}_c01.avi",
            6 + number % 5,
            number,
        )
    (tmp_path / "tiny.py").write_text(PAUSING)
    return tmp_path


def run(*words: str) -> int:
    return reelbank.main(list(words))


BASIC = (
    "extract",
    "DATASET=folder",
    "ROOT=videos",
    "EXTRACTOR=tiny.py:build",
    "CROPS=10",
    "T=3",
    "BATCH=20",
)


def only_store(bank: Path = Path("bank")) -> Path:
    (path,) = (bank / "stores").glob("*.h5")
    return path


def test_pictures_are_stretched_to_a_height_and_a_width(ours):
    """RESIZE=44x36 of 48 x 64 pixels: the whole picture, as torchvision stretches it on the CPU
    and as `resize_exactly` does on a GPU."""
    assert run(*BASIC[:3], "EXTRACTOR=pixels", "CROPS=1", "T=2", "RESIZE=44x36") == 0
    with Store.open(only_store()) as store:
        assert store.row_shape == (3, 44, 36)
        assert store.recipe["preprocessing"]["resize_px"] == [44, 36]
        again = options_again(store.recipe, UserFiles(), "bank", "folder", "cpu")
        assert again.resize == "44x36"
        rows = torch.from_numpy(store.features("left/clip_g00_c01")[0])
    with av.open("videos/left/clip_g00_c01.avi") as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    for row, number in zip(rows, sigma(len(frames), 2), strict=True):
        frame = torch.from_numpy(frames[number]).permute(2, 0, 1)
        assert torch.equal(row, v2.functional.resize(frame, [44, 36]))
        assert torch.equal(row, resize_exactly(frame, (44, 36), "bilinear", True))


@pytest.mark.parametrize("text", ["44x", "x36", "44x36x3", "44 x 36", "0x36", "44x99999", "-4"])
def test_a_size_that_is_neither_a_side_nor_a_pair_is_refused(ours, capsys, text):
    assert run(*BASIC, f"RESIZE={text}") == 2
    assert f"RESIZE={text}: " in capsys.readouterr().err


def test_a_crop_fits_into_the_height_and_the_width(ours, capsys):
    assert run(*BASIC, "RESIZE=44x36", "SIZE=40") == 2
    assert (
        "SIZE=40: must be at most the size of the resized picture, 44 x 36"
        in capsys.readouterr().err
    )


def test_real_clips_equal_a_straightforward_script(tmp_path, monkeypatch):
    """PyAV, torchvision transforms on PIL pictures, batch 1, fp32, T by sigma(t): ten real clips,
    to 1e-4; store to fp16."""
    monkeypatch.chdir(tmp_path)
    clips = [row for row in testdata_rows("clips.csv") if row["file"].startswith("clips/ucf101")][
        ::21
    ][:10]
    for row in clips:
        target = tmp_path / "ucf" / row["class"] / Path(row["file"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(testdata(row["file"]))
    words = (
        "extract",
        "DATASET=ucf101",
        "ROOT=ucf",
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "SEED=4",
    )
    assert run(*words, "CROPS=1", "T=3") == 0

    torch.manual_seed(4)
    model = models.resnet18(weights=None).eval()
    model.fc = torch.nn.Identity()
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with Store.open(only_store()) as store, torch.inference_mode():
        assert len(store.video_ids) == 10
        for row in clips:
            frames = [
                frame.to_image() for frame in av.open(str(testdata(row["file"]))).decode(video=0)
            ]
            expected = np.stack(
                [model(prepare(frames[t])[None])[0].numpy() for t in sigma(len(frames), 3)]
            )
            video = f"{row['class']}/{Path(row['file']).stem}"
            values, times_seconds = store.features(video)
            assert (
                np.abs(values - expected).max()
                <= 1e-4 * np.abs(expected).max() + 2**-11 * np.abs(expected).max()
            )
            assert np.linalg.norm(values - expected) <= 3e-4 * np.linalg.norm(
                expected
            )  # rounding to fp16 alone gives 2e-4
            assert times_seconds == pytest.approx(
                sigma(len(frames), 3) / float(row["fps"]), abs=0.05
            )
            assert (
                len(frames)
                == int(row["frames"])
                == store.sources[store.video_ids.index(video)]["frames"]
            )


def test_features_before_rounding_equal_the_script_to_1e_4():
    """The same, on the float32 features of the loop itself: one clip, ten crops."""
    from reelbank.data.video.pool import DecodePool
    from reelbank.extract.networks import build as networks
    from reelbank.extract.pipeline.batches import ClipBatches
    from reelbank.extract.pipeline.loop import Extraction
    from reelbank.extract.pipeline.streams import StreamPipeline, Task
    from reelbank.extract.streams.loading import load_stream

    path = testdata("clips", "ucf101", "Basketball", "v_Basketball_g01_c04.avi")
    network = networks.build("torchvision:resnet18", weights="random", seed=4)
    batches = ClipBatches(
        network.module, network, crops=10, keep_crops=False, batch=20, device=torch.device("cpu")
    )
    pipeline = StreamPipeline(
        "a", load_stream("rgb"), network, batches, None, network.preprocessing.resize
    )
    with torch.inference_mode(), DecodePool(1) as pool:
        extraction = Extraction([pipeline], None, torch.device("cpu"), np.float32)
        (extracted,) = extraction.run([Task("video", path, {"a": Sampling(steps=3)})], pool)
    (values,) = extracted.results["a"].values
    torch.manual_seed(4)
    model = models.resnet18(weights=None).eval()
    model.fc = torch.nn.Identity()
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    frames = [frame.to_image() for frame in av.open(str(path)).decode(video=0)]
    with torch.inference_mode():
        for t, value in zip(sigma(len(frames), 3), values, strict=True):
            crops = transforms.TenCrop(224)(transforms.Resize(256)(frames[t]))
            expected = (
                torch.stack(
                    [model(normalise(transforms.ToTensor()(crop))[None])[0] for crop in crops]
                )
                .mean(0)
                .numpy()
            )
            assert np.abs(value - expected).max() <= 1e-4 * np.abs(expected).max()


def test_twice_is_once_and_another_option_is_another_store(ours, capsys):
    assert run(*BASIC) == 0
    path = only_store()
    before = path.stat()
    assert run(*BASIC) == 0
    assert "24 already extracted, 0 to extract" in capsys.readouterr().out
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert run(*BASIC[:-2], "T=4") == 0
    assert len(list(Path("bank/stores").glob("*.h5"))) == 2
    with Store.open(path) as store:
        assert (
            store.recipe["crops"] == 10 and store.recipe["steps"] == 3 and store.row_shape == (16,)
        )
        assert store.rows.tolist() == [3] * 24 and sorted(set(store.labels)) == ["left", "right"]


@pytest.mark.parametrize("disable", [False, True])
def test_the_progress_bar_says_that_decoding_has_begun_and_may_be_switched_off(
    ours, monkeypatch, capsys, disable
):
    bar = partial(tqdm, disable=disable)  # as TQDM_DISABLE=1
    monkeypatch.setattr("reelbank.extract.run.tqdm", bar)
    assert run(*BASIC) == 0
    before_first, _, rest = capsys.readouterr().err.partition("decoding the first videos")
    if disable:
        assert not before_first and not rest
    else:
        assert "0/24" in before_first and "24/24" in rest
        assert "decoding the first videos" not in rest.rpartition("24/24")[2]


def test_videos_that_arrive_later_join_and_changed_files_are_taken_again(ours, capsys):
    assert run(*BASIC) == 0
    encode(ours / "videos" / "left" / "clip_g90_c01.avi", 9, 90)
    encode(ours / "videos" / "left" / "clip_g00_c01.avi", 12, 91)
    with Store.open(only_store()) as store:
        old = {video: store.features(video)[0] for video in store.video_ids}
    capsys.readouterr()
    assert run(*BASIC) == 0
    assert "25 videos, 23 already extracted, 2 to extract" in capsys.readouterr().out
    with Store.open(only_store()) as store:
        assert len(store.video_ids) == 25 and store.finished
        same = [np.array_equal(store.features(video)[0], values) for video, values in old.items()]
        assert same.count(False) == 1


def test_features_do_not_depend_on_the_batch(ours):
    assert run(*BASIC) == 0
    assert run(*BASIC[:-1], "BATCH=60", "BANK=other") == 0
    with Store.open(only_store()) as one, Store.open(only_store(Path("other"))) as two:
        for video in one.video_ids:
            np.testing.assert_allclose(one.features(video)[0], two.features(video)[0], rtol=2e-3)


def test_several_nodes_and_kept_maps(ours):
    words = [
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "CLASSES=left",
    ]
    assert run(*words, "NODE=layer1 layer2", "CROPS=1", "T=2", "RESIZE=64", "SIZE=56") == 0
    shapes = {}
    for path in Path("bank/stores").glob("*.h5"):
        with Store.open(path) as store:
            shapes[store.recipe["node"]] = store.row_shape
            assert len(store.video_ids) == 12
    assert shapes == {"layer1": (64,), "layer2": (128,)}


@pytest.mark.long
def test_video_network_takes_clips(ours):
    words = [
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=torchvision:r3d_18",
        "WEIGHTS=random",
        "CROPS=1",
        "T=0",
    ]
    assert run(*words, "CLIP=4", "STRIDE=2", "CLASSES=left", "BATCH=4") == 0
    with Store.open(only_store()) as store:
        frames = [source["frames"] for source in store.sources]
        assert store.rows.tolist() == [(count - 4) // 2 + 1 for count in frames]
        assert store.row_shape == (512,)
        values, times_seconds = store.features(store.video_ids[0])
        assert times_seconds[0] == pytest.approx(1.5 / 25)  # the centre of frames 0..3


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "reelbank", *words]


def committed_parts() -> set[Path]:
    return set(Path("bank").rglob("part+*.h5"))


# Runs one command as often as lines come, each in a process of its own. They are forked after the
# imports, which would take most of the time of each.
FORKS = """
import os, sys
import reelbank
import reelbank.extract.run
for pause_seconds in sys.stdin:
    pid = os.fork()
    if not pid:
        print("pid", os.getpid(), flush=True)
        os.environ["PAUSE_SECONDS"] = pause_seconds.strip()
        sys.exit(reelbank.main(sys.argv[1:]))
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(12, marks=pytest.mark.long)])
def test_killed_at_many_moments_it_goes_on_and_ends_equal(ours, kills):
    """kill -9 at random moments of one extraction: committed videos are not extracted again, and
    the finished store is the same as without kills."""
    words = (*BASIC, "PART_SECONDS=0.1")
    assert run(*words, "BANK=undisturbed") == 0
    rng = random.Random(0)
    committed: set[str] = set()
    counts = []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", FORKS, *words], text=True, **pipes) as forks:

        def line_with(text: str) -> str:
            return next((line for line in forks.stdout if text in line), "")

        for kill in range(kills + 1):
            # 36 batches of 0.4 s: the extraction cannot end before the last kill.
            print(0.4 if kill < kills else 0, file=forks.stdin, flush=True)
            pid = int(line_with("pid ").split()[1])
            assert f"24 videos, {len(committed)} already extracted" in line_with("to extract")
            if kill < kills:
                after_commit = kill % 3 == 2
                before = committed_parts()
                while after_commit and committed_parts() == before:
                    assert Path(f"/proc/{pid}").exists()
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.3 if after_commit else 1.2))
                os.kill(pid, signal.SIGKILL)
            assert line_with("ended") == f"ended {-signal.SIGKILL if kill < kills else 0}\n"
            try:
                with Store.open(next(Path("bank/stores").glob("*"))) as store:
                    now = set(store.video_ids)
            except reelbank.InputError as error:
                assert "contains no videos yet" in str(error)
                now = set()
            assert now >= committed, "something committed is gone"
            committed = now
            counts.append(len(committed))
        forks.stdin.close()
    assert len(set(counts)) > 2, f"the kills hit few states: {counts}"
    with Store.open(only_store()) as store, Store.open(only_store(Path("undisturbed"))) as other:
        assert (
            store.finished
            and set(store.video_ids) == set(other.video_ids)
            and len(other.video_ids) == 24
        )
        for video in store.video_ids:
            for mine, theirs in zip(store.features(video), other.features(video), strict=True):
                np.testing.assert_array_equal(mine, theirs)
    assert not list(Path("bank/stores").glob("*.parts"))


def test_ctrl_c_keeps_what_is_done(ours):
    slowly = {**os.environ, "TQDM_MININTERVAL": "0", "PAUSE_SECONDS": "0.25"}
    # What a shell starts with & is deaf to Ctrl-C, and so would its children be.
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(*BASIC), env=slowly, preexec_fn=hears, **pipes)
    said = ""
    while not re.search(r"\b[1-9]\d*/24", said):
        said += (read := process.stderr.read(1))
        assert read, said
    process.send_signal(signal.SIGINT)
    said += process.communicate()[1]
    assert (
        process.returncode == 130
        and "run the same command again to continue" in said
        and "Traceback" not in said
    )
    with Store.open(next(Path("bank/stores").glob("*"))) as store:
        assert store.video_ids and not store.finished
    assert run(*BASIC) == 0


def test_bad_videos_are_recorded_and_harm_nothing(ours, capsys):
    left = ours / "videos" / "left"
    good = (left / "clip_g00_c01.avi").read_bytes()
    (left / "cut_g90_c01.avi").write_bytes(good[:300])
    (left / "empty_g91_c01.avi").write_bytes(b"")
    (left / "text_g92_c01.avi").write_text("this is not a film\n" * 50)
    writable_copy(testdata("odd", "audio_only.mp4"), left / "sound_g93_c01.mp4")
    assert run(*BASIC) == 1
    said = capsys.readouterr()
    with Store.open(only_store()) as store:
        assert store.finished and len(store.video_ids) == 24
        assert set(store.failures) == {
            "left/cut_g90_c01",
            "left/empty_g91_c01",
            "left/text_g92_c01",
            "left/sound_g93_c01",
        }
        assert "empty" in str(store.failures["left/empty_g91_c01"])
        assert all(len(str(failure).splitlines()) == 1 for failure in store.failures.values())
    assert "4 videos failed" in said.out and "left/text_g92_c01" in said.out
    assert run(*BASIC) == 1  # still so, nothing is tried again
    assert "28 already extracted, 0 to extract" in capsys.readouterr().out
    shutil.copy(left / "clip_g02_c01.avi", left / "text_g92_c01.avi")  # mended by the user
    assert run(*BASIC) == 1
    assert "1 to extract" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*BASIC[:2], "ROOT=nowhere"], "nowhere"),
        (["extract", "DATASET=ufc101", "ROOT=videos"], "ucf101"),
        ([*BASIC[:3], "CROPES=10"], "did you mean CROPS?"),
        ([*BASIC[:3], "CROPS=7"], "CROPS=7: choose from 1, 5, 10"),
        ([*BASIC[:3], "T=some"], "T=some: must be a whole number"),
        ([*BASIC[:3], "CLASSES=up"], "has no class"),
        ([*BASIC[:4], "WEIGHTS=gone.pt"], "gone.pt: the file does not exist"),
        ([*BASIC[:4], "DEVICE=cuda:99"], "does not find this GPU"),
        ([*BASIC[:4], "DECODER=vlc"], "choose from auto"),
        ([*BASIC[:4], "SIZE=-1"], "SIZE=-1: must be at least 1"),
        ([*BASIC[:4], "WEIGHTS=random"], "sets its own weights"),
        ([*BASIC[:4], "SHARD=5/4"], "SHARD=5/4"),
        ([*BASIC[:4], "CLIP=16"], "takes single pictures as input"),
        ([*BASIC[:4], "RESIZE=30"], "reduce SIZE"),
        (["extarct"], "unknown command 'extarct'; did you mean extract?"),
    ],
)
def test_bad_input_gets_one_clear_line(ours, capsys, words, says):
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1 and said.startswith("reelbank: error: ")
    assert not Path("bank/stores").exists()


def test_plan_writes_nothing(ours, capsys):
    assert run(*BASIC, "PLAN=1") == 0
    said = capsys.readouterr().out
    assert "24 videos, 0 already extracted, 24 to extract" in said
    assert "72 rows" in said and "16 numbers per row" in said and "B on disk" in said
    assert not Path("bank").exists()
    assert run(*BASIC) == 0
    (ours / "videos" / "left" / "bad_g90_c01.avi").write_text("no film")
    capsys.readouterr()
    assert run(*BASIC[:5], "T=0", "PLAN=1") == 0 and run(*BASIC, "PLAN=1") == 0
    assert "25 videos, 24 already extracted, 1 to extract" in capsys.readouterr().out


def test_shards_fill_one_store(ours, capsys):
    assert run(*BASIC, "SHARD=1/2") == 0
    assert (
        "12 of 24 videos stored; not finished, because other shards are missing"
        in capsys.readouterr().out
    )
    with Store.open(next(Path("bank/stores").glob("*"))) as store:
        assert len(store.video_ids) == 12 and not store.finished
    assert run(*BASIC, "SHARD=2/2") == 0
    with Store.open(only_store()) as store:
        assert store.finished and len(store.video_ids) == 24


def test_unlabelled_folder(ours):
    flat = ours / "flat"
    flat.mkdir()
    for path in (ours / "videos").rglob("*.avi"):
        shutil.copy(path, flat / f"{path.parent.name}_{path.name}")
    assert run("extract", "DATASET=folder", "ROOT=flat", *BASIC[3:]) == 0
    with Store.open(only_store()) as store:
        assert set(store.labels) == {""} and len(store.video_ids) == 24


def test_works_from_a_folder_with_packages_of_the_same_names(ours):
    for name in ("data", "extract", "heads", "fusion"):
        (ours / name).mkdir()
        (ours / name / "__init__.py").write_text(
            "raise ImportError('the user\\'s own package was imported')"
        )
    for words in (
        ["-c", "import reelbank; reelbank.load_dataset; reelbank.fuse; print('fine')"],
        ["-m", "reelbank", *BASIC],
    ):
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert done.returncode == 0, done.stderr
    script = Path(sys.executable).with_name("reelbank")
    assert subprocess.run([script, "stores"], capture_output=True, text=True).returncode == 0


def test_nodes_are_stored_under_their_own_names_in_any_order(ours):
    words = [
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "CLASSES=left",
    ]
    assert run(*words, "NODE=layer2 layer1", "CROPS=1", "T=1", "RESIZE=64", "SIZE=56") == 0
    for path in Path("bank/stores").glob("*.h5"):
        with Store.open(path) as store:
            assert store.row_shape == {"layer1": (64,), "layer2": (128,)}[store.recipe["node"]]
    assert run(*words, "NODE=layer1 layer1") == 2


def test_changed_code_of_the_users_own_is_another_store(ours):
    assert run(*BASIC) == 0
    text = Path("tiny.py").read_text()
    Path("tiny.py").write_text(text.replace(".mean((2, 3))", ".amax((2, 3))"))
    assert run(*BASIC) == 0
    assert len(list(Path("bank/stores").glob("*.h5"))) == 2


def test_a_users_file_that_fails_is_named_with_its_line(ours, capsys):
    Path("tiny.py").write_text("def build():\n    return open('weights that are not there')\n")
    assert run(*BASIC) == 2
    said = capsys.readouterr().err
    assert (
        "weights that are not there" in said
        and "tiny.py, line 2" in said
        and len(said.splitlines()) == 1
    )


def test_a_file_that_breaks_after_it_was_stored_is_reported(ours, capsys):
    assert run(*BASIC) == 0
    (ours / "videos" / "left" / "clip_g00_c01.avi").write_text("overwritten with text")
    assert run(*BASIC) == 1
    assert "1 video failed" in capsys.readouterr().out
    assert run(*BASIC) == 1
    assert "0 to extract" in capsys.readouterr().out
    with Store.open(only_store()) as store:
        assert len(store.video_ids) == 24  # the features of what it was are kept


def test_features_beyond_float16_fail_by_name(ours, capsys):
    text = Path("tiny.py").read_text()
    Path("tiny.py").write_text(text.replace("return self.conv(x)", "return 1e9 * self.conv(x)"))
    assert run(*BASIC) == 1
    assert "beyond the range of float16" in capsys.readouterr().out


UNREADABLE = (
    "/proc/self/mem"  # a regular file whose first byte gives EIO, a real error of the system
)


def failures(path: Path) -> dict[str, Failure]:
    with Store.open(path) as store:
        return dict(store.failures)


def any_store() -> Path:
    (path,) = {name.with_suffix(".h5") for name in Path("bank/stores").glob("*")}
    return path


def test_a_file_that_cannot_be_read_is_tried_again_unasked(ours, capsys):
    """Links to memory that no one may read: a real input/output error."""
    left = ours / "videos" / "left"
    (left / "torn_g91_c01.avi").symlink_to(UNREADABLE)
    (left / "gone_g90_c01.avi").symlink_to(UNREADABLE)
    (left / "text_g92_c01.avi").write_text("this is not a film\n")
    assert run(*BASIC) == 3
    said = capsys.readouterr().out
    assert (
        "24 of 27 videos stored; not finished, because 2 videos could not be read on this machine"
        in said
    )
    assert "  left/gone_g90_c01: cannot be read: Input/output error" in said
    assert "  left/torn_g91_c01: cannot be read: Input/output error" in said
    assert "1 video failed" in said and "  left/text_g92_c01: not a video file" in said
    kinds = {name: failure.kind for name, failure in failures(any_store()).items()}
    assert kinds == {
        "left/gone_g90_c01": "machine",
        "left/torn_g91_c01": "machine",
        "left/text_g92_c01": "",
    }
    assert run("stores") == 0 and "unfinished, not read: 2" in capsys.readouterr().out
    assert (
        run("inspect") == 0
        and "2 videos could not be read on this machine" in capsys.readouterr().out
    )
    assert (
        run(*BASIC) == 3
        and "27 videos, 25 already extracted, 2 to extract" in capsys.readouterr().out
    )
    for name in ("gone_g90_c01", "torn_g91_c01"):
        (left / f"{name}.avi").unlink()
        encode(left / f"{name}.avi", 6, 50)
    assert run(*BASIC) == 1  # the text file is not a video
    assert "27 videos, 25 already extracted, 2 to extract" in capsys.readouterr().out
    with Store.open(only_store()) as store:
        assert (
            store.finished
            and len(store.video_ids) == 26
            and set(store.failures) == {"left/text_g92_c01"}
        )


def test_features_stay_when_their_file_cannot_be_read_any_more(ours, capsys):
    assert run(*BASIC) == 0
    clip = ours / "videos" / "left" / "clip_g00_c01.avi"
    clip.unlink()
    clip.symlink_to(UNREADABLE)
    assert run(*BASIC) == 3
    assert "left/clip_g00_c01: cannot be read" in capsys.readouterr().out
    with Store.open(only_store()) as store:
        assert store.finished and len(store.video_ids) == 24 and not store.failures


def test_a_root_that_disappears_stops_the_run(ours):
    slowly = {**os.environ, "PAUSE_SECONDS": "0.2"}
    process = subprocess.Popen(
        command(*BASIC, "PART_SECONDS=0.1"), stderr=subprocess.PIPE, text=True, env=slowly
    )
    deadline = time.monotonic() + 300
    while not committed_parts() and time.monotonic() < deadline:
        time.sleep(0.01)
    (ours / "videos").rename(ours / "away")
    (ours / "videos").mkdir()  # as the empty folder below a mount
    said = process.communicate()[1]
    assert process.returncode == 2, said
    assert (
        "/videos is not the same folder as at the start, because it was moved or unmounted" in said
        and "Traceback" not in said
    )
    with Store.open(any_store()) as store:
        assert not store.finished and 0 < len(store.video_ids) < 24
        assert all(failure.kind == "machine" for failure in store.failures.values())
    (ours / "videos").rmdir()
    (ours / "away").rename(ours / "videos")
    assert run(*BASIC) == 0
    with Store.open(only_store()) as store:
        assert store.finished and len(store.video_ids) == 24 and not store.failures


def test_when_nothing_can_be_read_any_more_the_run_stops(ours, capsys):
    for clip in sorted((ours / "videos" / "left").iterdir())[3:]:
        clip.unlink()
        clip.symlink_to(UNREADABLE)
    assert run(*BASIC, "WORKERS=1") == 2
    said = capsys.readouterr().err
    assert (
        "8 videos in a row could not be read, most recently " in said
        and "Input/output error" in said
    )
    with Store.open(any_store()) as store:
        assert len(store.failures) == 8 and {
            failure.kind for failure in store.failures.values()
        } == {"machine"}


def test_faults_that_stores_of_before_took_for_failures_are_tried_again(ours, capsys):
    """Failures as they were stored until they had a kind."""
    from reelbank.data.store.writer import StoreWriter

    old = {
        "left/clip_g00_c01": "cannot be read: Stale file handle",
        "left/clip_g01_c01": "decoder process died (SIGKILL: out of memory?)",
        "left/clip_g02_c01": "decoder process died (SIGSEGV)",
        "left/clip_g03_c01": "no frame of its video track can be decoded",
    }
    assert run(*BASIC, "CLASSES=right") == 0
    with Store.open(only_store()) as store:
        recipe, dataset = store.recipe, store.dataset
    with StoreWriter(only_store(), recipe, dataset) as writer:
        for name, reason in old.items():
            size = (ours / "videos" / f"{name}.avi").stat().st_size
            writer.fail(StoredVideo(name, source={"bytes": size}), reason)
    capsys.readouterr()
    assert run(*BASIC) == 1
    assert "24 videos, 14 already extracted, 10 to extract" in capsys.readouterr().out
    assert set(failures(only_store())) == {"left/clip_g02_c01", "left/clip_g03_c01"}


def children(pid: int) -> list[int]:
    return [
        int(word)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]


def test_a_killed_worker_costs_no_video(ours):
    """As by the kernel when memory is full."""
    slowly = {**os.environ, "PAUSE_SECONDS": "0.2"}
    words = command(*BASIC, "PART_SECONDS=0.1", "WORKERS=2")
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=slowly
    )
    deadline = time.monotonic() + 300
    while not committed_parts() and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    said = process.communicate()[0]
    with Store.open(any_store()) as store:
        lost = set(store.failures)
        assert all(failure.kind == "machine" for failure in store.failures.values())
        assert len(store.video_ids) == 24 - len(lost) and store.finished == (not lost)
    assert len(lost) <= 2 and process.returncode == (3 if lost else 0), said
    assert run(*BASIC) == 0
    with Store.open(only_store()) as store:
        assert store.finished and len(store.video_ids) == 24 and not store.failures


def test_limits_of_a_video_are_options_and_make_no_other_store(tmp_path, monkeypatch, capsys):
    """A picture of 64 x 48, and a GIF of 300 bytes whose pictures are 9000 x 9000."""
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "videos" / "a" / "good.avi", 6, 0)  # 64 x 48
    write_gif(tmp_path / "videos" / "a" / "large.gif", 9000, 9000, 2)
    (tmp_path / "tiny.py").write_text(PAUSING)
    basic = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "T=2",
        "DEVICE=cpu",
    )
    assert run(*basic, "PICTURE_MPX=0.003") == 1
    failures = Store.open(only_store()).failures
    assert (
        str(failures["a/good"])
        == "its pictures of 64 x 48 have more than PICTURE_MPX=0.003 million pixels"
    )
    assert (
        str(failures["a/large"]) == "its pictures have more than PICTURE_MPX=0.003 million pixels"
    )
    assert run(*basic, "RETRY=1", "IN_FLIGHT_MPX=10", "SLOWNESS=1000") == 1
    store = Store.open(only_store())
    assert store.video_ids == ["a/good"] and list(store.failures) == ["a/large"]
    assert (
        run(*basic, "SLOWNESS=nan") == 2
        and "SLOWNESS=nan: must be above 0" in capsys.readouterr().err
    )
