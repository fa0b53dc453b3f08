"""The base class of streams: the interface that options, plan, estimate and loop use."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import (
    ClipsPart,
    CropsPart,
    FeatureRecipe,
    NetworkPart,
    RowsPart,
    ViewsPart,
    WindowsPart,
)
from reelbank.data.identity import extractor_name
from reelbank.extract.lengths import seconds_text, whole_ticks
from reelbank.extract.networks.inputs import InputKind, InputSpec
from reelbank.extract.networks.preprocessing import (
    RGB_ORDER,
    Preprocessing,
    Resize,
    resize_text,
)
from reelbank.extract.networks.provenance import Provenance

if TYPE_CHECKING:  # reading the options and printing their help must not import torch and numpy
    import numpy as np
    from torch import Tensor

    from reelbank.data.video.functions import PictureFunction
    from reelbank.data.video.sampling import Examples, Sampling
    from reelbank.data.video.sound import SoundInfo
    from reelbank.data.video.timeline import Ticks
    from reelbank.extract.flow.methods import FlowMethod
    from reelbank.extract.networks.build import Network

ADAPTIVE_SECONDS = 36.0  # adaptive sampling uses only this long a beginning of a video


@dataclass(frozen=True)
class StreamOptions:
    """The options of one stream. Empty, 0 and None stand for the value of the network."""

    name: str
    extractor: str
    weights: str
    width: float
    nodes: tuple[str, ...]
    pool: bool
    clip_frames: int
    clip_seconds: float  # instead of clip_frames: the frames of a clip are spread over this time
    resize_px: int | tuple[int, int]  # short side, or height and width
    crop_px: int
    antialias: bool | None
    preset: str
    steps: int | None  # rows of a video, None for all
    sampling: str
    seed: int
    trajectories: int
    crops: int
    keep_crops: bool
    jitter: bool
    precision: str
    decoder: str
    image_fps: float | None


@dataclass(frozen=True)
class Computation:
    """How the rows of one store are computed: everything that its recipe depends on. magnitude:
    identity of the store whose flow lengths adaptive sampling follows, or ""."""

    options: StreamOptions
    sampling: "Sampling | Examples"
    preprocessing: Preprocessing
    network: "Network | None"
    node: str
    flow: "FlowMethod | None"
    magnitude: str

    @property
    def is_adaptive(self) -> bool:
        return self.options.sampling == "adaptive"


class Follower(Protocol):
    """Receives all pictures of one video in order, and returns its rows at the end. A stream's
    `picture_function` does the same in a decode process, on another core."""

    def see(self, pictures: "np.ndarray") -> None:
        """Process the next pictures, (n, H, W, 3) uint8 RGB."""

    def rows(self) -> "tuple[np.ndarray, np.ndarray]":
        """Rows (K, D) float32, and the number of the picture in the middle of each, (K,) int64.
        Raises UnfitPicture if the video has none."""


class Stream:
    """How the pictures or the sound of a video become the rows of a store.

    Without changes, this class is a stream of pictures with a network. Your own stream overrides
    what differs, usually `items`. Increase `features_version` whenever the same recipe would give
    other numbers than before, so that existing stores keep their identity and new ones get another.
    """

    name: str = ""  # in recipes; set by `load_stream`
    features_version: ClassVar[int] = 1

    # Input.
    input: ClassVar[Literal["pictures", "sound"]] = "pictures"
    reads_pairs: ClassVar[bool] = False  # item k is made of pictures k and k + 1
    uses_flow: ClassVar[bool] = False  # `items` needs the optical flow
    is_of_flow: ClassVar[bool] = False  # and nothing else; defines `items_of_flow`
    needs_seconds: ClassVar[bool] = False  # needs a frame rate even if sampling is not adaptive
    is_whole_video: ClassVar[bool] = False  # cannot be sampled from a video's beginning
    is_alone: ClassVar[bool] = False  # no other stream is extracted in the same pass

    # Output.
    has_network: ClassVar[bool] = True
    made_by: ClassVar[str] = ""  # without a network: stands for it in the store's name
    channels: ClassVar[int] = 3  # of an item
    stacks_items: ClassVar[bool] = (
        False  # an image network reads CLIP items as one stack of channels
    )
    is_cropped: ClassVar[bool] = True
    on_clip_grid: ClassVar[bool] = True  # its rows are clips that align with other streams'
    is_adaptive: ClassVar[bool] = True  # SAMPLING=adaptive chooses its clips
    has_views: ClassVar[bool] = True
    usual_resize_px: ClassVar[int] = 0  # without a network: the default of RESIZE
    row_numbers: ClassVar[int] = 1  # without a network: size of a row
    row_blocks: ClassVar[tuple[int, ...]] = ()  # sizes of the descriptors that make up a row

    # Options of the command that the stream does not use.
    unused_options: ClassVar[tuple[str, ...]] = ()
    # Of these, the options that it uses if clips are measured in time (FPS, STRIDE=0.5s).
    options_on_timeline: ClassVar[tuple[str, ...]] = ()
    # Options of the command that exist only for streams that list them here.
    own_options: ClassVar[tuple[str, ...]] = ()
    # Options that, if there are other streams, apply to this one only as NAME=stream=value.
    named_options: ClassVar[tuple[str, ...]] = ()

    @property
    def is_users(self) -> bool:
        """Whether the stream comes from a user's own file."""
        return "." in self.name

    def check(self, options: StreamOptions) -> None:
        """Raises InputError for options that do not suit the stream."""

    def usual_stack(self, extractor: str) -> int:
        """The number of items that an image network reads at once if CLIP is empty."""
        return 1

    def clips(self, options: StreamOptions, grid: "Sampling") -> "Sampling | Examples":
        """Choose the rows of a video. grid: the clips according to the options, aligned with those
        of other streams. The result is sent to decode processes, so it must be of a class of
        `data.video.sampling`."""
        return grid

    def items(
        self, pictures: "Tensor", following: "Tensor | None", flow: "FlowMethod | None"
    ) -> "Tensor":
        """Compute the items of which clips consist.

        pictures: (n, 3, H, W) uint8, resized; following: the next picture of each, if
        `reads_pairs`; flow: the flow method, if `uses_flow`

        Returns (n, channels, H, W) uint8 for a network, or rows (n,) or (n, D) float32 without one.
        """
        return pictures

    def items_of_flow(self, fields: "Tensor") -> "Tensor":
        """For `is_of_flow`: compute the items, as `items` does, from flow fields (n, 2, H, W)
        float32 in pixels."""
        raise NotImplementedError

    def mirrored(self, items: "Tensor") -> "Tensor":
        """The items of the mirrored pictures, from items (..., channels, H, W)."""
        return items.flip(-1)

    def picture_function(
        self, samplings: "Sequence[Sampling]", resize: Resize, flow: "FlowMethod | None"
    ) -> "PictureFunction | None":
        """What decode processes compute from the pictures of a video: the fields for
        `items_of_flow`, or rows. None: they send the pictures.

        samplings: of this stream's networks, which share the pictures; resize: of the pictures.
        """
        if not (self.is_of_flow and flow and flow.of_opencv):
            return None
        from reelbank.extract.in_decoders.fields import FlowFields  # it imports OpenCV

        return FlowFields(flow.of_opencv, resize, tuple(samplings))

    def follower(self, clips: "Sampling | Examples", threads: Executor) -> Follower | None:
        """The follower of one video, for a stream whose rows are not clips; otherwise None."""
        return None

    def examples(self, waves: "Tensor") -> "Tensor":
        """For sound: (n, 15600) float32 in [-1, 1] at 16 kHz -> network inputs (n, ...)."""
        raise NotImplementedError

    def absence(self, sound: "SoundInfo") -> str:
        """For sound: the reason why an undamaged file has no rows; "" if it has some."""
        return ""

    def frame_seconds(self, preprocessing: Preprocessing) -> float:
        """For a follower: the measured computing time of one picture on one core."""
        return 0.0

    def network_input(self, channels: int) -> InputSpec:
        """The input of the network. channels: those of an item, times the items of a stack."""
        return InputSpec(
            kind=InputKind.LOGMEL if self.input == "sound" else InputKind.PICTURES,
            channels=channels,
            adapt=self.for_network,
            stream=self.name,
        )

    def for_network(self, preprocessing: Preprocessing) -> Preprocessing:
        """The preprocessing of items for a network that was trained with `preprocessing`. Items that
        are not like RGB pictures get one mean and one standard deviation for all channels: the
        averages of the network's."""
        if self.channels == 3 and not self.stacks_items:
            return preprocessing
        mean = sum(preprocessing.mean) / len(preprocessing.mean)
        std = sum(preprocessing.std) / len(preprocessing.std)
        return dataclasses.replace(preprocessing, mean=(mean,), std=(std,), order=RGB_ORDER)

    def recipe(self, computation: Computation) -> FeatureRecipe:
        """Everything that the numbers of a store depend on. Device, batch and compilation are not
        included, because they change features only by rounding."""
        clips: Any = computation.sampling
        options, network, flow = computation.options, computation.network, computation.flow
        is_cropped = network is not None and not network.is_pixels
        windows = WindowsPart(clips.windows, clips.window_frames) if clips.windows else None
        return dataclasses.replace(
            self.network_recipe(computation),
            decoder=options.decoder,
            clips=ClipsPart(
                clips.clip_frames, clips.grid_frames or clips.own_frames, clips.stride_frames
            ),
            rows=RowsPart(clips.steps, clips.sampling if clips.steps else "all"),
            preprocessing=computation.preprocessing.to_json(),
            crops=CropsPart(options.crops, options.keep_crops) if is_cropped else None,
            flow=flow.recipe_part if flow and self.uses_flow else None,
            magnitude=computation.magnitude if clips.sampling == "adaptive" else None,
            windows=windows,
            views=ViewsPart(clips.views, clips.seed) if clips.views else None,
            jitter=True if clips.views and options.jitter else None,
            **time_values(clips.ticks),
        )

    def network_recipe(self, computation: Computation) -> FeatureRecipe:
        """The part of the recipe that describes the network, or `made_by` if there is none."""
        options, network = computation.options, computation.network
        basic = dataclasses.replace(
            self.basic_recipe(computation),
            seconds=ADAPTIVE_SECONDS if computation.is_adaptive else None,
        )
        if network is None and not self.made_by:
            raise InputError(
                f"STREAM={self.name}: a stream without a network (has_network = False) must define "
                "`made_by`, a word for the store's name, and `row_numbers`, the length of a row"
            )
        if network is None:
            return dataclasses.replace(
                basic, extractor=self.made_by, weights=Provenance.without_weights().to_json()
            )
        return dataclasses.replace(
            basic,
            extractor=extractor_name(network.extractor),
            weights=network.weights.to_json(),
            network=NetworkPart("mean" if options.pool else "none", options.precision),
            width=network.width,
        )

    def basic_recipe(self, computation: Computation) -> FeatureRecipe:
        """The part of the recipe that all streams have."""
        from reelbank.data.video.images import ASSUMED_FPS  # it imports numpy

        # Earlier recipes do not contain the assumed frame rate, and must stay equal.
        fps = computation.options.image_fps
        records_fps = self.input == "pictures" and fps not in (None, ASSUMED_FPS)
        return FeatureRecipe(
            stream=self.name,
            features_version=self.features_version,
            node=computation.node,
            image_fps=fps if records_fps else None,
        )

    def options_of(self, recipe: FeatureRecipe) -> dict[str, Any]:
        """The inverse of `recipe`: options of `extract` that give a store with this recipe, except
        those of the network, its weights and the flow."""
        clips, preprocessing = recipe.clips, recipe.preprocessing
        assert clips and preprocessing is not None
        own_frames = clips.clip_frames + self.reads_pairs  # the grid if GRID is empty
        options = self.rows_of(recipe) | {
            "decoder": recipe.decoder,
            "clip": str(clips.clip_frames),
            **grid_options(recipe, own_frames),
            "size": side(preprocessing["crop_px"]),
            "resize": resize_text(preprocessing["resize_px"]),
            "antialias": str(int(preprocessing.get("antialias", True))),  # recorded only if off
        }
        if recipe.clip_seconds is not None:
            options["clip"] = seconds_text(recipe.clip_seconds)
        if not self.has_network:
            options |= {"clip": "", "size": "", "antialias": ""}
        if preprocessing.get("fill"):
            options["resize"] = ""  # only the network's own preprocessing has a border
        if recipe.has_pixels:
            options["size"] = ""  # whole pictures
        elif recipe.crops:
            options |= {"crops": recipe.crops.count, "keep_crops": recipe.crops.kept}
        if recipe.windows:
            options |= {"windows": recipe.windows.count, "window": recipe.windows.frames}
        if recipe.views:
            options |= {"views": recipe.views.count, "jitter": bool(recipe.jitter)}
        return options

    def rows_of(self, recipe: FeatureRecipe) -> dict[str, Any]:
        """The options that determine the rows, read from a recipe."""
        assert recipe.rows
        sampling = "sigma" if recipe.rows.sampling == "all" else recipe.rows.sampling
        if recipe.seconds is not None:
            sampling = "adaptive"
        return {"sampling": sampling, "t": recipe.rows.steps or 0}

    def seeds_of(self, recipe: FeatureRecipe) -> set[int]:
        """The values of SEED that the stream used for random choices."""
        return {recipe.views.seed} if recipe.views else set()


