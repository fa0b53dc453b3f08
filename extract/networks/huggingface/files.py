"""The files of a model of transformers: in a folder, in the cache of Hugging Face, or downloaded.

A model is always loaded from a folder, so that transformers itself asks no server.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reelbank.data.errors import InputError
from reelbank.data.identity import HUGGINGFACE, is_model_folder
from reelbank.extract.networks.published import HUB_REMEDY, TIMEOUT_SECONDS, fetching

CONFIG = "config.json"
# Settings of the processors, in the order in which transformers looks for them.
_PROCESSORS = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
_CARD = "README.md"
# The tokens of a model that reads text: one of the first is needed, the others belong to them.
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
_OF_TOKENIZERS = ("tokenizer_config.json", "special_tokens_map.json", "merges.txt")
CLASS_OF_MODEL = re.compile(r"\w+\.\w+", re.ASCII)  # <file>.<class> in the model's own folder
# Weights in the order of preference; the second kind is read without running code in it.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder.

    name: of the folder, or on the hub (owner/name)
    config: the content of config.json
    revision: the commit on the hub; "" for a folder
    to_download: weights that are missing, as text
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    revision: str = ""
    to_download: str = ""

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def license(self) -> str:
        """As the model's card or its configuration states it; "" if they do not."""
        stated = self.config.get("license") or _of_card(self.folder / _CARD)
        return str(stated or "")

    def named_code(self) -> list[tuple[str, str]]:
        """The classes in Python files that the settings of the model and of its processors name: what
        for, and <file>.<class>."""
        return _named_code(self.folder)

    def code_files(self) -> list[Path]:
        """The Python files of `named_code` and those that they import, sorted. Other files of the
        folder do not count, because it depends on the machine which of them were downloaded.
        Raises OSError if one is missing, ValueError if one is not text."""
        return _code_files(self.folder)

    def processor(self, key: str) -> Mapping[str, Any]:
        """The settings of a processor. key: its name in processor_config.json, such as
        "image_processor". {} if there are none."""
        for name in _PROCESSORS:
            path = self.folder / name
            settings = _read_json(path) if path.is_file() else {}
            if name == _PROCESSORS[0]:
                settings = settings.get(key) or {}
            if settings:
                return settings
        return {}


def auto_map(settings: object) -> dict[str, str]:
    """The classes in Python files that settings name, without those of tokenizers, which are not
    used."""
    named = settings.get("auto_map") if isinstance(settings, Mapping) else None
    entries = named.items() if isinstance(named, Mapping) else ()
    return {name: str(text) for name, text in entries if name != "AutoTokenizer"}


def model_files(
    extractor: str, *, weights: bool, fetch: bool, code: bool, tokenizer: bool = False
) -> ModelFiles:
    """The files of EXTRACTOR=hf:<name or folder>. Those that are missing are downloaded, but weights
    only with `fetch`.

    weights: whether they are needed; code: whether the Python files of the model are, if its
    configuration names any; tokenizer: whether its tokenizer is. Raises InputError for a
    folder without a model, and for files that cannot be downloaded.
    """
    text = extractor.removeprefix(HUGGINGFACE)
    if is_model_folder(extractor):
        return _of_folder(extractor, Path(text).expanduser(), weights=weights)
    name, _, revision = text.partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(
            f"EXTRACTOR={extractor}: must be hf:<owner>/<model> on the Hugging Face hub, or a folder, "
            "as hf:./folder or hf:/path/to/folder"
        )
    folder = _cached(name, revision)
    if folder and tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
        # Of the commit whose features were stored, although there may be a newer one.
        folder = _downloaded(
            extractor, name, folder.name, weights=weights, code=code, tokenizer=True
        )
    if (
        folder is None
        or (weights and fetch and not _weight_files(folder))
        or (code and _misses_code(folder))
    ):
        folder = _downloaded(
            extractor, name, revision, weights=weights and fetch, code=code, tokenizer=tokenizer
        )
    absent = ""
    if weights and not _weight_files(folder):
        absent = f"{name} of the Hugging Face hub"
    return ModelFiles(folder, name, _read_json(folder / CONFIG), folder.name, absent)


def _of_folder(extractor: str, folder: Path, *, weights: bool) -> ModelFiles:
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"EXTRACTOR={extractor}: the folder does not contain a model of transformers, because "
            f"{CONFIG} is missing; give the folder that save_pretrained() wrote"
        )
    if weights and not _weight_files(folder):
        raise InputError(
            f"EXTRACTOR={extractor}: the folder contains no weights ({' or '.join(_WEIGHTS)}, or all "
            "of their parts); give WEIGHTS=random for a network with random weights"
        )
    return ModelFiles(folder, folder.resolve().name, _read_json(folder / CONFIG))


