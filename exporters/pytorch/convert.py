"""A torch.nn.Module → ONNX through torch.onnx (torch.export underneath), compared with what PyTorch computes."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.builder import MAX_MADE_BYTES, MAX_VALUE_BYTES
from dlpack.exporters.callables import user_line
from dlpack.exporters.compare import NARROW_TOLERANCE, TOLERANCE, check_same, takes_ties, trial_inputs
from dlpack.exporters.precision import widen
from dlpack.exporters.pytorch.decompositions import table
from dlpack.exporters.pytorch.framework import import_torch
from dlpack.exporters.pytorch.selections import without_selections

OPSET = 18  # what torch's converters are written for; others are reached by rewriting


def to_onnx(
    module: Any, inputs: Mapping[str, Any], by_name: bool = False, output_names: Sequence[str] = ()
) -> ModelProto:
    """The module in inference mode, traced over `inputs` (name → tensor), as an ONNX model.

    With `by_name` the inputs are passed as keywords. Raises UnsupportedError for operators that torch.onnx does not
    know, ModelError for what cannot be traced.
    """
    torch = import_torch()
    args, kwargs = ((), dict(inputs)) if by_name else (tuple(inputs.values()), {})
    handled = sys.exception()
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(module, args, kwargs, strict=False)
            _check_sizes(program)
            names = list(output_names) or _output_names(program)
            computes = program.module()
            program = without_selections(program).run_decompositions(table())
            exported = torch.onnx.export(
                program, (), input_names=list(inputs), output_names=names, opset_version=OPSET, dynamo=True,
                verbose=False, external_data=False,
            )  # fmt: skip
            model: ModelProto = exported.model_proto
    except (Exception, AssertionError) as e:
        raise _explained(e, handled) from e
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces: the paths of this machine
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
    for place in (model.graph, model):
        place.ClearField("metadata_props")
        place.ClearField("doc_string")
    widen(model)
    _state_sizes(model)
    _widen_indices(model)
    if len(model.graph.input) != len(inputs):
        given = {v.name for v in model.graph.input}
        raise UsageError(f"the model does not use its inputs {', '.join(n for n in inputs if n not in given)}")
    _compare(model, computes, inputs, by_name)
    return model


def _compare(model: ModelProto, module: Any, inputs: Mapping[str, Any], by_name: bool) -> None:
    """Raises ModelError if the model computes other values than the traced `module`."""
    torch = import_torch()
    kinds = {n: np.float32 if t.dtype.is_floating_point else t.numpy().dtype for n, t in inputs.items()}
    tensors = [*inputs.values(), *module.parameters(), *module.buffers()]
    narrow = any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors)  # PyTorch rounds after every operator

    def run(values: Mapping[str, Any]) -> list[Any]:
        given = {n: torch.from_numpy(v).to(inputs[n].dtype) for n, v in values.items()}
        with torch.no_grad():
            result = module(**given) if by_name else module(*given.values())
        leaves = torch.utils._pytree.tree_leaves(result)
        return [v.float().numpy() if v.dtype == torch.bfloat16 else v.numpy() for v in leaves if v is not None]

    shapes = {n: (tuple(t.shape), kinds[n]) for n, t in inputs.items()}
    trials = trial_inputs(shapes, ties=takes_ties(model), missing=_knows_nan(module))
    with _quiet():
        check_same(model, run, trials, "PyTorch", NARROW_TOLERANCE if narrow else TOLERANCE)


def _knows_nan(module: Any) -> bool:
    """Whether the traced module does something about NaN: isnan, nan_to_num, nanmean ..., or x != x."""
    for node in module.graph.nodes:
        if node.op == "call_function":
            name = str(node.target)
            itself = name.startswith(("aten.ne.", "aten.eq.")) and node.args[0] is node.args[-1]
            if "nan" in name or itself:
                return True
    return False


def _state_sizes(model: ModelProto) -> None:
    """Gives every Resize with aligned corners its output size instead of scales, in place.

    PyTorch divides by the output's whole length; ONNX, of scales, by length times scale, which may be no whole number.
    """
    graph = model.graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*graph.value_info, *graph.output)}
    for node in graph.node:
        aligned = any(a.name == "coordinate_transformation_mode" and a.s == b"align_corners" for a in node.attribute)
        dims = [d.dim_value for d in shapes.get(node.output[0], ())]
        if node.op_type == "Resize" and aligned and len(node.input) == 3 and dims and min(dims) > 0:
            sizes = numpy_helper.from_array(np.array(dims, np.int64), f"{node.output[0]}_sizes")
            graph.initializer.append(sizes)
            node.input[:] = [*node.input[:2], "", sizes.name]


def _widen_indices(model: ModelProto) -> None:
    """Makes the indices of every ScatterND int64, as ONNX has them, in place: torch.onnx takes PyTorch's int32."""
    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input)}
    kinds |= {t.name: t.data_type for t in graph.initializer}
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type == "ScatterND" and kinds.get(node.input[1]) == TensorProto.INT32:
            wide = f"{node.output[0]}_indices"
            graph.node.insert(place, helper.make_node("Cast", [node.input[1]], [wide], to=TensorProto.INT64))
            node.input[1] = wide


