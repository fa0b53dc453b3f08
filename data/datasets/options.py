"""Options of all commands that read the videos of a data set."""

from functools import partial
from typing import Any

from reelbank.data.datasets.registry import dataset_choices
from reelbank.data.options import option
from reelbank.data.ranges import MOST_FPS


def dataset_option(default: str) -> Any:
    return option(default, f"data set: {dataset_choices()} for your own")


root_option = partial(
    option, "", "folder that contains the class folders with the videos; toy needs none"
)
lists_option = partial(
    option,
    "",
    "folder of the data set's official lists; required for hmdb51 and charades, optional for "
    "ucf101",
)
csv_option = partial(
    option, "", "with DATASET=folder, a CSV file with the columns path,label,split"
)
image_fps_option = partial(
    option,
    None,
    "frames per second of videos that are folders of images",
    unset="24 for charades, 30 for hmdb51, otherwise unknown",
    above=0,
    highest=MOST_FPS,
)
