"""Command `anomaly`: what is unlike the videos that are called normal, by an autoencoder's reconstruction error (multi-stream
paper, anomaly detection on video embeddings), beside two baselines that need no training by gradient."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import canonical, differences, in_file_name, option, signature
from reelbank.data.replacing import replacing
from reelbank.data.shelf import find_store
from reelbank.data.splits import cut_validation
from reelbank.data.store import Store
from reelbank.fusion.judge import draws
from reelbank.heads.leak import check_unseen
from reelbank.heads.normalise import mean_and_scale
from reelbank.heads.runs import commit, find_runs, write_json
from reelbank.heads.train import few_threads

METHODS = ("autoencoder", "mahalanobis", "isolation forest")
PATIENCE, RESAMPLES = 20, 1000


@dataclass(frozen=True)
class AnomalyOptions:
    """Options of the command `anomaly`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    store: str = option("", "the feature store: the start of its hash, or its file; a video is the mean of its rows")
    run: str = option("", "in its place a run: its embeddings")
    detector: str = option(
        "", "judge all videos of STORE by a detector fitted before: its folder's name or the start of its hash"
    )
    abnormal: tuple[str, ...] = option((), "classes that are called abnormal; all others are normal")
    each: bool = option(False, "in place of ABNORMAL every class in turn, and one table")
    split: str = option("1", "split whose training part is learned from and whose test part is judged")
    seed: tuple[int, ...] = option((0,), "one or several, of weights, batches and the validation cut")
    bottleneck: int = option(16, "units of the narrowest layer")
    hidden: int = option(128, "units of the layers before and after it")
    epochs: int = option(300, "at most; it stops after 20 without a lower validation error")
    lr: float = option(1e-3, "Adam's learning rate")
    validation: float = option(
        0.2, "share of the normal training videos, by whole groups, that stops training and sets thresholds"
    )
    false_alarms: tuple[float, ...] = option(
        (0.05, 0.1), "shares of normal videos that may be called abnormal: one threshold each"
    )


class Material(NamedTuple):
    """A store's videos of one split: ids (V), vectors (V, D) float64, labels (V), groups (V), parts (V): "train" or "test"."""

    ids: list[str]
    vectors: np.ndarray
    labels: list[str]
    groups: list[str]
    parts: np.ndarray
    identity: str
    dataset: str
    stream: str
    recipe: dict[str, Any]
    unlabelled: int  # videos of the split that are left out, since nobody says whether they are normal


def anomaly(options: AnomalyOptions) -> int:
    """Fit and judge, print tables, and leave a folder for each class (or ABNORMAL) and seed in <bank>/anomalies; returns the
    exit code. Raises InputError where store, split, classes or options do not fit."""
    if options.detector:
        return detect(options)
    if bool(options.abnormal) == options.each:
        raise InputError("ABNORMAL='class class' or EACH=1: give one of them; or DETECTOR=<hash>, to judge other videos")
    for name in ("bottleneck", "hidden", "epochs", "lr"):
        if not 0 < getattr(options, name) < np.inf:
            raise InputError(f"{name.upper()}={getattr(options, name)}: must be above 0")
    if not 0 < options.validation < 1 or not all(0 < rate < 1 for rate in options.false_alarms):
        raise InputError("VALIDATION and FALSE_ALARMS are shares: above 0 and below 1")
    material = read_material(options)
    if material.unlabelled:
        print(f"note: {material.unlabelled} videos without a label are left out; DETECTOR= judges them")
    known = sorted(set(material.labels))
    if unknown := [name for name in options.abnormal if name not in known]:
        raise InputError(
            f"ABNORMAL={' '.join(options.abnormal)}: there is no class {unknown[0]!r}; there are {', '.join(known)}"
        )
    held = [(name,) for name in known] if options.each else [options.abnormal]
    for note in _notes(options, held):
        print(printable(f"note: {note}"))
    heads = ("abnormal", "seeds", "normal", "abnormal videos", *(f"{method} AUC" for method in METHODS))
    lines = [(*heads, f"95 % ({METHODS[0]}, first seed)")]
    of_all: dict[str, list[float]] = {method: [] for method in METHODS}
    for abnormal in held:
        found = [run_once(options, material, abnormal, seed) for seed in dict.fromkeys(options.seed)]
        first, means = found[0], {method: [one["auc"][method] for one in found] for method in METHODS}
        counts = (str(len(found)), str(first["normal_videos"]), str(first["abnormal_videos"]))
        low, high = first["interval"]
        lines.append((" ".join(abnormal), *counts, *(_mean(means[method]) for method in METHODS), f"{low:.3f} to {high:.3f}"))
        for method in METHODS:
            of_all[method] += means[method]
    if options.each:
        lines.append(("mean", "", "", "", *(_mean(of_all[method]) for method in METHODS), ""))
    print_table(lines)
    if not options.each:
        asked = ("false alarms asked", "threshold", "false alarms on test", "detected on test")
        print(f"\n{METHODS[0]}, first seed:")
        print_table([asked, *map(_threshold_line, first["thresholds"])])
    print(printable(f"scores of every video: {Path(options.bank, 'anomalies')}/*/scores.csv"))
    return 0


