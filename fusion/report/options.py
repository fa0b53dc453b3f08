"""Options of the command `report`."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.options import option
from reelbank.fusion.evaluation.options import INTERVALS, PARTS, SELECTING, Selection


@dataclass(frozen=True)
class ReportOptions(Selection):
    """Options of the command `report`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "Contents": "part interval pair root lists show",
        "Output": "name out figures",
    }

    part: str = option("test", "part of the split to evaluate on", PARTS)
    interval: str = option(
        "wilson",
        "method of the 95 % confidence intervals: Wilson's formula, or a bootstrap over "
        "videos or over groups of videos",
        INTERVALS,
    )
    pair: tuple[str, ...] = option(
        (),
        "letters of the two models to compare in detail, as in the report's table",
        unset="the two most accurate models",
    )
    name: str = option(
        "",
        "name of the report, which becomes reports/<name>.html in the bank",
        unset="the names of the data sets",
    )
    out: str = option("", "file to write the report to, instead of reports/<name>.html")
    root: str = option(
        "",
        "folder of the data set's videos; the report then shows frames of correctly and wrongly "
        "classified videos",
        unset="for toy, the folder of its videos in the bank",
    )
    lists: str = option("", "with ROOT, the folder of the official lists, if the data set has them")
    show: str = option(
        "",
        "with ROOT, id of the video whose optical flow and sound are drawn",
        unset="a video with sound",
    )
    figures: bool = option(
        True,
        "also write each figure as PNG and its data as CSV, into a folder next to the report",
    )
