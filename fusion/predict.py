"""The command `predict`: what trained runs say of video files, or of every video of a store.

The features of files are made as in training: each run's recipe names the recipes of its stores, stage one extracts the files
anew by them into a temporary bank, and a store that differs in anything is refused.
"""

import contextlib
import csv
import io
import math
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reelbank.data import frames_folder
from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.index import ABSENT, is_absence
from reelbank.data.printing import printable
from reelbank.data.recipe import canonical, option, signature
from reelbank.data.replacing import replacing
from reelbank.data.scores import Scores
from reelbank.data.shelf import find_store
from reelbank.data.store import Store, StoreWriter, identity
from reelbank.data.videos import Dataset, Video, find_videos, some
from reelbank.extract.again import Given, options_again, own_extractor
from reelbank.extract.run import extract_dataset, meta, size_bytes
from reelbank.extract.streams import chosen_device
from reelbank.fusion.late import HOWS, fuse
from reelbank.fusion.svm import concatenated, load_svm, margins
from reelbank.heads.leak import seen_videos
from reelbank.heads.predict import predicted, predicted_and_embedded, store_recipes
from reelbank.heads.runs import Run, all_runs, find_runs, folder_name, read_run, written_to
from reelbank.heads.stores import store_names

FILES = "files"  # the name of a data set of files that were named one by one


@dataclass(frozen=True)
class PredictOptions:
    """Options of the command `predict`."""

    bank: str = option("bank", "folder that holds stores, runs and reports")
    videos: tuple[str, ...] = option((), "video files, or folders that are searched for them", positional=True)
    run: str = option("", "the run: its name, the start of its hash, or its folder; several, 'a b', are fused")
    store: str = option(
        "",
        "in place of videos a feature store: the start of its hash, or its file (a+b for mid fusion); with neither, the only "
        "store there is",
    )
    how: str = option("product", "how several runs are fused", tuple(HOWS))
    weights: tuple[float, ...] = option((), "one number for each of several runs, in their order; all 1 if not given")
    extractor: str = option("", "file.py:function of a network of your own that the features are of; several, 'a b'")
    extractor_weights: str = option("", "file of the network's weights, where the features were made with such a file")
    flow_weights: str = option("", "file of RAFT's weights, where the features were made with such a file")
    top: int = option(5, "classes shown for each video")
    to: str = option(
        "", "file for the result: .csv of the TOP classes, or .npz of all scores (a folder: default reports/predict-<name>.csv)"
    )
    device: str = option("auto", "where features are made: auto, cpu, cuda, cuda:1 ...")
    workers: int = option(0, "decode processes (default: 1 when the CPU computes, else all cores)")


class Said(NamedTuple):
    """What a run says of the videos that it can see and hear. embeddings: (V, E) float32, None of fused runs; lacking: id of a
    video that has nothing for it (no sound) -> why. Without any video `scores` is None."""

    scores: Scores | None
    embeddings: np.ndarray | None
    lacking: dict[str, str]


