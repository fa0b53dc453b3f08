"""Measures what the commands cost with many videos and with many runs.

    python benchmarks/scale.py [VIDEOS] [RUNS] [STEPS] [FOLDER]

    python benchmarks/scale.py 1000000 1000 stores,inspect,train,predict,evaluate,report,runs,judge

VIDEOS is the number of videos of a made feature store (default 10,000) with rows of (4, 64) float16
and 400 classes, RUNS the number of runs in a made bank (default 100) with 1,000 test videos and 101
classes each. STEPS are some of:

    stores, inspect      the commands on the bank with the made store
    train                one epoch of `meanpool` on the store
    predict              `predict STORE=` with the trained run, to a CSV file
    evaluate, report     the commands on the trained run
    runs, judge          `runs` and `evaluate` on the bank with many runs

Each command runs in a process of its own, once on a bank of the least size and once on the large
one. Prints for both the CPU seconds (user and system), and by how much the peak of the memory with
the large bank is above that with the small one, which is mostly what starting takes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.identity import signature
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter

ROWS, DIMENSIONS, CLASSES = 4, 64, 400
GROUP_VIDEOS = 25  # videos of a group, as those that were cut out of one recording
LEAST_VIDEOS, LEAST_RUNS = 2000, 2
JUDGED_VIDEOS, JUDGED_CLASSES = 1000, 101  # of each run of the bank with many runs
ALL_STEPS = "stores,inspect,train,predict,evaluate,report,runs,judge"
BATCH = 1024


@dataclass(frozen=True)
class Cost:
    """What a command used: CPU time, and the peak of its memory."""

    seconds: float
    peak_mb: float


def make_store(bank: Path, videos: int) -> None:
    """A finished store whose classes can be learned."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(CLASSES, DIMENSIONS)).astype(np.float32)
    names = tuple(f"class {number:03d}" for number in range(CLASSES))
    dataset = DatasetDescription("scale", names, ("1",))
    recipe = {"stream": "rgb", "extractor": "made"}
    listed = []
    times_seconds = np.arange(ROWS) * 0.5
    path = bank / "stores" / "scale.h5"
    with StoreWriter(path, recipe, dataset) as writer:
        for number in range(videos):
            label, group = number % CLASSES, number // (CLASSES * GROUP_VIDEOS) * CLASSES
            part = "test" if number // CLASSES % GROUP_VIDEOS == 0 else "train"
            video = StoredVideo(
                f"{names[label]}/v_{number:09d}",
                names[label],
                f"g{group + label}" if part == "train" else f"t{number // 5}",
                (part,),
                source={
                    "bytes": 100_000 + number,
                    "digest": f"{number:032x}",
                    "frames": 100,
                    "damage": "",
                },
            )
            rows = means[label] + 2 * rng.normal(size=(ROWS, DIMENSIONS))
            writer.add(video, rows.astype(np.float16), times_seconds)
            listed.append(video)
        assert writer.finish(listed)


def make_runs(bank: Path, runs: int) -> None:
    """Runs of several heads, splits and seeds, with scores of the test part."""
    classes = tuple(f"class {number:03d}" for number in range(JUDGED_CLASSES))
    for number in range(runs):
        head = ("gru", "lstm", "srurnn")[number // 9 % 3]
        recipe = {
            "kind": "run",
            "store": signature({"stream": "rgb"}),
            "dataset": "made",
            "stream": "rgb",
            "extractor": "made",
            "classes": list(classes),
            "head": head,
            "split": str(1 + number // 3 % 3),
            "seed": number % 3,
            "head_options": {"width": number // 27},
            "training": {"seed": number % 3},
        }
        folder = bank / "runs" / f"{head}-{signature(recipe)[:12]}"
        folder.mkdir(parents=True)
        document = {"signature": signature(recipe), "recipe": recipe}
        (folder / "recipe.json").write_text(json.dumps(document))
        rng = np.random.default_rng((int(str(recipe["split"])), 1))
        labels = rng.integers(JUDGED_CLASSES, size=JUDGED_VIDEOS)
        logits = np.random.default_rng(number).normal(size=(JUDGED_VIDEOS, JUDGED_CLASSES))
        logits[np.arange(JUDGED_VIDEOS), labels] += 2
        ids = tuple(f"{classes[label]}/v_{row:04d}" for row, label in enumerate(labels))
        groups = tuple(f"g{row // 25}" for row in range(JUDGED_VIDEOS))
        about = {**{key: recipe[key] for key in ("dataset", "split", "seed")}, "part": "test"}
        scores = Scores(ids, labels, classes, logits, about, groups)
        score_tables.save(scores, folder / "scores-test.npz")
        metrics = {"test": {"top1": 0.5, "top5": 0.8, "videos": JUDGED_VIDEOS}}
        (folder / "metrics.json").write_text(json.dumps(metrics))


# The peak that the system reports for a finished process contains that of the process that started it.
CODE = """
import sys, reelbank
code = reelbank.main(sys.argv[2:])
with open(sys.argv[1], "w") as file, open("/proc/self/status") as status:
    file.write(next(line for line in status if line.startswith("VmHWM:")))
sys.exit(code)
"""


def command(words: Sequence[str]) -> Cost:
    """The cost of a command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile("r") as peak:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, peak.name, *words],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"reelbank {' '.join(words)} ended with {process.returncode}")
        return Cost(used.ru_utime + used.ru_stime, int(peak.read().split()[1]) / 1024)


def words_of(step: str, bank: Path) -> list[str]:
    """The words of a step's command."""
    here = f"BANK={bank}"
    run = next((bank / "runs").glob("meanpool-*"), bank)
    return {
        "stores": ["stores", here],
        "inspect": ["inspect", here],
        "train": ["train", here, "HEAD=meanpool", "EPOCHS=1", f"BATCH={BATCH}", "DEVICE=cpu"],
        "predict": ["predict", here, "STORE=scale", f"RUN={run}", f"TO={bank / 'predicted.csv'}"],
        "evaluate": ["evaluate", here],
        "report": ["report", here],
        "runs": ["runs", here],
        "judge": ["evaluate", here],
    }[step]


def main(
    videos: str = "10000", runs: str = "100", steps: str = ALL_STEPS, folder: str = ""
) -> None:
    """Make the banks, measure and print the table."""
    with tempfile.TemporaryDirectory(dir=folder or None) as temporary:
        banks = {}
        for size, count in (("small", LEAST_VIDEOS), ("large", int(videos))):
            banks[size] = Path(temporary, f"videos-{size}")
            make_store(banks[size], count)
        for size, count in (("small", LEAST_RUNS), ("large", int(runs))):
            banks[f"{size} runs"] = Path(temporary, f"runs-{size}")
            make_runs(banks[f"{size} runs"], count)
        print(f"{int(videos):,} videos of {ROWS} x {DIMENSIONS}, {CLASSES} classes; {runs} runs")
        print("step       CPU s, small bank   CPU s   MB above the small bank")
        for step in steps.split(","):
            kind = " runs" if step in ("runs", "judge") else ""
            small, large = (
                command(words_of(step, banks[f"{size}{kind}"])) for size in ("small", "large")
            )
            above_mb = large.peak_mb - small.peak_mb
            print(
                f"{step:<10} {small.seconds:>18.2f} {large.seconds:>7.2f} {above_mb:>17.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
