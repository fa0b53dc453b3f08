"""Command `svm`: a linear SVM on the joined embeddings of two or more runs (multi-stream paper, section on fusion)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.model_selection import GroupKFold

from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import canonical, option
from reelbank.data.replacing import replacing
from reelbank.data.scores import Scores, completed, join
from reelbank.data.store import Store
from reelbank.fusion.entries import JOINED, Entry, Selection, by_repetition, features, grouped, in_order, select, title
from reelbank.fusion.fuse import joined_recipe, write_run
from reelbank.fusion.late import MISSING
from reelbank.fusion.metrics import accuracy
from reelbank.heads.leak import check_unseen
from reelbank.heads.normalise import mean_and_scale
from reelbank.heads.results import summary
from reelbank.heads.runs import Run, folder_name, read_run
from reelbank.heads.svm import c_of_lambda, fitted_svm

LAMBDA = 1e-2  # of the paper
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class SvmOptions(Selection):
    """Options of the command `svm`."""

    c: float | None = option(None, "scikit-learn's C: |w|^2 / 2 + C times the sum of hinge losses")
    svm_lambda: float | None = option(
        None, "the papers' lambda: lambda |w|^2 + mean hinge loss (default: 0.01, if no C is given)"
    )
    cv: int = option(0, "choose C by cross-validation on the training part, in so many folds of whole groups")
    cs: tuple[float, ...] = option((), "with CV: the values of C that are tried (default: 0.0001 to 100)")
    znorm: bool = option(False, "z-normalise the embeddings first, by statistics of the training part")
    missing: str = option(
        "refuse",
        "of a video that a member lacks (no sound, say); allow: zeros in its place, and a mask of who is there",
        MISSING,
    )


def svm_runs(options: SvmOptions) -> int:
    """Fit an SVM for each split and seed on the selected runs' embeddings, as runs of the bank; returns the exit code. Raises
    InputError when a member has no embeddings, the members do not go together, or an option is impossible."""
    make_svms(options)
    return 0


def make_svms(options: SvmOptions) -> list[Path]:
    """As `svm_runs`; returns the folders of the runs."""
    given = {"C": options.c, "SVM_LAMBDA": options.svm_lambda, "CV": options.cv or None}
    if len(named := [name for name, value in given.items() if value is not None]) > 1:
        raise InputError(f"{' and '.join(named)}: each says what C is; give one of them")
    for name, value in given.items():
        if value is not None and not 0 < value < np.inf:
            raise InputError(f"{name}={value}: must be above 0")
    if options.cs and not options.cv:
        raise InputError("CS: are the values that CV tries; give CV=5 beside them")
    if options.cv == 1 or not all(0 < value < np.inf for value in options.cs):
        raise InputError("CV needs two folds or more, and CS values above 0")
    entries, notes = select(options, "test")
    if not options.runs:
        entries = in_order(entry for entry in entries if entry.recipe["head"] not in JOINED)
    for note in notes:
        print(printable(f"note: {note}"))
    for entry in entries:
        if not (entry.path / "embeddings.h5").is_file():
            raise InputError(f"{entry.name}: has no embeddings; an SVM joins runs of 'train', scores are joined by 'fuse'")
    members = grouped(entries)
    if len(members) < 2:
        raise InputError(f"nothing to join: {len(entries)} runs of {len(members)} model; an SVM here takes two or more models")
    for member in members:
        print(printable(f"embeddings of {member.label}{', ' + member.detail if member.detail else ''}"))
    lines: list[tuple[str, ...]] = [("split", "seed", "model", "videos", "C", "train", "top-1", "95 %", "run")]
    of_split: dict[str, list[float]] = {}
    folders = []
    for (split, seed), some in by_repetition(entries).items():
        folder, c, scored = _fit(some, options, split, seed)
        folders.append(folder)
        right = accuracy(scored["test"])
        shown: list[tuple[str, ...]] = []
        for entry in some:
            share = entry.figure
            ends = f"{100 * share.low:.2f} to {100 * share.high:.2f}"
            name = f"{title(entry.recipe)} {features(entry.recipe)}"
            shown.append((name, str(share.videos), "-", "-", f"{100 * share.value:.2f}", ends, entry.name))
        ends, train = f"{100 * right.low:.2f} to {100 * right.high:.2f}", f"{100 * accuracy(scored['train']).value:.2f}"
        shown.append(("svm on these", str(right.videos), f"{c:.3g}", train, f"{100 * right.value:.2f}", ends, folder.name))
        lines += [(split or "-", seed or "-", *one) for one in shown]
        of_split.setdefault(split, []).append(100 * right.value)
    print_table(lines)
    if sum(map(len, of_split.values())) > 1:
        print(f"test top-1 % of the SVMs: {summary(of_split)}")
    return folders


def _fit(members: Sequence[Entry], options: SvmOptions, split: str, seed: str) -> tuple[Path, float, dict[str, Scores]]:
    """One SVM as a run: its folder, its C, and its scores by part."""
    runs = [read_run(member.path) for member in members]
    joined = {part: _joined([run.scores(part) for run in runs], options.missing) for part in ("train", "test")}
    if joined["train"].multilabel:
        raise InputError("svm: is for videos of one label each; this data set has several")
    with_mask = options.missing == "allow"
    vectors = {
        part: concatenated([embeddings_of(run.path, split, table.video_ids) for run in runs], with_mask)
        for part, table in joined.items()
    }
    recipe = joined_recipe("svm", members, split, seed) | {"classes": list(joined["train"].classes), "loss": "hinge"}
    recipe |= {"znorm": options.znorm, "missing": options.missing}
    chosen: dict[str, Any] = {}
    if options.cv:
        recipe |= {"cv": options.cv, "cs": sorted(set(options.cs or CS))}
    elif options.c is not None:
        recipe |= {"c": options.c}
    else:
        recipe |= {"lambda": LAMBDA if options.svm_lambda is None else options.svm_lambda}
    train, labels = vectors["train"], joined["train"].labels
    if (labels < 0).any():
        raise InputError("svm: a training video has no label")
    mean, scale = np.zeros(train.shape[1]), np.ones(train.shape[1])
    if options.znorm:
        mean, scale = mean_and_scale(train)
    x = (train - mean) / scale
    c = recipe.get("c") or (c_of_lambda(recipe["lambda"], len(x)) if "lambda" in recipe else 0.0)
    if options.cv:
        c, chosen = cross_validated(x, labels, joined["train"].groups, options.cv, recipe["cs"])
    weight, bias = fitted_svm(x, labels, len(recipe["classes"]), c)
    model = {"weight": weight, "bias": bias, "mean": mean, "scale": scale}
    scored = {}
    for part, table in joined.items():
        about = {key: value for key, value in table.about.items() if key in ("dataset", "coarse")}
        scored[part] = Scores(table.video_ids, table.labels, table.classes, margins(model, vectors[part]), about, table.groups)
    folder = Path(options.bank, "runs", folder_name(recipe))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "checkpoint.safetensors") as temporary:
        save_file(
            {name: np.ascontiguousarray(value) for name, value in model.items()}, temporary, {"recipe": canonical(recipe)}
        )
    singles = [{"run": member.name, "top1": member.figure.value} for member in members]
    write_run(folder, recipe, scored, {"c": c, "cross_validation": chosen, "members": singles})
    return folder, c, scored


def _joined(tables: list[Scores], missing: str) -> Scores:
    """Whose videos they are, in one order: the first of the joined tables."""
    return join(completed(tables) if missing == "allow" else tables)[0]


def embeddings_of(run: Path, split: str, video_ids: Sequence[str]) -> np.ndarray:
    """A run's embeddings of these videos, (V, E) float64, nan for a video that it lacks. Raises InputError when the store
    cannot be read, or its head has seen videos of the split's test part."""
    with Store.open(run / "embeddings.h5") as store:
        if split in store.dataset["splits"]:
            check_unseen(store, split)
        row_of = {name: row for row, name in enumerate(store.video_ids)}
        values, offsets, _ = store.load()  # (R, E), (V + 1,)
        found = np.full((len(video_ids), values.shape[1]), np.nan)
        for place, name in enumerate(video_ids):
            if name in row_of:
                found[place] = values[offsets[row_of[name]]]
    return found


