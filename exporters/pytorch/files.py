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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dlpack.archives import ZIP_ERRORS
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
        except ZIP_ERRORS as e:
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
        """A record's bytes, after checking the checksum. Raises ModelError."""
        info = self._infos.get(name)
        if info is None:
            raise ModelError(f"the archive has no record '{name}'; save the model again")
        if info.file_size > limit:
            raise ModelError(f"the record '{name}' has {info.file_size:,} bytes; {limit:,} are accepted")
        try:
            return self._zip.read(info)
        except ZIP_ERRORS as e:
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
    """Raises ModelError if a tensor reaches beyond its storage of `nbytes`, or is far larger than it."""
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
    """A name that a pickle refers to."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Object:
    """An instance of a class of TorchScript or torchao: its qualified name and its attributes."""

    type: str
    attributes: dict[str, Any] = field(default_factory=dict)


class Foreign(Exception):
    """The pickle refers to a name that is not data; `str()` is that name."""


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
        return _Machine().run(data)
    except Foreign:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, AssertionError) as e:
        raise ModelError(f"{what} is damaged ({type(e).__name__}); copy or download the file again") from None


class _Machine:
    """The machine that a pickle is a program for: a stack of values, and a memo of values for reuse."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value left at the pickle's end. Raises Foreign for an instruction that creates more than data."""
        argument: Any
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            name = opcode.name
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _LITERALS:
                self.stack.append(_LITERALS[name])
            elif name == "STOP":
                return _without_globals(self.stack.pop())
            elif name in _INSTRUCTIONS:
                _INSTRUCTIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise Foreign(f"the pickle instruction {name}")
        raise ValueError("no end")

    def marked(self) -> list[Any]:
        """Pops everything above the topmost mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def name(self, words: str) -> None:
        self.stack.append(Global(*words.split(" ", 1)))

    def name_from_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(str(module), str(name)))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def marked_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.marked()))

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        _list(self.stack[-1]).append(item)

    def extend(self, _: Any) -> None:
        items = self.marked()
        _list(self.stack[-1]).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _dict(self.stack[-1])[key] = value

    def set_items(self, _: Any) -> None:
        items = self.marked()
        _dict(self.stack[-1]).update(zip(items[::2], items[1::2], strict=True))

    def storage(self, _: Any) -> None:
        self.stack.append(_storage(self.stack.pop()))

    def construct(self, _: Any) -> None:
        arguments = self.stack.pop()
        self.stack.append(_construct(self.stack.pop(), arguments))

    def new_object(self, _: Any) -> None:
        self.stack.pop()
        made = self.stack.pop()
        if not isinstance(made, Global) or made.module.partition(".")[0] not in ("__torch__", "torchao"):
            raise Foreign(str(made))
        self.stack.append(Object(str(made)))

    def build(self, _: Any) -> None:
        state, owner = self.stack.pop(), self.stack[-1]
        if not isinstance(owner, Object):
            _dict(owner)  # the attributes of an OrderedDict: a state_dict's versions
        elif isinstance(state, dict):
            owner.attributes.update(state)
        else:
            raise Foreign(f"{owner.type}.__setstate__")


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "PUT": _Machine.put, "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get, "LONG_BINGET": _Machine.get, "GET": _Machine.get,
    "MARK": _Machine.mark, "GLOBAL": _Machine.name, "STACK_GLOBAL": _Machine.name_from_stack,
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "TUPLE1": lambda m, _: m.tuple_of(1), "TUPLE2": lambda m, _: m.tuple_of(2), "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": _Machine.marked_tuple,
    "EMPTY_LIST": lambda m, _: m.stack.append([]), "APPEND": _Machine.append, "APPENDS": _Machine.extend,
    "EMPTY_DICT": lambda m, _: m.stack.append({}), "SETITEM": _Machine.set_item, "SETITEMS": _Machine.set_items,
    "BINPERSID": _Machine.storage, "REDUCE": _Machine.construct, "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
}  # fmt: skip


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
    if name == "torch._tensor._rebuild_from_type_v2":
        _, kind, _, state = arguments
        if str(kind).startswith("torchao.") and isinstance(state, dict):
            return Object(str(kind), state)  # a weight that is several tensors
        raise Foreign(str(kind))
    if name.startswith("torchao."):
        return Object(name, {"arguments": arguments})  # how such a weight was quantised
    raise Foreign(name)


def foreign_names(data: bytes) -> list[str]:
    """The names other than those of tensors and containers that the consecutive pickles in `data` refer to."""
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
    """The error for a `torch.save` file that is neither TorchScript nor a torch.export archive."""
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
