"""Run folders: <bank>/runs/<head>-<signature[:12]>/, one per training, named by the hash of its complete recipe.

recipe.json, checkpoint.safetensors, history.csv, scores-{train,validation,test}.npz, embeddings.h5, and metrics.json,
written last: a run without it is not finished.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import reelbank
from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import extractor_name, option, signature
from reelbank.data.replacing import replacing

if TYPE_CHECKING:
    from reelbank.heads.model import Model

PARTS = ("train", "validation", "test")


@contextmanager
def written_to(name: str, path: str | Path) -> Iterator[None]:
    """Around what writes the file that option `name` gives: raises InputError when the place cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}={path}: cannot be written ({error.strerror}); give a place in a folder that can") from None


def write_json(path: Path, document: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


@dataclass(frozen=True)
class Run:
    """A run folder. recipe: the complete recipe that its name is the hash of; metrics: empty while it is unfinished."""

    path: Path
    recipe: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def finished(self) -> bool:
        return bool(self.metrics)

    @property
    def signature(self) -> str:
        return signature(self.recipe)

    def scores(self, part: str) -> score_tables.Scores:
        """The run's scores of "train", "validation" or "test". Raises InputError when it has no such part."""
        path = self.path / f"scores-{part}.npz"
        if not path.exists():
            raise InputError(f"run {self.path.name} has no scores of part '{part}'")
        return score_tables.load(path)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def read_run(path: Path) -> Run:
    """A run folder's recipe and metrics. Raises InputError when the folder is no run or was changed."""
    documents = []
    for name in ("recipe.json", "metrics.json"):
        try:
            documents.append(json.loads((path / name).read_text(), parse_constant=_no_number))
            if not isinstance(documents[-1], dict):
                raise ValueError("not a JSON object")
        except FileNotFoundError:
            documents.append({})
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path / name} cannot be read: {error}; remove the run and train it again") from None
    recipe = documents[0].get("recipe")
    if not isinstance(recipe, dict):
        raise InputError(f"{path} is not a run folder (no recipe.json)")
    if folder_name(recipe) != path.name:
        raise InputError(f"{path}/recipe.json is not this run's: it was changed, or the folder was renamed")
    return Run(path, recipe, documents[1])


