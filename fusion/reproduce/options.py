"""Options of the command `reproduce`."""

from dataclasses import dataclass
from typing import ClassVar

from reelbank.data.banks import WithBanks
from reelbank.data.datasets.options import (
    csv_option,
    dataset_name_option,
    dataset_option,
    image_fps_option,
    lists_option,
    root_option,
)
from reelbank.data.errors import InputError
from reelbank.data.options import (
    bank_option,
    banks_option,
    cluster_option,
    device_option,
    option,
)
from reelbank.data.ranges import HIGHEST_SEED, MOST_PX, MOST_WORKERS, Checked
from reelbank.extract.defaults import FILES_DATASET, USUAL_DATASET


@dataclass(frozen=True)
class ReproduceOptions(Checked, WithBanks):
    """Options of the command `reproduce`."""

    GROUPS: ClassVar[dict[str, str]] = {
        "What to reproduce": "system only split seed quick set scores plan",
        "Videos": "dataset root lists csv dataset_name classes image_fps",
        "Another network": "extractor weights resize size",
        "Machine": "device cluster workers bank banks",
    }

    system: str = option(
        "",
        "published system to reproduce: the name of a built-in recipe, such as 'mrrn', or a "
        "TOML file",
        positional=True,
    )
    dataset: str = dataset_option(USUAL_DATASET)
    root: str = root_option()
    lists: str = lists_option()
    csv: str = csv_option()
    dataset_name: str = dataset_name_option()
    image_fps: float | None = image_fps_option()
    classes: tuple[str, ...] = option((), "use only the videos of these classes", unset="all")
    only: tuple[str, ...] = option(
        (),
        "names of the tables and figures to make, such as 'figure3'; only the stores and runs "
        "that they need are computed",
        unset="all",
    )
    quick: bool = option(
        False,
        "run a shortened version of the recipe, which takes minutes on a CPU; the tables say "
        "what was shortened",
    )
    plan: bool = option(
        False,
        "print what would be extracted and trained, and the time and disk space needed, "
        "without computing or writing anything",
    )
    set: str = option(
        "",
        "changes to the recipe, written as section.name.option=value, such as "
        "models.gru.hidden=128",
    )
    scores: tuple[str, ...] = option(
        (),
        "score files to use instead of training a model of the recipe, written as model=file "
        "with one file for each split, such as 'idt=split1.npz idt=split2.npz'",
    )
    split: tuple[str, ...] = option(
        (),
        "splits to train and evaluate on",
        unset="the splits in the paper's tables; with QUICK, only the first of them",
    )
    seed: tuple[int, ...] = option(
        (0,),
        "random seeds for the heads; each seed gives a separate run of each head",
        lowest=0,
        highest=HIGHEST_SEED,
    )
    extractor: str = option("", "network to use instead of the recipe's pretrained network")
    weights: str = option("", "weights of EXTRACTOR; accepts the same values as 'reelbank extract'")
    resize: str = option(
        "",
        "with EXTRACTOR, size in pixels to which pictures are resized: one number for the "
        "short side, or height x width",
        lowest=1,
        highest=MOST_PX,
    )
    size: str = option(
        "",
        "with EXTRACTOR, side length of the square crops in pixels",
        lowest=1,
        highest=MOST_PX,
    )
    device: str = device_option()
    cluster: str = cluster_option()
    workers: int = option(
        0,
        "number of decoding processes; 0 chooses the number in the same way as 'reelbank extract'",
        lowest=0,
        highest=MOST_WORKERS,
    )
    bank: str = bank_option()
    banks: tuple[str, ...] = banks_option()

    def __post_init__(self) -> None:
        if not self.dataset:
            for name in ("root", "csv"):
                if value := getattr(self, name):  # the numbers of a paper are of one data set
                    raise InputError(
                        f"{name.upper()}={value} needs DATASET: the data set of these videos, such "
                        f"as DATASET=ucf101, or DATASET={FILES_DATASET} for your own"
                    )
            object.__setattr__(self, "dataset", USUAL_DATASET)
        super().__post_init__()
