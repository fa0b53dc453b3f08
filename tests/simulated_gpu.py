"""The simulated GPU of the real data (gpu/README.md), which runs torch's own CUDA host code on a
machine without a GPU, checks CUDA's rules and counts what a GPU would do."""

import collections
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import testdata

# Only a script that hangs takes this long, however busy the machine is.
_LONGEST_SECONDS = 3600


@dataclass(frozen=True)
class Report:
    """What a script printed, and what the simulated GPU counted."""

    output: str
    by_line: dict[str, dict[str, int]]

    def waits_by_module(self) -> collections.Counter[str]:
        """How often the lines of each module waited for the GPU's stream."""
        waits: collections.Counter[str] = collections.Counter()
        for line, counts in self.by_line.items():
            waits[line.partition(":")[0]] += counts.get("stream_syncs", 0)
        return waits


def run_on_simulated_gpu(folder: Path, script: str, *, devices: int = 1) -> Report:
    """Run a script in a folder, which must violate no rule of CUDA."""
    guard = testdata("gpu", "deviceguard.py")
    if not shutil.which("g++") or not sys.platform.startswith("linux"):
        pytest.skip("the simulated GPU needs Linux and g++")
    (folder / "commands.py").write_text(script)
    words = ["--devices", str(devices), "--report", "report.json", "commands.py"]
    ran = subprocess.run(
        [sys.executable, str(guard), *words],
        env=os.environ | {"DEVICEGUARD_BUILD": str(folder / "lib")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    report = json.loads((folder / "report.json").read_text())
    assert not report["violations"]
    return Report(ran.stdout, report["by_line"])
