"""Text generation: a decoder's export with its past, and the sets of shapes in which a bundle reads and writes tokens.

An export in the style of transformers takes token ids, a mask, positions and the keys and values of the tokens before
(`past_key_values.0.key`), and gives logits and the keys and values with those of the new tokens (`present.0.key`).
In a bundle these lie in the predictor, so they are neither inputs nor outputs of it.

A model of speech has its encoder in the same graph: the input `input_features`, from which alone the outputs
`cross_key_values.0.key` are computed, the keys and values to which the decoder attends besides. In a bundle they lie in
the predictor, too: the first token of a text is read together with the features, the others without them.

A model that answers a text has an encoder of text in the same way: in place of features it takes `encoder_input_ids`,
and in all runs `encoder_attention_mask`, which says how many of them there are. Several sets of shapes run the encoder,
for texts of several lengths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlpack.errors import UnsupportedError, UsageError
from dlpack.meaning.answers import Answers
from dlpack.meaning.shape_sets import Shapes

CONTEXT = 1024
"""Tokens that a predictor keeps where the user states no number."""

LARGEST = 1 << 20

BLOCK = 16
"""Tokens of a prompt that are read at once."""

LARGE_BLOCK = 64
"""The same where at least as many are to be read, of a context of four times as many or more."""

SOURCE = 512
"""Tokens of a text that an encoder reads where the user states no number, and the model knows as many."""

_SHORTEST = 128
"""A run attends to one of a few numbers of slots; below this it makes no difference."""

_SHORTEST_SOURCE = 32
"""The same of the lengths of texts that an encoder reads."""

_PAST = re.compile(r"past(?:_key_values?)?[._](.+)")
_PRESENT = re.compile(r"present(?:_key_values?)?[._](.+)")
_CROSS = re.compile(r"cross(?:_key_values?)?[._](.+)")


@dataclass(frozen=True)
class TextEncoder:
    """What a program knows of an encoder of text: `tokens` and `mask` number its inputs.

    The set of shapes of number k reads a text of up to `lengths[k]` tokens, of which there are `vocabulary`, with the
    first token of an answer. `start` are the tokens before an answer, `suppressed` those that are never written.
    """

    tokens: int
    mask: int
    lengths: tuple[int, ...]
    vocabulary: int
    start: tuple[int, ...]
    suppressed: tuple[int, ...]


@dataclass(frozen=True)
class Decoder:
    """What a program knows of reading and writing tokens.

    `tokens`, `mask`, `positions` and `features` number the inputs (-1: there is none), `logits` the output. `sets` has
    of each set of shapes how many tokens it reads and how many slots of the cache it attends to besides; with an
    encoder, of features or text, the first are for the first token of a text alone. `last`: a run gives the scores of
    its last token alone.
    """

    tokens: int
    mask: int
    positions: int
    logits: int
    context: int
    vocabulary: int
    sets: tuple[tuple[int, int], ...]
    last: bool
    features: int = -1
    encoder: TextEncoder | None = None

    @property
    def encoding(self) -> int:
        """How many sets of shapes, the first ones, run the encoder."""
        return len(self.encoder.lengths) if self.encoder else int(self.features >= 0)

    @property
    def most(self) -> int:
        """The most tokens of a text that is read or written."""
        return max(self.context, *self.encoder.lengths) if self.encoder else self.context

    @property
    def block(self) -> int:
        return max(rows for rows, _ in self.sets)


@dataclass(frozen=True)
class Generation:
    """A decoder's export: the names of its inputs and outputs, and how much of a text a predictor keeps.

    `caches` has past and present of each layer's keys and values, `heads` and `size` of the past. `features` is the
    input of an encoder, `heard` its shape, and `cross` has what the decoder reads of the encoder, each with its shape,
    0 where that is how many tokens are read. `heard_mask` says which of these there are; an encoder of features has
    none. `readable`: how many kinds of tokens an encoder of text knows.
    """

    tokens: str
    mask: str
    positions: str
    logits: str
    caches: Mapping[str, str]
    heads: Mapping[str, tuple[int, int]]
    context: int = CONTEXT
    features: str = ""
    heard: tuple[int, ...] = ()
    cross: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    heard_mask: str = ""
    readable: int = 0
    answers: Answers | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """What the sets of shapes that run the encoder take at most, of its last dimension; there are none without."""
        if not self.heard_mask:
            return self.heard[-1:]
        lengths = [self.heard[-1]]
        while lengths[0] // 4 >= _SHORTEST_SOURCE:
            lengths.insert(0, lengths[0] // 4)
        return tuple(lengths)

    @property
    def blocks(self) -> tuple[int, ...]:
        """How many tokens are read at once where there are several."""
        large = self.context >= 4 * LARGE_BLOCK and not self.features  # prompts behind an encoder are short
        sizes = (min(BLOCK, self.context), *([LARGE_BLOCK] if large else []))
        return tuple(n for n in sizes if n > 1)

    @property
    def room(self) -> int:
        """Rows of each cache: those of the context, and behind them room for the rows of a run."""
        return self.context + max(self.blocks, default=1)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Tokens and slots of each set of shapes: one token with few slots and with more, then blocks of tokens, of
        which large ones, the beginnings of prompts, have few slots or all."""
        slots = [self.context]
        while slots[0] // 4 >= _SHORTEST:
            slots.insert(0, slots[0] // 4)
        blocks = [(rows, n) for rows in self.blocks for n in (slots[0], slots[-1]) if rows > BLOCK or n == self.context]
        later = tuple(dict.fromkeys([*((1, n) for n in slots), *blocks]))
        return (*((1, 1) for _ in self.lengths), *later)

    def shapes(self, rows: int, slots: int, heard: int = 0) -> Shapes:
        """The shapes of all inputs of the export for so many tokens after so many slots; `heard`: of so much, in the
        last dimension of the encoder's input. 0: what was heard before; the encoder's input has one then.
        """
        own = {self.tokens: (1, rows), self.mask: (1, slots + rows), self.positions: (1, rows)}
        past = {name: (1, heads, slots, size) for name, (heads, size) in self.heads.items()}
        shapes = {**{name: shape for name, shape in own.items() if name}, **past}
        if self.features:
            shapes[self.features] = (*self.heard[:-1], heard or 1)
        if self.heard_mask:
            shapes[self.heard_mask] = (1, heard or self.heard[-1])
        return shapes if heard else {**shapes, **self.cross_shapes()}

    def cross_shapes(self) -> Shapes:
        """The shapes of what the decoder reads of the encoder."""
        return {name: tuple(n or self.heard[-1] for n in shape) for name, shape in self.cross.items()}

    def heard_in(self, shapes: Shapes) -> int:
        """What was `heard` for these shapes."""
        extent = shapes[self.features][-1] if self.features else 1
        return extent if extent > 1 else 0

    def heard_by(self, number: int) -> int:
        """The same for the set of shapes of that number."""
        return self.lengths[number] if 0 <= number < len(self.lengths) else 0

    def sets(self) -> list[Shapes]:
        """The shapes of all inputs of the export in each set."""
        return [self.shapes(*size, self.heard_by(k)) for k, size in enumerate(self.sizes)]

    def ranges(self, vocabulary: int) -> dict[str, tuple[float, float]]:
        """The seeded inputs of verification."""
        own = {self.tokens: (0.0, vocabulary - 1.0), self.mask: (0.0, 1.0), self.positions: (0.0, self.context - 1.0)}
        own |= {self.features: (0.0, self.readable - 1.0), self.heard_mask: (0.0, 1.0)} if self.heard_mask else {}
        return {name: value for name, value in own.items() if name}


def generation_of(proto: Any, context: int | None, shapes: Shapes, source: int | None = None) -> Generation | None:
    """How the model, an ONNX ModelProto, generates text; None where it does not.

    `context`: what the user states, and `source` of the text that an encoder reads. Where `shapes` are given without
    it, the model is built for these shapes.
    Raises UsageError for a context that cannot be, UnsupportedError where the user states one and the model is not a
    decoder's export with its past.
    """
    if context is None and source is None and shapes:
        return None
    try:
        found = _recognised(proto)
    except UnsupportedError as error:
        if context is None and source is None:
            return None
        error.args = (f"--source {source}: {error}" if context is None else f"--context {context}: {error}",)
        raise
    if shapes:
        stated = f"--source {source}" if context is None else f"--context {context}"
        raise UsageError(f"{stated} gives all inputs their shapes: remove --shape")
    if context is not None and not 1 <= context <= LARGEST:
        raise UsageError(f"--context {context}: a predictor can keep 1 to {LARGEST} tokens")
    if not found["heard_mask"]:
        if source is not None:
            raise UsageError(f"--source {source}: the model has no encoder of text")
        return Generation(**{**found, "context": CONTEXT if context is None else context})
    source = SOURCE if source is None else source
    if not 2 <= source <= LARGEST:
        raise UsageError(f"--source {source}: an encoder can read 2 to {LARGEST} tokens")
    return Generation(**{**found, "context": CONTEXT if context is None else context, "heard": (1, source)})


def _recognised(proto: Any) -> dict[str, Any]:
    """The arguments of `Generation` but for the context. Raises UnsupportedError with what does not fit."""
    weights = {t.name for t in proto.graph.initializer}
    inputs = {v.name: v for v in proto.graph.input if v.name not in weights}
    past = {m[1]: name for name in inputs if (m := _PAST.fullmatch(name))}
    present = {m[1]: v.name for v in proto.graph.output if (m := _PRESENT.fullmatch(v.name))}
    if not past or past.keys() != present.keys():
        raise UnsupportedError(
            "the model has no past_key_values.N.key with a present.N.key each, so it is not a decoder's export with "
            "its past: export it with optimum-cli export onnx --task text-generation-with-past, say"
        )
    named = {
        "tokens": _take(inputs, "input_ids", "tokens"),
        "mask": _take(inputs, "attention_mask"),
        "positions": _take(inputs, "position_ids"),
    }
    cross = {v.name: _shape(v) for v in proto.graph.output if _CROSS.fullmatch(v.name)}
    named["features"] = _take(inputs, "input_features", "encoder_input_ids") if cross else ""
    named["heard_mask"] = _take(inputs, "encoder_attention_mask") if named["features"] == "encoder_input_ids" else ""
    heard = _shape(inputs[named["features"]]) if named["features"] else ()
    known = all(n for shape in (heard, *cross.values()) for n in shape)
    read = named["heard_mask"] and all(len(s) == 4 and s[1] and s[3] for s in cross.values())
    if not (known or read) or bool(cross) != bool(heard):
        raise UnsupportedError(
            "cross_key_values.N.key are computed from an input_features, all of shapes that are known, or from "
            "encoder_input_ids and encoder_attention_mask"
        )
    readable = _table_rows(proto, named["features"]) if read else 0
    logits = [v.name for v in proto.graph.output if v.name not in {*present.values(), *cross}]
    if not named["tokens"] or len(logits) != 1:
        raise UnsupportedError("the model has no input_ids, or other outputs than logits and present.N")
    if not named["mask"]:
        raise UnsupportedError(
            "the model has no attention_mask, so it would attend to slots of the cache that have no token yet: export "
            "it with one"
        )
    if others := inputs.keys() - {*named.values(), *past.values()}:
        raise UnsupportedError(f"the model has the further input '{sorted(others)[0]}'; remove it with --value")
    heads = {}
    stated = {v.name: _shape(v) for v in proto.graph.value_info}
    for name in past.values():
        dims = list(_shape(inputs[name]))
        if len(dims) == 4 and not dims[3]:
            dims[3] = _size_from_readers(name, proto.graph.node, stated)
        if len(dims) != 4 or dims[2] or not dims[1] or not dims[3]:
            raise UnsupportedError(
                f"the input '{name}' is {_dims(inputs[name])}; expected batch x heads x open x size, with heads and "
                "size known"
            )
        heads[name] = dims[1], dims[3]
    caches = {past[what]: present[what] for what in past}
    cross = {name: (*s[:2], 0, s[3]) for name, s in cross.items()} if read else cross
    told = {"logits": logits[0], "caches": caches, "heads": heads, "cross": cross, "heard": heard}
    return {**named, **told, "readable": readable}


def _table_rows(proto: Any, ids: str) -> int:
    """The rows of the table in which an encoder looks up its tokens. Raises UnsupportedError where there is none."""
    tables = {t.name: t.dims[0] for t in proto.graph.initializer if len(t.dims) == 2}
    for node in proto.graph.node:
        if node.op_type == "Gather" and node.input[1] == ids and node.input[0] in tables:
            return int(tables[node.input[0]])
    raise UnsupportedError(f"the tokens of '{ids}' are not looked up in a table")


def _take(inputs: Mapping[str, Any], *names: str) -> str:
    return next((name for name in names if name in inputs), "")


def _shape(value: Any) -> tuple[int, ...]:
    """The dimensions, 0 where one is open."""
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def _size_from_readers(past: str, nodes: Sequence[Any], stated: Mapping[str, tuple[int, ...]]) -> int:
    """The size of a head from the new rows of what reads the past; 0 if their shapes are not stated.

    onnxruntime's model builder leaves it open, since a cache of few bits is stored with another one.
    """
    for node in nodes:
        if past not in node.input:
            continue
        count: dict[str, int] = {a.name: a.i for a in node.attribute}
        last = {name: stated[name][-1] for name in node.input if stated.get(name)}
        if node.op_type == "Concat":
            return next(iter(last.values()), 0)
        if node.op_type == "GroupQueryAttention" and (shared := count.get("kv_num_heads", 0)):
            packed = not node.input[1]
            return last.get(node.input[not packed], 0) // (shared + packed * (shared + count.get("num_heads", 0)))
    return 0


def _dims(value: Any) -> str:
    return "x".join(str(d.dim_value or d.dim_param or "?") for d in value.type.tensor_type.shape.dim) or "a scalar"
