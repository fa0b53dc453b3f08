"""The folder of parts of an unfinished store: the names of its files, and their locks."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.system.locks import Lock, lock

_MOST_NUMBER = 10**19  # below it, numbers have 20 digits whatever is added; names sort by them
_MORE = re.compile(r"more[+]\d{20}[+][0-9a-f]{32}[.]h5", re.ASCII)


def final_path(path: Path | str) -> Path:
    """The finished file's path, given that or the folder of parts. Raises InputError for any other
    name."""
    path = Path(path)
    if path.suffix not in (".h5", ".parts"):
        raise InputError(
            f"{path}: the name of a store must end in .h5 (or .parts while it is unfinished)"
        )
    return path.with_suffix(".h5")


def parts_folder(path: Path) -> Path:
    """The folder of parts of the store whose finished file is `path`."""
    return path.with_suffix(".parts")


def link_followed(path: Path) -> Path:
    """The finished file's path, in the folder where the other files of the store are: `path`, or where
    it leads to if it is a link to a store of several files. Raises InputError if the link has other
    files too."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    own, folder = parts_folder(path), parts_folder(target)
    is_store = target.suffix == ".h5" and folder.is_dir()
    if not is_store or os.path.realpath(own) == os.path.realpath(folder):
        return path
    if not (more_files(own) or part_files(own)):
        return target
    if more_files(folder) or part_files(folder):
        raise InputError(
            f"{path}: is a link to {target}, but both {own} and {folder} contain files of the "
            f"store; use {target} itself, or move {own} away"
        )
    return path


def check_no_link(path: Path) -> None:
    """Raises InputError if `path` is a link to a store of several files, because a change would be
    written next to the link."""
    target = link_followed(path)
    if target != path:
        raise InputError(
            f"{path}: is a link to {target}, which has further files next to it; give the path "
            f"{target} to change this store"
        )


def temporary_name(folder: Path, shard: str) -> Path:
    """A new name for a file that is being written; `remove_leftovers` removes it if its writer
    dies."""
    return folder / f"tmp+{shard}+{uuid.uuid4().hex}.h5"


def more_files(folder: Path) -> list[Path]:
    """The finished files of a store in its folder of parts, oldest first; none if the folder is
    missing. Raises InputError if it cannot be read."""
    names = sorted(filter(_MORE.fullmatch, _names_in(folder)))
    return [folder / name for name in names]


def more_name(folder: Path, number: int) -> Path:
    """A unique name for a finished file next to the first one. The file with the highest number is
    the newest."""
    return folder / f"more+{number:020d}+{uuid.uuid4().hex}.h5"


def more_number(path: Path) -> int:
    """The number in the name of a `more_files` file; the highest is the newest."""
    return int(path.name.split("+")[1])


def merge_name(folder: Path) -> Path:
    """A new name for a merged file that is being written; the next `merging` removes it if its
    writer dies."""
    return folder / f"merge+{uuid.uuid4().hex}.h5"


def put_aside_name(part: Path) -> Path:
    """Another name for a damaged part, in the same folder, with which it is ignored."""
    return part.with_name(f"damaged+{part.name}")


def part_files(folder: Path) -> list[Path]:
    """The committed parts in a folder, oldest first; none if the folder is missing. Raises
    InputError if it cannot be read."""
    names = sorted(filter(_is_part, _names_in(folder)), key=lambda name: (_number(name), name))
    return [folder / name for name in names]


def check_numbers(folder: Path) -> None:
    """Raises InputError for a file whose number is so high that no later file could follow it."""
    for path in [*more_files(folder), *part_files(folder)]:
        _check_number(path)


def _check_number(path: Path) -> None:
    number = more_number(path) if _MORE.fullmatch(path.name) else _number(path.name)
    if number >= _MOST_NUMBER:
        raise InputError(
            f"{path}: the number in its name must be below {_MOST_NUMBER} (got {number}), because "
            "later files get higher ones; Reelbank did not write this name: move the file away"
        )


class PartNames:
    """Unique names for the parts of one writer, so that a rename never replaces a part.

    A name's number is one more than the highest in the folder, whatever the clock says. Two shards
    may take the same number at the same time, because their videos are different ones. The folder,
    which may hold thousands of parts, is listed only if it has changed since the writer's last part.
    """

    def __init__(self, folder: Path, shard: str) -> None:
        self._folder, self._shard = folder, shard
        self._highest, self._seen_ns = 0, -1

    def new(self) -> Path:
        """A name for the next part. Raises InputError if no name can follow one in the folder."""
        if self._changed_ns() != self._seen_ns:
            for path in part_files(self._folder)[-1:]:
                _check_number(path)
                self._highest = max(self._highest, _number(path.name))
        self._highest += 1
        name = f"part+{self._highest:020d}+{self._shard}+{uuid.uuid4().hex}.h5"
        return self._folder / name

    def committed(self) -> None:
        """To be called when the last name has got its file."""
        self._seen_ns = self._changed_ns()

    def _changed_ns(self) -> int:
        return self._folder.stat().st_mtime_ns if self._folder.exists() else 0


def _is_part(name: str) -> bool:
    # The first commits of this project wrote "part-".
    return name.startswith(("part+", "part-")) and name.endswith(".h5")


def _number(name: str) -> int:
    """The number that a part's name begins with, 0 without one. Earlier versions wrote the time in
    ns there."""
    match = re.match(r"part[+-](\d{1,40})[+-]", name, re.ASCII)
    return int(match[1]) if match else 0


def _names_in(folder: Path) -> list[str]:
    """Names of the entries of a folder, none if it is missing. Raises InputError if it cannot be
    read."""
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be read as the parts folder of a store ({error.strerror}); move it "
            "away"
        ) from None


def shard_lock(folder: Path, shard: str) -> Path:
    """The file that a shard's only writer keeps locked."""
    return folder / f"shard+{shard}.lock"


def check_shard(shard: str) -> None:
    """Raises InputError unless the name of a shard can be part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,40}", shard):
        raise InputError(
            f"shard {shard!r}: must consist of at most 40 letters, digits, '_', '-' and '.'"
        )


@contextlib.contextmanager
def merging(folder: Path) -> Iterator[Lock]:
    """Only one process at a time merges; the others wait."""
    taken = lock(folder / "merge.lock", wait=True)
    assert taken is not None
    try:
        # Files of killed mergers. A suspended one whose lock was taken over cannot commit its file
        # any more, and so cannot replace what newer parts were merged into.
        for leftover in folder.glob("merge+*.h5"):
            leftover.unlink(missing_ok=True)
        yield taken
    finally:
        taken.release()


def remove_leftovers(folder: Path, own_shard: str) -> None:
    """Remove temporary files and locks of killed writers: those of the caller's shard, and of every
    other shard without a writer."""
    for path in {*folder.glob("tmp+*+*.h5"), *folder.glob("shard+*.lock")}:
        shard = path.stem.split("+")[1]
        if shard == own_shard:
            if path.suffix == ".h5":
                path.unlink(missing_ok=True)
            continue
        taken = lock(shard_lock(folder, shard), wait=False)
        if taken is not None:
            for leftover in folder.glob(f"tmp+{shard}+*.h5"):
                leftover.unlink(missing_ok=True)
            taken.release()


def begun(path: Path) -> bool:
    """Whether a store has a folder of parts that is still empty: extraction just began, or ended
    before its first part."""
    folder = parts_folder(path)
    try:
        is_missing = not path.exists() and not path.is_symlink()
        return folder.is_dir() and is_missing and not part_files(folder)
    except (InputError, OSError):  # cannot be read: `catalog.scan` says why
        return False
