"""Finding stores, and the commands that list, inspect, verify and remove them."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_stores import DATASET, RECIPE, made_times, made_values, made_video

from reelbank.data.errors import InputError
from reelbank.data.store import commands as shelf
from reelbank.data.store.bank import find_store
from reelbank.data.store.file import format as feature_file
from reelbank.data.store.reader import Store
from reelbank.data.store.records import DatasetListing, identity
from reelbank.data.store.versions import current_versions
from reelbank.data.store.writer import StoreWriter


def put(bank, changes=None, numbers=range(4), dataset=None, finish=True):
    """A store in the bank, named as an extracted one; returns its path and identity."""
    recipe, about = {**RECIPE, **(changes or {})}, replace(DATASET, **(dataset or {}))
    key = identity(recipe, about.name)
    path = bank / "stores" / f"{about.name}-rgb-x-{key[:8]}.h5"
    metas = [made_video(number) for number in numbers]
    with StoreWriter(path, recipe, about) as writer:
        for number, meta in zip(numbers, metas, strict=True):
            writer.add(meta, made_values(number), made_times(number))
        if finish:
            assert writer.finish(metas)
    return path, key


def test_the_only_store_that_matches_is_found(tmp_path):
    one, key = put(tmp_path)
    other, other_key = put(tmp_path, {"stream": "flow"})
    third, _ = put(tmp_path, dataset={"name": "second"}, finish=False)
    assert find_store(tmp_path, dataset="made", stream="rgb") == one
    assert find_store(tmp_path, stream="flow") == other
    assert find_store(tmp_path, dataset="second") == third  # an unfinished one counts
    assert find_store(tmp_path, key[:6]) == one
    assert find_store(tmp_path, other_key, dataset="ignored") == other
    assert find_store(tmp_path, str(one)) == one == find_store(tmp_path, one.name)
    assert find_store(tmp_path, str(third.with_suffix(".parts"))) == third


def test_none_or_several_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(
        InputError, match="make one with 'reelbank extract DATASET=made STREAM=rgb ROOT="
    ):
        find_store(tmp_path, dataset="made", stream="rgb")
    with pytest.raises(
        InputError, match="make one with 'reelbank extract ROOT=<folder of the videos>'$"
    ):
        find_store(tmp_path)
    for name, known in (("folder-v-012345", "folder"), ("kinetics-400", "kinetics")):
        with pytest.raises(
            InputError, match=f"'reelbank extract DATASET={known} STREAM=flow ROOT="
        ):
            find_store(tmp_path, dataset=name, stream="flow")
    _, one = put(tmp_path)
    _, two = put(tmp_path, {"weights": {"name": "pretrained"}})
    with pytest.raises(InputError) as refused:
        find_store(tmp_path, dataset="made")
    assert "DATASET=made: 2 stores match; choose one with STORE=" in str(refused.value)
    assert f"{one[:8]} (weights.name random)" in str(refused.value)
    assert f"{two[:8]} (weights.name pretrained)" in str(refused.value)
    for steps, shown in ((7, "T 7"), (None, "T all")):
        _, other = put(tmp_path, {"steps": steps})
        with pytest.raises(InputError, match=rf"{other[:8]} \(.*\b{shown}\b"):
            find_store(tmp_path, dataset="made")
    put(tmp_path, {"image_fps": 30.0})
    with pytest.raises(InputError, match=f"{one[:8]} .*without image_fps"):
        find_store(tmp_path, dataset="made")
    for unknown in ("0123", "bank/none.h5"):
        with pytest.raises(InputError, match="reelbank stores"):
            find_store(tmp_path, unknown)


def trained_here(split, **changes):
    """Recipe of features of weights that were trained here, as extraction writes it."""
    saw = {
        "dataset": "made",
        "split": split,
        "part": "train",
        "validation_share": 0.2,
        "videos": split * 40_000,
    }
    weights = {
        "source": f"trained here, x-{split}",
        "sha256": split * 64,
        "family": "f" * 64,
        "saw": saw,
        "width": 0.5,
    }
    flow = {"method": "tvl1", "tau": 0.25, "scales": 5}
    return {
        "stream": "flow",
        "weights": weights,
        "flow": flow,
        "windows": 10,
        "window_frames": 256,
        "views": 4,
        **changes,
    }


def test_what_weights_saw_tells_stores_apart_and_is_shown_in_brief(tmp_path, capsys):
    keys = {split: put(tmp_path, trained_here(split))[1] for split in "123"}
    assert len(keys["1"]) == 64
    with pytest.raises(InputError) as refused:
        find_store(tmp_path, stream="flow")
    for split, key in keys.items():
        assert f"{key[:8]} (weights.saw.split {split})" in str(refused.value)  # which is enough
    # so many other values differ that the split has to go before them
    for split in "45":
        put(
            tmp_path,
            trained_here(
                split,
                **dict.fromkeys(("bound_px", "clip_frames", "crops", "decoder", "grid"), split),
            ),
        )
    with pytest.raises(InputError) as refused:
        find_store(tmp_path)
    assert str(refused.value).count("weights.saw.split") == 5 and len(str(refused.value)) < 600
    shelf.stores(shelf.StoresOptions(str(tmp_path)))
    assert sorted(
        " ".join(line.split()[3:6]) for line in capsys.readouterr().out.splitlines()[1:]
    ) == [f"torchvision:resnet18 (split {split})" for split in "12345"]
    shelf.inspect(shelf.InspectOptions(str(tmp_path), keys["2"]))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "weights.saw.videos 222222222222... (40,000 characters)",
        "weights.saw.split 2",
        f"weights.family {'f' * 64}",
        "flow.scales 5",
        "window_frames 256",
    ):
        assert line in lines
    assert max(map(len, lines)) < 250


def test_stores_that_differ_only_in_a_long_values_end_are_apart_by_their_hash(tmp_path):
    for end in "ab":
        put(tmp_path, {"weights": {"saw": {"split": "1", "videos": "0" * 100 + end}}})
    with pytest.raises(
        InputError,
        match=r"2 stores match.*weights\.saw\.videos 000000000000\.\.\. \(101 characters\)",
    ):
        find_store(tmp_path)


def test_nodes_are_listed(tmp_path, capsys):
    for node in ("embedding", "layer3"):
        put(tmp_path, {"node": node})
    shelf.stores(shelf.StoresOptions(str(tmp_path)))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert sorted(line[3:5] for line in lines) == [
        ["torchvision:resnet18", "all"],
        ["torchvision:resnet18", "layer3"],
    ]
    with pytest.raises(InputError, match=r"\(node layer3\)"):
        find_store(tmp_path)


def damage(path):
    content = bytearray(path.read_bytes())
    content[feature_file.FeatureFile(path).header.features_start] ^= 1
    path.write_bytes(content)


def test_a_broken_store_does_not_hide_the_others(tmp_path, capsys):
    one, _ = put(tmp_path)
    other, key = put(tmp_path, {"stream": "flow"})
    other.write_bytes(other.read_bytes()[:600])
    assert find_store(tmp_path) == one
    assert find_store(tmp_path, key[:8]) == other
    with pytest.raises(
        InputError, match=r"STREAM=flow \(cannot be read: .*it was shortened or extended"
    ):
        find_store(tmp_path, stream="flow")
    assert shelf.stores(shelf.StoresOptions(str(tmp_path))) == 0
    assert f"cannot be read: {other.name}" in capsys.readouterr().out
    assert shelf.verify(shelf.VerifyOptions(str(tmp_path))) == 1
    assert f"{one}: undamaged" in capsys.readouterr().out
    assert shelf.remove(shelf.RemoveOptions(str(tmp_path), key[:8], yes=True)) == 0
    assert not other.exists() and one.exists()


def test_a_folder_store_is_found_by_its_kind(tmp_path):
    one, _ = put(tmp_path, dataset={"name": "folder-clips-012345"}, finish=False)
    put(tmp_path)
    assert (
        find_store(tmp_path, dataset="folder")
        == one
        == find_store(tmp_path, dataset="folder-clips-012345")
    )
    put(tmp_path, dataset={"name": "folder-clips-6789ab"}, finish=False)
    with pytest.raises(InputError, match=r"2 stores match.*dataset folder-clips-012345"):
        find_store(tmp_path, dataset="folder")


def test_a_store_with_nothing_committed_is_unfinished_not_broken(tmp_path, capsys):
    folder = tmp_path / "stores" / "made-rgb-x-01234567.parts"
    folder.mkdir(parents=True)
    (folder / "shard+.lock").touch()
    assert shelf.stores(shelf.StoresOptions(str(tmp_path))) == 0
    assert capsys.readouterr().out == "made-rgb-x-01234567.h5: unfinished, contains no videos yet\n"
    for store in ("", "0123"):
        assert shelf.verify(shelf.VerifyOptions(str(tmp_path), store)) == 0
        assert "nothing to verify" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"\(.*this store contains no videos yet"):
        find_store(tmp_path, dataset="made")
    with pytest.raises(
        InputError, match="this store contains no videos yet; continue it with 'reelbank extract'"
    ):
        Store.open(folder)
    assert shelf.remove(shelf.RemoveOptions(str(tmp_path), "0123", yes=True)) == 0
    assert not folder.exists()


def test_stores_lists_every_store(tmp_path, capsys):
    assert shelf.stores(shelf.StoresOptions(str(tmp_path))) == 0
    assert "'reelbank extract' makes one" in capsys.readouterr().out
    _, key = put(tmp_path, {"crops": 10, "steps": 25}, numbers=range(5))
    put(tmp_path, {"stream": "flow"}, finish=False)
    shelf.stores(shelf.StoresOptions(str(tmp_path)))
    heading, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert heading == [
        "hash",
        "dataset",
        "stream",
        "extractor",
        "T",
        "crops",
        "videos",
        "failed",
        "rows",
        "size",
        "state",
    ]
    line = next(line for line in lines if line[0] == key[:8])
    assert (
        line[1:9] == ["made", "rgb", "torchvision:resnet18", "25", "10", "5", "0", "11"]
        and line[-1] == "finished"
    )
    assert {line[-1] for line in lines} == {"finished", "unfinished"}


def test_inspect_shows_recipe_coverage_failures_and_rows(tmp_path, capsys):
    path, _ = put(tmp_path, numbers=range(6), finish=False)
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.fail(made_video(6), "moov atom\x1b[31m not found")
        writer.finish([made_video(number) for number in range(7)])
    assert shelf.inspect(shelf.InspectOptions(str(tmp_path))) == 0
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"{path}: finished" in shown and "\x1b" not in shown
    for line in (
        "weights.name random",
        "steps -",
        "6 videos, 2 of 2 classes, 2 groups, 1 failed",
        "split train validation test neither",
    ):
        assert line in lines
    assert (
        "1 4 0 2 0" in lines and "2 2 0 2 2" in lines
    )  # videos 0 and 3 are tests of split 1; split 2 leaves two out
    assert "13 rows (feature vectors) of 5 float16; 1 to 4 per video, median 2" in lines
    assert "0.5 to 0.5 seconds between rows, median 0.5" in lines
    assert "dig/v006 moov atom?[31m not found" in lines


@pytest.mark.parametrize("is_drawn", [False, True])
def test_inspect_names_only_packages_and_their_versions(tmp_path, capsys, is_drawn):
    listing = DatasetListing("a9464bdf", is_drawn)
    with StoreWriter(tmp_path / "stores" / "made.h5", RECIPE, DATASET, listing=listing) as writer:
        writer.add(made_video(0), made_values(0), made_times(0))
        writer.finish([made_video(0)])
    shelf.inspect(shelf.InspectOptions(str(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    (made,) = (line for line in lines if line.startswith("file made"))
    names = {entry.split()[0] for entry in made.partition(" with ")[2].split(", ")}
    assert names == {*dict(current_versions().packages), "h5py"}
    assert "a9464bdf" not in "".join(lines)
    assert lines.count("the split was drawn at random") == is_drawn


def test_videos_without_sound_are_distinguished_from_failures(tmp_path, capsys):
    path, _ = put(tmp_path, numbers=range(2), finish=False)
    with StoreWriter(path, RECIPE, DATASET) as writer:
        for number, reason in (
            (2, "no sound: no track"),
            (3, "no sound: shorter than one example"),
            (4, "sound: broken"),
        ):
            writer.fail(made_video(number), reason)
        assert writer.finish([made_video(number) for number in range(5)])
    assert shelf.inspect(shelf.InspectOptions(str(tmp_path))) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "2 videos, 2 of 2 classes, 1 group, 1 failed, without sound: 2" in lines
    at = lines.index("without sound: 2")
    assert lines[at + 1 : at + 3] == ["1 no track dig/v002", "1 shorter than one example fly/v003"]
    assert lines[lines.index("1 video failed") + 1] == "dig/v004 sound: broken"
    shelf.stores(shelf.StoresOptions(str(tmp_path)))
    words = capsys.readouterr().out.splitlines()[1].split()
    assert words[7] == "1" and words[-4:] == ["finished,", "without", "sound:", "2"]


def test_inspect_counts_what_is_heard_and_what_is_silent(tmp_path, capsys):
    path = tmp_path / "stores" / "made.h5"
    with StoreWriter(path, RECIPE, DATASET) as writer:
        for number in range(5):
            meta = made_video(number)
            state = "silent" if number == 3 else "heard"
            sound = {"state": state, "seconds": 2.0, "peak": 0.5, "examples": 2}
            meta = replace(meta, source={**meta.source, "sound": sound})
            writer.add(meta, made_values(number), made_times(number))
        writer.finish([made_video(number) for number in range(5)])
    shelf.inspect(shelf.InspectOptions(str(tmp_path)))
    assert "sound: 4 heard, 1 silent" in capsys.readouterr().out.splitlines()
    path.unlink()
    put(tmp_path)
    shelf.inspect(shelf.InspectOptions(str(tmp_path)))
    assert "sound" not in capsys.readouterr().out


def test_inspect_tells_of_views_and_of_several_classes_a_video(tmp_path, capsys):
    meta = replace(made_video(0), label="dig;fly")
    path, about = tmp_path / "stores" / "made.h5", replace(DATASET, multilabel=True)
    with StoreWriter(path, RECIPE, about) as writer:
        writer.add(meta, np.zeros((5, 2, 3), np.uint8), np.arange(5), [0, 0, 0, 1, 1])
        assert writer.finish([meta])
    shelf.inspect(shelf.InspectOptions(str(tmp_path)))
    shown = capsys.readouterr().out
    assert "1 video, 2 of 2 classes, multi-label, 1 group, 0 failed" in shown
    assert (
        "3 rows (feature vectors) of 2 x 3 uint8; 3 to 3 per video" in shown
        and "plus 2 rows of augmented copies (views) of 1 video" in shown
    )
    assert "6 B per row" in shown


def test_verify_names_the_damaged_video_and_says_so_to_the_shell(tmp_path, capsys):
    path, key = put(tmp_path)
    assert shelf.verify(shelf.VerifyOptions(str(tmp_path), key[:8])) == 0
    damage(path)
    assert shelf.verify(shelf.VerifyOptions(str(tmp_path), key[:8])) == 1
    assert f"{path}: the features of dig/v000 are damaged" in capsys.readouterr().out


def test_a_hash_that_no_store_has_names_no_other_store(tmp_path):
    put(tmp_path)
    other, _ = put(tmp_path, {"stream": "flow"})
    other.write_bytes(other.read_bytes()[:600])  # cannot be read
    with pytest.raises(InputError) as caught:
        shelf.inspect(shelf.InspectOptions(str(tmp_path), "zz"))
    assert str(caught.value) == (
        f"STORE=zz: no store in {tmp_path / 'stores'} has a name or hash that begins with 'zz'; "
        "'reelbank stores' lists all stores"
    )


def test_remove_asks_and_takes_the_parts_too(tmp_path, capsys, monkeypatch):
    path, key = put(tmp_path)
    fill_options = shelf.RemoveOptions(str(tmp_path), key[:8])
    with pytest.raises(InputError, match="give STORE="):
        shelf.remove(shelf.RemoveOptions(str(tmp_path), yes=True))
    with pytest.raises(InputError, match="begins with '"):
        shelf.remove(shelf.RemoveOptions(str(tmp_path), "fff", yes=True))
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    with pytest.raises(InputError, match="give YES=1"):
        shelf.remove(fill_options)
    with StoreWriter(path, RECIPE, DATASET) as writer:
        writer.add(made_video(9), made_values(9), made_times(9))
        writer.flush()
        with pytest.raises(InputError, match="an extraction into this store is running"):
            shelf.remove(shelf.RemoveOptions(str(tmp_path), key[:8], yes=True))
    assert path.exists()
    assert shelf.remove(shelf.RemoveOptions(str(tmp_path), key[:8], yes=True)) == 0
    assert list((tmp_path / "stores").iterdir()) == []
    with pytest.raises(InputError, match="this store does not exist"):
        Store.open(path)


def test_the_user_may_think_again(tmp_path, monkeypatch):
    path, key = put(tmp_path)
    terminal = io.StringIO("no\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert shelf.remove(shelf.RemoveOptions(str(tmp_path), key[:8])) == 1 and path.exists()
    terminal = io.StringIO("yes\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert shelf.remove(shelf.RemoveOptions(str(tmp_path), key[:8])) == 0 and not path.exists()
