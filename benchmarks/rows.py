"""The table of `benchmarks/bench.py`: one row for each comparison."""

import csv
import datetime
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from reelbank.data.system.machine import cores

PACKAGES = ("torch", "torchvision", "av", "opencv-python-headless", "decord", "h5py", "numpy")


@dataclass(frozen=True)
class Row:
    """work: what is done. peer: what it is compared with. on: the data. values: one for each round;
    time of the peer / our time, so above 1 ours is faster, unless `work` says otherwise. target: as
    text, "" if there is none. note: what else was found, such as wrong frames of the peer."""

    work: str
    peer: str
    on: str
    values: Sequence[float]
    target: str = ""
    note: str = ""

    @property
    def quartiles(self) -> tuple[float, float, float]:
        low, middle, high = np.percentile(self.values, [25, 50, 75]).tolist()
        return low, middle, high

    def line(self) -> str:
        low, middle, high = self.quartiles
        ends = [f"target {self.target}" if self.target else "", self.note]
        rounds = f"{len(self.values)} round{'s' if len(self.values) > 1 else ''}"
        parts = [self.on, rounds, *filter(None, ends)]
        return f"{middle:7.2f} ({low:.2f} to {high:.2f})  {self.work}: {self.peer} [{'; '.join(parts)}]"


def interleaved(
    cases: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """The seconds of each case in each round. The cases take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            began = clock()
            run()
            seconds[name].append(clock() - began)
    return seconds


def ratios(seconds: dict[str, list[float]], peer: str, ours: str) -> list[float]:
    """Time of the peer / our time, of each round."""
    return [other / own for other, own in zip(seconds[peer], seconds[ours], strict=True)]


def about_machine() -> dict[str, str]:
    """Date, machine and versions."""
    found = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")}
    found["commit"] = _output(
        "git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"
    )
    found["machine"] = f"{_processor()}, {cores().value} cores, {platform.system()}"
    found["versions"] = f"Python {platform.python_version()}"
    for name in PACKAGES:
        found["versions"] += f", {name} {version(name)}"
    return found


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return platform.processor() or platform.machine()
    names = [line for line in file.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def append(path: Path, rows: Iterable[Row], about: dict[str, str]) -> None:
    """Append rows to a CSV file; write its header if it is new."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        table = csv.writer(file)
        if is_new:
            measured = (
                "work",
                "compared with",
                "on",
                "rounds",
                "q1",
                "median",
                "q3",
                "target",
                "note",
            )
            table.writerow([*about, *measured])
        for row in rows:
            figures = [f"{value:.4g}" for value in row.quartiles]
            words = [row.work, row.peer, row.on, len(row.values), *figures, row.target, row.note]
            table.writerow([*about.values(), *words])
