"""The engines: how each loads a decoder, reads a prompt, and writes.

A worker process imports this module, perhaps in another Python than the compiler's: everything but numpy is imported by
the engine that needs it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.decoders.model import Sizes, genai_config

Array = np.ndarray[Any, Any]


class Engine(Protocol):
    """A loaded decoder with a text."""

    def read(self, tokens: Sequence[int]) -> None:
        """Begins a new text with a prompt, and has the scores of the token to follow."""

    def scores(self) -> Array:
        """Those scores, float32 [vocabulary]."""

    def write(self, count: int) -> list[int]:
        """So many tokens more, each the likeliest, all but perhaps the last of them read."""


class _Ours:
    BUNDLE = "native"

    def __init__(self, folder: Path, _sizes: Sizes, threads: int) -> None:
        from dlpack.bundle.loader import load

        self._predictor = load(folder / self.BUNDLE)
        status = self._predictor._function("set_threads")(self._predictor._open(), ctypes.c_int32(threads))
        self._predictor._check(status)

    def read(self, tokens: Sequence[int]) -> None:
        self._predictor.rewind(0)
        self._predictor.append(tokens)

    def scores(self) -> Array:
        return np.array(self._predictor.scores())

    def write(self, count: int) -> list[int]:
        return self._predictor.generate([], count, keep=True)


class _OursInBytes(_Ours):
    BUNDLE = "native-int8"


class _Onnxruntime:
    """Past and present are the same memory, as long as the context, as GroupQueryAttention allows."""

    def __init__(self, folder: Path, sizes: Sizes, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._value = ort.OrtValue.ortvalue_from_numpy
        shape = (1, sizes.kv, sizes.context, sizes.head)
        names = [f"{k}.{kind}" for k in range(sizes.layers) for kind in ("key", "value")]
        self._caches = {name: self._value(np.zeros(shape, np.float32)) for name in names}
        self._length = 0
        self._last = np.zeros(0, np.float32)

    def _run(self, tokens: Sequence[int]) -> None:
        binding, total = self._session.io_binding(), self._length + len(tokens)
        binding.bind_ortvalue_input("input_ids", self._value(np.array([tokens], np.int64)))
        binding.bind_ortvalue_input("attention_mask", self._value(np.ones((1, total), np.int64)))
        binding.bind_output("logits")
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", cache)
            binding.bind_ortvalue_output(f"present.{name}", cache)
        self._session.run_with_iobinding(binding)
        self._length = total
        self._last = binding.get_outputs()[0].numpy()[0, -1]

    def read(self, tokens: Sequence[int]) -> None:
        self._length = 0
        self._run(tokens)

    def scores(self) -> Array:
        return self._last

    def write(self, count: int) -> list[int]:
        made: list[int] = []
        while len(made) < count:
            made.append(int(self._last.argmax()))
            self._run(made[-1:])
        return made


class _Genai:
    def __init__(self, folder: Path, sizes: Sizes, threads: int) -> None:
        import onnxruntime_genai as og

        own = folder / f"genai-{threads}"
        own.mkdir(exist_ok=True)
        (own / "genai_config.json").write_text(json.dumps(genai_config(sizes, threads)), encoding="utf-8")
        for name in ("model.onnx",):
            (own / name).unlink(missing_ok=True)
            (own / name).symlink_to((folder / name).resolve())
        self._og, self._model, self._sizes = og, og.Model(str(own)), sizes
        self._generator: Any = None

    def read(self, tokens: Sequence[int]) -> None:
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=self._sizes.context, do_sample=False)
        self._generator = None  # its cache is freed before the next is made
        self._generator = self._og.Generator(self._model, parameters)
        self._generator.append_tokens(np.array(tokens, np.int32))
        self._generator.get_logits()

    def scores(self) -> Array:
        return np.array(self._generator.get_logits()).reshape(-1, self._sizes.vocabulary)[-1]

    def write(self, count: int) -> list[int]:
        made: list[int] = []
        while len(made) < count and not self._generator.is_done():
            self._generator.generate_next_token()
            made.append(int(self._generator.get_next_tokens()[0]))
        return made


class _LlamaCpp:
    """Its low level interface, for a file without a vocabulary."""

    def __init__(self, folder: Path, sizes: Sizes, threads: int) -> None:
        import llama_cpp

        self._c, self._sizes, self._length = llama_cpp, sizes, 0
        llama_cpp.llama_backend_init()
        how = llama_cpp.llama_model_default_params()
        how.n_gpu_layers = 0
        self._model = llama_cpp.llama_load_model_from_file(str(folder / "model.gguf").encode(), how)
        given = llama_cpp.llama_context_default_params()
        given.n_ctx = given.n_batch = given.n_ubatch = sizes.context
        given.n_ubatch = 512
        given.n_threads = given.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, given)
        if not self._model or not self._context:
            raise RuntimeError("llama.cpp does not load the file")

    def _run(self, tokens: Sequence[int]) -> None:
        held = (self._c.llama_token * len(tokens))(*tokens)
        status = self._c.llama_decode(self._context, self._c.llama_batch_get_one(held, len(tokens)))
        if status:
            raise RuntimeError(f"llama_decode returns {status}")

    def read(self, tokens: Sequence[int]) -> None:
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), False)
        self._run(tokens)
        self.scores()

    def scores(self) -> Array:
        pointer = self._c.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, (self._sizes.vocabulary,)).copy()

    def write(self, count: int) -> list[int]:
        made: list[int] = []
        while len(made) < count:
            made.append(int(self.scores().argmax()))
            self._run(made[-1:])
        return made


@dataclass(frozen=True)
class Contestant:
    """`package`: what pip installs for it; `module`: what is imported of it; `host`: runs in the compiler's Python."""

    title: str
    package: str
    load: Callable[[Path, Sizes, int], Engine]
    host: bool = False
    rounds: bool = False
    """Ours with --arithmetic int8: for weights of few bits alone."""

    def version(self) -> str:
        """Raises PackageNotFoundError where it is not installed."""
        return importlib.metadata.version(self.package)


OURS, OURS_IN_BYTES = "ours", "ours_int8"

CONTESTANTS = {
    OURS: Contestant("ours", "numpy", _Ours, host=True),
    OURS_IN_BYTES: Contestant("ours, --arithmetic int8", "numpy", _OursInBytes, host=True, rounds=True),
    "onnxruntime": Contestant("onnxruntime", "onnxruntime", _Onnxruntime),
    "genai": Contestant("onnxruntime-genai", "onnxruntime-genai", _Genai),
    "llamacpp": Contestant("llama.cpp", "llama-cpp-python", _LlamaCpp),
}
