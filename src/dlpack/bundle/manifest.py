"""manifest.json: the contents of a bundle and the meaning of its inputs and outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dlpack import __version__
from dlpack.loops.sizes import Size
from dlpack.meaning.generation import TextEncoder
from dlpack.meaning.open_batch import OpenBatch
from dlpack.meaning.preprocess import Preprocess, by_shorter_side
from dlpack.meaning.quantization import Meaning
from dlpack.plan.memory import Arena
from dlpack.plan.program import Program, ShapeSet, Tensor


def described(shape_set: ShapeSet) -> dict[str, Any]:
    """Inputs and outputs as listed in the manifest."""
    return {
        kind: [
            {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), **_sized(t), **_meant(t.meaning)}
            for t in tensors
        ]
        for kind, tensors in (("inputs", shape_set.inputs), ("outputs", shape_set.outputs))
    }


def _strings(shape_set: ShapeSet) -> bool:
    """Whether there are inputs or outputs of strings, with a dtype such as "S64"."""
    return any(t.dtype.startswith("S") for t in (*shape_set.inputs, *shape_set.outputs))


def _sized(tensor: Tensor) -> dict[str, Any]:
    limits = {"limits": dict(tensor.limits)} if tensor.limits else {}
    return {"true_shape": tensor.true_shape} if tensor.true_shape else limits


def _meant(meaning: Meaning) -> dict[str, Any]:
    more: dict[str, Any] = {"quantization": meaning.quantization.to_json()} if meaning.quantization else {}
    return {**more, "probabilities": True} if meaning.probabilities else more


def arena_facts(a: Arena) -> dict[str, Any]:
    return {"bytes": a.size, "lower_bound": a.lower_bound, "naive": a.naive, "strategy": a.strategy}


def manifest_of(programs: Mapping[str, Program], target: str, model_sha256: str, opset: str) -> dict[str, Any]:
    """The manifest of the programs for each machine, without what user, target and verification add."""
    program = next(iter(programs.values()))
    return {
        "format": 1,
        "name": program.name,
        "tool": f"dlpack {__version__}",
        "target": target,
        "machine": ", ".join(programs),
        **({"variants": list(programs)} if len(programs) > 1 else {}),
        "model_sha256": model_sha256,
        "opset": opset,
        **described(program.shape_sets[0]),
        **({"strings": True} if _strings(program.shape_sets[0]) else {}),
        "ranges": [],
        "source": f"{program.name}.cc",
        "header": f"{program.name}.h",
        "macs": program.macs,
        "weights_bytes": len(program.weights),
        "weights_by_type": _by_type(program),
        "threads": program.threads,
        "prepared_bytes": max(p.prepared for p in programs.values()),
        "arena": arena_facts(max((p.arena for p in programs.values()), key=lambda a: a.size)),
    }


def _by_type(program: Program) -> dict[str, int]:
    """The bytes of the weights of each element type, as they are stored."""
    found: dict[str, int] = {}
    for place in program.weight_places:
        found[place.dtype] = found.get(place.dtype, 0) + place.nbytes
    return found


def kernels_of(programs: Mapping[str, Program]) -> list[dict[str, Any]]:
    """kernels.json: the kernels of each machine."""
    several = len(programs) > 1
    return [
        {
            "name": k.name,
            **({"machine": machine} if several else {}),
            "computes": k.title,
            "schedule": k.schedule,
            "macs": k.macs,
            "nodes": list(k.sources),
        }
        for machine, program in programs.items()
        for k in program.kernels
    ]


def shapes_of(program: Program, pictures: Sequence[Preprocess | None]) -> list[dict[str, Any]]:
    """The manifest's `shapes`: an entry for each set of shapes if there are several, else empty; those of open
    dimensions follow a rule, see `open_of`."""
    if len(program.shape_sets) == 1 or program.counted:
        return []
    sets = [{**described(s), "macs": s.macs, "arena": arena_facts(s.arena)} for s in program.shape_sets]
    for entry, picture in zip(sets, pictures, strict=False):
        entry |= {"preprocess": picture.to_json()} if picture else {}
    return sets


def open_of(program: Program, dimensions: OpenBatch, pictures: Sequence[Preprocess | None]) -> dict[str, Any]:
    """The manifest's `open`: the sizes of open dimensions, and the extents that follow from them, by tensor and
    dimension; see `OpenSizes`. `pictures` is the preprocessing in some sets of shapes."""
    taken = [p for p in pictures if p]
    return {
        "dimensions": [{"smallest": b.smallest, "largest": b.largest, "step": b.step} for b in dimensions.bounds],
        **{
            kind: {t.name: rules for k, t in enumerate(tensors) if (rules := _rules(program, kind, k))}
            for kind, tensors in (("inputs", program.inputs), ("outputs", program.outputs))
        },
        "macs": program.shape_sets[-1].macs,
        **({"resize": "8/7"} if taken and by_shorter_side(taken) else {}),
    }


def _rules(program: Program, kind: str, k: int) -> dict[str, dict[str, Any]]:
    """The open dimensions of an input or output: each extent as a function of the size of the `dimension`, which is
    ``times * ((size + plus) // by) + then``. What is left out is 1 of factors, else 0. Of rows and columns that are one
    dimension, `columns` has the rule of these."""
    first, second = (getattr(s, kind)[k] for s in program.shape_sets[:2])
    rules = {}
    for d, (a, b) in enumerate(zip(first.shape, second.shape, strict=True)):
        size = first.sizes[d] if first.sizes else None
        if program.pictures and size:
            rules[str(d)] = _rule(size, program)
        elif not program.pictures and a != b:  # it grows by as much from set to set
            smallest = _first_size(program)
            rules[str(d)] = {"dimension": 0, **_but_usual({"times": b - a, "then": a - (b - a) * smallest})}
    return rules


def _rule(size: Size, program: Program) -> dict[str, Any]:
    """What follows from the size of a picture, which kernels count in steps."""
    dimension = program.place_of(size)
    unit = program.bounds[dimension].unit
    each = size.columns if isinstance(size.columns, int) else 1
    told = {"plus": size.plus * unit, "by": size.by * unit, "times": size.times * each, "then": size.then * each}
    if told == {"plus": 0, "by": unit, "times": unit, "then": 0}:
        told = {}
    more = {"columns": _rule(size.columns, program)} if isinstance(size.columns, Size) else {}
    return {"dimension": dimension, **_but_usual(told), **more}


def _first_size(program: Program) -> int:
    """The size of the open dimension in the first set of shapes."""
    return program.shape_sets[0].extent or program.shape_sets[0].samples


def _but_usual(rule: Mapping[str, int]) -> dict[str, int]:
    usual = {"plus": 0, "by": 1, "times": 1, "then": 0}
    return {key: n for key, n in rule.items() if n != usual[key]}


def decoder_of(program: Program) -> dict[str, Any]:
    """The manifest's `decoder`: how a predictor reads and writes tokens."""
    d = program.decoder
    assert d is not None
    named = {"tokens": d.tokens, "mask": d.mask, "positions": d.positions, "features": d.features}
    return {
        **{key: program.inputs[index].name for key, index in named.items() if index >= 0},
        **({"encoder": _encoder_of(program, d.encoder)} if d.encoder else {}),
        "scores": program.outputs[d.logits].name,
        "context": d.context,
        "vocabulary": d.vocabulary,
        "block": d.block,
        "cache_bytes": program.cached,
    }


def _encoder_of(program: Program, e: TextEncoder) -> dict[str, Any]:
    return {
        "tokens": program.inputs[e.tokens].name,
        "mask": program.inputs[e.mask].name,
        "most": e.lengths[-1],
        "vocabulary": e.vocabulary,
        "start": list(e.start),
    }


def weights_of(program: Program) -> dict[str, Any]:
    """The manifest's `weights`: the separate weights file."""
    return {
        "file": f"{program.name}.weights",
        "bytes": len(program.weights),
        "sha256": hashlib.sha256(program.weights).hexdigest(),
    }
