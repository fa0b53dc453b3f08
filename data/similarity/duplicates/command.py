"""The command `duplicates`. It prints the pairs of similar videos of a split, and writes them and the
proposed groups as CSV."""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelbank.data.console import as_run, counted, print_json, print_lines, table_lines
from reelbank.data.errors import InputError
from reelbank.data.options import check_ending
from reelbank.data.similarity.duplicates.find import RELATIONS, Found, find_duplicates
from reelbank.data.similarity.duplicates.options import DuplicatesOptions
from reelbank.data.similarity.duplicates.videos import PART_NAMES
from reelbank.data.text_files import csv_file

_MOST_PRINTED = 30  # pairs without COUNT
_HEADS = ("similarity", "video", "part", "class", "group")


def duplicates(options: DuplicatesOptions) -> int:
    """Run the command. Returns the exit code."""
    found = duplicates_of(options)
    if options.json:
        print_lines(*found.notes(), file=sys.stderr)
        print_json(found.document())
    else:
        print_lines(*found.lines())
    return 0


@dataclass(frozen=True)
class Duplicates:
    """The similar videos of a split. Printing the object shows the tables.

    csv, groups_csv: the files that were written, None if none was asked for. between: the option,
    which pairs are counted and listed. most_printed: of the pairs.
    """

    found: Found
    csv: Path | None
    groups_csv: Path | None
    between: str
    most_printed: int

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def records(self) -> list[dict[str, Any]]:
        """One dictionary for each listed pair, the most similar first, which can be used with
        pandas.DataFrame or written as JSON. The keys that end in _1 and _2 describe the two videos."""
        return list(self._records())

    def _records(self) -> Iterator[dict[str, Any]]:
        pairs, videos = self.found.pairs, self.found.videos
        columns = (pairs.first.tolist(), pairs.second.tolist(), pairs.cosines.tolist())
        for first, second, cosine in zip(*columns, strict=True):
            record: dict[str, Any] = {"similarity": round(cosine, 6)}
            for place, number in (("1", first), ("2", second)):
                record[f"video_{place}"] = videos.ids[number]
                record[f"part_{place}"] = videos.part(number)
                record[f"label_{place}"] = videos.labels[number]
                record[f"group_{place}"] = videos.groups[number]
            yield record

    def document(self) -> dict[str, Any]:
        """The result for --json."""
        found = self.found
        threshold = found.threshold
        return {
            "store": str(found.store),
            "split": found.videos.split,
            "videos": {part: found.videos.count(part) for part in found.videos.part_names},
            "threshold": threshold.value if threshold else None,
            "threshold_measured_on": threshold.measured_on if threshold else 0,
            "found_pairs": found.tally.total,
            "counts": [
                {"parts": list(parts), **dict(zip(RELATIONS, numbers, strict=True))}
                for parts, numbers in self._counts()
            ],
            "pairs": self.records(),
            "proposed_groups": dict(found.proposal.groups) if found.proposal else {},
        }

    def write(self, path: Path) -> None:
        """Write the records as CSV."""
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [
            f"{name}_{place}" for place in "12" for name in ("video", "part", "label", "group")
        ]
        with csv_file(path) as writer:
            writer.writerow(["similarity", *columns])
            writer.writerows(record.values() for record in self._records())

    def notes(self) -> Iterator[str]:
        """Lines about the whole, without the tables."""
        found = self.found
        videos, proposal = found.videos, found.proposal
        yield f"store {found.store}"
        named = [
            f"{videos.count(part):,} {PART_NAMES[part]}"
            for part in videos.part_names
            if videos.count(part)
        ]
        if videos.split:
            yield f"split {videos.split}: {' + '.join(named)} videos"
        else:
            yield f"the data set has no split; all {len(videos):,} videos are compared"
        if videos.left_out:
            yield (
                f"note: {counted(videos.left_out, 'video')} of the store are not compared, because they "
                "are in no part of the split or have no features"
            )
        if found.is_approximate:
            yield (
                "note: the store is so large that pairs were found with an approximate index; a few "
                "pairs may be missing, and of a video with very many similar ones only the nearest "
                "are listed"
            )
        yield self._headline()
        if found.threshold:
            yield from self._overlaps()
        if proposal:
            yield from self._proposed()
        if self.csv:
            yield f"pairs written to {self.csv}"

    def _headline(self) -> str:
        threshold, tally = self.found.threshold, self.found.tally
        videos = "videos" if self.between == "all" else f"videos of different {self.between}"
        if threshold is None:
            return f"the {counted(tally.total, 'most similar pair')} of {videos}:"
        origin = ""
        if threshold.measured_on:
            origin = f" (measured on {counted(threshold.measured_on, 'video')}; docs/duplicates.md)"
        return (
            f"{counted(tally.total, 'pair')} of {videos} with a cosine similarity above "
            f"{threshold.value:.4f}{origin}"
        )

    def _overlaps(self) -> Iterator[str]:
        """How many videos of a part have a similar video in a part before it."""
        videos, tally = self.found.videos, self.found.tally
        is_any = False
        where = " of another group" if self.between == "groups" else ""
        for later, earlier in itertools.combinations(reversed(range(len(videos.part_names))), 2):
            of_part = videos.parts == later
            similar = int(tally.has_similar[of_part, earlier].sum())
            if similar:
                is_any = True
                part, other = (PART_NAMES[videos.part_names[code]] for code in (later, earlier))
                verb = "is" if similar == 1 else "are"
                yield (
                    f"{similar:,} of {int(of_part.sum()):,} {part} videos {verb} similar to a {other} "
                    f"video{where}"
                )
        if is_any and self.between != "parts":
            yield "BETWEEN=parts lists only pairs of different parts"

    def _proposed(self) -> Iterator[str]:
        proposal = self.found.proposal
        assert proposal
        if not proposal.groups:
            yield "no groups are proposed: no video without a group has a similar video"
            return
        sizes = sorted(map(len, proposal.groups.values()))
        yield (
            f"proposed: {counted(len(sizes), 'group')} of related videos, of {sizes[0]:,} to "
            f"{sizes[-1]:,} videos each, {sum(sizes):,} of {len(proposal.videos):,} videos in all. "
            "These are proposals: similar features do not prove that videos are from the same "
            "recording, so look at the videos of each group"
        )
        if not self.groups_csv:
            yield as_run("GROUPS=groups.csv writes them to a file that 'reelbank extract' reads")
            return
        yield f"groups written to {self.groups_csv}"
        if proposal.dropped:
            yield (
                f"{counted(proposal.dropped, 'video')} of these groups have an empty column split in "
                "this file and would not be used, because other videos of their group are in the test or "
                "validation part"
            )
        if proposal.without_features:
            yield (
                f"{counted(proposal.without_features, 'video')} without features are not in this file"
            )
        yield as_run(
            "check this file, then use it: 'reelbank extract DATASET=folder ROOT=<folder of the "
            f"videos> CSV={self.groups_csv}' with the other options of the store. Features that exist are "
            "not extracted again"
        )

    def lines(self) -> Iterator[str]:
        """The notes and tables as lines of text."""
        yield from self.notes()
        rows = self.count_rows()
        if len(rows) > 1:
            yield ""
            yield from table_lines(rows)
        pairs = self.found.pairs
        if len(pairs):
            yield ""
            yield from table_lines(self.pair_rows())
        if len(pairs) > self.most_printed:
            yield (
                f"and {len(pairs) - self.most_printed:,} more pairs; OUT=<file>.csv writes "
                f"{len(pairs):,} pairs to a file"
            )
        if len(pairs) < self.found.tally.total:
            yield f"only the {len(pairs):,} most similar pairs are listed"

    def count_rows(self) -> list[tuple[str, ...]]:
        """The number of pairs by parts and groups, as cells. The first row is the heading."""
        rows: list[tuple[str, ...]] = [
            ("parts", "pairs", "same group", "other group", "group unknown")
        ]
        for parts, numbers in self._counts():
            names = " - ".join(PART_NAMES[part] for part in dict.fromkeys(parts))
            rows.append((names, f"{sum(numbers):,}", *(f"{number:,}" for number in numbers)))
        return rows

    def _counts(self) -> Iterator[tuple[tuple[str, str], list[int]]]:
        """The parts of two videos, and the numbers of pairs by RELATIONS, if there are any."""
        names, pairs = self.found.videos.part_names, self.found.tally.pairs
        for first, second in itertools.combinations_with_replacement(range(len(names)), 2):
            if pairs[first, second].any():
                yield (names[first], names[second]), pairs[first, second].tolist()

    def pair_rows(self) -> list[tuple[str, ...]]:
        """The pairs that are printed, as cells. The first row is the heading."""
        rows: list[tuple[str, ...]] = [(*_HEADS, *_HEADS[1:])]
        for record in itertools.islice(self._records(), self.most_printed):
            similarity, *facts = record.values()
            rows.append((f"{similarity:.4f}", *(fact or "-" for fact in facts)))
        return rows


def duplicates_of(options: DuplicatesOptions) -> Duplicates:
    """The similar videos of a store. Writes the files that OUT and GROUPS name. Raises InputError as
    `find_duplicates`."""
    if options.out:
        check_ending("OUT", options.out, [".csv"])
        if options.groups and Path(options.out).absolute() == Path(options.groups).absolute():
            raise InputError(
                f"OUT={options.out} and GROUPS={options.groups} are the same file; give two names"
            )
    found = find_duplicates(options)
    csv = Path(options.out) if options.out else None
    groups_csv = Path(options.groups) if options.groups and found.proposal else None
    result = Duplicates(
        found,
        csv,
        groups_csv,
        between=options.between,
        most_printed=options.count or _MOST_PRINTED,
    )
    if csv:
        result.write(csv)
    if groups_csv and found.proposal:
        found.proposal.write(groups_csv)
    return result
