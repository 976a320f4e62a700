"""The parts of a report's page that are not pictures: head, tables, sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dlpack.report.style import STYLE


def page(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A whole page; `subtitle` is HTML, as are the parts of each section, and those without parts are left out."""
    filled = [(f"s{k}", name, parts) for k, (name, parts) in enumerate(sections) if any(parts)]
    links = "".join(f"<a href='#{key}'>{escape(name)}</a>" for key, name, _ in filled)
    body = [line for key, name, parts in filled for line in (f"<h2 id={key}>{escape(name)}</h2>", *parts)]
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>{escape(title)}</title><style>{STYLE}</style>",
            f"<h1>{escape(title)}</h1><p class=sub>{subtitle}</p><nav>{links}</nav>",
            *body,
            "</html>\n",
        ]
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], stack: bool = False) -> str:
    """Rows of HTML cells; a column whose head starts with # is numeric. `stack`: cells below each other on a phone."""
    plain = [h.lstrip("#") for h in head]
    number = [" class=n" if h.startswith("#") else "" for h in head]
    heads = [f" data-head='{escape(h)}'" if stack and k and h else "" for k, h in enumerate(plain)]

    def row(cells: Sequence[str]) -> str:
        return "".join(f"<td{n}{h}>{c}</td>" for c, n, h in zip(cells, number, heads, strict=True))

    top = "".join(f"<th{n}>{h}</th>" for h, n in zip(plain, number, strict=True))
    body = "".join(f"<tr>{row(r)}</tr>" for r in rows)
    return f"<div class=wide><table{' class=stack' if stack else ''}><tr>{top}</tr>{body}</table></div>"


def tensors_table(sets: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Inputs and outputs; of each set of shapes, by number, where there are several."""
    out = []
    for number, s in sets.items():
        if len(sets) > 1:
            out.append(
                f"<p class=sub>Shapes {number}: {s['macs']:,} multiply-adds, arena {s['arena']['bytes']:,} bytes</p>"
            )
        rows = [(kind, t) for kind in ("input", "output") for t in s[f"{kind}s"]]
        out.append(table(("", "name", "type"), [(kind, escape(t["name"]), _type(t)) for kind, t in rows]))
    return out


def _type(t: Mapping[str, Any]) -> str:
    q = t.get("quantization")
    scaling = f", scale {q['scale']:.6g}, zero point {q['zero_point']}" if q else ""
    return escape(f"{t['dtype']} {' x '.join(map(str, t['shape'])) or 'scalar'}{scaling}")


def share_bar(part: float) -> str:
    return f"<div class=bar><i style='width:{100 * part:.1f}%'></i></div>"


def details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
