"""report.html: what was built, its agreement with onnxruntime, memory, network, kernels, on a page without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dlpack.meaning.shape_sets import set_name, sets_of, shown_sets
from dlpack.report.arena import arena_map
from dlpack.report.bars import error_histogram, kernel_bars, roofline
from dlpack.report.network import network_drawing
from dlpack.report.page import details, page, share_bar, table, tensors_table
from dlpack.report.treemap import treemap

Facts = Mapping[str, Any]


def write_report(
    folder: Path, manifest: Facts, kernels: Sequence[Facts], plan: Facts, times: Facts | None = None
) -> None:
    """Writes the report of a bundle; `times` is what `bench_bundle` measured, with the machine's `limits`."""
    text = report_html(manifest, kernels, file_sizes(folder), plan, times)
    (folder / "report.html").write_text(text, encoding="utf-8")


def file_sizes(folder: Path) -> list[tuple[str, int]]:
    """The files of a bundle, with their bytes, without the report."""
    files = ((p.relative_to(folder).as_posix(), p.stat().st_size) for p in folder.rglob("*") if p.is_file())
    return sorted(f for f in files if f[0] != "report.html")


def report_html(
    m: Facts,
    kernels: Sequence[Facts],
    files: Sequence[tuple[str, int]],
    plan: Facts | None = None,
    times: Facts | None = None,
) -> str:
    """The page. `files`: the bundle's, with their bytes; `plan`: see `plan_file.plan_of`."""
    machine = ", ".join(filter(None, (m["machine"], m.get("processor"))))
    subtitle = (
        f"{escape(m['tool'])}, target {escape(m['target'])} ({escape(machine)}), {escape(m['opset'])}, "
        f"model SHA-256 <code>{m['model_sha256'][:16]}…</code>"
    )
    return page(
        m["name"],
        subtitle,
        [
            ("Inputs and outputs", tensors_table(shown_sets(m))),
            ("Agreement with onnxruntime", _agreement(m)),
            ("Time", _time(kernels, plan, times)),
            ("Memory", _memory(m, plan)),
            ("Network", _network(m, kernels, plan, times)),
            ("Sizes", _size_parts(m, files, plan)),
            ("Kernels", _kernels(m, kernels)),
        ],
    )


def _agreement(m: Facts) -> list[str]:
    if "verification" not in m:
        macro = escape(m["name"].upper())
        return [
            "<p>Not run on this machine, which cannot run this target. To run its self-test elsewhere: "
            f"compile {escape(m['source'])} with <code>-D{macro}_SELFTEST</code>.</p>"
        ]
    rows = [
        (
            escape(e["name"]),
            f"{e['absolute']:.3g}",
            f"{e['relative']:.3g}",
            f"{e['range']:.4g}",
            "<span class=ok>ok</span>" if e["passed"] else "<span class=bad>wrong</span>",
        )
        for e in m["verification"]
    ]
    return [
        f"<p class=sub>{_conditions(m)}</p>",
        table(("output", "#largest error", "#relative to range", "#range", ""), rows),
        *(error_histogram(e) for e in m["verification"]),
        *_precision(m.get("precision")),
        *_precision(m.get("arithmetic")),
    ]


def _precision(facts: Facts | None) -> list[str]:
    """What smaller numbers have changed of the model, where the user asked for them."""
    if not facts:
        return []
    if "products" in facts:
        what = f"{facts['products']} products multiply what is rounded to 8 bits"
    else:
        what = f"Weights {escape(facts['weights'])}"
        what += f", activations {escape(facts['activations'])}" if "activations" in facts else ""
    runs = facts["compared_on"]["runs"]
    data = f"{runs} runs of the calibration data" if facts["compared_on"]["calibration"] else "seeded inputs"
    rows = [
        (
            escape(c["name"]),
            f"{c['rms']:.2g}",
            f"{c['largest']:.2g}",
            "" if c["same_top"] is None else f"{c['same_top']:.1%}",
        )
        for c in facts["changes"]
    ]
    return [
        "<h3>Smaller numbers</h3>",
        f"<p class=sub>{what}; the model as it was, and as it is, run by "
        f"onnxruntime on {data}. Errors as parts of the output's largest value.</p>",
        table(("output", "#root mean square", "#largest", "#same class"), rows),
    ]


def _conditions(m: Facts) -> str:
    """What was verified with, and what of float32 outputs is accepted."""
    given = m.get("verified_with")
    data = f" and on {escape(given['file'])}, SHA-256 <code>{given['sha256']}</code>" if given else ""
    usual = f"{m.get('tolerance', 1e-4):g}"
    where = ", ".join(m.get("verified_on", ["this computer"]))
    accepted = f"accepted is {usual} of the range, or what float32 gives where that is more"
    return f"On {escape(where)}, on seeded inputs{data}; {accepted}."


