"""A predictor's functions for text, where its bundle has a tokenizer: `tokenize`, `detokenize` and `embed`."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.graph.ir import Array

TOO_LONG = 9
"""NAME_TOO_LONG of NAME.h."""


class TextFunctions:
    """What `Predictor` has for texts. Texts are str, or bytes of UTF-8, in which broken ones count as U+FFFD."""

    if TYPE_CHECKING:
        name: str
        manifest: dict[str, Any]
        _lock: threading.RLock

        def _open(self) -> ctypes.c_void_p: ...
        def _function(self, name: str) -> Any: ...
        def _check(self, status: int) -> None: ...
        def _used(self, number: int) -> None: ...

    def tokenize(self, text: str | bytes, special: bool = True) -> list[int]:
        """The ids of a text, as Hugging Face's tokenizer.json of the model says; `special`: with the tokens around it.

        Raises UsageError for a text that is too long, and for a bundle without a tokenizer.
        """
        self._has("tokenizer")
        data = utf8(text)
        count = ctypes.c_size_t()
        with self._lock:
            handle = self._open()
            for capacity in (len(data) + 512, 0):
                room = capacity or count.value  # the second time it is known
                ids = np.empty(room, np.int32)
                status = self._function("tokenize")(
                    handle, data, ctypes.c_size_t(len(data)), int(special), _address(ids), ctypes.c_size_t(room),
                    ctypes.byref(count),
                )  # fmt: skip
                if status != TOO_LONG or not count.value:
                    break
        if status == TOO_LONG:
            raise self._too_long(data)
        self._check(status)
        found: list[int] = ids[: count.value].tolist()
        return found

    def detokenize(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of ids; `special`: with special tokens. Ids without a token are left out."""
        return self._written("detokenize", _ids(ids), int(special))

    def detokenize_next(self, ids: Iterable[int], id: int | None) -> str:
        """What one more id adds to the text of `ids`: whole characters only. None ends the text: it gives U+FFFD where
        a character is not complete."""
        return self._written("detokenize_next", _ids(ids), -1 if id is None else _ids([id]).item())

    def _written(self, function: str, ids: Array, last: int) -> str:
        self._has("tokenizer")
        count = ctypes.c_size_t()
        capacity = 64 + 16 * len(ids)
        with self._lock:
            handle = self._open()
            while True:
                text = ctypes.create_string_buffer(capacity)
                status = self._function(function)(
                    handle, _address(ids), ctypes.c_size_t(len(ids)), last, text, ctypes.c_size_t(capacity),
                    ctypes.byref(count),
                )  # fmt: skip
                if status != TOO_LONG:
                    break
                capacity = count.value
        self._check(status)
        return text.raw[: count.value].decode()

    def embed(self, text: str | bytes, cut: bool = False) -> Array:
        """The embedding of a text: float32, of the length that the manifest's `embedding` says.

        Raises UsageError for a text with more tokens than the model takes, unless it is to be cut, and for a model that
        embeds no texts.
        """
        self._has("embedding")
        data = utf8(text)
        embedding = np.empty(self.manifest["embedding"]["size"], np.float32)
        with self._lock:
            status = self._function("embed")(
                self._open(), data, ctypes.c_size_t(len(data)), int(cut), _address(embedding)
            )
            if {"shapes", "open"} & self.manifest.keys():
                self._used(self._function("shape")(self._open()))
        if status == TOO_LONG and len(data) > self.manifest["tokenizer"]["text_bytes"]:
            raise self._too_long(data)
        if status == TOO_LONG:
            raise UsageError(
                f"{self.name}: the text has more than the {self.manifest['embedding']['tokens']} tokens that the model "
                "takes; cut=True takes its beginning"
            )
        self._check(status)
        return embedding

    def _too_long(self, data: bytes) -> UsageError:
        most = self.manifest["tokenizer"]["text_bytes"]
        told = (
            f"a text of {len(data):,} bytes is too long; the bundle was built for {most:,} (--text-bytes), normalized"
        )
        return UsageError(f"{self.name}: {told}")

    def _has(self, what: str) -> None:
        if what not in self.manifest:
            needed = "it was built without a tokenizer (dlpack build --tokenizer tokenizer.json)"
            raise UsageError(f"{self.name}: {needed if what == 'tokenizer' else 'the model embeds no texts'}")


def utf8(text: str | bytes) -> bytes:
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if not isinstance(text, str):
        raise TypeError(f"a text is str or bytes, not {type(text).__name__}")
    return text.encode("utf-8", "surrogatepass")  # halves of a pair are broken UTF-8


def _ids(ids: Iterable[int]) -> Array:
    found: Sequence[Any] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    for k in found:
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < 1 << 31:
            raise ValueError(f"{k!r} is no id of a token")
    return np.array(found, np.int32)


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
