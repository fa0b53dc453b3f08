"""The command `search`, which finds the videos of a store, or their moments, that are nearest to a
video or to a text."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reelbank.data.console import print_json, print_lines
from reelbank.data.errors import InputError
from reelbank.data.options import check_ending
from reelbank.data.ranges import MOST_FPS
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.fusion.search.find import Hit, find
from reelbank.fusion.search.options import SearchOptions
from reelbank.fusion.search.query import query_of
from reelbank.fusion.search.result import Match, SearchResult


def search(options: SearchOptions) -> int:
    """Run the command: print what is nearest. Returns the exit code. Raises InputError as
    `search_store` does."""
    # What is printed while features are computed must not be in the document.
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        result = search_store(options)
    for note in result.notes:
        print_lines(f"note: {note}", file=sys.stderr)
    if options.json:
        print_json(result.document())
        return 0
    print_lines(*result.lines())
    if result.page:
        print_lines(f"written: {result.page}")
    return 0


def search_store(options: SearchOptions) -> SearchResult:
    """Search a store, and write the page if PAGE is given.

    Raises InputError if VIDEO and TEXT are both given or both empty, if an option of the page is given
    without PAGE, if no store or several match, if the query cannot be computed as the features of the
    store were, and if the page cannot be written.
    """
    check_ending("PAGE", options.page, [".html"])
    for name in ("root", "lists", "dataset"):
        if getattr(options, name) and not options.page:
            raise InputError(
                f"{name.upper()}= is only used for the frames of a page; give PAGE=<file>.html too"
            )
    with Store.open(find_store(options.searched, options.store)) as store:
        query = query_of(store, options)
        found = find(
            store, query.vector, count=options.count, moments=options.moments, without=query.number
        )
        result = SearchResult(
            store.path,
            query.shown,
            tuple(_matches(store, found.hits)),
            found.compared,
            found.left_out,
            notes=query.notes,
        )
        if not options.page:
            return result
        # The page needs modules that take a second to import.
        from reelbank.fusion.search.page import Pictures, files_of, write_page

        path = Path(options.page)
        files = files_of(store, options)
        image_fps = options.image_fps or _image_fps(store)
        write_page(result, Pictures(files, query.file or files.get(query.video), image_fps), path)
        return replace(result, page=path)


def _image_fps(store: Store) -> float:
    """The frame rate of folders of images that the store was extracted with, 0 if unknown. A recipe
    may be untrusted."""
    stored = store.recipe.get("image_fps")
    if not isinstance(stored, int | float) or not 0 < stored <= MOST_FPS:
        return 0.0
    return float(stored)


def _matches(store: Store, hits: Sequence[Hit]) -> Iterator[Match]:
    numbers = [hit.number for hit in hits]
    ids, labels, groups = store.ids_when_used, store.labels, store.groups
    for hit, number in zip(hits, numbers, strict=True):
        yield Match(ids[number], hit.similarity, labels[number], groups[number], hit.time_seconds)
