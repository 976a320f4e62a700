"""Small random graphs of single operators, compiled and compared: every operator × element type × kind of operand.

Case k of a seed is the same on every machine, and a round of `len(PAIRS)` cases meets every operator with every element
type. A case is a model with a few nodes of one operator, each an output of its own: their inputs are run-time inputs or
constants, full, broadcast or scalar, and their values are telling ones. `meaning.py` says what they must be. Every
fourth round, cases are chains of operators instead (`chains.py`). What differs from one opinion and agrees with the
other is disputed, and no finding.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NoReturn

import onnx
from conformance.batch import Result, run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from onnx import helper

from fuzz import chains
from fuzz.layers import Layer, layers
from fuzz.meaning import expected, info, model
from fuzz.templates import Template, templates
from fuzz.values import HALVES, Array, Rng

BATCH = 60
"""Cases that are compiled as one file."""

NODES = 4
"""Nodes of a case."""

SANITIZE = ("-fsanitize=undefined", "-fsanitize-trap=undefined", "-O0")
"""Undefined behaviour ends the process."""

OPSETS = (13, 17, 18, 19, 20, 21, 22, 23)
TEMPLATES_SINCE = 18

RTOL = {"float16": 2.0**-9, "bfloat16": 2.0**-6, "float64": 1e-7}

_SINGLE: list[tuple[Template | Layer, str]] = [
    *((t, dtype) for t in templates() for dtype in t.dtypes),
    *((layer, dtype) for layer in layers() for dtype in layer.dtypes),
]
PAIRS = [*_SINGLE, *((t, half) for t in templates() if "float32" in t.dtypes for half in HALVES)]
"""Every operator with every element type."""

CHAINS = len(PAIRS) // 4
"""Chains of operators in a round, after those of single ones."""


# --- cases ------------------------------------------------------------------------------------------------------------


def make(seed: int, k: int, other: bool = False) -> Case:
    """Case k of the seed; `other` asks for the second opinion of what is right."""
    place = k % (len(PAIRS) + CHAINS)
    rng = Rng(f"{seed}/{k}")
    if place >= len(PAIRS):
        return chains.make(f"{seed}/{k}", rng, other)
    template, dtype = PAIRS[place]
    first, last = (template.since, template.last) if isinstance(template, Layer) else (TEMPLATES_SINCE, OPSETS[-1])
    opset = rng.choice([n for n in OPSETS if first <= n <= last])
    nodes, inputs, constants, outputs = [], {}, {}, []
    results: list[Array] = []
    for number in range(NODES):
        drawn = template.draw(rng, dtype)
        names = []
        for position, value in enumerate(drawn.values):
            name = "" if value is None else f"x{number}_{position}"
            if value is not None:
                (inputs if drawn.at_run_time[position] else constants)[name] = value
            names.append(name)
        made = [f"y{number}_{i}" for i in range(drawn.outputs)]
        node = helper.make_node(drawn.op, names, made, **drawn.attributes)
        nodes.append(node)
        outputs += made
        results += expected(node, drawn.values, opset, other)
    graph = helper.make_graph(
        nodes,
        "g",
        [info(n, v) for n, v in inputs.items()],
        [info(n, v) for n, v in zip(outputs, results, strict=True)],
        [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    data = ((tuple(inputs.values()), tuple(results)),)
    exact = dtype == "float64" and template.op not in ("LSTM", "GRU", "RNN")
    rtol = min(template.rtol, RTOL[dtype]) if exact else max(template.rtol, RTOL.get(dtype, 0.0))
    name = f"{seed}/{k} {template.op} {dtype} opset {opset}"
    atol = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 1e-5)
    return Case(name, template.op, "", model(graph, opset), data, rtol, atol)


# --- the run ----------------------------------------------------------------------------------------------------------


def fuzz(count: int, seed: int, first: int, machine: str) -> int:
    """Cases `first` to `first + count`, each batch in a process of its own; the number of findings."""
    counts: Counter[str] = Counter()
    reasons: dict[str, list[str]] = defaultdict(list)
    began, k = time.monotonic(), first
    with contextlib.suppress(KeyboardInterrupt):  # which ends a long run early, with its summary
        while k < first + count:
            numbers = range(k, min(k + BATCH, first + count))
            for name, outcome, detail in _batch(seed, numbers, machine):
                counts[outcome] += 1
                if outcome in ("refused", "disputed", "no reference"):
                    reasons[f"{outcome}: {name.split()[1]}: {_kind(detail)}"].append(name)
                elif outcome != "passed":
                    print(f"FOUND {name}: {outcome}: {detail}", flush=True)
            k = numbers.stop
            print(f"operators: {k - first:,} of {count:,}", file=sys.stderr, flush=True)
    for reason, names in sorted(reasons.items()):
        print(f"  {len(names)} x {reason} ({names[0]})")
    told = ", ".join(f"{word} {n:,}" for word, n in counts.most_common())
    seconds, done = time.monotonic() - began, counts.total()
    print(f"operators: {done:,} graphs: {told}; {seconds:.0f} s, {done / seconds:.1f} a second", flush=True)
    return sum(counts[word] for word in ("failed", "error", "crash", "refused"))


def _kind(detail: str) -> str:
    """A message without what differs from case to case."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|-?[\d.]+(e[-+]?\d+)?|\[[^\]]*\]", "#", " ".join(detail.split()))[:160]


