"""The plan by which selected frames are decoded: runs of packets, each from a packet that decoding
can begin with."""

from dataclasses import dataclass

import numpy as np

from reelbank.data.video.access.index import PacketIndex

# A run continues over this many packets that are not needed: to begin a new one costs about as much
# as to decode a few frames.
_LONGEST_GAP_PACKETS = 8


@dataclass(frozen=True, eq=False)
class Run:
    """Packets [start, end) of the file, of which those in `decoded` are decoded, ascending,
    (n,) int64."""

    start: int
    end: int
    decoded: np.ndarray


def plan(index: PacketIndex, wanted: np.ndarray) -> list[Run]:
    """The runs that contain the frames `wanted`, numbers in order of display, ascending, each once,
    (n,) int64."""
    starts_display = index.display[index.starts]
    is_wanted = np.zeros(len(index.display), dtype=bool)
    is_wanted[index.packet_of[wanted]] = True
    begins = index.starts[np.searchsorted(starts_display, wanted, "right") - 1]
    limits: list[list[int]] = []
    for begin, packet in zip(begins.tolist(), index.packet_of[wanted].tolist(), strict=True):
        if limits and begin <= limits[-1][1] + _LONGEST_GAP_PACKETS:
            limits[-1][1] = max(limits[-1][1], packet + 1)
        else:
            limits.append([begin, packet + 1])
    runs = []
    for begin, end in limits:
        inside = slice(begin, end)
        # What is displayed before the start may need frames before it.
        is_decodable = index.display[inside] >= index.display[begin]
        is_needed = is_wanted[inside] | ~index.is_disposable[inside] & is_decodable
        runs.append(Run(begin, end, begin + np.flatnonzero(is_needed)))
    return runs
