"""The scripts of the JavaScript package and of its page: which of web/ a model's package holds."""

from __future__ import annotations

import re
from importlib import resources

from dlpack.targets.base import Manifest

MODULES = (
    "sha256.js", "quantization.js", "preprocess.js", "threads.js", "shapes.js", "predictor.js",
    "model_worker.js", "picture_model.js", "classifier.js",
)  # fmt: skip
"""The modules of every package in the order of their imports."""

LATE = "sha256_script.js"
"""The module that is imported where it is needed: on insecure origins."""

WEBGPU_MODULE = "webgpu.js"
"""The one that is imported where there is a WebGPU adapter."""

STRINGS_MODULE = "strings.js"
"""The one that is imported where the model has strings."""

WARM_UP_MODULE = "warm_up.js"
"""The one that is imported where the weights take long to arrive."""

TASK_MODULES = {
    "detect": "detector.js", "style": "stylizer.js", "text": "writer.js", "generate": "decoder.js",
    "transcribe": "decoder.js",
}  # fmt: skip
"""What a package has besides, by the model's task: only what it can do is downloaded."""

TEXT_MODULE, WRITER_MODULE = "text.js", "text_writer.js"
"""What the package of a model with a tokenizer has, and of one that writes with it."""

SOUND_MODULE, SPEECH_MODULE = "sound.js", "transcriber.js"
"""What the package of a model that takes sound has, and of one that writes what is said."""

DEMO = (
    "demo_common.js", "demo_digits.js", "demo_offline.js", "demo_pictures.js", "demo_sample.js", "demo_table.js",
    "demo_text.js", "demo.js",
)  # fmt: skip
"""The modules of the demo page, in the same order."""

WRITE_DEMO, SIMILAR_DEMO, HEAR_DEMO = "demo_write.js", "demo_similar.js", "demo_hear.js"
"""The modules that the page imports late: forms to write with a decoder, to compare embedded texts, and to record."""

FROM_FILE = "demo_file.js"
"""The page's script that is no module: it says what to do with a page that was opened as a file."""

COMPAT = ("mxnet_compat.js", "mxnet_compat.d.ts")
"""mxnet.js's API."""

FILES = (
    *MODULES,
    LATE,
    WEBGPU_MODULE,
    STRINGS_MODULE,
    WARM_UP_MODULE,
    "worker.js",
    "worker.d.ts",
    "thread.js",
    "thread.d.ts",
    "node.js",
    "index.d.ts",
    "node.d.ts",
    *COMPAT,
    *DEMO,
    FROM_FILE,
    "index.html",
    "demo.css",
    "sw.js",
)
"""What lies in every package as it lies in web/."""


def package_modules(manifest: Manifest) -> dict[str, str]:
    """The modules of this model's package and its index.js, which exports what they hold: their texts by name."""
    task = TASK_MODULES.get(manifest.get("task", {}).get("kind", ""))
    text = [TEXT_MODULE] if "tokenizer" in manifest else []
    text += [WRITER_MODULE] if text and "decoder" in manifest else []
    sound = [SOUND_MODULE] if "sound" in manifest else []
    sound += [SPEECH_MODULE] if text and "speech" in manifest else []
    names = [*MODULES, *([task] if task else []), *text, *sound]
    index = [line for line in web_text("index.js").splitlines(keepends=True) if line.split('"./')[1][:-3] in names]
    return {**{name: web_text(name) for name in names}, "index.js": "".join(index)}


def late_demo(manifest: Manifest) -> list[str]:
    """What the page of this model imports besides `DEMO`."""
    if "tokenizer" not in manifest:
        return []
    if "speech" in manifest:
        return [HEAR_DEMO]
    return [WRITE_DEMO] if "decoder" in manifest else [SIMILAR_DEMO] if "embedding" in manifest else []


def web_text(name: str) -> str:
    """A file of web/ as a package has it: scripts without comments and indentation, a fifth of the bytes."""
    text = (resources.files("dlpack.web") / name).read_text(encoding="utf-8")
    return compact(text) if name.endswith(".js") else text


_COMMENTS = re.compile(r"^[ ]*(?:/\*\*(?:(?!\*/).)*\*/|//[^\n]*)\n", re.MULTILINE | re.DOTALL)
_SPACE = re.compile(r"^[ ]+|^\n", re.MULTILINE)


def compact(script: str) -> str:
    """A script without the comments that have lines of their own, empty lines and indentation.

    No text in backquotes may go over several lines: that would change.
    """
    if any(line.count("`") % 2 for line in script.splitlines()):
        raise AssertionError("a template literal of several lines cannot be made compact")
    return _SPACE.sub("", _COMMENTS.sub("", script))
