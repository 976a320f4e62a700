"""What `native` takes a processor for: by /proc and /sys, by sysctl, and where they are wrong or missing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import DIGITS

from dlpack.many import contents
from dlpack.many.jobs import Bundle
from dlpack.pipeline import Options, build
from dlpack.targets import all_targets
from dlpack.targets.cpu.cores import core_of
from dlpack.targets.cpu.machine import APPLE, AVX2, AVX512, AVX512VNNI, CORTEX_A76, NEON, NEON32, SCALAR, SSE4, Machine
from dlpack.targets.toolchains import host
from dlpack.targets.toolchains.host import described
from dlpack.targets.toolchains.processor import Caches, Processor, read_identifier, read_linux, read_sysctl

V3 = "sse4_1 avx avx2 fma"
V4 = f"{V3} avx512f avx512dq avx512bw avx512cd avx512vl"
K, M = 1 << 10, 1 << 20


def computer(root: Path, cpuinfo: str, *cpus: tuple[str, ...]) -> Processor:
    """A made-up one below `root`: of each CPU the sizes of its caches, from the first level on, as sysfs has them."""
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(cpuinfo)
    for number, sizes in enumerate(cpus):
        cache = root / f"sys/devices/system/cpu/cpu{number}/cache"
        rows = [("1", "Data", sizes[0]), ("1", "Instruction", "96K")] if sizes else []
        rows += [(str(level + 2), "Unified", size) for level, size in enumerate(sizes[1:])]
        for k, row in enumerate(rows):
            (cache / f"index{k}").mkdir(parents=True)
            for name, text in zip(("level", "type", "size"), row, strict=True):
                (cache / f"index{k}" / name).write_text(f"{text}\n")
    return read_linux(root)


def x86(vendor: str, family: int, model: int, flags: str, stepping: int = 1, name: str = "A processor") -> str:
    one = (
        f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n"
        f"stepping\t: {stepping}\nflags\t\t: fpu {flags}\n\n"
    )
    return "processor\t: 0\n" + one + "processor\t: 1\n" + one


def figures(m: Machine) -> tuple[int, ...]:
    return m.lanes, m.fma_ports, m.add_ports, m.load_ports, m.fma_latency


# --- machines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpuinfo", "caches", "about", "expected"),
    [
        (x86("AuthenticAMD", 25, 17, f"{V4} avx512_vnni"), ("32K", "1024K", "32768K"),
         "AMD Zen 4, L1 32K, L2 1M, L3 32M", (16, 1, 1, 1, 4)),
        (x86("AuthenticAMD", 26, 2, f"{V4} avx512_vnni"), ("48K", "1024K", "32768K"),
         "AMD Zen 5, L1 48K, L2 1M, L3 32M", (16, 2, 2, 2, 4)),
        (x86("AuthenticAMD", 26, 0x24, f"{V4} avx512_vnni"), ("48K", "1024K", "16384K"),
         "AMD Zen 5, L1 48K, L2 1M, L3 16M", (16, 1, 1, 1, 4)),
        (x86("AuthenticAMD", 25, 0x21, V3), ("32K", "512K", "98304K"),
         "AMD Zen 3, L1 32K, L2 512K, L3 96M", (8, 2, 2, 2, 4)),
        (x86("AuthenticAMD", 23, 0x71, V3), ("32K", "512K", "16384K"),
         "AMD Zen 2, L1 32K, L2 512K, L3 16M", (8, 2, 2, 2, 5)),
        (x86("AuthenticAMD", 23, 1, V3), ("32K", "512K", "8192K"),
         "AMD Zen, L1 32K, L2 512K, L3 8M", (8, 1, 1, 1, 5)),
        (x86("GenuineIntel", 6, 0x8F, f"{V4} avx512_vnni"), ("48K", "2048K", "107520K"),
         "Intel Sapphire Rapids, L1 48K, L2 2M, L3 105M", (16, 2, 2, 2, 4)),
        (x86("GenuineIntel", 6, 0x6A, f"{V4} avx512_vnni"), ("48K", "1280K", "55296K"),
         "Intel Ice Lake, L1 48K, L2 1.25M, L3 54M", (16, 2, 2, 2, 4)),
        (x86("GenuineIntel", 6, 0x55, V4, 4, "Intel(R) Xeon(R) Platinum 8180 CPU"), ("32K", "1024K", "39424K"),
         "Intel Skylake, L1 32K, L2 1M, L3 38.5M", (16, 2, 2, 2, 4)),
        (x86("GenuineIntel", 6, 0x55, V4, 4, "Intel(R) Xeon(R) Silver 4114 CPU"), ("32K", "1024K", "14080K"),
         "Intel Skylake, L1 32K, L2 1M, L3 13.75M", (16, 1, 1, 2, 4)),
        (x86("GenuineIntel", 6, 0x55, V4, 7, "Intel(R) Xeon(R) Gold 5222 CPU"), ("32K", "1024K", "16896K"),
         "Intel Cascade Lake, L1 32K, L2 1M, L3 16.5M", (16, 2, 2, 2, 4)),
        (x86("GenuineIntel", 6, 0x3C, V3), ("32K", "256K", "8192K"),
         "Intel Haswell, L1 32K, L2 256K, L3 8M", (8, 2, 1, 2, 5)),
        (x86("GenuineIntel", 6, 0x5C, "sse4_1"), ("24K", "1024K"),
         "Intel family 6 model 92, L1 24K, L2 1M, L3 1M", figures(SSE4)),
    ],
    ids=lambda x: x.partition(",")[0] if isinstance(x, str) and x.startswith(("AMD", "Intel")) else "",
)  # fmt: skip
def test_a_processor_is_known_by_its_numbers(
    cpuinfo: str, caches: tuple[str, ...], about: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    machine = described(computer(tmp_path, cpuinfo, caches, caches), "x86_64")
    assert machine.about == about
    assert figures(machine) == expected


def test_of_cores_of_several_kinds_the_larger_count(tmp_path: Path) -> None:
    small, large = ("32K", "2048K", "30720K"), ("48K", "1280K", "30720K")
    cpuinfo = x86("GenuineIntel", 6, 0x97, f"{V3} avx_vnni")
    machine = described(computer(tmp_path, cpuinfo, large, large, small, small), "x86_64")
    assert (machine.name, machine.about) == ("avxvnni", "Intel Alder Lake, L1 48K, L2 1.25M, L3 30M")
    assert figures(machine) == (8, 2, 2, 3, 4)


PHONE = "".join(
    f"processor\t: {k}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
    for k, part in enumerate(["0xd05", "0xd05", "0xd0b"])
)


def test_arm_cores(tmp_path: Path) -> None:
    phone = computer(tmp_path, PHONE, ("32K", "128K"), ("32K", "128K"), ("64K", "512K", "2048K"))
    machine = described(phone, "aarch64")
    assert machine == replace(
        CORTEX_A76, dot="sdot", l3=2 * M, about="Arm Cortex-A76, L1 64K, L2 512K, L3 2M"
    )  # fmt: skip
    assert described(replace(phone, implementer="0x51"), "aarch64").about.startswith("64-bit Arm, L1 64K")
    assert described(Processor(), "aarch64") == replace(NEON, about="64-bit Arm, L1 32K, L2 256K, L3 4M")
    assert described(Processor(), "armv7l") == NEON32 and described(Processor(), "riscv64") == SCALAR


def test_macs() -> None:
    told = {"machdep.cpu.brand_string": "Apple M2", "hw.l1dcachesize": "65536", "hw.l2cachesize": "4194304",
            "hw.perflevel0.l1dcachesize": "131072", "hw.perflevel0.l2cachesize": "16777216"}  # fmt: skip
    machine = described(read_sysctl(told), "arm64")
    assert machine == replace(APPLE, l2=16 * M, about="Apple M2, L1 128K, L2 16M, L3 16M")
    assert described(read_sysctl({}), "arm64") == replace(APPLE, about="Apple, L1 128K, L2 12M, L3 16M")
    cpu = {"vendor": "GenuineIntel", "family": "6", "model": "158", "stepping": "10",
           "features": "SSE4.1 FMA AVX1.0", "leaf7_features": "AVX2 BMI1"}  # fmt: skip
    told = {f"machdep.cpu.{key}": text for key, text in cpu.items()}
    told |= {"hw.l1dcachesize": "32768", "hw.l2cachesize": "262144", "hw.l3cachesize": "12582912"}
    intel = described(read_sysctl(told), "x86_64")
    assert (intel.name, intel.about) == ("avx2", "Intel Kaby Lake, L1 32K, L2 256K, L3 12M")
    assert described(read_sysctl({}), "x86_64").name == "avx2"


def test_windows_tells_the_numbers_alone() -> None:
    told = read_identifier("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD")
    assert (told.vendor, told.family, told.model, told.stepping) == ("AuthenticAMD", 25, 97, 2)
    assert read_identifier("") == read_identifier("ARMv8 (64-bit)") == Processor()


# --- what is wrong or missing -----------------------------------------------------------------------------------------


def test_a_virtual_machine_is_not_believed_what_its_core_has_not(tmp_path: Path) -> None:
    """QEMU reports 4 MiB of level 2 and 16 of level 3, by default, whatever core it shows."""
    cpuinfo = x86("GenuineIntel", 6, 0x55, f"{V4} hypervisor")
    machine = described(computer(tmp_path / "a", cpuinfo, ("64K", "4096K", "16384K")), "x86_64")
    assert machine.about == "Intel Skylake, L1 32K, L2 1M, L3 16M"
    cpuinfo = x86("AuthenticAMD", 25, 17, f"{V4} hypervisor")
    shared = described(computer(tmp_path / "b", cpuinfo, ("32K", "1024K", "262144K")), "x86_64")
    assert shared.about == "AMD Zen 4, L1 32K, L2 1M, L3 32M"  # of a whole socket, which others use too
    without = described(computer(tmp_path / "c", cpuinfo, ("32K", "1024K")), "x86_64")
    assert without.about == "AMD Zen 4, L1 32K, L2 1M, L3 16M"


def test_a_hidden_processor_gets_the_description_of_its_vectors(tmp_path: Path) -> None:
    hidden = x86("AuthenticAMD", 15, 107, f"{V4} hypervisor", name="QEMU Virtual CPU version 2.5+")
    machine = described(computer(tmp_path / "a", hidden, ("64K", "512K", "16384K")), "x86_64")
    assert machine == replace(AVX512, about="AMD family 15 model 107, L1 48K, L2 1M, L3 16M")
    # Vectors that the core it claims to be has not: it is another.
    other = x86("AuthenticAMD", 25, 1, f"{V4} avx512_vnni hypervisor")
    machine = described(computer(tmp_path / "b", other, ("32K", "512K", "32768K")), "x86_64")
    assert machine == replace(AVX512VNNI, l3=32 * M, about="AMD family 25 model 1, L1 48K, L2 1M, L3 32M")
    # Of a core with AVX-512, one that may not use it.
    less = described(computer(tmp_path / "c", x86("AuthenticAMD", 25, 17, V3)), "x86_64")
    assert figures(less) == (8, 2, 2, 2, 4) and less.about == "AMD Zen 4, L1 32K, L2 1M, L3 16M"


@pytest.mark.parametrize(
    "caches",
    [(), ("",), ("0K", "0K", "0K"), ("32", "x", "-1K"), ("4194304K", "32K", "1K"), ("999999999999G", "\xff", "1T")],
    ids=["none", "empty", "zero", "no numbers", "upside down", "absurd"],
)
def test_caches_that_cannot_be_are_those_of_the_description(caches: tuple[str, ...], tmp_path: Path) -> None:
    for number, cpuinfo in enumerate((x86("GenuineIntel", 6, 200, V3), x86("AuthenticAMD", 25, 17, V4))):
        machine = described(computer(tmp_path / str(number), cpuinfo, caches), "x86_64")
        usual = (AVX2.l1, AVX2.l2, AVX2.l3) if number == 0 else (32 * K, 1 * M, 16 * M)
        assert (machine.l1, machine.l2, machine.l3) == usual


def test_a_damaged_cpuinfo_is_no_error(tmp_path: Path) -> None:
    broken = (
        "vendor_id\t: Genuine*/Intel\ncpu family\t: six\nmodel\t: \nflags\nmodel name\t: \x00\nstepping : 99999999999\n"
    )
    machine = described(computer(tmp_path / "a", broken), "x86_64")
    assert machine == replace(SCALAR, about="GenuineIntel of an unknown kind, L1 32K, L2 256K, L3 4M")
    (tmp_path / "b/proc").mkdir(parents=True)
    (tmp_path / "b/proc/cpuinfo").write_bytes(b"\xff\xfe\x00vendor_id : \xc3\n")
    assert described(read_linux(tmp_path / "b"), "x86_64").lanes == 1
    assert (
        described(read_linux(tmp_path / "none"), "x86_64").about == "x86-64 of an unknown kind, L1 32K, L2 256K, L3 4M"
    )


def test_no_processor_has_two_cores() -> None:
    assert core_of("AuthenticAMD", 25, 17, 1) is core_of("AuthenticAMD", 25, 0x61, 0)
    assert core_of("AuthenticAMD", 27, 1, 0) is None and core_of("GenuineIntel", 15, 0x55, 0) is None
    assert str(Caches(48 * K, 1280 * K, 105 * M)) == "L1 48K, L2 1.25M, L3 105M" and str(Caches()) == ""


# --- builds -----------------------------------------------------------------------------------------------------------


ZEN_4 = Processor("AuthenticAMD", 25, 17, caches=Caches(32 * K, 1 * M, 32 * M))


def taken_for(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has this computer be described as another: with its own vectors, so that its kernels run here."""
    own = host.this_processor()
    made_up = replace(processor, features=own.features, implementer=own.implementer, parts=own.parts)
    monkeypatch.setattr(host, "this_processor", lambda: made_up)
    contents.host_key.cache_clear()


