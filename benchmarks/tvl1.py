"""Compares our TV-L1 optical flow with DualTVL1 of opencv-contrib-python.

    [REELBANK_TESTDATA=...] python benchmarks/tvl1.py [ROUNDS]

Measures CPU seconds per pair of pictures with one thread, and how much the flows differ. On a GPU, it
also measures pairs per second at 320 x 240 in batches, with torch's operations (tvl1) and with the
Triton kernels (fused_tvl1).

opencv-contrib-python would overwrite cv2, so it is installed in a separate environment in the user's
cache folder (with pip, in the first run). It runs in a separate process. OPENCV selects its version.
The default is the version whose order of rounding we follow. Other versions give different flows;
version 5 differs most, because it does not round positions.

The pairs are those of references/tvl1_dev.npz in REELBANK_TESTDATA, with the flow of OpenCV 4.10.
Without REELBANK_TESTDATA they are drawn like the toy set.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2  # noqa: E402 - numpy's and torch's threads are set first
import numpy as np  # noqa: E402
import torch  # noqa: E402

from reelbank.data.datasets.toy_drawing import render  # noqa: E402
from reelbank.extract.flow.methods import to_uint8  # noqa: E402
from reelbank.extract.flow.tvl1 import tvl1  # noqa: E402
from reelbank.extract.flow.tvl1_triton import TOLERANCE_PX, fused_tvl1, why_not_fused  # noqa: E402

OPENCV = os.environ.get("OPENCV", "4.11.0.86")
GPU_BATCH = 64
PEER = """
import json, resource, sys
import cv2, numpy as np
cv2.setNumThreads(1)
pairs = np.load(sys.argv[1])
method = cv2.optflow.DualTVL1OpticalFlow_create()
for line in sys.stdin:
    before = resource.getrusage(resource.RUSAGE_SELF)
    flows = [method.calc(a, b, None) for a, b in zip(pairs["first"], pairs["second"])]
    after = resource.getrusage(resource.RUSAGE_SELF)
    np.save(sys.argv[2], np.stack(flows))
    print(json.dumps(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), flush=True)
"""


def peer_python() -> Path:
    """The interpreter of the environment with opencv-contrib."""
    folder = Path(
        os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"),
        "reelbank",
        f"opencv-contrib-{OPENCV}",
    )
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = [f"opencv-contrib-python-headless=={OPENCV}", "numpy"]
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(
                f"benchmarks/tvl1.py: {' '.join(packages)} could not be installed: {done.stderr.strip()[-500:]}"
            )
        (folder / "ready").touch()
    return python


def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Two (n, 240, 320) uint8, and OpenCV 4.10's flow (n, 240, 320, 2), or None if it is unknown."""
    root = os.environ.get("REELBANK_TESTDATA")
    if root:
        with np.load(Path(root, "references", "tvl1_dev.npz"), allow_pickle=False) as arrays:
            names = [key.removesuffix("_a") for key in arrays if key.endswith("_a")]
            first, second, flow = (
                np.stack([arrays[name + end] for name in names])
                for end in ("_a", "_b", "_cv2_dualtvl1")
            )
            return first, second, flow
    drawn = []
    for label in ("motion_up", "look_checks"):
        frames, _ = render(label, 1, 1)
        drawn.append(
            [
                cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (320, 240))
                for frame in frames[10:12]
            ]
        )
    first, second = np.stack(drawn, axis=1)
    return first, second, None


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compared(ours: torch.Tensor, theirs: np.ndarray, name: str) -> None:
    """Print for each pair how much two flows differ."""
    for number, (a, b) in enumerate(
        zip(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2), strict=True)
    ):
        same = (to_uint8(a) == to_uint8(b)).all(0).float().mean()
        epe = (a - b).norm(dim=0).mean()
        print(
            f"pair {number} against {name}: end-point error {epe:.4f} px (required: at most 0.02), ",
            end="",
        )
        print(f"equal as uint8 {same:.1%} of pixels (required: at least 85 %)")


def on_gpu(first: torch.Tensor, second: torch.Tensor, core_seconds: float) -> None:
    """Print the speed on the GPU. core_seconds: time of OpenCV for a pair on one CPU core."""
    times = -(-GPU_BATCH // len(first))
    a, b = (x.repeat(times, 1, 1)[:GPU_BATCH].cuda() for x in (first, second))
    rates, flows = {}, {}
    reason = why_not_fused(a.device)
    if reason:
        print(f"{torch.cuda.get_device_name()}: the Triton kernels are not used: {reason}")
    methods = {"torch": tvl1} if reason else {"torch": tvl1, "Triton": fused_tvl1}
    for name, method in methods.items():
        method(a, b)
        torch.cuda.synchronize()
        started = time.perf_counter()
        flows[name] = method(a, b)
        torch.cuda.synchronize()
        rates[name] = GPU_BATCH / (time.perf_counter() - started)
        print(
            f"{torch.cuda.get_device_name()}, {name}: {rates[name]:.1f} pairs/s at 320 x 240 in "
            f"batches of {GPU_BATCH}, {rates[name] * core_seconds:.0f} times the speed of OpenCV on "
            "one CPU core (required: at least 20)"
        )
    if not reason:
        off = (flows["Triton"] - flows["torch"]).norm(dim=1).mean()
        print(
            f"Triton / torch: {rates['Triton'] / rates['torch']:.1f} (goal: 10); end-point "
            f"difference {off:.4f} px (required: at most {TOLERANCE_PX})"
        )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    first, second, known = pairs()
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    seconds: dict[str, list[float]] = {"ours": [], "opencv": []}
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "pairs.npz"), Path(folder, "flows.npy")
        np.savez(given, first=first, second=second)
        command = [str(peer_python()), "-c", PEER, str(given), str(made)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as peer:
            assert peer.stdin and peer.stdout
            ours = tvl1(a, b)
            for number in range(rounds + 1):  # the first warms up
                peer.stdin.write("go\n")
                peer.stdin.flush()
                theirs = json.loads(peer.stdout.readline())
                before = cpu_seconds()
                ours = tvl1(a, b)
                if number:
                    seconds["ours"].append((cpu_seconds() - before) / len(first))
                    seconds["opencv"].append(theirs / len(first))
            peer.stdin.close()
        flows = np.load(made)
    for name, values in seconds.items():
        middle, spread = statistics.median(values), f"{min(values):.3f} to {max(values):.3f}"
        print(
            f"{name:<7}{middle:7.3f} CPU s per pair (median of {rounds} rounds of {len(first)} pairs; {spread})"
        )
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["opencv"], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"opencv {OPENCV} / ours: {statistics.median(ratios):.2f} ({spread}); required: at least 1.3"
    )
    compared(ours, flows, f"OpenCV {OPENCV}")
    if known is not None:
        compared(ours, known, "the reference")
    if torch.cuda.is_available():
        on_gpu(a, b, statistics.median(seconds["opencv"]))


if __name__ == "__main__":
    main()