def _check_sizes(program: Any) -> None:
    """Rejects values that are too large; those that depend on no input are computed during the export.

    A size that depends on the data is never more than its input's.
    """
    torch = import_torch()
    varying: set[Any] = set()
    for node in program.graph_module.graph.nodes:
        if node.op == "placeholder" or any(n in varying for n in node.all_input_nodes):
            varying.add(node)
        limit = MAX_VALUE_BYTES if node in varying else MAX_MADE_BYTES // 2
        values = node.meta.get("val")
        for value in values if isinstance(values, list | tuple) else [values]:
            count = value.numel() if isinstance(value, torch.Tensor) else 0
            if isinstance(count, int) and count and count * value.element_size() > limit:
                raise ModelError(
                    f"the value '{node.name}' would have the shape {list(value.shape)}, more than {limit:,} bytes"
                )


def _output_names(program: Any) -> list[str]:
    """A dict's keys, else output, or output_0, output_1 ..."""
    torch = import_torch()
    count = len(program.graph_signature.user_outputs)
    spec = program.call_spec.out_spec
    if spec is not None and issubclass(spec.type or object, dict) and len(spec.context or ()) == count:
        keys = [str(k) for k in spec.context]
        return [k if k not in program.graph_signature.user_inputs else f"{k}_out" for k in keys]
    if spec is not None and spec.type not in (None, tuple, list) and not isinstance(spec, torch.utils._pytree.LeafSpec):
        keys = [str(k) for k in spec.context[0]] if _is_keys(spec.context) else []
        if len(keys) == count:
            return keys
    return ["output"] if count == 1 else [f"output_{k}" for k in range(count)]


def _is_keys(context: Any) -> bool:
    return isinstance(context, list | tuple) and bool(context) and isinstance(context[0], list | tuple)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses torch's warnings and log lines: what concerns the user is raised."""
    logger = logging.getLogger("torch")
    before = logger.level, logger.disabled
    children = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    mine = [(x, x.disabled) for x in children if x.name.partition(".")[0] in ("torch", "onnxscript", "onnx_ir")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        for child, _ in mine:
            child.disabled = True
        try:
            yield
        finally:
            logger.setLevel(before[0])
            for child, disabled in mine:
                child.disabled = disabled


def _explained(error: BaseException, handled: BaseException | None = None) -> DlpackError:
    """What happened, in a line. `handled` is the caller's own error, of which this one is no consequence."""
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step is not handled and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    for e in chain:
        if isinstance(e, DlpackError):
            e.args = tuple(str(a).partition("\n\nWhile executing")[0] for a in e.args)  # torch.fx adds where it was
            return e
    text = "\n".join(str(e) for e in chain)
    operators = dict.fromkeys(re.findall(r"No ONNX function found for <\w+\(op='([^']+)'", text))
    if operators:
        return UnsupportedError("torch.onnx cannot express these operators:", tuple(operators))
    place = next((p for e in chain if (p := user_line(traceback.extract_tb(e.__traceback__)))), "")
    if any(type(e).__name__ in ("GuardOnDataDependentSymNode", "DataDependentOutputException") for e in chain):
        return UnsupportedError(
            f"the model's control flow, or a shape, depends on its input's values; a static model has neither{place}"
        )
    first = chain[-1] if type(error).__name__.endswith("ExporterError") or "torch.export" in str(error) else error
    lines = [line for line in str(first).strip().splitlines() if line.strip()]
    hint = ""
    if "indices" in text and "Long" in text:
        hint = "; an input of indices is given with its type: --shape tokens=1x16:int64"
    return ModelError(
        f"PyTorch could not trace the model: {type(first).__name__}: {lines[0] if lines else ''}{place}{hint}"
    )
