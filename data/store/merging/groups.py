"""Groups of videos must not be divided between training and test."""

from pathlib import Path

from reelbank.data.datasets.registry import has_drawn_split
from reelbank.data.errors import InputError
from reelbank.data.store.catalog import Catalog
from reelbank.data.store.merge import described_videos
from reelbank.data.store.merging.pieces import Pieces
from reelbank.data.store.merging.plan import Request


def check_groups(path: Path, catalog: Catalog, request: Request) -> None:
    """Raises InputError if a group would be in both train and test of a split that was drawn: videos
    that were removed from ROOT may be in another part than those that came. Official and imported
    splits are not checked. path: of the store, for messages."""
    dataset = request.about.dataset
    if not has_drawn_split(dataset.name):
        return
    part_of_group: dict[tuple[str, str], str] = {}
    pieces = Pieces.of(list(catalog.current()))
    for video in described_videos(request, pieces, pieces.video_ids()):
        for split, part in zip(dataset.splits, video.parts, strict=True):
            key = (split, video.group)
            if video.group and part and part_of_group.setdefault(key, part) != part:
                raise InputError(
                    f"{path}: all videos of a group must be in train, or all in test, but group "
                    f"{video.group} would be in both in split {split}; give a CSV file whose "
                    "column split does not divide the group, or choose another BANK"
                )
