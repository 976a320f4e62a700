"""The scripts of the JavaScript package and of its page: which of web/ a model's package holds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from dlpack.targets.base import Manifest
from dlpack.targets.wasm.bundling import bundled
from dlpack.targets.wasm.minify import free_names, minified

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

OPEN_MODULE = "open_sizes.js"
"""The one that is imported where sizes are open."""

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
    LATE,
    WEBGPU_MODULE,
    STRINGS_MODULE,
    OPEN_MODULE,
    WARM_UP_MODULE,
    "worker.js",
    "worker.d.ts",
    "thread.js",
    "thread.d.ts",
    "node.js",
    "index.d.ts",
    "node.d.ts",
    *COMPAT,
    FROM_FILE,
    "index.html",
    "demo.css",
    "sw.js",
)
"""What lies in every package, beside index.js and demo.js, which are made of modules."""

SOURCE = "source"
"""The folder of a package in which its scripts lie as they were written."""


def package_modules(manifest: Manifest) -> dict[str, str]:
    """The modules of this model's package and its index.js, which exports what they hold: their texts by name."""
    task = TASK_MODULES.get(manifest.get("task", {}).get("kind", ""))
    text = [TEXT_MODULE] if "tokenizer" in manifest else []
    text += [WRITER_MODULE] if text and "decoder" in manifest else []
    sound = [SOUND_MODULE] if "sound" in manifest else []
    sound += [SPEECH_MODULE] if text and "speech" in manifest else []
    names = [*MODULES, *([task] if task else []), *text, *sound]
    index = [line for line in written("index.js").splitlines(keepends=True) if line.split('"./')[1][:-3] in names]
    return {**{name: written(name) for name in names}, "index.js": "".join(index)}


def demo_modules(manifest: Manifest) -> dict[str, str]:
    """The modules of this model's page, likewise; what it imports late comes before what imports it."""
    names = [*DEMO[:-1], *late_demo(manifest), DEMO[-1]]
    return {name: written(name) for name in names}


def package_scripts(manifest: Manifest) -> dict[str, str]:
    """The scripts that a page of this model loads first: the package's entry point and the demo, a file each."""
    kept = names_of_browsers()
    entry = bundled(package_modules(manifest), kept, "index.js")
    return {"index.js": entry, "demo.js": bundled(demo_modules(manifest), kept)}


def script_sources(manifest: Manifest) -> dict[str, str]:
    """All scripts of this model's package as they were written."""
    others = [name for name in FILES if name.endswith(".js")]
    return {**package_modules(manifest), **demo_modules(manifest), **{name: written(name) for name in others}}


def late_demo(manifest: Manifest) -> list[str]:
    """What the page of this model imports besides `DEMO`."""
    if "tokenizer" not in manifest:
        return []
    if "speech" in manifest:
        return [HEAR_DEMO]
    return [WRITE_DEMO] if "decoder" in manifest else [SIMILAR_DEMO] if "embedding" in manifest else []


def written(name: str) -> str:
    """A file of web/ as it was written."""
    return (resources.files("dlpack.web") / name).read_text(encoding="utf-8")


def web_text(name: str) -> str:
    """A file of web/ as a package has it: scripts minified."""
    return minified(written(name), names_of_browsers()) + "\n" if name.endswith(".js") else written(name)


@cache
def names_of_browsers() -> frozenset[str]:
    """What some script of web/ takes from the browser: no script has another thing of that name renamed."""
    folder = resources.files("dlpack.web")
    scripts = [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".js")]
    return frozenset().union(*map(free_names, scripts))


_REPORTS = frozenset(
    "tool target machine model_sha256 opset source header weights_bytes weights_by_type prepared_bytes arena tolerance "
    "tolerances model_options seeds precision arithmetic tried bindings verified_on verified_with verification "
    "files".split()
)
"""What of the manifest is for people and for `dlpack`, not for a page."""


def page_manifest(manifest: Manifest) -> dict[str, object]:
    """What of the manifest a page reads."""
    kept: dict[str, object] = {key: value for key, value in manifest.items() if key not in _REPORTS}
    return kept | {"wasm": {build: _without_digest(info) for build, info in manifest["wasm"].items()}}


def _without_digest(info: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in info.items() if key != "sha256"}
