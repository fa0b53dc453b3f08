"""The main program of a process that extracts on one of several devices. Only `queue.py` starts
it."""

import contextlib
import io
import json
import socket
import warnings
from collections.abc import Iterator

import torch

from reelbank.data.console import shortened
from reelbank.data.errors import InputError
from reelbank.data.options_json import options_from_json
from reelbank.data.system.memory import enough_memory
from reelbank.data.system.processes import end_with_parent
from reelbank.data.system.stopping import heed_first_signal
from reelbank.extract.device import chosen_device
from reelbank.extract.devices.lease_worker import LeaseWorker
from reelbank.extract.devices.messages import (
    Broken,
    Lease,
    Said,
    Wants,
    receive_lease,
    send,
)
from reelbank.extract.options import ExtractOptions


class _Lines(io.TextIOBase):
    """Standard output of the process: sends each complete line to the parent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._open = connection, ""

    def write(self, text: str) -> int:
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            send(self._connection, Said(line))
        return len(text)


def serve(words: list[str]) -> None:
    """Extract leases until the parent closes the socket.

    words: the number of the socket, the parent's process id, the device, the name of the shard, the
    expected number of videos, the number of threads (0: as many as usual), the options as JSON, and
    the file names of the stores to fill as JSON.
    """
    number, parent, device, shard, expected_videos, threads, options, stores = words
    heed_first_signal()  # SIGTERM of the parent: commit, then end
    end_with_parent(int(parent))
    connection = socket.socket(fileno=int(number))
    if int(threads):
        torch.set_num_threads(int(threads))
    # An error on the socket: the parent has ended, or it has no more videos.
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        try:
            with (
                contextlib.redirect_stdout(_Lines(connection)),
                warnings.catch_warnings(),
                enough_memory("extract"),
            ):
                warnings.simplefilter("ignore")  # the parent has shown them for its own networks
                worker = LeaseWorker(
                    options_from_json(ExtractOptions, options),
                    chosen_device(device),
                    shard,
                    json.loads(stores),
                    expected_videos=int(expected_videos),
                )
                _extract(connection, worker)
        except InputError as error:
            send(connection, Broken(shortened(str(error))))


def _extract(connection: socket.socket, worker: LeaseWorker) -> None:
    with worker:
        while True:
            send(connection, Wants(is_idle=True))
            first = receive_lease(connection)
            for report in worker.run(_leases(connection, first)):
                send(connection, report)
            worker.commit()
            send(connection, worker.decoded)


def _leases(connection: socket.socket, lease: Lease) -> Iterator[Lease]:
    """Leases until there is none for the moment."""
    while lease:
        yield lease
        send(connection, Wants(is_idle=False))
        lease = receive_lease(connection)
