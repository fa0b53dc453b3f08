"""Videos and data sets as the rest of the program sees them, and how video files are found below a folder."""

import difflib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reelbank.data import frames_folder
from reelbank.data.errors import InputError

# "bystander" files usually lie beside videos; a file of any other ending (sound above all) is mentioned when it is left out.
ENDINGS = {
    kind: frozenset(words.split())
    for kind, words in {
        "video": """264 265 3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpe mpeg
            mpg mts mxf nut ogv rm rmvb ts vob webm wmv y4m""",
        "bystander": """bib bmp cfg csv db doc docx h5 hdf5 htm html ini jpeg jpg json jsonl lock log mat md md5 npy npz pdf pkl
            png py rst sh sha256 srt tex tif tiff toml tsv txt url vtt xls xlsx xml yaml yml""",
    }.items()
}


@dataclass(frozen=True)
class Video:
    """One video: a file, or a folder of numbered images. `id` is its path below ROOT, without a file's ending, with '/';
    `label` its class ('' unlabelled); `group` the source it was cut from ('' unknown); `parts` one of 'train', 'test', '' for
    each of the data set's splits. `span_seconds` is the stretch of the file that is meant, None for all of it; `id` then goes
    on below the file's."""

    id: str
    path: Path
    label: str
    group: str
    parts: tuple[str, ...]
    span_seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Dataset:
    """Videos in order of id. `classes` is the whole class list in its official order, also where only some have videos;
    `coarse` maps category -> classes ({} if none); `notes` are lines for the user: what is missing, what was left out. Where
    `multilabel`, a label is any number of classes joined by ';', and '' is a video with none of them. `files` is how many files
    the videos are stretches of, those without a stretch too; 0 where each is a file of its own."""

    name: str
    root: Path
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    coarse: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    multilabel: bool = False
    files: int = 0


@dataclass(frozen=True)
class DatasetOptions:
    """What a data set is read from: see docs/datasets.md. Empty strings mean 'not given'."""

    name: str
    root: str = ""
    splits_dir: str = ""
    csv: str = ""
    seed: int = 0
    bank: str = "bank"


def some(names: Iterable[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    listed = list(names)
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?', or nothing when no known word is close."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, 1)
    return f"; did you mean {by_folded[near[0]]}?" if near else ""


def existing_folder(text: str, option: str, wanted_by: str) -> Path:
    """The folder that an option names, absolute. Raises InputError when it is not given, missing, or no folder."""
    if not text:
        raise InputError(f"DATASET={wanted_by} needs {option}=<folder>")
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InputError(f"{option}={text}: no such folder")
    if not path.is_dir():
        raise InputError(f"{option}={text} is a file, not a folder")
    return path


def subfolders(folder: Path) -> list[Path]:
    """Visible folders right below `folder`, sorted. Raises InputError when it cannot be read."""
    return [path for path in _entries(folder) if path.is_dir()]


def check_level(root: Path, classes: Iterable[str], title: str) -> None:
    """Raises InputError unless `root` holds a class folder; points to the folder above or below that does."""
    known = {name.casefold() for name in classes}

    def class_folders(folder: Path) -> int:
        return sum(path.name.casefold() in known for path in subfolders(folder))

    if class_folders(root):
        return
    if root.name.casefold() in known:
        raise InputError(f"ROOT={root} is one class, not the folder of all classes; use ROOT={root.parent}")
    below = subfolders(root)
    counts = {folder: class_folders(folder) for folder in below + [deeper for path in below for deeper in subfolders(path)]}
    if any(counts.values()):
        raise InputError(f"ROOT={root} holds no class folders of {title}; use ROOT={max(counts, key=counts.__getitem__)}")
    what = "no class folders" if _entries(root) else "nothing: the folder is empty, and no class folders"
    raise InputError(f"ROOT={root} holds {what} of {title} (such as {min(classes)})")


def find_videos(root: Path) -> tuple[dict[str, Path], list[str]]:
    """All videos below `root` by id, in order of id, and notes on what was left out: video files, and folders that hold
    numbered images of one kind, no video and no folder. Videos that differ only in their ending keep it in their ids. Links are
    followed, loops are not; hidden files and unfinished stores (`*.parts`) are passed over."""
    same_stem: dict[str, list[Path]] = defaultdict(list)
    refused, broken, unreadable_names, mixed, root_itself = [], [], [], [], []
    for path, names in _walk(root):
        name = path.relative_to(root).as_posix()
        ending = path.suffix[1:].lower()
        if not _is_text(name):
            unreadable_names.append(ascii(name))
        elif names is not None:
            if not frames_folder.is_video(names):
                mixed.append(name)
            elif path == root:
                root_itself.append(f"use ROOT={root.parent}")
            else:
                same_stem[name].append(path)
        elif not path.exists():
            broken.append(name)
        elif ending in ENDINGS["video"]:
            same_stem[name[: -len(path.suffix)]].append(path)
        elif ending not in ENDINGS["bystander"]:
            refused.append(name)
    found: dict[str, Path] = {}
    for stem, paths in same_stem.items():
        for path in paths:
            video_id = stem if len(paths) == 1 else path.relative_to(root).as_posix()
            if video_id in found:
                raise InputError(f"two videos would share the id {video_id}: {found[video_id]} and {path}; rename one of them")
            found[video_id] = path
    notes = [
        f"left out, {reason}: {some(sorted(names), 8)}"
        for reason, names in (
            ("not a video by its ending", refused),
            ("link that leads nowhere", broken),
            ("name is not valid text", unreadable_names),
            ("numbered images of several kinds in one folder", mixed),
            ("ROOT is itself one video's folder of images", root_itself),
        )
        if names
    ]
    return dict(sorted(found.items())), notes


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None


def _walk(root: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Every visible file below `root`, with None; and each folder of numbered images in place of these, with the names of its
    files. A folder that is its own ancestor, through a link, is not entered again."""
    stack: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while stack:
        folder, above = stack.pop()
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            continue
        files, folders = _files_and_folders(folder)
        stack += [(folder / name, above | {here}) for name in folders if not name.endswith(".parts")]
        images: set[str] = set()
        if not folders and not any(_ending(name) in ENDINGS["video"] for name in files):
            images = {name for numbered in frames_folder.kinds(files).values() if len(numbered) > 1 for _, name in numbered}
        if images:
            yield folder, files
        for name in files:
            if name not in images:
                yield folder / name, None


def _files_and_folders(folder: Path) -> tuple[list[str], list[str]]:
    """Visible names, sorted; a link counts as what it leads to. There may be millions of images: names only, no Path each."""
    names: tuple[list[str], list[str]] = ([], [])
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    is_folder = Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()
                    names[is_folder].append(entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None
    return sorted(names[False]), sorted(names[True])


def _ending(name: str) -> str:
    return Path(name).suffix[1:].lower()
