"""The families of transformers' models that can be extractors: a literal table by `model_type`, the
word in a model's config.json. Imports nothing slow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reelbank.extract.networks.inputs import NetworkKind

# How a row is taken from the model's output: an entry of it, the mean of its tokens, or the first.
# "pooled_or_tokens": pooler_output, or the mean of the tokens if the model has none.
Row = Literal[
    "image_embeds",
    "audio_embeds",
    "pooler_output",
    "logits",
    "tokens",
    "first",
    "pooled_or_tokens",
]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a model is loaded and run.

    kind: what it reads
    model: class in transformers; build: further arguments of it
    inputs: name of the argument with pictures, clips or sound; arguments: further ones
    row: the features of one input
    part: the module that is run, and then: the module that its row enters; "" for the whole model
    method: the method that is called; "" for forward
    unused: modules and parameters of other inputs, such as text, which are dropped
    frames: where the configuration has the number of frames of a clip
    classifiers: class of a trained classifier -> its last layer, whose input is then the row
    own_code: whether the model's class comes with the model
    """

    kind: NetworkKind
    model: str
    inputs: str = "pixel_values"
    row: Row = "pooler_output"
    build: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    then: str = ""
    method: str = ""
    unused: tuple[str, ...] = ()
    frames: str = ""
    classifiers: Mapping[str, str] = field(default_factory=dict)
    own_code: bool = False


USUAL_FRAMES = 16  # of a clip, for models that take any number

_OF_TEXT = ("text_model", "text_projection", "logit_scale")
_SIGLIP = Family(kind="image", model="SiglipVisionModel")
_VIDEOPRISM = Family(
    kind="video",
    model="VideoPrismVisionModel",
    inputs="pixel_values_videos",
    row="tokens",
    frames="num_frames",
    classifiers={"VideoPrismForVideoClassification": "classifier"},
)

FAMILIES: dict[str, Family] = {
    "clip": Family(kind="image", model="CLIPModel", method="get_image_features", unused=_OF_TEXT),
    "clip_vision_model": Family(
        kind="image", model="CLIPVisionModelWithProjection", row="image_embeds"
    ),
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "metaclip_2": Family(
        kind="image", model="MetaClip2Model", method="get_image_features", unused=_OF_TEXT
    ),
    "metaclip_2_vision_model": Family(
        kind="image", model="MetaClip2VisionModelWithProjection", row="image_embeds"
    ),
    "dinov2": Family(
        kind="image",
        model="Dinov2Model",
        classifiers={"Dinov2ForImageClassification": "classifier"},
    ),
    "dinov2_with_registers": Family(
        kind="image",
        model="Dinov2WithRegistersModel",
        classifiers={"Dinov2WithRegistersForImageClassification": "classifier"},
    ),
    "dinov3_vit": Family(kind="image", model="DINOv3ViTModel"),
    "videomae": Family(
        kind="video",
        model="VideoMAEModel",
        row="tokens",
        frames="num_frames",
        classifiers={"VideoMAEForVideoClassification": "classifier"},
    ),
    "vjepa2": Family(
        kind="video",
        model="VJEPA2Model",
        inputs="pixel_values_videos",
        row="tokens",
        arguments={"skip_predictor": True},
        frames="frames_per_clip",
        classifiers={"VJEPA2ForVideoClassification": "classifier"},
    ),
    "timesformer": Family(
        kind="video",
        model="TimesformerModel",
        row="first",
        frames="num_frames",
        classifiers={"TimesformerForVideoClassification": "classifier"},
    ),
    "vivit": Family(
        kind="video",
        model="VivitModel",
        row="first",
        build={"add_pooling_layer": False},
        frames="num_frames",
        classifiers={"VivitForVideoClassification": "classifier"},
    ),
    "xclip": Family(
        kind="video",
        model="XCLIPModel",
        method="get_video_features",
        unused=(
            *_OF_TEXT,
            "prompts_visual_layernorm",
            "prompts_visual_projection",
            "prompts_generator",
        ),
        frames="vision_config.num_frames",
    ),
    "videoprism": Family(
        kind="video",
        model="VideoPrismClipModel",
        inputs="pixel_values_videos",
        part="video_model",
        unused=("text_model",),
        frames="vision_config.num_frames",
    ),
    "videoprism_vision_model": _VIDEOPRISM,
    "pe_video": Family(
        kind="video",
        model="PeVideoModel",
        inputs="pixel_values_videos",
        part="video_encoder",
        then="video_head",
        unused=(
            "text_model",
            "text_video_head",
            "text_video_logit_scale",
            "text_video_logit_bias",
        ),
    ),
    "pe_video_encoder": Family(kind="video", model="PeVideoEncoder", inputs="pixel_values_videos"),
    "clap": Family(
        kind="sound",
        model="ClapModel",
        inputs="input_features",
        part="audio_model",
        then="audio_projection",
        unused=("text_model", "text_projection", "logit_scale_a", "logit_scale_t"),
    ),
    "clap_audio_model": Family(
        kind="sound",
        model="ClapAudioModelWithProjection",
        inputs="input_features",
        row="audio_embeds",
    ),
    "audio-spectrogram-transformer": Family(
        kind="sound",
        model="ASTModel",
        inputs="input_values",
        classifiers={"ASTForAudioClassification": "classifier.dense"},
    ),
    "wav2vec2": Family(
        kind="sound",
        model="Wav2Vec2Model",
        inputs="input_values",
        row="tokens",
        classifiers={"Wav2Vec2ForSequenceClassification": "classifier"},
    ),
    "whisper": Family(
        kind="sound",
        model="WhisperModel",
        inputs="input_features",
        row="tokens",
        part="encoder",
        unused=("decoder",),
        classifiers={"WhisperForAudioClassification": "classifier"},
    ),
}

# Families that look as if they fitted, and why they do not.
REFUSED = {
    "siglip2": (
        "its pictures have a size of their own for each aspect ratio (NaFlex), and rows of a store "
        "need one; use a SigLIP 2 checkpoint with a fixed size, such as "
        "google/siglip2-base-patch16-224"
    ),
}
