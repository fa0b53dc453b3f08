"""The vector that is searched for: of a video of the store, of a video file, or of a text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.files import temporary_folder
from reelbank.data.identity import HUGGINGFACE
from reelbank.data.similarity.vectors import (
    check_features,
    crop_axes,
    mean_vector,
    vector_length,
)
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription
from reelbank.extract.again import options_again
from reelbank.extract.networks.build import EMBEDDING
from reelbank.extract.networks.huggingface.text import text_vector
from reelbank.extract.networks.provenance import Provenance
from reelbank.extract.options import ExtractOptions
from reelbank.fusion.prediction.named_videos import named_videos
from reelbank.fusion.prediction.notes import damage_notes
from reelbank.fusion.prediction.same_features import FILES, extract_again, user_files
from reelbank.fusion.search.options import SearchOptions

_TEXT_MODELS = "a CLIP, SigLIP, X-CLIP or CLAP model of transformers (EXTRACTOR=hf:...)"


@dataclass(frozen=True)
class Query:
    """What is searched for. vector: (D,) float32, of length 1. Either `text` is given, or `video`, a
    path or an id. number: of the video in `store.video_ids`, -1 if it is not a video of the store.
    file: of a video that is not in the store. notes: lines for the user."""

    vector: np.ndarray
    video: str = ""
    text: str = ""
    number: int = -1
    file: Video | None = None
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """In one line."""
        return f"text: {self.text}" if self.text else f"video: {self.video}"


def query_of(store: Store, options: SearchOptions) -> Query:
    """The query that VIDEO or TEXT names. Raises InputError if not exactly one is given, if its vector
    cannot be computed as those of the store were, and if it has no direction."""
    if bool(options.video) == bool(options.text.strip()):
        given = "both" if options.video else "neither"
        raise InputError(
            "give VIDEO=<file or id> or TEXT='a few words', what is searched for "
            f"(expected one of them, got {given})"
        )
    check_features(store)
    query = _of_text(store, options) if options.text.strip() else _of_video(store, options)
    if not query.vector.any():
        raise InputError(
            f"{query.shown}: all its features are 0, so it is not nearer to one video than to another; "
            "search for another video or text"
        )
    return query


def _of_video(store: Store, options: SearchOptions) -> Query:
    if options.video in store:
        return _of_stored(store, options.video)
    if not Path(options.video).expanduser().exists():
        raise InputError(
            f"VIDEO={options.video}: there is no such file, and {store.path.name} contains no video "
            "with this id; give the path of a video, or the id as 'reelbank export' and the result "
            "of a search show it"
        )
    return _of_file(store, options)


def _of_stored(store: Store, video_id: str) -> Query:
    number = next(place for place, name in enumerate(store.ids_when_used) if name == video_id)
    vector = mean_vector(store[video_id], crop_axes(store))
    return Query(vector, video=video_id, number=number)


def _of_file(store: Store, options: SearchOptions) -> Query:
    """Raises InputError if the file cannot be decoded, or the features not be computed again."""
    named = named_videos([options.video])
    if len(named.videos) != 1:
        raise InputError(
            f"VIDEO={options.video}: must be one video (got a folder with {len(named.videos)})"
        )
    # The store of flow lengths that adaptive sampling followed is named after its data set.
    is_adaptive = _recipe_of(store).magnitude is not None
    about = DatasetDescription(store.dataset.name if is_adaptive else FILES)
    (video,) = named.videos
    with temporary_folder("reelbank-search") as folder:
        again = _options_again(store, options, str(folder), about.name)
        path = extract_again(
            store.recipe, named.videos, folder, about=about, options=options, again=again
        )
        with Store.open(path) as made:
            if video.id in made.failures:
                raise InputError(f"VIDEO={options.video}: {made.failures[video.id]}")
            vector = mean_vector(made[video.id], crop_axes(made))
        notes = damage_notes([path], {video.id})
    return Query(vector, video=options.video, file=video, notes=(*named.notes, *notes))


def _of_text(store: Store, options: SearchOptions) -> Query:
    """Raises InputError if the rows of the store are not in one space with text, or the weights of the
    model are not those that computed them."""
    recipe = _recipe_of(store)
    weights = Provenance.from_json(recipe.weights)
    extractor = str(recipe.extractor or "")
    if not extractor.startswith(HUGGINGFACE):
        raise InputError(
            f"TEXT= needs features of {_TEXT_MODELS}, because the text is mapped into their space, but "
            f"{store.path.name} has features of {extractor or recipe.stream}, which has no text "
            "tower; search with VIDEO=, or extract with such a model"
        )
    if weights.kind == "random":
        raise InputError(
            f"TEXT= needs a trained model, but the weights of {extractor} in {store.path.name} "
            "are random"
        )
    if recipe.node != EMBEDDING:
        raise InputError(
            "TEXT= needs features in the joint space of the model, which are its output, the node "
            f"'{EMBEDDING}', but {store.path.name} has those of the node {recipe.node}; extract without "
            "NODE= and AT=, or search with VIDEO="
        )
    again = _options_again(store, options, options.bank, FILES)
    vector = text_vector(again.extractor, options.text)
    if len(vector) != vector_length(store):
        raise InputError(
            f"TEXT= needs features in the joint space of the model, whose vectors have {len(vector)} "
            f"numbers, but the rows of {store.path.name} have {vector_length(store)}; extract again, or "
            "search with VIDEO="
        )
    return Query(mean_vector(vector[None]), text=options.text)


def _recipe_of(store: Store) -> FeatureRecipe:
    """Raises InputError for a recipe that no version of reelbank has written."""
    try:
        return FeatureRecipe.from_json(store.recipe)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{store.path}: the recipe of the features cannot be read ({type(error).__name__}: {error}); "
            "it was changed, or was not written by 'reelbank extract'. Extract again"
        ) from None


def _options_again(
    store: Store, options: SearchOptions, bank: str, dataset_name: str
) -> ExtractOptions:
    """The options that compute features exactly as those of the store. Raises InputError as
    `extract.again.options_again`, also for other weights than those of the store (by SHA-256)."""
    files = user_files(options)
    try:
        return options_again(store.recipe, files, bank, dataset_name, options.device)
    except InputError as error:
        raise InputError(f"{store.path.name}: {error}") from None