@dataclass(frozen=True)
class Place:
    """Where the features of one call are made, and what was found out on the way. made: the store of each store recipe and
    data set's name; failed: id -> why a video cannot be predicted; notes: lines for the user."""

    folder: Path
    bank: str
    videos: tuple[Video, ...]
    given: Given
    device: str
    workers: int
    made: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def predict_videos(options: PredictOptions) -> int:
    """The command: print each video's likeliest classes with their probabilities; returns the exit code, 1 when a video could
    not be predicted. Raises InputError as `predict` does, and when TO cannot be written."""
    if not options.run:
        raise InputError("RUN= is not given; 'reelbank runs' lists them")
    if options.top < 1:
        raise InputError(f"TOP={options.top}: must be at least 1")
    to = options.to
    folders = [word for word in options.videos if Path(word).is_dir()]
    if folders and not to:
        name = re.sub(r"[^\w.-]+", "_", Path(folders[0]).resolve().name) or "videos"
        to = str(Path(options.bank, "reports", f"predict-{name}.csv"))
        Path(to).parent.mkdir(parents=True, exist_ok=True)
    if to and Path(to).suffix not in (".csv", ".npz"):
        raise InputError(f"TO={to}: give a name that ends in .csv (the likeliest classes) or .npz (all scores)")
    if to:
        with written_to("TO", to):
            Path(to).parent.stat()  # before the work is done
    if options.videos:
        table, failed, shown, notes = _of_files(options)
    else:
        table, notes = _of_store(options)
        failed, shown = {}, {name: name for name in table.video_ids}
    if table is not None:
        _print(table, shown, options.top)
    for line in notes:
        print(printable(f"note: {line}"), file=sys.stderr if options.videos else sys.stdout)
    for name, reason in failed.items():
        print(printable(f"failed: {shown[name]}: {reason}"), file=sys.stderr)
    if to and (table is not None or to.endswith(".csv")):
        with written_to("TO", to):
            if to.endswith(".npz"):
                assert table is not None
                score_tables.save(table, to)
            else:
                _write_csv(Path(to), table, failed, shown, options.top)
        print(f"scores of {0 if table is None else len(table.video_ids)} videos: {to}")
    return int(bool(failed))


def predict(
    videos: str | Path | Sequence[str | Path],
    runs: str | Path | Sequence[str | Path],
    how: str = "product",
    weights: Sequence[float] = (),
    bank: str | Path = "bank",
    extractor: str = "",
    extractor_weights: str = "",
    flow_weights: str = "",
    device: str = "auto",
    workers: int = 0,
) -> Scores:
    """The scores that runs give video files, several runs fused by `fusion.late.fuse`.

    videos: files, or folders that are searched for them; runs: folders, names or starts of hashes in `bank`; the others as
    the options of the command. `video_ids` are file names without ending (below a folder with their folders), labels unknown.
    A video that cannot be predicted is not in the table: `about["failed"]` has its reason.

    Raises InputError when no video can be predicted, a file or run is not there, or features as in training cannot be made.
    """
    one_video, one_run = (isinstance(given, str | Path) for given in (videos, runs))
    found, _, notes = named_videos([videos] if one_video else videos)  # type: ignore[list-item, arg-type]
    words = [str(run) for run in ([runs] if one_run else runs)]  # type: ignore[union-attr]
    table, failed, more = _predicted_files(
        found, words, how, weights, str(bank), _given(extractor, extractor_weights, flow_weights, str(bank)), device, workers
    )
    for note in [*notes, *more]:
        print(printable(f"note: {note}"), file=sys.stderr)
    if table is None:
        name, reason = next(iter(failed.items()))
        raise InputError(f"{name}: {reason}" + (f" (and {len(failed) - 1} more videos failed)" if len(failed) > 1 else ""))
    return replace(table, about=table.about | {"failed": failed})


def top(scores: Scores, k: int = 5) -> dict[str, list[tuple[str, float]]]:
    """Each video's k likeliest classes with their probabilities, the likeliest first; of equals the first class."""
    probabilities = score_tables.probabilities(scores)  # (V, C)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]  # (V, k)
    return {
        name: [(scores.classes[number], float(own[number])) for number in numbers]
        for name, own, numbers in zip(scores.video_ids, probabilities, order.tolist(), strict=True)
    }


