"""The recipe of a feature store as a class. A recipe contains everything that its numbers depend
on. Reading and writing a recipe gives the same bytes."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

# "Extractors" of intermediate stores: other commands or adaptive sampling read them, heads do not.
_PIXELS = ("pixels", "clip_pixels")
_FLOW_LENGTHS = "magnitude"
DEFAULT_STREAM = "rgb"  # of imported features, unless the user names another
_OPENCV_FLOWS = ("dis", "farneback")


@dataclass(frozen=True)
class Part:
    """A group of keys of which a recipe contains all or none."""

    @classmethod
    def take(cls, recipe: dict[str, Any]) -> Self | None:
        """The part, whose keys are removed from `recipe`. If a key is missing, None, and `recipe`
        is not changed."""
        keys = {_key(field): field.name for field in dataclasses.fields(cls)}
        if not keys.keys() <= recipe.keys():
            return None
        return cls(**{name: recipe.pop(key) for key, name in keys.items()})

    def to_json(self) -> dict[str, Any]:
        return {_key(field): getattr(self, field.name) for field in dataclasses.fields(self)}


def _key(field: "dataclasses.Field[Any]") -> str:
    return str(field.metadata.get("key", field.name))


def _named(key: str) -> Any:
    """A field whose key in the recipe differs from its name."""
    return dataclasses.field(metadata={"key": key})


@dataclass(frozen=True)
class NetworkPart(Part):
    """How a row is made from the network's output; pool: "mean" or "none"."""

    pool: str
    precision: str


@dataclass(frozen=True)
class RowsPart(Part):
    """Maximum number of rows of a video (steps; None: no limit), and how they are chosen."""

    steps: int | None
    sampling: str


@dataclass(frozen=True)
class ClipsPart(Part):
    """Number of frames (or flow fields) of a clip, length of a clip of the common grid, and
    distance between the beginnings of two clips, in frames, or in frames of a timeline. The
    distance is 0 if it is given in seconds."""

    clip_frames: int
    grid_frames: int
    stride_frames: int


@dataclass(frozen=True)
class CropsPart(Part):
    """Number of crops of a picture, and whether the features of each crop are kept instead of their
    mean."""

    count: int = _named("crops")
    kept: bool = _named("crops_kept")


@dataclass(frozen=True)
class FlowPart(Part):
    """The optical flow. method: its name and all settings that change its numbers. bound_px: limit
    at which it is clipped."""

    method: Mapping[str, Any] = _named("flow")
    bound_px: float = _named("bound_px")

    @property
    def name(self) -> str:
        return str(self.method.get("method", "")) if isinstance(self.method, Mapping) else ""


@dataclass(frozen=True)
class WindowsPart(Part):
    """Number of windows into which a video is cut, and frames of each window."""

    count: int = _named("windows")
    frames: int = _named("window_frames")


@dataclass(frozen=True)
class ViewsPart(Part):
    """Number of augmented views of a training video, and the seed with which they are drawn."""

    count: int = _named("views")
    seed: int = _named("views_seed")


_PARTS: dict[str, type[Part]] = {
    "network": NetworkPart,
    "rows": RowsPart,
    "clips": ClipsPart,
    "crops": CropsPart,
    "flow": FlowPart,
    "windows": WindowsPart,
    "views": ViewsPart,
}
_VALUES = (
    "features_version",
    "stream",
    "extractor",
    "weights",
    "node",
    "width",
    "image_fps",
    "seconds",
    "decoder",
    "preprocessing",
    "magnitude",
    "jitter",
    "fps",
    "stride_seconds",
    "clip_seconds",
    "grid_seconds",
)


# Of clips that are measured in time. Other tools use the same words with other meanings.
_TIMES = ("fps", "stride_seconds", "clip_seconds", "grid_seconds")


def _is_timed(recipe: Mapping[str, Any]) -> bool:
    """Whether the values of _TIMES are those of our own clips: numbers, in a recipe that was not
    imported."""
    times = [recipe[name] for name in _TIMES if name in recipe]
    are_numbers = all(type(time) in (int, float) and 0 < time < math.inf for time in times)
    return are_numbers and "imported" not in recipe and "stride_frames" in recipe


