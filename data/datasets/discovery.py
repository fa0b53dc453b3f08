"""Finds the videos of a data set below a folder."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reelbank.data.console import some
from reelbank.data.errors import InputError
from reelbank.data.video import images as frames_folder

# Files with an ending of "other" are common next to videos and are ignored without a note. Files
# with an ending that is not listed (sound, for example) are left out with a note.
ENDINGS = {
    kind: frozenset(words.split())
    for kind, words in {
        "video": """264 265 3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpe mpeg
            mpg mts mxf nut ogv rm rmvb ts vob webm wmv y4m""",
        "other": """bib bmp cfg csv db doc docx h5 hdf5 htm html ini jpeg jpg json jsonl lock log mat md md5 npy npz pdf pkl
            png py rst sh sha256 srt tex tif tiff toml tsv txt url vtt xls xlsx xml yaml yml""",
    }.items()
}


def existing_folder(text: str, option: str, dataset: str) -> Path:
    """The folder that an option names, as an absolute path. Raises InputError if the option is not
    given, or does not name an existing folder."""
    if not text:
        raise InputError(f"DATASET={dataset} needs {option}=<folder>")
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InputError(f"{option}={text}: the folder does not exist")
    if not path.is_dir():
        raise InputError(f"{option}={text} must be a folder, but is a file")
    return path


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly in `folder`, sorted. Raises InputError if it cannot be read."""
    return [path for path in _entries(folder) if path.is_dir()]


def check_level(root: Path, classes: Iterable[str], title: str) -> None:
    """Raises InputError unless `root` contains a class folder. The message suggests the folder
    above or below `root` that contains class folders."""
    folded_names = {name.casefold() for name in classes}

    def class_folders(folder: Path) -> int:
        return sum(path.name.casefold() in folded_names for path in subfolders(folder))

    if class_folders(root):
        return
    if root.name.casefold() in folded_names:
        raise InputError(
            f"ROOT={root} is the folder of one class; give the folder of all classes, "
            f"ROOT={root.parent}"
        )
    folders = subfolders(root)
    for folder in tuple(folders):
        folders += subfolders(folder)
    counts = {folder: class_folders(folder) for folder in folders}
    if any(counts.values()):
        best = max(counts, key=counts.__getitem__)
        raise InputError(f"ROOT={root} contains no class folders of {title}; use ROOT={best}")
    if not _entries(root):
        raise InputError(f"ROOT={root} is empty; expected the class folders of {title}")
    raise InputError(
        f"ROOT={root} contains no class folders of {title}; give the folder that contains the "
        f"class folders, such as {min(classes)}"
    )


class FoundVideos(NamedTuple):
    """paths: id -> path, in order of id. notes: lines for the user about files that were left
    out."""

    paths: dict[str, Path]
    notes: list[str]


def find_videos(root: Path) -> FoundVideos:
    """All videos below `root`.

    A video is a file with a video's ending, or a folder that contains numbered images of one kind
    and neither a video nor a folder. Videos whose paths differ only in their ending keep it in
    their ids. Links are followed, but not into loops. Hidden files and folders of unfinished stores
    (`*.parts`) are ignored."""
    same_stem: dict[str, list[Path]] = defaultdict(list)
    other_endings, broken_links, unreadable_names, mixed, root_itself = [], [], [], [], []
    for path, names in _walk(root):
        name = path.relative_to(root).as_posix()
        ending = path.suffix[1:].lower()
        if not _is_text(name):
            unreadable_names.append(ascii(name))
        elif names is not None:
            if not frames_folder.is_video(names):
                mixed.append(name)
            elif path == root:
                root_itself.append(f"ROOT={root.parent}")
            else:
                same_stem[name].append(path)
        elif not path.exists():
            broken_links.append(name)
        elif ending in ENDINGS["video"]:
            same_stem[name[: -len(path.suffix)]].append(path)
        elif ending not in ENDINGS["other"]:
            other_endings.append(name)
    path_of_id = _paths_by_id(root, same_stem)
    notes = [
        f"{reason}: {some(sorted(names), 8)}"
        for reason, names in (
            ("files left out because their names have no video file extension", other_endings),
            ("symbolic links left out because their targets do not exist", broken_links),
            ("files left out because their names are not valid UTF-8", unreadable_names),
            ("folders left out because they contain several series of numbered images", mixed),
            ("ROOT is the folder of a single video; give its parent folder", root_itself),
        )
        if names
    ]
    return FoundVideos(path_of_id, notes)


