"""Rewrites messages so that they name options in the form that the user typed, and commands in the
form that the user ran.

Messages contain NAME and NAME=value, the form of `make` and recipes. A user who typed `--batch 8`
reads `--batch=8` in a message, not BATCH=8.
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from reelbank.data.console import as_run
from reelbank.data.options import split_word

# Names of options that are also words: without "=" they mean the format.
_ALSO_WORDS = frozenset({"CSV", "JSON"})
_TYPED_ALONE = "FILE|ROOT|RUNS|STORE|VIDEOS"  # options whose values may be typed without a name
_PLACEHOLDER = "\ue000{}\ue001"  # private characters, which no message contains


def as_typed(message: str, names: Iterable[str], words: Sequence[str]) -> str:
    """The message with each command as `as_run` writes it, and each option in the form in which it
    was typed in `words`. An option that was not typed gets the form of the last typed option. A value
    that was typed alone is shown alone at the start of the message.

    names: the command's options. Typed values are not changed, even if they look like an option.
    """
    message = _unnamed(as_run(message), words)
    typed_with_dashes: dict[str, bool] = {}
    values: list[str] = []
    for position, word in enumerate(words):
        name, text = split_word(word)
        if name:
            typed_with_dashes[name] = word.startswith("--")
            following = words[position + 1 :][:1]
            values += [text] if text is not None else following
        else:
            values.append(word)
    if not any(typed_with_dashes.values()):
        return message
    otherwise = list(typed_with_dashes.values())[-1]
    with_dashes = {name.upper() for name in names if typed_with_dashes.get(name, otherwise)}
    if not with_dashes:
        return message
    alternatives = "|".join(sorted(with_dashes, key=len, reverse=True))
    # NAME= or NAME as a whole word, not as part of a path or another word.
    option = re.compile(rf"(?<![\w/.=-])({alternatives})(?:(=)|(?![\w/=-]|\.\w))")
    # Typed values are replaced by placeholders while options are rewritten.
    protected = [value for value in dict.fromkeys(values) if value and option.search(value)]
    for number, value in enumerate(protected):
        message = message.replace(value, _PLACEHOLDER.format(number))

    def dashed(match: re.Match[str]) -> str:
        name, equals = match[1], match[2] or ""
        if not equals and name in _ALSO_WORDS:
            return name
        return f"--{name.lower().replace('_', '-')}{equals}"

    message = option.sub(dashed, message)
    for number, value in enumerate(protected):
        message = message.replace(_PLACEHOLDER.format(number), value)
    return message


def _unnamed(message: str, words: Sequence[str]) -> str:
    """The message that begins with NAME=value with only the value, if it was typed without a name."""
    takes_next, named = False, {text for _, text in map(split_word, words)}
    for word in words:
        name, text = split_word(word)
        if word and not name and not takes_next and word not in named:
            shown = [word]
            with contextlib.suppress(OSError, RuntimeError):  # a loop of links, no current folder
                shown.append(str(Path(word).resolve()))  # a folder may be shown by its whole path
            values = "|".join(map(re.escape, shown))
            if found := re.match(rf"(?:{_TYPED_ALONE})=(?:{values})(?![\w/.-])", message):
                return word + message[found.end() :]
        takes_next = bool(name) and text is None
    return message
