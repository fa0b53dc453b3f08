"""The stores of a bank: finding one, and the commands stores, inspect, verify and remove."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelbank.data.banks import AnyBank, Banks, tell_once, tell_shadowed
from reelbank.data.console import printable, some
from reelbank.data.datasets.registry import DATASETS, is_of_dataset, kind_of, load_spec
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import brief, extractor_name
from reelbank.data.plugins import plugin_name
from reelbank.data.store.parts import begun, final_path, parts_folder
from reelbank.data.store.reader import Store


def stores_folder(bank: str | Path) -> Path:
    """Where a bank keeps its stores."""
    return Path(bank) / "stores"


def shelved(bank: AnyBank) -> Iterator[tuple[Path, Store | None, str]]:
    """Every store of a bank by name: (path, the open store, ""), or (path, None, why it cannot be
    opened). The stores of other banks follow; one that an earlier bank has is left out, and a note
    on stderr says so."""
    first_at: dict[str, Path] = {}  # by file name and by identity
    for folder in Banks.of(bank).below("stores"):
        for path in sorted(
            {final_path(name) for name in [*folder.glob("*.h5"), *folder.glob("*.parts")]}
        ):
            first = path if begun(path) else first_at.setdefault(path.name, path)
            if _is_shadowed(path, first):
                continue
            try:
                store = Store.open(path)
            except InputError as error:
                yield path, None, str(error)
                continue
            with store:
                if not _is_shadowed(path, first_at.setdefault(store.identity, path)):
                    yield path, store, ""


def _is_shadowed(path: Path, first: Path) -> bool:
    """Whether an earlier bank has the same store; a bank may have it twice."""
    if path.parent == first.parent:
        return False
    tell_shadowed(path, first)
    return True


def opened(bank: AnyBank) -> Iterator[tuple[Path, Store]]:
    """Every store of a bank that opens, by name; a note on stderr names each that does not."""
    for path, store, reason in shelved(bank):
        if store is None:
            _note_left_out(path, reason)
        else:
            yield path, store


def _note_left_out(path: Path, reason: str) -> None:
    if not begun(path):
        tell_once(f"note: a store is left out: {reason}")


@dataclass(frozen=True)
class _Match:
    """A store that fits a request; identity "" if it cannot be opened."""

    path: Path
    identity: str = ""
    dataset_name: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Its data set and the values of its recipe, as text; {} if it cannot be opened."""
        if not self.identity:
            return {}
        return dict(flattened({"dataset": self.dataset_name, **self.recipe}))


def find_store(
    bank: AnyBank, requested: str = "", *, banks: Sequence[str | Path] = (), **match: Any
) -> Path:
    """Find a feature store in a bank, or in other `banks`. Returns the path of the store.

    requested: the file of the store, or the first characters of its hash or name. match: if
    `requested` is not given, values that the store must have, such as `dataset="ucf101"` or
    `stream="rgb"`. `dataset` is the data set of the store ("folder" matches every data set that was
    loaded from a folder); all other names are keys of the store's recipe. Intermediate stores of
    other commands match only if their extractor or stream is requested.

    Raises InputError if no store matches, with the command that makes one, or if several stores
    match, with the values in which they differ.
    """
    every_bank = Banks.of(bank, banks)
    if requested.endswith((".h5", ".parts")):
        path = final_path(requested)
        for candidate in (path, *(folder / path.name for folder in every_bank.below("stores"))):
            is_there = candidate.exists() or candidate.is_symlink()
            if is_there or parts_folder(candidate).exists():
                return candidate
        raise InputError(
            f"STORE={requested}: this store does not exist; 'reelbank stores' lists all stores"
        )
    if Path(requested).suffix and Path(requested).is_file():
        raise InputError(
            f"STORE={requested}: the file of a store must end in .h5; use 'reelbank import "
            f"FILE={requested}' to import features of other tools"
        )
    fits: list[_Match] = []
    broken: dict[Path, str] = {}
    for path, store, reason in shelved(every_bank):
        if store is None:
            hash_start = path.stem.rpartition("-")[2]
            if requested and (
                path.name.startswith(requested) or hash_start.startswith(requested[:8])
            ):
                fits.append(_Match(path))
            broken[path] = reason
        elif _fits(path, store, requested, match):
            fits.append(_Match(path, store.identity, store.dataset.name, store.recipe))
    if len(fits) == 1:
        for path, reason in broken.items():
            if path != fits[0].path:
                _note_left_out(path, reason)
        return fits[0].path
    query = " ".join(f"{key.upper()}={value}" for key, value in match.items())
    if requested:
        query = f"STORE={requested}"
    if fits:
        raise InputError(
            f"{query or 'no STORE given'}: {len(fits)} stores match; choose one with "
            f"STORE=<start of its hash>: {'; '.join(_differences(fits))}"
        )
    reasons = [
        reason if begun(path) else f"cannot be read: {reason}" for path, reason in broken.items()
    ]
    damaged = f" ({'; '.join(reasons)})" if reasons else ""
    folder = every_bank.shown("stores")
    if requested:  # a store that cannot be read would have matched by its name
        raise InputError(
            f"{query}: no store in {folder} has a name or hash that begins with '{requested}'; "
            "'reelbank stores' lists all stores"
        )
    condition = f" with {query}" if query else ""
    raise InputError(
        f"no store of features in {folder}{condition}{damaged}{listed_stores(every_bank)}; make one "
        f"with '{_extract_command(match)}'"
    )


