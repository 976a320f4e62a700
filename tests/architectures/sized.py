"""The architectures whose times are compared: of the widths in use, at small sizes of pictures, texts and sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from architectures import language, perception, pictures
from architectures.base import Architecture, noise, picture, plain, tokens
from architectures.language import make

SIDE = 160
"""Pixels of a side, where an architecture allows it."""

WIDER = 4
"""Language models have two layers of 64 times this many channels, and 16 times this many tokens."""

FIRST = ("stylegan2", "dcgan", "simplebaseline", "blazeface", "resnest14d", "dbnet", "repvgg_a0")
"""Those that were slow once, measured before the others."""

TIMM = (
    "resnest14d", "repvgg_a0", "resnet18", "mobilenetv3_large_100", "efficientnet_b0", "regnety_008", "convnext_atto",
    "vit_tiny_patch16_224", "densenet121", "ghostnet_100", "skresnet18", "hrnet_w18_small", "mixnet_s", "levit_128s",
    "mobilevit_xs", "fastvit_t8", "poolformer_s12", "repvit_m0_9", "xcit_nano_12_p16_224", "pvt_v2_b0", "dla34",
    "efficientformerv2_s0", "edgenext_xx_small", "mambaout_femto", "res2net50_14w_8s", "gcresnet33ts",
    "mobilenetv4_conv_small", "mobileone_s0", "botnet26t_256", "lambda_resnet26t", "swin_tiny_patch4_window7_224",
    "gmlp_ti16_224", "tiny_vit_5m_224", "mobilenetv2_100", "resnext26ts", "tf_efficientnetv2_b0", "ghostnetv2_100",
    "mnasnet_100", "fbnetc_100", "lcnet_100", "rexnet_100", "repghostnet_100", "mobilevitv2_075", "efficientvit_b0",
    "efficientvit_m0", "convnextv2_atto", "ese_vovnet19b_dw", "starnet_s1", "hgnetv2_b0", "inception_next_atto",
    "cs3darknet_focus_s", "spnasnet_100", "semnasnet_100", "nf_regnet_b0", "shvit_s1", "deit_tiny_patch16_224",
    "pit_ti_224", "coat_lite_tiny", "mixer_s16_224", "resmlp_12_224", "visformer_tiny", "crossvit_tiny_240",
    "twins_svt_small", "hardcorenas_a", "selecsls42b", "dpn48b", "gernet_s", "cspresnet50", "mobilenet_edgetpu_v2_xs",
    "ghostnetv3_100", "focalnet_tiny_srf", "convit_tiny", "resnetv2_50d", "fasternet_t0", "swiftformer_xs",
    "regnetz_b16", "haloregnetz_b", "efficientnet_lite0", "regnetx_004", "tinynet_a", "seresnet18", "resnet26d",
    "mobilenetv4_hybrid_medium", "darknet17", "bat_resnext26ts", "halonet26t", "sebotnet33ts_256",
    "eva02_tiny_patch14_224", "inception_v3", "xception41", "nest_tiny", "cait_xxs24_224", "tresnet_m",
    "hiera_tiny_224",
)  # fmt: skip

FITTED = (
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "xcit_nano_12_p16_224", "pit_ti_224", "gmlp_ti16_224",
    "coat_lite_tiny", "mixer_s16_224", "resmlp_12_224", "visformer_tiny", "twins_svt_small", "convit_tiny",
    "swin_tiny_patch4_window7_224",
)  # fmt: skip
"""Those that are made for a size, and take another."""

OWN = {
    "levit_128s": 224, "crossvit_tiny_240": 240, "efficientvit_m0": 224, "tiny_vit_5m_224": 224,
    "efficientformerv2_s0": 224, "botnet26t_256": 256, "sebotnet33ts_256": 256, "eva02_tiny_patch14_224": 224,
    "nest_tiny": 224, "cait_xxs24_224": 224, "hiera_tiny_224": 224, "lambda_resnet26t": 256, "halonet26t": 256,
    "haloregnetz_b": 224, "bat_resnext26ts": 256,
}  # fmt: skip
"""Those that take no other size than theirs."""

TORCHVISION = {
    "squeezenet1_1": SIDE, "shufflenet_v2_x1_0": SIDE, "googlenet": SIDE, "lraspp_mobilenet_v3_large": SIDE,
    "deeplabv3_mobilenet_v3_large": SIDE, "s3d": 0, "mc3_18": 0,
}  # fmt: skip

_LAYERS = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 1024}
_VIT = _LAYERS | {"image_size": 160, "patch_size": 16}
_CONV = {"conv_dim": [256] * 5, "conv_stride": [5, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 2],
         "num_feat_extract_layers": 5, "vocab_size": 32}  # fmt: skip
_WAVE = ("input_values", (1, 8000))
_DETR = {"d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "num_queries": 50}  # fmt: skip

PICTURES: dict[str, tuple[str, dict[str, Any], int]] = {
    "Segformer": ("ForSemanticSegmentation", {"num_labels": 19}, SIDE),
    "Dpt": ("ForDepthEstimation", _VIT | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [32, 64, 128, 128], "fusion_hidden_size": 64}, SIDE),
    "Dinov2": ("ForImageClassification", _LAYERS | {"image_size": 154, "patch_size": 14}, 154),
    "Beit": ("ForImageClassification", _VIT | {"use_relative_position_bias": True}, SIDE),
    "Yolos": ("ForObjectDetection", _VIT | {"image_size": [160, 160], "num_detection_tokens": 20}, SIDE),
    "Swin2SR": ("ForImageSuperResolution", {"image_size": 48, "embed_dim": 60, "depths": [2, 2], "num_heads": [6, 6],
                "window_size": 8, "upscale": 2}, 48),
    "DetrResNet": ("Detr", _DETR, SIDE),
    "Cvt": ("ForImageClassification", {}, SIDE),
}  # fmt: skip

SOUNDS: dict[str, tuple[str, dict[str, Any], str, tuple[int, ...]]] = {
    "Wav2Vec2": ("ForCTC", _LAYERS | _CONV, *_WAVE),
    "WavLM": ("ForCTC", _LAYERS | _CONV, *_WAVE),
    "Data2VecAudio": ("ForCTC", _LAYERS | _CONV, *_WAVE),
    "Wav2Vec2Conformer": ("ForCTC", _LAYERS | _CONV | {"position_embeddings_type": "rotary"}, *_WAVE),
    "AST": ("ForAudioClassification", _LAYERS | {"max_length": 128, "num_mel_bins": 64}, "input_values", (1, 128, 64)),
}


def _clip() -> tuple[Any, dict[str, Any]]:
    inputs = {"input_ids": tokens(32), "pixel_values": picture(SIDE)}
    text = _LAYERS | {"vocab_size": 512, "eos_token_id": 2}
    return plain(make("CLIP", "Model", {"text_config": text, "vision_config": _VIT}), list(inputs)), inputs


def _whisper() -> tuple[Any, dict[str, Any]]:
    config = {
        "d_model": 256, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024, "vocab_size": 512,
        "num_mel_bins": 80, "max_source_positions": 150, "max_target_positions": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }  # fmt: skip
    inputs = {"input_features": noise(1, 80, 300), "decoder_input_ids": tokens(16)}
    return plain(make("Whisper", "ForConditionalGeneration", config), list(inputs), use_cache=False), inputs


MORE: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {"CLIP": _clip, "Whisper": _whisper}


@cache
def catalogue() -> dict[str, Architecture]:
    """All of them by name: those that were slow first, then a kind after another in turn."""
    from architectures import detectors, generators, sounds

    written = [*generators.architectures(), *detectors.architectures(), *sounds.architectures()]
    kinds = [written, [*_pictures()], [*_transformers()], [*language.architectures(WIDER)]]
    found = {a.name: a for kind in kinds for a in kind}
    order = {a.name: (a.name not in FIRST, k / len(kind)) for kind in kinds for k, a in enumerate(kind)}
    return {name: found[name] for name in sorted(found, key=order.__getitem__)}


def _pictures() -> Iterator[Architecture]:
    for name in TIMM:
        size = OWN.get(name, SIDE)
        fitted = {"img_size": size} if name in FITTED else {}
        yield Architecture(name, "timm", pictures.timm_model(name, {"size": size, **fitted}))
    for name, size in TORCHVISION.items():
        yield Architecture(name, "torchvision", pictures.torchvision_model(name, size))


def _transformers() -> Iterator[Architecture]:
    for name, (suffix, config, size) in PICTURES.items():
        yield Architecture(name, "transformers", perception.picture_model(name, suffix, config, size))
    for name, (suffix, config, given, shape) in SOUNDS.items():
        yield Architecture(name, "transformers", perception.sound_model(name, suffix, config, given, shape))
    for name, maker in MORE.items():
        yield Architecture(name, "transformers", maker)
