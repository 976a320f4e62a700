"""How operators on strings are written as operators on bytes (`strings.py`)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dlpack.model.infer import to_numpy
from dlpack.model.regex import Automaton, NotRegular, automaton, runs
from dlpack.model.strings import Refused, Shape, Writing, rule
from dlpack.model.strings_moves import ML, keep

_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8)
_UNSIGNED = (TensorProto.UINT64, TensorProto.UINT32, TensorProto.UINT16, TensorProto.UINT8, TensorProto.BOOL)
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_DIGITS = 22
"""Bytes of the longest integer with its sign, and the zero."""

# --- what looks strings up --------------------------------------------------------------------------------------------


@rule("Equal")
def equal(s: Writing, node: NodeProto) -> None:
    (a, left), (b, right) = s.source(0), s.source(1)
    shape = np.broadcast_shapes(left.shape, right.shape)
    for k, text in enumerate((left, right)):
        tensor = s.constants.get(node.input[k])
        if tensor is not None and math.prod(text.shape) < 32:
            s.vocabulary += [w.decode("utf-8", "replace") for w in tensor.string_data]
    s.own("SameText", [a, b], [(node.output[0], TensorProto.BOOL, tuple(shape))])


def _list(s: Writing, what: str) -> tuple[list[Any], int]:
    """The keys or values of a LabelEncoder, and their element type."""
    attrs = s.attrs()
    kinds = (("strings", TensorProto.STRING), ("int64s", TensorProto.INT64), ("floats", TensorProto.FLOAT))
    for suffix, kind in kinds:
        if f"{what}_{suffix}" in attrs:
            return list(attrs[f"{what}_{suffix}"]), kind
    tensor = attrs.get(f"{what}_tensor")
    if tensor is None:
        raise Refused(f"it has no {what}")
    return _of_tensor(tensor), tensor.data_type


def _of_tensor(tensor: TensorProto) -> list[Any]:
    values = to_numpy(tensor).reshape(-1).tolist()
    return [v.decode() if isinstance(v, bytes) else v for v in values]


def _default(s: Writing, kind: int) -> Any:
    attrs = s.attrs()
    tensor = attrs.get("default_tensor")
    if tensor is not None and tensor.dims:
        return _of_tensor(tensor)[0]
    if kind == TensorProto.STRING:
        return attrs.get("default_string", "_Unused")
    if kind in _FLOATS:
        return attrs.get("default_float", 0.0)
    return attrs.get("default_int64", -1)


@rule("LabelEncoder", domain=ML)
def label_encoder(s: Writing, node: NodeProto) -> None:
    words: list[Any] | None = s.attrs().get("classes_strings")
    if words is not None:  # version 1: strings and their places
        places = list(range(len(words)))
        keys, values = (words, places) if s.is_text(node.input[0]) else (places, words)
        kinds: list[int] = [TensorProto.STRING if side is words else TensorProto.INT64 for side in (keys, values)]
    else:
        (keys, first), (values, second) = _list(s, "keys"), _list(s, "values")
        kinds = [first, second]
    if TensorProto.STRING not in kinds:
        s.nodes.append(node)
        return
    if len(keys) != len(values):
        raise Refused(f"{len(keys)} keys and {len(values)} values")
    _look_up(s, node, keys, values, kinds[1])


def _look_up(s: Writing, node: NodeProto, keys: list[Any], values: list[Any], kind: int) -> None:
    """The values of input 0's keys."""
    x, out, other = node.input[0], node.output[0], _default(s, kind)
    if s.is_text(x) and kind == TensorProto.INT64:
        s.find(0, keys, values, int(other), out)
        return
    if s.is_text(x):
        places = s.find(0, keys, range(len(keys)), len(keys))
    else:
        places = _place_of_number(s, node, keys)
    shape = s.shape(x)
    if kind == TensorProto.STRING:
        table = s.rows([*values, other])
        s.give(s.add("Gather", table, places, output=out), shape, s.text[table].width)
    else:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        s.add("Gather", s.array([*values, other], dtype), places, output=out)


def _place_of_number(s: Writing, node: NodeProto, keys: list[Any]) -> str:
    """Where the numbers of input 0 are among the keys, else how many keys there are."""
    places = list(range(len(keys)))
    elem = s.elem(node.input[0])
    attrs: dict[str, Any]
    if elem in (TensorProto.INT64, TensorProto.FLOAT):
        kind = "floats" if elem == TensorProto.FLOAT else "int64s"
        attrs = {f"keys_{kind}": keys, "values_int64s": places, "default_int64": len(keys)}
    else:
        dtype = helper.tensor_dtype_to_np_dtype(elem)
        attrs = {
            "keys_tensor": numpy_helper.from_array(np.array(keys, dtype)),
            "values_tensor": numpy_helper.from_array(np.array(places)),
            "default_tensor": numpy_helper.from_array(np.array([len(keys)])),
        }
    return s.add("LabelEncoder", node.input[0], domain=ML, **attrs)


