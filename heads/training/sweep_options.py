"""The options of the command `sweep`, which are those of `train` as lists of values.

Importing this module does not load torch or numpy.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from reelbank.data.options import as_text, option
from reelbank.data.ranges import Checked
from reelbank.heads.training.options import TrainOptions


def _swept(field: dataclasses.Field[Any]) -> Any:
    """An option of `train` as a text with a list of values. If it is empty, the default of `train`
    is used."""
    metadata = dict(field.metadata)
    default = field.default if field.name == "bank" else ""
    if not default and field.default not in (None, "", ()):
        metadata["unset"] = as_text(field.default)
    return dataclasses.field(
        default=default,
        metadata={**metadata, "choices": (), "choices_of_items": metadata["choices"]},
    )


SweepOptions = dataclasses.make_dataclass(
    "SweepOptions",
    [
        *((field.name, str, _swept(field)) for field in dataclasses.fields(TrainOptions)),
        (
            "to",
            str,
            option("", "CSV file to write the table to", unset="sweeps/<hash>.csv in the bank"),
        ),
    ],
    bases=(Checked,),
    frozen=True,
    namespace={
        "__doc__": "Options of the command `sweep`. They are the options of `train`, and each "
        "takes a list of values.",
        "GROUPS": {**TrainOptions.GROUPS, "Output": "to"},
    },
)
