"""Fits one detector for one set of abnormal classes and one seed, and evaluates it on the test
part."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score

import reelbank
from reelbank.data.console import counted
from reelbank.data.datasets.splits import cut_validation
from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.identity import canonical, signature
from reelbank.data.text_files import csv_file
from reelbank.fusion.bootstrap import resample_blocks
from reelbank.fusion.detectors.auc import resampled_aucs
from reelbank.fusion.detectors.autoencoder import fit_autoencoder, reconstruction_errors
from reelbank.fusion.detectors.baselines import baseline_scores
from reelbank.fusion.detectors.folder import (
    DetectorMetrics,
    DetectorRecipe,
    Threshold,
    read_metrics,
)
from reelbank.fusion.detectors.methods import AUTOENCODER, METHODS
from reelbank.fusion.detectors.videos import StoreVideos
from reelbank.fusion.options import AnomalyOptions
from reelbank.heads.runs.writing import commit, write_json

RESAMPLES = 1000  # number of resamples for the interval of an AUC


@dataclass(frozen=True)
class Cut:
    """How each video is used, (V,) bool each. train: normal training videos to fit on; validation:
    normal training videos that stop the training and set the thresholds. held_out: the ids of the
    validation videos if they were not chosen by the seed."""

    normal: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    held_out: tuple[str, ...] = ()


def fit_detector(
    options: AnomalyOptions, videos: StoreVideos, abnormal: Collection[str], seed: int
) -> DetectorMetrics:
    """Fit the autoencoder and the baselines, evaluate them on the test part, and write the folder.
    If the folder is already finished, it is read instead."""
    cut = _cut(options, videos, abnormal, seed)
    recipe = _recipe(options, videos, cut, abnormal, seed)
    folder = recipe.folder(options.bank)
    if finished := read_metrics(folder):
        return finished
    autoencoder = _fit_sizes(options, videos, cut, seed)
    model = autoencoder.model
    scores = {AUTOENCODER: autoencoder.errors}
    scores |= baseline_scores(videos.vectors[cut.train], videos.vectors, seed)
    judged = _judged(scores, cut, videos.groups, options.false_alarms)
    metrics = dataclasses.replace(
        judged, bottleneck=autoencoder.bottleneck, validation_auc=autoencoder.validation_auc
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "recipe.json",
        {
            "signature": recipe.signature,
            "recipe": recipe.to_json(),
            "store_recipe": videos.store_recipe,
            "environment": {"reelbank": reelbank.__version__, "commit": commit()},
        },
    )
    with replacing(folder / "checkpoint.safetensors") as temporary:
        save_file(model, temporary, {"recipe": canonical(recipe.to_json())})
    _write_scores(folder / "scores.csv", videos, cut, scores, metrics)
    write_json(folder / "metrics.json", metrics.to_json())
    return metrics


@dataclass(frozen=True)
class Autoencoder:
    """The arrays of an autoencoder, its reconstruction errors of all videos (V,), and its size;
    validation_auc: of each size that was tried, {} for a single one."""

    model: dict[str, np.ndarray]
    errors: np.ndarray
    bottleneck: int
    validation_auc: dict[str, float]


def _fit_sizes(options: AnomalyOptions, videos: StoreVideos, cut: Cut, seed: int) -> Autoencoder:
    """The autoencoder whose bottleneck distinguishes validation videos best: the normal ones that
    were held out from the abnormal ones of the training part. Of equally good ones the smallest.

    Raises InputError when there are several sizes and no abnormal training video.
    """
    train, validation = videos.vectors[cut.train], videos.vectors[cut.validation]
    abnormal = (videos.parts == "train") & ~cut.normal
    sizes = sorted(set(options.bottleneck))
    if len(sizes) > 1 and not abnormal.any():
        raise InputError(
            f"BOTTLENECK={' '.join(map(str, sizes))}: abnormal training videos are needed "
            f"to choose between several sizes, but split {options.split} has none; give "
            "one size"
        )
    judged = cut.validation | abnormal
    best: Autoencoder | None = None
    aucs: dict[str, float] = {}
    for size in sizes:
        model = fit_autoencoder(train, validation, options, bottleneck=size, seed=seed)
        errors = reconstruction_errors(model, videos.vectors)
        if len(sizes) > 1:
            aucs[str(size)] = float(roc_auc_score(~cut.normal[judged], errors[judged]))
        if best is None or aucs[str(size)] > aucs[str(best.bottleneck)]:
            best = Autoencoder(model, errors, size, aucs)
    assert best is not None  # the option has at least one value
    return best


def _recipe(
    options: AnomalyOptions,
    videos: StoreVideos,
    cut: Cut,
    abnormal: Collection[str],
    seed: int,
) -> DetectorRecipe:
    return DetectorRecipe(
        split=options.split,
        bottleneck=tuple(sorted(set(options.bottleneck))),
        hidden=options.hidden,
        epochs=options.epochs,
        lr=options.lr,
        validation=options.validation,
        abnormal=tuple(sorted(abnormal)),
        seed=seed,
        false_alarms=options.false_alarms,
        store=videos.store,
        dataset=videos.dataset,
        stream=videos.stream,
        coverage=signature({"ids": videos.ids}),
        held_out=signature({"ids": cut.held_out}) if cut.held_out else "",
    )


def _cut(options: AnomalyOptions, videos: StoreVideos, abnormal: Collection[str], seed: int) -> Cut:
    """Cut the videos into parts. Raises InputError when a part has too few videos for the
    options."""
    normal = ~np.isin(videos.labels, list(abnormal))
    test = videos.parts == "test"
    if not (test & ~normal).any() or not (test & normal).any():
        raise InputError(
            f"ABNORMAL={' '.join(abnormal)}: the test part of split {options.split} must contain "
            "both normal and abnormal videos; choose other classes or another SPLIT"
        )
    usable = (videos.parts == "train") & normal
    ids = np.array(videos.ids)
    drawn = cut_validation(
        ids[usable].tolist(),
        videos.labels[usable].tolist(),
        videos.groups[usable].tolist(),
        options.validation,
        seed,
    )
    stated = ids[(videos.parts == "validation") & normal].tolist()
    held_out = set(stated) or _not_learned(videos, usable) or set(drawn)
    validation = np.isin(ids, list(held_out))
    train = usable & ~validation
    if train.sum() < 2 or not validation.any():
        raise InputError(
            f"SPLIT={options.split}: the {counted(int(usable.sum()), 'normal training video')} "
            "are in too few groups to hold out a validation part; give another SPLIT or fewer "
            "abnormal classes"
        )
    smallest = 1 / validation.sum()
    if too_low := [share for share in options.false_alarms if share < smallest]:
        raise InputError(
            f"FALSE_ALARMS={too_low[0]:g}: with "
            f"{counted(int(validation.sum()), 'normal validation video')} "
            f"the rate must be at least {smallest:.3g}; give a higher rate, "
            "or a larger VALIDATION"
        )
    own = () if held_out == set(drawn) else tuple(sorted(held_out))
    return Cut(normal, train, validation, test, own)


def _not_learned(videos: StoreVideos, usable: np.ndarray) -> set[str]:
    """The usable videos of the groups that no head or backbone was trained on here: videos that a
    head has learned have other embeddings than test videos. Empty if nothing was learned here, or
    every group was."""
    if not videos.learned:
        return set()
    key_of = [
        (group, "" if group else name)
        for group, name in zip(videos.groups, videos.ids, strict=True)
    ]
    learned_keys = {
        key for key, name in zip(key_of, videos.ids, strict=True) if name in videos.learned
    }
    return {
        name
        for name, key, is_usable in zip(videos.ids, key_of, usable, strict=True)
        if is_usable and key not in learned_keys
    }


def _judged(
    scores: dict[str, np.ndarray],
    cut: Cut,
    groups: np.ndarray,
    false_alarms: Collection[float],
) -> DetectorMetrics:
    """The figures of the test part."""
    abnormal = ~cut.normal[cut.test]
    errors = scores[AUTOENCODER]
    return DetectorMetrics(
        auc={
            method: float(roc_auc_score(abnormal, scores[method][cut.test])) for method in METHODS
        },
        interval=_auc_interval(abnormal, errors[cut.test], groups[cut.test].tolist()),
        thresholds=tuple(_threshold(errors, cut, share) for share in false_alarms),
        normal_videos=int((~abnormal).sum()),
        abnormal_videos=int(abnormal.sum()),
    )


def _threshold(errors: np.ndarray, cut: Cut, share: float) -> Threshold:
    """The error that at most `share` of the normal validation videos exceed."""
    threshold = float(np.quantile(errors[cut.validation], 1 - share, method="higher"))
    above, normal = errors[cut.test] > threshold, cut.normal[cut.test]
    return Threshold(share, threshold, float(above[normal].mean()), float(above[~normal].mean()))


def _auc_interval(
    abnormal: np.ndarray, errors: np.ndarray, groups: list[str]
) -> tuple[float, float]:
    """The 95 % bootstrap interval of the AUC over groups. A resample without a normal or without an
    abnormal video has no AUC and is skipped."""
    resampled = resampled_aucs(abnormal, errors, resample_blocks(groups, RESAMPLES))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def _write_scores(
    path: Path,
    videos: StoreVideos,
    cut: Cut,
    scores: dict[str, np.ndarray],
    metrics: DetectorMetrics,
) -> None:
    """Write a row for each video with its scores by every method and the thresholds that it
    exceeds."""
    parts = np.where(cut.validation, "validation", videos.parts)
    with csv_file(path) as writer:
        alarms = [threshold.column for threshold in metrics.thresholds]
        writer.writerow(("video_id", "label", "part", "normal", *METHODS, *alarms))
        for row, name in enumerate(videos.ids):
            values = [float(scores[method][row]) for method in METHODS]
            above = [int(values[0] > threshold.threshold) for threshold in metrics.thresholds]
            facts = (name, str(videos.labels[row]), str(parts[row]), int(cut.normal[row]))
            writer.writerow((*facts, *values, *above))
