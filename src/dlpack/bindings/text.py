"""Templates: files in their own language, in which `@word@` stands for a text and marked lines for a condition.

    //@ if pictures        (after any mark of a comment: //, #, --, ///)
    //@ if not pictures
    //@ else
    //@ end

A placeholder that is alone on its line takes any number of lines, all indented as it is; with none the line goes.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from dlpack.bindings.api import Api, Tensor
from dlpack.errors import UsageError

_STORED = {"bfloat16": "uint16"}
_MARK = re.compile(r"\s*(?://|#|--)@ (if|else|end)(?: (not )?(\w+))?\s*$")
_WORD = re.compile(r"@(\w+)@")
_ALONE = re.compile(r"([ \t]*)@(\w+)@$")


def render(template: str, values: Mapping[str, str], conditions: Collection[str]) -> str:
    """The template's text. Raises KeyError for a placeholder without a value, ValueError for an `if` without end."""
    out: list[str] = []
    open_: list[bool] = []
    for line in template.splitlines():
        if mark := _MARK.match(line):
            kind, negated, name = mark.groups()
            if kind == "if":
                open_.append((name in conditions) != bool(negated))
            elif kind == "else":
                open_[-1] = not open_[-1]
            else:
                open_.pop()
        elif all(open_):
            if alone := _ALONE.match(line):
                out += [f"{alone[1]}{each}".rstrip() for each in values[alone[2]].splitlines()]
            else:
                out.append(_WORD.sub(lambda m: values[m[1]], line))
    if open_:
        raise ValueError("a template has a condition without end")
    return "\n".join(out) + "\n"


def camel(text: str) -> str:
    """`input:0` and `my_input` → `input0`, `myInput`."""
    first, *more = re.split(r"[^0-9A-Za-z]+", text.strip("_-/:. ")) or [""]
    return (first[:1].lower() + first[1:] if not first.isupper() else first.lower()) + "".join(
        w[:1].upper() + w[1:] for w in more
    )


def pascal(text: str) -> str:
    """`input:0` and `my_input` → `Input0`, `MyInput`."""
    word = camel(text)
    return word[:1].upper() + word[1:]


def snake(text: str) -> str:
    """`input:0` and `myInput` → `input_0`, `my_input`."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
    return re.sub(r"[^0-9A-Za-z]+", "_", words).strip("_").lower()


def identifiers(names: Iterable[str], style: Callable[[str], str], taken: Collection[str]) -> list[str]:
    """Identifiers in a style (`camel`, `pascal`, `snake`), none alike, none a word of the language or `taken`."""
    found: list[str] = []
    for name in names:
        word = style(name)
        word = word if word[:1].isalpha() else style(f"tensor_{name}_")
        unique, number = word, 2
        while unique in taken or unique in found:
            unique, number = f"{word}{number}", number + 1
        found.append(unique)
    return found


def about(tensor: Tensor) -> str:
    """What a tensor is, in words: "float32 1x10; a probability for each class"."""
    return "; ".join(filter(None, (tensor.type, tensor.meaning)))


def shown(text: str) -> str:
    """A name as it may stand in a comment and between quotes in any language."""
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\$#%{}*@' else "_" for c in text)


def literal(text: str) -> str:
    """A string literal of JavaScript, Lua, R and Julia that is the text itself."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\x24")


def lines(
    form: str,
    tensors: Iterable[Tensor],
    names: Iterable[str],
    types: Mapping[str, str] | None = None,
    several: str = "",
) -> str:
    """A line per tensor, by a `form` with {name} (an identifier), {shown}, {literal} (its own name), {index}, {size},
    {sizes} (one per set of shapes), {bytes}, {type} (a language's, from `types`), {kind} ("float32 1x10") and {about}.

    Where there are several sets of shapes, size and bytes are expressions of the language: `several`, with {{index}}.
    Raises UsageError where the language has no such type.
    """
    out = []
    for index, (tensor, name) in enumerate(zip(tensors, names, strict=True)):
        if types is not None and tensor.dtype not in types:
            raise UsageError(f"--binding: {tensor.name!r} is {tensor.dtype}, which this language has no type for")
        fields = {"type": types[tensor.dtype] if types else "", "kind": tensor.type, "about": about(tensor)}
        each = np.dtype(_STORED.get(tensor.dtype, tensor.dtype)).itemsize
        size: int | str = tensor.size
        bytes_: int | str = tensor.size * each
        if tensor.shapes:
            size = several.format(index=index)
            bytes_ = f"{each} * {size}"
        each_set = ", ".join(map(str, tensor.sizes or [tensor.size]))
        own = {
            "size": size,
            "sizes": each_set,
            "bytes": bytes_,
            "shown": shown(tensor.name),
            "literal": literal(tensor.name),
        }
        out.append(form.format(name=name, index=index, dtype=tensor.dtype, **own, **fields))
    return "\n".join(out)


def joined(text: str, by: str = ", ") -> str:
    """Lines as one."""
    return by.join(text.splitlines())


def wrapped(declaration: str, room: int = 108) -> str:
    """A declaration whose parameters go on in lines of their own where one line of `room` characters does not do."""
    joined_words = re.sub(r"(?<!,) ", "\0", declaration)  # a parameter stays whole
    return "\n".join(textwrap.wrap(joined_words, room, subsequent_indent="    ", break_long_words=False)).replace(
        "\0", " "
    )


def sets(api: Api, form: str) -> str:
    """A line per set of shapes, by a `form` with {number} and {shown}, its shapes; of open sizes the first and last."""
    numbers = (0, len(api.sets) - 1) if api.open else range(len(api.sets))
    return "\n".join(form.format(number=number, shown=shown(api.sets[number])) for number in numbers)


def sizes(api: Api, tensors: Iterable[Tensor], row: str = "[{}]") -> str:
    """The elements of tensors in each set of shapes: a `row` of numbers for each, "[64, 3], [128, 3]"."""
    columns = [t.sizes for t in tensors]
    return ", ".join(row.format(", ".join(str(c[k]) for c in columns)) for k in range(len(api.sets)))


def class_count(api: Api, several: str) -> str:
    """How many classes there are: a number, or `several` with {index} where there are several sets of shapes."""
    if not api.outputs:
        return "0"
    return several.format(index=api.scores) if api.sets else str(api.outputs[api.scores].size)


def common(api: Api, several: str = "") -> dict[str, str]:
    """The placeholders of every language: the model's name in each style, provenance, flags, the scores' place, the
    sizes in each set of shapes, and limits. `several` gives the size of output {index} where there are several sets."""
    return {
        "name": api.name,
        "Name": pascal(api.name),
        "NAME": api.name.upper(),
        "about": api.about,
        "flags": api.flags,
        "source": api.source,
        "header": api.header,
        "weights": api.weights or "",
        "version": "1.0.0",
        "scores": str(api.scores),
        "threshold": repr(api.threshold),
        "most": str(api.most),
        "input_sizes": sizes(api, api.inputs),
        "output_sizes": sizes(api, api.outputs),
        "shape_count": str(len(api.sets)),
        "threads": str(api.threads),
        "classes": str(api.outputs[api.scores].size) if api.outputs else "0",
        "class_count": class_count(api, several),
        "text_bytes": str(api.texts.bytes),
        "embedding": str(api.texts.embedding),
        **api.texts.errors,
    }
