"""The autoencoder. It is trained to reconstruct normal vectors and has a higher reconstruction
error on other vectors (multi-stream paper, anomaly detection on video embeddings)."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from reelbank.data.errors import InputError
from reelbank.fusion.options import AnomalyOptions
from reelbank.heads.models.normalise import mean_and_scale
from reelbank.heads.training.fit import few_threads

BATCH = 32
PATIENCE = 20  # training stops after this many epochs without a lower validation error
PREFIX = "network."  # prefix of the network's arrays; the other arrays are "mean" and "scale"


def network(size: int, hidden: int, bottleneck: int) -> nn.Sequential:
    """A network with layers of D, hidden, bottleneck, hidden and D units."""
    encoder = (nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, bottleneck), nn.ReLU())
    return nn.Sequential(
        *encoder, nn.Linear(bottleneck, hidden), nn.ReLU(), nn.Linear(hidden, size)
    )


def fit_autoencoder(
    train: np.ndarray,
    validation: np.ndarray,
    options: AnomalyOptions,
    *,
    bottleneck: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Train the autoencoder. Returns the network's arrays at the epoch with the lowest validation
    error, and the mean and scale (D,) that normalise its input.

    train (n, D), validation (m, D): vectors of normal videos. Raises InputError when training
    diverges.
    """
    mean, scale = mean_and_scale(train)
    torch.manual_seed(seed)
    model = network(train.shape[1], options.hidden, bottleneck)
    x, held_out = (
        torch.from_numpy((vectors - mean) / scale).float() for vectors in (train, validation)
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr)
    lowest, best, epochs_since = np.inf, _copy(model), 0
    with few_threads(model):
        for _ in range(options.epochs):
            _train_epoch(model, optimiser, x)
            with torch.no_grad():
                error = float(nn.functional.mse_loss(model(held_out), held_out))
            if not np.isfinite(error):
                raise InputError(
                    f"LR={options.lr:g}: the training of the autoencoder diverged; give a lower "
                    "learning rate"
                )
            epochs_since += 1
            if error < lowest:
                lowest, best, epochs_since = error, _copy(model), 0
            if epochs_since >= PATIENCE:
                break
    arrays = {f"{PREFIX}{name}": value.numpy() for name, value in best.items()}
    return arrays | {"mean": mean, "scale": scale}


def _train_epoch(model: nn.Module, optimiser: torch.optim.Optimizer, x: torch.Tensor) -> None:
    for rows in torch.randperm(len(x)).split(BATCH):
        loss = nn.functional.mse_loss(model(x[rows]), x[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def reconstruction_errors(model: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """Mean squared error over the normalised dimensions, (V,) float64, of vectors (V, D).

    model: the arrays of `load_detector`. Raises InputError when the dimensions do not match.
    """
    if vectors.ndim != 2 or vectors.shape[1:] != model["mean"].shape:
        raise InputError(
            f"the videos' vectors have shape {vectors.shape[1:]}, but the detector was fitted on "
            f"vectors of shape {model['mean'].shape}; give the features that it was fitted on"
        )
    weights = {
        name.removeprefix(PREFIX): torch.from_numpy(value)
        for name, value in model.items()
        if name.startswith(PREFIX)
    }
    hidden, bottleneck = len(weights["0.weight"]), len(weights["2.weight"])
    net = network(vectors.shape[1], hidden, bottleneck)
    net.load_state_dict(weights)
    x = torch.from_numpy((vectors - model["mean"]) / model["scale"]).float()
    with torch.no_grad():
        return ((net(x) - x).double() ** 2).mean(dim=1).numpy()


def load_detector(folder: str | Path) -> dict[str, np.ndarray]:
    """The autoencoder's arrays from a folder in <bank>/anomalies, for `reconstruction_errors`.
    Raises InputError when they cannot be read."""
    path = Path(folder) / "checkpoint.safetensors"
    try:
        model = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}; fit the detector again") from None
    if not {"mean", "scale", f"{PREFIX}0.weight", f"{PREFIX}2.weight"} <= model.keys():
        raise InputError(f"{path} does not contain an autoencoder; fit the detector again")
    return model
