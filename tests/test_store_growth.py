"""What finishing a store costs, counted in bytes and not in seconds: each byte of the parts and of the
new file is read once, and few bytes of memory are needed for a video."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from made_stores import DATASET, RECIPE, check_holds, fill, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store.merging import files
from reelbank.data.store.reader import Store
from reelbank.data.store.writer import StoreWriter

FOLDERS = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

# Parts of many videos, written without StoreWriter, which would take longer.
FINISHED = """
import json, sys
from pathlib import Path
sys.path += {folders!r}
import numpy as np
from benchmarks.growth import usage, start, _started
from made_stores import RECIPE
from reelbank.data.store.file.about import About, VideoFacts, written_now
from reelbank.data.store.file.format import write
from reelbank.data.store.records import Cost, DatasetDescription, StoredVideo
from reelbank.data.store.rows import VideoRows, part_index
from reelbank.data.store.versions import current_versions
from reelbank.data.store.writer import StoreWriter

path, parts, each, rows, width = Path(sys.argv[1]), *map(int, sys.argv[2:])
dataset = DatasetDescription("many", ("a", "b"), ("1",))
listed = []
for part in range(parts):
    videos = [
        StoredVideo(f"clips/v{{number:09d}}", "ab"[number % 2], f"g{{number // 5}}", ("train",),
                    {{"bytes": number, "modified": "2026-01-01T00:00:00.000000000", "frames": 100,
                      "digest": f"{{number:032x}}", "decoder": "pyav", "damage": ""}})
        for number in range(part * each, part * each + each)
    ]
    values = np.full((rows, width), part, np.float16)
    times, views = np.arange(rows) * 0.5, np.zeros(rows, np.uint8)
    about = About(RECIPE, dataset, written_now(Cost(1.0)))
    facts = VideoFacts([video.source for video in videos], [current_versions()] * each, {{}})
    index = part_index([VideoRows(video, values, times, views) for video in videos], about, facts)
    folder = path.with_suffix(".parts")
    folder.mkdir(exist_ok=True)
    write(folder / f"part+{{part:020d}}++{{part:032x}}.h5", index, [values] * each)
    listed += videos
del videos, index, facts
parts_bytes = sum(file.stat().st_size for file in folder.iterdir())
start()
with StoreWriter(path, RECIPE, dataset) as writer:
    opened = usage()
    assert writer.finish(listed)
    finished = usage()
before = _started[-1]
print(json.dumps({{
    "parts": parts_bytes,
    "stored": path.stat().st_size,
    "opening": (opened["MB read"] - before["MB read"]) * 1e6,
    "finish": (finished["MB read"] - opened["MB read"]) * 1e6,
    "memory": (finished["MB of memory"] - before["MB of memory now"]) * 1e6,
}}))
"""


def measured(path: Path, *shape: int) -> dict[str, float]:
    """What finishing a store of `shape` (parts, videos in each, rows, width) took, in bytes."""
    code = FINISHED.format(folders=FOLDERS)
    command = [sys.executable, "-c", code, str(path), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


needs_counts = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="the system does not count what a process reads"
)


@needs_counts
@pytest.mark.parametrize("shape", [(4, 40, 8, 1024), (4, 40, 2000, 1)])
def test_finish_reads_each_byte_of_the_parts_and_of_the_store_once(tmp_path, shape):
    """With large features, and with a large index."""
    used = measured(tmp_path / "made.h5", *shape)
    assert used["opening"] < 1.1 * used["parts"]
    assert used["finish"] < 1.1 * (used["parts"] + used["stored"])
    assert used["finish"] < 2.2 * used["stored"]
    with Store.open(tmp_path / "made.h5") as store:
        assert store.finished and len(store) == 160 and store.verify() == []


@needs_counts
def test_the_memory_of_finish_grows_little_with_the_videos(tmp_path):
    few, many = (measured(tmp_path / f"{each}.h5", 4, each, 1, 4) for each in (1000, 6000))
    assert many["memory"] - few["memory"] < 600 * 4 * 5000


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_finish_opens_parts_seldom_however_many_there_are(tmp_path, monkeypatch, is_shuffled):
    """Also when only few of them fit into memory."""
    path, listed = tmp_path / "made.h5", [made_video(number) for number in range(60)]
    fill(path, range(60), finish=False, part_videos=2)
    if is_shuffled:
        random.Random(1).shuffle(listed)
    opened = Counter[Path]()

    class Counted(files.FeatureFile):
        def __init__(self, part: Path) -> None:
            opened[part] += 1
            super().__init__(part)

    with StoreWriter(path, RECIPE, DATASET, open_parts=8) as writer:
        monkeypatch.setattr(files, "FeatureFile", Counted)
        assert writer.finish(listed)
    # All videos are read twice: to find the longest label, and to write them.
    assert len(opened) == 30 and sum(opened.values()) <= 2 * (60 if is_shuffled else 30)
    check_holds(path, range(60))
    with Store.open(path) as store:
        assert list(store.video_ids) == [video.id for video in listed] and store.verify() == []


@pytest.mark.parametrize("compression", ["", "gzip", "lzf"])
def test_a_byte_that_differs_on_disk_is_noticed_whichever_it_is(tmp_path, monkeypatch, compression):
    """With compression, whichever it is that any value depends on."""
    real, calls, flipped, noticed = os.pwrite, 0, 0, 0

    def pwrite(fd: int, data: memoryview, start: int) -> int:
        nonlocal calls
        calls += 1
        content = bytearray(data)
        if calls == flipped:
            content[len(content) // 2] ^= 1
        return real(fd, content, start)

    monkeypatch.setattr(os, "pwrite", pwrite)
    while True:
        path = tmp_path / str(flipped) / "made.h5"
        path.parent.mkdir()
        calls, flipped = 0, flipped + 1
        with StoreWriter(path, RECIPE, DATASET, compression=compression) as writer:
            for number in range(3):
                writer.add(made_video(number), made_values(number), made_times(number))
            try:
                writer.flush()
            except InputError as error:
                assert "differ from those that were written; check the disk" in str(error)
                assert not list(path.with_suffix(".parts").glob("*.h5"))
                noticed += 1
                continue
        if calls < flipped:
            break
        assert compression  # HDF5 has written bytes that mean nothing, or that it wrote again
        check_holds(path, range(3))
        with Store.open(path) as store:
            assert store.verify() == []
    assert noticed > 20
