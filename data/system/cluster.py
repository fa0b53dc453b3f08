"""The connection to a Dask cluster, for CLUSTER=. Dask is the optional dependency reelbank[dask]."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reelbank.data.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

CONNECTS_SECONDS = 20


@contextlib.contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of the Dask scheduler at `address`, such as tcp://host:8786, or tls://host:8786 with
    the certificates that Dask's own configuration names.

    Raises InputError if Dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            f"CLUSTER={address}: needs the package 'distributed'; install it with: "
            "pip install 'reelbank[dask]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECTS_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"CLUSTER={address}: the Dask scheduler cannot be reached ({error}); check the address "
            "that 'dask scheduler' printed"
        ) from None
    with client:
        yield client
