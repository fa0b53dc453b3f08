"""Networks by name: their outputs, the origin of their weights, refused input and its messages;
features of crops compared with a plain loop."""

import hashlib
import http.server
import pickle
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from reelbank.data.errors import InputError
from reelbank.data.video.sampling import Rows
from reelbank.extract.networks import build as networks
from reelbank.extract.pipeline.batches import ClipBatches
from reelbank.extract.pipeline.crops import take_crops
from reelbank.extract.pipeline.tracks import Track

OWN = """
import torch
from torch import nn

class Tiny(nn.Module):
    mean = std = (0.5, 0.5, 0.5)
    input_size = (3, 32, 32)

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8)
        self.bn.running_var.fill_(4.0)

    def forward(self, x):
        return self.bn(self.conv(x)).relu().mean((2, 3))

def build():
    return Tiny()

def wrong():
    return 7
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return f"{path}:build"


def pixels(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def test_features_are_what_the_classifier_reads():
    network = networks.build("torchvision:resnet18", weights="random", seed=3)
    torch.manual_seed(3)
    reference = models.resnet18(weights=None).eval()
    x = pixels(2, 3, 224, 224)
    read = []
    reference.fc.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    with torch.inference_mode():
        mean, std = (
            torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
            torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
        )
        reference((x / 255 - mean) / std)
        (found,) = network.module(x)
    assert (found - read[0]).norm() < 1e-5 * read[0].norm()
    assert network.weights.to_json() == {
        "source": "random, seed 3",
        "sha256": networks.state_hash(without_fc(reference)),
    }


def without_fc(model: nn.Module) -> nn.Module:
    model.fc = nn.Identity()
    return model


def test_several_nodes_come_from_one_pass():
    network = networks.build(
        "torchvision:resnet18", ("layer2", "layer3", "layer4"), "random", seed=1
    )
    torch.manual_seed(1)
    reference = models.resnet18(weights=None).eval()
    maps = {}
    for name in network.nodes:
        getattr(reference, name).register_forward_hook(
            lambda m, i, out, name=name: maps.update({name: out})
        )
    x = pixels(1, 3, 64, 64)
    with torch.inference_mode():
        found = network.module(x)
        reference(network_input(x))
    for name, feature in zip(network.nodes, found, strict=True):
        pooled = maps[name].mean((2, 3))
        assert feature.shape == pooled.shape
        assert (feature - pooled).norm() < 1e-5 * pooled.norm()
    kept = networks.build("torchvision:resnet18", ("layer3",), "random", seed=1, pool=False)
    with torch.inference_mode():
        (feature,) = kept.module(x)
    assert feature.shape == (1, 256, 4, 4)


def network_input(x: torch.Tensor) -> torch.Tensor:
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    )
    return (x / 255 - mean) / std


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("torchvision:mobilenet_v3_small", 1024),
        ("torchvision:squeezenet1_1", 512),
        ("torchvision:vit_b_32", 768),
        ("timm:resnet10t", 512),
    ],
)
def test_image_models_of_all_families(name, features):
    network = networks.build(name, weights="random")
    crop = network.preprocessing.crop_px
    with torch.inference_mode():
        (found,) = network.module(pixels(2, 3, crop, crop))
    assert found.shape == (2, features)
    assert not network.is_video


def test_video_model():
    network = networks.build("torchvision:r2plus1d_18", weights="random")
    assert network.is_video
    assert network.preprocessing.resize_px == (128, 171) and network.preprocessing.crop_px == 112
    with torch.inference_mode():
        (found,) = network.module(pixels(1, 3, 8, 56, 56))
    assert found.shape == (1, 512)


@pytest.mark.parametrize(
    ("name", "node", "features"),
    [
        ("torchvision:swin_t", "features.3", 192),  # (B, h, w, C)
        ("torchvision:vit_b_32", "encoder.layers.encoder_layer_1", 768),  # (B, tokens, C)
        ("torchvision:resnet18", "layer2", 128),  # (B, C, h, w)
    ],
)
def test_pooling_is_over_space_wherever_the_channels_stand(name, node, features):
    network = networks.build(name, (node,), "random")
    with torch.inference_mode():
        (found,) = network.module(pixels(1, 3, 224, 224))
    assert found.shape == (1, features)


def test_batch_norm_is_folded_and_features_stay(own):
    network = networks.build(own)
    assert not any("BatchNorm" in type(part).__name__ for part in network.module.modules())
    torch.manual_seed(0)
    reference: dict = {}
    exec(OWN, reference)
    model = reference["build"]().eval()
    x = pixels(4, 3, 32, 32)
    with torch.inference_mode():
        expected = model((x / 255 - 0.5) / 0.5)
        (found,) = network.module(x)
    assert (found - expected).abs().max() < 1e-5
    assert network.name == "own.build"


def started(grid: np.ndarray) -> Track:
    track = Track(np.dtype(np.float32))
    track.start(Rows(grid, np.zeros(len(grid), np.uint8)), fields=False)
    return track


@pytest.mark.parametrize("crops", [1, 5, 10])
def test_mean_over_crops_on_the_device_is_the_plain_loop(own, crops):
    """x_t = 1/10 sum_k A(k, t, :) (Res-LSTM paper, eq. 5), one crop at a time; clips of two videos
    share batches."""
    network = networks.build(own)
    frames = pixels(5, 3, 40, 50)
    batches = ClipBatches(
        network.module,
        network,
        crops=crops,
        keep_crops=False,
        batch=2 * crops,
        device=torch.device("cpu"),
    )
    videos = [started(np.arange(n)[:, None]) for n in (2, 3)]
    with torch.inference_mode():
        for video, row, frame in zip(
            [videos[0]] * 2 + [videos[1]] * 3, [0, 1, 0, 1, 2], frames, strict=True
        ):
            batches.free(1)[:] = take_crops(frame[None], 32, crops)
            batches.add(video, [np.array([row])])
        batches.finish()
        found = np.concatenate([video.values[0] for video in videos])
        for frame, feature in zip(frames, found, strict=True):
            one_by_one = [
                network.module(crop[None])[0][0] for crop in take_crops(frame[None], 32, crops)[0]
            ]
            assert np.abs(torch.stack(one_by_one).mean(0).numpy() - feature).max() < 1e-5
    assert videos[0].missing == videos[1].missing == 0


def test_kept_crops_are_the_single_ones(own):
    network = networks.build(own)
    batches = ClipBatches(
        network.module, network, crops=10, keep_crops=True, batch=30, device=torch.device("cpu")
    )
    video = started(np.zeros((4, 1), np.int64))  # one frame, four rows: K < T repeats it
    crops = take_crops(pixels(1, 3, 40, 50), 32, 10)[0]
    with torch.inference_mode():
        batches.free(1)[0] = crops
        batches.add(video, [np.arange(4)])
        batches.finish()
        expected = network.module(crops)[0].numpy()
    assert video.values[0].shape == (4, 10, 8)
    assert np.abs(video.values[0] - expected).max() < 1e-6


def test_random_weights_follow_the_seed():
    hashes = [
        networks.build("torchvision:resnet18", weights="random", seed=seed).weights.sha256
        for seed in (0, 0, 1)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_weights_from_a_path(tmp_path, ending):
    torch.manual_seed(9)
    model = models.resnet18(weights=None, num_classes=7)
    path = tmp_path / f"mine{ending}"
    if ending == ".pt":
        torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    else:
        save_file(model.state_dict(), path)
    network = networks.build("torchvision:resnet18", weights=str(path))
    assert network.weights.to_json() == {
        "source": f"file mine{ending}",
        "sha256": networks.state_hash(without_fc(model)),
    }


class Payload:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a weights file ran')",))


def test_hostile_and_wrong_weights_are_refused(tmp_path, own):
    hostile = tmp_path / "hostile.pt"
    hostile.write_bytes(pickle.dumps({"a": Payload()}))
    torch.save({"a": Payload()}, tmp_path / "hostile2.pt")
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights at all")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "text.safetensors").write_text("no weights at all, neither here")
    for name, reason in [
        ("empty.pth", r"the file is empty \(0 bytes\)"),
        ("empty.safetensors", r"the file is empty \(0 bytes\)"),
        ("text.safetensors", "cannot be read as a state dict: Error while deserializing header"),
        ("hostile.pt", "cannot be read as a state dict"),
        ("hostile2.pt", "cannot be read as a state dict"),
        (
            "text.pt",
            "it is neither a safetensors file nor a torch file that loads without running code$",
        ),
        ("absent.pt", "does not exist"),
        ("other.pt", "does not fit"),
    ]:
        with pytest.raises(InputError, match=reason) as caught:
            networks.build(own, weights=str(tmp_path / name))
        said = str(caught.value)
        assert f"WEIGHTS={tmp_path / name}: " in said and "\n" not in said
        assert (
            "weights_only" not in said and "e-running" not in said
        )  # torch's advice is to run the file's code


@pytest.mark.parametrize(
    ("name", "nodes", "weights", "says"),
    [
        ("torchvision:resnet5", (), "random", "did you mean resnet50"),
        ("timm:resnet5x", (), "random", "timm does not have this model"),
        ("resnet50", (), "random", "torchvision:<model>"),
        ("nowhere.py:build", (), "own", "the file nowhere.py does not exist"),
        ("torchvision:resnet18", ("layer9",), "random", "no such node; its top-level nodes are"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, nodes, weights, says):
    with pytest.raises(InputError, match=says):
        networks.build(name, nodes, weights)


def test_own_file_mistakes(own):
    with pytest.raises(InputError, match="own.py does not define 'nothing'"):
        networks.build(own.replace(":build", ":nothing"))
    with pytest.raises(InputError, match="must return a torch.nn.Module .got int."):
        networks.build(own.replace(":build", ":wrong"))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A loopback server with a checkpoint under torchvision's file name, and an empty weights
    cache."""
    torch.manual_seed(5)
    model = models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "resnet18-feedbeef.pth")
    handler = type(
        "Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *words: None}
    )
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *a: handler(*a, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "urllib.request._opener", None
    )  # it keeps the proxies that another test had set when it was made
    yield model, tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def point_at(choice, url: str, monkeypatch) -> None:
    """torchvision's own entry, its address alone changed."""
    monkeypatch.setattr(choice, "_value_", type(choice.value)(url, choice.transforms, choice.meta))


