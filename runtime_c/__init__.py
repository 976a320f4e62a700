"""The C++ text that is the same for every model: API, vectors and their maths, threads, device loaders."""

from __future__ import annotations

from importlib import resources

RUNTIME_FILES = (
    "vectors.h", "maths.h", "values.h", "winograd.h", "classifier.h", "cpu.h", "sha256.h", "fingerprint.h", "files.h",
    "api.h", "threads.h", "predictor.h", "predictor_api.h", "classifier_api.h", "mxnet.h", "mxnet_lists.h",
    "mxnet_api.h", "selftest.h", "half.h", "small_floats.h", "machines.h", "detector.h", "inflate.h", "cuda_driver.h",
    "cuda.h", "decoder.h", "tokenizer.h", "tokenizer_api.h", "text_writer.h", "sound.h", "transcriber.h",
)  # fmt: skip


def read_runtime() -> dict[str, str]:
    """The texts by file name."""
    folder = resources.files(__name__)
    return {name: (folder / name).read_text(encoding="utf-8") for name in RUNTIME_FILES}
