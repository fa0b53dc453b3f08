"""How the feature extractor of an audio model of transformers prepares sound."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelbank.data.errors import InputError
from reelbank.data.video.sampling import SoundWindows
from reelbank.extract.networks.inputs import WaveInput

# Entries of the settings that do not change numbers.
_NAMES = ("processor_class", "feature_extractor_type", "return_attention_mask")
_AST_HOP_SECONDS = 0.01  # between the frames of AST's spectrogram
_FREE_SECONDS = 1.0  # examples of models that read sound of any length
_LEAST_SECONDS = 0.5  # of a track that is shorter than an example


def wave_input(folder: Path, settings: Mapping[str, Any], inputs: str, extractor: str) -> WaveInput:
    """The input of an audio model. settings: of its feature extractor, as in its file; inputs: the
    entry of the extractor's result that the model reads. Raises InputError."""
    from transformers import AutoFeatureExtractor

    own = AutoFeatureExtractor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    windows = _windows(own, extractor)

    def prepare(waves: np.ndarray) -> Tensor:
        # One after the other, because CLAP's chooses one of a batch at random to be "longer".
        prepared = [
            own(wave, sampling_rate=windows.rate_hz, return_tensors="pt")[inputs] for wave in waves
        ]
        return torch.cat(prepared).float()

    blank = prepare(np.zeros((1, windows.window_samples), np.float32))
    return WaveInput(
        windows=windows,
        prepare=prepare,
        shape=tuple(blank.shape[1:]),
        about={"name": type(own).__name__, "settings_sha256": _hash(settings)},
    )


def _windows(own: Any, extractor: str) -> SoundWindows:
    """The examples that suit a feature extractor: as long as the model's input, one after the other.
    An extractor with a fixed length pads a shorter track itself."""
    rate_hz, name = int(own.sampling_rate), type(own).__name__
    lengths = {
        "ASTFeatureExtractor": lambda: own.max_length * _AST_HOP_SECONDS * rate_hz,
        "ClapFeatureExtractor": lambda: own.nb_max_samples,
        "WhisperFeatureExtractor": lambda: own.n_samples,
        "Wav2Vec2FeatureExtractor": lambda: _FREE_SECONDS * rate_hz,
    }
    if name not in lengths:
        raise InputError(
            f"EXTRACTOR={extractor}: its sound is prepared by {name}, which is not supported; "
            f"supported are {', '.join(lengths)}"
        )
    samples = round(lengths[name]())
    pads = name != "Wav2Vec2FeatureExtractor"
    least = min(samples, round(_LEAST_SECONDS * rate_hz)) if pads else 0
    return SoundWindows(rate_hz, samples, samples, least)


def _hash(settings: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in settings.items() if name not in _NAMES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
