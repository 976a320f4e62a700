"""onnxruntime's layer normalisations: of a sum, of embeddings, and without a mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlpack.model.contrib_node import Call, contrib, number


def layer_normalization(call: Call, x: str, scale: str, bias: str, epsilon: float, like: int) -> str:
    """Of the last dimension; `bias` may be "". The element type is that of the input `like`."""
    if call.opset >= 17:
        return call.add("LayerNormalization", x, scale, *([bias] if bias else []), axis=-1, epsilon=epsilon)
    y = call.add("Sub", x, call.mean(x, -1))
    y = call.add("Mul", simplified(call, y, epsilon, like), scale)
    return call.add("Add", y, bias) if bias else y


def simplified(call: Call, x: str, epsilon: float, like: int) -> str:
    """x / sqrt(mean of squares + epsilon), of the last dimension."""
    square = call.mean(call.add("Mul", x, x), -1)
    return call.add("Div", x, call.add("Sqrt", call.add("Add", square, number(call, epsilon, like))))


@contrib("LayerNormalization", domain="")
def old_layer_normalization(call: Call) -> None:
    """Of opsets before 17, in which ONNX did not have it."""
    if call.attr("axis", -1) not in (-1, len(call.shape(0)) - 1):
        call.refuse(f"its attribute axis = {call.attr('axis', -1)} is not supported before opset 17")
    epsilon = call.attr("epsilon", 1e-5)
    call.give(0, layer_normalization(call, call.input(0), call.input(1), call.optional(2), epsilon, 0))


@contrib("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(call: Call) -> None:
    if call.attr("axis", -1) not in (-1, len(call.shape(0)) - 1):
        call.refuse(f"its attribute axis = {call.attr('axis', -1)} is not supported")
    y = simplified(call, call.input(0), call.attr("epsilon", 1e-5), 0)
    call.give(0, call.add("Mul", y, call.input(1)))


def _sum(call: Call, bias: int) -> str:
    x = call.add("Add", call.input(0), call.input(1))
    if call.has(bias):
        x = call.add("Add", x, call.input(bias))
    call.give(3, x)
    return x


@contrib("SkipLayerNormalization")
def skip_layer_normalization(call: Call) -> None:
    """LayerNormalization of input + skip + bias; the sum is the output 3."""
    x = _sum(call, 4)
    epsilon = call.attr("epsilon", 1e-12)
    call.give(0, layer_normalization(call, x, call.input(2), call.optional(3), epsilon, 0))


@contrib("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(call: Call) -> None:
    x = _sum(call, 3)
    call.give(0, call.add("Mul", simplified(call, x, call.attr("epsilon", 1e-12), 0), call.input(2)))


@contrib("EmbedLayerNormalization")
def embed_layer_normalization(call: Call) -> None:
    """LayerNormalization of word + position + segment embeddings; the number of ones in each row of the mask."""
    call.refuse_attributes(mask_index_type=call.attr("mask_index_type", 0) if not call.wants(1) else 0)

    def rows(table: int, ids: str) -> str:
        return call.add("Gather", call.input(table), ids, axis=0)

    x = _embeddings(call, rows, call.optional(8))
    call.give(2, x)
    call.give(0, layer_normalization(call, x, call.input(5), call.input(6), call.attr("epsilon", 1e-12), 2))
    _count_ones(call)


@contrib("QEmbedLayerNormalization")
def quantised_embed_layer_normalization(call: Call) -> None:
    """With integers in the tables, gamma and beta, a scale and a zero point each."""

    def numbers(index: int, x: str) -> str:
        return call.add("DequantizeLinear", x, call.input(index + 6), call.input(index + 11))

    def rows(table: int, ids: str) -> str:
        return numbers(table, call.add("Gather", call.input(table), ids, axis=0))

    gamma, beta = (numbers(index, call.input(index)) for index in (5, 6))
    x = _embeddings(call, rows, "")
    call.give(0, layer_normalization(call, x, gamma, beta, call.attr("epsilon", 1e-12), 8))
    _count_ones(call)


def _embeddings(call: Call, rows: Callable[[int, str], str], positions: str) -> str:
    """The sum of the rows of the tables; `rows` gives those of the table that is an input."""
    length = call.shape(0)[1]
    positions = positions or call.array(np.arange(length).reshape(1, length), np.int64)
    x = call.add("Add", rows(2, call.input(0)), rows(3, positions))
    return call.add("Add", x, rows(4, call.input(1))) if call.has(1) else x


def _count_ones(call: Call) -> None:
    """The output 1: the number of ones in each row of the mask, zeros without a mask."""
    if not call.wants(1):
        return
    batch, length = call.shape(0)
    if not call.has(7):
        call.give(1, call.array(np.zeros(batch, np.int32)))
        return
    ones = call.add("Cast", call.add("Equal", call.input(7), number(call, 1, 7)), to=1)
    count = call.reshape(call.add("Mul", call.mean(ones, -1), call.array(np.float32(length))), batch)
    rounded = call.add("Floor", call.add("Add", count, call.array(np.float32(0.5))))
    call.give(1, call.add("Cast", rounded, to=6))
