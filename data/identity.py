"""Identities: a recipe as canonical JSON, its hash, and how two recipes differ."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

HUGGINGFACE = "hf:"  # begins the names of extractors of transformers


def is_model_folder(extractor: str) -> bool:
    """Whether an extractor of transformers is a folder, not a name on the hub (owner/name). It is
    decided by the text alone: a folder is written as hf:./x, hf:/x, hf:~/x or hf:x."""
    text = extractor.removeprefix(HUGGINGFACE)
    return text != extractor and (text.startswith((".", "/", "~")) or "/" not in text)


def extractor_name(extractor: str) -> str:
    """The name of an extractor in a recipe. An extractor in a user's file is named by the file's
    stem and the function, and one in a folder by the folder's name, without the path (the recipe
    contains a hash of its weights)."""
    if is_model_folder(extractor):
        path = Path(extractor.removeprefix(HUGGINGFACE)).expanduser()
        return f"{HUGGINGFACE}{path.resolve().name}"
    file_name, _, function = extractor.rpartition(":")
    return f"{PurePath(file_name).stem}.{function}" if file_name.endswith(".py") else extractor


# json.dumps would make another one each time.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(recipe: Mapping[str, Any]) -> str:
    """The recipe as JSON with sorted keys, so that equal recipes give equal texts."""
    return _CANONICAL.encode(recipe)


def reject_constant(name: str) -> Any:
    """For json.loads, which otherwise accepts NaN and Infinity. Raises ValueError."""
    raise ValueError(f"{name} is not valid JSON")


def in_file_name(text: str) -> str:
    """A name from an untrusted file as part of a file name: it cannot lead out of a folder."""
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_"


def signature(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical recipe, 64 hex digits: the identity of a store or a run."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()


def signature_of(values: Iterable[tuple[str, Any]]) -> str:
    """`signature` of the names and values, which come in the order of their names. They are not
    collected, because there may be millions."""
    digest = hashlib.sha256(b"{")
    separator = ""
    for name, value in values:
        text = canonical({name: value})[1:-1]
        digest.update(f"{separator}{text}".encode())
        separator = ","
    digest.update(b"}")
    return digest.hexdigest()


def brief(value: Any, longest: int = 60) -> str:
    """A value as text. A text longer than `longest` is replaced by its first 12 characters and its
    length."""
    text = str(value)
    return text if len(text) <= longest else f"{text[:12]}... ({len(text):,} characters)"


def differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A line 'name: a, not b' for every value in which two recipes differ. Nested names are joined
    with dots, long values are shortened."""
    lines = []
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {brief(a)}, not {brief(b)}")
    return lines
