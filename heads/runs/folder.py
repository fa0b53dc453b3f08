"""Run folders. Each training has a folder <bank>/runs/<head>-<signature[:12]>/, named by the hash
of its complete recipe.

It contains recipe.json, checkpoint.safetensors, history.csv, scores-{train,validation,test}.npz,
embeddings.h5 and metrics.json, which is written last. A run without metrics.json is not finished.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelbank.data.banks import AnyBank, Banks, tell_shadowed
from reelbank.data.console import print_lines
from reelbank.data.datasets.registry import is_of_dataset
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import has_random_weights
from reelbank.data.files import check_regular, read_text
from reelbank.data.identity import extractor_name, reject_constant, signature
from reelbank.data.plugins import plugin_name
from reelbank.data.scores import table as score_tables
from reelbank.heads.recipe import RunRecipe
from reelbank.heads.runs.metrics import PARTS, RunMetrics

if TYPE_CHECKING:
    from reelbank.heads.models.model import Model


@dataclass(frozen=True)
class Run:
    """A run: the result of training one head on one split with one seed.

    path: the run's folder. recipe: everything that determines the result; its hash is part of the
    folder's name. metrics: the results, without values while the run is not finished.
    random_networks: the feature extractors of the run that have random weights.
    """

    path: Path
    recipe: dict[str, Any]
    metrics: RunMetrics
    finished: bool
    random_networks: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """The folder, so that a run can be given wherever the path of a run is expected."""
        return str(self.path)

    @property
    def signature(self) -> str:
        return signature(self.recipe)

    def scores(self, part: str) -> score_tables.Scores:
        """The run's scores of the videos in one part: "train", "validation" or "test". Raises
        InputError if the run has no scores of this part."""
        path = self.path / f"scores-{part}.npz"
        if not path.exists():
            raise InputError(f"run {self.path.name} has no scores of part '{part}'")
        return score_tables.load(path)


def read_run(path: Path) -> Run:
    """Read a run folder's recipe and metrics. Raises InputError when the folder does not contain a
    run or was changed."""
    documents = []
    for name in ("recipe.json", "metrics.json"):
        try:
            documents.append(json.loads(read_text(path / name), parse_constant=reject_constant))
            if not isinstance(documents[-1], dict):
                raise ValueError("the file must contain a JSON object")
        except FileNotFoundError:
            documents.append({})
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path / name} cannot be read: {error}; remove the run and train it again"
            ) from None
    recipe = documents[0].get("recipe")
    if not isinstance(recipe, dict):
        raise InputError(
            f"{path} is not the folder of a run, because it has no valid recipe.json; give "
            "the folder of a run"
        )
    if folder_name(recipe) != path.name:
        raise InputError(
            f"{path}/recipe.json does not match the name of its folder: either the file "
            "was changed or the folder was renamed; restore the file or the folder's name"
        )
    try:
        metrics = RunMetrics.from_json(documents[1])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path / 'metrics.json'} cannot be read: {error}; remove the run and train it again"
        ) from None
    return Run(
        path,
        recipe,
        metrics,
        finished=bool(documents[1]),
        random_networks=_random_networks(documents[0]),
    )


def _random_networks(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The extractors with random weights: of the stores' recipes, or as a fusion records them."""
    recorded, stores = document.get("random_networks"), document.get("store_recipes")
    names = [str(name) for name in recorded] if isinstance(recorded, list) else []
    for store_recipe in stores if isinstance(stores, list) else ():
        if isinstance(store_recipe, Mapping) and has_random_weights(store_recipe):
            names.append(str(store_recipe.get("extractor")))
    return tuple(dict.fromkeys(names))


def parts_in_run(run: Run) -> dict[str, str]:
    """The part of each video that the run was trained, validated or tested on. It is {} if the
    folder has no training scores. "train" takes precedence because a run that is retrained at the
    end also learns from its validation part."""
    if not (run.path / "scores-train.npz").exists():
        return {}
    part_of: dict[str, str] = {}
    for part in reversed(PARTS):
        file = run.path / f"scores-{part}.npz"
        if file.exists():
            part_of.update(zip(score_tables.load_ids(file), itertools.repeat(part)))
    return part_of


def folder_name(recipe: dict[str, Any]) -> str:
    return f"{recipe.get('head')}-{signature(recipe)[:12]}"


