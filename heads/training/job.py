"""Runs on the same stores, and what is known about them before they are trained."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reelbank.data.console import counted, print_lines
from reelbank.data.identity import canonical
from reelbank.data.positions import positions
from reelbank.data.store.reader import Store
from reelbank.heads.training.material import SharedRows
from reelbank.heads.training.planning.leaks import copied_videos
from reelbank.heads.training.planning.plan import RunPlan
from reelbank.heads.training.run import is_finished


@dataclass(frozen=True)
class Job:
    """Runs on the same stores."""

    stores: Sequence[Store]
    plans: list[RunPlan]

    def missing(self) -> "Job":
        """The runs that are not finished."""
        return Job(self.stores, [plan for plan in self.plans if not is_finished(plan)])


def rows_key(plan: RunPlan) -> str:
    """What two runs must have in common to be trained on the same features in memory."""
    recipe = plan.recipe.to_json()
    names = ("store", "mid", "rows", "row_shape", "input_shape", "views")
    return canonical({name: recipe.get(name) for name in names})


def print_leaks(leaks_of_runs: Iterable[Sequence[str]]) -> None:
    """Print each line on test and validation videos that are not independent once."""
    for leak in dict.fromkeys(itertools.chain.from_iterable(leaks_of_runs)):
        print_lines(f"note: {leak}")


def tell_untracked(tracker: str, plans: Iterable[RunPlan]) -> None:
    """Print how many runs a tracker (TRACK, "" for none) does not get, because they are finished."""
    finished = sum(map(is_finished, plans)) if tracker else 0
    if finished:
        print_lines(
            f"note: {counted(finished, 'run')} finished before, so TRACK={tracker} does not send the "
            "figures"
        )


def with_copied_videos(plans: Sequence[RunPlan], rows: SharedRows, store: Store) -> list[RunPlan]:
    """The plans, with lines on the videos of their splits that are copies of training videos.
    store: where the rows are from, or one of several with the same rows of each video."""
    # Clean rows come before those of augmented views, which differ between copies.
    clean_rows = store.rows[positions(rows.videos.ids, store.video_ids)].tolist()
    means = rows.data.video_means(clean_rows)
    ids_of = {plan.recipe.split: plan.ids for plan in reversed(plans)}
    lines_of: dict[str, tuple[str, ...]] = {}
    for number, (split, ids) in enumerate(ids_of.items(), 1):
        overwritten = means if number == len(ids_of) else means.copy()
        lines_of[split] = tuple(copied_videos(rows.videos, overwritten, ids, split))
    return [
        dataclasses.replace(plan, leaks=plan.leaks + lines_of[plan.recipe.split]) for plan in plans
    ]
