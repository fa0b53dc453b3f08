"""Extracts the videos of leases in a process of its own, into parts of its own in the stores that
all processes share."""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import torch

from reelbank.data.datasets.registry import load_dataset
from reelbank.data.datasets.types import Dataset, Video
from reelbank.data.errors import InputError
from reelbank.data.video.sources import look
from reelbank.extract.devices.one_device import (
    Decoded,
    DevicePass,
    Lease,
    VideoReport,
    decoder_count,
)
from reelbank.extract.found import present
from reelbank.extract.job import Job, every_writer, open_jobs
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import StreamPlan
from reelbank.extract.planned import plan_extraction
from reelbank.extract.streams.adaptive import read_lengths
from reelbank.extract.todo import SourceFiles


def dataset_of(options: ExtractOptions) -> Dataset:
    """The data set that the options describe. Raises InputError."""
    return load_dataset(
        options.dataset,
        options.root,
        splits_dir=options.lists,
        csv=options.csv,
        classes=options.classes,
        seed=options.seed,
        bank=options.bank,
        image_fps=options.image_fps or 0.0,
        dataset_name=options.dataset_name,
        files=options.videos,
        draws=not options.plan,
    )


class LeaseWorker:
    """Networks, decode processes and store writers for one device. A context manager that commits
    what is stored when it ends.

    options: with defaults filled in, and WORKERS for this device alone. shard: a name that no other
    writer of the stores has. stores: the file names of the stores to fill; streams with other stores,
    which another bank has, are planned but not extracted. expected_videos: the approximate number of
    videos to extract here. Several workers may extract different videos of one data set at the same
    time, in any processes that share BANK.

    Raises InputError if this machine would fill other stores.
    """

    def __init__(
        self,
        options: ExtractOptions,
        device: torch.device,
        shard: str,
        stores: Sequence[str],
        *,
        expected_videos: int,
    ) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dataset = dataset_of(options)
        self._videos = {video.id: video for video in dataset.videos}
        self._files = SourceFiles.of((), options.bank)
        with contextlib.redirect_stdout(io.StringIO()):  # the command has printed the same notes
            plans = plan_extraction(options, dataset, device)
        written = _written(plans.streams, stores)
        lengths = None
        if plans.lengths:
            path = present(plans.lengths.paths[0], options.searched)
            lengths = read_lengths(path, self._videos)
        with contextlib.ExitStack() as closing:
            self._jobs: dict[str, Job] = open_jobs(
                options, dataset, written, closing, device=device, shard=shard
            )
            self._pass = closing.enter_context(
                DevicePass(
                    options,
                    dataset,
                    plans,
                    self._jobs,
                    files=self._files,
                    lengths=lengths,
                    device=device,
                    expected_videos=expected_videos,
                    decoders=decoder_count(options, device, plans),
                )
            )
            self._closing = closing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is stored, and release the stores and the device."""
        self._closing.close()

    @property
    def read(self) -> int:
        """How many videos the machine could read so far."""
        return self._pass.read

    @property
    def decoded(self) -> Decoded:
        """What has been decoded so far."""
        return self._pass.decoded

    def run(self, leases: Iterable[Mapping[str, Sequence[str]]]) -> Iterator[VideoReport]:
        """Extract the videos of the leases and yield a report about each. A lease: by video id, the
        names of the jobs that need the video."""
        return self._pass.run(map(self._lease, leases))

    def commit(self) -> None:
        """Commit all features that were extracted: once this returns, they survive kills."""
        for writer in every_writer(self._jobs):
            writer.flush()

    def _lease(self, jobs: Mapping[str, Sequence[str]]) -> Lease:
        for video_id in jobs:
            if video_id not in self._videos:
                raise InputError(
                    f"{video_id}: is not among the videos that this process finds, so the data set has "
                    "changed since the command began, or differs on this machine; run the same "
                    "command again"
                )
        videos: list[Video] = [self._videos[video_id] for video_id in jobs]
        self._files.now.update({video.id: look(video.path) for video in videos})
        return Lease(videos, jobs)


def _written(plans: Sequence[StreamPlan], stores: Sequence[str]) -> list[StreamPlan]:
    """The plans that fill these stores. Raises InputError if this machine would fill others."""
    names = {plan.name: [path.name for path in plan.paths] for plan in plans}
    planned = sorted(itertools.chain.from_iterable(names.values()))
    if not set(stores) <= set(planned):
        raise InputError(
            f"this machine would fill the stores {' '.join(planned)} instead of "
            f"{' '.join(stores)}; install the same versions of Reelbank and its packages on all "
            "machines"
        )
    return [plan for plan in plans if set(names[plan.name]) <= set(stores)]
