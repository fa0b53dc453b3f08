"""The material that a run is trained and scored on (features of the stores, sequences and labels),
and the outputs of a model for it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelbank.data.positions import positions
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription
from reelbank.data.store.videos import StoredVideos
from reelbank.heads.recipe import RunRecipe, Scoring, Training
from reelbank.heads.training import scoring as score_rules
from reelbank.heads.training.batches import Loaded, RowReading
from reelbank.heads.training.fit import Batch, Epoch, Judgement, epoch_seed
from reelbank.heads.training.planning.stores import videos_of
from reelbank.heads.training.sequences import Table, tables
from reelbank.heads.training.streaming import Streamed, open_features, views_of

EVALUATED_SEQUENCES, EVALUATED_BYTES = 256, 1 << 26  # maximum number of sequences at once
PIECE_VIDEOS = 1 << 14  # a multiple of EVALUATED_SEQUENCES, so that pieces do not change batches


@dataclass(frozen=True)
class SharedRows:
    """The material that runs on the same rows share: the features, the rows of each sequence, and
    the metadata of the stores. videos: the metadata of `data`'s videos, in order; times_seconds:
    (V,) the mean time of the rows that are scored."""

    data: Loaded | Streamed
    learn: Table
    score: Table
    times_seconds: np.ndarray
    dataset: DatasetDescription
    recipes: list[dict[str, Any]]
    paths: list[str]
    videos: StoredVideos

    def material(self, recipe: RunRecipe, device: torch.device) -> RunMaterial:
        """With the labels of a run's classes, on the device."""
        labels = label_numbers(self.videos.labels, recipe.classes, self.dataset)
        if recipe.scoring.multilabel:
            labels = labels.astype(np.float32)
        return RunMaterial(
            self.data.to(device),
            self.learn.to(device),
            self.score.to(device),
            torch.from_numpy(labels).to(device),
            recipe.scoring,
        )


@dataclass(frozen=True)
class RunMaterial:
    """The material that a head is trained and scored on, all on its device. data: the features of V
    videos; learn, score: the rows of each sequence in training and in scoring; labels: (V,) int64,
    or (V, C) float32 for multi-label data."""

    data: Loaded | Streamed
    learn: Table
    score: Table
    labels: Tensor
    scoring: Scoring


@dataclass(frozen=True)
class SequenceExamples:
    """The `Examples` of a head, which are the sequences of the videos `train` to learn from and the
    videos `validation` (both are numbers, int64, on the device). on_sequences: called with the
    number of sequences of each batch that was trained on."""

    material: RunMaterial
    train: Tensor
    validation: Tensor
    training: Training
    on_sequences: Callable[[int], object] = lambda count: None

    @property
    def device(self) -> torch.device:
        return self.material.labels.device

    @functools.cached_property
    def _sequences(self) -> Tensor:
        return self.material.learn.of(self.train)

    def epoch(self, number: int) -> Epoch:
        # The order has a separate generator, so that reading ahead does not change what dropout
        # draws.
        generator = torch.Generator().manual_seed(epoch_seed(self.training.seed, number))
        table = self.material.learn.drawn(generator)
        numbers = self._sequences
        if self.training.one_view:
            numbers = table.one_of_each(numbers, generator)
        size = self.training.batch
        if self.training.batch_share:
            size = max(1, round(self.training.batch_share * len(numbers)))
        order = torch.randperm(len(numbers), generator=generator).to(self.device)
        groups = numbers[order].split(size)
        return Epoch(len(numbers), len(groups), self._batches(table, groups))

    def _batches(self, table: Table, groups: Sequence[Tensor]) -> Iterator[Batch]:
        batches = self.material.data.batches(table, groups)
        for group, inputs in zip(groups, batches, strict=True):
            yield Batch(inputs, self.material.labels[table.video[group]])
            self.on_sequences(len(group))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return score_rules.loss(self.material.scoring, logits, labels)

    def validate(self, model: nn.Module) -> Judgement:
        return evaluate(model, self.material, self.validation)


@dataclass(frozen=True)
class Outputs:
    """logits (n, C) and embeddings (n, E), float32."""

    logits: Tensor
    embeddings: Tensor


def evaluate(model: nn.Module, material: RunMaterial, videos: Tensor) -> Judgement:
    """The model on these videos."""
    if not len(videos):
        return Judgement()
    scoring = material.scoring
    pieces = outputs_in_pieces(model, material, videos)
    if scoring.multilabel:  # whose accuracy needs all scores of a class at once
        pieces = iter([Outputs(torch.cat([piece.logits for piece in pieces]), torch.empty(0))])
    counts, losses, accuracies = [], [], []
    first = 0
    for piece in pieces:
        logits = piece.logits
        labels = material.labels[videos[first : first + len(logits)]]
        first += len(logits)
        counts.append(len(logits))
        losses.append(float(score_rules.loss(scoring, logits, labels)))
        accuracies.append(score_rules.accuracy(scoring, logits, labels))
    if len(counts) == 1:
        return Judgement(losses[0], accuracies[0])
    return Judgement(
        float(np.average(losses, weights=counts)), float(np.average(accuracies, weights=counts))
    )


def outputs_in_pieces(model: nn.Module, material: RunMaterial, videos: Tensor) -> Iterator[Outputs]:
    """The `outputs` of these videos, of one range of at most PIECE_VIDEOS after another, because
    those of millions do not fit in memory."""
    for piece in videos.split(PIECE_VIDEOS):
        yield outputs(model, material.data, material.score, material.scoring, piece)


