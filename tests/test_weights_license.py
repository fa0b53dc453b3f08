"""The license and the revision of published weights: in a plan, in the store, in `inspect` and in the
report; not in the recipe."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from made_runs import made_run
from made_stores import DATASET, RECIPE, made_times, made_values, made_video
from safetensors.torch import save_file
from test_extract import encode

import reelbank
from reelbank.data.options import parse
from reelbank.data.store.reader import Store
from reelbank.data.store.records import identity
from reelbank.data.store.versions import Made
from reelbank.data.store.weights import PublishedWeights, is_non_commercial, recorded_weights
from reelbank.data.store.writer import StoreWriter
from reelbank.extract.fill import with_defaults
from reelbank.extract.options import ExtractOptions
from reelbank.extract.plan import plan_streams
from reelbank.fusion.report.page import ReportOptions, write_report

REVISION = "0123456789abcdef0123456789abcdef01234567"
ATTO = "convnextv2_atto.fcmae"  # its license is cc-by-nc-4.0
FREE = PublishedWeights(name="timm resnet10t.c3_in1k c3_in1k", revision="ab" * 20, license="mit")
RESTRICTED = PublishedWeights(name="hf own/model", license="cc-by-nc-sa-4.0", sha256="c" * 64)


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("cc-by-nc-4.0", True),
        ("CC-BY-NC-SA-3.0", True),
        ("fair-noncommercial-research-license", True),
        ("my-non-commercial-license", True),
        ("apple-amlr", True),
        ("seer-license", True),
        ("https://github.com/facebookresearch/SWAG/blob/main/LICENSE", True),
        ("CC BY-NC 4.0", True),
        ("cc_by_nc_4.0", True),
        ("https://creativecommons.org/licenses/by-nc/4.0/", True),
        ("research-use-only", True),
        ("Research Use Only", True),
        ("non_commercial", True),
        ("nsclv1", True),
        ("CC BY 4.0", False),
        ("https://creativecommons.org/licenses/by/4.0/", False),
        ("cc-by-4.0", False),
        ("cc-by-ncx", False),
        ("apache-2.0", False),
        ("dinov3-license", False),
        ("", False),
    ],
)
def test_licenses_that_forbid_commercial_use(license: str, expected: bool) -> None:
    assert is_non_commercial(license) is expected


def test_those_of_timm_are_known() -> None:
    stated = {name: timm.get_pretrained_cfg(name).license for name in timm.list_pretrained()}
    restricted = [name for name, license in stated.items() if is_non_commercial(license or "")]
    assert ATTO in restricted
    # timm 1.0.20 still states "other" for it.
    assert "regnety_320.seer" in restricted or stated["regnety_320.seer"] == "other"
    assert "resnet50.a1_in1k" not in restricted
    assert 88 <= len(restricted) < len(stated) / 10


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"weights": "x"},
        {"weights": None},
        {"weights": 3},
        {"weights": {"name": "x"}},
        {"weights": [3, None, [], {"license": "mit"}, {"name": 5}, {"name": "n" * 301}]},
    ],
)
def test_what_records_no_weights(written: dict[str, object]) -> None:
    assert recorded_weights(written) == ()


def test_untrusted_texts_are_short_few_and_printable() -> None:
    (weights,) = recorded_weights({"weights": [{"name": "a\x1b[31m\nb", "license": ["mit"]}]})
    assert str(weights) == "a?[31m?b, license not stated"
    assert len(recorded_weights({"weights": [{"name": "a"}] * 1000})) == 8


def _fill(path: Path, numbers: range, weights: tuple[PublishedWeights, ...]) -> None:
    videos = [made_video(number) for number in numbers]
    with StoreWriter(path, RECIPE, DATASET, part_videos=2, made=Made(weights=weights)) as writer:
        for number, video in zip(numbers, videos, strict=True):
            writer.add(video, made_values(number), made_times(number))
        assert writer.finish([made_video(number) for number in range(numbers.stop)])


def _recorded(path: Path) -> tuple[PublishedWeights, ...]:
    with Store.open(path) as store:
        assert store.identity == identity(RECIPE, DATASET.name)
        assert store.recipe == RECIPE
        return store.weights


def test_a_store_keeps_what_was_recorded_last(tmp_path: Path) -> None:
    """Through parts, merges, later files and packing; the identity is that of a store without."""
    path = tmp_path / "stores" / "made.h5"
    _fill(path, range(3), ())
    assert _recorded(path) == ()  # as in stores of earlier versions
    _fill(path, range(3, 6), (FREE, RESTRICTED))
    assert _recorded(path) == (FREE, RESTRICTED)
    _fill(path, range(6, 9), ())  # an earlier version adds videos
    assert _recorded(path) == (FREE, RESTRICTED)
    assert reelbank.main(["pack", str(path), f"BANK={tmp_path}"]) == 0
    assert _recorded(path) == (FREE, RESTRICTED)
    with StoreWriter(tmp_path / "part.h5", RECIPE, DATASET, made=Made(weights=(FREE,))) as writer:
        writer.add(made_video(0), made_values(0), made_times(0))
    assert _recorded(tmp_path / "part.h5") == (FREE,)  # unfinished


def test_inspect_shows_what_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stores" / "made.h5"
    _fill(path, range(3), ())
    assert reelbank.main(["inspect", str(path)]) == 0
    assert "license" not in capsys.readouterr().out
    _fill(path, range(3, 6), (FREE, RESTRICTED))
    assert reelbank.main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert f"weights: {FREE.name}, revision abababababab, license mit" in said
    assert (
        "weights: hf own/model, license cc-by-nc-sa-4.0 (non-commercial), SHA-256 cccccccccccccccc"
        in said
    )
    assert not any("{" in line for line in said)  # nor among the versions of packages
    assert reelbank.main(["inspect", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["weights"] == [
        {"name": FREE.name, "revision": "ab" * 20, "license": "mit"},
        {"name": "hf own/model", "license": "cc-by-nc-sa-4.0", "sha256": "c" * 64},
    ]


@pytest.mark.parametrize("weights", [(), (FREE,), (RESTRICTED,)])
def test_the_report_shows_it(tmp_path: Path, weights: tuple[PublishedWeights, ...]) -> None:
    recipe = RECIPE | {"weights": {"source": "pretrained timm resnet10t.c3_in1k c3_in1k"}}
    path = tmp_path / "stores" / "made.h5"
    with StoreWriter(path, recipe, DATASET, made=Made(weights=weights)) as writer:
        writer.add(made_video(0), made_values(0), made_times(0))
        assert writer.finish([made_video(0)])
    run = made_run(tmp_path, store=identity(recipe, DATASET.name))
    document = json.loads((run / "recipe.json").read_text()) | {"store_recipes": [recipe]}
    (run / "recipe.json").write_text(json.dumps(document))
    written = write_report(ReportOptions(bank=str(tmp_path), figures=False))
    page = written.path.read_text(encoding="utf-8")
    expected = "; ".join(map(str, weights)) or "license and revision not recorded"
    assert expected in page
    is_noted = any("does not permit commercial use" in note for note in written.notes)
    assert is_noted == (weights == (RESTRICTED,))
    assert ("does not permit commercial use" in page) == is_noted


def _planned(*words: str) -> tuple[PublishedWeights, ...]:
    """What a plan says about the weights of its network."""
    options = parse(ExtractOptions, ["DATASET=folder", "T=2", "SIZE=32", *words], "extract")
    (plan,) = plan_streams(with_defaults(options), "folder", None)
    return plan.published


def test_a_network_of_timm_from_plan_to_inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = tmp_path / "hub" / f"models--timm--{ATTO}"
    snapshot = model / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)
    # The license is known before the weights are downloaded.
    network = f"EXTRACTOR=timm:{ATTO}"
    expected = PublishedWeights(name=f"timm {ATTO} fcmae", license="cc-by-nc-4.0")
    assert _planned(network, "PLAN=1") == (expected,)
    assert _planned(network, "WEIGHTS=random") == ()
    torch.manual_seed(0)
    save_file(timm.create_model(ATTO, num_classes=0).state_dict(), snapshot / "model.safetensors")
    encode(tmp_path / "videos" / "a" / "x.avi", 4, 0)
    words = ["extract", "DATASET=folder", f"ROOT={tmp_path / 'videos'}", network, "T=2", "CROPS=1"]
    words += ["SIZE=32", "RESIZE=32", f"BANK={tmp_path / 'bank'}", "DEVICE=cpu", "WORKERS=1"]
    assert reelbank.main(words) == 0
    (path,) = (tmp_path / "bank" / "stores").glob("*.h5")
    with Store.open(path) as store:
        (weights,) = store.weights
        assert weights == replace(expected, revision=REVISION, sha256=weights.sha256)
        # The recipe has the SHA-256, as before, and nothing of the rest.
        assert store.recipe["weights"]["sha256"] == weights.sha256
        assert store.recipe["weights"].keys() == {"source", "sha256"}
    capsys.readouterr()
    assert reelbank.main(["inspect", str(path)]) == 0
    stated = f"revision {REVISION[:12]}, license cc-by-nc-4.0 (non-commercial)"
    said = capsys.readouterr().out
    assert f"weights: timm {ATTO} fcmae, {stated}, SHA-256 {weights.sha256[:16]}\n" in said
