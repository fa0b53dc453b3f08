"""EXTRACTOR=hf: rows equal those of transformers' own processors and models, folders open without a
network, and nothing that comes with a model is run."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.options import parse
from reelbank.data.store.reader import Store
from reelbank.data.video.pool import DecodePool
from reelbank.extract.fill import with_defaults
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.loop import Extraction
from reelbank.extract.pipeline.streams import StreamPipeline, Task
from reelbank.extract.plan import StreamPlan, plan_streams

pytest.importorskip("transformers", reason="the extra hf is not installed")

from tiny_transformers import MAKERS, Saved, of_pictures, of_sound, save

CPU = torch.device("cpu")
# One model of each kind; the others are long tests.
FIRST = ("clip", "dinov3", "videomae", "xclip", "clap", "wav2vec2")
FAMILIES = [
    pytest.param(name, marks=() if name in FIRST else pytest.mark.long) for name in MAKERS
]
FRAMES, SECONDS = 24, 3.3
RATES = {"clap": 8000}  # of the feature extractors; 16 kHz for the others


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


_saved: dict[str, Saved] = {}


@pytest.fixture
def saved(request: pytest.FixtureRequest, folder: Path) -> Saved:
    """The model of the family that the test names."""
    name = request.param
    if name not in _saved:
        _saved[name] = save(name, folder)
    return _saved[name]


def draw(path: Path, number: int = 0, rate_hz: int = 16_000) -> Path:
    """A lossless video of moving blocks, 100 x 74 px, with PCM sound: a tone in noise."""
    rng = np.random.default_rng(number)
    blocks = np.kron(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), np.ones((10, 10, 1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 8)
        stream.width, stream.height, stream.pix_fmt = 100, 74, "bgr0"
        voice = container.add_stream("pcm_f32le", rate_hz, layout="mono")
        for step in range(FRAMES):
            moved = np.roll(blocks, (3 * step, 2 * step), (0, 1))[:74].astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        sound = av.AudioFrame.from_ndarray(wave(number, rate_hz)[None], "flt", "mono")
        sound.rate = rate_hz
        container.mux(voice.encode(sound))
        container.mux(voice.encode())
    return path


def wave(number: int, rate_hz: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    time = np.arange(round(SECONDS * rate_hz)) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * number) * time * (1 + 0.2 * time))
    return (tone + 0.05 * rng.normal(size=len(time))).astype(np.float32)


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def plan_of(saved: Saved, *words: str) -> StreamPlan:
    stream = "audio" if saved.kind == "sound" else "rgb"
    options = ("DATASET=folder", f"STREAM={stream}", f"EXTRACTOR={saved.extractor}", "CROPS=1")
    options += ("DEVICE=cpu", *words)
    (plan,) = plan_streams(with_defaults(parse(ExtractOptions, list(options), "extract")), "folder", None)
    return plan


def features(saved: Saved, path: Path, *words: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K, ...) float32 of a video, before they are rounded to float16, and their times."""
    plan = plan_of(saved, *words)
    assert plan.network is not None
    batches = ClipBatches(
        plan.network.module, plan.network, crops=1, keep_crops=False, batch=4, device=CPU
    )
    resize = plan.preprocessing.resize
    pipeline = StreamPipeline("a", plan.stream, plan.network, batches, None, resize)
    with torch.inference_mode(), DecodePool(1) as pool:
        extraction = Extraction([pipeline], None, CPU, np.float32)
        (extracted,) = extraction.run([Task("video", path, {"a": plan.sampling})], pool)
    result = extracted.results["a"]
    assert not result.reason
    return result.values[0], result.times_seconds


def expected_rows(saved: Saved, path: Path, rate_hz: int) -> np.ndarray:
    """What transformers computes of the clips of 4 positions, or of all examples of sound."""
    if saved.kind != "sound":
        frames = pictures(path)
        starts = np.linspace(0, len(frames) - saved.frames, 4).astype(int)
        return np.concatenate([of_pictures(saved, frames[s : s + saved.frames]) for s in starts])
    samples = wave(0, rate_hz)
    processor = saved.processor
    length = {
        "ASTFeatureExtractor": round(1.28 * rate_hz),
        "Wav2Vec2FeatureExtractor": rate_hz,
    }.get(type(processor).__name__, 2 * rate_hz)
    pieces = [samples[start : start + length] for start in range(0, len(samples), length)]
    # A last piece counts from half a length, if the extractor pads it.
    least = length if "Wav2Vec2" in type(processor).__name__ else length / 2
    return np.concatenate([of_sound(saved, piece) for piece in pieces if len(piece) >= least])


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("saved", FAMILIES, indirect=True)
def test_rows_equal_those_of_transformers(saved: Saved, tmp_path: Path) -> None:
    rate_hz = RATES.get(saved.folder.name, 16_000)
    path = draw(tmp_path / "clip.mkv", rate_hz=rate_hz)
    words = () if saved.kind == "sound" else ("STRIDE=1",)
    found, times = features(saved, path, "T=0" if saved.kind == "sound" else "T=4", *words)
    expected = expected_rows(saved, path, rate_hz)
    assert relative(found, expected) < 1e-4
    assert len(times) == len(found) and (np.diff(times) > 0).all()
    # Equal rows for all clips would make this test pass trivially.
    assert relative(found[:-1], found[1:]) > 0.01
