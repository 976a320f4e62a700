"""Linux on RISC-V, libraries for musl, and the DLL for Windows: what they need, and that they compute."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import DIGITS, optional_tool, requires_tool
from processes import run
from test_arm import layers

from dlpack.errors import UsageError
from dlpack.pipeline import Options, build


def manifest_of(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def test_riscv_has_kernels_with_vectors_and_without(tmp_path: Path) -> None:
    """QEMU runs the kernels for vectors on a processor that has them, and the others on one that has not."""
    requires_tool("qemu-riscv64")
    onnx.save(layers(), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", Options("linux-riscv64", name="net"))
    manifest = manifest_of(bundle)
    assert manifest["variants"] == ["rvv", "rv64"]
    assert manifest["verified_on"] == ["rvv on QEMU's RV64 with vectors", "rv64 on QEMU's RV64"]
    assert all(e["passed"] for e in manifest["verification"])
    zig = [sys.executable, "-m", "ziglang", "cc", "-x", "c++", "-target", "riscv64-linux-musl", "-O2", "-std=c++17"]
    run([*zig, "-g0", "-S", bundle / "net.cc", "-o", tmp_path / "net.s"], check=True)
    assert len(re.findall(r"\bvfmacc\.v", (tmp_path / "net.s").read_text())) > 50


@pytest.mark.parametrize("target", ["linux-armhf", "linux-arm64", "linux-riscv64"])
def test_a_library_for_musl_needs_nothing_of_glibc(target: str, tmp_path: Path) -> None:
    options = Options(target, verify=False, target_options={"libc": "musl"})
    library = (build(DIGITS, tmp_path / "digits", options) / "libdigits.so").read_bytes()
    assert b"libc.so\0" in library and b"GLIBC" not in library and b"libc.so.6" not in library
    with pytest.raises(UsageError, match="--libc uclibc"):
        build(DIGITS, tmp_path / "other", Options(target, verify=False, target_options={"libc": "uclibc"}))


def test_the_dll_is_loaded_under_wine(tmp_path: Path) -> None:
    """LoadLibrary and GetProcAddress, as any program for Windows does."""
    wine = optional_tool("wine", "it takes 700 MB, and as much again for a user's Windows")
    bundle = build(DIGITS, tmp_path / "digits", Options("windows", verify=False))
    with np.load(bundle / "reference.npz") as stored:
        stored["in_0"].tofile(tmp_path / "in")
        wanted = stored["out_0"]
    (tmp_path / "main.c").write_text(
        """
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>
#include "digits.h"
#define GET(f) __typeof__(&f) f##_ = (__typeof__(&f))GetProcAddress(dll, #f)
int main() {
  HMODULE dll = LoadLibraryA("digits.dll");
  if (!dll) return 1;
  GET(digits_memory_size); GET(digits_create); GET(digits_set_input); GET(digits_run); GET(digits_get_output);
  static float x[64], y[10];
  FILE* file = fopen("in", "rb");
  if (!file || fread(x, sizeof x, 1, file) != 1) return 2;
  digits_predictor* p = NULL;
  const size_t bytes = digits_memory_size_();
  if (digits_create_(&p, malloc(bytes + 64), bytes, NULL, 0)) return 3;
  if (digits_set_input_(p, 0, x, sizeof x) || digits_run_(p) || digits_get_output_(p, 0, y, sizeof y)) return 4;
  for (int i = 0; i < 10; ++i) printf("%.9g\\n", y[i]);
  return FreeLibrary(dll) ? 0 : 5;
}
"""
    )
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", f"-I{bundle}"]
    run([*zig, "main.c", "-o", "main.exe"], cwd=tmp_path, check=True)
    (tmp_path / "digits.dll").write_bytes((bundle / "digits.dll").read_bytes())
    done = run([wine, "main.exe"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], wanted.ravel(), atol=1e-6)
