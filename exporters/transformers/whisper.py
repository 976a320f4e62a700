"""Whisper's folders → one ONNX graph of encoder and decoder, as `dlpack.meaning.generation` describes models of speech.

The graph's layers are in `encoder_decoder.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, ExportOptions, set_metadata
from dlpack.exporters.builder import Array
from dlpack.exporters.transformers.encoder_decoder import (
    MOST_LAYERS,
    Layers,
    made_of,
    number_of,
    settings,
    weight_files,
)
from dlpack.meaning.sound import METADATA_KEY as SOUND
from dlpack.meaning.speech import METADATA_KEY as SPEECH
from dlpack.meaning.speech import NONE


def is_whisper(folder: Path) -> bool:
    """Whether the folder's config.json is that of a Whisper."""
    return settings(folder, "config.json").get("model_type") == "whisper"


def export_whisper(folder: Path, options: ExportOptions) -> Exported:
    """The folder's model. Raises UnsupportedError for what this is not written for, ModelError for damaged files."""
    if options.shapes:
        raise UsageError("the sizes of a Whisper are those of its files: remove --shape")
    sound = settings(folder, "preprocessor_config.json")
    sizes = _Sizes(settings(folder, "config.json"), sound)
    files = weight_files(folder)
    graph, model = made_of(files, lambda tensors, exported: _Whisper(sizes, tensors, exported))
    speech, said = _speech(folder, graph.sizes)
    set_metadata(model, SOUND, json.dumps(_sound(sound, graph.sizes)))
    set_metadata(model, SPEECH, json.dumps(speech))
    return Exported(model, params=files[0], warnings=said)


class _Sizes:
    """The numbers of config.json, checked."""

    def __init__(self, config: Mapping[str, Any], sound: Mapping[str, Any]) -> None:
        def number(key: str) -> int:
            return number_of(config, key)

        self.width, self.mels, self.vocabulary = number("d_model"), number("num_mel_bins"), number("vocab_size")
        self.heard, self.context = number("max_source_positions"), number("max_target_positions")
        self.encoder = number("encoder_layers"), number("encoder_attention_heads")
        self.decoder = number("decoder_layers"), number("decoder_attention_heads")
        if any(layers > MOST_LAYERS or self.width % heads for layers, heads in (self.encoder, self.decoder)):
            raise ModelError("config.json: the numbers of layers and heads do not fit d_model")
        if config.get("activation_function", "gelu") != "gelu":
            raise UnsupportedError(f"the activation {config['activation_function']!r}; Whisper has 'gelu'")
        self.embedded = math.sqrt(self.width) if config.get("scale_embedding") else 1.0
        usual = {"hop_length": 160, "sampling_rate": 16000, "chunk_length": self.heard * 2 * 160 / 16000}
        hop, rate, chunk = (sound.get(key, value) for key, value in usual.items())
        if not all(isinstance(n, int | float) for n in (hop, rate, chunk)):
            raise ModelError(f"preprocessor_config.json: {', '.join(usual)} are not all numbers")
        self.hop = int(hop)
        if chunk * rate != 2 * self.heard * hop:
            raise ModelError(
                f"preprocessor_config.json and config.json differ: {chunk} seconds are not {2 * self.heard} frames"
            )


