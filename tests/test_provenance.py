"""The origin of weights, and its form in recipes."""

import json
from pathlib import Path
from typing import Any

import pytest
from torchvision.models import ResNet18_Weights

from reelbank.data.errors import InputError
from reelbank.extract.networks.provenance import Provenance

SAW = {"dataset": "toy", "split": "2", "videos": "", "validation_videos": ""}
TRAINED = Provenance(kind="trained", name="x-rgb-0a-split2", width=0.5, family="0a", saw=SAW)

# What recipes hold, as text: order of keys included.
WRITTEN = [
    (Provenance.without_weights(), '{"source": "none"}'),
    (Provenance.random(4), '{"source": "random, seed 4"}'),
    (Provenance.of_file(Path("a folder/my w.pth")), '{"source": "file my w.pth"}'),
    (Provenance.of_builder(), '{"source": "the builder\'s own"}'),
    (
        Provenance.of_torchvision(ResNet18_Weights.IMAGENET1K_V1),
        '{"source": "pretrained ResNet18_Weights.IMAGENET1K_V1"}',
    ),
    (
        Provenance.of_timm("resnet50.a1_in1k", "a1_in1k"),
        '{"source": "pretrained timm resnet50.a1_in1k a1_in1k"}',
    ),
    (Provenance.of_timm("resnet10t", None), '{"source": "pretrained timm resnet10t default"}'),
    (Provenance.of_head("gru-12", SAW), f'{{"source": "head, gru-12", "saw": {json.dumps(SAW)}}}'),
    (
        TRAINED,
        f'{{"source": "trained here, x-rgb-0a-split2", "width": 0.5, "family": "0a", "saw": {json.dumps(SAW)}}}',
    ),
    (
        Provenance(
            kind="file", name="w", preset="V1", batch_norm_eps=1e-5, sha256="", code_sha256="c"
        ),
        '{"source": "file w", "preset": "V1", "batch_norm_eps": 1e-05, "sha256": "", "code_sha256": "c"}',
    ),
]


@pytest.mark.parametrize(("origin", "text"), WRITTEN)
def test_recipes_keep_their_form_and_are_read_back(origin: Provenance, text: str) -> None:
    assert json.dumps(origin.to_json()) == text
    assert Provenance.from_json(json.loads(text)) == origin


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("random", "random"),  # a store of the first version
        (None, ""),
        (3, "3"),
        ({}, ""),
        ({"source": 5, "saw": 5, "width": "x"}, "5"),
        ({"source": "random, seed 007"}, "random, seed 007"),
        ({"source": "pretrained"}, "pretrained"),
    ],
)
def test_what_describes_no_weights_is_unknown(stored: Any, name: str) -> None:
    assert Provenance.from_json(stored) == Provenance(kind="unknown", name=name)


def test_the_option_that_gives_weights_again() -> None:
    options = [origin.option for origin, _ in WRITTEN[:2] + WRITTEN[3:7]]
    assert options == ["", "random", "own", "pretrained", "pretrained", "pretrained"]
    with pytest.raises(InputError, match=r"does not say .*'file my w.pth'.*; extract and train"):
        _ = WRITTEN[2][0].option


def test_tables_name_the_origin_in_brief() -> None:
    brief = [origin.brief_source for origin, _ in WRITTEN[:3]]
    assert brief == ["none", "random", "file my w.pth"]
    assert TRAINED.brief_source == "trained here"
    assert Provenance.from_json(None).brief_source == "none"
