"""Results on a GPU: the same frames as on the CPU, and true fp32. Without a GPU the tests use the
simulated device of the real data (gpu/README.md), which runs torch's own CUDA host code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_gpu import run_on_simulated_gpu
from test_extract import encode
from test_predict import encode as encode_with_sound

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import StoredVideo
from reelbank.data.store.versions import Made, is_inexact
from reelbank.data.store.writer import StoreWriter
from reelbank.extract.device import chosen_device
from reelbank.extract.options import ExtractOptions
from reelbank.extract.run import extract

NETWORK = """
import pathlib
import torch
from torch import nn

class Tiny(nn.Module):
    input_size = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, 4)

    def forward(self, x):
        if x.mean() > -9:  # which torch.fx cannot follow, so that this line stays
            flags = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
            with pathlib.Path("flags.txt").open("a") as file:
                print(x.device.type, *flags, file=file)
        return self.conv(x).relu().mean((2, 3))

def build():
    return Tiny()
"""
COMMANDS = """
import sys
from pathlib import Path
import torch
import reelbank
from reelbank.extract.devices.lease_worker import LeaseWorker
from reelbank.extract.fill import with_defaults
from reelbank.extract.networks.weights import seeded
from reelbank.extract.options import ExtractOptions
from reelbank.heads.training.fit import resume_state, save_state

basic = ["extract", "DATASET=folder", "ROOT=videos", "CROPS=1", "T=2", "COMPILE=0", "WORKERS=1", "STREAM=rgb flow", "FLOW=dis"]
pixels = ["EXTRACTOR=pixels", "RESIZE=20", "CLIP=flow=1"]
assert reelbank.main([*basic, *pixels, "DEVICE=cpu", "BANK=cpu"]) == 0
assert reelbank.main([*basic, *pixels, "DEVICE=cuda", "BANK=cuda"]) == 0
sound = ["extract", "DATASET=folder", "ROOT=sounds", "STREAM=audio", "EXTRACTOR=tiny.py:build", "SIZE=16", "T=2"]
for bank, device in (("cpu", "cpu"), ("cuda", "cuda")):
    assert reelbank.main([*sound, "COMPILE=0", "WORKERS=1", f"BANK={bank}", f"DEVICE={device}"]) == 0
network = ["STREAM=rgb", "EXTRACTOR=tiny.py:build", "SIZE=16", "RESIZE=20", "BANK=cuda"]
for precision in ("fp32", "tf32"):
    assert reelbank.main([*basic, *network, "DEVICE=cuda", f"PRECISION={precision}"]) == 0

# What a process of DEVICE="cuda:0 cuda:1" does on the second GPU, then the command that finishes the
# store with nothing left to extract.
options = ExtractOptions(
    dataset="folder", root="videos", crops=1, t=2, compile="0", workers=1, stream=("rgb", "flow"),
    flow="dis", clip="flow=1", extractor="pixels", resize="20", bank="second",
)
leases = [{f"{name}/clip_g01_c01": ["rgb", "flow"]} for name in ("left", "right")]
stores = [path.name for path in Path("cpu/stores").glob("folder-videos-*.h5")]
second = torch.device("cuda:1")
with LeaseWorker(with_defaults(options), second, "device1", stores, expected_videos=2) as worker:
    assert [report.lines for report in worker.run(leases)] == [(), ()]
assert reelbank.main([*basic, *pixels, "DEVICE=cpu", "BANK=second"]) == 0

# A resumed training: the number of steps, which torch reads in each step, is on the CPU.
def adam():
    model = torch.nn.Linear(3, 2).cuda()
    return model, torch.optim.Adam(model.parameters())

model, optimiser = adam()
model(torch.ones(1, 3).cuda()).sum().backward()
optimiser.step()
save_state(Path("state.safetensors"), model, optimiser, [], {})
model, optimiser = adam()
resume_state(Path("state.safetensors"), model, optimiser, torch.device("cuda"))
assert len(optimiser.state) == 2
for state in optimiser.state.values():
    assert state["step"].device.type == "cpu" and state["step"].item() == 1, state
    assert state["exp_avg"].device.type == "cuda", state

# A network with random weights leaves the random numbers of all GPUs as they are.
before = [torch.cuda.get_rng_state(number) for number in range(2)]
seeded(5, lambda: torch.rand(1))
after = [torch.cuda.get_rng_state(number) for number in range(2)]
assert all(a.equal(b) for a, b in zip(before, after, strict=True))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two small videos of two classes and a network that tells what torch
    may do."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("left", "right")):
        encode(tmp_path / "videos" / name / "clip_g01_c01.avi", 5, number)
    (tmp_path / "tiny.py").write_text(NETWORK)
    return tmp_path


def stores(bank: str, **facts: str) -> list[Path]:
    """The stores of a bank whose recipes hold these facts."""
    found = []
    for path in sorted(Path(bank, "stores").glob("*.h5")):
        with Store.open(path) as store:
            if facts.items() <= store.recipe.items():
                found.append(path)
    return found