@dataclass(frozen=True)
class FeatureRecipe:
    """Everything that the numbers of a feature store depend on. The hash of its JSON identifies the
    store.

    A value, or a part, that the recipe does not have is None (`stream`: ""). weights: where they
    came from; preprocessing: of pictures or log-mel examples; width: of a network whose width can
    be chosen; image_fps: frames per second of folders of images, if it differs from the usual rate;
    seconds: length of the beginning of a video that is used; magnitude: identity of the store of
    flow lengths that adaptive sampling used; jitter: whether the crops of views have several sizes;
    fps: frames per second of the timeline on which clips are chosen; stride_seconds, clip_seconds,
    grid_seconds: of ClipsPart, if they are given in seconds (without `fps`, clips are then chosen on
    a timeline with each video's own average frame rate);
    extra: all other keys, such as those of one stream, or of features that were imported.
    """

    stream: str
    features_version: int | None = None
    extractor: str | None = None
    weights: Mapping[str, Any] | None = None
    node: str | None = None
    width: float | None = None
    image_fps: float | None = None
    seconds: float | None = None
    decoder: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    magnitude: str | None = None
    jitter: bool | None = None
    fps: float | None = None
    stride_seconds: float | None = None
    clip_seconds: float | None = None
    grid_seconds: float | None = None
    network: NetworkPart | None = None
    rows: RowsPart | None = None
    clips: ClipsPart | None = None
    crops: CropsPart | None = None
    flow: FlowPart | None = None
    windows: WindowsPart | None = None
    views: ViewsPart | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The recipe in the form in which a store keeps it."""
        values = {name: getattr(self, name) for name in _VALUES}
        recipe = {name: value for name, value in values.items() if value not in (None, "")}
        for name in _PARTS:
            part: Part | None = getattr(self, name)
            recipe |= part.to_json() if part else {}
        return recipe | dict(self.extra)

    @classmethod
    def from_json(cls, recipe: Mapping[str, Any]) -> "FeatureRecipe":
        """The recipe of any store, including stores that were imported or made by an earlier
        version with fewer keys. `to_json` returns the same recipe."""
        extra = dict(recipe)
        names = [name for name in _VALUES if extra.get(name) not in (None, "")]
        if not _is_timed(recipe):
            names = [name for name in names if name not in _TIMES]
        values = {name: extra.pop(name) for name in names}
        parts = {name: part.take(extra) for name, part in _PARTS.items()}
        return cls(**{"stream": "", **values, **parts}, extra=extra)

    @property
    def is_imported(self) -> bool:
        """Whether another tool computed the features."""
        return "imported" in self.extra

    @property
    def has_pixels(self) -> bool:
        """Whether rows are the input of a network: pictures or fields of flow."""
        return self.extractor in _PIXELS

    @property
    def is_sound(self) -> bool:
        """Whether rows are made from the sound track."""
        return "front_end" in self.extra

    @property
    def has_descriptors(self) -> bool:
        """Whether rows are descriptors of trajectories."""
        return "descriptor" in self.extra

    @property
    def is_intermediate(self) -> bool:
        """Whether the store is an intermediate result of another command, which is used only if it
        is requested by name."""
        return self.has_pixels or self.extractor == _FLOW_LENGTHS

    @property
    def uses_opencv(self) -> bool:
        """Whether the numbers can depend on the version of OpenCV."""
        by_opencv = self.flow is not None and self.flow.name in _OPENCV_FLOWS
        follows_points = self.has_descriptors  # through OpenCV's flow
        return self.decoder == "opencv" or by_opencv or follows_points

    @property
    def uses_timm(self) -> bool:
        """Whether the numbers can depend on the version of timm, which some models of transformers
        contain."""
        return str(self.extractor).startswith("timm:") or self.uses_transformers

    @property
    def uses_transformers(self) -> bool:
        """Whether the numbers can depend on the version of transformers."""
        return str(self.extractor).startswith("hf:")

    @property
    def has_own_code(self) -> bool:
        """Whether the network or the stream is defined in a user's file. Its name then consists of
        the file's stem and the name of the object."""
        return "." in str(self.extractor) or "." in str(self.stream)


def network_name(extractor: object, *, is_random: bool) -> str:
    """The name of a network for people: "(random)" follows where it has random weights."""
    return f"{extractor} (random)" if is_random else str(extractor)


def has_random_weights(recipe: Mapping[str, Any]) -> bool:
    """Whether the features of this recipe come from a network with random weights."""
    weights = recipe.get("weights")
    source = weights.get("source") if isinstance(weights, Mapping) else weights
    return isinstance(source, str) and source.split(",")[0] == "random"
