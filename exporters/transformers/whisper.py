"""Whisper's folders → one ONNX graph of encoder and decoder, as `dlpack.meaning.generation` describes models of speech.

The graph is written here, node by node, since exporters make two or three graphs of the model, whose decoders count
positions from the length of the past. It needs neither PyTorch nor transformers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, ExportOptions, parse_json, read_text, set_metadata
from dlpack.exporters.builder import Array
from dlpack.exporters.pytorch.weights import read_safetensors
from dlpack.exporters.transformers.optimum import DECODERS, ENCODER, check_exported, exported_files, read_exported
from dlpack.meaning.sound import METADATA_KEY as SOUND
from dlpack.meaning.speech import METADATA_KEY as SPEECH
from dlpack.meaning.speech import NONE

OPSET = 17
_MOST_LAYERS = 256
_MAX_BYTES = 2**31 - (1 << 20)


def is_whisper(folder: Path) -> bool:
    """Whether the folder's config.json is that of a Whisper."""
    return _settings(folder, "config.json").get("model_type") == "whisper"


def export_whisper(folder: Path, options: ExportOptions) -> Exported:
    """The folder's model. Raises UnsupportedError for what this is not written for, ModelError for damaged files."""
    if options.shapes:
        raise UsageError("the sizes of a Whisper are those of its files: remove --shape")
    sound = _settings(folder, "preprocessor_config.json")
    sizes = _Sizes(_settings(folder, "config.json"), sound)
    files = _weight_files(folder)
    if files[0].suffix == ".onnx":
        tensors, given = read_exported(files[0], files[1])
        graph = _Whisper(sizes, tensors, f"{files[0].name} and {files[1].name}")
        model = graph.model()
        check_exported(model, given)
    else:
        tensors = {}
        for file in files:
            tensors |= read_safetensors(file)
        graph = _Whisper(sizes, tensors, "")
        model = graph.model()
    speech, said = _speech(folder, graph.sizes)
    set_metadata(model, SOUND, json.dumps(_sound(sound, graph.sizes)))
    set_metadata(model, SPEECH, json.dumps(speech))
    return Exported(model, params=files[0], warnings=said)


def _weight_files(folder: Path) -> list[Path]:
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files and not (files := list(exported_files(folder) or ())):
        raise UsageError(
            f"{folder} has no model.safetensors: save it again with model.save_pretrained(FOLDER); optimum's files "
            f"would be {ENCODER} and {' or '.join(DECODERS)}"
        )
    return files


