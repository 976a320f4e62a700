"""NumPy → ONNX: a function over arrays, with plain NumPy arrays as its weights, traced once for the given shapes.

The function runs on stand-ins for its inputs (`array.py`): it may call np.NAME directly, loop, branch on shapes
and use classes; only its flow cannot depend on the input's values. What comes out is compared with the function itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

import dlpack.exporters.numpy.composed
import dlpack.exporters.numpy.fourier
import dlpack.exporters.numpy.indexing
import dlpack.exporters.numpy.math
import dlpack.exporters.numpy.statistics
import dlpack.exporters.numpy.ufuncs  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions
from dlpack.exporters.callables import user_code, uses_framework
from dlpack.exporters.compare import check_same, takes_ties, trial_inputs
from dlpack.exporters.numpy.array import Trace, Traced, is_known
from dlpack.exporters.numpy.buffer import creating

TOLERANCE = 1e-3
"""Of an output's largest absolute value: NumPy computes with float64 weights, the model with float32."""


def takes(target: Any) -> bool:
    return callable(target) and not uses_framework(target)


def trace(target: Any, name: str, options: ExportOptions) -> Exported:
    parameters = _parameters(target)
    _check(parameters, options)
    dtypes = {n: np.dtype(options.dtypes.get(n) or _annotated(parameters.get(n))) for n in options.shapes}
    t = Trace(name)
    t.names = _weight_names(target)
    inputs = {n: t.wrap(t.g.input(n, shape, dtypes[n])) for n, shape in options.shapes.items()}
    with t.g.scope(name):
        try:
            with creating(t), user_code("while tracing", f"{getattr(target, '__name__', name)}()"):
                result = target(**inputs)
        except DlpackError as e:
            raise (t.refusal(str(e)) if t.missing else e) from e
        if t.missing:
            raise t.refusal()
        outputs = dict(_outputs(t, result, set(inputs)))
        for output, array in outputs.items():
            if is_known(array):
                raise UsageError(f"the result '{output}' does not depend on the inputs")
        values = t.g.publish([array.value() for array in outputs.values()], list(outputs), name)
    model = t.g.build(list(zip(values, outputs, strict=True)))
    unused = set(inputs) - {v.name for v in model.graph.input}
    if unused:
        raise UsageError(f"no result depends on the input '{sorted(unused)[0]}'; leave its --shape out")
    _compare(target, model, options.shapes, dtypes)
    return Exported(model)


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        raise UsageError("its parameters are unknown; wrap it in a function of your own") from None


def _check(parameters: Mapping[str, inspect.Parameter], options: ExportOptions) -> None:
    """Checks that every input has a shape, and every shape an input."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    kinds = [p.kind for p in parameters.values()]
    unknown = sorted(set(options.shapes) - set(parameters))
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        told = ", ".join(parameters) or "none"
        raise UsageError(f"--shape names '{unknown[0]}', which is no parameter of the function; it has: {told}")
    required = [n for n, p in parameters.items() if p.default is p.empty and p.kind not in variadic]
    missing = [n for n in required if n not in options.shapes]
    if missing:
        words = " ".join(f"--shape {n}=1x784" for n in missing)
        raise UsageError(f"the shapes of its inputs are not known; give them, for instance: {words}")
    if not options.shapes:
        raise UsageError("give its inputs' shapes, for instance: --shape x=1x784")
    if any(parameters[n].kind is inspect.Parameter.POSITIONAL_ONLY for n in options.shapes if n in parameters):
        raise UsageError("its parameters cannot be given by name; leave the / out of the function's signature")


def _annotated(parameter: inspect.Parameter | None) -> Any:
    """float32, or what an annotation such as NDArray[np.int64] or np.int64 says."""
    found = parameter.annotation if parameter is not None else None
    for candidate in (found, *_arguments(found)):
        if isinstance(candidate, type) and issubclass(candidate, np.generic):
            dtype = np.dtype(candidate)
            return np.float32 if dtype.kind == "f" else dtype
    words = {f"np.{n}": n for n in ("int64", "int32", "uint8", "int8", "bool_")}
    if isinstance(found, str):
        return next((n for word, n in words.items() if word in found), np.float32)
    return np.float32


def _arguments(annotation: Any) -> Iterator[Any]:
    for argument in getattr(annotation, "__args__", ()):
        yield argument
        yield from _arguments(argument)


def _weight_names(target: Any) -> dict[int, str]:
    """The arrays that the function's module, object or closure holds: id → a name for the initializer."""
    function = getattr(target, "__func__", target)
    if not inspect.isfunction(function):
        function = inspect.getattr_static(type(target), "__call__", None)
    places: dict[str, Any] = dict(getattr(sys.modules.get(getattr(function, "__module__", "")), "__dict__", {}))
    owner = getattr(target, "__self__", target)
    places |= getattr(owner, "__dict__", {})
    if inspect.isfunction(function):
        places |= inspect.getclosurevars(function).nonlocals
    found: dict[int, str] = {}

    def enter(prefix: str, value: Any, depth: int) -> None:
        if isinstance(value, np.ndarray):
            found.setdefault(id(value), prefix)
        elif isinstance(value, dict) and depth < 4:
            for k, v in value.items():
                enter(f"{prefix}.{k}", v, depth + 1)
        elif isinstance(value, list | tuple) and depth < 4:
            for k, v in enumerate(value):
                enter(f"{prefix}.{k}", v, depth + 1)

    for name, value in places.items():
        if not name.startswith("__"):
            enter(name, value, 0)
    return found


