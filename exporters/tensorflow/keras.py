"""Keras models, `.keras` and `.h5`: loaded in safe mode, traced with static shapes, variables made constants.

Keras traces a recurrent layer as a loop over TensorFlow's tensor lists. LSTM, GRU and SimpleRNN are traced here as one
operator each, which becomes ONNX's; other recurrent layers, and those with a mask, are unrolled.
"""

from __future__ import annotations

import contextlib
import signal
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import MAX_TEXT_BYTES, parse_json
from dlpack.exporters.tensorflow import lookup
from dlpack.exporters.tensorflow.frozen import Frozen, OpenShapes, check_shapes, fixed_shape

MAX_UNROLLED = 256
READ_S, READ_BYTES_PER_S = 8.0, 100_000
"""The CPU time that reading a Keras file may take: seconds, and bytes for each second more."""
_ACTIVATIONS = {"tanh": ("Tanh", 0.0, 0.0), "sigmoid": ("Sigmoid", 0.0, 0.0), "relu": ("Relu", 0.0, 0.0),
                "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5), "linear": ("Affine", 1.0, 0.0)}  # fmt: skip


def read_keras(path: Path, start: bytes, shapes: Mapping[str, tuple[int, ...]]) -> Frozen:
    """The model as a frozen graph. Raises UnsupportedError for a file that holds code."""
    with limited_time(path):
        config = read_config(path, start)
        check_config(config)
        lookup.check(objects(config))
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        with limited_time(path):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as e:  # Keras raises anything
        raise ModelError(f"Keras {keras.__version__} cannot load it: {_reason(e)}") from e
    if not getattr(model, "inputs", None):
        raise UsageError(
            "the file does not say what the model's inputs are; call the model once on data before it is saved, or "
            "save it with model.export('folder') and give that folder"
        )
    _use(model)
    found = OpenShapes()
    names = _distinct([t.name for t in model.inputs])
    fixed = [fixed_shape(n, list(t.shape), shapes, found) for n, t in zip(names, model.inputs, strict=True)]
    check_shapes(names, shapes, found)
    specs = [tf.TensorSpec(s, t.dtype, name=f"in{k}") for k, (s, t) in enumerate(zip(fixed, model.inputs, strict=True))]
    layers: list[Recurrence] = []

    def call(*values: Any) -> list[Any]:
        given = (
            keras.tree.pack_sequence_as(model._inputs_struct, values)
            if getattr(model, "_inputs_struct", None) is not None
            else values[0]
        )
        return [tf.identity(y) for y in keras.tree.flatten(model(given, training=False))]

    def compute(arrays: Mapping[str, Any]) -> list[Any]:
        return [y.numpy() for y in call(*(tf.constant(arrays[n], t.dtype) for n, t in zip(names, specs, strict=True)))]

    lookup.use(model, tf)
    with as_operators(keras, tf, layers):
        function = tf.function(call, autograph=False).get_concrete_function(*specs)
    frozen = convert_variables_to_constants_v2(function)
    outputs = _distinct(list(getattr(model, "output_names", None) or [model.layers[-1].name]))
    if len(outputs) != len(frozen.outputs):
        outputs = [f"output_{k}" for k in range(len(frozen.outputs))]
    return Frozen(
        frozen.graph.as_graph_def(),
        tuple((t.name, n) for t, n in zip(frozen.inputs, names, strict=True)),
        tuple((t.name, n) for t, n in zip(frozen.outputs, outputs, strict=True)),
        {"CudnnRNNV3": (_converter(layers), [])},
        found.said(),
        compute,
    )


def _use(model: Any) -> None:
    """Recurrent layers at inference, when their dropout would still keep a random generator's state.

    A stateful layer begins with zeros, as after reset_state(): a bundle's runs are independent.
    """
    for layer in model._flatten_layers():
        cells = getattr(layer, "cell", None)
        for cell in getattr(cells, "cells", [cells]):
            for name in ("dropout", "recurrent_dropout"):
                if isinstance(getattr(cell, name, None), float | int):
                    setattr(cell, name, 0.0)
        if getattr(layer, "stateful", False):
            layer.stateful = False


@contextlib.contextmanager
def limited_time(path: Path) -> Iterator[None]:
    """Ends the process if reading takes longer than for any valid file of that size: HDF5 can loop in a damaged one."""
    signal.setitimer(signal.ITIMER_VIRTUAL, READ_S + path.stat().st_size / READ_BYTES_PER_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _distinct(names: list[str]) -> list[str]:
    return [n if names.index(n) == k else f"{n}_{k}" for k, n in enumerate(names)]


def _reason(e: BaseException) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return " ".join(lines[:2])[:400] or type(e).__name__


# --- what the file says of itself -------------------------------------------------------------------------------------


def read_config(path: Path, start: bytes) -> Any:
    """The network's description. Raises UsageError for a file of weights alone."""
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > MAX_TEXT_BYTES:
                raise ModelError("its config.json is too large to describe a network")
            return parse_json(archive.read("config.json").decode("utf-8", "replace"), "config.json")
    import h5py

    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is None:
            weights = "layers" in file or "layer_names" in file.attrs or "_layer_checkpoint_dependencies" in file
            what = "this file holds weights, not the network" if weights else "this HDF5 file is not a Keras model"
            raise UsageError(
                f"{what}; build the model in Python, call model.load_weights(...) and then model.save('model.keras')"
            )
        text = config.decode("utf-8", "replace") if isinstance(config, bytes) else str(config)
        return parse_json(text, "model_config")


def check_config(config: Any) -> None:
    """Raises UnsupportedError for layers that hold code (Lambda) or that are made by classes outside Keras."""
    problems = []
    for kind, module, name in objects(config):
        where = f"layer '{name}'" if name else f"'{kind}'"
        if kind in ("Lambda", "__lambda__"):
            problems.append(f"{where}: a Lambda layer, whose Python code is in the file and is not run")
        elif module and module.split(".")[0] not in ("builtins", "keras"):
            problems.append(f"{where}: the class {kind} of {module[:80]}, which only the program that made it has")
    if problems:
        raise UnsupportedError(
            "it holds code; load the model in the program that made it, save it with model.export('folder'), which "
            "stores plain operators, and give that folder:",
            tuple(dict.fromkeys(problems)),
        )


def objects(config: Any) -> Iterator[tuple[str, str, str]]:
    """(class, module, name) of every object of a Keras configuration."""
    stack = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += value.values()
            if isinstance(value.get("class_name"), str):
                inner = value.get("config")
                name = inner.get("name") if isinstance(inner, dict) else None
                home, mark, _ = str(value.get("registered_name") or "").partition(
                    ">"
                )  # of a class of the user: HOME>CLASS
                module = str(value.get("module") or (home if mark else ""))
                yield value["class_name"], module, name if isinstance(name, str) else ""
        elif isinstance(value, list):
            stack += value


# --- recurrent layers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recurrence:
    """One LSTM, GRU or SimpleRNN layer in ONNX's terms: W [1, gates*H, I], R [1, gates*H, H], B [1, 2*gates*H]."""

    kind: str
    w: Any
    r: Any
    b: Any
    activations: tuple[tuple[str, float, float], ...]
    linear_before_reset: int = 0


class as_operators:
    """A context that traces recurrent layers as CudnnRNNV3, whose attribute `seed` is the index in `layers`."""

    def __init__(self, keras: Any, tf: Any, layers: list[Recurrence]) -> None:
        self.tf, self.layers = tf, layers
        self.classes = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN)
        self.before: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        for cls in self.classes:
            self.before.append((cls, cls.__dict__.get("inner_loop")))
        for cls in self.classes:
            cls.inner_loop = self._replace(cls.inner_loop)

    def __exit__(self, *error: Any) -> None:
        for cls, method in self.before:
            if method is None:
                del cls.inner_loop
            else:
                cls.inner_loop = method

    def _replace(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            masks = mask if isinstance(mask, list | tuple) else [mask]
            with self.tf.init_scope():
                found = None if any(m is not None for m in masks) else describe(layer)
            if found is None:
                if sequences.shape[1] > MAX_UNROLLED:
                    raise UnsupportedError(
                        f"the layer '{layer.name}' ({type(layer).__name__}) would be unrolled {sequences.shape[1]} "
                        f"times; {MAX_UNROLLED} are accepted (LSTM, GRU and SimpleRNN without masks have no such limit)"
                    )
                layer.unroll = True
                return original(layer, sequences, initial_state, mask, training)
            return self._call(layer, found, sequences, initial_state)

        return inner_loop

    def _call(self, layer: Any, found: Recurrence, x: Any, states: Any) -> Any:
        tf = self.tf
        dtype = x.dtype  # float16 in a model of mixed precision
        flat = [tf.cast(v, tf.float32) for v in tf.nest.flatten(states)]
        x = tf.cast(tf.transpose(x, [1, 0, 2]), tf.float32)
        if layer.go_backwards:
            x = x[::-1]
        h = tf.expand_dims(flat[0], 0)
        y, h, c, *_ = tf.raw_ops.CudnnRNNV3(
            input=x,
            input_h=h,
            input_c=tf.expand_dims(flat[1], 0) if found.kind == "LSTM" else tf.zeros_like(h),
            params=tf.zeros([1]),
            sequence_lengths=tf.fill([x.shape[1]], x.shape[0]),
            rnn_mode={"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[found.kind],
            seed=len(self.layers),
            is_training=False,
        )
        self.layers.append(found)
        y, h, c = (tf.cast(v, dtype) for v in (y, h, c))
        last = tf.squeeze(h, [0])
        every = tf.transpose(y, [1, 0, 2]) if layer.return_sequences else tf.expand_dims(last, 1)
        return last, every, [last, tf.squeeze(c, [0])] if found.kind == "LSTM" else [last]


def describe(layer: Any) -> Recurrence | None:
    """The layer in ONNX's terms; None if ONNX's operators cannot express it."""
    kind = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}.get(type(layer).__name__)
    cell: Any = getattr(layer, "cell", None)
    if kind is None or type(cell).__name__ != f"{type(layer).__name__}Cell":
        return None
    functions = [cell.activation] if kind == "RNN" else [cell.recurrent_activation, cell.activation]
    names = [getattr(f, "__name__", "") for f in functions]
    if not all(n in _ACTIVATIONS for n in names):
        return None
    activations = [_ACTIVATIONS[n] for n in names]
    if kind == "LSTM":
        activations.append(activations[1])
    order = (0, 3, 1, 2) if kind == "LSTM" else (0, 1, 2) if kind == "GRU" else (0,)  # Keras: i f c o, ONNX: i o f c
    size = cell.units

    def gates(array: Any) -> Any:
        parts = [array[..., g * size : (g + 1) * size] for g in order]
        return np.concatenate(parts, -1).astype(np.float32)

    biases = np.zeros((2, len(order) * size), np.float32)
    if cell.bias is not None:
        bias = np.asarray(cell.bias)
        biases[: bias.ndim] = gates(bias)  # a GRU that resets after the product has two
    kernel, recurrent = np.asarray(cell.kernel), np.asarray(cell.recurrent_kernel)
    return Recurrence(
        kind, gates(kernel).T[None], gates(recurrent).T[None], biases.reshape(1, -1), tuple(activations),
        int(kind == "GRU" and cell.reset_after),
    )  # fmt: skip


def _converter(layers: list[Recurrence]) -> Callable[..., None]:
    """tf2onnx's converter of the marked operators."""

    def convert(ctx: Any, node: Any, name: str, _args: Any) -> None:
        index = node.get_attr_value("seed")
        if not isinstance(index, int) or not 0 <= index < len(layers):
            raise UnsupportedError(f"node '{name}': the operator CudnnRNNV3 is not supported")
        layer = layers[index]
        inputs, outputs, shapes, dtypes = node.input, node.output, node.output_shapes, node.output_dtypes
        steps, batch, hidden = shapes[0]
        ctx.remove_node(node.name)
        constants = [
            ctx.make_const(f"{name}_{k}", v).output[0] for k, v in (("W", layer.w), ("R", layer.r), ("B", layer.b))
        ]
        states = [inputs[1], inputs[2]] if layer.kind == "LSTM" else [inputs[1]]
        attributes: dict[str, Any] = {
            "hidden_size": hidden,
            "activations": [a for a, _, _ in layer.activations],
            "activation_alpha": [v for a, v, _ in layer.activations if a in ("HardSigmoid", "Affine")],
            "activation_beta": [v for a, _, v in layer.activations if a in ("HardSigmoid", "Affine")],
        }
        if not attributes["activation_alpha"]:
            del attributes["activation_alpha"], attributes["activation_beta"]
        if layer.kind == "GRU":
            attributes["linear_before_reset"] = layer.linear_before_reset
        every = f"{outputs[0]}_directions"
        made = [every, outputs[1], outputs[2]] if layer.kind == "LSTM" else [every, outputs[1]]
        ctx.make_node(
            layer.kind,
            [inputs[0], *constants, "", *states],
            outputs=made,
            name=name,
            attr=attributes,
            shapes=[[steps, 1, batch, hidden], *shapes[1 : len(made)]],
            dtypes=dtypes[: len(made)],
        )
        axes = ctx.make_const(f"{name}_axes", np.array([1], np.int64)).output[0]
        ctx.make_node("Squeeze", [every, axes], outputs=[outputs[0]], name=f"{name}_squeeze", shapes=[shapes[0]],
                      dtypes=dtypes[:1])  # fmt: skip

    return convert
