"""Commands inside cgroup v1 control groups that the tests create, and with a small /dev/shm;
skipped where control groups cannot be created."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import testdata
from joblib.externals.loky import get_reusable_executor

from reelbank.data.datasets import toy, toy_drawing
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.data.system.machine import cores, groups
from reelbank.heads.training.batches import loaded
from reelbank.heads.training.streaming import sharing_folder


def made_group(controller: str, files: dict[str, str]) -> Path:
    """A new control group of a v1 hierarchy with these limits; skips where none can be made."""
    tops = [
        group.folder
        for group in groups(controller)
        if group.version == 1 and (group.folder / "tasks").exists()
    ]
    if not tops:
        pytest.skip(f"no cgroup v1 hierarchy of the controller {controller} is mounted here")
    folder = tops[-1] / f"reelbank-test-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made in {tops[-1]}: {error.strerror}")
    try:
        for name, text in files.items():
            (folder / name).write_text(text)
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"{name} of a control group cannot be set: {error.strerror}")
    return folder


def removed(folder: Path) -> None:
    for _ in range(100):  # a process that has just ended leaves its group a moment later
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
    folder.rmdir()


ENTER = (
    'for group in $GROUPS_TO_ENTER; do echo $$ > "$group/cgroup.procs" || exit 99; done; exec "$@"'
)


def entering(
    folders: list[Path], words: list[str], **environment: str
) -> tuple[list[str], dict[str, str]]:
    """A command that runs python with `words` in these control groups, and its environment."""
    own = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    own |= {
        "GROUPS_TO_ENTER": " ".join(map(str, folders)),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    return ["sh", "-c", ENTER, "sh", sys.executable, *words], own


def run_in(
    folders: list[Path], words: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    command, own = entering(folders, words, **environment)
    return subprocess.run(command, env=own, capture_output=True, text=True)


@pytest.fixture
def quota_of_one() -> Iterator[Path]:
    """A group inside one whose processes together may use one core."""
    parent = made_group("cpu", {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"})
    child = parent / "child"
    child.mkdir()
    yield child
    removed(child)
    removed(parent)


def of_two_cores() -> None:
    if cores().value < 2:
        pytest.skip("one core is allowed here, so a quota of one changes nothing")


COUNT = "from reelbank.data.system.machine import cores; limit = cores(); print(limit.value, limit.source)"
THREADS = (
    "import reelbank; reelbank.main(['stores', 'BANK=none']); import torch, cv2; "
    "print(torch.get_num_threads(), cv2.getNumThreads())"
)
THREADS_OF_LOADED = (
    "import torch, reelbank; before = torch.get_num_threads(); reelbank.main(['stores', 'BANK=none']); "
    "print(before, torch.get_num_threads())"
)
THREADS_OF_A_NOTEBOOK = "import cv2, reelbank; reelbank.predict; import torch; "
THREADS_OF_A_NOTEBOOK += "print(torch.get_num_threads(), cv2.getNumThreads())"


@pytest.mark.long
def test_a_quota_limits_cores_and_threads(quota_of_one: Path) -> None:
    of_two_cores()
    value, _, source = run_in([quota_of_one], ["-c", COUNT]).stdout.partition(" ")
    assert value == "1" and source.startswith(
        f"CPU quota of control group /{quota_of_one.parent.name}, cgroup v1"
    )
    assert run_in([], ["-c", COUNT]).stdout.split()[0] == str(cores().value)
    assert (
        run_in([quota_of_one], ["-c", THREADS], OMP_NUM_THREADS="5").stdout.splitlines()[-1]
        == "1 1"
    )
    before, after = (
        run_in([quota_of_one], ["-c", THREADS_OF_LOADED]).stdout.splitlines()[-1].split()
    )
    assert int(before) > 1 and after == "1"
    assert run_in([quota_of_one], ["-c", THREADS_OF_A_NOTEBOOK]).stdout.split() == ["1", "1"]


def test_doctor_shows_what_a_quota_leaves(quota_of_one: Path) -> None:
    of_two_cores()
    said = run_in([quota_of_one], ["-m", "reelbank", "doctor"]).stdout
    assert f"cores: 1 (CPU quota of control group /{quota_of_one.parent.name}, cgroup v1)" in said
    assert "memory: " in said and "shared memory (/dev/shm): " in said


def most_decoders(command: list[str], environment: dict[str, str]) -> int:
    """Run it to its end; how many decode processes it had at the same time."""
    most = 0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None:
            with contextlib.suppress(OSError):  # one that ends while it is looked at
                commands = [
                    Path(f"/proc/{child}/cmdline").read_text()
                    for child in children.read_text().split()
                ]
                most = max(most, sum("data.video.worker" in words for words in commands))
            time.sleep(0.02)
        assert process.returncode == 0, process.stderr and process.stderr.read().decode()
    return most


@pytest.mark.long
def test_a_quota_of_one_starts_one_decoder(quota_of_one: Path, tmp_path: Path) -> None:
    of_two_cores()
    (tmp_path / "videos" / "a").mkdir(parents=True)
    for clip in (1, 2, 3):
        frames, sound = toy_drawing.render(toy.CLASSES[0], 1, clip, seed=0)
        toy_drawing.write_video(tmp_path / "videos" / "a" / f"{clip}.mp4", frames[:20], sound)
    words = [
        "-m",
        "reelbank",
        "extract",
        "DATASET=folder",
        f"ROOT={tmp_path / 'videos'}",
        "STREAM=idt",
        "RESIZE=64",
    ]
    for folders, wanted in (([quota_of_one], 1), ([], min(3, len(os.sched_getaffinity(0))))):
        bank = f"BANK={tmp_path / str(wanted)}"
        assert most_decoders(*entering(folders, [*words, bank])) == wanted
    written = json.dumps(inspected(tmp_path / "1"))
    assert "1 core)" in written


def inspected(bank: Path) -> dict[str, object]:
    """What the bank's only store says of the machine that made it."""
    with Store.open(next((bank / "stores").glob("*.h5"))) as store:
        return store.cost.to_json()


