"""Checkpoints in the forms that training code saves: the state dict is found inside the file,
prefixes are removed, and unusable files are refused with a reason."""

import argparse
import importlib.util
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import filled, reference
from safetensors.torch import save_file
from test_networks import OWN
from torch import Tensor, nn

from reelbank.data.errors import InputError
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.trained import TrainedWeights
from reelbank.extract.networks.weights import load_state, state_hash


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path / 'own.py'}:build"


@pytest.fixture
def model(own: str) -> nn.Module:
    """The network of the file with weights of its own."""
    spec = importlib.util.spec_from_file_location("own", own.rpartition(":")[0])
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(7)
    return module.build()


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def training_state(model: nn.Module) -> dict:
    """What training code saves in addition to the weights."""
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimiser.step()
    options = argparse.Namespace(lr=0.1, out=Path("runs"), seen=np.int64(3))
    scores = {
        "best_acc": np.float64(0.75),
        "curve": np.arange(3.0),
        "confusion": {"matrix": torch.eye(2)},
    }
    return {
        "epoch": 3,
        "args": options,
        "optimizer": optimiser.state_dict(),
        "lr_scheduler": {"gamma": 0.1},
        **scores,
    }


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model", "net", "module", "my_network"]
)
def test_the_state_dict_is_found_under_any_usual_key(
    tmp_path: Path, own: str, model: nn.Module, key: str
) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    extra = training_state(model)
    torch.save({**extra, key: model.state_dict()}, path)
    found = networks.build(own, weights=str(path))
    assert (
        found.weights.sha256 == state_hash(model)
        and found.weights.source == "file checkpoint.pth.tar"
    )


def test_numpy_scalars_of_both_versions_of_numpy_are_passed_over(
    tmp_path: Path, own: str, model: nn.Module
) -> None:
    newer, older = tmp_path / "newer.pt", tmp_path / "older.pt"
    torch.save({"state_dict": model.state_dict(), "best": np.float32(0.5)}, newer)
    with zipfile.ZipFile(newer) as source, zipfile.ZipFile(older, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(name, data)
    for path in (newer, older):
        assert networks.build(own, weights=str(path)).weights.sha256 == state_hash(model)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "backbone.",
        "encoder.",
        "model.net.0.",
    ],
)
def test_one_prefix_is_removed_and_told(
    tmp_path: Path,
    own: str,
    model: nn.Module,
    prefix: str,
    ending: str,
    capsys: pytest.CaptureFixture,
) -> None:
    path = tmp_path / f"weights{ending}"
    state = under(prefix, model.state_dict())
    if ending == ".pt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    assert networks.build(own, weights=str(path)).weights.sha256 == state_hash(model)
    assert (
        f"WEIGHTS={path}: removed the prefix '{prefix}' from {len(state)} names\n"
        in capsys.readouterr().out
    )


def test_plain_names_say_nothing(
    tmp_path: Path, own: str, model: nn.Module, capsys: pytest.CaptureFixture
) -> None:
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    networks.build(own, weights=str(tmp_path / "plain.pt"))
    assert capsys.readouterr().out == ""


