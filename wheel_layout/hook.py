"""Build hook of hatchling: the wheel holds a normal package `reelbank`.

In a checkout reelbank.py makes the folders next to it importable as reelbank.data, reelbank.extract
... In the wheel the same file is reelbank/__init__.py, and those folders lie in reelbank/.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = {
    "reelbank.py": "reelbank/__init__.py",
    "wheel_layout/__main__.py": "reelbank/__main__.py",
    "wheel_layout/py.typed": "reelbank/py.typed",
}


class WheelLayout(BuildHookInterface):
    """Adds FILES. An editable install imports the checkout itself and needs none of them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it writes a wheel."""
        if version != "editable":
            build_data["force_include"].update(FILES)
