"""Opens the files of a bank, and writes files atomically: a file is either complete or does not
exist.

Users copy files into a bank. A name that looks like that of a store may belong to a folder, a
broken link, or a pipe on which a reader would wait forever, so only regular files are opened.
Temporary files and folders of a killed process are removed when the same folder is next written to.
"""

import errno
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.system.locks import check_locks

# A temporary name contains the machine, the process and the start time of the process.
_OWNED = re.compile(r"[.].*[.]([0-9a-f]{8})-(\d+)-(\d+)[.]tmp", re.DOTALL)
_OLD = re.compile(r"[.]\d+[.]tmp")  # names of earlier versions contain only the process
# It is unknown whether a process of another machine is alive, but writing a file never takes this
# long.
_FOREIGN_SECONDS = 24 * 3600.0
# Errors of file systems (network, FUSE) that cannot sync a folder. Any other error is a disk error.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
# What helps against an error of writing; for others, the disk may fail.
_REMEDIES = {
    errno.ENOSPC: "free disk space, or choose another folder",
    errno.EDQUOT: "free disk space, or choose another folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOENT: "choose another folder, in which files can be created",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "give the name of a file, because this is a folder",
    errno.ENOTDIR: "choose another folder, because a part of the path is a file",
}
_swept: set[Path] = set()  # folders that this process has cleaned; it lists a folder only once


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name to write to. The file replaces `path` when the block ends without an error.
    durable: sync the file to disk first. Raises LostLock if this process had a lock on a file of
    the folder, and another process has taken it over. The file gets the permissions that the umask
    gives, even if the library that writes it sets others (safetensors: 0600)."""
    _sweep(path.parent, path.name)
    temporary = path.with_name(f".{path.name}{_mark()}")
    temporary.touch()
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        check_locks(path.parent)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A `new_folder` that is removed when the block ends."""
    folder = new_folder(prefix, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_folder(prefix: str, parent: Path | None = None) -> Path:
    """A new hidden folder in `parent` (default: the system's folder of temporary files). The caller
    must remove it."""
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent, "")
    return Path(tempfile.mkdtemp(prefix=f".{prefix}.", suffix=_mark(), dir=parent))


def write_remedy(error: OSError) -> str:
    """What a user can do about an error of writing to a folder that was chosen for the output."""
    return _REMEDIES.get(error.errno or 0, "check the disk, or choose another folder")


def disk_remedy(error: OSError) -> str:
    """What a user can do about an error of writing a file whose folder was not chosen for it."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "free disk space" if is_full else "check its folder and the disk"


def is_read_only(path: Path) -> bool:
    """Whether a file or folder cannot be written to, or if it does not exist, cannot be made in its
    nearest parent: the folder of a colleague, or a read-only file system."""
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return not os.access(path, os.W_OK)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut, if the file system can."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def _sweep(folder: Path, name: str) -> None:
    """Remove temporary files of dead processes from a folder. Temporary files of earlier versions
    are removed only if they belong to the file `name`."""
    place = folder.absolute() / name
    if place in _swept:
        return
    _swept.add(place)
    # The folder may not exist, or another process may change it.
    with suppress(OSError):
        for entry in os.scandir(folder):
            if not _is_left(entry, name):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _is_left(entry: os.DirEntry[str], name: str) -> bool:
    """Whether this is a temporary file or folder of a dead process."""
    owner = _OWNED.fullmatch(entry.name)
    if owner and owner[1] == _machine():
        return _start_of(owner[2]) != owner[3]
    is_old = entry.name.startswith(f".{name}.") and _OLD.fullmatch(
        entry.name.removeprefix(f".{name}")
    )
    return (
        bool(owner or is_old)
        and time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_SECONDS
    )


def _mark() -> str:
    return f".{_machine()}-{os.getpid()}-{_start_of('self')}.tmp"


def _machine() -> str:
    """An identity of this machine since its last boot, and of the container, because each container
    numbers its processes separately."""
    facts = [os.uname().nodename]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _start_of(process: str) -> str:
    """The start time of a process in ticks of the kernel; "" if it does not exist. It distinguishes
    processes that had the same number."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableFile(InputError):
    """A path cannot be read as a file: it is of another kind, or the system denies access."""


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file, or a link to one, for reading, unbuffered. Raises UnreadableFile for
    anything else and if the system denies access, FileNotFoundError if the path does not exist."""
    try:
        _check_kind(path, path.stat().st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise UnreadableFile(
                f"{path} is a link to a file that does not exist; remove the link"
            ) from None
        raise
    except OSError as error:
        raise UnreadableFile(
            f"{path}: cannot be read ({error.strerror}); make it readable, or move it away"
        ) from None
    file = io.FileIO(fd, "rb")
    try:
        _check_kind(path, os.fstat(fd).st_mode)  # it may have been replaced since
    except UnreadableFile:
        file.close()
        raise
    return file


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file. Raises as `open_regular`, OSError, UnicodeDecodeError."""
    with open_regular(path) as file:
        return file.readall().decode("utf-8")


def check_regular(path: Path) -> None:
    """Raises as `open_regular` does. For libraries that open the file themselves."""
    open_regular(path).close()


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a special file")
        raise UnreadableFile(f"{path} must be a file (got {kind}); move it away")
