"""The plan of a reproduction (PLAN=1), with the state of every step and an estimate of time and
disk space."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import (
    counted,
    duration_text,
    print_lines,
    size_text,
    table_lines,
)
from reelbank.extract.options import ExtractOptions
from reelbank.extract.planned import PlannedStore, planned_stores
from reelbank.extract.run import extract_stores
from reelbank.fusion.reproduce.needs import failed_stores, not_made
from reelbank.fusion.reproduce.plan import Figure, needed_stores, pretrained, starts_from
from reelbank.fusion.reproduce.stages import (
    check_weights,
    extract_options,
    is_complete,
    missing_pretraining,
    planned_folders,
    pretrain_options,
    stores_by_splits,
    stores_there,
    train_options,
)
from reelbank.fusion.reproduce.work import Work
from reelbank.heads.pretraining.inputs import pixels_extraction
from reelbank.heads.pretraining.plan import with_defaults as pretrain_defaults
from reelbank.heads.runs.folder import read_run

DONE, TO_DO = "done", "to do"


@dataclass(frozen=True)
class Step:
    """One step. kind: "pretrain", "extract", "train" or "fuse"; name: the name of the section;
    state: the state as text."""

    stage: str
    name: str
    state: str


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one model: the number of missing runs, and the duration of the finished runs in
    seconds."""

    missing: int
    total: int
    seconds: tuple[float, ...]

    @property
    def state(self) -> str:
        return f"{TO_DO}: {self.missing} of {counted(self.total, 'run')}" if self.missing else DONE


@dataclass(frozen=True)
class Missing:
    """An extraction that is not complete. times: how often it is made, once for each split whose
    network is trained first."""

    options: ExtractOptions
    times: int = 1


