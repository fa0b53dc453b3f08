"""Models of transformers whose code is in their own repository or folder. The code is run only if the
user gives TRUST_REMOTE_CODE=1: it can do anything that the user can."""

import hashlib

from reelbank.extract.networks.huggingface.families import Family
from reelbank.extract.networks.huggingface.files import CLASS_OF_MODEL, ModelFiles, auto_map
from reelbank.extract.networks.types import NetworkRequest

_MODEL = "AutoModel"  # the entry of auto_map that names the model's class
# With these files transformers would run code that neither is of the model nor in its hash: a function
# that generates text, and an adapter for another model, with that model's code.
_MORE_CODE = ("custom_generate/generate.py", "adapter_config.json")

# A model of pictures, as transformers' own ones are called.
FAMILY = Family(kind="image", model=_MODEL, row="pooled_or_tokens", own_code=True)


def has_own_code(files: ModelFiles) -> bool:
    """Whether the configuration of a model names code that comes with it."""
    return bool(files.config.get("auto_map"))


def family_of_own_code(files: ModelFiles, request: NetworkRequest) -> Family:
    """How a model with code of its own is run. Raises InputError unless the user trusts the code, and
    for a model that cannot be an extractor."""
    if not request.trust_remote_code:
        raise request.error(
            f"the model (of the type '{files.model_type}') comes with code of its own, which is not "
            "run, because it could read, change and send all your files; read the code, and if you "
            f"trust it, give TRUST_REMOTE_CODE=1 (with 'predict' also EXTRACTOR={request.extractor})"
        )
    if _MODEL not in auto_map(files.config):
        raise request.error(f"auto_map in config.json must name the class of the model as {_MODEL}")
    for name, text in files.named_code():
        # "owner/name--file.Class" is code of another repository, in whatever state it is by now.
        if not CLASS_OF_MODEL.fullmatch(text):
            raise request.error(
                f"auto_map must name a class in a Python file of the model itself, as {name}: "
                f"<file>.<class> (got {text[:80]})"
            )
    for name in _MORE_CODE:
        if (files.folder / name).exists():
            raise request.error(
                f"models with code of their own must not contain {name}, because transformers would run "
                "other code than that of the model; give a copy of the folder without it"
            )
    if not files.processor("image_processor"):
        raise request.error(
            "models with code of their own can only read pictures, and this one has no settings of "
            "an image processor (preprocessor_config.json)"
        )
    return FAMILY


def code_hash(files: ModelFiles, config_hash: str) -> str:
    """SHA-256 of a configuration and of the Python files that a model runs, with their names. Raises
    OSError or ValueError as `ModelFiles.code_files` does."""
    digest = hashlib.sha256(config_hash.encode())
    for path in files.code_files():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(files.folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def check_code(code_sha256: str, request: NetworkRequest) -> None:
    """Raises InputError for other code than the request vouches for. It must be called before the
    code is imported."""
    if request.code_sha256 is not None and code_sha256 != request.code_sha256:
        raise request.error(
            "the code or the configuration of the model is not that of the recipe, so the code is not "
            f"run (SHA-256 {request.code_sha256[:16] or 'not recorded'} in the recipe, "
            f"{code_sha256[:16]} here); give the model as it was when the features were extracted, or "
            "extract and train again"
        )
