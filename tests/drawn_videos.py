"""Videos drawn with PyAV's encoders, one for each form of file that decides whether a frame can be
decoded without those before it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

Packets = list["av.Packet"]
FRAMES = 130
_WIDTH, _HEIGHT = 64, 48
_MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True)
class Kind:
    """How a file is written. change: applied to the packets. stamps_ms: time of each frame.
    muxer: options of the container."""

    codec: str
    options: dict[str, str]
    change: Callable[[Packets], Packets] = lambda packets: packets
    stamps_ms: Callable[[int], int] | None = None
    muxer: dict[str, str] = field(default_factory=dict)


def without(*numbers: int) -> Callable[[Packets], Packets]:
    """Leave packets out."""
    return lambda packets: [p for number, p in enumerate(packets) if number not in numbers]


def cut(first: int) -> Callable[[Packets], Packets]:
    """Copy the stream from a packet on."""
    return lambda packets: packets[first:]


def flagged(is_key: bool) -> Callable[[Packets], Packets]:
    """Mark all packets as key frames, or none."""

    def change(packets: Packets) -> Packets:
        for packet in packets:
            packet.is_keyframe = is_key
        return packets

    return change


def shifted(frames: int) -> Callable[[Packets], Packets]:
    """Move all time stamps."""

    def change(packets: Packets) -> Packets:
        for packet in packets:
            packet.pts, packet.dts = packet.pts + frames, packet.dts + frames
        return packets

    return change


def unstamped(packets: Packets) -> Packets:
    """Give all packets the same time."""
    for packet in packets:
        packet.pts = packet.dts = 0
    return packets


def _x264(parameters: str = "") -> dict[str, str]:
    return {"preset": "fast", "x264-params": f"keyint=24:bframes=3:scenecut=0{parameters}"}


def _x265(parameters: str) -> dict[str, str]:
    return {"x265-params": f"keyint=24:bframes=4:scenecut=0:log-level=none{parameters}"}


_H264, _OPEN = _x264(), _x264(":open-gop=1")
_VP9 = {"g": "24", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16"}
_GROUPS = {"g": "12", "bf": "2"}

# The endings, and how a file is written.
KINDS: dict[str, tuple[str, Kind]] = {
    "closed": ("mp4 mov mkv ts avi flv", Kind("libx264", _H264)),
    "open": ("mp4 mkv ts", Kind("libx264", _OPEN)),
    "without_b": ("mp4 mkv ts", Kind("libx264", {"g": "24", "bf": "0"})),
    "slices": ("mp4 mkv ts", Kind("libx264", _x264(":slices=4"))),
    "delimited": ("mp4 ts", Kind("libx264", _x264(":aud=1:pic-struct=1"))),
    "refresh": ("mp4 ts", Kind("libx264", _x264(":intra-refresh=1"))),
    "fields": ("mp4 ts", Kind("libx264", _x264(":interlaced=1"))),
    "lossless": ("mp4", Kind("libx264", {"qp": "0", "g": "24"})),
    "unflagged": ("mp4 mkv ts", Kind("libx264", _H264, flagged(False))),
    "all_flagged": ("mp4 mkv ts", Kind("libx264", _H264, flagged(True))),
    "open_all_flagged": ("mp4 mkv ts", Kind("libx264", _OPEN, flagged(True))),
    "later": ("mp4 mkv ts", Kind("libx264", _H264, shifted(4000))),
    "negative": ("mp4 mkv ts", Kind("libx264", _H264, shifted(-30))),
    "unstamped": ("mp4 mkv ts", Kind("libx264", _H264, unstamped)),
    "cut_at_start": ("mp4 mkv ts", Kind("libx264", _H264, cut(48))),
    "cut": ("mp4 mkv ts", Kind("libx264", _H264, cut(30))),
    "open_cut": ("mp4 mkv ts", Kind("libx264", _OPEN, cut(50))),
    "lost": ("mp4 mkv ts", Kind("libx264", _H264, without(40, 77))),
    "lost_start": ("mp4 mkv ts", Kind("libx264", _H264, without(48))),
    "variable": (
        "mp4 mkv ts",
        Kind("libx264", _H264, stamps_ms=lambda n: 40 * n + n % 7 * 5 + n // 30 * 500),
    ),
    "fragments": (
        "mp4",
        Kind("libx264", _H264, muxer={"movflags": "frag_keyframe+empty_moov"}),
    ),
    "negative_offsets": (
        "mp4",
        Kind("libx264", _H264, muxer={"movflags": "negative_cts_offsets"}),
    ),
    "without_edits": ("mp4", Kind("libx264", _H264, muxer={"use_editlist": "0"})),
    "hevc_closed": ("mp4 mkv ts", Kind("libx265", _x265(":open-gop=0"))),
    "hevc_open": ("mp4 mkv ts", Kind("libx265", _x265(":open-gop=1"))),
    "hevc_leading": ("mp4 mkv ts", Kind("libx265", _x265(":open-gop=0:radl=2"))),
    "hevc_layers": ("mp4 mkv ts", Kind("libx265", _x265(":temporal-layers=1"))),
    "hevc_cut": ("mp4 mkv ts", Kind("libx265", _x265(":open-gop=1"), cut(25))),
    "hevc_lost": ("mp4 mkv ts", Kind("libx265", _x265(":open-gop=1"), without(40, 77))),
    "vp9": ("webm mkv mp4", Kind("libvpx-vp9", _VP9)),
    "vp9_lost": ("webm", Kind("libvpx-vp9", _VP9, without(40))),
    "av1": ("mkv mp4", Kind("libsvtav1", {"g": "24", "preset": "10"})),
    "vp8": ("webm", Kind("libvpx", {"g": "24"})),
    "mpeg4": ("avi mp4 mkv ts", Kind("mpeg4", {"g": "12"})),
    "mpeg4_with_b": ("avi mp4 mkv ts", Kind("mpeg4", _GROUPS)),
    "mpeg2": ("mpg mkv ts", Kind("mpeg2video", _GROUPS)),
}
NAMES = [f"{name}.{ending}" for name in KINDS for ending in KINDS[name][0].split()]


def pictures(frames: int) -> list[np.ndarray]:
    """A moving texture with a moving square, (72, 64) uint8 each: planes of yuv420p. No two
    pictures are equal."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (_HEIGHT, _WIDTH), np.uint8), np.ones((4, 4), np.uint8))
    drawn = []
    for number in range(frames):
        x = int(_WIDTH / 2 * (1 + np.sin(number / 7)))
        y = int(_HEIGHT / 2 * (1 + np.cos(number / 11)))
        picture = np.full((_HEIGHT * 3 // 2, _WIDTH), number * 5 % 256, np.uint8)
        picture[:_HEIGHT] = texture[y : y + _HEIGHT, x : x + _WIDTH]
        corner = 3 * number % (_WIDTH - 8)
        picture[8:16, corner : corner + 8] = number * 37 % 256
        drawn.append(picture)
    return drawn


def draw(path: Path, frames: int = FRAMES) -> Path:
    """Write the file of NAMES that `path` is named after."""
    kind = KINDS[path.stem][1]
    unit = _MILLISECOND if kind.stamps_ms else Fraction(1, 25)
    with av.open(str(path), "w", options=kind.muxer) as container:
        stream = container.add_stream(
            kind.codec,
            rate=25,
            width=_WIDTH,
            height=_HEIGHT,
            pix_fmt="yuv420p",
            options=kind.options,
        )
        stream.codec_context.thread_count = 1
        if kind.stamps_ms:
            stream.codec_context.time_base = unit
        packets: Packets = []
        for number, picture in enumerate(pictures(frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.time_base = unit
            frame.pts = kind.stamps_ms(number) if kind.stamps_ms else number
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet in kind.change(packets):
            container.mux(packet)
    return path
