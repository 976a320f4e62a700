"""A classifier of photographs in Chromium with WebGPU (SwiftShader): WebAssembly's classes, and little to fetch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_webgpu import in_page, options
from wasm_bundles import manifest_of

from dlpack.pipeline import build


@pytest.fixture(scope="module")
def squeezenet(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = tuple((models_dir / "labels" / "synset.txt").read_text(encoding="utf-8").split("\n")[:1000])
    chosen = replace(options(), name="squeezenet", labels=labels, preprocess="imagenet")
    model = models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx"
    return build(model, tmp_path_factory.mktemp("classifier") / "squeezenet", chosen)


def test_pictures_have_the_classes_that_webassembly_gives(squeezenet: Path, models_dir: Path) -> None:
    pictures = {"coyote.jpg": "n02114855 coyote", "chelsea.png": "n02124075 Egyptian cat"}
    for name in pictures:
        shutil.copy(models_dir / "images" / name, squeezenet.parent / name)
    script = f"""
        const {{ Classifier }} = await import("./squeezenet/index.js");
        const seen = {{ webgpu: [], wasm: [] }};
        for (const backend of ["webgpu", "wasm"]) {{
          const c = await Classifier.load("./squeezenet/", {{ backend }});
          for (const name of {json.dumps([*pictures])}) {{
            const image = await createImageBitmap(await (await fetch(name)).blob());
            seen[backend].push([c.predictor.backend, await c.classify(image)]);
          }}
          c.dispose();
        }}
        return seen;
    """
    seen = in_page(squeezenet.parent, script)
    rows = zip(pictures.values(), seen["webgpu"], seen["wasm"], strict=True)
    for label, (backend, found), (_, wanted) in rows:
        assert backend == "webgpu" and found[0]["label"].startswith(label)
        assert [c["label"] for c in found] == [c["label"] for c in wanted]
        assert [c["probability"] for c in found] == pytest.approx([c["probability"] for c in wanted], abs=1e-5)


def test_what_is_downloaded_for_webgpu_is_small(squeezenet: Path) -> None:
    """Shaders, their plan and the runner."""
    files = manifest_of(squeezenet)["webgpu"]
    sizes = [files["shaders"]["bytes"], files["plan"]["bytes"], (squeezenet / "webgpu.js").stat().st_size]
    assert sum(sizes) <= 120_000 and sizes[2] <= 18_500
