"""The fused Triton kernels of TV-L1, compared with the torch implementation. Triton's interpreter
runs the kernels on the CPU, in a process of its own, because it must be chosen before triton is
imported."""

import importlib.metadata
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from conftest import testdata

from reelbank.extract.flow.methods import to_uint8
from reelbank.extract.flow.tvl1 import Tvl1, tvl1
from reelbank.extract.flow.tvl1_triton import fused_tvl1, tvl1_on_device

SHORT = Tvl1(scales=2, warps=2, outer_iterations=1, inner_iterations=8, epsilon=0.1)
FEW = Tvl1(scales=1, warps=2, outer_iterations=1, inner_iterations=3)
ENDLESS = Tvl1(scales=1, warps=1, outer_iterations=1, epsilon=0, median_px=0)
INTERPRETED = """
import json, sys
import numpy as np
import torch
from reelbank.extract.flow.tvl1 import Tvl1
from reelbank.extract.flow.tvl1_triton import LAUNCHES, fused_tvl1

torch.set_num_threads(1)
for name, parameters in json.load(open(sys.argv[1])).items():
    with np.load(f"{name}_pictures.npz") as pictures:
        first, second = torch.from_numpy(pictures["first"]), torch.from_numpy(pictures["second"])
    LAUNCHES.clear()
    np.save(f"{name}_flow.npy", fused_tvl1(first, second, Tvl1(**parameters)).numpy())
    json.dump(LAUNCHES, open(f"{name}_launches.json", "w"))
"""
COMPILED = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from reelbank.extract.flow import tvl1_kernels

types = {"live": "*i32", "live_after": "*i32", "moved": "*fp64", "w": "i32", "h": "i32", "size": "i32"}
types |= dict.fromkeys(("theta", "limit", "ratio", "enough"), "fp32") | {"BLOCK": "constexpr"}
for name in ("primal", "dual_step", "linearise", "median"):
    kernel = getattr(tvl1_kernels, name)
    signature = {argument: types.get(argument, "*fp32") for argument in kernel.arg_names}
    source = ASTSource(kernel, signature, {(len(signature) - 1,): 256})
    options = {"num_warps": 4, "enable_fp_fusion": False}
    print(compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"])
"""
ON_PRETEND_GPU = """
import torch
from reelbank.extract.flow.tvl1 import Tvl1
from reelbank.extract.flow.tvl1_triton import LAUNCHES, tvl1_on_device

picture = (torch.arange(16 * 16) * 7 % 251).to(torch.uint8).view(1, 16, 16)
parameters = Tvl1(scales=1, warps=1, outer_iterations=1, inner_iterations=2)
for _ in range(2):
    flow = tvl1_on_device(picture.cuda(), picture.roll(1, 2).cuda(), parameters)
torch.save(flow.cpu(), "flow.pt")
assert not LAUNCHES
"""

Pair = tuple[torch.Tensor, torch.Tensor]


def run_python(folder: Path, words: list[str], **variables: str) -> str:
    """The output of Python with these words, in the folder."""
    ran = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return ran.stdout


@pytest.fixture(scope="module")
def with_triton() -> None:
    """Skips where triton is missing or older than that of the lowest supported torch."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed here, so the TV-L1 kernels are NOT TESTED")
    version = importlib.metadata.version("triton")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < (3, 5):
        pytest.skip(f"triton {version} is older than 3.5, so the TV-L1 kernels are NOT TESTED")


