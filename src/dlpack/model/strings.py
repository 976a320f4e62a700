"""Models with strings: as models of bytes, before they are read.

A value of strings of the shape S becomes uint8 of the shape (*S, n): the UTF-8 of each string, filled up with zeros, of
which there is one at least. Inputs have a stated n. That of every other value follows: no operator cuts a string.
An input for the hashes of words (`meaning/cityhash.py`) becomes one of strings.
Rules for operators are in `strings_rules.py`; where onnx has no operators for what is to be done with bytes, they write
ours (domain "dlpack", `operators/strings.py`), which state their outputs' types in attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from dlpack.errors import UnsupportedError, UsageError
from dlpack.meaning.cityhash import hashed_inputs, word_of
from dlpack.model.fold import fresh_name
from dlpack.model.infer import ValueType, infer_types, to_numpy
from dlpack.model.walk import describe, free_names, opset_versions, subgraphs

DOMAIN = "dlpack"
WORD_BYTES = 64
TEXT_BYTES = 1024
"""What an input's strings may have if nothing is stated, with the zero: others, and those that are split into words."""

_MOST_WORDS = 48
_SPLITTING = ("StringSplit", "Tokenizer")

Shape = tuple[int, ...]


class Refused(Exception):
    """A node that cannot be computed; the text is for the user, without the node."""


@dataclass(frozen=True)
class Text:
    """The largest shape of a value of strings, and the bytes of each, a zero at the end included."""

    shape: Shape
    width: int


@dataclass(frozen=True)
class Strings:
    """The model without strings; by input or output of strings its bytes; by input words to try it with."""

    model: ModelProto
    widths: dict[str, int]
    words: dict[str, tuple[str, ...]]


Rule = Callable[["Writing", NodeProto], None]
RULES: dict[tuple[str, str], Rule] = {}


