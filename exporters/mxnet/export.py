"""MXNet → ONNX: NAME-symbol.json with NAME-0000.params, or mxnet.js's single JSON. MXNet itself is not needed.

Where it is there, `check.py` compares.

Floating point is float32 throughout: float16 and float64 weights are converted, and a Cast between them is dropped.
Values are named as MXNet's `list_outputs` names them (NODE_output), nodes as in the symbol. Random and training-only
operators do what they do at inference: Dropout passes through, losses give their prediction.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

import dlpack.exporters.mxnet.attention
import dlpack.exporters.mxnet.detection
import dlpack.exporters.mxnet.layers
import dlpack.exporters.mxnet.math
import dlpack.exporters.mxnet.numpy_math
import dlpack.exporters.mxnet.numpy_moves
import dlpack.exporters.mxnet.numpy_two
import dlpack.exporters.mxnet.recurrent
import dlpack.exporters.mxnet.sampling
import dlpack.exporters.mxnet.sequences
import dlpack.exporters.mxnet.tensor  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions, PictureInput, find_params, read_bytes, set_metadata
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder, Shape
from dlpack.exporters.mxnet.call import CONVERTERS, Call
from dlpack.exporters.mxnet.check import compare
from dlpack.exporters.mxnet.files import (
    Files,
    Symbol,
    SymbolNode,
    are_arrays,
    digest_of,
    looks_like_mxnetjs,
    looks_like_symbol,
    read_arrays,
    read_symbol_file,
)

_LABELLED = ("SoftmaxOutput", "Softmax", "LinearRegressionOutput", "MAERegressionOutput", "LogisticRegressionOutput",
             "SVMOutput")  # fmt: skip

_WEIGHTED = (
    "Convolution", "Convolution_v1", "Deconvolution", "FullyConnected", "BatchNorm", "BatchNorm_v1", "InstanceNorm",
    "LayerNorm", "GroupNorm", "LeakyReLU", "Embedding", "RNN",
)  # fmt: skip


class _Open(Exception):
    """A variable was asked for whose shape is not known."""


def recognises(_path: Path, start: bytes) -> bool:
    return looks_like_symbol(start) or looks_like_mxnetjs(start)


def advises(path: Path, start: bytes) -> str | None:
    if path.suffix == ".params" and are_arrays(start):
        return "these are MXNet's weights; give the NAME-symbol.json beside them, and this file with --params"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    files = read_symbol_file(path)
    used = None
    if not files.arrays:
        stem = path.stem.removesuffix("-symbol").removesuffix("_symbol")
        used = find_params(path, params, [stem, path.stem], ".params", are_arrays)
        data = read_bytes(used)
        files = replace(files, arrays=read_arrays(data), params_file=digest_of(data))
    elif params is not None:
        raise UsageError("this file holds its weights itself; leave --params out")
    conversion = Conversion(files, options, path.stem.removesuffix("-symbol"))
    model = conversion.run()
    parts = {"params": files.params_file, "symbol": files.symbol_file}
    told = {name: asdict(part) if part else None for name, part in parts.items()}
    set_metadata(model, "dlpack.mxnet", json.dumps(told))
    compared = compare(model, path, used) if used is not None else ()
    return Exported(model, files.labels, _preprocess(files, model), used, (*conversion.warnings, *compared))


def _preprocess(files: Files, model: ModelProto) -> PictureInput | None:
    """The mean image of an mxnet.js file, averaged per channel."""
    mean = files.mean
    if mean is None or mean.ndim not in (3, 4) or not mean.size:
        return None
    channels = mean.shape[-3]
    for value in model.graph.input:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if channels in (1, 3) and dims[:2] == [1, channels] and len(dims) == 4:
            means = mean.reshape(-1, channels, mean.shape[-2] * mean.shape[-1]).mean((0, 2), dtype=np.float64)
            if np.isfinite(means).all():
                color = "RGB" if channels == 3 else "GRAY"
                values = tuple(round(float(v), 4) for v in means)
                return PictureInput(value.name, color, mean=values, resize=max(dims[2:]))
    return None


class Conversion:
    """One symbol on its way to an ONNX graph."""

    def __init__(self, files: Files, options: ExportOptions, name: str) -> None:
        self.symbol: Symbol = files.symbol
        self.g = OnnxBuilder(name)
        self.options = options
        self.mean = files.mean
        self.arrays: dict[str, Array] = {}
        for key, array in files.arrays.items():
            self.arrays[key.partition(":")[2] if key[:4] in ("arg:", "aux:") else key] = array
        self.values: dict[tuple[int, int], str] = {}
        self.variables: dict[str, str] = {}
        self.failed: set[int] = set()
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.open: dict[str, str] = {}  # variable → what is known of its shape
        self.users: dict[int, list[tuple[SymbolNode, int]]] = {}
        for node in self.symbol.nodes:
            for k, (source, _) in enumerate(node.inputs):
                self.users.setdefault(source, []).append((node, k))

    def run(self) -> ModelProto:
        needed = self._needed()
        free = {n.name for k, n in enumerate(self.symbol.nodes) if k in needed and n.op == "null"} - set(self.arrays)
        unknown = sorted(set(self.options.shapes) - free)
        if unknown:
            names = ", ".join(sorted(free)) or "none"
            raise UsageError(
                f"--shape names the input '{unknown[0]}', which the model does not have; its inputs are: {names}"
            )
        if missing := [self.symbol.nodes[k].name for k in sorted(needed) if self._is_missing(k)]:
            more = f" and {len(missing) - 1} more of the symbol's parameters" if len(missing) > 1 else ""
            raise UsageError(
                f"the weights' file has no '{missing[0]}'{more}, so it is of another model: give the right one with "
                f"--params FILE, or --shape {missing[0]}=... where that is to be an input"
            )
        for k in sorted(needed):
            node = self.symbol.nodes[k]
            if node.op != "null":
                self._convert(k, node)
        for head in self.symbol.heads:
            if self.symbol.nodes[head[0]].op == "null":
                with contextlib.suppress(_Open):
                    self._value(head)
        if self.open:
            words = " ".join(f"--shape {n}={s}" for n, s in self.open.items())
            raise UsageError(f"an MXNet symbol does not hold its inputs' shapes; give them, for instance: {words}")
        if self.problems:
            raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(self.problems)))
        outputs = []
        for head in self.symbol.heads:
            node = self.symbol.nodes[head[0]]
            value = self._value(head)
            outputs.append((value, self._output_name(node, head[1], 1)))
        return self.g.build(outputs)

    def _needed(self) -> set[int]:
        """The nodes that the outputs need; labels of losses are not."""
        needed: set[int] = set()
        stack = [h[0] for h in self.symbol.heads]
        while stack:
            k = stack.pop()
            if k in needed:
                continue
            needed.add(k)
            node = self.symbol.nodes[k]
            inputs = node.inputs[:1] if node.op in _LABELLED else node.inputs
            stack += [source for source, _ in inputs]
        return needed

    @staticmethod
    def _output_name(node: SymbolNode, index: int, count: int) -> str:
        if node.op == "null":
            return f"{node.name}_copy"
        return f"{node.name}_output" if count == 1 else f"{node.name}_output{index}"

    def _convert(self, index: int, node: SymbolNode) -> None:
        if any(source in self.failed for source, _ in node.inputs):
            self.failed.add(index)
            if node.op not in CONVERTERS:
                self._unknown(node)
            return
        converter = CONVERTERS.get(node.op)
        if converter is None:
            self.failed.add(index)
            self._unknown(node)
            return
        where = f"node '{node.name}' ({node.op})"
        try:
            with self.g.scope(node.name):
                inputs = [self._getter(entry) for entry in node.inputs]
                later = list(enumerate(node.inputs))[2:]
                states = {k: self._state(source) for k, (source, _) in later if self._is_open(source)}
                call = Call(
                    self.g, node.name, node.op, node.attrs, inputs, self._parameter, self.symbol.version, states
                )
                result = converter(call)
                results = result if isinstance(result, list) else [result]
                names = [self._output_name(node, k, len(results)) for k in range(len(results))]
                if node.op.endswith(("BatchNorm", "BatchNorm_v1")):
                    names[0] = f"{node.name}_output"
                for k, value in enumerate(self.g.publish(results, names, node.name)):
                    self.values[index, k] = value
        except _Open:
            self.failed.add(index)
        except (NotConverted, UnsupportedError) as e:
            self.failed.add(index)
            self.problems.append(f"{where}: {e} is not supported")
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            shapes = ", ".join(str(list(self.g.shape(self.values[s]))) for s in node.inputs if s in self.values)
            raise ModelError(f"{where}: its inputs or parameters do not fit (inputs {shapes or 'unknown'}): {e}") from e

    def _unknown(self, node: SymbolNode) -> None:
        self.problems.append(f"node '{node.name}': the operator {node.op} is not supported")

    def _getter(self, entry: tuple[int, int]) -> Callable[[], str]:
        return lambda: self._value(entry)

    def _value(self, entry: tuple[int, int]) -> str:
        value = self.values.get(entry)
        if value is not None:
            return value
        index, place = entry
        node = self.symbol.nodes[index]
        if node.op != "null":
            raise ModelError(f"output {place} of node '{node.name}' ({node.op}) is used, which it does not have")
        value = self._variable(index, node)
        self.values[entry] = value
        return value

    def _parameter(self, name: str) -> str | None:
        if name not in self.variables and name in self.arrays:
            array = self.arrays[name]
            if not array.size:
                raise ModelError(f"the array '{name}' in the weights is empty")
            self.variables[name] = self.g.constant(array, name)
        return self.variables.get(name)

    def _is_open(self, index: int) -> bool:
        node = self.symbol.nodes[index]
        return node.op == "null" and node.name not in self.arrays and node.name not in self.options.shapes

    def _is_missing(self, index: int) -> bool:
        """Whether a node is a variable of a layer that holds weights, which the weights' file does not have."""
        uses = self.users.get(index, [])
        weight = any(node.op in _WEIGHTED and (k == 1 or (k > 1 and node.op != "RNN")) for node, k in uses)
        return weight and self._is_open(index)

    def _state(self, index: int) -> Callable[[Shape], str]:
        """A recurrent state that has no shape of its own: an input of the shape that its layer needs."""

        def get(shape: Shape) -> str:
            if (index, 0) not in self.values:
                self.values[index, 0] = self.g.input(self.symbol.nodes[index].name, shape)
            return self.values[index, 0]

        return get

    def _variable(self, index: int, node: SymbolNode) -> str:
        value = self._parameter(node.name)
        if value is not None:
            return value
        shape = self.options.shapes.get(node.name) or self._declared(node) or self._from_users(index)
        if shape is None:
            self.open[node.name] = self._guess(index)
            raise _Open
        return self.g.input(node.name, shape)

    def _declared(self, node: SymbolNode) -> Shape | None:
        for key in ("__shape__", "shape"):
            shape = node.attrs.ints(key)
            if shape and all(n > 0 for n in shape):
                return shape
            if len(shape or ()) > 1 and shape[0] < 1 and all(n > 0 for n in shape[1:]):  # 0 is what MXNet is to infer
                self.warnings.append(f"the batch of the input '{node.name}' is taken as 1; --shape gives another size")
                return (1, *shape[1:])
        if self.mean is not None and node.name == "data" and self.mean.ndim == 3 and self.mean.size:
            return (1, *self.mean.shape)
        return None

    def _user_weight(self, index: int) -> tuple[SymbolNode | None, Array | None]:
        for node, k in self.users.get(index, []):
            if k == 0 and len(node.inputs) > 1:
                return node, self.arrays.get(self.symbol.nodes[node.inputs[1][0]].name)
        return None, None

    def _from_users(self, index: int) -> Shape | None:
        node, weight = self._user_weight(index)
        if node is not None and node.op == "FullyConnected" and weight is not None and weight.ndim == 2:
            return (1, weight.shape[1])
        return None

    def _guess(self, index: int) -> str:
        """An example of a shape, as far as the weight of its first user shows it."""
        node, weight = self._user_weight(index)
        if node is not None and node.op in ("Convolution", "Convolution_v1") and weight is not None and weight.ndim > 2:
            try:
                channels = weight.shape[1] * max(1, node.attrs.int("num_group", 1))
            except ModelError:
                channels = weight.shape[1]
            return "x".join(map(str, (1, channels, *([224] * (weight.ndim - 2)))))
        if node is not None and node.op == "Embedding":
            return "1x35"
        return "1x3x224x224"


EXPORTER = Exporter(
    "MXNet", "NAME-symbol.json with NAME-0000.params, or mxnet.js's single JSON", recognises, export, advises
)
