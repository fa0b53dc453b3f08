"""Our backbones have the names, shapes and outputs of the public code that their checkpoints were
made with."""

import pytest
import torch
from filled import filled, pixels, reference, sample
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from reelbank.data.errors import InputError
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.backbones import bn_inception, c3d, i3d, motion_cnn, vggish


def loaded(module, state: dict[str, Tensor], channels: int) -> nn.Module:
    """Ours with a public state dict; strict: nothing missing, nothing unexpected."""
    with torch.device("meta"):  # no time for random weights that are replaced at once
        model = module.build(channels)
    model.load_state_dict(module.from_checkpoint(state), strict=True, assign=True)
    return model.eval()


def assert_same(found: Tensor, expected: list[float]) -> None:
    """32 values equal to 1e-4 of the largest, and so the norm."""
    *values, norm = sample(found)
    *expected_values, expected_norm = expected
    scale = max(abs(value) for value in expected_values)
    assert max(abs(a - b) for a, b in zip(values, expected_values, strict=True)) < 1e-4 * scale
    assert abs(norm - expected_norm) < 1e-4 * expected_norm
    assert (
        scale > 0.1 and len({round(value, 6) for value in expected_values}) > 8
    )  # the comparison is about something


@pytest.mark.parametrize(
    ("module", "features", "gain"), [(i3d, 1024, 1), (c3d, 4096, 1), (bn_inception, 1024, 100)]
)
def test_public_state_dict_loads_strictly_and_gives_the_public_codes_output(module, features, gain):
    public = reference(module.__name__.rpartition(".")[2])
    shapes = {
        key: [1] if key.startswith(("fc7.", "fc8.")) else shape
        for key, shape in public["shapes"].items()
    }  # for speed
    model = loaded(module, filled(shapes), 3)
    with torch.inference_mode():
        found = model(gain * pixels(*public["input"]))
    assert found.shape == (1, features)
    assert_same(found, public["output"])


def test_vggish_with_and_without_pca_is_the_public_codes():
    public = reference("vggish")
    state = filled(public["shapes"])
    x = pixels(*public["input"])
    with torch.inference_mode():
        assert_same(loaded(vggish, state, 1)(x), public["output_pca"])
        bare = {key: value for key, value in state.items() if not key.startswith("pproc.")}
        found = loaded(vggish, bare, 1)(x)
    assert found.shape == (2, 128)
    assert_same(found, public["output"])


def shapes_of(module) -> dict[str, list[int]]:
    """Of the public code's state dict."""
    return reference(module.__name__.rpartition(".")[2])["shapes"]


def small(module) -> dict[str, Tensor]:
    """The public names, each with a small tensor of its own: what renaming needs."""
    return {name: torch.full((2, 2), number) for number, name in enumerate(shapes_of(module))}


def renamed(
    state: dict[str, Tensor], prefix: str, drop: str, add: tuple[str, ...]
) -> dict[str, Tensor]:
    kept = {f"{prefix}{key}": value for key, value in state.items() if not key.startswith(drop)}
    return kept | {key: torch.zeros(1) for key in add}


def test_bn_inception_of_tsn_and_mmaction():
    """tsn-pytorch puts dropout in fc's place and classifies by new_fc; mmaction's head is outside
    its backbone."""
    state = small(bn_inception)
    expected = bn_inception.from_checkpoint(state)
    assert not any(key.startswith("fc.") for key in expected) and len(expected) == len(state) - 2
    for prefix, add in [
        ("module.base_model.", ("module.new_fc.weight", "module.new_fc.bias")),
        ("base_model.", ("new_fc.weight", "new_fc.bias")),
        ("backbone.", ("cls_head.fc_cls.weight", "cls_head.fc_cls.bias")),
        ("", ("last_linear.weight", "last_linear.bias")),
    ]:
        found = bn_inception.from_checkpoint(renamed(state, prefix, "fc.", add))
        assert found.keys() == expected.keys() and all(found[key] is expected[key] for key in found)


def test_bn_inception_of_old_pytorch():
    """Batch norm's vectors as (1, C), and no count of batches."""
    state = filled(
        {
            name: [1, *shape] if "_bn." in name and shape else shape
            for name, shape in shapes_of(bn_inception).items()
        }
    )
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert state["conv1_7x7_s2_bn.weight"].shape == (1, 64)
    loaded(bn_inception, state, 3)


