"""Frames, flow and sound in the report: from the real files, chosen by seed, with a message where a
file cannot be decoded."""

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import testdata, writable_copy
from PIL import Image

from reelbank.data.errors import InputError
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores
from reelbank.fusion.report.gallery import (
    chosen_videos,
    flow_picture,
    gallery_section,
    middle_frames,
    spectrogram,
)
from reelbank.fusion.report.page import ReportOptions, report


def pictures(text: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/(?:jpeg|png);base64,([^"]+)"', text)
    return [
        np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB")) for data in found
    ]


def real_root(folder: Path) -> list[str]:
    """Six real clips, one of them broken, in class folders; the ids."""
    ids = []
    for name in ("Basketball", "SkyDiving"):
        clips = sorted(testdata("clips", "ucf101", name).glob("*.avi"))[:3]
        (folder / name).mkdir(parents=True)
        for clip in clips:
            writable_copy(clip, folder / name / clip.name)
            ids.append(f"{name}/{clip.stem}")
    (folder / f"{ids[0]}.avi").write_bytes(b"no video")
    return ids


def table_of(ids: list[str]) -> Scores:
    labels = [int(name.startswith("SkyDiving")) for name in ids]
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0], [1.0, 0.5], [0.0, 2.0]])
    return Scores(
        tuple(ids),
        labels,
        ("Basketball", "SkyDiving"),
        logits,
        {"dataset": "ucf101", "part": "test"},
    )


def test_the_report_shows_real_frames_flow_and_sound(tmp_path: Path) -> None:
    ids = real_root(tmp_path / "videos")
    score_tables.save(table_of(ids), tmp_path / "a.npz")
    options = {
        "bank": str(tmp_path),
        "runs": (str(tmp_path / "a.npz"),),
        "out": str(tmp_path / "r.html"),
        "figures": False,
    }
    assert report(ReportOptions(**options, root=str(tmp_path / "videos"), show=ids[3])) == 0
    text = (tmp_path / "r.html").read_text()
    section = text.split("<h2>Example predictions of A</h2>")[1].split("</section>")[0]
    right, wrong = section.split("<h3>Flow and sound")[0].split("<h3>Wrong</h3>")
    assert all(name in right for name in (ids[0], ids[2], ids[3], ids[5]))
    assert all(name in wrong for name in (ids[1], ids[4]))
    (first, *_), _ = middle_frames(tmp_path / "videos" / f"{ids[3]}.avi")
    assert any(
        one.shape == first.shape and np.abs(one.astype(int) - first).mean() < 8
        for one in pictures(right)
    )  # JPEG
    assert len(pictures(right)) == 3  # the broken file has a line in its picture's place
    assert "Log-mel spectrogram of the first" in section and "Optical flow (DIS)" in section
    assert section.count('class="hit"') == 6  # the true class alone, in each card
    for show, said in (("nobody", ".* contains no such video"), (ids[3], "needs ROOT=")):
        root = {"root": str(tmp_path / "videos")} if show == "nobody" else {}
        with pytest.raises(InputError, match=f"SHOW={show}:? {said}"):
            report(ReportOptions(**options, show=show, **root))


def test_videos_are_drawn_and_not_picked() -> None:
    ids = [f"v{i:02}" for i in range(60)]
    labels = np.zeros(60, int)
    logits = np.where((np.arange(60) % 3 == 0)[:, None], [0, 1], [1, 0])
    scores = Scores(tuple(ids), labels, ("a", "b"), logits)
    right, wrong = chosen_videos(scores, {name: Path(name) for name in ids[10:]})
    assert (len(right), len(wrong)) == (4, 4)
    assert all(int(name[1:]) % 3 and int(name[1:]) >= 10 for name in right)
    assert all(int(name[1:]) % 3 == 0 and int(name[1:]) >= 10 for name in wrong)
    assert right != [name for name in ids[10:] if int(name[1:]) % 3][:4]
    assert chosen_videos(scores, {name: Path(name) for name in ids[10:]}) == (right, wrong)
    assert gallery_section("A", scores, {}) is None


def test_flow_colours_follow_direction() -> None:
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (24, 24, 3)), np.ones((6, 6, 1))).astype(np.uint8)
    right = (
        flow_picture(texture, np.roll(texture, 3, axis=1))[40:100, 40:100]
        .reshape(-1, 3)
        .mean(axis=0)
    )
    left = (
        flow_picture(texture, np.roll(texture, -3, axis=1))[40:100, 40:100]
        .reshape(-1, 3)
        .mean(axis=0)
    )
    assert right[0] > right[1] + 50 and right[0] > right[2] + 50  # hue 0: red
    assert left[0] < left[1] - 50 and left[0] < left[2] - 50  # hue 180: cyan


def test_a_higher_tone_stands_higher() -> None:
    seconds = np.arange(15_600) / 16_000
    rows = [
        int(
            spectrogram(np.sin(2 * np.pi * hz * seconds)[None].astype(np.float32))
            .sum(axis=(1, 2))
            .argmax()
        )
        for hz in (300, 1000, 4000)
    ]
    assert rows[0] > rows[1] > rows[2]
