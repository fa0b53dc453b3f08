"""The commands stores, inspect, verify and remove."""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from reelbank.data.banks import bank_of
from reelbank.data.console import (
    as_run,
    counted,
    print_json,
    print_lines,
    print_table,
    printable,
    size_text,
    some,
)
from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import has_random_weights, network_name
from reelbank.data.identity import brief
from reelbank.data.store.bank import find_store, flattened, shelved
from reelbank.data.store.damage import Damage, damage_among, damage_line
from reelbank.data.store.options import InspectOptions, RemoveOptions, StoresOptions, VerifyOptions
from reelbank.data.store.parts import begun, parts_folder
from reelbank.data.store.reader import Store
from reelbank.data.store.records import Cost
from reelbank.data.store.summary import missing_videos, store_document, store_line
from reelbank.data.store.versions import Versions, apart, is_inexact, packages_among, that_count
from reelbank.data.system.locks import Lock, holder, lock

_HEADS = (
    *("hash", "dataset", "stream", "extractor", "T", "crops"),
    *("videos", "failed", "rows", "size", "state"),
)


def stores(options: StoresOptions) -> int:
    """Print a table of all stores of the bank, and of other banks with the bank of each."""
    if options.json:
        return _print_stores_json(options)
    has_banks = bool(options.searched.others)
    rows: list[tuple[str, ...]] = [(*_HEADS, "bank") if has_banks else _HEADS]
    broken = []
    for path, store, reason in shelved(options.searched):
        if store is None:
            broken.append(
                f"{path if has_banks else path.name}: unfinished, contains no videos yet"
                if begun(path)
                else f"cannot be read: {path.name}: {reason}"
            )
            continue
        recipe = [str(store.recipe.get("stream")), _seen_by(store.recipe)]
        kept = " kept" if store.recipe.get("crops_kept") else ""
        steps = store.recipe.get("steps", "-") or "all"
        crops = f"{store.recipe.get('crops') or '-'}{kept}"
        missing = missing_videos(store)
        counts = [
            f"{len(store):,}",
            str(len(missing.failed)),
            f"{store.rows.sum():,}",
            size_text(store.size_bytes),
        ]
        state = "finished" if store.finished else "unfinished"
        state += f", without sound: {len(missing.without_sound)}" if missing.without_sound else ""
        state += f", not read: {len(missing.not_read)}" if missing.not_read else ""
        state += f", damaged parts: {len(store.damaged)}" if store.damaged else ""
        damaged_videos = damage_among(store.ids_when_used, store.sources).videos
        state += f", damaged videos: {len(damaged_videos)}" if damaged_videos else ""
        row = (store.identity[:8], store.dataset.name, *recipe, str(steps), crops, *counts, state)
        rows.append((*row, str(bank_of(path))) if has_banks else row)
    if len(rows) > 1:
        print_table(rows)
    elif not broken:
        print_lines(
            f"no stores in {options.searched.shown('stores')}; "
            + as_run("'reelbank extract' makes one")
        )
    for line in broken:
        print_lines(line)
    return 0


def _print_stores_json(options: StoresOptions) -> int:
    lines, unreadable = [], []
    for path, store, reason in shelved(options.searched):
        if store is not None:
            lines.append(store_line(store))
        elif begun(path):
            unreadable.append({"path": str(path), "reason": "unfinished, contains no videos yet"})
        else:
            unreadable.append({"path": str(path), "reason": reason})
    print_json({"stores": lines, "unreadable": unreadable})
    return 0


def _seen_by(recipe: Mapping[str, Any]) -> str:
    """The extractor, whether its weights are random, its node unless that is the default, and the split that its weights were
    trained on, if reelbank trained them."""
    node, weights = recipe.get("node", "embedding"), recipe.get("weights")
    saw = weights.get("saw") if isinstance(weights, dict) else None
    split = f" (split {saw['split']})" if isinstance(saw, dict) and "split" in saw else ""
    network = network_name(recipe.get("extractor"), is_random=has_random_weights(recipe))
    return f"{network}{'' if node == 'embedding' else f' {node}'}{split}"


# Characters that `inspect` shows of a recipe's value: all of a hash, but not of a list with an entry
# per video.
_LONGEST_VALUE = 120


