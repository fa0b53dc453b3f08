"""Log-mel spectrograms equal to those of VGGish's front end (Hershey et al. 2017, CNN architectures
for large-scale audio classification; the constants are those of its published code)."""

import functools

import torch
from torch import Tensor

from reelbank.data.video.sound_track import RATE_HZ

# Windows of 25 ms every 10 ms, padded with zeros to a power of two.
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
BANDS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7500.0
LOGMEL_PX = (96, BANDS)  # steps of 10 ms and bands of one example
OFFSET = 0.01  # keeps the logarithm of silence finite


def logmel(waves: Tensor) -> Tensor:
    """(n, samples) mono at 16 kHz in [-1, 1], at least 400 samples -> (n, 1 + (samples - 400) //
    160, 64) float32.

    log(magnitudes in 64 mel bands + 0.01); 15600 samples are one example of 96 frames. Computed in
    float64, because next to a loud tone the rounding error of float32 is not small against 0.01.
    """
    frames = waves.double().unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES)  # (n, frames, 400)
    window = torch.hann_window(
        WINDOW_SAMPLES, periodic=True, dtype=torch.float64, device=waves.device
    )
    magnitudes = torch.fft.rfft(frames * window, FFT_SAMPLES).abs()  # (n, frames, 257)
    return (magnitudes @ _mel_weights_on(waves.device) + OFFSET).log().float()


@functools.cache
def _mel_weights_on(device: torch.device) -> Tensor:
    """The mel weights on this device. They are copied once, because each copy waits for a GPU."""
    return mel_weights().to(device)


@functools.cache
def mel_weights() -> Tensor:
    """(257, 64) float64: triangles that overlap by half, linear in HTK's mel = 1127 ln(1 + Hz /
    700)."""
    bins = _mel(torch.linspace(0, RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64))[:, None]
    lowest, highest = _mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(lowest, highest, BANDS + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    return torch.minimum(
        (bins - left) / (centre - left), (right - bins) / (right - centre)
    ).clamp_min(0)


def _mel(hz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hz / 700)
