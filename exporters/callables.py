"""`package.module:callable` and `path/to/file.py:callable`: finding, importing and classifying it.

Only here does the user's Python code run: naming a callable asks for that.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dlpack import errors
from dlpack.errors import DlpackError, UsageError

_SPEC = re.compile(r"(?P<where>.+):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)", re.DOTALL)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "mxnet")


@dataclass(frozen=True)
class Spec:
    """The parts before and after the colon."""

    where: str
    name: str

    @property
    def is_file(self) -> bool:
        return self.where.endswith(".py")

    @property
    def stem(self) -> str:
        """The model's default name: the file's, or for a module the callable's."""
        return Path(self.where).stem if self.is_file else self.name.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.where}:{self.name}"


def parse_spec(model: str | Path) -> Spec | None:
    """`model` as file.py:NAME or package.module:NAME; None where it is a path."""
    match = _SPEC.fullmatch(str(model))
    if match is None or Path(model).exists():
        return None
    where = match["where"]
    return Spec(where, match["name"]) if where.endswith(".py") or _MODULE.fullmatch(where) else None


def load_callable(spec: Spec, inputs: Mapping[str, Any]) -> Any:
    """The object that `spec` names; a class, or a function that needs no arguments, is called for what it returns.

    `inputs` are the names given with `--shape`: a function with such a parameter is the model, not its factory.
    Raises UsageError.
    """
    module = _import(spec)
    target: Any = module
    for part in spec.name.split("."):
        if not hasattr(target, part):
            raise UsageError(f"{spec}: there is no '{part}' in it{_offer(module)}")
        target = getattr(target, part)
    if makes_model(target, inputs):
        with user_code(spec, f"{spec.name}()"):
            target = target()
    if not callable(target):
        raise UsageError(
            f"{spec}: this is {_a(target)}, not a function over NumPy arrays, a torch.nn.Module, or a function "
            "without arguments that returns one"
        )
    return target


def makes_model(target: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether calling `target` without arguments gives the model: a class, or a function without inputs."""
    if inspect.isclass(target):
        return True
    if not inspect.isroutine(target):
        return False
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all((p.default is not p.empty or p.kind in variadic) and p.name not in inputs for p in parameters)


def uses_framework(target: Any) -> str:
    """The framework that an object's class comes from, or a function's code and what that calls names ("torch").

    "" where there is none of those known.
    """
    return _framework(target, set())


def _framework(target: Any, seen: set[int]) -> str:
    if id(target) in seen:
        return ""
    seen.add(id(target))
    homes = [target.__name__] if isinstance(target, ModuleType) else [c.__module__ for c in type(target).__mro__]
    homes += [target.__module__] if isinstance(getattr(target, "__module__", None), str) else []
    for home in homes:
        if (top := home.partition(".")[0]) in _FRAMEWORKS:
            return top
    function = target if inspect.isroutine(target) else inspect.getattr_static(type(target), "__call__", None)
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not inspect.isfunction(function) or not _is_users(function.__code__.co_filename):
        return ""
    named: list[Any] = [getattr(target, "__self__", None)]
    for name in _names(function.__code__):
        named += [function.__globals__[name]] if name in function.__globals__ else []
        named += [sys.modules[name]] if name in _FRAMEWORKS and name in sys.modules else []
    for cell in function.__closure__ or ():
        try:
            named.append(cell.cell_contents)
        except ValueError:
            continue  # not filled yet
    return next((found for value in named if (found := _framework(value, seen))), "")


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)


@contextmanager
def user_code(spec: Spec | str, what: str) -> Iterator[None]:
    """Exceptions of the user's code become UsageErrors that name the line."""
    try:
        yield
    except DlpackError:
        raise
    except (Exception, SystemExit) as e:
        place = user_line(traceback.extract_tb(e.__traceback__))
        raise UsageError(f"{spec}: {what} raised {type(e).__name__}: {e}{place}") from e


def user_line(frames: traceback.StackSummary) -> str:
    """(FILE, line N: TEXT) of the innermost frame in the user's code; "" if there is none."""
    for frame in reversed(frames):
        if _is_users(frame.filename):
            text = f": {frame.line.strip()}" if frame.line else ""
            return f" ({frame.filename}, line {frame.lineno}{text})"
    return ""


def _is_users(filename: str) -> bool:
    """Whether a Python file belongs to the user: neither installed, nor Python's, nor ours."""
    path = Path(filename)
    others = (Path(__file__).parent, Path(errors.__file__).parent, Path(inspect.__file__).parent)
    return not (
        filename.startswith("<") or "site-packages" in path.parts or any(path.is_relative_to(p) for p in others)
    )


def _import(spec: Spec) -> ModuleType:
    if not spec.is_file:
        sys.path.insert(0, str(Path.cwd()))
        try:
            with user_code(spec, "importing it"):
                try:
                    return importlib.import_module(spec.where)
                except ModuleNotFoundError as e:
                    if e.name and (spec.where == e.name or spec.where.startswith(f"{e.name}.")):
                        raise UsageError(
                            f"{spec}: there is no module '{e.name}' in the Python path or the current folder; "
                            "for a file write path/to/file.py:NAME"
                        ) from None
                    raise UsageError(f"{spec}: it imports '{e.name}', which is not installed") from e
        finally:
            sys.path.remove(str(Path.cwd()))
    path = Path(spec.where)
    if not path.is_file():
        raise UsageError(f"{spec}: there is no file {path}")
    found = importlib.util.spec_from_file_location(f"_dlpack_user_{path.stem}", path)
    if found is None or found.loader is None:
        raise UsageError(f"{spec}: {path} cannot be imported as Python")
    module = importlib.util.module_from_spec(found)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as Python does for a script: it may import its neighbours
    sys.modules[found.name] = module
    try:
        with user_code(spec, "importing it"):
            try:
                found.loader.exec_module(module)
            except ModuleNotFoundError as e:
                raise UsageError(f"{spec}: it imports '{e.name}', which is not installed") from e
    finally:
        sys.path.remove(folder)
    return module


def _offer(module: ModuleType) -> str:
    own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
    return f"; it has {', '.join(own[:8])}" if own else ""


def _a(value: Any) -> str:
    return "None" if value is None else f"of the type {type(value).__name__}"
