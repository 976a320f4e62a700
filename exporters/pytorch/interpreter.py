"""Interprets the code of a TorchScript archive over ATen operators: a small part of Python's grammar, and nothing else.

Tensors go through operators of torch.ops.aten, numbers, strings and lists through `values.py`. No other name
can be reached, and the number of steps is limited.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.pytorch.branches import Branches, Returned
from dlpack.exporters.pytorch.files import Object, TensorRef
from dlpack.exporters.pytorch.framework import attach, import_torch
from dlpack.exporters.pytorch.fused import FUSED
from dlpack.exporters.pytorch.script import Script
from dlpack.exporters.pytorch.values import ALWAYS, CHANGES, CONTAINER, FILES, IGNORED, PRIM, SCALAR

MAX_STEPS = 2_000_000  # statements and calls of one run; a large scripted network takes some ten thousand
MAX_OPERATORS = 20_000  # on tensors; each takes about half a millisecond to trace


def module_of(script: Script, names: Sequence[str]) -> Any:
    """A torch.nn.Module that computes forward over the inputs `names`, in that order."""
    torch = import_torch()

    class Replay(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def forward(self, *given: Any) -> Any:
            tensors = dict(self.named_buffers(remove_duplicate=False))
            run = Run(script, {ref: tensors[place] for ref, place in script.places.items()})
            arguments = dict(zip(names, given, strict=True))
            return _plain(run.call_method(script.root, "forward", [], arguments))

    module = Replay()
    for place, tensor in script.tensors.items():
        attach(module, place, tensor)
    return module


def _plain(value: Any) -> Any:
    """Outputs without our own classes."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value


@dataclass(frozen=True)
class Named:
    """A class or a function of the archive by its qualified name."""

    name: str


class Record(tuple[Any, ...]):
    """A NamedTuple; `fields` are its names."""

    fields: tuple[str, ...] = ()


