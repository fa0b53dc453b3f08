"""Measures which stages of an extraction take the CPU time, and draws them.

    REELBANK_TESTDATA=... OMP_NUM_THREADS=1 python benchmarks/stages.py [PICTURE.svg [NAME ...]]

Runs `reelbank extract` on VIDEOS real clips (see extraction.py) with random weights, once for each
NAME (default: all of CASES). CPU time, user and system, of all processes. The picture shows the
share of each stage.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from extraction import clips

HERE = Path(__file__).resolve().parent.parent
CASES = {
    "i3d": ("I3D, stacks of 64", ("EXTRACTOR=i3d", "T=0", "CROPS=1", "CLIP=64", "STRIDE=64")),
    "resnet50": (
        "ResNet-50, T=25, ten crops",
        ("EXTRACTOR=torchvision:resnet50", "T=25", "CROPS=10"),
    ),
}
# Colours that people with colour blindness can distinguish (Okabe and Ito).
STAGES = {
    "loading torch": "#0072b2",
    "loading Reelbank": "#56b4e9",
    "building and checking the network": "#009e73",
    "forward pass": "#e69f00",
    "decoding process": "#cc79a7",
    "everything else": "#999999",
}
# Runs the command, and writes the CPU seconds of its stages as JSON into the file argv[1].
START = """
import json, resource, sys, time
seconds = {}

def timed(function, stage):
    def run(*words, **options):
        began = time.process_time()
        try:
            return function(*words, **options)
        finally:
            seconds[stage] = seconds.get(stage, 0.0) + time.process_time() - began
    return run

import torch
seconds["loading torch"] = time.process_time()
import reelbank
from reelbank.extract import run
from reelbank.extract.networks import build
from reelbank.extract.pipeline.forward import Forward
seconds["loading Reelbank"] = time.process_time() - seconds["loading torch"]
build.build = timed(build.build, "building and checking the network")
Forward.__call__ = timed(Forward.__call__, "forward pass")
code = reelbank.main(sys.argv[2:])
children = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds["everything else"] = time.process_time() - sum(seconds.values())
seconds["decoding process"] = children.ru_utime + children.ru_stime
open(sys.argv[1], "w").write(json.dumps(seconds))
sys.exit(code)
"""


@dataclass(frozen=True)
class Bar:
    """One extraction: its title, and CPU seconds by stage."""

    title: str
    seconds: dict[str, float]


def measured(name: str, paths: list[Path]) -> Bar:
    """Extract the clips with one network."""
    title, options = CASES[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in paths:
            (folder / "clips" / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / "clips" / path.parent.name / path.name).symlink_to(path)
        words = ["extract", "DATASET=folder", f"ROOT={folder / 'clips'}", "DEVICE=cpu", *options]
        words += ["WEIGHTS=random", "COMPILE=0", f"BANK={folder / 'bank'}"]
        output = folder / "seconds.json"
        env = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", START, str(output), *words],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"stages.py: {title} failed:\n{done.stdout}\n{done.stderr}")
        seconds = json.loads(output.read_text())
    return Bar(f"{title}, {len(paths)} clip{'s' if len(paths) > 1 else ''}", seconds)


def drawn(bars: list[Bar]) -> str:
    """The bars as an SVG picture, each as wide as the picture."""
    width, left, height = 760, 10, 84
    parts = []
    for row, bar in enumerate(bars):
        total, x, y = sum(bar.seconds.values()), float(left), 20 + row * height
        parts.append(f'<text x="{left}" y="{y}">{bar.title}: {total:.1f} CPU-seconds</text>')
        for stage, colour in STAGES.items():
            part = bar.seconds.get(stage, 0.0) / total * (width - 2 * left)
            text = f"{bar.seconds.get(stage, 0.0):.1f}"
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 8}" width="{part:.1f}" height="34" fill="{colour}"/>'
            )
            if part > 30:
                parts.append(f'<text x="{x + 4:.1f}" y="{y + 30}">{text}</text>')
            x += part
    y = 20 + len(bars) * height
    for number, (stage, colour) in enumerate(STAGES.items()):
        x, line = left + number % 2 * 380, y + number // 2 * 24
        parts.append(f'<rect x="{x}" y="{line - 12}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{line}">{stage}</text>')
    size = f'width="{width}" height="{y + 64}" viewBox="0 0 {width} {y + 64}"'
    style = 'font-family="sans-serif" font-size="14"'
    whole = f'<rect width="{width}" height="{y + 64}" fill="white"/>'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', whole, *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def main(picture: str = "", *names: str) -> None:
    """Measure, print a table, and draw the picture if it has a name."""
    bars = [measured(name, clips()) for name in names or CASES]
    for bar in bars:
        print(bar.title)
        for stage in STAGES:
            print(f"  {bar.seconds.get(stage, 0.0):6.1f} s  {stage}")
    if picture:
        Path(picture).write_text(drawn(bars))


if __name__ == "__main__":
    main(*sys.argv[1:])
