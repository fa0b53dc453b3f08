"""The time of a training step of whole networks, from frames to updated weights ('Multi-Level
Recurrent Residual Networks', Fig. 6).

The time does not depend on the values of weights and frames, so both are random, and nothing is
downloaded or decoded.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelbank.data.console import counted, print_lines
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.system.machine import available_memory
from reelbank.extract.device import chosen_device, device_name
from reelbank.extract.networks.build import EMBEDDING, trunk
from reelbank.extract.networks.module import pooled
from reelbank.extract.networks.preprocessing import pair
from reelbank.fusion.reproduce.comparable import class_count
from reelbank.fusion.reproduce.plan import Figure
from reelbank.fusion.reproduce.recipe.changes import setting
from reelbank.fusion.reproduce.work import Work
from reelbank.heads.models.model import Model, build_model
from reelbank.heads.recipe import RunRecipe
from reelbank.heads.runs.folder import read_run
from reelbank.heads.runs.writing import write_json

MOST_SECONDS = 60.0  # of measuring one network, after the first step


@dataclass(frozen=True)
class Timed:
    """The subject of a timing. name: name of the model or the network; network: the network and the
    node that the head reads; clips: number of clips in a batch; frames: number of frames of a clip;
    size_px: height and width; classes: number of classes of the last layer; head: the head and its
    options; most: maximum number of batches; device: name of the device."""

    name: str
    network: str
    node: str
    clips: int
    frames: int
    size_px: tuple[int, int]
    classes: int
    head: str
    most: int
    device: str


@dataclass(frozen=True)
class BatchTime:
    """seconds: mean time of a training step over `batches` steps."""

    timed: Timed
    seconds: float
    batches: int


class Whole(nn.Module):
    """A network and the head on its node: (N, T, 3, h, w) -> logits (N, C)."""

    def __init__(self, network: nn.Module, node: str, model: Model) -> None:
        super().__init__()
        self.network, self.node, self.model = network, node, model

    def forward(self, frames: Tensor) -> Tensor:
        out = self.network(frames.flatten(0, 1))  # (N T, 3, h, w) -> (N T, D, [h', w'])
        rows = pooled(out[self.node] if isinstance(out, dict) else out)
        x = rows.view(*frames.shape[:2], -1)  # (N, T, D)
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
        logits, _ = self.model(x, lengths)
        return logits


@dataclass(frozen=True)
class Subject:
    """A network to be timed. build: makes the network on the CPU for inputs of this shape;
    batch_setting: the recipe's setting of the number of clips, as in SET=."""

    timed: Timed
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    batch_setting: str


def measured_times(work: Work, figure: Figure, folder: Path) -> list[BatchTime]:
    """The times of the figure's models and networks. Times that `folder` contains from an
    earlier call are not measured again. Raises InputError for a model without runs, or one on
    feature maps."""
    path = times_file(folder, figure)
    earlier = {one.timed: one for one in read_times(path)}
    device = chosen_device(work.options.device)
    subjects = [_model(work, figure, name, device) for name in figure.models]
    subjects += [_network(work, figure, name, device) for name in figure.networks]
    times = []
    for subject in subjects:
        if subject.timed not in earlier:
            print_lines(f"== measure the step time of {subject.timed.name}", flush=True)
            earlier[subject.timed] = _measured(subject, device)
        times.append(earlier[subject.timed])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"times": [dataclasses.asdict(one) for one in times]})
    return times


def times_file(folder: Path, figure: Figure) -> Path:
    """The path of a figure's times in the folder of a reproduction."""
    return folder / "figures" / f"{figure.name}.json"


