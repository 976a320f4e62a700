"""Scripts as pages load them: without comments and white space, and with short names for what is local to a module.

Minifiers are programs for node, or packages without wheels for some systems that builds run on (Apple's processors):
so this is our own, and a test has esbuild confirm that names and white space are all that changes. It is for web/ and
relies on what prettier and ESLint make of it: statements end in semicolons, no loop has an empty body, nothing is
called by `eval` or `with`.
"""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<template>`)
    |(?P<name>[\#]?[A-Za-z_$][\w$]*)|(?P<number>\d[\w.]*)|(?P<sign>\?\.(?!\d)|\.\.\.|=>|\+\+|--|.)""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?![/*])(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_KEYWORDS = frozenset(
    "async await break case catch class const continue debugger default delete do else export extends false finally "
    "for from function get if import in instanceof let new null of return set static super switch this throw true try "
    "typeof undefined var void while with yield as arguments".split()
)
_BEFORE_VALUES = _KEYWORDS - {"this", "super", "null", "true", "false", "undefined", "arguments"}
_BEFORE_BLOCKS = frozenset(") => else try finally do ; { } catch".split())
_LETTERS = string.ascii_letters


@dataclass
class _Token:
    """A piece of a script. `inside`: what holds it: "class", "block", "object", "(", "[", or "" at the top."""

    kind: str
    text: str
    inside: str = ""
    opens: str = ""


def minified(script: str, kept: Iterable[str] = ()) -> str:
    """The same script in fewer bytes. Names in `kept` stay, as do those that it takes from outside or hands out."""
    tokens = _nested(_tokens(script))
    return _joined(tokens, _short_names(tokens, frozenset(kept)))


def free_names(script: str) -> set[str]:
    """What a script uses and does not declare: the names of the browser's."""
    tokens = _nested(_tokens(script))
    return {t.text for k, t in enumerate(tokens) if _is_variable(tokens, k)} - _declared(tokens)


def _tokens(script: str) -> list[_Token]:
    """The pieces without comments and white space; a template is one piece for each part of its text."""
    tokens: list[_Token] = []
    open_braces: list[bool] = []  # whether each ends a template's expression
    at = 0
    while at < len(script):
        if _value_follows(tokens) and (regex := _REGEX.match(script, at)):
            tokens.append(_Token("text", regex[0]))
            at = regex.end()
            continue
        if script[at] == "}" and open_braces and open_braces[-1]:
            open_braces.pop()
            at = _template(script, at, tokens, open_braces)
            continue
        found = _TOKEN.match(script, at)
        if not found or not found.lastgroup:
            raise AssertionError(f"a script that cannot be read at {script[at : at + 40]!r}")
        if found.lastgroup == "template":
            at = _template(script, at, tokens, open_braces)
            continue
        if found.lastgroup != "space":
            tokens.append(_Token(found.lastgroup, found[0]))
            if found[0] == "{":
                open_braces.append(False)
            elif found[0] == "}":
                open_braces.pop()
        at = found.end()
    return tokens


def _template(script: str, at: int, tokens: list[_Token], open_braces: list[bool]) -> int:
    """Reads the text of a template from its ` or the } of an expression on, to the next ${ or its end."""
    end = at + 1
    while script[end] != "`" and script[end : end + 2] != "${":
        end += 2 if script[end] == "\\" else 1
    more = script[end] == "$"
    end += 2 if more else 1
    tokens.append(_Token("template", script[at:end]))
    if more:
        open_braces.append(True)
    return end


def _value_follows(tokens: list[_Token]) -> bool:
    """Whether a slash begins a regular expression here, not a division."""
    if not tokens:
        return True
    last = tokens[-1]
    if last.kind == "name":
        return last.text in _BEFORE_VALUES
    if last.kind == "template":
        return last.text.endswith("${")
    return last.kind == "sign" and last.text not in (")", "]", "}")


def _nested(tokens: list[_Token]) -> list[_Token]:
    """Says of each token what holds it, and of each bracket what it opens."""
    stack = [""]
    class_follows = False
    before = ";"
    for token in tokens:
        text = token.text
        if token.kind == "template" and text.startswith("}"):
            stack.pop()
        if token.kind == "sign" and text in ")]}":
            stack.pop()
        token.inside = stack[-1]
        if token.kind == "template" and text.endswith("${"):
            stack.append("(")
        if token.kind == "name" and text == "class" and before != ".":
            class_follows = True
        if token.kind == "sign" and text in "([{":
            kind = text
            if text == "{":
                kind = "class" if class_follows else "block" if before in _BEFORE_BLOCKS else "object"
                class_follows = False
            token.opens = kind
            stack.append(kind)
        before = text
    return tokens


def _text(tokens: list[_Token], at: int) -> str:
    return tokens[at].text if 0 <= at < len(tokens) else ";"


def _is_key(tokens: list[_Token], at: int) -> bool:
    """Whether a name is that of a property or a method, not of a variable."""
    before, after = _text(tokens, at - 1), _text(tokens, at + 1)
    if before in (".", "?."):
        return True
    if tokens[at].inside == "class":
        return before in ("{", "}", ";", "static", "async", "get", "set", "*")
    if tokens[at].inside == "object":
        method = before in ("async", "get", "set", "*") and after == "("
        return method or (before in ("{", ",") and after in (":", "("))
    return False


def _is_shorthand(tokens: list[_Token], at: int) -> bool:
    """Whether a name is a property's and a variable's at once."""
    before, after = _text(tokens, at - 1), _text(tokens, at + 1)
    return tokens[at].inside == "object" and before in ("{", ",") and after in (",", "}", "=")


def _is_exported(tokens: list[_Token], at: int) -> bool:
    """Whether the name stands behind `export function` or the like."""
    words = [_text(tokens, k) for k in range(max(0, at - 4), at)]
    kinds = ("const", "let", "class", "function", "*")
    return bool(words) and words[-1] in kinds and "export" in words


def _is_variable(tokens: list[_Token], at: int) -> bool:
    return tokens[at].kind == "name" and tokens[at].text not in _KEYWORDS and not _is_key(tokens, at)


def _declared(tokens: list[_Token]) -> set[str]:
    """The names that a script declares, as far as its own words tell; those of `let a, b` beyond the first are left."""
    found: set[str] = set()
    for k, token in enumerate(tokens):
        if token.kind == "name" and token.text in ("const", "let", "var", "function", "class", "catch"):
            at = k + 1
            at += _text(tokens, at) in ("*", "(")
            if _text(tokens, at) in ("{", "["):
                found |= _pattern(tokens, at, _closing(tokens, at))
            elif tokens[at].kind == "name" and _text(tokens, at) not in _KEYWORDS:
                found.add(tokens[at].text)
        if token.text == "=>" and tokens[k - 1].kind == "name":
            found.add(tokens[k - 1].text)
        if token.opens == "(" and _holds_parameters(tokens, k):
            found |= _pattern(tokens, k, _closing(tokens, k))
    return found


def _holds_parameters(tokens: list[_Token], at: int) -> bool:
    """Whether the bracket there opens the parameters of a function."""
    after = _text(tokens, _closing(tokens, at) + 1)
    if after == "=>":
        return True
    named = tokens[at - 1].kind == "name" and (_is_key(tokens, at - 1) or _text(tokens, at - 2) in ("function", "*"))
    return after == "{" and (_text(tokens, at - 1) == "function" or named)


def _closing(tokens: list[_Token], at: int) -> int:
    """Where the bracket that opens there is closed."""
    depth = 0
    for k in range(at, len(tokens)):
        opens = tokens[k].opens or (tokens[k].kind == "template" and tokens[k].text.endswith("${"))
        closes = tokens[k].kind == "sign" and tokens[k].text in ")]}"
        closes |= tokens[k].kind == "template" and tokens[k].text.startswith("}")
        depth += bool(opens) - bool(closes)
        if depth == 0 and k > at:
            return k
    raise AssertionError("a bracket that is not closed")


def _pattern(tokens: list[_Token], begin: int, end: int) -> set[str]:
    """The variables of a pattern or a list of parameters, without what their defaults use."""
    found = set()
    for k in range(begin + 1, end):
        before, after = _text(tokens, k - 1), _text(tokens, k + 1)
        first = before in ("(", "[", "{", ",", "...") or (before == ":" and tokens[k].inside == "object")
        if _is_variable(tokens, k) and first and after in (",", "=", "]", ")", "}"):
            found.add(tokens[k].text)
    return found


def _short_names(tokens: list[_Token], kept: frozenset[str]) -> dict[str, str]:
    """New names, the shortest for those that are used most; none of them is used in the script before."""
    variables = [k for k in range(len(tokens)) if _is_variable(tokens, k)]
    counts = Counter(tokens[k].text for k in variables)
    fixed = kept | {tokens[k].text for k in variables if _is_shorthand(tokens, k) or _is_exported(tokens, k)}
    used = {t.text for t in tokens if t.kind == "name"} | kept | _KEYWORDS
    renamed: dict[str, str] = {}
    fresh = (name for name in _names() if name not in used)
    short = next(fresh)
    for name in sorted(_declared(tokens) - fixed, key=lambda name: (-counts[name], name)):
        if len(name) > len(short):
            renamed[name], short = short, next(fresh)
    return renamed


def _names() -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "".join(letters)


def _joined(tokens: list[_Token], names: dict[str, str]) -> str:
    """The tokens with spaces only where two would become one, and without semicolons and commas that end a list."""
    out: list[str] = []
    for k, token in enumerate(tokens):
        text = names.get(token.text, token.text) if _is_variable(tokens, k) else token.text
        after = _text(tokens, k + 1)
        ended = text == ";" and after == "}"
        if token.kind == "sign" and (ended or (text == "," and after in (")", "]", "}"))):
            continue
        if out and _would_join(out[-1][-1], text):
            out.append(" ")
        out.append(text)
    return "".join(out)


def _would_join(last: str, text: str) -> bool:
    """Whether a character and the token behind it would be read as one."""
    words = _is_word(last) and _is_word(text[0])
    return words or (last == text[0] and last in "+-/") or (last.isdigit() and text == ".")


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "_$#"
