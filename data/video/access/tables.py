"""The packets of a video track of an MP4 or QuickTime file from the tables in its header, without
reading the packets."""

from dataclasses import dataclass

import av
import numpy as np

from reelbank.data.video.containers import mp4


@dataclass(frozen=True, eq=False)
class Table:
    """stamps, order: presentation and decoding times of the packets. positions, sizes: of the
    packets in the file. All (packets,) int64."""

    stamps: np.ndarray
    order: np.ndarray
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
    values = [(entry.timestamp, entry.pos, entry.size, entry.is_discard) for entry in entries]
    order, positions, sizes, is_discard = np.array(values, np.int64).T
    counts = np.array([count for count, _ in track.delays], np.int64)
    delays = np.repeat(np.array([delay for _, delay in track.delays], np.int64), counts)
    if not len(delays):
        delays = np.zeros(len(order), np.int64)
    is_usual = (
        len(delays) == len(order)
        and not is_discard.any()
        and sizes.min() > 0
        and np.max(positions + sizes) <= file_bytes
    )
    return Table(order + delays, order, positions, sizes) if is_usual else None