@dataclass(frozen=True)
class Forecast:
    """The steps of a reproduction. extractions: those that are not complete, by name; models: the
    runs of each model that is possible; not_made: what the stores that are not possible are needed
    for."""

    steps: tuple[Step, ...]
    extractions: dict[str, Missing]
    models: dict[str, ModelRuns]
    not_made: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The steps as a table of text."""
        rows = [(step.stage, step.name, step.state) for step in self.steps]
        yield from table_lines([("step", "name", "state"), *rows])
        yield from self.not_made

    def training_line(self) -> str:
        """The number of runs to train and their estimated duration, or "" if there are none."""
        missing = sum(model.missing for model in self.models.values())
        seconds: list[float] = []
        for model in self.models.values():
            seconds += model.seconds
        if not missing:
            return ""
        runs = counted(missing, "run")
        if not seconds:
            return f"{runs} to train; the training time is unknown until one run has been trained"
        mean = sum(seconds) / len(seconds)
        total = f"; in total {duration_text(missing * mean)}" if missing > 1 else ""
        return f"{runs} to train: about {mean:.0f} s each, which is the mean of the finished runs{total}"


def forecast(work: Work) -> Forecast:
    """The state of every step. Nothing is downloaded, decoded or written. Failures are recorded in
    `work.failed`."""
    steps: list[Step] = []
    extractions: dict[str, Missing] = {}
    for name in work.store_names:
        with work.step(name):
            for section in pretrained(work.recipe["stores"][name]).values():
                steps.append(_pretraining(work, name, section, extractions))
            steps += _extraction(work, name, extractions)
    steps += [
        Step("import", name, f"scores of {' '.join(work.imported[name])}") for name in work.imported
    ]
    models: dict[str, ModelRuns] = {}
    for name in work.models:
        with work.step(name):
            if stores := failed_stores(work, name):
                steps.append(Step("train", name, _impossible(stores)))
                continue
            models[name] = _model_runs(work, name)
            steps.append(Step("train", name, models[name].state))
    for name in work.fusions:
        steps.append(Step("fuse", name, _joining(work, name, "a few seconds")))
    for name in work.anomalies:
        steps.append(Step("anomaly", name, _joining(work, name, "a minute")))
    steps += [Step("draw", figure.name, _drawing(work, figure)) for figure in work.figures]
    return Forecast(tuple(dict.fromkeys(steps)), extractions, models, tuple(not_made(work)))


def _joining(work: Work, name: str, duration: str) -> str:
    stores = failed_stores(work, name)
    return _impossible(stores) if stores else f"takes {duration} once its members exist"


def _impossible(stores: Sequence[str]) -> str:
    name = "store" if len(stores) == 1 else "stores"
    return f"not possible without the {name} {' and '.join(stores)}"


def _drawing(work: Work, figure: Figure) -> str:
    stores: dict[str, None] = {}
    for name in figure.models:
        stores |= dict.fromkeys(failed_stores(work, name))
    if stores:
        return _impossible(list(stores))
    if figure.draw == "batch_times":
        return "takes about a minute for each network once its models exist"
    return "takes a few seconds once its models exist"


def print_forecast(forecast: Forecast) -> None:
    """Print the steps, then each missing extraction as `extract PLAN=1` prints it, and their
    total."""
    print_lines(*forecast.lines())
    seconds = size_bytes = 0.0
    for name, missing in forecast.extractions.items():
        print_lines("", f"{name}:")
        estimated = extract_stores(missing.options).estimated
        seconds += missing.times * estimated.seconds
        size_bytes += missing.times * estimated.size_bytes
    if forecast.extractions:
        count = sum(missing.times for missing in forecast.extractions.values())
        print_lines(
            "",
            f"in total {duration_text(seconds)} of computing and {size_text(size_bytes)} on disk for "
            f"{counted(count, 'extraction')}",
        )
    if line := forecast.training_line():
        print_lines("", line)


def _pretraining(work: Work, name: str, section: str, extractions: dict[str, Missing]) -> Step:
    """The state of one section of [pretrain]. If its input must be extracted, the extraction is
    added to `extractions`."""
    options = pretrain_options(work, section, work.store_splits(name))
    pixels, _ = pixels_extraction(pretrain_defaults(options), plan=True)
    # only the first stream's store is compared because the same extraction fills the others
    if not is_complete(work, planned_stores(pixels, work.dataset)[:1]):
        extractions[f"training data of {section}"] = Missing(pixels)
    state = TO_DO if section in missing_pretraining(work, name) else DONE
    return Step("pretrain", section, state)


def _extraction(work: Work, name: str, extractions: dict[str, Missing]) -> list[Step]:
    """The state of each store of an extraction. An extraction that is not complete is added to
    `extractions`."""
    check_weights(work, name)
    splits = work.store_splits(name)
    if missing_pretraining(work, name):
        untrained = extract_options(work, name, splits, weights="random")
        each = f", for each of {len(splits)} splits" if len(splits) > 1 else ""
        title = f"{name}{each} (the file gets its name when the network is trained)"
        planned = dataclasses.replace(untrained, plan=True)
        extractions[title] = Missing(planned, max(1, len(splits)))
        return [Step("extract", name, f"{TO_DO}, once its network is trained")]
    options = extract_options(work, name, splits)
    stores = work.stores[name] = stores_there(work, options)
    if not is_complete(work, stores):
        extractions[name] = Missing(dataclasses.replace(options, plan=True))
    return [_store_step(work, name, store) for store in stores]


def _store_step(work: Work, name: str, store: PlannedStore) -> Step:
    total = len(work.dataset.videos)
    missing = total - store.finished_videos
    state = f"{TO_DO}: {missing} of {counted(total, 'video')}" if missing else DONE
    if store.to_download:
        title = f"{name}: {store.stream}, {store.node}"
        return Step("extract", title, f"{state}; its weights are not downloaded yet")
    return Step("extract", f"{name}: {store.path.name}", state)


def _model_runs(work: Work, name: str) -> ModelRuns:
    """The runs of a model. They can exist only if all stores of the model, and the runs from whose
    weights it starts, are complete."""
    finished: list[Path] = []
    first = starts_from(work.recipe, name)
    has_first = not first or first in work.runs and first not in work.imported
    if has_first and _has_complete_stores(work, needed_stores(work.recipe["models"][name])):
        for paths, splits in stores_by_splits(work, name).items():
            folders = planned_folders(train_options(work, name, paths, splits), paths)
            finished += [folder for folder, is_finished in folders.items() if is_finished]
    total = len(work.splits[name]) * len(work.options.seed)
    if len(set(finished)) == total:
        work.runs[name] = finished
    seconds = tuple(_seconds(folder) for folder in finished)
    return ModelRuns(total - len(set(finished)), total, seconds)


def _has_complete_stores(work: Work, names: Sequence[str]) -> bool:
    return all(name in work.stores and is_complete(work, work.stores[name]) for name in names)


def _seconds(run: Path) -> float:
    return read_run(run).metrics.seconds or 0.0
