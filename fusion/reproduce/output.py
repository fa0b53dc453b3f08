"""Writes the tables of a reproduction as Markdown, as CSV and as a report."""

import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import reelbank
from reelbank.data.console import markdown_text, table_lines
from reelbank.data.files import replacing
from reelbank.data.identity import signature
from reelbank.data.text_files import csv_file
from reelbank.fusion.report.export import write_plots
from reelbank.fusion.report.options import ReportOptions
from reelbank.fusion.report.page import Report, report_lines, write_report
from reelbank.fusion.report.view import (
    Block,
    Column,
    Heading,
    Section,
    Table,
    Text,
    note,
    paragraph,
)
from reelbank.fusion.reproduce.comparable import class_count, is_papers_data
from reelbank.fusion.reproduce.figures import Drawn, drawn_figures
from reelbank.fusion.reproduce.measure import experiments_of
from reelbank.fusion.reproduce.options import ReproduceOptions
from reelbank.fusion.reproduce.rows import COLUMNS, PRINTED, TableRow, by_table, table_rows
from reelbank.fusion.reproduce.work import Work
from reelbank.heads.runs.writing import commit, write_json

# options whose values are part of the folder's name, as a hash
CHANGES = ("set", "scores", "extractor", "weights", "resize", "size", "classes", "split", "seed")
LONGEST_CELL = 60  # maximum number of characters of a printed cell


@dataclass(frozen=True)
class Published:
    """The tables and figures of a reproduction, and the folder of their files. report: None without
    runs."""

    folder: Path
    rows: tuple[TableRow, ...]
    figures: tuple[Drawn, ...]
    report: Report | None

    def records(self) -> list[dict[str, str]]:
        """The rows of tables.csv."""
        return [row.record() for row in self.rows]

    def lines(self) -> Iterator[str]:
        """The tables as lines of text."""
        if self.report:
            yield from report_lines(self.report)
        for title, rows in by_table(self.rows).items():
            yield title
            cells = [[_cut(text) for text in row.cells(PRINTED)] for row in rows]
            yield from table_lines([PRINTED, *cells])
        drawn = [figure.figure.name for figure in self.figures if figure.plot]
        if drawn:
            yield (
                f"figures of the paper, drawn from our runs: {', '.join(drawn)}, in "
                f"{self.folder / 'figures'}"
            )
        for figure in self.figures:
            if not figure.plot:
                yield f"figure not drawn: {figure.title}: {figure.reason}"
        yield f"tables written to {self.folder / 'tables.md'} and {self.folder / 'tables.csv'}"


def _cut(text: str) -> str:
    return text if len(text) < LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."


def publish(work: Work) -> Published:
    """Write tables.md, tables.csv and report.html into `table_folder`."""
    folder = table_folder(work.options, work.dataset.name)
    folder.mkdir(parents=True, exist_ok=True)
    experiments = experiments_of(work)
    rows = table_rows(work, experiments)
    figures = drawn_figures(work, experiments, folder)
    write_plots(folder / "figures", [figure.plot for figure in figures if figure.plot])
    with csv_file(folder / "tables.csv") as writer:
        writer.write_records([row.record() for row in rows])
    with replacing(folder / "tables.md") as temporary:
        temporary.write_text(markdown(work, rows, figures), encoding="utf-8")
    write_json(
        folder / "recipe.json",
        {
            "options": asdict(work.options),
            "commit": commit(),
            "reelbank": reelbank.__version__,
            "recipe": work.recipe,
            "runs": {name: [path.name for path in paths] for name, paths in work.runs.items()},
            "failed": work.failed,
        },
    )
    report = _write_report(work, folder, rows, figures)
    return Published(folder, tuple(rows), tuple(figures), report)


def _write_report(
    work: Work, folder: Path, rows: Sequence[TableRow], figures: Sequence[Drawn]
) -> Report | None:
    """Write the report on all runs, without the models of the normal classes, which are not
    compared. If there are no runs, an earlier report is removed because its runs are not in the
    tables."""
    models = [name for name in work.models if not work.recipe["models"][name].get("normal_of")]
    runs = work.runs_of([*models, *work.imported, *work.fusions])
    if not runs:
        (folder / "report.html").unlink(missing_ok=True)
        shutil.rmtree(folder / "report-figures", ignore_errors=True)
        return None
    names: dict[str, str] = {}  # a run may belong to several models
    for name, paths in work.runs.items():
        for path in paths:
            names[path.name] = f"{names[path.name]}, {name}" if path.name in names else name
    options = ReportOptions(
        bank=work.options.bank,
        banks=work.options.banks,
        runs=tuple(map(str, runs)),
        out=str(folder / "report.html"),
        root=work.options.root,
        lists=work.options.lists,
        figures=not work.options.quick,
    )
    sections = [section(work, rows)]
    if figures:
        sections.append(figure_section(figures))
    # The two models that the paper compares in a figure, not the two most accurate on test.
    pairs = [figure.models for figure in work.figures if figure.draw in ("difference", "gains")]
    compared = pairs[0] if pairs else ()
    return write_report(options, first_sections=sections, names=names, compared=compared)


