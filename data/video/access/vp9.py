"""VP9: which packets are pictures that decoding can begin with. A key frame replaces all references
and all state of the decoder (VP9 bitstream specification, 6.1 and 7.2)."""

import numpy as np

from reelbank.data.video.access.bits import Bits, UnprovenError
from reelbank.data.video.access.looks import PLAIN, START

_FRAME_MARKER = 2
_LAST_PROFILE = 3


class Vp9:
    """Looks at the packets of a track, one by one. Raises UnprovenError."""

    def __init__(self, extradata: bytes) -> None:
        del extradata  # VP9 has no parameter sets

    def look(self, packet: bytes) -> int:
        """What a packet is: START or PLAIN. It holds one frame that is displayed, and any number
        of others."""
        frames = [packet[begin:end] for begin, end in _frames(packet)]
        displayed = 0
        is_start = False
        for number, frame in enumerate(frames):
            bits = Bits(frame[:2])
            if bits.read(2) != _FRAME_MARKER:
                raise UnprovenError
            profile = bits.read(1) + 2 * bits.read(1)
            if profile == _LAST_PROFILE:
                bits.read(1)
            if bits.read(1):  # an earlier frame is displayed
                displayed += 1
                continue
            is_key = not bits.read(1)
            displayed += bits.read(1)
            is_start = is_start or (is_key and number == 0)
        if displayed != 1:
            raise UnprovenError
        return START if is_start else PLAIN

    def is_complete(self, looks: np.ndarray) -> bool:
        """As for H.264: every packet from a start on is decoded, so the same happens as in order."""
        return bool(len(looks))


def _frames(packet: bytes) -> list[tuple[int, int]]:
    """Begin and end of the frames of a superframe (Annex B), or of the single frame."""
    last = packet[-1]
    if last & 0xE0 != 0xC0:
        return [(0, len(packet))]
    count, size_bytes = (last & 7) + 1, (last >> 3 & 3) + 1
    index_bytes = 2 + count * size_bytes
    if len(packet) < index_bytes or packet[-index_bytes] != last:
        raise UnprovenError
    sizes = packet[-index_bytes + 1 : -1]
    found = []
    at = 0
    for number in range(count):
        size = int.from_bytes(sizes[number * size_bytes : (number + 1) * size_bytes], "little")
        if not size:
            raise UnprovenError
        found.append((at, at + size))
        at += size
    if at + index_bytes != len(packet):
        raise UnprovenError
    return found
