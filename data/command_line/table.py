"""The table of commands: group, function, options and description of each."""

import importlib
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A command's function and options dataclass, each as module:name below `reelbank`.

    The module of the function may import slow libraries, because it is imported only when the
    command runs. The module of the options is also imported for --help and must not import them.
    """

    group: str
    function: str
    options: str
    about: str

    def load_options(self) -> Any:
        return _load(self.options)

    def load_function(self) -> Any:
        return _load(self.function)


COMMANDS = {
    "extract": Command(
        "Features",
        "extract.run:extract",
        "extract.options:ExtractOptions",
        "extract features from videos into feature stores; run it again to continue an "
        "interrupted extraction",
    ),
    "pretrain": Command(
        "Features",
        "heads.pretraining.pretrain:pretrain",
        "heads.pretraining.options:PretrainOptions",
        "train or fine-tune an extractor (feature network) on the training part of a split",
    ),
    "train": Command(
        "Heads",
        "heads.training.train:train",
        "heads.training.options:TrainOptions",
        "train heads (small models) on a feature store; each trained head is saved as a run",
    ),
    "sweep": Command(
        "Heads",
        "heads.training.sweep:sweep",
        "heads.training.sweep_options:SweepOptions",
        "train one run for every combination of the given option values, and print one table; "
        "options accept several values, such as --hidden '256 512'",
    ),
    "evaluate": Command(
        "Results",
        "fusion.evaluation.evaluate:evaluate",
        "fusion.evaluation.options:EvaluateOptions",
        "print the accuracy of runs, averaged over splits and seeds",
    ),
    "compare": Command(
        "Results",
        "fusion.evaluation.compare:compare",
        "fusion.evaluation.options:CompareOptions",
        "test whether two models differ significantly, and list the gain or loss of each class",
    ),
    "fuse": Command(
        "Results",
        "fusion.fuse:fuse_runs",
        "fusion.options:FuseOptions",
        "combine the scores of two or more runs",
    ),
    "svm": Command(
        "Results",
        "fusion.svm:svm_runs",
        "fusion.options:SvmOptions",
        "train a linear SVM on the concatenated embeddings of two or more runs",
    ),
    "anomaly": Command(
        "Results",
        "fusion.anomaly:anomaly",
        "fusion.options:AnomalyOptions",
        "detect abnormal videos with an autoencoder and two baseline methods",
    ),
    "predict": Command(
        "Results",
        "fusion.predict:predict_videos",
        "fusion.options:PredictOptions",
        "classify video files, or the videos of a store, with trained runs",
    ),
    "search": Command(
        "Results",
        "fusion.search.search:search",
        "fusion.search.options:SearchOptions",
        "find the videos of a store, or moments in them, that are nearest to a video or to a text",
    ),
    "report": Command(
        "Results",
        "fusion.report.page:report",
        "fusion.report.options:ReportOptions",
        "write the results of runs to one HTML page",
    ),
    "reproduce": Command(
        "Results",
        "fusion.reproduce.run:reproduce",
        "fusion.reproduce.options:ReproduceOptions",
        "repeat the experiments of a paper, and print the published results next to the measured ones",
    ),
    "scores": Command(
        "Results",
        "fusion.evaluation.score_files:score_file",
        "fusion.evaluation.options:ScoresOptions",
        "describe a score file of another tool, or convert it to another format",
    ),
    "stores": Command(
        "Stores and runs",
        "data.store.commands:stores",
        "data.store.options:StoresOptions",
        "list the feature stores",
    ),
    "inspect": Command(
        "Stores and runs",
        "data.store.commands:inspect",
        "data.store.options:InspectOptions",
        "show the recipe, videos and failures of a store",
    ),
    "duplicates": Command(
        "Stores and runs",
        "data.similarity.duplicates.command:duplicates",
        "data.similarity.duplicates.options:DuplicatesOptions",
        "list similar videos within and across the training, validation and test part of a split",
    ),
    "verify": Command(
        "Stores and runs",
        "data.store.commands:verify",
        "data.store.options:VerifyOptions",
        "read every byte of a store to verify its checksums, and list what is damaged",
    ),
    "pack": Command(
        "Stores and runs",
        "data.store.merging.pack:pack",
        "data.store.options:PackOptions",
        "merge all files of a store into one",
    ),
    "remove": Command(
        "Stores and runs",
        "data.store.commands:remove",
        "data.store.options:RemoveOptions",
        "delete a store",
    ),
    "import": Command(
        "Stores and runs",
        "data.store.exchange.importing:import_store",
        "data.store.options:ImportOptions",
        "import features of other tools into a store",
    ),
    "export": Command(
        "Stores and runs",
        "data.store.exchange.exporting:export",
        "data.store.options:ExportOptions",
        "write the features of a store to files that other tools can read, one array per video",
    ),
    "runs": Command(
        "Stores and runs",
        "heads.runs.commands:runs",
        "heads.runs.options:RunsOptions",
        "list or remove runs",
    ),
    "doctor": Command(
        "This machine",
        "extract.doctor:doctor",
        "extract.doctor:DoctorOptions",
        "check the packages, the hardware and the bank, and suggest repairs",
    ),
    "completion": Command(
        "This machine",
        "data.command_line.completion:completion",
        "data.command_line.options:CompletionOptions",
        "print a shell script that enables tab completion of commands and options",
    ),
}


def options_of(command: str) -> Any:
    """The options dataclass of a command."""
    return COMMANDS[command].load_options()


def _load(text: str) -> Any:
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(f"reelbank.{module}"), name)
