"""The report's section on two models: is one better, which classes gain, and which confusions come and go."""

import math
from collections.abc import Sequence
from html import escape

from reelbank.data.errors import InputError
from reelbank.data.scores import join
from reelbank.fusion import figures
from reelbank.fusion.compare import Gain, Pair, class_gains, p_value, paired
from reelbank.fusion.entries import Group
from reelbank.fusion.evaluate import Contest, calibration_means, confusions
from reelbank.fusion.judge import calibration, mcnemar
from reelbank.fusion.tables import per_cent, table, td, th


def versus_section(contest: Contest, marks: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Two models of the contest against each other. wanted: their letters; () for the two highest. Nothing is said of a pair by
    itself whose runs are not of the same videos; one that is asked for is then refused with an InputError."""
    letters, pair, reason = chosen_pair(contest, marks, wanted)
    if pair is None:
        said = f'<p class="quiet">They cannot be compared video by video: {escape(reason)}.</p>'
        return [f"<section><h2>{letters[0]} against {letters[1]}</h2>", said, "</section>"] if reason else []
    gains = class_gains(pair)
    heads = f"{th('Class')}{th('Videos', True)}{th(f'{letters[0]} %', True)}{th(f'{letters[1]} %', True)}"
    heads += th(f"{letters[0]} − {letters[1]}, points", True, "descending")
    made = [f"<section><h2>{letters[0]} against {letters[1]}</h2>", f"<p>{_tested(pair, letters)}</p>"]
    note = f"What each class gains from {letters[1]} to {letters[0]}. Click a heading to sort."
    made.append(table(heads, [_gain_row(gain) for gain in gains], note, "classes gains"))
    if not contest.multilabel:
        picture = figures.difference(confusions(pair.first), confusions(pair.second), contest.classes, contest.coarse)
        made.append(
            f"<details open><summary>Difference of the confusion matrices, {letters[0]} − {letters[1]}</summary>"
            '<p class="quiet">In points of each true class’s videos: blue is better (more right, fewer wrong), red worse.</p>'
            f'<div class="scroll">{picture}</div></details>'
        )
    return [*made, "</section>"]


def chosen_pair(contest: Contest, marks: Sequence[str], wanted: Sequence[str]) -> tuple[list[str], Pair | None, str]:
    """The letters of the two models that are set against each other, their runs, and why these do not go together. Raises
    InputError where letters are asked for that are no two models, or two whose runs do not."""
    letters = list(wanted) or list(marks[:2])
    if unknown := [letter for letter in letters if letter not in marks]:
        raise InputError(f"PAIR={' '.join(wanted)}: there is no model {unknown[0]}; there are {', '.join(marks)}")
    if len(letters) != 2 or letters[0] == letters[1]:
        if wanted:
            raise InputError(f"PAIR={' '.join(wanted)}: give the letters of two models, as PAIR='A B'")
        return letters, None, ""
    first, second = (contest.groups[marks.index(letter)] for letter in letters)
    try:
        pair = paired(first, second)
        for one, other in zip(pair.first.entries, pair.second.entries, strict=True):
            join([one.scores, other.scores])
    except InputError as error:
        if wanted:
            raise
        return letters, None, str(error)
    return letters, pair, ""


def _tested(pair: Pair, letters: Sequence[str]) -> str:
    first, second = letters
    by = "groups" if pair.has_groups else "videos"
    found = pair.difference(by)
    said = (
        f"{first} − {second}: <strong>{100 * found.value:+.1f} points</strong>, 95 % interval {100 * found.low:+.1f} to "
        f"{100 * found.high:+.1f}, p {escape(p_value(found.p))} (paired bootstrap over {by})."
    )
    if pair.first.multilabel:
        return said
    tests = [mcnemar(one.scores, other.scores) for one, other in zip(pair.first.entries, pair.second.entries, strict=True)]
    runs = "; ".join(
        f"{_where(one.fact('split'), one.fact('seed'))}{test.only_first} and {test.only_second}, p {escape(p_value(test.p))}"
        for one, test in zip(pair.first.entries, tests, strict=True)
    )
    return f"{said} Videos that only {first} and only {second} has right (McNemar, exact): {runs}."


def _where(split: str, seed: str) -> str:
    words = " ".join(filter(None, (split and f"split {escape(split)}", seed and f"seed {escape(seed)}")))
    return f"{words}: " if words else ""


def _gain_row(gain: Gain) -> str:
    known = math.isfinite(gain.gain)
    length = abs(gain.gain) if known else 0.0
    free = 1 - length / 2  # of the cell's width, beside the bar
    at = (0.5 if gain.gain > 0 else 0.5 - length / 2) / free if known else 0.0
    hue = "var(--bar)" if known and gain.gain > 0 else "var(--bar-miss)"
    style = f"--v:{length:.4f};--at:{at:.4f};--hue:{hue}"
    text = f"{100 * gain.gain:+.1f}" if known else "–"
    cells = [td(gain.videos, str(gain.videos)), *(td(value, per_cent(value)) for value in (gain.first, gain.second))]
    bar = f'<td class="gain" data-v="{gain.gain if known else -2:.6g}" style="{style}">{text}</td>'
    return f"<tr><th>{escape(gain.name)}</th>{''.join(cells)}{bar}</tr>"


def calibration_section(groups: Sequence[Group], marks: Sequence[str]) -> list[str]:
    """Whether each model is right as often as it is sure: a diagram of its first run, and figures over all runs."""
    drawn, rows = [], []
    for mark, group in zip(marks, groups, strict=True):
        values = calibration_means(group)
        texts = (f"{100 * values[0]:.1f}", f"{values[1]:.3f}", f"{values[2]:.3f}")
        cells = "".join(td(value, text) for value, text in zip(values, texts, strict=True))
        rows.append(f"<tr><th>{mark}&ensp;{escape(group.label)}</th>{cells}</tr>")
        name = escape(group.entries[0].name)
        drawn.append(
            f"<figure><figcaption>{mark}&ensp;{name}</figcaption>{figures.reliability(calibration(group.entries[0].scores).bins)}</figure>"
        )
    heads = f"{th('Model')}{th('Calibration error, %', True)}{th('Neg. log likelihood', True)}{th('Brier', True)}"
    note = "Accuracy against confidence, in %: on the dashed line a model is right as often as it says. An SVM’s margins are "
    note += "no logarithms of probabilities: theirs says little."
    figure = f'<div class="small-multiples diagrams">{"".join(drawn)}</div>'
    return ["<section><h2>Calibration</h2>", table(heads, rows, note), figure, "</section>"]
