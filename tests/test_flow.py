"""Flow methods by name, and flow as input of features."""

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.optical_flow import raft_large, raft_small

from reelbank.data.errors import InputError
from reelbank.extract.flow.methods import (
    METHODS,
    build_flow,
    magnitude,
    mirrored,
    raft_fields,
    to_uint8,
)


def moving(
    shift: tuple[int, int] = (3, -2), size: tuple[int, int] = (96, 128), n: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """n textured pictures and the same moved by (x, y) pixels, uint8 (n, 3, h, w)."""
    random, margin = np.random.default_rng(0), 8
    firsts, seconds = [], []
    for _ in range(n):
        smooth = cv2.GaussianBlur(
            random.random((size[0] + 2 * margin, size[1] + 2 * margin, 3)).astype(np.float32),
            (0, 0),
            2,
        )
        whole = (
            (255 * (smooth - smooth.min()) / (smooth.max() - smooth.min()))
            .astype(np.uint8)
            .transpose(2, 0, 1)
        )
        x, y = shift
        firsts.append(whole[:, margin : margin + size[0], margin : margin + size[1]])
        seconds.append(
            whole[:, margin - y : margin - y + size[0], margin - x : margin - x + size[1]]
        )
    return torch.from_numpy(np.stack(firsts)), torch.from_numpy(np.stack(seconds))


@pytest.mark.parametrize("method", ["tvl1", "dis", "farneback"])
def test_a_translation_is_recovered(method):
    flow = build_flow(method, "cpu")(*moving())[0, :, 16:-16, 16:-16]
    assert flow.dtype == torch.float32
    assert flow.flatten(1).median(1).values.tolist() == pytest.approx([3, -2], abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_does_not_depend_on_its_batch_nor_on_the_call_before(method):
    flow = build_flow(method, "cpu", "random")
    first, second = moving(size=(40, 56), n=3)
    second[1] = first[1]
    together = flow(first, second)
    assert together.shape == (3, 2, 40, 56)
    for i in (2, 0, 1):
        assert torch.equal(flow(first[i : i + 1], second[i : i + 1])[0], together[i])
    assert flow(first[:0], second[:0]).shape == (0, 2, 40, 56)
    json.dumps(flow.recipe)
    assert flow.recipe["method"] == method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(16, 16), (13, 30)])
def test_small_pictures_work(method, size):
    first, second = (torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8) for _ in range(2))
    flow = build_flow(method, "cpu", "random")(first, second)
    assert flow.shape == (1, 2, *size) and flow.isfinite().all()


def test_bytes_are_clipped_and_scaled():
    # (-30, -20, -10, 0, 0.1, 10, 20, 21) px: (f + 20) * 255 / 40 = 0, 0, 63.75, 127.5, 128.14,
    # 191.25, 255, 255
    row = torch.tensor([-30, -20, -10, 0, 0.1, 10, 20, 21])
    fields = row.repeat(2, 2, 1, 1).transpose(1, 2)  # (2, 1, 2, 8)
    fields = fields.transpose(1, 2)  # (2, 2, 1, 8)
    before = fields.clone()
    maps = to_uint8(fields)
    assert maps.dtype == torch.uint8 and maps.shape == (2, 2, 1, 8)
    assert (maps == torch.tensor([0, 0, 64, 128, 128, 191, 255, 255])).all()
    assert torch.equal(fields, before)
    assert to_uint8(torch.tensor([5.0]), bound_px=10).item() == 191  # 15 * 255 / 20 = 191.25


def test_mirroring_flips_and_turns_x():
    maps = torch.tensor([[[10, 20, 30]], [[1, 2, 3]]], dtype=torch.uint8)  # (2, 1, 3)
    assert mirrored(maps).tolist() == [[[225, 235, 245]], [[3, 2, 1]]]
    assert torch.equal(mirrored(mirrored(maps)), maps)
    assert maps[0, 0, 0] == 10  # not in place
    assert torch.equal(mirrored(maps.expand(4, 5, 2, 1, 3))[3, 4], mirrored(maps))


@pytest.mark.parametrize("method", ["tvl1", "dis", "farneback"])
def test_flow_of_mirrored_pictures_is_the_mirrored_flow(method):
    flow = build_flow(method, "cpu")
    first, second = moving()
    straight, turned = (
        to_uint8(flow(first, second)),
        to_uint8(flow(first.flip(-1), second.flip(-1))),
    )
    off = (mirrored(straight).int() - turned.int()).abs()[..., 16:-16, 16:-16].float()
    assert off.mean() < 1  # of 255, i.e. 0.16 px
    assert (straight.flip(-1).int() - turned.int()).abs()[
        :, 0
    ].float().mean() > 20  # without turning x


