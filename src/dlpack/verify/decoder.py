"""A decoder's export as its authors meant it, with a past that grows, and whether it is right with slots left empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from dlpack.errors import ModelError, UnsupportedError
from dlpack.graph.ir import Array
from dlpack.meaning.generation import Generation
from dlpack.model.past import without_encoder
from dlpack.model.past_positions import in_positions
from dlpack.verify.runners import runner

_SAME = {"float16": 3e-2, "bfloat16": 2e-1}
"""How far logits may differ for another order of sums, as a part of the largest; the reference computes in 16 bits."""

_TEXT = 6
"""Tokens of the experiment."""

_GAP = 5
"""Slots that are left empty in it, at least."""


class GrowingDecoder:
    """The reference's run of an export: each call reads some more tokens."""

    def __init__(self, model: Any, generation: Generation, heard: Mapping[str, Array] | None = None) -> None:
        """`heard`: what an earlier one has heard, so that the encoder need not run again."""
        self.generation, self.heard = generation, dict(heard or {})
        if generation.features:
            model = without_encoder(model, generation) if heard else self._hear(model)
        self.run = runner(_in_floats(model))
        self.types = {v.name: tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
        self.outputs = [v.name for v in model.graph.output]
        self.dtype = str(next(self.types[name].name for name in generation.caches))
        self.past = {
            name: np.zeros((1, heads, 0, size), self.types[name]) for name, (heads, size) in generation.heads.items()
        }

    def _hear(self, model: Any) -> Any:
        """Gives something to the encoder; returns the model that reads tokens after it."""
        g, one = self.generation, np.ones((1, 1), np.int64)
        types = {v.name: tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
        heard = {name: value.astype(types[name]) for name, value in some_heard(g).items()}
        own = {g.tokens: one, g.mask: one, g.positions: 0 * one}
        past = {name: np.zeros((1, heads, 0, size)) for name, (heads, size) in g.heads.items()}
        given = {name: value.astype(types[name]) for name, value in {**own, **past}.items() if name}
        found = dict(zip([v.name for v in model.graph.output], runner(model)({**given, **heard}), strict=True))
        self.heard = {**heard, **{name: found[name] for name in g.cross}}
        self.heard[g.features] = heard[g.features][..., :1]
        return without_encoder(model, g)

    def same(self, usual: float) -> float:
        """How far logits may be off, as a part of the largest."""
        return max(usual, _SAME.get(self.dtype, 0.0))

    def read(self, tokens: Sequence[int]) -> Array:
        """The logits after each of the tokens, [tokens, vocabulary], of float32."""
        length = next(iter(self.past.values())).shape[2]
        rows = range(length, length + len(tokens))
        found = self.ask(tokens, np.ones(rows.stop), list(rows), self.past)
        self.past = {past: found[present] for past, present in self.generation.caches.items()}
        scores: Array = np.asarray(found[self.generation.logits], np.float32)[0]
        return scores

    def ask(self, tokens: Sequence[int], mask: Array, positions: Sequence[int], past: dict[str, Array]) -> Any:
        """All outputs by name for these inputs."""
        g = self.generation
        own = {g.tokens: [tokens], g.mask: [mask], g.positions: [positions]}
        given = {name: np.asarray(value, self.types[name]) for name, value in own.items() if name}
        return dict(zip(self.outputs, self.run({**given, **past, **self.heard}), strict=True))


def _in_floats(model: Any) -> Any:
    """The model whose products with weights of few bits do not round their other operand to 8 bits."""
    rounds = [k for k, n in enumerate(model.graph.node) if any(a.name == "accuracy_level" for a in n.attribute)]
    if not rounds:
        return model
    result = type(model)()
    result.CopyFrom(model)
    for k in rounds:
        node = result.graph.node[k]
        others = [a for a in node.attribute if a.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(others)
    return result


def vocabulary_of(model: Any, generation: Generation) -> int:
    """The number of logits of a cleaned model."""
    (logits,) = (v for v in model.graph.output if v.name == generation.logits)
    return int(logits.type.tensor_type.shape.dim[-1].dim_value)


def some_heard(generation: Generation) -> dict[str, Array]:
    """What an encoder is tried with: features of float32, or a text of a third of the tokens that it reads at most
    with padding behind it, and the mask that says so."""
    rng = np.random.default_rng(3)
    if not generation.heard_mask:
        return {generation.features: rng.standard_normal(generation.heard, np.float32)}
    there = np.arange(generation.heard[-1])[None] < max(1, generation.heard[-1] // 3)
    tokens = rng.integers(0, generation.readable, generation.heard)
    return {generation.features: np.where(there, tokens, 0), generation.heard_mask: there.astype(np.int64)}


def right_with_gaps(
    model: Any, slotted: Any, generation: Generation, vocabulary: int
) -> tuple[Mapping[str, Array], Any]:
    """What an encoder has given, and the model that is right with slots left empty: `slotted`, or one that
    counts positions where that counts slots. Raises UnsupportedError where neither is what the export `model` is."""
    try:
        return check_slots(model, slotted, generation, vocabulary), slotted
    except (ModelError, UnsupportedError):  # it may know fewer positions than there are slots
        counted = in_positions(slotted, generation, runner)
        if counted is None:
            raise
        return check_slots(model, counted, generation, vocabulary), counted


def check_slots(model: Any, slotted: Any, generation: Generation, vocabulary: int) -> Mapping[str, Array]:
    """Runs `slotted`, the export `model` for a past with gaps, with empty slots, and a block whose end is no text.

    There are as many slots as a bundle has: in fewer, a window that is made of slots may do no harm.
    Gives what an encoder has given meanwhile.
    Raises UnsupportedError where its logits are not those of the text without them.
    """
    text = [int(t) for t in np.random.default_rng(1).integers(0, vocabulary, _TEXT)]
    grown = GrowingDecoder(model, generation)
    wanted = [grown.read(text[:2]), grown.read(text[2:-1])]
    read = _TEXT - 1
    rows = read - 2
    gap = max(_GAP, generation.room - read - rows - 1)
    filled = {name: np.pad(x, ((0, 0), (0, 0), (0, gap), (0, 0))) for name, x in grown.past.items()}
    wanted.append(grown.read(text[-1:]))
    mask = np.concatenate([np.ones(read), np.zeros(gap), np.ones(1)])
    gaps = grown if slotted is model else GrowingDecoder(slotted, generation)
    single = gaps.ask(text[-1:], mask, [read], filled)[generation.logits]
    started = {name: np.where(np.arange(x.shape[2])[:, None] < 2, x, 0) for name, x in filled.items()}
    mask = np.concatenate([np.ones(2), np.zeros(rows + gap), np.ones(rows), np.zeros(1)])
    block = gaps.ask([*text[2:-1], 0], mask, [*range(2, read), read - 1], started)[generation.logits]
    found = [np.asarray(block, np.float32)[0, :rows], np.asarray(single, np.float32)[0]]
    largest = max(float(np.abs(x).max()) for x in wanted)
    off = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted[1:], strict=True))
    if not off <= grown.same(1e-3) * largest:
        raise UnsupportedError(
            f"the model's logits change by {off:.3g} (of {largest:.3g}) where slots of its past are masked, so it "
            "computes positions or distances from the slots (ALiBi, a window, positions counted from the length of "
            "the past) or does not heed its attention_mask. Export it with position_ids, as transformers does since "
            "4.36, or give each input its --shape to build it as it is"
        )
    return grown.heard
