"""Bars: errors by decade, and the time of each kernel beside the least that the machine allows, with the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dlpack.report.text import number, shortened, title

_EXPONENTS = tuple(range(-9, 1))
_SEEN = 0.002
"""A kernel with a smaller share of the time is too short to be measured well, and no circle."""


def error_histogram(error: Mapping[str, Any]) -> str:
    """How many elements of an output are exact, and how many are off by how much of its range; "" if not counted."""
    counts = error.get("counts") or ()
    if not counts:
        return ""
    labels = ["exact", *(f"to 1e{e}" for e in _EXPONENTS), "more"]
    filled = [k for k, c in enumerate(counts) if c]
    span = error["range"]
    accepted = error["tolerance"] / span if span else 0.0
    rows = []
    for k in range(filled[0], filled[-1] + 1):
        above = 10.0 ** (_EXPONENTS[0] + k - 2)  # all errors of this row are larger
        beyond = " class=beyond" if k > 1 and above >= accepted else ""
        rows.append(_row(labels[k], counts[k] / max(counts), f"{counts[k]:,}", mark=beyond))
    return (
        f"<figure><figcaption><b>{escape(error['name'])}</b>: {sum(counts):,} elements by their error, as a part of "
        f"the largest absolute value {span:.4g}; accepted is {accepted:.2g}</figcaption>"
        f"<div class=bars>{''.join(rows)}</div></figure>"
    )


def _row(label: str, part: float, text: str, tick: float | None = None, mark: str = "", tells: str = "") -> str:
    """A bar that fills `part` of its track, and a tick at another part."""
    at = f"<b style='left:{number(100 * min(tick, 1.0))}%'></b>" if tick is not None else ""
    hover = f" title='{escape(tells)}'" if tells else ""
    return (
        f"<span{hover}>{escape(label)}</span><span class=track{hover}><i{mark} style='width:{number(100 * part)}%'></i>"
        f"{at}</span><span>{text}</span>"
    )


def roofline_us(flops: float, nbytes: float, limits: Mapping[str, float]) -> float:
    """The least microseconds for so many operations on so many bytes; `limits`: gflops and gbps."""
    return 1e-3 * max(flops / limits["gflops"], nbytes / limits["gbps"])


def kernel_bars(kernels: Sequence[Mapping[str, Any]], limits: Mapping[str, float] | None) -> str:
    """The time of each kernel (name, calls, us, share), the slowest first, as they come.

    With `limits`, and flops and bytes per run, a tick shows the roofline.
    """
    shown = [k for k in kernels if k["us"] > 0][:40]
    if not shown:
        return ""
    longest = shown[0]["us"]
    rows = []
    for k in shown:
        counted = 0 if "winograd" in k["name"] else k["flops"]
        floor = roofline_us(counted, k["bytes"], limits) if limits and k.get("bytes") else None
        tells = f"{k['name']}: {k['us']:.2f} µs in {k['calls']} calls, {k['share']:.1%}"
        tells += f"; the roofline allows {floor:.2f} µs" if floor is not None else ""
        tick = floor / longest if floor is not None else None
        text = f"{k['us']:,.1f} µs · {k['share']:.1%}"
        rows.append(_row(shortened(k["name"], 34), k["us"] / longest, text, tick, tells=tells))
    rest = len([k for k in kernels if k["us"] > 0]) - len(shown)
    more = f" {rest} faster kernels are not shown." if rest else ""
    ticks = (
        "<span class='key tick'></span> is the least time that the roofline allows (for Winograd's kernels, which need "
        "fewer multiplications, that of their bytes)."
        if limits
        else ""
    )
    return f"<figure class=long><div class=bars>{''.join(rows)}</div><figcaption>{ticks}{more}</figcaption></figure>"


def roofline(kernels: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> str:
    """Each kernel with multiply-adds as a circle: operations per byte and GFLOP/s, below the machine's limits."""
    points = [
        (k["flops"] / k["bytes"], 1e-3 * k["flops"] / k["us"], k)
        for k in kernels
        if k["share"] >= _SEEN and k.get("flops") and k.get("bytes")
    ]
    if not points:
        return ""
    peak, rate = limits["gflops"], limits["gbps"]
    ridge = peak / rate
    low_x, high_x = _decades([ridge, *(x for x, _, _ in points)])
    low_y, high_y = _decades([peak, *(y for _, y, _ in points)])
    width, height, left, foot = 640.0, 360.0, 56.0, 40.0

    def px(x: float) -> float:
        return left + (math.log10(x) - low_x) / (high_x - low_x) * (width - left - 24)

    def py(y: float) -> float:
        return height - foot - (math.log10(y) - low_y) / (high_y - low_y) * (height - foot - 16)

    parts = []
    for e in range(low_x, high_x + 1):
        x = number(px(10.0**e))
        parts.append(f"<line x1='{x}' x2='{x}' y1='16' y2='{number(height - foot)}'/>")
        parts.append(f"<text x='{x}' y='{number(height - foot + 16)}' text-anchor='middle'>{_power(e)}</text>")
    for e in range(low_y, high_y + 1):
        y = number(py(10.0**e))
        parts.append(f"<line y1='{y}' y2='{y}' x1='{number(left)}' x2='{number(width - 24)}'/>")
        parts.append(f"<text x='{number(left - 6)}' y='{y}' text-anchor='end' dy='4'>{_power(e)}</text>")
    start = max(10.0**low_x, 10.0**low_y / rate)
    parts.append(
        f"<path d='M{number(px(start))} {number(py(start * rate))}L{number(px(ridge))} {number(py(peak))}"
        f"H{number(width - 24)}'/>"
    )
    for x, y, k in points:
        radius = number(3 + 14 * math.sqrt(k["share"]))
        tells = f"{k['name']}\n{y:.1f} GFLOP/s, {x:.2f} operations per byte, {k['share']:.1%} of the time"
        parts.append(f"<circle cx='{number(px(x))}' cy='{number(py(y))}' r='{radius}'>{title(tells)}</circle>")
    centre = f"x='{number((left + width) / 2)}' y='{number(height - 4)}' text-anchor='middle'"
    parts.append(f"<text {centre}>operations per byte</text>")
    parts.append(f"<text x='{number(left)}' y='11'>GFLOP/s</text>")
    return (
        f"<figure><svg class=roofline viewBox='0 0 {number(width)} {number(height)}' role='img' "
        f"aria-label='roofline'>{''.join(parts)}</svg><figcaption>The line is what the machine allows: "
        f"{peak:,.0f} GFLOP/s of multiply-adds, {rate:,.1f} GB/s of reading all that the model has. A circle is a "
        "kernel, its area its share of the time. Kernels whose data is still in a nearer cache pass the sloped part; "
        "Winograd's pass the level one, since they need fewer multiplications than are counted.</figcaption></figure>"
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}"
