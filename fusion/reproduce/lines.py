"""Accuracies of models over one of their options, as lines ('Residual Stacked RNNs for Action
Recognition', Fig. 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelbank.fusion.evaluation.contests import mean_figure
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.metrics import Share
from reelbank.fusion.report.drawings import line_charts
from reelbank.fusion.report.export import Plot
from reelbank.fusion.reproduce.plan import Figure, model_options
from reelbank.fusion.reproduce.work import Work
from reelbank.heads.training.options import default_of


@dataclass(frozen=True)
class Point:
    """One model on a line. over: its value of the figure's option; differing: its other options in
    which the figure's models differ; validation: its figure on the validation part, None if not
    every run has one."""

    model: str
    over: float
    differing: Mapping[str, Any]
    test: Share
    validation: float | None

    @property
    def line(self) -> str:
        """The name of the model's line, "" where all models are one line."""
        return ", ".join(_words(key, value) for key, value in self.differing.items())

    @property
    def colour(self) -> str:
        """Equal for lines that differ in switches only."""
        numbers = {key: value for key, value in self.differing.items() if type(value) is not bool}
        return ", ".join(_words(key, value) for key, value in numbers.items())

    @property
    def is_dashed(self) -> bool:
        return any(value is False for value in self.differing.values())


def _words(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"with {key}" if value else f"without {key}"
    return f"{key} {value}"


def lines_plot(work: Work, figure: Figure, groups: Mapping[str, Group]) -> Plot:
    """Each model's figure on the test part over the option `over`; models that differ in nothing
    else are one line. If all models are one line, a second one shows the validation part."""
    points = sorted(_points(work, figure, groups), key=lambda point: point.over)
    places = sorted({point.over for point in points})
    by_line: dict[str, list[Point]] = {}
    for name in figure.models:
        (own,) = (point for point in points if point.model == name)
        by_line.setdefault(own.line, [point for point in points if point.line == own.line])
    colours = list(dict.fromkeys(of_line[0].colour for of_line in by_line.values()))
    lines = []
    for name, of_line in by_line.items():
        first = of_line[0]
        values = [(places.index(point.over), point.test.value) for point in of_line]
        lines.append(
            line_charts.ChartLine(
                name or "test", values, colours.index(first.colour), dashed=first.is_dashed
            )
        )
    if len(lines) == 1:
        values = [
            (places.index(point.over), point.validation)
            for point in points
            if point.validation is not None
        ]
        if values:
            lines.append(line_charts.ChartLine("validation", values, colour=1, dashed=True))
    drawing = line_charts.line_chart(lines, [f"{place:g}" for place in places], x_axis=figure.over)
    return Plot(figure.name, drawing, _rows(figure, by_line))


def _points(work: Work, figure: Figure, groups: Mapping[str, Group]) -> list[Point]:
    options = {name: model_options(work.recipe, name) for name in figure.models}
    keys: dict[str, None] = {}
    for own in options.values():
        keys |= dict.fromkeys(own)
    differing = [
        key
        for key in keys
        if key != figure.over and len({str(_value(own, key)) for own in options.values()}) > 1
    ]
    return [
        Point(
            name,
            own[figure.over],
            {key: _value(own, key) for key in differing},
            mean_figure(groups[name]).share,
            _validation(groups[name]),
        )
        for name, own in options.items()
    ]


def _value(options: Mapping[str, Any], key: str) -> Any:
    return options.get(key, default_of(key))


def _validation(group: Group) -> float | None:
    values = [entry.metrics.figure("validation") for entry in group.entries]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _rows(figure: Figure, by_line: Mapping[str, Sequence[Point]]) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = [
        ("model", "line", figure.over, "test", "low", "high", "validation")
    ]
    for name, points in by_line.items():
        for point in points:
            test = point.test
            shares = (test.value, test.low, test.high, point.validation)
            rows.append((point.model, name, point.over, *shares))
    return rows
