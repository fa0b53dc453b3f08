"""The toy data set: 360 short videos with sound that this program draws, so that all commands can
be tried offline.

There are ten classes in five families of two. The two classes of a family differ in one property.
Everything else (style, places, colours, speeds, camera) is drawn once for both classes, so a model
that cannot detect the difference classifies half of the pair correctly.

look      look_stripes, look_checks: the texture of one drifting object.
          Any picture shows the class, also averaged over time.
motion    motion_up, motion_down: four objects rise; the other class is the same video backwards.
          Flow shows the class, also averaged over time; pictures only through their order.
sound     sound_low, sound_high: beeps of 220-440 or 880-1760 Hz from a loudspeaker at rest.
          Only sound shows the class.
order     order_light_dark, order_dark_light: the light flares up, then goes down; the other class
          is the same video backwards.
          Pictures show the class through their order, but not averaged over time.
relation  relation_alike, relation_different: six pairs of objects, equal in every pair or unequal
          in every pair, at any place; the same twelve objects in both classes.
          Pictures show the class if places within a frame are compared. Averages over places and
          time hardly show it, but the variation over time of averages over places does: two equal
          objects count twice.

Difficulty, in per cent correct within the pair (chance 50; 48 training videos, 72 test videos over
three splits, +-12 at chance): random-weight ResNet-18 at 112 px, T = 16, averaged over time +
logistic regression: look 96, motion 50, sound 47, order 54, relation 62; GRU-128 on the same: order
99, relation 76; mean Farneback flow: motion 100; mean and deviation of log spectra: sound 100; a
small non-local head on the 4 x 4 maps: relation 88 to 100. Length, mean colour and file size show
at most look.

Videos are 96 x 96, 25 fps, 48 to 56 frames, H.264 in mp4 with an AAC track. Every class has 12
groups of 3 clips. A group (its background, colours, timbre) is shared by the two classes of a
family and is never divided. Groups 1-4, 5-8, 9-12 are the test parts of splits 1, 2, 3. The same
seed gives the same bytes with the same PyAV on the same kind of machine.
"""

import json
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import joblib
from tqdm import tqdm

from reelbank.data.console import bar_options
from reelbank.data.datasets.toy_drawing import (
    COARSE,
    FPS,
    SIZE_PX,
    frames_of,
    render,
    write_video,
)
from reelbank.data.datasets.types import Dataset, DatasetOptions, DatasetSpec, Video
from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.system.machine import cores
from reelbank.data.system.processes import in_processes
from reelbank.data.video.messages import VideoInfo

# Increase it when a drawn byte changes: folders drawn by another version are then drawn again.
VERSION = 3
CLASSES = tuple(chain.from_iterable(COARSE.values()))
GROUPS, CLIPS = 12, 3
SPLITS = ("1", "2", "3")
_MANIFEST = "toy.json"


def official_parts(group: int) -> tuple[str, ...]:
    """'train' or 'test' in each of the three splits."""
    return tuple("test" if 4 * split < group <= 4 * (split + 1) else "train" for split in range(3))


def video_ids() -> list[str]:
    """All 360 ids, `<class>/v_<class>_gNN_cNN`, sorted."""
    numbers = product(range(1, GROUPS + 1), range(1, CLIPS + 1))
    endings = [f"g{group:02d}_c{clip:02d}" for group, clip in numbers]
    return sorted(f"{name}/v_{name}_{ending}" for name, ending in product(CLASSES, endings))


def load(options: DatasetOptions) -> Dataset:
    """Load the toy videos in ROOT, by default `<bank>/toy` (`<bank>/toy-seed<n>` for another seed).
    Missing videos are drawn first, unless `options.draws` is False: then they are described. Each
    seed is a separate data set with its own name."""
    name = options.name if options.seed == 0 else f"{options.name}-seed{options.seed}"
    folder = Path(options.root or Path(options.bank, name)).expanduser().absolute()
    missing: list[str] = []
    if options.draws:
        draw(folder, options.seed)
    else:
        missing = undrawn(folder, options.seed)
    videos = []
    for video_id in video_ids():
        parsed = _parse(video_id)
        family = parsed.label.split("_")[0]
        videos.append(
            Video(
                video_id,
                folder / f"{video_id}.mp4",
                parsed.label,
                f"{family}/g{parsed.group:02d}",
                official_parts(parsed.group),
            )
        )
    notes: tuple[str, ...] = ()
    if missing:
        notes = (
            f"{len(missing)} of the {len(videos)} videos of {name} do not exist yet; the extraction "
            f"draws them in {folder}",
        )
    return Dataset(
        name,
        folder,
        tuple(videos),
        CLASSES,
        SPLITS,
        coarse=COARSE,
        notes=notes,
        undrawn={folder / f"{video_id}.mp4": _info(video_id, options.seed) for video_id in missing},
    )


