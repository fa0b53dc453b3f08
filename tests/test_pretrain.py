"""Training of backbones: crops and flips, which videos are learned from, and equal results after
kills and repetitions."""

import csv
import dataclasses
import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_networks import LAYERED
from torch import nn

from reelbank.data.banks import Banks
from reelbank.data.datasets import toy_drawing
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.extract.networks.backbones import motion_cnn
from reelbank.extract.networks.preprocessing import Preprocessing
from reelbank.extract.networks.trained import (
    family_of,
    find_weights,
    load_weights,
    read_recipe,
)
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.boxes import Box, boxes, centre, crop_sizes
from reelbank.extract.run import extract
from reelbank.heads.pretraining.augment import augmented
from reelbank.heads.pretraining.inputs import pixels_extraction
from reelbank.heads.pretraining.network import SegmentNetwork, freeze_before
from reelbank.heads.pretraining.plan import PretrainOptions, with_defaults
from reelbank.heads.pretraining.pretrain import pretrain, pretrain_on
from reelbank.heads.pretraining.snippets import Crops, fixed_batches, random_rows, training_batches
from reelbank.heads.runs.leak_guard import hash_text
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are tiny


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    (tmp_path / "tiny.py").write_text(LAYERED)
    return f"{tmp_path / 'tiny.py'}:build"


def make_pixels(
    bank: Path,
    changed: tuple[str, ...] = (),
    flow: bool = False,
    groups: int = 5,
    dtype: Any = np.uint8,
    first_tested: int = 0,
) -> Path:
    """2 classes x `groups` groups x 2 clips of 4 rows, 20 x 24 pixels; "up" is brighter above,
    "down" below. Split 1 tests group `first_tested`, split 2 the next. `changed`: ids whose pixels
    are other ones."""
    rng = np.random.default_rng(0)
    dataset = DatasetDescription(name="made", classes=["down", "up"], splits=["1", "2"], coarse={})
    recipe: dict[str, Any] = {"stream": "flow" if flow else "rgb", "extractor": "pixels"}
    recipe |= {"flow": {"method": "dis", "preset": "medium"}, "bound_px": 20.0} if flow else {}
    videos = []
    with StoreWriter(bank / "stores" / "made-pixels.h5", recipe, dataset) as writer:
        for label in dataset.classes:
            for group in range(groups):
                for clip in range(2):
                    values = rng.integers(0, 160, (4, 4 if flow else 3, 20, 24))
                    values[..., 10:, :] += 90 * (label == "down")
                    values[..., :10, :] += 90 * (label == "up")
                    name = f"{label}/g{group}_c{clip}"
                    values = 255 - values if name in changed else values
                    parts = [
                        "test" if group == first_tested + split else "train" for split in range(2)
                    ]
                    videos.append(
                        StoredVideo(id=name, label=label, group=f"g{group}", parts=parts, source={})
                    )
                    writer.add(videos[-1], values.astype(dtype), np.arange(4.0))
        assert writer.finish(videos)
    return writer.path


def options_for(bank: Path, tiny: str, **changes: Any) -> PretrainOptions:
    quick: dict[str, Any] = {
        "dataset": "folder",
        "stream": "rgb",
        "epochs": 3,
        "batch": 6,
        "lr": 0.01,
        "device": "cpu",
    }
    return PretrainOptions(bank=str(bank), extractor=tiny, **(quick | changes))


def pretrained(bank: Path, tiny: str, **changes: Any) -> list[Path]:
    """Train on the made pixels of `bank`; the folders that are new."""
    before = set((bank / "weights").glob("*"))
    if not (bank / "stores").exists():
        make_pixels(bank)
    with Store.open(bank / "stores" / "made-pixels.h5") as store:
        assert pretrain_on(store, options_for(bank, tiny, **changes)) == 0
    return sorted(set((bank / "weights").glob("*")) - before)


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]


def checkpoint(folder: Path) -> bytes:
    return (folder / "checkpoint.safetensors").read_bytes()