def named_videos(words: Sequence[str | Path]) -> tuple[tuple[Video, ...], dict[str, str], list[str]]:
    """The videos that files and folders name, each once; id -> its path as it was given; and lines on what is left out.

    An id is a file's name without ending, below a folder with the folders between; where two would be the same it keeps the
    ending, or is the whole path. Raises InputError for a path that is not there and a folder without videos.
    """
    given: dict[Path, tuple[str, Path]] = {}  # whole path -> id, path as given
    notes: list[str] = []
    for word in words:
        path = Path(word).expanduser()
        if not path.exists():
            raise InputError(f"{word}: no such file or folder")
        found = {path.name.removesuffix(path.suffix): path}
        if path.is_dir() and not frames_folder.is_video(one.name for one in path.iterdir()):
            found, own = find_videos(path)
            notes += [f"{path}: {line}" for line in own]
            if not found:
                raise InputError(f"{word}: holds no videos" + (f" ({own[0]})" if own else ""))
        for name, one in found.items():
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise InputError(f"{printable(ascii(str(one)))}: its name is not valid text; rename it")
            given.setdefault(Path(os.path.normpath(one.absolute())), (name, one))
    ids = {whole: name for whole, (name, _) in given.items()}
    for longer in ({whole: whole.name for whole in given}, {whole: whole.as_posix().lstrip("/") for whole in given}):
        times = Counter(ids.values())
        ids = {whole: longer[whole] if times[name] > 1 else name for whole, name in ids.items()}
    videos = tuple(Video(ids[whole], whole, "", "", ()) for whole in given)
    return videos, {ids[whole]: str(path) for whole, (_, path) in given.items()}, notes


def _given(extractor: str, weights: str, flow_weights: str, bank: str) -> Given:
    """One path may hold spaces; several are parted by them."""
    own = [extractor] if Path(extractor.rpartition(":")[0]).is_file() else extractor.split()
    files = [weights] if weights and Path(weights).exists() else weights.split()
    return Given(tuple(own), tuple(files), flow_weights, bank)


def _run_words(text: str) -> list[str]:
    return [text] if Path(text).is_dir() else text.replace(",", " ").split()


def _of_files(options: PredictOptions) -> tuple[Scores | None, dict[str, str], dict[str, str], list[str]]:
    if options.store:
        raise InputError(f"STORE={options.store}: give a store or videos, not both")
    videos, shown, notes = named_videos(options.videos)
    given = _given(options.extractor, options.extractor_weights, options.flow_weights, options.bank)
    table, failed, more = _predicted_files(
        videos,
        _run_words(options.run),
        options.how,
        options.weights,
        options.bank,
        given,
        options.device,
        options.workers,
    )
    return table, failed, shown, notes + more


def _of_store(options: PredictOptions) -> tuple[Scores, list[str]]:
    """The scores of all videos of a store, and a line on those that the backbone was trained on."""
    runs = _named_runs(options.bank, _run_words(options.run))
    _check_weights(runs, options.weights)
    paths = [find_store(options.bank, wanted) for wanted in store_names(options.store)]
    tables = [predicted(run.path, *paths, extractor=options.extractor) for run in runs]
    table = tables[0] if len(tables) == 1 else fuse(tables, options.how, options.weights)
    return table, _seen(paths, set(table.video_ids), of_files=False)


def _seen(paths: Sequence[Path], video_ids: set[str], of_files: bool) -> list[str]:
    """A line where the backbone of some store was trained on some of its videos."""
    seen = 0
    for path in paths:
        with Store.open(path) as store:
            if of_files:  # whatever their data set is called here: such videos are known by name and bytes alone
                store.dataset = store.dataset | {"name": FILES}
            seen = max(seen, len(seen_videos(store) & video_ids))
    return [f"{seen} of the {len(video_ids)} videos were in what the backbone was trained on"] if seen else []


def _named_runs(bank: str, words: Sequence[str]) -> list[Run]:
    found = []
    for word in words:
        if (Path(word) / "recipe.json").is_file():
            found.append(read_run(Path(word).resolve()))
            if not found[-1].finished:
                raise InputError(f"{word}: this run is not finished; the command that began it goes on with it")
        else:
            found += find_runs(bank, [word])
    if not found:
        raise InputError("RUN= is not given; 'reelbank runs' lists them")
    return found


def _check_weights(runs: Sequence[Run], weights: Sequence[float]) -> None:
    if weights and len(runs) == 1:
        raise InputError("WEIGHTS: are for several runs, one number each; RUN= names one")
    if weights and len(weights) != len(runs):
        raise InputError(f"WEIGHTS={' '.join(f'{w:g}' for w in weights)}: give {len(runs)} numbers, one for each run")