def test_pretrained_weights_come_through_torchvisions_loader(served, monkeypatch):
    model, folder, address = served
    start = hashlib.sha256((folder / "resnet18-feedbeef.pth").read_bytes()).hexdigest()[:8]
    (folder / "resnet18-feedbeef.pth").rename(folder / f"resnet18-{start}.pth")
    choice = models.ResNet18_Weights.DEFAULT
    point_at(choice, f"{address}/resnet18-{start}.pth", monkeypatch)
    network = networks.build("torchvision:resnet18", weights="pretrained")
    assert network.weights.sha256 == networks.state_hash(without_fc(model))
    assert network.weights.source.startswith("pretrained ResNet18_Weights")
    assert (folder / "cache" / "hub" / "checkpoints" / f"resnet18-{start}.pth").is_file()
    # with the server's file gone, the filled cache serves
    (folder / f"resnet18-{start}.pth").unlink()
    assert networks.build("torchvision:resnet18").weights == network.weights


def test_pretrained_weights_that_cannot_be_fetched_say_what_to_do(served, monkeypatch):
    _, folder, address = served
    choice = models.ResNet18_Weights.DEFAULT
    for url in (
        f"{address}/absent-00000000.pth",
        f"{address}/resnet18-feedbeef.pth",
    ):  # not there; not the hash in its name
        point_at(choice, url, monkeypatch)
        with pytest.raises(InputError, match="WEIGHTS=random") as caught:
            networks.build("torchvision:resnet18")
        assert str(folder / "cache") in str(caught.value) and url in str(caught.value)