def test_jitter_cuts_tsns_sizes_and_places() -> None:
    sides = (256, 224, 192, 168)  # int(256 x scale): the short side's, whatever the long one is
    near = [(h, w) for h in sides for w in sides if abs(sides.index(h) - sides.index(w)) <= 1]
    assert len(near) == 10 and crop_sizes((256, 340), (224, 224)) == near
    # 256 - 168 = 88 and 340 - 192 = 148 pixels outside the crop: quarters of 22 and 37 pixels
    down, right = (0, 22, 44, 66, 88), (0, 37, 74, 111, 148)
    grid = {
        (0, 0),
        (0, 4),
        (4, 0),
        (4, 4),
        (2, 2),
        (2, 0),
        (2, 4),
        (4, 2),
        (0, 2),
        (1, 1),
        (1, 3),
        (3, 1),
        (3, 3),
    }
    drawn = boxes(np.random.default_rng(0), 3000, (256, 340), (224, 224), jitter=True, flip=True)
    assert {(box.height, box.width) for box in drawn} == set(near)
    found = {(box.top, box.left) for box in drawn if (box.height, box.width) == (168, 192)}
    assert found == {(down[y], right[x]) for y, x in grid}
    assert 0.45 < np.mean([box.flipped for box in drawn]) < 0.55


def test_without_jitter_the_centre_and_without_flip_none_mirrored() -> None:
    drawn = boxes(np.random.default_rng(0), 50, (20, 24), (16, 16), jitter=False, flip=False)
    assert set(drawn) == {Box(2, 4, 16, 16)} == {centre((20, 24), (16, 16))}
    assert not any(
        box.flipped
        for box in boxes(np.random.default_rng(0), 50, (20, 24), (16, 16), jitter=True, flip=False)
    )


@given(
    st.integers(8, 80),
    st.integers(8, 80),
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(0, 99),
)
def test_boxes_lie_inside_the_picture(height: int, width: int, h: int, w: int, seed: int) -> None:
    picture, crop = (height + h, width + w), (h, w)
    for box in boxes(np.random.default_rng(seed), 5, picture, crop, jitter=True, flip=True):
        assert box.top >= 0 and box.left >= 0 and box.height > 0 and box.width > 0
        assert box.top + box.height <= picture[0] and box.left + box.width <= picture[1]


def test_training_without_jitter_and_flip_reads_the_centre_of_every_picture() -> None:
    """Multi-stream paper: no augmentation. With them, boxes of many sizes, half of them mirrored."""
    kinds = {}
    for jitter, flip in ((False, False), (True, True)):
        crops = Crops((40, 48), (32, 32), jitter=jitter, flip=flip)
        rng = np.random.default_rng(0)
        batches = training_batches(rng, np.full(60, 5), segments=1, batch=20, crops=crops)
        kinds[jitter] = {box for batch in batches for box in batch.boxes}
    assert kinds[False] == {Box(4, 8, 32, 32, flipped=False)}
    assert len(kinds[True]) > 10 and {box.flipped for box in kinds[True]} == {False, True}


def test_every_snippet_of_a_video_is_cut_alike_and_each_video_on_its_own() -> None:
    pixels = torch.randint(0, 256, (2, 3, 3, 20, 24), dtype=torch.uint8)  # N, S, C, H, W
    crops = augmented(pixels, [Box(2, 4, 16, 16), Box(0, 8, 16, 16, True)], (16, 16), flow=False)
    assert crops.dtype == torch.float32 and crops.shape == (2, 3, 3, 16, 16)
    assert torch.equal(crops[0], pixels[0, :, :, 2:18, 4:20].float())
    assert torch.equal(crops[1], pixels[1, :, :, :16, 8:24].flip(-1).float())


def test_resized_crops_average_what_they_cover() -> None:
    pixels = torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8)
    pixels[..., :16] = 200  # the left half
    crops = augmented(pixels, [Box(0, 0, 32, 32)], (8, 8), flow=False)
    assert crops.shape == (1, 1, 3, 8, 8)
    assert torch.allclose(crops[..., :2], torch.tensor(200.0)) and torch.all(crops[..., 6:] == 0)
    assert crops.mean() == pytest.approx(100, abs=0.5)


def test_mirrored_flow_runs_the_other_way() -> None:
    stack = torch.randint(0, 256, (1, 2, 6, 16, 16), dtype=torch.uint8)  # x1 y1 x2 y2 x3 y3
    flat = augmented(stack, [Box(0, 0, 16, 16, True)], (16, 16), flow=True)
    assert torch.equal(flat[:, :, 0::2], 255 - stack[:, :, 0::2].flip(-1).float())
    assert torch.equal(flat[:, :, 1::2], stack[:, :, 1::2].flip(-1).float())
    clip = stack.unflatten(2, (3, 2)).transpose(
        2, 3
    )  # (N, S, 2, s, H, W), as video networks take it
    as_clip = augmented(clip, [Box(0, 0, 16, 16, True)], (16, 16), flow=True)
    assert torch.equal(as_clip, flat.unflatten(2, (3, 2)).transpose(2, 3))


