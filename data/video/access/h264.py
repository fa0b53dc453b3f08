"""H.264 (ISO/IEC 14496-10): which packets are pictures that decoding can begin with.

Decoding can begin with an IDR picture: no picture after it refers to one before it. A key frame of
an open group of pictures is not an IDR picture (it has a recovery point instead), and FFmpeg keeps
pictures before it as references, so it does not count.
"""

import re
import struct

from reelbank.data.video.access.bits import (
    Bits,
    UnprovenError,
    check_messages,
    units,
    without_escapes,
)
from reelbank.data.video.access.looks import DISPOSABLE, PLAIN, START

_SLICE, _IDR_SLICE, _MESSAGES, _SEQUENCE, _PICTURE, _DELIMITER, _FILLER = 1, 5, 6, 7, 8, 9, 12
# Buffering period, picture timing, captions, user data, recovery point, frame packing, colours of
# the display. Others, such as a rotation or film grain, change pictures until they are cancelled.
_HARMLESS_MESSAGES = frozenset({0, 1, 4, 5, 6, 45, 137, 144})
_HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_CHROMA_444 = 3
# FFmpeg decodes files of these versions of x264 in a way of its own. The version stands in the first
# packet, which is not always decoded here.
_ENCODER = re.compile(rb"x264 - core (\d+)")
_OLDEST_X264 = 33


class H264:
    """Looks at the packets of a track, one by one. extradata: the parameter sets in the header.
    Raises UnprovenError."""

    def __init__(self, extradata: bytes) -> None:
        if extradata[:1] == b"\1":
            self._length_bytes = extradata[4] % 4 + 1 if len(extradata) > 6 else 0
            sets = _listed_sets(extradata)
        else:
            self._length_bytes = 0
            sets = [extradata[begin:end] for begin, end in units(extradata, 0)]
        # The decoder knows these sets, wherever it begins.
        self._sets = frozenset(unit.rstrip(b"\0") for unit in sets)
        _check_sets(self._sets)

    def look(self, packet: bytes) -> int:
        """What a packet is: START, DISPOSABLE or PLAIN."""
        if self._length_bytes == 4 and len(packet) > 6:
            # The usual packet is a single slice that is not an IDR slice.
            length, header, first = struct.unpack_from(">IBB", packet)
            if length == len(packet) - 4 and header & 0x9F == _SLICE and first & 0x80:
                return PLAIN if header & 0x60 else DISPOSABLE
        headers = set()
        for begin, end in units(packet, self._length_bytes):
            header = packet[begin]
            kind = header & 0x1F
            if kind in (_SLICE, _IDR_SLICE) and end - begin > 1:
                # The number of the slice's first macroblock is 0, coded as a single set bit, in
                # the first slice of a picture, and only there.
                if bool(packet[begin + 1] & 0x80) == bool(headers):
                    raise UnprovenError
                headers.add(header)
            elif kind in (_SEQUENCE, _PICTURE):
                if packet[begin:end].rstrip(b"\0") not in self._sets:
                    raise UnprovenError
            elif kind == _MESSAGES:
                _check_encoder(packet[begin:end])
                check_messages(packet[begin:end], 1, _HARMLESS_MESSAGES)
            elif kind not in (_DELIMITER, _FILLER):
                raise UnprovenError
        if len(headers) != 1:
            raise UnprovenError
        (header,) = headers
        if header & 0x1F == _IDR_SLICE:
            return START
        return PLAIN if header & 0x60 else DISPOSABLE


def _listed_sets(record: bytes) -> list[bytes]:
    """The parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3)."""
    sets = []
    at = 5
    for mask in (0x1F, 0xFF):
        count, at = record[at] & mask if at < len(record) else 0, at + 1
        for _ in range(count):
            begin = at + 2
            at = begin + int.from_bytes(record[at:begin])
            sets.append(record[begin:at])
    if at > len(record):
        raise UnprovenError
    return sets


def _check_sets(sets: frozenset[bytes]) -> None:
    """Check that each packet of the track is one frame: no fields and no frames without a packet.
    Two sets with one number would replace each other."""
    numbers = set()
    for unit in sets:
        kind = unit[0] & 0x1F if unit else 0
        bits = Bits(without_escapes(unit)[1:])
        if kind == _SEQUENCE:
            numbers.add((kind, _checked_sequence(bits)))
        elif kind == _PICTURE:
            numbers.add((kind, bits.read_exp_golomb()))
        else:
            raise UnprovenError
    if len(numbers) < len(sets) or {kind for kind, _ in numbers} != {_SEQUENCE, _PICTURE}:
        raise UnprovenError


def _checked_sequence(bits: Bits) -> int:
    """The number of a sequence parameter set (7.3.2.1.1) that has the properties above."""
    profile = bits.read(8)
    bits.read(16)  # constraints, level
    number = bits.read_exp_golomb()
    if profile in _HIGH_PROFILES:
        chroma = bits.read_exp_golomb()
        # FFmpeg decodes 4:4:4 and lossless files by the version of x264, see _ENCODER.
        if chroma >= _CHROMA_444:
            raise UnprovenError
        bits.read_exp_golomb()  # bit depths
        bits.read_exp_golomb()
        is_lossless, has_scaling = bits.read(1), bits.read(1)
        if is_lossless:
            raise UnprovenError
        if has_scaling:
            for index in range(8):
                if bits.read(1):
                    _skip_scaling(bits, 16 if index < 6 else 64)
    bits.read_exp_golomb()  # log2_max_frame_num_minus4
    order = bits.read_exp_golomb()
    if order == 0:
        bits.read_exp_golomb()
    elif order == 1:
        bits.read(1)
        bits.read_signed_exp_golomb()
        bits.read_signed_exp_golomb()
        for _ in range(min(255, bits.read_exp_golomb())):
            bits.read_signed_exp_golomb()
    bits.read_exp_golomb()  # max_num_ref_frames
    may_have_gaps = bits.read(1)
    bits.read_exp_golomb()  # width and height
    bits.read_exp_golomb()
    has_only_frames = bits.read(1)
    if may_have_gaps or not has_only_frames:
        raise UnprovenError
    return number


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_signed_exp_golomb()) % 256
        last = following or last


def _check_encoder(unit: bytes) -> None:
    found = _ENCODER.search(unit)
    if found and int(found[1]) < _OLDEST_X264:
        raise UnprovenError