def _predicted_files(
    videos: tuple[Video, ...],
    words: Sequence[str],
    how: str,
    weights: Sequence[float],
    bank: str,
    given: Given,
    device: str,
    workers: int,
) -> tuple[Scores | None, dict[str, str], list[str]]:
    """The fused table, None when no video is left; id -> reason of those that failed; and lines for the user."""
    runs = _named_runs(bank, words)
    _check_weights(runs, weights)
    with tempfile.TemporaryDirectory(prefix="reelbank-predict-") as folder:
        place = Place(Path(folder), bank, videos, given, device, workers)
        said = [_said(run, place) for run in runs]
        whole = said[0] if len(said) == 1 else _fused(said, runs, how, weights, place)
        notes = place.notes + _seen(list(place.made.values()), {video.id for video in videos}, of_files=True)
    failed = {**{name: reason.removeprefix(ABSENT) for name, reason in whole.lacking.items()}, **place.failed}
    table = whole.scores
    kept = [row for row, name in enumerate(table.video_ids) if name not in failed] if table else []
    order = {video.id: number for number, video in enumerate(videos)}  # as they were named
    failed = {name: failed[name] for name in sorted(failed, key=order.__getitem__)}
    if table is None or not kept:
        return None, failed, notes
    kept.sort(key=lambda row: order[table.video_ids[row]])
    ids = tuple(table.video_ids[row] for row in kept)
    return replace(table, video_ids=ids, labels=table.labels[kept], logits=table.logits[kept], groups=()), failed, notes


def _said(run: Run, place: Place) -> Said:
    """What a run says of the files; of a fused run what its members say together."""
    if run.recipe.get("head") == "fused":
        members = _members(run)
        said = [_said(member, place) for member in members]
        return _fused(said, members, str(run.recipe.get("how")), _recorded_weights(run), place)
    if run.recipe.get("head") == "svm":
        return _said_by_svm(run, place)
    recipes = store_recipes(run.path)
    dataset = str(run.recipe.get("dataset")) if any("magnitude" in one for one in recipes) else FILES
    multilabel = bool(run.recipe.get("scoring", {}).get("multilabel"))
    paths = [_store(one, run, place, dataset, multilabel) for one in recipes]
    lacking: dict[str, str] = {}
    rows: dict[str, list[int]] = {video.id: [] for video in place.videos}  # of each store that has it
    for path in paths:
        with Store.open(path) as store:
            for name, count in zip(store.video_ids, store.rows.tolist(), strict=True):
                rows[name].append(count)
            for name, failure in store.failures.items():
                (lacking if is_absence(failure["reason"]) else place.failed).setdefault(name, failure["reason"])
    whole = {name: counts for name, counts in rows.items() if len(counts) == len(paths)}
    for name, counts in whole.items():
        if len(set(counts)) > 1:
            text = ", ".join(map(str, counts))
            place.failed.setdefault(name, f"{run.path.name} joins streams row by row, and they have {text} rows of it")
    if not whole.keys() - place.failed.keys():
        return Said(None, None, lacking)
    extractor = own_extractor(str(run.recipe.get("trunk", {}).get("extractor", "")), place.given)
    table, embeddings = predicted_and_embedded(run.path, *paths, extractor=extractor, of_files=True)
    return Said(replace(table, about=table.about | {"dataset": FILES}), embeddings, lacking)


def _store(recipe: dict[str, Any], run: Run, place: Place, dataset: str, multilabel: bool) -> Path:
    """The store of the files by this recipe, made once."""
    key = canonical({"recipe": recipe, "dataset": dataset, "multilabel": multilabel})
    if key in place.made:
        return place.made[key]
    if recipe.get("kind") == "embedding":
        place.made[key] = _embedded(recipe, run, place, dataset, multilabel)
        return place.made[key]
    if not re.fullmatch(r"[\w.-]+", dataset):
        raise InputError(f"{run.path}: its recipe names a data set {dataset!r}, which is no name")
    given = replace(place.given, bank=str(_bank_of(run, place)))
    try:
        options = options_again(recipe, given, str(place.folder), dataset, place.device)
    except InputError as error:
        raise InputError(f"{run.path.name}: {error}") from None
    options = replace(options, workers=place.workers)
    files = Dataset(dataset, place.folder, place.videos, (), (), multilabel=multilabel)
    with contextlib.redirect_stdout(io.StringIO()):  # stage one's account of its work; what failed is told by the caller
        extract_dataset(options, files, slice(None), chosen_device(place.device))
    (place.made[key],) = (place.folder / "stores").glob(f"*-{identity(recipe, dataset)[:8]}.h5")
    return place.made[key]