def _mean(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def _threshold_line(one: dict[str, float]) -> tuple[str, ...]:
    return (
        f"{100 * one['asked']:g} %",
        f"{one['threshold']:.4g}",
        f"{100 * one['false_alarms']:.1f} %",
        f"{100 * one['detected']:.1f} %",
    )


def _notes(options: AnomalyOptions, held: Sequence[Sequence[str]]) -> list[str]:
    if not options.run:
        return []
    (run,) = find_runs(options.bank, [options.run])
    seen = sorted({name for some in held for name in some} & set(run.recipe.get("classes", ())))
    if not seen:
        return []
    return [f"the head of these embeddings learned {', '.join(seen)}, so figures flatter; train it without them (CLASSES=)"]


def read_material(options: AnomalyOptions) -> Material:
    """The videos of the split with one vector each. Raises InputError for feature maps, a split that is not there, or a store
    whose backbone or head has seen the split's test videos."""
    if bool(options.store) == bool(options.run):
        raise InputError("STORE= or RUN=: give one of them")
    path = (
        find_runs(options.bank, [options.run])[0].path / "embeddings.h5"
        if options.run
        else find_store(options.bank, options.store)
    )
    with Store.open(path) as store:
        splits = list(store.dataset["splits"])
        if options.split not in splits:
            raise InputError(f"SPLIT={options.split}: {store.path} has the splits {', '.join(splits) or '(none)'}")
        check_unseen(store, options.split)
        if len(store.row_shape) != 1:
            raise InputError(f"{store.path}: its rows are maps of shape {store.row_shape}; an autoencoder here takes vectors")
        if store.dataset.get("multilabel"):
            raise InputError(f"{store.path}: its videos have several labels each; what is normal is told by one label a video")
        place = splits.index(options.split)
        rows = [i for i, parts in enumerate(store.parts) if parts[place] in ("train", "test") and store.labels[i]]
        if not rows:
            raise InputError(f"{store.path}: split {options.split} has no video with a label, which tells what is normal")
        unlabelled = sum(parts[place] in ("train", "test") for parts in store.parts) - len(rows)
        vectors = mean_rows(store, [store.video_ids[i] for i in rows])
        return Material(
            [store.video_ids[i] for i in rows],
            vectors,
            [store.labels[i] for i in rows],
            [store.groups[i] for i in rows],
            np.array([store.parts[i][place] for i in rows]),
            store.identity,
            store.dataset["name"],
            str(store.recipe.get("stream", "")),
            store.recipe,
            unlabelled,
        )


def run_once(options: AnomalyOptions, material: Material, abnormal: Sequence[str], seed: int) -> dict[str, Any]:
    """Fit the autoencoder and the baselines, judge them on the test part, write the folder; its metrics. What is there already
    is read."""
    chosen = ("split", "bottleneck", "hidden", "epochs", "lr", "validation")
    recipe = {name: getattr(options, name) for name in chosen} | {"abnormal": sorted(abnormal), "seed": seed}
    recipe |= {"false_alarms": list(options.false_alarms), "store": material.identity}
    recipe |= {"dataset": material.dataset, "stream": material.stream, "coverage": signature({"ids": material.ids})}
    folder = Path(options.bank, "anomalies", f"{in_file_name(material.dataset)}-{signature(recipe)[:12]}")
    done = read_metrics(folder)
    if done:
        return done
    normal = np.array([label not in abnormal for label in material.labels])
    train, test = material.parts == "train", material.parts == "test"
    if not (test & ~normal).any() or not (test & normal).any():
        raise InputError(
            f"ABNORMAL={' '.join(abnormal)}: the test part of split {options.split} needs normal and abnormal videos"
        )
    names = np.array(material.ids)
    labels, groups = np.array(material.labels), np.array(material.groups)
    learn = train & normal
    cut = cut_validation(names[learn].tolist(), labels[learn].tolist(), groups[learn].tolist(), options.validation, seed)
    held = learn & np.isin(names, list(cut))
    kept = learn & ~held
    if kept.sum() < 2 or not held.any():
        raise InputError(
            f"SPLIT={options.split}: {learn.sum()} normal training videos in too few groups to cut validation from"
        )
    smallest = 1 / held.sum()
    if too_few := [rate for rate in options.false_alarms if rate < smallest]:
        raise InputError(
            f"FALSE_ALARMS={too_few[0]:g}: {held.sum()} normal validation videos tell no share below {smallest:.3g}; give a "
            "higher one, or a larger VALIDATION"
        )
    model = fitted(material.vectors[kept], material.vectors[held], options, seed)
    scores = {"autoencoder": reconstruction_errors(model, material.vectors)}
    scores |= baselines(material.vectors[kept], material.vectors, seed)
    metrics = _judged(scores, normal, test, held, material.groups, options.false_alarms)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"reelbank": reelbank.__version__, "commit": commit()}
    about = {"signature": signature(recipe), "recipe": recipe, "store_recipe": material.recipe, "environment": environment}
    write_json(folder / "recipe.json", about)
    with replacing(folder / "checkpoint.safetensors") as temporary:
        save_file(model, temporary, {"recipe": canonical(recipe)})
    parts = np.where(held, "validation", material.parts)
    with replacing(folder / "scores.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        alarms = [f"alarm at {100 * one['asked']:g} %" for one in metrics["thresholds"]]
        writer.writerow(("video_id", "label", "part", "normal", *METHODS, *alarms))
        for row, name in enumerate(material.ids):
            values = [float(scores[method][row]) for method in METHODS]
            over = [int(values[0] > one["threshold"]) for one in metrics["thresholds"]]
            writer.writerow((name, material.labels[row], parts[row], int(normal[row]), *values, *over))
    write_json(folder / "metrics.json", metrics)
    return metrics


def read_metrics(folder: Path) -> dict[str, Any]:
    """What a finished folder's metrics.json says; {} where there is none. Raises InputError when it is damaged."""
    path = folder / "metrics.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        numbers = [*(found["auc"][method] for method in METHODS), *found["interval"]]
        numbers += [one[key] for one in found["thresholds"] for key in ("asked", "threshold", "false_alarms", "detected")]
        numbers += [found["normal_videos"], found["abnormal_videos"]]
        if len(found["interval"]) != 2 or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("a part is no number")
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}; remove the folder and run it again") from None
    return found


