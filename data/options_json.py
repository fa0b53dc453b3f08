"""Options of a command as text, for another process."""

import dataclasses
import json
from typing import Any, TypeVar

Options = TypeVar("Options")


def options_to_json(options: Any) -> str:
    """The values of all options, for `options_from_json`."""
    return json.dumps(dataclasses.asdict(options))


def options_from_json(kind: type[Options], text: str) -> Options:
    """The options, of the dataclass `kind`, from `options_to_json`. Raises InputError for a value
    that an option does not accept."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(text).items()
    }
    return kind(**values)