def _memory(m: Facts, plan: Facts | None) -> list[str]:
    arena = m["arena"]
    types = ", ".join(f"{dtype} {size:,}" for dtype, size in m.get("weights_by_type", {}).items())
    code = [("the library without weights", f"{m['code_bytes']:,}")] if "code_bytes" in m else []
    parts = [
        table(
            ("", "#bytes"),
            [
                *code,
                (f"weights in the file{f': {types}' if types else ''}", f"{m['weights_bytes']:,}"),
                ("weights that are computed when a predictor is made", f"{m.get('prepared_bytes', 0):,}"),
                (f"arena, placed {escape(arena['strategy'])}", f"{arena['bytes']:,}"),
                ("lower bound of the arena: maximum bytes in use at once", f"{arena['lower_bound']:,}"),
                ("sum of all intermediates, without sharing", f"{arena['naive']:,}"),
            ],
        )
    ]
    if plan is None:
        return parts
    sets = sets_of(m)[: len(plan["sets"])]
    for s, drawn in zip(sets, plan["sets"], strict=True):
        size = max((p["offset"] + p["bytes"] for p in drawn["places"]), default=0)
        parts += [f"<h3>{escape(set_name(s))}</h3>"] if len(sets) > 1 else []
        parts.append(arena_map(drawn["places"], drawn["steps"], size))
        rows = [
            (escape(p["name"]), f"{p['bytes']:,}", f"{p['offset']:,}", f"{p['first']} to {p['last']}")
            for p in sorted(drawn["places"], key=lambda p: (p["first"], p["offset"]))
        ]
        if rows:
            parts.append(details("All values in the arena", table(("value", "#bytes", "#at", "steps"), rows)))
    return parts


def _network(m: Facts, kernels: Sequence[Facts], plan: Facts | None, times: Facts | None) -> list[str]:
    """The drawing of the first set of shapes; the boxes' bars are times if there are any, else multiply-adds."""
    if plan is None or not plan["sets"][0]["blocks"]:
        return []
    measured = _measured_sets(times)
    if measured:
        what, shares = "time", {k["name"]: k["share"] / max(1, k["calls"]) for k in measured[0]["kernels"]}
    else:
        blocks = plan["sets"][0]["blocks"]
        macs = {k["name"]: k["macs"] for k in kernels}
        total = sum(macs.get(b["kernel"], 0) for b in blocks)
        what, shares = "multiply-adds", {k: v / total for k, v in macs.items()} if total else {}
    inputs, outputs = ([t["name"] for t in m[kind]] for kind in ("inputs", "outputs"))
    said = f"<p class=sub>{len(plan['sets'][0]['blocks'])} groups; shares are those of the {what}.</p>"
    return [said, network_drawing(plan["sets"][0]["blocks"], inputs, outputs, shares)]


def _size_parts(m: Facts, files: Sequence[tuple[str, int]], plan: Facts | None) -> list[str]:
    parts = [treemap(files, "The bundle's files")]
    if plan is not None and plan["weights"]:
        weights = [(w["name"], w["bytes"]) for w in plan["weights"]]
        rest = m["weights_bytes"] - sum(size for _, size in weights)
        parts.append(treemap([*weights, *([("between weights", rest)] if rest > 0 else [])], "The weights, as stored"))
    parts.append(details("All files", table(("file", "#bytes"), [(escape(n), f"{s:,}") for n, s in files])))
    return parts


def _kernels(m: Facts, kernels: Sequence[Facts]) -> list[str]:
    total = max(1, sum(k["macs"] for k in kernels))
    rows = [
        (
            f"<code>{escape(k['name'])}</code>",
            f"{escape(k['computes'])}<br><small>{escape(', '.join(k['nodes'][:6]))}</small>",
            escape(k["schedule"]),
            f"{k['macs']:,}" if k["macs"] else "",
            share_bar(k["macs"] / total) if k["macs"] else "",
        )
        for k in kernels
    ]
    head = ("kernel", "computes", "schedule", "#multiply-adds", "share")
    said = f"<p class=sub>{len(kernels)} kernels, {m['macs']:,} multiply-adds per run</p>"
    return [said, table(head, rows, stack=True)]


# --- times ------------------------------------------------------------------------------------------------------------


def _measured_sets(times: Facts | None) -> list[Facts]:
    """The times of each set of shapes, of the first build where there are several."""
    out = []
    for one in times.get("shapes", [times]) if times else []:
        builds = [k.get("build") for k in one["kernels"]]
        out.append({**one, "kernels": [k for k in one["kernels"] if k.get("build") == builds[0]]})
    return [one for one in out if one["kernels"]]


def _time(kernels: Sequence[Facts], plan: Facts | None, times: Facts | None) -> list[str]:
    """Runs, kernels as bars, and the roofline; nothing for a bundle that was not measured."""
    parts = []
    limits = times.get("limits") if times else None
    macs = {k["name"]: k["macs"] for k in kernels}
    for number, one in enumerate(_measured_sets(times)):
        if "inputs" in one:
            parts.append(f"<h3>{escape(one['inputs'])}</h3>")
        runs = [
            (escape(r["name"]), *(f"{r[key]:.4f}" for key in ("median_ms", "minimum_ms", "cpu_ms")))
            for r in one["runs"]
        ]
        parts.append(table(("", "#median ms", "#minimum ms", "#CPU ms"), runs))
        moved: dict[str, int] = {}
        for b in plan["sets"][number]["blocks"] if plan else []:
            moved[b["kernel"]] = moved.get(b["kernel"], 0) + b["bytes"]
        rows = [
            {**k, "flops": 2 * macs.get(k["name"], 0) * k["calls"], "bytes": moved.get(k["name"], 0)}
            for k in one["kernels"]
        ]
        parts.append(kernel_bars(rows, limits))
        parts += [roofline(rows, limits)] if limits else []
    if times is None or not parts:
        return []
    return [f"<p class=sub>Measured by <code>dlpack bench --report</code>: {escape(times['about'])}.</p>", *parts]
