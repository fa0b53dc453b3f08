"""The result of a search, as records and as a table."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from reelbank.data.console import counted, table_lines


@dataclass(frozen=True)
class Match:
    """A video that was found, or a moment of one.

    similarity: the cosine with what was searched for, -1 to 1. label: its class, "" if unlabelled; in
    a multi-label data set, class names separated by ";". group: "" if unknown. time_seconds: of the
    moment, the centre of its clip; None for a whole video.
    """

    video: str
    similarity: float
    label: str = ""
    group: str = ""
    time_seconds: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """What `search` found, the nearest first.

    store: the path of the store; query: what was searched for, in one line; matches: the results;
    compared: how many videos were compared; left_out: how many videos of the data set the store has
    no features of; page: the HTML page, if one was written; notes: lines for the user.
    """

    store: Path
    query: str
    matches: tuple[Match, ...]
    compared: int
    left_out: int
    page: Path | None = None
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, object]]:
        """The matches as JSON-serialisable records."""
        return [{"rank": rank, **asdict(match)} for rank, match in enumerate(self.matches, 1)]

    def document(self) -> dict[str, object]:
        """All of it as a JSON-serialisable record."""
        return {
            "store": str(self.store),
            "query": self.query,
            "results": self.records(),
            "compared": self.compared,
            "without_features": self.left_out,
            "page": str(self.page) if self.page else None,
        }

    @property
    def has_times(self) -> bool:
        """Whether the matches are moments."""
        return any(match.time_seconds is not None for match in self.matches)

    @property
    def about(self) -> str:
        """What was compared, in one sentence."""
        left_out = f" ({counted(self.left_out, 'video')} without features)" if self.left_out else ""
        return f"compared with {counted(self.compared, 'video')} of {self.store.name}{left_out}"

    def lines(self) -> Iterator[str]:
        """The matches as a table."""
        heading = ["similarity", *["time"] * self.has_times, "video", "label"]
        rows = [heading]
        for match in self.matches:
            time = [time_text(match.time_seconds)] if match.time_seconds is not None else []
            rows.append([f"{match.similarity:.3f}", *time, match.video, match.label])
        yield self.query
        yield from table_lines(rows)
        yield self.about

    def __str__(self) -> str:
        return "\n".join(self.lines())


def time_text(seconds: float) -> str:
    """A time in a video, as 0:07.5 or 1:02:03.0."""
    minutes, rest = divmod(round(max(0.0, seconds) * 10), 600)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{whole}:{rest // 10:02}.{rest % 10}"
