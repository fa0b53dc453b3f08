"""Command `fuse`: the scores of the selected runs, joined split by split and seed by seed, become runs of the bank."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import reelbank
from reelbank.data import scores as score_tables
from reelbank.data.errors import InputError
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import option, signature
from reelbank.data.scores import Scores, completed, join
from reelbank.fusion.entries import FACTS, JOINED, Entry, Selection, by_repetition, features, grouped, in_order, select, title
from reelbank.fusion.late import HOWS, MISSING, fuse, searched_weights
from reelbank.fusion.metrics import Share, figure
from reelbank.heads.results import accuracies, summary
from reelbank.heads.runs import commit, folder_name, write_json


@dataclass(frozen=True)
class FuseOptions(Selection):
    """Options of the command `fuse`."""

    how: str = option(
        "product", "what is done with the members' scores: logits before softmax, the others after it", tuple(HOWS)
    )
    weights: tuple[float, ...] = option(
        (), "one number for each member, in the order the members are printed; all 1 if not given"
    )
    search: bool = option(False, "find the weights on the members' validation scores, for each split and seed by themselves")
    validation: tuple[str, ...] = option((), "with SEARCH=1: the validation scores of members that are score files, in order")
    missing: str = option(
        "refuse", "of a video that a member lacks (no sound, say); allow: the member takes no part in it", MISSING
    )


def fuse_runs(options: FuseOptions) -> int:
    """Fuse the test scores of the selected runs, split by split and seed by seed, into runs of the bank; the exit code."""
    make_fused(options)
    return 0


def make_fused(options: FuseOptions) -> list[Path]:
    """As `fuse_runs`; returns the folders of the fused runs."""
    entries, notes = select(options, "test")
    if not options.runs:  # the order must not hang on hashes: weights go by it
        entries = in_order(one for one in entries if one.recipe["head"] not in JOINED or one.recipe["head"] == options.head)
    members = grouped(entries)
    for note in notes:
        print(printable(f"note: {note}"))
    if len(members) < 2:
        raise InputError(f"nothing to fuse: {len(entries)} runs of {len(members)} model; a fusion needs two or more models")
    if options.search and options.weights:
        raise InputError("WEIGHTS and SEARCH=1: weights are given or searched; leave one out")
    if options.validation and not options.search:
        raise InputError("VALIDATION: is what SEARCH=1 searches on; give both or none")
    named = [member.label + (f", {member.detail}" if member.detail else "") for member in members]
    given = list(options.weights or [1.0] * len(members))
    for weight, name in zip(given, named, strict=False):  # a wrong number of weights is refused by fuse
        print(printable(f"weight {'searched' if options.search else format(weight, 'g')}: {name}"))
    judged = "mAP" if entries[0].scores.multilabel else "top-1"
    lines = [("split", "seed", "model", "videos", judged, "95 %", "run")]
    of_split: dict[str, list[float]] = {}
    folders = []
    for (split, seed), some in by_repetition(entries).items():
        weights, validation = given, _validation_scores(some, options)
        if options.search:
            judged_on = {video for entry in some for video in entry.scores.video_ids}
            if seen := [video for table in validation for video in table.video_ids if video in judged_on]:
                raise InputError(
                    f"SEARCH=1: {len(set(seen))} of the validation videos are test videos too ({seen[0]}); weights are never "
                    "searched on what they are judged on"
                )
            weights = searched_weights(validation, options.how, options.missing)
            where = ", ".join(filter(None, (split and f"split {split}", seed and f"seed {seed}")))
            found = ", ".join(f"{weight:.3g} {name}" for weight, name in zip(weights, named, strict=True))
            print(printable(f"weights found on validation{', ' + where if where else ''}: {found}"))
        recipe = _recipe(some, options, weights, split, seed)
        folder = Path(options.bank, "runs", folder_name(recipe))
        scored = {"test": fuse([entry.scores for entry in some], options.how, weights, options.missing)}
        if validation:
            scored["validation"] = fuse(validation, options.how, weights, options.missing)
        measure = "map" if scored["test"].multilabel else "top1"
        singles = [
            {"run": one.name, "weight": weight, measure: one.figure.value} for one, weight in zip(some, weights, strict=True)
        ]
        write_run(folder, recipe, scored, {"members": singles})
        folders.append(folder)
        shown = [(f"{title(entry.recipe)} {features(entry.recipe)}", entry.figure, entry.name) for entry in some]
        right = figure(scored["test"])
        for name, share, run in [*shown, (f"{options.how} of these", right, folder.name)]:
            interval = f"{100 * share.low:.2f} to {100 * share.high:.2f}"
            lines.append((split or "-", seed or "-", name, str(share.videos), f"{100 * share.value:.2f}", interval, run))
        of_split.setdefault(split, []).append(100 * right.value)
    print_table(lines)
    if sum(map(len, of_split.values())) > 1:
        print(f"test {judged} % of the fused: {summary(of_split)}")
    return folders


def _validation_scores(entries: Sequence[Entry], options: FuseOptions) -> list[Scores]:
    """The members' validation scores; [] where some member has none and they are not searched on. Raises InputError when they
    are and a member has none, or VALIDATION does not fit."""
    files = [entry for entry in entries if not entry.path.is_dir()]
    if options.search and len(files) != len(options.validation):
        raise InputError(
            f"SEARCH=1: {len(files)} of the members are score files, VALIDATION names {len(options.validation)}; name as many"
        )
    given, found = iter(options.validation), []
    for entry in entries:
        path = entry.path / "scores-validation.npz" if entry.path.is_dir() else Path(next(given, ""))
        if not options.search and not path.is_file():
            return []
        if not path.exists():
            raise InputError(f"SEARCH=1: {entry.name} has no validation scores ({path}); give WEIGHTS, or leave it out")
        found.append(score_tables.load(path))
        if (said := found[-1].about.get("part", "validation")) != "validation":
            raise InputError(f"VALIDATION: {path} holds scores of part '{said}'; weights are never searched on it")
    if not options.search:
        try:
            join(found if options.missing == "refuse" else completed(found))
        except InputError as error:
            print(printable(f"note: no validation figure of the fused: {error}"))
            return []
    return found


def _recipe(members: Sequence[Entry], options: FuseOptions, weights: Sequence[float], split: str, seed: str) -> dict[str, Any]:
    """A search is named, not its outcome, so that splits with other weights are one experiment; files it reads are, by hash."""
    made: dict[str, Any] = {"how": options.how, "weights": "searched" if options.search else list(weights)}
    if options.validation:
        made["validation"] = [{"sha256": hashlib.sha256(Path(name).read_bytes()).hexdigest()} for name in options.validation]
    made |= {"missing": options.missing} if options.missing != "refuse" else {}
    return joined_recipe("fused", members, split, seed) | made


def joined_recipe(head: str, members: Sequence[Entry], split: str, seed: str) -> dict[str, Any]:
    """What the recipe of a run made of other runs says of them."""
    joined = {key: "+".join(dict.fromkeys(filter(None, (m.fact(key) for m in members)))) for key in FACTS}
    families = [str(m.recipe.get("store_family", m.fact("store"))) for m in members]
    if families != [m.fact("store") for m in members]:
        joined["store_family"] = "+".join(dict.fromkeys(families))
    repeated = {"split": split, "seed": int(seed) if seed.isdecimal() else seed}
    return joined | repeated | {"head": head, "members": [member.recipe for member in members]}


def write_run(folder: Path, recipe: dict[str, Any], scored: dict[str, Scores], more: dict[str, Any]) -> None:
    """A run folder as training leaves it, without what its kind does not have: metrics.json comes last and makes it a finished
    one. scored: by part; more: of metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    environment = {"reelbank": reelbank.__version__, "commit": commit()}
    write_json(folder / "recipe.json", {"signature": signature(recipe), "recipe": recipe, "environment": environment})
    facts = {key: recipe[key] for key in FACTS}
    for part, table in scored.items():
        about = table.about | facts | {"part": part, "signature": signature(recipe), "name": folder.name}
        score_tables.save(replace(table, about=about), folder / f"scores-{part}.npz")
    found = {part: (accuracies(table) or {}) | _interval(figure(table)) for part, table in scored.items()}
    write_json(folder / "metrics.json", found | more)


def _interval(share: Share) -> dict[str, float]:
    return {"low": share.low, "high": share.high}
