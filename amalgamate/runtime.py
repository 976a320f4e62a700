"""Picks the sections of runtime_c that a file uses; the top of runtime_c/vectors.h explains their grammar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    name: str
    needs: tuple[str, ...]
    scope: str
    text: str


def sections(texts: Sequence[str]) -> dict[str, Section]:
    """All sections of the given files, in order."""
    out: dict[str, Section] = {}
    for text in texts:
        name, scope = "", ""
        needs: list[str] = []
        lines: list[str] = []

        def close(name: str, needs: list[str], scope: str, lines: list[str]) -> None:
            if name:
                if name in out:
                    raise ValueError(f"runtime section {name} is defined twice")
                out[name] = Section(name, tuple(needs), scope, "\n".join(lines).strip())

        for line in text.splitlines():
            if line.startswith("//@ section "):
                close(name, needs, scope, lines)
                name, needs, scope, lines = line.split()[2], [], "", []
            elif line.startswith("//@ needs "):
                needs = [*needs, *line.split()[2:]]
            elif line.startswith("//@ scope "):
                scope = line.split()[2]
            elif name:
                lines = [*lines, line]
        close(name, needs, scope, lines)
    return out


def closure(all_sections: dict[str, Section], wanted: Iterable[str]) -> list[Section]:
    """The wanted sections and all that they need, in the order of definition."""
    need: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in need:
            need.add(name)
            if name not in all_sections:
                raise ValueError(f"the runtime has no section {name}")
            todo.extend(all_sections[name].needs)
    return [s for s in all_sections.values() if s.name in need]
