"""The recipe of the multi-stream paper against what the paper states: frames, the training of the
motion CNN, and the anomaly detection."""

import pytest
import torch

from reelbank.data.options import parse, words_of
from reelbank.extract.fill import stream_options, with_defaults
from reelbank.extract.networks.preprocessing import Resize
from reelbank.extract.options import ExtractOptions
from reelbank.extract.pipeline.crops import resize, take_crops
from reelbank.fusion.reproduce.plan import cells, pretrained, store_options, stores_of
from reelbank.fusion.reproduce.recipe.reading import read_paper
from reelbank.heads.pretraining.options import PretrainOptions

RECIPE = read_paper("multistream")


def test_the_whole_frame_is_stretched_to_299_x_299() -> None:
    """Section V.C. A square crop of a 4:3 frame would lose a quarter of it or more."""
    for words in (["RECIPE=multistream"], words_of(store_options(RECIPE, "rgb"))):
        extraction = with_defaults(parse(ExtractOptions, ["DATASET=ucf101", *words], "extract"))
        options = stream_options(extraction, "rgb")
        assert (options.resize_px, options.crop_px, options.crops) == ((299, 299), 299, 1)
        decoded = torch.randint(256, (1, 3, 240, 320), dtype=torch.uint8)
        frame = resize(decoded, Resize(options.resize_px))
        (crops,) = take_crops(frame, options.crop_px, options.crops)
        assert torch.equal(crops, frame)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("section", ["motion", "motion_normal"])
def test_the_motion_cnn_is_trained_as_in_the_paper(section: str, quick: bool) -> None:
    """Sections V.B to V.D: no augmentation, single stacks of flow, and an end after 10 epochs
    without a lower validation loss."""
    settings = dict(read_paper("multistream", quick=quick)["pretrain"][section])
    settings.pop("normal_of", None)
    options = parse(PretrainOptions, words_of(settings), "pretrain")
    assert (options.jitter, options.flip, options.segments) == (False, False, 1)
    assert (options.best_by, options.patience, options.optimiser) == ("loss", 10, "adam")
    assert options.validation > 0


def test_the_anomaly_detection_is_a_step_whose_size_is_chosen() -> None:
    """Section VII, with a row for its AUC. Nothing that it is made of knows the abnormal classes."""
    detection = RECIPE["anomalies"]["novel"]
    assert len(detection["bottleneck"]) > 1  # chosen on validation videos
    assert "auc novel" in {cell.ours for cell in cells(RECIPE)}
    for name in detection["members"]:
        model = RECIPE["models"][name]
        assert model["normal_of"] == "novel"
        for store in stores_of(model):
            for section in pretrained(RECIPE["stores"][store]).values():
                assert RECIPE["pretrain"][section]["normal_of"] == "novel"
