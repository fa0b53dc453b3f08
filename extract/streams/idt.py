"""Improved dense trajectories: each row describes a point that is followed through a video."""

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe, RowsPart
from reelbank.data.video.opencv import cv2
from reelbank.data.video.sampling import Followed, Sampling
from reelbank.extract.in_decoders.trajectories import TrajectoryRows
from reelbank.extract.networks.preprocessing import (
    Preprocessing,
    Resize,
    pair,
    resize_text,
    typical_px,
)
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.streams.base import Computation, Stream, StreamOptions
from reelbank.extract.trajectories import idt

if TYPE_CHECKING:  # it imports torch
    from reelbank.extract.flow.methods import FlowMethod

# What the rows depend on, for the recipe.
DESCRIPTOR = {
    "kind": "improved dense trajectories",
    "track_frames": idt.TRACK_FRAMES,
    "grid_px": idt.GRID_PX,
    "patch_px": idt.PATCH_PX,
    "scales": idt.SCALES,
    "flow": {"method": "farneback", **idt.FARNEBACK},
    "camera": "homography of ORB and flow matches",
    "version": 1,
}


class ImprovedTrajectories(Stream):
    features_version = 2
    is_whole_video = True
    has_network = False
    made_by = "trajectories"
    is_cropped = False
    on_clip_grid = False
    is_adaptive = False
    has_views = False
    usual_resize_px = 240  # the picture height of UCF-101
    row_numbers = idt.SIZE
    row_blocks = tuple(idt.BLOCKS.values())
    unused_options = (
        *("extractor", "weights", "split", "width", "node", "at", "preset", "size", "antialias"),
        *("views", "jitter", "windows", "window", "grid", "stride", "clip", "fps", "t", "sampling"),
        *("crops", "keep_crops", "pool", "precision", "compile", "batch"),
        *("flow", "flow_weights"),
    )
    own_options = ("trajectories",)

    def check(self, options: StreamOptions) -> None:
        if options.resize_px and min(pair(options.resize_px)) < idt.PATCH_PX:
            raise InputError(
                f"RESIZE={resize_text(options.resize_px)}: must be at least {idt.PATCH_PX} pixels, "
                "the side length of the patches along a trajectory"
            )

    def clips(self, options: StreamOptions, grid: Sampling) -> Followed:
        return Followed(seed=options.seed, most=options.trajectories)

    def picture_function(
        self, samplings: Sequence[Sampling], resize: Resize, flow: "FlowMethod | None"
    ) -> TrajectoryRows:
        (followed,) = samplings
        assert isinstance(followed, Followed)
        return TrajectoryRows(followed, resize)

    def frame_seconds(self, preprocessing: Preprocessing) -> float:
        """Measured on moving noise, after trajectories have reached their full length."""
        height, width = typical_px(preprocessing.resize_px)
        noise = np.random.default_rng(0).integers(
            0, 256, (height // 8 + 9, width // 8 + 9), np.uint8
        )
        size = (noise.shape[1] * 8, noise.shape[0] * 8)
        ground = cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)
        trajectories = idt.Trajectories()
        started = time.perf_counter()
        for number in range(idt.TRACK_FRAMES + 5):
            if number == idt.TRACK_FRAMES:
                started = time.perf_counter()
            picture = ground[2 * number :, 2 * number :][:height, :width]
            trajectories.add(np.ascontiguousarray(picture))
        return (time.perf_counter() - started) / 5

    def recipe(self, computation: Computation) -> FeatureRecipe:
        followed = computation.sampling
        assert isinstance(followed, Followed)
        return dataclasses.replace(
            self.basic_recipe(computation),
            extractor=self.made_by,
            weights=Provenance.without_weights().to_json(),
            decoder=computation.options.decoder,
            rows=RowsPart(followed.most, "random"),
            preprocessing=computation.preprocessing.to_json(),
            extra={"trajectories_seed": followed.seed, "descriptor": DESCRIPTOR},
        )

    def options_of(self, recipe: FeatureRecipe) -> dict[str, Any]:
        assert recipe.rows and recipe.preprocessing is not None
        return {
            "decoder": recipe.decoder,
            "resize": resize_text(recipe.preprocessing["resize_px"]),
            "trajectories": recipe.rows.steps,
        }

    def seeds_of(self, recipe: FeatureRecipe) -> set[int]:
        return {recipe.extra["trajectories_seed"]}
