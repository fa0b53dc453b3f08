"""The files of a store as its catalog keeps them: finished files, and parts, of which there may be
thousands."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reelbank.data.store.file.facts import Facts
from reelbank.data.store.file.format import FeatureFile
from reelbank.data.store.file.header import DamagedFile
from reelbank.data.store.file.index import Index
from reelbank.data.store.file.tree import GoneFile
from reelbank.data.store.versions import Versions

# Whose indexes stay in memory: a merge takes some thousand videos at a time, usually of 64 parts.
OPEN_PARTS = 512


class OpenParts:
    """The parts that were used last, with their indexes; at most `most`."""

    def __init__(self, most: int = OPEN_PARTS) -> None:
        self.most = most
        self._files: OrderedDict[Path, FeatureFile] = OrderedDict()
        self._versions: dict[tuple[Versions, ...], tuple[Versions, ...]] = {}

    def keep(self, file: FeatureFile) -> None:
        """Keep a part that was just opened."""
        self._files[file.path] = file
        if len(self._files) > self.most:
            self._files.popitem(last=False)

    def shared(self, facts: Facts) -> Facts:
        """The same facts. Those that were made with the same versions share them in memory."""
        versions = self._versions.setdefault(facts.versions, facts.versions)
        return replace(facts, versions=versions)

    def file(self, path: Path) -> FeatureFile:
        """The part at this path. Raises what FeatureFile raises."""
        file = self._files.get(path)
        if file is None:
            file = FeatureFile(path)
            self.keep(file)
        else:
            self._files.move_to_end(path)
        return file


class PartFile:
    """A checked part of a store, which is opened again when it is used after a long time. with_facts:
    keep what it is merged by in memory."""

    def __init__(self, file: FeatureFile, kept: OpenParts, *, with_facts: bool = False) -> None:
        self.path, self.size_bytes, self._kept = file.path, file.size_bytes, kept
        self.cost = file.index.about.cost
        self._facts = kept.shared(file.facts) if with_facts else None
        kept.keep(file)

    @property
    def index(self) -> Index:
        """Everything but the features. Raises GoneFile if the part is gone."""
        return self._file().index

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int, int, np.ndarray], None]]:
        """As of a FeatureFile. Raises GoneFile if the part is gone."""
        with contextlib.ExitStack() as stack:
            try:
                read = stack.enter_context(self._file().reading())
            except FileNotFoundError:
                raise GoneFile(self.path) from None
            yield read

    @property
    def facts(self) -> Facts:
        """As of a FeatureFile."""
        return self._facts or self._file().facts

    def damage(self, *, with_values: bool = False) -> list[str]:
        """As of a FeatureFile; also a line if the part cannot be opened again, because its header or
        its table is damaged now. Raises GoneFile if the part is gone."""
        try:
            return self._file().damage(with_values=with_values)
        except FileNotFoundError:
            raise GoneFile(self.path) from None
        except DamagedFile as error:
            return [str(error)]

    def _file(self) -> FeatureFile:
        try:
            return self._kept.file(self.path)
        except FileNotFoundError:
            raise GoneFile(self.path) from None


File = FeatureFile | PartFile


class Place(NamedTuple):
    """Where a video's features are: a file, and the video's number in it."""

    file: File
    number: int
