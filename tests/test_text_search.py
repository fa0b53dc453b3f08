"""`search TEXT=`: the vector of a text is that of transformers, and only features in the same space are
compared with it. `search VIDEO=` computes the features of a file as those of the store were."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter

pytest.importorskip("transformers", reason="the extra hf is not installed")

from test_huggingface import draw
from tiny_transformers import TEXT, Saved, save

from reelbank.extract.networks.huggingface.text import text_vector

LETTERS = "abcdefgh"


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


def save_tokenizer(folder: Path) -> Any:
    """A tokenizer of single letters, in the folder of a model."""
    from transformers import CLIPTokenizer

    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = CLIPTokenizer(
        vocab=numbers, merges=[], model_max_length=TEXT["max_position_embeddings"]
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_word_tokenizer(folder: Path) -> Any:
    """A tokenizer of whole words, which distinguishes small and capital letters."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(["a", "hag", "A", "HAG", "?", "<pad>"])}
    words = Tokenizer(WordLevel(numbers, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="?", pad_token="<pad>", model_max_length=8
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def expected_vector(
    tokenizer: Any, folder: Path, model_class: str, text: str, **padding: Any
) -> np.ndarray:
    """The features of a text as a user of transformers computes them, (D,) float32."""
    import transformers

    model = getattr(transformers, model_class).from_pretrained(folder).eval()
    batch = tokenizer([text], return_tensors="pt", **padding)
    if padding:
        batch = {"input_ids": batch["input_ids"]}
    with torch.inference_mode():
        return model.get_text_features(**batch).pooler_output[0].numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Saved]:
    """A folder with a CLIP with random weights, three videos and a bank with their features."""
    folder = tmp_path_factory.mktemp("text")
    saved = save("clip", folder / "models")
    save_tokenizer(saved.folder)
    for number in range(3):
        draw(folder / "videos" / "a" / f"v{number}.mkv", number)
    options = ["DATASET=folder", f"ROOT={folder / 'videos'}", f"EXTRACTOR={saved.extractor}"]
    options += ["T=4", "CROPS=1", "DEVICE=cpu", f"BANK={folder / 'bank'}"]
    assert reelbank.main(["extract", *options]) == 0
    return folder, saved


def test_text_is_compared_in_the_space_of_transformers(
    made: tuple[Path, Saved], capsys: pytest.CaptureFixture
) -> None:
    folder, saved = made
    tokenizer = save_tokenizer(saved.folder)
    text = expected_vector(tokenizer, saved.folder, "CLIPModel", "a hag").astype(np.float64)
    words = [f"BANK={folder / 'bank'}", f"EXTRACTOR={saved.extractor}", "DEVICE=cpu"]
    assert reelbank.main(["search", "TEXT=a hag", "--json", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    (path,) = (folder / "bank" / "stores").glob("*.h5")
    with Store.open(path) as store:
        means = {name: store[name].astype(np.float64).mean(0) for name in store}
    cosines = {
        name: float(mean @ text / np.linalg.norm(mean) / np.linalg.norm(text))
        for name, mean in means.items()
    }
    results = {match["video"]: match["similarity"] for match in document["results"]}
    assert list(results) == sorted(cosines, key=lambda name: -cosines[name])
    assert results == pytest.approx(cosines, abs=1e-6)


def test_a_file_has_the_features_that_the_store_has(made: tuple[Path, Saved]) -> None:
    folder, saved = made
    options = {"bank": folder / "bank", "extractor": saved.extractor, "device": "cpu"}
    file = folder / "videos" / "a" / "v1.mkv"
    of_file = reelbank.search(video=file, **options)
    assert of_file.matches[0].video == "a/v1" and of_file.matches[0].similarity > 1 - 1e-6
    of_stored = reelbank.search(video="a/v1", **options)
    others = {match.video: match.similarity for match in of_file.matches[1:]}
    assert others == pytest.approx(
        {match.video: match.similarity for match in of_stored.matches}, abs=1e-6
    )
    broken = folder / "broken.mkv"
    broken.write_bytes(b"no video" * 99)
    with pytest.raises(InputError, match="broken.mkv: "):
        reelbank.search(video=broken, **options)


def test_only_features_in_the_joint_space_are_compared_with_text(
    made: tuple[Path, Saved], tmp_path: Path
) -> None:
    folder, saved = made
    options = {"extractor": saved.extractor, "device": "cpu", "text": "a"}
    (path,) = (folder / "bank" / "stores").glob("*.h5")
    with Store.open(path) as store:
        recipe = store.recipe | {"node": "vision_model.post_layernorm"}
    with StoreWriter(tmp_path / "stores" / "node.h5", recipe, DatasetDescription("made")) as writer:
        writer.add(StoredVideo("v"), np.ones((1, 24)), np.zeros(1))
        writer.finish([StoredVideo("v")])
    with pytest.raises(InputError, match="those of the node vision_model.post_layernorm"):
        reelbank.search(bank=tmp_path, **options)
    with pytest.raises(InputError, match=f"give EXTRACTOR=hf:<path of {saved.folder.name}>"):
        reelbank.search(bank=folder / "bank", text="a")
    other = save("clip", tmp_path / "models")
    save_tokenizer(other.folder)
    from safetensors.torch import load_file, save_file

    weights = other.folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["visual_projection.weight"] += 1
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(InputError, match="recipe would differ .*sha256"):
        reelbank.search(bank=folder / "bank", **options | {"extractor": other.extractor})


def test_texts_that_a_model_cannot_read(made: tuple[Path, Saved], tmp_path: Path) -> None:
    _, saved = made
    with pytest.raises(InputError, match="has 10 tokens, and .* reads at most 8; shorten"):
        text_vector(saved.extractor, "a bad cafe")
    without = save("siglip", tmp_path)
    with pytest.raises(InputError, match="contains no tokenizer"):
        text_vector(without.extractor, "a")
    save_tokenizer(without.folder)
    (without.folder / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(InputError, match="family 'dinov2' have no text tower"):
        text_vector(without.extractor, "a")


@pytest.mark.parametrize(
    ("family", "model_class"),
    [
        ("siglip", "SiglipModel"),
        pytest.param("metaclip_2", "MetaClip2Model", marks=pytest.mark.long),
        pytest.param("xclip", "XCLIPModel", marks=pytest.mark.long),
        pytest.param("clap", "ClapModel", marks=pytest.mark.long),
    ],
)
def test_the_vector_of_a_text_is_that_of_transformers(
    tmp_path: Path, family: str, model_class: str
) -> None:
    saved = save(family, tmp_path)
    # SigLIP was trained with texts in small letters, filled up to the same length.
    is_siglip = family == "siglip"
    tokenizer = (save_word_tokenizer if is_siglip else save_tokenizer)(saved.folder)
    padding = {"padding": "max_length", "max_length": 8} if is_siglip else {}
    expected = expected_vector(tokenizer, saved.folder, model_class, "a hag", **padding)
    query = "A HAG" if is_siglip else "a hag"
    np.testing.assert_allclose(text_vector(saved.extractor, query), expected, atol=1e-6)
    if is_siglip:  # the tokenizers that were published for it make no mask
        config = saved.folder / "tokenizer_config.json"
        settings = json.loads(config.read_text()) | {"model_input_names": ["input_ids"]}
        config.write_text(json.dumps(settings))
        np.testing.assert_allclose(text_vector(saved.extractor, query), expected, atol=1e-6)


def test_the_tokenizer_of_a_model_of_the_hub_is_that_of_its_commit(
    made: tuple[Path, Saved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found in the cache; without it, the hub is asked, which cannot be reached here."""
    _, saved = made
    model = tmp_path / "models--own--small"
    snapshot = model / "snapshots" / ("0123456789abcdef" * 3)[:40]
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(snapshot.name)
    shutil.copytree(saved.folder, snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    expected = text_vector(saved.extractor, "a hag")
    np.testing.assert_array_equal(text_vector("hf:own/small", "a hag"), expected)
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="could not be loaded from the Hugging Face hub"):
        text_vector("hf:own/small", "a hag")
