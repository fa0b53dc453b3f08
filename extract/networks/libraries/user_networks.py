"""Networks in a user's own file, EXTRACTOR=path/to/file.py:function."""

from torch import nn

from reelbank.data.plugins import load_plugin, plugin_name, user_error
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.presets import size_px
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.types import VIDEO_CLIP_FRAMES, LoadedNetwork, NetworkRequest
from reelbank.extract.networks.weights import seeded


def load_user_network(request: NetworkRequest) -> LoadedNetwork:
    """Call the user's function, which takes no arguments and returns an nn.Module:
    (N, 3, h, w) or (N, 3, s, h, w) -> (N, D).

    Optional attributes of the module that are used: mean, std (of x / 255), input_size
    (3, h, w), resize_px, interpolation, antialias, is_video, channels.
    """
    text = request.extractor
    function = text.rpartition(":")[2]
    builder = load_plugin(text, {}, option="EXTRACTOR")
    if not callable(builder):
        raise request.error(f"{function} must be a function (got {type(builder).__name__})")
    try:
        model = seeded(request.seed, builder)
    except (Exception, SystemExit) as error:
        raise user_error(error, option="EXTRACTOR", text=text) from error
    if not isinstance(model, nn.Module):
        raise request.error(
            f"{function}() must return a torch.nn.Module (got {type(model).__name__})"
        )
    _, *size = getattr(model, "input_size", (3, 224, 224))
    preprocessing = Preprocessing(
        resize_px=getattr(model, "resize_px", round(min(size[-2:]) * 256 / 224)),
        crop_px=size_px(size[-2:]),
        mean=tuple(getattr(model, "mean", (0.485, 0.456, 0.406))),
        std=tuple(getattr(model, "std", (0.229, 0.224, 0.225))),
        interpolation=getattr(model, "interpolation", "bilinear"),
        antialias=bool(getattr(model, "antialias", True)),
    )
    is_video = bool(getattr(model, "is_video", False))
    return LoadedNetwork(
        name=plugin_name(text),
        model=model,
        preprocessing=preprocessing,
        kind="video" if is_video else "image",
        origin=Provenance.of_builder(),
        clip_frames=VIDEO_CLIP_FRAMES if is_video else 1,
    )
