"""Models of transformers for pictures, sound and both: two layers of 64 channels, 64 x 64 pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from architectures.base import Architecture, noise, picture, plain, tokens
from architectures.language import USUAL, make

LAYERS = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
VIT = LAYERS | {"image_size": 64, "patch_size": 16}
STAGES = {"embed_dim": 24, "depths": [1, 1, 1], "num_heads": [2, 4, 8], "window_size": 4, "image_size": 64}
CNN = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
MOBILE = {"image_size": 64, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]}
RESNET = {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
          "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"]}  # fmt: skip
DETR = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_queries": 8}  # fmt: skip

PICTURES: dict[str, tuple[str, dict[str, Any], int]] = {
    "ViT": ("ForImageClassification", VIT, 64),
    "DeiT": ("ForImageClassification", VIT, 64),
    "Beit": ("ForImageClassification", VIT | {"use_relative_position_bias": True}, 64),
    "Dinov2": ("ForImageClassification", LAYERS | {"image_size": 56, "patch_size": 14}, 56),
    "DINOv3ViT": ("Model", VIT, 64),
    "Swin": ("ForImageClassification", STAGES, 64),
    "Swinv2": ("ForImageClassification", STAGES, 64),
    "Focalnet": ("ForImageClassification", {"embed_dim": 16, "depths": [1, 1, 1], "focal_levels": [2, 2, 2],
                 "focal_windows": [3, 3, 3], "hidden_sizes": [32, 48, 64], "image_size": 64}, 64),
    "ConvNext": ("ForImageClassification", CNN, 64),
    "ConvNextV2": ("ForImageClassification", CNN, 64),
    "ResNet": ("ForImageClassification", CNN | {"embedding_size": 16, "layer_type": "basic"}, 64),
    "RegNet": ("ForImageClassification", CNN | {"embedding_size": 16, "groups_width": 8}, 64),
    "Bit": ("ForImageClassification", CNN | {"embedding_size": 16, "num_groups": 8}, 64),
    "MobileViT": ("ForImageClassification", MOBILE | {"num_attention_heads": 4}, 64),
    "MobileViTV2": ("ForImageClassification", {"image_size": 64, "width_multiplier": 0.5}, 64),
    "MobileNetV1": ("ForImageClassification", {"image_size": 64, "depth_multiplier": 0.25}, 64),
    "MobileNetV2": ("ForImageClassification", {"image_size": 64, "depth_multiplier": 0.35}, 64),
    "PoolFormer": ("ForImageClassification", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}, 64),
    "Pvt": ("ForImageClassification", {"image_size": 64, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 3, 4]}, 64),
    "Levit": ("ForImageClassification", {"image_size": 64, "hidden_sizes": [32, 48, 64], "depths": [1, 1, 1],
              "num_attention_heads": [2, 3, 4], "key_dim": [8, 8, 8]}, 64),
    "Cvt": ("ForImageClassification", {"embed_dim": [16, 32, 48], "depth": [1, 2, 3], "num_heads": [1, 2, 3]}, 64),
    "Segformer": ("ForSemanticSegmentation", {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
                  "num_attention_heads": [1, 2, 3, 4], "decoder_hidden_size": 32, "num_labels": 5}, 64),
    "Dpt": ("ForDepthEstimation", LAYERS | {"num_hidden_layers": 4, "image_size": 64, "backbone_out_indices":
            [0, 1, 2, 3], "neck_hidden_sizes": [16, 24, 32, 48], "fusion_hidden_size": 32}, 64),
    "Yolos": ("ForObjectDetection", LAYERS | {"image_size": [64, 64], "num_detection_tokens": 8}, 64),
    "Swin2SR": ("ForImageSuperResolution", {"image_size": 32, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2],
                "window_size": 4, "upscale": 2}, 32),
    "EfficientNet": ("ForImageClassification", {"image_size": 64, "width_coefficient": 0.35,
                     "depth_coefficient": 0.35, "hidden_dim": 448}, 64),
    "Hiera": ("ForImageClassification", {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1],
              "num_heads": [1, 2, 4], "masked_unit_size": [4, 4], "num_query_pool": 2}, 64),
    "SwiftFormer": ("ForImageClassification", {"embed_dims": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}, 64),
    "DetrResNet": ("Detr", DETR, 64),
    "ConditionalDetr": ("ConditionalDetr", DETR, 64),
}  # fmt: skip

CONV = {"conv_dim": [32, 32, 32], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 4], "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "vocab_size": 32}  # fmt: skip
SOUNDS: dict[str, tuple[str, dict[str, Any], str, tuple[int, ...]]] = {
    "Wav2Vec2": ("ForCTC", LAYERS | CONV, "input_values", (1, 4000)),
    "Hubert": ("ForCTC", LAYERS | CONV, "input_values", (1, 4000)),
    "WavLM": ("ForCTC", LAYERS | CONV, "input_values", (1, 4000)),
    "UniSpeech": ("ForCTC", LAYERS | CONV, "input_values", (1, 4000)),
    "UniSpeechSat": ("ForCTC", LAYERS | CONV, "input_values", (1, 4000)),
    "SEW": ("ForCTC", LAYERS | CONV | {"squeeze_factor": 2}, "input_values", (1, 4000)),
    "Data2VecAudio": ("ForCTC", LAYERS | CONV | {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 9},
                      "input_values", (1, 4000)),
    "Wav2Vec2Conformer": ("ForCTC", LAYERS | CONV | {"position_embeddings_type": "rotary"}, "input_values", (1, 4000)),
    "AST": ("ForAudioClassification", LAYERS | {"max_length": 64, "num_mel_bins": 32}, "input_values", (1, 64, 32)),
}  # fmt: skip


def architectures() -> Iterator[Architecture]:
    for name, (suffix, config, size) in PICTURES.items():
        yield Architecture(name, "transformers, pictures", picture_model(name, suffix, config, size))
    for name, (suffix, config, given, shape) in SOUNDS.items():
        yield Architecture(name, "transformers, sound", sound_model(name, suffix, config, given, shape))
    for name, maker in MORE.items():
        family = (
            "transformers, pictures and text" if name in ("CLIP", "SigLIP", "Blip", "ViLT") else "transformers, sound"
        )
        yield Architecture(name, f"transformers, {family}", maker)


def picture_model(
    name: str, suffix: str, config: dict[str, Any], size: int
) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def maker() -> tuple[Any, dict[str, Any]]:
        inputs = {"pixel_values": picture(size)}
        if suffix in ("Detr", "ConditionalDetr"):
            from transformers import ResNetConfig

            backbone = ResNetConfig(**{k: v for k, v in RESNET.items() if k != "model_type"})
            more = {"backbone_config": backbone, "backbone": None, "use_timm_backbone": False}
            return plain(make(suffix, "ForObjectDetection", config | more), list(inputs)), inputs
        named = {"Focalnet": "FocalNet", "Dpt": "DPT"}.get(name, name)
        return plain(make(named, suffix, config), list(inputs)), inputs

    return maker


def sound_model(name: str, suffix: str, config: dict[str, Any], given: str, shape: tuple[int, ...]) -> Any:
    def maker() -> tuple[Any, dict[str, Any]]:
        return plain(make(name, suffix, config), [given]), {given: noise(*shape)}

    return maker


# --- those of more than one input -------------------------------------------------------------------------------------


def _clip() -> tuple[Any, dict[str, Any]]:
    inputs = {"input_ids": tokens(), "pixel_values": picture()}
    config = {"text_config": USUAL | {"eos_token_id": 2}, "vision_config": VIT, "projection_dim": 32}
    return plain(make("CLIP", "Model", config), list(inputs)), inputs


def _siglip() -> tuple[Any, dict[str, Any]]:
    inputs = {"input_ids": tokens(), "pixel_values": picture()}
    return plain(make("Siglip", "Model", {"text_config": USUAL, "vision_config": VIT}), list(inputs)), inputs


def _blip() -> tuple[Any, dict[str, Any]]:
    inputs = {"input_ids": tokens(), "pixel_values": picture()}
    text = USUAL | {"encoder_hidden_size": 64}
    config = {"text_config": text, "vision_config": VIT, "image_text_hidden_size": 32}
    return plain(make("Blip", "ForImageTextRetrieval", config), list(inputs), use_itm_head=True), inputs


def _vilt() -> tuple[Any, dict[str, Any]]:
    inputs = {"input_ids": tokens(), "pixel_values": picture()}
    config = USUAL | VIT | {"max_image_length": -1}
    return plain(make("Vilt", "Model", config), list(inputs)), inputs


def _whisper() -> tuple[Any, dict[str, Any]]:
    config = {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 512,
        "num_mel_bins": 32, "max_source_positions": 50, "max_target_positions": 32, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }  # fmt: skip
    inputs = {"input_features": noise(1, 32, 100), "decoder_input_ids": tokens(8)}
    return plain(make("Whisper", "ForConditionalGeneration", config), list(inputs), use_cache=False), inputs


def _speech_to_text() -> tuple[Any, dict[str, Any]]:
    config = {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 512,
        "input_feat_per_channel": 32, "conv_channels": 64, "max_source_positions": 100, "max_target_positions": 32,
    }  # fmt: skip
    inputs = {"input_features": noise(1, 64, 32), "decoder_input_ids": tokens(8)}
    return plain(make("Speech2Text", "ForConditionalGeneration", config), list(inputs), use_cache=False), inputs


def _moonshine() -> tuple[Any, dict[str, Any]]:
    config = {
        "hidden_size": 64, "intermediate_size": 128, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
        "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4, "vocab_size": 512,
        "max_position_embeddings": 64,
    }  # fmt: skip
    inputs = {"input_values": noise(1, 4000), "decoder_input_ids": tokens(8)}
    return plain(make("Moonshine", "ForConditionalGeneration", config), list(inputs), use_cache=False), inputs


def _encodec() -> tuple[Any, dict[str, Any]]:
    import torch

    class Decoder(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.encoder, self.decoder = model.encoder, model.decoder

        def forward(self, x: Any) -> Any:
            return self.decoder(self.encoder(x))

    config = {"num_filters": 4, "upsampling_ratios": [4, 4], "hidden_size": 16, "codebook_size": 32, "codebook_dim": 16,
              "num_lstm_layers": 1}  # fmt: skip
    return Decoder(make("Encodec", "Model", config)).eval(), {"x": noise(1, 1, 1600)}


MORE: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "CLIP": _clip,
    "SigLIP": _siglip,
    "Blip": _blip,
    "ViLT": _vilt,
    "Whisper": _whisper,
    "Speech2Text": _speech_to_text,
    "Moonshine": _moonshine,
    "EnCodec": _encodec,
}
