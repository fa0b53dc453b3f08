"""Log-mel spectrograms compared with VGGish's own front end, on a real recording and on a pure
tone."""

import wave

import numpy as np
import pytest
import torch
from conftest import testdata

from reelbank.data.video.sound import EXAMPLE_SAMPLES, HOP_SAMPLES
from reelbank.extract.pipeline.logmel import logmel


def signal(name: str) -> torch.Tensor:
    """(samples,) float32 at 16 kHz."""
    if name == "sine1k_16k_3s":
        return torch.from_numpy(np.sin(2 * np.pi * 1000 * np.arange(3 * 16000) / 16000)).float()
    with wave.open(str(testdata("references", "logmel_test.wav"))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return torch.from_numpy(samples / np.float32(32768))


@pytest.mark.parametrize("name", ["testwav", "sine1k_16k_3s"])
def test_logmel_is_vggishs(name):
    with np.load(testdata("references", "logmel_reference.npz"), allow_pickle=False) as reference:
        whole, examples = reference[f"{name}_logmel"], reference[f"{name}_examples"]
    samples = signal(name)
    found = logmel(samples[None])  # of the tone, float32 samples alone cost 7e-5
    assert found.dtype == torch.float32 and found.shape == (1, *whole.shape)
    assert np.abs(found[0].numpy() - whole).max() < 1e-4
    # Examples cut from the samples, in one batch, are the frames that the reference cuts from the
    # whole spectrogram.
    cut = samples.unfold(0, EXAMPLE_SAMPLES, HOP_SAMPLES)
    assert (EXAMPLE_SAMPLES, HOP_SAMPLES) == (15600, 15360)
    assert cut.shape[0] == len(examples)
    assert np.abs(logmel(cut).numpy() - examples).max() < 1e-4


def test_silence_is_the_offset():
    assert (logmel(torch.zeros(2, 560)) == torch.tensor(0.01).log()).all()
    assert logmel(torch.zeros(2, 560)).shape == (2, 2, 64) and logmel(
        torch.zeros(1, 559)
    ).shape == (1, 1, 64)
