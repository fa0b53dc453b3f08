"""The module that a checkpoint contains. It combines normalisation and head, so that predicting on
a new store takes one forward pass."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reelbank.data.errors import InputError
from reelbank.data.plugins import is_user_file, user_error
from reelbank.extract.networks.build import Trunk
from reelbank.heads.models.normalise import MidFusion, Normalise
from reelbank.heads.models.registry import head_spec, recorded_head
from reelbank.heads.models.trunk import build_trunk
from reelbank.heads.recipe import MidFusionRecipe, Normalisation, RunRecipe


class Model(nn.Module):
    """A normalisation and a head, in one module.

    forward(x (N, T, *row) float32, lengths (N,) int64) returns (logits (N, C), embedding (N, E)).
    x contains the rows of N videos as they are in the store, padded to T rows; lengths contains the
    number of valid rows of each video."""

    def __init__(self, normalise: Normalise | MidFusion, head: nn.Module) -> None:
        super().__init__()
        self.normalise, self.head = normalise, head

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.normalise(x), lengths)


def build_model(
    recipe: RunRecipe,
    *,
    head: str = "",
    extractor: str = "",
    streams: Sequence[str] = (),
    network: Trunk | None = None,
) -> Model:
    """The untrained model that a run's recipe describes.

    head: path/to/file.py:name, for a head defined in a user's file; extractor: file.py:function,
    for a trunk from a user's file; streams: file.py:Class of the user's streams, for a trunk on maps
    of one of them; network: the store's network with its weights, from which a head
    on feature maps starts (default: random weights).
    """
    spec = head_spec(recorded_head(recipe.head, recipe.head_code_sha256, head))
    normalise = build_normalise(recipe.normalise, recipe.input_shape, recipe.mid)
    options = dict(recipe.head_options)
    if recipe.trunk:
        options["trunk"], options["trunk_dim"] = build_trunk(
            recipe.trunk, recipe.input_shape, extractor, network, streams
        )
    sizes = normalise.output_dim, len(recipe.classes)
    if is_user_file(head):
        row_shape = recipe.input_shape if recipe.trunk else (normalise.output_dim,)
        module = _own_head(partial(spec.build, *sizes, **options), head, row_shape, sizes[1])
    else:
        module = spec.build(*sizes, **options)
    if recipe.norm_momentum:
        running_norms(module, recipe.norm_momentum)
    return Model(normalise, module)


def _own_head(
    build: partial[nn.Module], name: str, row_shape: Sequence[int], num_classes: int
) -> nn.Module:
    """A head from a user's file, tried on a batch of zeros. Raises InputError for one that does not
    keep what `HeadSpec.build` promises.

    A head with `fit` is only built: before the fit its forward may have no meaning.
    """
    try:
        head = build()
    except InputError:
        raise
    except Exception as error:
        parameters = ", ".join(("feature_dim", "num_classes", *build.keywords))
        raise user_error(error, option="HEAD", text=name, call=f"build({parameters})") from error
    if not isinstance(head, nn.Module) or not isinstance(
        getattr(head, "classifier", None), nn.Linear
    ):
        raise InputError(
            f"HEAD={name}: the head must be a torch.nn.Module whose last layer is a "
            "torch.nn.Linear named `classifier` (got an object of type "
            f"{type(head).__name__})"
        )
    if head_spec(name).fit:
        return head
    x, lengths = torch.zeros(2, 2, *row_shape), torch.tensor([2, 1])
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            answer = head.eval()(x, lengths)
    except InputError:
        raise
    except Exception as error:
        call = f"forward(x, lengths) with x of shape {tuple(x.shape)}"
        raise user_error(error, option="HEAD", text=name, call=call) from error
    head.train()
    parts = answer if isinstance(answer, tuple) else (answer,)
    shapes = [
        tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts
    ]
    if len(shapes) != 2 or shapes[0] != (2, num_classes) or len(shapes[1]) != 2:
        raise InputError(
            f"HEAD={name}: forward() must return logits of shape (N, C) and an embedding "
            f"of shape (N, E); for N = 2 sequences and C = {num_classes} classes it "
            f"returned {' and '.join(map(str, shapes))}"
        )
    return head


def build_normalise(
    normalisation: Normalisation, input_shape: Sequence[int], mid: MidFusionRecipe | None = None
) -> Normalise | MidFusion:
    """The normalisation of features that a run's recipe describes. Raises InputError for sizes that
    do not match."""
    znorm, pca = normalisation.znorm, normalisation.pca
    if mid:
        return MidFusion(mid.dims, mid.how, znorm, pca)
    return Normalise(input_shape[0], znorm, pca)


def running_norms(head: nn.Module, momentum: float) -> None:
    """Make every batch norm in `head` normalise with its running mean and variance in training too.

    In training, the statistics are first moved towards the batch's by `momentum` ('Relational
    LSTM', 5.2: 0.001). The names in state dicts do not change.
    """
    for module in head.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.momentum = momentum
            module.register_forward_pre_hook(_move)
            module.register_forward_hook(_train_again, always_call=True)


def _move(norm: Any, inputs: tuple[Any, ...]) -> None:
    """Before a forward pass in training, update the statistics, then switch the norm to evaluation
    mode for the forward pass."""
    if not norm.training:
        return
    x: Tensor = inputs[0]
    with torch.no_grad():
        axes = [axis for axis in range(x.ndim) if axis != 1]
        # The variance is unbiased, like torch's running variance. With one value per channel, the
        # unbiased variance is undefined.
        correction = 1 if x.numel() > x.shape[1] else 0
        variance, mean = torch.var_mean(x, axes, correction=correction)
        # The statistics are new tensors and not changed in place. A norm that runs twice before one
        # backward pass still needs the statistics of its first forward pass.
        norm.running_mean = norm.running_mean.lerp(mean, norm.momentum)
        norm.running_var = norm.running_var.lerp(variance, norm.momentum)
        norm.num_batches_tracked += 1
    norm.training = False
    norm.moves = True


def _train_again(norm: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """After the forward pass, switch a norm that `_move` put into evaluation mode back to training
    mode."""
    if getattr(norm, "moves", False):
        norm.training, norm.moves = True, False
