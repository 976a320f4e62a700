"""The functions of a predictor for texts, in a wheel whose model has a tokenizer or writes text."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

from . import predictor

numpy = predictor.numpy
REFUSED, TOO_LONG, FULL = 1, 9, 10
"""Statuses of NAME.h."""


class FullError(RuntimeError):
    """The text would get longer than a predictor keeps. `tokens` or `text` has what was written before."""

    tokens: tuple[int, ...] = ()
    text: str = ""


class _Sampler(ctypes.Structure):
    _fields_ = (
        ("temperature", ctypes.c_float),
        ("top_k", ctypes.c_int32),
        ("top_p", ctypes.c_float),
        ("seed", ctypes.c_uint64),
    )


_ON_TOKEN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)
_ON_TEXT = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)
predictor.C_TYPES.update(
    {
        "char*": ctypes.c_char_p, "float*": ctypes.POINTER(ctypes.c_float), "on_token": _ON_TOKEN, "on_text": _ON_TEXT,
        "const int32_t*": ctypes.POINTER(ctypes.c_int32), "const int64_t*": ctypes.POINTER(ctypes.c_int64),
        "int64_t*": ctypes.POINTER(ctypes.c_int64), "sampler*": ctypes.POINTER(_Sampler),
        "size_t*": ctypes.POINTER(ctypes.c_size_t),
    }
)  # fmt: skip


class Predictor(predictor.Predictor):
    """A compiled model that takes or writes texts, as predictor.Predictor. A text is str, or bytes of UTF-8, of which
    broken ones count as U+FFFD."""

    def tokenize(self, text: str | bytes, special: bool = True) -> list[int]:
        """The ids of a text; `special`: with the tokens around it.

        Raises ValueError for a text that is too long, TypeError for a model without a tokenizer.
        """
        function, data = self._text_function("tokenize"), _utf8(text)
        count = ctypes.c_size_t(len(data) + 16)
        with self._lock:
            while True:
                ids = (ctypes.c_int32 * count.value)()
                status = function(self._open(), data, len(data), special, ids, len(ids), ctypes.byref(count))
                if status != TOO_LONG or not count.value:
                    break
        self._check_text(status)
        return ids[: count.value]

    def detokenize(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of ids; `special`: with special tokens. Ids without a token are left out."""
        function, given = self._text_function("detokenize"), _array(ctypes.c_int32, ids)
        size = ctypes.c_size_t(16 * len(given))
        with self._lock:
            while True:
                text = ctypes.create_string_buffer(size.value)
                status = function(self._open(), given, len(given), special, text, len(text), ctypes.byref(size))
                if status != TOO_LONG:
                    break
        self._check_text(status)
        return text.raw[: size.value].decode()

    def embed(self, text: str | bytes, cut: bool = False) -> Any:
        """The embedding of a text: numbers of float32, a numpy array where that is installed, else a memoryview.

        Raises ValueError for a text that is too long, unless it is to be cut, TypeError for a model that embeds none.
        """
        function, data = self._text_function("embed"), _utf8(text)
        embedding = (ctypes.c_float * self._api["embedding"])()
        with self._lock:
            status = function(self._open(), data, len(data), cut, embedding)
            self._read_shape()
        if status == TOO_LONG and len(data) <= self._api["text_bytes"]:
            raise ValueError(self._api["errors"]["too_many_tokens"])
        self._check_text(status)
        return memoryview(embedding).cast("B").cast("f") if numpy is None else numpy.array(embedding, "float32")

    def generate(
        self, prompt: Iterable[int], max_tokens: int = 128, *, stop: Iterable[int] = (),
        on_token: Callable[[int], Any] | None = None, **sampling: Any,
    ) -> list[int]:  # fmt: skip
        """The tokens that the model writes after a prompt, at most `max_tokens`.

        `temperature` 0 (the default): the likeliest each time; else a token's chance is softmax(scores / temperature),
        among the `top_k` likeliest (0: all), and of those among the likeliest that together have at least the share
        `top_p`. The same `seed` gives the same text. Tokens in `stop` end it. `keep`: the prompt goes on from the text
        so far. `on_token` is called with each token; True ends the text.
        Raises ValueError for a prompt that is empty or has an unknown token, FullError where the text gets too long.
        """
        function, given, ends = (
            self._text_function("generate"),
            _array(ctypes.c_int64, prompt),
            _array(ctypes.c_int64, stop),
        )
        tokens: list[int] = []

        def take(_: object, token: int) -> bool:
            tokens.append(token)
            return on_token is not None and on_token(token) is True

        def call(handle: Any, sampler: Any, caught: Any) -> int:
            taken = _ON_TOKEN(caught(take))
            status: int = function(
                handle, given, len(given), max_tokens, sampler, ends, len(ends), taken, None, None, None
            )
            return status

        status = self._write(max_tokens, sampling, call)
        if status == FULL:
            error = FullError(self._api["errors"]["full"])
            error.tokens = tuple(tokens)
            raise error
        self._check_text(status)
        return tokens

    def write(
        self, prompt: str | bytes, max_tokens: int = 128, *, stop: Iterable[int] | None = None,
        on_text: Callable[[str], Any] | None = None, **sampling: Any,
    ) -> str:  # fmt: skip
        """What the model writes after a prompt. The arguments are those of `generate`; without `stop` the text ends at
        the tokens that the model names. `on_text` is called with each piece; True ends the text.

        Raises ValueError for a prompt that is empty or too long, FullError where the text gets too long.
        """
        function, data = self._text_function("write"), _utf8(prompt)
        ends = None if stop is None else _array(ctypes.c_int64, stop)
        pieces: list[str] = []

        def take(_: object, text: Any, size: int) -> bool:
            pieces.append(text[:size].decode())
            return on_text is not None and on_text(pieces[-1]) is True

        def call(handle: Any, sampler: Any, caught: Any) -> int:
            taken, count = _ON_TEXT(caught(take)), 0 if ends is None else len(ends)
            status: int = function(
                handle, data, len(data), max_tokens, sampler, ends, count, taken, None, None, 0, None
            )
            return status

        status = self._write(max_tokens, sampling, call)
        if status == FULL:
            error = FullError(self._api["errors"]["full"])
            error.text = "".join(pieces)
            raise error
        self._check_text(status)
        return "".join(pieces)

    def _write(self, most: int, sampling: dict[str, Any], call: Callable[[Any, Any, Any], int]) -> int:
        """Calls what writes a text, alone: what is called for its pieces finds the predictor closed."""
        sampler, keep = _sampler(**sampling)
        if most < 0:
            raise ValueError(f"max_tokens is {most}; at least none can be asked for")
        failed: list[BaseException] = []

        def caught(take: Callable[..., bool]) -> Callable[..., int]:
            def taken(*arguments: Any) -> int:
                try:
                    return int(take(*arguments))
                except BaseException as error:  # noqa: BLE001 - C has no exceptions: it is raised again below
                    failed.append(error)
                    return 1

            return taken

        with self._lock:
            handle = self._open()
            if not keep:
                self._check(self._function("rewind")(handle, 0))
            self._handle = ctypes.c_void_p()
            try:
                status = call(handle, ctypes.byref(sampler), caught)
            finally:
                self._handle = handle
            self._read_shape()
        if failed:
            raise failed[0]
        return status

    def _read_shape(self) -> None:
        """What takes a text has chosen a set of shapes."""
        if len(self._sets) > 1:
            self._use(self._function("shape")(self._open()))

    def _text_function(self, name: str) -> Any:
        if name not in self._api["functions"]:
            raise TypeError(f"{self.name} has no {name}: it has no tokenizer, or is a model of another kind")
        return self._function(name)

    def _check_text(self, status: int) -> None:
        if status in (TOO_LONG, REFUSED):
            raise ValueError(self._api["errors"]["too_long" if status == TOO_LONG else "refused"])
        self._check(status)


def _sampler(
    temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0, keep: bool = False
) -> tuple[_Sampler, bool]:
    return _Sampler(temperature, top_k, top_p, seed % (1 << 64)), keep


def _array(kind: Any, values: Iterable[int]) -> Any:
    found = [int(value) for value in values]
    return (kind * len(found))(*found)


def _utf8(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")  # halves of a pair are broken UTF-8
    if not isinstance(text, (bytes, bytearray)):
        raise TypeError(f"a text is str or bytes, not {type(text).__name__}")
    return bytes(text)
