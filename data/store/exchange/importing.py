"""The command `import`: features of other tools as a store."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import DEFAULT_STREAM
from reelbank.data.identity import in_file_name
from reelbank.data.store.bank import stores_folder
from reelbank.data.store.exchange.formats.videos import has_row_numbers, positive_number
from reelbank.data.store.exchange.import_notes import row_numbers_note, unlabelled_notes
from reelbank.data.store.exchange.labels import labelled
from reelbank.data.store.exchange.source import Rows, Source
from reelbank.data.store.exchange.sources import (
    ACCEPTED,
    file_sha256,
    files_sha256,
    open_source,
    source_sha256,
)
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
    if not options.file:
        raise InputError(f"FILE is missing; it must be {ACCEPTED}")
    if not path.exists():
        raise InputError(f"FILE={options.file}: does not exist; FILE must be {ACCEPTED}")
    if (options.offset or options.fps) and not options.stride:
        raise InputError(
            "STRIDE is missing; OFFSET and FPS need it (STRIDE=1 if every frame has a row)"
        )
    with open_source(path, options.stream or DEFAULT_STREAM) as source:
        if not source.names:
            raise InputError(f"FILE={path}: contains no features; FILE must be {ACCEPTED}")
        if source.timed and options.stride:
            raise InputError(
                f"STRIDE={options.stride:g}: FILE={path} contains the times of the rows; leave STRIDE out"
            )
        data = labelled(source, options)
        dataset, videos = data.dataset, data.videos
        is_rated = source.rated or _rated(videos)
        if options.stride and not options.fps and not is_rated:
            raise InputError(
                f"FPS is missing; STRIDE={options.stride:g} needs it, because FILE={path} does not "
                "contain the frame rates of the videos"
            )
        timing = Timing(options.stride or 0.0, options.offset, options.fps or 0.0)
        read = partial(_read, source, options.crops)
        recipe = _recipe(source, options, path)
        notes = [*source.notes, *unlabelled_notes(data, of_actions=bool(options.annotations))]
        if options.annotations and recipe["times"] == "row numbers":
            notes.append(row_numbers_note(source, options, is_rated=is_rated))
        if notes:
            print_lines(*notes)
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
                    _add(writer, video, read, number, timing=timing)
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


def _rated(videos: Sequence[StoredVideo]) -> bool:
    """Whether the frame rate of any video is known from its labels."""
    return any(positive_number(video.source.get("fps")) for video in videos)


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
        "times": "timestamps" if source.timed or options.stride else "row numbers",
    }
    # Annotations and frame rates of videos are stored with their features; so other ones need
    # another store. Labels and parts are replaced in the same store.
    if source.described_by:
        recipe["imported"]["described_by_sha256"] = files_sha256(path, source.described_by)
    if options.annotations:
        annotations = Path(options.annotations).expanduser()
        recipe["imported"]["annotations_sha256"] = file_sha256(annotations, "ANNOTATIONS")
    if options.stride:
        recipe["imported"] |= {"stride": options.stride, "offset": options.offset}
        recipe["imported"] |= {"fps": options.fps} if options.fps else {}
    if options.crops:
        recipe |= {"crops": options.crops, "crops_kept": True}
    if exported:
        recipe["imported"]["recipe"] = exported
        if source.timed and has_row_numbers(exported):
            recipe["times"] = "row numbers"
        if type(exported.get("crops")) is int and exported.get("crops_kept") is True:
            recipe |= {"crops": exported["crops"], "crops_kept": True}
    if isinstance(exported.get("weights"), dict):
        recipe["weights"] = exported["weights"]
    return recipe


@dataclass(frozen=True)
class Timing:
    """For files without times: row i is centred at (i * stride_frames + offset_frames) / fps. All are
    0.0 if they are not given; fps may be known for each video."""

    stride_frames: float
    offset_frames: float
    fps: float

    def times_seconds(self, rows: int, video_fps: float) -> np.ndarray:
        """(rows,) the times of a video's rows; row numbers if there is no stride. Raises InputError
        if the frame rate is not known."""
        if not self.stride_frames:
            return np.arange(rows, dtype=np.float64)
        fps = self.fps or video_fps
        if not fps:
            raise InputError("its frame rate is not known; give FPS=")
        return (np.arange(rows) * self.stride_frames + self.offset_frames) / fps


def _read(source: Source, crops: int, number: int) -> Rows:
    """The rows of video `number`. Raises InputError unless they have this number of crops, if it is
    not 0."""
    rows = source.read(number)
    if crops and rows.values.shape[1:-1] != (crops,):
        raise InputError(
            f"its features must have the shape (T, {crops}, D), as CROPS={crops} says (got "
            f"{rows.values.shape})"
        )
    return rows


def _add(
    writer: StoreWriter,
    video: StoredVideo,
    read: Callable[[int], Rows],
    number: int,
    *,
    timing: Timing,
) -> None:
    try:
        rows = read(number)
        values = rows.values[None] if rows.values.ndim == 1 else rows.values  # a vector is one row
        fps = timing.fps or rows.fps or positive_number(video.source.get("fps"))
        times = rows.times_seconds
        if times is None:  # most layouts do not record times
            times = timing.times_seconds(len(values), fps)
        facts = {**video.source, **({"fps": fps} if fps else {})}
        writer.add(replace(video, source=facts), values, times)
    except (InputError, *ERRORS) as error:
        writer.fail(video, str(error), by_machine=is_machine_error(error))
