"""TensorFlow Lite → ONNX: .tflite, float or quantised. TensorFlow is not needed.

Convolutions and poolings of ONNX have channels first; each stands between two transposes, and adjacent pairs are
dropped. A quantised operator becomes DequantizeLinear, the operator on real numbers, QuantizeLinear, which is how ONNX
writes integer networks; each may differ from TensorFlow Lite's by a unit of the output's scale, where it rounds
otherwise. What only moves elements stays on the integers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

import dlpack.exporters.tflite.detection
import dlpack.exporters.tflite.layers
import dlpack.exporters.tflite.math
import dlpack.exporters.tflite.recurrent
import dlpack.exporters.tflite.scattered
import dlpack.exporters.tflite.suppression
import dlpack.exporters.tflite.tensor  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions, read_bytes, set_metadata
from dlpack.exporters.builder import NotConverted, OnnxBuilder, Shape
from dlpack.exporters.tflite.call import CONVERTERS, MOVES, Call
from dlpack.exporters.tflite.check import Check
from dlpack.exporters.tflite.control import Control, Frame, Inside
from dlpack.exporters.tflite.files import (
    IDENTIFIER,
    Operator,
    QuantizationParameters,
    Tensor,
    TFLiteModel,
    read_label_file,
    read_model,
)
from dlpack.exporters.tflite.lists import assignments
from dlpack.exporters.tflite.schema import LOOK_UP, REASONS
from dlpack.exporters.tflite.spectra import COMPLEX, TAKES_COMPLEX
from dlpack.exporters.tflite.variables import VARIABLES, Variables
from dlpack.meaning.quantization import METADATA_KEY, Quantization

MAX_FOLDED = 4096  # elements
MAX_NODES = 100_000
_QUANTIZED = ("int8", "uint8", "int16", "int32", "int64")


def recognises(_path: Path, start: bytes) -> bool:
    return start[4:8] == IDENTIFIER


def advises(path: Path, start: bytes) -> str | None:
    if path.suffix in (".tflite", ".lite") and not recognises(path, start):
        return "this is not a TensorFlow Lite model: its bytes 4 to 8 are not TFL3; copy or convert it again"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("a .tflite file holds its weights itself; leave --params out")
    data = read_bytes(path)
    file = read_model(data)
    conversion = Conversion(file, options, path.stem)
    with Check(path, file, conversion.input_shapes()) as check:
        model = conversion.run()
        warnings = check.compare(model, file)
    return Exported(model, read_label_file(data), warnings=(*conversion.batches(), *warnings))


class Conversion(Control):
    """The conversion of one file to an ONNX graph."""

    def __init__(self, model: TFLiteModel, options: ExportOptions, name: str) -> None:
        self.model, self.options = model, options
        self.g = OnnxBuilder(name)
        self.main = model.subgraphs[0]
        self.frame = Frame(self.main)
        self.variables = Variables(self.g)
        self.turned: dict[str, str] = {}  # value with channels last → the same with channels first
        self.problems: list[str] = []
        signatures = [s for s in model.signatures if s.subgraph == 0]
        self.signature = signatures[0] if len(signatures) == 1 else None

    def run(self) -> ModelProto:
        names = self._input_names()
        for name in self.options.shapes:
            if name not in names.values():
                raise UsageError(
                    f"--shape names the input '{name}', which the model does not have; its inputs are: "
                    f"{', '.join(names.values()) or 'none'}"
                )
        for k in dict.fromkeys(self.main.inputs):
            tensor = self.main.tensors[k]
            self.frame.stored[k] = self.g.input(names[k], self._shape(names[k], tensor), _kind(tensor))
        self.convert(self.frame)
        if self.problems:
            raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(self.problems)))
        states = self.variables.outputs()
        try:
            outputs = [(self.stored(k), self._wanted(k)) for k in self.main.outputs]
        except NotConverted as e:
            raise ModelError(f"an output cannot be given: {e} is not supported") from e
        if not outputs:
            raise ModelError("the model has no outputs")
        model = self.g.build(outputs + [(name, name) for name in states])
        ranges = {
            i.name: [np.iinfo(kind).min, np.iinfo(kind).max + 1]
            for i in model.graph.input
            if (kind := self.g.dtype(i.name)) in (np.int8, np.uint8)
        }
        if ranges:
            set_metadata(model, "dlpack.ranges", json.dumps(ranges))
        quantised = self._quantised(model, names)
        if quantised:
            set_metadata(model, METADATA_KEY, json.dumps(quantised))
        return model

    def _quantised(self, model: ModelProto, inputs: Mapping[int, str]) -> dict[str, dict[str, Any]]:
        """Scale and zero point of the inputs and outputs, which the created operators do not always show."""
        outputs = zip(self.main.outputs, (v.name for v in model.graph.output), strict=False)  # states come after them
        found = {}
        named = [(self.main.tensors[k], name) for k, name in (*inputs.items(), *outputs)]
        for tensor, name in (*named, *self.variables.named()):
            q = _quantization(tensor)
            if q is None or q.scale.size > 1 or q.scale[0] < np.finfo(np.float32).tiny:
                continue
            info = np.iinfo(tensor.dtype)
            if tensor.dtype != "int64" and info.min <= q.zero[0] <= info.max:
                found[name] = Quantization(float(q.scale[0]), int(q.zero[0])).to_json()
        return found

    def input_shapes(self) -> list[Shape]:
        """Of the model's inputs in the file's order, states excluded."""
        return [self._shape(name, self.main.tensors[k]) for k, name in self._input_names().items()]

    def _input_names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for k in dict.fromkeys(self.main.inputs):
            name = (
                (self.signature.inputs.get(k) if self.signature else None) or self.main.tensors[k].name or f"input_{k}"
            )
            names[k] = name if name not in names.values() else f"{name}_{k}"
        return names

    def _wanted(self, tensor: int) -> str:
        named = self.signature.outputs.get(tensor) if self.signature else None
        return named or self.main.tensors[tensor].name or f"output_{tensor}"

    def batches(self) -> tuple[str, ...]:
        """What is said of inputs whose first dimension is open and was not given: the file's size is taken."""
        found = [(name, self.main.tensors[k]) for k, name in self._input_names().items()]
        free = {name: t.shape[0] for name, t in found if any(t.open[:1]) and name not in self.options.shapes}
        return tuple(
            f"the batch of the input '{n}' is taken as {b}; --shape gives another size" for n, b in free.items()
        )

    def _shape(self, name: str, tensor: Tensor) -> Shape:
        given = self.options.shapes.get(name)
        if given is None:
            unknown = [k for k, o in enumerate(tensor.open) if o and k and tensor.shape[k] == 1]
            if unknown:
                asked = "x".join("224" if k in unknown else str(d) for k, d in enumerate(tensor.shape))
                raise UsageError(
                    f"the model leaves dimensions of '{name}' open; give them, for instance: --shape {name}={asked}"
                )
            return tensor.shape
        free = tensor.open or (False,) * len(tensor.shape)
        if len(given) != len(tensor.shape) or any(
            a != b and not o for a, b, o in zip(given, tensor.shape, free, strict=True)
        ):
            stated = ", ".join("?" if o else str(d) for d, o in zip(tensor.shape, free, strict=True))
            raise UsageError(f"--shape {name}={'x'.join(map(str, given))} does not fit the input, which is [{stated}]")
        return tuple(given)

    # --- values

    def stored(self, tensor: int) -> str:
        """The tensor as it is stored: a quantised one as integers."""
        frame = self.frame
        if tensor not in frame.stored:
            t = frame.subgraph.tensors[tensor]
            if t.data is None:
                _kind(t)
                what = "is a variable, which is not supported" if t.variable else "is used before it is computed"
                raise NotConverted(f"its input '{t.name}' {what}, which")
            frame.stored[tensor] = self.g.constant(t.data, t.name or f"tensor_{tensor}")
        return frame.stored[tensor]

    def real(self, tensor: int) -> str:
        """The tensor as real numbers."""
        t = self.frame.subgraph.tensors[tensor]
        if tensor not in self.frame.real:
            axis = t.quantization.axis if t.quantization else 0
            self.frame.real[tensor] = self.dequantize(self.stored(tensor), t, axis)
        return self.frame.real[tensor]

    def begin(self, tensor: int) -> str:
        """A variable that keeps its value from run to run becomes an input of the model: its real numbers."""
        t = self.frame.subgraph.tensors[tensor]
        if not t.variable:
            return self.real(tensor)
        if self.frame.subgraph is not self.main:
            raise NotConverted("a state in a loop or a branch")
        if tensor in self.frame.stored:
            raise NotConverted("a state that two layers share")
        self.frame.stored[tensor] = self.variables.read(t.name or f"state_{tensor}", t, _kind(t))
        return self.real(tensor)

    def keep(self, tensor: int, value: str) -> None:
        """Makes an output of the model of what the variable holds after the run."""
        t = self.frame.subgraph.tensors[tensor]
        if t.variable:
            self.variables.assign(t.name or f"state_{tensor}", self._typed(self.quantize(value, t), t))

    def dequantize(self, value: str, tensor: Tensor, axis: int) -> str:
        """`value`, which holds what `tensor` holds, as real numbers."""
        q = _quantization(tensor)
        if q is None or self.g.dtype(value).kind == "f":
            return value
        return self._through(value, lambda v: self._dequantize(v, q, axis))

    def quantize(self, value: str, tensor: Tensor) -> str:
        """Real numbers as `tensor` stores them."""
        q = _quantization(tensor)
        if q is None or self.g.dtype(value).kind != "f":
            return value
        return self._through(value, lambda v: self._quantize(v, q, np.dtype(tensor.dtype)))

    def _dequantize(self, value: str, q: QuantizationParameters, axis: int) -> str:
        g, kind = self.g, self.g.dtype(value)
        each = q.scale.size > 1
        scale = g.constant(q.scale if each else q.scale[0], dtype=np.float32)
        if kind in (np.int16, np.int64) or (kind == np.int32 and q.zero.any()):  # not ONNX's before opset 21
            along = [-1 if each and d == axis else 1 for d in range(g.rank(value))] if each else []
            x = g.op("Cast", value, to=1)
            x = g.op("Sub", x, g.constant(q.zero.reshape(along), dtype=np.float32)) if q.zero.any() else x
            return str(g.op("Mul", x, g.constant(q.scale.reshape(along), dtype=np.float32)))
        zeros = g.constant(_zeros(q, kind) if each else _zeros(q, kind)[0], dtype=kind)
        attrs: dict[str, Any] = {"axis": axis} if each else {}
        return str(g.op("DequantizeLinear", value, scale, zeros, **attrs))

    def _quantize(self, value: str, q: QuantizationParameters, kind: np.dtype[Any]) -> str:
        g = self.g
        if q.scale.size > 1:
            raise NotConverted("a computed value with a scale per channel")
        scale = g.constant(q.scale[0], dtype=np.float32)
        if kind == np.int64:
            raise NotConverted("a computed value quantised to int64")
        if kind in (np.int16, np.int32):
            info, x = np.iinfo(kind), g.op("Round", g.op("Div", value, scale))
            x = g.op("Add", x, g.scalar(float(q.zero[0]))) if q.zero[0] else x
            high = float(np.nextafter(np.float32(info.max), np.float32(0))) if kind == np.int32 else float(info.max)
            x = g.op("Clip", x, g.scalar(float(info.min)), g.scalar(high))
            return str(g.op("Cast", x, to=5 if kind == np.int16 else 6))
        return str(g.op("QuantizeLinear", value, scale, g.constant(_zeros(q, kind)[0], dtype=kind)))

    def _through(self, value: str, step: Callable[[str], str]) -> str:
        """`step`, a pointwise function, on the value; where it was made with channels first, on that one."""
        first = self.turned.get(value)
        return step(value) if first is None else self.channels_last(step(first))

    def channels_first(self, value: str) -> str:
        """(N, ..., C) as (N, C, ...)."""
        if value not in self.turned:
            rank = self.g.rank(value)
            self.turned[value] = str(self.g.op("Transpose", value, perm=[0, rank - 1, *range(1, rank - 1)]))
        return self.turned[value]

    def channels_last(self, value: str) -> str:
        """(N, C, ...) as (N, ..., C)."""
        made = str(self.g.op("Transpose", value, perm=[0, *range(2, self.g.rank(value)), 1]))
        self.turned[made] = value
        return made

    # --- operators

    def convert(self, frame: Frame) -> None:
        """All operators of a subgraph whose inputs have their values."""
        before, self.frame = self.frame, frame
        failed: set[int] = set()
        for operator in self._with_assignments(frame):
            if any(i in failed for i in operator.inputs) or not self._operator(operator):
                failed.update(operator.outputs)
                if operator.kind not in CONVERTERS and operator.kind not in ("WHILE", "IF", *VARIABLES):
                    self._unknown(operator)
            if len(self.g.nodes) > MAX_NODES:
                raise UnsupportedError(f"the model becomes more than {MAX_NODES:,} ONNX nodes")
        self.frame = before

    def _with_assignments(self, frame: Frame) -> Iterator[Operator]:
        """The operators in order; a list that is assigned at a place that only a run knows is updated in place."""
        found = assignments(frame.subgraph)
        updates: dict[tuple[int, ...], Operator] = {}
        left_out: set[int] = set()
        for k, operator in enumerate(frame.subgraph.operators):
            behind, update = found.get(k, (-1, None))
            place = frame.stored.get(update.inputs[2]) if update is not None else None
            if update is not None and place is not None and self.g.value(place) is None:
                updates[update.outputs] = update
                left_out |= {k, behind}
            if k not in left_out:
                yield updates.get(operator.outputs, operator)

    def _unknown(self, operator: Operator) -> None:
        reason = REASONS.get(operator.kind, "")
        if operator.kind.startswith("the custom operator Flex"):
            reason = "it is TensorFlow's own; convert without SELECT_TF_OPS, or give the SavedModel"
        more = f": {reason}" if reason else ""
        self.problems.append(f"'{self._label(operator)}': {operator.kind} is not supported{more}")

    def _operator(self, operator: Operator) -> bool:
        """Whether it could be converted; if not, `problems` says why."""
        if operator.kind in ("WHILE", "IF"):
            return self._control(operator)
        if operator.kind in VARIABLES:
            return self._variable(operator)
        converter = CONVERTERS.get(operator.kind)
        if converter is None:
            return False
        frame, label = self.frame, self._label(operator)
        where = f"'{label}' ({operator.kind})"
        tensors = frame.subgraph.tensors
        start = len(self.g.nodes)
        try:
            with self.g.scope(label):
                if operator.kind not in TAKES_COMPLEX and any(
                    tensors[i].dtype == COMPLEX for i in operator.inputs if i >= 0
                ):
                    raise NotConverted("a complex input")
                as_stored = operator.kind in MOVES and self._same(operator)
                call = Call(
                    self.g, operator.kind, operator.options, operator.inputs, operator.outputs, tensors, self, as_stored
                )
                made = converter(call)
                results = made if isinstance(made, list) else [made]
                if len(results) < len(operator.outputs):
                    raise ModelError(f"it has {len(operator.outputs)} outputs; {len(results)} are known")
                results = results[: len(operator.outputs)]
                values = [self.quantize(v, tensors[k]) for v, k in zip(results, operator.outputs, strict=True)]
                values = [self._typed(v, tensors[k]) for v, k in zip(values, operator.outputs, strict=True)]
                self._fold(start)
                names = [self._name(k) for k in operator.outputs]
                turned = [self.turned.get(v) for v in values]
                published = self.g.publish(values, names, label)
                renamed = dict(zip(values, published, strict=True))
                frame.real |= {k: renamed[v] for k in operator.inputs if (v := frame.real.get(k, "")) in renamed}
                for k, value, first in zip(operator.outputs, published, turned, strict=True):
                    frame.stored[k] = value
                    frame.real.pop(k, None)
                    if first is not None:
                        self.turned[value] = first
        except NotConverted as e:
            self.problems.append(f"{where}: {e} is not supported")
            return False
        except UnsupportedError as e:
            self.problems.append(f"{where}: {e}")
            return False
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            raise ModelError(f"{where}: its inputs or options do not fit: {e}") from e
        return True

    def _name(self, tensor: int) -> str:
        if self.frame.subgraph is self.main and tensor in self.main.outputs:
            return self._wanted(tensor)
        return self.frame.subgraph.tensors[tensor].name or f"tensor_{tensor}"

    def _typed(self, value: str, tensor: Tensor) -> str:
        """`value` in the type that the tensor has; float64 and float16 are float32 here."""
        if tensor.dtype == COMPLEX or self.g.dtype(value) == (wanted := _kind(tensor)):
            return value
        from onnx import helper

        return str(self.g.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(wanted)))

    def _same(self, operator: Operator) -> bool:
        """Whether the values that it moves are quantised as its outputs are."""
        tensors = self.frame.subgraph.tensors
        out = [tensors[k] for k in operator.outputs]
        moved = [t for i in operator.inputs if i >= 0 and (t := tensors[i]).dtype == out[0].dtype] if out else []
        if not out or _quantization(out[0]) is None:
            return True
        q = _quantization(out[0])
        if out[0].dtype not in ("int8", "uint8") or operator.options.get("activation"):
            return False  # ONNX does not move 16-bit integers everywhere; activations are of real numbers
        return q is not None and all(q.same(_quantization(t)) for t in (*moved, *out))

    def _fold(self, start: int) -> None:
        """Computes the new nodes whose inputs are small constants: shapes are computed in the graph."""
        g, kept = self.g, []
        for node in g.nodes[start:]:
            inputs = [g.constants.get(n) for n in node.input if n]
            small = all(a is not None and a.size <= MAX_FOLDED for a in inputs) and inputs
            sizes = [int(np.prod(g.shape(n), dtype=np.int64)) for n in node.output]
            if not small or node.op_type in ("QuantizeLinear", "DequantizeLinear") or max(sizes) > MAX_FOLDED:
                kept.append(node)
                continue
            feeds = {n: g.constants[n] for n in node.input if n}
            from onnx import helper

            graph = helper.make_graph([node], "constant", [g.info(n) for n in feeds], [g.info(n) for n in node.output])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
            for name, value in zip(node.output, ReferenceEvaluator(model).run(None, feeds), strict=True):
                g.constants[name] = np.asarray(value, g.dtype(name))
        g.nodes[start:] = kept

    def _variable(self, operator: Operator) -> bool:
        """The operators of variables that have a name; CALL_ONCE sets their first values."""
        where = f"'{self._label(operator)}' ({operator.kind})"
        frame, given = self.frame, operator.inputs
        try:
            if operator.kind == "VAR_HANDLE":
                frame.handles[operator.outputs[0]] = operator.options["name"]
            elif operator.kind == "READ_VARIABLE":
                tensor = frame.subgraph.tensors[operator.outputs[0]]
                frame.stored[operator.outputs[0]] = self.variables.read(frame.handle(given[0]), tensor, _kind(tensor))
            elif operator.kind == "ASSIGN_VARIABLE":
                self.variables.assign(frame.handle(given[0]), self.stored(given[1]))
            else:
                with self.variables.beginning():
                    self._call(operator.options["subgraph"], [])
        except Inside:
            return False
        except NotConverted as e:
            self.problems.append(f"{where}: {e} is not supported")
            return False
        except IndexError as e:
            raise ModelError(f"{where}: it has too few inputs or outputs") from e
        return True


def _quantization(tensor: Tensor) -> QuantizationParameters | None:
    return tensor.quantization if tensor.dtype in _QUANTIZED else None


def _zeros(q: QuantizationParameters, kind: np.dtype[Any]) -> Any:
    info = np.iinfo(kind)
    if ((q.zero < info.min) | (q.zero > info.max)).any():
        raise ModelError(f"a zero point is beyond what {kind} holds")
    return q.zero.astype(kind)


def _kind(tensor: Tensor) -> np.dtype[Any]:
    if tensor.dtype == "string":
        raise UnsupportedError(f"tensor '{tensor.name}' holds strings, which are not supported; {LOOK_UP}")
    if tensor.dtype.startswith("type "):
        raise UnsupportedError(f"tensor '{tensor.name}' holds {tensor.dtype}, which is not supported")
    kind = np.dtype(tensor.dtype)
    return np.dtype(np.float32) if kind.kind == "f" else kind


EXPORTER = Exporter("TensorFlow Lite", "model.tflite", recognises, export, advises)
