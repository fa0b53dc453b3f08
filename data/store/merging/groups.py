"""Groups of videos must not be divided between the parts of a split."""

from pathlib import Path

from reelbank.data.datasets.registry import has_drawn_split
from reelbank.data.errors import InputError
from reelbank.data.store.catalog import Catalog
from reelbank.data.store.merging.files import Place
from reelbank.data.store.merging.plan import Request, stored_at


def check_groups(path: Path, catalog: Catalog, request: Request) -> None:
    """Raises InputError if a group would be in several parts of a split that was drawn: videos
    that were removed from ROOT may be in another part than those that came. Official and imported
    splits are not checked. path: of the store, for messages."""
    dataset = request.about.dataset
    if not has_drawn_split(dataset.name):
        return
    part_of_group: dict[tuple[str, str], str] = {}
    for file, numbers in catalog.current():
        for number in numbers:
            place, video_id = Place(file, number), file.index.video_id(number)
            video = request.described(stored_at(place, video_id, dataset.splits))
            for split, part in zip(dataset.splits, video.parts, strict=True):
                key = (split, video.group)
                if video.group and part and part_of_group.setdefault(key, part) != part:
                    raise InputError(
                        f"{path}: all videos of a group must be in one part of a split, but group "
                        f"{video.group} would be in several of split {split}; give a CSV file "
                        "whose column split does not divide the group, or choose another BANK"
                    )
