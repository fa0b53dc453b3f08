"""Detects whether a video's file has changed: by size, modification time, and a digest of its
content.

A file with the same size and time counts as unchanged and is not read. If the time differs (a copy,
`touch`), the digest decides. Stores of format version 1 have no digests, so for them the size
decides.
"""

import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from reelbank.data.files import UnreadableFile, is_read_only, open_regular, read_text, replacing
from reelbank.data.video import images as frames_folder

DIGESTS = ("sampled", "whole")  # of a file's beginning, middle and end, or of every byte
_PIECE_BYTES = 1 << 16
_CACHE_NAME = "digests.json"


@dataclass(frozen=True)
class SourceFile:
    """The state of a video's file, or folder of images, at one moment.

    bytes: its size, -1 if it does not exist; modified: a text that changes with the modification
    time, "" if unknown; digest: "<kind>:<32 hex digits>", kind one of DIGESTS, "" if unknown.
    """

    bytes: int
    modified: str = ""
    digest: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "SourceFile":
        """From a store's entry of a source or a failure. Values that are missing or have a wrong
        type are unknown."""
        texts = [
            text if isinstance(text := facts.get(key), str) else ""
            for key in ("modified", "digest")
        ]
        return cls(int(facts.get("bytes", -1)), *texts)

    @property
    def kind(self) -> str:
        return self.digest.partition(":")[0]

    def facts(self) -> dict[str, Any]:
        """The form in which a store keeps it; unknown texts are left out."""
        texts = {"modified": self.modified, "digest": self.digest}
        return {"bytes": self.bytes, **{key: text for key, text in texts.items() if text}}

    def may_be(self, other: "SourceFile") -> bool:
        """Whether the two can be the same file: no value that both know differs."""
        if self.bytes != other.bytes:
            return False
        if not self.digest or not other.digest:
            return True
        if self.kind != other.kind:  # digests of different kinds cannot be compared
            return self.modified == other.modified
        return self.digest == other.digest


def look(path: Path) -> SourceFile:
    """The present state of a file or folder of images, without its digest; no content is read."""
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return SourceFile(status.st_size, str(status.st_mtime_ns))
        images = frames_folder.statuses(path)
    except OSError:
        return SourceFile(-1)
    times = "".join(f"{name}\0{status.st_mtime_ns}\0" for name, status in images)
    return SourceFile(
        sum(status.st_size for _, status in images), xxhash.xxh3_64_hexdigest(os.fsencode(times))
    )


def fingerprint(
    path: Path, kind: str, is_stopped: Callable[[], bool] = lambda: False
) -> SourceFile:
    """The present state of a file with its digest; without a digest if the file cannot be read, or
    if `is_stopped` becomes true meanwhile."""
    # Before the content is read: a later change then has another time than the one that is kept.
    source = look(path)
    return replace(source, digest=_digest(path, kind, is_stopped))


def _digest(path: Path, kind: str, is_stopped: Callable[[], bool] = lambda: False) -> str:
    digest = xxhash.xxh3_128()
    try:
        if path.is_dir():
            images = frames_folder.statuses(path)
            names = [name for name, _ in images]
            digest.update(
                os.fsencode("".join(f"{name}\0{status.st_size}\0" for name, status in images))
            )
            if kind == "sampled" and names:
                names = [names[0], names[len(names) // 2], names[-1]]
            files = [path / name for name in names]
        else:
            files = [path]
        for name in files:
            with open_regular(name) as file:  # reading a pipe or a device might never end
                for piece in _pieces(file, kind):
                    if is_stopped():
                        return ""
                    digest.update(piece)
    except (OSError, UnreadableFile):
        return ""
    return f"{kind}:{digest.hexdigest()}"


def _pieces(file: io.FileIO, kind: str) -> Iterator[bytes]:
    """The file's size, then its beginning, middle and end, or all of it."""
    size = os.fstat(file.fileno()).st_size
    yield size.to_bytes(8, "little")
    if kind == "sampled" and size > 3 * _PIECE_BYTES:
        for start in (0, (size - _PIECE_BYTES) // 2, size - _PIECE_BYTES):
            yield os.pread(file.fileno(), _PIECE_BYTES, start)
        return
    while piece := file.read(1 << 20):
        yield piece


class Digests:
    """Compares files with their earlier states. A computed digest is cached in the bank with the
    file's size and time, so that a copied data set is read once and not in every run. The cache may
    be deleted at any time."""

    def __init__(self, bank: str | Path) -> None:
        self._path = Path(bank) / _CACHE_NAME
        # By the file's absolute path; read when first needed.
        self._cached: dict[str, SourceFile] | None = None
        self._is_new = False

    def is_same(self, path: Path, now: SourceFile, then: SourceFile) -> bool:
        """Whether a file whose present state is `now` has the same content as `then`."""
        if now.bytes != then.bytes:
            return False
        if not then.digest or now.modified == then.modified:
            return True
        return self._digest(path, now, then.kind) == then.digest

    def _digest(self, path: Path, now: SourceFile, kind: str) -> str:
        if now.kind == kind:
            return now.digest
        if self._cached is None:
            self._cached = self._read()
        key = str(path.absolute())
        cached = self._cached.get(key)
        is_current = (
            cached is not None
            and cached.kind == kind
            and (cached.bytes, cached.modified) == (now.bytes, now.modified)
        )
        if cached is None or not is_current:
            digest = _digest(path, kind) if kind in DIGESTS else ""
            cached = self._cached[key] = replace(now, digest=digest)
            self._is_new = True
        return cached.digest

    def _read(self) -> dict[str, SourceFile]:
        try:
            stored = json.loads(read_text(self._path))
            return {key: SourceFile.of(facts) for key, facts in stored.items()}
        except (
            OSError,
            UnreadableFile,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            OverflowError,
        ):
            return {}

    def save(self) -> None:
        """Write the cache if it has new entries, unless the bank is read-only. Raises OSError."""
        if self._is_new and self._cached is not None and not is_read_only(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_dir():  # a user's folder that happens to have this name
                return
            with replacing(self._path) as temporary:
                temporary.write_text(
                    json.dumps({key: source.facts() for key, source in self._cached.items()})
                )
            self._is_new = False