@pytest.mark.long
def test_a_simulated_gpu_sees_the_cpus_pictures_and_computes_fp32(folder):
    for number, name in enumerate(("low", "high")):
        encode_with_sound(folder / "sounds" / name / "clip_g01_c01.avi", number)
    report = run_on_simulated_gpu(folder, COMMANDS, devices=2)
    for stream in ("rgb", "flow"):
        of_cpu, *of_gpus = (
            path
            for bank in ("cpu", "cuda", "second")
            for path in stores(bank, stream=stream, extractor="pixels")
        )
        assert [path.name for path in of_gpus] == [of_cpu.name] * 2
        for of_gpu in of_gpus:
            with Store.open(of_cpu) as expected, Store.open(of_gpu) as found:
                assert (found.load()[0] == expected.load()[0]).all()
                assert found.cost.device.endswith(" (exact)") and not is_inexact(found.cost.device)
    (of_cpu,), (of_gpu,) = (stores(bank, stream="audio") for bank in ("cpu", "cuda"))
    with Store.open(of_cpu) as expected, Store.open(of_gpu) as found:
        np.testing.assert_allclose(found.load()[0], expected.load()[0], atol=1e-3)
    waits = report.waits_by_module()
    # The constants of log-mel are copied once. Nothing waits for pictures or sound.
    assert waits["extract/pipeline/logmel.py"] <= 1 and not waits["extract/pipeline/loop.py"]

    on_gpu = [
        line.split()[1:]
        for line in Path("flags.txt").read_text().splitlines()
        if line.startswith("cuda")
    ]
    assert on_gpu[0] == ["False", "False"] and on_gpu[-1] == ["True", "True"]
    assert len(stores("cuda", stream="rgb", precision="fp32", extractor="tiny.build")) == 1
    assert len(stores("cuda", stream="rgb", precision="tf32", extractor="tiny.build")) == 1


def test_tf32_is_refused_where_there_is_none(folder):
    options = ExtractOptions(
        dataset="folder",
        root="videos",
        extractor="tiny.py:build",
        precision="tf32",
        device="cpu",
        t=2,
    )
    with pytest.raises(InputError, match=r"PRECISION=tf32: needs an NVIDIA GPU.*PRECISION=fp32"):
        extract(options)
    assert not Path("bank").exists()


def test_once_a_device_is_chosen_fp32_is_fp32():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    chosen_device("cpu")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("devices", "inexact"),
    [
        ("", False),
        ("CPU (x86_64, 2 cores)", False),
        ("CPU (x86_64, 2 cores), CPU (x86_64, 1 core)", False),
        ("NVIDIA H200", True),
        ("NVIDIA H200 (exact)", False),
        ("CPU (x86_64, 2 cores), NVIDIA H200 (exact)", False),
        ("NVIDIA H200, NVIDIA H200 (exact)", True),
        ("NVIDIA H200 (exact), CPU (x86_64, 2 cores), NVIDIA L4", True),
    ],
)
def test_what_a_gpu_made_before_it_was_exact(devices, inexact):
    assert is_inexact(devices) == inexact


def test_a_store_that_a_gpu_made_before_it_was_exact_is_told(folder, capsys):
    words = [
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=tiny.py:build",
        "SIZE=16",
        "RESIZE=20",
        "CROPS=1",
        "T=2",
    ]
    assert reelbank.main([*words, "DEVICE=cpu"]) == 0
    (path,) = stores("bank")
    with Store.open(path) as store:
        recipe, dataset, video_id = store.recipe, store.dataset, store.video_ids[0]
        source, label, (values, times) = store.sources[0], store.labels[0], store.features(video_id)
    path.unlink()
    meta = StoredVideo(
        id=video_id, label=label, group="", parts=["train"] * len(dataset.splits), source=source
    )
    with StoreWriter(path, recipe, dataset, made=Made("NVIDIA H200", "rgb")) as writer:
        writer.add(meta, values, times)
    capsys.readouterr()
    assert reelbank.main(["inspect", f"STORE={path.with_suffix('.parts')}"]) == 0
    assert "computed some features of this store on a GPU" in capsys.readouterr().out
    assert reelbank.main([*words, "DEVICE=cpu"]) == 0
    (note,) = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("note: ") and "H200" in line
    ]
    assert path.name in note and "TF32" in note and "docs/store.md" in note
    assert reelbank.main([*words, "DEVICE=cpu"]) == 0  # nothing is added
    assert "note: " not in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpus_convolution_is_fp32():
    device = chosen_device("cuda")
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(shape, generator=generator) for shape in ((4, 64, 32, 32), (64, 64, 3, 3))
    )
    exact = torch.nn.functional.conv2d(x.double(), weight.double())
    found = torch.nn.functional.conv2d(x.to(device), weight.to(device)).cpu().double()
    assert (found - exact).norm() < 1e-5 * exact.norm()  # TF32: 3e-4
