"""Small random models of transformers, one of each family, saved to folders with their processors,
and the features that transformers itself computes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PX = 32  # side of the pictures
TEXT = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
}
VIT = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": PX,
    "patch_size": 8,
}


@dataclass(frozen=True)
class Saved:
    """processor: transformers' own; run: its prepared input -> rows, by the model as a user of
    transformers would call it."""

    folder: Path
    kind: str
    processor: Any
    run: Callable[[Any], Tensor]
    frames: int = 1
    node: str = ""  # a module whose output is tokens

    @property
    def extractor(self) -> str:
        return f"hf:{self.folder}"


def save(family: str, folder: Path) -> Saved:
    """Make the model of a family."""
    torch.manual_seed(7)
    return MAKERS[family](folder / family)


def _written(folder: Path, model: nn.Module, processor: Any) -> None:
    """Save a model whose features differ between inputs: the usual random weights are tiny."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _clip(folder: Path) -> Saved:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    config = CLIPConfig(text_config=TEXT, vision_config=VIT, projection_dim=12)
    model = CLIPModel(config)
    processor = CLIPImageProcessor(size={"shortest_edge": PX}, crop_size=PX)
    _written(folder, model, processor)
    return Saved(
        folder,
        "image",
        processor,
        lambda batch: model.get_image_features(**batch).pooler_output,
        node="vision_model.encoder.layers.0",
    )


def _siglip(folder: Path) -> Saved:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VIT))
    processor = SiglipImageProcessor(size={"height": PX, "width": PX})
    _written(folder, model, processor)
    return Saved(
        folder,
        "image",
        processor,
        lambda batch: model.get_image_features(**batch).pooler_output,
    )


def _metaclip_2(folder: Path) -> Saved:
    from transformers import CLIPImageProcessor, MetaClip2Config, MetaClip2Model

    model = MetaClip2Model(
        MetaClip2Config(
            text_config=TEXT | {"eos_token_id": 2}, vision_config=VIT, projection_dim=12
        )
    )
    processor = CLIPImageProcessor(size={"shortest_edge": PX + 5}, crop_size=PX)
    _written(folder, model, processor)
    return Saved(
        folder,
        "image",
        processor,
        lambda batch: model.get_image_features(**batch).pooler_output,
    )


def _dinov2(folder: Path) -> Saved:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    model = Dinov2Model(Dinov2Config(**VIT, mlp_ratio=2))
    processor = BitImageProcessor(
        size={"shortest_edge": PX + 4}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)
    return Saved(folder, "image", processor, lambda batch: model(**batch).pooler_output)


def _dinov2_with_registers(folder: Path) -> Saved:
    from transformers import (
        BitImageProcessor,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersForImageClassification,
    )

    model = Dinov2WithRegistersForImageClassification(
        Dinov2WithRegistersConfig(**VIT, mlp_ratio=2, num_labels=5)
    )
    processor = BitImageProcessor(
        size={"shortest_edge": PX + 4}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)

    def run(batch: Any) -> Tensor:
        tokens = model.dinov2_with_registers(**batch).last_hidden_state
        # What its classifier reads: the class token and the mean of the patches.
        registers = model.config.num_register_tokens
        return torch.cat([tokens[:, 0], tokens[:, 1 + registers :].mean(1)], 1)

    return Saved(folder, "image", processor, run)


def _dinov3(folder: Path) -> Saved:
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

    model = DINOv3ViTModel(DINOv3ViTConfig(**VIT, num_register_tokens=2))
    processor = DINOv3ViTImageProcessor(size={"height": PX, "width": PX})
    _written(folder, model, processor)
    return Saved(folder, "image", processor, lambda batch: model(**batch).pooler_output)


def _videomae(folder: Path) -> Saved:
    from transformers import (
        VideoMAEConfig,
        VideoMAEForVideoClassification,
        VideoMAEImageProcessor,
    )

    config = VideoMAEConfig(**VIT, num_frames=4, tubelet_size=2, num_labels=5)
    model = VideoMAEForVideoClassification(config)
    processor = VideoMAEImageProcessor(
        size={"shortest_edge": PX}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)

    def run(batch: Any) -> Tensor:
        tokens = model.videomae(**batch).last_hidden_state
        return model.fc_norm(tokens.mean(1))

    return Saved(folder, "video", processor, run, 4, node="videomae.encoder.layer.0")