def test_one_row_of_each_equal_part() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([random_rows(rng, 10, 3) for _ in range(300)])
    assert [set(column) for column in drawn.T.tolist()] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}]
    assert {tuple(random_rows(rng, 2, 3).tolist()) for _ in range(50)} == {(0, 0, 1)}
    crops = Crops((20, 24), (16, 16), jitter=True, flip=True)
    (batch,) = fixed_batches(np.array([10, 10]), 3, 8, crops)
    assert batch.rows.tolist() == [[1, 5, 8]] * 2 and batch.boxes == [Box(2, 4, 16, 16)] * 2


def test_batches_contain_every_video_once_and_at_least_two_videos() -> None:
    crops = Crops((20, 24), (16, 16), jitter=True, flip=True)
    batches = list(training_batches(np.random.default_rng(0), np.full(17, 4), 3, 8, crops))
    assert sorted(len(batch.videos) for batch in batches) == [5, 6, 6]
    assert sorted(np.concatenate([batch.videos for batch in batches]).tolist()) == list(range(17))
    assert all(len(batch.boxes) == len(batch.rows) == len(batch.videos) for batch in batches)


def test_consensus_is_the_mean_of_the_snippets_logits() -> None:
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    preprocessing = Preprocessing(4, 4, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), order="bgr")
    network = SegmentNetwork(trunk, preprocessing, (3, 4, 4), classes=2).eval()
    x = torch.randint(0, 256, (2, 3, 3, 4, 4)).float()
    mean, std = (
        torch.tensor(preprocessing.mean).view(3, 1, 1),
        torch.tensor(preprocessing.std).view(3, 1, 1),
    )
    for video in range(2):
        logits = []
        for snippet in x[video]:
            seen = (snippet[[2, 1, 0]] / 255 - mean) / std
            logits.append(network.classifier(trunk(seen[None]))[0])
        torch.testing.assert_close(network(x)[video], torch.stack(logits).mean(0))
    assert set(network.state_dict()) == {
        "trunk.1.weight",
        "trunk.1.bias",
        "classifier.weight",
        "classifier.bias",
    }


def test_what_stands_before_the_node_is_frozen() -> None:
    trunk = nn.Sequential()
    trunk.add_module("stem", nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout()))
    trunk.add_module("body", nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    trunk.register_parameter("token", nn.Parameter(torch.zeros(1)))
    freeze_before(trunk, "body.1")
    learning = {name for name, parameter in trunk.named_parameters() if parameter.requires_grad}
    assert learning == {"body.1.weight", "body.1.bias"}  # the token is registered before any child
    with pytest.raises(InputError, match="FREEZE=bdoy: .*did you mean body"):
        freeze_before(trunk, "bdoy")


def test_a_folder_holds_all_and_learns(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = pretrained(tmp_path, tiny, split=("all",), epochs=8)
    recipe = load_weights(one).recipe
    assert {path.name for path in one.iterdir()} == {
        "recipe.json",
        "seen.json",
        "checkpoint.safetensors",
        "history.csv",
        "metrics.json",
        ".lock",
    }
    family = family_of(recipe)
    assert (
        one.name == f"tiny.build-rgb-{family[:8]}-split1"
        and two.name == f"tiny.build-rgb-{family[:8]}-split2"
    )
    saw = dict(load_weights(one).provenance.saw or {})
    texts = [saw.pop("videos"), saw.pop("validation_videos")]
    assert saw == {"dataset": "made", "split": "1", "part": "train", "validation_share": 0.2}
    seen = json.loads((one / "seen.json").read_text())
    everything = {
        f"{label}/g{group}_c{clip}"
        for label in ("up", "down")
        for group in range(1, 5)
        for clip in range(2)
    }
    assert set(seen["train"]) | set(seen["validation"]) == everything and (
        len(seen["train"]),
        len(everything),
    ) == (12, 16)
    with Store.open(tmp_path / "stores" / "made-pixels.h5") as store:
        assert (
            texts == [hash_text(store, seen["train"]), hash_text(store, seen["validation"])]
            and len(texts[0]) == 12 * 12
        )
    assert recipe["classes"] == ["down", "up"] and recipe["part"] == "train"
    assert (recipe["videos"], recipe["validation_videos"]) == (12, 4)
    assert (
        recipe["preprocessing"]["resize_px"] == [20, 24]
        and recipe["preprocessing"]["crop_px"] == 16
    )
    about = metrics(one)
    assert (
        about["validation"] == {"videos": 4, "top1": 1.0}
        and about["train"]["top1"] >= 0.9
        and about["epochs"] == 8
    )
    assert len(history(one)) == 8
    namespace: dict[str, Any] = {}
    exec(LAYERED, namespace)
    namespace["build"]().load_state_dict(
        load_weights(one).state
    )  # the trunk's own names, nothing else
    assert {name.split(".")[0] for name in load_file(one / "checkpoint.safetensors")} == {
        "trunk",
        "classifier",
    }
    assert f"WEIGHTS={family[:8]} EXTRACTOR={tiny}\n" in capsys.readouterr().out

    assert (
        find_weights(tmp_path, family[:6])
        == find_weights(tmp_path, "tiny.build-rgb")
        == {"1": one, "2": two}
    )
    assert find_weights(tmp_path, family) == {"1": one, "2": two}
    several = Banks.of(tmp_path / "elsewhere", [tmp_path])
    assert find_weights(several, family) == {"1": one, "2": two}
    assert (
        find_weights(tmp_path, two.name)
        == find_weights(tmp_path / "elsewhere", str(two))
        == {"2": two}
    )
    assert find_weights(tmp_path, "resnet") == find_weights(tmp_path, "") == {}


def test_the_same_command_trains_nothing_again(tmp_path: Path, tiny: str) -> None:
    pretrained(tmp_path, tiny, epochs=1)

    def seen() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "weights").rglob("*")}

    before = seen()
    assert pretrained(tmp_path, tiny, epochs=1) == [] and seen() == before
    assert len(pretrained(tmp_path, tiny, epochs=1, split=("1", "2"))) == 1  # the other split
    assert len(pretrained(tmp_path, tiny, epochs=1, seed=1)) == 1


