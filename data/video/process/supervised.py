"""One decode process, its socket and its buffers."""

import json
import os
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from reelbank.data.system.child import Child, ending
from reelbank.data.system.faults import is_sent
from reelbank.data.video.frames import Reading
from reelbank.data.video.messages import Failed, SoundFailed
from reelbank.data.video.process import wire
from reelbank.data.video.process.ring import SLOTS, Ring
from reelbank.data.video.worker import WorkerOptions

Task = tuple[Hashable, str | Path, Reading]  # key, path, what to read

# Reasons why a process is silent, by its state in /proc/<pid>/stat.
_WAITS = {
    "D": "waits for a disk or a network that does not answer",
    "T": "was stopped",
    "t": "was stopped",
}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Blame:
    """Why a process ended or is silent. by_machine: another process ended or stopped it, or it
    waits for a disk."""

    reason: str
    by_machine: bool = False


class WorkerProcess:
    """One process, its socket and its state."""

    def __init__(
        self,
        sample: Path,
        options: WorkerOptions,
        timeout_seconds: float,
        ring: Ring,
    ) -> None:
        self.ring = ring
        self._child = Child(
            "reelbank.data.video.worker",
            [str(sample), str(ring.file), json.dumps(asdict(options))],
            environment=os.environ | _ONE_THREAD,
            files=[ring.file],
            log_folder=sample.parent,
        )
        self.process, self.socket = self._child.process, self._child.socket
        self.socket.settimeout(timeout_seconds)
        self.ready = False
        self.task: Task | None = None
        self.pixels = 0  # of the task's largest picture, if it had to wait for room
        self.waits = False  # for room for this picture
        self.is_full = False  # waits for a free buffer
        self.in_sound = False  # reads the task's sound, which comes before its pictures
        # The failed task of the process that this one replaces, and its message. The message is
        # passed on after this process has decoded the sample: only then is the video to blame.
        self.blamed: tuple[Task, Failed | SoundFailed] | None = None
        self.last_message = time.monotonic()
        ring.give_back = self.give_back
        for slot in set(range(SLOTS)) - ring.lent.keys():
            self.give_back(slot)

    def give_back(self, slot: int) -> None:
        """Let the process write into a buffer again."""
        self.is_full, self.last_message = False, time.monotonic()
        # If the process has ended, the next read from its socket reports it.
        with suppress(OSError):
            wire.send_free(self.socket, slot)

    def death(self) -> Blame:
        """Why the process ended."""
        code = self.process.wait()
        return Blame(f"decoder process died ({ending(code)})", by_machine=is_sent(-code))

    def silence(self, seconds: float) -> Blame:
        """Why the process has sent nothing for this long."""
        silent = f"no sign of life for {seconds:g} s"
        with suppress(OSError):
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in _WAITS:
                reason = f"decoder process {_WAITS[state]}: {silent}"
                return Blame(reason, by_machine=True)
        return Blame(f"decoder process hung: {silent}")

    def end(self) -> None:
        """Kill the process."""
        self._child.kill()
        self._child.close()

    def last_line(self) -> str:
        """The last line that the process printed; it explains a failed start."""
        return self._child.last_line()
