"""Backbones that were trained here: one store for each split, and heads are not tested on videos
that the backbone was trained on."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_stores import DATASET, RECIPE, made_times, made_values, made_video

from reelbank.data.datasets.splits import cut_validation
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetDescription, StoredVideo
from reelbank.data.store.writer import StoreWriter
from reelbank.fusion.options import PredictOptions
from reelbank.fusion.predict import predict_videos as predict
from reelbank.heads.runs.folder import Run, all_runs
from reelbank.heads.runs.leak_guard import check_unseen, hash_text, seen_videos, video_hashes
from reelbank.heads.training.options import TrainOptions
from reelbank.heads.training.planning.stores import chosen_stores
from reelbank.heads.training.train import train

torch.set_num_threads(1)  # the tensors are tiny
CLASSES = ("jump", "run", "sit")
SPLITS = ("1", "2", "3")
QUICK = TrainOptions(
    head="meanpool", lr=0.01, batch=8, epochs=2, patience=0, refit=False, device="cpu"
)
FAMILY, OTHER = "ab" * 32, "cd" * 32


def hashed(**about: Any) -> str:
    return hashlib.sha256(
        json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()[:12]


def file_bytes(label: str, group: int, clip: int) -> int:
    """Another one for each made video."""
    return 1000 + 100 * CLASSES.index(label) + 10 * group + clip


def saw(
    split: str,
    dataset: str = "made",
    share: float = 0.2,
    tested: int | tuple[int, ...] = -1,
    more_bytes: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """What weights saw that were trained on a made store, all but the groups `tested` (default:
    one, as the split's number says); more_bytes: its files are so much longer."""
    tested = (int(split) - 1 if tested == -1 else tested,) if isinstance(tested, int) else tested
    videos = {
        f"{label}/g{group}_c{clip}": (label, group, clip)
        for label in CLASSES
        for group in range(5)
        for clip in range(2)
    }
    videos = {name: about for name, about in videos.items() if about[1] not in tested}
    held = cut_validation(
        list(videos),
        [a[0] for a in videos.values()],
        [f"g{a[1]}" for a in videos.values()],
        share,
        0,
    )
    texts = []
    for part in (videos.keys() - held, held):
        by_id = [hashed(dataset=dataset, id=name) for name in part]
        sizes = {name: file_bytes(*videos[name]) + more_bytes for name in part}
        by_file = [
            hashed(name=name.split("/")[1], bytes=sizes[name], span_seconds=None) for name in part
        ]
        texts.append("".join(sorted(by_id + by_file)))
    about = {"dataset": dataset, "split": split, "part": "train", "validation_share": share}
    return {**about, "videos": texts[0], "validation_videos": texts[1], **more}


def made_store(
    bank: Path,
    backbone_saw: dict[str, Any] | None,
    family: str = FAMILY,
    dataset: str = "made",
    groups: tuple[int, ...] = (0, 1, 2, 3, 4),
    test_groups: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,)),
    labels: tuple[str, ...] = CLASSES,
    video_id: str = "{label}/g{group}_c{clip}",
    more_bytes: int = 0,
    **recipe: Any,
) -> str:
    """3 classes x `groups` x 2 clips of 2 rows; split s tests the s-th of `test_groups`. Returns
    the store's identity."""
    about = DatasetDescription(name=dataset, classes=list(CLASSES), splits=list(SPLITS), coarse={})
    weights: dict[str, Any] = {"source": "pretrained", "sha256": "00"}
    if backbone_saw:
        split = backbone_saw["split"]
        weights = {
            "source": f"trained here, net-rgb-{family[:8]}-split{split}",
            "sha256": f"{split}{family}",
            "family": family,
        }
        weights["saw"] = backbone_saw
    recipe = {"stream": "rgb", "extractor": "net", "weights": weights, **recipe}
    name = f"{dataset}-{len(list((bank / 'stores').glob('*.h5')))}.h5"
    videos = []
    with StoreWriter(bank / "stores" / name, recipe, about) as writer:
        for label in labels:
            for group in groups:
                for clip in range(2):
                    parts = ["test" if group in tested else "train" for tested in test_groups]
                    name, first = (
                        video_id.format(label=label, group=group, clip=clip),
                        label.split(";")[0],
                    )
                    source = {"bytes": file_bytes(first, group, clip) + more_bytes}
                    videos.append(StoredVideo(name, label, f"g{group}", parts, source))
                    seed = [CLASSES.index(first), group, clip]
                    writer.add(
                        videos[-1], np.random.default_rng(seed).normal(size=(2, 6)), np.arange(2.0)
                    )
        assert writer.finish(videos)
        return writer.identity


def trained(bank: Path, **changes: Any) -> list[Run]:
    before = {run.path for run in all_runs(bank)}
    assert train(dataclasses.replace(QUICK, bank=str(bank), **changes)) == 0
    return [run for run in all_runs(bank) if run.path not in before]


