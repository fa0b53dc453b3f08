"""The command `pack`: all files of a store as one."""

import contextlib
from pathlib import Path

from reelbank.data.console import counted, print_lines, size_text
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.catalog import scan
from reelbank.data.store.file.about import About
from reelbank.data.store.merging.committing import settle
from reelbank.data.store.merging.plan import Request, packed
from reelbank.data.store.options import PackOptions
from reelbank.data.store.parts import check_no_link, merging, parts_folder
from reelbank.data.system.locks import Lock


def pack(options: PackOptions) -> int:
    """Merge all files of a finished store into one, and remove the others when it has been verified.
    Raises InputError if the store is unfinished, in another bank, damaged, or cannot be written."""
    path = find_store(options.searched, options.store)
    options.searched.check_own(path, "pack", "packed")
    check_no_link(path)
    folder = parts_folder(path)
    if not folder.exists():
        print_lines(f"{path}: is already a single file")
        return 0
    try:
        with merging(folder) as held:
            _pack(path, held)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    with contextlib.suppress(OSError):  # not empty: a writer has its lock there
        folder.rmdir()
    return 0


def _pack(path: Path, held: Lock) -> None:
    catalog = scan(path)
    with contextlib.closing(catalog):
        if catalog.final is None or catalog.parts or catalog.damaged:
            raise InputError(
                f"{path}: is unfinished; finish it with 'reelbank extract' and the same options "
                "before you pack it"
            )
        files, outputs = len(catalog.finished_files), packed(catalog)
        recipe = catalog.final.index.about.recipe
        about = About(recipe, catalog.dataset(), catalog.recorded())
        request = Request(about, about.dataset, listed={})
        compression = "gzip" if any(file.compressed for file in catalog.finished_files) else ""
        settle(path, catalog, request, outputs, held=held, compression=compression)
    if files == 1:
        print_lines(f"{path}: is already a single file")
        return
    size = size_text(path.stat().st_size)
    print_lines(f"{path}: packed {counted(files, 'file')} into one of {size}")
