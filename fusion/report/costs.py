"""The report's section on cost, which is the time to extract the stores and to train the models."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.banks import AnyBank
from reelbank.data.feature_recipe import has_random_weights, network_name
from reelbank.data.store.bank import opened
from reelbank.data.store.damage import damage_among, damage_line
from reelbank.data.store.reader import Store
from reelbank.data.store.weights import PublishedWeights
from reelbank.fusion.evaluation.contests import Contest
from reelbank.fusion.evaluation.experiments import Group
from reelbank.fusion.report.view import Block, Cell, Column, Number, RowName, Section, Table, Text

MB = 1e6
USUAL_NODE = "embedding"  # the usual node of a network; other nodes are shown by name


@dataclass(frozen=True)
class StoreCost:
    """A feature store that models of the report were trained on, and the cost of its extraction.
    seconds: nan if the store does not record them; streams: the streams that were extracted in the
    same pass; damaged: the damage of each damaged video, by id; weights: published ones, as the
    store records them."""

    identity: str
    path: Path
    stream: str
    extractor: str
    node: str
    videos: int
    rows: int
    bytes: int
    seconds: float
    device: str
    streams: str
    damaged: Mapping[str, str]
    weights: Sequence[PublishedWeights] = ()

    @property
    def name(self) -> str:
        network = self.extractor.rpartition("/")[2]
        node = "" if self.node in ("", USUAL_NODE) else f" {self.node}"
        return f"{self.stream} {network}{node}"


def read_costs(bank: AnyBank, contests: Sequence[Contest]) -> list[StoreCost]:
    """The stores of the bank, and of other banks, that a model of the contests was trained on."""
    used = set().union(*map(_stores_of, contests))
    return [_cost(store) for _, store in opened(bank) if store.identity in used]


def _stores_of(contest: Contest) -> set[str]:
    """The identities of the stores that the models were trained on."""
    return {store for group in contest.groups for store in group.stores()}


def _cost(store: Store) -> StoreCost:
    stream, extractor, node = (
        str(store.recipe.get(key, "")) for key in ("stream", "extractor", "node")
    )
    cost = store.cost
    return StoreCost(
        identity=store.identity,
        path=store.path,
        stream=stream,
        extractor=network_name(extractor, is_random=has_random_weights(store.recipe)),
        node=node,
        videos=len(store.video_ids),
        rows=int(store.all_rows.sum()),
        bytes=store.size_bytes,
        seconds=math.nan if cost.seconds is None else cost.seconds,
        device=cost.device or "–",
        streams=cost.streams or "–",
        damaged=damage_among(store.video_ids, store.sources).videos,
        weights=store.weights,
    )


def damage_notes(stores: Sequence[StoreCost]) -> list[str]:
    """A line for each store with features of damaged videos."""
    return [
        f"store {store.identity[:8]} ({store.stream}): {damage_line(store.damaged, store.videos)}"
        for store in stores
        if store.damaged
    ]


def license_notes(stores: Sequence[StoreCost]) -> list[str]:
    """A line for each store with features of weights that must not be used commercially."""
    return [
        f"store {store.identity[:8]} ({store.stream}): the license of its weights does not permit "
        f"commercial use: {weights}"
        for store in stores
        for weights in store.weights
        if weights.is_non_commercial
    ]


def cost_section(
    contest: Contest, letters: Sequence[str], stores: Sequence[StoreCost]
) -> Section | None:
    """The section, or None if no cost is known. stores: the stores of the report; only those that
    the contest's models were trained on are shown."""
    used = _stores_of(contest)
    tables = [_extraction([store for store in stores if store.identity in used])]
    tables.append(_training(contest.groups, letters))
    blocks: list[Block] = [table for table in tables if table.rows]
    return Section("Cost", blocks) if blocks else None


def _extraction(stores: Sequence[StoreCost]) -> Table:
    columns = [
        Column("Feature store"),
        Column("Videos", number=True),
        Column("Rows", number=True),
        Column("MB", number=True),
        Column("Extraction, s", number=True),
        Column("s per video", number=True),
        Column("Device"),
        Column("Streams extracted together"),
    ]
    about = (
        "Wall-clock time of all extraction commands that filled the store. Several "
        "models can use the same store. Streams that were extracted together have the "
        "same time."
    )
    return Table(columns, [_extraction_row(store) for store in stores], about)


def _extraction_row(store: StoreCost) -> list[Cell]:
    per_video = store.seconds / max(1, store.videos)
    return [
        RowName(store.name, code=store.identity[:8]),
        Number(store.videos, f"{store.videos:,}"),
        Number(store.rows, f"{store.rows:,}"),
        Number(store.bytes, f"{store.bytes / MB:,.1f}"),
        Number(store.seconds, _known(store.seconds, ",.0f")),
        Number(per_video, _known(per_video, ".2g")),
        Text(store.device),
        Text(store.streams),
    ]


def _training(groups: Sequence[Group], letters: Sequence[str]) -> Table:
    columns = [
        Column("Model"),
        Column("Runs", number=True),
        Column("Training, s per run", number=True),
        Column("Training of all runs, s", number=True),
    ]
    rows: list[list[Cell]] = []
    for letter, group in zip(letters, groups, strict=True):
        recorded = [entry.metrics.seconds for entry in group.entries]
        seconds = [float(value) for value in recorded if value is not None]
        if seconds:
            rows.append(
                [
                    RowName(group.label, letter=letter),
                    Number(len(seconds), str(len(seconds))),
                    Number(float(np.mean(seconds)), f"{np.mean(seconds):.1f}"),
                    Number(sum(seconds), f"{sum(seconds):.0f}"),
                ]
            )
    about = (
        "Wall-clock time of training. The time of a fused model does not include the "
        "training of its members."
    )
    return Table(columns, rows, about)


def _known(value: float, form: str) -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"
