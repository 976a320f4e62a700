"""TorchScript's `if` on a tensor's value: both branches are computed, and each result is chosen element by element."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from dlpack.errors import UnsupportedError
from dlpack.exporters.pytorch.framework import import_torch
from dlpack.exporters.pytorch.values import Refused


class Returned(Exception):
    """The end of a function, with its result."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Nothing:
    """What a branch leaves undefined, or where it raises an error."""


NOTHING = _Nothing()


class Run(Protocol):
    """What the interpreter offers."""

    changed: dict[tuple[int, str], Any]
    fresh: dict[int, Any] | None

    def block(self, body: Sequence[ast.stmt], scope: dict[str, Any]) -> None: ...
    def value(self, node: ast.expr, scope: dict[str, Any]) -> Any: ...


class Branches:
    """The two branches of one `if`, over the names in `scope`."""

    def __init__(self, run: Run, scope: dict[str, Any]) -> None:
        self.run_ = run
        self.scope = scope
        self.torch = import_torch()

    def run(self, test: Any, statement: ast.If) -> None:
        """Runs both bodies and merges what they assign; a body that raises an error is left out.

        Raises UnsupportedError where the branches differ in more than the values of tensors of one shape.
        """
        before, changed = dict(self.scope), dict(self.run_.changed)
        results = []
        for body in (statement.body, statement.orelse):
            self.scope.clear()
            self.scope.update(before)
            self.run_.changed = dict(changed)
            value = self.attempt(partial(self.run_.block, body, self.scope))
            results.append((value, dict(self.scope), self.run_.changed))
        yes, no = results
        kept = no if yes[0] is NOTHING else yes if no[0] is NOTHING else None
        self.scope.clear()
        if kept is not None:
            self.scope.update(kept[1])
            self.run_.changed = kept[2]
            if isinstance(kept[0], Returned):
                raise kept[0]
            return
        if isinstance(yes[0], Returned) != isinstance(no[0], Returned):
            raise self.problem("a return in one branch alone")
        if isinstance(yes[0], Returned):
            raise Returned(self.merged(test, yes[0].value, no[0].value, "its result"))
        for name in dict.fromkeys([*yes[1], *no[1]]):
            if name in yes[1] and name in no[1]:
                self.scope[name] = self.merged(test, yes[1][name], no[1][name], f"'{name}'")
        self.run_.changed = {}
        for key in dict.fromkeys([*yes[2], *no[2]]):
            if key not in yes[2] or key not in no[2]:
                raise self.problem(f"an assignment to '{key[1]}' in one branch alone")
            self.run_.changed[key] = self.merged(test, yes[2][key], no[2][key], f"'{key[1]}'")

    def choose(self, test: Any, node: ast.IfExp) -> Any:
        """The value of `a if test else b`."""
        yes, no = (self.run_.value(part, self.scope) for part in (node.body, node.orelse))
        return self.merged(test, yes, no, "its value")

    def attempt(self, body: Callable[[], None]) -> Any:
        """None, what the body returns, or NOTHING if it raises the model's own error."""
        outer, self.run_.fresh = self.run_.fresh, {}
        try:
            body()
        except Returned as r:
            return r
        except Refused:
            return NOTHING
        finally:
            self.run_.fresh = outer
        return None

    def merged(self, test: Any, yes: Any, no: Any, what: str) -> Any:
        """One value for both: the same object, or tensors and numbers chosen by `test`."""
        torch = self.torch
        if yes is no or yes is None:
            return no
        if no is None:
            return yes
        if isinstance(yes, list | tuple) and type(yes) is type(no) and len(yes) == len(no):
            parts = [self.merged(test, a, b, what) for a, b in zip(yes, no, strict=True)]
            return type(yes)(parts)
        numbers = bool | int | float
        if isinstance(yes, numbers) and isinstance(no, numbers):
            if yes == no and type(yes) is type(no):
                return yes
            yes, no = torch.full((), yes), torch.full((), no)
        if isinstance(yes, torch.Tensor) and isinstance(no, numbers):
            no = torch.full(yes.shape, no, dtype=yes.dtype)
        if isinstance(no, torch.Tensor) and isinstance(yes, numbers):
            yes = torch.full(no.shape, yes, dtype=no.dtype)
        if isinstance(yes, torch.Tensor) and isinstance(no, torch.Tensor):
            if yes.shape != no.shape:
                shapes = list(yes.shape), list(no.shape)
                raise self.problem(f"{what} has the shape {shapes[0]} in one branch, {shapes[1]} in the other")
            holds = test.reshape(()).to(torch.bool)
            if yes.dtype == no.dtype == torch.bool:  # onnxruntime's Where takes none
                return (holds & yes) | (~holds & no)
            return torch.where(holds, yes, no)
        if type(yes) is type(no) and isinstance(yes, str) and yes == no:
            return yes
        raise self.problem(f"{what} differs in more than the values of a tensor")

    def problem(self, what: str) -> UnsupportedError:
        return UnsupportedError("the TorchScript has an `if` on its data that cannot be exported:", (what,))