class NamedVideos(NamedTuple):
    """root: the folder that contains all of the videos; found: the videos, with ids relative to
    it."""

    root: Path
    found: FoundVideos


def find_named(words: Iterable[str]) -> NamedVideos:
    """The videos that files and folders name, each once.

    A folder that contains a numbered series of images is one video. Files that are not videos by
    their ending are left out with a note. Raises InputError for a path that does not exist, and if
    there are no videos.
    """
    videos: dict[Path, None] = {}
    places, folders, not_videos, notes = [], [], [], []
    for word in words:
        path = Path(os.path.normpath(Path(word).expanduser().absolute()))
        if not path.exists():
            raise InputError(f"VIDEOS={word}: no such file or folder")
        if path.is_file() and _ending(path.name) in ENDINGS["other"]:
            not_videos.append(word)
            continue
        places.append(path)
        if is_folder_of_videos(path):
            folders.append(path)
            found = find_videos(path)
            videos |= dict.fromkeys(found.paths.values())
            notes += [f"{word}: {note}" for note in found.notes]
        else:
            videos[path] = None
    if not_videos:
        notes.append(f"files left out because they are not videos: {some(not_videos, 8)}")
    if not videos:
        reason = f" ({notes[0]})" if notes else ""
        raise InputError(f"VIDEOS contains no videos{reason}")
    root = Path(os.path.commonpath([path.parent for path in places]))
    if places == folders[:1]:
        root = folders[0]
    same_stem: dict[str, list[Path]] = defaultdict(list)
    for path in videos:
        name = path.relative_to(root).as_posix()
        if not _is_text(name):
            raise InputError(f"VIDEOS={ascii(name)}: the name is not valid UTF-8; rename the file")
        same_stem[name if path.is_dir() else name.removesuffix(path.suffix)].append(path)
    return NamedVideos(root, FoundVideos(_paths_by_id(root, same_stem), notes))


def is_folder_of_videos(path: Path) -> bool:
    """Whether a path is a folder, and not a video as numbered images."""
    if not path.is_dir():
        return False
    files, folders = _list_folder(path)
    has_videos = bool(folders) or any(_ending(name) in ENDINGS["video"] for name in files)
    return has_videos or not frames_folder.is_video(files)


def _paths_by_id(root: Path, same_stem: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """id -> path, in order of id. same_stem: the videos by their path without its ending."""
    path_of_id: dict[str, Path] = {}
    for stem, paths in same_stem.items():
        for path in paths:
            video_id = stem if len(paths) == 1 else path.relative_to(root).as_posix()
            if video_id in path_of_id:
                raise InputError(
                    f"the videos {path_of_id[video_id]} and {path} have the same id, "
                    f"{video_id}; rename one of them"
                )
            path_of_id[video_id] = path
    return dict(sorted(path_of_id.items()))


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None


def _walk(root: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Every visible file below `root`, as (path, None). A folder of numbered images replaces its
    images, as (folder, names of all its files). A folder that contains itself through a link is
    entered once."""
    stack: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while stack:
        folder, above = stack.pop()
        status = folder.stat()
        this_folder = (status.st_dev, status.st_ino)
        if this_folder in above:
            continue
        files, folders = _list_folder(folder)
        stack += [
            (folder / name, above | {this_folder})
            for name in folders
            if not name.endswith(".parts")
        ]
        images: set[str] = set()
        if not folders and not any(_ending(name) in ENDINGS["video"] for name in files):
            for numbered in frames_folder.kinds(files).values():
                if len(numbered) > 1:
                    images.update(name for _, name in numbered)
        if images:
            yield folder, files
        for name in files:
            if name not in images:
                yield folder / name, None


class _Listing(NamedTuple):
    """Names of the visible files and folders in a folder, sorted."""

    files: list[str]
    folders: list[str]


def _list_folder(folder: Path) -> _Listing:
    """The contents of a folder; a link counts as its target. Names instead of Paths, because there
    may be millions of images."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    is_folder = Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()
                    (folders if is_folder else files).append(entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None
    return _Listing(sorted(files), sorted(folders))


def _ending(name: str) -> str:
    return Path(name).suffix[1:].lower()