@rule("CategoryMapper", domain=ML)
def category_mapper(s: Writing, node: NodeProto) -> None:
    attrs = s.attrs()
    words, numbers = attrs["cats_strings"], attrs["cats_int64s"]
    if s.is_text(node.input[0]):
        _look_up(s, node, words, numbers, TensorProto.INT64)
    else:
        _look_up(s, node, numbers, words, TensorProto.STRING)


@rule("OneHotEncoder", domain=ML)
def one_hot_encoder(s: Writing, node: NodeProto) -> None:
    if not s.is_text(node.input[0]):
        s.nodes.append(node)
        return
    words = s.attrs()["cats_strings"]
    last = {w: k for k, w in enumerate(words)}  # of equal categories the last one counts
    places = s.find(0, list(last), list(last.values()), -1)
    keep(s, node, [places], cats_strings=None, cats_int64s=list(range(len(words))))


@rule("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier", domain=ML)
def classifier(s: Writing, node: NodeProto) -> None:
    """The label's number, and its string by that."""
    words = s.attrs().get("classlabels_strings")
    if not words:
        s.nodes.append(node)
        return
    kind = "classlabels_int64s" if node.op_type.startswith("Tree") else "classlabels_ints"
    number = f"{node.name or node.output[0]}/label"
    copy = NodeProto.FromString(node.SerializeToString())
    copy.output[0] = number
    keep(s, copy, node.input, classlabels_strings=None, **{kind: list(range(len(words)))})
    table = s.rows(words)
    shape = (1, *s.shape(node.input[0]))[-2:][:1]  # of one dimension it is one row
    s.give(s.add("Gather", table, number, output=node.output[0]), shape, s.text[table].width)


@rule("TfIdfVectorizer")
def tf_idf(s: Writing, node: NodeProto) -> None:
    pool = s.attrs()["pool_strings"]
    numbers = {w: k for k, w in enumerate(dict.fromkeys(pool))}
    ids = s.find(0, list(numbers), list(numbers.values()), -1)
    keep(s, node, [ids], pool_strings=None, pool_int64s=[numbers[w] for w in pool])


# --- what makes other strings -----------------------------------------------------------------------------------------


@rule("StringConcat")
def string_concat(s: Writing, node: NodeProto) -> None:
    (a, left), (b, right) = s.source(0), s.source(1)
    shape, width = tuple(np.broadcast_shapes(left.shape, right.shape)), left.width + right.width - 1
    s.own("JoinText", [a, b], [(node.output[0], TensorProto.UINT8, (*shape, width))])
    s.give(node.output[0], shape, width)


@cache
def _cases(upper: bool) -> tuple[list[int], list[int]]:
    """The characters that become another one, and which."""
    found = []
    for code in range(0x110000):
        changed = chr(code).upper() if upper else chr(code).lower()
        if len(changed) > 1:  # "ß" stays, "ᾳ" becomes "ᾼ"; "İ" is the only one that becomes shorter
            changed = chr(code).title() if upper else changed[0]
        if len(changed) == 1 and changed != chr(code) and not 0xD800 <= code < 0xE000:
            found.append((code, ord(changed)))
    return [a for a, _ in found], [b for _, b in found]


def _other_case(s: Writing, name: str, upper: bool, output: str = "") -> str:
    text = s.text[name]
    froms, tos = _cases(upper)
    growth = max(len(chr(b).encode()) / len(chr(a).encode()) for a, b in zip(froms, tos, strict=True))
    width = math.ceil((text.width - 1) * growth) + 1
    inputs = [name, s.array(froms, np.int32), s.array(tos, np.int32)]
    (made,) = s.own("ChangeCase", inputs, [(output, TensorProto.UINT8, (*text.shape, width))])
    return s.give(made, text.shape, width)


