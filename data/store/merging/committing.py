"""Giving a complete file its name, and removing the files that it replaces."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from reelbank.data.console import printable
from reelbank.data.errors import InputError
from reelbank.data.files import disk_remedy, sync_folder
from reelbank.data.store.catalog import Catalog, scan
from reelbank.data.store.file.format import write
from reelbank.data.store.file.index import Index
from reelbank.data.store.merge import ids_written, merged_index, read_all
from reelbank.data.store.merging.plan import Output, Request
from reelbank.data.store.parts import merge_name, more_name, parts_folder, put_aside_name
from reelbank.data.system.locks import Lock

_log = logging.getLogger("reelbank")


def commit(
    index: Index,
    values: Iterable[np.ndarray],
    names: tuple[Path, Path],
    held: Lock,
    *,
    compression: str,
) -> None:
    """Write a file under the first name, which is in the folder of parts, and give it the second, if
    the lock is still held. Raises InputError if it cannot be written; nothing is left of it then."""
    temporary, path = names
    try:
        write(temporary, index, values, compression)
        if not held.is_held():
            temporary.unlink(missing_ok=True)
        held.check()
        temporary.replace(path)
        for folder in dict.fromkeys([path.parent, temporary.parent]):
            sync_folder(folder)
    except OSError as error:
        held.check()  # the new owner of the lock may have removed the file
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); earlier commits are safe. "
            f"{disk_remedy(error).capitalize()} and run the command again"
        ) from None


def settle(
    path: Path,
    catalog: Catalog,
    request: Request,
    outputs: Sequence[Output],
    *,
    held: Lock,
    compression: str,
) -> None:
    """Write these finished files of the store at `path`; then remove the parts, and the files that
    they replace. Damaged parts get another name. Raises DamagedPart for a part that cannot be merged,
    and InputError; nothing is lost then."""
    folder, written = parts_folder(path), list[Path]()
    for leftover in catalog.merged:  # of a killed merger: before the file that names it is replaced
        leftover.unlink(missing_ok=True)
    for output, ids in zip(outputs, ids_written(catalog, outputs), strict=True):
        name = path if output.is_final else more_name(folder, output.number)
        index = merged_index(catalog, request, output, ids)
        names = (merge_name(folder), name)
        commit(index, read_all(output.pieces), names, held, compression=compression)
        written.append(name)
    after = scan(path, with_parts=False)  # the new files can be opened
    after.close()
    missing = set(written).difference(file.path for file in after.finished_files)
    if missing:
        raise InputError(
            f"{path}: {min(missing)} was written, but is not among the files of this store now; "
            "nothing was removed; stop what changes the folder, and run the command again"
        )
    parts = [part.path for part in catalog.parts]
    for merged in [*parts, *after.merged]:
        merged.unlink(missing_ok=True)
    for damaged in catalog.damaged:  # other videos in it may be intact
        _put_aside(damaged)
    sync_folder(folder)


def _put_aside(part: Path) -> None:
    """Give a damaged part a name with which it does not belong to the store any more."""
    kept = put_aside_name(part)
    with contextlib.suppress(FileNotFoundError):
        part.replace(kept)
        _log.warning(
            "%s: this damaged part was renamed to %s and is not used any more; delete it if you do "
            "not need it",
            printable(str(part)),
            printable(kept.name),
        )
