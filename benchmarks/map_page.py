"""Measures the report's map and list of videos in headless Chromium.

    python benchmarks/map_page.py [VIDEOS] [FOLDER]

VIDEOS is the number of videos of a made store (default 100,000), of which the map shows at most
100,000 points. A made run has scores of all of them, so that the list is as long. Prints what
`report` cost, the size of the page, how long the page takes to open (until it is drawn), and how long
the map takes to answer: from the event of the mouse until the frame that shows the video is drawn.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from browser import Browser
from scale import command, make_store

from reelbank.data.identity import signature
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.data.store.reader import Store

HOVERS = 200
# How long the page took from an event until the next frame was drawn, ms.
TIMES = """
globalThis.times = [];
addEventListener("pointermove", (event) => {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => times.push(performance.now() - event.timeStamp);
    channel.port2.postMessage(0);
  });
}, true);
document.querySelector(".video-map").scrollIntoView();
globalThis.box = document.querySelector(".board canvas").getBoundingClientRect();
[box.left, box.top, box.width, box.height];
"""
# How long the script itself takes for a hover, with the layout of the page, ms: the median of 300.
HANDLER = """
(() => {
  const canvas = document.querySelector(".board canvas");
  const times = [];
  for (let i = 0; i < 300; i++) {
    const [x, y] = [0.3 + 0.4 * Math.random(), 0.3 + 0.4 * Math.random()];
    const place = { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
    const start = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", place));
    document.querySelector(".card").getBoundingClientRect();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[150];
})()
"""
# How long a sort by score and a search in the list take until they are drawn, ms.
LIST = """
(async () => {
  const times = [];
  const list = document.querySelector(".video-list");
  const search = list.querySelector("input");
  const acts = [
    () => list.querySelector("[data-key=score]").click(),
    () => ((search.value = "class 01"), search.dispatchEvent(new Event("input"))),
  ];
  for (const act of acts) {
    const start = performance.now();
    act();
    await AFTER;
    times.push(performance.now() - start);
  }
  return times;
})()
"""


def make_run(bank: Path) -> None:
    """A run with scores of all videos of the store, 80 % of them right."""
    with Store.open(bank / "stores" / "scale.h5") as store:
        ids, classes = store.video_ids, store.dataset.classes
        number_of = {name: number for number, name in enumerate(classes)}
        labels = np.array([number_of[label] for label in store.labels])
        facts = {"dataset": "scale", "store": store.identity, "split": "1", "seed": 0}
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(ids), len(classes))).astype(np.float32)
    is_right = rng.random(len(ids)) < 0.8
    logits[np.flatnonzero(is_right), labels[is_right]] += 6
    recipe = {"kind": "run", **facts, "stream": "rgb", "extractor": "made", "head": "made"}
    folder = bank / "runs" / f"made-{signature(recipe)[:12]}"
    folder.mkdir(parents=True)
    document = {"signature": signature(recipe), "recipe": recipe}
    (folder / "recipe.json").write_text(json.dumps(document))
    about = {**facts, "part": "test"}
    score_tables.save(
        Scores(tuple(ids), labels, classes, logits, about), folder / "scores-test.npz"
    )
    metrics = {"test": {"top1": 0.8, "videos": len(ids)}}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def measure_page(page: Path) -> None:
    """Open the page and point at places of the map."""
    chance = random.Random(0)
    with Browser() as browser:
        print(f"opening the page: {browser.open(page):.2f} s")
        left, top, width, height = browser.value(TIMES)
        named = set()
        for _ in range(HOVERS):
            # more points are in the middle of the map
            x, y = (chance.gauss(0.5, 0.15) for _ in range(2))
            browser.send(
                "Input.dispatchMouseEvent",
                type="mouseMoved",
                x=left + x * width,
                y=top + y * height,
            )
            browser.value("new Promise((done) => setTimeout(done, 20))")
            named.add(browser.value("document.querySelector('.card .id').textContent"))
        times = sorted(browser.value("times"))
        handler = browser.value(HANDLER)
        after = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        sort, search = browser.value(LIST.replace("AFTER", after))
        if browser.errors:
            raise SystemExit(f"the page's script failed: {browser.errors[0]}")
    print(
        f"{len(times)} hovers ({len(named)} videos shown): median {statistics.median(times):.1f} ms, "
        f"95 % {times[int(0.95 * len(times))]:.1f} ms, longest {times[-1]:.1f} ms; the script takes {handler:.1f} ms of it"
    )
    print(f"list: sort by score {sort:.0f} ms, search {search:.0f} ms")


def main(videos: str = "100000", folder: str = "") -> None:
    """Make the bank, write its report and measure the page."""
    with tempfile.TemporaryDirectory(dir=folder or None) as temporary:
        bank = Path(temporary)
        make_store(bank, int(videos))
        make_run(bank)
        for kind in ("none", "pca"):
            start = time.perf_counter()
            cost = command(["report", f"BANK={bank}", f"MAP={kind}", "FIGURES=0"])
            seconds = time.perf_counter() - start
            print(
                f"report MAP={kind}: {cost.seconds:.1f} CPU s, {seconds:.1f} s, "
                f"{cost.peak_mb:,.0f} MB",
                flush=True,
            )
        page = bank / "reports" / "scale.html"
        print(f"{int(videos):,} videos, page of {page.stat().st_size / 1e6:.1f} MB")
        measure_page(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
