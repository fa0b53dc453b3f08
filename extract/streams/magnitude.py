"""The mean length of the optical flow, one number per field. Adaptive sampling follows it."""

import dataclasses
from typing import Any

from torch import Tensor

from reelbank.data.feature_recipe import ClipsPart, FeatureRecipe, RowsPart
from reelbank.data.video.sampling import Sampling
from reelbank.extract.flow.methods import FlowMethod, magnitude
from reelbank.extract.networks.preprocessing import resize_text
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.streams.base import ADAPTIVE_SECONDS, Computation, Stream, StreamOptions


class Magnitude(Stream):
    features_version = 2
    reads_pairs = True
    uses_flow = True
    is_of_flow = True
    needs_seconds = True
    is_alone = True
    has_network = False
    made_by = "flow"
    channels = 2
    is_cropped = False
    is_adaptive = False
    has_views = False
    usual_resize_px = 128
    unused_options = (
        *("extractor", "weights", "split", "width", "node", "at", "preset", "size", "antialias"),
        *("views", "jitter", "windows", "window", "grid", "stride", "clip", "fps"),
    )

    def clips(self, options: StreamOptions, grid: Sampling) -> Sampling:
        return Sampling(fields=True)  # every field

    def items(self, pictures: Tensor, following: Tensor | None, flow: FlowMethod | None) -> Tensor:
        assert flow is not None and following is not None
        return self.items_of_flow(flow(pictures, following))

    def items_of_flow(self, fields: Tensor) -> Tensor:
        return magnitude(fields)

    def recipe(self, computation: Computation) -> FeatureRecipe:
        clips, flow = computation.sampling, computation.flow
        assert isinstance(clips, Sampling) and flow is not None
        return dataclasses.replace(
            self.basic_recipe(computation),
            extractor=self.name,
            weights=Provenance.without_weights().to_json(),
            seconds=ADAPTIVE_SECONDS,
            decoder=computation.options.decoder,
            clips=ClipsPart(clips.clip_frames, clips.own_frames, clips.stride_frames),
            rows=RowsPart(None, "all"),
            preprocessing=computation.preprocessing.to_json(),
            flow=flow.recipe_part,
        )

    def options_of(self, recipe: FeatureRecipe) -> dict[str, Any]:
        assert recipe.preprocessing is not None
        return {"decoder": recipe.decoder, "resize": resize_text(recipe.preprocessing["resize_px"])}
