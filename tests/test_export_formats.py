"""Formats of other tools: each export is read back by code that follows the other tool's own reading
rules, and each import restores ids, times and labels."""

import numpy as np
import pytest
from made_stores import fill, made_values

from reelbank.data.errors import InputError
from reelbank.data.store.exchange.exporting import export
from reelbank.data.store.options import ExportOptions


def export_made(folder, to, **options):
    """Exports the store of `fill`, in this folder, to this name in it."""
    return export(ExportOptions(to=f"{folder}/{to}", bank=str(folder), **options))


def test_format_selects_what_is_written(tmp_path):
    fill(tmp_path / "stores" / "made.h5", range(3))
    assert export_made(tmp_path, "out", format="npy") == 0
    values = np.load(tmp_path / "out" / "dig" / "v002.npy")
    np.testing.assert_array_equal(values, made_values(2).astype(np.float16))
    assert export_made(tmp_path, "out.HDF5", format="hdf5") == 0
    assert (tmp_path / "out.HDF5").is_file() and (tmp_path / "out.HDF5.csv").is_file()


@pytest.mark.parametrize(
    ("to", "format_name", "message"),
    [
        ("out", "hdf5", r"out: FORMAT=hdf5 writes an HDF5 file; give a name that ends in \.h5 or"),
        ("out.h5/", "hdf5", "give a name that ends in"),
        ("out.h5", "npy", r"FORMAT=npy writes a folder of \.npy files; give the name of a new"),
        ("out", "nyp", "FORMAT=nyp: choose from npy, hdf5.*did you mean npy"),
    ],
)
def test_a_name_that_does_not_fit_the_format_is_refused(tmp_path, to, format_name, message):
    fill(tmp_path / "stores" / "made.h5", range(2))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        export_made(tmp_path, to, format=format_name)
    assert sorted(tmp_path.iterdir()) == before
