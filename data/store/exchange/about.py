"""What an export says about all of its videos, as JSON: the recipe of the features and the data
set."""

from typing import Any, NamedTuple

from reelbank.data.identity import canonical
from reelbank.data.store.file.about import check_dataset, parse_json, require
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription

FORMAT = "reelbank export 1"


class ExportAbout(NamedTuple):
    """The recipe of the features, and the data set."""

    recipe: dict[str, Any]
    dataset: DatasetDescription


def about_text(store: Store) -> str:
    """The JSON of a store, in ASCII."""
    document = {"format": FORMAT, "recipe": store.recipe, "dataset": store.dataset.to_json()}
    return canonical(document)


def parse_export_about(text: str | bytes) -> ExportAbout:
    """The recipe and the data set that an untrusted export names. Raises UnsafeFile, and InputError
    for a class that is not allowed."""
    document = parse_json(text)
    require(
        isinstance(document, dict) and document.get("format") == FORMAT,
        f"its description must have the format {FORMAT!r}; a newer version of reelbank may have "
        "written it",
    )
    recipe, dataset = document.get("recipe"), document.get("dataset")
    require(isinstance(recipe, dict), "its description must contain the recipe of the features")
    check_dataset(dataset)
    described = DatasetDescription.from_json(dataset)
    described.check_classes()
    return ExportAbout(recipe, described)
