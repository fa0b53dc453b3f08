"""H.264 (ISO/IEC 14496-10): which packets are pictures that decoding can begin with.

Decoding can begin with an IDR picture: no picture after it refers to one before it. A key frame of
an open group of pictures is not an IDR picture (it has a recovery point instead), and FFmpeg keeps
pictures before it as references, so it does not count.
"""

import re
import struct
from itertools import chain

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
_MOST_NUMBER_BITS = 16
_MOST_SLICES = 64  # a packet with more is looked at on its own
_LENGTH_BYTES = 4  # the usual size of the length before each unit


class H264:
    """Looks at the packets of a track, one by one. extradata: the parameter sets in the header.
    Raises UnprovenError."""

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes, sets = header_units(extradata, 4, _listed_sets)
        # The decoder knows these sets, wherever it begins.
        self._sets = frozenset(unit.rstrip(b"\0") for unit in sets)
        self._number_bits = _checked_number_bits(self._sets)
        # The first four bytes of the first slice of each picture.
        self._beginnings: list[int] = []

    def look(self, packet: bytes) -> int:
        """What a packet is: START, DISPOSABLE or PLAIN."""
        if self._length_bytes == _LENGTH_BYTES and len(packet) > 9:
            # The usual packet is a single slice that is not an IDR slice.
            length, header, beginning = struct.unpack_from(">IBI", packet)
            is_usual = length == len(packet) - 4 and header & 0x9F == _SLICE
            if is_usual and beginning >> 31 and beginning & 0xFFFF00:
                self._beginnings.append(beginning)
                return PLAIN if header & 0x60 else DISPOSABLE
        headers: set[int] = set()
        for begin, end in units(packet, self._length_bytes):
            header = packet[begin]
            kind = header & 0x1F
            if kind in (_SLICE, _IDR_SLICE) and end - begin > 1:
                # The number of the slice's first macroblock is 0, coded as a single set bit, in
                # the first slice of a picture, and only there.
                if bool(packet[begin + 1] & 0x80) == bool(headers):
                    raise UnprovenError
                if not headers:
                    start = without_escapes(packet[begin + 1 : min(begin + 8, end)])[:4]
                    self._beginnings.append(int.from_bytes(start.ljust(4, b"\0")))
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

    def look_all(self, file: PacketFile) -> np.ndarray:
        """What all packets of a track are, (packets,) int64, as from `look`."""
        if self._length_bytes != _LENGTH_BYTES:
            raise UnprovenError
        heads = file.beginnings(_LENGTH_BYTES + 5)  # (packets, 9)
        header, first = heads[:, 4], heads[:, 5]
        is_usual = (
            (big_endian(heads[:, :4]) == file.sizes - _LENGTH_BYTES)
            & (file.sizes > _LENGTH_BYTES + 5)
            & (header & 0x9F == _SLICE)
            & (first & 0x80 > 0)
            & np.any(heads[:, 6:8], axis=1)
        )
        is_usual |= _is_sliced(file, heads, np.flatnonzero(~is_usual))
        looks = np.where(header & 0x60, PLAIN, DISPOSABLE)
        beginnings = big_endian(heads[:, 5:])
        for number in np.flatnonzero(~is_usual).tolist():
            looks[number] = self.look(file.packet(number))
            beginnings[number] = self._beginnings.pop()
        self._beginnings = beginnings.tolist()
        return looks

    def is_complete(self, looks: np.ndarray) -> bool:
        """Whether no picture that others need is missing among all packets. looks: of the packets,
        (packets,) int64. FFmpeg would replace it by the picture before, whichever was decoded.

        Each picture has the number (frame_num) of the last one that others need, plus one.
        """
        numbers = _frame_numbers(np.array(self._beginnings, np.int64), self._number_bits)
        is_start = (looks & START) > 0
        is_needed = (looks & DISPOSABLE) == 0
        # For each packet, the last one before it that others need.
        before = np.maximum.accumulate(np.where(is_needed, np.arange(len(looks)), 0))[:-1]
        expected = (numbers[before] + 1) % (1 << self._number_bits)
        return bool(np.all(np.where(is_start[1:], 0, expected) == numbers[1:]))