def read_folder(folder: Path) -> dict[str, Any]:
    """A finished folder's "recipe", "store_recipe" and "metrics"; {} where it is not finished. Raises InputError when it is
    damaged."""
    metrics, path = read_metrics(folder), folder / "recipe.json"
    if not metrics:
        return {}
    try:
        document = json.loads(path.read_text())
        recipe = document["recipe"]
        texts = [recipe[key] for key in ("dataset", "stream", "store", "split")]
        if not all(isinstance(text, str) for text in (*texts, *recipe["abnormal"])) or not isinstance(recipe["seed"], int):
            raise ValueError("a part is no text")
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}; remove the folder and run it again") from None
    return {"recipe": recipe, "store_recipe": document.get("store_recipe"), "metrics": metrics}


def detect(options: AnomalyOptions) -> int:
    """Judge every video of a store by a detector that was fitted before: the strangest are printed, all are left in a CSV
    beside the detector. Raises InputError where the store was not extracted as the detector's was."""
    if options.run or not options.store or options.abnormal or options.each:
        raise InputError("DETECTOR=: give STORE= with it, the store to judge, and neither RUN, ABNORMAL nor EACH")
    there = sorted(path for path in Path(options.bank, "anomalies").glob("*/") if (path / "metrics.json").exists())
    fits = [
        path
        for path in there
        if options.detector in (path.name, str(path)) or path.name.rpartition("-")[2].startswith(options.detector)
    ]
    if len(fits) != 1:
        known = ", ".join(path.name for path in fits or there) or "none; fit one with ABNORMAL="
        raise InputError(f"DETECTOR={options.detector}: {len(fits)} fit; there are {known}")
    detector, model = read_folder(fits[0]), load_detector(fits[0])
    with Store.open(find_store(options.bank, options.store)) as store:
        lines = differences(detector["store_recipe"] or {}, store.recipe)
        if lines:
            raise InputError(f"{store.path}: was not extracted as the detector's store was: {'; '.join(lines[:5])}")
        vectors = mean_rows(store, store.video_ids)
        names, labels, identity = store.video_ids, store.labels, store.identity
    errors = reconstruction_errors(model, vectors)
    thresholds = detector["metrics"]["thresholds"]
    path = fits[0] / f"scored-{identity[:8]}.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("video_id", "label", METHODS[0], *(f"alarm at {100 * one['asked']:g} %" for one in thresholds)))
        for name, label, error in zip(names, labels, errors.tolist(), strict=True):
            writer.writerow((name, label, error, *(int(error > one["threshold"]) for one in thresholds)))
    for one in thresholds:
        print(
            f"{int((errors > one['threshold']).sum())} of {len(errors)} videos above the threshold of {100 * one['asked']:g} %"
        )
    strangest = np.argsort(-errors, kind="stable")[:10]
    print_table([("strangest", "error"), *((names[i], f"{errors[i]:.4g}") for i in strangest)])
    print(printable(f"scores of every video: {path}"))
    return 0


