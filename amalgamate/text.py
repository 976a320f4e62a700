"""Small pieces of text: names in comments, lines that wrap, bytes as literals."""

from __future__ import annotations

from collections.abc import Sequence

from dlpack.amalgamate.cpp import literal
from dlpack.plan.program import ShapeSet, Tensor


def banner(name: str, about: str) -> str:
    """The comment that opens a section."""
    return f"// {'=' * 117}\n// [{name}] {about}\n// {'=' * 117}"


def tensor_type(t: Tensor) -> str:
    return f"{t.dtype}[{'x'.join(map(str, t.shape))}]"


def signature(s: ShapeSet) -> str:
    inputs, outputs = (", ".join(f"{plain(t.name)}: {tensor_type(t)}" for t in ts) for ts in (s.inputs, s.outputs))
    return f"{inputs} -> {outputs}"


def scaling(t: Tensor) -> str:
    """Scale and zero point; 0 where the tensor is not quantised."""
    q = t.meaning.quantization
    return f"{literal(q.scale, 'float32')}, {q.zero_point}" if q else "0, 0"


def plain(name: str) -> str:
    """A name as it may stand in a comment."""
    return "".join(c if c.isprintable() and c != "\\" else "?" for c in name)


def wrap(words: Sequence[str], width: int = 108) -> list[str]:
    lines, line = [], ""
    for w in words:
        w = plain(w)
        if line and len(line) + len(w) + 2 > width:
            lines.append(line + ",")
            line = w
        else:
            line = f"{line}, {w}" if line else w
    return [*lines, line] if line else lines


_ESCAPES = [
    chr(b) if 32 <= b < 127 and chr(b) not in '"\\?@' and not chr(b).isdigit() else f"\\{b:03o}" for b in range(256)
]


def bytes_literal(data: bytes, width: int = 512) -> str:
    """Bytes as C string literals; octal escapes of three digits, so that no escape runs into the next character."""
    rows = ("".join([_ESCAPES[b] for b in data[i : i + width]]) for i in range(0, len(data), width))
    return "\n".join(f'"{row}"' for row in rows)
