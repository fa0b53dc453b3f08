"""Links from the page to video files."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from reelbank.data.datasets.types import Video


def link(video: Video, page_folder: Path, moved_together: Sequence[Path]) -> str:
    """The percent-encoded address of a video's file, or "" if there is no such file. For a video that
    is a part of its file, the address ends with this part (#t=, Media Fragments URI 1.0).

    If the page and the video are both in one of the folders `moved_together`, the address is
    relative to the page, so that the folder can be moved or served by a web server. All other
    addresses begin with file:///, so that a copy of the page elsewhere on the machine still finds
    the file.
    """
    if not video.path.is_file():
        return ""
    part = "#t={:g},{:g}".format(*video.span_seconds) if video.span_seconds else ""
    # not resolved: a link in the bank to a folder elsewhere is part of the bank
    file, page = video.path.absolute(), page_folder.absolute()
    for folder in moved_together:
        if all(path.is_relative_to(folder.absolute()) for path in (file, page)):
            # quote() also encodes ':', so that no name can be read as the scheme of an address
            return quote(os.fsencode(os.path.relpath(file, page))) + part
    return file.as_uri() + part