def commit() -> str:
    """The git commit of this code; "" when it is no checkout."""
    root = Path(reelbank.__file__).parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    return subprocess.run(
        [git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()


def folder_name(recipe: dict[str, Any]) -> str:
    return f"{recipe.get('head')}-{signature(recipe)[:12]}"


def read_runs(bank: str | Path) -> tuple[list[Run], dict[Path, str]]:
    """Every run of the bank, finished or not, by folder name; and the folders that cannot be read as one, with the reason."""
    found, bad = [], {}
    for path in sorted(path for path in Path(bank, "runs").glob("[!.]*") if path.is_dir()):
        try:
            found.append(read_run(path))
        except InputError as error:
            bad[path] = str(error)
    return found, bad


def all_runs(bank: str | Path) -> list[Run]:
    """The runs of `read_runs`; a note on stderr names each folder left out."""
    found, bad = read_runs(bank)
    for reason in bad.values():
        print(printable(f"note: left out: {reason}"), file=sys.stderr)
    return found


def matches(recipe: Mapping[str, Any], **match: Any) -> bool:
    """Whether a recipe has these values. An extractor may be given as its file and function; dataset="folder" stands for
    every data set made from a plain folder, which are named folder-<name>-<hash>."""
    if "extractor" in match:
        match["extractor"] = extractor_name(match["extractor"])
    if match.get("dataset") == "folder" and str(recipe.get("dataset")).startswith("folder-"):
        del match["dataset"]
    return all(recipe.get(key) == value for key, value in match.items())


def find_runs(bank: str | Path, wanted: Sequence[str] = (), **match: Any) -> list[Run]:
    """Finished runs: all, or those whose folder name or hash begins with one of `wanted`, each naming exactly one, in that
    order; of these the ones whose recipe `matches` (head="gru", split="1", ...).

    Raises InputError for a wanted name that fits no finished run or several.
    """
    runs = [run for run in all_runs(bank) if run.finished]
    if wanted:
        chosen = []
        for start in wanted:
            fits = [run for run in runs if run.path.name.startswith(start) or run.signature.startswith(start)]
            if len(fits) != 1:
                names = ", ".join(run.path.name for run in fits[:5])
                found = f"fits {len(fits)} finished runs ({names})" if fits else f"fits no finished run in {Path(bank, 'runs')}"
                raise InputError(f"run '{start}' {found}; see 'reelbank runs'")
            chosen += fits
        runs = chosen
    return [run for run in runs if matches(run.recipe, **match)]


def load_run(path: str | Path, extractor: str = "") -> tuple[Model, dict[str, Any]]:
    """The trained model, rebuilt on the CPU in evaluation mode, and its recipe. extractor: file.py:function, for a head that
    begins with the rest of a user's network; a run folder names no file to be run. Raises InputError when it does not fit, or
    the run has no model of its own (a fused one)."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from reelbank.heads.model import build_model

    run = read_run(Path(path))
    if run.recipe.get("head") == "fused":
        raise InputError(f"{run.path.name}: a fused run has no model of its own; name one of the runs it was made of")
    if absent := {"rows", "scoring", "input_shape", "classifier"} - run.recipe.keys():
        raise InputError(f"{run.path}: its recipe lacks {', '.join(sorted(absent))}: another version made it; train it again")
    model = build_model(run.recipe, extractor)
    checkpoint = run.path / "checkpoint.safetensors"
    try:
        model.load_state_dict(load_file(checkpoint), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{checkpoint} cannot be read: {reason}; remove the run and train it again") from None
    return model.eval(), run.recipe


@dataclass(frozen=True)
class RunsOptions:
    """Options of the command `runs`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    head: str = option("", "only runs of this head")
    split: str = option("", "only runs of this split")
    remove: tuple[str, ...] = option((), "names (of damaged runs too) or starts of hashes, to remove for good")


def runs(options: RunsOptions) -> int:
    """Print a table of all runs of the bank, or remove those named; returns the exit code."""
    if options.remove:
        found, bad = read_runs(options.bank)
        hashes = {run.path: run.signature for run in found} | dict.fromkeys(bad, "")
        doomed: dict[Path, None] = {}
        for start in options.remove:
            fits = [path for path, own in hashes.items() if path.name.startswith(start) or own.startswith(start)]
            fits = [path for path in fits if path.name == start] or fits  # a whole name may begin a copy's
            if len(fits) != 1:
                raise InputError(f"REMOVE={start}: fits {len(fits)} runs; see 'reelbank runs'")
            doomed[fits[0]] = None
        for path in doomed:
            (path / "metrics.json").unlink(missing_ok=True)  # first: a half removed run is no finished one
            shutil.rmtree(path)
            print(printable(f"removed {path}"))
        return 0
    wanted = {key: value for key, value in (("head", options.head), ("split", options.split)) if value}
    shown = [run for run in all_runs(options.bank) if matches(run.recipe, **wanted)]
    lines: list[tuple[str, ...]] = [("run", "data", "store", "split", "seed", "measure", "validation", "test", "finished")]
    for run in shown:
        recipe = run.recipe
        data = "/".join(filter(None, (str(recipe.get(key, "")) for key in ("dataset", "stream", "extractor"))))
        accuracies = [percent(run.metrics.get(part)) for part in ("validation", "test")]
        store, split, seed = (str(recipe.get(key, "")) for key in ("store", "split", "seed"))
        lines.append(
            (run.path.name, data, store[:8], split, seed, measure(run.metrics), *accuracies, "yes" if run.finished else "no")
        )
    print_table(lines)
    if not shown:
        print(f"no runs in {Path(options.bank, 'runs')}")
    return 0


def measure(metrics: Mapping[str, Any]) -> str:
    """What a run's metrics say its `figure` is: "mAP", "top-1", or "-" while it is not finished."""
    known = [part for name in PARTS if (part := metrics.get(name))]
    return ("mAP" if "map" in known[0] else "top-1") if known else "-"


def figure(part: dict[str, Any] | None) -> float | None:
    """A part's top-1 accuracy in [0, 1], or mean average precision where videos have several labels; None when there is
    none."""
    return None if part is None else part.get("map") if "map" in part else part["top1"]


def percent(part: dict[str, Any] | None) -> str:
    """A part's `figure` for a table, in per cent; '-' when there is none."""
    value = figure(part)
    return "-" if value is None else f"{100 * value:.2f}"