def _extract_command(match: Mapping[str, Any]) -> str:
    """The command that makes a store with these values. ROOT is left out for data sets that are
    drawn."""
    name = str(match.get("dataset", ""))
    kind = kind_of(name)
    if kind and is_of_dataset(name, kind):
        name = kind  # a store may be of folder-clips-1f2e3d; `extract` knows only folder
    values = {**match, "dataset": name} if name else match
    words = [f"{key.upper()}={value}" for key, value in values.items()]
    if name not in DATASETS or not load_spec(name).drawn_in:
        words.append("ROOT=<folder of the videos>")
    return " ".join(["reelbank extract", *words])


def listed_stores(bank: AnyBank) -> str:
    """The stores of a bank, for a message that none of them fits; "" if there are none."""
    shown = [_shown_store(store) for _, store, _ in shelved(bank) if store is not None]
    if not shown:
        return ""
    return f"; the stores there are {some(shown, _MOST_SHOWN)}"


def _shown_store(store: Store) -> str:
    features = FeatureRecipe.from_json(store.recipe)
    about = extractor_name(features.extractor or "")
    if features.has_pixels:
        about = "raw pixels for 'reelbank pretrain', not features"
    elif features.is_intermediate:
        about = "intermediate values for SAMPLING=adaptive, not features"
    facts = (store.dataset.name, features.stream, about)
    return printable(f"{store.identity[:8]} ({', '.join(facts)})")


def is_passed_over(recipe: Mapping[str, Any], stream: str) -> bool:
    """Whether this is an intermediate store of another command, which matches only if its extractor
    is requested, or a stream of the same name."""
    features = FeatureRecipe.from_json(recipe)
    return features.is_intermediate and features.extractor != stream


def _fits(path: Path, store: Store, requested: str, match: dict[str, Any]) -> bool:
    if requested:
        return store.identity.startswith(requested) or path.name.startswith(requested)
    values = {**store.recipe, "dataset": store.dataset.name}
    if "stream" in match:
        match = match | {"stream": plugin_name(match["stream"])}
    if "extractor" not in match and is_passed_over(store.recipe, str(match.get("stream", ""))):
        return False
    if "dataset" in match and is_of_dataset(values["dataset"], match["dataset"]):
        match = match | {"dataset": values["dataset"]}
    if "extractor" in match:
        match = match | {"extractor": extractor_name(match["extractor"])}
    return all(values.get(key) == value for key, value in match.items())


# Values that a message names first if stores differ in them: those that a user chooses.
_NAMED_FIRST = ("dataset", "stream", "extractor", "node", "weights.saw.split")
_SHOWN_AS = {"steps": "T"}  # where the option has another name than the value in the recipe
_MOST_SHOWN = 6  # stores that a message lists
_MOST_DIFFERENCES = 6  # values that a message names for each store


def _differences(fits: Sequence[_Match]) -> list[str]:
    """For each of several stores the start of its hash, and values in which they differ, as many as
    distinguish all of them (at most _MOST_DIFFERENCES)."""
    all_values = [fit.values() for fit in fits]
    all_names = dict.fromkeys(_NAMED_FIRST)
    for values in all_values:
        all_names |= dict.fromkeys(values)
    names: list[str] = []
    for name in all_names:
        more = [*names, name]
        is_useful = _distinct(all_values, more) > _distinct(all_values, names)
        if is_useful and len(names) < _MOST_DIFFERENCES:
            names.append(name)
    return [
        printable(_description(fit, values, names))
        for fit, values in zip(fits, all_values, strict=True)
    ]


def _distinct(all_values: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    """How many of the stores these values distinguish."""
    return len({tuple(map(values.get, names)) for values in all_values})


def _description(fit: _Match, values: Mapping[str, str], names: Sequence[str]) -> str:
    if not fit.identity:
        reason = "contains no videos yet" if begun(fit.path) else "cannot be read"
        return f"{fit.path.name} ({reason})"
    texts = []
    for name in names:
        shown = _SHOWN_AS.get(name, name)
        value = "all" if name == "steps" and values.get(name) == "-" else values.get(name)
        texts.append(f"without {shown}" if value is None else f"{shown} {brief(value)}")
    return f"{fit.identity[:8]} ({', '.join(texts)})"


def flattened(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each value of nested dicts as text, with its names joined by dots."""
    for key, value in recipe.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "-" if value is None or value == "" else str(value)