def mean_rows(store: Store, video_ids: Sequence[str]) -> np.ndarray:
    """The mean of each of these videos' rows, (V, D) float64; no more than one video's rows are held."""
    return np.stack([store.features(name)[0].astype(np.float64).mean(axis=0) for name in video_ids])


def _judged(
    scores: dict[str, np.ndarray],
    normal: np.ndarray,
    test: np.ndarray,
    held: np.ndarray,
    groups: Sequence[str],
    rates: Sequence[float],
) -> dict[str, Any]:
    """AUC of each method on the test part, the first one's interval, and what comes of thresholds set on validation."""
    wrong = ~normal[test]
    auc = {method: float(roc_auc_score(wrong, scores[method][test])) for method in METHODS}
    first = scores[METHODS[0]]
    thresholds = []
    for rate in rates:
        threshold = float(np.quantile(first[held], 1 - rate, method="higher"))
        over = first[test] > threshold
        thresholds.append(
            {
                "asked": rate,
                "threshold": threshold,
                "false_alarms": float(over[~wrong].mean()),
                "detected": float(over[wrong].mean()),
            }
        )
    counts = draws([group for group, one in zip(groups, test, strict=True) if one], RESAMPLES)  # (R, V')
    both = [draw for draw in counts if draw[wrong].any() and draw[~wrong].any()]
    resampled = [roc_auc_score(wrong, first[test], sample_weight=draw) for draw in both]
    low, high = np.quantile(resampled, [0.025, 0.975])
    found = {"auc": auc, "interval": [float(low), float(high)], "thresholds": thresholds}
    return found | {"normal_videos": int((~wrong).sum()), "abnormal_videos": int(wrong.sum())}


