"""The command `export`: the features of a store as files for other tools."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from reelbank.data.console import counted, print_lines
from reelbank.data.errors import InputError
from reelbank.data.files import temporary_folder, write_remedy
from reelbank.data.store.bank import find_store
from reelbank.data.store.exchange.formats.choosing import chosen_format
from reelbank.data.store.exchange.formats.types import Export
from reelbank.data.store.options import ExportOptions
from reelbank.data.store.reader import Store
from reelbank.data.text_files import csv_file


def export(options: ExportOptions) -> int:
    """Write a store's clean rows in a format of another tool, and for some formats `<to>.csv`
    (path,label,group,split) with which `import` reads them back.

    The files get their names when they are complete. Raises InputError for an existing target, one
    that cannot be written, a format that cannot hold the store, or damaged features; then nothing
    is left behind.
    """
    if not options.to:
        raise InputError("give TO=<new folder>, or TO=<new file that ends in .h5>")
    chosen = chosen_format(options)
    target = Path(options.to).expanduser().absolute()
    table = target.parent / f"{target.name}.csv"
    _check_new([target, *([table] if chosen.has_table else [])], options.to)
    with Store.open(find_store(options.searched, options.store)) as store:
        splits = store.dataset.splits
        if options.split and options.split not in splits:
            raise InputError(
                f"SPLIT={options.split}: must be one of the splits of {store.path}, "
                f"{', '.join(splits) or '(none)'}"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary_folder(target.name, target.parent) as partial:
                written = chosen.write(Export(store, partial / target.name, target, options))
                if chosen.has_table:
                    split_number = splits.index(options.split) if options.split else 0
                    _export_table(store, partial / table.name, split_number)
                (partial / target.name).rename(target)
                if chosen.has_table:
                    (partial / table.name).rename(table)
        except OSError as error:
            why = error.strerror or " ".join(str(error).split())
            raise InputError(
                f"TO={target}: cannot be written ({why}); {write_remedy(error)}"
            ) from None
        labels = f" and their labels to {table}" if chosen.has_table else ""
        videos = counted(len(store.video_ids) - written.left_out, "video")
        print_lines(f"wrote {videos} to {target}{labels}", *written.notes)
        weights = store.recipe.get("weights")
        if isinstance(weights, dict) and "saw" in weights and not chosen.has_recipe:
            print_lines(
                "note: the network of these features was trained by reelbank, and the export does "
                "not record which videos it was trained on; evaluate only on the split that was "
                "used for this training"
            )
    return 0


def _check_new(paths: Sequence[Path], to: str) -> None:
    """Raises InputError if one of these paths of one folder exists, or if no folder can exist there."""
    # Path.exists would raise an error if the folder may not be read, which is then found by writing.
    if existing := next(filter(os.path.lexists, paths), None):
        raise InputError(f"TO={to}: {existing} already exists; give a new name")
    above = next(filter(os.path.lexists, paths[0].parents))
    with contextlib.suppress(PermissionError):
        if not above.is_dir():
            raise InputError(
                f"TO={to}: cannot be written, because {above} is not a folder; choose another folder"
            )


def _export_table(store: Store, table: Path, split_number: int) -> None:
    with csv_file(table) as writer:
        has_splits = bool(store.dataset.splits)
        label_column = "labels" if store.dataset.multilabel else "label"
        writer.writerow(["path", label_column, "group", *(["split"] if has_splits else [])])
        for video_id, label, group, video_parts in zip(
            store.video_ids, store.labels, store.groups, store.parts, strict=True
        ):
            writer.writerow([video_id, label, group, *video_parts[split_number : split_number + 1]])