def test_what_lies_outside_the_prefix_is_left_out_and_told(
    tmp_path: Path, own: str, model: nn.Module, capsys: pytest.CaptureFixture
) -> None:
    """As Lightning saves a module that holds the network and a loss."""
    state = {**under("model.", model.state_dict()), "criterion.weight": torch.ones(3)}
    torch.save(
        {"state_dict": state, "epoch": 1, "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
        tmp_path / "last.ckpt",
    )
    assert networks.build(own, weights=str(tmp_path / "last.ckpt")).weights.sha256 == state_hash(
        model
    )
    assert (
        "left out 1 names that do not begin with 'model.': criterion.weight"
        in capsys.readouterr().out
    )


def test_of_averaged_and_plain_weights_the_plain_ones_are_taken_and_told(
    tmp_path: Path, own: str, model: nn.Module, capsys: pytest.CaptureFixture
) -> None:
    averaged = {key: value * 0 + 1 for key, value in model.state_dict().items()}
    path = tmp_path / "last.pth"
    torch.save({"state_dict_ema": averaged, "state_dict": model.state_dict()}, path)
    assert networks.build(own, weights=str(path)).weights.sha256 == state_hash(model)
    said = f"WEIGHTS={path}: using the weights under the key 'state_dict' (ignored keys: state_dict_ema)\n"
    assert capsys.readouterr().out == said
    torch.save({"model_ema": model.state_dict()}, path)
    assert networks.build(own, weights=str(path)).weights.sha256 == state_hash(model)
    assert (
        capsys.readouterr().out == f"WEIGHTS={path}: using the weights under the key 'model_ema'\n"
    )


class Unknown:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a weights file ran')",))


def test_what_cannot_be_decided_or_read_is_refused_with_a_reason(
    tmp_path: Path, own: str, model: nn.Module
) -> None:
    state = model.state_dict()
    incomplete = {
        key: value for key, value in under("net.", state).items() if key != "net.conv.weight"
    }
    for document, words in [
        (
            {"state_dict": state, "trainer": Unknown()},
            ["it needs exec, which cannot be loaded", "with torch.save("],
        ),
        (
            {"student": state, "teacher": state},
            ["contains several state dicts (student, teacher); save only the one to use"],
        ),
        (
            {**under("a.", state), **under("b.", state)},
            ["more than once, with the prefixes 'a.' and 'b.'; save the weights only once"],
        ),
        (
            incomplete,
            ["after the prefix 'net.' is removed, because 1 names are missing (conv.weight)"],
        ),
        (
            {**under("net.", state), "net.more": torch.ones(1)},
            ["after the prefix 'net.' is removed, because 1 names are unknown (more)"],
        ),
        ({"epoch": 3, "optimizer": {"state": {"a": torch.ones(1)}}}, ["contains no state dict"]),
        ({"state_dict": under("net.\x1b[31m", {"a": torch.ones(1)})}, ["does not fit"]),
    ]:
        torch.save(document, tmp_path / "odd.pt")
        with pytest.raises(InputError) as caught:
            networks.build(own, weights=str(tmp_path / "odd.pt"))
        line = str(caught.value)
        assert line.isprintable() and all(word in line for word in words), line


def test_a_file_whose_dicts_hold_themselves_is_read_in_no_time(
    tmp_path: Path, own: str, model: nn.Module
) -> None:
    """Looked into along every way there is, it would take a billion steps."""
    loop: dict = {}
    loop |= {f"k{number}": loop for number in range(1000)} | {"state_dict": model.state_dict()}
    torch.save(loop, tmp_path / "loop.pt")
    loaded = load_state(tmp_path / "loop.pt")
    assert loaded.keys() == model.state_dict().keys()


def test_a_timm_file_with_its_classifier_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import timm

    whole = timm.create_model("resnet10t", num_classes=7)
    torch.save({"model": under("module.", whole.state_dict())}, tmp_path / "tuned.pth")
    whole.reset_classifier(0)
    found = networks.trunk("timm:resnet10t", str(tmp_path / "tuned.pth"))
    assert found.weights.sha256 == state_hash(whole)
    assert "removed the prefix 'module.'" in capsys.readouterr().out


def test_i3d_files_of_video_features_keep_their_epsilon_wherever_their_weights_go(
    tmp_path: Path,
) -> None:
    state = filled(reference("i3d_video_features")["shapes"])
    torch.save(under("module.", state), tmp_path / "i3d_rgb.pt")
    found = networks.trunk("i3d", str(tmp_path / "i3d_rgb.pt"))
    assert found.weights.batch_norm_eps == 1e-5 and epsilons(found.model) == {1e-5}
    torch.save(filled(reference("i3d")["shapes"]), tmp_path / "rgb_imagenet.pt")
    other = networks.trunk("i3d", str(tmp_path / "rgb_imagenet.pt"))
    assert other.weights.batch_norm_eps is None and epsilons(other.model) == {1e-3}
    # trained on from there: the epsilon goes with the weights, once and again
    recipe = {
        "width": 1.0,
        "dataset": "toy",
        "split": "1",
        "validation": 0.2,
        "seen": {"train": "", "validation": ""},
    }
    recipe |= {"initial": found.weights.to_json(), "extractor": "i3d", "stream": "rgb"}
    trained = TrainedWeights(tmp_path, recipe, found.model.state_dict())
    again = networks.trunk("i3d", trained=trained)
    assert epsilons(again.model) == {1e-5} and again.weights.batch_norm_eps == 1e-5
    usual = replace(trained, recipe=recipe | {"initial": other.weights.to_json()})
    assert "batch_norm_eps" not in usual.provenance.to_json()


def epsilons(model: nn.Module) -> set[float]:
    return {part.eps for part in model.modules() if isinstance(part, nn.BatchNorm3d)}
