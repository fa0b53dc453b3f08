"""AV1: which packets are pictures that decoding can begin with. A displayed key frame replaces all
references and all state of the decoder (AV1 bitstream specification, 7.20 and 7.21)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from reelbank.data.video.access.bits import Bits, UnprovenError
from reelbank.data.video.access.looks import PLAIN, START

_SEQUENCE, _DELIMITER, _FRAME_HEADER, _TILE_GROUP, _METADATA, _FRAME = 1, 2, 3, 4, 5, 6
_REPEATED_HEADER, _PADDING = 7, 15
_IGNORED = (_DELIMITER, _TILE_GROUP, _METADATA, _REPEATED_HEADER, _PADDING)


class Av1:
    """Looks at the packets of a track, one by one. Raises UnprovenError."""

    def __init__(self, extradata: bytes) -> None:
        # Encoders may write another sequence header into the file's header than into the pictures.
        del extradata
        self._sequence = b""  # the one of all packets

    def look(self, packet: bytes) -> int:
        """What a packet is: START or PLAIN. It holds one frame that is displayed, and any number
        of others."""
        displayed = headers = 0
        is_start = has_sequence = False
        for unit in _units(packet):
            if unit.kind == _SEQUENCE:
                self._sequence = self._sequence or unit.content
                is_still = Bits(unit.content).read(4) % 2  # with headers of another form
                if unit.content != self._sequence or is_still:
                    raise UnprovenError
                has_sequence = True
            elif unit.kind in (_FRAME_HEADER, _FRAME):
                bits = Bits(unit.content[:1])
                if bits.read(1):  # an earlier frame is displayed
                    displayed += 1
                else:
                    is_key = bits.read(2) == 0
                    is_displayed = bits.read(1)
                    displayed += is_displayed
                    is_first = has_sequence and not headers
                    is_start = is_start or bool(is_first and is_key and is_displayed)
                headers += 1
            elif unit.kind not in _IGNORED:
                raise UnprovenError
        if displayed != 1:
            raise UnprovenError
        return START if is_start else PLAIN

    def is_complete(self, looks: np.ndarray) -> bool:
        """As for H.264: every packet from a start on is decoded, so the same happens as in order."""
        return bool(len(looks))


class _Unit(NamedTuple):
    kind: int
    content: bytes


def _units(data: bytes) -> Iterator[_Unit]:
    """The open bitstream units of a packet (5.3)."""
    at = 0
    while at < len(data):
        header = data[at]
        has_extension, has_size = header & 4, header & 2
        if header & 0x81 or has_extension or not has_size:  # several layers
            raise UnprovenError
        size = shift = 0
        while True:
            at += 1
            if at >= len(data) or shift > 28:
                raise UnprovenError
            size |= (data[at] & 0x7F) << shift
            shift += 7
            if data[at] < 0x80:
                break
        at += 1
        if at + size > len(data):
            raise UnprovenError
        yield _Unit(header >> 3, data[at : at + size])
        at += size
