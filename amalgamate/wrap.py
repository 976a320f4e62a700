"""Long lines of C-like code → several: broken after a comma or before an operator, aligned with the bracket around."""

from __future__ import annotations

import re

WIDTH = 120
_ROOM = 40
"""What is left of a line for what is aligned with a bracket."""

_RANK = {"?": 1, ":": 1, "||": 2, "&&": 3, "|": 4, "^": 4, "&": 4, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5,
         "<<": 6, ">>": 6, "+": 7, "-": 7, "*": 8, "/": 8, "%": 8}  # fmt: skip
"""How tightly an operator binds: a line is rather broken before one that binds loosely. A comma binds less than all."""

_IN_TEMPLATE = re.compile(r"\w<\w")
"""A template's bracket, for there are spaces around the operator <, as there are around >."""


def wrapped(line: str, width: int = WIDTH) -> list[str]:
    """The lines of a statement, of at most `width` characters where that can be.

    Each is broken as far outside as it can be, and there as far to the right; what follows is aligned with what stands
    behind the innermost bracket that is open and leaves room, else with four columns more than the statement.
    """
    indent = len(line) - len(line.lstrip()) + 4
    out: list[str] = []
    open_at: list[int] = []
    while len(line) > width:
        place = _place(line, width, open_at)
        if place is None:
            break
        at, open_at = place
        out.append(line[:at])
        line = " " * next((c for c in reversed(open_at) if c <= width - _ROOM), indent) + line[at + 1 :]
    return [*out, line]


def _place(line: str, width: int, open_at: list[int]) -> tuple[int, list[int]] | None:
    """The space at which to break a line, and the columns behind the brackets that are open there.

    `open_at`: those that are open where the line begins.
    """
    begin = len(line) - len(line.lstrip())
    columns = list(open_at)
    best: tuple[tuple[int, int, int], list[int]] | None = None
    for k in range(begin, width + 1):
        c = line[k]
        if c in "([{" or (c == "<" and _IN_TEMPLATE.match(line, k - 1)):
            columns.append(k + 1)
        elif columns and (c in ")]}" or (c == ">" and line[k - 1] not in "- >")):
            columns.pop()
        elif c == " " and k > begin:
            rank = 0 if line[k - 1] == "," else _RANK.get(line[k + 1 :].split(" ", 1)[0])
            if rank is not None and (best is None or (len(columns), rank, -k) < best[0]):
                best = (len(columns), rank, -k), list(columns)
    return (-best[0][2], best[1]) if best else None
