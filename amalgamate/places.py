"""Names for the offsets in the arena and in the weights, and the tables that define them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from dlpack.amalgamate.text import plain, wrap
from dlpack.amalgamate.wrap import wrapped
from dlpack.plan.program import Address, Place, Program
from dlpack.plan.stages import offsets

_LONGEST = 48
"""Characters of a place's own name; of a longer one the end is kept, where ONNX's names differ."""


class Places:
    """The places of a program, and how the code calls them; the same program gives the same names."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arena = {p.key: p for s in program.own_sets for p in s.places}
        self.stored = {
            "weights": sorted(program.weight_places, key=lambda p: p.offset),
            "prepared": sorted(program.prepared_places, key=lambda p: p.offset),
        }
        first = self.program.shape_sets[0].places if self.program.staged else ()
        self.keys = [p.key for p in sorted(first, key=lambda p: (p.offset, p.first))]
        self.arena_names = _names("arena", self.arena.values())
        self.stored_names = {space: _names(space, places) for space, places in self.stored.items()}

    def offset(self, address: Address) -> str:
        """The offset of a pointer into the arena or the weights, as a sum."""
        if address.space == "arena":
            place, names = self.arena.get(address.place), self.arena_names
        else:
            places, names = self.stored[address.space], self.stored_names[address.space]
            before = bisect_right(places, address.offset, key=lambda p: p.offset)
            place = places[before - 1] if before else None
        if place is None:
            return str(address.offset)
        inside = address.offset - place.offset
        name = names[place.key]
        if address.space == "arena" and self.program.staged:
            name = f"p.places[{name}]"
        return name + (f" + {inside}" if inside > 0 else f" - {-inside}" if inside else "")

    def stored_table(self, space: str) -> list[str]:
        """What lies in the weights, or in the prepared weights."""
        lines = []
        for p in self.stored[space]:
            lines += _comment(f"{p.nbytes:,} bytes", p)
            lines.append(f"constexpr size_t {self.stored_names[space][p.key]} = {p.offset};")
        return ["\n".join(lines)] if lines else []

    def arena_table(self) -> list[str]:
        """What lies in the arena, from its beginning to its end, for each set of shapes.

        Where the places depend on the size of a run, these are their numbers, and a table has the offsets.
        """
        lines, start, numbers = [], 0, {key: k for k, key in enumerate(self.keys)}
        for number, s in enumerate(self.program.own_sets):
            if number:
                lines += ["", f"// With set of shapes {number}:"]
            for p in sorted(s.places, key=lambda p: (p.offset, p.first)):
                first, last = start + p.first, start + p.last
                steps = f"step {first}" if first == last else f"steps {first} to {last}"
                lines += _comment(f"{p.nbytes:,} bytes, {steps}", p)
                name = self.arena_names[p.key]
                value = f"int32_t {name} = {numbers[p.key]}" if self.program.staged else f"size_t {name} = {p.offset}"
                lines.append(f"constexpr {value};")
            start += len(s.steps)
        lines += self._stages()
        return ["\n".join(lines)] if lines else []

    def _stages(self) -> list[str]:
        """The table of offsets, where they depend on the size of a run."""
        if not self.program.staged:
            return []
        found = [offsets(self.program, s, self.keys) or [0] for s in self.program.stages]  # where nothing lies there
        rows = [f"    {{{', '.join(map(str, row))}}}" for row in found]
        body = ",\n".join("\n".join(wrapped(row)) for row in rows)
        return [
            "// Offsets of all these for each kStages, smaller sizes first.",
            f"constexpr place_offset kPlaces[][{len(found[0])}] = {{",
            f"{body}}};",
        ]


def _comment(size: str, p: Place) -> list[str]:
    if not p.values:
        return [f"// {size}: scratch memory"]
    type_ = f"{p.dtype}[{'x'.join(map(str, p.shape))}]"
    order = "" if p.order == tuple(range(len(p.shape))) or _flat(p) else f", dimensions in the order {_list(p.order)}"
    blocks = "".join(f", dimension {d} in blocks of {n}" for d, n in p.blocks)
    head = f"{size}: {type_}{order}{blocks}"
    lines = wrap([plain(v) for v in p.values])
    if len(lines) == 1 and len(head) + len(lines[0]) < 106:
        return [f"// {head}; {lines[0]}"]
    return [f"// {head};", *(f"//   {line}" for line in lines)]


def _flat(p: Place) -> bool:
    """Whether no dimensions of more than one element are out of order."""
    moving = [d for d in p.order if p.shape[d] != 1]
    return moving == sorted(moving)


def _list(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _names(prefix: str, places: Iterable[Place]) -> dict[str, str]:
    """An identifier for each place by its key, made of its name; of equal ones the later have numbers."""
    taken: set[str] = set()
    out = {}
    for p in places:
        word = re.sub(r"[^0-9A-Za-z]+", "_", p.name).strip("_")[-_LONGEST:].strip("_")
        base = f"{prefix}_{word}" if word else prefix + "_value"
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        out[p.key] = name
    return out