def frames(*clip: str, size: tuple[int, int], first: int = 12) -> Pair:
    """Two consecutive frames of a real clip, grey, (1, h, w) uint8."""
    with av.open(str(testdata("clips", *clip))) as container:
        decoded = itertools.islice(container.decode(video=0), first, first + 2)
        pictures = [frame.to_ndarray(format="gray") for frame in decoded]
    h, w = size
    small = [cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(small[0])[None], torch.from_numpy(small[1])[None]


def drawn(h: int, w: int) -> Pair:
    """A smooth random picture, and the same moved by (2, 1) pixels: (1, h, w) uint8."""
    noise = np.random.default_rng(h * w).random((h + 1, w + 2)).astype(np.float32)
    smooth = torch.from_numpy((255 * cv2.GaussianBlur(noise, (0, 0), 1.5)).astype(np.uint8))
    return smooth[None, 1:, 2:].contiguous(), smooth[None, :-1, :-2].contiguous()


def batch(*pairs: Pair) -> Pair:
    return torch.cat([first for first, _ in pairs]), torch.cat([second for _, second in pairs])


class Interpreted:
    """The results of the kernels for named pairs of pictures."""

    def __init__(self, folder: Path, cases: dict[str, tuple[Pair, Tvl1]]) -> None:
        self.folder, self.cases = folder, cases
        for name, ((first, second), _) in cases.items():
            np.savez(folder / f"{name}_pictures.npz", first=first.numpy(), second=second.numpy())
        parameters = {name: asdict(of) for name, (_, of) in cases.items()}
        (folder / "cases.json").write_text(json.dumps(parameters))
        run_python(folder, ["-c", INTERPRETED, "cases.json"], TRITON_INTERPRET="1")

    def flow(self, name: str) -> torch.Tensor:
        return torch.from_numpy(np.load(self.folder / f"{name}_flow.npy"))

    def reference(self, name: str) -> torch.Tensor:
        (first, second), parameters = self.cases[name]
        return tvl1(first, second, parameters)

    def launches(self, name: str) -> int:
        return sum(json.loads((self.folder / f"{name}_launches.json").read_text()).values())


@pytest.mark.long
def test_the_kernels_flow_of_real_frames_is_that_of_torch_for_each_item_alone(
    with_triton, tmp_path
):
    riding = frames("ucf101", "HorseRiding", "v_HorseRiding_g01_c03.avi", size=(24, 32), first=12)
    jump = frames("ucf101", "HighJump", "v_HighJump_g01_c01.avi", size=(24, 32), first=24)
    of = Interpreted(tmp_path, {"alone": (riding, SHORT), "both": (batch(jump, riding), SHORT)})
    flow, reference = of.flow("both"), of.reference("both")
    assert (flow - reference).abs().max() <= 0.02
    assert torch.equal(to_uint8(flow), to_uint8(reference))
    assert torch.equal(flow[1:], of.flow("alone"))
    # Each pair moves, and each stops early, after other iterations than its neighbour.
    never_stopped = tvl1(*batch(jump, riding), replace(SHORT, epsilon=0))
    for number in range(2):
        assert reference[number].abs().max() > 1
        assert (never_stopped - reference)[number].abs().max() > 1


def test_the_kernels_compute_small_pictures(with_triton, tmp_path):
    sizes = ((17, 23), (5, 3), (1, 1))
    of = Interpreted(tmp_path, {f"{h} x {w}": (drawn(h, w), FEW) for h, w in sizes})
    for name in of.cases:
        flow, reference = of.flow(name), of.reference(name)
        assert flow.shape == reference.shape and (flow - reference).abs().max() <= 0.02, name


def test_an_inner_iteration_is_at_most_three_launches_and_none_follows_a_stop(
    with_triton, tmp_path
):
    pair = drawn(16, 16)
    of = Interpreted(
        tmp_path,
        {
            "2 iterations": (pair, replace(ENDLESS, inner_iterations=2)),
            "12 iterations": (pair, replace(ENDLESS, inner_iterations=12)),
            "still": ((pair[0], pair[0]), Tvl1(scales=1, warps=1)),
        },
    )
    ten_iterations = of.launches("12 iterations") - of.launches("2 iterations")
    assert 10 <= ten_iterations <= 30
    # The host asks now and then whether an item continues: at most 20 of the 300 iterations.
    assert of.launches("still") <= 3 * 20 + 3


def test_without_a_gpu_torch_computes_the_flow(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    first, second = drawn(16, 16)
    assert torch.equal(tvl1_on_device(first, second, FEW), tvl1(first, second, FEW))
    with pytest.raises(ValueError, match=r"must be on a GPU.*got pictures on the CPU"):
        fused_tvl1(first, second, FEW)


@pytest.mark.long
def test_a_gpu_that_cannot_run_the_kernels_uses_torch_and_says_so_once(with_triton, tmp_path):
    if not shutil.which("g++") or sys.platform != "linux":
        pytest.skip("the pretend device needs Linux and g++")
    guard = str(testdata("gpu", "deviceguard.py"))
    (tmp_path / "flow.py").write_text(ON_PRETEND_GPU)
    output = run_python(
        tmp_path,
        [guard, "--report", "report.json", "flow.py"],
        DEVICEGUARD_BUILD=str(tmp_path / "lib"),
        TRITON_CACHE_DIR=str(tmp_path / "cache"),
    )
    notes = [line for line in output.splitlines() if line.startswith("note:")]
    assert len(notes) == 1 and "without its Triton kernels, which is slower" in notes[0]
    picture = (torch.arange(16 * 16) * 7 % 251).to(torch.uint8).view(1, 16, 16)
    parameters = Tvl1(scales=1, warps=1, outer_iterations=1, inner_iterations=2)
    expected = tvl1(picture, picture.roll(1, 2), parameters)
    flow = torch.load(tmp_path / "flow.pt", weights_only=True)
    assert (flow - expected).abs().max() < 1e-3
    assert not json.loads((tmp_path / "report.json").read_text())["violations"]


@pytest.mark.long
def test_the_kernels_flow_over_many_iterations_is_that_of_torch(with_triton, tmp_path):
    clips = (("HighJump", "v_HighJump_g01_c01.avi"), ("HorseRiding", "v_HorseRiding_g01_c03.avi"))
    pictures = batch(*(frames("ucf101", *clip, size=(32, 40)) for clip in clips))
    of = Tvl1(scales=3, warps=3, outer_iterations=2, inner_iterations=10)
    interpreted = Interpreted(tmp_path, {"clips": (pictures, of)})
    flow, reference = interpreted.flow("clips"), interpreted.reference("clips")
    assert (flow - reference).norm(dim=1).mean() <= 0.02
    assert (to_uint8(flow) == to_uint8(reference)).float().mean() >= 0.99


@pytest.mark.long
def test_the_kernels_compile_for_a_gpu_to_exactly_rounded_steps(with_triton, tmp_path):
    ptx = run_python(
        tmp_path, ["-c", COMPILED], TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)
    )
    assert ptx.count(".entry") == 4
    assert "div.rn.f32" in ptx and "sqrt.rn.f32" in ptx
    assert not re.search(r"\b(fma|div\.full|sqrt\.approx)", ptx)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_runs_the_kernels_and_their_flow_is_that_of_torch():
    with np.load(testdata("references", "tvl1_dev.npz"), allow_pickle=False) as arrays:
        first, second = (
            torch.from_numpy(
                np.stack([arrays[f"{name}_{end}"] for name in ("HorseRiding", "HighJump")])
            )
            for end in "ab"
        )
    flow, reference = (method(first.cuda(), second.cuda()) for method in (fused_tvl1, tvl1))
    assert (flow - reference).norm(dim=1).mean() <= 0.02
    assert torch.equal(flow[:1], fused_tvl1(first[:1].cuda(), second[:1].cuda()))
