"""The report's section on two models, which shows whether one is better, which classes gain and
which confusions change. This module also contains the section on calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

from reelbank.data.errors import InputError
from reelbank.data.scores.joining import join
from reelbank.fusion.evaluation.compare import Gain, Pair, class_gains, p_value, paired
from reelbank.fusion.evaluation.contests import Contest, confusions, mean_calibration
from reelbank.fusion.evaluation.experiments import Entry, Group
from reelbank.fusion.evaluation.significance import mcnemar
from reelbank.fusion.report.drawings import matrices
from reelbank.fusion.report.drawings.accuracy import reliability
from reelbank.fusion.report.view import (
    Block,
    Cell,
    Chart,
    Charts,
    Column,
    Details,
    GainBar,
    Number,
    Paragraph,
    RowName,
    Section,
    Table,
    WideDrawing,
    Words,
    note,
    percent,
)


@dataclass(frozen=True)
class Versus:
    """The two models that are compared. letters: the letters of the models; pair: their runs, or
    None if the runs do not correspond or there is only one model; reason: why the runs do not
    correspond."""

    letters: tuple[str, ...]
    pair: Pair | None = None
    reason: str = ""

    @property
    def title(self) -> str:
        return " compared with ".join(self.letters)


def versus_of(
    contest: Contest,
    letters: Sequence[str],
    requested: Sequence[str],
    *,
    preferred: Sequence[str] = (),
) -> Versus:
    """The two models that the option PAIR names. The default is the two models named `preferred`
    or, if the contest does not have these, the two with the highest figures.

    Raises InputError when the option does not name two models of the report, or when their runs are
    not on the same videos.
    """
    letter_of: dict[str, str] = {}
    for letter, group in zip(letters, contest.groups, strict=True):
        letter_of |= dict.fromkeys(group.label.split(", "), letter)  # a model may have two names
    named = [letter_of[name] for name in preferred if name in letter_of]
    default = named if len(named) == 2 else letters[:2]
    chosen = tuple(requested or default)
    if unknown := [letter for letter in chosen if letter not in letters]:
        raise InputError(
            f"PAIR={' '.join(requested)}: the report has no model {unknown[0]}; choose from "
            f"{', '.join(letters)}"
        )
    if len(set(chosen)) != 2 or len(chosen) != 2:
        if requested:
            raise InputError(
                f"PAIR={' '.join(requested)}: give the letters of two models, "
                "for example PAIR='A B'"
            )
        return Versus(chosen)
    first, second = (contest.groups[letters.index(letter)] for letter in chosen)
    try:
        pair = paired(first, second)
        for runs in _repetitions(pair):
            join([entry.scores for entry in runs])  # raises InputError for different videos
    except InputError as error:
        if requested:
            raise
        return Versus(chosen, reason=str(error))
    return Versus(chosen, pair)


def _repetitions(pair: Pair) -> list[tuple[Entry, Entry]]:
    """The two models' runs of each split and seed."""
    return list(zip(pair.first.entries, pair.second.entries, strict=True))


def versus_section(contest: Contest, versus: Versus) -> Section | None:
    """The section on two models, or None if there is only one model."""
    if versus.pair is None:
        about = note(f"The two models cannot be compared video by video ({versus.reason}).")
        return Section(versus.title, [about]) if versus.reason else None
    blocks: list[Block] = [_tests(versus.pair, versus.letters)]
    blocks.append(_gains(versus.pair, versus.letters))
    if not contest.multilabel:
        blocks.append(_difference(contest, versus.pair, versus.letters))
    return Section(versus.title, blocks)


def _tests(pair: Pair, letters: Sequence[str]) -> Paragraph:
    first, second = letters
    by = "groups" if pair.has_groups else "videos"
    difference = pair.difference(by)
    words = [
        Words(f"{first} − {second}: "),
        Words(f"{100 * difference.value:+.1f} points", strong=True),
        Words(
            f", 95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}, "
            f"p {p_value(difference.p)} (paired bootstrap over {by})."
        ),
    ]
    if not pair.first.multilabel:
        tests = "; ".join(_mcnemar(*runs) for runs in _repetitions(pair))
        words.append(
            Words(
                f" Number of videos that only {first} predicts correctly, and number that "
                f"only {second} predicts correctly (exact McNemar test): {tests}."
            )
        )
    return Paragraph(tuple(words))


def _mcnemar(first: Entry, second: Entry) -> str:
    test = mcnemar(first.scores, second.scores)
    repetition = " ".join(
        f"{key} {first.fact(key)}" for key in ("split", "seed") if first.fact(key)
    )
    counts = f"{test.only_first} and {test.only_second}, p {p_value(test.p)}"
    return f"{repetition}: {counts}" if repetition else counts


def _gains(pair: Pair, letters: Sequence[str]) -> Table:
    first, second = letters
    columns = [
        Column("Class"),
        Column(f"{first} %", number=True),
        Column(f"{second} %", number=True),
        Column(f"{first} − {second}, points", number=True, sort="descending"),
        Column("Videos", number=True),
    ]
    rows = [_gain(gain) for gain in class_gains(pair)]
    about = f"Difference between {first} and {second} for each class. Click a heading to sort."
    return Table(columns, rows, about, "classes gains")


def _gain(gain: Gain) -> list[Cell]:
    return [
        RowName(gain.name),
        Number(gain.first, percent(gain.first)),
        Number(gain.second, percent(gain.second)),
        GainBar(gain.gain),
        Number(gain.videos, str(gain.videos)),
    ]


def _difference(contest: Contest, pair: Pair, letters: Sequence[str]) -> Details:
    drawing = matrices.difference(
        confusions(pair.first), confusions(pair.second), contest.classes, contest.coarse
    )
    about = note(
        "Each cell is the difference in percent of the videos of the true class. Blue "
        f"means that {letters[0]} is better (more correct or fewer wrong predictions), "
        "and red that it is worse."
    )
    summary = f"Difference of the confusion matrices, {' − '.join(letters)}"
    return Details(summary, [about, WideDrawing(drawing)], open=True)


def calibration_section(groups: Sequence[Group], letters: Sequence[str]) -> Section:
    """Whether each model is right as often as it is confident. The section shows a diagram of the
    model's first run, and figures over all its runs."""
    charts: list[Chart] = []
    rows: list[list[Cell]] = []
    for letter, group in zip(letters, groups, strict=True):
        first = group.entries[0]
        mean = mean_calibration(group)
        rows.append(
            [
                RowName(group.label, letter=letter),
                Number(mean.ece, percent(mean.ece)),
                Number(mean.nll, f"{mean.nll:.3f}"),
                Number(mean.brier, f"{mean.brier:.3f}"),
            ]
        )
        drawing = reliability(first.table.calibration.bins)
        charts.append(Chart(f"{letter}\N{EN SPACE}{first.name}", drawing))
    columns = [
        Column("Model"),
        Column("Calibration error, %", number=True),
        Column("Negative log likelihood", number=True),
        Column("Brier", number=True),
    ]
    about = (
        "Accuracy against confidence, in %. On the dashed line, the accuracy equals the "
        "confidence. The margins of an SVM are not log probabilities, so its calibration "
        "results mean little."
    )
    return Section("Calibration", [Table(columns, rows, about), Charts(charts)])
