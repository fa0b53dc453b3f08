"""Options of the commands stores, inspect, verify, pack, remove, import and export."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.feature_recipe import DEFAULT_STREAM
from reelbank.data.options import bank_option, banks_option, json_option, option
from reelbank.data.ranges import MOST_FPS, MOST_ROWS, Checked
from reelbank.data.store.exchange.formats.registry import FORMATS

MOST_CROPS = 1000


@dataclass(frozen=True)
class StoresOptions(Checked, WithBanks):
    """Options of the command `stores`."""

    bank: str = bank_option()
    json: bool = json_option()
    banks: tuple[str, ...] = banks_option()


@dataclass(frozen=True)
class InspectOptions(Checked, WithBanks):
    """Options of the command `inspect`."""

    bank: str = bank_option()
    store: str = option(
        "",
        "feature store, given as the start of its hash or as the path of its file",
        positional=True,
        unset="the only store of the bank",
    )
    json: bool = json_option()
    banks: tuple[str, ...] = banks_option()


@dataclass(frozen=True)
class VerifyOptions(Checked, WithBanks):
    """Options of the command `verify`."""

    bank: str = bank_option()
    store: str = option(
        "",
        "feature store to check, given as the start of its hash or as the path of its file",
        positional=True,
        unset="all stores of the bank",
    )
    banks: tuple[str, ...] = banks_option()


@dataclass(frozen=True)
class PackOptions(Checked, WithBanks):
    """Options of the command `pack`."""

    bank: str = bank_option()
    store: str = option(
        "",
        "feature store to pack, given as the start of its hash or as the path of its file",
        positional=True,
        unset="the only store of the bank",
    )
    banks: tuple[str, ...] = banks_option()


@dataclass(frozen=True)
class RemoveOptions(Checked, WithBanks):
    """Options of the command `remove`."""

    bank: str = bank_option()
    store: str = option(
        "",
        "feature store to delete, given as the start of its hash or as the path of its file",
        positional=True,
    )
    yes: bool = option(False, "delete without asking for confirmation")
    banks: tuple[str, ...] = banks_option()


@dataclass(frozen=True)
class ImportOptions(Checked):
    """Options of the command `import`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Files and labels": "file dataset csv annotations",
        "Times": "stride offset fps",
        "Features": "crops stream extractor",
        "Store": "bank",
    }

    file: str = option(
        "",
        "HDF5 file, .parquet file, or folder with .npy, .npz or .parquet files, to import, see "
        "docs/store.md",
        positional=True,
    )
    dataset: str = option(
        "",
        "name of the data set; for ucf101, labels and splits are derived from the names of "
        "the videos",
        unset="that of an exported store; ucf101, if all videos are named as in UCF101",
    )
    csv: str = option(
        "",
        "CSV file with the labels of the videos. Its columns are path (the name of a video in "
        "FILE), label and, optionally, group and split. For multi-label data, use a column "
        "'labels' with class names separated by ';'",
    )
    annotations: str = option(
        "",
        "JSON file with the annotated actions of the videos, in the form of ActivityNet, "
        "ActionFormer and OpenTAD; it replaces CSV",
    )
    stride: float | None = option(
        None,
        "for files without times: frames from one row to the next",
        unset="unknown; the rows are numbered",
        above=0,
        highest=MOST_ROWS,
    )
    offset: float = option(
        0.0,
        "with STRIDE: frames from the beginning of a video to the centre of the first row "
        "(offset_frames of OpenTAD, half of num_frames of ActionFormer)",
        lowest=0,
        highest=MOST_ROWS,
    )
    fps: float | None = option(
        None,
        "with STRIDE: frames per second of all videos",
        unset="that of each video in ANNOTATIONS",
        above=0,
        highest=MOST_FPS,
    )
    crops: int = option(
        0,
        "number of crops in files (T, CROPS, D), whose features are kept separately",
        lowest=0,
        highest=MOST_CROPS,
    )
    stream: str = option(
        "",
        "stream from which the features were computed",
        unset=f"that of an exported store, and {DEFAULT_STREAM} for other files",
    )
    extractor: str = option(
        "",
        "network or method that computed the features",
        unset="that of an exported store, and the name of other files",
    )
    bank: str = bank_option()


@dataclass(frozen=True)
class ExportOptions(Checked, WithBanks):
    """Options of the command `export`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "Store": "store bank banks",
        "Files": "to format split",
        "Some formats": "annotations normal root",
    }
    # Options that only some formats use.
    OF_FORMATS: ClassVar[tuple[str, ...]] = ("annotations", "normal", "root")

    store: str = option(
        "",
        "feature store, given as the start of its hash or as the path of its file",
        positional=True,
        unset="the only store of the bank",
    )
    to: str = option(
        "",
        "folder to create (one .npy file per video), or .h5 file to create (one dataset per video); "
        "with FORMAT, the folder or file of this format",
    )
    format: str = option(
        "",
        "format of the files, see docs/store.md",
        choices=tuple(FORMATS),
        unset="by the ending of TO, and npy for a folder",
    )
    annotations: str = option(
        "",
        "for FORMAT=opentad and mstcn: JSON file with the annotated actions of the videos, "
        "in the form of ActivityNet",
        unset="annotations that were imported; otherwise each video is one action of its class",
    )
    normal: str = option(
        "",
        "for FORMAT=tencrop: class of the normal videos",
        unset="the only class whose name begins with 'normal'",
    )
    split: str = option(
        "",
        "split for the CSV file that is written next to the features; this file says whether "
        "a video is in the training or the test part",
        unset="the first split",
    )
    root: str = option(
        "", "folder of the videos, for the formats whose files name the path of each video"
    )
    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()
