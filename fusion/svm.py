"""The command `svm`. It fits a linear SVM on the joined embeddings of two or more runs
(multi-stream paper, section on fusion)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.identity import canonical
from reelbank.data.scores.joining import completed, join, with_all_classes
from reelbank.data.scores.table import Scores
from reelbank.fusion.embeddings import concatenated, embeddings_of
from reelbank.fusion.evaluation.experiments import Entry, by_repetition
from reelbank.fusion.joined_runs import (
    JoinedRow,
    JoinedRuns,
    joined_recipe,
    member_rows,
    select_members,
    write_run,
)
from reelbank.fusion.metrics import accuracy
from reelbank.fusion.options import SvmOptions
from reelbank.heads.models.linear_svm import c_of_lambda, fitted_svm
from reelbank.heads.models.normalise import mean_and_scale
from reelbank.heads.runs.folder import Run, folder_name, read_run
from reelbank.heads.runs.metrics import MemberMetrics, RunMetrics

LAMBDA = 1e-2  # the value in the paper
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def svm_runs(options: SvmOptions) -> int:
    """Run the command and print the members and the figures. Returns the exit code."""
    print_lines(*make_svms(options).lines())
    return 0


@dataclass(frozen=True)
class FittedSvm:
    """An SVM as a run, with its folder, its C and its scores by part."""

    folder: Path
    c: float
    scored: dict[str, Scores]


def make_svms(options: SvmOptions) -> JoinedRuns:
    """Fit an SVM on the embeddings of the selected runs for each split and seed. The SVMs become
    runs of the bank.

    Raises InputError when a member has no embeddings, the members do not match, or an option is not
    possible.
    """
    _check_options(options)
    members = select_members(options, "an SVM")
    for entry in members.entries:
        if not (entry.path / "embeddings.h5").is_file():
            raise InputError(
                f"{entry.name} has no embeddings, but 'reelbank svm' combines the "
                "embeddings of runs of 'reelbank train'; use 'reelbank fuse' to combine "
                "scores"
            )
    heading = [f"note: {note}" for note in members.notes]
    heading += [f"embeddings of {name}" for name in members.names]
    rows: list[JoinedRow] = []
    folders = []
    for (split, seed), entries in by_repetition(members.entries).items():
        svm = _fit(entries, options, split, seed)
        folders.append(svm.folder)
        rows += member_rows(entries, split, seed)
        test, train = accuracy(svm.scored["test"]), accuracy(svm.scored["train"]).value
        name = "svm on the models above"
        rows.append(JoinedRow(split, seed, name, test, svm.folder.name, c=svm.c, train=train))
    return JoinedRuns(tuple(folders), tuple(rows), "top-1", "the SVMs", tuple(heading))


def _check_options(options: SvmOptions) -> None:
    values = {"C": options.c, "SVM_LAMBDA": options.svm_lambda, "CV": options.cv or None}
    sources_of_c = [name for name, value in values.items() if value is not None]
    if len(sources_of_c) > 1:
        raise InputError(
            f"{' and '.join(sources_of_c)} cannot be given together, because each of them "
            "determines C; give only one of them"
        )
    if options.cs and not options.cv:
        raise InputError(
            "CS lists the values of C to try in cross-validation; give CV as well, for example CV=5"
        )
    if options.cv == 1:
        raise InputError("CV must be 0 or at least 2 folds (got 1)")


def _fit(members: Sequence[Entry], options: SvmOptions, split: str, seed: str) -> FittedSvm:
    runs = [read_run(member.path) for member in members]
    if any(member.table.outline.multilabel for member in members):
        raise InputError(
            "'reelbank svm' needs single-label data, but this data set is multi-label; "
            "use 'reelbank fuse'"
        )
    tables = {
        part: _joined([run.scores(part) for run in runs], options.missing)
        for part in ("train", "test")
    }
    train = tables["train"]
    if (train.labels < 0).any():
        raise InputError(
            "'reelbank svm' needs a label for every training video; train the members on "
            "labelled videos"
        )
    vectors = {
        part: concatenated(
            [embeddings_of(run.path, split, table.video_ids) for run in runs],
            with_mask=options.missing == "allow",
        )
        for part, table in tables.items()
    }
    recipe = joined_recipe("svm", members, split, seed) | _own_recipe(options, train)
    size = vectors["train"].shape[1]
    mean, scale = np.zeros(size), np.ones(size)
    if options.znorm:
        mean, scale = mean_and_scale(vectors["train"])
    x = (vectors["train"] - mean) / scale
    accuracies: dict[str, float] = {}
    if options.cv:
        chosen = cross_validated(x, train.labels, train.groups, options.cv, recipe["cs"])
        c, accuracies = chosen.c, chosen.accuracies
    else:
        c = recipe.get("c") or c_of_lambda(recipe["lambda"], len(x))
    weight, bias = fitted_svm(x, train.labels, len(recipe["classes"]), c)
    model = {"weight": weight, "bias": bias, "mean": mean, "scale": scale}
    scored = {part: _scores(table, model, vectors[part]) for part, table in tables.items()}
    folder = Path(options.bank, "runs", folder_name(recipe))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(value) for name, value in model.items()}
    with replacing(folder / "checkpoint.safetensors") as temporary:
        save_file(arrays, temporary, {"recipe": canonical(recipe)})
    singles = tuple(MemberMetrics(member.name, top1=member.figure.value) for member in members)
    metrics = RunMetrics(c=c, cross_validation=accuracies, members=singles)
    write_run(folder, recipe, scored, members, metrics)
    return FittedSvm(folder, c, scored)


def _own_recipe(options: SvmOptions, train: Scores) -> dict[str, Any]:
    """The part of the recipe that describes how the SVM is fitted."""
    recipe: dict[str, Any] = {"classes": list(train.classes), "loss": "hinge"}
    recipe |= {"znorm": options.znorm, "missing": options.missing}
    if options.cv:
        return recipe | {"cv": options.cv, "cs": sorted(set(options.cs or CS))}
    if options.c is not None:
        return recipe | {"c": options.c}
    return recipe | {"lambda": LAMBDA if options.svm_lambda is None else options.svm_lambda}


def _scores(table: Scores, model: Mapping[str, np.ndarray], vectors: np.ndarray) -> Scores:
    """The SVM's scores of a table's videos."""
    about = {key: value for key, value in table.about.items() if key in ("dataset", "coarse")}
    logits = margins(model, vectors)
    return Scores(
        table.video_ids, table.labels, table.classes, logits, about=about, groups=table.groups
    )


def _joined(tables: list[Scores], missing: str) -> Scores:
    """The videos of all tables, in the order of the first."""
    if missing != "allow":
        return join(tables)[0]
    return join(completed(with_all_classes(tables)))[0]


@dataclass(frozen=True)
class ChosenC:
    """The best C, and the cross-validation accuracy of every C that was tried."""

    c: float
    accuracies: dict[str, float]


def cross_validated(
    x: np.ndarray, labels: np.ndarray, groups: Sequence[str], folds: int, cs: Sequence[float]
) -> ChosenC:
    """The C with the highest accuracy over folds of whole groups. The smallest C is chosen among
    equally good ones.

    x: (n, E); labels: (n,); groups: n names, "" for a video that forms a separate group. Raises
    InputError when groups are unknown, or when there are fewer groups than folds.
    """
    if not groups:
        raise InputError(
            "CV: the folds must consist of whole groups of videos, but the runs' scores "
            "do not record the groups; train the runs again, or give C"
        )
    keys = [f"group {group}" if group else f"video {row}" for row, group in enumerate(groups)]
    if len(set(keys)) < folds:
        raise InputError(
            f"CV={folds}: the training part has only {len(set(keys))} groups; give fewer folds"
        )
    from sklearn.model_selection import GroupKFold  # loading it takes 0.8 s

    numbers = np.unique(keys, return_inverse=True)[1]
    correct = dict.fromkeys(cs, 0)
    for train, held_out in GroupKFold(folds).split(x, labels, numbers):
        for c in cs:
            weight, bias = fitted_svm(x[train], labels[train], int(labels.max()) + 1, c)
            predicted = (x[held_out] @ weight.T + bias).argmax(axis=1)
            correct[c] += int((predicted == labels[held_out]).sum())
    best = max(cs, key=lambda c: (correct[c], -c))
    return ChosenC(best, {f"{c:g}": correct[c] / len(labels) for c in cs})


def margins(model: Mapping[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """One-vs-rest scores (V, C) float64 of joined embeddings (V, E)."""
    size = model["weight"].shape[1]
    if vectors.shape[1] != size:
        raise InputError(
            f"the vectors have {vectors.shape[1]} dimensions, but the SVM needs {size}; give the "
            "features that it was fitted on"
        )
    return ((vectors - model["mean"]) / model["scale"]) @ model["weight"].T + model["bias"]


def load_svm(path: str | Path) -> tuple[dict[str, np.ndarray], Run]:
    """The arrays of a fitted SVM, which are weight (C, E), bias (C,), mean (E,) and scale (E,), and
    its run. Raises InputError when the folder is not an SVM's or its arrays do not match."""
    run = read_run(Path(path))
    checkpoint = run.path / "checkpoint.safetensors"
    if run.recipe.get("head") != "svm":
        raise InputError(
            f"{run.path} is a run of head '{run.recipe.get('head')}'; give a run of 'svm'"
        )
    try:
        model = load_file(checkpoint)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{checkpoint} cannot be read: {reason}; remove the run and fit it again"
        ) from None
    shape = model["weight"].shape if "weight" in model else (0, 0)
    expected = {"weight": shape, "bias": shape[:1], "mean": shape[1:], "scale": shape[1:]}
    shapes = {name: value.shape for name, value in model.items()}
    if shapes != expected or shape[0] != len(run.recipe["classes"]):
        raise InputError(
            f"{checkpoint}: the shapes of its arrays do not match; remove the run and fit it again"
        )
    return model, run
