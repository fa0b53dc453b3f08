"""Options of the command `report`."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.options import option
from reelbank.fusion.evaluation.options import INTERVALS, PARTS, SELECTING, Selection

MAPS = ("pca", "umap", "none")
MOST_FRAMES = 2000


@dataclass(frozen=True)
class ReportOptions(Selection):
    """Options of the command `report`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Which runs": SELECTING,
        "Contents": "part interval pair root lists show map frames",
        "Output": "name out figures",
    }

    part: str = option("test", "part of the split whose videos are evaluated", PARTS)
    interval: str = option(
        "wilson",
        "method for the 95 % confidence intervals: 'wilson' is Wilson's formula, 'videos' is "
        "a bootstrap over videos, 'groups' is a bootstrap over groups of related videos",
        INTERVALS,
    )
    pair: tuple[str, ...] = option(
        (),
        "two models to compare in detail, given as their letters in the report's table, such "
        "as 'A C'",
        unset="the two most accurate models",
    )
    name: str = option(
        "",
        "name of the report, which is written to reports/<name>.html in the bank",
        unset="the names of the data sets",
    )
    out: str = option("", "file to write the report to, instead of reports/<name>.html")
    root: str = option(
        "",
        "folder of the data set's videos. If it is given, the report shows frames of "
        "correctly and wrongly classified videos",
        unset="for toy, the folder of its videos in the bank",
    )
    lists: str = option(
        "", "with ROOT, the folder with the official split lists, if the data set has them"
    )
    show: str = option(
        "",
        "with ROOT, id of the video whose optical flow and sound the report shows",
        unset="a video with sound",
    )
    map: str = option(
        "pca",
        "projection of the videos to the report's map, which shows the feature store of the best "
        "model: 'pca', 'umap' (needs the extra umap), or 'none' for no map",
        MAPS,
    )
    frames: int = option(
        MOST_FRAMES,
        "with ROOT, maximum number of videos whose frame the map shows; each takes about 3 kB",
        lowest=0,
        highest=MOST_FRAMES,
    )
    figures: bool = option(
        True,
        "also write each figure as a PNG file and its data as a CSV file, in a folder next to "
        "the report",
    )
