"""Frames are prepared as the weights' own code prepares them: torchvision's and timm's transforms,
for every family of networks."""

import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from test_extract import ours, run  # noqa: F401
from tiny_networks import PAUSING
from torchvision import models
from torchvision.transforms._presets import ImageClassification, VideoClassification

from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import identity
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.fill import with_defaults
from reelbank.extract.flow.methods import build_flow
from reelbank.extract.networks.libraries.timm_networks import timm_preset
from reelbank.extract.networks.libraries.torchvision_networks import torchvision_preset
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import resize, take_crops
from reelbank.extract.plan import plan_streams


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """(4, 3, 120, 160) uint8: shapes with a little noise."""
    rng = np.random.default_rng(0)
    rough = torch.from_numpy(rng.random((4, 3, 8, 10), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(rough, (120, 160), mode="bicubic").clamp(0, 1) * 249
    return smooth.to(torch.uint8) + torch.from_numpy(
        rng.integers(0, 6, (4, 3, 120, 160), dtype=np.uint8)
    )


def prepared(frames: torch.Tensor, how: Preprocessing) -> torch.Tensor:
    """(n, 3, H, W) uint8 -> (n, 3, h, w) float32, as a network gets them."""
    crops = take_crops(resize(frames, how.resize), how.crop_px, 1)[:, 0].float()
    mean, std = (torch.tensor(value).view(3, 1, 1) * 255 for value in (how.mean, how.std))
    return (crops - mean) / std


def off(found: torch.Tensor, expected: torch.Tensor, how: Preprocessing) -> torch.Tensor:
    """Differences in grey levels; the channels are the axis of three."""
    assert found.shape == expected.shape
    axis = found.shape.index(3)
    std = torch.tensor(how.std).view([3 if one == axis else 1 for one in range(found.ndim)])
    return ((found - expected) * std * 255).abs()


def picture(frames: torch.Tensor) -> Image.Image:
    return Image.fromarray(frames[0].permute(1, 2, 0).numpy())


def test_every_preset_of_torchvision(clip):
    """Images within a grey level or two of PIL's, whose weights have more bits; clips within one,
    for torchvision rounds float32 where we sum integers. Presets that are the same in all are
    looked at once."""
    seen = {}
    for name in models.list_models():
        for weights in models.get_model_weights(name):
            own = weights.transforms()
            if isinstance(own, ImageClassification | VideoClassification):
                seen[type(own).__name__, *map(str, vars(own).values()), repr(own)] = (weights, own)
    assert len(seen) > 20
    for weights, own in seen.values():
        how = torchvision_preset(weights)
        assert how is not None
        if isinstance(own, VideoClassification):
            assert not how.antialias
            differences = off(prepared(clip, how).permute(1, 0, 2, 3), own(clip), how)
            assert differences.max() < 1.01 and differences.mean() < 0.3, weights
        else:
            differences = off(prepared(clip[:1], how)[0], own(picture(clip)), how)
            assert differences.max() < 2.01 and differences.mean() < 0.03, weights


def test_every_kind_of_preset_of_timm(clip):
    """Of all the pretrained configurations those that differ in what they do, up to 300 pixels, and
    of larger ones each way to crop; within two grey levels of PIL's."""
    seen = {}
    for name in timm.list_models(pretrained=True):
        config = timm.get_pretrained_cfg(name).to_dict()
        own = timm.data.resolve_data_config(pretrained_cfg=config)
        side_px = max(own["input_size"])
        key = (
            own["crop_mode"],
            own["interpolation"],
            own["crop_pct"],
            own["mean"] if side_px <= 300 else "large",
        )
        if own["crop_pct"] <= 1:
            seen.setdefault(key if side_px <= 300 else key[:2], (name, config, own))
    # "border" is in it too, from the version of timm on that has a network with it.
    assert {key[0] for key in seen} >= {"center", "squash"} and len(seen) > 30
    for name, config, own in seen.values():
        how = timm_preset(config)
        expected = timm.data.create_transform(**own, is_training=False)(picture(clip))
        differences = off(prepared(clip[:1], how)[0], expected, how)
        assert differences.max() < 2.01 and differences.mean() < 0.04, name


def planned(extractor: str, **options) -> tuple[Path, dict]:
    """The path and the recipe of the store that these options make."""
    wanted = with_defaults(
        ExtractOptions(**{"dataset": "toy", "weights": "random", "extractor": extractor} | options)
    )
    (plan,) = plan_streams(
        wanted, "toy", build_flow("dis", "cpu") if "flow" in wanted.stream else None
    )
    return plan.paths[0], plan.recipes[0].to_json()


SMALL = {"clip": "2", "resize": "40", "size": "32"}


@pytest.mark.parametrize(
    ("extractor", "options", "hashed"),
    [
        ("timm:resnet10t", {}, "35d91e5b4fec76ec662d9366cf975d446917408dd4bbdd7f3cdc898b908aec25"),
        ("torchvision:r3d_18", SMALL, "1c1578d9aeea9c31"),
        # The hash from before presets set antialias=0; presets do not apply to flow
        ("torchvision:r3d_18", SMALL | {"antialias": "1"}, "a23368f86a97c420"),
        ("torchvision:r3d_18", SMALL | {"stream": ("flow",)}, "3eef68249d0f3f3f"),
    ],
)
def test_only_rgb_stores_of_torchvisions_video_networks_have_another_identity(
    extractor, options, hashed
):
    _, recipe = planned(extractor, **options)
    assert identity({**recipe, "weights": {}}, "toy").startswith(hashed)


VIDEO = (
    "extract",
    "DATASET=folder",
    "ROOT=videos",
    "CLASSES=left",
    "EXTRACTOR=torchvision:r3d_18",
    "WEIGHTS=random",
)
VIDEO = (*VIDEO, "CROPS=1", "T=1", "CLIP=4", "RESIZE=32", "SIZE=32")


def test_the_older_store_is_named_before_a_new_one_is_made(ours, capsys):  # noqa: F811
    def notes() -> list[str]:
        return [
            line for line in capsys.readouterr().out.splitlines() if line.startswith("note: bank")
        ]

    for path in sorted(Path("videos", "left").iterdir())[2:]:
        path.unlink()
    assert run(*VIDEO, "ANTIALIAS=1") == 0  # what earlier versions made
    (older,) = Path("bank", "stores").glob("*.h5")
    assert notes() == []
    assert run(*VIDEO) == 0
    (note,) = notes()
    assert older.name in note and "antialiasing" in note and "ANTIALIAS=1" in note
    (newer,) = set(Path("bank", "stores").glob("*.h5")) - {older}
    assert run(*VIDEO) == 0  # the new one is there
    assert notes() == []
    with Store.open(older) as smoothed, Store.open(newer) as followed:
        assert (
            "antialias" not in smoothed.recipe["preprocessing"]
            and followed.recipe["preprocessing"]["antialias"] is False
        )
        assert not np.array_equal(smoothed.load()[0], followed.load()[0])
        for store in (smoothed, followed):  # a run of either is applied as it was trained
            again = options_again(store.recipe, UserFiles(), "again", "folder", "cpu")
            assert again.antialias == str(int(store is smoothed))


def test_recipes_of_pictures_brought_to_height_and_width_are_made_again(tmp_path):
    """Of s3d and timm's squashed pictures, whose height and width are equal: not a short side of as
    much."""
    path = tmp_path / "own.py"
    path.write_text(
        PAUSING.replace(
            "input_size = (3, 32, 32)", "input_size = (3, 32, 32)\n    resize_px = (40, 40)"
        )
    )
    _, recipe = planned(f"{path}:build", weights="own")
    assert recipe["preprocessing"]["resize_px"] == [40, 40]
    again = options_again(recipe, UserFiles(extractors=(f"{path}:build",)), "again", "toy", "cpu")
    assert again.resize == "40x40"


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in a file that is named as torchvision's first ones are."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2-b0353104.pth"
    torch.save(models.mobilenet_v2(weights=None).state_dict(), path)
    return path


def test_a_file_has_the_preset_that_is_named_and_the_assumed_one_is_told(mobilenet, capsys):
    path, assumed = planned("torchvision:mobilenet_v2", weights=str(mobilenet), resize="", size="")
    told = capsys.readouterr().out
    assert assumed["preprocessing"]["resize_px"] == 232 and "preset" not in assumed["weights"]
    assert "preprocessing of IMAGENET1K_V2 (resize 232, crop 224, bilinear)" in told
    assert (
        "the name of the file is that of the published weights IMAGENET1K_V1 (resize 256, crop 224, bilinear); "
        "if the file contains these weights, give PRESET=IMAGENET1K_V1" in told
    )

    other, named = planned(
        "torchvision:mobilenet_v2", weights=str(mobilenet), preset="IMAGENET1K_V1"
    )
    assert (
        named["preprocessing"]["resize_px"] == 256 and named["weights"]["preset"] == "IMAGENET1K_V1"
    )
    assert "using the preprocessing of IMAGENET1K_V1 (resize 256" in capsys.readouterr().out
    assert (
        planned("torchvision:mobilenet_v2", weights=str(mobilenet), preset="IMAGENET1K_V2")[0]
        == path
        != other
    )

    again = options_again(named, UserFiles(weights=(str(mobilenet),)), "again", "toy", "cpu")
    assert again.preset == "IMAGENET1K_V1"


def test_presets_of_timm_are_its_tags(tmp_path, capsys):
    path = tmp_path / "resnet10t.pth"
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), path)
    _, assumed = planned("timm:resnet18", weights=str(path), resize="", size="")
    told = capsys.readouterr().out
    usual = timm.get_pretrained_cfg("resnet18")
    assert (
        f"preprocessing of {usual.tag} " in told
        and "give PRESET to use another preprocessing" in told
    )
    assert assumed["preprocessing"]["resize_px"] == math.floor(
        usual.input_size[-1] / usual.crop_pct
    )
    _, named = planned("timm:resnet18", weights=str(path), preset="tv_in1k")
    assert (
        named["preprocessing"]["resize_px"] == 256
        and named["preprocessing"]["interpolation"] == "bilinear"
    )
    assert named["weights"]["preset"] == "tv_in1k"


@pytest.mark.parametrize(
    ("extractor", "weights", "preset", "said"),
    [
        (
            "torchvision:resnet18",
            "random",
            "IMAGENET1K_V9",
            r"must be a preset of resnet18 \(IMAGENET1K_V1",
        ),
        ("timm:resnet18", "random", "v9", "must be a preset of resnet18 .*tv_in1k"),
        (
            "torchvision:resnet18",
            "pretrained",
            "IMAGENET1K_V1",
            "pretrained weights have their own",
        ),
        (
            "i3d",
            "random",
            "IMAGENET1K_V1",
            "networks of torchvision and timm have presets .got i3d.",
        ),
    ],
)
def test_presets_that_are_not_there_are_refused(extractor, weights, preset, said):
    with pytest.raises(InputError, match=f"PRESET={preset}: .*{said}"):
        planned(extractor, weights=weights, preset=preset)
