"""Damage of a decoded video: frames that are missing or had to be mended."""

from dataclasses import dataclass, field, replace

from reelbank.data.video.decoders.scan import Scan
from reelbank.data.video.messages import VideoInfo


@dataclass
class Trouble:
    """The packets that the decoder complained about: their time stamps, and the number of those
    without one."""

    stamps: set[int] = field(default_factory=set)
    unstamped: int = 0

    def add(self, stamp: int | None) -> None:
        """Note a packet."""
        if stamp is None:
            self.unstamped += 1
        else:
            self.stamps.add(stamp)


def with_damage(info: VideoInfo, scan: Scan, *, mended: int, lost: int, is_span: bool) -> VideoInfo:
    """`info` with the damage that was noticed.

    mended: frames that the decoder had to mend. lost: packets that should have given a frame and
    did not. is_span: `info` is about a part of the file.
    """
    # Stores contain these texts, so their wording stays unchanged.
    missing = scan.missing + lost
    parts = []
    about = "" if scan.is_exact else "about "
    if missing and is_span:
        parts.append(f"its file lacks {about}{missing:,} {'frame' if missing == 1 else 'frames'}")
    elif missing:
        parts.append(f"{info.frames:,} of {about}{info.frames + missing:,} frames could be decoded")
    elif scan.fault:
        parts.append(f"{scan.fault}, so frames may be missing")
    if mended:
        parts.append(f"{mended:,} of its {info.frames:,} frames had to be mended")
    promised = info.frames if is_span else info.frames + missing
    return replace(info, damaged_frames=mended, promised_frames=promised, damage="; ".join(parts))