def refusal(bank: Path, **changes: Any) -> str:
    """The message, one line, of the InputError that training raises before it writes a run."""
    with pytest.raises(InputError) as error:
        trained(bank, **changes)
    assert "\n" not in str(error.value) and not list(bank.glob("runs/*"))
    return str(error.value)


def test_test_videos_that_the_backbone_saw_are_refused(tmp_path: Path) -> None:
    made_store(tmp_path, saw("1"))
    line = r"SPLIT=2: 6 of the 6 test videos of split 2 were used to train the backbone \(trained on split 1\); extract with "
    assert re.search(
        line + r"weights that were trained on split 2 \(WEIGHTS=...\), or train with SPLIT=1$",
        refusal(tmp_path, split=("2",)),
    )
    assert re.search(line, refusal(tmp_path, split=("1", "2")))  # split 1 is not trained either
    (run,) = trained(tmp_path, split=("1",))
    assert run.metrics.test.videos == 6


def test_it_is_compared_video_by_video(tmp_path: Path) -> None:
    own = saw("1", tested=(0, 1))
    made_store(tmp_path / "some", own, test_groups=((0, 1), (1, 2), (0,)))
    assert re.search(
        r"SPLIT=2: 6 of the 12 test videos", refusal(tmp_path / "some", split=("2",))
    )  # group 2; group 1 was tested there too
    assert len(trained(tmp_path / "some", split=("3",))) == 1
    made_store(tmp_path / "without", own, test_groups=((0, 1), (1, 2), (0,)), groups=(0, 1, 3, 4))
    assert (
        len(trained(tmp_path / "without", split=("2",))) == 1
    )  # the store holds no video of group 2


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (None, None),
        (saw("1", "other", more_bytes=1000), None),  # other files, though of the same names
        (
            saw("1", "other", more_bytes=1000, before=saw("1")),
            r"\(trained on split 1 of other, split 1\); pretrain on the current split 3",
        ),
        (
            saw("2", before=saw("1")),
            r"\(trained on split 2, split 1\); extract with weights that were trained on split 3 .*, or train with SPLIT=2$",
        ),
        (
            saw("9", tested=()),
            r"6 of the 6 .* \(trained on split 9\); pretrain on the current split 3, or restore",
        ),
        ({"dataset": "made", "split": "2"}, "does not record the videos"),
        (saw("2", videos="none"), "does not record the videos"),
        (saw("2", before="all"), "does not record the videos"),
    ],
)
def test_what_was_seen_here_counts(
    tmp_path: Path, own: dict[str, Any] | None, found: str | None
) -> None:
    made_store(tmp_path, own)
    if found is None:
        assert len(trained(tmp_path, split=("2",))) == 1
    else:
        assert re.search(found, refusal(tmp_path, split=("3",)))


@pytest.mark.parametrize(
    "video_id", ["{label}/g{group}_c{clip}", "g{group}_c{clip}.AVI/{label}/g{group}_c{clip}.avi"]
)
def test_the_same_files_as_another_data_set_are_known(tmp_path: Path, video_id: str) -> None:
    made_store(tmp_path, saw("1", "ucf101"), dataset="folder-clips-222222", video_id=video_id)
    line = r"6 of the 6 test videos of split 2 .* \(trained on split 1 of ucf101\); pretrain on the current split 2"
    assert re.search(line, refusal(tmp_path, split=("2",)))
    assert len(trained(tmp_path, split=("1",))) == 1  # none of them was seen


def test_rewritten_files_are_recognised_by_their_ids(tmp_path: Path) -> None:
    made_store(tmp_path, saw("1"), more_bytes=1000)
    assert re.search("6 of the 6 test videos of split 2", refusal(tmp_path, split=("2",)))


def test_a_split_with_other_test_videos_than_the_backbones_is_refused(tmp_path: Path) -> None:
    """Another SEED, CSV, or more videos: the split is called as before and its videos are
    others."""
    made_store(tmp_path, saw("1"), test_groups=((0, 3), (1,), (2,)))
    line = r"SPLIT=1: 6 of the 12 test videos of split 1 were used .* \(trained on split 1\); "
    line += "pretrain on the current split 1, or restore "
    assert re.search(
        line + r"the data set and the split \(SEED, CSV, ROOT\) that the backbone was trained on$",
        refusal(tmp_path),
    )


def test_videos_that_only_chose_the_weights_were_seen(tmp_path: Path) -> None:
    own = saw("1") | {"videos": ""}
    chose = next(
        g for g in range(5) if hashed(dataset="made", id=f"sit/g{g}_c0") in own["validation_videos"]
    )
    made_store(tmp_path, own, test_groups=((0,), (chose,), (0,)))
    assert re.search("SPLIT=2: 6 of the 6 test videos of split 2", refusal(tmp_path, split=("2",)))
    assert (
        trained(tmp_path)[0].metrics.notes == ()
    )  # they are the head's validation part too, and nothing learned from them