def read_runs(bank: AnyBank, *, known: Collection[Path] = ()) -> tuple[list[Run], dict[Path, str]]:
    """Every run of the bank, finished or not, in the order of folder names; and the folders that
    cannot be read as a run, with the reason. The runs of other banks follow; one that an earlier
    bank has is left out, and a note on stderr says so. known: folders that are not read."""
    runs, bad = [], {}
    first_at: dict[str, Path] = {}  # by name, which contains the hash
    for folder in Banks.of(bank).below("runs"):
        for path in sorted(folder.glob("[!.]*")):
            first = first_at.setdefault(path.name, path)
            if first != path:
                tell_shadowed(path, first)
                continue
            if path in known:
                continue
            try:
                if not path.is_dir():
                    raise InputError(
                        f"{path} is a file, but the folder runs/ may contain only folders of "
                        "runs; move the file out of runs/"
                    )
                runs.append(read_run(path))
            except InputError as error:
                bad[path] = str(error)
    return runs, bad


def all_runs(bank: AnyBank) -> list[Run]:
    """The runs of `read_runs`. A note on stderr names each folder that is left out."""
    runs, bad = read_runs(bank)
    for reason in bad.values():
        print_lines(f"note: a run is left out: {reason}", file=sys.stderr)
    return runs


def matches(recipe: Mapping[str, Any], **match: Any) -> bool:
    """Whether a recipe has these values.

    An extractor, a head, a stream and a data set may be given as file and name, as in the options.
    A data set that is named after its folder may be given without the folder.
    """
    if "extractor" in match:
        match["extractor"] = extractor_name(match["extractor"])
    for name in ("head", "stream"):
        if name in match:
            match[name] = plugin_name(match[name])
    if "dataset" in match and is_of_dataset(str(recipe.get("dataset")), match["dataset"]):
        del match["dataset"]
    return all(recipe.get(key) == value for key, value in match.items())


def find_runs(
    bank: AnyBank, wanted: Sequence[str] = (), *, banks: Sequence[str | Path] = (), **match: Any
) -> list[Run]:
    """Find the finished runs of a bank, and of other `banks`.

    match: values that the recipe of a run must have, such as `head="gru"` and `split="1"`. wanted:
    folder names or hashes of runs, or their first characters. Only these runs are returned, in the
    given order. Raises InputError if one of these names does not match exactly one finished run.
    """
    every_bank = Banks.of(bank, banks)
    runs = [run for run in all_runs(every_bank) if run.finished]
    if wanted:
        chosen = []
        for start in wanted:
            fits = [
                run
                for run in runs
                if run.path.name.startswith(start) or run.signature.startswith(start)
            ]
            if len(fits) != 1:
                fitting = ", ".join(run.path.name for run in fits[:5])
                matched = (
                    f"{len(fits)} ({fitting})" if fits else f"none in {every_bank.shown('runs')}"
                )
                raise InputError(
                    f"the run name '{start}' must match exactly one finished run, but it matches "
                    f"{matched}; 'reelbank runs' lists the runs"
                )
            chosen += fits
        runs = chosen
    return [run for run in runs if matches(run.recipe, **match)]


def load_run(
    path: str | Path, extractor: str = "", head: str = "", streams: Sequence[str] = ()
) -> tuple[Model, RunRecipe]:
    """Load the trained model of a run. Returns the model, on the CPU and in evaluation mode, and the
    recipe of the run.

    extractor: path/to/file.py:function, if the head begins with layers of a user's own network.
    head: path/to/file.py:name, if the head is defined in a user's file. streams:
    path/to/file.py:Class of each of the user's own streams, if the head begins with layers of a
    network on such a stream. For security, files that are named in a run folder are never
    executed, so these files must be given here.

    Raises InputError if a file does not match the run, or if the run has no model (a fused run).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from reelbank.heads.models.model import build_model

    run = read_run(Path(path))
    if "members" in run.recipe:
        raise InputError(
            f"{run.path.name} is a fused run, which has no model of its own; name its members "
            "instead, such as RUN=\"first second\"; 'reelbank runs' lists the runs"
        )
    try:
        recipe = RunRecipe.from_json(run.recipe)
        model = build_model(recipe, head=head, extractor=extractor, streams=streams)
    except InputError as error:
        raise InputError(f"{run.path}: {error}") from None
    checkpoint = run.path / "checkpoint.safetensors"
    try:
        check_regular(checkpoint)
        model.load_state_dict(load_file(checkpoint), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{checkpoint} cannot be read: {reason}; remove the run and train it again"
        ) from None
    return model.eval(), recipe