def read_times(path: Path) -> list[BatchTime]:
    """The times in a file, or [] if the file does not exist or cannot be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [_from_json(one) for one in document["times"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _from_json(document: Mapping[str, Any]) -> BatchTime:
    timed = {**document["timed"], "size_px": tuple(document["timed"]["size_px"])}
    return BatchTime(Timed(**timed), float(document["seconds"]), int(document["batches"]))


def _model(work: Work, figure: Figure, name: str, device: torch.device) -> Subject:
    """A model from frames to logits. Its sequences have as many frames as in training."""
    folders = work.runs.get(name, ())
    if not folders:
        raise InputError(
            f"needs the model {name}, which is missing ({work.failed.get(name, 'not trained yet')})"
        )
    recipe = RunRecipe.from_json(read_run(folders[0]).recipe)
    stores = json.loads((folders[0] / "recipe.json").read_text()).get("store_recipes", [])
    features = FeatureRecipe.from_json(stores[0]) if len(stores) == 1 else None
    if recipe.trunk or features is None or features.preprocessing is None:
        raise InputError(
            f"the step time of {name} cannot be measured, because this is possible only for "
            "heads on the vectors of a single image network"
        )
    timed = Timed(
        name=name,
        network=str(features.extractor),
        node=str(features.node),
        clips=figure.batch,
        frames=recipe.rows.steps or (features.rows and features.rows.steps) or 1,
        size_px=pair(_size(features.preprocessing["crop_px"])),
        classes=len(recipe.classes),
        head=" ".join([recipe.head, *(f"{k}={v}" for k, v in recipe.head_options.items())]),
        most=figure.batches,
        device=device_name(device),
    )
    shape = (timed.clips, timed.frames, 3, *timed.size_px)
    batch_setting = setting("figures", figure.name, "batch")
    return Subject(timed, lambda: _whole(timed, recipe), shape, batch_setting)


def _size(stored: object) -> Any:
    """A size as in recipes, which is one number or a list of height and width."""
    return tuple(stored) if isinstance(stored, list) else stored


def _whole(timed: Timed, recipe: RunRecipe) -> nn.Module:
    network = trunk(timed.network, "random").model
    if timed.node != EMBEDDING:
        from reelbank.extract.networks.cut import cut  # it loads torchvision, which takes seconds

        network = cut(network, (timed.node,), timed.network)
    return Whole(network, timed.node, build_model(recipe))


def _network(work: Work, figure: Figure, name: str, device: torch.device) -> Subject:
    """A network with a linear classifier."""
    whole = trunk(name, "random")
    timed = Timed(
        name=name,
        network=name,
        node=EMBEDDING,
        clips=figure.networks[name],
        frames=whole.clip_frames,
        size_px=pair(whole.preprocessing.crop_px),
        classes=class_count(work),
        head="linear",
        most=figure.batches,
        device=device_name(device),
    )
    frames = (timed.frames,) if whole.kind == "video" else ()
    shape = (timed.clips, 3, *frames, *timed.size_px)
    batch_setting = setting("figures", figure.name, "networks", name)
    return Subject(
        timed, lambda: _with_linear(whole.model, shape, timed.classes), shape, batch_setting
    )


def _with_linear(network: nn.Module, shape: Sequence[int], classes: int) -> nn.Module:
    with torch.inference_mode():
        dim = network.eval()(torch.zeros(1, *shape[1:])).shape[1]
    return nn.Sequential(network, nn.Linear(dim, classes))


def step_bytes(module: nn.Module, input_shape: Sequence[int]) -> int:
    """About the memory that a training step takes: weights, their gradients and Adam's two moments,
    the inputs, and what the forward pass keeps for them, measured on one input.

    input_shape: of the batch, (N, ...). Linux may kill a process that takes more memory than there
    is, before torch reports anything.
    """
    one = torch.rand(1, *input_shape[1:])
    kept: dict[int, int] = {}  # address of a tensor that the backward pass needs -> its bytes

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    module.eval()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(one)
    weights = {parameter.data_ptr(): parameter.nbytes for parameter in module.parameters()}
    of_one = sum(size for address, size in kept.items() if address not in weights)
    return 4 * sum(weights.values()) + input_shape[0] * (one.nbytes + of_one)


def _check_memory(subject: Subject, module: nn.Module) -> None:
    """Raises InputError if a step would take more memory than the computer has left."""
    needed, available = step_bytes(module, subject.input_shape), available_memory().value
    if needed > available:
        timed = subject.timed
        raise InputError(
            f"a training step of {timed.name} on {counted(timed.clips, 'clip')} needs about "
            f"{needed / 1e9:.1f} GB of memory, but only {available / 1e9:.1f} GB are available; "
            f"{_how_to_need_less(subject)}"
        )


def _how_to_need_less(subject: Subject) -> str:
    if subject.timed.clips == 1:  # no batch is smaller
        return "use a GPU, or a computer with more memory"
    change = f"{subject.batch_setting}=1"
    quoted = f"'{change}'" if '"' in change else change  # for the shell
    return f"use a GPU, or a smaller batch, such as SET={quoted}"


def _measured(subject: Subject, device: torch.device) -> BatchTime:
    """The mean time of a step, without the first one, which also prepares memory and kernels."""
    module = subject.build().to(device).requires_grad_(True)
    if device.type == "cpu":
        _check_memory(subject, module)
    module.train()
    inputs = torch.rand(subject.input_shape, device=device)
    labels = torch.arange(len(inputs), device=device) % subject.timed.classes
    optimiser = torch.optim.Adam(module.parameters())

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step()
    begun, seconds, batches = time.perf_counter(), 0.0, 0
    while batches < subject.timed.most and seconds < MOST_SECONDS:
        step()
        batches += 1
        seconds = time.perf_counter() - begun
    return BatchTime(subject.timed, seconds / batches, batches)
