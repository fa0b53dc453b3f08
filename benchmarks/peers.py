"""Compares extraction with the tool video_features: CPU time of the whole command, and the features.

    REELBANK_TESTDATA=... VIDEO_FEATURES=<checkout> python benchmarks/peers.py [resnet r21d i3d]

VIDEO_FEATURES is a checkout of https://github.com/v-iashin/video_features, which needs the package
omegaconf (PYTHONPATH is passed on to it). Both tools run as commands, one after the other, on the
same clips, with one thread, in fp32, with the same random weights, and with the tool's own settings:
every frame with ResNet-50, stacks of 16 frames with R(2+1)D-18, stacks of 64 frames with I3D.

REELBANK_TESTDATA is the folder that contains clips/ucf101. ROUNDS and VIDEOS set the length. CPU
time is that of all processes of a command, user and system. "one clip" is the time of the command
with a single clip, and "further clips" the difference, without the costs of starting.

torchvision no longer has `read_video`, which video_features uses for R(2+1)D. It is replaced here by
the same function written with PyAV, as torchvision's was.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from extraction import clips
from rows import Row, ratios
from torchvision import models

from reelbank.data.store.reader import Store

HERE = Path(__file__).resolve().parent.parent
# Starts video_features with the function that torchvision has removed.
START = """
import sys, types
import av, numpy, torch
sys.path.insert(0, "")

def read_video(path, pts_unit):
    with av.open(path) as container:
        frames = [frame.to_rgb().to_ndarray() for frame in container.decode(video=0)]
    return torch.as_tensor(numpy.stack(frames)), torch.empty(1, 0), {}

module = types.ModuleType("torchvision.io.video")
module.read_video = read_video
sys.modules["torchvision.io.video"] = module
sys.argv[0] = "main.py"
exec(compile(open("main.py").read(), "main.py", "exec"))
"""
I3D_WEIGHTS = """
import torch
from models.i3d.i3d_src.i3d_net import I3D
torch.manual_seed(0)
torch.save(I3D(num_classes=400, modality="rgb").state_dict(), "models/i3d/checkpoints/i3d_rgb.pt")
"""


@dataclass(frozen=True)
class Case:
    """One network in both tools. weights: of torchvision; key: of the file with the features."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    key: str
    target: str
    weights: models.WeightsEnum | None = None


CASES = {
    "resnet": Case(
        ("feature_type=resnet", "model_name=resnet50", "batch_size=1"),
        ("EXTRACTOR=torchvision:resnet50", "PRESET=IMAGENET1K_V1", "STRIDE=1"),
        "resnet",
        "at least 1.25",
        models.ResNet50_Weights.IMAGENET1K_V1,
    ),
    "r21d": Case(
        ("feature_type=r21d",),
        ("EXTRACTOR=torchvision:r2plus1d_18", "CLIP=16", "STRIDE=16"),
        "r21d",
        "at least 1.6",
        models.video.R2Plus1D_18_Weights.DEFAULT,
    ),
    "i3d": Case(
        ("feature_type=i3d", "streams=rgb", "stack_size=64", "step_size=64"),
        ("EXTRACTOR=i3d", "CLIP=64", "STRIDE=64"),
        "rgb",
        "at least 1.8",
    ),
}