def _embedded(recipe: dict[str, Any], run: Run, place: Place, dataset: str, multilabel: bool) -> Path:
    """A store of the embeddings that another run gives the files."""
    siblings = all_runs(_bank_of(run, place))
    first = next((one for one in siblings if one.finished and one.signature == recipe.get("run")), None)
    if first is None:
        raise InputError(
            f"{run.path.name}: was trained on the embeddings of {recipe.get('extractor')}, which is not among the finished "
            f"runs in {run.path.parent}; bring it back"
        )
    said = _said(first, place)
    path = place.folder / "stores" / f"embedding-{signature(recipe)[:12]}.h5"
    about: dict[str, Any] = {"name": dataset, "classes": [], "splits": [], "coarse": {}}
    about |= {"multilabel": True} if multilabel else {}
    rows = {name: row for row, name in enumerate(said.scores.video_ids)} if said.scores else {}
    writer = StoreWriter(path, recipe, about)
    try:
        for video in place.videos:
            one = meta(video, size_bytes(video))
            if video.id in rows and said.embeddings is not None:
                writer.add(one, said.embeddings[rows[video.id]][None].astype(np.float16), np.zeros(1))  # (1, E), as in training
            else:
                writer.fail(one, said.lacking.get(video.id) or place.failed[video.id])
        writer.finish([meta(video) for video in place.videos])
    finally:
        writer.close()
    return path


def _bank_of(run: Run, place: Place) -> Path:
    """The bank that a run lies in: its members and weights that were trained there are looked for in it."""
    return run.path.parent.parent if run.path.parent.name == "runs" else Path(place.bank)


def _members(run: Run) -> list[Run]:
    """The runs that a run was made of, out of the same bank. Raises InputError for one that is a score file or is gone."""
    found, members = [], run.recipe.get("members")
    if not members or not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise InputError(f"{run.path}: its recipe does not say what it was made of; fuse it again")
    for recipe in members:
        if "sha256" in recipe:
            raise InputError(
                f"{run.path.name}: its member {recipe.get('head')} is a score file, which says nothing of other videos; "
                "name the runs that can, RUN='a b', instead"
            )
        path = run.path.parent / folder_name(recipe)
        if not (path / "metrics.json").is_file():
            raise InputError(f"{run.path.name}: its member {path.name} is not in {run.path.parent} (any more); train it again")
        found.append(read_run(path))
    return found


def _recorded_weights(run: Run) -> list[float]:
    """The weights of a fused run, those found by a search too. Raises InputError where the run does not hold them."""
    weights = run.recipe.get("weights")
    if weights == "searched":
        weights = [member.get("weight") for member in run.metrics.get("members", [])]
    if (
        not isinstance(weights, list)
        or len(weights) != len(run.recipe["members"])
        or not all(isinstance(weight, int | float) and math.isfinite(weight) for weight in weights)
    ):
        raise InputError(f"{run.path}: does not say with which weights its members were fused; fuse them again")
    return [float(weight) for weight in weights]