def test_several_families_are_distinguished(tmp_path: Path, tiny: str) -> None:
    (one,) = pretrained(tmp_path, tiny, epochs=1)
    (two,) = pretrained(tmp_path, tiny, epochs=1, lr=0.1)
    with pytest.raises(
        InputError, match="WEIGHTS=tiny: 2 sets of weights .*; give more characters"
    ) as error:
        find_weights(tmp_path, "tiny")
    assert one.name.removesuffix("-split1") in str(error.value) and two.name.removesuffix(
        "-split1"
    ) in str(error.value)
    assert find_weights(tmp_path, one.name.split("-")[2]) == {"1": one}


@pytest.mark.parametrize("kind", ["test", "validation"])
def test_weights_never_see_test_or_validation_videos(tmp_path: Path, tiny: str, kind: str) -> None:
    (one,) = pretrained(
        tmp_path / "a", tiny, epochs=1
    )  # a single epoch: validation chooses nothing
    everything = [
        f"{label}/g{group}_c{clip}"
        for label in ("up", "down")
        for group in range(5)
        for clip in range(2)
    ]
    held = [name for name in everything if "/g0" in name]
    if kind == "validation":
        from reelbank.data.datasets.splits import cut_validation

        train = [name for name in everything if "/g0" not in name]
        groups = [name.split("/")[1][:2] for name in train]
        held = sorted(cut_validation(train, [name.split("/")[0] for name in train], groups, 0.2, 0))
    assert len(held) == 4
    make_pixels(tmp_path / "b", changed=tuple(held))
    (two,) = pretrained(tmp_path / "b", tiny, epochs=1)
    assert checkpoint(one) == checkpoint(two)
    seen = next(name for name in everything if name not in held and "/g0" not in name)
    make_pixels(tmp_path / "c", changed=(seen,))
    (three,) = pretrained(tmp_path / "c", tiny, epochs=1)
    assert checkpoint(one) != checkpoint(three) and one.name != three.name


def test_frozen_modules_keep_weights_and_statistics(tmp_path: Path, tiny: str) -> None:
    (folder,) = pretrained(tmp_path, tiny, freeze="conv2", weight_decay=0.1, optimiser="sgd")
    namespace: dict[str, Any] = {}
    exec(LAYERED, namespace)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = namespace["build"]().state_dict()
    after = load_weights(folder).state
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(("conv1.", "bn1."))}


