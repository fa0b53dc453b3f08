"""The command `report`. It writes one HTML file with the models, the data and the results. The file
needs no network access and no other file."""

import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jinja2

import reelbank
from reelbank.data.console import counted, drawable, print_lines
from reelbank.data.datasets.registry import drawn_folder, load_dataset, loadable_name
from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.files import replacing
from reelbank.data.identity import in_file_name
from reelbank.data.options import check_ending
from reelbank.fusion.evaluation.contests import Contest, contests
from reelbank.fusion.evaluation.selection import leak_lines, select
from reelbank.fusion.evaluation.tried import selection, tried_models
from reelbank.fusion.report.anomalies import DetectorSeeds, anomaly_section, read_detectors
from reelbank.fusion.report.classes import classes_section, confusion_section
from reelbank.fusion.report.costs import (
    StoreCost,
    cost_section,
    damage_notes,
    license_notes,
    read_costs,
)
from reelbank.fusion.report.curves import curves_section
from reelbank.fusion.report.export import characters_without_font, map_plots, plots_of, write_plots
from reelbank.fusion.report.gallery import gallery_section
from reelbank.fusion.report.options import ReportOptions
from reelbank.fusion.report.origins import origins_section
from reelbank.fusion.report.pair import calibration_section, versus_of, versus_section
from reelbank.fusion.report.results import results_section
from reelbank.fusion.report.sweeps import Sweep, read_sweeps, sweep_section
from reelbank.fusion.report.videos.bank_map import BankMap, MapOptions, map_section, read_map
from reelbank.fusion.report.videos.links import link
from reelbank.fusion.report.videos.listing import list_section
from reelbank.fusion.report.videos.projection import check_installed
from reelbank.fusion.report.view import Chapter, Page, Section
from reelbank.heads.runs.writing import output_file, written_to

_FOLDER = Path(__file__).parent
_SCRIPTS = ("page.js", "videos/packing.js", "videos/listing.js", "videos/map.js")
# Every value is escaped when it is inserted. An undefined name in a template is an error.
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Report:
    """A written report: the page, the folder of its drawings (None with FIGURES=0), the names of
    its runs, and notes about runs that were left out."""

    path: Path
    figures: Path | None
    runs: tuple[str, ...]
    notes: tuple[str, ...]


def report(options: ReportOptions) -> int:
    """Write the report on the selected runs and print its path. Returns the exit code. Raises
    InputError when no run matches or the file cannot be written."""
    print_lines(*report_lines(write_report(options)))
    return 0


def report_lines(written: Report) -> Iterator[str]:
    """The path of the report and its notes as lines of text."""
    if written.figures:
        yield f"figures written to {written.figures} (drawings as PNG, data as CSV)"
    for note in written.notes:
        yield f"note: {note}"
    yield f"report on {counted(len(written.runs), 'run')} written to {written.path}"


@dataclass(frozen=True)
class Contents:
    """The content of a report. first_sections: sections that come before all others; videos: the
    videos that frames are taken from, by id; link_of: the address of a video's file by
    id, "" if it has none; compared: names of the two models that
    are compared if PAIR names none, or () for the two most accurate; maps: of each contest, or
    ()."""

    contests: Sequence[Contest]
    notes: Sequence[str] = ()
    first_sections: Sequence[Section] = ()
    videos: Mapping[str, Video] = field(default_factory=dict)
    link_of: Callable[[str], str] = lambda video_id: ""
    costs: Sequence[StoreCost] = ()
    detectors: Sequence[DetectorSeeds] = ()
    sweeps: Sequence[Sweep] = ()
    compared: Sequence[str] = ()
    maps: Sequence[BankMap | None] = ()