class _Whisper(Layers):
    """The graph in the making."""

    def __init__(self, sizes: _Sizes, tensors: Mapping[str, Array], exported: str) -> None:
        super().__init__(sizes.width, "gelu", True, tensors, exported)
        self.sizes = sizes

    def encoded(self) -> str:
        s, (layers, heads) = self.sizes, self.sizes.encoder
        x = "input_features"
        for k, (inputs, stride) in enumerate(((s.mels, 1), (s.width, 2)), 1):
            kernel = self.weight(f"encoder.conv{k}.weight", s.width, inputs, 3)
            bias = self.weight(f"encoder.conv{k}.bias", s.width)
            x = self.add("Conv", x, kernel, bias, pads=[1, 1], strides=[stride], kernel_shape=[3])
            x = self.activation(x, self.act)
        x = self.add("Transpose", x, perm=[0, 2, 1])
        x = self.add("Add", x, self.weight("encoder.embed_positions.weight", s.heard, s.width))
        for k in range(layers):
            x = self.encoder_layer(x, f"encoder.layers.{k}", heads)
        return self.norm(x, "encoder.layer_norm")

    def decoded(self, heard: str) -> str:
        s, (layers, heads) = self.sizes, self.sizes.decoder
        table = self.weight("decoder.embed_tokens.weight", s.vocabulary, s.width)
        x = self.scaled(self.add("Gather", table, "input_ids", axis=0), s.embedded, "embedded")
        positions = self.weight("decoder.embed_positions.weight", s.context, s.width)
        x = self.add("Add", x, self.add("Gather", positions, "position_ids", axis=0))
        bias = self.seen()
        for k in range(layers):
            x = self.decoder_layer(x, k, heads, heard, bias)
        x = self.norm(x, "decoder.layer_norm")
        last = self.tensors.get("proj_out.weight", self.tensors["model.decoder.embed_tokens.weight"])
        if last.shape != (s.vocabulary, s.width):
            raise ModelError(f"the weight proj_out.weight has the shape {list(last.shape)}")
        return self.add("MatMul", x, self.matrix("proj_out", last, turned=True), name="logits")

    def model(self) -> ModelProto:
        s, (layers, heads) = self.sizes, self.sizes.decoder
        self.decoded(self.encoded())
        features = helper.make_tensor_value_info("input_features", TensorProto.FLOAT, [1, s.mels, 2 * s.heard])
        return self.whole("whisper", [features], layers, heads, s.width // heads, s.vocabulary, s.heard)


def _sound(said: Mapping[str, Any], sizes: _Sizes) -> dict[str, Any]:
    """How samples become features: the description of `dlpack.meaning.sound`."""
    known = {"rate": ("sampling_rate", 16000), "window": ("n_fft", 400), "hop": ("hop_length", 160)}
    told = {key: said.get(name, usual) for key, (name, usual) in known.items()}
    return {"input": "input_features", "mels": sizes.mels, "layout": "mels x frames", **told}


def _times(told: Mapping[str, Any], sizes: _Sizes) -> dict[str, int]:
    """The tokens that are times, which follow the one that says that there are none."""
    quiet, latest = told.get("no_timestamps_token_id"), told.get("max_initial_timestamp_index")
    if type(quiet) is not int or not 0 <= quiet < sizes.vocabulary - 1:
        return {}
    return {"times": quiet + 1, "step": 2 * sizes.hop, "latest_first": latest if type(latest) is int else NONE}


def _speech(folder: Path, sizes: _Sizes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The tokens around a text, and what to warn of."""
    generation, config = settings(folder, "generation_config.json"), settings(folder, "config.json")
    told = {**config, **{k: v for k, v in generation.items() if v is not None}}
    languages, tasks = told.get("lang_to_id") or {}, told.get("task_to_id") or {}
    if not isinstance(languages, dict) or not isinstance(tasks, dict):
        raise ModelError("generation_config.json: lang_to_id and task_to_id are no objects")
    ends = told.get("eos_token_id")
    speech = {
        "start": told.get("decoder_start_token_id", NONE),
        "languages": {code.strip("<|>"): token for code, token in languages.items()},
        "transcribe": tasks.get("transcribe", NONE),
        "translate": tasks.get("translate", NONE) if languages else NONE,
        "quiet": told.get("no_timestamps_token_id", NONE),
        "suppressed": told.get("suppress_tokens") or [],
        "suppressed_first": told.get("begin_suppress_tokens") or [],
        "ends": ends if isinstance(ends, list) else [NONE if ends is None else ends],
        "context": sizes.context,
        **_times(told, sizes),
    }
    missing = told.get("is_multilingual", True) and not languages
    said = ("generation_config.json names no languages: texts begin without the token of one",) if missing else ()
    return speech, said
