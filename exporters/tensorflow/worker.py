"""The process in which TensorFlow runs: a task on stdin, `answer.json` and `model.onnx` in the task's folder.

``python -m dlpack.exporters.tensorflow.worker``, started by `export.py` alone.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import onnx
from onnx import ModelProto

from dlpack.errors import DlpackError, ModelError, UnsupportedError
from dlpack.exporters.base import head
from dlpack.exporters.compare import NARROW_TOLERANCE, TOLERANCE, check_same, takes_ties, trial_inputs
from dlpack.exporters.precision import widen
from dlpack.exporters.tensorflow.frozen import Frozen, check_operators
from dlpack.exporters.tensorflow.graph import read_graph, read_saved_model
from dlpack.exporters.tensorflow.keras import read_keras
from dlpack.exporters.tensorflow.layers import is_layers_model, write_h5
from dlpack.exporters.tensorflow.operators import HANDLERS

OPSET = 17
_NARROW = (14, 19)  # DT_BFLOAT16, DT_HALF
MEMORY_BYTES = 4 << 30
"""What TensorFlow may take besides twelve times the file's size, so that a file that asks for more ends in an error."""


def main() -> None:
    task = json.loads(sys.stdin.buffer.read())
    folder = Path(task["folder"])
    answer: dict[str, Any] = {}
    try:
        path = Path(task["path"])
        model, answer["warnings"] = work(path, {k: tuple(v) for k, v in task["shapes"].items()})
        if model.ByteSize() >= 2**31:
            raise UnsupportedError("the model is larger than the 2 GiB that an ONNX file can hold")
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    except UnsupportedError as e:
        answer = {"error": "UnsupportedError", "message": str(e).split("\n  - ")[0], "problems": list(e.problems)}
    except DlpackError as e:
        answer = {"error": type(e).__name__, "message": str(e)}
    except MemoryError:
        answer = {"error": "ModelError", "message": "the model needs more memory than there is"}
    except Exception as e:  # noqa: BLE001 - TensorFlow, Keras and tf2onnx raise anything for a file they do not like
        answer = {"error": "ModelError", "message": f"it cannot be read: {_first_line(e)}"}
    (folder / "answer.json").write_text(json.dumps(answer))