@rule("StringNormalizer")
def string_normalizer(s: Writing, node: NodeProto) -> None:
    """Stop words go first, compared in the case that the output has where case does not matter."""
    attrs = s.attrs()
    name, text = s.source(0)
    action, stops, out = attrs.get("case_change_action", "NONE"), attrs.get("stopwords", []), node.output[0]
    if action not in ("NONE", "LOWER", "UPPER"):
        raise Refused(f"case_change_action = {action}")
    if attrs.get("locale", "").startswith(("az", "lt", "tr")):
        raise Refused(f"the locale {attrs['locale']}, whose letters have other cases, is not supported")
    if stops:
        name = _without(s, name, stops, action == "UPPER", bool(attrs.get("is_case_sensitive", 0)))
        text = s.text[name]
    if action == "NONE":
        s.give(s.add("Identity", name, output=out), text.shape, text.width)
    else:
        _other_case(s, name, action == "UPPER", out)


def _without(s: Writing, name: str, stops: list[str], upper: bool, exact: bool) -> str:
    """The strings that are none of the words; one that is empty where none is left."""
    shape = s.text[name].shape
    compared = name
    if not exact:
        compared = _other_case(s, name, upper)
        stops = [w.upper() if upper else w.lower() for w in stops]
    s.node = NodeProto.FromString(s.node.SerializeToString())
    s.node.input[0] = compared
    axis, count = len(shape) - 1, shape[-1]
    flat = s.find(0, stops, [0] * len(stops), 1)
    kept = s.add("Cast", s.add("Reshape", flat, s.array([count], np.int64)), to=TensorProto.BOOL)
    whole = s.add("Concat", s.fitted(name, s.text[name].width), _blank(s, name, shape, axis), axis=axis)
    none = s.add("Not", s.add("Cast", s.add("ReduceMax", s.add("Cast", kept, to=TensorProto.INT32), keepdims=1),
                              to=TensorProto.BOOL))  # fmt: skip
    chosen = s.add("Concat", kept, none, axis=0)
    s.give(whole, (*shape[:axis], count + 1), s.text[name].width)
    made = s.add("Compress", whole, chosen, axis=axis)
    return s.give(made, (*shape[:axis], count + 1), s.text[name].width)


def _blank(s: Writing, name: str, shape: Shape, axis: int) -> str:
    """An empty string to put behind the others."""
    return s.array(np.zeros((*shape[:axis], 1, s.text[name].width), np.uint8))


def _only_read_by(s: Writing, name: str, ops: Sequence[str]) -> bool:
    """Whether all that is done with the strings is that they are moved and read by these operators."""
    if any(value.name == name for value in s.model.graph.output):
        return False
    moves = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
    others = [n for n in s.model.graph.node if name in n.input and n.op_type not in ops]
    return all(n.op_type in moves and _only_read_by(s, n.output[0], ops) for n in others)


def _parts(s: Writing, op: str, inputs: list[str], most: int, outputs: Sequence[str], pad: str, **attrs: Any) -> None:
    """The parts of strings, with as many places as the string with the most parts has.

    Where they are only counted, they have places for the most parts that there may be: nothing looks at the rest.
    """
    text = s.text[inputs[0]]
    counted = _only_read_by(s, outputs[0], ("TfIdfVectorizer",)) and pad not in s.vocabulary
    looked_up = counted or _only_read_by(s, outputs[0], ("LabelEncoder", "OneHotEncoder", "TfIdfVectorizer"))
    width = min(text.width, s.longest + 2) if looked_up else text.width
    width = max(width, len(pad.encode()) + 1)
    shape = (*text.shape, most)
    count = outputs[1] if len(outputs) > 1 else ""
    made, count = s.own(op, inputs, [("", TensorProto.UINT8, (*shape, width)), (count, TensorProto.INT64, text.shape)],
                        **attrs)  # fmt: skip
    if pad and not counted:
        counts = s.add("Reshape", count, s.array([*text.shape, 1, 1], np.int64))
        there = s.add("Less", s.array(np.arange(most).reshape(most, 1), np.int64), counts)
        made = s.add("Where", there, made, s.fitted(s.rows([pad]), width))
    if counted:
        s.add("Identity", made, output=outputs[0])
    else:
        largest = s.add("Reshape", s.add("ReduceMax", count, keepdims=0), s.array([1], np.int64))
        bounds = [s.array([0], np.int64), largest, s.array([len(text.shape)], np.int64)]
        s.add("Slice", made, *bounds, output=outputs[0])
    s.give(outputs[0], shape, width)


