"""The command `reproduce`. It reproduces a published system from its recipe. Existing results are
not computed again."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import print_lines
from reelbank.data.errors import InputError
from reelbank.data.options import parse, words_of
from reelbank.data.scores import table as score_tables
from reelbank.data.system.cluster import told_once
from reelbank.extract.run import extract
from reelbank.extract.summary import NOT_ALL_READ
from reelbank.fusion.anomaly import detect_anomalies
from reelbank.fusion.fuse import make_fused
from reelbank.fusion.options import FuseOptions, SvmOptions
from reelbank.fusion.reproduce.batch_times import measured_times
from reelbank.fusion.reproduce.forecast import forecast, print_forecast
from reelbank.fusion.reproduce.imported import import_model
from reelbank.fusion.reproduce.needs import not_made
from reelbank.fusion.reproduce.options import ReproduceOptions
from reelbank.fusion.reproduce.output import Published, publish, table_folder
from reelbank.fusion.reproduce.plan import starts_from
from reelbank.fusion.reproduce.stages import (
    anomaly_options,
    check_options,
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
from reelbank.fusion.reproduce.work import Work, planned_work
from reelbank.fusion.svm import make_svms
from reelbank.heads.pretraining.pretrain import pretrain
from reelbank.heads.training.train import train


@dataclass(frozen=True)
class Reproduction:
    """The result of `reproduce_system`. published: the tables; runs: the run folders of each model
    and fusion; failed: the reason for each store, model or fusion that could not be made; not_made:
    what needs the stores among them."""

    published: Published
    runs: dict[str, list[Path]]
    failed: dict[str, str]
    not_made: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The tables as lines of text."""
        yield from self.published.lines()
        for name, reason in self.failed.items():
            yield f"could not make {name}: {reason}"
        yield from self.not_made

    def __str__(self) -> str:
        return "\n".join(self.lines())


def reproduce(options: ReproduceOptions) -> int:
    """Run the command. Returns 0, or 1 if a store, model or fusion could not be made. The tables
    contain the reasons."""
    if options.plan:
        work = begin(options)
        print_forecast(forecast(work))
        return 1 if work.failed else 0
    reproduction = reproduce_system(options)
    print_lines(*reproduction.lines())
    return 1 if reproduction.failed else 0


@told_once()  # each step is a command
def reproduce_system(options: ReproduceOptions) -> Reproduction:
    """Make the missing stores and runs, then the tables and the report. Progress is printed.

    Raises InputError for a recipe, data set or option that is not possible.
    """
    work = begin(options)
    for name in work.store_names:
        with work.step(name):
            extract_store(work, name)
    for name in work.imported:
        with work.step(name):
            work.runs[name] = import_model(work, name)
    for name in work.models:
        with work.step(name):
            train_model(work, name)
    for name in work.fusions:
        with work.step(name):
            fuse_members(work, name)
    for name in work.anomalies:
        with work.step(name):
            detect(work, name)
    folder = table_folder(work.options, work.dataset.name)
    for figure in work.figures:
        if figure.draw == "batch_times":
            with work.step(figure.name):
                measured_times(work, figure, folder)
    return Reproduction(publish(work), work.runs, work.failed, tuple(not_made(work)))


def begin(options: ReproduceOptions) -> Work:
    """Read the recipe and the data set, find the needed stores and models, and check all
    options."""
    work = planned_work(options)
    check_options(work)
    for note in work.dataset.notes:
        print_lines(note)
    return work


def extract_store(work: Work, name: str) -> None:
    """Train the weights that the store needs, and extract its features."""
    check_weights(work, name)
    splits = work.store_splits(name)
    for section in missing_pretraining(work, name):
        print_lines(f"== pretrain {section}", flush=True)
        pretrain(pretrain_options(work, section, splits))
    options = extract_options(work, name, splits)
    stores = stores_there(work, options)
    if not is_complete(work, stores):
        print_lines(f"== extract {name}", flush=True)
        if extract(options) == NOT_ALL_READ:
            raise InputError(
                "some videos could not be read on this machine (for example, because "
                "it has too little memory); run the same command again"
            )
        stores = stores_there(work, options)
    work.stores[name] = stores


def train_model(work: Work, name: str) -> None:
    """Train the model's runs that are not finished. Raises InputError where the model from whose
    weights it starts could not be made."""
    first = starts_from(work.recipe, name)
    if first in work.imported:
        raise InputError(
            f"the model starts from the weights of {first}, but SCORES gives only the "
            f"scores of {first}"
        )
    if first and first not in work.runs:
        raise InputError(
            f"needs the weights of the model {first}, which is missing "
            f"({work.failed.get(first, 'not trained yet')})"
        )
    folders: list[Path] = []
    for paths, splits in stores_by_splits(work, name).items():
        options = train_options(work, name, paths, splits)
        is_finished = planned_folders(options, paths)
        if not all(is_finished.values()):
            print_lines(f"== train {name}", flush=True)
            train(options)
        folders += is_finished
    work.runs[name] = folders


def fuse_members(work: Work, name: str) -> None:
    """Fuse the members' runs of the fusion's splits."""
    fusion = work.recipe["fusions"][name]
    members = fusion["members"]
    for member in members:
        if member not in work.runs:
            raise InputError(
                f"needs the model {member}, which is missing "
                f"({work.failed.get(member, 'not trained yet')})"
            )
    runs: list[str] = []
    for member in members:
        runs += [str(path) for path in work.runs[member] if _split(path) in work.splits[name]]
    handled_here = ("members", "how", "weights")
    options = {key: value for key, value in fusion.items() if key not in handled_here}
    values = {"bank": work.options.bank, "banks": work.options.banks, **options}
    print_lines(f"== fuse {name}", flush=True)
    if fusion["how"] == "svm":
        joined = make_svms(parse(SvmOptions, [*runs, *words_of(values)], "svm"))
    else:
        values |= {
            "how": fusion["how"],
            "weights": tuple(work.fusion_weights(name)),
            "missing": fusion.get("missing", "allow"),
        }
        joined = make_fused(parse(FuseOptions, [*runs, *words_of(values)], "fuse"))
    print_lines(*joined.lines())
    work.runs[name] = list(joined.folders)


def detect(work: Work, name: str) -> None:
    """Fit the detector of each split and seed, and judge it on the test part."""
    found = {}
    for split in work.splits[name]:
        for seed in work.options.seed:
            options = anomaly_options(work, name, split, seed)
            print_lines(f"== anomaly {name}", flush=True)
            anomalies = detect_anomalies(options)
            print_lines(*anomalies.lines())
            ((found[split, seed],),) = (held_out.seeds for held_out in anomalies.held_out)
    work.detectors[name] = found


def _split(run: Path) -> str:
    if run.is_file():  # imported scores
        return str(score_tables.load(run).about["split"])
    return json.loads((run / "recipe.json").read_text())["recipe"]["split"]