def concatenated(embeddings: Sequence[np.ndarray], with_mask: bool) -> np.ndarray:
    """Several runs' (V, E_i), nan where a run lacks a video, side by side: (V, E). With a mask zeros stand in place of what is
    lacking, and a column for each run, 1 where it has the video, comes last."""
    lacks = [np.isnan(one).any(axis=1) for one in embeddings]  # (V,) each
    if not with_mask:
        if any(one.any() for one in lacks):
            raise InputError("svm: a run's embeddings lack videos that its scores hold; train it again, or give MISSING=allow")
        return np.concatenate(list(embeddings), axis=1)
    filled = [np.where(lack[:, None], 0.0, one) for one, lack in zip(embeddings, lacks, strict=True)]
    return np.concatenate([*filled, np.stack([~lack for lack in lacks], axis=1).astype(np.float64)], axis=1)


def cross_validated(
    x: np.ndarray, labels: np.ndarray, groups: Sequence[str], folds: int, cs: Sequence[float]
) -> tuple[float, dict[str, float]]:
    """The C of highest accuracy over folds of whole groups, of equals the smallest, and every C's accuracy. x: (n, E), labels
    (n,), groups: n names, "" for a video alone. Raises InputError where no groups are known, or fewer than folds."""
    if not groups:
        raise InputError("CV: the runs' scores name no groups to fold by; train them again, or give C")
    keys = [f"group {group}" if group else f"video {row}" for row, group in enumerate(groups)]
    if len(set(keys)) < folds:
        raise InputError(f"CV={folds}: the training part has only {len(set(keys))} groups")
    numbers = np.unique(keys, return_inverse=True)[1]
    right = dict.fromkeys(cs, 0)
    for train, held in GroupKFold(folds).split(x, labels, numbers):
        for c in cs:
            weight, bias = fitted_svm(x[train], labels[train], int(labels.max()) + 1, c)
            right[c] += int(((x[held] @ weight.T + bias).argmax(axis=1) == labels[held]).sum())
    shares = {f"{c:g}": right[c] / len(labels) for c in cs}
    return max(cs, key=lambda c: (right[c], -c)), shares