class Run:
    """One call of forward. `tensors`: the tensors that PyTorch traces in place of the file's."""

    def __init__(self, script: Script, tensors: Mapping[TensorRef, Any]) -> None:
        self.script = script
        self.tensors = tensors
        self.changed: dict[tuple[int, str], Any] = {}
        self.resolved: dict[int, tuple[Any, Any]] = {}
        self.steps = 0
        self.operators = 0
        self.fresh: dict[int, Any] | None = None  # in a branch that depends on the data: what it made, by id
        self.torch = import_torch()

    def is_data(self, value: Any) -> bool:
        """Whether a tensor's value is not known while PyTorch traces."""
        if not isinstance(value, self.torch.Tensor):
            return False
        return value.numel() == 1 and getattr(value, "constant", None) is None

    def made(self, value: Any, view: bool = False) -> Any:
        """`value`, noted as one that a branch may change."""
        if self.fresh is not None and not view:
            self.fresh[id(value)] = value
        return value

    # --- calls

    def call_method(self, target: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if isinstance(target, Object):
            method = self.script.method(target.type, name)
            if method is not None:
                return self.call(method, [target, *args], kwargs)
        raise self.problem(f"the method {name} of {type(target).__name__}")

    def call(self, function: ast.FunctionDef, args: list[Any], kwargs: dict[str, Any]) -> Any:
        formals = [a.arg for a in function.args.args]
        scope = dict(zip(formals, args, strict=False)) | kwargs
        defaults = function.args.defaults
        for name, default in zip(formals[len(formals) - len(defaults) :], defaults, strict=True):
            if name not in scope:
                scope[name] = self.value(default, scope)
        if set(scope) != set(formals):
            raise ModelError(f"the code calls {function.name} with other arguments than it has")
        try:
            self.block(function.body, scope)
        except Returned as r:
            return r.value
        return None

    def call_named(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        definition = self.script.definition(name)
        if isinstance(definition, ast.FunctionDef):
            return self.call(definition, args, kwargs)
        assert isinstance(definition, ast.ClassDef)
        bases = [b.id for b in definition.bases if isinstance(b, ast.Name)]
        if bases == ["NamedTuple"]:
            record = Record(args)
            record.fields = tuple(
                n.target.id for n in definition.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
            )
            return record
        raise self.problem(f"the class {name}")

    def problem(self, what: str) -> UnsupportedError:
        return UnsupportedError("the TorchScript holds what cannot be exported:", (what,))

    # --- statements

    def block(self, body: Sequence[ast.stmt], scope: dict[str, Any]) -> None:
        for statement in body:
            self.step()
            if isinstance(statement, ast.Assign):
                self.assign(statement.targets[0], self.value(statement.value, scope), scope)
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                self.assign(statement.target, self.value(statement.value, scope), scope)
            elif isinstance(statement, ast.Expr):
                self.value(statement.value, scope)
            elif isinstance(statement, ast.If):
                test = self.value(statement.test, scope)
                if self.is_data(test):
                    Branches(self, scope).run(test, statement)
                else:
                    self.block(statement.body if bool(test) else statement.orelse, scope)
            elif isinstance(statement, ast.For):
                for item in self.value(statement.iter, scope):
                    self.assign(statement.target, item, scope)
                    self.block(statement.body, scope)
                    self.step()
            elif isinstance(statement, ast.While):
                while bool(self.value(statement.test, scope)):
                    self.block(statement.body, scope)
                    self.step()
            elif isinstance(statement, ast.With):
                self.block(statement.body, scope)  # no_grad and profiling
            elif isinstance(statement, ast.Return):
                raise Returned(self.value(statement.value, scope) if statement.value else None)
            elif not isinstance(statement, ast.Pass):
                raise self.problem(f"the statement {type(statement).__name__.lower()}")

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise ModelError(f"the model's code runs for more than {MAX_STEPS:,} steps; its loops may not end")

    def assign(self, target: ast.expr, value: Any, scope: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            values = list(value)
            if len(values) != len(target.elts):
                raise ModelError("the code unpacks a tuple of another length; the file is damaged")
            for part, item in zip(target.elts, values, strict=True):
                self.assign(part, item, scope)
        elif isinstance(target, ast.Attribute):
            owner = self.value(target.value, scope)
            self.changed[id(owner), target.attr] = value
        else:
            raise self.problem(f"an assignment to {ast.unparse(target)}")

    # --- expressions

    def value(self, node: ast.expr, scope: dict[str, Any]) -> Any:  # noqa: PLR0911 - a kind of expression each
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.name(node.id, scope)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, scope)
        if isinstance(node, ast.Call):
            return self.call_expression(node, scope)
        if isinstance(node, ast.List):
            return [self.value(e, scope) for e in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self.value(e, scope) for e in node.elts)
        if isinstance(node, ast.Dict) and None not in node.keys:
            keys = [self.value(k, scope) for k in node.keys if k is not None]
            return dict(zip(keys, (self.value(v, scope) for v in node.values), strict=True))
        if isinstance(node, ast.Subscript):
            return self.value(node.value, scope)[self.value(node.slice, scope)]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            value = self.value(node.operand, scope)
            return -value if isinstance(node.op, ast.USub) else not value
        if isinstance(node, ast.IfExp):
            test = self.value(node.test, scope)
            if self.is_data(test):
                return Branches(self, scope).choose(test, node)
            return self.value(node.body if bool(test) else node.orelse, scope)
        raise self.problem(f"the expression {ast.unparse(node)}")

    def name(self, name: str, scope: dict[str, Any]) -> Any:
        if name in scope:
            return scope[name]
        if name in ("inf", "nan"):
            return float(name)
        raise ModelError(f"the code names '{name}', which is not defined; the file is damaged")

    def attribute(self, node: ast.Attribute, scope: dict[str, Any]) -> Any:
        dotted = _dotted(node)
        if dotted and dotted[0] not in scope:
            if dotted[0] == "__torch__":
                return Named(".".join(dotted))
            if dotted[0] == "CONSTANTS":
                value = self.script.constants[int(dotted[1].removeprefix("c"))]
                return self.number(self.resolve(value), value)
            if dotted[0] == "torch":
                return ".".join(dotted[1:])  # a layout or a memory format by its name
        return self.field(self.value(node.value, scope), node.attr)

    def number(self, value: Any, source: Any) -> Any:
        """A constant that is a single integer, as a number: traced arithmetic of shapes is written with them."""
        if isinstance(source, TensorRef) and source.size == () and source.dtype in ("int64", "int32", "bool"):
            raw = self.script.tensors[self.script.places[source]]
            return raw.item()
        return value

    def field(self, owner: Any, name: str) -> Any:
        if (id(owner), name) in self.changed:
            return self.changed[id(owner), name]
        if isinstance(owner, Record) and name in owner.fields:
            return owner[owner.fields.index(name)]
        if isinstance(owner, Object):
            if name in owner.attributes:
                return self.resolve(owner.attributes[name])
            definition = self.script.definition(owner.type)
            assert isinstance(definition, ast.ClassDef)
            for item in definition.body:
                if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == name and item.value is not None:
                    return self.value(item.value, {})
        if isinstance(owner, self.torch.Tensor) and name in ("T", "H", "mT", "mH"):
            return getattr(owner, name)
        raise ModelError(f"the code asks for the attribute '{name}', which is not there; the file is damaged")

    def resolve(self, value: Any) -> Any:
        """An attribute's value, with the traced tensors in place of the file's."""
        if isinstance(value, TensorRef):
            return self.tensors[value]
        if isinstance(value, list | tuple | dict):
            if id(value) not in self.resolved:
                made: Any
                if isinstance(value, dict):
                    made = {k: self.resolve(v) for k, v in value.items()}
                else:
                    made = type(value)(self.resolve(v) for v in value)
                self.resolved[id(value)] = value, made
            return self.resolved[id(value)][1]
        return value

    def call_expression(self, node: ast.Call, scope: dict[str, Any]) -> Any:
        self.step()
        function = node.func
        if isinstance(function, ast.Name) and function.id not in scope:
            return self.builtin(function.id, node, scope)
        args = [self.value(a, scope) for a in node.args]
        kwargs = {k.arg: self.value(k.value, scope) for k in node.keywords if k.arg}
        dotted = _dotted(function)
        if dotted and dotted[0] not in scope:
            if dotted[0] == "torch" and len(dotted) == 2:
                return self.operator(dotted[1], args, kwargs)
            if dotted[0] == "ops" and len(dotted) == 3:
                if dotted[1] == "aten":
                    return self.operator(dotted[2], args, kwargs)
                if dotted[1] == "prim" and dotted[2] in PRIM:
                    return PRIM[dotted[2]](*args, **kwargs)
                raise self.problem(f"the operator {dotted[1]}::{dotted[2]}")
            if dotted[0] == "__torch__":
                if dotted[-1] == "__new__":
                    return Object(".".join(dotted[:-1]))
                return self.call_named(".".join(dotted), args, kwargs)
        if isinstance(function, ast.Attribute):
            return self.call_method(self.value(function.value, scope), function.attr, args, kwargs)
        target = self.value(function, scope)
        if isinstance(target, Named):
            return self.call_named(target.name, args, kwargs)
        raise self.problem(f"a call of {ast.unparse(function)}")

    def builtin(self, name: str, node: ast.Call, scope: dict[str, Any]) -> Any:
        if name == "uninitialized":
            return None
        if name in ("annotate", "unchecked_cast") and len(node.args) == 2:
            return self.value(node.args[1], scope)
        args = [self.value(a, scope) for a in node.args]
        if name == "getattr" and len(args) == 2:
            return self.field(args[0], str(args[1]))
        if name in ("int", "float", "bool"):
            (value,) = args
            if self.is_data(value):
                return value.reshape(()).to({"int": self.torch.int64, "bool": self.torch.bool}.get(name, value.dtype))
            value = value.item() if isinstance(value, self.torch.Tensor) else value
            return {"int": int, "float": float, "bool": bool}[name](value)
        if name == "str":
            return str(args[0])
        if name == "range":
            return range(*args)
        raise self.problem(f"the function {name}")

    def operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        tensor = self.torch.Tensor
        if name in IGNORED:
            return None
        if name == "device":
            return self.torch.device("cpu")
        if name in ALWAYS:
            return ALWAYS[name](*args)
        if name in CONTAINER and args and not isinstance(args[0], tensor):
            if self.fresh is not None and name in CHANGES and id(args[0]) not in self.fresh:
                raise self.problem("a list that changes in a branch which depends on the data")
            return self.made(CONTAINER[name](*args, **kwargs))
        if name == "__not__" and args and self.is_data(args[0]):
            return args[0].logical_not()
        if name in ("Int", "Float", "Bool", "IntImplicit", "FloatImplicit", "ScalarImplicit", "item") and self.is_data(
            args[0]
        ):
            return args[0].reshape(())
        if name in SCALAR and not any(_has(a, tensor) for a in args):
            return SCALAR[name](*args, **kwargs)
        if name in FUSED:
            return FUSED[name](*args, **kwargs)
        packet = getattr(self.torch.ops.aten, name, None) if name not in FILES else None
        if not isinstance(packet, self.torch._ops.OpOverloadPacket):
            raise self.problem(f"the operator aten::{name}")
        self.operators += 1
        if self.operators > MAX_OPERATORS:
            raise ModelError(f"the model's code calls more than {MAX_OPERATORS:,} operators; its loops may not end")
        written = name.endswith("_") and not name.startswith("__")
        if self.fresh is not None and written and args and id(args[0]) not in self.fresh:
            raise self.problem(f"aten::{name} on an outer tensor, in a branch which depends on the data")
        try:
            return self.made(packet(*args, **kwargs), view=not written and _gives_view(packet))
        except TypeError as e:
            raise ModelError(
                f"the operator aten::{name} does not take these arguments: {str(e).splitlines()[0]}"
            ) from e


def _gives_view(packet: Any) -> bool:
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    return any(r.alias_info is not None for s in schemas for r in s.returns if "out" not in s.overload_name)


def _has(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) or (isinstance(value, list | tuple) and any(_has(v, kind) for v in value))


def _dotted(node: ast.expr) -> list[str]:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *parts[::-1]] if isinstance(node, ast.Name) else []
