"""A feature store as a data set of torch, for training loops outside Reelbank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from reelbank.data.datasets.types import PARTS
from reelbank.data.errors import InputError
from reelbank.data.positions import positions
from reelbank.data.store.reader import Store
from reelbank.heads.training.batches import check_finite
from reelbank.heads.training.material import label_numbers
from reelbank.heads.training.planning.parts import (
    chosen_classes,
    held_out_videos,
    parts_of,
    stated_validation,
    used_videos,
)

ALL = "all"


class FeatureItem(NamedTuple):
    """A video of a FeatureDataset.

    features: (K, *row) float32, its K clean rows; *row is (D,), (crops, D) or (C, H, W).
    times_seconds: (K,) float64, the centre of each row's clip. label: () int64, the index of the
    class, or -1; of a multi-label store (C,) float32 with 1 for each class of the video.
    """

    features: Tensor
    times_seconds: Tensor
    label: Tensor
    video_id: str


class FeatureBatch(NamedTuple):
    """N videos of a FeatureDataset, as `collate_features` joins them. T is the number of rows of the
    longest video.

    features: (N, T, *row) float32, zeros after the last row of a video. lengths: (N,) int64, the
    number of rows of each video. times_seconds: (N, T) float64, zeros after the last row. labels:
    (N,) int64, or (N, C) float32 of a multi-label store.
    """

    features: Tensor
    lengths: Tensor
    times_seconds: Tensor
    labels: Tensor
    video_ids: list[str]


class FeatureDataset(Dataset[FeatureItem]):
    """The videos of one part of a feature store, as a map-style data set for a torch DataLoader.

    Features are read from the store's files when an item is asked for, and their checksums are
    verified. So a store may be larger than memory. The data set can be pickled, and the processes of
    a DataLoader (also those started with `spawn`) open the files for themselves.

    Attributes: `store` (the open Store); `classes` (C names, whose positions are the label indices);
    `video_ids` (V); `labels` (V,) int64, or (V, C) float32 of a multi-label store.
    """

    def __init__(
        self,
        store: Store | Path | str,
        *,
        split: str = "",
        part: str = "train",
        validation: float = 0.0,
        classes: Sequence[str] = (),
    ) -> None:
        """Open the store, and choose its videos.

        store: an open Store or a path; the data set opens its own files. split: by default the first
        split of the store. part: "train", "validation" or "test"; or "all" for every video of the
        store, whatever its split; videos without a label, and those of other classes than `classes`,
        have the label -1 (in a multi-label store, zeros). validation: the share of the training part that is the
        validation part, chosen as by `train`; 0 uses only a validation part that the split has.
        classes: use only videos of these classes; by default all classes that have a video in the
        store. They are always in the order of the data set, as `train` orders them. Raises InputError for a store that
        cannot be opened, an unknown split, part or class, and a part without videos.
        """
        if part not in (*PARTS, ALL):
            raise InputError(f"part={part!r}: must be one of {', '.join((*PARTS, ALL))}")
        if not 0 <= validation < 1:
            raise InputError(f"validation={validation}: must be at least 0 and less than 1")
        if isinstance(classes, str):
            raise InputError(f"classes={classes!r}: must be a list of names, such as [{classes!r}]")
        self.store = Store.open(store.path if isinstance(store, Store) else store)
        self.classes = chosen_classes(self.store, tuple(classes))
        self.video_ids = self._ids_of(part, split, validation)
        places = positions(self.video_ids, self.store.video_ids)
        texts = [self.store.labels[place] for place in places.tolist()]
        labels = label_numbers(texts, self.classes, self.store.dataset)
        if self.store.dataset.multilabel:
            labels = labels.astype(np.float32)
        self.labels = torch.from_numpy(labels)

    def _ids_of(self, part: str, split: str, validation: float) -> tuple[str, ...]:
        store, splits = self.store, self.store.dataset.splits
        is_known = split in splits or (not split and (part == ALL or bool(splits)))
        if not is_known:
            raise InputError(
                f"split={split!r}: must be one of the splits of {store.path}, "
                f"{', '.join(splits) or '(none)'}; part='all' gives all videos"
            )
        if part == ALL:
            return tuple(store.video_ids)
        chosen_split = split or splits[0]
        videos = used_videos(store, store.video_ids, self.classes, chosen_split)
        held_out = held_out_videos(videos, validation) or stated_validation(videos)
        ids = parts_of(videos, held_out)[part]
        if not ids:
            hint = ""
            if part == "validation":
                hint = "; validation=0.2 takes a fifth of the training part"
            raise InputError(
                f"part={part!r}: split {chosen_split} of {store.path} has no such videos{hint}"
            )
        return ids

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, number: int) -> FeatureItem:
        """The video with this number. Raises IndexError, and InputError for damaged features."""
        return self.__getitems__([range(len(self))[number]])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[FeatureItem]:
        """Several videos. A DataLoader calls this for each batch."""
        ids = [self.video_ids[number] for number in numbers]
        values, offsets, times_seconds = self.store.load(ids)
        items = []
        for place, (number, video_id) in enumerate(zip(numbers, ids, strict=True)):
            rows = slice(int(offsets[place]), int(offsets[place + 1]))
            check_finite(video_id, values[rows])
            items.append(
                FeatureItem(
                    torch.from_numpy(values[rows]).float(),
                    torch.from_numpy(times_seconds[rows].copy()),
                    self.labels[number].clone(),
                    video_id,
                )
            )
        return items

    def close(self) -> None:
        """Close the files of the store in this process."""
        self.store.close()

    def __repr__(self) -> str:
        return f"<FeatureDataset of {self.store.path.name}: {len(self)} videos>"


def collate_features(items: Sequence[FeatureItem]) -> FeatureBatch:
    """Join videos of different lengths: the `collate_fn` of a DataLoader on a FeatureDataset."""
    lengths = torch.tensor([len(item.features) for item in items])
    return FeatureBatch(
        pad_sequence([item.features for item in items], batch_first=True),
        lengths,
        pad_sequence([item.times_seconds for item in items], batch_first=True),
        torch.stack([item.label for item in items]),
        [item.video_id for item in items],
    )
