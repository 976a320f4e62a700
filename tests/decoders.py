"""Small decoders as exports have them: rotary positions, keys and values of earlier tokens, a causal mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


@dataclass
class Decoder:
    """A Llama-like decoder with random weights, written node by node.

    `kv`: heads of keys and values, fewer than `heads` share them. `slots`: positions come from the slot in the cache,
    not from position_ids, so that the export is right only for a cache without gaps. `window`: a token sees the last so
    many, counted by slots; with `table`, by those rows and columns of a table of so many positions. `masked`: it has
    attention_mask, and `heeded`: it looks at it.
    `grouped`: its attention is GroupQueryAttention with these attributes, as onnxruntime's model builder has it, which
    counts positions from the mask and leaves the size of a head open.
    """

    layers: int = 2
    width: int = 32
    heads: int = 4
    kv: int = 2
    hidden: int = 48
    vocabulary: int = 61
    positions: int = 4096
    seed: int = 0
    slots: bool = False
    window: int = 0
    table: int = 0
    masked: bool = True
    heeded: bool = True
    grouped: dict[str, Any] | None = None
    bits: int = 0
    """4 or 8: products have weights of so many bits, with a scale for each `block` rows of a column."""
    block: int = 16
    nodes: list[Any] = field(default_factory=list, init=False)
    stated: list[Any] = field(default_factory=list, init=False)
    weights: list[Any] = field(default_factory=list, init=False)
    count: int = field(default=0, init=False)

    @property
    def size(self) -> int:
        return self.width // self.heads

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node's output."""
        self.count += 1
        name = f"{op}_{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def constant(self, value: Any) -> str:
        self.count += 1
        name = f"c_{self.count}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int) -> str:
        values = np.random.default_rng([self.seed, self.count]).standard_normal(shape, np.float32)
        return self.constant(values / np.float32(np.sqrt(shape[0])))

    def matrix(self, *shape: int) -> str:
        """The weights of a product."""
        if not self.bits:
            return self.weight(*shape)
        rng, most = np.random.default_rng([self.seed, self.count]), 1 << (self.bits - 1)
        codes = rng.integers(-most, most, shape).astype(ml_dtypes.int4 if self.bits == 4 else np.int8)
        scales = rng.uniform(0.5, 1, (shape[0] // self.block, shape[1])).astype(np.float32) / np.float32(
            most * shape[0] ** 0.5
        )
        return self.add("DequantizeLinear", self.constant(codes), self.constant(scales), axis=0, block_size=self.block)

    def norm(self, x: str) -> str:
        mean = self.add("ReduceMean", self.add("Mul", x, x), self.constant(np.array([-1], np.int64)), keepdims=1)
        root = self.add("Sqrt", self.add("Add", mean, self.constant(np.float32(1e-5))))
        return self.add("Mul", self.add("Div", x, root), self.constant(np.ones(self.width, np.float32)))

    def rows(self, tensor: str, axis: int) -> str:
        """The size of a dimension, int64[1]."""
        index = self.constant(np.array([axis], np.int64))
        return self.add("Gather", self.add("Shape", tensor), index, axis=0)

    def split_heads(self, x: str, heads: int) -> str:
        shape = self.constant(np.array([0, 0, heads, self.size], np.int64))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def rotated(self, x: str, cos: str, sin: str) -> str:
        half = self.size // 2
        cut = [self.constant(np.array([n], np.int64)) for n in (0, half, self.size, 3)]
        low = self.add("Slice", x, cut[0], cut[1], cut[3])
        high = self.add("Slice", x, cut[1], cut[2], cut[3])
        turned = self.add("Concat", self.add("Neg", high), low, axis=-1)
        return self.add("Add", self.add("Mul", x, cos), self.add("Mul", turned, sin))

    def repeated(self, x: str, total: str) -> str:
        """Keys or values with a copy for each head of the queries, as exports of grouped attention have them."""
        if self.kv == self.heads:
            return x
        one = self.constant(np.array([1], np.int64))
        groups, size = self.constant(np.array([self.heads // self.kv], np.int64)), self.constant(np.array([self.size]))
        kv, heads = self.constant(np.array([self.kv], np.int64)), self.constant(np.array([self.heads], np.int64))
        wide = self.add("Unsqueeze", x, self.constant(np.array([2], np.int64)))
        wide = self.add("Expand", wide, self.add("Concat", one, kv, groups, total, size, axis=0))
        return self.add("Reshape", wide, self.add("Concat", one, heads, total, size, axis=0))

    def grouped_attention(self, k: int, q: str, key: str, value: str, tables: tuple[str, str]) -> str:
        """GroupQueryAttention; packed where its attributes say nothing of rotary embedding's pairs."""
        assert self.grouped is not None
        before = [f"past_key_values.{k}.key", f"past_key_values.{k}.value"]
        after = [f"mixed_{k}", f"present.{k}.key", f"present.{k}.value"]
        own = [q, key, value]
        if "rotary_interleaved" not in self.grouped:
            own = [self.add("Concat", *own, axis=2), "", ""]
        new, width = (own[1], self.kv * self.size) if own[1] else (own[0], (self.heads + 2 * self.kv) * self.size)
        self.stated.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, ["batch", "rows", width]))
        last = self.add("ReduceSum", "attention_mask", self.constant(np.array([1], np.int64)), keepdims=0)
        last = self.add("Cast", self.add("Sub", last, self.constant(np.int64(1))), to=TensorProto.INT32)
        total = self.add("Gather", self.add("Shape", "attention_mask"), self.constant(np.int64(1)), axis=0)
        total = self.add("Cast", total, to=TensorProto.INT32)
        attrs = {"num_heads": self.heads, "kv_num_heads": self.kv, "do_rotary": 1, **self.grouped}
        inputs = [*own, *before, last, total, *tables]
        self.nodes.append(
            helper.make_node("GroupQueryAttention", inputs, after, domain="com.microsoft", name=f"group_{k}", **attrs)
        )
        return after[0]

    def attention(self, k: int, x: str, angles: tuple[str, str], bias: str) -> str:
        """[1, rows, heads * size] of the normalised input of a layer."""
        sizes = (self.heads * self.size, self.kv * self.size, self.kv * self.size)
        q, key, value = (self.add("MatMul", x, self.matrix(self.width, n)) for n in sizes)
        if self.grouped is not None:
            return self.grouped_attention(k, q, key, value, angles)
        q = self.split_heads(q, self.heads)
        key, value = self.split_heads(key, self.kv), self.split_heads(value, self.kv)
        q, key = self.rotated(q, *angles), self.rotated(key, *angles)
        for kind, new in (("key", key), ("value", value)):
            joined = [f"past_key_values.{k}.{kind}", new], [f"present.{k}.{kind}"]
            self.nodes.append(helper.make_node("Concat", *joined, name=f"join_{k}_{kind}", axis=2))
        total = self.rows(f"present.{k}.key", 2)
        keys = self.repeated(f"present.{k}.key", total)
        values = self.repeated(f"present.{k}.value", total)
        scores = self.add("MatMul", q, self.add("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = self.add("Mul", scores, self.constant(np.float32(self.size**-0.5)))
        shares = self.add("Softmax", self.add("Add", scores, bias), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", shares, values), perm=[0, 2, 1, 3])
        return self.add("Reshape", mixed, self.constant(np.array([0, 0, self.width], np.int64)))

    def layer(self, k: int, x: str, angles: tuple[str, str], bias: str) -> str:
        mixed = self.attention(k, self.norm(x), angles, bias)
        x = self.add("Add", x, self.add("MatMul", mixed, self.matrix(self.width, self.width)))
        h = self.norm(x)
        gate = self.add("MatMul", h, self.matrix(self.width, self.hidden))
        gate = self.add("Mul", gate, self.add("Sigmoid", gate))
        up = self.add("Mul", gate, self.add("MatMul", h, self.matrix(self.width, self.hidden)))
        return self.add("Add", x, self.add("MatMul", up, self.matrix(self.hidden, self.width)))

    def cut(self, past: str, total: str) -> str:
        """Who sees whom, bool[1, 1, rows, slots], cut out of a constant for all positions, as GPT-Neo has it."""
        every = np.tri(self.table, dtype=np.bool_) & ~np.tri(self.table, k=-(self.window or self.table), dtype=np.bool_)
        zero, rows, columns = (self.constant(np.array([n], np.int64)) for n in (0, 2, 3))
        lines = self.add("Slice", self.constant(every[None, None]), past, total, rows)
        return self.add("Slice", lines, zero, total, columns)

    def model(self) -> ModelProto:
        past = self.rows("past_key_values.0.key", 2)
        new = self.rows("input_ids", 1)
        total = self.add("Add", past, new)
        scalar = self.constant(np.array([], np.int64))
        zero, one = self.constant(np.int64(0)), self.constant(np.int64(1))
        every = self.add("Range", zero, self.add("Reshape", total, scalar), one)
        own = self.add("Range", self.add("Reshape", past, scalar), self.add("Reshape", total, scalar), one)
        column = self.add("Unsqueeze", own, self.constant(np.array([1], np.int64)))
        seen = self.add("LessOrEqual", every, column)  # [rows, slots]
        if self.table:
            seen = self.cut(past, total)
        elif self.window:
            first = self.add("Sub", column, self.constant(np.int64(self.window)))
            seen = self.add("And", seen, self.add("Greater", every, first))
        if self.masked and self.heeded:
            there = self.add("Cast", "attention_mask", to=TensorProto.BOOL)
            there = self.add("Unsqueeze", there, self.constant(np.array([1, 2], np.int64)))
            seen = self.add("And", seen, there)
        bias = self.add("Where", seen, self.constant(np.float32(0)), self.constant(np.float32(-3e38)))
        at = self.add("Unsqueeze", own, self.constant(np.array([0], np.int64))) if self.slots else "position_ids"
        angle = np.arange(self.positions)[:, None] * 1e4 ** (-np.arange(0, self.size, 2) / self.size)
        tables = [np.tile(f(angle), 2).astype(np.float32) for f in (np.cos, np.sin)]
        if self.grouped is not None:
            cos, sin = (self.constant(t[:, : self.size // 2]) for t in tables)
        else:
            cos, sin = (
                self.add("Unsqueeze", self.add("Gather", self.constant(t), at, axis=0), self.constant(np.array([1])))
                for t in tables
            )
        x = self.add("Gather", self.weight(self.vocabulary, self.width), "input_ids", axis=0)
        for k in range(self.layers):
            x = self.layer(k, x, (cos, sin), bias)
        logits = helper.make_node("MatMul", [self.norm(x), self.matrix(self.width, self.vocabulary)], ["logits"])
        info = helper.make_tensor_value_info
        size = self.size if self.grouped is None else "kv_cache_dim"
        cache = ["batch", self.kv, "past", size]
        grown = ["batch", self.kv, "total", size]
        parts = [(k, kind) for k in range(self.layers) for kind in ("key", "value")]
        graph = helper.make_graph(
            [*self.nodes, logits],
            "decoder",
            [
                info("input_ids", TensorProto.INT64, ["batch", "rows"]),
                *([info("attention_mask", TensorProto.INT64, ["batch", "total"])] if self.masked else []),
                *(
                    []
                    if self.slots or self.grouped is not None
                    else [info("position_ids", TensorProto.INT64, ["batch", "rows"])]
                ),
                *(info(f"past_key_values.{k}.{kind}", TensorProto.FLOAT, cache) for k, kind in parts),
            ],
            [
                info("logits", TensorProto.FLOAT, ["batch", "rows", self.vocabulary]),
                *(info(f"present.{k}.{kind}", TensorProto.FLOAT, grown) for k, kind in parts),
            ],
            self.weights,
            value_info=self.stated,
        )
        opsets = [helper.make_opsetid("", 21 if self.bits else 18), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets[: 1 + (self.grouped is not None)], ir_version=10)


class Grown:
    """onnxruntime's run of such an export, with a cache that grows as its authors meant it."""

    def __init__(self, model: ModelProto, size: int = 0) -> None:
        """`size`: of a head, where the model leaves it open."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.length = 0
        self.past = {
            name: np.zeros((1, i.shape[1], 0, size or i.shape[3]), np.float32)
            for name, i in self.inputs.items()
            if name.startswith("past")
        }

    def read(self, tokens: Sequence[int]) -> Array:
        """The logits after each of some more tokens, [tokens, vocabulary]."""
        rows, total = len(tokens), self.length + len(tokens)
        given = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(self.length, total, dtype=np.int64)[None],
        }
        assert rows
        feeds = {**{k: v for k, v in given.items() if k in self.inputs}, **self.past}
        logits, *present = self.session.run(None, feeds)
        self.past = dict(zip(self.past, present, strict=True))
        self.length = total
        return np.asarray(logits)[0]

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The tokens that follow, each the likeliest."""
        found: list[int] = []
        logits = self.read(prompt)[-1]
        while len(found) < count:
            found.append(int(logits.argmax()))
            logits = self.read(found[-1:])[-1]
        return found


def save(model: ModelProto, path: Any) -> Any:
    onnx.save(model, path)
    return path
