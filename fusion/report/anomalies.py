"""The report's section on anomaly detection. It shows the results of `reelbank anomaly` in the
bank, with one row for each set of held-out classes."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.fusion.detectors.folder import Detector, Threshold, read_detector
from reelbank.fusion.detectors.methods import METHODS
from reelbank.fusion.report.view import Cell, Column, Number, RowName, Section, Table, Text


@dataclass(frozen=True)
class DetectorSeeds:
    """An experiment on anomalies with all its seeds. auc: values of all seeds by method; interval,
    thresholds: those of the first method with the first seed. sizes: of the bottleneck, those that
    were tried; bottleneck: the chosen one of each seed."""

    abnormal: tuple[str, ...]
    stream: str
    store: str
    split: str
    auc: Mapping[str, tuple[float, ...]]
    interval: tuple[float, float]
    thresholds: tuple[Threshold, ...]
    sizes: tuple[int, ...]
    bottleneck: tuple[int, ...]


def read_detectors(bank: str, datasets: Sequence[str]) -> list[DetectorSeeds]:
    """The experiments in the finished folders of <bank>/anomalies on these data sets. The seeds of
    one experiment are grouped. A note on stderr names each folder that cannot be read."""
    seeds_of: dict[str, list[Detector]] = {}
    for folder in sorted(Path(bank, "anomalies").glob("*/")):
        try:
            detector = read_detector(folder)
        except InputError as error:
            print_lines(
                f"note: an anomaly detector is left out of the report: {error}", file=sys.stderr
            )
            continue
        if detector and detector.recipe.dataset in datasets:
            seeds_of.setdefault(detector.recipe.experiment, []).append(detector)
    detectors = map(_with_seeds, seeds_of.values())
    return sorted(detectors, key=lambda detector: (detector.stream, detector.abnormal))


def _with_seeds(seeds: Sequence[Detector]) -> DetectorSeeds:
    recipe, metrics = seeds[0].recipe, seeds[0].metrics
    return DetectorSeeds(
        abnormal=recipe.abnormal,
        stream=recipe.stream,
        store=recipe.store,
        split=recipe.split,
        auc={method: tuple(seed.metrics.auc[method] for seed in seeds) for method in METHODS},
        interval=metrics.interval,
        thresholds=metrics.thresholds,
        sizes=recipe.bottleneck,
        bottleneck=tuple(seed.metrics.bottleneck or seed.recipe.bottleneck[0] for seed in seeds),
    )


def anomaly_section(detectors: Sequence[DetectorSeeds]) -> Section | None:
    if not detectors:
        return None
    columns = [
        Column("Abnormal classes"),
        Column("Stream"),
        Column("Store"),
        Column("Split"),
        Column("Seeds", number=True),
        Column("Bottleneck"),
        *(Column(f"{method.capitalize()} AUC", number=True) for method in METHODS),
        Column("95 % interval"),
        Column("False alarms accepted, %", number=True),
        Column("False alarms on test, %", number=True),
        Column("Detected on test, %", number=True),
    ]
    about = (
        "The autoencoder and the baselines are fitted on normal training videos only. "
        "AUC measures how well abnormal test videos are separated from normal ones (0.5 "
        "is chance). The interval and the thresholds are those of the autoencoder with "
        "the first seed. Each threshold is chosen so that at most the accepted share of "
        "the normal validation videos is above it. If several sizes of the bottleneck "
        "are given, the size with the highest AUC on validation videos is used."
    )
    table = Table(columns, [_row(detector) for detector in detectors], about)
    return Section("Anomalies", [table])


def _row(detector: DetectorSeeds) -> list[Cell]:
    low, high = detector.interval
    thresholds = detector.thresholds
    seeds = len(detector.auc[METHODS[0]])
    return [
        RowName(", ".join(detector.abnormal)),
        Text(detector.stream or "–"),
        Text("+".join(store[:8] for store in detector.store.split("+")), code=True),
        Text(detector.split),
        Number(seeds, str(seeds)),
        Text(_bottleneck(detector)),
        *(_auc(values) for values in detector.auc.values()),
        Text(f"{low:.3f}–{high:.3f}", "w quiet"),
        _shares([threshold.asked for threshold in thresholds]),
        _shares([threshold.false_alarms for threshold in thresholds]),
        _shares([threshold.detected for threshold in thresholds]),
    ]


def _bottleneck(detector: DetectorSeeds) -> str:
    chosen = ", ".join(map(str, dict.fromkeys(detector.bottleneck)))
    if len(detector.sizes) == 1:
        return chosen
    return f"{chosen} (chosen from {', '.join(map(str, detector.sizes))})"


def _auc(values: Sequence[float]) -> Number:
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return Number(float(np.mean(values)), f"{np.mean(values):.3f}{deviation}")


def _shares(shares: Sequence[float]) -> Number:
    """A cell with one share for each threshold. The column is sorted by the first share."""
    text = ", ".join(f"{100 * share:.1f}" for share in shares)
    return Number(100 * shares[0] if shares else 0.0, text)
