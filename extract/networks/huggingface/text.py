"""The text tower of a model of transformers that maps pictures, videos or sound and text into one
space (CLIP, SigLIP, X-CLIP, CLAP). Its rows of a store can be compared with text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.extract.networks.huggingface.files import TOKENIZERS, ModelFiles, model_files
from reelbank.extract.networks.huggingface.load import check_complete, explained, quiet
from reelbank.extract.networks.types import NetworkRequest


@dataclass(frozen=True)
class TextTower:
    """How a family computes the vector of a text.

    model: class in transformers whose get_text_features gives it; fills: whether the tokens are
    filled up to the longest text, without a mask, as in training; lower: whether the text is
    written in small letters, as in training.
    """

    model: str
    fills: bool = False
    lower: bool = False


# By `model_type`, the word in a model's config.json.
TOWERS: Mapping[str, TextTower] = {
    "clip": TextTower("CLIPModel"),
    "metaclip_2": TextTower("MetaClip2Model"),
    "siglip": TextTower("SiglipModel", fills=True, lower=True),
    "xclip": TextTower("XCLIPModel"),
    "clap": TextTower("ClapModel"),
}


def text_vector(extractor: str, text: str) -> np.ndarray:
    """The vector of a text, (D,) float32, in the space of the rows that EXTRACTOR=hf:<name or folder>
    computes. Files that are missing are downloaded.

    Raises InputError for a model without a text tower, for weights or tokenizers that are missing,
    and for a text that is empty or longer than the model reads.
    """
    import torch
    import transformers

    request = NetworkRequest(extractor=extractor)
    files = model_files(extractor, weights=True, fetch=True, code=False, tokenizer=True)
    tower = _tower(files, request)
    with quiet(), explained(request):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            files.folder, local_files_only=True, trust_remote_code=False
        )
        builder: Any = getattr(transformers, tower.model)
        model, about = builder.from_pretrained(
            files.folder,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        check_complete(model, about, request)
        tokens = _tokens(tokenizer, model.config, text.lower() if tower.lower else text, request)
        if tower.fills:
            longest = model.config.text_config.max_position_embeddings
            tokens = tokenizer.pad(
                {"input_ids": tokens["input_ids"]}, padding="max_length", max_length=longest
            )
            tokens.pop("attention_mask", None)  # which the tokenizers of SigLIP do not make
        inputs = {name: torch.tensor(numbers) for name, numbers in tokens.items()}
        with torch.inference_mode():
            vector = model.eval().get_text_features(**inputs).pooler_output  # (1, D)
    return vector[0].numpy().astype(np.float32)


def _tower(files: ModelFiles, request: NetworkRequest) -> TextTower:
    if files.model_type not in TOWERS:
        raise request.error(
            f"models of the family '{files.model_type}' have no text tower that reelbank can use, so "
            f"TEXT= cannot search their features; it can with those of {', '.join(TOWERS)}"
        )
    if not any((files.folder / name).is_file() for name in TOKENIZERS):
        raise request.error(
            "the folder contains no tokenizer, which TEXT= needs; save it there with "
            "tokenizer.save_pretrained()"
        )
    return TOWERS[files.model_type]


def _tokens(tokenizer: Any, config: Any, text: str, request: NetworkRequest) -> dict[str, Any]:
    """The tokens of one text, each entry (1, n). Raises InputError for one that is too long."""
    tokens = {
        name: [numbers]
        for name, numbers in tokenizer(text).items()
        if name in ("input_ids", "attention_mask")
    }
    positions = int(config.text_config.max_position_embeddings)
    if config.model_type == "clap":  # RoBERTa counts positions from behind that of the padding
        positions -= int(config.text_config.pad_token_id) + 1
    longest, count = min(positions, int(tokenizer.model_max_length)), len(tokens["input_ids"][0])
    if count > longest:
        raise InputError(
            f"TEXT is too long: it has {counted(count, 'token')}, and {request.extractor} reads at "
            f"most {longest}; shorten the text"
        )
    return tokens
