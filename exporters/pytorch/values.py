"""TorchScript's functions of numbers, strings, lists and dicts, in Python."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from dlpack.errors import ModelError

MAX_LIST = 1 << 20
FILES = ("from_file", "save", "load")
IGNORED = ("warn", "_print", "manual_seed", "_assert_async", "set_grad_enabled")


def _raise(message: Any = "", *_: Any) -> None:
    raise ModelError(f"the model's own code refuses its input: {str(message)[:200]}")


def _div(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    result = a / b
    if rounding_mode == "floor":
        return math.floor(result)
    return math.trunc(result) if rounding_mode == "trunc" else result


def _power(a: Any, b: Any) -> float:
    return math.pow(a, b)


def _sized(count: int) -> int:
    if count > MAX_LIST:
        raise ModelError(f"the model's code makes a list of more than {MAX_LIST:,} elements")
    return count


def _add(a: Any, b: Any, alpha: Any = 1) -> Any:
    if isinstance(a, list | tuple | str):
        _sized(len(a) + len(b))
        return a + b
    return a + b * alpha


def _mul(a: Any, b: Any) -> Any:
    for x, y in ((a, b), (b, a)):
        if isinstance(x, list | tuple | str):
            _sized(len(x) * max(0, int(y)))
    return a * b


def _slice(items: Any, start: int | None = None, stop: int | None = None, step: int = 1) -> Any:
    return items[start:stop:step]


def _append(items: list[Any], item: Any) -> list[Any]:
    _sized(len(items))
    items.append(item)
    return items


def _extend(items: list[Any], more: Any) -> None:
    _sized(len(items) + len(more))
    items.extend(more)


def _set_item(items: Any, key: Any, value: Any) -> Any:
    items[key] = value
    return items


def _keep_extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: choose(*values) if len(values) > 1 else choose(values[0])


SCALAR: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": lambda a, b, alpha=1: a - b * alpha, "mul": _mul, "div": _div, "true_divide": _div,
    "floordiv": operator.floordiv, "floor_divide": operator.floordiv, "remainder": operator.mod, "fmod": math.fmod,
    "neg": operator.neg, "abs": abs, "pow": _power, "sqrt": math.sqrt, "exp": math.exp, "log": math.log,
    "ceil": math.ceil, "floor": math.floor, "trunc": math.trunc, "round": round,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor,
    "Int": int, "Float": float, "Bool": bool, "IntImplicit": int, "FloatImplicit": float, "ScalarImplicit": lambda v: v,
    "min": _keep_extreme(min), "max": _keep_extreme(max), "to": lambda value, *_: value,
    "sum": sum, "detach": lambda v: v, "str": str, "all": all, "any": any,
}  # fmt: skip
"""Without a tensor among the arguments."""

CONTAINER: dict[str, Callable[..., Any]] = {
    "len": len, "list": list, "dict": lambda items=(): dict(items), "append": _append, "extend": _extend,
    "insert": lambda items, at, item: items.insert(at, item), "pop": lambda items, *at: items.pop(*at),
    "reverse": lambda items: items.reverse(), "clear": lambda items: items.clear(), "copy": lambda items: items[:],
    "__getitem__": operator.getitem, "_set_item": _set_item, "slice": _slice, "index": lambda items, x: items.index(x),
    "__contains__": lambda items, key: key in items, "contains": lambda items, key: key in items,
    "keys": lambda d: list(d), "values": lambda d: list(d.values()), "items": lambda d: list(d.items()),
    "get": lambda d, key, default=None: d.get(key, default), "format": lambda *values: str(values[0]),
    "percentFormat": lambda *values: str(values[0]), "__not__": operator.not_,
    "add_": _add,
}  # fmt: skip
"""Where the first argument is no tensor."""

ALWAYS: dict[str, Callable[..., Any]] = {
    "__is__": operator.is_, "__isnot__": operator.is_not, "is_scripting": lambda: True, "is_tracing": lambda: False,
    "is_grad_enabled": lambda: True, "is_autocast_enabled": lambda *_: False, "is_autocast_cpu_enabled": lambda: False,
}  # fmt: skip
"""Whatever the arguments are. Gradients count as on: without them PyTorch takes fused operators."""

PRIM: dict[str, Callable[..., Any]] = {
    "NumToTensor": lambda v: v, "RaiseException": _raise, "unchecked_unwrap_optional": lambda v: v,
    "dtype": lambda t: t.dtype, "device": lambda t: t.device, "layout": lambda t: t.layout,
    "is_cuda": lambda _: False, "requires_grad": lambda _: True, "type": lambda device: device.type,
    "is_quantized": lambda _: False,
    "is_sparse": lambda _: False, "is_nested": lambda _: False, "is_mkldnn": lambda _: False,
    "data": lambda t: t, "shape": lambda t: list(t.shape), "ndim": lambda t: t.dim(), "itemsize": lambda t: t.itemsize,
    "min": _keep_extreme(min), "max": _keep_extreme(max), "abs": abs, "TupleIndex": operator.getitem,
    "Print": lambda *_: None, "name": lambda _: None, "grad": lambda _: None, "AutogradAnyNonZero": lambda *_: False,
}  # fmt: skip
"""ops.prim.NAME."""
