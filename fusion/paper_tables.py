"""The tables of a reproduction: each published number beside ours and what ours was made of; Markdown, CSV, a report."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.index import label_names
from reelbank.data.printing import print_table, printable
from reelbank.data.recipe import differences, signature
from reelbank.data.replacing import replacing
from reelbank.fusion.compare import class_gains, paired
from reelbank.fusion.entries import Group, Selection, grouped, select
from reelbank.fusion.evaluate import category_means, class_means, top
from reelbank.fusion.metrics import class_figures, share
from reelbank.fusion.paper import (
    ALL_SPLITS,
    ANY_DATASET,
    METRICS,
    Cell,
    against,
    cells,
    is_number,
    model_options,
    named,
    pretrained,
    splits_of_cell,
    store_options,
    stores_of,
)
from reelbank.fusion.paper_file import read_paper
from reelbank.fusion.report import ReportOptions, report
from reelbank.fusion.reproduce import ReproduceOptions, Work, cell_names, fusion_weights, other_network, runs_of
from reelbank.fusion.tables import table, th
from reelbank.heads.runs import commit, write_json

COLUMNS = (
    "row",
    "column",
    "paper's data",
    "published",
    "ours",
    "95 %",
    "difference",
    "our data",
    "weights",
    "not as published",
)

CHANGES = ("set", "extractor", "weights", "resize", "size", "classes", "split", "seed")


class Ours(NamedTuple):
    """A figure in the unit of the paper's table, with its 95 % interval (nan where it has none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


