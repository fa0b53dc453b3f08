"""Stage two as a function for notebooks."""

from typing import Any

from reelbank.data.keyword_options import named_as_keywords, options_from
from reelbank.data.system.memory import enough_memory
from reelbank.heads.runs.folder import Run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train_runs


def train(**options: Any) -> list[Run]:
    """Train the runs that are not finished yet. Returns all runs, one for each split and seed.

    options: those of `reelbank train` in lower case, such as `head="gru"`, `seed=[0, 1]`. Raises
    InputError before any training if one of the runs is impossible.
    """
    with named_as_keywords(options), enough_memory("train"):
        return train_runs(options_from(TrainOptions, options, "train"))
