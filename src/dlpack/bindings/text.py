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
    {each} (the bytes of an element), {choice} (the shapes that it may have), {type} (a language's, from `types`),
    {kind} ("float32 1x10") and {about}.

    Where there are several sets of shapes, size is an expression of the language: `several`, with {{index}}, {{each}}.
    Raises UsageError where the language has no such type.
    """
    out = []
    for index, (tensor, name) in enumerate(zip(tensors, names, strict=True)):
        if types is not None and tensor.dtype not in types:
            raise UsageError(f"--binding: {tensor.name!r} is {tensor.dtype}, which this language has no type for")
        fields = {"type": types[tensor.dtype] if types else "", "kind": tensor.type, "about": about(tensor)}
        each = element_bytes(tensor)
        own = {
            "size": several.format(index=index, each=each) if tensor.shapes else tensor.size,
            "each": each,
            "choice": tensor.choice or "x".join(map(str, tensor.shape)),
            "shown": shown(tensor.name),
            "literal": literal(tensor.name),
        }
        out.append(form.format(name=name, index=index, dtype=tensor.dtype, **own, **fields))
    return "\n".join(out)


def element_bytes(tensor: Tensor) -> int:
    """How many bytes an element takes."""
    return np.dtype(_STORED.get(tensor.dtype, tensor.dtype)).itemsize


def reshapes(form: str, api: Api, names: Iterable[str]) -> str:
    """A text per input whose shape may be chosen, with blank lines between, by a `form` with {name}, its identifier,
    {Name} (the same with a capital), {shown}, {index}, and {choice}, the shapes that it may have."""
    out = []
    for index, (tensor, name) in enumerate(zip(api.inputs, names, strict=True)):
        own = {"Name": name[:1].upper() + name[1:], "shown": shown(tensor.name), "choice": tensor.choice}
        out += [form.format(name=name, index=index, **own)] if tensor.choice else []
    return "\n\n".join(out)


def memory_docs(form: str, function: str, api: Api, names: Iterable[str]) -> str:
    """What an argument `memory` is, by a `form` with {about}; empty without open sizes. `function` names those that
    give it, with {name}, an input's identifier, and {Name} as `reshapes` has them."""
    open_ = [name for tensor, name in zip(api.inputs, names, strict=True) if tensor.choice]
    told = " or ".join(function.format(name=name, Name=name[:1].upper() + name[1:]) for name in open_)
    return form.format(about=f"The bytes that it takes, from {told}; 0: for all sizes.") if open_ else ""


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


def class_count(api: Api, several: str) -> str:
    """How many classes there are: a number, or `several` with {index} and {each}, the bytes of an element, where there
    are several sets of shapes."""
    if not api.outputs:
        return "0"
    scores = api.outputs[api.scores]
    return several.format(index=api.scores, each=element_bytes(scores)) if api.sets else str(scores.size)


def common(api: Api, several: str = "") -> dict[str, str]:
    """The placeholders of every language: the model's name in each style, provenance, flags, the scores' place, and
    limits. `several` gives the size of output {index}, of {each} bytes an element, where there are several sets."""
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
        "shape_count": str(len(api.sets)),
        "threads": str(api.threads),
        "classes": str(api.outputs[api.scores].size) if api.outputs else "0",
        "class_count": class_count(api, several),
        "text_bytes": str(api.texts.bytes),
        "embedding": str(api.texts.embedding),
        **api.texts.errors,
    }