def test_c3d_of_the_ports():
    """c3d.pickle's names; those that pytorch-video-recognition maps to them (its own table);
    mmaction2's ConvModules."""
    state = small(c3d)
    expected = c3d.from_checkpoint(state)
    assert {key.split(".")[0] for key in expected} == {
        *("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6"),
    }
    numbered = dict(
        zip(
            (0, 3, 6, 8, 11, 13, 16, 18),
            [key for key in expected if key.endswith("weight")],
            strict=False,
        )
    )
    vgg, mm = {}, {}
    for number, weight in numbered.items():
        layer = weight.removesuffix(".weight")
        for kind in ("weight", "bias"):
            vgg[f"features.{number}.{kind}"] = state[f"{layer}.{kind}"]
            mm[f"backbone.{layer}{'a' if layer in ('conv1', 'conv2') else ''}.conv.{kind}"] = state[
                f"{layer}.{kind}"
            ]
    for kind in ("weight", "bias"):
        vgg |= {
            f"classifier.{number}.{kind}": state[f"fc{6 + number // 3}.{kind}"]
            for number in (0, 3, 6)
        }
        mm |= {f"backbone.fc{number}.{kind}": state[f"fc{number}.{kind}"] for number in (6, 7)}
        mm |= {f"cls_head.fc_cls.{kind}": state[f"fc8.{kind}"]}
    for other in (vgg, mm):
        found = c3d.from_checkpoint(other)
        assert found.keys() == expected.keys() and all(found[key] is expected[key] for key in found)


@pytest.mark.parametrize("module", [i3d, c3d, vggish, bn_inception, motion_cnn])
def test_unknown_names_stay(module):
    """The loader refuses them by name; none is lost, and two names do not become one."""
    odd = {
        key: torch.zeros(1)
        for key in ("", ".", "module.", "odd", "odd.weight", "module.odd.weight", "a..b")
    }
    found = module.from_checkpoint(odd)
    assert {id(value) for value in odd.values()} <= {id(value) for value in found.values()}


@pytest.mark.parametrize(("module", "channels"), [(i3d, 2), (c3d, 2), (bn_inception, 10)])
def test_flow_networks_differ_only_in_the_first_convolution(module, channels):
    with torch.device("meta"):
        shapes = {
            key: list(value.shape) for key, value in module.build(channels).state_dict().items()
        }
    rgb = {key: shape for key, shape in shapes_of(module).items() if key in shapes}
    (first,) = [key for key in shapes if shapes[key] != rgb[key]]
    assert first == next(iter(shapes)) and shapes[first][1] == channels


@pytest.mark.parametrize(
    ("frames", "side", "map_size"), [(16, 112, (2, 4, 4)), (4, 32, (1, 1, 1)), (25, 64, (4, 2, 2))]
)
def test_i3d_of_other_lengths_and_sizes_pools_what_is_there(frames, side, map_size):
    torch.manual_seed(0)
    model = i3d.build(2).eval()
    maps = {}
    model.Mixed_5c.register_forward_hook(lambda part, read, made: maps.update(last=made))
    with torch.inference_mode():
        found = model(torch.randn(2, 2, frames, side, side))
        last = maps["last"]
        assert last.shape == (2, 1024, *map_size)
        pairs = nn.functional.avg_pool3d(last, (min(2, map_size[0]), *map_size[1:]), 1)
    assert torch.allclose(found, pairs.mean((2, 3, 4)), rtol=1e-5, atol=1e-7)


def test_c3d_says_what_it_reads():
    with torch.device("meta"), pytest.raises(InputError, match="16 frames of 112 x 112"):
        c3d.build(3).eval()(torch.zeros(1, 3, 8, 64, 64))


def test_vggish_reads_one_channel():
    with pytest.raises(InputError, match="STREAM=audio"):
        vggish.build(3)


