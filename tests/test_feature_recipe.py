"""Feature recipes are read and written without a change, whatever they contain."""

import json
from pathlib import Path

import pytest

from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import canonical
from reelbank.data.store.reader import Store

GOLDEN = Path(__file__).parent / "golden"
ODD: list[dict[str, object]] = [
    {},
    {"stream": ""},
    {"stream": None, "steps": None},
    {"stream": "rgb", "steps": 5},  # half of a part
    {"stream": "rgb", "steps": None, "sampling": "all"},
    {"stream": "flow", "flow": {"method": "dis"}},  # from before bound_px was written
    {"stream": "flow", "flow": "dis", "bound_px": 20.0},
    {"stream": "rgb", "seconds": None, "magnitude": "", "crops": 1, "crops_kept": False},
    {"stream": "rgb", "imported": {"file": "a.h5"}, "times": "timestamps"},
    {"stream": "rgb", "imported": {}, "fps": 25, "stride_seconds": 0.5},
    {"stream": "rgb", "fps": "PAL", "clip_seconds": [2]},
    {"stream": 5, "extractor": ["a"], "weights": "random", "unknown": {"a": [1, None]}},
]


@pytest.mark.parametrize("recipe", ODD, ids=str)
def test_any_recipe_is_written_as_it_was_read(recipe: dict[str, object]) -> None:
    read = FeatureRecipe.from_json(recipe)
    assert read.to_json() == recipe
    assert canonical(read.to_json()) == canonical(recipe)
    assert not read.is_intermediate and not read.uses_opencv  # properties hold for any recipe
    assert isinstance(read.has_own_code, bool) and isinstance(read.uses_timm, bool)


def test_recipes_of_earlier_versions_are_written_as_they_were_read() -> None:
    for path in sorted(GOLDEN.glob("*/stores/*.h5")):
        with Store.open(path) as store:
            assert canonical(FeatureRecipe.from_json(store.recipe).to_json()) == canonical(
                store.recipe
            )


def test_a_recipe_says_what_it_is() -> None:
    def read(**values: object) -> FeatureRecipe:
        return FeatureRecipe.from_json(values)

    assert read(stream="rgb", extractor="pixels").is_intermediate
    assert read(stream="magnitude", extractor="magnitude").is_intermediate
    assert not read(stream="idt", extractor="trajectories").is_intermediate
    assert read(stream="idt", descriptor={}).has_descriptors
    assert read(stream="idt", descriptor={}).uses_opencv
    assert read(stream="flow", flow={"method": "dis"}, bound_px=20.0).uses_opencv
    assert not read(stream="flow", flow={"method": "tvl1"}, bound_px=20.0).uses_opencv
    assert read(stream="audio", front_end="log-mel").is_sound
    assert read(stream="mine.Stream", extractor="torchvision:resnet18").has_own_code
    assert read(stream="rgb", imported={}).is_imported
    assert json.dumps(read(stream="rgb").to_json()) == '{"stream": "rgb"}'


def test_only_our_own_recipes_have_a_timeline() -> None:
    clips = {"clip_frames": 1, "grid_frames": 1, "stride_frames": 5}
    ours = FeatureRecipe.from_json({"stream": "rgb", "fps": 10.0, **clips})
    assert ours.fps == 10 and not ours.extra
    for other in ({"imported": {}}, {"fps": "10"}, {"fps": True}, {"fps": -1.0}):
        recipe = {"stream": "rgb", "fps": 10.0, **clips} | other
        read = FeatureRecipe.from_json(recipe)
        assert read.fps is None and read.to_json() == recipe
