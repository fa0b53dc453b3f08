"""An unfinished store: the folder of parts beside the finished file, its locks, and what all files together hold."""

import contextlib
import fcntl
import itertools
import logging
import math
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.feature_file import DamagedFile, FeatureFile
from reelbank.data.index import Index
from reelbank.data.recipe import differences

_log = logging.getLogger("reelbank")
_SCANS = 20


def final_path(path: Path | str) -> Path:
    """The finished file's path, given it or the folder of parts. Raises InputError for any other name."""
    path = Path(path)
    if path.suffix not in (".h5", ".parts"):
        raise InputError(f"{path}: a store's name ends in .h5 (or .parts while it is unfinished)")
    return path.with_suffix(".h5")


def parts_folder(path: Path) -> Path:
    """The folder of parts of the store whose finished file is `path`."""
    return path.with_suffix(".parts")


def temporary_name(folder: Path, shard: str) -> Path:
    """A new name for a file that is being written; `sweep` removes it if its writer dies."""
    return folder / f"tmp+{shard}+{uuid.uuid4().hex}.h5"


def part_name(folder: Path, shard: str, time_ns: int) -> Path:
    """The name of a committed part: sorted by time, and unique, so that a rename never replaces one."""
    return folder / f"part+{time_ns:020d}+{shard}+{uuid.uuid4().hex}.h5"


def shard_lock(folder: Path, shard: str) -> Path:
    """The file a shard's only writer holds locked."""
    return folder / f"shard+{shard}.lock"


def check_shard(shard: str) -> None:
    """Raises InputError unless the name of a shard can be part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,40}", shard):
        raise InputError(f"shard {shard!r}: use up to 40 letters, digits, '_', '-' and '.'")


def sync_folder(folder: Path) -> None:
    """Make names given in a folder last through a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(path: Path, wait: bool) -> int | None:
    """An exclusive lock on a file, made with its folder if missing: its descriptor, or None when it is held and `wait` is
    False. The system releases it when the process ends, however it ends."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another writer removed the emptied folder meanwhile
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Whoever held the lock may have removed the file: then ours has no name and locks nobody out.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


@contextlib.contextmanager
def merging(folder: Path) -> Iterator[None]:
    """Only one process at a time merges; the others wait."""
    fd = lock(folder / "merge.lock", wait=True)
    assert fd is not None
    try:
        yield
    finally:
        (folder / "merge.lock").unlink()
        os.close(fd)


def sweep(folder: Path, own_shard: str) -> None:
    """Remove what killed writers left: temporary files and locks of every shard that has no writer but the caller."""
    for name in {*folder.glob("tmp+*+*.h5"), *folder.glob("shard+*.lock")}:
        shard = name.stem.split("+")[1]
        if shard == own_shard:
            if name.suffix == ".h5":
                name.unlink(missing_ok=True)
            continue
        fd = lock(shard_lock(folder, shard), wait=False)
        if fd is not None:
            for left in folder.glob(f"tmp+{shard}+*.h5"):
                left.unlink(missing_ok=True)
            shard_lock(folder, shard).unlink()
            os.close(fd)


@dataclass
class Catalog:
    """What the files of one store hold together; a later file overrides an earlier one, features override failures of the
    same source bytes. A later failure of other bytes (the file has changed since) is kept beside the features."""

    final: FeatureFile | None = None
    parts: list[FeatureFile] = field(default_factory=list)  # oldest first
    damaged: dict[Path, str] = field(default_factory=dict)  # parts left out, and why
    where: dict[str, tuple[FeatureFile, int]] = field(default_factory=dict)  # video id -> file and number in it
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def files(self) -> list[FeatureFile]:
        return [self.final, *self.parts] if self.final else self.parts

    def append(self, file: FeatureFile) -> None:
        """Take in a newer part. Raises InputError when it is of another recipe, data set or row shape."""
        if self.files:
            _check_alike(file, self.files[0])
        self.parts.append(file)
        self._enter(file)

    def _enter(self, file: FeatureFile) -> None:
        self.where.update(zip(file.index.video_ids, zip(itertools.repeat(file), itertools.count()), strict=False))
        for video_id in file.index.video_ids:
            self.failures.pop(video_id, None)
        for video_id, failure in file.index.about["failures"].items():
            if video_id not in self.where or failure["bytes"] != self.source_bytes(video_id):
                self.failures[video_id] = failure

    def source_bytes(self, video_id: str) -> int:
        """Size of the video file from which the features of a stored video come; 0 unknown."""
        file, number = self.where[video_id]
        return int(file.index.about["sources"][number].get("bytes", 0))

    def enter_final(self, file: FeatureFile) -> None:
        self.final = file
        self._enter(file)

    @property
    def finished(self) -> bool:
        """Whether the finished file holds all there is (parts may be left beside it by a kill)."""
        if not self.final or self.damaged:
            return False
        known = {*self.final.index.video_ids, *self.final.index.about["failures"]}
        return known.issuperset([*self.where, *self.failures])

    def dataset(self) -> dict[str, Any]:
        """The data set as its files describe it together."""
        described = [file.index.about["dataset"] for file in self.files]
        combined = described[0]
        for newer in described[1:]:
            combined = combine_datasets(combined, newer)
        return combined

    def parts_of(self, video_id: str, splits: list[str]) -> list[str]:
        """A video's part in each of `splits`, "" where its file does not know the split."""
        file, number = self.where[video_id]
        if file.index.about["dataset"]["splits"] == splits:
            return file.index.parts[number]
        known = dict(zip(file.index.about["dataset"]["splits"], file.index.parts[number], strict=True))
        return [known.get(split, "") for split in splits]

    def cost(self) -> dict[str, Any]:
        """What all files together have cost: seconds added up (None where a file does not say), devices and streams listed."""
        found = [file.index.about["written"].get("cost") for file in self.files]
        costs: list[dict[str, Any]] = [cost if isinstance(cost, dict) else {} for cost in found]
        seconds: list[Any] = [cost.get("seconds") for cost in costs]
        known = [float(one) for one in seconds if type(one) in (int, float) and 0 <= one < math.inf]
        total = round(sum(known), 3) if len(known) == len(costs) else None
        listed = {
            key: ", ".join(dict.fromkeys(str(cost[key]) for cost in costs if key in cost)) for key in ("device", "streams")
        }
        return {"seconds": total, **{key: value for key, value in listed.items() if value}}

    def close(self) -> None:
        if self.final:
            self.final.close()