def check(seed: int, numbers: Sequence[int], machine: str) -> list[Result]:
    """The results of some cases, compiled as one file."""
    return _judged(seed, numbers, machine, lambda _: None)


def _judged(seed: int, numbers: Sequence[int], machine: str, begin: Any) -> list[Result]:
    """The results; what fails is asked for again with the second opinion."""
    cases, unknown = _cases(seed, numbers)
    results = run_cases(list(cases.values()), MACHINES[machine], begin, flags=SANITIZE)
    numbered = dict(zip(cases, results, strict=True))
    wrong = [k for k, r in numbered.items() if r.outcome == "failed"]
    if wrong:
        others, _ = _cases(seed, wrong, other=True)
        again = run_cases(list(others.values()), MACHINES[machine], lambda _: None, flags=SANITIZE)
        for k, r in zip(others, again, strict=True):
            if r.outcome == "passed":
                numbered[k] = _with(numbered[k], "disputed")
    return [*(_with(r, "refused") if r.outcome == "unsupported" else r for r in numbered.values()), *unknown]


def _with(result: Result, outcome: str) -> Result:
    return Result(result.name, result.operator, result.domain, outcome, result.detail, result.constant)


def _cases(seed: int, numbers: Sequence[int], other: bool = False) -> tuple[dict[int, Case], list[Result]]:
    """The cases by number, and those that nothing computes."""
    cases, unknown = {}, []
    for k in numbers:
        try:
            cases[k] = make(seed, k, other)
        except Exception as e:  # noqa: BLE001 - of onnxruntime or the reference
            place = k % (len(PAIRS) + CHAINS)
            name = f"{PAIRS[place][0].op} {PAIRS[place][1]}" if place < len(PAIRS) else "chain"
            unknown.append(Result(f"{seed}/{k} {name}", name, "", "no reference", f"{type(e).__name__}: {e}"))
    return cases, unknown


def _batch(seed: int, numbers: range, machine: str) -> list[tuple[str, str, str]]:
    """Results, or where the process ended early, that it did so."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(seed, numbers, machine, writer)
    os.close(writer)
    with os.fdopen(reader) as stream:
        lines = [json.loads(line) for line in stream]
    os.waitpid(child, 0)
    if lines and isinstance(lines[-1], list):
        return [tuple(result) for result in lines[-1]]
    return [(lines[-1] if lines else f"{seed}/{numbers.start}", "crash", "the compiler died")]


def _child(seed: int, numbers: range, machine: str, writer: int) -> NoReturn:
    try:
        with os.fdopen(writer, "w", buffering=1) as out:

            def begin(case: Case) -> None:
                print(json.dumps(case.name), file=out)

            results = _judged(seed, numbers, machine, begin)
            print(json.dumps([(r.name, r.outcome, r.detail) for r in results]), file=out)
    finally:
        os._exit(0)
