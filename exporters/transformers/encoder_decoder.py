"""Encoders and decoders as one ONNX graph, written node by node from a checkpoint's tensors.

`dlpack.meaning.generation` describes the graph. Exporters make two or three graphs of such models, whose decoders count
positions from the length of the past; here slots of the past may be empty. Neither PyTorch nor transformers is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import parse_json, read_text
from dlpack.exporters.builder import Array
from dlpack.exporters.pytorch.weights import read_safetensors
from dlpack.exporters.transformers.optimum import DECODERS, ENCODER, check_exported, exported_files, read_exported

OPSET = 17
MOST_LAYERS = 256
_ERF, _TANH, _RELU, _SILU = "erf", "tanh", "relu", "silu"
_ACTIVATIONS = {"gelu": _ERF, "gelu_new": _TANH, "gelu_pytorch_tanh": _TANH, "relu": _RELU, "silu": _SILU,
                "swish": _SILU}  # fmt: skip
UNSEEN = -3e38
"""What is added to the score of a token that is not seen."""


def settings(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file's object, {} where there is none."""
    path = folder / name
    found = parse_json(read_text(path), name) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder, or optimum's encoder and decoder. Raises UsageError where there are neither."""
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files and not (files := list(exported_files(folder) or ())):
        raise UsageError(
            f"{folder} has no model.safetensors: save it again with model.save_pretrained(FOLDER); optimum's files "
            f"would be {ENCODER} and {' or '.join(DECODERS)}"
        )
    return files


def read_tensors(files: Sequence[Path]) -> dict[str, Array]:
    """The tensors of safetensors by name."""
    tensors: dict[str, Array] = {}
    for file in files:
        tensors |= read_safetensors(file)
    return tensors


class Network(Protocol):
    """What a folder's numbers and tensors make."""

    def model(self) -> ModelProto: ...


Made = TypeVar("Made", bound=Network)


def made_of(files: Sequence[Path], make: Callable[[Mapping[str, Array], str], Made]) -> tuple[Made, ModelProto]:
    """What `make` makes of the tensors in these files of `weight_files`, and its model; of optimum's files, whose names
    it is given, the model is compared with them. Raises ModelError for damaged files, or where it differs."""
    if files[0].suffix != ".onnx":
        made = make(read_tensors(files), "")
        return made, made.model()
    tensors, given = read_exported(files[0], files[1])
    made = make(tensors, f"{files[0].name} and {files[1].name}")
    model = made.model()
    check_exported(model, given)
    return made, model


def number_of(config: Mapping[str, Any], key: str, *others: str) -> int:
    """A number of config.json, under one of these names. Raises ModelError for one that cannot be."""
    value = next((config[k] for k in (key, *others) if config.get(k) is not None), None)
    if type(value) is not int or not 1 <= value <= 1 << 24:
        raise ModelError(f"config.json: {key} {value!r} is not a number that is possible")
    return value


def texts_read() -> list[Any]:
    """The inputs of an encoder of text."""
    info = helper.make_tensor_value_info
    return [info(f"encoder_{name}", TensorProto.INT64, [1, "source"]) for name in ("input_ids", "attention_mask")]


