"""Exports the report's drawings as PNG files and their numbers as CSV, for slides and papers."""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py

from reelbank.data.console import drawable
from reelbank.data.files import replacing
from reelbank.data.text_files import csv_file
from reelbank.fusion.evaluation.compare import Pair, class_gains
from reelbank.fusion.evaluation.contests import Contest, class_means, confusions, mean_figure
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.report.curves import learning_curves
from reelbank.fusion.report.drawings import bar_charts, matrices, svg
from reelbank.fusion.report.drawings.accuracy import reliability
from reelbank.fusion.report.drawings.scatter import scatter
from reelbank.fusion.report.pair import Versus
from reelbank.fusion.report.videos.bank_map import BankMap, colourings
from reelbank.fusion.report.view import Drawing, percent

ZOOM = 2  # pixels of the PNG for each pixel of the page
# The project has its own font because a machine may have no font, and a PNG should not depend on
# the machine. The font is DejaVu Sans 2.37 reduced to Latin, Greek, Cyrillic and symbols, under a
# name that no installed font has. Other characters use the installed fonts.
FONT_FILE = Path(__file__).with_name("fonts") / "reelbank-sans.ttf"
FONT = "Reelbank Sans"
NO_CHARACTER = "\ufdd0"  # Unicode reserves this code point forever, so no font draws it


def _light_style() -> str:
    """The rules of page.css for drawings, with the light colours filled in. Rules that place
    drawings on the page are removed."""
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    for_all, _, _ = css.partition("@media (max-width")
    light, _, _ = css.partition("@media")
    colours = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]+);", light))
    rules = [
        line
        for line in for_all.splitlines()
        if re.match(r"svg|\.(curves|lines|matrix|bars|map|c0)\b", line)
    ]
    style = re.sub(r"var\((--[a-z0-9-]+)\)", lambda match: colours[match[1]], "\n".join(rules))
    return re.sub(
        r"(width: 100%|height: auto|flex: none|font-family: inherit|max-width: [^;]+);", "", style
    )


_STYLE = _light_style()


@dataclass(frozen=True)
class Plot:
    """A drawing, with the name of its files, its SVG, and its numbers as rows. The first row
    contains the headings."""

    name: str
    drawing: Drawing
    rows: Sequence[Sequence[object]]


def plots_of(
    contest: Contest, letters: Sequence[str], versus: Versus, *, interval_kind: str
) -> list[Plot]:
    """Every drawing of a contest. interval_kind: one of INTERVALS."""
    plots = [_results(contest, letters, interval_kind)]
    for letter, group in zip(letters, contest.groups, strict=True):
        for curves in learning_curves(group):
            plots.append(Plot(f"{curves.measure}-{letter}", curves.drawing, curves.rows))
        plots.append(_classes(contest, letter, group))
        if not contest.multilabel:
            plots.append(_confusion(contest, letter, group))
            plots.append(_calibration(letter, group))
    if versus.pair:
        names = "-".join(versus.letters)
        plots.append(gains_plot(f"gains-{names}", versus.pair, versus.letters))
        if not contest.multilabel:
            classes, coarse = contest.classes, contest.coarse
            plots.append(difference_plot(f"difference-{names}", versus.pair, classes, coarse))
    return plots


def _results(contest: Contest, letters: Sequence[str], interval_kind: str) -> Plot:
    bars, rows = [], []
    for letter, group in zip(letters, contest.groups, strict=True):
        figure = mean_figure(group, 1, interval_kind)
        bars.append(
            bar_charts.NamedValue(f"{letter} {group.label}", figure.value, percent(figure.value))
        )
        rows.append((letter, group.label, *figure.share))
    headings = ("model", "name", "value", "low", "high", "videos")
    return Plot("results", bar_charts.bars(bars), [headings, *rows])


def _classes(contest: Contest, letter: str, group: Group) -> Plot:
    means = class_means(group)
    highest_first = np.argsort(-np.nan_to_num(means, nan=-1), kind="stable")
    rows = [(contest.classes[i], float(means[i])) for i in highest_first if np.isfinite(means[i])]
    bars = [bar_charts.NamedValue(name, value, percent(value)) for name, value in rows]
    return Plot(f"classes-{letter}", bar_charts.bars(bars), [("class", "value"), *rows])


def _confusion(contest: Contest, letter: str, group: Group) -> Plot:
    counts = confusions(group)  # (C, C)
    drawing = matrices.matrix(counts, contest.classes, contest.coarse)
    return Plot(f"confusion-{letter}", drawing, matrix_rows(contest.classes, counts))


