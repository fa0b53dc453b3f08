"""Exclusive locks between processes, also of several machines.

Where the file system has `flock`, the system releases the lock when its process ends in any way.

Other file systems (Lustre mounted without flock, some NFS) answer with one of _NO_FLOCK. There, a
lock is a file that was created exclusively: it is held as long as the file exists. The file names
its process, which writes it again every HEARTBEAT_SECONDS. A file without a heartbeat for
STALE_SECONDS belongs to a dead process and may be removed. Only times of the file server are
compared, because the clocks of machines differ. A process that was suspended may find that it has
lost its lock, so every commit is preceded by a check (`Lock.check`, `check_locks`).
"""

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reelbank.data.errors import InputError

STALE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0  # several may be late before the lock counts as stale
_POLL_SECONDS = 0.2  # between attempts to take a lock that is a file, or to remove it
_REMOVALS = 5
_NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_GONE = {errno.ENOENT, errno.ESTALE}  # ESTALE: removed by another client of an NFS server


class LostLock(InputError):
    """Another process has taken over a lock of this process."""


@dataclass(eq=False)
class Lock:
    """A lock that this process holds. fd: of the lock file. token: distinguishes every lock that was
    ever taken by creating a file; "" under flock. process: that took the lock; a fork of it does not
    hold it."""

    path: Path
    fd: int
    token: str = ""
    process: int = field(default_factory=os.getpid)
    _released: threading.Event = field(default_factory=threading.Event)
    _heart: threading.Thread | None = None

    def is_held(self) -> bool:
        """Whether no other process has taken over the lock. Raises OSError if the lock file cannot
        be read."""
        return not self.token or _token(self.path) == self.token

    def check(self) -> None:
        """Raises LostLock if another process has taken over the lock. To be called before every
        commit."""
        if not self.is_held():
            raise LostLock(
                f"{self.path}: this process has lost its lock{holder(self.path)}, because it did not "
                f"respond for more than {STALE_SECONDS:.0f} s; what it had not written yet is not "
                "written. Run the command again"
            )

    def release(self, *, remove: bool = True) -> None:
        """Release the lock. remove: also remove the lock file of a flock; without flock, the file
        is always removed."""
        try:
            if os.getpid() == self.process:
                self._stop_beating()
                if self.token:
                    self._remove_file()
                elif remove and _is_file_of(self.fd, self.path):
                    self.path.unlink(missing_ok=True)
        finally:
            os.close(self.fd)

    def _remove_file(self) -> None:
        """Remove the lock file. Another process may examine it at this moment, because this one was
        suspended; it is given a second."""
        for _ in range(_REMOVALS):
            _remove(self.path, self.token, only_stale=False)
            if not self.is_held():
                return
            time.sleep(_POLL_SECONDS)

    def begin_beating(self) -> None:
        """Begin the heartbeat of a lock that is a file."""
        _held.add(self)
        self._heart = threading.Thread(target=self._beat, daemon=True, name="reelbank-lock")
        self._heart.start()

    def _stop_beating(self) -> None:
        _held.discard(self)
        self._released.set()
        if self._heart:  # otherwise it could write to another file that is opened as `fd`
            self._heart.join()

    def _beat(self) -> None:
        content = os.pread(self.fd, 1 << 16, 0)
        while not self._released.wait(HEARTBEAT_SECONDS):
            # Written through the open file: if the lock was lost, this is not the new owner's file.
            with contextlib.suppress(OSError):  # `check` finds out what it means
                os.pwrite(self.fd, content, 0)
                os.fsync(self.fd)


_held: set[Lock] = set()  # the locks of this process that are files


def lock(path: Path, *, wait: bool) -> Lock | None:
    """Take an exclusive lock on a file, which is created with its folder if it is missing.

    Returns None if another process has the lock and `wait` is False. Raises OSError if the file
    cannot be created.
    """
    path = path.absolute()
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fd, is_new = _opened(path)
        except FileNotFoundError:  # another process removed the file or the emptied folder
            if path.is_symlink():
                raise InputError(
                    f"{path}: must be a lock file (got a link to a file that does not exist); remove it"
                ) from None
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError as error:
            if error.errno in _NO_FLOCK and is_new:
                return _begun(path, fd)
            os.close(fd)
            if error.errno not in _NO_FLOCK:
                raise
            if not _remove_stale(path):
                if not wait:
                    return None
                time.sleep(_POLL_SECONDS)
            continue
        except BaseException:
            os.close(fd)
            raise
        # The process that had the lock may have removed the file. Then our descriptor is of a
        # file without a name, and its lock keeps nobody out.
        if _is_file_of(fd, path):
            return Lock(path, fd)
        os.close(fd)


