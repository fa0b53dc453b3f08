"""Command `report`: one HTML file that says what was run, on what, and how well; it needs no network and no other file."""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import reelbank
from reelbank.data.datasets import load_dataset
from reelbank.data.errors import InputError
from reelbank.data.printing import printable
from reelbank.data.recipe import brief, in_file_name, option
from reelbank.data.replacing import replacing
from reelbank.fusion import figures
from reelbank.fusion.anomaly_table import anomaly_section, read_detectors
from reelbank.fusion.costs import cost_section, read_costs
from reelbank.fusion.curves import learning_charts
from reelbank.fusion.entries import Entry, Group, Selection, select, without_repetition
from reelbank.fusion.evaluate import Contest, category_means, class_means, confusions, contests, counted_classes, top
from reelbank.fusion.gallery import gallery_section
from reelbank.fusion.judge import INTERVALS
from reelbank.fusion.metrics import mean_and_deviation
from reelbank.fusion.plots import characters_without_font, plots_of, write_plots
from reelbank.fusion.sweep_table import read_sweeps, sweep_section
from reelbank.fusion.tables import per_cent, table, td, th
from reelbank.fusion.versus import calibration_section, chosen_pair, versus_section
from reelbank.heads.runs import PARTS, figure, written_to

_STYLE, _SCRIPT = (Path(__file__).with_name(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
MOST_NAMED = 6  # models whose names the heads of the table of classes hold; of more it is their letters


@dataclass(frozen=True)
class ReportOptions(Selection):
    """Options of the command `report`."""

    part: str = option("test", "which videos are judged", PARTS)
    interval: str = option("wilson", "95 % intervals: Wilson's formula, or a bootstrap over videos or over groups", INTERVALS)
    pair: tuple[str, ...] = option((), "letters of the two models that are set against each other (default: the two highest)")
    name: str = option("", "the report is reports/<name>.html in the bank (default: the data sets' names)")
    out: str = option("", "write the report to this file instead")
    root: str = option("", "the data set's videos, for frames of right and wrong ones (toy: found by itself)")
    lists: str = option("", "with ROOT: folder of the official lists (hmdb51, charades)")
    show: str = option("", "with ROOT: id of the video whose flow and sound are drawn (default: one with sound)")
    figures: bool = option(True, "also every drawing as PNG and its numbers as CSV, in a folder beside the report")


def report(options: ReportOptions, before: Sequence[str] = (), names: Mapping[str, str] | None = None) -> int:
    """Write the report on the selected runs and print where it is; returns the exit code. before: sections, HTML, that come
    first; names: what models are called, by a run. Raises InputError when nothing fits or the file cannot be written."""
    entries, notes = select(options, options.part)
    found = [
        replace(contest, groups=tuple(_called(group, names or {}) for group in contest.groups)) for contest in contests(entries)
    ]
    name = options.name or "-".join(dict.fromkeys(contest.dataset or "scores" for contest in found))
    out = Path(options.out or Path(options.bank, "reports", f"{name.replace('/', '-')}.html"))
    sweeps = read_sweeps(options.bank, [contest.dataset for contest in found])
    videos = _videos(options, [contest.dataset for contest in found])
    costs, detectors = read_costs(options.bank, found), read_detectors(options.bank, [contest.dataset for contest in found])
    document = page(
        found, options.part, notes, sweeps, options.interval, options.pair, videos, options.show, costs, detectors, before
    )
    with written_to("OUT", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_text(document, encoding="utf-8")
        if options.figures:
            folder = out.with_name(f"{out.stem}-figures")
            for number, contest in enumerate(found, 1):
                marks = _letters(len(contest.groups))
                letters, pair, _ = chosen_pair(contest, marks, options.pair)
                named = in_file_name(contest.dataset or "scores")  # a score file may say anything of its data set
                place = folder / f"{number}-{named}-{len(contest.classes)}" if len(found) > 1 else folder
                plots = plots_of(contest, marks, pair, letters, options.interval)
                write_plots(place, plots)
                if missing := characters_without_font(plots):
                    notes.append(f"the PNGs lack {missing}: no font of this machine has these characters; install one")
            print(printable(f"drawings as PNG, their numbers as CSV: {folder}"))
    for note in notes:
        print(printable(f"note: {note}"))
    print(f"report on {len(entries)} runs: {out}")
    return 0


def _called(group: Group, names: Mapping[str, str]) -> Group:
    """The group by its given name, what it is beside it."""
    name = names.get(group.entries[0].name)
    return replace(group, label=name, detail=group.label) if name else group


def _videos(options: ReportOptions, datasets: Sequence[str]) -> dict[str, Path]:
    """id -> file of the videos that frames are taken of; {} where no ROOT is given and the set is not the toy."""
    toy = Path(options.bank, "toy")
    root = options.root or (str(toy) if datasets == ["toy"] and toy.is_dir() else "")
    if not root:
        if options.show:
            raise InputError(f"SHOW={options.show}: give ROOT=, the folder of the videos, as well")
        return {}
    if len(datasets) != 1:
        raise InputError(f"ROOT={root}: the report is on {', '.join(datasets)}; give DATASET= for pictures of one")
    name = "folder" if datasets[0].startswith("folder-") else datasets[0]
    found = {video.id: video.path for video in load_dataset(name, root, splits_dir=options.lists, bank=options.bank).videos}
    if options.show and options.show not in found:
        raise InputError(f"SHOW={options.show}: no such video in {root}; ids are paths below ROOT without ending")
    return found


def page(
    found: Sequence[Contest],
    part: str,
    notes: Sequence[str] = (),
    sweeps: Mapping[str, Sequence[Mapping[str, str]]] = {},
    interval: str = "wilson",
    pair: Sequence[str] = (),
    videos: Mapping[str, Path] = {},
    show: str = "",
    costs: Mapping[str, Mapping[str, Any]] = {},
    detectors: Sequence[Sequence[Mapping[str, Any]]] = (),
    before: Sequence[str] = (),
) -> str:
    """The whole document. sweeps: of each sweep's file name the rows of its table; interval, pair, show: as of ReportOptions;
    videos: id -> file, {} for a report without frames; costs, detectors: of `read_costs` and `read_detectors`; before: as
    of `report`."""
    datasets = list(dict.fromkeys(contest.dataset or "unnamed data set" for contest in found))
    runs = sum(len(group.entries) for contest in found for group in contest.groups)
    models = sum(len(contest.groups) for contest in found)
    title = f"{', '.join(datasets)}: {_count(models, 'model')}, {_count(runs, 'run')}"
    made = datetime.datetime.now(datetime.UTC)
    body = [f"<header><h1>{escape(title)}</h1>"]
    body.append(
        f'<p class="quiet">Judged on the {escape(part)} part of each split. Made {made:%d %B %Y, %H:%M} UTC by Reelbank '
        f"{reelbank.__version__}.</p>"
    )
    body += [f'<p class="quiet">Note: {escape(note)}.</p>' for note in notes]
    body += ["</header>", *before]
    for number, contest in enumerate(found):
        if len(found) > 1:
            body.append(f"<h1>{escape(contest.title)}</h1>")
        body += _contest(contest, part, f"c{number}", interval, pair, videos, show, costs)
    body += anomaly_section(detectors)
    body += sweep_section(sweeps)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _contest(
    contest: Contest,
    part: str,
    anchor: str,
    interval: str,
    pair: Sequence[str],
    videos: Mapping[str, Path],
    show: str,
    costs: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    marks = _letters(len(contest.groups))
    return [
        *_results(contest, marks, anchor, interval),
        *_curves(contest, marks),
        *_classes(contest, marks),
        *versus_section(contest, marks, pair),
        *([] if contest.multilabel or not videos else gallery_section("A", contest.groups[0].entries[0].scores, videos, show)),
        *([] if contest.multilabel else _matrices(contest, marks)),
        *([] if contest.multilabel else calibration_section(contest.groups, marks)),
        *cost_section(contest, marks, costs),
        *_origins(contest, marks, part, anchor),
    ]


def _letters(count: int) -> list[str]:
    """A, B, ... Z, AA, AB, ...: what experiments are called throughout a report."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [alphabet[i] if i < 26 else alphabet[i // 26 - 1] + alphabet[i % 26] for i in range(count)]


def _results(contest: Contest, marks: Sequence[str], anchor: str, kind: str) -> list[str]:
    chance, many = contest.chance, len(contest.classes) > 5 and not contest.multilabel
    best, deviation = top(contest.groups[0])
    first = contest.groups[0]
    sentence = (
        f"Highest of {_count(len(contest.groups), 'model')} on {len(contest.classes)} classes: "
        f"<strong>{escape(first.label)}</strong>, <strong>{_pm(best.value, deviation)} %</strong> {contest.measure} "
        f"({_repeats(first)}). "
        f"Chance is {100 * chance:.1f} %."
    )
    heads = [
        th("Model"),
        th("Splits"),
        th("Seeds"),
        th("Videos", True),
        th("mAP %" if contest.multilabel else "Top-1 %", True),
        "<th>95 % interval, 0 to 100 %</th>",
    ]
    heads += [th("Top-5 %", True)] if many else []
    heads += [th("Classes", True)] if contest.multilabel else []
    heads += [th(name, True) for name in contest.coarse]
    rows, columns = (
        [],
        [[category_means(group, contest.coarse).get(c, math.nan) for c in contest.coarse] for group in contest.groups],
    )
    shares = np.array(columns)  # (models, categories); a category without videos is NaN throughout
    leaders = np.where(np.isnan(shares), -math.inf, shares).max(0) if contest.coarse else []
    for mark, group, categories in zip(marks, contest.groups, columns, strict=True):
        right, deviation = top(group, 1, kind)
        cells = [f'<th><a href="#{anchor}{mark}">{mark}</a>&ensp;{escape(group.label)}{_small(group.detail)}</th>']
        cells += [f'<td class="w">{escape(", ".join(group.values(key)) or "–")}</td>' for key in ("split", "seed")]
        cells.append(td(group.videos, str(group.videos)))
        cells.append(td(right.value, _pm(right.value, deviation), "best" if right.value == best.value else ""))
        interval = f"{100 * right.low:.1f}–{100 * right.high:.1f}"
        cells.append(f'<td class="w">{figures.whisker(right, chance)} <span class="quiet">{interval}</span></td>')
        if many:
            five, deviation = top(group, 5)
            cells.append(td(five.value, _pm(five.value, deviation)))
        if contest.multilabel:
            counted = counted_classes(group)
            cells.append(td(int(counted.split()[0]), counted))
        for value, leader in zip(categories, leaders, strict=True):
            cells.append(td(value, per_cent(value), "best" if value == leader else ""))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    several = any(len(group.entries) > 1 for group in contest.groups)
    note = "Mean ± standard deviation over runs (splits and seeds). " if several else ""
    bootstrap = f"a bootstrap’s over {kind}" if kind != "wilson" else ""
    if contest.multilabel:
        note += "mAP: mean average precision, over the classes that have a video in the part, which Classes counts. "
        over = bootstrap or "a bootstrap’s over videos"
        note += f"The interval is {over}; the dashed tick is chance, where all videos score alike. "
    else:
        over = bootstrap or "Wilson’s for the mean, each video counted once"
        note += f"The interval is {over}; the dashed tick is chance. "
    note += "Under a coarse category stands the share of its videos given their right class." if contest.coarse else ""
    return ["<section><h2>Results</h2>", f"<p>{sentence}</p>", table("".join(heads), rows, note), "</section>"]


def _curves(contest: Contest, marks: Sequence[str]) -> list[str]:
    drawn = []
    for mark, group in zip(marks, contest.groups, strict=True):
        if charts := learning_charts(group):
            shown = "".join(f"<figure><figcaption>{chart.caption}</figcaption>{chart.svg}</figure>" for chart in charts)
            drawn.append(f"<h3>{_heading(mark, group)}</h3><div class='small-multiples'>{shown}</div>")
    if not drawn:
        return []
    keys = _keys([("var(--second)", "training"), ("var(--accent)", "validation")])
    note = "<p class='quiet'>One line for each run; a ring marks the epoch whose weights were kept.</p>"
    return ["<section><h2>Learning curves</h2>", note, keys, *drawn, "</section>"]


def _classes(contest: Contest, marks: Sequence[str]) -> list[str]:
    means = np.array([class_means(group) for group in contest.groups])  # (G, C)
    videos = np.bincount([label for _, label in _labels(contest)], minlength=len(contest.classes))  # (C,)
    category_of = {name: category for category, some in contest.coarse.items() for name in some}
    heads = [th("Class"), *([th("Category")] if contest.coarse else []), th("Videos", True)]
    for i, (mark, group) in enumerate(zip(marks, contest.groups, strict=True)):
        shown = f"{mark} {group.label}" if len(contest.groups) <= MOST_NAMED else mark
        heads.append(th(shown, True, "descending" if i == 0 else ""))
    rows = []
    for i in np.argsort(-np.nan_to_num(means[0], nan=-1), kind="stable"):
        name = contest.classes[i]
        cells = [f"<th>{escape(name)}</th>"]
        cells += [f'<td class="quiet">{escape(category_of.get(name, "–"))}</td>'] if contest.coarse else []
        cells.append(td(int(videos[i]), str(videos[i])))
        cells += [
            f'<td class="bar" data-v="{value if math.isfinite(value) else -1:.6g}" style="--v:{np.nan_to_num(value):.4f}">'
            f"{per_cent(value)}</td>"
            for value in means[:, i]
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = "Average precision of each class" if contest.multilabel else "Share of each class’s videos given that class"
    note += ", in %; mean over runs. Click a heading to sort."
    note += " The letters are those of the table of results." if len(contest.groups) > MOST_NAMED else ""
    return ["<section><h2>Classes</h2>", table("".join(heads), rows, note, "classes"), "</section>"]


def _labels(contest: Contest) -> set[tuple[str, int]]:
    """Every video's label, or labels, once."""
    seen: set[tuple[str, int]] = set()
    for scores in (entry.scores for group in contest.groups for entry in group.entries):
        if scores.multilabel:
            seen |= {(scores.video_ids[video], int(label)) for video, label in np.argwhere(scores.labels)}
        else:
            seen |= {(video, int(n)) for video, n in zip(scores.video_ids, scores.labels, strict=True) if n >= 0}
    return seen


def _matrices(contest: Contest, marks: Sequence[str]) -> list[str]:
    drawn: list[str] = []
    for mark, group in zip(marks, contest.groups, strict=True):
        counts = confusions(group)  # (C, C)
        runs = f", {_count(len(group.entries), 'run')} added up" if len(group.entries) > 1 else ""
        picture = f'<div class="scroll">{figures.matrix(counts, contest.classes, contest.coarse)}</div>'
        state = "" if drawn else " open"
        drawn.append(
            f"<details{state}><summary>{_heading(mark, group)}{runs}</summary>"
            f"{picture}{_mistakes(counts, contest.classes)}</details>"
        )
    _, blocks = figures.grouped_order(contest.classes, contest.coarse)
    keys = [("var(--accent)", "right"), ("var(--miss)", "wrong")]
    note = "<p class='quiet'>Rows are true classes, columns what was answered; the stronger, the larger the share of the row"
    note += ", in %" if len(contest.classes) <= 14 else ""
    note += ". Point at a cell for its count.</p>"
    categories = [(f"var(--c{number % 6})", name) for number, name in enumerate(blocks)]
    legend = _keys(keys) + (_keys(categories) if categories else "")
    return ["<section><h2>Confusion</h2>", note, legend, *drawn, "</section>"]


def _mistakes(counts: np.ndarray, classes: Sequence[str], most: int = 10) -> str:
    """The most frequent confusions, by share of the true class's videos."""
    wrong, totals = counts.copy(), np.maximum(counts.sum(axis=1), 1)
    np.fill_diagonal(wrong, 0)
    shares = wrong / totals[:, None]
    places = [divmod(int(place), len(classes)) for place in np.argsort(-shares, axis=None, kind="stable")[:most]]
    rows = []
    for true, said in places:
        if count := int(wrong[true, said]):
            share = shares[true, said]
            cells = f"<td>{escape(classes[true])}</td><td>{escape(classes[said])}</td>{td(share, per_cent(share))}"
            rows.append(f"<tr>{cells}{td(count, f'{count} of {totals[true]}')}</tr>")
    if not rows:
        return "<p>No video was given a wrong class.</p>"
    heads = f"{th('True class')}{th('Taken for')}{th('%', True)}{th('Videos', True)}"
    return table(heads, rows, "Most frequent confusions, by share of the true class’s videos.")


def _origins(contest: Contest, marks: Sequence[str], part: str, anchor: str) -> list[str]:
    made = [
        "<section><h2>Where the numbers come from</h2>",
        "<p class='quiet'>Each model’s feature store, options and runs. A run’s folder in the bank bears its name and holds "
        "its weights, history and scores.</p>",
    ]
    for mark, group in zip(marks, contest.groups, strict=True):
        first = group.entries[0]
        documents = [_document(entry) for entry in group.entries]
        facts = {"Data set": first.fact("dataset"), "Stream": first.fact("stream"), "Extractor": first.fact("extractor")}
        if first.fact("store"):
            facts["Feature store"] = ", ".join(group.values("store"))
        of_stores = documents[0].get("store_recipes", [])
        weights = of_stores[0].get("weights") if of_stores else None
        facts["Weights"] = (
            ", ".join(f"{k} {brief(v)}" for k, v in weights.items()) if isinstance(weights, dict) else str(weights or "")
        )
        facts["Code"] = "; ".join(dict.fromkeys(filter(None, map(_code, documents))))
        listed = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items() if value)
        made.append(f'<h3 id="{anchor}{mark}">{_heading(mark, group)}</h3><dl>{listed}</dl>')
        recipe = {key: value for key, value in without_repetition(first.recipe).items() if key != "classes"}
        made.append(_details("Recipe of the runs", recipe))
        made += [_details("Recipe of the feature store", recipe) for recipe in of_stores]
        made.append(_runs(group, part))
    return [*made, "</section>"]


def _runs(group: Group, part: str) -> str:
    measure = " mAP %" if group.multilabel else " %"
    heads = f"{th('Run')}{th('Split')}{th('Seed')}{th('Videos', True)}{th(part.capitalize() + measure, True)}"
    heads += f"{th('Interval')}{th('Validation' + measure, True)}{th('Epoch kept', True)}{th('Training, s', True)}"
    rows = []
    for entry in group.entries:
        right, metrics = entry.figure, entry.metrics
        validation = math.nan if (known := figure(metrics.get("validation"))) is None else known
        cells = [f"<td><code>{escape(entry.name)}</code></td>"]
        cells += [f"<td>{escape(entry.fact(key) or '–')}</td>" for key in ("split", "seed")]
        cells += [td(right.videos, str(right.videos)), td(right.value, per_cent(right.value))]
        cells.append(f'<td class="w quiet">{100 * right.low:.1f}–{100 * right.high:.1f}</td>')
        cells.append(td(validation, per_cent(validation)))
        for key, form in (("best_epoch", "{:g}"), ("seconds", "{:.0f}")):
            value = metrics.get(key, math.nan)
            cells.append(td(value, form.format(value) if math.isfinite(value) else "–"))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    values = [entry.figure.value for entry in group.entries]
    notes = dict.fromkeys(str(note) for entry in group.entries for note in entry.metrics.get("notes", ()))
    caption = f"Mean {_pm(*mean_and_deviation(values))} %." if len(values) > 1 else ""
    return table(heads, rows, escape(" ".join([caption, *(f"Note: {note}." for note in notes)]).strip()))


def _document(entry: Entry) -> dict[str, Any]:
    """A run's recipe.json: the recipe and what its figures may depend on besides; {} for a score file."""
    path = entry.path / "recipe.json"
    return json.loads(path.read_text(encoding="utf-8")) if entry.path.is_dir() else {}


def _code(document: dict[str, Any]) -> str:
    environment = document.get("environment", {})
    words = [f"{key} {environment[key]}" for key in ("reelbank", "commit", "torch", "device") if environment.get(key)]
    return ", ".join(words)


def _heading(mark: str, group: Group) -> str:
    return f"{mark}&ensp;{escape(group.label)}" + (f" <small>{escape(group.detail)}</small>" if group.detail else "")


def _shortened(value: Any) -> Any:
    """A recipe for people: the hundreds of thousands of digits that say which videos weights have seen, in brief."""
    if isinstance(value, dict):
        return {key: _shortened(one) for key, one in value.items()}
    return brief(value, 200) if isinstance(value, str) else value


def _details(summary: str, recipe: dict[str, Any]) -> str:
    text = json.dumps(_shortened(recipe), indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def _keys(keys: Sequence[tuple[str, str]]) -> str:
    spans = "".join(f'<span><span class="key" style="--hue:{hue}"></span>{escape(name)}</span>' for hue, name in keys)
    return f'<div class="keys">{spans}</div>'


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>" if text else ""


def _pm(mean: float, deviation: float) -> str:
    return per_cent(mean) + ("" if math.isnan(deviation) else f" ± {100 * deviation:.1f}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _repeats(group: Group) -> str:
    found = [(len(group.values("split")), "split"), (len(group.values("seed")), "seed")]
    words = [_count(number, what) for number, what in found if number]
    return ", ".join([*words, f"{group.videos} videos"])
