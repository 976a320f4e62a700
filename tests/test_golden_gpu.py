"""What is printed for GPUs, to be read: tests/golden/ holds the CUDA C and the shaders of small models.

`test_gpu.py` runs such CUDA C, `test_webgpu.py` such shaders. ``--update-golden`` writes the texts anew.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gpu_text import compiled_for, cuda_text
from test_golden import GOLDEN, MODELS
from test_gpu import graph_of

from dlpack.plan.program import Program
from dlpack.targets.gpu.machine import SM_53, WEBGPU, Gpu
from dlpack.targets.gpu.webgpu import webgpu_program

HEAD = "// Written by pytest tests/test_golden_gpu.py --update-golden\n\n// [KERNELS]\n"


def in_cuda(program: Program) -> str:
    texts = cuda_text(program).kernels
    return "\n\n".join(f"// {k.title}\n// {k.schedule}\n{texts[k.name]}" for k in program.kernels) + "\n"


def in_wgsl(program: Program) -> str:
    return webgpu_program(program).shaders


LANGUAGES: dict[str, tuple[Gpu, Callable[[Program], str]]] = {"cuda": (SM_53, in_cuda), "wgsl": (WEBGPU, in_wgsl)}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MODELS)
def test_kernels_for_gpus_read_as_before(request: pytest.FixtureRequest, name: str, language: str) -> None:
    gpu, printed = LANGUAGES[language]
    text = HEAD + printed(compiled_for(graph_of(MODELS[name]()), gpu))
    golden = GOLDEN / f"{name}-{language}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text
