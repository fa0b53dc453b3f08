"""Notes printed before an extraction, about stores that earlier versions made with the same
options, and about stores with videos from other versions of the packages."""

import dataclasses
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from reelbank.data.console import counted, print_lines
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.store.records import identity
from reelbank.data.store.versions import (
    Versions,
    apart,
    current_versions,
    is_inexact,
    that_count,
)
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.images import ASSUMED_FPS
from reelbank.extract.plan import StreamPlan
from reelbank.extract.planned import ExtractionPlan
from reelbank.extract.todo import store_exists


@dataclass(frozen=True)
class EarlierRecipe:
    """The recipe of an earlier version for the same options: how it differs, as text, and the
    options that still give this recipe."""

    recipe: FeatureRecipe
    differences: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def tell_older_stores(plans: ExtractionPlan, dataset: str, found: Container[str]) -> None:
    """Print a note for each new store for which an earlier version made another store with the same
    options. found: the names of streams whose stores need not be written."""
    for plan in plans.streams:
        for path, recipe in zip(plan.paths, plan.recipes, strict=True):
            if store_exists(path) or plan.name in found:
                continue
            for earlier in _earlier_recipes(recipe, plans.lengths, dataset):
                key = identity(recipe.to_json(), dataset)[:8]
                earlier_key = identity(earlier.recipe.to_json(), dataset)[:8]
                older = path.with_name(path.name.replace(key, earlier_key))
                if store_exists(older):
                    print_lines(
                        f"note: {older} was made {', and '.join(earlier.differences)}. Therefore "
                        "these options make a new store. To continue the older store, give "
                        f"{' '.join(earlier.options)}"
                    )


def _earlier_recipes(
    recipe: FeatureRecipe, lengths: StreamPlan | None, dataset: str
) -> Iterator[EarlierRecipe]:
    """The recipes that earlier versions wrote for the options of `recipe`."""
    earlier = [EarlierRecipe(recipe)]
    if not (recipe.preprocessing or {}).get("antialias", True):
        with_antialias = dataclasses.replace(recipe, preprocessing=_smoothed(recipe))
        text = "with antialiasing, although its weights were trained without antialiasing"
        earlier.append(EarlierRecipe(with_antialias, (text,), ("ANTIALIAS=1",)))
    if recipe.image_fps is not None:
        text = (
            f"with {ASSUMED_FPS:g} frames per second for folders of images, which now have "
            f"{recipe.image_fps:g}"
        )
        for other in list(earlier):
            before = dataclasses.replace(other.recipe, image_fps=None)
            if lengths and recipe.magnitude is not None:
                of_lengths = dataclasses.replace(lengths.recipes[0], image_fps=None)
                before = dataclasses.replace(
                    before, magnitude=identity(of_lengths.to_json(), dataset)
                )
            option = f"IMAGE_FPS={ASSUMED_FPS:g}"
            earlier.append(
                EarlierRecipe(before, (*other.differences, text), (*other.options, option))
            )
    yield from earlier[1:]


def _smoothed(recipe: FeatureRecipe) -> Mapping[str, object]:
    assert recipe.preprocessing is not None
    return {name: value for name, value in recipe.preprocessing.items() if name != "antialias"}


def tell_other_versions(writers: Iterable[StoreWriter]) -> None:
    """Print a note for each store that gets more videos and has videos from other versions of the
    packages."""
    for writer in writers:
        now = that_count(current_versions(), writer.recipe)
        others: Counter[Versions] = Counter()
        for versions, videos in writer.versions().items():
            others[that_count(versions, writer.recipe)] += videos
        others.pop(now, None)
        if others:
            *earlier_versions, versions_now = apart([*others, now])
            earlier = " or with ".join(map(str, earlier_versions))
            note = (
                f"note: the features of {counted(others.total(), 'video')} in {writer.path.name} "
                f"were computed with {earlier}; those of new videos are computed with "
                f"{versions_now}. docs/store.md explains which results stay the same. To avoid a "
                "mix of versions, stop this command, and install the earlier versions again or "
                "give another BANK"
            )
            print_lines(note, flush=True)


def tell_inexact(writers: Iterable[StoreWriter]) -> None:
    """Print a note for each store that gets more videos and has videos from a GPU and a version
    whose GPU arithmetic was not exact."""
    for writer in writers:
        device = writer.cost().device
        if is_inexact(device):
            print_lines(
                f"note: the features in {writer.path.name} were computed on {device} by an earlier "
                "version, which resized pictures in float32 and used TF32 in convolutions for "
                "PRECISION=fp32. The features of new videos are computed exactly (docs/store.md). "
                "To avoid a mix, stop this command and give another BANK",
                flush=True,
            )