def inspect(options: InspectOptions) -> int:
    """Print a store's recipe, coverage, failures and sizes."""
    with Store.open(find_store(options.searched, options.store)) as store:
        if options.json:
            print_json(store_document(store))
            return 0
        state = (
            "finished"
            if store.finished
            else as_run("unfinished; 'reelbank extract' with the same options continues it")
        )
        print_lines(f"{store.path}: {state}")
        print_lines(f"hash {store.identity}")
        time = f" {store.written['time']}" if store.written.get("time") else ""
        print_lines(f"file made{time} with {packages_among(store.written)}")
        _print_cost(store.cost)
        if is_inexact(store.cost.device):
            print_lines(
                "note: an earlier version of reelbank computed some features of this store on a "
                "GPU, where its fp32 arithmetic and its resizing were inexact; see docs/store.md"
            )
        _print_versions(store)
        for weights in store.weights:
            print_lines(f"weights: {weights}")
        print_lines("", "recipe")
        rows = [
            (f"  {name}", brief(value, _LONGEST_VALUE)) for name, value in flattened(store.recipe)
        ]
        print_table([("  dataset", store.dataset.name), *rows])
        damage = damage_among(store.ids_when_used, store.sources)
        _print_coverage(store, damage.sound)
        _print_rows(store)
        missing = missing_videos(store)
        if missing.without_sound:
            print_lines("", f"without sound: {len(missing.without_sound)}")
            by_reason: dict[str, list[str]] = {}
            for video_id, reason in missing.without_sound.items():
                by_reason.setdefault(reason, []).append(video_id)
            print_table(
                [(f"  {len(ids):,}", reason, some(ids)) for reason, ids in by_reason.items()]
            )
        if failed := missing.failed:
            print_lines("", f"{counted(len(failed), 'video')} failed")
            print_table([(f"  {video_id}", reason) for video_id, reason in failed.items()])
        if unread := missing.not_read:
            print_lines(
                "",
                f"{counted(len(unread), 'video')} could not be read on this machine; "
                + as_run("'reelbank extract' tries them again"),
            )
            print_table([(f"  {video_id}", reason) for video_id, reason in unread.items()])
        _print_damage(damage)
        for reason in store.damaged.values():
            print_lines(f"a damaged part of the store is ignored: {reason}")
    return 0


def _print_cost(cost: Cost) -> None:
    if not cost.seconds:  # unknown, or 0 for an imported store
        return
    device = f" on {cost.device}" if cost.device else ""
    streams = f", in one pass over the videos for {cost.streams}" if " " in cost.streams else ""
    print_lines(f"extraction took {cost.seconds:,.0f} s{device}{streams}")


def _print_damage(damage: Damage) -> None:
    """The videos whose files are damaged, or whose timestamps were not trusted."""
    for what, lines in (
        ("damaged", damage.videos),
        ("with contradictory headers", damage.remarks),
    ):
        if lines:
            print_lines("", f"videos {what}: {len(lines)}")
            print_table([(f"  {video_id}", line) for video_id, line in lines.items()])
    if damage.unknown:
        print_lines(
            "",
            f"videos with unknown damage (stored by an earlier version): {damage.unknown:,}",
        )


def _print_versions(store: Store) -> None:
    """The versions that made the features; if videos differ in them, each set and its videos."""
    made_with: dict[Versions, list[str]] = {}
    # There may be a million videos, but few different versions.
    distinct = {id(versions): versions for versions in store.versions}.values()
    counting = {
        versions: that_count(versions, store.recipe) for versions in dict.fromkeys(distinct)
    }
    if len(set(counting.values())) == 1:
        print_lines(f"features made with {next(iter(counting.values()))}")
        return
    for video_id, versions in zip(store.video_ids, store.versions, strict=True):
        made_with.setdefault(counting[versions], []).append(video_id)
    if made_with:
        print_lines(
            f"MIXED: the videos were extracted with {len(made_with)} different sets of package "
            "versions; docs/store.md explains which results stay the same"
        )
        differing = zip(apart(list(made_with)), made_with.values(), strict=True)
        print_table(
            [(f"  {len(ids):,} videos", str(versions), some(ids)) for versions, ids in differing]
        )


