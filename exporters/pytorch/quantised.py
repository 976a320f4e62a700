"""Operators of quantised programs: PyTorch's `quantized_decomposed`, and torchao's, which need not be installed.

`quantized_decomposed` on numbers known at build stays as it is and becomes QuantizeLinear and DequantizeLinear; what
finds its scale at run time is written out. Formulas: torch/ao/quantization/fx/_decomposed.py, torchao's
quantization/quant_primitives.py (0.18).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlpack.exporters.pytorch.framework import import_torch

_SUBCLASS = "torch.ops.export.access_subclass_inner_tensor.default"


def operator(name: str, overload: str) -> Any:
    """The operator quantized_decomposed::name.overload, None if PyTorch has none."""
    torch = import_torch()
    for module in ("torch.ao.quantization.fx._decomposed", "torchao.quantization.pt2e._decomposed"):
        try:
            importlib.import_module(module)
            break
        except ImportError:
            continue
    found = getattr(getattr(torch.ops.quantized_decomposed, name, None), overload, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def function(target: str) -> Callable[..., Any] | None:
    """What computes an exported program's operator of quantisation; None for other targets."""
    if target == _SUBCLASS:
        return inner_tensor
    parts = target.split(".")
    if len(parts) != 5 or parts[:2] != ["torch", "ops"]:
        return None
    if parts[2] == "quantized_decomposed":
        found: Callable[..., Any] | None = operator(parts[3], parts[4])
        return found
    return _TORCHAO.get(parts[3]) if parts[2] == "torchao" and parts[4] == "default" else None


# --- quantized_decomposed ---------------------------------------------------------------------------------------------


def _to_integers(x: Any, scale: Any, zero_point: Any, low: Any, high: Any, dtype: Any) -> Any:
    torch = import_torch()
    bounds = [b.to(torch.float32) if isinstance(b, torch.Tensor) else torch.full((), float(b)) for b in (low, high)]
    steps = torch.round(x.to(torch.float32) * (1.0 / scale.to(torch.float32))) + zero_point.to(torch.float32)
    return torch.minimum(torch.maximum(steps, bounds[0]), bounds[1]).to(dtype)


def _to_reals(x: Any, scale: Any, zero_point: Any, out_dtype: Any) -> Any:
    torch = import_torch()
    steps = x.to(torch.float32) - zero_point.to(torch.float32)
    return (steps * scale.to(torch.float32)).to(out_dtype or torch.float32)


def _quantize(x: Any, scale: float, zero_point: int, low: int, high: int, dtype: Any) -> Any:
    """A range narrower than the type's, which torch.onnx ignores, is that of the numbers before they are quantised."""
    torch = import_torch()
    least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    if (low, high) == (least, most):
        return NotImplemented  # the whole range, which torch.onnx converts rightly
    x = x.clamp((low - zero_point) * scale, (high - zero_point) * scale)
    return torch.ops.quantized_decomposed.quantize_per_tensor.default(x, scale, zero_point, least, most, dtype)


def _quantize_by_tensors(x: Any, scale: Any, zero_point: Any, low: Any, high: Any, dtype: Any) -> Any:
    return _to_integers(x, scale.reshape(()), zero_point.reshape(()), low, high, dtype)


def _dequantize_by_tensors(
    x: Any, scale: Any, zero_point: Any, _low: Any, _high: Any, _dtype: Any, *, out_dtype: Any = None
) -> Any:
    return _to_reals(x, scale.reshape(()), zero_point.reshape(()), out_dtype)


def _asymmetric(low: Any, high: Any, least: float, most: float, eps: float) -> tuple[Any, Any]:
    """Scale and zero point, as reals, for numbers from `low` <= 0 to `high` >= 0."""
    scale = ((high - low) / (most - least)).clamp(min=eps)
    return scale, (least - (low / scale).round()).clamp(least, most)


def _choose(x: Any, low: int, high: int, eps: float, _dtype: Any) -> tuple[Any, Any]:
    torch = import_torch()
    flat = x.flatten()
    scale, zero = _asymmetric(flat.amin(0).clamp(max=0.0), flat.amax(0).clamp(min=0.0), low, high, eps)
    return scale.to(torch.float64).reshape(1), zero.to(torch.int64).reshape(1)


def _choose_per_token(x: Any, _dtype: Any) -> tuple[Any, Any]:
    torch = import_torch()
    scale = x.abs().amax(-1, keepdim=True).to(torch.float32).clamp(min=1e-5) / 127
    return scale, torch.zeros_like(scale)


def _quantize_per_token(x: Any, scales: Any, zero_points: Any, low: int, high: int, dtype: Any) -> Any:
    shape = (*x.shape[:-1], 1)
    return _to_integers(x, scales.reshape(shape), zero_points.reshape(shape), low, high, dtype)


def _dequantize_per_token(
    x: Any, scales: Any, zero_points: Any, _low: int, _high: int, _dtype: Any, output_dtype: Any
) -> Any:
    shape = (*x.shape[:-1], 1)
    return _to_reals(x, scales.reshape(shape), zero_points.reshape(shape), output_dtype)


