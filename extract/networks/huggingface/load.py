"""Load EXTRACTOR=hf:<owner>/<model> or hf:<folder>: a model of transformers with its weights and its
preprocessing. Code that comes with a model is run only with TRUST_REMOTE_CODE=1."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from reelbank.data.console import nearest, some
from reelbank.data.errors import InputError
from reelbank.data.identity import in_file_name
from reelbank.data.system.memory import full_memory
from reelbank.extract.networks.huggingface.families import (
    FAMILIES,
    REFUSED,
    USUAL_FRAMES,
    Family,
)
from reelbank.extract.networks.huggingface.files import ModelFiles, model_files
from reelbank.extract.networks.huggingface.own_code import (
    check_code,
    code_hash,
    family_of_own_code,
    has_own_code,
)
from reelbank.extract.networks.inputs import NetworkKind
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.networks.types import LoadedNetwork, NetworkRequest
from reelbank.extract.networks.weights import seeded

INSTALL = "pip install 'reelbank[hf]'"
# Entries of a configuration that do not change what a model computes.
_NOTES = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_commit_hash",
    "license",
)


def load_transformers(request: NetworkRequest) -> LoadedNetwork:
    """The network of a request. Raises InputError for a model that is missing, of another family, or
    whose weights or processor cannot be used."""
    if request.weights_file or request.weights == "own":
        raise request.error(
            f"WEIGHTS={request.weights}: the weights of this extractor are those of its folder or of "
            "the hub; leave WEIGHTS out, or give WEIGHTS=random"
        )
    _check_installed(request.extractor)
    is_random = request.weights == "random"
    files = model_files(
        request.extractor,
        weights=not is_random,
        fetch=request.fetch,
        code=request.trust_remote_code,
    )
    family = _family(files, request)
    if family.kind != "sound" and request.channels != 3:
        raise request.error(
            "reads pictures of three colours; use STREAM=rgb, or another network for optical flow "
            "and sound"
        )
    code_sha256 = _config_hash(files.config)
    with quiet(), explained(request):
        if family.own_code:
            code_sha256 = code_hash(files, code_sha256)
            check_code(code_sha256, request)
        model, family = _model(
            files, family, request, is_random=is_random or bool(files.to_download)
        )
        network = _network(files, family, model, request)
    origin = Provenance.random(request.seed)
    if not is_random:
        origin = Provenance.of_transformers(files.name)
        origin = replace(origin, revision=files.revision, license=files.license)
    return replace(network, origin=replace(origin, code_sha256=code_sha256))


def kind_of_transformers(extractor: str, *, trust_remote_code: bool) -> NetworkKind:
    """What a model reads, from its configuration alone."""
    files = model_files(extractor, weights=False, fetch=False, code=False)
    request = NetworkRequest(extractor=extractor, trust_remote_code=trust_remote_code)
    return _family(files, request).kind


def _family(files: ModelFiles, request: NetworkRequest) -> Family:
    name = files.model_type
    if name in FAMILIES:
        return FAMILIES[name]
    if name in REFUSED:
        raise request.error(f"the family {name} is not supported: {REFUSED[name]}")
    if has_own_code(files):
        return family_of_own_code(files, request)
    known = sorted(FAMILIES)
    raise request.error(
        f"the family '{name}' of this model is not supported; supported are "
        f"{', '.join(known)}{nearest(name, known)}"
    )


def _check_installed(extractor: str) -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"EXTRACTOR={extractor} needs the package transformers ({error}); install it with "
            f"{INSTALL}"
        ) from None


def _model(
    files: ModelFiles, family: Family, request: NetworkRequest, *, is_random: bool
) -> tuple[nn.Module, Family]:
    """The model without its classifier and without what reads other inputs, such as text."""
    import torch
    import transformers

    name, last = family.model, ""
    (architecture,) = list(files.config.get("architectures") or ())[:1] or [""]
    if architecture in family.classifiers:
        name, last = architecture, family.classifiers[architecture]
        family = replace(family, row="logits", build={}, arguments={}, part="", unused=())
    builder: Any = getattr(transformers, name)
    if is_random and family.own_code:
        settings = {"local_files_only": True, "trust_remote_code": True}
        config = transformers.AutoConfig.from_pretrained(files.folder, **settings)
        model = seeded(
            request.seed,
            lambda: builder.from_config(config, trust_remote_code=True, dtype=torch.float32),
        )
    elif is_random:
        config = builder.config_class.from_pretrained(files.folder, local_files_only=True)
        model = seeded(
            request.seed, lambda: builder._from_config(config, dtype=torch.float32, **family.build)
        )
    else:
        model, about = builder.from_pretrained(
            files.folder,
            local_files_only=True,
            trust_remote_code=family.own_code,
            dtype=torch.float32,
            output_loading_info=True,
            **family.build,
        )
        check_complete(model, about, request, unused=family.unused)
    for part in family.unused:
        if hasattr(model, part):
            delattr(model, part)
    if last:
        parent, _, child = last.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
    return model.eval(), family


def check_complete(
    model: nn.Module,
    about: Mapping[str, Any],
    request: NetworkRequest,
    *,
    unused: Sequence[str] = (),
) -> None:
    """Raises InputError if weights are missing, for which transformers takes random ones. unused: parts
    of the model that need none."""
    missing = sorted(str(name) for name in about.get("missing_keys") or ())
    missing = [name for name in missing if name.split(".")[0] not in unused]
    if missing:
        raise request.error(
            f"the weights do not fit {type(model).__name__}, because {some(missing)} are missing"
        )


def _network(
    files: ModelFiles, family: Family, model: nn.Module, request: NetworkRequest
) -> LoadedNetwork:
    from reelbank.extract.networks.huggingface.model import TransformersNetwork
    from reelbank.extract.networks.huggingface.pictures import load_processor, preprocessing_of
    from reelbank.extract.networks.huggingface.sound import wave_input

    preprocessing, waves = Preprocessing(1, 1, (0.0,), (1.0,)), None
    if family.kind == "sound":
        settings = files.processor("feature_extractor")
        waves = wave_input(files.folder, settings, family.inputs, request.extractor)
    else:
        processor = load_processor(files.folder, family.kind, trust_remote_code=family.own_code)
        preprocessing = preprocessing_of(processor, family.kind, request.extractor)
    return LoadedNetwork(
        name=in_file_name(files.name.rpartition("/")[2]),
        model=TransformersNetwork(model, family),
        preprocessing=preprocessing,
        kind=family.kind,
        origin=Provenance.random(request.seed),
        clip_frames=_frames(model, family),
        to_download=files.to_download,
        waves=waves,
    )


def _frames(model: Any, family: Family) -> int:
    if family.kind != "video":
        return 1
    frames: Any = model.config
    for name in family.frames.split(".") if family.frames else ():
        frames = getattr(frames, name, None)
    return int(frames) if family.frames and frames else USUAL_FRAMES


def _config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration: the same weights with other settings give other features."""
    kept = {name: value for name, value in config.items() if name not in _NOTES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the notes and bars that transformers prints while it loads a model."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def explained(request: NetworkRequest) -> Iterator[None]:
    """Turns errors of transformers into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever transformers raises, the model's files are at fault
        if full_memory(error):
            raise
        from reelbank.extract.networks.weights import reason_of

        raise request.error(
            f"transformers cannot load the model ({type(error).__name__}: {reason_of(error)})"
        ) from error
