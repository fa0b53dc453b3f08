"""The command `runs`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from reelbank.data.banks import bank_of
from reelbank.data.console import as_run, percent, print_json, print_lines, print_table
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import network_name
from reelbank.heads.runs.folder import Run, all_runs, matches, read_runs
from reelbank.heads.runs.options import RunsOptions


def runs(options: RunsOptions) -> int:
    """Print a table of all runs of the bank, and of other banks with the bank of each, or remove the
    named runs of the bank. Returns the exit code."""
    if options.remove:
        readable_runs, bad = read_runs(options.searched)
        hashes = {run.path: run.signature for run in readable_runs} | dict.fromkeys(bad, "")
        doomed: dict[Path, None] = {}
        for start in options.remove:
            fits = [
                path
                for path, run_hash in hashes.items()
                if path.name.startswith(start) or run_hash.startswith(start)
            ]
            # A complete name may also be the beginning of the name of a copy.
            fits = [path for path in fits if path.name == start] or fits
            if len(fits) != 1:
                raise InputError(
                    f"REMOVE={start} must match exactly one run, but it matches "
                    f"{len(fits)}; 'reelbank runs' lists the runs"
                )
            options.searched.check_own(fits[0])
            doomed[fits[0]] = None
        for path in doomed:
            # metrics.json is removed first, so that a partly removed run does not count as
            # finished.
            (path / "metrics.json").unlink(missing_ok=True)
            shutil.rmtree(path)
            print_lines(f"removed {path}")
        return 0
    filters = {
        key: value for key, value in (("head", options.head), ("split", options.split)) if value
    }
    selected = [run for run in all_runs(options.searched) if matches(run.recipe, **filters)]
    if options.json:
        print_json({"runs": [_record(run) for run in selected]})
        return 0
    if not selected:
        wanted = "".join(f" for {key.upper()}={value}" for key, value in filters.items())
        hint = "" if wanted else as_run("; 'reelbank train' makes one")
        print_lines(f"no runs{wanted} in {options.searched.shown('runs')}{hint}")
        return 0
    heads = ("run", "data", "store", "split", "seed", "measure", "validation", "test", "finished")
    has_banks = bool(options.searched.others)
    lines: list[tuple[str, ...]] = [(*heads, "bank") if has_banks else heads]
    for run in selected:
        recipe = run.recipe
        is_random = recipe.get("extractor") in run.random_networks
        network = network_name(recipe.get("extractor", ""), is_random=is_random)
        facts = (*(str(recipe.get(key, "")) for key in ("dataset", "stream")), network)
        data = "/".join(filter(None, facts))
        accuracies = [percent(run.metrics.figure(part)) for part in ("validation", "test")]
        store, split, seed = (str(recipe.get(key, "")) for key in ("store", "split", "seed"))
        lines.append(
            (
                run.path.name,
                data,
                store[:8],
                split,
                seed,
                run.metrics.measure,
                *accuracies,
                "yes" if run.finished else "no",
                *([str(bank_of(run.path))] if has_banks else []),
            )
        )
    print_table(lines)
    return 0


def _record(run: Run) -> dict[str, Any]:
    """A run for --json. Its figures are in [0, 1], or None before it is finished."""
    facts = ("dataset", "stream", "extractor", "store", "head", "split", "seed")
    return {
        "name": run.path.name,
        "path": str(run.path),
        "hash": run.signature,
        **{key: run.recipe.get(key) for key in facts},
        "finished": run.finished,
        "measure": run.metrics.measure if run.finished else None,
        "validation": run.metrics.figure("validation"),
        "test": run.metrics.figure("test"),
    }