def _fused(said: Sequence[Said], runs: Sequence[Run], how: str, weights: Sequence[float], place: Place) -> Said:
    """Several runs' scores as one table. A run that a video has nothing for (no sound) takes no part in that video."""
    used = list(weights or [1.0] * len(said))
    if any(weight > 0 for weight in used):  # what has no weight is not asked, and a video that it alone has is lacking
        kept = [number for number, weight in enumerate(used) if weight > 0]
        said, runs, used = [said[n] for n in kept], [runs[n] for n in kept], [used[n] for n in kept]
    if how == "rank" and any(one.scores is not None and one.scores.multilabel for one in said):
        raise InputError(
            "HOW=rank: of several labels a video it orders the videos of a test set, which says nothing of a video by itself; "
            "give another HOW"
        )
    without = [set(one.lacking) - place.failed.keys() for one in said]
    by_all: set[str] = set(without[0]).intersection(*without[1:])
    for one, run, lost in zip(said, runs, without, strict=True):
        if elsewhere := lost - by_all:
            reason = one.lacking[min(elsewhere)].removeprefix(ABSENT)
            place.notes.append(f"{run.path.name} takes no part in {some(sorted(elsewhere))}: {reason}")
    lacking = {name: said[0].lacking[name] for name in by_all}
    tables = [(one.scores, weight) for one, weight in zip(said, used, strict=True) if one.scores is not None]
    if not tables:
        return Said(None, None, lacking)
    return Said(fuse([table for table, _ in tables], how, [weight for _, weight in tables], missing="allow"), None, lacking)


def _said_by_svm(run: Run, place: Place) -> Said:
    """What an SVM on the joined embeddings of other runs says; the embeddings are rounded as stores round them."""
    model, _ = load_svm(run.path)
    members = _members(run)
    said = [_said(member, place) for member in members]
    with_mask = run.recipe.get("missing") == "allow"
    lacking: dict[str, str] = {}
    for one in said:
        lacking |= one.lacking
    if with_mask:  # then only what all lack is lacking
        lacking = {name: why for name, why in lacking.items() if all(name in one.lacking for one in said)}
    ids = [video.id for video in place.videos if video.id not in lacking and video.id not in place.failed]
    if not ids:
        return Said(None, None, lacking)
    vectors = []
    for member, one in zip(members, said, strict=True):
        with Store.open(member.path / "embeddings.h5") as store:
            found = np.full((len(ids), *store.row_shape), np.nan)  # (V, E)
        if one.scores is not None and one.embeddings is not None:
            row_of = {name: row for row, name in enumerate(one.scores.video_ids)}
            rows = [(to, row_of[name]) for to, name in enumerate(ids) if name in row_of]
            found[[to for to, _ in rows]] = one.embeddings[[row for _, row in rows]].astype(np.float16)
        if with_mask and (lost := [name for name in ids if name in one.lacking]):
            place.notes.append(f"{member.path.name} takes no part in {some(lost)}: {one.lacking[lost[0]].removeprefix(ABSENT)}")
        vectors.append(found)
    logits = margins(model, concatenated(vectors, with_mask))  # (V, C)
    about = {"dataset": FILES, "name": run.path.name, "head": "svm"}
    return Said(Scores(tuple(ids), np.full(len(ids), -1), tuple(run.recipe["classes"]), logits, about), None, lacking)


def _print(table: Scores, shown: Mapping[str, str], k: int) -> None:
    """Of one video a line for each class, of several one for each video."""
    likeliest = top(table, k)
    for name, likely in likeliest.items():
        if len(shown) == 1:
            print(printable(shown[name]))
            for label, probability in likely:
                print(printable(f"  {100 * probability:5.1f} %  {label}"))
        else:
            print(printable(f"{shown[name]}: " + ", ".join(f"{label} {100 * value:.1f} %" for label, value in likely)))


def _write_csv(path: Path, table: Scores | None, failed: Mapping[str, str], shown: Mapping[str, str], k: int) -> None:
    """A row for each video: video, class1, probability1, class2 ..., error (why there are none)."""
    likeliest = top(table, k) if table is not None else {}
    places = range(1, max(map(len, likeliest.values()), default=0) + 1)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", *(f"{what}{place}" for place in places for what in ("class", "probability")), "error"])
        for name, text in shown.items():
            cells = [cell for label, value in likeliest.get(name, []) for cell in (label, f"{value:.6f}")]
            writer.writerow([text, *(cells or [""] * 2 * len(places)), failed.get(name, "")])
