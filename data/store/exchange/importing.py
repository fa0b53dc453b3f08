"""The command `import`: features of other tools as a store."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import DEFAULT_STREAM
from reelbank.data.identity import in_file_name
from reelbank.data.store.bank import stores_folder
from reelbank.data.store.exchange.labels import labelled
from reelbank.data.store.exchange.source import Source
from reelbank.data.store.exchange.sources import open_source, source_sha256
from reelbank.data.store.file.hdf5_checks import ERRORS
from reelbank.data.store.options import ImportOptions
from reelbank.data.store.records import StoredVideo, identity
from reelbank.data.store.versions import NOT_RECORDED, Made
from reelbank.data.store.writer import StoreWriter
from reelbank.data.system.faults import is_machine_error


def import_store(options: ImportOptions) -> int:
    """Write a store from features of other tools. Returns 1 if the features of some video cannot
    be stored; these are recorded as failed.

    Raises InputError for an unknown layout, an unsafe file, or names without labels.
    """
    path = Path(options.file).expanduser()
    if not options.file or not path.exists():
        raise InputError(
            f"FILE={options.file}: must be an existing HDF5 file, or a folder of .npy files"
        )
    with open_source(path, options.stream or DEFAULT_STREAM) as source:
        if not source.names:
            raise InputError(f"FILE={path}: contains no features")
        data = labelled(source, options)
        dataset, videos = data.dataset, data.videos
        recipe = _recipe(source, options, path)
        key = identity(recipe, dataset.name)
        short = re.sub(r"[^\w.]+", "_", recipe["extractor"])
        names = [dataset.name, recipe["stream"]]
        if source.recorded:  # untrusted
            names = [in_file_name(name) for name in names]
        name = f"{'-'.join(names)}-{short}-{key[:8]}.h5"
        store_path = stores_folder(options.bank) / name
        with StoreWriter(store_path, recipe, dataset, made=Made(versions=NOT_RECORDED)) as writer:
            for number, video in enumerate(videos):
                if video.id not in writer.done:
                    _add(writer, video, source, number)
            writer.finish(videos)
            failed = {
                video.id: str(writer.failed[video.id])
                for video in videos
                if video.id in writer.failed
            }
            print_lines(
                f"{writer.path}: imported {len(videos) - len(failed)} of {len(videos)} videos"
            )
    for video_id, reason in failed.items():
        print_lines(f"  failed: {video_id}: {reason}")
    return int(bool(failed))


def _recipe(source: Source, options: ImportOptions, path: Path) -> dict[str, Any]:
    """The recipe of the imported store. Stream, network and weights are those with which the features
    were extracted, if the files record them; so training on videos that the network has seen is
    still noticed."""
    exported = source.recorded.recipe if source.recorded else {}
    texts = {key: exported.get(key) for key in ("stream", "extractor")}
    recorded = {key: text for key, text in texts.items() if isinstance(text, str) and text}
    recipe: dict[str, Any] = {
        "stream": options.stream or recorded.get("stream", DEFAULT_STREAM),
        "extractor": options.extractor or recorded.get("extractor", path.stem),
        "imported": {"file": path.name, "layout": source.layout, "sha256": source_sha256(path)},
        "times": "timestamps" if source.timed else "row numbers",
    }
    if exported:
        recipe["imported"]["recipe"] = exported
    if isinstance(exported.get("weights"), dict):
        recipe["weights"] = exported["weights"]
    return recipe


def _add(writer: StoreWriter, video: StoredVideo, source: Source, number: int) -> None:
    try:
        rows = source.read(number)
        values = rows.values[None] if rows.values.ndim == 1 else rows.values  # a vector is one row
        times = rows.times_seconds
        if times is None:  # most layouts do not record times
            times = np.arange(len(values), dtype=np.float64)
        facts = {**video.source, **({"fps": rows.fps} if rows.fps else {})}
        writer.add(replace(video, source=facts), values, times)
    except (InputError, *ERRORS) as error:
        writer.fail(video, str(error), by_machine=is_machine_error(error))