def time_values(ticks: "Ticks | None") -> dict[str, Any]:
    """The values of a recipe that describe clips that are measured in time; {} if they are not."""
    return {key: value for key, value in vars(ticks).items() if value} if ticks else {}


def grid_options(recipe: FeatureRecipe, own_frames: int) -> dict[str, Any]:
    """The options FPS, STRIDE and GRID, read from a recipe. own_frames: length of the stream's own
    clip, if it is not given in seconds."""
    assert recipe.clips
    clip_seconds = recipe.clip_seconds or 0.0
    stride, grid = str(recipe.clips.stride_frames), ""
    if recipe.stride_seconds:
        stride = seconds_text(recipe.stride_seconds)
    if recipe.fps and clip_seconds:
        own_frames = whole_ticks(clip_seconds, recipe.fps)
    if recipe.grid_seconds and recipe.grid_seconds > clip_seconds:
        grid = seconds_text(recipe.grid_seconds)
    elif not recipe.grid_seconds and recipe.clips.grid_frames > own_frames:
        grid = str(recipe.clips.grid_frames)
    return {"stride": stride, "grid": grid} | ({"fps": recipe.fps} if recipe.fps else {})


def side(size_px: Any) -> str:
    """The value of SIZE; "" for two different sides, which cannot be an option, only the default of
    a network."""
    if isinstance(size_px, int):
        return str(size_px)
    return str(size_px[0]) if size_px[0] == size_px[1] else ""
