"""The paper's figures that show results, drawn from our runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reelbank.data.console import counted
from reelbank.data.errors import InputError
from reelbank.fusion.evaluation.compare import Pair, paired
from reelbank.fusion.evaluation.contests import class_means, confusions
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.report.drawings import bar_charts, matrices
from reelbank.fusion.report.export import Plot, difference_plot, gains_plot, matrix_rows
from reelbank.fusion.report.gallery import predictions
from reelbank.fusion.report.view import Block, Heading, WideDrawing, note
from reelbank.fusion.reproduce.batch_times import BatchTime, read_times, times_file
from reelbank.fusion.reproduce.comparable import data_description, weights_description
from reelbank.fusion.reproduce.lines import lines_plot
from reelbank.fusion.reproduce.measure import experiments_of_cell
from reelbank.fusion.reproduce.plan import Figure
from reelbank.fusion.reproduce.work import Work


@dataclass(frozen=True)
class Drawn:
    """A figure of the paper from our runs. about: lines about its content and data; plot: None if
    it cannot be drawn; reason: why it cannot be drawn."""

    figure: Figure
    about: tuple[str, ...]
    plot: Plot | None = None
    reason: str = ""

    @property
    def title(self) -> str:
        return f"{self.figure.source}: {self.figure.title}"

    def blocks(self) -> list[Block]:
        """The figure in the report."""
        blocks: list[Block] = [Heading(self.title), *map(note, self.about)]
        if self.plot:
            return [*blocks, WideDrawing(self.plot.drawing)]
        return [*blocks, note(f"Not drawn: {self.reason}.")]


def drawn_figures(work: Work, experiments: Mapping[str, Group], folder: Path) -> list[Drawn]:
    """Every selected figure of the recipe. folder: the folder of the reproduction."""
    return [_drawn(work, figure, experiments, folder) for figure in work.figures]


def _drawn(work: Work, figure: Figure, experiments: Mapping[str, Group], folder: Path) -> Drawn:
    try:
        if figure.draw == "batch_times":
            times = read_times(times_file(folder, figure))
            if not times:
                raise InputError(work.failed.get(figure.name, "it was not measured"))
            return Drawn(figure, _about_times(times), _batch_times(figure, times))
        groups = experiments_of_cell(work, figure.cell, experiments)
        about = _about(work, figure, groups)
        return Drawn(figure, about, _DRAWERS[figure.draw](work, figure, groups))
    except InputError as error:
        return Drawn(figure, (), reason=str(error).rstrip("."))


def _about(work: Work, figure: Figure, groups: Mapping[str, Group]) -> tuple[str, ...]:
    data = "; ".join(data_description(work, figure.cell, groups))
    weights = "; ".join(weights_description(work, figure.cell))
    papers = ", ".join(figure.dataset.split())
    lines = [
        f"Data of the paper: {papers}, split {figure.split}. Our data: {data}. Weights: "
        f"{weights}. {_runs(groups)}."
    ]
    lines += _ABOUT.get(figure.draw, ())
    if figure.draw in ("confusion", "difference"):
        first = groups[figure.models[0]].entries[0]
        _, categories = matrices.grouped_order(first.table.outline.classes, first.coarse)
        if categories:
            lines.append(f"Categories, from the top: {', '.join(categories)}.")
    return tuple(lines)


def _runs(groups: Mapping[str, Group]) -> str:
    counts = {name: len(group.entries) for name, group in groups.items()}
    if len(counts) > 1 and len(set(counts.values())) == 1:
        return f"{counted(max(counts.values()), 'run')} of each model"
    return ", ".join(f"{name}: {counted(count, 'run')}" for name, count in counts.items())


def _classes(work: Work, figure: Figure, groups: Mapping[str, Group]) -> Plot:
    """The accuracy or average precision of each class as a bar for each model, averaged over
    runs."""
    classes = next(iter(groups.values())).entries[0].table.outline.classes
    means = {name: class_means(groups[name]).tolist() for name in figure.models}
    rows = [(name, *values) for name, *values in zip(classes, *means.values(), strict=True)]
    drawing = bar_charts.grouped_bars(classes, means)
    return Plot(figure.name, drawing, [("class", *means), *rows])


def _confusion(work: Work, figure: Figure, groups: Mapping[str, Group]) -> Plot:
    (group,) = groups.values()
    first = group.entries[0]
    if group.multilabel:
        raise InputError("a confusion matrix needs single-label data")
    counts = confusions(group)
    drawing = matrices.matrix(counts, first.table.outline.classes, first.coarse)
    return Plot(figure.name, drawing, matrix_rows(first.table.outline.classes, counts))


def _predictions(work: Work, figure: Figure, groups: Mapping[str, Group]) -> Plot:
    if any(group.multilabel for group in groups.values()):
        raise InputError("the most likely classes are drawn only for single-label data")
    files = {video.id: video.path for video in work.dataset.videos}
    scores = {name: groups[name].entries[0].scores for name in figure.models}
    drawing, rows = predictions(scores, files)
    return Plot(figure.name, drawing, rows)


def _difference(work: Work, figure: Figure, groups: Mapping[str, Group]) -> Plot:
    pair = _pair(figure, groups)
    first = pair.first.entries[0]
    if pair.first.multilabel:
        raise InputError("a confusion matrix needs videos with one class each")
    return difference_plot(figure.name, pair, first.table.outline.classes, first.coarse)


def _gains(work: Work, figure: Figure, groups: Mapping[str, Group]) -> Plot:
    most = figure.classes or None
    return gains_plot(figure.name, _pair(figure, groups), figure.models, most=most)


def _pair(figure: Figure, groups: Mapping[str, Group]) -> Pair:
    """The figure's two models, with the same splits and seeds of both."""
    first, second = (groups[name] for name in figure.models)
    return paired(first, second)


