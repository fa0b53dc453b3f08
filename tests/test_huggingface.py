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
from reelbank.heads.pretraining.inputs import pixel_sizes
from reelbank.heads.pretraining.options import PretrainOptions

pytest.importorskip("transformers", reason="the extra hf is not installed")

from tiny_transformers import MAKERS, Saved, of_pictures, of_sound, save

CPU = torch.device("cpu")
# One model of each kind; the others are long tests.
FIRST = ("clip", "dinov3", "videomae", "xclip", "clap", "wav2vec2")
FAMILIES = [pytest.param(name, marks=() if name in FIRST else pytest.mark.long) for name in MAKERS]
FRAMES, SECONDS = 24, 3.3
RATES = {"clap": 8000}  # of the feature extractors; 16 kHz for the others


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
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
    (plan,) = plan_streams(
        with_defaults(parse(ExtractOptions, list(options), "extract")), "folder", None
    )
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


@pytest.mark.parametrize("saved", ["clap"], indirect=True)
def test_sound_at_times_of_a_grid(saved: Saved, tmp_path: Path) -> None:
    """Examples that are centred at given times are whole, with silence outside of the track."""
    path = draw(tmp_path / "clip.mkv", rate_hz=8000)
    found, times = features(saved, path, "T=0", "STRIDE=1s")
    assert len(times) == 3 and np.diff(times) == pytest.approx([1, 1])
    silence = np.zeros(16_000, np.float32)
    samples = np.concatenate([silence, wave(0, 8000), silence])
    starts = [round(time * 8000) - 8000 + len(silence) for time in times]
    expected = [of_sound(saved, samples[start : start + 16_000]) for start in starts]
    assert relative(found, np.concatenate(expected)) < 1e-4


@pytest.mark.parametrize("saved", ["clip", "xclip"], indirect=True)
def test_nodes_are_vectors_and_token_maps(saved: Saved, tmp_path: Path) -> None:
    """NODE= gives the mean of the tokens of a module, AT= all of them."""
    path = draw(tmp_path / "clip.mkv")
    tokens, _ = features(saved, path, f"AT={saved.node}", "T=4", "STRIDE=1")
    vectors, _ = features(saved, path, f"NODE={saved.node}", "T=4", "STRIDE=1")
    heard: list[np.ndarray] = []
    model = _model_of(saved)
    module = model.get_submodule(saved.node)
    hook = module.register_forward_hook(
        lambda _, read, written: heard.append(
            (written if isinstance(written, torch.Tensor) else written[0]).numpy()
        )
    )
    expected_rows(saved, path, 16_000)
    hook.remove()
    # A video model runs the module on each frame: the tokens of a clip follow each other.
    expected = np.concatenate(heard).reshape(4, -1, 24)
    assert relative(tokens, expected) < 1e-4
    assert relative(vectors, expected.mean(1)) < 1e-4
    with pytest.raises(InputError, match="NODE=encoder.layrs: .* has no such node"):
        plan_of(saved, "NODE=encoder.layrs")


def _model_of(saved: Saved) -> Any:
    """The model that `saved.run` calls."""
    (model,) = [cell.cell_contents for cell in saved.run.__closure__ or ()]
    return model


