"""Which rows form a sequence, in training and in scoring, and how the scores of sequences become
the score of a video."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelbank.data.errors import InputError
from reelbank.data.video.clips import jittered_segments, segments, sliding_windows
from reelbank.heads.recipe import Rule, Scoring
from reelbank.heads.training.scoring import video_scores
from reelbank.heads.training.sequences import Table, tables


def made(rows_of: list[list[int]], **rule) -> tuple[Table, Table]:
    """rows_of: for each video the view of each row."""
    return tables(
        [np.array(views, np.uint8) for views in rows_of],
        Rule(**rule),
        [f"v{n}" for n in range(len(rows_of))],
    )


def listed(table: Table) -> list[tuple[int, list[int]]]:
    """(video, its rows) of each sequence."""
    return [
        (video, rows[:length])
        for video, rows, length in zip(
            table.video.tolist(), table.rows.tolist(), table.lengths.tolist(), strict=True
        )
    ]


def test_all_rows_or_t_of_them_by_sigma():
    learn, score = made([[0] * 3, [0] * 5])
    assert listed(score) == listed(learn) == [(0, [0, 1, 2]), (1, [0, 1, 2, 3, 4])]
    assert not score.uniform
    _, score = made([[0] * 3, [0] * 5], steps=3)
    assert listed(score) == [(0, [0, 1, 2]), (1, [0, 2, 4])] and score.uniform


def test_each_view_is_a_training_sequence_and_none_is_scored():
    learn, score = made([[0, 0, 1, 1, 2, 2], [0]])
    assert listed(learn) == [(0, [0, 1]), (0, [2, 3]), (0, [4, 5]), (1, [0])]
    assert listed(score) == [(0, [0, 1]), (1, [0])]
    assert learn.of(torch.tensor([0])).tolist() == [0, 1, 2]


def test_windows_slide_loop_and_are_at_most_so_many():
    # MRRN: windows every `stride` rows; 10 rows, 4 in a window, every 3rd: they begin at 0, 3, 6
    _, score = made([[0] * 10, [0] * 3], sampling="windows", steps=4, stride=3)
    assert listed(score) == [
        (0, [0, 1, 2, 3]),
        (0, [3, 4, 5, 6]),
        (0, [6, 7, 8, 9]),
        (1, [0, 1, 2, 0]),
    ]
    _, score = made([[0] * 10], sampling="windows", steps=4, stride=1, most=3)
    assert [rows[0] for _, rows in listed(score)] == [0, 3, 6]  # of seven windows 0, 3, 6 by sigma
    # without a stride runs stand end to end (Recurrent Residual Learning: M runs of T_c frames)
    _, score = made([[0] * 7], sampling="windows", steps=2)
    assert listed(score) == [(0, [0, 1]), (0, [2, 3]), (0, [4, 5])]


@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 40), st.integers(0, 25))
def test_windows_are_consecutive_rows_within_the_video(rows, window, stride, most):
    found = sliding_windows(rows, window, stride, most)
    assert found.shape[1] == window and found.min() >= 0 and found.max() < rows
    assert ((np.diff(found, axis=1) - 1) % rows == 0).all()
    assert (found[:, 0] % stride == 0).all()
    expected = max(1, (rows - window) // stride + 1)
    assert len(found) == (min(expected, most) if most else expected)


def test_positions_of_segments_by_hand():
    # 12 rows, 3 segments of 4, 2 positions: at a quarter and at three quarters of each
    _, score = made([[0] * 12], sampling="segments", steps=3, positions=2)
    assert listed(score) == [(0, [1, 5, 9]), (0, [3, 7, 11])]
    # R-LSTM's store: 32 rows, 8 segments, 4 positions: row p of each segment's four
    for position in range(4):
        assert segments(32, 8, position, 4).tolist() == [4 * t + position for t in range(8)]
    _, score = made([[0] * 12], sampling="segments", steps=3)
    assert listed(score) == [(0, [2, 6, 10])]  # the middle


def test_training_draws_a_new_row_of_each_segment_every_time():
    learn, _ = made([[0] * 12, [0] * 2], sampling="segments", steps=3)
    assert learn.draws == 3
    drawn = [learn.drawn(torch.Generator().manual_seed(seed)) for seed in range(300)]
    rows = torch.stack([table.rows for table in drawn])  # (300, 2, 3)
    assert (rows[:, 0] // 4 == torch.arange(3)).all()
    assert [set(rows[:, 0, t].tolist()) for t in range(3)] == [
        set(range(4 * t, 4 * t + 4)) for t in range(3)
    ]
    allowed = {
        tuple(jittered_segments(2, 3, np.random.default_rng(seed)).tolist()) for seed in range(100)
    }
    assert {
        tuple(one.tolist()) for one in rows[:, 1]
    } == allowed  # fewer rows than segments: as clips.jittered_segments
    assert torch.equal(drawn[5].rows, learn.drawn(torch.Generator().manual_seed(5)).rows)
    assert drawn[0].uniform and drawn[0].draws is None


def test_segments_of_augmented_views_stay_in_their_view():
    learn, _ = made([[0] * 4 + [1] * 4], sampling="segments", steps=2)
    drawn = learn.drawn(torch.Generator().manual_seed(0))
    assert (drawn.rows[0] < 4).all() and (drawn.rows[1] >= 4).all()


def test_one_view_of_each_place():
    learn, _ = made([[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]], sampling="windows", steps=1, crops=2)
    assert len(learn.rows) == 2 * 2 * 3 * 2  # videos, windows, views, crops
    numbers = learn.of(torch.tensor([0, 1]))
    taken = [learn.one_of_each(numbers, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert all(len(one) == 4 and len(set(learn.place[one].tolist())) == 4 for one in taken)
    assert {int(number) for one in taken for number in one} == set(numbers.tolist())
    assert {len(learn.one_of_each(learn.of(torch.tensor([1])), torch.Generator()))} == {2}


def test_crops_taken_one_by_one_and_windows_of_the_store():
    _, score = made([[0] * 6], steps=2, clips=2, crops=3)
    assert (
        listed(score) == [(0, [0, 2])] * 3 + [(0, [3, 5])] * 3
    )  # the store's two windows of three rows, three crops each
    assert score.crop.tolist() == [0, 1, 2] * 2 and score.clip.tolist() == [0] * 3 + [1] * 3
    with pytest.raises(InputError, match="video v0: its 5 rows cannot be divided into 2 windows"):
        made([[0] * 5], clips=2)


def test_what_was_cut_out_of_a_longer_video_is_one_clip() -> None:
    """Charades: training actions have T rows, whole test videos ten windows of T."""
    rule = Rule(sampling="segments", steps=2, clips=3)
    learn, score = tables(
        [np.zeros(4, np.uint8), np.zeros(12, np.uint8)], rule, ["action", "whole"], {"action"}
    )
    assert learn.lengths.tolist() == [4] + [4] * 3 and score.clip.tolist() == [0, 1, 2, 3]
    assert listed(score) == [(0, [1, 3]), (1, [1, 3]), (1, [5, 7]), (1, [9, 11])]


def test_places_of_one_video_are_never_anothers() -> None:
    learn, _ = made([[0] * 4 + [1] * 12] * 2, sampling="windows", steps=4)
    assert not set(learn.place[learn.video == 0].tolist()) & set(
        learn.place[learn.video == 1].tolist()
    )


def test_scores_of_a_video_are_the_mean_over_its_sequences():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]])
    video, clip, videos = torch.tensor([0, 0, 4]), torch.tensor([0, 0, 1]), torch.tensor([4, 0])
    of = {"video": video, "clip": clip, "videos": videos}
    found = video_scores(Scoring(average="probabilities"), logits, **of)
    expected = torch.stack(
        [logits[2].softmax(0), (logits[0].softmax(0) + logits[1].softmax(0)) / 2]
    )
    torch.testing.assert_close(found.softmax(1), expected)
    found = video_scores(Scoring(average="logits"), logits, **of)
    torch.testing.assert_close(found, torch.tensor([[1.0, 3.0], [1.0, 0.0]]))


def test_a_single_sequence_keeps_its_logits():
    logits = torch.randn(3, 4)
    found = video_scores(
        Scoring(),
        logits,
        video=torch.tensor([1, 5, 7]),
        clip=torch.tensor([0, 1, 2]),
        videos=torch.tensor([7, 1, 5]),
    )
    assert torch.equal(found, logits[[2, 0, 1]])


def test_max_over_clips_of_the_mean_over_views():
    # video 0: clip 0 of two sequences, clip 1 of one; Charades: views averaged, then the highest
    # clip counts
    logits = torch.tensor([[4.0, 0.0], [0.0, 0.0], [-1.0, 1.0], [0.0, 2.0]])
    video, clip = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 2])
    scoring = Scoring(average="probabilities", over_clips="max", multilabel=True)
    of = {"video": video, "clip": clip, "videos": torch.tensor([0, 1])}
    found = video_scores(scoring, logits, **of)
    p = logits.sigmoid()
    expected = torch.stack([torch.maximum((p[0] + p[1]) / 2, p[2]), p[3]])
    torch.testing.assert_close(found.sigmoid(), expected)
    mean = video_scores(Scoring(average="probabilities", multilabel=True), logits, **of)
    torch.testing.assert_close(mean.sigmoid()[0], ((p[0] + p[1]) / 2 + p[2]) / 2)
