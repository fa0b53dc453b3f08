"""Extraction of every stream on the simulated device of the real data (gpu/README.md): without a
violation of CUDA's rules, with the CPU's features, and within budgets of launches and waits."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata
from simulated_gpu import run_on_simulated_gpu
from test_extract import encode
from test_predict import encode as encode_with_sound
from tiny_networks import POOLED

from reelbank.data.store.reader import Store
from reelbank.extract.flow.methods import METHODS
from reelbank.extract.streams.registry import STREAMS

SMALL = ["WORKERS=1", "DATASET=folder"]
TINY = ["EXTRACTOR=tiny.py:build", "SIZE=32", "RESIZE=40", "ROOT=videos", "CROPS=1"]
# Each is run on the CPU and on the simulated GPU.
JOBS = {
    "ten crops": ["STREAM=rgb", *TINY[:4], "T=3", "CROPS=10"],
    "views": ["STREAM=rgb", *TINY, "T=3", "VIEWS=2", "JITTER=1", "BATCH=7"],
    "kept crops": ["STREAM=rgb", *TINY[:4], "T=2", "CROPS=5", "KEEP_CROPS=1"],
    "clips": [
        *("STREAM=rgb", "EXTRACTOR=torchvision:r3d_18", "WEIGHTS=random", *TINY[1:]),
        *("T=2", "CLIP=4", "BATCH=2"),
    ],
    "sound": ["STREAM=audio", *TINY[:2], "ROOT=sounds", "T=2"],
    "three streams": [
        *("STREAM=rgb flow audio", "FLOW=farneback", "CLIP=flow=2", "T=2"),
        *("EXTRACTOR=tiny.py:build", "SIZE=rgb=32 flow=32 audio=32", "RESIZE=40", "ROOT=sounds"),
        "CROPS=1",
    ],
    # Of one field: the simulated GPU takes seconds for the thousands of operations of each.
    "TV-L1": [
        *("STREAM=flow", "EXTRACTOR=tiny.py:build", "SIZE=16", "RESIZE=20", "ROOT=short"),
        *("T=1", "FLOW=tvl1", "CLIP=1", "CROPS=10"),
    ],
    "DIS": ["STREAM=flow", *TINY, "T=1", "FLOW=dis", "CLIP=2"],
    "RAFT small": [*("STREAM=flow", *TINY, "T=1", "CLIP=1"), "FLOW=raft_small", "FLOW_WEIGHTS=random"],
    "RAFT large": [*("STREAM=flow", *TINY, "T=1", "CLIP=1"), "FLOW=raft_large", "FLOW_WEIGHTS=random"],
    "flow lengths": ["STREAM=magnitude", "ROOT=videos", "RESIZE=32", "FLOW=dis"],
    "adaptive": ["STREAM=rgb", *TINY, "T=2", "SAMPLING=adaptive", "FLOW=dis"],
    "trajectories": ["STREAM=idt", "ROOT=riding", "RESIZE=48", "TRAJECTORIES=20"],
}  # fmt: skip
COMMANDS = """
import json
from pathlib import Path
import reelbank

for name, words in json.loads(Path("jobs.json").read_text()).items():
    for device in ("cpu", "cuda"):
        assert reelbank.main(["extract", *words, f"DEVICE={device}", f"BANK={device}/{name}"]) == 0, name
"""
BUDGET = """
import collections
import json
from pathlib import Path
import deviceguard
import reelbank

guard = deviceguard.guard()
words, more = json.loads(Path("budget.json").read_text())


def outside_the_network():
    counts = collections.Counter()
    for line, of_line in guard.by_line.items():
        if not line.startswith(("extract/networks/", "extract/pipeline/forward.py")):
            counts.update(of_line)
    return counts


assert reelbank.main([*words, "DEVICE=cuda", "BANK=first"]) == 0  # whose constants stay on the device
before = outside_the_network()
assert reelbank.main([*words, more, "DEVICE=cuda", "BANK=second"]) == 0
print(json.dumps(outside_the_network() - before))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two small videos, two of two frames, two with sound, a real one, and a network."""
    for number, label in enumerate(("left", "right")):
        encode(tmp_path / "videos" / label / "clip_g01_c01.avi", 6, number)
        encode(tmp_path / "short" / label / "clip_g01_c01.avi", 2, number)
        encode_with_sound(tmp_path / "sounds" / label / "clip_g01_c01.avi", number, 50)
    riding = tmp_path / "riding" / "a" / "clip.avi"
    riding.parent.mkdir(parents=True)
    riding.symlink_to(testdata("clips", "ucf101", "HorseRiding", "v_HorseRiding_g01_c03.avi"))
    (tmp_path / "tiny.py").write_text(POOLED)
    return tmp_path


@pytest.mark.long
def test_every_stream_keeps_the_rules_of_a_gpu_and_gives_the_cpus_features(folder: Path) -> None:
    """Two videos of two classes in each job; the streams and flow methods are those of the
    registries."""
    jobs = {name: [*SMALL, *words] for name, words in JOBS.items()}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run_on_simulated_gpu(folder, COMMANDS)
    streams, methods = set(), set()
    for name in JOBS:
        of_cpu, of_gpu = (
            {path.name: path for path in (folder / device / name / "stores").glob("*.h5")}
            for device in ("cpu", "cuda")
        )
        assert of_cpu and of_cpu.keys() == of_gpu.keys()
        for store, path in of_cpu.items():
            with Store.open(path) as expected, Store.open(of_gpu[store]) as found:
                assert found.video_ids == expected.video_ids and not found.failures
                assert "(exact)" in found.cost.device
                np.testing.assert_allclose(
                    found.load()[0].astype(float), expected.load()[0].astype(float), atol=1e-3
                )
                streams.add(expected.recipe["stream"])
                methods.add((expected.recipe.get("flow") or {}).get("method"))
    assert streams == STREAMS.keys()
    assert methods - {None} == set(METHODS)


@pytest.mark.parametrize(
    ("words", "batches"),
    [
        (["STREAM=rgb", "EXTRACTOR=tiny.py:build", "RESIZE=40", "T=2", "CROPS=10", "BATCH=20"], 3),
        (["STREAM=audio", "EXTRACTOR=tiny.py:build", "SIZE=32", "T=2", "BATCH=2"], 3),
    ],
    ids=["pictures", "sound"],
)
def test_a_video_costs_few_operations_and_one_wait_for_each_batch(
    folder: Path, words: list[str], batches: int
) -> None:
    """Outside the network: at most 15 launches of kernels for each video."""
    for number in range(3):
        encode_with_sound(folder / "more" / "up" / f"clip_g0{number}_c01.avi", number, 50)
    words = ["extract", *SMALL, "ROOT=sounds", *words]
    (folder / "budget.json").write_text(json.dumps([words, "ROOT=more"]))
    counts = json.loads(run_on_simulated_gpu(folder, BUDGET).output.splitlines()[-1])
    assert 0 < counts["launches"] <= 15 * 3
    assert sum(counts.get(f"{what}_syncs", 0) for what in ("stream", "device", "event")) <= batches
