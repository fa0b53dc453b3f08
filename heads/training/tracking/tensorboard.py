"""TensorBoard: event files in the folder of the run."""

from __future__ import annotations

from collections.abc import Mapping

from reelbank.heads.training.tracking.types import TrackedRun, Tracker, package

FOLDER = "tensorboard"  # in the folder of the run


class TensorBoard(Tracker):
    @staticmethod
    def check() -> None:
        package("tensorboard", "tensorboard", "pip install 'reelbank[tensorboard]'")

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import FileWriter

        folder = run.folder / FOLDER
        # TensorBoard would show the epochs of an interrupted training twice.
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
        self._run = run
        self._writer = FileWriter(str(folder))

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import scalar

        for name, value in figures.items():
            self._writer.add_summary(scalar(name, value), epoch)
        self._writer.flush()

    def finish(self, figures: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams, scalar

        for name, value in figures.items():
            self._writer.add_summary(scalar(name, value))
        # The method of torch that adds both writes them as another run, in a folder of its own.
        for summary in hparams(dict(self._run.options), dict(figures)):
            self._writer.add_summary(summary)
        self._writer.close()

    def stop(self) -> None:
        self._writer.close()
