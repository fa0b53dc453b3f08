"""The plan of an extraction: its streams, the stores that they fill, and the progress of each
store."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reelbank.data.datasets.types import Dataset
from reelbank.data.store.records import identity
from reelbank.extract.device import chosen_device
from reelbank.extract.fill import lengths_alone, with_defaults, with_image_fps
from reelbank.extract.flow.methods import FlowMethod, build_flow
from reelbank.extract.found import FinishedStores, with_found
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import StreamPlan, flow_of_weights, plan_streams
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.todo import Retry, SourceFiles, StoredVideos, store_exists


@dataclass(frozen=True)
class ExtractionPlan:
    """The streams of one extraction, the optical flow that they share, and the stream of the flow
    lengths that adaptive sampling follows."""

    streams: tuple[StreamPlan, ...]
    flow: FlowMethod | None
    lengths: StreamPlan | None


def plan_extraction(
    options: ExtractOptions, dataset: Dataset, device: torch.device
) -> ExtractionPlan:
    """options: with defaults filled in. Raises InputError for options that cannot be combined."""
    streams = [load_stream(text) for text in options.stream]
    is_adaptive = options.sampling == "adaptive"
    flow = None
    if is_adaptive or any(stream.uses_flow for stream in streams):
        weights = options.flow_weights or "pretrained"
        flow = build_flow(options.flow, device, weights, options.seed, fetch=not options.plan)
    lengths, magnitude = None, ""
    if is_adaptive and any(stream.is_adaptive for stream in streams):
        (lengths,) = plan_streams(lengths_alone(options), dataset.name, flow)
        magnitude = identity(lengths.recipes[0].to_json(), dataset.name)
    plans = plan_streams(options, dataset.name, flow, magnitude)
    return ExtractionPlan(tuple(plans), flow, lengths)


@dataclass(frozen=True)
class PlannedStore:
    """A store that an extraction fills.

    split: the split of weights that were trained here, or ""
    finished_videos: how many of the data set's videos, with their current files, need no more work
    to_download: weights that are missing on this machine, without which the store's name is not
    known
    """

    path: Path
    stream: str
    node: str
    split: str
    finished_videos: int
    to_download: tuple[str, ...] = ()


def planned_stores(options: ExtractOptions, dataset: Dataset) -> list[PlannedStore]:
    """The stores of an extraction of this data set, with their progress. Nothing is decoded or
    written. With PLAN=1 weights are not downloaded."""
    options = with_image_fps(with_defaults(flow_of_weights(options)), dataset)
    retry = Retry(all=False, refused=options.damaged == "keep")
    plans: Sequence[StreamPlan]
    device = torch.device("cpu") if options.cluster else chosen_device(options.device)
    plans = plan_extraction(options, dataset, device).streams
    files: SourceFiles | None = None  # read only if a store exists
    if options.banks:
        files = SourceFiles.of(dataset.videos, options.bank)
        with contextlib.ExitStack() as closing:
            finished_stores = FinishedStores(dataset, dataset.videos, files, retry)
            found = finished_stores.among(plans, options.searched, closing)
            plans = with_found(plans, found)
    stores = []
    for plan in plans:
        for path, node in zip(plan.paths, plan.nodes, strict=True):
            finished_videos = 0
            if store_exists(path):
                files = files or SourceFiles.of(dataset.videos, options.bank)
                missing = files.missing_in(dataset.videos, [StoredVideos.at(path)], retry)
                finished_videos = len(dataset.videos) - len(missing)
            stores.append(
                PlannedStore(
                    path=path,
                    stream=plan.stream.name,
                    node=node,
                    split=plan.split,
                    finished_videos=finished_videos,
                    to_download=plan.to_download,
                )
            )
    return stores
