"""onnxruntime's operators on words: MurmurHash3 of numbers, and embeddings of words by their letters."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from dlpack.model.contrib_node import Call, contrib, number


@contrib("MurmurHash3")
def murmur_hash(call: Call) -> None:
    """MurmurHash3_x86_32 of the bytes of integers."""
    call.require_opset(18)
    if call.dtype(0).kind not in "iu" or call.dtype(0).itemsize < 4:
        call.refuse(f"numbers of the type {call.dtype(0).name} are not supported")
    size = call.dtype(0).itemsize
    seed = call.attr("seed", 0) % (1 << 32)

    def word(value: int) -> str:
        return call.array(np.uint32(value % (1 << 32)))

    def shifted(x: str, bits: int, way: str) -> str:
        return call.add("BitShift", x, word(bits), direction=way)

    def rotated(x: str, bits: int) -> str:
        return call.add("BitwiseOr", shifted(x, bits, "LEFT"), shifted(x, 32 - bits, "RIGHT"))

    def mixed(x: str, bits: int) -> str:
        return call.add("BitwiseXor", x, shifted(x, bits, "RIGHT"))

    whole = call.add("Cast", call.input(0), to=TensorProto.UINT64)
    low = call.add("Cast", call.add("BitwiseAnd", whole, call.array(np.uint64(0xFFFFFFFF))), to=TensorProto.UINT32)
    blocks = [low]
    if size == 8:
        high = call.add("BitShift", whole, call.array(np.uint64(32)), direction="RIGHT")
        blocks.append(call.add("Cast", high, to=TensorProto.UINT32))
    h = word(seed)
    for block in blocks:
        k = rotated(call.add("Mul", block, word(0xCC9E2D51)), 15)
        h = rotated(call.add("BitwiseXor", h, call.add("Mul", k, word(0x1B873593))), 13)
        h = call.add("Add", call.add("Mul", h, word(5)), word(0xE6546B64))
    h = call.add("BitwiseXor", h, word(size))
    h = call.add("Mul", mixed(h, 16), word(0x85EBCA6B))
    h = mixed(call.add("Mul", mixed(h, 13), word(0xC2B2AE35)), 16)
    if call.attr("positive", 1):
        call.give(0, h)
        return
    signed = call.add("Cast", h, to=TensorProto.INT64)
    below = call.add("Less", signed, call.array(np.int64(1 << 31)))
    signed = call.add("Where", below, signed, call.add("Sub", signed, call.array(np.int64(1 << 32))))
    call.give(0, call.add("Cast", signed, to=TensorProto.INT32))


@contrib("WordConvEmbedding")
def embedding_by_letters(call: Call) -> None:
    """The largest tanh of a convolution along each word [words, letters], whose end zeros are; nothing for no word."""
    call.require_opset(13)
    (words, letters), (filters, _, width, size) = call.shape(0), call.shape(1)
    rows = call.reshape(call.add("Gather", call.input(3), call.input(0), axis=0), words, 1, letters, size)
    places = letters - width + 1
    y = call.reshape(call.add("Conv", rows, call.input(1), call.input(2)), words, filters, places)
    written = call.add("Cast", call.add("Greater", call.input(0), number(call, 0)), to=TensorProto.INT32)
    length = call.sum(written, 1)
    first = call.add("Greater", call.slice(call.input(0), 1, 0, 1), number(call, 0))
    ends = call.add("Max", call.add("Sub", length, number(call, width - 1)), number(call, 1))
    used = call.add("Less", call.array(np.arange(places, dtype=np.int32)[None]), ends)
    hidden = call.array(np.float32(-2))  # less than any tanh
    y = call.add("Where", call.reshape(used, words, 1, places), call.add("Tanh", y), hidden)
    if call.opset >= 18:
        y = call.add("ReduceMax", y, call.array([2], np.int64), keepdims=0)
    else:
        y = call.add("ReduceMax", y, axes=[2], keepdims=0)
    call.give(0, call.add("Where", first, y, call.array(np.float32(0))))