def _settings(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file's object, {} where there is none."""
    path = folder / name
    found = parse_json(read_text(path), name) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


class _Sizes:
    """The numbers of config.json, checked."""

    def __init__(self, config: Mapping[str, Any], sound: Mapping[str, Any]) -> None:
        def number(key: str) -> int:
            value = config.get(key)
            if type(value) is not int or not 1 <= value <= 1 << 24:
                raise ModelError(f"config.json: {key} {value!r} is not a number that is possible")
            return value

        self.width, self.mels, self.vocabulary = number("d_model"), number("num_mel_bins"), number("vocab_size")
        self.heard, self.context = number("max_source_positions"), number("max_target_positions")
        self.encoder = number("encoder_layers"), number("encoder_attention_heads")
        self.decoder = number("decoder_layers"), number("decoder_attention_heads")
        if any(layers > _MOST_LAYERS or self.width % heads for layers, heads in (self.encoder, self.decoder)):
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


class _Whisper:
    """The graph in the making; values are named by strings."""

    def __init__(self, sizes: _Sizes, tensors: Mapping[str, Array], exported: str) -> None:
        """`exported`: the files of an ONNX export that the tensors are of, if they are."""
        self.sizes, self.tensors, self.exported = sizes, tensors, exported
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.bytes = 0

    def add(self, op: str, *inputs: str, name: str = "", **attrs: Any) -> str:
        """A node's output."""
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.weights)}"
        if name not in self.weights:
            array = np.ascontiguousarray(value)
            self.bytes += array.nbytes
            if self.bytes > _MAX_BYTES:
                raise UnsupportedError("the model has more than the 2 GiB that an ONNX graph can hold, as float32")
            self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, *shape: int, turned: bool = False) -> str:
        """A tensor of the file; `turned`: of a linear layer, to be multiplied from the right."""
        full = f"model.{name}"
        tensor = self.tensors.get(full)
        if tensor is None or tensor.shape != shape:
            got = "is not there" if tensor is None else f"has the shape {list(tensor.shape)}"
            told = f"in {self.exported}, which may be optimised or quantised after the export" if self.exported else ""
            raise ModelError(f"the weight {full} {got}; config.json says {list(shape)}{told and f' ({told})'}")
        value = tensor.astype(np.float32)
        return self.constant(value.T if turned else value, f"{full}.T" if turned else full)

    def linear(self, x: str, layer: str, inputs: int, outputs: int, bias: bool = True) -> str:
        x = self.add("MatMul", x, self.weight(f"{layer}.weight", outputs, inputs, turned=True))
        return self.add("Add", x, self.weight(f"{layer}.bias", outputs)) if bias else x

    def norm(self, x: str, layer: str) -> str:
        scale, bias = (self.weight(f"{layer}.{kind}", self.sizes.width) for kind in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def gelu(self, x: str) -> str:
        share = self.add("Erf", self.add("Mul", x, self.constant(np.float32(math.sqrt(0.5)), "root_half")))
        share = self.add("Add", share, self.constant(np.float32(1), "one"))
        return self.add("Mul", self.add("Mul", x, share), self.constant(np.float32(0.5), "half"))

    def split(self, x: str, heads: int, name: str = "") -> str:
        """[1, rows, width] → [1, heads, rows, size]."""
        shape = self.constant(np.array([0, 0, heads, self.sizes.width // heads]), f"split_{heads}")
        return self.add("Transpose", self.add("Reshape", x, shape), name=name, perm=[0, 2, 1, 3])

    def attend(self, x: str, layer: str, heads: int, keys: str, values: str, bias: str = "") -> str:
        """What the rows of `x` find in keys and values [1, heads, rows, size]; `bias` is added to the scores."""
        width = self.sizes.width
        q = self.linear(x, f"{layer}.q_proj", width, width)
        q = self.split(self.add("Mul", q, self.constant(np.float32((width // heads) ** -0.5), f"scale_{heads}")), heads)
        scores = self.add("MatMul", q, self.add("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = self.add("Add", scores, bias) if bias else scores
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), values)
        mixed = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self.add("Reshape", mixed, self.constant(np.array([0, 0, width]), "joined"))
        return self.linear(mixed, f"{layer}.out_proj", width, width)

    def keys_and_values(self, x: str, layer: str, heads: int, names: tuple[str, str] = ("", "")) -> tuple[str, str]:
        width = self.sizes.width
        keys = self.linear(x, f"{layer}.k_proj", width, width, bias=False)
        values = self.linear(x, f"{layer}.v_proj", width, width)
        return self.split(keys, heads, names[0]), self.split(values, heads, names[1])

    def hidden(self, x: str, layer: str) -> str:
        """The two linear layers behind an attention, and what they are added to."""
        first = self.tensors.get(f"model.{layer}.fc1.bias", np.zeros(1)).size
        h = self.norm(x, f"{layer}.final_layer_norm")
        h = self.gelu(self.linear(h, f"{layer}.fc1", self.sizes.width, first))
        return self.add("Add", x, self.linear(h, f"{layer}.fc2", first, self.sizes.width))

    def encoded(self) -> str:
        s, (layers, heads) = self.sizes, self.sizes.encoder
        x = "input_features"
        for k, (inputs, stride) in enumerate(((s.mels, 1), (s.width, 2)), 1):
            kernel = self.weight(f"encoder.conv{k}.weight", s.width, inputs, 3)
            bias = self.weight(f"encoder.conv{k}.bias", s.width)
            x = self.gelu(self.add("Conv", x, kernel, bias, pads=[1, 1], strides=[stride], kernel_shape=[3]))
        x = self.add("Transpose", x, perm=[0, 2, 1])
        x = self.add("Add", x, self.weight("encoder.embed_positions.weight", s.heard, s.width))
        for k in range(layers):
            layer = f"encoder.layers.{k}"
            h = self.norm(x, f"{layer}.self_attn_layer_norm")
            found = self.keys_and_values(h, f"{layer}.self_attn", heads)
            x = self.hidden(self.add("Add", x, self.attend(h, f"{layer}.self_attn", heads, *found)), layer)
        return self.norm(x, "encoder.layer_norm")

    def seen(self) -> str:
        """What is added to the scores of tokens for those that they do not see: slots without one, later ones."""
        at = {axis: self.constant(np.array([axis]), f"axis_{axis}") for axis in (0, 1, 2)}
        number = self.constant(np.array([], np.int64), "number")
        past = self.add("Gather", self.add("Shape", "past_key_values.0.key"), at[2], axis=0)
        total = self.add("Add", past, self.add("Gather", self.add("Shape", "input_ids"), at[1], axis=0))
        ends = [self.add("Reshape", x, number) for x in (past, total)]
        step = self.constant(np.int64(1), "step")
        slots = self.add("Range", self.constant(np.int64(0), "zero"), ends[1], step)
        rows = self.add("Unsqueeze", self.add("Range", *ends, step), at[1])
        there = self.add("Cast", "attention_mask", to=TensorProto.BOOL)
        there = self.add("Unsqueeze", there, self.constant(np.array([1, 2]), "axes_1_2"))
        seen = self.add("And", self.add("LessOrEqual", slots, rows), there)
        return self.add("Where", seen, self.constant(np.float32(0), "seen"), self.constant(np.float32(-3e38), "unseen"))

    def decoded(self, heard: str) -> str:
        s, (layers, heads) = self.sizes, self.sizes.decoder
        table = self.weight("decoder.embed_tokens.weight", s.vocabulary, s.width)
        x = self.add("Gather", table, "input_ids", axis=0)
        if s.embedded != 1:
            x = self.add("Mul", x, self.constant(np.float32(s.embedded), "embedded"))
        positions = self.weight("decoder.embed_positions.weight", s.context, s.width)
        x = self.add("Add", x, self.add("Gather", positions, "position_ids", axis=0))
        bias = self.seen()
        for k in range(layers):
            layer, cross = f"decoder.layers.{k}", (f"cross_key_values.{k}.key", f"cross_key_values.{k}.value")
            h = self.norm(x, f"{layer}.self_attn_layer_norm")
            new = self.keys_and_values(h, f"{layer}.self_attn", heads)
            present = [
                self.add("Concat", f"past_key_values.{k}.{kind}", rows, name=f"present.{k}.{kind}", axis=2)
                for kind, rows in zip(("key", "value"), new, strict=True)
            ]
            x = self.add("Add", x, self.attend(h, f"{layer}.self_attn", heads, present[0], present[1], bias))
            h = self.norm(x, f"{layer}.encoder_attn_layer_norm")
            self.keys_and_values(heard, f"{layer}.encoder_attn", heads, cross)
            x = self.hidden(self.add("Add", x, self.attend(h, f"{layer}.encoder_attn", heads, *cross)), layer)
        x = self.norm(x, "decoder.layer_norm")
        last = self.tensors.get("proj_out.weight", self.tensors["model.decoder.embed_tokens.weight"])
        if last.shape != (s.vocabulary, s.width):
            raise ModelError(f"the weight proj_out.weight has the shape {list(last.shape)}")
        return self.add("MatMul", x, self.constant(last.astype(np.float32).T, "proj_out.T"), name="logits")

    def model(self) -> ModelProto:
        s, (layers, heads) = self.sizes, self.sizes.decoder
        self.decoded(self.encoded())
        info, size = helper.make_tensor_value_info, s.width // heads
        parts = [f"{k}.{kind}" for k in range(layers) for kind in ("key", "value")]
        whole: dict[str, list[str | int | None]] = {
            "input_ids": [1, "rows"], "attention_mask": [1, "total"], "position_ids": [1, "rows"],
        }  # fmt: skip
        graph = helper.make_graph(
            self.nodes,
            "whisper",
            [
                info("input_features", TensorProto.FLOAT, [1, s.mels, 2 * s.heard]),
                *(info(name, TensorProto.INT64, shape) for name, shape in whole.items()),
                *(info(f"past_key_values.{p}", TensorProto.FLOAT, [1, heads, "past", size]) for p in parts),
            ],
            [
                info("logits", TensorProto.FLOAT, [1, "rows", s.vocabulary]),
                *(info(f"present.{p}", TensorProto.FLOAT, [1, heads, "total", size]) for p in parts),
                *(info(f"cross_key_values.{p}", TensorProto.FLOAT, [1, heads, s.heard, size]) for p in parts),
            ],
            list(self.weights.values()),
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="dlpack"
        )


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
    generation, config = _settings(folder, "generation_config.json"), _settings(folder, "config.json")
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