def test_a_hostile_file_in_the_weights_cache_does_not_run(served, monkeypatch):
    _, folder, address = served
    cache = folder / "cache" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save({"a": Payload()}, cache / "resnet18-feedbeef.pth")
    choice = models.ResNet18_Weights.DEFAULT
    point_at(choice, f"{address}/resnet18-feedbeef.pth", monkeypatch)
    with pytest.raises(InputError, match="could not be loaded") as caught:
        networks.build("torchvision:resnet18")
    assert "without running code" in str(caught.value) and "weights_only" not in str(caught.value)


CONTROL_FLOW = """
class Asking(Tiny):
    def forward(self, x):
        return super().forward(x) if x.mean() > -9 else x

class Plain(Asking):
    def __init__(self):
        super().__init__()
        self.bn = nn.Identity()
"""


@pytest.mark.parametrize(("name", "lines"), [("Tiny", 0), ("Asking", 1), ("Plain", 0)])
def test_a_network_that_cannot_be_traced_is_one_note_for_its_user(
    tmp_path, capsys, recwarn, name, lines
):
    """Only if it has batch norms to fold. Its features are those of the traced one."""
    (tmp_path / "own.py").write_text(OWN + CONTROL_FLOW)
    inputs = pixels(2, 3, 32, 32)
    features = []
    for one in (name, name, "Tiny"):  # a network is built several times
        torch.manual_seed(0)
        network = networks.build(f"{tmp_path / 'own.py'}:{one}", weights="own")
        features.append(network.module(inputs)[0])
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == lines and not recwarn.list
    if lines:
        assert said.err == (
            f"note: EXTRACTOR={tmp_path / 'own.py'}:Asking: its batch norms are not merged with its "
            "convolutions, because torch.fx cannot trace its forward function. Extraction is "
            "slower, and the features do not change\n"
        )
        torch.testing.assert_close(features[0], features[2])


def test_an_edited_file_is_read_again(tmp_path):
    """Also within the second and the size that Python's own cache takes for no change."""
    path = tmp_path / "mine.py"
    for channels in (4, 5, 6):
        path.write_text(f"from torch import nn\ndef build(): return nn.Conv2d(3, {channels}, 1)\n")
        assert networks.trunk(f"{path}:build").model.out_channels == channels