def made_store(path: Path, videos: int, steps: int, features: int) -> Path:
    """Videos of two classes whose rows are noise around the class's own mean: (steps, features)
    float16 each."""
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(64 + steps, features)).astype(
        np.float16
    )  # drawing each video's own noise would take longer
    metas = []
    about = DatasetDescription(name="made", classes=["dig", "fly"], splits=["1"], coarse={})
    recipe = {"stream": "rgb", "extractor": "made", "steps": steps, "weights": {"source": "random"}}
    with StoreWriter(path, recipe, about, part_videos=1000) as writer:
        for number in range(videos):
            label, group = number % 2, number // 2 % 5
            part = "test" if group == 0 else "train"
            source = {"bytes": number, "frames": 100, "fps": 25.0}
            metas.append(
                StoredVideo(
                    id=f"v{number:05}",
                    label=about.classes[label],
                    group=f"{label}{group}",
                    parts=[part],
                    source=source,
                )
            )
            first = number % 64
            writer.add(
                metas[-1],
                pool[first : first + steps] + np.float16(label),
                np.arange(float(steps)),
            )
        assert writer.finish(metas)
    return path


@pytest.mark.long
def test_a_quota_of_one_trains_on_one_thread(quota_of_one: Path, tmp_path: Path) -> None:
    of_two_cores()
    made_store(tmp_path / "stores" / "a.h5", 60, 4, 8)
    words = [
        "-m",
        "reelbank",
        "train",
        f"BANK={tmp_path}",
        "HEAD=meanpool",
        "EPOCHS=1",
        "WORKERS=1",
    ]
    ended = run_in([quota_of_one], words)
    assert ended.returncode == 0, ended.stderr
    (recipe,) = (tmp_path / "runs").glob("*/recipe.json")
    assert json.loads(recipe.read_text())["environment"]["threads"] == 1


# ---- memory


