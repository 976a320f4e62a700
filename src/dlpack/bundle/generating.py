"""Reading and writing tokens with a loaded bundle of a decoder."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from dlpack.errors import FullError, UsageError
from dlpack.graph.ir import Array

FULL = 10
"""NAME_FULL of NAME.h."""

_ON_TOKEN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)


class Sampling(TypedDict, total=False):
    """The arguments of `Sampler`."""

    temperature: float
    top_k: int
    top_p: float
    seed: int


class Sampler(ctypes.Structure):
    """How a token is chosen from the scores of all: NAME_sampler of NAME.h, which `sample` changes.

    `temperature` 0: the likeliest. Else by softmax(scores / temperature), among the `top_k` likeliest (0: all), and of
    those among the likeliest that together have at least the share `top_p`. `seed` changes with each token.
    """

    _fields_ = (
        ("temperature", ctypes.c_float),
        ("top_k", ctypes.c_int32),
        ("top_p", ctypes.c_float),
        ("seed", ctypes.c_uint64),
    )

    def __init__(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> None:
        """Raises ValueError for numbers that make no sense."""
        if not 0 <= temperature < 1e38:
            raise ValueError(f"temperature {temperature!r} is not a number from 0 on")
        if not 0 <= top_k < 1 << 31:
            raise ValueError(f"top_k {top_k!r} is not a whole number from 0 on")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p {top_p!r} is not above 0 and at most 1")
        super().__init__(temperature, top_k, top_p, seed % (1 << 64))


class Generating:
    """The part of a predictor that reads and writes tokens. Its methods raise UsageError for other models."""

    if TYPE_CHECKING:
        manifest: dict[str, Any]
        name: str
        _lock: threading.RLock
        _set: int

        def _function(self, name: str) -> Any: ...
        def _open(self) -> ctypes.c_void_p: ...
        def _check(self, status: int) -> None: ...
        def _describe(self, number: int) -> None: ...

    def generate(
        self,
        prompt: Iterable[int],
        max_tokens: int = 128,
        *,
        stop: Iterable[int] = (),
        on_token: Callable[[int], Any] | None = None,
        keep: bool = False,
        **sampling: Unpack[Sampling],
    ) -> list[int]:
        """The tokens that the model writes after `prompt`, token ids: at most `max_tokens`. Of a model with an encoder
        of text (`manifest["decoder"]["encoder"]`), its answer to the prompt, as after `read`.

        `sampling` are `temperature`, `top_k`, `top_p` and `seed`, as of `Sampler`; by default each token is the
        likeliest. A token in `stop` ends the text and is not returned. `on_token` is called with each token; if it
        returns True, that was the last. `keep`: the prompt goes on from the text so far, that the predictor has read
        and written before; where it is empty, an answer goes on.
        Raises ValueError for a token that is none and an empty prompt without a text before it; FullError, with the
        tokens so far, if the text gets longer than `manifest["decoder"]["context"]`.
        """
        sampler, ended = Sampler(**sampling), self._tokens(stop, "stop")
        given = self._tokens(prompt, "the prompt", self._source())
        if max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}, but must be at least 0")
        failed: list[BaseException] = []
        found: list[int] = []

        def took(_: object, token: int) -> int:
            found.append(token)
            try:
                return int(on_token is not None and on_token(token) is True)
            except BaseException as error:  # noqa: BLE001 - C has no exceptions: it is raised again below
                failed.append(error)
                return 1

        with self._lock:
            self._begin(given, keep)
            self._fits(given)
            made, callback = ctypes.c_size_t(), _ON_TOKEN(took)
            most = ctypes.c_size_t(max_tokens)
            status = self._function("generate")(
                self._open(), given, ctypes.c_size_t(len(given)), most, ctypes.byref(sampler), ended,
                ctypes.c_size_t(len(ended)), callback, None, None, ctypes.byref(made),
            )  # fmt: skip
            self._after()
        if failed:
            raise failed[0]
        self._raise(status, found)
        return found

    def tokens(
        self, prompt: Iterable[int], max_tokens: int = 128, *, stop: Iterable[int] = (), keep: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Iterator[int]:  # fmt: skip
        """The same tokens as `generate` returns, one at a time, each computed when it is asked for.

        `sampling` has the arguments of `Sampler`. Between two tokens the predictor must not be used otherwise.
        """
        sampler, ended, given = Sampler(**sampling), set(stop), self._tokens(prompt, "the prompt", self._source())
        self._begin(given, keep)
        if not self._source():
            self._read(given, [])
        elif len(given):
            self._reads(given)
        found: list[int] = []
        while len(found) < max_tokens:
            try:
                token = self.sample(sampler)
            except FullError as error:
                raise FullError(str(error), tuple(found)) from None
            if token in ended:
                return
            self.accept(token)
            found.append(token)
            yield token

    def read(self, tokens: Iterable[int]) -> None:
        """Reads a text with the encoder, and begins an answer with `manifest["decoder"]["encoder"]["start"]`; to begin
        it with other tokens, `rewind(0)` and `append` them.

        Raises UsageError for a model without an encoder of text, ValueError for no tokens and one that is none,
        FullError for more than the encoder reads.
        """
        if "encoder" not in self._decoder():
            raise UsageError(f"{self.name} has no encoder of text: append() reads tokens")
        self._reads(self._tokens(tokens, "the text", self._source()))

    def append(self, tokens: Iterable[int]) -> None:
        """Reads tokens behind the text so far.

        Raises ValueError for a token that is none, FullError if the text would get too long; nothing is read then.
        """
        self._read(self._tokens(tokens, "the text"), [])

    def sample(self, sampler: Sampler | None = None) -> int:
        """A token to follow the text, which is not read: chosen by the sampler, which changes; None: the likeliest.

        Raises ValueError where there is no text, UsageError where it was cut and nothing was read since.
        """
        token = ctypes.c_int64()
        with self._lock:
            if not self.length:
                raise ValueError(f"{self.name}: there is no text to go on from: read some tokens first")
            how = None if sampler is None else ctypes.byref(sampler)
            status = self._function("sample")(self._open(), how, ctypes.byref(token))
            self._after()
        self._raise(status, [])
        return token.value

    def accept(self, token: int) -> None:
        """Adds a token to the text, which is read when something needs it. Raises as `append` does."""
        self._tokens([token], "the text")
        with self._lock:
            status = self._function("accept")(self._open(), ctypes.c_int64(token))
            self._after()
        self._raise(status, [])

    def scores(self) -> Array | None:
        """The scores of all tokens to follow the text, a copy [vocabulary]; None where nothing was read."""
        size = self._decoder()["vocabulary"]
        with self._lock:
            function = self._function("scores")
            function.restype = ctypes.POINTER(ctypes.c_float)
            found = function(self._open())
            self._after()
            return np.ctypeslib.as_array(found, (size,)).copy() if found else None

    @property
    def length(self) -> int:
        """How many tokens the text has that the predictor has read and written."""
        self._decoder()
        function = self._function("length")
        function.restype = ctypes.c_size_t
        return int(function(self._open()))

    def rewind(self, length: int) -> None:
        """Forgets all but the first `length` tokens of the text. Raises ValueError where there are fewer."""
        if not 0 <= length <= self.length:
            raise ValueError(f"{self.name}: the text has {self.length} tokens, not {length}")
        with self._lock:
            self._check(self._function("rewind")(self._open(), ctypes.c_size_t(length)))

    def reset(self) -> None:
        """Forgets the text, and clears the memory where it was."""
        self._decoder()
        with self._lock:
            self._check(self._function("reset")(self._open()))

    def _decoder(self) -> dict[str, Any]:
        if "decoder" not in self.manifest:
            raise UsageError(f"{self.name} does not generate text: that takes a decoder's export with its past")
        found: dict[str, Any] = self.manifest["decoder"]
        return found

    def _source(self) -> int:
        """How many tokens an encoder of text knows, 0 where there is none."""
        return int(self._decoder().get("encoder", {}).get("vocabulary", 0))

    def _tokens(self, tokens: Iterable[int], what: str, most: int = 0) -> Any:
        """The tokens as C reads them; `most`: how many there are, 0: in the decoder. Raises ValueError for one that is
        none."""
        most = most or self._decoder()["vocabulary"]
        array = np.asarray(list(tokens))
        if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
            raise ValueError(f"{what} must be token ids, whole numbers, not {array.dtype.name} of shape {array.shape}")
        wrong = [int(t) for t in array if not 0 <= t < most]
        if wrong:
            raise ValueError(f"{what} has the token {wrong[0]}; the model's are 0 to {most - 1}")
        return (ctypes.c_int64 * array.size)(*array.tolist())

    def _begin(self, prompt: Any, keep: bool) -> None:
        if not keep:
            self.rewind(0)
        if not len(prompt) and not self.length:
            raise ValueError(f"{self.name}: the prompt is empty, and there is no text to go on from")

    def _fits(self, prompt: Any) -> None:
        """Raises FullError for a text that an encoder cannot read."""
        most = self._decoder().get("encoder", {}).get("most", len(prompt))
        if len(prompt) > most:
            raise FullError(
                f"{self.name}: the text has {len(prompt)} tokens, and the encoder reads {most}: build with a larger "
                "--source, or cut it",
                (),
            )

    def _reads(self, tokens: Any) -> None:
        """Gives the encoder a text."""
        self._fits(tokens)
        if not len(tokens):
            raise ValueError(f"{self.name}: there are no tokens to read")
        with self._lock:
            status = self._function("read")(self._open(), tokens, ctypes.c_size_t(len(tokens)))
            self._after()
        self._raise(status, [])

    def _read(self, tokens: Any, found: list[int]) -> None:
        with self._lock:
            status = self._function("append")(self._open(), tokens, ctypes.c_size_t(len(tokens)))
            self._after()
        self._raise(status, found)

    def _after(self) -> None:
        """Reading has chosen a set of shapes."""
        if "shapes" in self.manifest:
            self._set = self._function("shape")(self._open())
            self._describe(self._set)

    def _raise(self, status: int, found: list[int]) -> None:
        if status == FULL:
            context = self._decoder()["context"]
            raise FullError(
                f"{self.name}: the text would get longer than the {context} tokens that the predictor keeps: build "
                "with a larger --context, or begin a new text",
                tuple(found),
            )
        self._check(status)
