"""Find the state dict inside a checkpoint, and match its names with those of the network. Code in
the file is not run.

Training code rarely saves a bare state dict. Usually the state dict is stored under a key next to
optimisers, options and scores, and wrappers (DataParallel, torch.compile, Lightning) put a prefix
before every name.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelbank.data.console import print_lines, printable, some
from reelbank.data.errors import InputError

# Keys under which state dicts are stored, the most likely first. Averaged weights (EMA) are used
# only if there are no others.
KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
AVERAGED_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
NOT_WEIGHTS = ("optimizer", "optim", "scheduler", "lr_sched", "scaler", "amp")  # beginnings of keys
DEEPEST = 3  # keys in keys
LONGEST_PREFIX = 6  # names in a prefix

State = dict[str, Tensor]
Translate = Callable[[State], State]


class _Placeholder:
    """Placeholder for a value next to the weights; the value is neither built nor read."""

    def __new__(cls, *arguments: Any) -> "_Placeholder":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


# Harmless classes of values that training code stores next to the weights. torch refuses to load
# them; here they are replaced by the placeholder, so they are never called.
_HARMLESS = (
    *("argparse.Namespace", "numpy.dtype", "numpy.ndarray"),
    *("numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct"),
    *(
        f"pathlib.{name}"
        for name in (
            "Path",
            "PurePath",
            "PosixPath",
            "WindowsPath",
            "PurePosixPath",
            "PureWindowsPath",
        )
    ),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),  # of Python 3.13
)


def read_document(path: Path) -> Any:
    """What a torch file holds, without running code of it. Raises whatever torch raises."""
    harmless: list[Any] = [(_Placeholder, name) for name in _HARMLESS]
    with torch.serialization.safe_globals(harmless):
        return torch.load(path, map_location="cpu", weights_only=True)


def refused_class(error: Exception) -> str:
    """The name of the class that a torch file asks for and that is not allowed; "" for another
    error."""
    named = re.search(
        r"GLOBAL (\S+) was not an allowed|[Uu]nsupported (?:global|class):? (?:GLOBAL )?([\w.]+)",
        str(error),
    )
    return (named[1] or named[2] or "").rstrip(".") if named else ""


def state_in(document: Any) -> tuple[str, State, tuple[str, ...]]:
    """Find the state dict in the contents of a file. Returns its key ("" for a bare state dict),
    the state dict, and the keys of other large ones. Raises ValueError if there is none, or if it
    is unclear which of several is the network's."""
    every = dict(_state_dicts(document, set()))
    most = max(map(len, every.values()), default=0)
    # Small ones hold scores or statistics, not the network.
    large = {key: state for key, state in every.items() if 2 * len(state) >= most}
    if not large:
        raise ValueError("contains no state dict (a mapping of names to tensors)")
    likely_keys = ["", *KEYS, *AVERAGED_KEYS]

    def rank(key: str) -> int:
        """Position in `likely_keys` of the least likely word of a key."""
        places = [likely_keys.index(word) for word in key.split(".") if word in likely_keys]
        return max(places, default=len(likely_keys))

    ranks = {key: rank(key) for key in large}
    best = min(large, key=ranks.__getitem__)
    if list(ranks.values()).count(ranks[best]) > 1:
        raise ValueError(
            f"contains several state dicts ({some(large, 6)}); save only the one to use"
        )
    return best, large[best], tuple(key for key in large if key != best)


def _state_dicts(
    document: Any, visited: set[int], key: str = "", depth: int = 0
) -> Iterator[tuple[str, State]]:
    """The dicts of tensors inside nested dicts, with their keys. Other values between the tensors,
    such as a counter, are left out. visited: `id` of the dicts that were searched, because a dict
    in a file may contain itself."""
    if (
        not isinstance(document, dict)
        or id(document) in visited
        or not all(isinstance(name, str) for name in document)
    ):
        return
    tensors = {name: value for name, value in document.items() if isinstance(value, Tensor)}
    if tensors and not any(isinstance(value, dict) for value in document.values()):
        yield key, tensors
        return
    visited.add(id(document))
    for name, value in document.items() if depth < DEEPEST else ():
        if not name.lower().startswith(NOT_WEIGHTS):
            yield from _state_dicts(value, visited, f"{key}.{name}" if key else name, depth + 1)


@dataclass(frozen=True)
class Fit:
    """How the names of a file, without a prefix, match those of a network.

    state: with the names of the network
    named: with the names of the file, without the prefix
    outside: names of the file that do not begin with the prefix
    missing, unknown: names of the network that the file does not have, and the reverse
    """

    prefix: str
    state: State
    named: State
    outside: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def wrong(self) -> int:
        return len(self.missing) + len(self.unknown)


def fitted(
    state: State, names: set[str], classifiers: tuple[str, ...], translate: Translate
) -> list[Fit]:
    """Try each prefix that many names of the state dict share. The best match comes first; of equal
    matches, the one with the shortest prefix.

    names: of the network; classifiers: beginnings of names in the file that are ignored
    """
    fits = []
    for prefix in _prefixes(state, len(names)):
        named = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        inside = {
            key: value for key, value in translate(named).items() if not key.startswith(classifiers)
        }
        missing = tuple(
            key for key in names if key not in inside and not key.endswith("num_batches_tracked")
        )
        unknown = tuple(key for key in inside if key not in names)
        outside = tuple(key for key in state if not key.startswith(prefix))
        fits.append(
            Fit(
                prefix=prefix,
                state=inside,
                named=named,
                outside=outside,
                missing=tuple(sorted(missing)),
                unknown=unknown,
            )
        )
    return sorted(fits, key=lambda fit: (fit.wrong, len(fit.prefix)))


def _prefixes(state: State, name_count: int) -> list[str]:
    """ "" and all beginnings of names, up to a dot, that at least `name_count` / 4 names share."""
    counts: Counter[str] = Counter()
    for key in state:
        words = key.split(".")[:-1][:LONGEST_PREFIX]
        counts.update({".".join(words[: number + 1]) + "." for number in range(len(words))})
    return ["", *(prefix for prefix, uses in counts.items() if 4 * uses >= name_count)]


def chosen(fits: list[Fit], where: str, name: str) -> Fit:
    """The fit without missing or unknown names. The user is told about a removed prefix and ignored
    names. Raises InputError if no fit, or fits with different prefixes, are complete. where:
    beginning of the messages."""
    best = fits[0]
    if best.wrong:
        without = f" after the prefix '{best.prefix}' is removed" if best.prefix else ""
        wrong = [
            f"{len(names)} names are {kind} ({some(names)})"
            for kind, names in (("missing", best.missing), ("unknown", best.unknown))
            if names
        ]
        raise InputError(
            printable(f"{where}: does not fit {name}{without}, because {' and '.join(wrong)}")
        )
    right = [fit for fit in fits if not fit.wrong and not fit.prefix.startswith(best.prefix)]
    if right:
        prefixes = " and ".join(f"'{fit.prefix}'" for fit in (best, *right))
        raise InputError(
            printable(
                f"{where}: contains the weights of {name} more than once, with the prefixes "
                f"{prefixes}; save the weights only once"
            )
        )
    if best.prefix:
        print_lines(f"{where}: removed the prefix '{best.prefix}' from {len(best.named)} names")
    if best.outside:
        others = (
            f"{len(best.outside)} names that do not begin with '{best.prefix}': "
            f"{some(best.outside)}"
        )
        print_lines(f"{where}: left out {others}")
    return best