def _frame_numbers(beginnings: np.ndarray, number_bits: int) -> np.ndarray:
    """frame_num of slices (7.3.3), (n,) int64; -1 where it does not lie in the first four bytes.
    beginnings: these bytes, (n,) int64. The first bit, of first_mb_in_slice, is set."""
    left = np.full(len(beginnings), 31)
    for _ in ("slice_type", "pic_parameter_set_id"):
        rest = beginnings & (1 << left) - 1
        zeros = left - np.frexp(rest)[1]  # the exponent is the number of bits
        left = np.maximum(0, left - 2 * zeros - 1)
    numbers = beginnings >> np.maximum(0, left - number_bits) & (1 << number_bits) - 1
    return np.where(left >= number_bits, numbers, -1)


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


def _checked_number_bits(sets: frozenset[bytes]) -> int:
    """The size of frame_num. Checks that each packet of the track is one frame: no fields and no
    frames without a packet. Two sets with one number would replace each other."""
    pictures: set[int] = set()
    sequences: dict[int, int] = {}  # number -> size of frame_num
    for unit in sets:
        kind = unit[0] & 0x1F if unit else 0
        bits = Bits(without_escapes(unit)[1:])
        if kind == _SEQUENCE:
            number, number_bits = _checked_sequence(bits)
            sequences[number] = number_bits
        elif kind == _PICTURE:
            pictures.add(bits.read_exp_golomb())
        else:
            raise UnprovenError
    if len(pictures) + len(sequences) < len(sets) or len(set(sequences.values())) != 1:
        raise UnprovenError
    return next(iter(sequences.values()))


def _checked_sequence(bits: Bits) -> tuple[int, int]:
    """The number of a sequence parameter set (7.3.2.1.1) that has the properties above, and the size
    of frame_num."""
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
            for size in chain([16] * 6, [64] * 2):
                if bits.read(1):
                    _skip_scaling(bits, size)
    number_bits = bits.read_exp_golomb() + 4
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
    if may_have_gaps or not has_only_frames or number_bits > _MOST_NUMBER_BITS:
        raise UnprovenError
    return number, number_bits


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_signed_exp_golomb()) % 256
        last = following or last


def _is_sliced(file: PacketFile, heads: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Which packets consist of several slices of one picture that is not an IDR picture, and of
    nothing else, (packets,) bool. heads: first bytes of all packets, (packets, 9) int64; numbers:
    the packets in question, ascending, (n,) int64."""
    heads = heads[numbers]
    header, lengths, sizes = heads[:, 4], big_endian(heads[:, :4]), file.sizes[numbers]
    is_right = (
        (lengths > _LENGTH_BYTES)
        & (header & 0x9F == _SLICE)
        & (heads[:, 5] & 0x80 > 0)
        & np.any(heads[:, 6:8], axis=1)
    )
    at = _LENGTH_BYTES + lengths  # the next slice
    for _ in range(_MOST_SLICES):
        going = np.flatnonzero(is_right & (at < sizes))
        if not len(going):
            break
        units = file.bytes_at(file.positions[numbers[going]] + at[going], _LENGTH_BYTES + 2)
        lengths = big_endian(units[:, :4])
        at[going] += _LENGTH_BYTES + lengths
        is_next = (lengths > 1) & (units[:, 4] == header[going]) & (units[:, 5] & 0x80 == 0)
        is_right[going] = is_next & (at[going] <= sizes[going])
    is_sliced = np.zeros(len(file.sizes), bool)
    is_sliced[numbers] = is_right & (at == sizes)
    return is_sliced


def _check_encoder(unit: bytes) -> None:
    found = _ENCODER.search(unit)
    if found and int(found[1]) < _OLDEST_X264:
        raise UnprovenError
