"""report.html: what was built, its agreement with onnxruntime, and every kernel, on one page without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from dlpack.meaning.shape_sets import sets_of

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1e21; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.sub { color: #5f6670; margin-top: .2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
td.n, th.n { text-align: right; } code { font-size: .92em; } .ok { color: #11703c; } .bad { color: #b3261e; }
.bar { background: #dfe7f5; height: .55rem; border-radius: .2rem; } .bar i { display: block; height: 100%;
  background: #3b6fd4; border-radius: .2rem; }
@media (prefers-color-scheme: dark) { body { background: #17191c; color: #e4e6e9; } th, td { border-color: #33373d; }
  p.sub { color: #9aa2ac; } .ok { color: #5fd08f; } .bad { color: #ff8a80; } .bar { background: #2a3240; } }
"""


def write_report(folder: Path, manifest: dict[str, Any], kernels: list[dict[str, Any]]) -> None:
    (folder / "report.html").write_text(report_html(manifest, kernels, _sizes(folder)), encoding="utf-8")


def _sizes(folder: Path) -> list[tuple[str, int]]:
    return sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file() and p.name != "report.html")


def report_html(m: dict[str, Any], kernels: list[dict[str, Any]], files: list[tuple[str, int]]) -> str:
    arena = m["arena"]
    total = max(1, sum(k["macs"] for k in kernels))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(m['name'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(m['name'])}</h1><p class=sub>{escape(m['tool'])}, target {escape(m['target'])} "
        f"({escape(m['machine'])}), {escape(m['opset'])}, model SHA-256 <code>{m['model_sha256'][:16]}…</code></p>",
        "<h2>Inputs and outputs</h2>",
        *_tensors(m),
        "<h2>Agreement with onnxruntime</h2>",
    ]
    if "verification" in m:
        parts.append(f"<p class=sub>{_conditions(m)}</p>")
        parts.append(
            _table(
                ("output", "#largest error", "#relative to range", "#range", ""),
                [
                    (
                        escape(e["name"]),
                        f"{e['absolute']:.3g}",
                        f"{e['relative']:.3g}",
                        f"{e['range']:.4g}",
                        "<span class=ok>ok</span>" if e["passed"] else "<span class=bad>wrong</span>",
                    )
                    for e in m["verification"]
                ],
            )
        )
    else:
        macro = escape(m["name"].upper())
        parts.append(
            "<p>Not run on this machine, which cannot run this target. To run its self-test elsewhere: "
            f"compile {escape(m['source'])} with <code>-D{macro}_SELFTEST</code>.</p>"
        )
    parts += [
        "<h2>Memory</h2>",
        _table(
            ("", "#bytes"),
            [
                (f"weights in the file{_types(m)}", f"{m['weights_bytes']:,}"),
                ("weights that are computed when a predictor is made", f"{m.get('prepared_bytes', 0):,}"),
                (f"arena, placed {escape(arena['strategy'])}", f"{arena['bytes']:,}"),
                ("lower bound of the arena: maximum bytes in use at once", f"{arena['lower_bound']:,}"),
                ("sum of all intermediates, without sharing", f"{arena['naive']:,}"),
            ],
        ),
        "<h2>Files</h2>",
        _table(("file", "#bytes"), [(escape(n), f"{s:,}") for n, s in files]),
        f"<h2>Kernels</h2><p class=sub>{len(kernels)} kernels, {m['macs']:,} multiply-adds per run</p>",
        _table(
            ("kernel", "computes", "schedule", "#multiply-adds", "share"),
            [
                (
                    f"<code>{escape(k['name'])}</code>",
                    f"{escape(k['computes'])}<br><small>{escape(', '.join(k['nodes'][:6]))}</small>",
                    escape(k["schedule"]),
                    f"{k['macs']:,}" if k["macs"] else "",
                    f"<div class=bar><i style='width:{100 * k['macs'] / total:.1f}%'></i></div>" if k["macs"] else "",
                )
                for k in kernels
            ],
        ),
    ]
    return "\n".join(parts) + "\n"


def _types(m: dict[str, Any]) -> str:
    """The element types of the weights, with their bytes."""
    parts = [f"{dtype} {size:,}" for dtype, size in m.get("weights_by_type", {}).items()]
    return f": {', '.join(parts)}" if parts else ""


def _conditions(m: dict[str, Any]) -> str:
    """What was verified with, and what of float32 outputs is accepted."""
    given = m.get("verified_with")
    data = f" and on {escape(given['file'])}, SHA-256 <code>{given['sha256']}</code>" if given else ""
    usual = f"{m.get('tolerance', 1e-4):g}"
    where = ", ".join(m.get("verified_on", ["this computer"]))
    accepted = f"accepted is {usual} of the range, or what float32 gives where that is more"
    return f"On {escape(where)}, on seeded inputs{data}; {accepted}."


def _tensors(m: dict[str, Any]) -> list[str]:
    """Inputs and outputs; of each set of shapes where there are several."""
    sets = sets_of(m)
    out = []
    for number, s in enumerate(sets):
        if len(sets) > 1:
            out.append(
                f"<p class=sub>Shapes {number}: {s['macs']:,} multiply-adds, arena {s['arena']['bytes']:,} bytes</p>"
            )
        rows = [(kind, t) for kind in ("input", "output") for t in s[f"{kind}s"]]
        out.append(_table(("", "name", "type"), [(kind, escape(t["name"]), _type(t)) for kind, t in rows]))
    return out


def _type(t: dict[str, Any]) -> str:
    q = t.get("quantization")
    scaling = f", scale {q['scale']:.6g}, zero point {q['zero_point']}" if q else ""
    return escape(f"{t['dtype']} {' x '.join(map(str, t['shape'])) or 'scalar'}{scaling}")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of HTML cells; a column whose head starts with # is numeric."""
    number = [h.startswith("#") for h in head]

    def row(cells: tuple[str, ...], tag: str) -> str:
        return "".join(f"<{tag}{' class=n' if n else ''}>{c}</{tag}>" for c, n in zip(cells, number, strict=True))

    body = "".join(f"<tr>{row(r, 'td')}</tr>" for r in rows)
    return f"<table><tr>{row(tuple(h.lstrip('#') for h in head), 'th')}</tr>{body}</table>"
