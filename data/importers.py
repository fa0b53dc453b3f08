"""Features of other tools into a store, and out of one: the commands import and export.

Layouts: an HDF5 file with `features` (V, T, ...) and `name` (V,); an HDF5 file with one dataset (T, ...) per video id; a folder
of one .npy (T, ...) per video. Labels, groups and splits come from UCF-101's names, or from a CSV.
"""

import contextlib
import csv
import hashlib
import re
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reelbank.data import folder, hdf5, ucf101
from reelbank.data.errors import InputError
from reelbank.data.index import label_names
from reelbank.data.made import NOT_RECORDED, Made
from reelbank.data.recipe import option
from reelbank.data.shelf import find_store, stores_folder
from reelbank.data.store import Store, StoreWriter, identity

_PACKED = {"features", "name"}


@dataclass(frozen=True)
class ImportOptions:
    """Options of the command `import`."""

    file: str = option("", "HDF5 file, or folder of .npy files, to import")
    dataset: str = option("", "the data set's name; ucf101 takes labels and splits from names (default: ucf101 if all fit)")
    csv: str = option(
        "", "table of path,label[,group][,split], path as named in the file; labels instead of label: several, joined by ';'"
    )
    stream: str = option("rgb", "what the features were made from")
    extractor: str = option("", "what made them (default: the file's name)")
    bank: str = option("bank", "folder that holds stores, runs and reports")


@dataclass(frozen=True)
class Source:
    """Foreign features: a name for each video, and how to read one, (T, ...)."""

    layout: str
    names: list[str]
    read: Callable[[int], np.ndarray]
    facts: dict[str, np.ndarray]  # one-dimensional or (V, S) tables beside packed features


def import_store(options: ImportOptions) -> int:
    """Write a store from foreign features. Returns 1 when some video's features cannot be stored (recorded as failed).

    Raises InputError for an unknown layout, an unsafe file, or names without labels.
    """
    path = Path(options.file).expanduser()
    if not options.file or not path.exists():
        raise InputError(f"FILE={options.file}: give the HDF5 file or the folder of .npy files to import")
    with _open(path) as source:
        if not source.names:
            raise InputError(f"FILE={path}: holds no features")
        dataset, metas = _describe(source, options)
        extractor = options.extractor or path.stem
        recipe: dict[str, Any] = {
            "stream": options.stream,
            "extractor": extractor,
            "imported": {"file": path.name, "layout": source.layout, "sha256": _sha256(path)},
            "times": "row numbers",  # the layouts say nothing of seconds
        }
        key = identity(recipe, dataset["name"])
        short = re.sub(r"[^\w.]+", "_", extractor)
        name = f"{dataset['name']}-{options.stream}-{short}-{key[:8]}.h5"
        with StoreWriter(stores_folder(options.bank) / name, recipe, dataset, made=Made(versions=NOT_RECORDED)) as writer:
            for number, meta in enumerate(metas):
                if meta["id"] not in writer.done:
                    _add(writer, meta, source, number)
            writer.finish(metas)
            failed = {meta["id"]: writer.failed[meta["id"]]["reason"] for meta in metas if meta["id"] in writer.failed}
            print(f"{writer.path}: {len(metas) - len(failed)} of {len(metas)} videos")
    for video_id, reason in failed.items():
        print(f"  failed: {video_id}: {reason}")
    return int(bool(failed))


def _add(writer: StoreWriter, meta: dict[str, Any], source: Source, number: int) -> None:
    try:
        values = source.read(number)
        values = values[None] if values.ndim == 1 else values  # a vector is one row
        writer.add(meta, values, np.arange(len(values), dtype=np.float64))
    except (InputError, *hdf5.ERRORS) as error:
        writer.fail(meta, str(error))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Source]:
    if path.is_dir():
        files = sorted(path.rglob("*.npy"))
        names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
        yield Source("npy per video", names, lambda number: _read_npy(files[number]), {})
        return
    try:
        with h5py.File(path, "r") as file:
            yield _hdf5_source(file, path.stat().st_size)
    except hdf5.UnsafeFile as error:
        raise InputError(f"FILE={path}: {error}") from None
    except OSError as error:
        raise InputError(f"FILE={path}: not readable as HDF5 ({' '.join(str(error).split())})") from None


