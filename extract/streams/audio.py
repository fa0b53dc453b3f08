"""Sound, as log-mel examples of 0.96 s."""

import dataclasses
from typing import Any

from torch import Tensor

from reelbank.data.feature_recipe import ClipsPart, FeatureRecipe, RowsPart, WindowsPart
from reelbank.data.store.records import NO_SOUND, Failure
from reelbank.data.video.sampling import Examples, Sampling, TimedExamples
from reelbank.data.video.sound import SoundInfo
from reelbank.extract.networks.preprocessing import RGB_ORDER, Preprocessing, pair
from reelbank.extract.pipeline.logmel import LOGMEL_PX, logmel
from reelbank.extract.streams.base import (
    Computation,
    Stream,
    StreamOptions,
    grid_options,
    side,
    time_values,
)

FRONT_END = "vggish log-mel, 16 kHz"
# Scales log-mel values to the range of inputs of image networks. VGGish reads them unscaled.
LOGMEL_MEAN, LOGMEL_STD = (-2.0,), (2.0,)


class Audio(Stream):
    # 3: a track in MP4 or QuickTime ends where the file states it, without the padding of its last
    # frame.
    features_version = 3
    input = "sound"
    channels = 1
    is_cropped = False
    on_clip_grid = False
    is_adaptive = False
    has_views = False
    unused_options = (
        *("views", "jitter", "windows", "window", "grid", "stride"),
        *("clip", "resize", "antialias"),
    )
    options_on_timeline = ("windows", "window", "grid", "stride")
    named_options = ("size",)

    def clips(self, options: StreamOptions, grid: Sampling) -> Examples:
        return TimedExamples(options.steps, grid) if grid.ticks else Examples(options.steps)

    def examples(self, waves: Tensor) -> Tensor:
        return logmel(waves)

    def absence(self, sound: SoundInfo) -> str:
        if sound.state == "none":
            return str(Failure("the file has no sound track", kind=NO_SOUND))
        if sound.state == "short" or not sound.examples:
            reason = (
                f"its sound track of {sound.seconds:.2f} s is shorter than one example (0.975 s)"
            )
            return str(Failure(reason, kind=NO_SOUND))
        return ""

    def for_network(self, preprocessing: Preprocessing) -> Preprocessing:
        return dataclasses.replace(
            preprocessing, resize_px=LOGMEL_PX, mean=LOGMEL_MEAN, std=LOGMEL_STD, order=RGB_ORDER
        )

    def recipe(self, computation: Computation) -> FeatureRecipe:
        steps, preprocessing = computation.options.steps, computation.preprocessing
        recipe = self.network_recipe(computation)
        sampling = "sigma"
        if isinstance(computation.sampling, TimedExamples):
            grid = computation.sampling.grid
            sampling = grid.sampling
            recipe = dataclasses.replace(
                recipe,
                clips=ClipsPart(grid.clip_frames, grid.grid_frames, grid.stride_frames),
                windows=WindowsPart(grid.windows, grid.window_frames) if grid.windows else None,
                **time_values(grid.ticks),
            )
        waves = computation.network.waves if computation.network else None
        if waves:
            return dataclasses.replace(
                recipe,
                rows=RowsPart(steps, sampling if steps else "all"),
                preprocessing={
                    "window_samples": waves.windows.window_samples,
                    "hop_samples": waves.windows.hop_samples,
                    "rate_hz": waves.windows.rate_hz,
                    "least_samples": waves.windows.least_samples,
                },
                extra={"front_end": dict(waves.about)},
            )
        return dataclasses.replace(
            recipe,
            rows=RowsPart(steps, sampling if steps else "all"),
            preprocessing={
                "crop_px": list(pair(preprocessing.crop_px)),
                "mean": list(preprocessing.mean),
                "std": list(preprocessing.std),
            },
            extra={"front_end": FRONT_END},
        )

    def options_of(self, recipe: FeatureRecipe) -> dict[str, Any]:
        assert recipe.preprocessing is not None
        options = self.rows_of(recipe)
        if "crop_px" in recipe.preprocessing:  # otherwise, the network has its own front end
            options |= {"size": side(recipe.preprocessing["crop_px"])}
        if recipe.clips:
            options |= grid_options(recipe, own_frames=1)
        if recipe.windows:
            options |= {"windows": recipe.windows.count, "window": recipe.windows.frames}
        return options
