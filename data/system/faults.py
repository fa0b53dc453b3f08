"""Detects faults of the machine (a missing file, a failing disk, full memory). They do not depend
on the video, so the video is tried again in the next run."""

import errno
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MACHINE = "machine"  # the "kind" of such a failure in a store

# Errors that are caused by the name or by the file itself. Every other error while reading counts
# as a fault of the machine.
_OF_THE_FILE = {
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.EINVAL,
    errno.EFBIG,
    errno.EOVERFLOW,
}
# Signals that the kernel (when memory is full), users and schedulers send. A decoder that crashes
# gets other ones: SIGSEGV, SIGABRT, SIGBUS, ...
_SENT = {
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGXCPU,
    signal.SIGPWR,
}
# For stores that were made before failures had a kind: how the reasons of such faults begin.
_OLD_REASONS = re.compile(
    r"cannot be read: |decoder process died \(SIG(KILL|TERM|HUP|INT|QUIT|XCPU|PWR)\b|MemoryError\b"
)
_PIECE_BYTES = 1 << 20


def is_machine_fault(failure: Mapping[str, Any]) -> bool:
    """Whether the cause of a failure in a store ({"reason", "bytes"} and possibly "kind") is the
    machine, not the video."""
    if "kind" in failure:
        return bool(failure["kind"] == MACHINE)
    return bool(_OLD_REASONS.match(failure["reason"]))


def is_machine_error(error: BaseException) -> bool:
    """Whether the cause of an exception while reading a file is the machine. FFmpeg's errors do not
    tell: it also raises EIO, ENOMEM and EPERM for damaged files. `unreadable` reads the file
    instead."""
    if type(error).__module__.startswith("av."):
        return False
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _OF_THE_FILE
    return isinstance(error, MemoryError)


def is_sent(signal_number: int) -> bool:
    """Whether this signal was sent by the kernel or another process, not caused by a crash."""
    return signal_number in _SENT


def unreadable(path: Path, alive: Callable[[], None] = lambda: None) -> str:
    """Why the machine cannot read a file, or a file in a folder, to its end; "" if it can. `alive`
    is called after every MiB."""
    try:
        for name in sorted(path.iterdir()) if path.is_dir() else [path]:
            if name.exists() and not name.is_file():  # a device such as /dev/zero has no end
                continue
            with name.open("rb", buffering=0) as file:
                while file.read(_PIECE_BYTES):
                    alive()
    except OSError as error:
        if is_machine_error(error):
            return f"cannot be read: {error.strerror or error}"
    return ""
