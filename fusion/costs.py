"""The report's section on cost: what the stores took to extract, and the models to train."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from reelbank.data.shelf import shelved
from reelbank.fusion.evaluate import Contest
from reelbank.fusion.tables import table, td, th


def read_costs(bank: str, contests: Sequence[Contest]) -> dict[str, dict[str, Any]]:
    """Identity of each store of the bank that a model of the contests was trained on -> what it is and has cost: "stream",
    "extractor", "node", "videos", "rows", "bytes", "seconds" (None where the store does not say), "device", "streams"."""
    wanted = {
        one for contest in contests for group in contest.groups for name in group.values("store") for one in name.split("+")
    }
    found = {}
    for _, store, _ in shelved(bank):
        if store is not None and store.identity in wanted:
            recipe = {key: str(store.recipe.get(key, "")) for key in ("stream", "extractor", "node")}
            sizes = {"videos": len(store.video_ids), "rows": int(store.all_rows.sum()), "bytes": store.size_bytes}
            found[store.identity] = {**recipe, **sizes, **store.cost}
    return found


def cost_section(contest: Contest, marks: Sequence[str], stores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """stores: of `read_costs`; those that no model of this contest read are left out."""
    made = ["<section><h2>Cost</h2>"]
    read = {one for group in contest.groups for name in group.values("store") for one in name.split("+")}
    rows = [_store_row(identity, store) for identity, store in stores.items() if identity in read]
    if rows:
        heads = f"{th('Feature store')}{th('Videos', True)}{th('Rows', True)}{th('MB', True)}{th('Extraction, s', True)}"
        heads += f"{th('s a video', True)}{th('On')}{th('In one pass for')}"
        note = "Wall time of all passes that filled the store, once for all models; streams of one pass share its time."
        made.append(table(heads, rows, note))
    rows = []
    for mark, group in zip(marks, contest.groups, strict=True):
        seconds = [float(entry.metrics["seconds"]) for entry in group.entries if "seconds" in entry.metrics]
        if seconds:
            cells = f"<th>{mark}&ensp;{escape(group.label)}</th>{td(len(seconds), str(len(seconds)))}"
            mean = float(np.mean(seconds))
            rows.append(f"<tr>{cells}{td(mean, f'{mean:.1f}')}{td(sum(seconds), f'{sum(seconds):.0f}')}</tr>")
    if rows:
        heads = f"{th('Model')}{th('Runs', True)}{th('Training, s a run', True)}{th('in all, s', True)}"
        made.append(table(heads, rows, "Wall time of training; a fused model costs its members’ and next to nothing besides."))
    return [*made, "</section>"] if len(made) > 1 else []


def _store_row(identity: str, store: Mapping[str, Any]) -> str:
    node = "" if store["node"] in ("", "embedding") else f" {store['node']}"
    name = f"{store['stream']} {store['extractor'].rpartition('/')[2]}{node}"
    cells = f"<th>{escape(name)} <small><code>{identity[:8]}</code></small></th>"
    cells += "".join(td(store[key], f"{store[key]:,}") for key in ("videos", "rows"))
    cells += td(store["bytes"], f"{store['bytes'] / 1e6:,.1f}")
    seconds = math.nan if store["seconds"] is None else store["seconds"]
    each = seconds / max(1, store["videos"])
    cells += f"{td(seconds, _plain(seconds, ',.0f'))}{td(each, _plain(each, '.2g'))}"
    return f"<tr>{cells}<td>{escape(store.get('device', '–'))}</td><td>{escape(store.get('streams', '–'))}</td></tr>"


def _plain(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)
