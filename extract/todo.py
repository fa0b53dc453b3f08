"""Find the videos that a store still needs, by comparing their current files with the stored
ones."""

import contextlib
import queue
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import print_lines
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.store.parts import begun, parts_folder
from reelbank.data.store.reader import Store
from reelbank.data.store.records import REFUSED, Failure
from reelbank.data.store.stored import StoredFeatures
from reelbank.data.video.sources import Digests, SourceFile, fingerprint, look
from reelbank.extract.options import ExtractOptions

_READ_AHEAD = 4  # videos whose digests are read before their turn


@dataclass(frozen=True)
class StoredVideos:
    """The videos of a store: id -> file of those with features, id -> failure of those without."""

    sources: Mapping[str, SourceFile]
    failed: Mapping[str, Failure]

    @classmethod
    def of(cls, store: StoredFeatures) -> "StoredVideos":
        return cls(store.sources, store.failed)

    @classmethod
    def at(cls, path: Path) -> "StoredVideos":
        """The videos of the store at `path`; none if it does not exist yet. Raises InputError."""
        if not store_exists(path) or begun(path):
            return cls({}, {})
        with Store.open(path) as store:
            sources = map(SourceFile.of, store.sources)
            return cls(dict(zip(store.video_ids, sources, strict=True)), store.failures)


def store_exists(path: Path) -> bool:
    """Whether there is a store at `path`, or its parts."""
    return path.exists() or parts_folder(path).exists()


@dataclass(frozen=True)
class Retry:
    """Which failures are tried again: all, or only videos that were refused as damaged."""

    all: bool
    refused: bool

    @classmethod
    def of(cls, options: ExtractOptions) -> "Retry":
        return cls(all=options.retry, refused=options.damaged == "keep")

    def includes(self, failure: Failure) -> bool:
        is_refused = self.refused and failure.kind == REFUSED
        return not failure.is_absence and (self.all or is_refused)


@dataclass(frozen=True)
class SourceFiles:
    """The current files of the videos, by id. Digests are added when a video is about to be
    extracted."""

    now: dict[str, SourceFile]
    digests: Digests

    @classmethod
    def of(cls, videos: Iterable[Video], bank: str) -> "SourceFiles":
        return cls({video.id: look(video.path) for video in videos}, Digests(bank))

    def are_in(self, writer: StoredFeatures, video: Video) -> bool:
        """Whether a store has the features of a video's current file."""
        then = writer.sources.get(video.id)
        return then is not None and self.digests.is_same(video.path, self.now[video.id], then)

    def missing_in(
        self, videos: Iterable[Video], stores: Collection[StoredVideos], retry: Retry
    ) -> list[Video]:
        """The videos that at least one of these stores needs."""
        return [
            video
            for video in videos
            if any(self._is_missing(video, store, retry) for store in stores)
        ]

    def _is_missing(self, video: Video, store: StoredVideos, retry: Retry) -> bool:
        """Whether a video has to be extracted: its file is new or has changed, the machine could
        not read it, or it failed and is tried again."""
        now, failure = self.now[video.id], store.failed.get(video.id)
        if failure is not None:
            tried_again = failure.by_machine or retry.includes(failure)
            if not tried_again and self.digests.is_same(video.path, now, failure.source):
                return False
        then = store.sources.get(video.id)
        return then is None or not self.digests.is_same(video.path, now, then)


def shard_slice(shard: str) -> slice:
    """'2/4' -> every fourth from the second on; '' -> all."""
    if not shard:
        return slice(None)
    number, _, count = shard.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise InputError(f"SHARD={shard}: must be i/n with 1 <= i <= n, for example 1/4")
    return slice(int(number) - 1, None, int(count))


def with_digests(
    videos: Sequence[Video], files: SourceFiles, kind: str, timeout_seconds: float
) -> Iterator[Video]:
    """The videos, each once its file's digest is in `files`.

    A thread reads ahead, so that the loop does not wait for it. A file that changes after that has
    a new modification time, so the next run extracts it again. If the disk does not answer for
    `timeout_seconds`, the remaining videos have no digests, and the decoders report the error.
    """
    ready: queue.Queue[SourceFile] = queue.Queue(_READ_AHEAD)
    stopped = threading.Event()
    last_sign = [time.monotonic()]

    def is_stopped() -> bool:
        last_sign[0] = time.monotonic()
        return stopped.is_set()

    def read() -> None:
        for video in videos:
            file = fingerprint(video.path, kind, is_stopped)
            while not is_stopped():
                with contextlib.suppress(queue.Full):
                    ready.put(file, timeout=0.5)
                    break
            if stopped.is_set():
                return

    # A daemon thread, because it may hang on a disk that does not answer.
    threading.Thread(target=read, name="reelbank-digest", daemon=True).start()
    is_answering = True
    try:
        for video in videos:
            while is_answering:
                with contextlib.suppress(queue.Empty):
                    files.now[video.id] = ready.get(timeout=0.5)
                    break
                is_answering = time.monotonic() - last_sign[0] < timeout_seconds
                if not is_answering:
                    print_lines(
                        f"note: reading {video.path} takes too long, so this and the following "
                        "videos are stored without a digest"
                    )
            yield video
    finally:
        stopped.set()