def _info(video_id: str, seed: int) -> VideoInfo:
    """What the header of a video will state."""
    parsed = _parse(video_id)
    frames = frames_of(parsed.label, parsed.group, parsed.clip, seed)
    return VideoInfo(
        frames=frames,
        fps=FPS,
        width=SIZE_PX,
        height=SIZE_PX,
        decoder="",
        duration_seconds=frames / FPS,
        audio=True,
    )


def undrawn(folder: Path, seed: int = 0) -> list[str]:
    """The ids of the videos that `draw` would draw; nothing is written. Raises InputError if
    `folder` contains other files."""
    is_current = _is_current(folder / _MANIFEST, _manifest(seed))
    return [
        video_id
        for video_id in video_ids()
        if not is_current or not (folder / f"{video_id}.mp4").exists()
    ]


def draw(folder: Path, seed: int = 0, workers: int = 0) -> int:
    """Draw the videos that are missing in `folder`; returns how many were drawn.

    Each file is written under a hidden name and renamed, so a command that was killed continues
    where it stopped. Videos of another seed or version are drawn again. workers: 0 for one process
    per core. Raises InputError if `folder` contains other files or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder, _manifest(seed))
        missing = undrawn(folder, seed)
        for name in {video_id.split("/")[0] for video_id in missing}:
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write the toy data set to {folder}: {error.strerror}") from None
    if missing:
        jobs = (joblib.delayed(_draw_video)(folder, video_id, seed) for video_id in missing)
        drawn = in_processes(jobs, workers or cores().value)
        words, unit = "drawing the toy data set", " videos"
        for _ in tqdm(drawn, total=len(missing), desc=words, unit=unit, **bar_options()):
            pass
    return len(missing)


def _manifest(seed: int) -> dict:
    return {"drawn_by": "reelbank toy", "version": VERSION, "seed": seed}


def _is_current(path: Path, manifest: dict) -> bool:
    """Whether a folder, whose manifest is at `path`, contains this data set. Raises InputError if
    it contains other files."""
    if path.exists():
        return path.read_text(encoding="utf-8") == json.dumps(manifest)
    folder = path.parent
    if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise InputError(
            f"ROOT={folder} must be new, empty, or made by DATASET=toy, but it contains "
            "other files; give another folder"
        )
    return False


def _claim(folder: Path, manifest: dict) -> None:
    """Make sure that `folder` contains this data set; remove the videos of another seed or
    version."""
    path = folder / _MANIFEST
    if _is_current(path, manifest):
        return
    if path.exists():
        for video_id in video_ids():
            (folder / f"{video_id}.mp4").unlink(missing_ok=True)
    with replacing(path) as hidden:
        hidden.write_text(json.dumps(manifest), encoding="utf-8")


def _draw_video(folder: Path, video_id: str, seed: int) -> None:
    parsed = _parse(video_id)
    video = render(parsed.label, parsed.group, parsed.clip, seed)
    path = folder / f"{video_id}.mp4"
    with replacing(path, durable=False) as hidden:  # after a power cut a lost file is drawn again
        write_video(hidden, video.frames, video.sound)


class _Parsed(NamedTuple):
    label: str
    group: int
    clip: int


def _parse(video_id: str) -> _Parsed:
    """The parts of an id `<class>/v_<class>_gNN_cNN`."""
    label, _, name = video_id.partition("/")
    group, clip = name.removeprefix(f"v_{label}_").split("_")
    return _Parsed(label, int(group[1:]), int(clip[1:]))


TOY = DatasetSpec(load, drawn_in="toy")
