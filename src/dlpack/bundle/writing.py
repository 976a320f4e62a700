"""Writing text with a loaded bundle of a decoder that has its tokenizer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Unpack

from dlpack.bundle.generating import FULL, Generating, Sampler, Sampling
from dlpack.bundle.text_functions import TOO_LONG, TextFunctions, utf8
from dlpack.errors import FullError, UsageError

_ON_TEXT = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)


def collector(on_text: Callable[[str], Any] | None) -> tuple[Any, list[str], list[BaseException]]:
    """What C calls with each piece of a text, the pieces, and what `on_text` has raised, which ends the text."""
    pieces: list[str] = []
    failed: list[BaseException] = []

    def took(_: object, text: Any, size: int) -> int:
        pieces.append(text[:size].decode())
        try:
            return int(on_text is not None and on_text(pieces[-1]) is True)
        except BaseException as error:  # noqa: BLE001 - C has no exceptions: the caller raises it again
            failed.append(error)
            return 1

    return _ON_TEXT(took), pieces, failed


class Writing(Generating, TextFunctions):
    """The part of a predictor that writes text. Its methods raise UsageError for other models."""

    def write(
        self,
        prompt: str | bytes,
        max_tokens: int = 128,
        *,
        stop: Iterable[int] | None = None,
        on_text: Callable[[str], Any] | None = None,
        keep: bool = False,
        **sampling: Unpack[Sampling],
    ) -> str:
        """What the model writes after `prompt`, at most `max_tokens` tokens; one with an encoder of text its answer,
        such as a translation.

        `sampling` are `temperature`, `top_k`, `top_p` and `seed`, as of `Sampler`; by default each token is the
        likeliest. The text ends at a token in `stop`; None: at those that the model's folder names. `on_text` is called
        with each piece; if it returns True, that was the last. `keep`: the prompt goes on from the text so far.
        Raises UsageError for a prompt that is too long, FullError, which has the text so far in `text`, if the text
        gets longer than `manifest["decoder"]["context"]` tokens.
        """
        sampler = Sampler(**sampling)
        ended = None if stop is None else self._tokens(stop, "stop")
        self._writes()
        data = utf8(prompt)
        if max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}, but must be at least 0")
        took, pieces, failed = collector(on_text)
        with self._lock:
            if not keep:
                self.rewind(0)
            status = self._function("write")(
                self._open(), data, ctypes.c_size_t(len(data)), ctypes.c_size_t(max_tokens), ctypes.byref(sampler),
                ended, ctypes.c_size_t(0 if ended is None else len(ended)), took, None, None,
                ctypes.c_size_t(0), None,
            )  # fmt: skip
            self._after()
            empty = not self.length
        if failed:
            raise failed[0]
        text = "".join(pieces)
        if status == TOO_LONG:
            raise self._too_long(data)
        if status == FULL and not text:
            self._fits(self.tokenize(data))
        if status == FULL:
            error = FullError(f"{self.name}: the text gets longer than {self._decoder()['context']} tokens", ())
            error.text = text
            raise error
        if status and empty:
            raise ValueError(f"{self.name}: the prompt is empty, and there is no text to go on from")
        self._check(status)
        return text

    def pieces(
        self, prompt: str | bytes, max_tokens: int = 128, *, stop: Iterable[int] | None = None, keep: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Iterator[str]:  # fmt: skip
        """The same text as `write` returns, piece by piece, each computed when it is asked for."""
        self._writes()
        ended = self.manifest["tokenizer"].get("stop", []) if stop is None else stop
        special = not (keep and self.length) or bool(self._source() and prompt)
        ids = self.tokenize(prompt, special)  # a piece may begin with a space only behind something
        given = tuple(ids)
        if self._source():
            ids = []  # an answer is a text of its own
        for token in self.tokens(given, max_tokens, stop=ended, keep=keep, **sampling):
            if piece := self.detokenize_next(ids, token):
                yield piece
            ids.append(token)
        if piece := self.detokenize_next(ids, None):
            yield piece

    def _writes(self) -> None:
        self._decoder()
        if "tokenizer" not in self.manifest:
            raise UsageError(f"{self.name} has no tokenizer: build it with --tokenizer, or use generate")
