"""PyTorch's zip archives, read as data: records, and the pickles that list tensors, without unpickling.

A pickle is a program for a small stack machine. `read_pickle` knows the instructions that PyTorch writes and the few
constructors of tensors and containers among them; it looks up no name, calls nothing and imports nothing, so a pickle
can hold nothing but data. Format: torch/serialization.py and torch/csrc/jit/serialization of PyTorch 2.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dlpack.errors import ModelError, UsageError
from dlpack.exporters.base import MAX_TEXT_BYTES, MAX_WEIGHTS_BYTES

MAX_RECORDS = 1 << 17
MAX_OVERLAP_BYTES = 64 << 20  # of a tensor whose elements share memory

STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


class Archive:
    """The records of a zip archive as torch writes it, by their name below the archive's one folder."""

    def __init__(self, file: Path | BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as e:
            raise ModelError(
                f"the zip archive is damaged ({e}); it may be cut off: copy or download it again"
            ) from None
        if len(infos) > MAX_RECORDS or sum(i.file_size for i in infos) > MAX_WEIGHTS_BYTES:
            raise ModelError(f"the archive is larger than the {MAX_WEIGHTS_BYTES:,} bytes that are accepted")
        roots = {i.filename.partition("/")[0] for i in infos if "/" in i.filename}
        bare = any("/" not in i.filename for i in infos)
        self._root = f"{roots.pop()}/" if len(roots) == 1 and not bare else ""
        self._infos = {i.filename.removeprefix(self._root): i for i in infos}

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def read(self, name: str, limit: int = MAX_WEIGHTS_BYTES) -> bytes:
        """A record's bytes, whose checksum is right. Raises ModelError."""
        info = self._infos.get(name)
        if info is None:
            raise ModelError(f"the archive has no record '{name}'; save the model again")
        if info.file_size > limit:
            raise ModelError(f"the record '{name}' has {info.file_size:,} bytes; {limit:,} are accepted")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError, zlib.error) as e:
            raise ModelError(f"the record '{name}' is damaged ({e}); copy or download the file again") from None

    def text(self, name: str) -> str:
        try:
            return self.read(name, MAX_TEXT_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"the record '{name}' is not UTF-8; copy or download the file again") from None

    def check_byte_order(self) -> None:
        if "byteorder" in self and self.read("byteorder", 16) != b"little":
            raise ModelError("the archive was written on a big-endian machine; save it again on a little-endian one")


# --- tensors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorRef:
    """A tensor as a pickle describes it: strides and offset in elements of the storage `record`."""

    record: str
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def check_view(what: str, nbytes: int, itemsize: int, ref: TensorRef) -> None:
    """Raises ModelError where a tensor reaches out of its storage of `nbytes`, or is far larger than it."""
    ok = len(ref.size) == len(ref.stride) and len(ref.size) <= 16 and ref.offset >= 0
    ok = ok and all(isinstance(d, int) and 0 <= d < 2**40 for d in (*ref.size, *ref.stride))
    count = math.prod(ref.size) if ok else 0
    if count:
        last = ref.offset + sum((n - 1) * step for n, step in zip(ref.size, ref.stride, strict=True))
        whole = count * itemsize
        ok = (last + 1) * itemsize <= nbytes and whole <= max(nbytes, MAX_OVERLAP_BYTES)
    if not ok:
        raise ModelError(
            f"{what}: the shape {list(ref.size)} does not fit its data of {nbytes:,} bytes; the file is damaged"
        )