def test_magnitude_is_the_mean_length():
    fields = torch.zeros(2, 2, 2, 2)
    fields[1, 0, 0, 0], fields[1, 1, 0, 0] = 3, 4
    fields[1, 1, 1, 1] = -7
    assert magnitude(fields).tolist() == [0, 3]  # (5 + 7) / 4


def test_raft_is_torchvisions_on_padded_pictures(tmp_path):
    torch.manual_seed(5)
    model = raft_small(weights=None).eval()
    path = tmp_path / "raft.safetensors"
    save_file(model.state_dict(), path)
    flow = build_flow("raft_small", "cpu", str(path))
    first, second = moving(size=(130, 140))
    # 130 -> 136: 3 and 3; 140 -> 144: 2 and 2; (x / 255 - 0.5) / 0.5
    a, b = (
        torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (2, 2)), mode="edge")).float()
        / 255
        * 2
        - 1
        for x in (first, second)
    )
    with torch.inference_mode():
        wanted = model(a, b)[-1][:, :, 3:-3, 2:-2]
    found = flow(first, second)
    assert wanted.abs().max() > 0.5
    assert (found - wanted).abs().max() < 1e-3
    assert flow.recipe["weights"]["source"] == "file raft.safetensors"
    assert (
        flow.recipe["weights"]["sha256"]
        != build_flow("raft_small", "cpu", "random").recipe["weights"]["sha256"]
    )


def test_raft_in_batches_is_raft_pair_by_pair():
    torch.manual_seed(5)
    model = raft_small(weights=None).eval()
    first, second = moving(size=(128, 136), n=3)
    with torch.inference_mode():
        alone = raft_fields(model, first, second, pairs=1)
        together = raft_fields(model, first, second, pairs=2)
        only_first = raft_fields(model, first[:1], second[:1], pairs=2)
    assert alone.abs().max() > 0.5
    assert (together - alone).abs().max() < 1e-3  # pixels
    assert (only_first - together[:1]).abs().max() < 1e-3  # whatever the other pair is


@pytest.mark.parametrize("method", [raft_small, raft_large])
def test_a_batch_of_raft_starts_few_kernels_for_each_pair(method):
    model = method(weights=None).eval().to("meta")
    pictures = torch.zeros(32, 3, 128, 136, dtype=torch.uint8, device="meta")
    counter = KernelCounter()
    with torch.inference_mode(), counter:
        raft_fields(model, pictures, pictures, pairs=32)
    assert 500 < counter.count <= 60 * 32


class KernelCounter(TorchDispatchMode):
    """Counts the operations that compute something."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def test_random_raft_is_the_same_for_the_same_seed():
    hashes = [
        build_flow("raft_small", "cpu", "random", seed).recipe["weights"]["sha256"]
        for seed in (1, 1, 2)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_hostile_or_wrong_raft_weights_are_refused(tmp_path):
    ran = tmp_path / "ran"
    torch.save({"state_dict": Hostile(ran)}, tmp_path / "hostile.pth")
    torch.save({"fnet.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(
        InputError, match=r"^FLOW_WEIGHTS=.*hostile\.pth: cannot be read as a state dict"
    ):
        build_flow("raft_small", "cpu", str(tmp_path / "hostile.pth"))
    assert not ran.exists()
    with pytest.raises(InputError, match=r"^FLOW_WEIGHTS=.*does not fit raft_small"):
        build_flow("raft_small", "cpu", str(tmp_path / "wrong.pth"))
    with pytest.raises(InputError, match=r"^FLOW_WEIGHTS=.*: the file does not exist$"):
        build_flow("raft_small", "cpu", str(tmp_path / "none.pth"))


def test_pretrained_without_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"^FLOW_WEIGHTS=.*raft_small.*put the file at .*or FLOW_WEIGHTS=random$"
    ):
        build_flow("raft_small", "cpu")


def test_unknown_methods_and_pictures_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="FLOW=tlv1.*tvl1"):
        build_flow("tlv1", "cpu")
    first, second = moving(size=(32, 32))
    with pytest.raises(ValueError, match=r"pictures must be \(n, 3, H, W\)"):
        build_flow("dis", "cpu")(first, second[..., 1:])
