"""pyarrow, the package that reads and writes Parquet; an extra."""

import importlib
from typing import Any, NamedTuple

from reelbank.data.errors import InputError

INSTALL = "pip install 'reelbank[parquet]'"


class ParquetPackages(NamedTuple):
    """The modules pyarrow and pyarrow.parquet."""

    arrow: Any
    parquet: Any


def parquet_packages() -> ParquetPackages:
    """Import pyarrow. Raises InputError if it is not installed."""
    try:
        return ParquetPackages(
            importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
        )
    except ModuleNotFoundError as error:
        raise InputError(
            f"Parquet files need the package pyarrow; install it with: {INSTALL}"
        ) from error
