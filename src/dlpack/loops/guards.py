"""Where loops are cut: at the trips in which a guard changes its answer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from dlpack.loops.expressions import COMPARISONS, ExpressionLowering, operands_of
from dlpack.loops.index import Linear, Range

WHOLE = "dlpack.whole"
"""Loop annotation: the loop is not cut at guards; they are tested in every trip. For long bodies and cheap tests."""


class GuardedLowering(ExpressionLowering):
    """Lowers expressions, and knows the guards below a statement of TVM's."""

    def partition(self, s: Any, begin: int, end: int, cut: int = 0) -> list[Range]:
        """Splits [begin, end) where a guard that depends on the loop's variable changes its answer, and at `cut`."""
        if WHOLE in s.annotations:
            return [(begin, end)]
        probe = self.fresh(f"probe_{s.loop_var.name}")
        self.names.discard(probe)
        forms: list[Linear] = []
        self.env[s.loop_var] = Linear.var(probe)
        self.ranges[probe] = (begin, end - 1)
        self.collect_guards(s.body, forms)
        del self.env[s.loop_var]
        cuts = {cut} if begin < cut < end else set[int]()
        for form in forms:
            k = form.coefficient(probe)
            if not k:
                continue
            low, high = (form - Linear.var(probe) * k).bounds(self.ranges)
            for bound in (low, high):
                cut = -(bound // k) if k > 0 else bound // -k + 1
                if begin < cut < end:
                    cuts.add(cut)
        if len(cuts) > 4:
            cuts &= {cut}
        edges = [begin, *sorted(cuts), end]
        return list(pairwise(edges))

    def collect_guards(self, s: Any, forms: list[Linear]) -> None:
        kind = type(s).__name__
        if kind == "SeqStmt":
            for child in s.seq:
                self.collect_guards(child, forms)
        elif kind == "For":
            name = self.fresh(f"inner_{s.loop_var.name}")
            self.ranges[name] = (int(s.min), int(s.min) + int(s.extent) - 1)
            self.env[s.loop_var] = Linear.var(name)
            self.collect_guards(s.body, forms)
            self.names.discard(name)
            del self.env[s.loop_var]
        elif kind == "IfThenElse":
            self.guard_forms(s.condition, forms)
            self.collect_guards(s.then_case, forms)
            if s.else_case is not None:
                self.collect_guards(s.else_case, forms)
        elif kind == "BufferStore":
            self.value_guards(s.value, forms)
        elif kind in ("AttrStmt", "While"):
            self.collect_guards(s.body, forms)
        elif kind == "Bind":
            self.value_guards(s.value, forms)

    def value_guards(self, e: Any, forms: list[Linear]) -> None:
        kind = type(e).__name__
        if kind == "Select":
            self.guard_forms(e.condition, forms)
        elif kind == "Call" and str(e.op.name).endswith("if_then_else"):
            self.guard_forms(e.args[0], forms)
        for c in operands_of(e)[kind == "Select" :]:
            self.value_guards(c, forms)

    def guard_forms(self, e: Any, forms: list[Linear]) -> None:
        """Appends a form for each comparison in `e`: true where the form is not negative."""
        kind = type(e).__name__
        if kind in ("And", "Or"):
            self.guard_forms(e.a, forms)
            self.guard_forms(e.b, forms)
        elif kind == "Not":
            self.guard_forms(e.a, forms)
        elif kind == "Call" and str(e.op.name).endswith("likely"):
            self.guard_forms(e.args[0], forms)
        elif kind in COMPARISONS:
            forms.extend(f for f in self.comparison(e) or ())