def _weight_files(folder: Path) -> list[Path]:
    """The files of the weights, [] if some are missing."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = [folder / part for part in _parts(_read_json(index))]
            if parts and all(part.is_file() for part in parts):
                return parts
    return []


def _parts(index: Mapping[str, Any]) -> list[str]:
    """The names of the files that an index lists."""
    places = index.get("weight_map")
    names = {str(name) for name in places.values()} if isinstance(places, Mapping) else set()
    return sorted(name for name in names if "/" not in name)


def _cached(name: str, revision: str) -> Path | None:
    """The folder of a model in the cache, None if its configuration is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, CONFIG, revision=revision or None)
    return Path(path).parent if isinstance(path, str) else None


def _named_code(folder: Path) -> list[tuple[str, str]]:
    named: list[tuple[str, str]] = []
    for path in (folder / name for name in (CONFIG, *_PROCESSORS)):
        settings = _read_json(path) if path.is_file() else {}
        for part in [settings, *settings.values()]:
            named += auto_map(part).items()
    return named


def _code_files(folder: Path) -> list[Path]:
    # The files that transformers itself copies before it imports them.
    from transformers.dynamic_module_utils import get_relative_import_files

    # A text such as owner/name--file.Class names code elsewhere, which is not used.
    texts = [text for _, text in _named_code(folder) if CLASS_OF_MODEL.fullmatch(text)]
    paths = {folder / f"{text.partition('.')[0]}.py" for text in texts}
    for path in list(paths):
        paths |= set(map(Path, get_relative_import_files(path)))
    return sorted(paths)


def _misses_code(folder: Path) -> bool:
    """Whether code that a model needs is not in its folder."""
    try:
        _code_files(folder)
    except FileNotFoundError:
        return True
    return False


def _downloaded(
    extractor: str, name: str, revision: str, *, weights: bool, code: bool, tokenizer: bool
) -> Path:
    """Download the files of a model that are missing; returns their folder."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.constants import ENDPOINT

    folder_hint = ""
    if Path(name).is_dir():
        folder_hint = f"; for the folder {name} give EXTRACTOR=hf:./{name}"
    place = f"the Hugging Face hub, {ENDPOINT}/{name}"
    otherwise = f"{HUB_REMEDY}, or give a folder with the model, EXTRACTOR=hf:/path/to/folder"
    with fetching(
        extractor,
        place,
        f"{otherwise}{folder_hint}",
        server=urlsplit(ENDPOINT).netloc,
        has_other_weights=False,
    ):
        # Asks once; downloads would retry for minutes.
        info = HfApi().model_info(name, revision=revision or None, timeout=TIMEOUT_SECONDS)
        published = [file.rfilename for file in info.siblings or ()]
        if CONFIG not in published:
            raise ValueError(f"{name} has no {CONFIG}")

        folder = Path(hf_hub_download(name, CONFIG, revision=revision or None)).parent

        def fetch(file: str) -> Path:
            # Of the same commit: the owner may change the repository at any time.
            return Path(hf_hub_download(name, file, revision=folder.name))

        for file in published if code else ():
            if file.endswith(".py"):
                fetch(file)
        of_text = (*TOKENIZERS, *_OF_TOKENIZERS) if tokenizer else ()
        for file in (*_PROCESSORS, _CARD, *of_text):
            if file in published:
                fetch(file)
        for file in _of_weights(published) if weights else ():
            path = fetch(file)
            for part in _parts(_read_json(path)) if file.endswith(".index.json") else ():
                fetch(part)
    return folder


def _of_weights(published: Sequence[str]) -> list[str]:
    """The file with the weights, or with the list of its parts."""
    for name in _WEIGHTS:
        for file in (name, f"{name}.index.json"):
            if file in published:
                return [file]
    return []


def _read_json(path: Path) -> dict[str, Any]:
    """Raises InputError for a file that is not a JSON object."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: must contain a JSON object")
    return document


def _of_card(path: Path) -> str:
    """The license that the head of a model card states; "" if there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # most folders have no card
        return ""
    if not lines or lines[0].strip() != "---":
        return ""
    head: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and not key.startswith((" ", "-", "#")):
            head.setdefault(key.strip(), value.strip().strip("'\""))
    # "other" says nothing; its name stands next to it.
    named = head.get("license_name", "") if head.get("license") in ("", "other", None) else ""
    return named or head.get("license", "")