class EncoderDecoder:
    """The graph in the making; values are named by strings."""

    def __init__(self, width: int, tensors: Mapping[str, Array], exported: str) -> None:
        """`exported`: the files of an ONNX export that the tensors are of, "" if they are a checkpoint's."""
        self.width, self.tensors, self.exported = width, tensors, exported
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def add(self, op: str, *inputs: str, name: str = "", **attrs: Any) -> str:
        """A node's output."""
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.weights)}"
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def tensor(self, name: str) -> Array | None:
        """A tensor of the file; most checkpoints have "model." before its name."""
        return self.tensors.get(f"model.{name}", self.tensors.get(name))

    def checked(self, name: str, *shape: int) -> Array:
        """A tensor of the file. Raises ModelError where it is not there, or has another shape."""
        tensor = self.tensor(name)
        if tensor is None or tensor.shape != shape:
            got = "is not there" if tensor is None else f"has the shape {list(tensor.shape)}"
            told = f"in {self.exported}, which may be optimised or quantised after the export" if self.exported else ""
            raise ModelError(f"the weight {name} {got}; config.json says {list(shape)}{told and f' ({told})'}")
        return tensor

    def weight(self, name: str, *shape: int, turned: bool = False) -> str:
        """A tensor of the file; `turned`: of a linear layer, to be multiplied from the right."""
        return self.matrix(name, self.checked(name, *shape), turned)

    def matrix(self, name: str, tensor: Array, turned: bool = False) -> str:
        value = tensor.astype(np.float32)
        return self.constant(value.T if turned else value, f"{name}.T" if turned else name)

    def embedding(self, side: str, vocabulary: int, width: int) -> str:
        """The table of the tokens of a side, which both may share."""
        return self.weight(self.embedding_of(side), vocabulary, width)

    def embedding_of(self, side: str) -> str:
        own = f"{side}.embed_tokens.weight"
        return own if self.tensor(own) is not None else "shared.weight"

    def head(self, vocabulary: int) -> Array:
        """The rows that scores are products with: the decoder's table, unless there are others."""
        own = self.tensor("lm_head.weight") is not None
        return self.checked("lm_head.weight" if own else self.embedding_of("decoder"), vocabulary, self.width)

    def rows(self, name: str) -> int:
        """How many rows a tensor of the file has; 0 where it is not there."""
        tensor = self.tensor(name)
        return 0 if tensor is None or not tensor.ndim else tensor.shape[0]

    # --- layers

    def linear(self, x: str, layer: str, inputs: int, outputs: int, bias: bool = True) -> str:
        x = self.add("MatMul", x, self.weight(f"{layer}.weight", outputs, inputs, turned=True))
        return self.add("Add", x, self.weight(f"{layer}.bias", outputs)) if bias else x

    def norm(self, x: str, layer: str) -> str:
        scale, bias = (self.weight(f"{layer}.{kind}", self.width) for kind in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def scaled(self, x: str, factor: float, name: str) -> str:
        return x if factor == 1 else self.add("Mul", x, self.constant(np.float32(factor), name))

    def activation(self, x: str, kind: str) -> str:
        """Raises UnsupportedError for another than GELU, ReLU and SiLU."""
        if kind not in _ACTIVATIONS:
            raise UnsupportedError(f"the activation {kind!r}; {', '.join(_ACTIVATIONS)} are known")
        form = _ACTIVATIONS[kind]
        if form == _RELU:
            return self.add("Relu", x)
        if form == _SILU:
            return self.add("Mul", x, self.add("Sigmoid", x))
        if form == _ERF:
            share = self.add("Erf", self.add("Mul", x, self.constant(np.float32(math.sqrt(0.5)), "root_half")))
        else:
            cube = self.add("Mul", self.add("Mul", x, x), x)
            inner = self.add("Add", x, self.add("Mul", cube, self.constant(np.float32(0.044715), "cubic")))
            share = self.add("Tanh", self.add("Mul", inner, self.constant(np.float32(math.sqrt(2 / math.pi)), "root")))
        share = self.add("Add", share, self.constant(np.float32(1), "one"))
        return self.add("Mul", self.add("Mul", x, share), self.constant(np.float32(0.5), "half"))

    def split(self, x: str, heads: int, size: int, name: str = "") -> str:
        """[1, rows, heads * size] → [1, heads, rows, size]."""
        shape = self.constant(np.array([0, 0, heads, size]), f"split_{heads}")
        return self.add("Transpose", self.add("Reshape", x, shape), name=name, perm=[0, 2, 1, 3])

    def mixed(self, q: str, keys: str, values: str, width: int, bias: str = "") -> str:
        """What queries find in keys and values, all [1, heads, rows, size], as [1, rows, width]; `bias` is added to the
        scores."""
        scores = self.add("MatMul", q, self.add("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = self.add("Add", scores, bias) if bias else scores
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), values)
        mixed = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.add("Reshape", mixed, self.constant(np.array([0, 0, width]), "joined"))

    # --- which tokens see which

    def axis(self, k: int) -> str:
        return self.constant(np.array([k]), f"axis_{k}")

    def count(self, x: str, axis: int) -> str:
        """The extent of a dimension, a scalar."""
        found = self.add("Gather", self.add("Shape", x), self.axis(axis), axis=0)
        return self.add("Reshape", found, self.constant(np.array([], np.int64), "number"))

    def numbered(self, begin: str, end: str) -> str:
        return self.add("Range", begin, end, self.constant(np.int64(1), "step"))

    def slots(self) -> tuple[str, str]:
        """The slots before the new rows, and all: scalars."""
        past = self.count("past_key_values.0.key", 2)
        return past, self.add("Add", past, self.count("input_ids", 1))

    def allowed(self, seen: str) -> str:
        """What is added to scores: nothing where `seen`, else so little that it is not."""
        return self.add(
            "Where", seen, self.constant(np.float32(0), "seen"), self.constant(np.float32(UNSEEN), "unseen")
        )

    def there(self, mask: str) -> str:
        """A mask [1, n] as bools [1, 1, 1, n]."""
        there = self.add("Cast", mask, to=TensorProto.BOOL)
        return self.add("Unsqueeze", there, self.constant(np.array([1, 2]), "axes_1_2"))

    def seen(self) -> str:
        """What is added to the scores of tokens for those that they do not see: slots without one, later ones."""
        past, total = self.slots()
        zero = self.constant(np.int64(0), "zero")
        rows = self.add("Unsqueeze", self.numbered(past, total), self.axis(1))
        earlier = self.add("LessOrEqual", self.numbered(zero, total), rows)
        return self.allowed(self.add("And", earlier, self.there("attention_mask")))

    def present(self, k: int, new: Sequence[str]) -> list[str]:
        """Keys and values of layer `k` with those of the new rows."""
        return [
            self.add("Concat", f"past_key_values.{k}.{kind}", rows, name=f"present.{k}.{kind}", axis=2)
            for kind, rows in zip(("key", "value"), new, strict=True)
        ]

    # --- the whole

    def whole(self, name: str, given: Sequence[Any], layers: int, heads: int, size: int, vocabulary: int,
              heard: str | int) -> ModelProto:  # fmt: skip
        """The model: `given` are the encoder's inputs, `heard` how many rows it gives."""
        info = helper.make_tensor_value_info
        parts = [f"{k}.{kind}" for k in range(layers) for kind in ("key", "value")]
        tokens: dict[str, list[str | int | None]] = {
            "input_ids": [1, "rows"], "attention_mask": [1, "total"], "position_ids": [1, "rows"],
        }  # fmt: skip
        graph = helper.make_graph(
            self.nodes,
            name,
            [
                *given,
                *(info(n, TensorProto.INT64, shape) for n, shape in tokens.items()),
                *(info(f"past_key_values.{p}", TensorProto.FLOAT, [1, heads, "past", size]) for p in parts),
            ],
            [
                info("logits", TensorProto.FLOAT, [1, "rows", vocabulary]),
                *(info(f"present.{p}", TensorProto.FLOAT, [1, heads, "total", size]) for p in parts),
                *(info(f"cross_key_values.{p}", TensorProto.FLOAT, [1, heads, heard, size]) for p in parts),
            ],
            list(self.weights.values()),
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="dlpack"
        )


class Layers(EncoderDecoder):
    """Layers as BART has them, and Whisper after it: q_proj, k_proj, v_proj, out_proj, fc1, fc2.

    `first`: norms stand before attentions and linear layers, not behind what these are added to.
    """

    def __init__(self, width: int, activation: str, first: bool, tensors: Mapping[str, Array], exported: str) -> None:
        super().__init__(width, tensors, exported)
        self.act, self.first = activation, first

    def attend(self, x: str, layer: str, heads: int, keys: str, values: str, bias: str = "") -> str:
        """What the rows of `x` find in keys and values [1, heads, rows, size]; `bias` is added to the scores."""
        width, size = self.width, self.width // heads
        q = self.scaled(self.linear(x, f"{layer}.q_proj", width, width), size**-0.5, f"scale_{heads}")
        mixed = self.mixed(self.split(q, heads, size), keys, values, width, bias)
        return self.linear(mixed, f"{layer}.out_proj", width, width)

    def keys_and_values(self, x: str, layer: str, heads: int, names: tuple[str, str] = ("", "")) -> tuple[str, str]:
        width, size = self.width, self.width // heads
        biased = self.tensor(f"{layer}.k_proj.bias") is not None  # Whisper has none
        keys = self.linear(x, f"{layer}.k_proj", width, width, biased)
        values = self.linear(x, f"{layer}.v_proj", width, width)
        return self.split(keys, heads, size, names[0]), self.split(values, heads, size, names[1])

    def before(self, x: str, norm: str) -> str:
        return self.norm(x, norm) if self.first else x

    def after(self, x: str, change: str, norm: str) -> str:
        x = self.add("Add", x, change)
        return x if self.first else self.norm(x, norm)

    def hidden(self, x: str, layer: str) -> str:
        """The two linear layers behind an attention, and what they are added to."""
        inner, norm = max(self.rows(f"{layer}.fc1.bias"), 1), f"{layer}.final_layer_norm"
        h = self.activation(self.linear(self.before(x, norm), f"{layer}.fc1", self.width, inner), self.act)
        return self.after(x, self.linear(h, f"{layer}.fc2", inner, self.width), norm)

    def encoder_layer(self, x: str, layer: str, heads: int, bias: str = "") -> str:
        attention, norm = f"{layer}.self_attn", f"{layer}.self_attn_layer_norm"
        h = self.before(x, norm)
        found = self.keys_and_values(h, attention, heads)
        return self.hidden(self.after(x, self.attend(h, attention, heads, *found, bias), norm), layer)

    def decoder_layer(self, x: str, k: int, heads: int, heard: str, bias: str, heard_bias: str = "") -> str:
        layer, cross = f"decoder.layers.{k}", (f"cross_key_values.{k}.key", f"cross_key_values.{k}.value")
        attention, norm = f"{layer}.self_attn", f"{layer}.self_attn_layer_norm"
        h = self.before(x, norm)
        present = self.present(k, self.keys_and_values(h, attention, heads))
        x = self.after(x, self.attend(h, attention, heads, present[0], present[1], bias), norm)
        attention, norm = f"{layer}.encoder_attn", f"{layer}.encoder_attn_layer_norm"
        self.keys_and_values(heard, attention, heads, cross)
        x = self.after(x, self.attend(self.before(x, norm), attention, heads, *cross, heard_bias), norm)
        return self.hidden(x, layer)
