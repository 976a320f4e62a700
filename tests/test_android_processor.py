"""Target android: what its library does about the processor itself, without a C library."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT, requires_tool
from processes import run
from test_android import BARE, HERE, QEMU

from dlpack.targets.toolchains.compiler import FLAGS, program_command


def test_integers_are_divided_where_the_processor_cannot(tmp_path: Path) -> None:
    command, zig_target, flags = QEMU["armeabi-v7a"]
    requires_tool(command[0])
    program = tmp_path / "divide"
    run(program_command([HERE / "divide.cc"], program, zig_target, [*FLAGS, *flags, *BARE]), check=True)
    run([*command, program], check=True)


@pytest.mark.parametrize(
    "cpu, asked, has",
    [
        ("cortex-a57", "", 0),
        ("cortex-a76", "", 5),
        ("max", "", 7),
        ("max", "Features\t: fp asimd asimddpx\nFeatures\t: asimddp\n", 0),
        ("cortex-a57", "processor\t: 0\nFeatures\t: fp asimddp\nFeatures\t: i8mm\n", 1),
        ("cortex-a57", "Features\t: i8mm fp asimddp asimdhp", 7),
    ],
)
def test_a_library_asks_what_the_processor_has(cpu: str, asked: str, has: int, tmp_path: Path) -> None:
    """Of Linux's lists, and where an app may not read these of /proc/cpuinfo."""
    command, zig_target, flags = QEMU["arm64-v8a"]
    requires_tool(command[0])
    (tmp_path / "cpuinfo").write_text(asked)
    places = [f'-DLISTS="{tmp_path}/none"', f'-DABOUT="{tmp_path}/cpuinfo"'] if asked else []
    support = f"-I{ROOT / 'targets' / 'android'}"
    program = program_command(
        [HERE / "processor.cc"], tmp_path / "processor", zig_target, [*FLAGS, *flags, *BARE, *places, support]
    )
    run(program, check=True)
    assert run([command[0], "-cpu", cpu, tmp_path / "processor"]).returncode == has
