"""Where the weights of a network come from, as recipes record it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reelbank.data.errors import InputError
from reelbank.data.store.weights import PublishedWeights

# "head": the embeddings of a trained head; "unknown": written by another tool or an early version
Kind = Literal["none", "random", "file", "published", "builder", "trained", "head", "unknown"]

NO_WEIGHTS_SOURCE = "none"
BUILDER_SOURCE = "the builder's own"

# How "source" is written for each kind that has details. from_json reads the first that matches:
# timm's form comes before torchvision's, which would match it too.
_FORMS: tuple[tuple[Kind, str], ...] = (
    ("random", r"random, seed (?P<seed>0|[1-9][0-9]{0,19})"),
    ("file", r"file (?P<name>.+)"),
    ("published", r"pretrained (?P<publisher>timm) (?P<name>\S+) (?P<tag>\S+)"),
    ("published", r"pretrained (?P<publisher>hf) (?P<name>.+)"),
    ("published", r"pretrained (?P<name>[^\s.]+)\.(?P<tag>\S+)"),
    ("trained", r"trained here, (?P<name>.+)"),
    ("head", r"head, (?P<name>.+)"),
)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where weights come from, and what identifies them.

    name: the file, without its folder; the published weights (a torchvision enum or a timm model);
        or the folder of the training run
    publisher, tag: "torchvision", "timm" or "hf", and which of its weights for the network
    seed: random weights
    width: share of the network's units; recorded for weights trained here
    preset, batch_norm_eps: only where they differ from the network's own
    family, saw: of weights trained here, the hash that all splits share and the videos used for
        training, as `heads/runs/leak_guard.py` reads them
    sha256: of all parameters and buffers; "" until pretrained weights are downloaded
    code_sha256: of the user's file that defines the network, or of the configuration of a model of
        transformers
    revision, license: as the publisher states them; for the user only, not part of recipes
    """

    kind: Kind
    name: str = ""
    publisher: str = ""
    tag: str = ""
    seed: int = 0
    width: float | None = None
    preset: str = ""
    batch_norm_eps: float | None = None
    family: str = ""
    saw: Mapping[str, Any] | None = None
    sha256: str | None = None
    code_sha256: str = ""
    revision: str = ""
    license: str = ""

    @classmethod
    def without_weights(cls) -> "Provenance":
        """Features computed without a network."""
        return cls(kind="none")

    @classmethod
    def random(cls, seed: int) -> "Provenance":
        return cls(kind="random", seed=seed)

    @classmethod
    def of_file(cls, path: Path) -> "Provenance":
        return cls(kind="file", name=path.name)

    @classmethod
    def of_torchvision(cls, weights: Any) -> "Provenance":
        """weights: a member of a torchvision weights enum."""
        name, _, tag = str(weights).partition(".")
        return cls(kind="published", publisher="torchvision", name=name, tag=tag)

    @classmethod
    def of_timm(cls, name: str, tag: str | None) -> "Provenance":
        return cls(kind="published", publisher="timm", name=name, tag=tag or "default")

    @classmethod
    def of_transformers(cls, name: str) -> "Provenance":
        """name: of the model on the hub (owner/name), or of its folder."""
        return cls(kind="published", publisher="hf", name=name)

    @classmethod
    def of_builder(cls) -> "Provenance":
        """Weights that the user's own function has set."""
        return cls(kind="builder")

    @classmethod
    def of_head(cls, run: str, saw: Mapping[str, Any]) -> "Provenance":
        """Embeddings of a trained head; run: the name of its folder."""
        return cls(kind="head", name=run, saw=saw)

    @property
    def source(self) -> str:
        """The origin as one short phrase: "random, seed 4", "file x.pth"."""
        published = {
            "timm": f"timm {self.name} {self.tag}",
            "hf": f"hf {self.name}",
        }.get(self.publisher, f"{self.name}.{self.tag}")
        phrases: dict[Kind, str] = {
            "none": NO_WEIGHTS_SOURCE,
            "random": f"random, seed {self.seed}",
            "file": f"file {self.name}",
            "published": f"pretrained {published}",
            "builder": BUILDER_SOURCE,
            "trained": f"trained here, {self.name}",
            "head": f"head, {self.name}",
            "unknown": self.name,
        }
        return phrases[self.kind]

    @property
    def brief_source(self) -> str:
        """The origin for a table: without the seed, and without the folder of a training run."""
        shorter: dict[Kind, str] = {"random": "random", "trained": "trained here", "head": "head"}
        return shorter.get(self.kind, self.source or NO_WEIGHTS_SOURCE)

    @property
    def published(self) -> PublishedWeights | None:
        """What the user should know about published weights; None for others."""
        if self.kind != "published":
            return None
        return PublishedWeights(
            name=self.source.removeprefix("pretrained "),
            revision=self.revision,
            license=self.license,
            sha256=self.sha256 or "",
        )

    @property
    def option(self) -> str:
        """The WEIGHTS value that gives these weights again; "" where WEIGHTS stays empty.

        Raises InputError for a file or a folder, whose path is not recorded, and for an unknown
        origin.
        """
        options: dict[Kind, str] = {
            "none": "",
            "random": "random",
            "published": "pretrained",
            "builder": "own",
        }
        if self.kind not in options:
            raise InputError(
                f"the recipe does not say where its network's weights can be found ('{self.source}'); extract and train again"
            )
        return options[self.kind]

    def to_json(self) -> dict[str, Any]:
        """The "weights" entry of a recipe."""
        entries = {
            "source": self.source,
            "width": self.width,
            "preset": self.preset or None,
            "batch_norm_eps": self.batch_norm_eps,
            "family": self.family or None,
            "saw": self.saw,
            "sha256": self.sha256,
            "code_sha256": self.code_sha256 or None,
        }
        return {key: value for key, value in entries.items() if value is not None}

    @classmethod
    def from_json(cls, stored: object) -> "Provenance":
        """Read the "weights" entry of any recipe; what is not a description of weights, such as the
        one word that early stores hold, becomes kind "unknown"."""
        if not isinstance(stored, Mapping):
            return cls(kind="unknown", name="" if stored is None else str(stored))
        source, saw = stored.get("source"), stored.get("saw")
        return cls(
            **_read_source("" if source is None else str(source)),
            width=_number(stored, "width"),
            preset=str(stored.get("preset", "")),
            batch_norm_eps=_number(stored, "batch_norm_eps"),
            family=str(stored.get("family", "")),
            saw=saw if isinstance(saw, Mapping) else None,
            sha256=str(stored["sha256"]) if "sha256" in stored else None,
            code_sha256=str(stored.get("code_sha256", "")),
        )


def _read_source(source: str) -> dict[str, Any]:
    """The fields of a Provenance that its `source` phrase holds."""
    if source == NO_WEIGHTS_SOURCE:
        return {"kind": "none"}
    if source == BUILDER_SOURCE:
        return {"kind": "builder"}
    for kind, form in _FORMS:
        if match := re.fullmatch(form, source):
            fields: dict[str, Any] = {"kind": kind, **match.groupdict()}
            if kind == "random":
                fields["seed"] = int(fields["seed"])
            if kind == "published":
                fields.setdefault("publisher", "torchvision")
            return fields
    return {"kind": "unknown", "name": source}


def _number(stored: Mapping[str, Any], key: str) -> float | None:
    value = stored.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