def _calibration(letter: str, group: Group) -> Plot:
    bins = group.entries[0].table.calibration.bins
    headings = ("confidence", "accuracy", "videos")
    return Plot(f"calibration-{letter}", reliability(bins), [headings, *bins.tolist()])


def gains_plot(name: str, pair: Pair, models: Sequence[str], *, most: int | None = None) -> Plot:
    """Each class's gain from the second model to the first, largest first (Res-LSTM paper, Fig.
    6c). name: of the plot's files; models: what the two are called; most: number of classes, None
    for all (10 in the Relational LSTM paper, Fig. 3)."""
    gains = [gain for gain in class_gains(pair) if np.isfinite(gain.gain)][:most]
    bars = [
        bar_charts.NamedValue(gain.name, gain.gain, f"{100 * gain.gain:+.1f}") for gain in gains
    ]
    headings = ("class", "videos", *models, "gain")
    return Plot(name, bar_charts.bars(bars, signed=True), [headings, *gains])


def difference_plot(
    name: str, pair: Pair, classes: Sequence[str], coarse: Mapping[str, Sequence[str]]
) -> Plot:
    """The first model's confusion matrix minus the second's, in shares of rows (Res-LSTM paper,
    Fig. 6b). name: of the plot's files."""
    first, second = confusions(pair.first), confusions(pair.second)
    shares = matrices.row_shares(first) - matrices.row_shares(second)
    drawing = matrices.difference(first, second, classes, coarse)
    return Plot(name, drawing, matrix_rows(classes, shares))


def map_plots(bank_map: BankMap) -> list[Plot]:
    """The map in the three colourings of the page."""
    ids = [answer.video_id for answer in bank_map.answers]
    plots = []
    for name, colouring in colourings(bank_map).items():
        words = [colouring.categories[number].name for number in colouring.numbers.tolist()]
        x, y = bank_map.positions.T.tolist()
        rows = zip(ids, x, y, words, strict=True)
        drawing = scatter(bank_map.positions, colouring.categories, colouring.numbers)
        plots.append(Plot(f"map-{name}", drawing, [("video", "x", "y", name), *rows]))
    return plots


def matrix_rows(classes: Sequence[str], values: np.ndarray) -> list[Sequence[object]]:
    rows = zip(classes, values.tolist(), strict=True)
    return [("true", *classes), *((name, *row) for name, row in rows)]


def write_plots(folder: Path, plots: Sequence[Plot]) -> None:
    """Write <name>.png and <name>.csv of each drawing into the folder, which is created if
    necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        with csv_file(folder / f"{plot.name}.csv") as writer:
            writer.writerows(plot.rows)
        with replacing(folder / f"{plot.name}.png") as temporary:
            temporary.write_bytes(png(plot.drawing))


def png(drawing: Drawing) -> bytes:
    """A drawing of the report as a PNG in its light colours, on white."""
    named = drawing.svg.replace(
        "<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" font-family="{FONT}" ', 1
    )
    return resvg_py.svg_to_bytes(
        svg_string=drawable(named),
        style_sheet=_STYLE,
        background="#ffffff",
        zoom=ZOOM,
        font_files=[str(FONT_FILE)],
    )


def characters_without_font(plots: Sequence[Plot]) -> str:
    """The characters of the drawings that neither our font nor an installed font has. Each is
    listed once, in order."""
    visible = "".join(_visible_text(plot.drawing) for plot in plots)
    missing = _character(NO_CHARACTER)
    return "".join(
        sorted(
            character
            for character in set(visible)
            if _leaves_ink(character) and _character(character) == missing
        )
    )


def _visible_text(drawing: Drawing) -> str:
    without_markup = re.sub("<title>.*?</title>|<[^>]*>", "", drawing.svg, flags=re.DOTALL)
    return html.unescape(without_markup)


def _leaves_ink(character: str) -> bool:
    """Whether a character can be seen: not a space, a control character or a mark that joins
    another. Our font has all of ASCII."""
    category = unicodedata.category(character)
    return (
        not character.isascii() and category[0] not in "ZM" and category not in ("Cc", "Cf", "Cs")
    )


def _character(character: str) -> bytes:
    """A PNG of one character."""
    text = svg.text(character, x=8, y=28, font_size=20)
    return png(Drawing(svg.element("svg", text, width=40, height=40)))
