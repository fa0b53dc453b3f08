"""A fitted detector as a folder of the bank. The folder anomalies/<data set>-<hash of its recipe>
contains recipe.json, checkpoint.safetensors, scores.csv and metrics.json, which is written last."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from reelbank.data.errors import InputError
from reelbank.data.files import read_text
from reelbank.data.identity import in_file_name, signature
from reelbank.fusion.detectors.methods import METHODS

REMEDY = "remove the folder and run the command again"


@dataclass(frozen=True)
class DetectorRecipe:
    """Everything that a detector depends on; its hash names the folder. bottleneck: the sizes that
    were tried; store: the store's identity; coverage: hash of the videos' ids; held_out: hash of
    the validation videos, "" if they follow from the seed."""

    split: str
    bottleneck: tuple[int, ...]
    hidden: int
    epochs: int
    lr: float
    validation: float
    abnormal: tuple[str, ...]
    seed: int
    false_alarms: tuple[float, ...]
    store: str
    dataset: str
    stream: str
    coverage: str
    held_out: str = ""

    def to_json(self) -> dict[str, Any]:
        """The contents of recipe.json. A single size and an empty `held_out` are as in earlier
        versions, so that their folders are found."""
        document = asdict(self)
        if not self.held_out:
            del document["held_out"]
        sizes = list(self.bottleneck)
        return document | {
            "bottleneck": sizes[0] if len(sizes) == 1 else sizes,
            "abnormal": list(self.abnormal),
            "false_alarms": list(self.false_alarms),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "DetectorRecipe":
        """Raises KeyError, TypeError or ValueError for another document."""
        document = {"held_out": "", **document}
        values = {each.name: document[each.name] for each in fields(cls)}
        if isinstance(values["bottleneck"], int):
            values["bottleneck"] = [values["bottleneck"]]
        if not all(isinstance(size, int) for size in values["bottleneck"]):
            raise ValueError(
                f"bottleneck must be a list of whole numbers (got {values['bottleneck']})"
            )
        texts = [values[name] for name in ("dataset", "stream", "store", "split")]
        if not all(isinstance(text, str) for text in (*texts, *values["abnormal"])):
            raise ValueError("dataset, stream, store, split and abnormal must be strings")
        if not isinstance(values["seed"], int):
            raise ValueError(f"seed must be a whole number (got {values['seed']!r})")
        for name in ("bottleneck", "abnormal", "false_alarms"):
            values[name] = tuple(values[name])
        return cls(**values)

    @property
    def signature(self) -> str:
        return signature(self.to_json())

    @property
    def experiment(self) -> str:
        """Hash of the recipe without the seed. Repetitions with other seeds have the same hash."""
        return signature({key: value for key, value in self.to_json().items() if key != "seed"})

    def folder(self, bank: str | Path) -> Path:
        return Path(bank, "anomalies", f"{in_file_name(self.dataset)}-{self.signature[:12]}")


@dataclass(frozen=True)
class Threshold:
    """A reconstruction error above which a video counts as abnormal. asked: the accepted share of
    normal validation videos above it; false_alarms: the share of normal test videos above it;
    detected: the share of abnormal test videos above it."""

    asked: float
    threshold: float
    false_alarms: float
    detected: float

    @property
    def column(self) -> str:
        """The name of its column in CSV files."""
        return f"alarm at {100 * self.asked:g} %"


@dataclass(frozen=True)
class DetectorMetrics:
    """The figures of a detector on the test part. auc: area under the ROC curve by method;
    interval: the ends of the 95 % interval of the autoencoder's AUC; thresholds: the autoencoder's
    thresholds. bottleneck: the autoencoder's size, 0 if the folder does not contain it;
    validation_auc: of each size on validation videos, if several were tried."""

    auc: dict[str, float]
    interval: tuple[float, float]
    thresholds: tuple[Threshold, ...]
    normal_videos: int
    abnormal_videos: int
    bottleneck: int = 0
    validation_auc: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "auc": self.auc,
            "interval": list(self.interval),
            "thresholds": [asdict(threshold) for threshold in self.thresholds],
            "normal_videos": self.normal_videos,
            "abnormal_videos": self.abnormal_videos,
            "bottleneck": self.bottleneck,
            "validation_auc": self.validation_auc,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "DetectorMetrics":
        """Raises KeyError, TypeError or ValueError for another document."""
        low, high = document["interval"]
        names = [each.name for each in fields(Threshold)]
        thresholds = [
            Threshold(**{name: threshold[name] for name in names})
            for threshold in document["thresholds"]
        ]
        metrics = cls(
            auc={method: document["auc"][method] for method in METHODS},
            interval=(low, high),
            thresholds=tuple(thresholds),
            normal_videos=document["normal_videos"],
            abnormal_videos=document["abnormal_videos"],
            bottleneck=document.get("bottleneck", 0),
            validation_auc=dict(document.get("validation_auc", {})),
        )
        numbers = [*metrics.auc.values(), low, high]
        numbers += [metrics.bottleneck, *metrics.validation_auc.values()]
        numbers += [metrics.normal_videos, metrics.abnormal_videos]
        for threshold in thresholds:
            numbers += asdict(threshold).values()
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("all metrics must be numbers")
        return metrics


@dataclass(frozen=True)
class Detector:
    """A finished folder. store_recipe: recipe of the store that the detector was fitted on, or None
    if the folder does not contain it."""

    path: Path
    recipe: DetectorRecipe
    store_recipe: dict[str, Any] | None
    metrics: DetectorMetrics


def read_metrics(folder: Path) -> DetectorMetrics | None:
    """The figures of a finished folder, or None if the folder is not finished. Raises InputError
    when the figures are damaged."""
    path = folder / "metrics.json"
    if not path.exists():
        return None
    try:
        return DetectorMetrics.from_json(json.loads(read_text(path)))
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}; {REMEDY}") from None


def read_detector(folder: Path) -> Detector | None:
    """Read a finished folder. Returns None if it is not finished. Raises InputError when it is
    damaged."""
    metrics = read_metrics(folder)
    if metrics is None:
        return None
    path = folder / "recipe.json"
    try:
        document = json.loads(read_text(path))
        recipe = DetectorRecipe.from_json(document["recipe"])
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}; {REMEDY}") from None
    return Detector(folder, recipe, document.get("store_recipe"), metrics)


def finished_detectors(bank: str | Path) -> list[Path]:
    """The finished folders of the bank, by name."""
    folders = Path(bank, "anomalies").glob("*/")
    return sorted(path for path in folders if (path / "metrics.json").exists())