_DECOMPOSED: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("quantize_per_tensor", "default", _quantize),
    ("quantize_per_tensor", "tensor tensor2", _quantize_by_tensors),
    ("dequantize_per_tensor", "tensor tensor2", _dequantize_by_tensors),
    ("choose_qparams", "tensor", _choose),
    ("choose_qparams_per_token", "default", _choose_per_token),
    ("quantize_per_token", "default", _quantize_per_token),
    ("dequantize_per_token", "default", _dequantize_per_token),
)


def table() -> dict[Any, Callable[..., Any]]:
    """Operator overload → its replacement, for ExportedProgram.run_decompositions."""
    pairs = [(operator(name, o), f) for name, overloads, f in _DECOMPOSED for o in overloads.split()]
    return {known: f for known, f in pairs if known is not None}


# --- torchao ----------------------------------------------------------------------------------------------------------


def inner_tensor(tensors: Mapping[str, Any], attribute: str) -> Any:
    """A part of a weight that is stored as several tensors."""
    if attribute in tensors:
        return tensors[attribute]
    inside = {k.removeprefix(f"{attribute}."): v for k, v in tensors.items() if k.startswith(f"{attribute}.")}
    if not inside:
        raise KeyError(attribute)
    return inside


def _blocks(x: Any, block: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """The shape in which each block has dimensions of its own, that of one number per block, and those dimensions."""
    whole: list[int] = []
    single: list[int] = []
    inside: list[int] = []
    for n, size in zip(x.shape, block, strict=True):
        if size not in (1, n):
            whole.append(n // size)
            single.append(n // size)
        if size != 1:
            inside.append(len(whole))
        whole.append(size if size != 1 else n)
        single.append(n if size == 1 else 1)
    return whole, single, inside


def _quantize_affine(
    input: Any, block_size: Sequence[int], scale: Any, zero_point: Any, output_dtype: Any, quant_min: Any = None,
    quant_max: Any = None,
) -> Any:  # fmt: skip
    torch = import_torch()
    whole, single, _ = _blocks(input, block_size)
    low = torch.iinfo(output_dtype).min if quant_min is None else quant_min
    high = torch.iinfo(output_dtype).max if quant_max is None else quant_max
    zero = torch.zeros(()) if zero_point is None else zero_point.reshape(single)
    found = _to_integers(input.reshape(whole), scale.reshape(single), zero, low, high, output_dtype)
    return found.reshape(input.shape)


def _dequantize_affine(
    input: Any, block_size: Sequence[int], scale: Any, zero_point: Any, input_dtype: Any, quant_min: Any = None,  # noqa: ARG001 - the schema
    quant_max: Any = None, output_dtype: Any = None,  # noqa: ARG001
) -> Any:  # fmt: skip
    torch = import_torch()
    whole, single, _ = _blocks(input, block_size)
    zero = torch.zeros(()) if zero_point is None else zero_point.reshape(single)
    return _to_reals(input.reshape(whole), scale.reshape(single), zero, output_dtype).reshape(input.shape)


def _choose_affine(  # noqa: PLR0913 - the operator's schema
    input: Any, mapping_type: str, block_size: Sequence[int], target_dtype: Any, quant_min: Any = None,
    quant_max: Any = None, eps: float | None = None, scale_dtype: Any = None, zero_point_dtype: Any = None,
    keepdim: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    torch = import_torch()
    whole, _, inside = _blocks(input, block_size)
    least = float(torch.iinfo(target_dtype).min if quant_min is None else quant_min)
    most = float(torch.iinfo(target_dtype).max if quant_max is None else quant_max)
    eps = torch.finfo(input.dtype).smallest_normal if eps is None else eps
    below = input.reshape(whole).amin(inside, keepdim).clamp(max=0.0)
    above = input.reshape(whole).amax(inside, keepdim).clamp(min=0.0)
    if mapping_type == "ASYMMETRIC":
        scale, zero = _asymmetric(below, above, least, most, eps)
    else:
        if mapping_type == "SYMMETRIC":
            scale = torch.maximum(-below, above) / ((most - least) / 2)
        else:
            scale = torch.maximum(below / least, above / most)
        scale, zero = scale.clamp(min=eps), torch.full_like(scale, math.trunc((most + least + 1) / 2))
    if keepdim:
        shape = [n // size for n, size in zip(input.shape, block_size, strict=True)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return scale.to(scale_dtype or input.dtype), zero.to(zero_point_dtype or torch.int32)


_TORCHAO: dict[str, Callable[..., Any]] = {
    "quantize_affine": _quantize_affine,
    "dequantize_affine": _dequantize_affine,
    "choose_qparams_affine": _choose_affine,
}
"""The parameters are named as torchao's."""


def is_torchao(function: Any) -> bool:
    return function in _TORCHAO.values()
