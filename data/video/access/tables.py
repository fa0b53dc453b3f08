"""The packets of a video track: when they are displayed, and where they lie in the file. For an MP4
or QuickTime file, they follow from the tables in its header."""

from dataclasses import dataclass

import av
import numpy as np

from reelbank.data.video.containers import mp4


@dataclass(frozen=True, eq=False)
class Table:
    """The packets in order of decoding. stamps: presentation times. seek_stamps: times by which
    FFmpeg finds them, in MP4 those of decoding. positions, sizes: in the file. After a seek, a
    packet is recognised by them. All (packets,) int64."""

    stamps: np.ndarray
    seek_stamps: np.ndarray
    positions: np.ndarray
    sizes: np.ndarray


def read_table(stream: av.VideoStream, track: mp4.Track | None, file_bytes: int) -> Table | None:
    """The packets of a track that FFmpeg will give; None if they must be read to know them: if the
    file has fragments, hidden frames, packets beyond its end (file_bytes) or an unusual table."""
    if track is None or track.delays is None or track.descriptions != 1 or len(track.edits) > 1:
        return None
    entries = stream.index_entries
    if not 0 < len(entries) == track.samples == stream.frames:
        return None
    # FFmpeg's own table has all but the delays from decoding to presentation.
    values: list[int] = []
    for entry in entries:
        values += (entry.timestamp, entry.pos, entry.size, entry.is_discard)
    order, positions, sizes, is_discard = np.array(values, np.int64).reshape(-1, 4).T
    delays = np.zeros(len(order), np.int64)
    if len(track.delays):
        counts, units = track.delays.T
        if counts.sum() != len(order):  # checked first: a table can claim any number
            return None
        delays = np.repeat(units, counts)
    is_usual = not is_discard.any() and sizes.min() > 0 and np.max(positions + sizes) <= file_bytes
    return Table(order + delays, order, positions, sizes) if is_usual else None
