"""Features of video files, computed as in training. Each run's recipe contains the recipes of its
stores. Stage one uses these recipes to extract the files into a temporary bank."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelbank.data.datasets.types import Video
from reelbank.data.errors import InputError
from reelbank.data.feature_recipe import FeatureRecipe
from reelbank.data.identity import canonical, signature
from reelbank.data.scores.table import Scores
from reelbank.data.store.records import DatasetDescription, Failure
from reelbank.data.store.writer import StoreWriter
from reelbank.data.video.sources import look
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.job import stored_video
from reelbank.fusion.options import PredictOptions
from reelbank.fusion.prediction.runs import banks_of
from reelbank.fusion.prediction.same_features import FILES, extract_again, user_files
from reelbank.heads.predict import store_recipes
from reelbank.heads.runs.folder import Run, all_runs


@dataclass(frozen=True)
class RunScores:
    """The predictions of a run for the videos that it can score.

    scores: None if there is no such video; embeddings: (V, E) float32, None for fused runs;
    without_input: the reason why a video has no input for the run (no sound), by id.
    """

    scores: Scores | None
    embeddings: np.ndarray | None
    without_input: dict[str, Failure]


@dataclass(frozen=True)
class FileFeatures:
    """The temporary bank of one prediction.

    stores: the stores made so far, by recipe and data set; failed: the reason why a video cannot be
    predicted, by id; notes: lines for the user.
    """

    folder: Path
    videos: tuple[Video, ...]
    options: PredictOptions
    stores: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def user_files(self) -> UserFiles:
        """The user's files, which recipes do not contain."""
        return user_files(self.options)

    def stores_of(self, run: Run, predict_run: Callable[[Run], RunScores]) -> list[Path]:
        """The stores of the files for a run, in the order in which the run joins them. Each store
        is made once. predict_run: a function that scores a run whose embeddings the run was trained
        on."""
        recipes = store_recipes(run.path)
        # The store of flow lengths that adaptive sampling followed is named after its data set.
        is_adaptive = any(
            FeatureRecipe.from_json(recipe).magnitude is not None for recipe in recipes
        )
        dataset = DatasetDescription(
            str(run.recipe.get("dataset")) if is_adaptive else FILES,
            multilabel=bool(run.recipe.get("scoring", {}).get("multilabel")),
        )
        paths = []
        for recipe in recipes:
            key = canonical(
                {"recipe": recipe, "dataset": dataset.name, "multilabel": dataset.multilabel}
            )
            if key not in self.stores:
                if recipe.get("kind") == "embedding":
                    self.stores[key] = self._embedded(recipe, run, dataset, predict_run)
                else:
                    self.stores[key] = self._extracted(recipe, run, dataset)
            paths.append(self.stores[key])
        return paths

    def _extracted(self, recipe: dict[str, Any], run: Run, about: DatasetDescription) -> Path:
        """The store of one recipe, made by stage one."""
        if not re.fullmatch(r"[\w.-]+", about.name):
            raise InputError(
                f"{run.path}: its recipe contains an invalid name of a data set, "
                f"{about.name!r}; train the run again"
            )
        files = user_files(self.options, banks_of(run, self.options.searched))
        device = self.options.device
        try:
            again = options_again(recipe, files, str(self.folder), about.name, device)
        except InputError as error:
            raise InputError(f"{run.path.name}: {error}") from None
        return extract_again(
            recipe, self.videos, self.folder, about=about, options=self.options, again=again
        )

    def _embedded(
        self,
        recipe: dict[str, Any],
        run: Run,
        about: DatasetDescription,
        predict_run: Callable[[Run], RunScores],
    ) -> Path:
        """A store with the embeddings of the files by another run."""
        siblings = all_runs(banks_of(run, self.options.searched))
        trained_on = [
            sibling
            for sibling in siblings
            if sibling.finished and sibling.signature == recipe.get("run")
        ]
        if not trained_on:
            raise InputError(
                f"{run.path.name} was trained on the embeddings of the run "
                f"{recipe.get('extractor')}, which is not among the finished runs in "
                f"{run.path.parent}; restore that run"
            )
        predicted = predict_run(trained_on[0])
        path = self.folder / "stores" / f"embedding-{signature(recipe)[:12]}.h5"
        ids = predicted.scores.video_ids if predicted.scores else ()
        row_of = {name: row for row, name in enumerate(ids)}
        writer = StoreWriter(path, recipe, about)
        try:
            for video in self.videos:
                entry = stored_video(video, look(video.path))
                if video.id in row_of and predicted.embeddings is not None:
                    embedding = predicted.embeddings[row_of[video.id]][None]  # (1, E)
                    writer.add(entry, embedding.astype(np.float16), np.zeros(1))  # as in training
                else:
                    reason = predicted.without_input.get(video.id) or self.failed[video.id]
                    writer.fail(entry, str(reason))
            writer.finish([stored_video(video) for video in self.videos])
        finally:
            writer.close()
        return path
