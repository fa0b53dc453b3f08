"""Computes picture functions in a decode process."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from reelbank.data.system.memory import full_memory
from reelbank.data.video.functions import Numbered, PictureFunction, PictureWork, reason_of
from reelbank.data.video.messages import (
    Computed,
    Done,
    Frames,
    NotComputed,
    PictureMessage,
    Times,
)
from reelbank.data.video.process.ring import FrameMemory
from reelbank.data.video.timeline import FrameCount


def set_threads(threads: int) -> None:
    """Limit OpenCV's threads in this process."""
    from reelbank.data.video.opencv import cv2  # only processes that compute need it

    cv2.setNumThreads(threads)


class FunctionWork:
    """The picture functions of one video.

    functions: what to compute; select: the frames to send, None for none; memory: where what is
    sent is written; alive: called after each picture. Decode with `select` and into `pictures`,
    and pass the messages through `messages`.
    """

    def __init__(
        self,
        functions: Sequence[PictureFunction],
        select: Callable[[FrameCount], np.ndarray] | None,
        memory: FrameMemory,
        alive: Callable[[], None],
    ) -> None:
        self._functions, self._select_sent = functions, select
        self._memory, self._alive = memory, alive
        self.pictures = _Reused(memory.most_bytes)
        self._computing_seconds = 0.0
        self._is_sent = np.empty(0, bool)  # (frames,)
        self._is_needed: list[np.ndarray] = []  # by function, (frames,) bool
        self._works: list[PictureWork | None] = []  # by function; None: it has failed
        self._unfit: list[NotComputed] = []  # functions that failed at their beginning

    def clock(self) -> float:
        """Processor time of this process without that of the functions, in seconds."""
        return time.process_time() - self._computing_seconds

    def select(self, frames: FrameCount) -> np.ndarray:
        """The frames to decode, ascending, each once. Begins the functions."""
        self._is_sent = _mask(self._select_sent(frames) if self._select_sent else [], frames)
        self._is_needed, self._works = [], []
        for number, function in enumerate(self._functions):
            try:
                is_needed, work = _mask(function.needed(frames), frames), function.begin(frames)
            except Exception as error:
                if full_memory(error):
                    raise MemoryError(str(error)) from error
                self._unfit.append(NotComputed(number, reason_of(error)))
                is_needed, work = np.zeros(frames, bool), None
            self._is_needed.append(is_needed)
            self._works.append(work)
        return np.flatnonzero(np.any([self._is_sent, *self._is_needed], axis=0))

    def messages(self, decoded: Iterator[PictureMessage]) -> Iterator[PictureMessage]:
        """The messages of `decode` without the frames that are not to be sent, and with the results
        of the functions."""
        for message in decoded:
            yield from self._unfit
            self._unfit = []
            with self._not_counted():
                if isinstance(message, Frames):
                    yield Times(message.numbers, message.seconds)
                    yield from self._sent(message)
                    for number in range(len(self._works)):
                        yield from self._results(number, self._seen(number, message))
                    continue
                if isinstance(message, Done):
                    for number in range(len(self._works)):
                        yield from self._results(number, self._ended(number))
                yield message

    @contextmanager
    def _not_counted(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self._computing_seconds += time.process_time() - began

    def _sent(self, message: Frames) -> Iterator[Frames]:
        """The frames to send."""
        chosen = np.flatnonzero(self._is_sent[message.numbers])
        if len(chosen):
            pixels = self._memory.chunk((len(chosen), *message.pixels.shape[1:]))
            message.pixels.take(chosen, 0, out=pixels, mode="clip")  # "raise" makes a copy
            yield Frames(message.numbers[chosen], message.seconds[chosen], pixels)

    def _seen(self, function: int, message: Frames) -> Iterator[Numbered]:
        """The results of a function for these frames."""
        work, is_needed = self._works[function], self._is_needed[function]
        if work is None:
            return
        for number, picture in zip(message.numbers.tolist(), message.pixels, strict=True):
            if is_needed[number]:
                yield from work.see(number, picture)
                self._alive()

    def _ended(self, function: int) -> Iterator[Numbered]:
        """The results of a function that need all frames."""
        if work := self._works[function]:
            yield from work.end()

    def _results(
        self, function: int, results: Iterator[Numbered]
    ) -> Iterator[Computed | NotComputed]:
        """Messages with the results of a function, of which several fill a buffer."""
        numbers: list[int] = []
        values = np.empty((0, 0))
        try:
            for number, value in results:
                is_other = (value.shape, value.dtype) != (values.shape[1:], values.dtype)
                if numbers and (is_other or len(numbers) == len(values)):
                    yield Computed(function, np.array(numbers), values[: len(numbers)])
                    numbers = []
                if not numbers:
                    room = max(1, self._memory.most_bytes // value.nbytes)
                    memory = self._memory.chunk((room * value.nbytes,))
                    values = memory.view(value.dtype).reshape(room, *value.shape)
                values[len(numbers)] = value
                numbers.append(number)
        except ConnectionError:  # the parent has ended
            raise
        except Exception as error:
            if full_memory(error):
                raise MemoryError(str(error)) from error
            self._works[function] = None
            yield NotComputed(function, reason_of(error))
            return
        if numbers:
            yield Computed(function, np.array(numbers), values[: len(numbers)])


class _Reused(FrameMemory):
    """The same memory for every chunk, because its pictures are processed before the next one."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._bytes = np.empty(0, np.uint8)

    def chunk(self, shape: tuple[int, ...]) -> np.ndarray:
        size_bytes = int(np.prod(shape))
        if size_bytes > len(self._bytes):
            self._bytes = np.empty(size_bytes, np.uint8)
        return self._bytes[:size_bytes].reshape(shape)


def _mask(numbers: Sequence[int] | np.ndarray, frames: int) -> np.ndarray:
    """(frames,) bool. Raises ValueError for numbers that are not frames'."""
    numbers = np.asarray(numbers, np.int64).ravel()
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < frames:
        raise ValueError(
            f"selections must return frame numbers from 0 to {frames - 1} "
            f"(got {numbers.min()} to {numbers.max()})"
        )
    mask = np.zeros(frames, bool)
    mask[numbers] = True
    return mask