def _videomae_base(folder: Path) -> Saved:
    from transformers import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor

    model = VideoMAEModel(VideoMAEConfig(**VIT, num_frames=4, tubelet_size=2))
    processor = VideoMAEVideoProcessor(
        size={"shortest_edge": PX}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)
    return Saved(
        folder, "video", processor, lambda batch: model(**batch).last_hidden_state.mean(1), 4
    )


def _vjepa2(folder: Path) -> Saved:
    from transformers import VJEPA2Config, VJEPA2Model, VJEPA2VideoProcessor

    config = VJEPA2Config(
        **{name: value for name, value in VIT.items() if name not in ("image_size",)},
        crop_size=PX,
        frames_per_clip=4,
        mlp_ratio=2,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=2,
    )
    model = VJEPA2Model(config)
    processor = VJEPA2VideoProcessor(crop_size=PX)
    _written(folder, model, processor)
    return Saved(
        folder,
        "video",
        processor,
        lambda batch: model.get_vision_features(**batch).mean(1),
        4,
    )


def _timesformer(folder: Path) -> Saved:
    from transformers import (
        TimesformerConfig,
        TimesformerModel,
        VideoMAEImageProcessor,
    )

    model = TimesformerModel(TimesformerConfig(**VIT, num_frames=3))
    processor = VideoMAEImageProcessor(
        size={"shortest_edge": PX}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)
    return Saved(
        folder, "video", processor, lambda batch: model(**batch).last_hidden_state[:, 0], 3
    )


def _vivit(folder: Path) -> Saved:
    from transformers import VivitConfig, VivitForVideoClassification, VivitVideoProcessor

    config = VivitConfig(
        **{name: value for name, value in VIT.items() if name != "patch_size"},
        num_frames=4,
        tubelet_size=[2, 8, 8],
        num_labels=5,
    )
    model = VivitForVideoClassification(config)
    processor = VivitVideoProcessor(
        size={"shortest_edge": PX + 4}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)
    return Saved(
        folder,
        "video",
        processor,
        lambda batch: model.vivit(**batch).last_hidden_state[:, 0],
        4,
    )


def _xclip(folder: Path) -> Saved:
    from transformers import VideoMAEImageProcessor, XCLIPConfig, XCLIPModel

    vision = VIT | {
        "num_frames": 3,
        "mit_hidden_size": 12,
        "mit_intermediate_size": 16,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
    }
    model = XCLIPModel(
        XCLIPConfig(
            text_config=TEXT,
            vision_config=vision,
            projection_dim=12,
            prompt_num_attention_heads=2,
            prompt_layers=1,
        )
    )
    processor = VideoMAEImageProcessor(
        size={"shortest_edge": PX}, crop_size={"height": PX, "width": PX}
    )
    _written(folder, model, processor)
    return Saved(
        folder,
        "video",
        processor,
        lambda batch: model.get_video_features(**batch).pooler_output,
        3,
        node="vision_model.encoder.layers.0",
    )


def _videoprism(folder: Path) -> Saved:
    from transformers import LlavaOnevisionVideoProcessor, VideoPrismClipModel, VideoPrismConfig

    vision = {
        "image_size": PX,
        "num_frames": 4,
        "tubelet_size": [1, 8, 8],
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_spatial_layers": 1,
        "num_temporal_layers": 1,
        "num_auxiliary_layers": 1,
    }
    text = TEXT | {"hidden_size": 24}
    model = VideoPrismClipModel(VideoPrismConfig(text_config=text, vision_config=vision))
    processor = LlavaOnevisionVideoProcessor(
        size={"height": PX, "width": PX}, do_normalize=False, do_sample_frames=True
    )
    _written(folder, model, processor)
    return Saved(
        folder,
        "video",
        processor,
        lambda batch: model.get_video_features(**batch).pooler_output[:, 0],
        4,
    )