@pytest.fixture
def memory_group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A group whose processes together may use so many bytes, and no swap; by default 2,000 MB."""
    limits = {
        "memory.swappiness": "0",
        "memory.limit_in_bytes": str(getattr(request, "param", 2_000_000_000)),
    }
    folder = made_group("memory", limits)
    yield folder
    removed(folder)


# torch._dynamo is imported by the first optimiser.
ANONYMOUS = "import torch._dynamo, reelbank.heads.training.train; "
ANONYMOUS += "print(next(line for line in open('/proc/self/status') if line[:7] == 'RssAnon'))"


@pytest.mark.long
def test_train_streams_what_the_groups_memory_does_not_hold(
    memory_group: Path, tmp_path: Path
) -> None:
    made_store(tmp_path / "stores" / "a.h5", 2500, 25, 2048)  # 256 MB
    base_bytes = (
        int(run_in([], ["-c", ANONYMOUS]).stdout.split()[1]) * 1024
    )  # torch and what else is imported
    (memory_group / "memory.limit_in_bytes").write_text(str(base_bytes + 300_000_000))
    words = [
        "-m",
        "reelbank",
        "train",
        f"BANK={tmp_path}",
        "HEAD=meanpool",
        "ZNORM=0",
        "EPOCHS=1",
        "REFIT=0",
    ]
    ended = run_in([memory_group], words)
    assert ended.returncode == 0, ended.stderr
    assert f"memory limit of control group /{memory_group.name}, cgroup v1" in ended.stdout
    assert "read from disk" in ended.stdout


@pytest.mark.long
def test_a_store_of_ucf101s_size_in_2000_mb(memory_group: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "stores" / "a.h5", 13320, 25, 2048)  # 1.4 GB
    train = ["train", f"BANK={tmp_path}", "HEAD=meanpool", "EPOCHS=1", "REFIT=0"]
    said = {}
    for words in (
        train,
        ["report", f"BANK={tmp_path}"],
        ["predict", f"BANK={tmp_path}", "RUN=meanpool", f"STORE={store}"],
    ):
        ended = run_in([memory_group], ["-m", "reelbank", *words])
        assert ended.returncode == 0, ended.stderr
        said[words[0]] = ended.stdout
    assert "read from disk" in said["train"]
    # predict reads the store piece by piece, whatever its size, and names every video
    names = [line.split(":")[0] for line in said["predict"].splitlines()]
    videos = [f"v{number:05}" for number in range(13320)]
    assert [name for name in names if name in set(videos)] == videos


@pytest.mark.long
def test_real_clips_are_extracted_in_2000_mb(memory_group: Path, tmp_path: Path) -> None:
    root = testdata("clips", "ucf101")
    words = [
        "extract",
        "DATASET=ucf101",
        f"ROOT={root}",
        "STREAM=rgb flow audio",
        "WEIGHTS=random",
        "FLOW=dis",
        "T=3",
        "CROPS=1",
        "CLASSES=SkyDiving Diving ApplyEyeMakeup LongJump Hammering",
    ]
    ended = run_in(
        [memory_group],
        ["-m", "reelbank", *words, "EXTRACTOR=torchvision:resnet18", f"BANK={tmp_path}"],
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert ended.stdout.count("52 of 52 videos stored; finished") == 2  # rgb, flow
    assert "42 of 52 videos stored, 10 without sound; finished" in ended.stdout


@pytest.mark.long
def test_a_worker_that_is_killed_gives_one_line(tmp_path: Path) -> None:
    made_store(tmp_path / "stores" / "a.h5", 60, 4, 8)
    words = [
        "-m",
        "reelbank",
        "train",
        f"BANK={tmp_path}",
        "HEAD=meanpool",
        "SEED=0 1",
        "WORKERS=2",
    ]
    command, environment = entering([], [*words, "EPOCHS=1000000", "PATIENCE=0"])
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not list((tmp_path / "runs").glob("*/state.safetensors")):
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
        os.kill(
            next(child for child, words in commands.items() if "popen_loky" in words),
            signal.SIGKILL,
        )
        _, errors = process.communicate()
    assert process.returncode == 2
    assert "WORKERS=2: a training process was killed" in errors and "Traceback" not in errors


# ---- shared memory


def test_runs_side_by_side_share_one_copy_of_the_features(tmp_path: Path) -> None:
    data = loaded(("a", "b"), np.ones((1000, 1000), np.float16), np.array([0, 500, 1000]))

    def files(_: object) -> int:
        return len(list(tmp_path.rglob("*.pkl")))

    # Processes that an earlier test started would keep its folder.
    get_reusable_executor().shutdown()
    counts = joblib.Parallel(n_jobs=2, temp_folder=tmp_path, mmap_mode="c")(
        joblib.delayed(files)(data) for _ in range(6)
    )
    assert max(counts) == 1


def test_where_processes_share_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBLIB_TEMP_FOLDER", raising=False)
    assert sharing_folder(1 << 20) in ("/dev/shm", os.environ.get("TMPDIR", "/tmp"))
    assert sharing_folder(1 << 60) == ""
    for folder in (tmp_path, tmp_path / "not" / "there"):  # joblib makes what is missing
        monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(folder))
        assert sharing_folder(1 << 20) == str(folder) and sharing_folder(1 << 60) == ""


SMALL_SHARED = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'


@pytest.mark.long
def test_workers_get_by_with_dockers_shared_memory(tmp_path: Path) -> None:
    tried = subprocess.run(
        ["unshare", "-m", "sh", "-c", SMALL_SHARED, "sh", "df", "/dev/shm"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"no /dev/shm of its own can be mounted here: {tried.stderr.strip()}")
    made_store(tmp_path / "stores" / "a.h5", 800, 25, 2048)  # 82 MB
    words = [
        "-m",
        "reelbank",
        "train",
        f"BANK={tmp_path}",
        "HEAD=meanpool",
        "EPOCHS=1",
        "SEED=0 1",
        "WORKERS=2",
        "REFIT=0",
    ]

    def ended(*more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command, own = entering([], [*words, *more], **environment)
        shell = ["unshare", "-m", "sh", "-c", SMALL_SHARED, "sh"]
        return subprocess.run([*shell, *command], env=own, capture_output=True, text=True)

    refused = ended("READ_FROM=memory", JOBLIB_TEMP_FOLDER="/dev/shm")
    assert (
        refused.returncode == 2
        and "WORKERS=2: there is not enough space for the 0.1 GiB of features" in refused.stderr
    )
    done = ended("READ_FROM=memory")  # through the folder of temporary files
    assert done.returncode == 0, done.stderr
    streamed = ended("SEED=2 3", JOBLIB_TEMP_FOLDER="/dev/shm")
    assert streamed.returncode == 0 and "more than fits into /dev/shm" in streamed.stdout
    assert len(list((tmp_path / "runs").glob("*/metrics.json"))) == 4