def paper_motion_cnn(divide: int) -> nn.Sequential:
    """Built from the paper's description, because its code is not public: conv1 (7x7x96; stride 2; pooling 3x3; norm), conv2
    (5x5x256; stride 2; pooling 3x3), conv3 (3x3x512; stride 1), conv4 (3x3x512; stride 1), conv5
    (3x3x512; stride 1; pooling 3x3), full6 (4096; dropout), full7 (2048; dropout); 320x240, stacks
    of 10 pairs; pooling by 2, padding k // 2. All channel counts are divided by `divide`."""
    relu, dropout, pool = nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(
        *(
            nn.Conv2d(20, 96 // divide, 7, stride=2, padding=3),
            relu,
            pool,
            nn.BatchNorm2d(96 // divide),
        ),
        *(nn.Conv2d(96 // divide, 256 // divide, 5, stride=2, padding=2), relu, pool),
        *(nn.Conv2d(256 // divide, 512 // divide, 3, padding=1), relu),
        *(nn.Conv2d(512 // divide, 512 // divide, 3, padding=1), relu),
        *(nn.Conv2d(512 // divide, 512 // divide, 3, padding=1), relu, pool),
        *(nn.Flatten(), nn.Linear(512 // divide * 8 * 10, 4096 // divide), relu, dropout),
        *(nn.Linear(4096 // divide, 2048 // divide), relu, dropout),
    )


def test_motion_cnn_is_the_papers_at_320x240():
    with torch.device("meta"):  # 176 million parameters: shapes alone
        ours, papers = motion_cnn.build(20), paper_motion_cnn(1)
        assert (
            ours.eval()(torch.zeros(2, 20, 240, 320)).shape
            == papers.eval()(torch.zeros(2, 20, 240, 320)).shape
            == (2, 2048)
        )
    assert [list(p.shape) for p in ours.parameters()] == [
        list(p.shape) for p in papers.parameters()
    ]
    narrow, papers = motion_cnn.build(20, width=1 / 16).eval(), paper_motion_cnn(16).eval()
    state = filled({key: list(value.shape) for key, value in narrow.state_dict().items()})
    narrow.load_state_dict(
        motion_cnn.from_checkpoint({f"module.{key}": value for key, value in state.items()})
    )
    in_order = [state[key] for key in narrow.state_dict()]
    papers.load_state_dict(dict(zip(papers.state_dict(), in_order, strict=True)))
    x = pixels(2, 20, 240, 320)
    with torch.inference_mode():
        found, expected = narrow(x), papers(x)
        assert found.shape == (2, 128) and expected.abs().max() > 0.1
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        assert (
            narrow(pixels(2, 20, 64, 64)).shape == narrow(pixels(2, 20, 33, 97)).shape == (2, 128)
        )


def test_motion_cnn_applies_dropout_only_in_training():
    torch.manual_seed(0)
    model = motion_cnn.build(4, width=1 / 16)
    x = torch.randn(3, 4, 64, 64)
    zeros = [(model.train(training)(x) == 0).float().mean().item() for training in (True, False)]
    assert (
        zeros[0] > 0.65 and zeros[1] < 0.6
    )  # half of full7's units are 0 by their ReLU, and half of all by dropout


@pytest.mark.parametrize(
    ("module", "nodes", "shape"),
    [
        (i3d, ("Mixed_3c", "Mixed_5c"), (1, 3, 9, 47, 64)),
        (bn_inception, ("inception_4e_output", "inception_5b_output"), (1, 3, 75, 64)),
        (motion_cnn, ("norm1", "conv5"), (1, 4, 60, 80)),
    ],
)
def test_networks_can_be_cut_at_a_node_and_batch_norm_folded(module, nodes, shape):
    torch.manual_seed(0)
    model = module.build(shape[1], **({"width": 1 / 16} if module is motion_cnn else {})).eval()
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2)
    seen = []
    hooks = [
        model.get_submodule(node).register_forward_hook(
            lambda part, read, made: seen.append(made.clone())
        )
        for node in nodes
    ]
    x = torch.rand(shape)
    with torch.inference_mode():
        whole = model(x)
        for hook in hooks:
            hook.remove()
        maps = create_feature_extractor(model, list(nodes))(x)
        folded = fuse(model)(x)
    for node, expected in zip(nodes, seen, strict=True):
        assert torch.allclose(maps[node], expected, rtol=1e-5, atol=1e-6)
    assert (folded - whole).norm() < 1e-4 * whole.norm()


@pytest.mark.parametrize(
    ("module", "channels", "node"), [(c3d, 3, "pool5"), (vggish, 1, "features.15")]
)
def test_large_networks_can_be_followed(module, channels, node):
    with torch.device("meta"):
        assert node in get_graph_node_names(module.build(channels))[1]


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18"])
def test_torchvisions_video_network_gives_what_its_classifier_reads(name):
    trunk = networks.trunk(f"torchvision:{name}", weights="random", seed=4)
    torch.manual_seed(4)
    model = models.get_model(name, weights=None).eval()
    read = []
    model.fc.register_forward_hook(lambda part, given, made: read.append(given[0]))
    x = torch.randn(1, 3, 8, 40, 40)
    with torch.inference_mode():
        model(x)
        found = trunk.model.eval()(x)
    assert found.shape == (1, 512) and trunk.kind == "video"
    assert torch.equal(found, read[0])


def test_i3d_of_video_features_has_their_names_and_their_epsilon():
    """hassony2's names; the classifier is left out, and batch norm's epsilon is the one that their
    code runs the files with."""
    public = reference("i3d_video_features")
    state = filled(public["shapes"])
    with torch.device("meta"):
        model = i3d.build(3)
    model.load_state_dict(i3d.from_checkpoint(state), strict=True, assign=True)
    assert i3d.settle(model, state) == 1e-5
    with torch.inference_mode():
        found = model.eval()(pixels(*public["input"]))
    assert_same(found, public["output"])
    assert i3d.settle(model, small(i3d)) is None