def rule(*ops: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Enters what writes an operator that reads or makes strings."""

    def enter(function: Rule) -> Rule:
        RULES.update({(domain, op): function for op in ops})
        return function

    return enter


_OF_NUMBERS = ("LabelEncoder", "CategoryMapper", "LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")
"""Operators that may make strings of what are none."""


def without_strings(model: ModelProto, types: Mapping[str, ValueType], maxima: Mapping[str, int]) -> Strings | None:
    """The model on bytes; None where it has no strings. `maxima` may state the bytes of inputs.

    Raises UnsupportedError with every node that cannot be computed, UsageError for bytes that hold nothing.
    """
    hashed = hashed_inputs({p.key: p.value for p in model.metadata_props})
    if not _has_strings(model) and not hashed:
        return None
    work = Writing(model, types)
    for value in model.graph.input:
        if types[value.name].elem == TensorProto.STRING:
            work.take_input(value.name, maxima)
        elif value.name in hashed:
            work.take_input(value.name, maxima)
            work.hash_input(value.name, hashed[value.name])
    for node in model.graph.node:
        work.visit(node)
    if work.problems:
        raise UnsupportedError("the model cannot be compiled:", tuple(dict.fromkeys(work.problems)))
    return work.result()


def _has_strings(model: ModelProto) -> bool:
    graph = model.graph
    return (
        any(v.type.tensor_type.elem_type == TensorProto.STRING for v in graph.input)
        or any(tensor.data_type == TensorProto.STRING for tensor in graph.initializer)
        or any(a.type == AttributeProto.STRINGS for n in graph.node for a in n.attribute if n.domain == "ai.onnx.ml")
        or any(n.op_type == "Cast" and _cast_to(n) == TensorProto.STRING for n in graph.node)
    )


def _cast_to(node: NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "to"), 0)


class Writing:
    """The model on bytes while it is written; `text` has the values of strings."""

    def __init__(self, model: ModelProto, types: Mapping[str, ValueType]) -> None:
        graph = model.graph
        self.model, self.types = model, dict(types)
        self.opset = opset_versions(model).get("", 0)
        self.text: dict[str, Text] = {}
        self.hashes: dict[str, str] = {}
        self.constants = {t.name: t for t in graph.initializer}
        self.nodes: list[NodeProto] = []
        self.made: list[TensorProto] = []
        self.problems: list[str] = []
        self.refused: set[str] = set()
        self.vocabulary: list[str] = []
        self.numbers = False
        self.node = NodeProto()
        self.taken = set(types) | {name for n in graph.node for name in (n.name, *n.input, *n.output)}
        self._rows: dict[tuple[str, ...], str] = {}
        self.longest = max((len(w.encode()) for n in graph.node for w in _words(n)), default=0)

    def take_input(self, name: str, maxima: Mapping[str, int]) -> None:
        """Gives an input of strings its bytes."""
        width = maxima.get(name)
        if width is None:
            least = TEXT_BYTES if name in self._split() else WORD_BYTES
            width = max(least, -(-(self.longest + 1) // 16) * 16)
        elif width < 2:
            raise UsageError(f"--max {name}={width}: a string takes a byte and the zero at its end at least")
        shape = self.types[name].shape
        if shape is not None:
            self.text[name] = Text(shape, width)

    def hash_input(self, name: str, known: Sequence[int]) -> None:
        """Has an input of strings hashed where its hashes were read; `known`: those of words to try it with."""
        text = self.text[name]
        self.vocabulary += [word_of(number) for number in known[:_MOST_WORDS]]
        (self.hashes[name],) = self.own("HashText", [name], [("", TensorProto.INT64, text.shape)])

    def _split(self) -> set[str]:
        """The values from which strings are made that are split into words."""
        found: set[str] = set()
        for node in reversed(self.model.graph.node):
            if node.op_type in _SPLITTING or not found.isdisjoint(node.output):
                found.update(node.input)
        return found

    def visit(self, node: NodeProto) -> None:
        """Write one node of the model."""
        if not self.hashes.keys().isdisjoint(node.input):
            node = NodeProto.FromString(node.SerializeToString())
            node.input[:] = [self.hashes.get(name, name) for name in node.input]
        self.node = node
        reads = [*filter(None, node.input), *(name for body in subgraphs(node) for name in free_names(body))]
        if not self.refused.isdisjoint(reads):
            self.refused.update(node.output)  # told already
            return
        touched = any(self.is_text(name) for name in reads)
        write = RULES.get((node.domain, node.op_type))
        makes = write is not None and (node.op_type in _OF_NUMBERS or _cast_to(node) == TensorProto.STRING)
        if not touched and not makes:
            self.nodes.append(node)
            return
        try:
            if write is None or subgraphs(node):
                raise Refused("it is not supported on strings; leave it out of the model, and compute it outside")
            write(self, node)
        except Refused as e:
            self.problems.append(f"{describe(node)}: {e}")
            self.refused.update(node.output)

    def is_text(self, name: str) -> bool:
        tensor = self.constants.get(name)
        return name in self.text or (tensor is not None and tensor.data_type == TensorProto.STRING)

    # --- what the model has -----------------------------------------------------------------------------------------

    def attrs(self) -> dict[str, Any]:
        """The node's attributes; text as str."""
        return {a.name: _decoded(helper.get_attribute_value(a)) for a in self.node.attribute}

    def shape(self, name: str) -> Shape:
        """The largest shape of a value, of strings the one that the model gives it."""
        if name in self.text:
            return self.text[name].shape
        if name in self.constants:
            return tuple(self.constants[name].dims)
        if self.types.get(name, ValueType()).shape is None:
            written = self.result([ValueInfoProto(name=name)])
            self.types |= {n: kind for n, kind in infer_types(written.model).items() if kind.known}
        shape = self.types.get(name, ValueType()).shape
        if shape is None:
            raise Refused(f"the shape of '{name}' is not known before a run")
        return shape

    def elem(self, name: str) -> int:
        return self.types.get(name, ValueType()).elem

    def value(self, index: int, what: str) -> np.ndarray[Any, Any]:
        """Input `index`, which must be constant."""
        tensor = self.constants.get(self.node.input[index])
        if tensor is None:
            raise Refused(f"its {what}, '{self.node.input[index]}', is not constant")
        return to_numpy(tensor)

    def source(self, index: int) -> tuple[str, Text]:
        """Input `index`, strings, as bytes."""
        name = self.node.input[index]
        if name not in self.text:
            array = to_numpy(self.constants[name])
            words = [str(_decoded(w)) for w in array.reshape(-1)]
            name = self.rows(words, array.shape)
        return name, self.text[name]

    # --- what takes its place ---------------------------------------------------------------------------------------

    def array(self, value: Any, dtype: Any = None) -> str:
        """A weight with this value."""
        name = fresh_name(f"{self.node.name}/constant", self.taken)
        self.made.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype).reshape(np.shape(value)), name))
        return name

    def rows(self, words: Sequence[str], shape: Shape | None = None) -> str:
        """Strings as a weight of bytes; by default a vector."""
        shape = (len(words),) if shape is None else shape
        key = (*words, "", str(shape))
        if key not in self._rows:
            texts = [word.encode() for word in words]
            if any(0 in text for text in texts):
                raise Refused("a string of the model has a zero among its characters")
            width = max(map(len, texts), default=0) + 1
            data = np.frombuffer(b"".join(t.ljust(width, b"\0") for t in texts), np.uint8)
            self._rows[key] = self.array(data.reshape(*shape, width))
            self.text[self._rows[key]] = Text(shape, width)
        return self._rows[key]

    def add(self, op: str, *inputs: str, output: str = "", domain: str = "", **attrs: Any) -> str:
        """A node of one output."""
        name = output or fresh_name(f"{self.node.name}/{op}", self.taken)
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attrs))
        return name

    def own(
        self, op: str, inputs: Sequence[str], outputs: Sequence[tuple[str, int, Shape]], **attrs: Any
    ) -> tuple[str, ...]:
        """A node of ours; `outputs` are names ("" for a new one), element types and largest shapes."""
        names = tuple(name or fresh_name(f"{self.node.name}/{op}", self.taken) for name, _, _ in outputs)
        node = helper.make_node(op, list(inputs), names, name=names[0], domain=DOMAIN)
        attrs |= {f"elem{k}": elem for k, (_, elem, _) in enumerate(outputs)}
        attrs |= {f"shape{k}": shape for k, (_, _, shape) in enumerate(outputs)}
        node.attribute.extend(helper.make_attribute(k, v, attr_type=_kind(v)) for k, v in attrs.items())
        self.nodes.append(node)
        for name, (_, elem, shape) in zip(names, outputs, strict=True):
            self.types[name] = ValueType(elem, shape)
        return names

    def give(self, output: str, shape: Shape, width: int) -> str:
        """Says that a value that is written is strings."""
        self.text[output] = Text(shape, width)
        return output

    def fitted(self, name: str, width: int) -> str:
        """Strings in rows of `width` bytes, which is as many as they have, or more."""
        text = self.text[name]
        if text.width == width:
            return name
        (made,) = self.own("FitText", [name], [("", TensorProto.UINT8, (*text.shape, width))])
        return self.give(made, text.shape, width)

    def find(self, index: int, words: Sequence[str], numbers: Sequence[int], other: int, output: str = "") -> str:
        """The number of each string of input `index`, `other` for those that are none of the words: int64."""
        name, text = self.source(index)
        known = {w.encode(): n for w, n in reversed(list(zip(words, numbers, strict=True)))}  # the first of equal ones
        order = sorted(known)
        self.vocabulary += [w for w in words if w not in self.vocabulary]
        table = self.rows([w.decode() for w in order] or ["\x01"])
        places = [known[w] for w in order] or [other]
        given = self.array([*places, other], np.int64)
        return self.own("FindText", [name, table, given], [(output, TensorProto.INT64, text.shape)])[0]

    # --- the result -------------------------------------------------------------------------------------------------

    def result(self, outputs: Sequence[ValueInfoProto] = ()) -> Strings:
        """The model that was written, with other outputs if there are any."""
        graph = self.model.graph
        made = ModelProto(ir_version=self.model.ir_version)
        made.opset_import.extend(o for o in self.model.opset_import if o.domain != DOMAIN)
        made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        if not self.opset:
            made.opset_import.append(helper.make_opsetid("", 21))
        made.graph.name = graph.name
        made.graph.input.extend(self._border(value) for value in graph.input)
        made.graph.output.extend(self._border(value) for value in outputs or graph.output)
        for value in made.graph.output:
            value.type.tensor_type.ClearField("shape")
        made.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        for node in self.nodes:
            for body in subgraphs(node):
                read |= free_names(body)
        weights = [t for t in (*graph.initializer, *self.made) if t.name in read]
        made.graph.initializer.extend(t for t in weights if t.data_type != TensorProto.STRING)
        borders = [v.name for v in (*graph.input, *graph.output) if v.name in self.text]
        widths = {name: self.text[name].width for name in borders}
        words = {v.name: self._samples(v.name) for v in graph.input if v.name in self.text}
        return Strings(made, widths, words)

    def _border(self, value: ValueInfoProto) -> ValueInfoProto:
        """An input or output, of strings as bytes."""
        if value.name not in self.text:
            return value
        text = self.text[value.name]
        return helper.make_tensor_value_info(value.name, TensorProto.UINT8, (*text.shape, text.width))

    def _samples(self, name: str) -> tuple[str, ...]:
        """Words to try an input with: those that the model knows, then others."""
        step = -(-len(self.vocabulary) // _MOST_WORDS) or 1
        known = self.vocabulary[::step]
        foreign = ["1", "-2.5", "30"] if self.numbers else ["Straße", "other words, 2", "ÉCOLE", ""]
        if name in self._split():
            three = [known[k:] + known[:k] for k in range(3)]
            known = [" ".join(w) for w in zip(*three, strict=True)] + known[:4]
        limit = self.text[name].width
        return tuple(w for w in (*known, *foreign) if len(w.encode()) < limit and "\0" not in w)


def _words(node: NodeProto) -> list[str]:
    """The strings in a node's attributes."""
    found = [_decoded(w) for a in node.attribute if a.type == AttributeProto.STRINGS for w in a.strings]
    for a in node.attribute:
        if a.type == AttributeProto.TENSOR and a.t.data_type == TensorProto.STRING:
            found += [_decoded(w) for w in a.t.string_data]
    return found


def _kind(value: Any) -> Any:
    return AttributeProto.INTS if isinstance(value, tuple | list | bytes) else None


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_decoded(v) for v in value] if isinstance(value, list) else value
