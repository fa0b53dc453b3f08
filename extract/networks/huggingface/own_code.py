"""Models of transformers whose code is in their own repository or folder. The code is run only if the
user gives TRUST_REMOTE_CODE=1: it can do anything that the user can."""

import hashlib
import re
from pathlib import Path

from reelbank.extract.networks.huggingface.families import Family
from reelbank.extract.networks.huggingface.files import ModelFiles, auto_map
from reelbank.extract.networks.types import NetworkRequest

_MODEL = "AutoModel"  # the entry of auto_map that names the model's class
_CLASS = re.compile(r"\w+\.\w+", re.ASCII)

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
            "trust it, give TRUST_REMOTE_CODE=1"
        )
    if _MODEL not in auto_map(files.config):
        raise request.error(f"auto_map in config.json must name the class of the model as {_MODEL}")
    for name, text in files.named_code():
        # "owner/name--file.Class" is code of another repository, in whatever state it is by now.
        if not _CLASS.fullmatch(text):
            raise request.error(
                f"auto_map must name a class in a Python file of the model itself, as {name}: "
                f"<file>.<class> (got {text[:80]})"
            )
    if not files.processor("image_processor"):
        raise request.error(
            "models with code of their own can only read pictures, and this one has no settings of "
            "an image processor (preprocessor_config.json)"
        )
    return FAMILY


def code_hash(folder: Path, config_hash: str) -> str:
    """SHA-256 of a configuration and of all Python files of a model, with their names."""
    digest = hashlib.sha256(config_hash.encode())
    for path in sorted(folder.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