def _print_coverage(store: Store, heard: Counter[str]) -> None:
    """heard: state of the sound -> number of videos."""
    labels: set[str] = set()
    for label in set(store.labels):
        labels.update(store.dataset.label_names(label))
    several = "multi-label, " if store.dataset.multilabel else ""
    classes = (
        f"{len(labels)} of {len(store.dataset.classes)} classes, {several}"
        if store.dataset.classes
        else "no labels, "
    )
    groups = len(set(store.groups) - {""})
    grouped = counted(groups, "group") if groups else "no groups"
    missing = missing_videos(store)
    failed, absent, unread = missing.failed, missing.without_sound, missing.not_read
    without = f", without sound: {len(absent)}" if absent else ""
    without += f", not read: {len(unread)}" if unread else ""
    print_lines(
        "",
        f"{counted(len(store), 'video')}, {classes}{grouped}, {len(failed)} failed{without}",
    )
    if heard:
        print_lines(f"sound: {', '.join(f'{heard[state]:,} {state}' for state in sorted(heard))}")
    rows: list[tuple[str, ...]] = [("  split", *PARTS, "neither")]
    for number, split in enumerate(store.dataset.splits):
        counts = Counter(video_parts[number] for video_parts in store.parts)
        rows.append((f"  {split}", *(str(counts[part]) for part in (*PARTS, ""))))
    if len(rows) > 1:
        print_table(rows)
    if store.listing is not None and store.listing.is_drawn:
        print_lines("the split was drawn at random")


def _print_rows(store: Store) -> None:
    if not len(store.rows):
        return
    low, middle, high = np.percentile(store.rows, [0, 50, 100])
    shape = " x ".join(map(str, store.row_shape))
    print_lines(
        "",
        f"{store.rows.sum():,} rows (feature vectors) of {shape} {store.dtype}; {low:.0f} to "
        f"{high:.0f} per video, median {middle:.0f}",
    )
    if store.has_views:
        viewed = store.all_rows - store.rows
        print_lines(
            f"plus {viewed.sum():,} rows of augmented copies (views) of "
            f"{counted(int(np.count_nonzero(viewed)), 'video')}"
        )
    steps = store.row_steps_seconds()
    if store.recipe.get("times") == "row numbers":
        print_lines("the times of the rows are unknown, because no times were imported")
    elif len(steps):
        low, middle, high = np.percentile(steps, [0, 50, 100])
        print_lines(f"{low:.3g} to {high:.3g} seconds between rows, median {middle:.3g}")
    row_bytes = store.dtype.itemsize * int(np.prod(store.row_shape))
    print_lines(f"{size_text(store.size_bytes)} on disk, {size_text(row_bytes)} per row")
    if len(store.files_bytes) > 1:
        print_lines(
            f"{len(store.files_bytes)} files ("
            + as_run("'reelbank pack' merges them into one; to copy the store, copy all of them)")
        )
        print_table([(f"  {path}", size_text(size)) for path, size in store.files_bytes.items()])


def verify(options: VerifyOptions) -> int:
    """Read every byte of one store or all; print what is damaged. Returns 1 if anything is damaged."""
    if options.store:
        paths = [find_store(options.searched, options.store)]
    else:
        paths = [path for path, _, _ in shelved(options.searched)]
        if not paths:
            print_lines(f"no stores in {options.searched.shown('stores')}")
    damaged = 0
    for path in paths:
        if begun(path):
            print_lines(f"{path}: nothing to verify, because it contains no videos yet")
            continue
        try:
            with Store.open(path) as store:
                lines = store.verify()
                videos = len(store)
                state = f"{size_text(store.size_bytes)} in {counted(videos, 'video')}"
                damaged_videos = damage_among(store.video_ids, store.sources).videos
                if damaged_videos:
                    line = damage_line(damaged_videos, videos)
                    state += f"; no byte of the store has changed, but {line}"
        except InputError as error:
            lines = [str(error)]
        for line in lines:
            print_lines(line)
        if lines:
            damaged += 1
        else:
            print_lines(f"{path}: undamaged, {state}")
    return int(damaged > 0)


def remove(options: RemoveOptions) -> int:
    """Delete a store and its parts after the user has confirmed it. Raises InputError for an unknown
    store, one of another bank, or one that is being written."""
    if not options.store:
        raise InputError(
            "give STORE=<start of the hash of the store to remove>; 'reelbank stores' lists "
            "all stores"
        )
    path = find_store(options.searched, options.store)
    options.searched.check_own(path)
    if not options.yes:
        if not sys.stdin.isatty():
            raise InputError(
                f"{path}: cannot ask for confirmation without a terminal; give YES=1 to remove the "
                "store"
            )
        if input(printable(f"remove {path} permanently? Type yes: ")).strip() != "yes":
            print_lines("nothing was removed")
            return 1
    folder = parts_folder(path)
    locks: list[Lock] = []
    try:
        for name in folder.glob("shard+*.lock"):
            taken = lock(name, wait=False)
            if taken is None:
                raise InputError(
                    f"{path}: an extraction into this store is running{holder(name)}; stop it first"
                )
            locks.append(taken)
        path.unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
    finally:
        for each in locks:
            each.release(remove=False)
    print_lines(f"removed {path}")
    return 0
