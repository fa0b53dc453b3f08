"""Options of all commands that read the videos of a data set."""

from functools import partial
from typing import Any

from reelbank.data.datasets.registry import dataset_choices
from reelbank.data.options import option
from reelbank.data.ranges import MOST_FPS


def dataset_option(unset: str) -> Any:
    return option(
        "",
        f"data set: {dataset_choices()} for a data set that you define in Python. 'folder' reads "
        "a folder of your own videos, and 'toy' generates a small set of videos",
        unset=unset,
    )


root_option = partial(
    option,
    "",
    "folder of the data set's videos, usually with one subfolder per class; not needed for toy",
)
lists_option = partial(
    option,
    "",
    "folder with the data set's official split lists (for charades, its annotation "
    "files); optional for ucf101, required for the other data sets with official lists",
)
csv_option = partial(
    option,
    "",
    "with DATASET=folder, CSV file that describes the videos. The column path is "
    "required; label, split (train, validation or test) and group are optional",
)
dataset_name_option = partial(
    option,
    "",
    "with DATASET=folder, name of the data set. The stores of a name are continued wherever ROOT is",
    unset="the name of the stores that contain the same videos, otherwise from the path of ROOT",
)
image_fps_option = partial(
    option,
    None,
    "frame rate, in frames per second, of videos that are stored as folders of images",
    unset="24 for charades, 30 for hmdb51, otherwise unknown",
    above=0,
    highest=MOST_FPS,
)