def test_hashes_know_spans_and_unknown_sizes_apart(tmp_path: Path) -> None:
    sources = {
        "a/c1": {"bytes": 7, "span_seconds": [0.5, 2.0]},
        "b/c1": {"bytes": 7, "span_seconds": [2.0, 4.5]},
    }
    sources |= {"c/c1": {"bytes": 7}, "d/c1": {}, "e/c1": {"bytes": -1}}
    with StoreWriter(tmp_path / "made.h5", RECIPE, DATASET) as writer:
        for name, source in sources.items():
            meta = StoredVideo(id=name, label="", group="", parts=["", ""], source=source)
            writer.add(meta, np.zeros((1, 2)), np.zeros(1))
    with Store.open(tmp_path / "made.h5") as store:
        hashes = video_hashes(store)
        assert hashes["a/c1"] == {
            hashed(dataset="made", id="a/c1"),
            hashed(name="c1", bytes=7, span_seconds=[0.5, 2.0]),
        }
        assert [len(hashes[name]) for name in sorted(sources)] == [2, 2, 2, 1, 1]
        assert not any(
            hashes[one] & hashes[other] for one in sources for other in sources if one != other
        )
        assert hash_text(store, ["a/c1", "d/c1"]) == "".join(
            sorted(hashes["a/c1"] | hashes["d/c1"])
        )


def test_each_split_takes_the_store_whose_backbone_saw_it(tmp_path: Path) -> None:
    stores = {split: made_store(tmp_path, saw(split)) for split in SPLITS}
    runs = trained(tmp_path, split=("all",))
    assert {run.recipe["split"]: run.recipe["store"] for run in runs} == stores
    assert all(run.metrics.test.videos == 6 for run in runs)
    assert trained(tmp_path, split=("3", "1")) == []
    (run,) = trained(tmp_path, split=("2",), seed=(5,))
    assert run.recipe["store"] == stores["2"]
    with pytest.raises(
        InputError, match="SPLIT=1: 6 of the 6 test videos"
    ):  # STORE names one store for all
        trained(tmp_path, split=("all",), store=stores["3"][:8])


def test_a_split_without_a_store_is_named(tmp_path: Path) -> None:
    for split in ("1", "2"):
        made_store(tmp_path, saw(split))
    assert re.search(
        r"SPLIT=3: no store has weights that were trained on split 3 \(only 1, 2\)",
        refusal(tmp_path, split=("all",)),
    )


def test_stores_that_differ_in_more_are_refused_and_listed(tmp_path: Path) -> None:
    made_store(tmp_path, saw("1"))
    made_store(tmp_path, saw("2"), stride_frames=8)
    assert re.search(
        "2 stores match; choose one with STORE=.*weights.saw.split",
        refusal(tmp_path, split=("all",)),
    )


def test_weights_choose_the_family(tmp_path: Path) -> None:
    stores = {
        (family, split): made_store(tmp_path, saw(split), family)
        for family in (FAMILY, OTHER)
        for split in ("1", "2")
    }
    plain = made_store(tmp_path, None)
    assert re.search("5 stores match; choose one with STORE=", refusal(tmp_path, split=("1", "2")))
    assert re.search(
        "WEIGHTS=ef: no store was made with these weights", refusal(tmp_path, weights="ef")
    )
    assert re.search(
        "was not extracted with WEIGHTS=cd", refusal(tmp_path, weights="cd", store=plain[:8])
    )
    runs = trained(tmp_path, weights="cdcd", split=("1", "2"))
    assert {run.recipe["split"]: run.recipe["store"] for run in runs} == {
        s: stores[OTHER, s] for s in ("1", "2")
    }
    made_store(tmp_path, saw("1"), OTHER, stride_frames=8)
    with pytest.raises(
        InputError,
        match="WEIGHTS=cd must match exactly one store, but it matches 3; choose one with STORE=",
    ):
        trained(tmp_path, weights="cd", split=("1", "2"))


def test_one_store_of_a_family_is_guarded(tmp_path: Path) -> None:
    identity = made_store(tmp_path, saw("1"))
    made_store(tmp_path, None)
    (run,) = trained(tmp_path, weights="abab")
    assert run.recipe["store"] == identity
    with pytest.raises(InputError, match="SPLIT=2: 6 of the 6"):
        trained(tmp_path, weights="abab", split=("2",))