class Bench:
    """The folder of a comparison, with the clips, the weights and a copy of video_features."""

    def __init__(self, folder: Path, checkout: Path, clips: list[Path]) -> None:
        self.folder, self.checkout, self.clips = folder, folder / "video_features", clips
        shutil.copytree(checkout, self.checkout, ignore=shutil.ignore_patterns(".git", "*.pth"))
        self.env = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_HOME": str(folder / "torch")}
        self.env["PYTHONPATH"] = os.pathsep.join(
            [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        )

    def weights_of(self, case: Case) -> Path:
        """Write random weights where video_features looks for its own."""
        if case.weights is None:
            self.run([sys.executable, "-c", I3D_WEIGHTS])
            return self.checkout / "models/i3d/checkpoints/i3d_rgb.pt"
        torch.manual_seed(0)
        path = self.folder / "torch" / "hub" / "checkpoints" / case.weights.url.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        build = models.get_model_builder("resnet50")
        if case.key == "r21d":
            build = models.get_model_builder("r2plus1d_18")
        torch.save(build(weights=None).state_dict(), path)
        return path

    def run(self, command: list[str]) -> float:
        """The CPU time of a command and its processes, in seconds."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command, cwd=self.checkout, env=self.env, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode or "An error occurred" in done.stdout:
            sys.exit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    def theirs(self, case: Case, name: str, clips: list[Path]) -> float:
        """Run video_features; its files are in the folder `name`."""
        output = self.folder / name
        listed = self.folder / "clips.txt"
        listed.write_text("".join(f"{clip}\n" for clip in clips))
        shutil.rmtree(output, ignore_errors=True)
        settings = ["device=cpu", "on_extraction=save_numpy", f"output_path={output}"]
        return self.run(
            [
                sys.executable,
                "-c",
                START,
                *case.theirs,
                *settings,
                f"file_with_video_paths={listed}",
            ]
        )

    def ours(self, case: Case, name: str, clips: list[Path], weights: Path) -> float:
        """Run `reelbank extract`; its store is in the folder `name`."""
        root = self.folder / f"clips-{name}"
        if not root.exists():
            for clip in clips:
                (root / clip.parent.name).mkdir(parents=True, exist_ok=True)
                (root / clip.parent.name / clip.name).symlink_to(clip)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        options = ["DATASET=folder", f"ROOT={root}", "T=0", "CROPS=1", "DEVICE=cpu"]
        options += [*case.ours, f"WEIGHTS={weights}", f"BANK={self.folder / name}"]
        return self.run([sys.executable, "-m", "reelbank", "extract", *options])

    def difference(self, case: Case) -> str:
        """How far the features of the two tools are apart, as text."""
        (path,) = (self.folder / "ours").rglob("*.h5")
        distances, cosines, rows = [], [], 0
        with Store.open(path) as store:
            for clip in self.clips:
                (file,) = (self.folder / "theirs").rglob(f"{clip.stem}_{case.key}.npy")
                expected = np.load(file)
                features = store[f"{clip.parent.name}/{clip.stem}"].astype(np.float64)
                features = features.reshape(len(features), -1)[: len(expected)]
                expected = expected[: len(features)]
                rows += len(features)
                distances.append(np.linalg.norm(features - expected) / np.linalg.norm(expected))
                products = (features * expected).sum(1)
                norms = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
                cosines.append((products / norms).min())
        return (
            f"features of {rows} rows: distance at most {max(distances):.1e}, cosine at least "
            f"{min(cosines):.6f} (ours are stored as float16)"
        )

    def compare(self, name: str, rounds: int) -> list[Row]:
        """The rows of one network; also prints the CPU seconds."""
        case = CASES[name]
        weights = self.weights_of(case)
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            for label, some in (("one", self.clips[:1]), ("all", self.clips)):
                end = "-one" if label == "one" else ""
                theirs = self.theirs(case, f"theirs{end}", some)
                ours = self.ours(case, f"ours{end}", some, weights)
                seconds.setdefault(f"theirs {label}", []).append(theirs)
                seconds.setdefault(f"ours {label}", []).append(ours)
        text = ", ".join(
            f"{label} {statistics.median(values):.1f}" for label, values in seconds.items()
        )
        print(f"{name}, {len(self.clips)} clips, CPU-seconds: {text}", flush=True)
        print(f"  {self.difference(case)}", flush=True)
        further = {
            tool: [
                both - one
                for both, one in zip(seconds[f"{tool} all"], seconds[f"{tool} one"], strict=True)
            ]
            for tool in ("theirs", "ours")
        }
        on = f"{' '.join(case.ours)}, {len(self.clips)} UCF-101 clips"
        whole = ratios(seconds, "theirs all", "ours all")
        return [
            Row("whole command", "video_features", on, whole, case.target, self.difference(case)),
            Row("further clips", "video_features", on, ratios(further, "theirs", "ours")),
        ]


def rows(names: Iterable[str], clips: list[Path], checkout: Path, rounds: int) -> list[Row]:
    """The rows of `benchmarks/bench.py`."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), checkout, clips)
        for name in names:
            table += bench.compare(name, rounds)
    return table


def main() -> None:
    checkout = os.environ.get("VIDEO_FEATURES")
    if not checkout:
        sys.exit("benchmarks/peers.py: set VIDEO_FEATURES to a checkout of video_features")
    rounds = int(os.environ.get("ROUNDS", "2"))
    for row in rows(sys.argv[1:] or CASES, clips(), Path(checkout), rounds):
        print(row.line())


if __name__ == "__main__":
    main()