def write_report(
    options: ReportOptions,
    *,
    first_sections: Sequence[Section] = (),
    names: Mapping[str, str] | None = None,
    compared: Sequence[str] = (),
) -> Report:
    """Write the report on the selected runs. If OUT is not given and the bank is read-only, the
    report is written to the current folder.

    first_sections: sections that come before all others; names: the name of each run's model;
    compared: two of these names, which are compared instead of the two most accurate models if the
    option PAIR names none.
    Raises InputError when no run matches or the file cannot be written.
    """
    check_ending("OUT", options.out, [".html"])
    selected = select(options, options.part, judged_at_once=True)
    named_contests = [_renamed(contest, names or {}) for contest in contests(selected.entries)]
    # models of one data set that know different classes are several contests
    datasets = list(dict.fromkeys(contest.dataset for contest in named_contests))
    costs = read_costs(options.searched, named_contests)
    videos = _videos(options, datasets)
    usual = Path(options.bank, "reports", f"{_name(options, datasets)}.html")
    writable = output_file(options.out, usual)
    path, is_elsewhere = writable or Path(usual.name), writable is None
    contents = Contents(
        contests=named_contests,
        notes=[
            *selected.notes,
            *leak_lines(selected.entries),
            *damage_notes(costs),
            *license_notes(costs),
        ],
        first_sections=first_sections,
        videos=videos,
        link_of=_links(videos, path.parent, Path(options.bank)),
        costs=costs,
        detectors=read_detectors(options.bank, datasets),
        sweeps=read_sweeps(options.bank, datasets),
        compared=compared,
    )
    contents = _with_maps(contents, options)
    document = render(page_of(contents, options))
    notes = list(contents.notes)
    if is_elsewhere:
        notes.append(
            "the bank is read-only, so the report is in the current folder; OUT=<file>.html gives "
            "it another place"
        )
    figures = path.with_name(f"{path.stem}-figures") if options.figures else None
    with written_to("OUT", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(drawable(document), encoding="utf-8")
        if figures:
            notes += _write_figures(figures, contents, options)
    return Report(path, figures, tuple(entry.name for entry in selected.entries), tuple(notes))


def _renamed(contest: Contest, names: Mapping[str, str]) -> Contest:
    """The contest with its models under the names that were given to their runs. The previous name
    of a model becomes its detail."""
    groups = [
        replace(group, label=name, detail=group.label)
        if (name := names.get(group.entries[0].name))
        else group
        for group in contest.groups
    ]
    return replace(contest, groups=tuple(groups))


def _name(options: ReportOptions, datasets: Sequence[str]) -> str:
    names = dict.fromkeys(in_file_name(dataset or "scores") for dataset in datasets)
    return (options.name or "-".join(names)).replace("/", "-")


def _videos(options: ReportOptions, datasets: Sequence[str]) -> dict[str, Video]:
    """The videos that the report shows frames of, by id. It is {} if ROOT is not given
    and the bank contains no generated videos of the data set."""
    drawn = drawn_folder(datasets[0], options.searched) if len(datasets) == 1 else None
    root = options.root or (str(drawn) if drawn else "")
    if not root:
        if options.show:
            raise InputError(
                f"SHOW={options.show} needs ROOT=, the folder of the videos; give both"
            )
        return {}
    if len(datasets) != 1:
        raise InputError(
            f"ROOT={root}: a report can show pictures of only one data set, but this "
            f"report is on {', '.join(datasets)}; select one data set with DATASET="
        )
    name = loadable_name(datasets[0], options.dataset)
    dataset = load_dataset(name, root, splits_dir=options.lists, bank=options.bank)
    videos = {video.id: video for video in dataset.videos}
    if options.show and options.show not in videos:
        raise InputError(
            f"SHOW={options.show}: {root} contains no such video; a video's id is its path below "
            "ROOT without the file extension"
        )
    return videos


def _with_maps(contents: Contents, options: ReportOptions) -> Contents:
    """The contents with a map for each contest, and notes about maps that cannot be drawn. Raises
    InputError if the package of MAP is not installed."""
    if options.map == "none":
        return contents
    check_installed(options.map)
    maps: list[BankMap | None] = []
    notes = []
    map_options = MapOptions(options.map, options.frames)
    for contest in contents.contests:
        letters = letters_of(len(contest.groups))
        try:
            maps.append(read_map(contest, letters, contents.costs, contents.videos, map_options))
        except InputError as error:
            maps.append(None)
            notes.append(f"the map of {contest.title} is not drawn: {error}")
    return replace(contents, maps=maps, notes=[*contents.notes, *notes])


def _links(videos: Mapping[str, Video], page_folder: Path, bank: Path) -> Callable[[str], str]:
    """The address of a video's file by id, "" if it has none."""

    def link_of(video_id: str) -> str:
        video = videos.get(video_id)
        return link(video, page_folder, (page_folder, bank)) if video else ""

    return link_of


def _write_figures(folder: Path, contents: Contents, options: ReportOptions) -> list[str]:
    """Write every drawing as PNG and CSV. Returns notes about characters that no font has."""
    notes = []
    for number, contest in enumerate(contents.contests, 1):
        letters = letters_of(len(contest.groups))
        versus = versus_of(contest, letters, options.pair, preferred=contents.compared)
        plots = plots_of(contest, letters, versus, interval_kind=options.interval)
        bank_map = contents.maps[number - 1] if contents.maps else None
        plots += map_plots(bank_map) if bank_map else []
        # a score file may name any data set, so only characters that are valid in a file name are
        # used
        dataset = in_file_name(contest.dataset or "scores")
        several = len(contents.contests) > 1
        write_plots(
            folder / f"{number}-{dataset}-{len(contest.classes)}" if several else folder, plots
        )
        if missing := characters_without_font(plots):
            notes.append(
                f"the PNG files do not show {missing} because no font on this machine has these "
                "characters; install a font that has them"
            )
    return notes


def letters_of(count: int) -> list[str]:
    """The letters A, B, ... Z, AA, AB, ... that name the models throughout a report."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        alphabet[i] if i < 26 else alphabet[i // 26 - 1] + alphabet[i % 26] for i in range(count)
    ]


def page_of(contents: Contents, options: ReportOptions) -> Page:
    """The page as data. options: part, interval, pair and show are used."""
    groups = list(itertools.chain(*(contest.groups for contest in contents.contests)))
    runs = sum(len(group.entries) for group in groups)
    datasets = dict.fromkeys(contest.dataset or "unnamed data set" for contest in contents.contests)
    now = datetime.datetime.now(datetime.UTC)
    chapters = [Chapter("", contents.first_sections)]
    for number, contest in enumerate(contents.contests):
        title = contest.title if len(contents.contests) > 1 else ""
        bank_map = contents.maps[number] if contents.maps else None
        sections = _sections(contest, contents, options, anchor=f"c{number}", bank_map=bank_map)
        chapters.append(Chapter(title, sections))
    of_data_sets = [anomaly_section(contents.detectors), sweep_section(contents.sweeps)]
    chapters.append(Chapter("", _present(of_data_sets)))
    return Page(
        title=f"{', '.join(datasets)}: {counted(len(groups), 'model')}, {counted(runs, 'run')}",
        about=(
            f"Evaluated on the {options.part} part of each split. Created {now:%d %B %Y, %H:%M} "
            f"UTC by Reelbank {reelbank.__version__}."
        ),
        notes=contents.notes,
        chapters=chapters,
    )


def _sections(
    contest: Contest,
    contents: Contents,
    options: ReportOptions,
    *,
    anchor: str,
    bank_map: BankMap | None,
) -> list[Section]:
    """anchor: prefix of the anchors of the contest's models."""
    letters = letters_of(len(contest.groups))
    versus = versus_of(contest, letters, options.pair, preferred=contents.compared)
    sections = [
        results_section(
            contest,
            letters,
            anchor=anchor,
            interval_kind=options.interval,
            selected=selection(
                len(contest.groups),
                tried_models(options.searched, contest, options.part),
                options.part,
            ),
        ),
        curves_section(contest, letters),
        classes_section(contest, letters),
        versus_section(contest, versus),
    ]
    if not contest.multilabel:  # these sections are about the predicted class of each video
        scores = contest.groups[0].entries[0].scores
        files = {video_id: video.path for video_id, video in contents.videos.items()}
        sections += [
            gallery_section(letters[0], scores, files, options.show),
            confusion_section(contest, letters),
            calibration_section(contest.groups, letters),
        ]
    best = contest.groups[0]
    sections += [
        map_section(bank_map, part=options.part) if bank_map else None,
        list_section(letters[0], best, part=options.part, link_of=contents.link_of),
        cost_section(contest, letters, contents.costs),
        origins_section(
            contest,
            letters,
            part=options.part,
            anchor=anchor,
            weights={store.identity: store.weights for store in contents.costs},
        ),
    ]
    return _present(sections)


def _present(sections: Iterable[Section | None]) -> list[Section]:
    """The sections that have something to show."""
    return [section for section in sections if section]


def render(page: Page) -> str:
    """The whole HTML document, including its style and script."""
    style, *scripts = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", *_SCRIPTS)
    )
    script = "".join(scripts)
    return _TEMPLATES.get_template("page.html").render(page=page, style=style, script=script)