def _outputs(t: Trace, result: Any, taken: set[str]) -> Iterator[tuple[str, Traced]]:
    """Names and values of what the function returned: an array, a tuple, a list or a dict of them."""
    if isinstance(result, dict):
        named = [(str(k), v) for k, v in result.items()]
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        named = list(zip(result._fields, result, strict=True))
    elif isinstance(result, tuple | list):
        named = [(f"output_{k}", v) for k, v in enumerate(result)]
    else:
        named = [("output", result)]
    for name, value in named:
        if np.iscomplexobj(value):
            raise UsageError("the function returns a complex array; return its .real and .imag, or np.abs of it")
        if not isinstance(value, Traced | np.ndarray | np.generic | int | float | list):
            raise UsageError(f"the function returns {type(value).__name__}; it should return arrays")
        yield (f"{name}_out" if name in taken else name), t.array(value)


def _compare(target: Any, model: ModelProto, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, Any]) -> None:
    """Runs the function itself and the model on seeded inputs (`trial_inputs`). Raises ModelError if they differ."""
    from dlpack.verify.runners import run_onnxruntime

    rng = np.random.default_rng(0)
    inputs = {}
    for n, shape in shapes.items():
        whole = dtypes[n].kind != "f"
        values = rng.integers(0, 2, shape) if whole else rng.uniform(-1, 1, shape)
        inputs[n] = values.astype(dtypes[n])
    with user_code("while comparing", "the function, called with NumPy arrays,"):
        wanted = _results(target, inputs)
    got = run_onnxruntime(model, inputs)
    for value, want, info in zip(got, wanted, model.graph.output, strict=True):
        want = np.asarray(want)
        if value.shape != want.shape:
            raise ModelError(
                f"the exported model gives '{info.name}' the shape {list(value.shape)}, NumPy gives {list(want.shape)}"
            )
        error, span = _error(value, want)
        if error > TOLERANCE * max(span, 1e-6):
            raise ModelError(
                f"the exported model differs from the function in '{info.name}' by {error:.3g} of {span:.3g}; does the "
                "function use random numbers, or change an array through a view of it? Return new arrays"
            )
    missing = any(n.op_type == "IsNaN" for n in model.graph.node)
    trials = trial_inputs({n: (s, dtypes[n]) for n, s in shapes.items()}, ties=takes_ties(model), missing=missing)
    with np.errstate(all="ignore"):
        check_same(model, lambda given: _results(target, given), trials, "the function")


def _results(target: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """What the function returns, as a list."""
    result = target(**{n: v.copy() for n, v in inputs.items()})
    wanted = list(result.values()) if isinstance(result, dict) else result
    return list(wanted) if isinstance(wanted, tuple | list) else [wanted]


def _error(got: Any, want: Any) -> tuple[float, float]:
    """The largest error and the largest absolute value; NaN equals NaN."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(b)
    span = float(np.abs(b[finite]).max()) if finite.any() else 0.0
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    return float(np.nan_to_num(error, nan=np.inf).max(initial=0.0)), span


def _no_file(path: Path, start: bytes) -> bool:
    return False


def _advice(path: Path, start: bytes) -> str | None:
    if path.suffix == ".py":
        return f"Python code is given with the function's name: {path}:predict --shape x=1x784"
    if path.suffix in (".npz", ".npy"):
        return (
            "these are NumPy arrays without a model; give the function that uses them: model.py:predict --shape x=1x784"
        )
    return None


def _export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    raise UnsupportedError("NumPy models are functions: give model.py:predict with --shape")


EXPORTER = Exporter(
    name="NumPy",
    accepts="model.py:predict or package.module:predict, a function over arrays, with --shape",
    recognises=_no_file,
    export=_export,
    advises=_advice,
    takes=takes,
    trace=trace,
)
