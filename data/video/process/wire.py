"""Messages between a decode process and its parent, on their socket.

To the parent: a length, JSON, and the bytes of the arrays of a message, except for the pixels of
Frames and the values of Computed, which lie in shared memory (see `ring`); if they have memory of
their own, a byte follows that brings its file descriptor. Messages of the process about itself are
defined here. To the process: one letter for the kind of order, and what belongs to it.
"""

import errno
import json
import math
import socket
import struct
from dataclasses import astuple, dataclass

import numpy as np

from reelbank.data.video.messages import (
    Computed,
    Done,
    Failed,
    Frames,
    Message,
    NotComputed,
    Restart,
    Sound,
    SoundDone,
    SoundFailed,
    SoundInfo,
    SoundRestart,
    Start,
    Times,
    VideoInfo,
)
from reelbank.data.video.process.ring import Ring, RingWriter
from reelbank.data.video.timeline import FrameCount

_TASK, _GO_ON, _FREE, _FILE = b"T", b"!", b"F", b"f"


@dataclass(frozen=True)
class Ready:
    """The process has decoded the sample and accepts tasks."""


@dataclass(frozen=True)
class Alive:
    """The process is working on its task."""


@dataclass(frozen=True)
class Large:
    """The process waits until there is room for a picture of this many pixels."""

    pixels: int


@dataclass(frozen=True)
class Broken:
    """Decoding itself does not work in this process, whatever the video."""

    reason: str


@dataclass(frozen=True)
class Full:
    """The process waits for a free buffer."""


@dataclass(frozen=True)
class GoOn:
    """An order: there is room for the picture for which the process waits."""


@dataclass(frozen=True)
class Free:
    """An order: this buffer may be written."""

    slot: int


WireMessage = Message | Ready | Alive | Large | Broken | Full

_CLASSES = {
    kind.__name__: kind
    for kind in (
        *(Start, Restart, Frames, Done, Failed, Sound, SoundRestart, SoundDone, SoundFailed),
        *(Times, Computed, NotComputed),
        *(Ready, Alive, Large, Broken, Full),
    )
}
_INFO_CLASSES = {Done: VideoInfo, SoundDone: SoundInfo}


def send(connection: socket.socket, message: WireMessage, memory: RingWriter | None = None) -> None:
    """Send a message. Blocks until the other side reads it. memory: where the pixels of Frames and
    the values of Computed lie."""
    # One call for all of it, so that the other side does not wake up for a part.
    connection.sendall(b"".join(_packed(message, memory)))
    if isinstance(message, Frames | Computed):
        assert memory is not None
        if memory.own is not None:
            socket.send_fds(connection, [_FILE], [memory.own])
        memory.sent()


def _packed(message: WireMessage, memory: RingWriter | None) -> list[bytes]:
    """The bytes of a message."""
    arrays: list[np.ndarray] = []
    if isinstance(message, Start):
        fields: tuple = (message.frames, message.frames.end_seconds)
        arrays = [message.frames.seconds]
    elif isinstance(message, Frames):
        assert memory is not None
        fields = (message.pixels.shape, memory.slot, memory.own is not None)
        arrays = [message.numbers, message.seconds]
    elif isinstance(message, Computed):
        assert memory is not None
        values = message.values
        place = (memory.slot, memory.own is not None)
        fields = (message.function, values.shape, values.dtype.str, *place)
        arrays = [message.numbers]
    elif isinstance(message, Times):
        fields = (len(message.numbers),)
        arrays = [message.numbers, message.seconds]
    elif isinstance(message, Sound):
        fields = (message.waves.shape,)
        arrays = [message.numbers, message.seconds, message.waves]
    elif isinstance(message, Done | SoundDone):
        fields = (vars(message.info),)
    else:
        fields = astuple(message)
    head = json.dumps([type(message).__name__, *fields]).encode()
    return [_with_length(head), *(array.tobytes() for array in arrays)]


def receive(connection: socket.socket, ring: Ring) -> WireMessage:
    """Wait for a message. ring: of the process. Raises EOFError if the other side has ended."""
    name, *fields = json.loads(read_bytes(connection))
    kind = _CLASSES[name]
    if kind is Start:
        seconds = np.empty(fields[0], np.float64)
        _read_into(connection, seconds.data.cast("B"))
        return Start(FrameCount(seconds, fields[1]))
    if kind is Frames:
        shape, slot, is_own = fields
        numbers, seconds = _read_numbers(connection, shape[0])
        own = _read_file(connection) if is_own else None
        return Frames(numbers, seconds, *ring.lend(slot, tuple(shape), own))
    if kind is Computed:
        function, shape, type_name, slot, is_own = fields
        numbers = np.empty(shape[0], np.int64)
        _read_into(connection, numbers.data.cast("B"))
        own = _read_file(connection) if is_own else None
        dtype = np.dtype(type_name)
        lent, loan = ring.lend(slot, (math.prod(shape) * dtype.itemsize,), own)
        return Computed(function, numbers, lent.view(dtype).reshape(shape), loan)
    if kind is Times:
        return Times(*_read_numbers(connection, fields[0]))
    if kind is Sound:
        (shape,) = fields
        numbers, seconds = _read_numbers(connection, shape[0])
        waves = np.empty(shape, np.float32)
        _read_into(connection, waves.data.cast("B"))
        return Sound(numbers, seconds, waves)
    if kind in _INFO_CLASSES:
        fields = [_INFO_CLASSES[kind](**fields[0])]
    return kind(*fields)


def _read_numbers(connection: socket.socket, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n,) int64 and seconds (n,) float64."""
    both = np.empty((2, count), np.int64)
    _read_into(connection, both.data.cast("B"))
    return both[0], both[1].view(np.float64)


def _read_file(connection: socket.socket) -> int:
    """A file descriptor."""
    data, files, _, _ = socket.recv_fds(connection, len(_FILE), 1)
    if not data:
        raise EOFError
    if not files:  # this process may not open another one
        raise OSError(errno.EMFILE, "too many open files")
    return files[0]


def send_task(connection: socket.socket, data: bytes) -> None:
    """Send an order to decode a video."""
    connection.sendall(_TASK + _with_length(data))


def send_go_on(connection: socket.socket) -> None:
    """Send the order GoOn."""
    connection.sendall(_GO_ON)


def send_free(connection: socket.socket, slot: int) -> None:
    """Send the order Free."""
    connection.sendall(_FREE + bytes([slot]))


def read_order(connection: socket.socket) -> bytes | GoOn | Free:
    """Receive an order, or the bytes of a task. Raises EOFError if the other side has ended."""
    kind = read(connection, 1)
    if kind == _GO_ON:
        return GoOn()
    if kind == _FREE:
        return Free(read(connection, 1)[0])
    return read_bytes(connection)


def send_bytes(connection: socket.socket, data: bytes) -> None:
    """Send bytes with their length, for `read_bytes`."""
    connection.sendall(_with_length(data))


def _with_length(data: bytes) -> bytes:
    return struct.pack("=Q", len(data)) + data


def read_bytes(connection: socket.socket) -> bytes:
    """Receive bytes that were sent with `send_bytes`. Raises EOFError if the other side has
    ended."""
    return read(connection, struct.unpack("=Q", read(connection, 8))[0])


def read(connection: socket.socket, length: int) -> bytes:
    """Read `length` bytes. Raises EOFError if the other side has ended."""
    data = bytearray(length)
    _read_into(connection, memoryview(data))
    return bytes(data)


def _read_into(connection: socket.socket, view: memoryview) -> None:
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