def test_flow_stacks_widen_the_first_convolution(tmp_path: Path, tiny: str) -> None:
    make_pixels(tmp_path, flow=True)
    (folder,) = pretrained(tmp_path, tiny, stream="flow", epochs=6)
    weights = load_weights(folder)
    recipe, state = weights.recipe, weights.state
    assert state["conv1.weight"].shape == (4, 4, 3, 3) and recipe["clip_frames"] == 2
    fed = {"flow": {"method": "dis", "preset": "medium"}, "flow_name": "dis", "bound_px": 20.0}
    assert {name: recipe[name] for name in fed} == fed
    assert (
        recipe["preprocessing"]["mean"] == [128 / 255]
        and metrics(folder)["validation"]["top1"] == 1.0
    )


def test_video_networks_learn_from_clips_of_flow(tmp_path: Path) -> None:
    (tmp_path / "clips.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    model = nn.Sequential(nn.Conv3d(2, 4, (1, 3, 3), 2), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 4, 4)), nn.Flatten())\n"
        "    model.is_video, model.channels, model.input_size = True, 2, (2, 16, 16)\n"
        "    return model\n"
    )
    make_pixels(tmp_path, flow=True)
    with Store.open(tmp_path / "stores" / "made-pixels.h5") as store:
        metas = [
            StoredVideo(id=name, label=label, group=group, parts=parts, source={})
            for name, label, group, parts in zip(
                store.video_ids, store.labels, store.groups, store.parts, strict=True
            )
        ]
        path = tmp_path / "stores" / "clips.h5"
        with StoreWriter(
            path, {"stream": "flow", "extractor": "clip_pixels"}, store.dataset
        ) as writer:
            for meta in metas:
                values, times = store.features(meta.id)
                writer.add(
                    meta, values.reshape(4, 2, 2, 20, 24).transpose(0, 2, 1, 3, 4), times
                )  # (K, 2 L, ...) -> (K, 2, s, ...)
            assert writer.finish(metas)
    with Store.open(path) as store:
        network = f"{tmp_path / 'clips.py'}:build"
        assert pretrain_on(store, options_for(tmp_path, network, stream="flow", epochs=6)) == 0
    recipe = load_weights(next((tmp_path / "weights").iterdir())).recipe
    assert (
        recipe["clip_frames"] == 2
        and metrics(next((tmp_path / "weights").iterdir()))["validation"]["top1"] == 1.0
    )


def test_readers_change_nothing(tmp_path: Path, tiny: str) -> None:
    (one,) = pretrained(tmp_path / "a", tiny, epochs=2)
    (two,) = pretrained(tmp_path / "b", tiny, epochs=2, workers=3)
    assert one.name == two.name and checkpoint(one) == checkpoint(two)


def test_training_goes_on_from_weights_made_here_split_by_split(tmp_path: Path, tiny: str) -> None:
    one, two = pretrained(tmp_path, tiny, epochs=1, split=("all",))
    family = one.name.split("-")[2]
    onward = pretrained(
        tmp_path, tiny, epochs=1, split=("all",), weights=family, lr=1e-9, optimiser="sgd"
    )
    assert (
        len({folder.name.split("-")[2] for folder in onward}) == 1
        and onward[0].name.split("-")[2] != family
    )
    for before, after in zip((one, two), onward, strict=True):
        first, second = load_weights(before), load_weights(after)
        assert second.recipe["initial"]["family"].startswith(family)
        assert second.provenance.saw
        assert second.provenance.saw["before"] == first.provenance.saw
        torch.testing.assert_close(second.state["fc.weight"], first.state["fc.weight"])
    with pytest.raises(InputError, match="trained on split 1, not on split 2"):
        pretrained(tmp_path, tiny, split=("2",), weights=str(one))
    make_pixels(tmp_path / "other split", first_tested=2)
    line = r"4 of the 4 test videos of split 1 were used to train these weights \(trained on split 1\); start from weights"
    for begin in (one, onward[0]):
        with pytest.raises(InputError, match=line):
            pretrained(tmp_path / "other split", tiny, weights=str(begin))


COMMAND = """
import sys
sys.path.insert(0, {tests!r})
import torch
from reelbank.data.store import Store
from reelbank.heads.pretraining.pretrain import pretrain_on
from test_pretrain import options_for
from pathlib import Path
torch.set_num_threads(1)
with Store.open({store!r}) as store:
    pretrain_on(store, options_for(Path({bank!r}), {tiny!r}, **{changes!r}))
"""