def publish(work: Work) -> Path:
    """Write tables.md, tables.csv and report.html into the bank's `table_folder` and print the tables; returns the folder."""
    options = work.options
    folder = table_folder(options, work.dataset.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = table_rows(work)
    with replacing(folder / "tables.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with replacing(folder / "tables.md") as temporary:
        temporary.write_text(markdown(work, rows), encoding="utf-8")
    made: dict[str, Any] = {"options": asdict(options), "commit": commit()}
    made |= {"reelbank": reelbank.__version__, "recipe": work.recipe}
    made |= {"runs": {key: [path.name for path in paths] for key, paths in work.runs.items()}, "failed": work.failed}
    write_json(folder / "recipe.json", made)
    names: dict[str, str] = {}
    for name, paths in work.runs.items():
        names |= {path.name: f"{names[path.name]}, {name}" if path.name in names else name for path in paths}
    runs = runs_of(work, [*work.models, *work.fusions])
    if not runs:  # what an earlier run left is of no run that is in the tables now
        (folder / "report.html").unlink(missing_ok=True)
        shutil.rmtree(folder / "report-figures", ignore_errors=True)
    else:
        page = ReportOptions(
            bank=options.bank,
            runs=tuple(map(str, runs)),
            out=str(folder / "report.html"),
            root=options.root,
            lists=options.lists,
            figures=not options.quick,
        )
        report(page, [section(work, rows)], names)
    for title, some in by_table(rows).items():
        print(printable(title))
        shown = [[row[column] for column in COLUMNS[:7]] for row in some]
        print_table([COLUMNS[:7], *([one if len(one) < 60 else one[:57] + "..." for one in line] for line in shown)])
    print(printable(f"tables: {folder / 'tables.md'}, {folder / 'tables.csv'}"))
    return folder


def table_folder(options: ReproduceOptions, dataset: str) -> Path:
    """<bank>/reproductions/<system>-<data set>[-quick][-<only>][-<six digits>]: what is cut or changed stands beside the whole,
    which stays. The digits are of the options in which more was changed."""
    name = f"{Path(options.system).stem}-{dataset}{'-quick' if options.quick else ''}"
    name += f"-{'-'.join(options.only)}" if options.only else ""
    changes = {key: getattr(options, key) for key in CHANGES if getattr(options, key) != getattr(ReproduceOptions, key)}
    name += f"-{signature(changes)[:6]}" if changes else ""
    return Path(options.bank, "reproductions", name)


def by_table(rows: Sequence[Mapping[str, str]]) -> dict[str, list[Mapping[str, str]]]:
    """The rows by the title of their table."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault(f"{row['source']}: {row['title']}", []).append(row)
    return found


def table_rows(work: Work) -> list[dict[str, str]]:
    """One row for each published number, those that are not run too: all texts."""
    groups, run = _groups(work), set(work.cells)
    complete = _is_papers_data(work)
    made = []
    for cell in cells(work.recipe, work.options.only):
        ours, number = None, against(cell.ours)
        reason = f"against the published {number} only on the paper's whole data" if number else "of another data set"
        if (cell.metric == "map_percent") != work.dataset.multilabel and cell.metric in ("map_percent", "accuracy_percent"):
            reason = f"of videos with {'one class' if work.dataset.multilabel else 'several classes'} each"
        if cell in run and cell.ours:
            try:
                ours = measured(work, cell, groups)
            except InputError as error:
                reason = str(error)
        unit = METRICS[cell.metric].unit
        same = complete and is_comparable(work, cell, groups) and ours is not None and bool(cell.published)
        interval = f"{_number(ours.low, cell)} to {_number(ours.high, cell)}" if ours and math.isfinite(ours.low) else ""
        changed = not_as_published(work, cell) if ours else []
        difference = f"{ours.value - float(cell.published.replace(',', '')):+.{_places(cell)}f}" if ours and same else ""
        made.append(
            {
                "source": cell.source,
                "title": str(work.recipe["tables"][cell.table].get("title", cell.table)),
                "row": cell.row,
                "column": cell.column,
                "paper's data": " ".join(filter(None, (cell.dataset, _split_text(cell.split)))),
                "published": cell.published or "a curve",
                "unit": unit,
                "ours": _number(ours.value, cell) if ours else f"not run: {reason}" if cell.ours else "not run",
                "95 %": interval,
                "difference": difference or ("not comparable" if ours and cell.published and not is_setting(cell) else ""),
                "our data": "; ".join(_data(work, cell, groups)) if ours else "",
                "weights": "; ".join(_weights(work, cell)) if ours else "",
                "not as published": "; ".join(changed),
                "runs": " ".join(entry.name for group in groups_of(work, cell, groups).values() for entry in group.entries)
                if ours
                else "",
            }
        )
    return made


def _split_text(split: str) -> str:
    return f"split {split}" if split.isdecimal() else f"({split})"


def _places(cell: Cell) -> int:
    return 3 if cell.metric == "error_rate" else 0 if cell.metric == "count" else 2


def _number(value: float, cell: Cell) -> str:
    return f"{value:,.{_places(cell)}f}" if cell.metric != "fusion_weight" else f"{value:g}"


def _groups(work: Work) -> dict[str, Group]:
    """The runs of every model and fusion that a row names, or that is a member there, on all their splits and seeds."""
    found = {}
    for name in dict.fromkeys([*cell_names(work), *work.models]):
        if paths := work.runs.get(name):
            entries, _ = select(Selection(bank=work.options.bank, runs=tuple(map(str, paths))), "test")
            (found[name],) = grouped(entries)  # one experiment, whatever its splits
    return found


def groups_of(work: Work, cell: Cell, groups: Mapping[str, Group]) -> dict[str, Group]:
    """What a row names, on the row's splits alone. Raises InputError, saying why, for what is not there."""
    splits = splits_of_cell(cell, work.known)
    found = {}
    for name in named(cell.ours):
        if name not in groups:
            raise InputError(work.failed.get(name, f"{name} is not there"))
        entries = tuple(entry for entry in groups[name].entries if entry.fact("split") in splits)
        if not entries:
            raise InputError(f"{name} was not run on split {' '.join(splits)}")
        found[name] = replace(groups[name], entries=entries)
    return found


def measured(work: Work, cell: Cell, groups: Mapping[str, Group]) -> Ours:
    """What `cell.ours` asks for. Raises InputError, saying why, where it cannot be had."""
    groups = groups_of(work, cell, groups)
    if len(sides := re.split(r" ([-%]) ", cell.ours)) == 3:
        return _of_two(work, cell, groups, *sides)
    first, *rest = cell.ours.split()
    if first == "range":
        values = [100 * top(groups[name])[0].value for name in rest]
        return Ours(max(values) - min(values))
    if first in ("kept", "worse"):
        gains = [one.gain for one in class_gains(paired(groups[rest[0]], groups[rest[1]])) if math.isfinite(one.gain)]
        return Ours(sum(gain >= 0 for gain in gains) if first == "kept" else sum(gain < 0 for gain in gains))
    if first == "sequences":
        metrics = groups[rest[0]].entries[0].metrics
        if "sequences" not in metrics:
            raise InputError(f"{groups[rest[0]].entries[0].name} was trained before sequences were counted")
        return Ours(metrics["sequences"][rest[1]])
    if first == "videos":
        return Ours(len({video.path for video in work.dataset.videos if video.parts[:1] == (rest[0],)}))
    if first == "weight":
        return Ours(fusion_weights(work, rest[0])[work.recipe["fusions"][rest[0]]["members"].index(rest[1])])
    value, low, high = _share(cell.ours, groups)
    if cell.metric == "error_rate":
        return Ours(1 - value, 1 - high, 1 - low)
    return Ours(100 * value, 100 * low, 100 * high)


def _of_two(work: Work, cell: Cell, groups: Mapping[str, Group], left: str, sign: str, right: str) -> Ours:
    """Points from the right to the left, the other way for a loss; or by what share of its error the right one is beaten."""
    turn = -1 if cell.metric == "loss_points" else 1
    first = _share(left, groups)
    if is_number(right):
        if not (_is_papers_data(work) and is_comparable(work, cell, groups)):
            raise InputError(f"against the published {right} only on the paper's whole data")
        ends = sorted(turn * (100 * one - float(right)) for one in first[1:])
        return Ours(turn * (100 * first[0] - float(right)), *ends)
    second = _share(right, groups)
    if sign == "%":
        if second[0] == 1:
            raise InputError(f"{right} makes no error")
        return Ours(100 * (first[0] - second[0]) / (1 - second[0]))
    if not {left, right} <= set(groups):  # of a class, say: no interval of a difference
        return Ours(turn * 100 * (first[0] - second[0]))
    pair = paired(groups[left], groups[right])
    found = pair.difference("groups" if pair.has_groups else "videos")
    ends = sorted(turn * 100 * one for one in (found.low, found.high))
    return Ours(turn * 100 * found.value, *ends)


def _share(ours: str, groups: Mapping[str, Group]) -> tuple[float, float, float]:
    """Share in [0, 1] with its interval: of a model, its five likeliest classes, one class, or a coarse category."""
    name, kind, of = ([*ours.split(" ", 2), "", ""])[:3]
    group = groups[name]
    if kind == "":
        return top(group)[0][:3]
    if kind == "top5":
        return top(group, 5)[0][:3]
    scores = group.entries[0].scores
    if kind == "class":
        if of not in scores.classes:
            raise InputError(f"the data has no class {of}")
        number = scores.classes.index(of)
        return share(float(class_means(group)[number]), int(class_figures(scores)[1][number]))[:3]
    means = category_means(group, group.entries[0].coarse)
    if of not in means:
        raise InputError(f"the data has no class of {of}")
    members = [scores.classes.index(one) for one in group.entries[0].coarse[of]]
    return share(means[of], int(class_figures(scores)[1][members].sum()))[:3]


def _is_papers_data(work: Work) -> bool:
    """Whether the whole of the paper's data set was taken, by the number of its videos that the recipe states, and no QUICK."""
    return not work.options.quick and _files(work) == work.recipe.get("videos", {}).get(work.dataset.name)


def is_setting(cell: Cell) -> bool:
    """Whether the row is an option of the recipe, a fusion's weight, which is set and not measured."""
    return cell.ours.startswith("weight ")


def _files(work: Work) -> int:
    """How many files the data set has; a video may be a stretch of one."""
    return work.dataset.files or len(work.dataset.videos)


def is_comparable(work: Work, cell: Cell, groups: Mapping[str, Group]) -> bool:
    """Whether ours is of the row's data set and splits, with every test video in it, and was measured at all."""
    if is_setting(cell) or cell.dataset not in (work.dataset.name, ANY_DATASET):
        return False
    splits = splits_of_cell(cell, work.known)
    if cell.split in ALL_SPLITS and splits != list(work.dataset.splits) or cell.split.isdecimal() and cell.split not in splits:
        return False
    return not any(lacking(work, groups[name], splits) for name in named(cell.ours) if name in groups)


def lacking(work: Work, group: Group, splits: Sequence[str]) -> int:
    """How many test videos of these splits have no score, since they could not be read."""
    found = 0
    for split in splits:
        scored = [set(entry.scores.video_ids) for entry in group.entries if entry.fact("split") == split]
        found += len(work.tests[split].difference(*scored))
    return found


def _classes(work: Work) -> int:
    """How many classes have a video."""
    return len({name for v in work.dataset.videos for name in label_names(v.label, {"multilabel": work.dataset.multilabel})})


def _data(work: Work, cell: Cell, groups: Mapping[str, Group]) -> list[str]:
    if is_setting(cell):
        return ["set by the recipe, not measured"]
    splits = splits_of_cell(cell, work.known) if named(cell.ours) else []
    whole, count = work.recipe.get("videos", {}).get(work.dataset.name), _files(work)
    videos = f"{count:,} videos" if count == whole or whole is None else f"{count:,} of {whole:,} videos"
    which = f", split {' '.join(splits)}" if splits else ""
    mine = f"{work.dataset.name}, {_classes(work)} classes, {videos}{which}"
    if cell.dataset not in (work.dataset.name, ANY_DATASET):
        mine += f", in place of {cell.dataset}"
    without = {
        name: lacking(work, groups[name], splits) for name in [*named(cell.ours), *_members(work, cell)] if name in groups
    }
    return [mine, *(f"{name} lacks {count:,} test videos" for name, count in without.items() if count)]


def _members(work: Work, cell: Cell) -> list[str]:
    """The models behind a row."""
    fusions = work.recipe.get("fusions", {})
    names = [member for name in named(cell.ours) for member in fusions.get(name, {}).get("members", [name])]
    return list(dict.fromkeys(names))


def _weights(work: Work, cell: Cell) -> list[str]:
    """Weights and trunk of every store behind a row."""
    found = []
    given = read_paper(work.options.system, quick=work.options.quick) if work.options.set else work.recipe
    for name in _members(work, cell):
        stores = stores_of(work.recipe["models"][name])
        for path in work.runs.get(name, ())[:1]:
            recipes = json.loads((path / "recipe.json").read_text()).get("store_recipes", [])
            for store, one in zip(stores, recipes, strict=True):
                own = work.recipe["stores"][store]
                trunk = str(own.get("trunk", "frozen"))
                if pretrained(own) != pretrained(given["stores"].get(store, {})):  # SET took its training away, or gave it one
                    trunk = "trained on the split's training part" if pretrained(own) else "frozen"
                flow = (one.get("flow") or {}).get("method", "")
                source = one.get("weights", {})
                said = source.get("source") if isinstance(source, dict) else source
                words = str(said or "none").split(",")[0]
                by = f" on {flow}" if flow else ""
                found.append(f"{one.get('stream')}{by} {one.get('extractor')}: {words}; trunk {trunk.replace('{flow}', flow)}")
    return list(dict.fromkeys(found))


def not_as_published(work: Work, cell: Cell) -> list[str]:
    """In what the options behind a row are other ones than the recipe's own: QUICK, SET, EXTRACTOR, splits."""
    options = work.options
    whole = work.whole
    found = []
    for name in named(cell.ours):
        if name in work.recipe.get("fusions", {}):
            found += [f"{name}.{line}" for line in differences(work.recipe["fusions"][name], whole["fusions"].get(name, {}))]
    for name in _members(work, cell):
        if name not in whole.get("models", {}):
            found.append(f"{name} is no model of the recipe")
            continue
        own_model, its_model = work.recipe["models"][name], whole["models"][name]
        prefix = f"{name}." if len(_members(work, cell)) > 1 else ""  # so that rows which differ alike share a note
        found += [prefix + line for line in differences(model_options(work.recipe, name), model_options(whole, name))]
        found += [prefix + line for line in differences({"on": own_model["on"]}, {"on": its_model["on"]})]
        for store, its_store in zip(stores_of(own_model), stores_of(its_model), strict=False):
            used = store_options(work.recipe, store, other_network(options))
            if ".py:" in str(used.get("extractor")):  # a file of the user's: its name, not where it lies
                used["extractor"] = Path(used["extractor"]).name
            found += [f"{store}.{line}" for line in differences(used, store_options(whole, its_store))]
            own, its = (recipe["stores"][one].get("pretrain", "") for recipe, one in ((work.recipe, store), (whole, its_store)))
            found += [f"{store}.{line}" for line in differences({"pretrain": own or None}, {"pretrain": its or None})]
            for section in pretrained(work.recipe["stores"][store]).values():
                if section in whole.get("pretrain", {}):
                    lines = differences(work.recipe["pretrain"][section], whole["pretrain"][section])
                    found += [f"pretrain.{section}.{line}" for line in lines]
    splits = splits_of_cell(cell, work.known)
    if named(cell.ours) and cell.split in ALL_SPLITS and splits != list(work.dataset.splits):
        found.append(f"split {' '.join(splits)} alone")
    if named(cell.ours) and cell.split.isdecimal() and cell.split not in splits:
        found.append(f"split {' '.join(splits)} in place of {cell.split}")
    return [line.replace(", not None", ", not its own") for line in dict.fromkeys(found)]


def markdown(work: Work, rows: Sequence[Mapping[str, str]]) -> str:
    """The tables as Markdown; what is not as published stands below each table by letter."""
    out = io.StringIO()
    paper = work.recipe.get("title", work.options.system)
    out.write(f"# {paper}: published and ours\n\n{_caution(work)}\n")
    for title, some in by_table(rows).items():
        notes = _letters(some)
        heads = (*COLUMNS[:-1], "note")
        out.write(f"\n## {title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
        for row in some:
            texts = [row[column] for column in COLUMNS[:-1]] + [notes.get(row["not as published"], "")]
            out.write(f"| {' | '.join(text.replace('|', '/') for text in texts)} |\n")
        for text, letter in notes.items():
            out.write(f"\n{letter}: not as published: {text}\n")
    return out.getvalue()


def _letters(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    texts = dict.fromkeys(row["not as published"] for row in rows if row["not as published"])
    return {text: f"({number})" for number, text in enumerate(texts, 1)}


def _caution(work: Work) -> str:
    data = f"{work.dataset.name} ({_classes(work)} classes, {len(work.dataset.videos):,} videos)"
    cut = " in the cut-down form of QUICK=1" if work.options.quick else ""
    if _is_papers_data(work):
        return f"Ours were made on the whole of {data}."
    return (
        f"Ours were made on {data}{cut}: they show that everything runs, and say nothing of the paper's figures. A difference "
        "is given on the paper's whole data alone."
    )


def section(work: Work, rows: Sequence[Mapping[str, str]]) -> str:
    """The tables as a section of the report."""
    made = [f"<section><h2>{escape(str(work.recipe.get('title', work.options.system)))}: published and ours</h2>"]
    made.append(f"<p>{escape(_caution(work))}</p>")
    for title, some in by_table(rows).items():
        notes = _letters(some)
        heads = "".join(th(column) for column in (*COLUMNS[:-1], "note"))
        lines = []
        for row in some:
            texts = [row[column] for column in COLUMNS[:-1]] + [notes.get(row["not as published"], "")]
            lines.append("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in texts) + "</tr>")
        below = "".join(f'<p class="quiet">{letter}: not as published: {escape(text)}</p>' for text, letter in notes.items())
        made.append(f"<h3>{escape(title)}</h3>{table(heads, lines, '')}{below}")
    return "".join([*made, "</section>"])
