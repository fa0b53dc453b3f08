"""Trains one run and writes its folder. The steps are normalisation, head, scores and
embeddings."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reelbank.data.console import bar_options, printable
from reelbank.data.errors import InputError
from reelbank.data.identity import canonical, signature
from reelbank.data.options import as_text
from reelbank.data.positions import positions
from reelbank.data.scores import table as score_tables
from reelbank.data.scores.table import Scores, TableFacts
from reelbank.data.scores.top_k import places_of_true
from reelbank.data.store.parts import parts_folder
from reelbank.data.store.whole import write_whole
from reelbank.data.system.locks import check_locks
from reelbank.extract.device import chosen_device
from reelbank.extract.networks.build import Trunk
from reelbank.extract.networks.provenance import Provenance
from reelbank.heads.models.linear_svm import put_svm
from reelbank.heads.models.model import Model, build_model
from reelbank.heads.models.registry import head_spec, recorded_head
from reelbank.heads.models.spec import HeadSpec, TrainingPart
from reelbank.heads.models.trunk import backbone
from reelbank.heads.recipe import Training
from reelbank.heads.runs.folder import Run, read_run
from reelbank.heads.runs.metrics import PARTS, PartMetrics, RunMetrics
from reelbank.heads.runs.writing import environment, locked, save_tensors, write_json
from reelbank.heads.training import scoring as score_rules
from reelbank.heads.training.fit import (
    EpochRecord,
    Judgement,
    best_epoch,
    few_threads,
    fit,
    past_epochs,
    write_history,
)
from reelbank.heads.training.material import (
    RunMaterial,
    SequenceExamples,
    SharedRows,
    evaluate,
    outputs_in_pieces,
    sequence_outputs,
)
from reelbank.heads.training.planning.initial import start_from
from reelbank.heads.training.planning.plan import RunPlan
from reelbank.heads.training.repeatable import notes_on, repeatable
from reelbank.heads.training.results import metrics_of, part_metrics
from reelbank.heads.training.tracking.session import Tracking


def is_finished(plan: RunPlan) -> bool:
    """Whether this run has been trained completely."""
    return (plan.path / "metrics.json").exists()


def store_network(plan: RunPlan, store_recipe: dict[str, Any]) -> Trunk | None:
    """The store's network with its weights, if the head begins with the rest of it. Raises
    InputError when the network cannot be found."""
    trunk = plan.recipe.trunk
    if trunk is None or not trunk.is_backbone:
        return None
    return backbone(
        store_recipe,
        trunk,
        bank=plan.bank,
        extractor=plan.extractor,
        weights=plan.trunk_weights,
        streams=(plan.stream,),
    )


def train_run(plan: RunPlan, rows: SharedRows, device: str, *, quiet: bool = False) -> Run:
    """Train one run, or continue it, and write its folder."""
    plan.path.mkdir(parents=True, exist_ok=True)
    with locked(plan.path), repeatable(torch.device(device)) as unrepeatable:
        run = _RunInTraining(plan, rows, device, quiet=quiet, unrepeatable=unrepeatable)
        try:
            run.train()
        finally:
            run.tracking.stop()
    return read_run(plan.path)


class _RunInTraining:
    """One run during training, with everything that the steps need. unrepeatable: the list that
    `repeatable` fills."""

    def __init__(
        self,
        plan: RunPlan,
        rows: SharedRows,
        device: str,
        *,
        quiet: bool,
        unrepeatable: list[str],
    ) -> None:
        self.began, self.unrepeatable = time.perf_counter(), unrepeatable
        self.plan, self.rows, self.device, self.quiet = plan, rows, device, quiet
        self.recipe, self.path = plan.recipe, plan.path
        self.spec = _spec_of(plan)
        self.write_recipe()
        self.material = rows.material(plan.recipe, chosen_device(device))
        self.videos = {
            part: torch.from_numpy(positions(names, self.material.data.ids)).to(device)
            for part, names in plan.ids.items()
        }
        self.tracking = Tracking(plan.options.track, self.path, plan.recipe)

    def write_recipe(self) -> None:
        document = self.recipe.to_json()
        write_json(
            self.path / "recipe.json",
            {
                "signature": signature(document),
                "recipe": document,
                "store_paths": self.rows.paths,
                "store_recipes": self.rows.recipes,
                "environment": environment(self.device),
            },
        )

    def train(self) -> None:
        training = self.recipe.training
        model, history = self.fitted(training)
        parts = {"validation": self.write_scores(model, "validation")}
        best = best_epoch(history, training.best_by)
        chosen = self.spec.chosen(model.head) if self.spec.chosen else {}
        self.notes = _choice_notes(chosen, has_validation=parts["validation"] is not None)
        if not self.quiet:
            for note in self.notes:
                tqdm.write(printable(f"note: {note}"))
        if self.recipe.refit:
            del model  # the old model is as large as the new one
            model = self.refitted(history[:best], chosen)
        parts |= {part: self.write_scores(model, part) for part in ("train", "test")}
        self.write_model(model)
        self.write_metrics(parts, history, best)
        for state in self.path.glob("*state.safetensors"):
            state.unlink()

    def refitted(self, history: Sequence[EpochRecord], chosen: Mapping[str, Any]) -> Model:
        """A new model, trained on training and validation data for as many epochs. It uses the
        learning rates of `history`, because the schedule depends on the number of epochs in the
        options and on validation losses, and the options of the head that were `chosen`."""
        both = torch.cat([self.videos["train"], self.videos["validation"]])
        self.videos = self.videos | {"train": both}
        again = dataclasses.replace(self.recipe.training, epochs=len(history), patience=0)
        rates = tuple(past.lr for past in history)
        model, _ = self.fitted(again, chosen=chosen, rates=rates, validated=False)
        return model

    def fitted(
        self,
        training: Training,
        *,
        chosen: Mapping[str, Any] | None = None,
        rates: tuple[float, ...] = (),
        validated: bool = True,
    ) -> tuple[Model, list[EpochRecord]]:
        """A new model. Its normalisation is fitted on part "train", and its head is trained on that
        part or fitted to it in closed form. The history is written to history.csv, or
        refit-history.csv if the model is not `validated`. chosen: replaces options of the head."""
        plan, material = self.plan, self.material
        prefix = "" if validated else "refit-"
        network = store_network(plan, self.rows.recipes[0])
        torch.manual_seed(training.seed)
        options = {**plan.recipe.head_options, **(chosen or {})}
        model = build_model(
            dataclasses.replace(plan.recipe, head_options=options),
            head=plan.head,
            extractor=plan.extractor,
            streams=(plan.stream,),
            network=network,
        )
        if plan.initial:
            start_from(model.head, plan.initial)
        model = model.to(material.labels.device)
        sequences = material.score.of(self.videos["train"])
        with few_threads(model):
            model.normalise.fit(lambda: material.data.row_chunks(material.score, sequences))
        validation = self.videos["validation"] if validated else self.videos["validation"][:0]
        if self.spec.fit:
            history = [
                fit_at_once(
                    self.spec,
                    model,
                    material,
                    sequences=sequences,
                    validation=validation,
                    seed=training.seed,
                )
            ]
            self.track(history[0], prefix)
        else:
            examples = SequenceExamples(material, self.videos["train"], validation, training)
            history = self.descended(model, examples, training, prefix, rates)
        write_history(self.path / f"{prefix}history.csv", history)
        return model, history

    def descended(
        self,
        model: Model,
        examples: SequenceExamples,
        training: Training,
        prefix: str,
        rates: tuple[float, ...],
    ) -> list[EpochRecord]:
        """Train the model in place by gradient descent. Returns the history."""
        sequences = examples.epoch(1).count
        state = self.path / f"{prefix}state.safetensors"
        earlier = past_epochs(state)
        for past in earlier:
            self.track(past, prefix)
        with (
            few_threads(model),
            tqdm(
                total=training.epochs * sequences,
                initial=len(earlier) * sequences,
                desc=printable(prefix + self.path.name),
                unit=" sequences",
                leave=False,
                dynamic_ncols=True,
                **bar_options(hidden=self.quiet),
            ) as bar,
        ):

            def show(past: EpochRecord) -> None:
                figures = {"epoch": f"{past.epoch}/{training.epochs}"}
                figures["loss"] = f"{past.train_loss:.3f}"
                if past.validation_accuracy is not None:
                    figures["validation"] = f"{100 * past.validation_accuracy:.1f} %"
                bar.set_postfix(figures)
                self.track(past, prefix)

            examples = dataclasses.replace(examples, on_sequences=bar.update)
            history = fit(model, examples, training, state, on_epoch=show, rates=rates)
            if self.recipe.classifier.l2 is not None:
                self.put_svm(model, self.recipe.classifier.l2)
        return history

    def track(self, past: EpochRecord, prefix: str) -> None:
        """Send an epoch to the tracker."""
        self.tracking.epoch(past, "refit/" if prefix else "")

    def put_svm(self, model: Model, l2: float) -> None:
        """Replace the last layer with a linear SVM on the trained embeddings."""
        material = self.material
        sequences = material.score.of(self.videos["train"])
        embeddings = sequence_outputs(model, material.data, material.score, sequences).embeddings
        labels = material.labels[material.score.video[sequences]]
        put_svm(model.head, embeddings, labels, l2)

    def write_scores(self, model: Model, part: str) -> PartMetrics | None:
        """Write the model's scores of one part. Returns its metrics, or None if the part has no
        videos."""
        videos, material, recipe = self.videos[part], self.material, self.recipe
        if not len(videos):
            return None
        labels = material.labels[videos].cpu().numpy()
        about = {
            key: getattr(recipe, key)
            for key in ("dataset", "stream", "extractor", "store", "split", "seed", "head")
        }
        about |= {
            "part": part,
            "signature": signature(recipe.to_json()),
            "name": self.path.name,
            "coarse": self.rows.dataset.to_json()["coarse"],
        }
        numbers = videos.tolist()
        facts = TableFacts(
            video_ids=tuple(material.data.ids[number] for number in numbers),
            labels=labels.astype(np.uint8 if material.scoring.multilabel else np.int64),
            classes=recipe.classes,
            about=about,
            groups=tuple(self.rows.videos.groups[number] for number in numbers),
        )
        path = self.path / f"scores-{part}.npz"
        pieces = (
            piece.logits.cpu().numpy() for piece in outputs_in_pieces(model, material, videos)
        )
        if material.scoring.multilabel:  # whose metrics need all scores of a class at once
            table = Scores(**vars(facts), logits=np.concatenate(list(pieces)))
            score_tables.save(table, path)
            return part_metrics(table)
        places = []

        def ranked() -> Iterator[np.ndarray]:
            first = 0
            for logits in pieces:
                of_piece = labels[first : first + len(logits)]
                places.append(places_of_true(logits, of_piece))
                first += len(logits)
                yield logits

        classes = len(recipe.classes)
        score_tables.save_in_pieces(path, facts.video_ids, classes, ranked(), lambda: facts)
        return metrics_of(np.concatenate(places)[labels >= 0])

    def write_model(self, model: Model) -> None:
        """Write the checkpoint and the embeddings."""
        material = self.material
        recipe = {"recipe": canonical(self.recipe.to_json())}
        save_tensors(self.path / "checkpoint.safetensors", model.state_dict(), recipe)
        everything = torch.arange(len(material.data.ids), device=self.device)
        pieces = outputs_in_pieces(model, material, everything)
        # A store keeps embeddings as float16.
        embeddings = (piece.embeddings.cpu().numpy().astype(np.float16) for piece in pieces)
        write_embeddings(self.plan, self.rows, embeddings)

    def write_metrics(
        self,
        parts: dict[str, PartMetrics | None],
        history: Sequence[EpochRecord],
        best: int,
    ) -> None:
        """Write metrics.json. It is written last because a run without it is not finished."""
        counts = self.material.score.video.bincount(minlength=len(self.material.data.ids))
        metrics = RunMetrics(
            parts={part: parts[part] for part in PARTS},
            best_epoch=best,
            epochs=len(history),
            training_seconds=round(sum(past.seconds for past in history), 2),
            notes=(
                *self.plan.notes,
                *self.notes,
                *notes_on(self.unrepeatable),
                *self.tracking.notes,
            ),
            leaks=tuple(self.plan.leaks),
            sequences={part: int(counts[videos].sum()) for part, videos in self.videos.items()},
            seconds=round(time.perf_counter() - self.began, 2),
        )
        write_json(self.path / "metrics.json", metrics.to_json())
        self.tracking.finish(metrics)  # when the run can no longer be lost


def _spec_of(plan: RunPlan) -> HeadSpec:
    recipe = plan.recipe
    return head_spec(recorded_head(recipe.head, recipe.head_code_sha256, plan.head))


def fit_at_once(
    spec: HeadSpec,
    model: Model,
    material: RunMaterial,
    *,
    sequences: Tensor,
    validation: Tensor,
    seed: int,
) -> EpochRecord:
    """Fit the model's head in place, in closed form, to the sequences (n,). Returns the only record
    of the history. Raises InputError when there is too little data for the fit."""
    assert spec.fit
    began = time.perf_counter()
    labels = material.labels[material.score.video[sequences]]
    part = TrainingPart(
        rows=lambda: _normalised_rows(model, material, sequences),
        row_count=int(material.score.lengths[sequences].sum()),
        embed=lambda: sequence_outputs(model, material.data, material.score, sequences).embeddings,
        labels=labels,
        seed=seed,
        rank=lambda: _rank(evaluate(model, material, validation)),
    )
    logits = spec.fit(model.head, part)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
        returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"the head's fit() must return logits (N, C) of the N = {len(labels)} training sequences "
            f"(got {returned})"
        )
    judged = evaluate(model, material, validation)
    return EpochRecord(
        epoch=1,
        train_loss=float(score_rules.loss(material.scoring, logits, labels)),
        train_accuracy=score_rules.accuracy(material.scoring, logits, labels),
        validation_loss=judged.loss,
        validation_accuracy=judged.accuracy,
        lr=0.0,
        seconds=round(time.perf_counter() - began, 3),
    )


def _choice_notes(chosen: Mapping[str, Any], *, has_validation: bool) -> list[str]:
    """A line about each option of the head that was chosen."""
    reason = "has the highest validation accuracy"
    if not has_validation:
        reason = "is used because it is tried first and there is no validation part"
    return [f"{name.upper()}={as_text(value)} {reason}" for name, value in chosen.items()]


def _rank(judged: Judgement) -> tuple[float, ...]:
    """The accuracy, then the negative loss; () if there is no example."""
    if judged.accuracy is None or judged.loss is None:
        return ()
    return judged.accuracy, -judged.loss


def _normalised_rows(
    model: Model, material: RunMaterial, sequences: Tensor
) -> Iterator[np.ndarray]:
    """The rows of these sequences as the head is given them, in pieces (R', D)."""
    device = material.labels.device
    for rows in material.data.row_chunks(material.score, sequences):
        yield model.normalise(torch.from_numpy(rows).float().to(device)[None])[0].cpu().numpy()


def write_embeddings(plan: RunPlan, rows: SharedRows, pieces: Iterable[np.ndarray]) -> None:
    """Write a feature store with one row (1, E) float16 for each video. The time of the row is the
    mean of the times of the video's rows. pieces: the embeddings (n, E) float16 of one range of
    videos after another."""
    path = plan.path / "embeddings.h5"
    check_locks(plan.path)
    path.unlink(missing_ok=True)
    shutil.rmtree(parts_folder(path), ignore_errors=True)
    recipe = {
        "kind": "embedding",
        "run": signature(plan.recipe.to_json()),
        "stream": plan.recipe.stream,
        "extractor": plan.path.name,
        "weights": Provenance.of_head(plan.path.name, plan.saw).to_json(),
    }
    write_whole(
        path,
        recipe,
        rows.dataset,
        rows.videos,
        pieces=pieces,
        times_seconds=rows.times_seconds,
    )
