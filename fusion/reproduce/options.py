"""Options of the command `reproduce`."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.datasets.options import (
    csv_option,
    dataset_option,
    image_fps_option,
    lists_option,
    root_option,
)
from reelbank.data.options import bank_option, device_option, option
from reelbank.data.ranges import HIGHEST_SEED, MOST_PX, MOST_WORKERS, Checked
from reelbank.extract.defaults import USUAL_DATASET


@dataclass(frozen=True)
class ReproduceOptions(Checked):
    """Options of the command `reproduce`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "What to reproduce": "system only split seed quick set scores plan",
        "Videos": "dataset root lists csv classes image_fps",
        "Another network": "extractor weights resize size",
        "Machine": "device workers bank",
    }

    system: str = option("", "recipe of the system, by name or as a TOML file", positional=True)
    dataset: str = dataset_option(USUAL_DATASET)
    root: str = root_option()
    lists: str = lists_option()
    csv: str = csv_option()
    image_fps: float | None = image_fps_option()
    classes: tuple[str, ...] = option((), "use only the videos of these classes", unset="all")
    only: tuple[str, ...] = option(
        (),
        "make only these tables and figures, with the stores and runs that they need",
        unset="all",
    )
    quick: bool = option(
        False,
        "run a shortened version of the recipe in minutes on a CPU; the tables say what was "
        "shortened",
    )
    plan: bool = option(
        False,
        "print what would be extracted and trained, with the time and disk space needed, then stop",
    )
    set: str = option(
        "",
        "values that replace those of the recipe, as section.name.option=value, such as "
        "models.gru.hidden=128",
    )
    scores: tuple[str, ...] = option(
        (),
        "score files to use instead of models of the recipe, one for each split, such as "
        "'idt=split1.npz idt=split2.npz'",
    )
    split: tuple[str, ...] = option(
        (), "splits to run", unset="those that the tables name; with QUICK, the first of them"
    )
    seed: tuple[int, ...] = option(
        (0,), "seeds for the heads, one run each", lowest=0, highest=HIGHEST_SEED
    )
    extractor: str = option("", "network to use instead of the recipe's pretrained network")
    weights: str = option(
        "", "with EXTRACTOR, its weights; the values are those of 'reelbank extract'"
    )
    resize: str = option(
        "",
        "with EXTRACTOR, length in pixels to which the short side of pictures is resized, or height "
        "x width",
        lowest=1,
        highest=MOST_PX,
    )
    size: str = option(
        "",
        "with EXTRACTOR, side length of the crops in pixels",
        lowest=1,
        highest=MOST_PX,
    )
    device: str = device_option()
    workers: int = option(
        0,
        "number of decoding processes; 0 means the same as for 'reelbank extract'",
        lowest=0,
        highest=MOST_WORKERS,
    )
    bank: str = bank_option()
