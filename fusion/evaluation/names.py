"""Names of models in tables and messages, made from their recipes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reelbank.data.feature_recipe import network_name
from reelbank.data.identity import signature

JOINED = ("fused", "svm")  # values of `head` for runs that combine other runs


def title(recipe: Mapping[str, Any]) -> str:
    """The name of the head, or for a fusion how it combines its members."""
    if recipe.get("head") not in JOINED:
        return str(recipe.get("head", ""))
    names = [title(member) for member in recipe["members"]]
    members = ", ".join(names) if len(set(names)) > 1 else f"{len(names)} {names[0]}"
    if recipe["head"] == "svm":
        return f"svm on {members}"
    combined = f"{recipe['how']} of {members}"
    weights = recipe["weights"]
    if weights == "searched":
        return f"{combined} (weights searched)"
    if len(set(weights)) > 1:
        return f"{combined} ({' '.join(f'{weight:g}' for weight in weights)})"
    return combined


def features(recipe: Mapping[str, Any], random_networks: Collection[str] = ()) -> str:
    """The model's input, which is the stream and the extractor. random_networks: the extractors
    with random weights, which are marked."""
    extractors = []
    for name in str(recipe.get("extractor", "")).split("+"):
        # an extractor may be the path of a backbone file, whose last part is the name
        last = name.rpartition("/")[2]
        extractors.append(network_name(last, is_random=name in random_networks))
    words = (str(recipe.get("stream", "")), "+".join(dict.fromkeys(extractors)))
    return " ".join(filter(None, words))


def flattened(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted name. For example, {"training": {"lr": 1}} becomes {"training.lr":
    1}."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def short_value(value: Any) -> str:
    """The value of an option for use in a label. Hashes are cut to eight digits."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return signature({"value": value})[:8]
        return " ".join(map(str, value))
    text = str(value)
    return text[:8] if len(text) == 64 else text