@rule("StringSplit")
def string_split(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    attrs = s.attrs()
    delimiter, cuts = (attrs.get("delimiter") or "").encode(), attrs.get("maxsplit")
    room = text.width - 1
    most = room // len(delimiter) + 1 if delimiter else -(-room // 2)
    cuts = most if cuts is None or cuts < 0 else cuts
    most = max(1, min(most, cuts + 1))
    outputs = [node.output[0], *(n for n in node.output[1:2] if n)]
    s.vocabulary += [(delimiter or b" ").decode().join(w) for w in (("a", "b c", "d"), ("", "x"), ("one", "two "))]
    _parts(s, "SplitText", [name], most, outputs, "", delimiter=list(delimiter), cuts=cuts)


@rule("Tokenizer", domain="com.microsoft")
def tokenizer(s: Writing, node: NodeProto) -> None:
    """onnxruntime's: the runs of characters that an expression takes, or those between separators of a character."""
    name, text = s.source(0)
    attrs = s.attrs()
    if attrs.get("mark"):
        raise Refused("mark = 1 is not supported")
    separators, expression = attrs.get("separators"), attrs.get("tokenexp")
    if separators == [""]:
        expression, separators = r"[\x00-\U0010ffff]", None
    if separators:
        single = [w for w in separators if len(w) == 1 or re.fullmatch(r"\\.", w)]
        if single != separators:
            raise Refused(f"separators other than single characters: {separators}")
        expression = f"[^{''.join(w if len(w) == 2 else re.escape(w) for w in single)}]+"
    try:
        takes, shortest, longest = runs(expression or "")
    except NotRegular as e:
        raise Refused(f"tokenexp = {expression}: {e}; use StringSplit, or [a-z]+") from None
    shortest = max(shortest, attrs.get("mincharnum", 1))
    most = text.width - 1 if longest else -(-(text.width - 1) // (shortest + 1))
    inputs = [name, s.array(takes)]
    pad = attrs.get("pad_value", "")
    _parts(s, "TokensOfText", inputs, max(1, most), node.output, pad, shortest=shortest, longest=longest)


@rule("RegexFullMatch")
def regex_full_match(s: Writing, node: NodeProto) -> None:
    name, _ = s.source(0)
    pattern = s.attrs().get("pattern", "")
    try:
        _match(s, name, automaton(pattern), node.output[0])
    except NotRegular as e:
        raise Refused(f"the expression {pattern}: {e}, which is not supported") from None


def _match(s: Writing, name: str, found: Automaton, output: str = "") -> str:
    inputs = [name, s.array(found.kinds), s.array(found.steps), s.array(found.good)]
    return s.own("MatchText", inputs, [(output, TensorProto.BOOL, s.text[name].shape)])[0]


# --- numbers ----------------------------------------------------------------------------------------------------------

_NUMBER = r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*"
_INTEGER = r"[ \t]*[+-]?\d+(\.\d*)?[ \t]*"
_INFINITE = r"[ \t]*[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?[ \t]*"


@rule("Cast")
def cast(s: Writing, node: NodeProto) -> None:
    x, to = node.input[0], s.attrs()["to"]
    if to != TensorProto.STRING:
        _to_number(s, node, to)
    elif s.is_text(x):
        s.give(s.add("Identity", s.source(0)[0], output=node.output[0]), s.shape(x), s.source(0)[1].width)
    elif s.elem(x) in (*_INTEGERS, *_UNSIGNED):
        shape = s.shape(x)
        s.own("TextOfInteger", [x], [(node.output[0], TensorProto.UINT8, (*shape, _DIGITS))])
        s.give(node.output[0], shape, _DIGITS)
    else:
        raise Refused(
            "strings of floats are not supported, since programs write them differently; give out the numbers"
        )


def _to_number(s: Writing, node: NodeProto, to: int) -> None:
    """Text that is no number is NaN, or 0 where it becomes an integer: a run has no other way to say so."""
    name, text = s.source(0)
    s.numbers = True
    whole = to in (*_INTEGERS, *_UNSIGNED)
    if not whole and to not in _FLOATS:
        raise Refused("strings become float, double and integers; cast the number once more")
    elem = TensorProto.INT64 if whole else TensorProto.DOUBLE
    powers = s.array([float(f"1e{k}") for k in range(23)], np.float64)
    (number,) = s.own("NumberOfText", [name, powers], [("", elem, text.shape)])
    good = _match(s, name, automaton(_INTEGER if whole else _NUMBER))
    dtype = np.int64 if whole else np.float64
    other = s.array(np.array(0 if whole else np.nan, dtype))
    if not whole:
        infinite, below = _match(s, name, automaton(_INFINITE)), _match(s, name, automaton(r"[ \t]*-.*"))
        signed = s.add("Where", below, s.array(np.array(-np.inf)), s.array(np.array(np.inf)))
        other = s.add("Where", infinite, signed, other)
    s.add("Cast", s.add("Where", good, number, other), output=node.output[0], to=to)