def files(bundle: Path) -> dict[str, str]:
    found = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in bundle.rglob("*") if p.is_file()}
    return {p.relative_to(bundle).as_posix(): digest for p, digest in found.items()}


def test_a_build_says_which_processor_it_is_for_and_is_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_for(ZEN_4, monkeypatch)
    told = host.host_machine().about
    one, two = (build(DIGITS, tmp_path / name, Options("native", verify=False)) for name in ("one", "two"))
    assert files(one) == files(two)
    assert json.loads((one / "manifest.json").read_text())["processor"] == told
    for text in ("digits.cc", "report.html"):
        assert told in (one / text).read_text(), text


def test_other_targets_do_not_depend_on_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(name: str) -> list[object]:
        return [b.machine() for b in all_targets()[name].builds]

    others = [name for name in all_targets() if name != "native"]
    before = {name: of(name) for name in others}
    taken_for(replace(ZEN_4, caches=Caches(64 * K, 4 * M, 8 * M)), monkeypatch)
    assert {name: of(name) for name in others} == before
    chosen = all_targets()["source"].chosen({})  # its default is the kind of this computer, not what it has
    assert [b.machine().about for b in chosen if isinstance(b.machine(), Machine)] == [""]


def test_a_bundle_is_built_again_where_the_processor_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> list[str]:
        wanted = [
            Bundle("digits", "", DIGITS, tmp_path / target, Options(target)) for target in ("native", "x86-64-v3")
        ]
        return [contents.key_of(bundle, tmp_path) for bundle in wanted]

    taken_for(ZEN_4, monkeypatch)
    native, fixed = keys()
    assert keys() == [native, fixed]
    taken_for(replace(ZEN_4, caches=Caches(32 * K, 1 * M, 16 * M)), monkeypatch)
    assert keys()[0] != native and keys()[1] == fixed
    contents.host_key.cache_clear()
