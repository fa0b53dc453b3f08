"""The report's drawings as PNG files, and their numbers as CSV, for slides and papers."""

import csv
import html
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import resvg_py

from reelbank.data.replacing import replacing
from reelbank.fusion import figures
from reelbank.fusion.compare import Pair, class_gains
from reelbank.fusion.curves import learning_charts
from reelbank.fusion.evaluate import Contest, class_means, confusions, top
from reelbank.fusion.judge import calibration

ZOOM = 2  # pixels of the PNG to one of the page
# Ours, so that a PNG does not depend on the machine, which may have no fonts at all. It is DejaVu Sans 2.37 cut down to Latin,
# Greek, Cyrillic and symbols, under a name that no font of the machine has; other characters take the machine's fonts.
FONT_FILE = Path(__file__).with_name("fonts") / "reelbank-sans.ttf"
FONT = "Reelbank Sans"
NO_CHARACTER = "\ufdd0"  # Unicode keeps this code unused for ever, so no font draws it


def _light_style() -> str:
    """What report.css says of drawings, with the light colours in it and without what places them on the page."""
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8").partition("@media (max-width")[0]
    colours = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]+);", css.partition("@media")[0]))
    lines = [line for line in css.splitlines() if re.match(r"svg|\.(curves|matrix|bars|c0)\b", line)]
    style = re.sub(r"var\((--[a-z0-9-]+)\)", lambda found: colours[found[1]], "\n".join(lines))
    return re.sub(r"(width: 100%|height: auto|flex: none|font-family: inherit|max-width: [^;]+);", "", style)


_STYLE = _light_style()


class Plot(NamedTuple):
    """A drawing: name of its files, SVG, and its numbers as rows, the first of them headings."""

    name: str
    svg: str
    rows: list[Sequence[object]]


def plots_of(contest: Contest, marks: Sequence[str], pair: Pair | None, letters: Sequence[str], interval: str) -> list[Plot]:
    """Every drawing of a contest. pair, letters: the two models set against each other, or None; interval: one of INTERVALS."""
    made = [_results(contest, marks, interval)]
    for mark, group in zip(marks, contest.groups, strict=True):
        for chart in learning_charts(group):
            made.append(Plot(f"{chart.measure}-{mark}", chart.svg, chart.rows))
        means = class_means(group)
        order = np.argsort(-np.nan_to_num(means, nan=-1), kind="stable")
        known = [(contest.classes[i], float(means[i])) for i in order if np.isfinite(means[i])]
        bars = figures.bars([(name, value, f"{100 * value:.1f}") for name, value in known])
        made.append(Plot(f"classes-{mark}", bars, [("class", "value"), *known]))
        if not contest.multilabel:
            counts = confusions(group)  # (C, C)
            matrix = figures.matrix(counts, contest.classes, contest.coarse)
            made.append(Plot(f"confusion-{mark}", matrix, _labelled(contest.classes, counts)))
            bins = calibration(group.entries[0].scores).bins
            heads = ("confidence", "accuracy", "videos")
            made.append(Plot(f"calibration-{mark}", figures.reliability(bins), [heads, *bins.tolist()]))
    if pair:
        name = "-".join(letters)
        gains = [gain for gain in class_gains(pair) if np.isfinite(gain.gain)]
        bars = figures.bars([(one.name, one.gain, f"{100 * one.gain:+.1f}") for one in gains], signed=True)
        made.append(Plot(f"gains-{name}", bars, [("class", "videos", *letters, "gain"), *gains]))
        if not contest.multilabel:
            both = [confusions(pair.first), confusions(pair.second)]
            apart = figures.row_shares(both[0]) - figures.row_shares(both[1])
            drawn = figures.difference(both[0], both[1], contest.classes, contest.coarse)
            made.append(Plot(f"difference-{name}", drawn, _labelled(contest.classes, apart)))
    return made


def _results(contest: Contest, marks: Sequence[str], interval: str) -> Plot:
    heads = ("model", "name", "value", "low", "high", "videos")
    shares = [top(group, 1, interval)[0] for group in contest.groups]
    rows = [(mark, group.label, *share) for mark, group, share in zip(marks, contest.groups, shares, strict=True)]
    bars = figures.bars([(f"{mark} {name}", value, f"{100 * value:.1f}") for mark, name, value, *_ in rows])
    return Plot("results", bars, [heads, *rows])


def _labelled(classes: Sequence[str], values: np.ndarray) -> list[Sequence[object]]:
    return [("true", *classes), *((name, *row.tolist()) for name, row in zip(classes, values, strict=True))]


def write_plots(folder: Path, plots: Sequence[Plot]) -> None:
    """Write <name>.png and <name>.csv of each into the folder, which is made when it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        with replacing(folder / f"{plot.name}.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(plot.rows)
        with replacing(folder / f"{plot.name}.png") as temporary:
            temporary.write_bytes(png(plot.svg))


def png(svg: str) -> bytes:
    """An SVG of the report as a PNG in its light colours, on white."""
    named = svg.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" font-family="{FONT}" ', 1)
    return resvg_py.svg_to_bytes(
        svg_string=named, style_sheet=_STYLE, background="#ffffff", zoom=ZOOM, font_files=[str(FONT_FILE)]
    )


def characters_without_font(plots: Sequence[Plot]) -> str:
    """The characters of the drawings that neither our font nor one of this machine has, in order, each once."""
    drawn = "".join(html.unescape(re.sub("<title>.*?</title>|<[^>]*>", "", plot.svg, flags=re.DOTALL)) for plot in plots)
    missing = _character(NO_CHARACTER)
    return "".join(sorted(one for one in set(drawn) if _leaves_ink(one) and _character(one) == missing))


def _leaves_ink(character: str) -> bool:
    """Whether a character is one to be seen: no space, control character or mark that joins another; ours has all of ASCII."""
    category = unicodedata.category(character)
    return not character.isascii() and category[0] not in "ZM" and category not in ("Cc", "Cf", "Cs")


def _character(character: str) -> bytes:
    return png(f'<svg width="40" height="40"><text x="8" y="28" font-size="20">{character}</text></svg>')
