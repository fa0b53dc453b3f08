"""Stage three as functions for notebooks."""

from pathlib import Path
from typing import Any

from reelbank.data.keyword_options import named_as_keywords, options_from
from reelbank.data.system.memory import enough_memory
from reelbank.fusion.evaluation.evaluate import Evaluation, evaluate_runs
from reelbank.fusion.evaluation.options import EvaluateOptions
from reelbank.fusion.report.options import ReportOptions
from reelbank.fusion.report.page import write_report
from reelbank.fusion.search.options import SearchOptions
from reelbank.fusion.search.result import SearchResult
from reelbank.fusion.search.search import search_store


def evaluate(**options: Any) -> Evaluation:
    """Evaluate runs. If you print the returned Evaluation, it shows the tables. Its method
    `records()` returns the rows of the tables.

    options: the options of the command `reelbank evaluate` in lower case, such as
    `runs=["gru-0123"]` and `part="test"`. Raises InputError if no run matches.
    """
    with named_as_keywords(options), enough_memory("evaluate"):
        return evaluate_runs(options_from(EvaluateOptions, options, "evaluate"))


def report(**options: Any) -> Path:
    """Write a report on the selected runs. Returns the path of the HTML page.

    options: the options of the command `reelbank report` in lower case. Raises InputError if no run
    matches.
    """
    with named_as_keywords(options), enough_memory("report"):
        return write_report(options_from(ReportOptions, options, "report")).path


def search(**options: Any) -> SearchResult:
    """Find the videos of a store, or moments in them, that are nearest to a video or to a text. If you
    print the returned SearchResult, it shows a table. `matches` has the videos with their similarity,
    and `records()` returns the same as JSON-serialisable records.

    options: the options of the command `reelbank search` in lower case, such as `video="clip.mp4"` and
    `count=20`. Raises InputError if the store does not exist, and if the features of the video or the
    vector of the text cannot be computed.
    """
    with named_as_keywords(options), enough_memory("search"):
        return search_store(options_from(SearchOptions, options, "search"))