@pytest.mark.long
def test_killed_and_resumed_ends_in_the_same_bytes(tmp_path: Path, tiny: str) -> None:
    changes = {"epochs": 30, "batch": 4, "dropout": 0.3, "lr_drops": (20,)}
    bank = tmp_path / "killed"
    store = make_pixels(bank)
    code = COMMAND.format(
        tests=str(Path(__file__).parent),
        store=str(store),
        bank=str(bank),
        tiny=tiny,
        changes=changes,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and epochs_in(bank) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    done = epochs_in(bank)
    assert 2 <= done < 30 and not list(bank.glob("weights/*/metrics.json"))
    with pytest.raises(InputError, match="not finished"):
        find_weights(bank, "tiny")
    pretrained(bank, tiny, **changes)
    (killed,) = (bank / "weights").iterdir()
    (calm,) = pretrained(tmp_path / "calm", tiny, **changes)
    assert (
        killed.name == calm.name
        and checkpoint(killed) == checkpoint(calm)
        and history(killed) == history(calm)
    )
    assert float(history(calm)[19]["lr"]) == 0.01 and float(
        history(calm)[20]["lr"]
    ) == pytest.approx(0.001)
    assert not (killed / "state.safetensors").exists() and not list(killed.glob(".*.tmp"))


def epochs_in(bank: Path) -> int:
    for path in bank.glob("weights/*/state.safetensors"):
        with safe_open(path, "pt") as file:
            return len(json.loads(file.metadata()["history"]))
    return 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"split": ("9",)}, "SPLIT=9: made does not have this split; it has 1, 2"),
        ({"classes": ("upp",)}, "did you mean up"),
        ({"freeze": "bn3"}, "FREEZE=bn3: the network has no module of this name; did you mean bn"),
        ({"size": 22}, "SIZE: crops of 22 x 22 pixels do not fit into pictures of 20 x 24"),
        ({"weights": "missing"}, "WEIGHTS=missing"),
        ({"lr": 0.0}, "LR=0.0"),
        ({"segments": 0}, "SEGMENTS=0"),
        ({"validation": 1.0}, "VALIDATION=1.0"),
        ({"dropout": 1.0}, "DROPOUT=1.0"),
        ({"split": ()}, "SPLIT"),
        ({"stream": "flow"}, "STREAM=flow: .* of stream rgb"),
        ({"optimiser": "sgd", "lr": 1e38}, "training diverged in epoch 1"),
    ],
)
def test_bad_input_gets_one_clear_line(
    tmp_path: Path, tiny: str, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=line) as error:
        pretrained(tmp_path, tiny, **changes)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("weights/*/metrics.json"))


def test_nothing_to_train_on_is_said(tmp_path: Path, tiny: str) -> None:
    make_pixels(tmp_path, groups=1)  # the only group tests in split 1
    with pytest.raises(InputError, match="SPLIT=1: .* contains no training video"):
        pretrained(tmp_path, tiny)
    make_pixels(tmp_path / "half", dtype=np.float16)
    with pytest.raises(InputError, match="is not a store of pixels"):
        pretrained(tmp_path / "half", tiny)


