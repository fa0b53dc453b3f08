"""Reelbank: video clips go in once, features stay for good. `import reelbank` in a notebook, `reelbank` on the command line."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Threads of OpenMP that wait for each other sleep. By default they spin, and on a busy machine they take the cores from the
# thread that they wait for: six steps of an LSTM took 60 s, and 5 s with this. OpenMP reads it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_here = Path(__file__).resolve().parent
# The packages lie beside this file in a checkout, in reelbank/ once installed. Importing them as reelbank.data,
# reelbank.extract ... means that no folder of the user's named data/ or extract/ can stand in their place.
__path__ = [str(_here / "reelbank"), str(_here)]
__version__ = "0.1.0"

# command: (module, options, function, one line of help); modules are imported only when their command is called
COMMANDS = {
    "extract": ("extract.run", "ExtractOptions", "extract", "videos -> feature store; again, and it goes on where it was"),
    "pretrain": ("heads.pretrain", "PretrainOptions", "pretrain", "train or fine-tune an extractor on a split's training part"),
    "train": ("heads.train", "TrainOptions", "train", "feature store -> trained heads: runs"),
    "sweep": ("heads.sweep", "SweepOptions", "sweep", "every combination of lists of train options, and one table"),
    "evaluate": ("fusion.evaluate", "EvaluateOptions", "evaluate", "accuracies of runs, over splits and seeds"),
    "fuse": ("fusion.fuse", "FuseOptions", "fuse_runs", "join the scores of two or more runs"),
    "anomaly": ("fusion.anomaly", "AnomalyOptions", "anomaly", "what is unlike normal videos: an autoencoder beside baselines"),
    "compare": ("fusion.compare", "CompareOptions", "compare", "is one model better? paired tests, and what each class gains"),
    "svm": ("fusion.svm", "SvmOptions", "svm_runs", "a linear SVM on the joined embeddings of two or more runs"),
    "scores": (
        "fusion.score_files",
        "ScoresOptions",
        "score_file",
        "score files of other tools: described, brought in, given away",
    ),
    "report": ("fusion.report", "ReportOptions", "report", "one HTML page of results"),
    "reproduce": (
        "fusion.reproduce",
        "ReproduceOptions",
        "reproduce",
        "a published system from its recipe: stores, heads, fusions, and its tables beside ours",
    ),
    "predict": ("fusion.predict", "PredictOptions", "predict_videos", "what runs say of video files, or of a store's videos"),
    "runs": ("heads.runs", "RunsOptions", "runs", "list the runs"),
    "stores": ("data.shelf", "StoresOptions", "stores", "list the feature stores"),
    "inspect": ("data.shelf", "InspectOptions", "inspect", "recipe, coverage and failures of a store"),
    "verify": ("data.shelf", "VerifyOptions", "verify", "read every byte of a store and name what is damaged"),
    "remove": ("data.shelf", "RemoveOptions", "remove", "delete a store"),
    "import": ("data.importers", "ImportOptions", "import_store", "bring features of other tools into a store"),
    "export": ("data.importers", "ExportOptions", "export", "features of a store, one array per video, for other tools"),
    "doctor": ("extract.doctor", "DoctorOptions", "doctor", "what works on this machine"),
}

# What a notebook needs, imported when first asked for: `reelbank.Store` is `reelbank.data.store.Store`.
PUBLIC = {
    "InputError": "data.errors",
    "Store": "data.store",
    "StoreWriter": "data.store",
    "load_dataset": "data.datasets",
    "Scores": "data.scores",
    "find_store": "data.shelf",
    "find_runs": "heads.runs",
    "load_run": "heads.runs",
    "fuse": "fusion.late",
    "predict": "fusion.predict",
    "top": "fusion.predict",
}


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        importlib.import_module("reelbank.data.machine").limit_threads()
        value = getattr(importlib.import_module(f"reelbank.{PUBLIC[name]}"), name)
        globals()[name] = value  # found directly the next time
        return value
    raise AttributeError(f"module 'reelbank' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])


def main(words: Sequence[str] | None = None) -> int:
    """The `reelbank` command: returns the exit code; 2 for what the user can mend, 130 when stopped."""
    from reelbank.data.errors import InputError
    from reelbank.data.machine import limit_threads
    from reelbank.data.recipe import parse

    command, *rest = list(sys.argv[1:] if words is None else words) or ["--help"]
    if command in ("-h", "--help", "help"):
        print("usage: reelbank COMMAND [NAME=value ...]\n")
        print("\n".join(f"  {name:<10}{entry[3]}" for name, entry in COMMANDS.items()))
        print("\n'reelbank COMMAND --help' lists the options of a command.")
        return 0
    if command == "--version":
        print(__version__)
        return 0
    if command not in COMMANDS:
        print(f"reelbank: error: no command '{command}'; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module_name, options_name, function_name, about = COMMANDS[command]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's polite stop is a Ctrl-C
    limit_threads()  # before the libraries that compute are loaded
    try:
        module = importlib.import_module(f"reelbank.{module_name}")
        return getattr(module, function_name)(parse(getattr(module, options_name), rest, command, about))
    except InputError as error:
        print(f"reelbank: error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:  # also a shared library of the system that a package wants
        if (error.name or "").startswith("reelbank"):  # ours: a fault of the code
            raise
        return _package_does_not_load(error)
    except KeyboardInterrupt:
        print("\nreelbank: stopped; what was done is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `reelbank stores | head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that cannot be written
        if error.errno is None and error.filename is None:  # torch loads its libraries by ctypes
            return _package_does_not_load(error)
        print(f"reelbank: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2


def _package_does_not_load(error: Exception) -> int:
    from reelbank.data.errors import repair_command

    todo = f"install what is missing, or repair the package: {repair_command('<package>')}"
    print(f"reelbank: error: a package does not load: {' '.join(str(error).split())}; {todo}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
