"""Messages between `extract` and its processes for several devices (queue.py, process.py):
JSON on a socket. A process sends `Message`s; the answer to `Wants` is a lease."""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from reelbank.data.video.process.wire import read_bytes, send_bytes
from reelbank.extract.devices.one_device import Decoded, VideoReport

Lease = Mapping[str, Sequence[str]]  # by video id, the names of the jobs that need the video


@dataclass(frozen=True)
class Wants:
    """The process asks for a lease. is_idle: everything that it has extracted is committed; then it
    waits for the answer. If it is not idle, an empty lease tells it to finish its videos first."""

    is_idle: bool


@dataclass(frozen=True)
class Said:
    """A line that the process printed."""

    line: str


@dataclass(frozen=True)
class Broken:
    """The process ends because of this error."""

    reason: str


Message = Wants | Said | Broken | VideoReport | Decoded
_CLASSES = {kind.__name__: kind for kind in (Wants, Said, Broken, VideoReport, Decoded)}


def to_json(message: Message) -> str:
    """A message as text, for `from_json`."""
    return json.dumps([type(message).__name__, *astuple(message)])


def from_json(text: str | bytes) -> Message:
    """A message from `to_json`."""
    name, *fields = json.loads(text)
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in fields]
    message: Message = _CLASSES[name](*values)
    return message


def send(connection: socket.socket, message: Message) -> None:
    """Send a message of a process."""
    send_bytes(connection, to_json(message).encode())


def receive(connection: socket.socket) -> Message:
    """Wait for a message of a process. Raises EOFError if the process has ended."""
    return from_json(read_bytes(connection))


def send_lease(connection: socket.socket, lease: Lease) -> None:
    """Answer `Wants`."""
    send_bytes(connection, json.dumps(lease).encode())


def receive_lease(connection: socket.socket) -> Lease:
    """Wait for the answer to `Wants`. Raises EOFError if there are no more videos."""
    lease: Lease = json.loads(read_bytes(connection))
    return lease
