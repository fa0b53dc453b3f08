"""Stage two as a function for notebooks."""

from typing import Any

from reelbank.data.keyword_options import named_as_keywords, options_from
from reelbank.data.system.memory import enough_memory
from reelbank.heads.runs.folder import Run
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train_runs


def train(**options: Any) -> list[Run]:
    """Train a head for each split and seed. Returns one run for each of them. Runs that are already
    finished are not trained again.

    options: the options of the command `reelbank train` in lower case, such as `head="gru"` and
    `seed=[0, 1]`. Raises InputError before any training if one of the runs is not possible.
    """
    with named_as_keywords(options), enough_memory("train"):
        return train_runs(options_from(TrainOptions, options, "train"))
