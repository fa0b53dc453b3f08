"""The recipe of Relational LSTM against what the paper states: frames, crops, segments, scores, and
where flow starts from."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from reelbank.data.options import parse, words_of
from reelbank.extract.fill import stream_options, with_defaults
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import resize, take_crops
from reelbank.fusion.reproduce.plan import (
    figures_of,
    model_options,
    starts_from,
    store_options,
    stores_of,
)
from reelbank.fusion.reproduce.recipe.reading import read_paper
from reelbank.heads.recipe import Rule
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.sequences import tables

RECIPE = read_paper("rlstm")
DOCS = Path(__file__).parents[1] / "docs" / "systems.md"


def extraction(*words: str) -> ExtractOptions:
    return with_defaults(parse(ExtractOptions, ["DATASET=ucf101", *words], "extract"))


def test_corner_crops_of_a_4_3_video_lie_as_far_apart_as_those_of_tsn() -> None:
    """Section 5.2 uses TSN's crops of 224 from frames of 256 x 340, height x width."""
    options = stream_options(extraction("RECIPE=rlstm"), "rgb")
    assert options.resize_px == (256, 340) and options.crop_px == 224
    decoded = torch.randint(256, (1, 3, 240, 320), dtype=torch.uint8)
    frame = resize(decoded, Resize(options.resize_px))
    assert frame.shape == (1, 3, 256, 340)
    (crops,) = take_crops(frame, options.crop_px, options.crops)
    assert len(crops) == 5 and options.keep_crops
    for crop, (down, right) in zip(
        crops, [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)], strict=True
    ):
        assert torch.equal(crop, frame[0, :, down : down + 224, right : right + 224])


def test_training_has_flips_crops_of_several_sizes_and_more_than_four_clips_of_a_segment() -> None:
    options, train = extraction("RECIPE=rlstm"), parse(TrainOptions, ["RECIPE=rlstm"], "train")
    assert options.views == 1 and options.jitter and train.views == "one"
    assert options.t == 32 and train.t == 8
    views = np.repeat(np.arange(1 + options.views), options.t).astype(np.uint8)
    rule = Rule(train.sampling, steps=train.t, positions=train.positions, crops=options.crops or 1)
    learn, score = tables([views], rule, ["video"])
    of_first_segment = {int(row) for sequence in learn.rows for row in sequence[: 32 // 8]}
    assert len(of_first_segment) == 4 * (1 + options.views)
    assert len(score.rows) == 20  # 4 positions x 5 crops
    # Positions are at fractions 1/8, 3/8, 5/8 and 7/8 of each segment, a row of the store each.
    assert score.rows[::5].tolist() == [[4 * segment + p for segment in range(8)] for p in range(4)]


def test_tsn_has_its_own_segments_and_maps() -> None:
    """Temporal Segment Networks: 3 segments in training; 25 frames with 10 crops in the test."""
    for name in ("tsn_rgb", "tsn_flow"):
        (store,) = stores_of(RECIPE["models"][name])
        features, model = store_options(RECIPE, store), model_options(RECIPE, name)
        assert (features["t"], features["crops"], features["keep_crops"]) == (25, 10, True)
        assert (model["t"], model["crops"], model["average"]) == (3, "each", "logits")
        rule = Rule("segments", steps=model["t"], positions=model["positions"], crops=10)
        _, score = tables([np.zeros(25, np.uint8)], rule, ["video"])
        uses = np.bincount(score.rows.flatten().numpy(), minlength=25)
        assert set(uses.tolist()) == {30}  # every frame as often, with each of its 10 crops
    alone = extraction("RECIPE=rlstm:tsn")
    assert (alone.t, alone.crops) == (25, 10)


def test_each_row_of_a_window_of_charades_counts_the_same_for_tsn() -> None:
    rows, model = RECIPE["extract"]["t"], model_options(RECIPE, "charades_tsn")
    rule = Rule("segments", steps=model["t"], positions=model["positions"])
    _, score = tables([np.zeros(rows, np.uint8)], rule, ["video"])
    assert set(np.bincount(score.rows.flatten().numpy()).tolist()) == {3}


@pytest.mark.parametrize("name", ["charades_tsn", "charades_both"])
def test_charades_averages_logits_and_takes_the_highest_of_the_windows(name: str) -> None:
    """Section 5.6: "the predicted logits before softmax normalization are considered as the
    prediction scores for each clip", with max pooling over clips."""
    options = model_options(RECIPE, name)
    assert (options["average"], options["over_clips"]) == ("logits", "max")
    alone = parse(TrainOptions, ["RECIPE=rlstm:charades"], "train")
    assert (alone.average, alone.over_clips) == ("logits", "max")


def test_flow_starts_from_the_trained_spatial_model() -> None:
    """Section 5.2; R-LSTM alone starts from TSN (5.3), of whose layers it has only frozen ones."""
    streams = {name: str(model["on"]).partition(".")[2] for name, model in RECIPE["models"].items()}
    flows = [name for name, stream in streams.items() if stream == "flow"]
    first = {name: starts_from(RECIPE, name) for name in flows}
    assert first.pop("tsn_flow") == "" and first.pop("nonlocal_flow") == ""
    assert len(first) == 7
    for name, start in first.items():
        assert start == name.replace("_flow", "_rgb")
    for name, stream in streams.items():
        assert stream == "flow" or not starts_from(RECIPE, name)


def test_every_figure_that_shows_results_is_drawn_from_our_runs() -> None:
    figures = {figure.source: figure for figure in figures_of(RECIPE)}
    assert set(figures) == {"Fig. 3", "Fig. 4"}
    assert figures["Fig. 3"].draw == "gains" and figures["Fig. 3"].models == ("both_two", "tsn_two")
    assert figures["Fig. 4"].draw == "predictions"
    assert set(figures["Fig. 4"].models) == {"tsn_two", "both_two"}


def test_the_changes_of_the_recipe_in_the_documentation_are_possible() -> None:
    section = DOCS.read_text(encoding="utf-8").partition("\n## rlstm\n")[2].partition("\n## ")[0]
    views = set()
    for change in re.findall(r'SET="([^"]+)"', section):
        recipe = read_paper("rlstm", change)
        for name in recipe["stores"]:
            options = extraction(*words_of(store_options(recipe, name)))
            views.add(options.views)
    assert views == {0, 2}  # more views, and none