def check_groups(path: Path, index: Index) -> None:
    """Raises InputError when a group of a store of a plain folder is in both train and test of a split: videos that have left
    ROOT can be in another part than those that came. Official and imported splits are as they are."""
    dataset = index.about["dataset"]
    if not dataset["name"].startswith("folder-"):
        return
    for number, split in enumerate(dataset["splits"]):
        sides: dict[str, str] = {}
        for group, video_parts in zip(index.groups, index.parts, strict=True):
            part = video_parts[number]
            if group and part and sides.setdefault(group, part) != part:
                raise InputError(
                    f"{path}: group {group} would be in both train and test of split {split}; give a CSV with the column split "
                    f"that keeps its part, or another BANK"
                )


def begun(path: Path) -> bool:
    """Whether a store has a folder of parts and nothing in it yet: extraction just began, or ended before its first part."""
    return parts_folder(path).is_dir() and not path.exists() and not any(parts_folder(path).glob("part+*.h5"))


def combine_datasets(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Classes, splits and categories of both; the order is that of the one which knows all, else the newer's first."""
    if old == new:
        return new
    return {
        "name": new["name"],
        "classes": _combine(old["classes"], new["classes"]),
        "splits": _combine(old["splits"], new["splits"]),
        "coarse": {**old["coarse"], **new["coarse"]},
        **({"multilabel": True} if new.get("multilabel", False) else {}),
    }


def _combine(old: list[str], new: list[str]) -> list[str]:
    return old if set(new) <= set(old) and set(old) - set(new) else list(dict.fromkeys([*new, *old]))


def _check_alike(file: FeatureFile, other: FeatureFile) -> None:
    if file.index.about["identity"] != other.index.about["identity"]:
        lines = recipe_differences(file.index.about, other.index.about)
        raise InputError(f"{file.path} does not belong to the store of {other.path}: {'; '.join(lines)}; move it away")
    check_labelling(file.path, file.index.about["dataset"], other.index.about["dataset"])
    kinds = [f"{held.index.row_shape} {held.index.dtype}" for held in (file, other)]
    if file.index.video_ids and other.index.video_ids and kinds[0] != kinds[1]:
        raise InputError(f"{file.path} holds rows of {kinds[0]}, {other.path} of {kinds[1]}; move one of them away")


def check_labelling(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises InputError when one of two descriptions of a data set is multi-label and the other is not."""
    if old.get("multilabel", False) != new.get("multilabel", False):
        raise InputError(
            f"{path}: labels of one class a video and of several (multi-label) cannot be mixed; choose another BANK"
        )


def recipe_differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Lines for what tells two stores apart, from their /about."""
    first, second = ({"dataset": about["dataset"]["name"], **about["recipe"]} for about in (one, other))
    return differences(first, second)


def scan(path: Path, whole: bool = False) -> Catalog:
    """Open the finished file and all parts of a store; damaged parts are left out and logged.

    With `whole`, parts are checked to the last byte, else header and index (features are checked when read). Raises
    InputError when the finished file is damaged, or files of different recipes are mixed.
    """
    for _ in range(_SCANS):
        try:
            return _scan(path, whole)
        except FileNotFoundError:  # merged and removed between listing and opening: now the finished file holds it
            continue
    raise InputError(f"{path}: its parts vanish while they are read; try again once the other process is done")


def _scan(path: Path, whole: bool) -> Catalog:
    catalog = Catalog()
    files = []
    # Parts first: they are removed only after the finished file has them.
    for name in sorted(parts_folder(path).glob("part+*.h5")):
        try:
            files.append(FeatureFile(name, whole))
        except DamagedFile as error:
            catalog.damaged[name] = str(error)
            _log.warning("%s; it is left out, its videos count as not done", error)
    if path.exists():
        try:
            catalog.enter_final(FeatureFile(path, keep_open=True))
        except DamagedFile as error:
            raise InputError(f"{error}; put a good copy in its place, or delete it and extract again") from None
    try:
        for file in files:
            catalog.append(file)
    except InputError:
        catalog.close()
        raise
    return catalog