_DRAWERS: dict[str, Callable[[Work, Figure, Mapping[str, Group]], Plot]] = {
    "classes": _classes,
    "confusion": _confusion,
    "predictions": _predictions,
    "lines": lines_plot,
    "difference": _difference,
    "gains": _gains,
}
_ABOUT = {  # what a drawing shows, where it does not say so itself
    "confusion": ("Rows are true classes, columns are predictions.",),
    "predictions": ("The bar of the true class is shown in the strong colour.",),
    "lines": (
        "Accuracy on test videos in %. The CSV file also contains the interval of each accuracy.",
    ),
    "difference": (
        "Confusion matrix of the first model minus that of the second, in percent of the "
        "videos of each true class. Blue means that the first model is better (more "
        "correct or fewer wrong predictions), and red that it is worse.",
    ),
    "gains": ("Accuracy of the first model minus that of the second, in percentage points.",),
}


def _about_times(times: list[BatchTime]) -> tuple[str, ...]:
    devices = ", ".join(dict.fromkeys(one.timed.device for one in times))
    batches = "; ".join(_batch_text(one) for one in times)
    return (
        "Mean time in seconds of a training step of the whole network on video frames. A "
        "step consists of the forward pass, the backward pass and Adam's update. "
        f"Measured on {devices}. {batches}.",
    )


def _batch_text(one: BatchTime) -> str:
    height, width = one.timed.size_px
    clips = counted(one.timed.clips, "clip")
    frames = f"{counted(one.timed.frames, 'frame')} of {height} x {width}"
    return f"{one.timed.name}: {clips} of {frames}, {counted(one.batches, 'step')}"


def _batch_times(figure: Figure, times: list[BatchTime]) -> Plot:
    """Shortest first, as in the paper."""
    times = sorted(times, key=lambda one: one.seconds)
    longest = times[-1].seconds
    bars = [
        bar_charts.NamedValue(one.timed.name, one.seconds / longest, f"{one.seconds:.3g}")
        for one in times
    ]
    rows: list[tuple[object, ...]] = [
        (
            *("model", "network", "node", "clips", "frames", "height_px", "width_px"),
            *("batches", "seconds_per_batch", "device"),
        )
    ]
    for one in times:
        timed = one.timed
        what = (timed.name, timed.network, timed.node, timed.clips, timed.frames, *timed.size_px)
        rows.append((*what, one.batches, one.seconds, timed.device))
    return Plot(figure.name, bar_charts.bars(bars), rows)