def work(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[ModelProto, tuple[str, ...]]:
    """The model at `path` as ONNX with static shapes, and warnings. Raises a DlpackError."""
    limit_memory(path)
    warnings.simplefilter("ignore")
    for name in ("absl", "tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    start = head(path)
    if path.name == "saved_model.pb":
        frozen = read_saved_model(path.parent, shapes)
    elif path.suffix == ".pb":
        frozen = read_graph(path, shapes)
    elif is_layers_model(start):
        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            frozen = read_keras(write_h5(path, Path(folder)), b"", shapes)
    else:
        frozen = read_keras(path, start, shapes)
    model, warned = to_onnx(frozen, path.parent.name if path.name == "saved_model.pb" else path.stem)
    return model, (*frozen.warnings, *warned)


def limit_memory(path: Path) -> None:
    files = [path, *path.parent.glob("variables/variables.data-*")] if path.name == "saved_model.pb" else [path]
    limit = MEMORY_BYTES + 12 * sum(f.stat().st_size for f in files)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def allow_inlining(graph: Any) -> None:
    """Unmarks functions that are marked for XLA, such as Keras' grouped convolution, which would stay calls."""
    for place in (*graph.node, *graph.library.function, *(n for f in graph.library.function for n in f.node_def)):
        for mark in ("_XlaMustCompile", "_noinline"):
            place.attr.pop(mark, None)


def _first_line(e: BaseException) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return (lines[0] if lines else type(e).__name__)[:400]


def to_onnx(frozen: Frozen, name: str) -> tuple[ModelProto, tuple[str, ...]]:
    """By tf2onnx, with the user's names of inputs and outputs, and warnings. UnsupportedError lists all operators."""
    import tf2onnx

    check_operators(frozen.graph)
    allow_inlining(frozen.graph)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph,
            name=name,
            input_names=[t for t, _ in frozen.inputs],
            output_names=[t for t, _ in frozen.outputs],
            opset=OPSET,
            custom_op_handlers=HANDLERS | dict(frozen.handlers),
        )
    except DlpackError:
        raise
    except Exception as e:  # it raises anything
        raise UnsupportedError(f"tf2onnx cannot convert it: {_first_line(e)}") from e
    _check_known(model)
    _rename(model, frozen)
    narrow = any(n.attr[key].type in _NARROW for n in frozen.graph.node for key in ("T", "dtype", "DstT"))
    widen(model)
    warned = _compare(model, frozen, NARROW_TOLERANCE if narrow else TOLERANCE)
    return cast(ModelProto, model), warned


def _compare(model: ModelProto, frozen: Frozen, tolerance: float) -> tuple[str, ...]:
    """Raises ModelError if the model computes other values than TensorFlow. Returns a warning if nothing shows it."""
    import tensorflow as tf

    shapes = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value for d in tensor.shape.dim]
        shapes[value.name] = (shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if any(d < 1 for shape, _ in shapes.values() for d in shape):
        return ()
    places = {n: t for t, n in frozen.inputs}
    computed = None if frozen.compute else _Session(tf, frozen)

    def run(arrays: Mapping[str, Any]) -> list[Any]:
        if frozen.compute:
            return frozen.compute(arrays)
        assert computed is not None
        return computed.run({places[n]: v for n, v in arrays.items()})

    missing = any(n.op == "IsNan" or (n.op == "NotEqual" and n.input[0] == n.input[1]) for n in frozen.graph.node)
    trials = trial_inputs(shapes, ties=takes_ties(model), missing=missing)
    if not check_same(model, run, trials, "TensorFlow", tolerance):
        return ("what it computes was not compared with TensorFlow, which refuses the inputs that were tried",)
    return ()


class _Session:
    """A frozen graph in TensorFlow, made once."""

    def __init__(self, tf: Any, frozen: Frozen) -> None:
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(frozen.graph, name="")
        self.session = tf.compat.v1.Session(graph=graph)
        self.outputs = [t for t, _ in frozen.outputs]

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        return list(self.session.run(self.outputs, dict(feeds)))


def _check_known(model: ModelProto) -> None:
    """Raises UnsupportedError for remaining TensorFlow operators, for loops over its lists of tensors, and for
    outputs that tf2onnx has dropped.
    """
    made = {name for n in model.graph.node for name in n.output} | {v.name for v in model.graph.input}
    for value in model.graph.output:
        if value.name not in made:
            raise UnsupportedError(f"the output '{value.name.split(':')[0]}' does not depend on an input; leave it out")
    unknown = [n for n in model.graph.node if n.domain == "" and not onnx.defs.has(n.op_type, OPSET)]
    if any(n.op_type.startswith("TensorList") for n in unknown):
        raise UnsupportedError(
            "it holds a loop over a list of tensors, as recurrent layers of Keras are saved in a SavedModel; give the "
            "model's .keras or .h5 file, whose LSTM, GRU and SimpleRNN layers are converted as such. If that holds "
            "code (a Lambda layer, classes of yours), set layer.unroll = True for each recurrent layer, and then call "
            "model.export('folder')"
        )
    if any(n.op_type.startswith(("HashTable", "LookupTable", "MutableHashTable")) for n in unknown):
        raise UnsupportedError(
            "it looks numbers or words up in a table, which a SavedModel fills by a program of its own; give the "
            "model's .keras or .h5 file, whose IntegerLookup layers are converted, and turn words into numbers before "
            "the model"
        )
    problems = [f"node '{n.name}': the TensorFlow operator {n.op_type} is not supported" for n in unknown]
    if problems:
        raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(problems)))


def _rename(model: ModelProto, frozen: Frozen) -> None:
    graph = model.graph
    wanted = dict([*frozen.inputs, *frozen.outputs])
    stated = [*graph.input, *graph.output]
    order = {t: k for k, (t, _) in enumerate(frozen.outputs)}
    if not all(v.name in wanted for v in stated):
        raise ModelError(f"tf2onnx gave an input or output of an unknown name among {[v.name for v in stated][:8]}")
    taken = {n for node in graph.node for n in node.output} | {t.name for t in graph.initializer}
    names: dict[str, str] = {}
    for value in stated:
        if value.name in names:
            continue
        choice, k = wanted[value.name], 1
        while choice in names.values() or (choice in taken and choice != value.name):
            choice, k = f"{wanted[value.name]}_{k}", k + 1
        names[value.name] = choice
    outputs = sorted(graph.output, key=lambda v: order.get(v.name, 0))
    del graph.output[:]
    graph.output.extend(outputs)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for k, n in enumerate(node.input):
            node.input[k] = names.get(n, n)
        for k, n in enumerate(node.output):
            node.output[k] = names.get(n, n)


if __name__ == "__main__":
    main()
