"""Messages of a decode process on its socket: a length, JSON, and for Frames and Sound the bytes of
their three arrays. Messages of the process about itself are defined here."""

import json
import socket
import struct
from dataclasses import astuple, dataclass

import numpy as np

from reelbank.data.video.messages import (
    Done,
    Failed,
    Frames,
    Message,
    Restart,
    Sound,
    SoundDone,
    SoundFailed,
    SoundInfo,
    Start,
    VideoInfo,
)

GO_ON = b"!"  # sent to a process that waits for room


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


WireMessage = Message | Ready | Alive | Large | Broken

_CLASSES = {
    kind.__name__: kind
    for kind in (
        *(Start, Restart, Frames, Done, Failed, Sound, SoundDone, SoundFailed),
        *(Ready, Alive, Large, Broken),
    )
}
_INFO_CLASSES = {Done: VideoInfo, SoundDone: SoundInfo}
_VALUE_DTYPES = {Frames: np.uint8, Sound: np.float32}


def send(connection: socket.socket, message: WireMessage) -> None:
    """Send a message. Blocks until the other side reads it."""
    arrays: list[np.ndarray] = []
    if isinstance(message, Frames | Sound):
        values = message.pixels if isinstance(message, Frames) else message.waves
        arrays = [message.numbers, message.seconds, values]
        arrays = [np.ascontiguousarray(array) for array in arrays]
        fields: tuple = (values.shape,)
    elif isinstance(message, Done | SoundDone):
        fields = (vars(message.info),)
    else:
        fields = astuple(message)
    head = json.dumps([type(message).__name__, *fields]).encode()
    connection.sendall(struct.pack("=Q", len(head)) + head)
    for array in arrays:
        connection.sendall(array.data.cast("B"))


def receive(connection: socket.socket) -> WireMessage:
    """Wait for a message. Raises EOFError if the other side has ended."""
    name, *fields = json.loads(read(connection, struct.unpack("=Q", read(connection, 8))[0]))
    kind = _CLASSES[name]
    if kind in _VALUE_DTYPES:
        shape = fields[0]
        fields = [
            np.empty(shape[0], np.int64),
            np.empty(shape[0], np.float64),
            np.empty(shape, _VALUE_DTYPES[kind]),
        ]
        for array in fields:
            _read_into(connection, array.data.cast("B"))
    elif kind in _INFO_CLASSES:
        fields = [_INFO_CLASSES[kind](**fields[0])]
    return kind(*fields)


def send_bytes(connection: socket.socket, data: bytes) -> None:
    """Send bytes with their length, for `read_bytes`."""
    connection.sendall(struct.pack("=Q", len(data)) + data)


def read_bytes(connection: socket.socket) -> bytes:
    """Receive bytes that were sent with `send_bytes`."""
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
