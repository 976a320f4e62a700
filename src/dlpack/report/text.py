"""Numbers and names as the pictures write them."""

from __future__ import annotations

from html import escape


def size_text(size: float) -> str:
    """Bytes in the largest unit of which there is at least one: "1.5 MiB"."""
    unit = "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def number(value: float) -> str:
    """A coordinate: two digits after the point at most, without zeros at the end."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def shortened(text: str, length: int) -> str:
    """The text, with its middle left out where it is longer than `length`."""
    if len(text) <= length:
        return text
    front = (length - 1) * 2 // 3
    return f"{text[:front]}…{text[len(text) - (length - 1 - front) :]}"


def title(text: str) -> str:
    """What a browser shows where the pointer rests."""
    return f"<title>{escape(text)}</title>"


def label(name: str, size: int) -> str:
    """What is written into a rectangle, in as much of it as fits: a name, and bytes below it."""
    return f"<span class=name>{escape(name)}</span><span class=size>{size_text(size)}</span>"
