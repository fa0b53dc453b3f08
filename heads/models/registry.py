"""The heads by name, and loading a head from a user's file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reelbank.data.errors import InputError
from reelbank.data.plugins import is_user_file, load_plugin, plugin_name
from reelbank.heads.models.spec import HeadSpec

HEADS = {
    "reslstm": "heads.models.reslstm:SPEC",
    "lstm": "heads.models.rnn:LSTM",
    "gru": "heads.models.rnn:GRU",
    "bilstm": "heads.models.rnn:BILSTM",
    "bigru": "heads.models.rnn:BIGRU",
    "sru": "heads.models.sru:SPEC",
    "meanpool": "heads.models.meanpool:SPEC",
    "tsn": "heads.models.tsn:SPEC",
    "rrn": "heads.models.rrn:SPEC",
    "rlstm": "heads.models.rlstm:SPEC",
    "fisher": "heads.models.fisher:SPEC",
}


def head_spec(head: str) -> HeadSpec:
    """The head that HEAD= names, which is a key of HEADS or `path/to/file.py:name`. Raises
    InputError when there is no such head."""
    spec = load_plugin(head, HEADS, option="HEAD")
    if not isinstance(spec, HeadSpec):
        raise InputError(
            f"HEAD={head}: the name must refer to a HeadSpec object (got an object of "
            f"type {type(spec).__name__}); see the example in CONTRIBUTING.md, 'Add a "
            "head'"
        )
    return spec


def head_code_sha256(head: str) -> str:
    """The hash of the user's file that defines a head, or "" for a built-in head."""
    if not is_user_file(head):
        return ""
    return hashlib.sha256(Path(head.rpartition(":")[0]).read_bytes()).hexdigest()


def recorded_head(name: str, code_sha256: str, own_head: str) -> str:
    """The head of a run's recipe, loaded by `head_spec`.

    name, code_sha256: from the recipe; own_head: `path/to/file.py:name`, set again by the user. A
    run folder may be untrusted, so a file that a recipe names is never executed.
    Raises InputError when the recipe's head is in a user's file and that file was not given or has
    changed.
    """
    if name in HEADS:
        return name
    stem, _, attribute = name.rpartition(".")
    if not stem or is_user_file(name):
        raise InputError(f"the run's recipe names an unknown head, {name}; train the run again")
    if plugin_name(own_head) != name:
        raise InputError(
            f"the run's head {name} is defined in a Python file of yours, {stem}.py; give "
            f"its path with HEAD=<path of {stem}.py>:{attribute}"
        )
    head_spec(own_head)  # this raises InputError for a missing file
    if head_code_sha256(own_head) != code_sha256:
        raise InputError(
            f"HEAD={own_head}: this file has changed since the run was trained; restore "
            "the old version of the file, or train the run again"
        )
    return own_head
