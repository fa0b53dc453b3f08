"""The report's section on anomaly detection: what `reelbank anomaly` left in the bank, one row for what was held out."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.recipe import signature
from reelbank.fusion.anomaly import METHODS, read_folder
from reelbank.fusion.tables import table, td, th


def read_detectors(bank: str, datasets: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The finished folders of <bank>/anomalies on these data sets, repetitions (seeds) of one experiment together: of each its
    "recipe" and "metrics". Raises InputError when one is damaged."""
    together: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted(Path(bank, "anomalies").glob("*/")):
        found = read_folder(folder)
        if found and found["recipe"]["dataset"] in datasets:
            key = signature({name: value for name, value in found["recipe"].items() if name != "seed"})
            together.setdefault(key, []).append(found)
    order = {key: (some[0]["recipe"]["stream"], some[0]["recipe"]["abnormal"]) for key, some in together.items()}
    return [together[key] for key in sorted(together, key=lambda key: order[key])]


def anomaly_section(detectors: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """detectors: of `read_detectors`."""
    if not detectors:
        return []
    heads = f"{th('Held out as abnormal')}{th('Stream')}{th('Store')}{th('Split')}{th('Seeds', True)}"
    heads += "".join(th(f"{method.capitalize()} AUC", True) for method in METHODS)
    heads += f"{th('95 % interval')}{th('False alarms asked, %', True)}{th('on test, %', True)}{th('Found, %', True)}"
    rows = []
    for some in detectors:
        recipe, metrics = some[0]["recipe"], some[0]["metrics"]
        cells = f"<th>{escape(', '.join(recipe['abnormal']))}</th><td>{escape(recipe['stream'] or '–')}</td>"
        cells += f"<td><code>{escape(recipe['store'][:8])}</code></td><td>{escape(str(recipe['split']))}</td>"
        cells += td(len(some), str(len(some)))
        for method in METHODS:
            values = [one["metrics"]["auc"][method] for one in some]
            deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells += td(float(np.mean(values)), f"{np.mean(values):.3f}{deviation}")
        low, high = metrics["interval"]
        cells += f'<td class="w quiet">{low:.3f}–{high:.3f}</td>'
        for key in ("asked", "false_alarms", "detected"):
            shares = [f"{100 * one[key]:.1f}" for one in metrics["thresholds"]]
            cells += td(100 * metrics["thresholds"][0][key] if shares else 0.0, ", ".join(shares))
        rows.append(f"<tr>{cells}</tr>")
    note = (
        "Autoencoder and baselines see normal training videos alone; AUC is that of telling abnormal from normal test videos "
        "(0.5: chance). Interval and thresholds are the autoencoder’s, of the first seed; a threshold is set on normal "
        "validation videos at the share of false alarms that was asked."
    )
    return ["<section><h2>Anomalies</h2>", table(heads, rows, note), "</section>"]
