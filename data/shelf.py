"""The stores of a bank: finding one, and the commands stores, inspect, verify and remove."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data import parts
from reelbank.data.errors import InputError
from reelbank.data.index import ABSENT, is_absence, label_names
from reelbank.data.made import Versions, apart, that_count
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import brief, extractor_name, option
from reelbank.data.store import Store
from reelbank.data.videos import some


def stores_folder(bank: str | Path) -> Path:
    """Where a bank keeps its stores."""
    return Path(bank) / "stores"


def shelved(bank: str | Path) -> Iterator[tuple[Path, Store | None, str]]:
    """Every store of a bank by name: (path, the open store, ""), or (path, None, why it cannot be opened)."""
    folder = stores_folder(bank)
    for path in sorted({parts.final_path(name) for name in [*folder.glob("*.h5"), *folder.glob("*.parts")]}):
        try:
            store = Store.open(path)
        except InputError as error:
            yield path, None, str(error)
            continue
        with store:
            yield path, store, ""


# Stores that other commands make for themselves: not meant unless they are named.
IN_BETWEEN = ("pixels", "clip_pixels", "magnitude")


def find_store(bank: str | Path, wanted: str = "", **match: Any) -> Path:
    """The path of one store: `wanted` is its file, or the start of its hash or name; without it, the only store whose data
    set (`dataset=`; folder: any folder's) or recipe (any other name) has the given values; one of IN_BETWEEN only when named.

    Raises InputError when there is none, saying what to run, or several, with what tells them apart.
    """
    if wanted.endswith((".h5", ".parts")):
        path = parts.final_path(wanted)
        for found in (path, stores_folder(bank) / path.name):
            if found.exists() or parts.parts_folder(found).exists():
                return found
        raise InputError(f"STORE={wanted}: no such store; 'reelbank stores' lists what is there")
    fits: list[tuple[Path, dict[str, Any]]] = []
    broken = []
    for path, store, reason in shelved(bank):
        if store is None:
            if wanted and (path.name.startswith(wanted) or path.stem.rpartition("-")[2].startswith(wanted[:8])):
                fits.append((path, {}))
            broken.append(reason if parts.begun(path) else f"not readable: {reason}")
        elif _fits(path, store, wanted, match):
            fits.append((path, {"dataset": store.dataset, "recipe": store.recipe, "identity": store.identity}))
    if len(fits) == 1:
        return fits[0][0]
    asked = f"STORE={wanted}" if wanted else " ".join(f"{key.upper()}={value}" for key, value in match.items())
    if fits:
        raise InputError(f"{asked or 'no STORE given'}: {len(fits)} stores fit; choose with STORE=: {'; '.join(_apart(fits))}")
    damaged = f" ({'; '.join(broken)})" if broken else ""
    folder = stores_folder(bank)
    if wanted:
        raise InputError(f"{asked}: no store in {folder} begins so{damaged}; 'reelbank stores' lists what is there")
    command, with_these = ("make extract " + asked).rstrip(), f" with {asked}" if asked else ""
    raise InputError(f"no store in {folder}{with_these}{damaged}; make one with '{command}'")


def _fits(path: Path, store: Store, wanted: str, match: dict[str, Any]) -> bool:
    if wanted:
        return store.identity.startswith(wanted) or path.name.startswith(wanted)
    given = {**store.recipe, "dataset": store.dataset["name"]}
    if given.get("extractor") in IN_BETWEEN and "extractor" not in match and match.get("stream") != "magnitude":
        return False
    if match.get("dataset") == "folder" and given["dataset"].startswith("folder-"):
        given["dataset"] = "folder"  # the kind: the name also tells which folder
    if "extractor" in match:
        match = match | {"extractor": extractor_name(match["extractor"])}
    return all(given.get(key) == value for key, value in match.items())


# Named first where stores differ in them: what a user chose, before what follows from it.
_TOLD_FIRST = ("dataset", "stream", "extractor", "node", "weights.saw.split")


def _apart(fits: Sequence[tuple[Path, dict[str, Any]]]) -> list[str]:
    """For each of several stores its hash start, and values in which they differ, enough to tell them all apart (at most 6)."""
    flat = [dict(_flat({"dataset": about["dataset"]["name"], **about["recipe"]})) if about else {} for _, about in fits]
    all_names = dict.fromkeys([*_TOLD_FIRST, *(key for one in flat for key in one)])
    names: list[str] = []
    for name in all_names:
        kinds, further = (len({tuple(map(one.get, some)) for one in flat}) for some in (names, [*names, name]))
        if further > kinds and len(names) < 6:
            names.append(name)
    lines = []
    for (path, about), one in zip(fits, flat, strict=True):
        values = ", ".join(f"{name} {brief(one[name])}" for name in names if name in one)
        reason = "nothing committed yet" if parts.begun(path) else "not readable"
        lines.append(printable(f"{about['identity'][:8]} ({values})" if about else f"{path.name} ({reason})"))
    return lines


def _flat(recipe: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each value of nested dicts as text, its names joined with dots."""
    for key, value in recipe.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "-" if value is None or value == "" else str(value)


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


@dataclass(frozen=True)
class StoresOptions:
    """Options of the command `stores`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")


def stores(options: StoresOptions) -> int:
    """Print a table of all stores of the bank."""
    rows = [("hash", "dataset", "stream", "extractor", "T", "crops", "videos", "failed", "rows", "size", "state")]
    broken = []
    for path, store, reason in shelved(options.bank):
        if store is None:
            begun = parts.begun(path)
            broken.append(
                f"{path.name}: unfinished, nothing committed yet" if begun else f"not readable: {path.name}: {reason}"
            )
            continue
        recipe = [str(store.recipe.get("stream")), _seen_by(store.recipe)]
        kept = " kept" if store.recipe.get("crops_kept") else ""
        steps, crops = store.recipe.get("steps", "-") or "all", f"{store.recipe.get('crops') or '-'}{kept}"
        absent, failed = _absent_and_failed(store)
        counts = [f"{len(store.video_ids):,}", str(len(failed)), f"{store.rows.sum():,}", _size(store.size_bytes)]
        state = "finished" if store.finished else "unfinished"
        state += f", without sound: {len(absent)}" if absent else ""
        state += f", {len(store.damaged)} parts damaged" if store.damaged else ""
        rows.append((store.identity[:8], store.dataset["name"], *recipe, str(steps), crops, *counts, state))
    if len(rows) > 1:
        print_table(rows)
    elif not broken:
        print(f"no stores in {stores_folder(options.bank)}; 'make extract' makes one")
    for line in broken:
        print(printable(line))
    return 0


def _seen_by(recipe: dict[str, Any]) -> str:
    """The extractor, which of its nodes, and of weights that were trained here the split."""
    node, weights = recipe.get("node", "embedding"), recipe.get("weights")
    saw = weights.get("saw") if isinstance(weights, dict) else None
    split = f" (split {saw['split']})" if isinstance(saw, dict) and "split" in saw else ""
    return f"{recipe.get('extractor')}{'' if node == 'embedding' else f' {node}'}{split}"


# Of a value of the recipe, when it is inspected: hashes whole, but not what has an entry for each video.
_LONGEST_VALUE = 120


@dataclass(frozen=True)
class InspectOptions:
    """Options of the command `inspect`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    store: str = option("", "the store: start of its hash, or its file; empty when there is only one")


def inspect(options: InspectOptions) -> int:
    """Print a store's recipe, coverage, failures and sizes."""
    with Store.open(find_store(options.bank, options.store)) as store:
        state = "finished" if store.finished else "unfinished; 'make extract' with the same options goes on"
        print(printable(f"{store.path}: {state}"))
        print(f"hash {store.identity}")
        written = [f"{name} {value}" for name, value in store.written.items() if value and name not in ("cost", "made")]
        print(printable(f"written by {', '.join(written)}"))
        if (seconds := store.cost["seconds"]) is not None:
            on = f" on {store.cost['device']}" if "device" in store.cost else ""
            along = f", in one pass for {store.cost['streams']}" if " " in store.cost.get("streams", "") else ""
            print(printable(f"took {seconds:,.0f} s{on}{along}"))
        _print_versions(store)
        print("\nrecipe")
        rows = [(f"  {name}", brief(value, _LONGEST_VALUE)) for name, value in _flat(store.recipe)]
        print_table([("  dataset", store.dataset["name"]), *rows])
        _print_coverage(store)
        _print_rows(store)
        absent, failed = _absent_and_failed(store)
        if absent:
            print(f"\nwithout sound: {len(absent)}")
            by_reason: dict[str, list[str]] = {}
            for video_id, reason in absent.items():
                by_reason.setdefault(reason, []).append(video_id)
            print_table([(f"  {len(ids):,}", reason, some(ids)) for reason, ids in by_reason.items()])
        if failed:
            print(f"\n{len(failed)} videos failed")
            print_table([(f"  {video_id}", reason) for video_id, reason in failed.items()])
        for reason in store.damaged.values():
            print(printable(f"damaged part, left out: {reason}"))
    return 0


def _absent_and_failed(store: Store) -> tuple[dict[str, str], dict[str, str]]:
    """The videos that have no sound, which is no failure, and those that failed: id -> what is known of it."""
    reasons = {video_id: failure["reason"] for video_id, failure in store.failures.items()}
    absent = {video_id: reason.removeprefix(ABSENT) for video_id, reason in reasons.items() if is_absence(reason)}
    return absent, {video_id: reason for video_id, reason in reasons.items() if not is_absence(reason)}


def _print_versions(store: Store) -> None:
    """What the features were made with; when videos differ in it, which and how many."""
    made_with: dict[Versions, list[str]] = {}
    for video_id, versions in zip(store.video_ids, store.versions, strict=True):
        made_with.setdefault(that_count(versions, store.recipe), []).append(video_id)
    if len(made_with) == 1:
        print(printable(f"made with {next(iter(made_with))}"))
    elif made_with:
        print(f"MIXED: made with {len(made_with)} sets of versions; docs/store.md says what stays equal across them")
        told = zip(apart(list(made_with)), made_with.values(), strict=True)
        print_table([(f"  {len(ids):,} videos", str(versions), some(ids)) for versions, ids in told])


def _print_coverage(store: Store) -> None:
    labels = {name for label in store.labels for name in label_names(label, store.dataset)}
    several = "any number a video, " if store.dataset.get("multilabel", False) else ""
    classes = (
        f"{len(labels)} of {len(store.dataset['classes'])} classes, {several}" if store.dataset["classes"] else "no labels, "
    )
    groups = len(set(store.groups) - {""})
    absent, failed = _absent_and_failed(store)
    without = f", without sound: {len(absent)}" if absent else ""
    print(f"\n{len(store.video_ids):,} videos, {classes}{groups or 'no'} groups, {len(failed)} failed{without}")
    heard = Counter(source["sound"]["state"] for source in store.sources if source.get("sound"))
    if heard:
        print(f"sound: {', '.join(f'{heard[state]:,} {state}' for state in sorted(heard))}")
    rows = [("  split", "train", "test", "neither")]
    for number, split in enumerate(store.dataset["splits"]):
        counts = Counter(video_parts[number] for video_parts in store.parts)
        rows.append((f"  {split}", str(counts["train"]), str(counts["test"]), str(counts[""])))
    if len(rows) > 1:
        print_table(rows)


def _print_rows(store: Store) -> None:
    if not len(store.rows):
        return
    low, middle, high = np.percentile(store.rows, [0, 50, 100])
    shape = " x ".join(map(str, store.row_shape))
    print(f"\n{store.rows.sum():,} rows of {shape} {store.dtype}; {low:.0f} to {high:.0f} a video, median {middle:.0f}")
    if store.has_views:
        viewed = store.all_rows - store.rows
        print(f"and {viewed.sum():,} rows of augmented views, of {np.count_nonzero(viewed):,} videos")
    times = [store.times_seconds(video_id) for video_id, count in zip(store.video_ids, store.rows, strict=True) if count > 1]
    steps = [(video_times[-1] - video_times[0]) / (len(video_times) - 1) for video_times in times]
    if store.recipe.get("times") == "row numbers":
        print("times unknown: the imported features came without")
    elif steps:
        low, middle, high = np.percentile(steps, [0, 50, 100])
        print(f"{low:.3g} to {high:.3g} seconds from row to row, median {middle:.3g}")
    row_bytes = store.dtype.itemsize * int(np.prod(store.row_shape))
    print(f"{_size(store.size_bytes)} on disk, {_size(row_bytes)} a row")


@dataclass(frozen=True)
class VerifyOptions:
    """Options of the command `verify`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    store: str = option("", "the store: start of its hash, or its file; empty for all stores of the bank")


def verify(options: VerifyOptions) -> int:
    """Read every byte of one store or all; print what is damaged. Returns 1 when something is."""
    if options.store:
        paths = [find_store(options.bank, options.store)]
    else:
        paths = [path for path, _, _ in shelved(options.bank)]
        if not paths:
            print(f"no stores in {stores_folder(options.bank)}")
    damaged = 0
    for path in paths:
        if parts.begun(path):
            print(f"{path}: nothing to verify, nothing committed yet")
            continue
        try:
            with Store.open(path) as store:
                lines, state = store.verify(), f"{_size(store.size_bytes)} in {len(store.video_ids):,} videos"
        except InputError as error:
            lines = [str(error)]
        for line in lines:
            print(printable(line))
        if lines:
            damaged += 1
        else:
            print(f"{path}: all well, {state}")
    return int(damaged > 0)


@dataclass(frozen=True)
class RemoveOptions:
    """Options of the command `remove`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    store: str = option("", "the store: start of its hash, or its file")
    yes: bool = option(False, "do not ask")


def remove(options: RemoveOptions) -> int:
    """Delete a store and its parts, once the user agreed. Raises InputError for an unknown store, or one being written."""
    if not options.store:
        raise InputError("STORE= is needed: the start of the hash of the store to remove; 'reelbank stores' lists them")
    path = find_store(options.bank, options.store)
    if not options.yes:
        if not sys.stdin.isatty():
            raise InputError(f"{path}: give YES=1 to remove it")
        if input(f"remove {path} for good? Type yes: ").strip() != "yes":
            print("nothing was removed")
            return 1
    folder = parts.parts_folder(path)
    held = []
    try:
        for name in folder.glob("shard+*.lock"):
            held.append(parts.lock(name, wait=False))
            if held[-1] is None:
                raise InputError(f"{path}: an extraction of this store is running; end it first")
        path.unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    finally:
        for fd in held:
            if fd is not None:
                os.close(fd)
    print(f"removed {path}")
    return 0
