"""The bank of a command, and other banks. Stores, runs and weights of all of them are found; only the
first is written."""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError

_FOLDERS = ("stores", "runs", "weights", "reports", "sweeps")  # of a bank


@dataclass(frozen=True)
class Banks:
    """own: the bank that is written, whose stores and runs take precedence; others: banks that are
    only read, in the order in which they are searched."""

    own: Path
    others: tuple[Path, ...] = ()

    @classmethod
    def of(cls, bank: "AnyBank", others: Sequence[str | Path] = ()) -> "Banks":
        """A bank and further ones; each folder counts once. Raises InputError for one that is not a
        folder, or is a folder inside a bank."""
        own, more = (bank.own, bank.others) if isinstance(bank, Banks) else (Path(bank), ())
        folders = {own.resolve(): own}
        for other in (*more, *map(Path, others)):
            if not other.is_dir():
                raise InputError(f"BANKS={other}: must be the folder of a bank, but does not exist")
            place = other.resolve()
            if place.name in _FOLDERS and not any((place / name).is_dir() for name in _FOLDERS):
                raise InputError(
                    f"BANKS={other}: must be the folder of a bank, but is a folder inside a bank; "
                    f"give BANKS={other.parent}"
                )
            folders.setdefault(place, other)
        return cls(own, tuple(folders.values())[1:])

    def below(self, name: str) -> list[Path]:
        """The folder of this name in each bank, such as runs/, BANK's first."""
        return [folder / name for folder in (self.own, *self.others)]

    def shown(self, name: str) -> str:
        """The folders of this name, for messages."""
        return " or ".join(map(str, self.below(name)))

    def planned(self, kind: str, name: str) -> Path:
        """The folder <BANK>/<kind>/<name> of a training, or the finished one of another bank if
        BANK does not have it."""
        own, *others = (folder / name for folder in self.below(kind))
        for other in others:
            if not own.exists() and (other / "metrics.json").is_file():
                tell_once(f"note: {other} is finished, so it is not trained again")
                return other
        return own

    def check_own(self, path: Path, verb: str = "remove", past: str = "removed") -> None:
        """Raises InputError if a file or folder is in one of the other banks, which are only read.
        verb, past: what would be done with it."""
        place = path.resolve()
        for other in self.others:
            is_own = place.is_relative_to(self.own.resolve())
            if place.is_relative_to(other.resolve()) and not is_own:
                raise InputError(
                    f"{path}: is not {past}, because it is in another bank; give BANK={other} to "
                    f"{verb} it"
                )


AnyBank = str | Path | Banks


def bank_of(path: Path) -> Path:
    """The bank of a store's file or a run's folder."""
    return path.parent.parent


class WithBanks:
    """Base of the options of a command that has BANK and BANKS."""

    bank: str
    banks: tuple[str, ...]

    @property
    def searched(self) -> Banks:
        """The banks in which the command finds stores and runs. Raises InputError as `Banks.of`."""
        return Banks.of(self.bank, self.banks)


def tell_shadowed(path: Path, first: Path) -> None:
    """Say once that what is at `path` is not used, because `first` is the same in an earlier
    bank."""
    tell_once(f"note: {path} is not used, because {first} has the same hash")


@functools.cache  # a command looks through its banks several times
def tell_once(line: str) -> None:
    """Print a line on stderr, once in a process."""
    print_lines(line, file=sys.stderr)
