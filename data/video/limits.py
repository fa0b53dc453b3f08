"""Limits on the cost of decoding one video. A file of 300 bytes can claim pictures of a gigabyte
and cause hours of work.

Limits do not change features, so they are not in a store's recipe. A video that exceeds a limit
fails with a reason that names the limit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reelbank.data.ranges import Checked
from reelbank.data.video.opening import DecodeError, too_large
from reelbank.data.video.options import in_flight_option, picture_option, slowness_option

# Added to the length of a video: opening the file and decoding its first frame take time even if
# the video is short.
_SURPLUS_SECONDS = 4.0
# A frame counts as 1 / rate seconds of video, with the rate limited to this range. Headers claim
# absurd rates: slides of minutes each, or 90,000 frames per second, which is a time base.
_SLOWEST_HZ, _UNKNOWN_HZ, _FASTEST_HZ = 1.0, 25.0, 60.0


@dataclass(frozen=True)
class Limits(Checked):
    """Limits for decoding one video. Every command that decodes has options of the same names.

    Reasons for the defaults: a picture may have twice the 33 megapixels of 8K. Four such pictures
    may be in flight; with the reference frames that a decoder keeps, each costs about 20 bytes per
    pixel, 5 GB in total. 8K at 60 frames per second with all frames selected took 10 core-seconds
    per second with DECODER=auto and 36 with decord; a slow machine may take three times as long.
    """

    picture_mpx: float = picture_option()
    in_flight_mpx: float = in_flight_option()
    slowness: float = slowness_option()

    @staticmethod
    def of(options: Any) -> "Limits":
        """The limits among a command's options."""
        return Limits(options.picture_mpx, options.in_flight_mpx, options.slowness)

    @property
    def picture_px(self) -> int:
        return round(self.picture_mpx * 1e6)

    @property
    def in_flight_px(self) -> int:
        return round(self.in_flight_mpx * 1e6)


@dataclass
class Guard:
    """Checks the limits while one video is read. alive: called for every packet and frame. admit:
    called with the number of pixels of a picture that is larger than all before; returns when there
    is room for it. clock: the processor time, in seconds, that counts as decoding."""

    limits: Limits = field(default_factory=Limits)
    alive: Callable[[], None] = lambda: None
    admit: Callable[[int], None] = lambda pixels: None
    largest_px: int = 0
    decoded_seconds: float = 0.0
    # Processor time, because a slow disk or a slow consumer is not the video's fault. A decoder
    # that hangs without using the processor is ended by TIMEOUT.
    clock: Callable[[], float] = time.process_time
    begin_seconds: float = field(init=False)
    begin_wall_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.begin_seconds = self.clock()
        self.begin_wall_seconds = time.monotonic()

    def picture(self, width: int, height: int) -> None:
        """Check the size of a picture before it is decoded. Raises DecodeError."""
        pixels = width * height
        if pixels > self.limits.picture_px:
            raise too_large(self.limits.picture_px, f" of {width} x {height}")
        if pixels > self.largest_px:
            self.largest_px = pixels
            self.admit(pixels)

    def frame(self, rate_hz: float, frames: int = 1) -> None:
        """Count decoded frames; rate_hz: frame rate of the video, 0 if unknown. Raises
        DecodeError."""
        self.decoded_seconds += frames / min(max(rate_hz or _UNKNOWN_HZ, _SLOWEST_HZ), _FASTEST_HZ)
        self.passed(self.decoded_seconds)

    def passed(self, seconds: float) -> None:
        """Check the time; seconds: length of the part that is decoded. Raises DecodeError."""
        self.alive()
        allowed = self.limits.slowness * (seconds + _SURPLUS_SECONDS)
        # Decoding runs in one thread, so its processor time is at most the time that has passed.
        # That one is read without a system call, which for every frame would take as long as
        # decoding small pictures.
        if time.monotonic() - self.begin_wall_seconds <= allowed:
            return
        spent = self.clock() - self.begin_seconds
        if spent > allowed:
            raise DecodeError(
                f"decoding is too slow; {seconds:.1f} s of video took {spent:.1f} s, more "
                f"than SLOWNESS={self.limits.slowness:g} allows"
            )