def margins(model: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """One-vs-rest scores (V, C) float64 of joined embeddings (V, E)."""
    if vectors.shape[1] != model["weight"].shape[1]:
        raise InputError(f"svm: vectors of {vectors.shape[1]} numbers do not fit one of {model['weight'].shape[1]}")
    return ((vectors - model["mean"]) / model["scale"]) @ model["weight"].T + model["bias"]


def load_svm(path: str | Path) -> tuple[dict[str, np.ndarray], Run]:
    """A fitted SVM's arrays, weight (C, E), bias (C,), mean and scale (E,), all plain, and its run. Raises InputError when the
    folder is not of an SVM or its arrays do not fit together."""
    run = read_run(Path(path))
    checkpoint = run.path / "checkpoint.safetensors"
    if run.recipe.get("head") != "svm":
        raise InputError(f"{run.path}: is a run of head '{run.recipe.get('head')}', not an SVM")
    try:
        model = load_file(checkpoint)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{checkpoint} cannot be read: {reason}; remove the run and fit it again") from None
    size = model["weight"].shape if "weight" in model else (0, 0)
    wanted = {"weight": size, "bias": size[:1], "mean": size[1:], "scale": size[1:]}
    if {name: value.shape for name, value in model.items()} != wanted or size[0] != len(run.recipe["classes"]):
        raise InputError(f"{checkpoint}: its arrays do not fit together; remove the run and fit it again")
    return model, run
