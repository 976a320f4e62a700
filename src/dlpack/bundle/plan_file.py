"""plan.json: the steps of a run, what lies where in the arena, the fusion groups, the weights; the report draws it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError
from dlpack.plan.program import (
    CallStep,
    CopyStep,
    CountStep,
    FillStep,
    HaloStep,
    PixelsStep,
    Place,
    Program,
    RowsStep,
    ShapeSet,
    ShareStep,
    SpreadStep,
    Step,
    TapsStep,
)


def plan_of(programs: Mapping[str, Program]) -> dict[str, Any]:
    """The plan of the first machine's program.

    `sets`, one for each set of shapes with steps of its own: `steps` (names), `places` (name, offset, bytes, first and
    last step, values, dtype, shape) and `blocks` (kernel, operators, inputs, outputs, kind, bytes). `weights`: name,
    bytes, dtype, shape.
    Offsets and sizes are in bytes.
    """
    machine, program = next(iter(programs.items()))
    return {
        "machine": machine,
        "sets": [_set(s) for s in program.own_sets],
        "weights": [
            {"name": p.name, "bytes": p.nbytes, "dtype": p.dtype, "shape": list(p.shape)} for p in program.weight_places
        ],
    }


def _set(s: ShapeSet) -> dict[str, Any]:
    return {
        "steps": [_step_name(step) for step in s.steps],
        "places": [_place(p) for p in s.places],
        "blocks": [_block(asdict(b)) for b in s.blocks],
    }


def _block(facts: dict[str, Any]) -> dict[str, Any]:
    facts["bytes"] = facts.pop("nbytes")
    return facts


def _step_name(step: Step) -> str:
    if isinstance(step, CallStep):
        return step.kernel
    names = {
        HaloStep: "fill_halo", FillStep: "fill_behind", CopyStep: "copy", SpreadStep: "spread", ShareStep: "share",
        CountStep: "count", TapsStep: "taps", RowsStep: "move_rows", PixelsStep: "move_pixels",
    }  # fmt: skip
    return names.get(type(step), "loop")


def _place(p: Place) -> dict[str, Any]:
    """A place; what a loop's body uses has the number of the loop's call, since its steps are the loop's."""
    return {
        "name": p.name,
        "offset": p.offset,
        "bytes": p.nbytes,
        "first": p.first,
        "last": p.last,
        "values": list(p.values),
        "dtype": p.dtype,
        "shape": list(p.shape),
        **({"loop": p.loop} if p.loop >= 0 else {}),
    }


def write_plan(path: Path, plan: Mapping[str, Any]) -> None:
    """A line per step's name, place, block and weight."""

    def lines(entries: Iterable[Any]) -> str:
        return "[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]"

    sets = ",\n".join(
        "{\n" + ",\n".join(f"{json.dumps(key)}: {lines(entries)}" for key, entries in s.items()) + "\n}"
        for s in plan["sets"]
    )
    text = (
        f'{{\n"machine": {json.dumps(plan["machine"])},\n"sets": [{sets}],\n"weights": {lines(plan["weights"])}\n}}\n'
    )
    path.write_text(text, encoding="utf-8")


def read_plan(bundle: Path) -> dict[str, Any]:
    """The plan of a bundle. Raises UsageError if there is none that can be read."""
    path = Path(bundle) / "plan.json"
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all({"steps", "places", "blocks"} <= s.keys() for s in plan["sets"]) or "weights" not in plan:
            raise ValueError("it is not a plan")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"{bundle} was not built by this version: it has no readable plan.json ({e})") from e
    return plan