@pytest.fixture(scope="module")
def bank(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with the features of drawn videos, of pictures and sound, and a run of each."""
    for name in ("clip", "clap"):
        if name not in _saved:
            _saved[name] = save(name, folder)
    root = tmp_path_factory.mktemp("bank")
    for number in range(12):
        place = root / "videos" / ("left", "down")[number % 2]
        draw(place / f"clip_g{number // 2:02d}_c01.mkv", number)
    both = f"rgb={_saved['clip'].extractor} audio={_saved['clap'].extractor}"
    words = ["DATASET=folder", f"ROOT={root / 'videos'}", "STREAM=rgb audio", f"EXTRACTOR={both}"]
    assert reelbank.main(["extract", *words, "T=3", "CROPS=1", f"BANK={root / 'bank'}"]) == 0
    for stream in ("rgb", "audio"):
        learn = ["EPOCHS=2", "VALIDATION=0.3", "SPLIT=1", "HEAD=meanpool", "DEVICE=cpu"]
        words = ["train", f"STREAM={stream}", *learn, f"BANK={root / 'bank'}"]
        assert reelbank.main(words) == 0
    return root


def _store(bank: Path, stream: str) -> Path:
    (path,) = (bank / "bank" / "stores").glob(f"folder-*-{stream}-*.h5")
    return path


def test_stores_hold_rows_of_transformers(bank: Path) -> None:
    with Store.open(_store(bank, "rgb")) as store:
        video = store.video_ids[0]
        frames = pictures(bank / "videos" / f"{video}.mkv")
        chosen = np.linspace(0, len(frames) - 1, 3).astype(int)
        expected = of_pictures(_saved["clip"], frames[chosen])
        # Stores hold float16, with 11 significant bits.
        assert relative(store.features(video)[0].astype(np.float32), expected) < 1e-4 + 2**-11
        assert store.recipe["extractor"] == "hf:clip"  # without the path
        assert store.recipe["weights"]["source"] == "pretrained hf clip"
        assert str(bank) not in json.dumps(store.recipe)
    with Store.open(_store(bank, "audio")) as store:
        assert store.row_shape == (12,) and set(store.rows.tolist()) == {2}  # 2 s, and 1.3 of 2 s
        times = store.times_seconds(store.video_ids[0])
        assert times == pytest.approx([1.0, 2 + 1.3 / 2], abs=0.01)


@pytest.mark.parametrize("stream", ["rgb", "audio"])
def test_predict_computes_the_same_rows(bank: Path, stream: str) -> None:
    from reelbank.data.scores.table import probabilities
    from reelbank.fusion.predict import predict
    from reelbank.heads.predict import predicted
    from reelbank.heads.runs.folder import find_runs

    (run,) = [run for run in find_runs(bank / "bank") if run.recipe["stream"] == stream]
    own = predicted(run.path, _store(bank, stream))
    files = [bank / "videos" / f"{video}.mkv" for video in own.video_ids[:2]]
    saved = _saved["clip" if stream == "rgb" else "clap"]
    table = predict(files, run.path, bank=bank / "bank", extractor=saved.extractor)
    np.testing.assert_allclose(probabilities(table), probabilities(own)[:2], atol=1e-4)
    assert np.ptp(probabilities(own)[:, 0]) > 1e-3
    # A recipe may be untrusted, and it does not say where the folder is.
    with pytest.raises(InputError, match=f"give EXTRACTOR=hf:<path of {saved.folder.name}>"):
        predict(files, run.path, bank=bank / "bank")


@pytest.mark.parametrize("saved", ["clip"], indirect=True)
def test_another_configuration_is_another_store(saved: Saved, tmp_path: Path) -> None:
    """The number of attention heads is not in the weights, but changes features."""
    other = tmp_path / saved.folder.name
    other.mkdir()
    for path in saved.folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    same = Saved(other, saved.kind, saved.processor, saved.run)
    assert plan_of(same).paths[0].name == plan_of(saved).paths[0].name  # wherever the folder is
    config = json.loads((other / "config.json").read_text())
    config["vision_config"]["num_attention_heads"] = 4
    (other / "config.json").write_text(json.dumps(config))
    assert plan_of(same).paths[0].name != plan_of(saved).paths[0].name


@pytest.mark.parametrize("saved", ["clip"], indirect=True)
def test_a_plan_states_the_license(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the model's card; it is not part of the identity."""
    draw(tmp_path / "videos" / "a" / "clip.mkv")
    before = plan_of(saved).paths[0].name
    card = saved.folder / "README.md"
    card.write_text("---\nlanguage: en\nlicense: other\nlicense_name: our-license\n---\n# Model\n")
    try:
        assert plan_of(saved).paths[0].name == before
        words = ["DATASET=folder", f"ROOT={tmp_path / 'videos'}", f"EXTRACTOR={saved.extractor}"]
        words += ["CROPS=1", "T=2", "PLAN=1", "DEVICE=cpu", f"BANK={tmp_path / 'bank'}"]
        assert reelbank.main(["extract", *words]) == 0
    finally:
        card.unlink()
    sha256 = plan_of(saved).recipes[0].to_json()["weights"]["sha256"]
    line = f"  weights: hf clip, license our-license, SHA-256 {sha256[:16]}"
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("saved", ["clip"], indirect=True)
def test_a_model_of_the_hub_is_found_in_the_cache(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server is asked for a model that is complete there."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "models--own--small"
    snapshot = model / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    on_hub = Saved(Path("own/small"), saved.kind, saved.processor, saved.run)
    for name in ("config.json", "preprocessor_config.json"):
        (snapshot / name).write_bytes((saved.folder / name).read_bytes())
    # A plan needs no weights, and says that they would be downloaded.
    assert plan_of(on_hub, "PLAN=1").to_download == ("own/small of the Hugging Face hub",)
    with pytest.raises(InputError, match="could not be loaded from the Hugging Face hub"):
        plan_of(on_hub)
    weights = "model.safetensors"
    (snapshot / weights).write_bytes((saved.folder / weights).read_bytes())
    plan = plan_of(on_hub)
    assert plan.network and plan.network.weights.revision == revision
    recipe = plan.recipes[0].to_json()
    assert recipe["extractor"] == "hf:own/small"
    assert recipe["weights"]["source"] == "pretrained hf own/small"
    of_folder = plan_of(saved).recipes[0].to_json()
    assert recipe["weights"]["sha256"] == of_folder["weights"]["sha256"]


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("saved", ["clip"], indirect=True)
def test_no_code_in_a_folder_is_run(saved: Saved, tmp_path: Path) -> None:
    """Neither a pickle in place of weights nor Python files that the configuration names."""
    ran = tmp_path / "ran"
    folder = tmp_path / "evil"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((saved.folder / name).read_bytes())
    evil = Saved(folder, "image", saved.processor, saved.run)
    with pytest.raises(InputError, match="the folder contains no weights"):
        plan_of(evil)
    for content in (pickle.dumps(Evil(ran)), None):
        path = folder / "pytorch_model.bin"
        if content is None:
            torch.save({"state": Evil(ran)}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(InputError, match="transformers cannot load the model"):
            plan_of(evil)
        assert not ran.exists()
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    for model_type in ("clip", "evil"):
        changed = config | {"auto_map": names, "model_type": model_type}
        (folder / "config.json").write_text(json.dumps(changed))
        (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
        with pytest.raises(InputError):
            plan_of(evil)
        assert not ran.exists()


def test_names_and_families_that_cannot_be_used(tmp_path: Path) -> None:
    def message(extractor: str, config: dict[str, Any] | None = None) -> str:
        if config is not None:
            folder = tmp_path / "model"
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "model.safetensors").write_bytes(b"")
            extractor = f"hf:{folder}"
        with pytest.raises(InputError) as raised:
            plan_of(Saved(Path(extractor.removeprefix("hf:")), "image", None, None))  # type: ignore[arg-type]
        text = str(raised.value)
        assert "\n" not in text
        return text

    assert "does not contain a model of transformers" in message("hf:./nowhere")
    assert "must be hf:<owner>/<model>" in message("hf:a/b/c")
    # The hub is not reached, and a name that is also a folder is explained.
    (tmp_path / "own" / "model").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        text = message("hf:own/model")
    assert "could not be loaded from the Hugging Face hub" in text
    assert "give EXTRACTOR=hf:./own/model" in text and "HF_HOME" in text
    assert "supported are audio-spectrogram-transformer" in message("", {"model_type": "bert"})
    with pytest.raises(InputError, match="models of transformers are not trained here"):
        pixel_sizes(PretrainOptions(extractor="hf:own/model"), "")
    assert "google/siglip2-base-patch16-224" in message("", {"model_type": "siglip2"})


@pytest.mark.parametrize("saved", ["clip"], indirect=True)
def test_a_processor_that_does_more_is_rejected(saved: Saved, tmp_path: Path) -> None:
    """Our own arithmetic replaces the processor only where both give the same pictures."""
    path = saved.folder / "preprocessor_config.json"
    before = path.read_text()
    settings = json.loads(before)
    try:
        for change, words in (
            ({"do_center_crop": False}, "keeps the aspect ratio"),
            ({"crop_size": {"height": 64, "width": 64}}, "pads pictures"),
            ({"do_resize": False}, "does not resize pictures"),
            ({"resample": 4}, "resizes with a filter other than"),
        ):
            path.write_text(json.dumps(settings | change))
            with pytest.raises(InputError, match=words):
                plan_of(saved)
        # These are within our arithmetic.
        for change in ({"do_normalize": False}, {"do_rescale": False}, {"resample": 2}):
            path.write_text(json.dumps(settings | change))
            plan_of(saved)
    finally:
        path.write_text(before)
    with pytest.raises(InputError, match="is an audio network|reads pictures of three colours"):
        plan_of(Saved(saved.folder, "sound", None, saved.run))
