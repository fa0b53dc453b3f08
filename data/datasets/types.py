"""Types of data sets: videos, options, and the specification that the registry holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelbank.data.video.messages import VideoInfo

PARTS = ("train", "validation", "test")  # of a split


@dataclass(frozen=True)
class Video:
    """A video: a file, or a folder of numbered images.

    id: path relative to ROOT, with '/' between folders and without the extension. label: name of
    the class, '' if unlabelled. group: the recording that the video was cut from, '' if unknown.
    parts: for each split of the data set one of PARTS or ''. span_seconds: start and end of the
    video within the file, None if the video is the whole file. If there is a span, `id` begins with
    the id of the file.
    """

    id: str
    path: Path
    label: str
    group: str
    parts: tuple[str, ...]
    span_seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Dataset:
    """A loaded data set, whose videos are sorted by id.

    classes: all classes in their official order, even if only some of them have videos. coarse:
    maps each category to its classes; {} if there are no categories. notes: messages about videos
    that are missing or left out. multilabel: whether a video can have any number of classes; its
    label then contains their names separated by ';', and is '' if the video has no class. files:
    number of files from which the videos are cut; 0 if each video is a separate file. image_fps:
    frames per second of the folders of images, 0 if unknown. unselected: the videos that CLASSES=
    leaves out. is_drawn: whether the split was drawn at random. undrawn: by path, what the headers of
    videos will state that are not drawn yet.
    """

    name: str
    root: Path
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    coarse: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    multilabel: bool = False
    files: int = 0
    image_fps: float = 0.0
    unselected: tuple[Video, ...] = ()
    is_drawn: bool = False
    undrawn: Mapping[Path, "VideoInfo"] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetOptions:
    """The inputs from which a data set is loaded; see docs/datasets.md. Empty strings mean 'not
    given'.

    name: the name that recipes use for this data set. files: videos and folders of videos to read
    instead of a folder. draws: whether a drawn data set draws its missing videos; otherwise it
    describes them.
    """

    name: str
    root: str = ""
    splits_dir: str = ""
    csv: str = ""
    seed: int = 0
    bank: str = "bank"
    files: tuple[str, ...] = ()
    draws: bool = True


@dataclass(frozen=True)
class NamedVideo:
    """Facts about a video that follow from its name."""

    id: str
    label: str
    group: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Naming:
    """A data set in which a video's name contains its class, group and parts, so that features of
    other tools can be imported without the videos.

    title, form: the data set and the form of its names, for messages. read: parses a name, bare or
    at the end of a path, with or without its ending; None for any other name.
    """

    title: str
    form: str
    read: Callable[[str], NamedVideo | None]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    coarse: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class DatasetSpec:
    """A registered data set: its loading function and the options that it accepts.

    takes_lists, takes_csv: whether it accepts LISTS= and CSV=. takes_files: whether it can be made of
    files and folders that are named one by one. names_folders: each ROOT is a
    separate data set, whose name begins with '<name>-', and whose split is drawn. has_editions: its
    name is '<name>-<edition>', such as 'kinetics-400'. drawn_in: the
    folder in the bank into which its videos are drawn, '' if they are not drawn. naming: parses the
    names of its videos, None if they contain no facts.
    """

    load: Callable[[DatasetOptions], Dataset]
    takes_lists: bool = False
    takes_csv: bool = False
    takes_files: bool = False
    names_folders: bool = False
    has_editions: bool = False
    drawn_in: str = ""
    naming: Naming | None = None