def _is_file_of(fd: int, path: Path) -> bool:
    """Whether a descriptor is of the file that has this path."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _opened(path: Path) -> tuple[int, bool]:
    """The descriptor of a lock file, and whether it was created. Raises FileNotFoundError if it
    disappears meanwhile."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, flags), False


def _begun(path: Path, fd: int) -> Lock:
    """The lock of a file that this process has just created."""
    token = uuid.uuid4().hex[:16]
    owner = {"token": token, "host": os.uname().nodename, "process": os.getpid()}
    try:
        os.write(fd, json.dumps(owner).encode())
        os.fsync(fd)
    except OSError:
        path.unlink(missing_ok=True)
        os.close(fd)
        raise
    taken = Lock(path, fd, token)
    taken.begin_beating()
    return taken


def check_locks(folder: Path) -> None:
    """Raises LostLock if this process has lost a lock on a file of this folder."""
    if _held:
        folder = folder.absolute()
        for each in list(_held):
            if each.path.parent == folder:
                each.check()


def release_files() -> None:
    """Remove the lock files of this process, which is about to end without tidying up."""
    for each in list(_held):
        with contextlib.suppress(OSError):
            each.release()


def holder(path: Path) -> str:
    """Who holds a lock, for messages, such as " (host node7, process 123)"; "" if the system does
    not tell."""
    try:
        owner = json.loads(_content(path) or "{}")
        return f" (host {owner['host']}, process {owner['process']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _content(path: Path) -> str | None:
    """The text of a lock file; None if it does not exist."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _token(path: Path) -> str | None:
    """The token in a lock file; "unwritten" if it contains none, None if it does not exist."""
    content = _content(path)
    if content is None:
        return None
    try:
        token = str(json.loads(content)["token"])
    except (ValueError, KeyError, TypeError):
        return "unwritten"
    # It becomes a part of a file's name.
    return token if token.isalnum() and len(token) <= 32 else "unwritten"


def _remove_stale(path: Path) -> bool:
    """Remove a lock file whose process is dead. Returns whether the file is gone."""
    token = _token(path)
    if token is None:
        return True
    state = _state(path)
    return state == "gone" or (state == "stale" and _remove(path, token, only_stale=True))


def _remove(path: Path, token: str, *, only_stale: bool) -> bool:
    """Remove the lock file with this token; returns whether it is gone.

    Of several processes that found the same dead lock, one may remove it: the one that creates the
    file <lock file>.<token>. Otherwise a slower process could remove the lock of a faster one.
    """
    claim = path.with_name(f"{path.name}.{token}")
    try:
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:  # the process that created it may be dead too
        return _remove_stale(claim)
    except FileNotFoundError:  # the folder was removed
        return True
    try:
        found = _token(path)
        state = _state(path) if only_stale else "stale"
        # A file that is gone is not removed: another process may create its lock at any time.
        if found is None or state == "gone":
            return True
        if found != token or state == "beating":
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        claim.unlink(missing_ok=True)


def _state(path: Path) -> Literal["beating", "stale", "gone"]:
    """Whether a lock file has had a heartbeat within STALE_SECONDS by the clock of its file server."""
    try:
        # Opening a file makes an NFS client ask its server for the file's times.
        with path.open("rb") as file:
            beat_ns = os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        if error.errno in _GONE:
            return "gone"
        raise
    return "stale" if _server_ns(path.parent) - beat_ns > STALE_SECONDS * 1e9 else "beating"


def _server_ns(folder: Path) -> int:
    """The time of the file server of a folder, in ns: the modification time of a new file."""
    path = folder / f".clock.{uuid.uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        return path.stat().st_mtime_ns
    finally:
        path.unlink(missing_ok=True)