@torch.inference_mode()
def outputs(
    model: nn.Module, data: Loaded | Streamed, table: Table, scoring: Scoring, videos: Tensor
) -> Outputs:
    """The combined logits of the sequences of each video and their mean embedding, in the videos'
    order, without dropout."""
    numbers = table.of(videos)
    of_sequences = sequence_outputs(model, data, table, numbers)
    logits, embeddings = of_sequences.logits, of_sequences.embeddings
    del of_sequences
    video = table.video[numbers]
    ids, of_video = torch.unique(video, return_inverse=True)
    means = torch.zeros(len(ids), embeddings.shape[1], device=embeddings.device)
    means.index_add_(0, of_video, embeddings)
    del embeddings  # because Fisher vectors take gigabytes
    means /= torch.bincount(of_video)[:, None]
    if not torch.equal(ids, videos):
        means = means[torch.searchsorted(ids, videos)]
    clip = table.clip[numbers]
    scores = score_rules.video_scores(scoring, logits, video=video, clip=clip, videos=videos)
    return Outputs(scores, means)


@torch.inference_mode()
def sequence_outputs(
    model: nn.Module, data: Loaded | Streamed, table: Table, numbers: Tensor
) -> Outputs:
    """The model's outputs for these sequences, in their order, without dropout."""
    model.eval()
    longest_bytes = table.rows.shape[1] * math.prod(data.row_shape) * 4
    at_once = min(EVALUATED_SEQUENCES, max(1, EVALUATED_BYTES // longest_bytes))
    logits = embeddings = torch.empty(0)
    first = 0
    for batch in data.batches(table, numbers.split(at_once)):
        batch_logits, batch_embeddings = model(*batch)
        if not first:  # the outputs of all sequences are allocated once
            logits = batch_logits.new_empty(len(numbers), batch_logits.shape[1])
            embeddings = batch_embeddings.new_empty(len(numbers), batch_embeddings.shape[1])
        last = first + len(batch_logits)
        logits[first:last], embeddings[first:last] = batch_logits, batch_embeddings
        first = last
    return Outputs(logits, embeddings)


def open_rows(
    stores: Sequence[Store],
    recipe: RunRecipe,
    *,
    read_from: str = "auto",
    device: str = "cpu",
    workers: int = 1,
) -> SharedRows:
    """The material of the runs of a recipe, of which `workers` are trained at a time. It contains
    all videos that the stores have in common and that a split uses."""
    store, ids = stores[0], videos_of(stores)
    has_views = bool(recipe.views)
    cut_out_videos = cut_out(store) if recipe.rows.clips > 1 else ()  # others are one clip anyway
    views = views_of(store, ids, views=has_views)
    learn, score = tables(views, recipe.rows, ids, cut_out_videos)
    data = open_features(
        stores,
        ids,
        readings_of(stores, recipe),
        views=has_views,
        crops=bool(recipe.rows.crops),
        read_from=read_from,
        device=device,
        workers=workers,
    )
    scored_times = zip(store.times_of(ids), scored_rows(score, len(ids)), strict=True)
    times = np.fromiter((of_video[rows].mean() for of_video, rows in scored_times), np.float64)
    return SharedRows(
        data=data,
        learn=learn,
        score=score,
        times_seconds=times,
        dataset=store.dataset,
        recipes=[member.recipe for member in stores],
        paths=[str(member.path) for member in stores],
        videos=StoredVideos.of(store, positions(ids, store.video_ids)),
    )


def readings_of(stores: Sequence[Store], recipe: RunRecipe) -> list[RowReading]:
    """The reduction of each store's rows as they are read for a run of this recipe."""
    takes_vectors = len(recipe.input_shape) == 1
    readings = []
    for store in stores:
        keeps_crops = bool(store.recipe.get("crops_kept"))
        readings.append(
            RowReading(
                average_crops=keeps_crops and not recipe.rows.crops,
                pool=takes_vectors and len(store.row_shape) - keeps_crops == 3,
            )
        )
    return readings


def cut_out(store: Store) -> set[str]:
    """The videos that were cut out of longer videos. Stage one does not cut them into windows."""
    return {
        name
        for name, source in zip(store.video_ids, store.sources, strict=True)
        if source.get("span_seconds")
    }


def scored_rows(score: Table, videos: int) -> Iterator[np.ndarray]:
    """The rows of each video that are scored. A row that is scored several times is repeated."""
    # The sequences of a video are consecutive.
    ends = np.searchsorted(score.video.numpy(), np.arange(videos + 1)).tolist()
    is_padding = np.arange(score.rows.shape[1]) >= score.lengths.numpy()[:, None]  # (S, K)
    rows = score.rows.numpy()
    for first, last in itertools.pairwise(ends):
        yield rows[first:last][~is_padding[first:last]]


def label_numbers(
    texts: Sequence[str], classes: Sequence[str], dataset: DatasetDescription
) -> np.ndarray:
    """A store's labels as numbers: (V,) int64 into `classes`, -1 for another class; for multi-label
    data (V, C) uint8."""
    number_of = {name: number for number, name in enumerate(classes)}
    if not dataset.multilabel:
        return np.array([number_of.get(text, -1) for text in texts], np.int64)
    labels = np.zeros((len(texts), len(classes)), np.uint8)
    for row, text in zip(labels, texts, strict=True):
        row[[number_of[name] for name in dataset.label_names(text) if name in number_of]] = 1
    return labels
