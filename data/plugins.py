"""Loads streams, heads and data sets by name: built-in ones, or a user's own as
`path/to/file.py:name`.

A registry is a literal dictionary, name -> "module:attribute" below `reelbank`. A module is
imported only when its object is loaded, so listing the names imports nothing.
"""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from reelbank.data.console import nearest
from reelbank.data.errors import InputError
from reelbank.data.identity import in_file_name

_USER_MODULE = "reelbank_user_"  # begins the names of modules made from users' files


def is_user_file(text: str) -> bool:
    """Whether an option's value names an object in a user's own Python file."""
    return ".py:" in text


def plugin_name(text: str) -> str:
    """The name in recipes, which can be part of a file name. The name of a user's object consists
    of the stem of its file and the name of the object; the folder does not matter."""
    file_name, _, attribute = text.rpartition(":")
    if not file_name.endswith(".py"):
        return text
    return f"{in_file_name(PurePath(file_name).stem)}.{attribute}"


def load_plugin(text: str, registry: Mapping[str, str], *, option: str) -> Any:
    """The object that `option` names.

    text: a key of `registry`, or `path/to/file.py:name`. Raises InputError for an unknown name, a
    file that is missing or fails when it is imported, and a name that the file does not define.
    """
    if is_user_file(text):
        path, _, attribute = text.rpartition(":")
        module = _user_module(Path(path), option=option, text=text)
        if not hasattr(module, attribute):
            raise InputError(
                f"{option}={text}: {path} does not define '{attribute}'{nearest(attribute, vars(module))}"
            )
        return getattr(module, attribute)
    if text not in registry:
        names = ", ".join(registry)
        hint = nearest(text, registry)
        raise InputError(
            f"{option}={text}: choose from {names}, or give path/to/file.py:name{hint}"
        )
    module_name, _, attribute = registry[text].partition(":")
    return getattr(importlib.import_module(f"reelbank.{module_name}"), attribute)


def _user_module(path: Path, *, option: str, text: str) -> ModuleType:
    """A user's file as a module. It is imported once in each process, and again after an edit."""
    if not path.is_file():
        raise InputError(f"{option}={text}: the file {path} does not exist")
    source = path.read_bytes()
    place = str(path.resolve()).replace(".", "_").replace("/", "_")
    # The name contains the hash of the content. Recipes record this hash, so the code that runs
    # must not be an earlier version of the file.
    name = f"{_USER_MODULE}{place}_{hashlib.sha256(source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look up their module while it is imported
    try:
        # Compiled here, because Python's bytecode cache does not notice a second edit within a
        # second.
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise user_error(error, option=option, text=text) from error
    return module


def user_error(
    error: BaseException, *, option: str, text: str, call: str = "", hint: str = ""
) -> InputError:
    """The InputError for an exception in a user's file, with the line in that file. call: which call
    of the user's code raised it; hint: the end of the message.

    A call with the wrong number of arguments fails outside the file, so it has no line.
    """
    raised = f"{call} raised " if call else ""
    return InputError(f"{option}={text}: {raised}{user_reason(error) or _reason(error)}{hint}")


def user_reason(error: BaseException) -> str:
    """What went wrong in a user's file and where: 'ValueError: ... in differences.py, line 9'; ""
    for an exception that did not come through a user's file."""
    if isinstance(error, SyntaxError) and error.filename:  # the file could not be compiled
        return _reason(error)
    places = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(_USER_MODULE)
    ]
    return f"{_reason(error)} in {places[-1]}" if places else ""


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
