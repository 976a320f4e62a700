# ruff: noqa: E501  (a table's rows)
"""Caffe layers: as files, and as NumPy defines them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any


def varint(value: int) -> bytes:
    out = b""
    while True:
        out += bytes([value & 127 | (128 if value > 127 else 0)])
        value >>= 7
        if not value:
            return out


def block(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(x: Array, old: bool = False, double: bool = False) -> bytes:
    x = np.asarray(x)
    if old:
        dims = [1] * (4 - x.ndim) + list(x.shape)
        head = b"".join(varint(k << 3) + varint(d) for k, d in enumerate(dims, 1))
    else:
        head = block(7, block(1, b"".join(map(varint, x.shape))))
    return head + (block(8, x.astype("<f8").tobytes()) if double else block(5, x.astype("<f4").tobytes()))


def caffemodel(layers: dict[str, Sequence[Array]], old: bool = False, double: bool = False) -> bytes:
    out = block(1, b"net")
    for name, blobs in layers.items():
        body = block(4 if old else 1, name.encode())
        body += b"".join(block(6 if old else 7, blob(b, old, double)) for b in blobs)
        out += block(2 if old else 100, body)
    return out


R = np.random.default_rng(7)
X = R.standard_normal((2, 6, 9, 8)).astype(np.float32)
Y = R.standard_normal((2, 6, 9, 8)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.5)


def sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def conv(x: Array, w: Array, b: Array | None, stride: int, pad: int, dilation: int, group: int) -> Array:
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n, c, h, wd = x.shape
    o, _, kh, kw = w.shape
    oh, ow = ((s - dilation * (k - 1) - 1) // stride + 1 for s, k in ((h, kh), (wd, kw)))
    y = np.zeros((n, o, oh, ow))
    for k in range(o):
        first = k // (o // group) * (c // group)
        for i in range(oh):
            for j in range(ow):
                part = x[:, first : first + c // group, i * stride :, j * stride :][
                    :, :, : dilation * (kh - 1) + 1 : dilation
                ]
                part = part[:, :, :, : dilation * (kw - 1) + 1 : dilation]
                y[:, k, i, j] = (part * w[k]).sum((1, 2, 3))
    return y if b is None else y + b[:, None, None]


def deconv(x: Array, w: Array, b: Array, stride: int, pad: int) -> Array:
    n, _, h, wd = x.shape
    _, o, kh, kw = w.shape
    y = np.zeros((n, o, (h - 1) * stride + kh, (wd - 1) * stride + kw))
    for i in range(h):
        for j in range(wd):
            y[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw] += np.einsum(
                "nc,cokl->nokl", x[:, :, i, j], w
            )
    return y[:, :, pad : y.shape[2] - pad, pad : y.shape[3] - pad] + b[:, None, None]


def pool(x: Array, kind: str, k: int, s: int, p: int) -> Array:
    """As PoolingLayer::Forward_cpu does it: ceil, the last window clipped, an average over the padding too."""
    n, c, h, w = x.shape
    sizes = []
    for size in (h, w):
        o = math.ceil((size + 2 * p - k) / s) + 1
        sizes.append(o - 1 if p and (o - 1) * s >= size + p else o)
    y = np.zeros((n, c, *sizes))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            i0, j0 = i * s - p, j * s - p
            i1, j1 = min(i0 + k, h + p), min(j0 + k, w + p)
            count = (i1 - i0) * (j1 - j0)
            part = x[:, :, max(i0, 0) : min(i1, h), max(j0, 0) : min(j1, w)]
            y[:, :, i, j] = part.max((2, 3)) if kind == "MAX" else part.sum((2, 3)) / count
    return y


def lrn(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    half, y = size // 2, np.zeros(x.shape)
    for c in range(x.shape[1]):
        part = x[:, max(0, c - half) : c + half + 1]
        y[:, c] = x[:, c] / (k + alpha / size * (part.astype(np.float64) ** 2).sum(1)) ** beta
    return y


def interp(x: Array, out: tuple[int, int]) -> Array:
    def axis(v: Array, dim: int, size: int) -> Array:
        n = v.shape[dim]
        place = np.arange(size) * ((n - 1) / (size - 1))
        low = np.minimum(place.astype(int), n - 2)
        t = (place - low).reshape([-1 if d == dim else 1 for d in range(4)])
        return np.take(v, low, dim) * (1 - t) + np.take(v, low + 1, dim) * t

    return axis(axis(x, 2, out[0]), 3, out[1])


def lstm(x: Array, cont: Array, w: Array, b: Array, r: Array) -> Array:
    steps, batch = cont.shape
    size = r.shape[1]
    h = c = np.zeros((batch, size))
    out = []
    for t in range(steps):
        keep = cont[t][:, None]
        i, f, o, g = np.split(x[t] @ w.T + b + (h * keep) @ r.T, 4, 1)
        c = sigmoid(f) * c * keep + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out)


def mvn(x: Array, axes: tuple[int, ...], eps: float = 1e-9) -> Array:
    y = x - x.mean(axes, keepdims=True)
    return y / (np.sqrt((y**2).mean(axes, keepdims=True)) + eps)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def rnd(*shape: int) -> Array:
    return R.standard_normal(shape).astype(np.float32)


W, B, WG, WD, BD = rnd(4, 6, 3, 3), rnd(4), rnd(6, 2, 3, 3), rnd(6, 3, 4, 4), rnd(3)
IP, IPB, MEAN, VAR, V6, A6 = rnd(5, 432), rnd(5), rnd(6), np.abs(rnd(6)) + 0.5, rnd(6), rnd(6)
SEQ, CONT = rnd(5, 2, 3), np.float32([[0, 0], [1, 1], [1, 0], [0, 1], [1, 1]])
LW, LB, LR = rnd(16, 3), rnd(16), rnd(16, 4)
EMB, EMBB, INDEX = rnd(7, 3), rnd(3), np.float32([[1, 6], [0, 3]])

Case = tuple[str, list[Array], list[Array], Callable[[], Any]]
CASES: dict[str, Case] = {
    "convolution": ('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }', [X], [W, B],
                    lambda: conv(X, W, B, 2, 1, 1, 1)),
    "convolution_group": ('type: "Convolution" convolution_param { num_output: 6 kernel_h: 3 kernel_w: 3 group: 3 dilation: 2 bias_term: false }',
                          [X], [WG], lambda: conv(X, WG, None, 1, 0, 2, 3)),
    "depthwise": ('type: "DepthwiseConvolution" convolution_param { num_output: 6 kernel_size: 3 bias_term: false }', [X], [WG[:, :1]],
                  lambda: conv(X, WG[:, :1], None, 1, 0, 1, 6)),
    "deconvolution": ('type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }', [X], [WD, BD],
                      lambda: deconv(X, WD, BD, 2, 1)),
    "inner_product": ('type: "InnerProduct" inner_product_param { num_output: 5 }', [X], [IP, IPB],
                      lambda: X.reshape(2, -1) @ IP.T + IPB),
    "inner_product_axis": ('type: "InnerProduct" inner_product_param { num_output: 5 axis: -1 transpose: true bias_term: false }', [X], [IP[:, :8].T],
                           lambda: X @ IP[:, :8].T),
    "embed": ('type: "Embed" embed_param { num_output: 3 input_dim: 7 }', [INDEX], [EMB, EMBB], lambda: EMB[INDEX.astype(int)] + EMBB),
    "batch_norm": ('type: "BatchNorm" batch_norm_param { eps: 0.01 }', [X], [MEAN, VAR, np.float32([2])],
                   lambda: (X - MEAN[:, None, None] / 2) / np.sqrt(VAR[:, None, None] / 2 + 0.01)),
    "batch_norm_empty": ('type: "BatchNorm"', [X], [MEAN, VAR, np.float32([0])], lambda: X / np.sqrt(1e-5)),
    "batch_norm_five": ('type: "BatchNorm" batch_norm_param { scale_bias: true }', [X], [MEAN, VAR, np.float32([1]), V6, A6],
                        lambda: (X - MEAN[:, None, None]) / np.sqrt(VAR[:, None, None] + 1e-5) * V6[:, None, None] + A6[:, None, None]),
    "scale": ('type: "Scale" scale_param { bias_term: true }', [X], [V6, A6], lambda: X * V6[:, None, None] + A6[:, None, None]),
    "scale_two": ('type: "Scale" scale_param { axis: 0 }', [X, Y[:, :, 0, 0].copy()], [], lambda: X * Y[:, :, :1, :1]),
    "scale_axes": ('type: "Scale" scale_param { axis: 2 num_axes: -1 }', [X], [Y[0, 0]], lambda: X * Y[0, 0]),
    "bias": ('type: "Bias"', [X], [V6], lambda: X + V6[:, None, None]),
    "axpy": ('type: "Axpy"', [X[:, :, :1, :1].copy(), X, Y], [], lambda: X[:, :, :1, :1] * X + Y),
    "lstm": ('type: "LSTM" recurrent_param { num_output: 4 }', [SEQ, CONT], [LW, LB, LR], lambda: lstm(SEQ, CONT, LW, LB, LR)),
    "lrn": ('type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }', [X], [], lambda: lrn(X, 3, 0.5, 0.6, 2)),
    "lrn_within": ('type: "LRN" lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }', [X], [],
                   lambda: X * (1 + 0.5 * pool(X**2, "AVE", 3, 1, 1)) ** -0.75),
    "mvn": ('type: "MVN"', [X], [], lambda: mvn(X, (2, 3))),
    "mvn_across": ('type: "MVN" mvn_param { across_channels: true normalize_variance: false }', [X], [], lambda: X - X.mean((1, 2, 3), keepdims=True)),
    "normalize": ('type: "Normalize" norm_param { across_spatial: false channel_shared: false }', [X], [V6],
                  lambda: X / np.sqrt((X**2).sum(1, keepdims=True) + 1e-10) * V6[:, None, None]),
    "normalize_whole": ('type: "Normalize"', [X], [np.float32([3])], lambda: 3 * X / np.sqrt((X**2).sum((1, 2, 3), keepdims=True))),
    "interp": ('type: "Interp" interp_param { height: 13 width: 5 }', [X], [], lambda: interp(X, (13, 5))),
    "interp_zoom": ('type: "Interp" interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -1 }', [X], [], lambda: interp(X[:, :, 1:-1, 1:-1], (13, 11))),
    "interp_shrink": ('type: "Interp" interp_param { shrink_factor: 3 }', [X], [], lambda: interp(X, (3, 3))),
    "relu": ('type: "ReLU"', [X], [], lambda: np.maximum(X, 0)),
    "relu_slope": ('type: "ReLU" relu_param { negative_slope: 0.1 }', [X], [], lambda: np.where(X > 0, X, 0.1 * X)),
    "prelu": ('type: "PReLU"', [X], [V6], lambda: np.where(X > 0, X, V6[:, None, None] * X)),
    "prelu_shared": ('type: "PReLU" prelu_param { channel_shared: true }', [X], [V6[:1]], lambda: np.where(X > 0, X, V6[0] * X)),
    "elu": ('type: "ELU" elu_param { alpha: 0.7 }', [X], [], lambda: np.where(X > 0, X, 0.7 * (np.exp(X) - 1))),
    "sigmoid": ('type: "Sigmoid"', [X], [], lambda: sigmoid(X)),
    "tanh": ('type: "TanH"', [X], [], lambda: np.tanh(X)),
    "absval": ('type: "AbsVal"', [X], [], lambda: np.abs(X)),
    "bnll": ('type: "BNLL"', [X], [], lambda: np.log1p(np.exp(X))),
    "threshold": ('type: "Threshold" threshold_param { threshold: 0.3 }', [X], [], lambda: (X > 0.3).astype(np.float32)),
    "swish": ('type: "Swish" swish_param { beta: 2 }', [X], [], lambda: X * sigmoid(2 * X)),
    "power": ('type: "Power" power_param { power: 1.5 scale: 2 shift: 1 }', [POSITIVE], [], lambda: (1 + 2 * POSITIVE) ** 1.5),
    "exp": ('type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }', [X], [], lambda: 2 ** (1 + 0.5 * X)),
    "log": ('type: "Log" log_param { base: 10 scale: 2 shift: 1 }', [POSITIVE], [], lambda: np.log10(1 + 2 * POSITIVE)),
    "dropout": ('type: "Dropout" dropout_param { dropout_ratio: 0.4 }', [X], [], lambda: X),
    "eltwise_sum": ('type: "Eltwise" eltwise_param { coeff: 2 coeff: -1 }', [X, Y], [], lambda: 2 * X - Y),
    "eltwise_default": ('type: "Eltwise"', [X, Y], [], lambda: X + Y),
    "eltwise_max": ('type: "Eltwise" eltwise_param { operation: MAX }', [X, Y], [], lambda: np.maximum(X, Y)),
    "eltwise_prod": ('type: "Eltwise" eltwise_param { operation: PROD }', [X, Y], [], lambda: X * Y),
    "concat": ('type: "Concat" concat_param { axis: 2 }', [X, Y], [], lambda: np.concatenate([X, Y], 2)),
    "slice": ('type: "Slice" top: "z2" top: "z3" slice_param { slice_point: 1 slice_point: 3 }', [X], [], lambda: [X[:, :1], X[:, 1:3], X[:, 3:]]),
    "slice_even": ('type: "Slice" top: "z2" slice_param { axis: 3 }', [X], [], lambda: np.split(X, 2, 3)),
    "split": ('type: "Split" top: "z2"', [X], [], lambda: [X, X]),
    "reshape": ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 4 } }', [X], [], lambda: X.reshape(2, -1, 4)),
    "reshape_part": ('type: "Reshape" reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }', [X], [], lambda: X.reshape(2, 2, 3, 9, 8)),
    "reshape_insert": ('type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }', [X], [], lambda: X.reshape(2, 6, 9, 8, 1)),
    "flatten": ('type: "Flatten" flatten_param { axis: 1 end_axis: 2 }', [X], [], lambda: X.reshape(2, 54, 8)),
    "permute": ('type: "Permute" permute_param { order: 0 order: 2 order: 3 }', [X], [], lambda: X.transpose(0, 2, 3, 1)),
    "crop": ('type: "Crop" crop_param { offset: 2 offset: 1 }', [X, rnd(1, 1, 5, 4)], [], lambda: X[:, :, 2:7, 1:5]),
    "tile": ('type: "Tile" tile_param { axis: 2 tiles: 3 }', [X], [], lambda: np.tile(X, (1, 1, 3, 1))),
    "shuffle": ('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', [X], [], lambda: X.reshape(2, 3, 2, 9, 8).transpose(0, 2, 1, 3, 4).reshape(X.shape)),
    "softmax": ('type: "Softmax"', [X], [], lambda: softmax(X, 1)),
    "softmax_axis": ('type: "Softmax" softmax_param { axis: -1 }', [X], [], lambda: softmax(X, 3)),
    "softmax_loss": ('type: "SoftmaxWithLoss"', [X], [], lambda: softmax(X, 1)),
    "reduction_sum": ('type: "Reduction" reduction_param { axis: 1 coeff: 2 }', [X], [], lambda: 2 * X.sum((1, 2, 3))),
    "reduction_asum": ('type: "Reduction" reduction_param { operation: ASUM axis: 2 }', [X], [], lambda: np.abs(X).sum((2, 3))),
    "reduction_sumsq": ('type: "Reduction" reduction_param { operation: SUMSQ axis: -1 }', [X], [], lambda: (X**2).sum(3)),
    "reduction_mean": ('type: "Reduction" reduction_param { operation: MEAN }', [X], [], lambda: X.mean()),
    "argmax": ('type: "ArgMax" argmax_param { out_max_val: true top_k: 2 }', [X], [],
               lambda: np.stack([np.argsort(-X.reshape(2, -1), 1)[:, :2], -np.sort(-X.reshape(2, -1), 1)[:, :2]], 1)),
    "argmax_axis": ('type: "ArgMax" argmax_param { axis: 1 }', [X], [], lambda: X.argmax(1)[:, None]),
}  # fmt: skip
for _kind in ("MAX", "AVE"):
    for _k, _s, _p in ((2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (4, 3, 2), (2, 3, 1), (3, 1, 1), (5, 4, 0)):
        _text = f'type: "Pooling" pooling_param {{ pool: {_kind} kernel_size: {_k} stride: {_s} pad: {_p} }}'
        CASES[f"pooling_{_kind}_{_k}_{_s}_{_p}"] = (_text, [X], [], lambda a=(_kind, _k, _s, _p): pool(X, *a))  # type: ignore[misc]
    CASES[f"pooling_{_kind}_global"] = (
        f'type: "Pooling" pooling_param {{ pool: {_kind} global_pooling: true }}', [X], [],
        lambda kind=_kind: (X.max if kind == "MAX" else X.mean)((2, 3), keepdims=True),
    )  # type: ignore[misc]  # fmt: skip
