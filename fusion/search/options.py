"""Options of the command `search`."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.options import json_option, option
from reelbank.fusion.options import FileOptions

MOST_RESULTS = 10_000


@dataclass(frozen=True)
class SearchOptions(FileOptions):
    """Options of the command `search`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "What to search for": "video text moments count image_fps",
        "Where to search": "store bank banks",
        "Output": "json page root lists dataset",
        "Your own Python files, and weights files": "stream extractor trust_remote_code extractor_weights flow_weights",
        "Damaged and oversized videos": "damaged picture_mpx in_flight_mpx slowness",
        "Machine": "device workers",
    }

    video: str = option(
        "",
        "a video file, or the id of a video of the store: find the nearest videos. The features of a "
        "file are computed as those of the store were",
        positional=True,
    )
    text: str = option(
        "",
        "a description in words: find the videos whose pictures or sound fit best. The store must have "
        "features of CLIP, MetaCLIP 2, SigLIP, X-CLIP or CLAP, extracted with EXTRACTOR=hf:...",
    )
    moments: bool = option(
        False, "find moments, the rows of the store with their times, instead of whole videos"
    )
    count: int = option(10, "number of results", lowest=1, highest=MOST_RESULTS)
    store: str = option(
        "",
        "feature store to search, given as the start of its hash or as the path of its file",
        unset="the only store of the bank",
    )
    json: bool = json_option()
    page: str = option(
        "",
        "HTML file to write the results to, with a frame of each video if ROOT is given",
    )
    root: str = option(
        "",
        "with PAGE, folder of the data set's videos, from which the frames are taken",
        unset="for toy, the folder of its videos in the bank",
    )
    lists: str = option(
        "", "with ROOT, the folder with the official split lists, if the data set has them"
    )
    dataset: str = option(
        "", "with ROOT, your own data set as <file>.py:<name>, if the store has its videos"
    )
