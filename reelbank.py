"""Reelbank computes features of videos once, stores them, and trains models on them.

This module is the public interface of `import reelbank`, and the entry point of the command
`reelbank`.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelbank.data.datasets.registry import load_dataset
    from reelbank.data.errors import InputError
    from reelbank.data.scores.table import Scores
    from reelbank.data.similarity.duplicates.notebook import duplicates
    from reelbank.data.store.bank import find_store
    from reelbank.data.store.reader import Store
    from reelbank.data.store.writer import StoreWriter
    from reelbank.extract.notebook import extract_features
    from reelbank.fusion.late import fuse
    from reelbank.fusion.notebook import evaluate, report, search
    from reelbank.fusion.predict import predict, top
    from reelbank.heads.notebook import train
    from reelbank.heads.runs.folder import find_runs, load_run
    from reelbank.heads.torch_dataset import FeatureDataset, collate_features

__all__ = [
    "FeatureDataset",
    "InputError",
    "Scores",
    "Store",
    "StoreWriter",
    "__version__",
    "collate_features",
    "duplicates",
    "evaluate",
    "extract_features",
    "find_runs",
    "find_store",
    "fuse",
    "load_dataset",
    "load_run",
    "predict",
    "report",
    "search",
    "top",
    "train",
]

# Threads of OpenMP that wait for each other sleep. By default they spin, and on a busy machine they
# take the cores from the thread that they wait for: six steps of an LSTM took 60 s, and 5 s with
# this. OpenMP reads it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# This file makes `reelbank` a package whose subpackages are the folders next to it, in a checkout
# (reelbank.py) and in a wheel (reelbank/__init__.py). They are imported as reelbank.data,
# reelbank.extract ..., so a user's own folder data/ or extract/ never takes their place.
__path__ = [str(Path(__file__).resolve().parent)]
__version__ = "0.1.0"

# Public name -> the module that defines it, imported when the name is first used.
PUBLIC = {
    "FeatureDataset": "heads.torch_dataset",
    "InputError": "data.errors",
    "Scores": "data.scores.table",
    "Store": "data.store.reader",
    "StoreWriter": "data.store.writer",
    "collate_features": "heads.torch_dataset",
    "duplicates": "data.similarity.duplicates.notebook",
    "evaluate": "fusion.notebook",
    "extract_features": "extract.notebook",
    "find_runs": "heads.runs.folder",
    "find_store": "data.store.bank",
    "fuse": "fusion.late",
    "load_dataset": "data.datasets.registry",
    "load_run": "heads.runs.folder",
    "predict": "fusion.predict",
    "report": "fusion.notebook",
    "search": "fusion.notebook",
    "top": "fusion.predict",
    "train": "heads.notebook",
}


if not TYPE_CHECKING:  # a type checker would take any name for an attribute of this module

    def __getattr__(name: str) -> Any:
        if name not in PUBLIC:
            raise AttributeError(f"module 'reelbank' has no attribute '{name}'")
        importlib.import_module("reelbank.data.system.machine").limit_threads()
        value = getattr(importlib.import_module(f"reelbank.{PUBLIC[name]}"), name)
        globals()[name] = value  # found directly the next time
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


def main(words: Sequence[str] | None = None) -> int:
    """The `reelbank` command; returns the exit code."""
    from reelbank.data.command_line.main import run_command_line

    return run_command_line(sys.argv[1:] if words is None else words, __version__)


if __name__ == "__main__":
    sys.exit(main())
