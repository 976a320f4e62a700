"""android: an AAR with libraries that need no other, a Java API that Kotlin uses, and the C API for C++ (prefab)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlpack.errors import UsageError
from dlpack.targets.android.java import missing_jdk
from dlpack.targets.android.package import PLACES, WEIGHTS, package
from dlpack.targets.arithmetic import HALVES, as_asked
from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import AVX2, NEON, NEON32, NEON_DOTPROD, NEON_FP16, NEON_I8MM, SSE4
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import runs_avx2, runs_sse4
from dlpack.targets.toolchains.processors import ARM64_MAX, CORTEX_A9, CORTEX_A57, CORTEX_A76, host_processor

BUILDS = (
    Build(lambda: NEON_I8MM, for_dots=True, emulators=(ARM64_MAX,)),
    Build(lambda: NEON_DOTPROD, for_dots=True, emulators=(CORTEX_A76,)),
    Build(lambda: NEON_FP16, halves=True, emulators=(ARM64_MAX,)),
    Build(lambda: NEON, emulators=(CORTEX_A57,)),
    Build(lambda: NEON32, emulators=(CORTEX_A9,)),
    Build(lambda: AVX2, emulators=(host_processor("x86-64-v2", runs_avx2),)),
    Build(lambda: SSE4, emulators=(host_processor("x86-64-v2", runs_sse4),)),
)
"""One NAME.cc with kernels for all of them: each library has those for its own processors. The ABI x86_64 promises
SSE4.2 and no more, and Chromebooks with Celerons have no more, while emulators run on processors with AVX2. For integer
networks there are dot products and products of matrices too, and on request arithmetic in float16, which 64-bit phones
may have."""


def _select(values: Mapping[str, Any]) -> tuple[Build, ...]:
    if (place := values.get(WEIGHTS)) not in (None, *PLACES):
        raise UsageError(f"--{WEIGHTS} {place}: the weights can be in the {' or the '.join(PLACES)}")
    return as_asked(BUILDS, values, HALVES)


TARGET = Target(
    name="android",
    about="Android 5.0 and later, an AAR for three ABIs",
    builds=BUILDS,
    select=_select,
    missing=lambda: missing_compiler() or missing_jdk(),
    separates_weights=True,
    package=package,
    options=(
        TargetOption(
            WEIGHTS,
            "Where the weights are: in the library of each ABI, or once, as an asset [default: library].",
            metavar="|".join(PLACES),
        ),
        ARITHMETIC,
    ),
)
