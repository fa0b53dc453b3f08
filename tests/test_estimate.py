"""PLAN=1 announces what extraction then stores."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_charades import HEADER, NAMES
from test_streams import run, stores
from tiny_networks import POOLED

from reelbank.data.console import duration_text, size_text
from reelbank.data.datasets import toy_drawing
from reelbank.data.datasets.registry import load_dataset
from reelbank.data.store.reader import Store
from reelbank.extract.estimate import estimate
from reelbank.extract.fill import with_defaults
from reelbank.extract.flow.methods import build_flow
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import plan_streams
from reelbank.extract.planned import ExtractionPlan

NETWORKS = (
    "EXTRACTOR=rgb=tiny.py:build flow=tiny.py:build audio=vggish",
    "WEIGHTS=audio=random",
    "FLOW=dis",
    "CLIP=flow=3",
)
STREAMS = ("STREAM=rgb flow audio", *NETWORKS)
SHOWN = r"^(\w+)(?: with .*)?: .*\n  ([\d,]+) rows.*\n(?:  ([\d,]+) flow fields.*\n)?  store (\S+?)(?::| \()"


def planned(said: str) -> dict[str, tuple[int, int, str]]:
    """Stream -> rows, flow fields, store, of what PLAN=1 printed; in its order."""
    found = re.findall(SHOWN, said, re.MULTILINE)
    return {
        stream: (int(rows.replace(",", "")), int(fields.replace(",", "") or 0), path)
        for stream, rows, fields, path in found
    }


@pytest.fixture
def charades(tmp_path, monkeypatch):
    """Two training videos of 50 frames with three actions cut out of them, a test video of 30
    frames, all with sound."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(POOLED)
    for name, frames in (("AAAA1", 50), ("AAAA2", 50), ("BBBB1", 30)):
        (tmp_path / "videos").mkdir(exist_ok=True)
        pixels = np.random.default_rng(frames).integers(0, 255, (frames, 64, 64, 3), np.uint8)
        rate = toy_drawing.RATE_HZ * frames // 25
        toy_drawing.write_video(
            tmp_path / "videos" / f"{name}.mp4",
            pixels,
            np.sin(np.arange(rate, dtype=np.float32) / 9),
        )
    (tmp_path / "lists").mkdir()
    train = "AAAA1,S1,,,,,,,,c000 0 1;c001 0.4 2.0,2\nAAAA2,S2,,,,,,,,c002 1.5 2,2\n"
    for part, rows in (("train", train), ("test", "BBBB1,S9,,,,,,,,c000 0 1,1.2\n")):
        (tmp_path / "lists" / f"Charades_v1_{part}.csv").write_text(HEADER + rows)
    (tmp_path / "lists" / "Charades_v1_classes.txt").write_text("\n".join(NAMES))
    return "extract", "DATASET=charades", "ROOT=videos", "LISTS=lists"


def test_actions_that_are_cut_out_are_one_window(charades, capsys):
    words = (*charades, *STREAMS, "T=2", "WINDOWS=3", "WINDOW=12", "VIEWS=1", "CROPS=1")
    assert run(*words, "PLAN=1") == 0
    said = capsys.readouterr().out
    shown = planned(said)
    # three actions of 2 rows and as many of their view, one whole video of 3 windows of 2 rows
    assert [shown[stream][0] for stream in ("rgb", "flow")] == [3 * 2 * 2 + 3 * 2] * 2
    assert (
        "\n  3 rows (feature vectors) of 3 videos (the other videos have no sound, or less than one example), "
        in said[said.index("audio with vggish: 4 videos") :]
    )
    assert run(*words) == 0
    for stream, path in stores().items():
        with Store.open(path) as store:
            assert (store.all_rows.sum(), str(path)) == (shown[stream][0], shown[stream][2])


def test_flow_fields_are_those_that_rows_need(charades, capsys):
    """Two rows of 3 fields each: 6 of an action, of the window of 6 frames only its 5 fields."""
    words = (
        *charades,
        "STREAM=flow",
        "EXTRACTOR=tiny.py:build",
        "FLOW=dis",
        "CLIP=3",
        "T=2",
        "WINDOWS=1",
        "WINDOW=6",
        "CROPS=1",
    )
    assert run(*words, "PLAN=1") == 0
    assert planned(capsys.readouterr().out)["flow"][:2] == (8, 3 * 6 + 5)
    every = [word for word in words if not word.startswith(("T=", "WINDOW"))]
    assert run(*every, "T=0", "WINDOWS=1", "WINDOW=30", "PLAN=1") == 0
    # actions of 25, 40 and 12 (of 12.5) frames, a video of 30: n frames have n - 1 fields and n - 3
    # clips of 3
    assert planned(capsys.readouterr().out)["flow"][:2] == (22 + 37 + 9 + 27, 24 + 39 + 11 + 29)