def network(size: int, hidden: int, bottleneck: int) -> nn.Sequential:
    """D -> hidden -> bottleneck -> hidden -> D."""
    layers = (nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, bottleneck), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(bottleneck, hidden), nn.ReLU(), nn.Linear(hidden, size))


def fitted(train: np.ndarray, validation: np.ndarray, options: AnomalyOptions, seed: int) -> dict[str, np.ndarray]:
    """The autoencoder's arrays, and the mean and deviation (D,) of the training vectors that it is fed with. train (n, D),
    validation (m, D): of normal videos alone. The epoch of lowest validation error is kept."""
    mean, scale = mean_and_scale(train)
    torch.manual_seed(seed)
    model = network(train.shape[1], options.hidden, options.bottleneck)
    x, held = (torch.from_numpy((values - mean) / scale).float() for values in (train, validation))
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr)
    best, kept, since = np.inf, {name: value.clone() for name, value in model.state_dict().items()}, 0
    with few_threads(model):
        for _ in range(options.epochs):
            for rows in torch.randperm(len(x)).split(32):
                loss = nn.functional.mse_loss(model(x[rows]), x[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                error = float(nn.functional.mse_loss(model(held), held))
            if not np.isfinite(error):
                raise InputError(f"LR={options.lr:g}: the autoencoder diverged; give a smaller one")
            since += 1
            if error < best:
                best, since, kept = error, 0, {name: value.clone() for name, value in model.state_dict().items()}
            if since >= PATIENCE:
                break
    arrays = {f"network.{name}": value.numpy() for name, value in kept.items()}
    return arrays | {"mean": mean, "scale": scale}


def reconstruction_errors(model: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """Mean squared error over the normalised dimensions, (V,) float64, of vectors (V, D). Raises InputError where they do not
    fit."""
    if vectors.ndim != 2 or vectors.shape[1:] != model["mean"].shape:
        raise InputError(f"anomaly: vectors of shape {vectors.shape[1:]} do not fit a model of {model['mean'].shape}")
    weights: dict[str, Tensor] = {
        name.removeprefix("network."): torch.from_numpy(value) for name, value in model.items() if name.startswith("network.")
    }
    hidden, bottleneck = len(weights["0.weight"]), len(weights["2.weight"])
    net = network(vectors.shape[1], hidden, bottleneck)
    net.load_state_dict(weights)
    x = torch.from_numpy((vectors - model["mean"]) / model["scale"]).float()
    with torch.no_grad():
        return ((net(x) - x).double() ** 2).mean(dim=1).numpy()


def load_detector(folder: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a folder in <bank>/anomalies, for `reconstruction_errors`. Raises InputError when they cannot be read."""
    path = Path(folder) / "checkpoint.safetensors"
    try:
        model = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}; run it again") from None
    if not {"mean", "scale", "network.0.weight", "network.2.weight"} <= model.keys():
        raise InputError(f"{path}: holds no autoencoder; run it again")
    return model


def baselines(train: np.ndarray, vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Mahalanobis distance (Ledoit-Wolf covariance) and IsolationForest, fitted on train (n, D): scores (V,), the higher the
    stranger."""
    mean, scale = mean_and_scale(train)
    x, every = (train - mean) / scale, (vectors - mean) / scale
    distance = LedoitWolf().fit(x).mahalanobis(every)
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(x)
    return {"mahalanobis": distance, "isolation forest": -forest.score_samples(every)}
