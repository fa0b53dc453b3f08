"""What the publisher of a network's weights says about them: name, revision and license. A store
keeps it for its users, next to its recipe; it is not part of the identity."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from reelbank.data.console import printable

_LONGEST = 300  # characters of a text in an untrusted store
_MOST = 8  # weights of one store: those of its network and of its optical flow
_COMMIT = re.compile("[0-9a-f]{40}")
# Creative Commons' licenses with NC, as a name or a URL, those whose names say it, and NVIDIA's.
_NAMED_NON_COMMERCIAL = re.compile(
    r"\bby-nc\b|\bnon-?commercial\b|\bresearch-((use|purposes?)-)?only\b|\bnscl(-?v1)?\b"
)
# Licenses that permit only research or non-commercial use, as timm and torchvision name them:
# Apple's for research models, Meta's for SEER, and that of SWAG, which is CC BY-NC 4.0.
_OTHER_NON_COMMERCIAL = (
    "apple-amlr",
    "seer-license",
    "https://github.com/facebookresearch/swag/blob/main/license",
)


def is_non_commercial(license: str) -> bool:
    """Whether a license is known to forbid commercial use. license: its name as timm, torchvision or
    the Hugging Face hub states it, in any spelling of its spaces."""
    name = re.sub(r"[\s_-]+", "-", license.casefold().strip())
    return name in _OTHER_NON_COMMERCIAL or bool(_NAMED_NON_COMMERCIAL.search(name))


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights that somebody has published.

    name: of the weights at their publisher; revision: commit or file, "" if unknown; license: as the
    publisher states it, "" if it does not; sha256: of all parameters and buffers, "" if unknown
    """

    name: str
    revision: str = ""
    license: str = ""
    sha256: str = ""

    @property
    def is_non_commercial(self) -> bool:
        return is_non_commercial(self.license)

    @property
    def license_text(self) -> str:
        """'license mit', 'license cc-by-nc-4.0 (non-commercial)' or 'license not stated'."""
        if not self.license:
            return "license not stated"
        return f"license {self.license}{' (non-commercial)' if self.is_non_commercial else ''}"

    def __str__(self) -> str:
        words = [self.name]
        revision = self.revision[:12] if _COMMIT.fullmatch(self.revision) else self.revision
        words += [f"revision {revision}"] if revision else []
        words += [self.license_text]
        words += [f"SHA-256 {self.sha256[:16]}"] if self.sha256 else []
        return printable(", ".join(words))

    def to_json(self) -> dict[str, str]:
        """The form in a store; unknown values are left out."""
        return {name: text for name, text in asdict(self).items() if text}

    @classmethod
    def from_json(cls, document: object) -> Self | None:
        """From an untrusted store; None if there is no name. Other values than short texts are
        left out."""
        if not isinstance(document, Mapping):
            return None
        texts = {field.name: document.get(field.name) for field in fields(cls)}
        short = {
            name: text
            for name, text in texts.items()
            if isinstance(text, str) and len(text) <= _LONGEST
        }
        return cls(**short) if short.get("name") else None


def recorded_weights(written: Mapping[str, Any]) -> tuple[PublishedWeights, ...]:
    """The weights that `written` of an untrusted file records; () if it records none."""
    documents = written.get("weights")
    if not isinstance(documents, Sequence) or isinstance(documents, str):
        return ()
    read = [PublishedWeights.from_json(document) for document in documents[:_MOST]]
    return tuple(weights for weights in read if weights)


def weights_to_json(weights: Sequence[PublishedWeights]) -> dict[str, list[dict[str, str]]]:
    """The entry in `written` of a file; {} without published weights."""
    return {"weights": [each.to_json() for each in weights]} if weights else {}
