"""Which videos a file has, as digests of their ids: `overrides` of a file (docs/store.md) is right only
while the files before it have the videos that they had when it was counted."""

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash

from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.file.keys import key_hash


def id_hashes(video_ids: Sequence[str]) -> np.ndarray:
    """(V,) uint64 in the order of the ids. Different ids may have the same hash."""
    return np.fromiter(map(key_hash, video_ids), np.uint64, len(video_ids))


def ids_digest(hashes: np.ndarray, video_ids: Sequence[str]) -> str:
    """The same for the same ids in any order. hashes: (V,) those of the ids, which are read only if
    two are equal. Raises RuntimeError if an id comes twice: no reader accepts such a file."""
    hashes = np.sort(hashes)
    if (hashes[1:] == hashes[:-1]).any() and len(set(video_ids)) < len(video_ids):
        raise RuntimeError(
            f"internal error: of {len(video_ids)} videos for one file, "
            f"{len(video_ids) - len(set(video_ids))} come twice; the store was not changed"
        )
    return xxhash.xxh3_128_hexdigest(hashes.astype("<u8").tobytes())


def recorded_ids(file: FeatureFile) -> str:
    """The digest of a file's ids, as its writer recorded it; of a file of an earlier version, the
    digest of its content."""
    recorded = file.index.about.written.get("ids")
    return recorded if isinstance(recorded, str) else file.header.whole_sha256.hex()


def joint_digest(digests: Iterable[str]) -> str:
    """Of the digests of several files, oldest first."""
    return xxhash.xxh3_128_hexdigest("\n".join(digests).encode("utf-8", "replace"))
