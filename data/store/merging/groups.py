"""Groups of videos must not be divided between the parts of a split."""

from collections.abc import Sequence
from pathlib import Path

from reelbank.data.datasets.registry import has_drawn_split
from reelbank.data.errors import InputError
from reelbank.data.store.catalog import Catalog
from reelbank.data.store.merging.files import Place
from reelbank.data.store.merging.plan import Request, stored_at
from reelbank.data.store.records import DatasetDescription


def check_groups(path: Path, catalog: Catalog, request: Request) -> None:
    """Raises InputError if a group would be in several parts of a split that was drawn: videos
    that were removed from ROOT may be in another part than those that came. Official and imported
    splits are not checked. path: of the store, for messages."""
    dataset = request.about.dataset
    if not has_drawn_split(dataset.name):
        return
    parts_of_groups = GroupParts(path, dataset)
    for file, numbers in catalog.current():
        for number in numbers:
            place, video_id = Place(file, number), file.index.video_id(number)
            video = request.described(stored_at(place, video_id, dataset.splits))
            parts_of_groups.check(video.group, video.parts)


class GroupParts:
    """The part of each group in each split. path: of the store, for messages. If no split of the
    data set was drawn, nothing is checked."""

    def __init__(self, path: Path, dataset: DatasetDescription) -> None:
        self._path, self._splits = path, dataset.splits
        self._is_drawn = has_drawn_split(dataset.name)
        self._part_of_group: dict[tuple[str, str], str] = {}

    def check(self, group: str, parts: Sequence[str]) -> None:
        """Raises InputError if a video's group has videos in another part."""
        if not group or not self._is_drawn:
            return
        for split, part in zip(self._splits, parts, strict=True):
            if part and self._part_of_group.setdefault((split, group), part) != part:
                raise InputError(
                    f"{self._path}: all videos of a group must be in one part of a split, but group "
                    f"{group} would be in several of split {split}; extract all videos of the "
                    "group together, give a CSV file whose column split does not divide the "
                    "group, or choose another BANK"
                )
