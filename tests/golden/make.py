"""Makes a golden folder: clips, stores and runs as the commit wrote them that the folder is named after.

    git worktree add /somewhere/old <commit>
    cd tests/golden && PYTHONPATH=/somewhere/old python make.py <commit>

Everything below is that commit's own commands. The clips are kept too, for what encodes them may change.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np

FPS, FRAMES, SIDE_PX, SOUND_HZ = 10, 12, 64, 16000
CLASSES, GROUPS = (
    ("Archery", "Biking"),
    (1, 8, 9),
)  # of UCF-101's names: 1 is in test, 8 and 9 in training, of split 1

# Options of `extract` that the tests repeat: they must find the stores kept here.
PICTURES = (
    "CROPS=1 T=2 SAMPLING=sigma RESIZE=64 SIZE=64 EXTRACTOR=torchvision:resnet18 WEIGHTS=random"
)
EXTRACTIONS = {
    "rgb": f"STREAM=rgb {PICTURES}",
    "flow": f"STREAM=flow FLOW=dis CLIP=2 {PICTURES}",
    "audio": "STREAM=audio EXTRACTOR=vggish WEIGHTS=random",
    "unfinished": f"STREAM=rgb SEED=1 {PICTURES}",
}
TRAININGS = ("HEAD=meanpool EPOCHS=2 BATCH=2", "HEAD=gru HIDDEN=4 EPOCHS=2 BATCH=2")


def draw(path: Path, number: int) -> None:
    """A clip with a square that moves and a tone, different for each number."""
    seconds = np.arange(FRAMES * SOUND_HZ // FPS) / SOUND_HZ
    tone = (np.sin(2 * np.pi * (300 + 100 * number) * seconds) / 4).astype(np.float32)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=FPS)
        pictures.width = pictures.height = SIDE_PX
        pictures.pix_fmt = "yuv420p"
        pictures.bit_rate = 60_000
        sound = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        sound.bit_rate = 24_000
        for frame in range(FRAMES):
            image = np.full((SIDE_PX, SIDE_PX, 3), 40 + 20 * number, np.uint8)
            left = 4 + 3 * frame if number % 2 else 40 - 3 * frame
            image[20:36, left : left + 16] = (200, 255 - 30 * number, 30 * number)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        wave = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        wave.sample_rate = SOUND_HZ
        container.mux(sound.encode(wave))
        container.mux(sound.encode())
        container.mux(pictures.encode())


def reelbank(command: str, options: str, **places: Path) -> None:
    """Run one command, as `make` does: NAME=value becomes --name value."""
    words = [
        word.split("=", 1)
        for word in [*options.split(), *(f"{name}={path}" for name, path in places.items())]
    ]
    flags = [
        part for name, value in words for part in (f"--{name.lower().replace('_', '-')}", value)
    ]
    done = subprocess.run([sys.executable, "-m", "reelbank", command, *flags], check=False)
    if done.returncode:
        sys.exit(f"{command} {options} ended with {done.returncode}")


def main(target: Path) -> None:
    """Draw the clips and fill the folder as a bank: three stores, one that is unfinished, two runs."""
    target.mkdir()
    os.chdir(target)
    clips, bank = Path("clips"), Path()
    for number, (name, group) in enumerate((name, group) for name in CLASSES for group in GROUPS):
        path = clips / name / f"v_{name}_g{group:02d}_c01.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, number)
    for name, options in EXTRACTIONS.items():
        shard = " SHARD=1/2" if name == "unfinished" else ""  # the other shard never runs
        reelbank("extract", f"DATASET=ucf101 DEVICE=cpu {options}{shard}", ROOT=clips, BANK=bank)
    for options in TRAININGS:
        reelbank("train", f"DATASET=ucf101 STREAM=flow SPLIT=1 DEVICE=cpu {options}", BANK=bank)
    Path("values.json").write_text(json.dumps(read_values(bank), indent=1) + "\n")


def read_values(bank: Path) -> dict[str, dict[str, str]]:
    """For each store its videos, each with the SHA-256 of its features and times as this commit reads them."""
    from reelbank.data.store import Store

    values: dict[str, dict[str, str]] = {}
    for path in sorted({name.with_suffix(".h5") for name in (bank / "stores").iterdir()}):
        with Store.open(path) as store:
            values[path.name] = {
                video_id: digest(*store.features(video_id)) for video_id in store.video_ids
            }
    return values


def digest(values: np.ndarray, times_seconds: np.ndarray) -> str:
    """SHA-256 of a video's features (K, D) and times (K,)."""
    return hashlib.sha256(values.tobytes() + times_seconds.tobytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