def _read_npy(file: Path) -> np.ndarray:
    # Mapped, so that a size which the file does not have is refused and not allocated; objects cannot be mapped.
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except (*hdf5.ERRORS, SyntaxError, tokenize.TokenError) as error:
        raise InputError(f"FILE={file}: not readable as .npy ({' '.join(str(error).split())})") from None


def _hdf5_source(file: h5py.File, file_bytes: int) -> Source:
    datasets = dict(hdf5.walk(file, file_bytes))
    for name in datasets if not datasets.keys() >= _PACKED else _PACKED:
        if datasets[name].ndim == 0:
            raise hdf5.UnsafeFile(f"/{name} is a single value, not an array of features")
    if not datasets.keys() >= _PACKED:
        videos = list(datasets.values())
        return Source("HDF5 dataset per video", list(datasets), lambda number: videos[number][()], {})
    names, features = hdf5.strings(datasets["name"]), datasets["features"]
    if len(names) != len(features):
        raise hdf5.UnsafeFile(f"/name has {len(names)} entries, /features {len(features)}")
    facts = {n: table[()] for n, table in datasets.items() if n not in _PACKED and (table.shape or ())[:1] == (len(names),)}
    return Source("packed HDF5", names, lambda number: features[number], facts)


def _describe(source: Source, options: ImportOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data set and each video's meta."""
    ucf_ids = [_ucf_id(name) for name in source.names]
    if options.dataset == "ucf101" or (not options.dataset and not options.csv and all(ucf_ids)):
        return _as_ucf101(source, ucf_ids)
    if not options.csv:
        raise InputError(
            f"FILE={options.file}: names such as {source.names[0]} are not UCF-101's; give CSV=<table of path,label,split>"
        )
    # One reader for all tables of path,label,split.
    rows, columns = folder.read_csv(Path(options.csv).expanduser())
    named = {row["path"]: row for _, row in rows}
    missing = [name for name in source.names if name not in named]
    if missing:
        raise InputError(f"CSV={options.csv}: does not name {missing[0]} ({len(missing)} of {len(source.names)} are missing)")
    label_column = "labels" if "labels" in columns else "label"
    labels = {name: named[name].get(label_column, "") for name in source.names}
    groups = {name: named[name]["group"] for name in source.names} if "group" in columns else folder.guess_groups(labels)
    splits = ["1"] if "split" in columns else []
    dataset: dict[str, Any] = {"name": options.dataset or "folder", "splits": splits, "coarse": {}}
    dataset |= {"multilabel": True} if label_column == "labels" else {}
    classes = {label_name for label in labels.values() for label_name in label_names(label, dataset)}
    metas = [
        {"id": n, "label": labels[n], "group": groups[n], "parts": [named[n]["split"] for _ in splits], "source": {"bytes": 0}}
        for n in source.names
    ]
    return {**dataset, "classes": sorted(classes)}, metas


def _ucf_id(name: str) -> str:
    """`<Class>/<stem>` from a bare stem or a path that ends in one; "" when it is not one of UCF-101."""
    stem = name.rpartition("/")[2].removesuffix(".avi")
    found = re.fullmatch(r"v_([^/]+)_g\d\d_c\d\d", stem)
    parsed = ucf101.parse_id(f"{found[1]}/{stem}") if found else None
    return f"{parsed[0]}/{stem}" if parsed else ""


def _as_ucf101(source: Source, ids: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    metas = []
    for number, (name, video_id) in enumerate(zip(source.names, ids, strict=True)):
        parsed = ucf101.parse_id(video_id)
        if parsed is None:
            raise InputError(f"DATASET=ucf101: {name} is not named as UCF-101 names its videos (v_<Class>_gNN_cNN)")
        label, group = parsed
        parts = list(ucf101.official_parts(group))
        facts = {key: table[number] for key, table in source.facts.items()}
        class_number = ucf101.CLASSES.index(label) + 1  # the official list counts from 1
        told = facts.get("label_classInd", class_number)
        if told != class_number:
            raise InputError(f"{name}: the file calls it class {told}, its name says {label} ({class_number})")
        tests = [part == "test" for part in parts]
        if np.any(facts.get("is_test_split123", tests) != np.array(tests)):
            raise InputError(f"{name}: the file's splits are not the official ones of its group")
        metas.append({"id": video_id, "label": label, "group": f"{label}/g{group:02d}", "parts": parts, "source": {"bytes": 0}})
    coarse = {category: list(classes) for category, classes in ucf101.COARSE.items()}
    splits = list(ucf101.SPLITS)
    return {"name": "ucf101", "classes": list(ucf101.CLASSES), "splits": splits, "coarse": coarse}, metas


def _sha256(path: Path) -> str:
    """Of a file's bytes; of a folder: of its .npy files' names and digests. Raises InputError for one it cannot read."""
    if not path.is_dir():
        return _file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.npy")):
        digest.update(f"{file.relative_to(path).as_posix()} {_file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"FILE={path}: cannot be read ({error.strerror}); mend it, or move it away") from None


@dataclass(frozen=True)
class ExportOptions:
    """Options of the command `export`."""

    store: str = option("", "the store: start of its hash, or its file; empty when there is only one")
    to: str = option("", "new folder (one .npy per video), or new .h5 file (one dataset per video)")
    split: str = option("", "the split that the CSV beside tells (default: the first)")
    bank: str = option("bank", "folder that holds stores, runs and reports")


def export(options: ExportOptions) -> int:
    """Write a store's clean rows one array per video, and `<to>.csv` (path,label,group,split), which `import` takes back.

    Both get their names once they are whole. Raises InputError for an existing target, one that cannot be written, or
    damaged features; nothing is left then.
    """
    if not options.to:
        raise InputError("TO= is needed: a new folder, or a new file that ends in .h5")
    target = Path(options.to).expanduser().absolute()
    table = target.parent / f"{target.name}.csv"
    if target.exists() or table.exists():
        raise InputError(f"TO={options.to}: give a new folder, or a new file that ends in .h5; what is there is not replaced")
    with Store.open(find_store(options.bank, options.store)) as store:
        splits = store.dataset["splits"]
        if options.split and options.split not in splits:
            raise InputError(f"SPLIT={options.split}: {store.path} has the splits {', '.join(splits) or '(none)'}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as partial:
                _export_arrays(store, Path(partial) / target.name)
                _export_table(store, Path(partial) / table.name, splits.index(options.split) if options.split else 0)
                (Path(partial) / target.name).rename(target)
                (Path(partial) / table.name).rename(table)
        except OSError as error:
            why = error.strerror or " ".join(str(error).split())
            raise InputError(f"TO={target}: cannot be written ({why})") from None
        print(f"{target}: {len(store.video_ids)} videos; labels in {table}")
        weights = store.recipe.get("weights")
        if isinstance(weights, dict) and "saw" in weights:
            print("note: the backbone was trained here; what it has seen is not exported: test on its own split alone")
    return 0


def _export_arrays(store: Store, target: Path) -> None:
    if target.suffix in (".h5", ".hdf5"):
        with h5py.File(target, "w-") as file:
            for video_id in store.video_ids:
                file[video_id] = store.features(video_id)[0]
        return
    target.mkdir(parents=True)
    for video_id in store.video_ids:
        path = target / f"{video_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, store.features(video_id)[0], allow_pickle=False)


def _export_table(store: Store, table: Path, split: int) -> None:
    with table.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        has_splits = bool(store.dataset["splits"])
        label_column = "labels" if store.dataset.get("multilabel", False) else "label"
        writer.writerow(["path", label_column, "group", *(["split"] if has_splits else [])])
        for video_id, label, group, video_parts in zip(store.video_ids, store.labels, store.groups, store.parts, strict=True):
            writer.writerow([video_id, label, group, *(video_parts[split : split + 1])])