def test_a_validation_part_that_the_backbone_saw_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_store(tmp_path, saw("1", share=0.2))
    (honest,) = trained(tmp_path)
    assert "note" not in capsys.readouterr().out and honest.metrics.notes == ()
    (run,) = trained(tmp_path, validation=0.5)
    ids = [
        f"{label}/g{group}_c{clip}"
        for label in CLASSES
        for group in range(1, 5)
        for clip in range(2)
    ]
    labels, groups = [name.split("/")[0] for name in ids], [name.split("/")[1][:2] for name in ids]
    own, backbones = (cut_validation(ids, labels, groups, share, 0) for share in (0.5, 0.2))
    assert own != backbones and sorted(run.scores("validation").video_ids) == sorted(own)
    line = f"split 1: {len(own - backbones)} of the {len(own)} validation videos were used to train the backbone"
    assert (
        line in capsys.readouterr().out
        and line in run.metrics.notes[0]
        and "too optimistic" in run.metrics.notes[0]
    )


def test_a_backbone_without_validation_part_saw_the_heads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_store(tmp_path, saw("1", share=0.0))
    (run,) = trained(tmp_path)
    videos = run.metrics.validation.videos
    assert f"{videos} of the {videos} validation videos were" in capsys.readouterr().out


def test_predicting_videos_that_the_backbone_saw_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = made_store(tmp_path, saw("1"))
    (run,) = trained(tmp_path)
    assert predict(PredictOptions(bank=str(tmp_path), run=run.path.name, store=identity[:8])) == 0
    assert "note: 24 of 30 videos were used to train the backbone" in capsys.readouterr().out
    made_store(tmp_path / "other", saw("1"), groups=(0,), test_groups=((0,), (), ()))
    with Store.open(tmp_path / "other" / "stores" / "made-0.h5") as store:
        assert store.identity == identity
    assert (
        predict(PredictOptions(bank=str(tmp_path), run=run.path.name, store=str(store.path))) == 0
    )
    assert "note" not in capsys.readouterr().out


def test_pixel_stores_are_not_meant_unless_named(tmp_path):
    """`pretrain` leaves pixels in the bank; a head on features must not trip over them."""
    for extractor in ("torchvision:resnet18", "pixels"):
        path = tmp_path / "stores" / f"{extractor[-6:]}.h5"
        with StoreWriter(path, {**RECIPE, "extractor": extractor}, DATASET) as writer:
            metas = [made_video(number) for number in range(4)]
            for number, meta in enumerate(metas):
                writer.add(meta, made_values(number), made_times(number))
            writer.finish(metas)
    assert find_store(tmp_path, stream="rgb").name == "snet18.h5"
    assert [path.name for (path,) in chosen_stores(TrainOptions(bank=str(tmp_path)))] == [
        "snet18.h5"
    ]
    assert find_store(tmp_path, extractor="pixels").name == "pixels.h5"
    with pytest.raises(InputError, match="no store"):
        find_store(tmp_path, stream="rgb", extractor="torchvision:resnet50")


def test_clips_numbered_alike_and_equally_large_are_not_one_video(tmp_path):
    """walk/003 was trained on and run/003 is tested: within one data set ids alone tell."""
    path = tmp_path / "made.h5"
    names = {"a/003": "train", "b/003": "test"}
    metas = [
        StoredVideo(id=name, label="", group="", parts=[part, ""], source={"bytes": 7})
        for name, part in names.items()
    ]
    plain = {**RECIPE, "weights": {"source": "random"}}
    with StoreWriter(path, plain, DATASET) as writer:
        for meta in metas:
            writer.add(meta, np.zeros((1, 2)), np.zeros(1))
        writer.finish(metas)
    with Store.open(path) as store:
        own = {
            "dataset": "made",
            "split": "1",
            "videos": hash_text(store, ["a/003"]),
            "validation_videos": "",
        }
        assert seen_videos(store, {"saw": own}) == {"a/003"}
        check_unseen(store, "1")
        assert seen_videos(store, {"saw": {**own, "dataset": "other"}}) == {
            "a/003",
            "b/003",
        }  # there the file is all we have


def test_embeddings_know_what_their_head_has_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_store(tmp_path, None)
    (run,) = trained(tmp_path, split=("1",))
    embeddings = str(run.path / "embeddings.h5")
    with pytest.raises(
        InputError,
        match=r"SPLIT=2: 6 of the 6 test videos of split 2 were used to train the backbone",
    ):
        trained(tmp_path, store=embeddings, split=("2",))
    (head,) = trained(tmp_path, store=embeddings, split=("1",), refit=True)
    assert (
        "validation videos were used to train the backbone" not in capsys.readouterr().out
    )  # QUICK has no refit
    (third,) = trained(tmp_path, store=str(head.path / "embeddings.h5"), split=("1",))
    assert "6 of the 6 validation videos were used to train the backbone" in capsys.readouterr().out
    with Store.open(third.path / "embeddings.h5") as store:
        assert store.recipe["weights"]["saw"]["before"]["before"]["split"] == "1"