def _pe_video(folder: Path) -> Saved:
    from transformers import PeVideoConfig, PeVideoModel, PeVideoVideoProcessor

    tower = {
        "architecture": "vit_pe_core_tiny_patch16_384",
        "do_pooling": True,
        "num_classes": 16,
        "model_args": {
            "embed_dim": 24,
            "depth": 1,
            "num_heads": 2,
            "img_size": PX,
            "patch_size": 8,
        },
    }
    video = {
        "vision_config": tower,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 12,
    }
    text = {
        "model_type": "modernbert",
        "vocab_size": 30,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    }
    model = PeVideoModel(PeVideoConfig(text_config=text, video_config=video))
    processor = PeVideoVideoProcessor(
        size={"height": PX, "width": PX},
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    _written(folder, model, processor)
    return Saved(
        folder,
        "video",
        processor,
        lambda batch: model.video_head(model.video_encoder(**batch).pooler_output),
        16,
    )


def _clap(folder: Path) -> Saved:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio = {
        "hidden_size": 32,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
        "enable_fusion": True,
        "projection_dim": 12,
    }
    text = TEXT | {"projection_dim": 12, "pad_token_id": 1}
    audio["hidden_size"] = 8 * 2
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12))
    processor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=8000, max_length_s=2, hop_length=80, fft_window_size=256
    )
    _written(folder, model, processor)

    def run(batch: Any) -> Tensor:
        outputs = model.audio_model(**batch)
        return model.audio_projection(outputs.pooler_output)

    return Saved(folder, "sound", processor, run)


def _ast(folder: Path) -> Saved:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    config = ASTConfig(
        **{name: value for name, value in VIT.items() if name != "image_size"},
        frequency_stride=8,
        time_stride=8,
        max_length=128,
        num_mel_bins=32,
        num_labels=5,
    )
    model = ASTForAudioClassification(config)
    processor = ASTFeatureExtractor(max_length=128, num_mel_bins=32)
    _written(folder, model, processor)

    def run(batch: Any) -> Tensor:
        pooled = model.audio_spectrogram_transformer(**batch).pooler_output
        return model.classifier.layernorm(pooled)

    return Saved(folder, "sound", processor, run)


def _wav2vec2(folder: Path) -> Saved:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        conv_dim=[16, 16, 16],
        conv_kernel=[10, 8, 8],
        conv_stride=[8, 8, 8],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    model = Wav2Vec2Model(config)
    processor = Wav2Vec2FeatureExtractor(do_normalize=True)
    _written(folder, model, processor)
    return Saved(folder, "sound", processor, lambda batch: model(**batch).last_hidden_state.mean(1))


def _whisper(folder: Path) -> Saved:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        vocab_size=30,
        num_mel_bins=16,
        d_model=24,
        encoder_layers=2,
        encoder_attention_heads=2,
        decoder_layers=1,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=100,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = WhisperModel(config)
    processor = WhisperFeatureExtractor(feature_size=16, chunk_length=2)
    _written(folder, model, processor)
    return Saved(
        folder,
        "sound",
        processor,
        lambda batch: model.encoder(**batch).last_hidden_state.mean(1),
        node="encoder.layers.0",
    )


MAKERS: dict[str, Callable[[Path], Saved]] = {
    "clip": _clip,
    "siglip": _siglip,
    "metaclip_2": _metaclip_2,
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2_with_registers,
    "dinov3": _dinov3,
    "videomae": _videomae,
    "videomae_base": _videomae_base,
    "vjepa2": _vjepa2,
    "timesformer": _timesformer,
    "vivit": _vivit,
    "xclip": _xclip,
    "videoprism": _videoprism,
    "pe_video": _pe_video,
    "clap": _clap,
    "ast": _ast,
    "wav2vec2": _wav2vec2,
    "whisper": _whisper,
}


def of_pictures(saved: Saved, frames: np.ndarray) -> np.ndarray:
    """Rows of (n, H, W, 3) uint8: one for each picture, or one of all for a video model."""
    with torch.inference_mode():
        if saved.kind == "image":
            batch = saved.processor(images=list(frames), return_tensors="pt")
        elif hasattr(saved.processor, "sample_frames"):
            batch = saved.processor(videos=[frames], return_tensors="pt", do_sample_frames=False)
        else:
            batch = saved.processor(list(frames), return_tensors="pt")
        return saved.run(batch).numpy()


def of_sound(saved: Saved, wave: np.ndarray) -> np.ndarray:
    """The row of (samples,) float32."""
    processor = saved.processor
    batch = processor(wave, sampling_rate=processor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        return saved.run(batch).numpy()
