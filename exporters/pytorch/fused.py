"""Operators of TorchScript that torch.onnx does not know, as plain ones: ATen's fused inference operators, and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlpack.errors import UnsupportedError
from dlpack.exporters.pytorch.framework import import_torch


def _attention(x: Any, heads: int, qkv: tuple[Any, Any], projection: tuple[Any, Any], mask: Any) -> Any:
    """Self-attention over x [batch, tokens, width]; `qkv` is weight [3 * width, width] and bias."""
    f = import_torch().nn.functional
    batch, tokens, width = x.shape
    parts = f.linear(x, *qkv).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    q, k, v = parts[0], parts[1], parts[2]
    mixed = f.scaled_dot_product_attention(q, k, v, None if mask is None else mask.logical_not())
    return f.linear(mixed.permute(0, 2, 1, 3).reshape(batch, tokens, width), *projection)


def _mask(mask: Any, kind: int | None) -> Any:
    """ATen's mask over pairs of tokens (kind 0); True masks a pair out."""
    if mask is not None and kind not in (None, 0):
        raise UnsupportedError("a padding mask inside a fused transformer layer cannot be exported; trace with grad on")
    return mask


def transformer_encoder_layer(  # noqa: PLR0913 - the operator's schema
    x: Any, width: int, heads: int, qkv_weight: Any, qkv_bias: Any, out_weight: Any, out_bias: Any, gelu: bool,
    norm_first: bool, eps: float, norm1_weight: Any, norm1_bias: Any, norm2_weight: Any, norm2_bias: Any,
    ffn1_weight: Any, ffn1_bias: Any, ffn2_weight: Any, ffn2_bias: Any, mask: Any = None, mask_type: int | None = None,
) -> Any:  # fmt: skip
    """aten::_transformer_encoder_layer_fwd."""
    f = import_torch().nn.functional
    mask = _mask(mask, mask_type)

    def attend(y: Any) -> Any:
        return _attention(y, heads, (qkv_weight, qkv_bias), (out_weight, out_bias), mask)

    def feed(y: Any) -> Any:
        hidden = f.linear(y, ffn1_weight, ffn1_bias)
        return f.linear(f.gelu(hidden) if gelu else f.relu(hidden), ffn2_weight, ffn2_bias)

    def norm1(y: Any) -> Any:
        return f.layer_norm(y, (width,), norm1_weight, norm1_bias, eps)

    def norm2(y: Any) -> Any:
        return f.layer_norm(y, (width,), norm2_weight, norm2_bias, eps)

    if norm_first:
        x = x + attend(norm1(x))
        return x + feed(norm2(x))
    x = norm1(x + attend(x))
    return norm2(x + feed(x))


def multi_head_attention(  # noqa: PLR0913 - the operator's schema
    query: Any, key: Any, value: Any, _width: int, heads: int, qkv_weight: Any, qkv_bias: Any, out_weight: Any,
    out_bias: Any, mask: Any = None, need_weights: bool = True, _average: bool = True, mask_type: int | None = None,
) -> Any:  # fmt: skip
    """aten::_native_multi_head_attention, of one tensor with itself."""
    if query is not key or key is not value or need_weights:
        raise UnsupportedError(
            "a fused attention that is not plain self-attention cannot be exported; trace with grad on"
        )
    return _attention(query, heads, (qkv_weight, qkv_bias), (out_weight, out_bias), _mask(mask, mask_type)), None


def convolution(*args: Any) -> Any:
    """aten::_convolution, without the flags of cuDNN behind its nine arguments."""
    return import_torch().ops.aten.convolution(*args[:9])


_DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
           11: "bool", 15: "bfloat16"}  # fmt: skip


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:  # noqa: ARG001 - the schema
    """aten::tensor, whose schema for lists cannot be called from Python; TorchScript writes types as numbers."""
    torch = import_torch()
    kind = getattr(torch, _DTYPES[dtype]) if isinstance(dtype, int) else dtype
    return torch.tensor(data, dtype=kind)


FUSED: dict[str, Callable[..., Any]] = {
    "tensor": tensor,
    "as_tensor": tensor,
    "_convolution": convolution,
    "_transformer_encoder_layer_fwd": transformer_encoder_layer,
    "_native_multi_head_attention": multi_head_attention,
}
