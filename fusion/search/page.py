"""The HTML page of a search: a frame of each video that was found, and a table. The page needs no
network access and no other file."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import reelbank
from reelbank.data.console import drawable
from reelbank.data.datasets.registry import drawn_folder, load_dataset, loadable_name
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.store.reader import Store
from reelbank.data.video.frames import decode
from reelbank.data.video.messages import Frames, Restart
from reelbank.data.video.opening import DecodeError
from reelbank.data.video.timeline import FrameCount
from reelbank.fusion.report.gallery import photograph
from reelbank.fusion.report.page import render
from reelbank.fusion.report.videos.links import link
from reelbank.fusion.report.view import (
    Block,
    Card,
    Chapter,
    Column,
    Gallery,
    Number,
    Page,
    RowName,
    Section,
    Table,
    Text,
    note,
)
from reelbank.fusion.search.options import SearchOptions
from reelbank.fusion.search.result import SearchResult, time_text
from reelbank.heads.runs.writing import written_to

MOST_FRAMES = 200  # on a page; of more matches, only the table has a row
_NO_FILE = "The file was not found."


@dataclass(frozen=True)
class Pictures:
    """The videos that frames are taken from. files: by id; query: the one that was searched for, None
    for a text, or if its file is not known; image_fps: frame rate of folders of images."""

    files: Mapping[str, Video]
    query: Video | None = None
    image_fps: float = 0.0


def write_page(result: SearchResult, pictures: Pictures, path: Path) -> None:
    """Write the page to `path`, with links that play the videos where they are. Raises InputError if
    it cannot be written."""
    document = render(page_of(result, pictures, path.parent))
    with written_to("PAGE", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(drawable(document), encoding="utf-8")


def files_of(store: Store, options: SearchOptions) -> dict[str, Video]:
    """The videos of a store's data set whose files are known, by id. {} if ROOT is not given and the
    bank contains no generated videos of the data set. Raises InputError for a folder that is not
    that of the data set."""
    drawn = drawn_folder(store.dataset.name, options.searched)
    root = options.root or (str(drawn) if drawn else "")
    if not root:
        return {}
    name = loadable_name(store.dataset.name, options.dataset)
    dataset = load_dataset(name, root, splits_dir=options.lists, bank=options.bank)
    return {video.id: video for video in dataset.videos}


def page_of(result: SearchResult, pictures: Pictures, folder: Path) -> Page:
    """The page as data. folder: that of the page."""
    now = datetime.datetime.now(datetime.UTC)
    kind = "moments" if result.has_times else "videos"
    query_kind, _, query = result.query.partition(": ")
    if query_kind == "text":
        query = f"\N{LEFT DOUBLE QUOTATION MARK}{query}\N{RIGHT DOUBLE QUOTATION MARK}"
    sections = []
    if pictures.query:
        frame = _Frame(pictures.query, None, pictures.image_fps, folder)
        card = frame.card([pictures.query.id])
        sections.append(Section("Searched for", [Gallery([card])]))
    sections.append(Section(f"Nearest {kind}", _nearest(result, pictures, folder)))
    sections.append(Section("All results", [_table(result)]))
    return Page(
        title=f"{kind.capitalize()} nearest to {query}",
        about=(
            f"{result.about[0].upper()}{result.about[1:]}, by the cosine of their features. Created "
            f"{now:%d %B %Y, %H:%M} UTC by Reelbank {reelbank.__version__}."
        ),
        notes=result.notes,
        chapters=[Chapter("", sections)],
    )


def _nearest(result: SearchResult, pictures: Pictures, folder: Path) -> list[Block]:
    """Frames of the first results."""
    if not pictures.files:
        return [note("With ROOT=, the folder of the videos, this page shows their frames.")]
    cards = []
    for rank, match in enumerate(result.matches[:MOST_FRAMES], 1):
        figures = f"{rank}. similarity {match.similarity:.3f}"
        if match.time_seconds is not None:
            figures += f" at {time_text(match.time_seconds)}"
        lines = [match.video, figures, *([match.label] if match.label else [])]
        video = pictures.files.get(match.video)
        frame = _Frame(video, match.time_seconds, pictures.image_fps, folder) if video else None
        cards.append(frame.card(lines) if frame else Card(lines, reason=_NO_FILE))
    blocks: list[Block] = [Gallery(cards)]
    if len(cards) < len(result.matches):
        blocks.append(note(f"The first {MOST_FRAMES} results have a frame."))
    return blocks


def _table(result: SearchResult) -> Table:
    columns = [Column("video"), Column("similarity", number=True, sort="descending")]
    columns += [Column("time", number=True)] * result.has_times + [Column("label"), Column("group")]
    rows: list[Sequence[RowName | Number | Text]] = []
    for match in result.matches:
        time = []
        if match.time_seconds is not None:
            time = [Number(match.time_seconds, time_text(match.time_seconds))]
        similarity = Number(match.similarity, f"{match.similarity:.3f}")
        rows.append([RowName(match.video), similarity, *time, Text(match.label), Text(match.group)])
    return Table(columns, rows)


@dataclass(frozen=True)
class _Frame:
    """A frame of a video on the page in `folder`. time_seconds: None for the one in the middle."""

    video: Video
    time_seconds: float | None
    image_fps: float
    folder: Path

    def card(self, lines: Sequence[str]) -> Card:
        """The frame with lines below it; the first one is the name of the video, and plays it."""
        address = link(self.video, self.folder, (self.folder,))
        if address and self.time_seconds is not None:
            address = f"{address.partition('#')[0]}#t={max(0.0, self.time_seconds):.1f}"
        try:
            frame = frame_of(self.video, self.time_seconds, self.image_fps)
        except (DecodeError, InputError, OSError) as error:
            return Card(lines, reason=str(error), link=address)
        return Card(lines, photograph(frame, f"a frame of {lines[0]}"), link=address)


def frame_of(video: Video, time_seconds: float | None, image_fps: float = 0.0) -> np.ndarray:
    """The frame of a video that is on screen at a time, or the one in the middle for None, (H, W, 3)
    uint8. Raises DecodeError or OSError if it cannot be decoded."""

    def select(frames: FrameCount) -> np.ndarray:
        if time_seconds is None:
            return np.array([int(frames) // 2])
        after = int(np.searchsorted(frames.seconds, time_seconds, "right"))
        return np.array([max(0, after - 1)])

    found: list[np.ndarray] = []
    for message in decode(video.path, select, span_seconds=video.span_seconds, image_fps=image_fps):
        if isinstance(message, Restart):
            found = []
        elif isinstance(message, Frames):
            found += list(message.pixels.copy())
    return found[0]