def test_one_group_leaves_no_validation_part_and_says_so(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pixels(tmp_path, groups=2)
    (folder,) = pretrained(tmp_path, tiny)
    assert "no validation part" in capsys.readouterr().out
    assert metrics(folder)["validation"] is None and metrics(folder)["best_epoch"] == 3


def without_seen(folder: Path) -> bytes:
    document = json.loads((folder / "recipe.json").read_text())
    del document["recipe"]["seen"]
    return json.dumps(document).encode()


def test_hostile_and_changed_folders_are_refused(tmp_path: Path, tiny: str) -> None:
    (folder,) = pretrained(tmp_path, tiny, epochs=1)
    for name, content, line in (
        ("checkpoint.safetensors", pickle.dumps(print), "checkpoint.safetensors cannot be read"),
        ("recipe.json", b"[]", "recipe.json cannot be read"),
        ("recipe.json", b'{"recipe": {"extractor": 3}}', "recipe.json cannot be read"),
        ("recipe.json", b"[" * 100_000, "recipe.json cannot be read"),
        ("recipe.json", b'{"recipe": NaN}', "recipe.json cannot be read"),
        ("recipe.json", without_seen(folder), r"recipe.json cannot be read \('seen'\)"),
    ):
        bad = tmp_path / "bad" / folder.name
        shutil.rmtree(bad.parent, ignore_errors=True)
        shutil.copytree(folder, bad)
        (bad / name).write_bytes(content)
        with pytest.raises(InputError, match=line) as error:
            load_weights(bad)
        assert "\n" not in str(error.value)
    document = json.loads((folder / "recipe.json").read_text())
    document["recipe"]["split"] = "2"  # a lie about what the weights have seen
    (folder / "recipe.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="does not belong to this folder"):
        read_recipe(folder)


def test_unknown_things_are_refused_before_pixels_are_extracted(tmp_path: Path) -> None:
    options = PretrainOptions(bank=str(tmp_path), device="cpu")
    for changes, line in (
        ({"freeze": "conv9"}, "FREEZE=conv9"),
        ({"size": 80}, "RESIZE=72 must not be smaller than the crops, which have 80"),
        ({"extractor": "vggish"}, "vggish"),
        ({"weights": "abc"}, "WEIGHTS=abc: the file does not exist"),
        ({"extractor": "torchvision:resnet81"}, "resnet81"),
    ):
        with pytest.raises(InputError, match=line):
            pretrain(dataclasses.replace(options, **changes))
    assert not (tmp_path / "stores").exists() and not (tmp_path / "toy").exists()


def test_several_classes_a_video_are_refused_before_pixels_are_extracted(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    frames, sound = toy_drawing.render("motion_up", 1, 1)
    toy_drawing.write_video(
        tmp_path / "videos" / "46GP8.mp4", frames[:4, :64, :80], sound[: 4 * 882]
    )
    (tmp_path / "Charades_v1_classes.txt").write_text(
        "c000 Holding some clothes\nc001 Putting clothes somewhere\n"
    )
    head = "id,subject,actions,length\n"
    (tmp_path / "Charades_v1_train.csv").write_text(
        head + "46GP8,HR43,c000 0.00 0.10;c001 0.02 0.14,0.16\n"
    )
    (tmp_path / "Charades_v1_test.csv").write_text(head)
    options = PretrainOptions(
        dataset="charades",
        root=str(tmp_path / "videos"),
        lists=str(tmp_path),
        width=0.03,
        flow="dis",
    )
    options = dataclasses.replace(
        options, bank=str(tmp_path / "bank"), device="cpu", clip=2, resize="48", size=40
    )
    with pytest.raises(
        InputError,
        match="DATASET=charades is multi-label",
    ):
        pretrain(options)
    assert not (tmp_path / "bank").exists()


def test_the_epoch_of_lowest_loss_is_kept_and_patience_waits_for_a_lower_one(
    tmp_path: Path, tiny: str
) -> None:
    """Multi-stream paper, V.D: training stops after 10 epochs without a lower validation loss."""
    wrong = ("up/g2_c0", "up/g3_c1", "up/g4_c0", "down/g1_c1", "down/g2_c0")
    make_pixels(tmp_path, changed=wrong)
    changes: dict[str, Any] = {"epochs": 40, "patience": 3, "lr": 0.1, "segments": 1, "seed": 11}
    (folder,) = pretrained(tmp_path, tiny, best_by="loss", **changes)
    losses = [float(past["validation_loss"]) for past in history(folder)]
    best = 1 + losses.index(min(losses))
    assert metrics(folder)["best_epoch"] == best
    assert metrics(folder)["epochs"] == len(losses) == best + 3
    # labels are partly wrong, so the epoch of highest accuracy is another one
    accuracies = [float(past["validation_accuracy"]) for past in history(folder)]
    assert accuracies[best - 1] < max(accuracies)
    (by_accuracy,) = pretrained(tmp_path, tiny, **changes)
    accuracies = [float(past["validation_accuracy"]) for past in history(by_accuracy)]
    assert accuracies[metrics(by_accuracy)["best_epoch"] - 1] == max(accuracies)
    assert metrics(by_accuracy)["best_epoch"] != best
    with pytest.raises(InputError, match="BEST_BY=loss needs a validation part, but VALIDATION=0"):
        pretrained(tmp_path, tiny, best_by="loss", validation=0.0)


def test_the_best_loss_needs_a_class_with_two_groups(tmp_path: Path, tiny: str) -> None:
    make_pixels(tmp_path, groups=2)
    with pytest.raises(
        InputError, match="no class in split 1 has at least two groups of related videos; give BEST"
    ):
        pretrained(tmp_path, tiny, best_by="loss")


def test_training_pictures_may_be_stretched_to_a_height_and_a_width(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for label in ("a", "b"):
        frames, sound = toy_drawing.render("motion_up", 1, 1)
        (root / label).mkdir(parents=True)
        toy_drawing.write_video(root / label / "v.mp4", frames[:2, :32, :32], sound[:1764])
    options = PretrainOptions(
        dataset="folder",
        root=str(root),
        stream="rgb",
        extractor="torchvision:resnet18",
        weights="random",
        bank=str(tmp_path),
        resize="40x36",
        size=32,
    )
    extraction, _ = pixels_extraction(with_defaults(options))
    assert extraction.extractor == "pixels" and extraction.resize == "40x36"
    with pytest.raises(
        InputError, match="RESIZE=40x36 must not be smaller than the crops, which have 38 pixels"
    ):
        pixels_extraction(with_defaults(dataclasses.replace(options, size=38)))


def test_from_videos_to_weights_to_features(tmp_path: Path) -> None:
    """The whole way: what extraction gives with the weights is what the trunk gives for the pixels
    it was validated on."""
    videos = tmp_path / "videos"
    for label in ("motion_up", "motion_down"):
        (videos / label).mkdir(parents=True)
        for group in range(1, 5):
            frames, sound = toy_drawing.render(label, group, 1)
            toy_drawing.write_video(
                videos / label / f"v_g{group:02d}_c01.mp4", frames[:16, :64, :80], sound[: 16 * 882]
            )
    shared: dict[str, Any] = {
        "dataset": "folder",
        "root": str(videos),
        "flow": "dis",
        "t": 3,
        "bank": str(tmp_path),
    }
    shared |= {"device": "cpu", "classes": ("motion_up", "motion_down"), "workers": 1}
    sizes: dict[str, Any] = {"width": 0.03, "clip": 2, "resize": "48", "size": 40}
    options = PretrainOptions(
        extractor="motion_cnn", epochs=1, batch=4, validation=0.4, **shared, **sizes
    )
    assert pretrain(options) == 0
    (folder,) = (tmp_path / "weights").iterdir()
    weights = load_weights(folder)
    recipe, state = weights.recipe, weights.state
    wanted = {
        "weights": folder.name,
        "extractor": "motion_cnn",
        "stream": ("flow",),
        "sampling": "segments",
        "crops": 1,
    }
    assert extract(ExtractOptions(**shared, **wanted)) == 0
    found = {path.name.split("-")[-2]: path for path in (tmp_path / "stores").glob("*.h5")}
    trunk = motion_cnn.build(4, 0.03).eval()
    trunk.load_state_dict(state)
    with Store.open(found["pixels"]) as pixels, Store.open(found["motion_cnn"]) as features:
        assert (
            pixels.dtype == np.uint8
            and pixels.row_shape == (4, 48, 64)
            and len(pixels.video_ids) == 8
        )
        assert (
            features.recipe["weights"]["saw"]["dataset"] == pixels.dataset.name == recipe["dataset"]
        )
        for name in pixels.video_ids:
            crop = torch.from_numpy(pixels.features(name)[0])[
                ..., 4:44, 12:52
            ].float()  # the centre of 48 x 64
            with torch.no_grad():
                expected = trunk((crop - 128) / 127.5)  # no motion is 128
            off = np.linalg.norm(features.features(name)[0] - expected.numpy()) / np.linalg.norm(
                expected.numpy()
            )
            assert off < 5e-3  # float16, and batch norm folded
        assert (
            recipe["flow"] == pixels.recipe["flow"] == features.recipe["flow"]
            and recipe["flow_name"] == "dis"
        )
        parts = [one[0] for one in features.parts]
    heads = TrainOptions(bank=str(tmp_path), weights=family_of(recipe)[:8], head="meanpool")
    heads = dataclasses.replace(
        heads, extractor="motion_cnn", epochs=1, validation=0.4, device="cpu"
    )
    assert train(heads) == 0
    # The split drawn with another seed, the same features: what was learned from is now tested.
    assert extract(ExtractOptions(**shared, **wanted, seed=2)) == 0
    with Store.open(found["motion_cnn"]) as features:
        ids = json.loads((folder / "seen.json").read_text())
        tested_now = [
            name
            for name, one in zip(features.video_ids, features.parts, strict=True)
            if one[0] == "test"
        ]
        leaked = set(tested_now) & {*ids["train"], *ids["validation"]}
        assert [one[0] for one in features.parts] != parts and leaked
    line = f"SPLIT=1: {len(leaked)} of the {len(tested_now)} test videos of split 1 were used to train the backbone "
    with pytest.raises(
        InputError,
        match=line + r"\(trained on split 1\); pretrain on the current split 1, or restore",
    ):
        train(heads)