def table_folder(options: ReproduceOptions, dataset: str) -> Path:
    """<bank>/reproductions/<system>-<data set>[-quick][-<only>][-<six digits>], so that a shortened
    or changed reproduction does not replace the whole one. The digits are a hash of the changed
    options."""
    name = f"{Path(options.system).stem}-{dataset}{'-quick' if options.quick else ''}"
    if options.only:
        name += f"-{'-'.join(options.only)}"
    values = {key: getattr(options, key) for key in CHANGES}
    changes = {key: value for key, value in values.items() if value != _default(key)}
    if changes:
        name += f"-{signature(changes)[:6]}"
    return Path(options.bank, "reproductions", name)


def _default(key: str) -> object:
    return ReproduceOptions.__dataclass_fields__[key].default


def _title(work: Work) -> str:
    return f"{work.recipe.get('title', work.options.system)}: published and reproduced results"


def _numbered_notes(rows: Sequence[TableRow]) -> dict[str, str]:
    """The mark of each text about differences from the published setup."""
    texts = dict.fromkeys(row.not_as_published for row in rows if row.not_as_published)
    return {text: f"({number})" for number, text in enumerate(texts, 1)}


def _data_note(work: Work) -> str:
    """A sentence about the data that our figures were measured on, and whether the figures can be
    compared."""
    data = f"{work.dataset.name} ({class_count(work)} classes, {len(work.dataset.videos):,} videos)"
    if is_papers_data(work):
        return f"Our results were measured on all of {data}."
    form = " in the shortened form of QUICK=1" if work.options.quick else ""
    return (
        f"Our results were measured on {data}{form}. They show that the whole recipe "
        "runs, but they are not comparable with the results of the paper. A difference "
        "is given only for the paper's complete data set."
    )


def markdown(work: Work, rows: Sequence[TableRow], figures: Sequence[Drawn] = ()) -> str:
    """The tables as Markdown, followed by the paper's figures. Differences from the published setup
    are listed below each table."""
    out = io.StringIO()
    out.write(f"# {markdown_text(_title(work))}\n\n{markdown_text(_data_note(work))}\n")
    headings = (*COLUMNS, "note")
    for title, of_table in by_table(rows).items():
        marks = _numbered_notes(of_table)
        out.write(f"\n## {markdown_text(title)}\n\n| {' | '.join(headings)} |\n")
        out.write(f"|{'---|' * len(headings)}\n")
        for row in of_table:
            texts = [*row.cells(), marks.get(row.not_as_published, "")]
            out.write(f"| {' | '.join(map(markdown_text, texts))} |\n")
        for text, mark in marks.items():
            out.write(f"\n{mark} Different from the published setup: {markdown_text(text)}\n")
    for figure in figures:
        out.write(f"\n## {markdown_text(figure.title)}\n\n")
        for line in figure.about:
            out.write(f"{markdown_text(line)}\n\n")
        name = figure.figure.name
        drawing = f"![{name}](figures/{name}.png)"
        out.write(f"{drawing if figure.plot else f'Not drawn: {markdown_text(figure.reason)}.'}\n")
    return out.getvalue()


def figure_section(figures: Sequence[Drawn]) -> Section:
    """The paper's figures from our runs as a section of the report."""
    blocks: list[Block] = []
    for figure in figures:
        blocks += figure.blocks()
    return Section("Figures of the paper, drawn from our runs", blocks)


def section(work: Work, rows: Sequence[TableRow]) -> Section:
    """The tables as a section of the report."""
    blocks: list[Block] = [paragraph(_data_note(work))]
    columns = [Column(heading) for heading in (*COLUMNS, "note")]
    for title, of_table in by_table(rows).items():
        marks = _numbered_notes(of_table)
        lines = [
            [*map(Text, row.cells()), Text(marks.get(row.not_as_published, ""))] for row in of_table
        ]
        blocks += [Heading(title), Table(columns, lines)]
        blocks += [
            note(f"{mark} Different from the published setup: {text}")
            for text, mark in marks.items()
        ]
    return Section(_title(work), blocks)