# --- pickles ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Global:
    """A name that a pickle mentions."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Object:
    """An instance of a TorchScript class: its qualified name and its attributes."""

    type: str
    attributes: dict[str, Any] = field(default_factory=dict)


class Foreign(Exception):
    """The pickle asks for a name that is not data; `str()` is that name."""


_MARK = object()
_PASS = {
    "torch.jit._pickle.restore_type_tag", "torch.jit._pickle.build_intlist", "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.build_doublelist", "torch.jit._pickle.build_boollist", "torch._utils._rebuild_parameter",
    "torch.Size", "torch.device", "torch.serialization._get_layout",
}  # fmt: skip
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
           "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "INT", "LONG", "FLOAT", "BINSTRING",
           "SHORT_BINSTRING")  # fmt: skip


def read_pickle(data: bytes, what: str) -> Any:
    """The value that a pickle of tensors, numbers, strings and containers describes.

    Tensors are `TensorRef`, TorchScript objects are `Object`. Raises Foreign for any other name in it, ModelError for
    a damaged one.
    """
    try:
        return _run(data)
    except Foreign:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, AssertionError) as e:
        raise ModelError(f"{what} is damaged ({type(e).__name__}); copy or download the file again") from None


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def marked() -> list[Any]:
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    argument: Any
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        op = opcode.name
        if op in _VALUES:
            stack.append(argument)
        elif op in _LITERALS:
            stack.append(_LITERALS[op])
        elif op in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif op == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif op == "MARK":
            stack.append(_MARK)
        elif op == "GLOBAL":
            stack.append(Global(*argument.split(" ", 1)))
        elif op == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(Global(str(module), str(name)))
        elif op == "EMPTY_TUPLE":
            stack.append(())
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(op[-1])
            if len(stack) < n:
                raise IndexError
            stack[-n:] = [tuple(stack[-n:])]
        elif op == "TUPLE":
            stack.append(tuple(marked()))
        elif op == "EMPTY_LIST":
            stack.append([])
        elif op == "EMPTY_DICT":
            stack.append({})
        elif op == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif op == "APPENDS":
            items = marked()
            _list(stack[-1]).extend(items)
        elif op == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _dict(stack[-1])[key] = value
        elif op == "SETITEMS":
            items = marked()
            _dict(stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif op == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif op == "REDUCE":
            arguments = stack.pop()
            stack.append(_construct(stack.pop(), arguments))
        elif op == "NEWOBJ":
            stack.pop()
            made = stack.pop()
            if not isinstance(made, Global) or not made.module.startswith("__torch__"):
                raise Foreign(str(made))
            stack.append(Object(str(made)))
        elif op == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Object):
                if not isinstance(state, dict):
                    raise Foreign(f"{stack[-1].type}.__setstate__")
                stack[-1].attributes.update(state)
            else:
                _dict(stack[-1])  # the attributes of an OrderedDict: a state_dict's versions
        elif op == "STOP":
            return _without_globals(stack.pop())
        elif op not in ("PROTO", "FRAME"):
            raise Foreign(f"the pickle instruction {op}")
    raise ValueError("no end")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _without_globals(value: Any) -> Any:
    if isinstance(value, Global):
        raise Foreign(str(value))
    return value


@dataclass(frozen=True)
class _Storage:
    record: str
    dtype: str


def _storage(persistent: Any) -> _Storage:
    word, kind, key = persistent[:3]
    if word != "storage" or not isinstance(kind, Global) or kind.module != "torch" or kind.name not in STORAGES:
        raise Foreign(str(kind))
    return _Storage(str(key), STORAGES[kind.name])


def _construct(function: Any, arguments: Any) -> Any:
    name = str(function) if isinstance(function, Global) else repr(type(function).__name__)
    if name == "torch._utils._rebuild_tensor_v2":
        storage, offset, size, stride = arguments[:4]
        if not isinstance(storage, _Storage):
            raise TypeError
        return TensorRef(storage.record, storage.dtype, int(offset), tuple(size), tuple(stride))
    if name == "collections.OrderedDict":
        return dict(arguments[0]) if arguments else {}
    if name in _PASS:
        return arguments[0]
    raise Foreign(name)


def foreign_names(data: bytes) -> list[str]:
    """The names that pickles in `data` (one behind the other) mention beyond those of tensors and containers."""
    found: dict[str, None] = {}
    stream, strings = io.BytesIO(data), ["", ""]
    try:
        while stream.tell() < len(data):
            for opcode, argument, _ in pickletools.genops(stream):
                if isinstance(argument, str) and "UNICODE" in opcode.name:
                    strings = [strings[1], argument]
                if opcode.name == "GLOBAL" and isinstance(argument, str):
                    found[argument.replace(" ", ".", 1)] = None
                elif opcode.name == "STACK_GLOBAL":
                    found[".".join(strings)] = None
    except (ValueError, IndexError, OverflowError):
        pass  # behind the pickles stand the tensors' bytes
    known = {"torch._utils._rebuild_tensor_v2", "collections.OrderedDict", *_PASS, *(f"torch.{s}" for s in STORAGES)}
    return [n for n in found if n not in known]


def refuse_pickle(names: list[str]) -> UsageError:
    """What is answered to a `torch.save` file that is neither TorchScript nor a torch.export archive."""
    if names:
        return UsageError(
            f"this is a pickled Python object (it names {', '.join(names[:3])}); loading it would run code from the "
            "file, so it is not loaded. Where the model's code is, save it as data: "
            "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), and give model.pt2; "
            "or give the code itself: dlpack build package.module:make_model --shape x=1x3x224x224"
        )
    return UsageError(
        "this is a state_dict: weights without the network. Make the network, load the weights and export both: "
        "model.load_state_dict(torch.load('weights.pth', weights_only=True)); "
        "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), and give model.pt2; or let a "
        "function of yours return the loaded model: dlpack build my_code.py:make_model --shape x=1x3x224x224"
    )
