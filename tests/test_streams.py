"""Several streams from one decoding: equal to single passes, each frame decoded once; flow stacks,
sound, views, adaptive steps."""

import csv
import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import testdata, testdata_rows
from test_extract import encode
from tiny_networks import POOLED

import reelbank
from reelbank.data.datasets import toy_drawing
from reelbank.data.store.reader import Store
from reelbank.data.store.records import identity
from reelbank.data.video import frames as decode
from reelbank.data.video import sound
from reelbank.data.video.clips import adaptive_starts
from reelbank.data.video.messages import Frames
from reelbank.data.video.sampling import Examples, Needed, Sampling
from reelbank.extract.fill import stream_options, with_defaults
from reelbank.extract.flow.methods import build_flow, mirrored, to_uint8
from reelbank.extract.networks import build as networks
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import take_crops, view_corner
from reelbank.extract.plan import plan_streams
from reelbank.extract.streams.loading import load_stream
from reelbank.extract.streams.per_stream import by_stream


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Six videos with sound of the toy set's drawing, in two classes, and one of a single frame
    without sound."""
    monkeypatch.chdir(tmp_path)
    for label in ("motion_up", "sound_low"):
        for group in (1, 5, 9):
            frames, wave = toy_drawing.render(label, group, 1, 0)
            path = tmp_path / "videos" / label / f"v_{label}_g{group:02d}_c01.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            toy_drawing.write_video(path, frames[: 20 + group], wave[: 30_000 + 5000 * group])
    encode(tmp_path / "videos" / "motion_up" / "v_one_g02_c01.avi", 1, 0)
    (tmp_path / "tiny.py").write_text(POOLED)
    return tmp_path


def run(*words: str) -> int:
    return reelbank.main(list(words))


def stores(bank: str = "bank") -> dict[str, Path]:
    """By stream, or by stream and node."""
    found = {}
    for path in Path(bank, "stores").glob("*.h5"):
        with Store.open(path) as store:
            found[store.recipe["stream"]] = path
    return found


THREE = (
    "extract", "DATASET=folder", "ROOT=videos", "EXTRACTOR=rgb=tiny.py:build flow=tiny.py:build audio=vggish",
    "WEIGHTS=audio=random", "FLOW=dis", "CLIP=flow=3", "CROPS=10", "T=4", "BATCH=20", "STREAM=rgb flow audio",
)  # fmt: skip


def test_three_streams_in_one_pass_equal_three_single_passes_and_decode_each_frame_once(
    drawn, monkeypatch, capsys
):
    assert run(*THREE) == 0
    said = capsys.readouterr().out
    total = sum(20 + group for group in (1, 5, 9)) * 2 + 1
    assert f"decoded {total} frames of 7 videos, each once, for rgb flow audio" in said
    assert "1 without sound" in said
    single = {
        "rgb": ["EXTRACTOR=tiny.py:build", "GRID=4"],
        "flow": ["EXTRACTOR=tiny.py:build", "CLIP=3"],
        "audio": ["EXTRACTOR=vggish", "WEIGHTS=random"],
    }
    for stream, words in single.items():
        assert (
            run(
                "extract",
                *THREE[1:3],
                "FLOW=dis",
                "CROPS=10",
                "T=4",
                "BATCH=20",
                f"STREAM={stream}",
                *words,
                "BANK=single",
            )
            == 0
        )
    together, apart = stores(), stores("single")
    assert set(together) == set(apart) == {"rgb", "flow", "audio"}
    for stream, path in together.items():
        assert path.name == apart[stream].name  # the same recipe
        with Store.open(path) as one, Store.open(apart[stream]) as two:
            assert set(one.video_ids) == set(two.video_ids) and len(one.video_ids) == (
                6 if stream == "audio" else 7
            )
            for video in one.video_ids:
                for a, b in zip(one.features(video), two.features(video), strict=True):
                    np.testing.assert_array_equal(a, b)
    capsys.readouterr()
    assert run(*THREE) == 0
    assert "7 already extracted, 0 to extract" in capsys.readouterr().out


def test_every_frame_is_read_once_by_the_decoder(drawn, monkeypatch):
    """In one process, so that what the decoder gives out can be counted."""
    path = drawn / "videos" / "motion_up" / "v_motion_up_g05_c01.mp4"
    read, given = [], []
    original = decode.read_pyav

    def counting(path, expected, *others):
        for number, frame in enumerate(original(path, expected, *others)):
            read.append(number)
            yield frame

    monkeypatch.setattr(decode, "read_pyav", counting)
    needed = Needed((Sampling(steps=5, grid_frames=4), Sampling(3, steps=5, fields=True)))
    for message in decode.decode(path, needed):
        if isinstance(message, Frames):
            given += message.numbers.tolist()
    assert (
        read == list(range(25))
        and given == sorted(set(given))
        and set(given) == set(needed(25).tolist())
    )


def test_rows_of_streams_on_one_grid_have_one_time(drawn):
    assert run(*THREE) == 0
    found = stores()
    with (
        Store.open(found["rgb"]) as rgb,
        Store.open(found["flow"]) as flow,
        Store.open(found["audio"]) as audio,
    ):
        for video in flow.video_ids:
            apart = np.abs(rgb.times_seconds(video) - flow.times_seconds(video))
            assert apart.max() <= 0.5 / 25 + 1e-9  # half a stride
        first = audio.times_seconds(audio.video_ids[0])
        assert first[0] == pytest.approx(15600 / 16000 / 2, abs=0.03)


def test_flow_rows_are_the_network_on_stacks_made_by_hand(drawn):
    """L = 3 fields, x1 y1 x2 y2 x3 y3, first weights' mean over RGB repeated, centre crop; mirrored
    crops negate x."""
    assert run(*THREE[:-2], "STREAM=flow", "EXTRACTOR=tiny.py:build", "WEIGHTS=", "CLIP=3") == 0
    path = drawn / "videos" / "motion_up" / "v_motion_up_g05_c01.mp4"
    with Store.open(stores()["flow"]) as store, av.open(str(path)) as container:
        values, _ = store.features("motion_up/v_motion_up_g05_c01")
        frames = torch.stack(
            [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
        )
        assert store.recipe["flow"]["method"] == "dis" and store.recipe["bound_px"] == 20
        assert store.recipe["weights"]["source"] == "the builder's own"
    from reelbank.extract.pipeline.crops import resize

    small = resize(frames.permute(0, 3, 1, 2), Resize(37))
    method = build_flow("dis", torch.device("cpu"))
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 16, 5, 4)
    weight = model.weight.mean(1, keepdim=True).expand(-1, 6, -1, -1)
    for row, start in zip(values, (0, 7, 14, 21), strict=True):  # K = 25 - 3 = 22 starts
        fields = to_uint8(
            method(small[start : start + 3], small[start + 1 : start + 4])
        )  # (3, 2, H, W)
        crops = []
        for maps in (fields, mirrored(fields)):
            h, w = maps.shape[-2:]
            places = [
                (0, 0),
                (0, w - 32),
                (h - 32, 0),
                (h - 32, w - 32),
                (round((h - 32) / 2), round((w - 32) / 2)),
            ]
            crops += [maps[..., y : y + 32, x : x + 32].flatten(0, 1) for y, x in places]
        x = (torch.stack(crops).float() / 255 - 128 / 255) / 0.5  # (10, 6, 32, 32)
        with torch.inference_mode():
            expected = torch.conv2d(x, weight, model.bias, 4).relu().mean((2, 3)).mean(0).numpy()
        assert np.abs(row - expected).max() <= 2e-3 * np.abs(expected).max()


def test_a_mirrored_crop_of_flow_negates_x():
    maps = torch.randint(
        0, 256, (2, 2, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    cut = take_crops(maps, 32, 10, mirrored)  # (2, 10, 2, 32, 32)
    centre, mirror = cut[:, 4], cut[:, 9]
    assert torch.equal(mirror[:, 0], 255 - centre[:, 0].flip(-1)) and torch.equal(
        mirror[:, 1], centre[:, 1].flip(-1)
    )
    assert view_corner((40, 50), 32, (0.5, 0.0)) == (4, 0)
    viewed = mirrored(maps)[..., 4:36, 0:32]
    assert torch.equal(viewed[:, 0], 255 - maps[:, 0, 4:36, 18:50].flip(-1))


def test_sampling_on_a_shared_grid_by_hand():
    rgb, flow = (
        Sampling(steps=3, grid_frames=11),
        Sampling(10, steps=3, fields=True, grid_frames=11),
    )
    assert rgb.rows(21)[0].tolist() == [
        [5],
        [10],
        [15],
    ]  # K = 11 clips: 0, 5, 10; the middle of each
    assert flow.rows(21)[0][:, 0].tolist() == [0, 5, 10] and flow.rows(21)[0][2].tolist() == list(
        range(10, 20)
    )
    assert flow.needed(21).tolist() == list(range(21))
    assert flow.rows(4)[0].tolist() == [[0, 1, 2, 0, 1, 2, 0, 1, 2, 0]] * 3  # three fields, looped
    assert flow.rows(1)[0].max() == 0 and flow.needed(1).tolist() == [0]
    assert Sampling(steps=2, windows=3, window_frames=10).rows(30)[0][:, 0].tolist() == [
        0,
        9,
        10,
        19,
        20,
        29,
    ]
    assert Sampling(steps=2, windows=2, window_frames=10).rows(4)[0][:, 0].tolist() == [0, 3, 0, 3]
    assert (
        Examples(3)(2).tolist() == [0, 1]
        and Examples(3)(9).tolist() == [0, 4, 8]
        and Examples()(4).tolist() == [0, 1, 2, 3]
    )


def test_views_follow_the_clean_rows_and_test_videos_have_none(drawn):
    words = (
        "extract",
        "DATASET=ucf101",
        "ROOT=ucf",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "T=3",
        "BATCH=4",
    )
    for group in (1, 22, 23):  # test in split 1 alone; train in all
        path = drawn / "ucf" / "YoYo" / f"v_YoYo_g{group:02d}_c01.avi"
        encode(path, 12, group)
    assert run(*words, "VIEWS=4") == 0 and run(*words, "BANK=plain") == 0
    with Store.open(stores()["rgb"]) as store, Store.open(stores("plain")["rgb"]) as plain:
        assert store.has_views and not plain.has_views and store.identity != plain.identity
        _, offsets, _, views = store.load_views()
        assert (
            views.tolist() == [v for v in range(5) for _ in range(3)] * 3
        )  # each of the three trains in some split
        seen = store.load_views(["YoYo/v_YoYo_g22_c01"])[0]
        for video in store.video_ids:
            np.testing.assert_array_equal(store.features(video)[0], plain.features(video)[0])
        assert (
            len({row.tobytes() for row in seen}) > 9
        )  # the views differ from the clean rows and from each other
        assert len(offsets) == 4
    assert run(*words, "VIEWS=4", "BANK=again") == 0
    with Store.open(stores("again")["rgb"]) as again, Store.open(stores()["rgb"]) as store:
        np.testing.assert_array_equal(
            again.load_views()[0], store.load_views()[0]
        )  # drawn from seed and id alone


def test_test_only_videos_have_no_views(drawn):
    with Path("list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows(
            [["path", "label", "split"], ["motion_up/v_motion_up_g01_c01", "a", "train"]]
        )
        rows.writerow(["sound_low/v_sound_low_g01_c01", "b", "test"])
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "CSV=list.csv",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "T=2",
        "VIEWS=2",
    )
    assert run(*words) == 0
    with Store.open(stores()["rgb"]) as store:
        assert dict(zip(store.labels, store.all_rows.tolist(), strict=True)) == {"a": 6, "b": 2}


def test_adaptive_sampling_follows_the_flow_lengths_computed_once(drawn, capsys):
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "FLOW=dis",
        "SAMPLING=adaptive",
    )
    assert run(*words, "T=180", "STREAM=rgb") == 0
    found = stores()
    with Store.open(found["magnitude"]) as lengths, Store.open(found["rgb"]) as rgb:
        assert rgb.recipe["magnitude"] == lengths.identity and rgb.recipe["sampling"] == "adaptive"
        for video in rgb.video_ids:
            values, times_seconds = lengths.features(video)
            source = rgb.sources[rgb.video_ids.index(video)]
            assert len(values) == max(1, source["frames"] - 1)
            if source["frames"] == 1:
                assert rgb.features(video)[0].shape == (1, 16)
                continue
            starts = adaptive_starts(values[:, 0].astype(float), source["fps"])
            assert len(starts) == -(-source["frames"] // 5)
            assert rgb.times_seconds(video) == pytest.approx(starts / 25, abs=1e-3)
        assert lengths.features("motion_up/v_motion_up_g05_c01")[0].mean() > 0.1
    capsys.readouterr()
    assert run(*words, "T=180", "STREAM=flow", "CLIP=3") == 0
    assert "7 already extracted, 0 to extract" in capsys.readouterr().out  # of the lengths


def test_sound_facts_of_all_real_clips(tmp_path, monkeypatch, capsys):
    """No track, a silent one, a short one: three facts, no failures; they agree with clips.csv, and
    no clip is lost."""
    monkeypatch.chdir(tmp_path)
    rows = [row for row in testdata_rows("clips.csv") if row["file"].startswith("clips/ucf101")]
    (tmp_path / "tiny.py").write_text(
        POOLED.replace("(3, 16, 5, 4)", "(1, 16, 5, 4)").replace(
            "input_size = (3, 32, 32)", "channels, input_size = 1, (1, 96, 64)"
        )
    )
    words = (
        "extract",
        "DATASET=ucf101",
        f"ROOT={testdata('clips', 'ucf101')}",
        "STREAM=audio",
        "EXTRACTOR=tiny.py:build",
    )
    assert run(*words) == 0
    with Store.open(stores()["audio"]) as store:
        assert set(store.video_ids) | set(store.failures) == {
            f"{row['class']}/{Path(row['file']).stem}" for row in rows
        }
        assert all(failure.is_absence for failure in store.failures.values())
        states = {
            video: source["sound"]["state"]
            for video, source in zip(store.video_ids, store.sources, strict=True)
        }
        with_track = {f"{row['class']}/{Path(row['file']).stem}" for row in rows if row["audio"]}
        assert set(states) == with_track and store.finished
        assert [video for video, state in states.items() if state == "silent"] == [
            "WallPushups/v_WallPushups_g01_c04"
        ]
    assert f"{len(rows) - len(with_track)} without sound" in capsys.readouterr().out


def test_short_sound_is_a_fact_of_its_own(drawn):
    frames, wave = toy_drawing.render("sound_low", 3, 1, 0)
    toy_drawing.write_video(
        drawn / "videos" / "sound_low" / "v_sound_low_g03_c01.mp4", frames, wave[:12_000]
    )
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "STREAM=audio",
        "EXTRACTOR=vggish",
        "WEIGHTS=random",
    )
    assert run(*words) == 0
    with Store.open(stores()["audio"]) as store:
        reasons = {video: str(failure) for video, failure in store.failures.items()}
        assert "shorter than one example" in reasons["sound_low/v_sound_low_g03_c01"]
        assert "no sound track" in reasons["motion_up/v_one_g02_c01"]
        lengths = [round(source["sound"]["seconds"] * 16_000) for source in store.sources]
        assert store.rows.tolist() == [sound.example_count(samples) for samples in lengths]


def test_a_broken_picture_leaves_the_sound_and_a_broken_sound_the_picture(drawn, capsys):
    path = drawn / "videos" / "sound_low" / "v_sound_low_g01_c01.mp4"
    frames, wave = toy_drawing.render("sound_low", 1, 1, 0)
    with av.open(str(path), "w") as container:  # sound alone
        voice = container.add_stream("aac", rate=22_050, layout="mono")
        block = av.AudioFrame.from_ndarray(wave[None, :30_000], format="fltp", layout="mono")
        block.sample_rate = 22_050
        container.mux(voice.encode(block))
        container.mux(voice.encode(None))
    assert run(*THREE) == 1
    assert "no video track" in capsys.readouterr().out
    found = stores()
    with Store.open(found["rgb"]) as rgb, Store.open(found["audio"]) as audio:
        video = "sound_low/v_sound_low_g01_c01"
        assert video in rgb.failures and video in audio.video_ids


def test_image_networks_hear_log_mel_and_video_networks_see_flow(drawn):
    network = networks.build(
        "torchvision:resnet18", weights="random", inputs=load_stream("audio").network_input(1)
    )
    assert network.input_shape == (96, 64) and network.kind == "sound"
    assert network.module(torch.zeros(2, 96, 64))[0].shape == (2, 512)
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "STREAM=flow",
        "EXTRACTOR=torchvision:r3d_18",
        "WEIGHTS=random",
    )
    assert (
        run(
            *words,
            "CROPS=1",
            "T=1",
            "CLIP=4",
            "FLOW=dis",
            "RESIZE=40",
            "SIZE=32",
            "CLASSES=motion_up",
        )
        == 0
    )
    with Store.open(stores()["flow"]) as store:
        assert (
            store.row_shape == (512,)
            and store.recipe["clip_frames"] == 4
            and store.recipe["grid_frames"] == 5
        )


def test_cross_modality_weights_are_the_mean_over_rgb_repeated():
    own = networks.trunk("torchvision:resnet18", "random", 3)
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 5, 5)
    from reelbank.extract.networks.weights import cross_modal, fit_state, widen_input

    assert (
        torch.allclose(cross_modal(weight, 10)[:, 7], weight.mean(1))
        and cross_modal(weight, 10).shape[1] == 10
    )
    assert torch.allclose(cross_modal(weight, 1)[:, 0], weight.sum(1))
    rgb = own.model.state_dict()
    widened = networks.trunk(
        "torchvision:resnet18", "random", 3, inputs=load_stream("flow").network_input(20)
    )
    assert widened.model.conv1.weight.shape[1] == 20 and widened.preprocessing.mean == (128 / 255,)
    fit_state(widened.model, rgb, Path("rgb.pt"), "resnet18")
    assert torch.allclose(widened.model.conv1.weight, cross_modal(rgb["conv1.weight"], 20))
    widen_input(own.model, 4, "resnet18", is_random=False)
    assert torch.allclose(own.model.conv1.weight[:, 3], rgb["conv1.weight"].mean(1))


def test_pixels_are_kept_as_they_are(drawn):
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=pixels",
        "CLASSES=motion_up",
        "T=2",
        "RESIZE=32",
    )
    assert run(*words, "STREAM=rgb flow", "FLOW=dis", "CLIP=flow=2") == 0
    found = stores()
    with Store.open(found["rgb"]) as rgb, Store.open(found["flow"]) as flow:
        assert rgb.dtype == flow.dtype == np.uint8
        assert rgb.row_shape == (3, 32, 42) and flow.row_shape == (4, 32, 42)
        video = "motion_up/v_motion_up_g01_c01"
        with av.open(str(drawn / "videos" / f"{video}.mp4")) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        from reelbank.extract.networks.preprocessing import Resize
        from reelbank.extract.pipeline.crops import resize

        expected = resize(torch.from_numpy(frames[1]).permute(2, 0, 1)[None], Resize((32, 42)))[0]
        assert np.array_equal(
            rgb.features(video)[0][0], expected.numpy()
        )  # the middle of frames 0, 1, 2


def test_maps_of_a_cut_backbone(drawn):
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=torchvision:resnet18",
        "WEIGHTS=random",
        "AT=layer3",
    )
    assert run(*words, "CROPS=1", "T=2", "RESIZE=64", "SIZE=64", "CLASSES=motion_up") == 0
    with Store.open(stores()["rgb"]) as store:
        assert (
            store.row_shape == (256, 4, 4)
            and store.recipe["pool"] == "none"
            and store.recipe["node"] == "layer3"
        )


@pytest.mark.parametrize(
    ("stream", "version", "hashed"),
    [
        ("rgb", 2, "633c206bd631c91f321120b701d3b969c178ec6afddf77b4bfddcdcead9e086e"),
        ("flow", 2, "1f834c5493963c1a2ea189e64eafa8ee92096d18508175c657e1999f379f694b"),
        ("magnitude", 2, "49caec4b8e63e1c98e13cbdda312d794e6885d965ad2dce2804807d045704ba0"),
        ("idt", 2, "c490059ba5f2206c15da4b5ff3759f6305e91e2d3430cebb3e29fde38598db58"),
        # 7bf4c47a... until sound in MP4 ended where the file says
        ("audio", 3, "bd35ee95ff8fea984f57ccf09d6254292614d942483d7f2b3a0c970fa858b265"),
    ],
)
def test_stores_keep_their_identity_until_their_numbers_change(stream, version, hashed):
    """Golden: a store on disk is found by this hash. Weights are left out, for torch draws them."""
    network = {
        "rgb": "torchvision:resnet18",
        "flow": "torchvision:resnet18",
        "audio": "vggish",
    }.get(stream, "")
    weights = "random" if network else ""
    options = with_defaults(
        ExtractOptions(dataset="toy", stream=(stream,), extractor=network, weights=weights)
    )
    (plan,) = plan_streams(options, "toy", build_flow("tvl1", "cpu", "pretrained"))
    recipe = plan.recipes[0].to_json()
    assert recipe["features_version"] == version
    assert identity({**recipe, "weights": {}}, "toy") == hashed


def test_options_by_stream():
    assert by_stream("extractor", "rgb=a b flow=c", ("rgb", "flow")) == {"rgb": "a b", "flow": "c"}
    assert by_stream("extractor", "x.py:y", ("rgb", "flow")) == {"rgb": "x.py:y", "flow": "x.py:y"}
    assert by_stream("size", "64", ("rgb", "audio")) == {"rgb": "64"} and by_stream(
        "size", "64", ("audio",)
    ) == {"audio": "64"}
    assert by_stream("size", "64 flow=32", ("rgb", "flow")) == {"rgb": "64", "flow": "32"}
    options = with_defaults(
        ExtractOptions(
            dataset="ucf101", stream=("rgb", "flow", "audio"), extractor="flow=bn_inception"
        )
    )
    assert [stream_options(options, name).extractor for name in options.stream] == [
        "torchvision:resnet50",
        "bn_inception",
        "vggish",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["EXTRACTOR=audio=vggish"], "the stream audio is not extracted; use one of STREAM=rgb"),
        (["STREAM=rgb sound"], "STREAM=sound: choose from"),
        (["STREAM=rgb rgb"], "must be a list of different streams"),
        (["EXTRACTOR=vggish", "WEIGHTS=random"], "STREAM=audio"),
        (["EXTRACTOR=vggish", "WEIGHTS=random", "CLIP=4"], "use STREAM=audio"),
        (["EXTRACTOR=i3d"], "i3d has no weights to download"),
        (["EXTRACTOR=tiny.py:build", "WIDTH=0.5"], "WIDTH=0.5: tiny.py:build has a fixed width"),
        (["EXTRACTOR=tiny.py:build", "NODE=conv", "AT=conv"], "give only one of the two"),
        (["EXTRACTOR=tiny.py:build", "SPLIT=1"], "only weights from 'reelbank pretrain' belong"),
        (["EXTRACTOR=tiny.py:build", "WINDOWS=3"], "must be given together"),
        (
            ["EXTRACTOR=tiny.py:build", "JITTER=1"],
            "JITTER=1 varies the crops of augmented copies (views)",
        ),
        (
            ["EXTRACTOR=tiny.py:build", "STREAM=rgb flow", "FLOW=dis", "CLIP=flow=5", "GRID=3"],
            "the length of the longest clip, 6 frames",
        ),
        (["EXTRACTOR=tiny.py:build", "CLIP=many"], "must be a number"),
        (
            ["EXTRACTOR=torchvision:r3d_18", "WEIGHTS=random", "WINDOWS=2", "WINDOW=10"],
            "the length of the longest clip, 16 frames",
        ),
        (
            ["EXTRACTOR=torchvision:vit_b_16", "WEIGHTS=random", "RESIZE=64", "SIZE=64"],
            "cannot process inputs of 3 x 64 x 64",
        ),
        (
            ["STREAM=audio", "EXTRACTOR=vggish", "WEIGHTS=random", "VIEWS=2"],
            "STREAM=audio does not use this option",
        ),
        (
            ["STREAM=audio", "EXTRACTOR=vggish", "WEIGHTS=random", "RESIZE=64"],
            "RESIZE=64: STREAM=audio does not use this option",
        ),
        (
            ["STREAM=flow", "EXTRACTOR=tiny.py:build", "FLOW=dis", "FLOW_WEIGHTS=a.pth"],
            "give FLOW=raft_small",
        ),
        (["EXTRACTOR=pixels", "NODE=layer1"], "stores pictures unchanged"),
        (
            ["STREAM=magnitude", "EXTRACTOR=tiny.py:build"],
            "EXTRACTOR=tiny.py:build: STREAM=magnitude does not use this option",
        ),
    ],
)
def test_mistakes_get_one_clear_line(drawn, capsys, words, says):
    assert run("extract", "DATASET=folder", "ROOT=videos", *words) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
    assert not Path("bank/stores").exists()


def test_plan_counts_every_stream(drawn, capsys):
    assert run(*THREE, "PLAN=1") == 0
    said = capsys.readouterr().out
    assert (
        "28 rows" in said and "flow fields" in said and said.count("B on disk") == 4
    )  # and of all together
    assert not Path("bank").exists()


def contents() -> dict[tuple[str, str], bytes]:
    found = {}
    for stream, path in stores().items():
        with Store.open(path) as store:
            found |= {
                (stream, video): store.features(video)[0].tobytes() for video in store.video_ids
            }
    return found


def test_a_video_is_added_only_to_the_stores_without_it(drawn, capsys):
    """As after a kill between the commits of two streams: what one store has is left alone, the
    others catch up."""
    assert run(*THREE) == 0
    before = contents()
    kept = stores()["rgb"].stat().st_mtime_ns
    stores()["flow"].unlink()
    same = [
        word for word in THREE if not word.startswith(("STREAM", "EXTRACTOR", "WEIGHTS", "CLIP"))
    ]
    stores()["audio"].unlink()
    words = ("STREAM=audio", "EXTRACTOR=vggish", "WEIGHTS=random", "CLASSES=sound_low")
    assert run(*same, *words) == 0  # some of the videos of the third
    capsys.readouterr()
    assert run(*THREE) == 0
    assert "0 already extracted, 7 to extract" in capsys.readouterr().out
    assert contents() == before
    assert stores()["rgb"].stat().st_mtime_ns == kept


def damaged(path: Path) -> None:
    """PNG pictures in MOV, with sound; of the 70 pictures the 60th cannot be decoded."""
    frames, wave = toy_drawing.render("sound_low", 1, 1, 0)
    with av.open(str(path), "w") as container:
        picture, voice = (
            container.add_stream("png", 25),
            container.add_stream("pcm_s16le", 22_050, layout="mono"),
        )
        picture.width, picture.height, picture.pix_fmt = 96, 96, "rgb24"
        for number in range(70):
            (packet,) = picture.encode(
                av.VideoFrame.from_ndarray(frames[number % len(frames)], format="rgb24")
            )
            if number == 60:
                broken = av.Packet(b"no picture" * 20)
                broken.pts, broken.dts, broken.time_base, broken.stream = (
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                    picture,
                )
                packet = broken
            container.mux(packet)
        for begin in range(0, 44_100, 1024):
            block = av.AudioFrame.from_ndarray(
                (wave[None, begin : begin + 1024] * 32767).astype(np.int16), "s16", "mono"
            )
            block.sample_rate, block.pts = 22_050, begin
            container.mux(voice.encode(block))


def test_a_video_that_fails_while_its_rows_are_in_flight_is_recorded(drawn, capsys):
    damaged(drawn / "videos" / "sound_low" / "v_damaged_g07_c01.mov")
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "STREAM=rgb audio",
        "EXTRACTOR=rgb=tiny.py:build audio=vggish",
    )
    words = (*words, "WEIGHTS=audio=random", "CROPS=1", "T=60", "BATCH=16")
    assert run(*words) == 1
    said = capsys.readouterr().out
    assert (
        "damaged after 60 of 70 frames" in said
        and "1 video failed" in said
        and "not finished" not in said
    )
    found = stores()
    with Store.open(found["rgb"]) as rgb, Store.open(found["audio"]) as audio:
        video = "sound_low/v_damaged_g07_c01"
        assert (
            rgb.finished and audio.finished and video in rgb.failures and video in audio.video_ids
        )
        source = audio.sources[audio.video_ids.index(video)]
        assert source["sound"]["state"] == "heard" and source["bytes"] > 0
    assert run(*words) == 1
    assert "0 to extract" in capsys.readouterr().out


def test_no_sound_does_not_hide_a_failure(drawn, capsys):
    (drawn / "videos" / "motion_up" / "v_text_g04_c01.avi").write_text("no film")
    encode(drawn / "videos" / "motion_up" / "v_wide_g04_c02.avi", 3, 1)
    with av.open(
        str(drawn / "videos" / "motion_up" / "v_wide_g04_c02.avi"), "w"
    ) as container:  # a hair wide, no sound
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height, stream.pix_fmt = 1400, 16, "yuv420p"
        container.mux(
            stream.encode(
                av.VideoFrame.from_ndarray(np.zeros((16, 1400, 3), np.uint8), format="rgb24")
            )
        )
        container.mux(stream.encode())
    assert run(*THREE) == 1
    assert "2 videos failed" in capsys.readouterr().out


def test_adaptive_sampling_goes_on_past_a_damaged_video_and_in_shards(drawn, capsys):
    damaged(drawn / "videos" / "sound_low" / "v_damaged_g07_c01.mov")
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "FLOW=dis",
        "SAMPLING=adaptive",
    )
    for shard in ("1/3", "3/3", "2/3"):
        assert run(*words, "STREAM=rgb", f"SHARD={shard}") in (0, 1)
    with Store.open(stores()["rgb"]) as store:
        assert store.finished and len(store.video_ids) == 7 and store.recipe["steps"] == 180
        assert "damaged after 60" in str(store.failures["sound_low/v_damaged_g07_c01"])
    capsys.readouterr()
    assert run(*words, "STREAM=rgb") == 1
    assert "0 to extract" in capsys.readouterr().out
    assert (
        run(*words[:4], "CLASSES=motion_up", *words[4:], "STREAM=rgb", "BANK=few", "SHARD=8/8") == 0
    )  # an empty shard


def test_size_of_log_mel_changes_what_the_network_hears():
    example = torch.randn(1, 96, 64, generator=torch.Generator().manual_seed(0))
    own, small = (
        networks.build(
            "torchvision:resnet18",
            weights="random",
            inputs=load_stream("audio").network_input(1),
            sized=lambda one, size=size: dataclasses.replace(one, crop_px=size or one.crop_px),
        )
        for size in (0, 96)
    )
    assert own.preprocessing.crop_px == 224 and small.preprocessing.crop_px == 96
    assert not torch.allclose(own.module(example)[0], small.module(example)[0], atol=1e-3)


def test_a_video_does_not_wait_for_others_to_fill_its_batch(drawn):
    """Few of the videos have sound: theirs are given out before the batch of examples is full."""
    from reelbank.data.video.pool import DecodePool
    from reelbank.extract.pipeline.batches import ClipBatches
    from reelbank.extract.pipeline.loop import Extraction
    from reelbank.extract.pipeline.streams import StreamPipeline, Task

    network = networks.build("tiny.py:build")
    batches = ClipBatches(
        network.module, network, crops=1, keep_crops=False, batch=1000, device=torch.device("cpu")
    )
    pipeline = StreamPipeline("a", load_stream("rgb"), network, batches, None, Resize(37))
    paths = sorted((drawn / "videos" / "sound_low").glob("*.mp4"))
    seen = []

    def tasks():
        for path in paths:
            seen.append(path.stem)
            yield Task(path.stem, path, {"a": Sampling(steps=2)})

    with torch.inference_mode(), DecodePool(1) as pool:
        given = Extraction([pipeline], None, torch.device("cpu"), wait_seconds=0.0).run(
            tasks(), pool
        )
        first = next(given)
        assert first.key == paths[0].stem and len(seen) < 3
        list(given)


def test_a_network_that_gives_nan_is_told(drawn, capsys):
    Path("tiny.py").write_text(
        POOLED.replace("return self.conv(x)", "return float('nan') * self.conv(x)")
    )
    words = (
        "extract",
        "DATASET=folder",
        "ROOT=videos",
        "EXTRACTOR=tiny.py:build",
        "CROPS=1",
        "T=1",
        "CLASSES=sound_low",
    )
    assert run(*words) == 1
    assert "tiny.build with PRECISION=fp32 computed NaN" in capsys.readouterr().out


def test_a_flow_that_fails_over_one_video_leaves_its_other_streams_and_the_other_videos(
    tmp_path, monkeypatch, capsys
):
    """DIS takes no pictures of 8 x 10. Of pictures of 8 x 64 OpenCV's would read beyond its memory
    and end the process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(POOLED.replace("(3, 32, 32)", "(3, 8, 8)"))
    frames, wave = toy_drawing.render("sound_low", 1, 1, 0)
    shapes = {"good": (72, 112), "narrow": (80, 100), "wide": (16, 128)}
    for name, (height, width) in shapes.items():
        pictures = np.tile(frames[:8], (1, 1, 2, 1))[:, :height, :width]
        path = tmp_path / "videos" / "a" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        toy_drawing.write_video(path, np.ascontiguousarray(pictures), wave[:44_100])
    words = [word for word in THREE if not word.startswith(("CROPS", "T="))]
    assert run(*words, "CROPS=1", "T=2", "RESIZE=8", "SIZE=8", "STREAM=rgb flow audio") == 1
    said = capsys.readouterr().out
    found = stores()
    for stream in ("rgb", "audio"):
        with Store.open(found[stream]) as store:
            assert store.finished and sorted(store.video_ids) == ["a/good", "a/narrow", "a/wide"], (
                stream
            )
    with Store.open(found["flow"]) as store:
        assert store.finished and store.video_ids == ["a/good"]
        assert "could not be computed: error: " in str(store.failures["a/narrow"])
        assert "FLOW=dis cannot process pictures of 64 x 8" in str(store.failures["a/wide"])
    assert "2 videos failed" in said
