"""The arena over the steps of a run as a map: each value a rectangle, as wide as its life and as high as its bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dlpack.report.text import label, number, shortened, size_text, title

_COLOURS = 6
_LABELLED = 0.04, 0.03
"""A rectangle gets its name written into it if it takes so much of the picture's width and of its height."""


@dataclass(frozen=True)
class Block:
    """Bytes [offset, offset + size) from the step `first` to the step `last`, both included."""

    name: str
    tells: str
    offset: int
    size: int
    first: int
    last: int


def blocks(places: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The places of a plan, those that a loop's body uses as one: within its step they take turns."""
    out = []
    loops: dict[int, list[Mapping[str, Any]]] = {}
    for p in places:
        if "loop" in p:
            loops.setdefault(p["loop"], []).append(p)
            continue
        shape = "x".join(map(str, p["shape"]))
        values = f" ({', '.join(p['values'])})" if p["values"] and p["values"] != [p["name"]] else ""
        kind = f", {p['dtype']}[{shape}]" if p["values"] else ", scratch memory"
        tells = f"{p['name']}{values}{kind}"
        out.append(Block(p["name"], tells, p["offset"], p["bytes"], p["first"], p["last"]))
    for inner in loops.values():
        low, high = min(p["offset"] for p in inner), max(p["offset"] + p["bytes"] for p in inner)
        first, last = min(p["first"] for p in inner), max(p["last"] for p in inner)
        tells = f"loop: {', '.join(p['name'] for p in inner[:20])}"
        out.append(Block("loop", tells, low, high - low, first, last))
    return out


def peak(values: Sequence[Block]) -> tuple[int, int]:
    """The first step at which most bytes are alive, and how many these are; (0, 0) without values."""
    change: dict[int, int] = {}
    for b in values:
        change[b.first] = change.get(b.first, 0) + b.size
        change[b.last + 1] = change.get(b.last + 1, 0) - b.size
    alive, best = 0, (0, 0)
    for step in sorted(change):
        alive += change[step]
        if alive > best[1]:
            best = step, alive
    return best


def arena_map(places: Sequence[Mapping[str, Any]], steps: Sequence[str], size: int) -> str:
    """The map of an arena of `size` bytes, as a figure; `steps` are the names of the run's steps."""
    values = blocks(places)
    if not values or not size:
        return "<p>The run needs no memory beside inputs and outputs.</p>"
    count = max(len(steps), max(b.last for b in values) + 1)
    at, alive = peak(values)
    rects, labels = [], []
    for k, b in enumerate(values):
        colour = f"c{k % _COLOURS}"
        width = b.last - b.first + 1
        when = f"step {b.first}" if width == 1 else f"steps {b.first} to {b.last}"
        tells = f"{b.tells}\n{b.size:,} bytes at {b.offset:,}\n{when}"
        rects.append(
            f"<rect class='value {colour}' x='{b.first}' y='{b.offset}' width='{width}' height='{b.size}'>"
            f"{title(tells)}</rect>"
        )
        if width / count >= _LABELLED[0] and b.size / size >= _LABELLED[1]:
            box = (
                ("left", b.first / count),
                ("top", b.offset / size),
                ("width", width / count),
                ("height", b.size / size),
            )
            style = ";".join(f"{key}:{number(100 * part)}%" for key, part in box)
            labels.append(f"<div style='{style}'>{label(shortened(b.name, 40), b.size)}</div>")
    name = f" (<code>{escape(steps[at])}</code>)" if at < len(steps) else ""
    return "\n".join(
        [
            "<figure><div class=map>",
            f"<div class=ys><span>0</span><span>{size_text(size / 2)}</span><span>{size_text(size)}</span></div>",
            f"<div class=plot><svg class=arena viewBox='0 0 {count} {size}' preserveAspectRatio='none' role='img' "
            f"aria-label='the arena over {count} steps'>",
            *rects,
            f"<rect class=peak x='{at}' y='0' width='1' height='{size}'/></svg>",
            *labels,
            f"</div><div class=xs><span>step 0</span><span>step {count - 1}</span></div></div>",
            f"<figcaption><span class=key></span> Most is in use at step {at}{name}: {alive:,} bytes. "
            "Each rectangle is a value: its width is its life, its height its bytes.</figcaption></figure>",
        ]
    )
