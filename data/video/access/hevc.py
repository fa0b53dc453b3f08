"""HEVC (ISO/IEC 23008-2): which packets are pictures that decoding can begin with.

Decoding can begin with an IDR picture or a CRA picture. A CRA picture begins an open group of
pictures: its leading pictures may need pictures before it, so they are decoded from an earlier
start.
"""

import numpy as np

from reelbank.data.video.access.bits import (
    Bits,
    PacketFile,
    UnprovenError,
    big_endian,
    check_messages,
    header_units,
    units,
    without_escapes,
)
from reelbank.data.video.access.looks import DISPOSABLE, LEADING, PLAIN, START

_TRAILING, _LEADING = range(6), range(6, 10)
_IDR_OR_CRA = range(19, 22)
_VIDEO, _SEQUENCE, _PICTURE = 32, 33, 34
_DELIMITER, _FILLER, _MESSAGES, _MESSAGES_AFTER = 35, 38, 39, 40
_LENGTH_BYTES = 4  # the usual size of the length before each unit
_SETS = (_VIDEO, _SEQUENCE, _PICTURE)
# As for H.264; also active parameter sets, decoded picture hash.
_HARMLESS_MESSAGES = frozenset({0, 1, 4, 5, 6, 45, 129, 132, 137, 144})


class Hevc:
    """Looks at the packets of a track, one by one. extradata: the parameter sets in the header.
    Raises UnprovenError."""

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes, header = header_units(extradata, 21, _listed_units)
        sets = [unit.rstrip(b"\0") for unit in header if unit and unit[0] >> 1 in _SETS]
        self._sets = frozenset(sets)
        _check_sets(self._sets)
        for unit in header:
            if unit and unit[0] >> 1 in (_MESSAGES, _MESSAGES_AFTER):
                check_messages(unit, 2, _HARMLESS_MESSAGES)
        self._has_started = False

    def look(self, packet: bytes) -> int:
        """What a packet is: START, DISPOSABLE or PLAIN, possibly LEADING."""
        headers: set[tuple[int, int]] = set()
        for begin, end in units(packet, self._length_bytes):
            if end - begin < 3:
                raise UnprovenError
            header, layers, first = packet[begin : begin + 3]
            kind = header >> 1
            if header & 0x81 or layers >> 3:  # another layer (3D, scalable)
                raise UnprovenError
            if kind < _VIDEO:
                # The bit is set in the first slice of a picture, and only there.
                if bool(first & 0x80) == bool(headers):
                    raise UnprovenError
                headers.add((kind, layers))
                # The second bit drops the pictures before it that are not displayed yet.
                if kind in _IDR_OR_CRA and first & 0x40 and self._has_started:
                    raise UnprovenError
            elif kind in _SETS:
                if packet[begin:end].rstrip(b"\0") not in self._sets:
                    raise UnprovenError
            elif kind in (_MESSAGES, _MESSAGES_AFTER):
                check_messages(packet[begin:end], 2, _HARMLESS_MESSAGES)
            elif kind not in (_DELIMITER, _FILLER):
                raise UnprovenError
        self._has_started = True
        if len(headers) != 1:
            raise UnprovenError
        ((kind, layers),) = headers
        if kind in _IDR_OR_CRA:
            return START
        if kind not in _TRAILING and kind not in _LEADING:
            raise UnprovenError
        # Pictures of even types are not needed by others of the same temporal layer, but they may
        # be by those of higher layers. 1: the lowest layer.
        is_needed = kind % 2 or layers % 8 != 1
        look = PLAIN if is_needed else DISPOSABLE
        return look | LEADING if kind in _LEADING else look

    def look_all(self, file: PacketFile) -> np.ndarray:
        """What all packets of a track are, (packets,) int64, as from `look`."""
        if self._length_bytes != _LENGTH_BYTES:
            raise UnprovenError
        heads = file.beginnings(_LENGTH_BYTES + 3)  # (packets, 7)
        header, layers, first = heads[:, 4], heads[:, 5], heads[:, 6]
        kinds = header >> 1
        # The usual packet is a single slice of a picture that decoding cannot begin with.
        is_usual = (
            (big_endian(heads[:, :4]) == file.sizes - _LENGTH_BYTES)
            & (kinds < _LEADING.stop)
            & (header & 0x81 == 0)
            & (layers >> 3 == 0)
            & (first & 0x80 > 0)
        )
        looks = np.where((kinds % 2 == 1) | (layers % 8 != 1), PLAIN, DISPOSABLE)
        looks |= np.where(kinds >= _LEADING.start, LEADING, 0)
        for number in np.flatnonzero(~is_usual).tolist():
            looks[number] = self.look(file.packet(number))
        return looks

    def is_complete(self, looks: np.ndarray) -> bool:
        """As for H.264: the decoder reports a missing picture, so the same happens as in order."""
        return bool(len(looks))


def _listed_units(record: bytes) -> list[bytes]:
    """The units of an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3)."""
    found = []
    arrays, at = record[22] if len(record) > 22 else 0, 23
    for _ in range(arrays):
        count, at = int.from_bytes(record[at + 1 : at + 3]), at + 3
        for _ in range(count):
            begin = at + 2
            at = begin + int.from_bytes(record[at:begin])
            found.append(record[begin:at])
    if at > len(record):
        raise UnprovenError
    return found


def _check_sets(sets: frozenset[bytes]) -> None:
    """Check that there is one set of each kind, and that every picture is displayed."""
    if sorted(unit[0] >> 1 for unit in sets) != list(_SETS):
        raise UnprovenError
    for unit in sets:
        if unit[0] >> 1 == _PICTURE:
            bits = Bits(without_escapes(unit)[2:])
            bits.read_exp_golomb()  # numbers of this set and of its sequence
            bits.read_exp_golomb()
            bits.read(1)
            if bits.read(1):  # output_flag_present_flag
                raise UnprovenError
