"""What cannot be made without the stores that could not be extracted."""

from collections.abc import Iterator, Set

from reelbank.data.console import counted
from reelbank.fusion.reproduce.plan import joined, named, needed_stores
from reelbank.fusion.reproduce.work import Work


def failed_stores(work: Work, name: str) -> list[str]:
    """The failed stores that a model, or one of the members of a fusion or anomaly detection, is
    made from. Imported models need none."""
    members = joined(work.recipe).get(name, {}).get("members", [name])
    stores: dict[str, None] = {}
    for member in members:
        if member in work.imported:
            continue
        stores |= dict.fromkeys(needed_stores(work.recipe["models"][member]))
    return [store for store in stores if store in work.failed]


def not_made(work: Work) -> Iterator[str]:
    """A line for each failed store: the rows and figures that need it."""
    for store in work.store_names:
        if store in work.failed:
            names = (*work.models, *work.fusions, *work.anomalies)
            affected = {name for name in names if store in failed_stores(work, name)}
            parts = [*_rows(work, affected), *_figures(work, affected)]
            yield f"these results need the store {store}, which is not available: {'; '.join(parts)}"


def _rows(work: Work, affected: Set[str]) -> Iterator[str]:
    tables = [
        cell.table
        for cell in work.cells
        if cell.table in work.recipe["tables"] and affected & set(named(cell.ours))
    ]
    if tables:
        yield f"{counted(len(tables), 'row')} of {', '.join(dict.fromkeys(tables))}"


def _figures(work: Work, affected: Set[str]) -> Iterator[str]:
    figures = [figure.name for figure in work.figures if affected & set(figure.models)]
    if figures:
        yield f"figures {', '.join(figures)}"