@pytest.mark.long
def test_adaptive_sampling_plans_its_flow_lengths_first(charades, capsys):
    words = (
        *charades[:1],
        "DATASET=folder",
        "ROOT=videos",
        *STREAMS,
        "SAMPLING=adaptive",
        "T=180",
        "CROPS=1",
    )
    assert run(*words, "PLAN=1") == 0
    said = capsys.readouterr().out
    shown = planned(said)
    assert list(shown) == ["magnitude", "rgb", "flow", "audio"]
    assert (
        "3 to extract; extracted first, because adaptive sampling needs its flow lengths\n" in said
    )
    assert shown["magnitude"][:2] == (49 + 49 + 29, 49 + 49 + 29)  # every field's
    assert not Path("bank").exists()
    assert run(*words) == 0
    made = stores()
    for stream, (rows, _, path) in shown.items():
        with Store.open(made[stream]) as store:
            assert (store.rows.sum(), str(store.path)) == (rows, path), stream
    capsys.readouterr()
    assert run(*words, "PLAN=1") == 0
    assert "magnitude" not in capsys.readouterr().out  # they are there


def test_what_cannot_be_opened_is_told_and_pixels_are_bytes(charades, capsys):
    Path("videos", "broken.mp4").write_text("no film")
    with Path("list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["path", "label", "split"], *([name, "a", "train"] for name in ("AAAA1", "broken"))]
        )
    words = (
        *charades[:1],
        "DATASET=folder",
        "ROOT=videos",
        "CSV=list.csv",
        *STREAMS,
        "T=4",
        "CROPS=1",
    )
    assert run(*words, "PLAN=1") == 0
    said = capsys.readouterr().out
    assert (
        "4 rows (feature vectors) of 1 video (the other videos cannot be opened)" in said
        and "audio with vggish: 2 videos" in said
    )
    assert said.splitlines()[-1] == (
        "decoding runs in parallel with the networks; each video is decoded once for all streams"
    )
    assert (
        run(*words, "STREAM=rgb", "EXTRACTOR=pixels", "WEIGHTS=", "CLIP=", "RESIZE=32", "PLAN=1")
        == 0
    )
    assert ": 4,032 numbers per row, 31.5 KiB on disk" in capsys.readouterr().out


def test_sizes_and_durations_have_readable_units():
    sizes = (0, 512, 4032, 1023 * 1024, 1024**2 - 1, 5 * 2**20, 1.5 * 2**30, 1.7 * 2**40)
    assert list(map(size_text, sizes)) == [
        *("0 B", "512 B", "3.9 KiB", "1023.0 KiB", "1.0 MiB", "5.0 MiB", "1.5 GiB", "1.7 TiB")
    ]
    durations = (0.2, 89, 90, 5399, 5400, 36_000_000)
    assert list(map(duration_text, durations)) == [
        *("about 1 s", "about 89 s", "about 2 min", "about 90 min", "about 1.5 h"),
        "about 10,000.0 h",
    ]


def test_flow_that_networks_share_is_counted_once(charades, capsys):
    """As with weights of several splits: each store has its rows, of the same fields."""
    options = with_defaults(
        ExtractOptions(
            "folder", "videos", stream=("flow",), extractor="tiny.py:build", flow="dis", t=2
        )
    )
    device, dataset, flow = (
        torch.device("cpu"),
        load_dataset("folder", "videos"),
        build_flow("dis", "cpu"),
    )
    (plan,) = plan_streams(options, dataset.name, flow)
    plans = ExtractionPlan((plan, plan), flow, None)
    assert estimate(options, dataset, dataset.videos, plans, device).size_bytes > 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "flow fields" in line]
    assert (
        len(lines) == 2
        and lines[0].endswith(" s for dis")
        and lines[1].endswith("flow fields, shared with the stream above")
    )
