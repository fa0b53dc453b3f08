"""Files have the permissions that the umask gives, so that colleagues on a shared disk can read
each other's runs."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_train import QUICK, trained

from reelbank.data.files import replacing


@pytest.fixture(params=[0o022, 0o027], ids=["022", "027"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_file_of_a_run_is_as_readable_as_the_others(tmp_path: Path, umask: int) -> None:
    (run,) = trained(tmp_path, QUICK, epochs=1)
    modes = {path.name: mode(path) for path in run.path.iterdir()}
    assert {"checkpoint.safetensors", "scores-test.npz", "embeddings.h5", "recipe.json"} <= set(
        modes
    )
    assert set(modes.values()) == {0o666 & ~umask}


def test_a_library_that_writes_private_files_does_not_matter(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "weights.safetensors"
    with replacing(path) as temporary:
        save_file({"weight": torch.zeros(2)}, temporary)
    assert mode(path) == 0o666 & ~umask
