"""The one C++ file: a program and the runtime's text go in, the file's text comes out. Pure: no files, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dlpack.amalgamate import decoder, sound, text_writer, transcriber
from dlpack.amalgamate.classifier import NOTHING, Classifier, api_text, definitions
from dlpack.amalgamate.cpp import CppPrinter
from dlpack.amalgamate.machines import SHARE_TRIPS, Code, region, table
from dlpack.amalgamate.mxnet import MxnetApi, mxnet_text
from dlpack.amalgamate.printer import Printer
from dlpack.amalgamate.runtime import Section, closure, sections
from dlpack.amalgamate.selftest import SelfTest, selftest
from dlpack.amalgamate.steps import StepPrinter
from dlpack.amalgamate.tables import memory, memory_map, weights
from dlpack.amalgamate.text import banner, signature, wrap
from dlpack.amalgamate.tokenizer import definitions as tokenizer_text
from dlpack.amalgamate.tokenizer import needs as tokenizer_needs
from dlpack.amalgamate.written import own_runtime, written
from dlpack.graph.ir import BITS, HALVES
from dlpack.plan.program import NamedKernel

_RUNTIME_PARTS = (
    "vectors.h", "maths.h", "values.h", "half.h", "small_floats.h", "winograd.h", "classifier.h", "cpu.h", "sha256.h",
    "fingerprint.h", "files.h", "inflate.h", "cuda_driver.h",
)  # fmt: skip


_HOSTED_CUDA = """\
#if !defined(@NAME@_FREESTANDING) && !defined(@NAME@_NO_CUDA) && (defined(__linux__) || defined(_WIN32))
#define @NAME@_CUDA
#endif"""


@dataclass(frozen=True)
class Provenance:
    """What the file was made from: no dates and no paths, so that the same input gives the same bytes."""

    tool: str
    model_sha256: str
    opset: str
    target: str
    options: str
    licence: str
    flags: str = "-std=c++17 -O2"
    """What to compile the file with, in the spelling that both GCC and Clang know."""


def emit_header(codes: Sequence[Code], runtime: Mapping[str, str], classifier: Classifier = NOTHING) -> str:
    """NAME.h: the API block of NAME.cc."""
    codes = with_equal_threads(codes)
    program = codes[0].program
    text = api_text(runtime, program, classifier)
    return written(text, program, machines=len(codes) > 1, conditions=conditions_of(codes))


def conditions_of(codes: Sequence[Code]) -> frozenset[str]:
    """Those that hold for the runtime's text because of one of the machines."""
    arm = any(i.startswith("arch=armv") for code in codes for i in code.instructions)
    return frozenset(c for code in codes for c in code.conditions) | ({"arm_variants"} if arm else set())


def with_equal_threads(codes: Sequence[Code]) -> list[Code]:
    """The runtime has threads where one of the machines' kernels share work among them."""
    threads = max(code.program.threads for code in codes)
    return [replace(code, program=replace(code.program, threads=threads)) for code in codes]


def emit_source(
    codes: Sequence[Code],
    runtime: Mapping[str, str],
    provenance: Provenance,
    embed: bool,
    test: Sequence[SelfTest],
    classifier: Classifier = NOTHING,
    mxnet_api: MxnetApi | None = None,
) -> str:
    """NAME.cc: the whole predictor, with code for each machine, the best first, and a self-test for each set of shapes
    or none.

    `embed`: the weights are in it. `mxnet_api`: what MXNet's C API in it is for.
    """
    return Document(codes, runtime, provenance, embed, test, classifier, mxnet_api).text()


def all_sections(runtime: Mapping[str, str]) -> list[Section]:
    """The sections of runtime_c that a file may need, in the order in which they stand in it."""
    return list(sections([runtime[n] for n in _RUNTIME_PARTS]).values())


OF_STEPS = (
    "fill_halo", "fill_behind", "fill_border", "move_rows", "move_pixels", "write_taps", "spread", "gather",
    "copy_bytes", "winograd_weights", "winograd_3x3", "winograd_5x5", "winograd_pairs", "summed_weights", "repack",
    "widen", "from_float16", "from_bfloat16", "from_f16", "to_f16", "nibble_place", "dequantize",
)  # fmt: skip
"""Sections that are called as functions by the steps, each of which has the name of its section."""


def used_sections(runtime: Mapping[str, str], printer: Printer, run: str, others: Iterable[str] = ()) -> list[Section]:
    """The sections of runtime_c that printed kernels and the text of `run` use, `others`, and all that these need."""
    everything = {s.name: s for s in all_sections(runtime)}
    wanted = {"vectors", *others} | printer.needs() | printer.overloads() & everything.keys()
    wanted |= {name for name in OF_STEPS if f"{name}(" in run or f"{name}<" in run}
    return closure(everything, wanted)


class PrintedCode:
    """The kernels and steps for one machine as text; `printer` has gathered what they need of the runtime."""

    def __init__(self, code: Code, embed: bool, machines: bool = False) -> None:
        self.code, self.printer = code, code.printer()
        self.kernels = [self._kernel(k) for k in code.program.kernels]
        self.steps = StepPrinter(code.program, embed, machines, code.launch, code.addresses)
        self.run = self.steps.run()

    def needed(self, runtime: Mapping[str, str]) -> list[Section]:
        """The sections of runtime_c that kernels and steps use; of a device's, what the processor prepares for it."""
        if not self.code.device:
            return used_sections(runtime, self.printer, self.run)
        prepared = "\n".join(self.steps.prepare()) if self.code.program.prepare else ""
        return used_sections(runtime, CppPrinter(), prepared) if prepared else []

    def text(self) -> list[str]:
        about = f"{len(self.kernels)} kernels, named after their first place and their operators"
        own = [part for name, subject, text in self.code.sections for part in (banner(name, subject), text)]
        return [
            *own,
            banner("KERNELS", about),
            *([f"#if {self.code.device}", self.code.preamble] if self.code.device else []),
            *self.kernels,
            *([f"#endif  // {self.code.device}"] if self.code.device else []),
            banner("RUN", "the kernels in order, with the address of each operand"),
            self.run,
        ]

    def _kernel(self, k: NamedKernel) -> str:
        lines = [f"// {k.title}"]
        lines.append(f"// {k.schedule}" + (f"; {k.macs:,} multiply-adds" if k.macs else ""))
        lines += [f"// ONNX: {line}" for line in wrap(k.sources)]
        return "\n".join([*lines, self.printer.kernel(k.kernel, k.name, k.restrict)])


class Document:
    """NAME.cc in the making. The programs of all machines have the same inputs, outputs and weights."""

    def __init__(
        self,
        codes: Sequence[Code],
        runtime: Mapping[str, str],
        provenance: Provenance,
        embed: bool,
        test: Sequence[SelfTest],
        classifier: Classifier = NOTHING,
        mxnet_api: MxnetApi | None = None,
    ) -> None:
        codes = with_equal_threads(codes)
        self.codes, self.runtime, self.provenance = codes, own_runtime(runtime), provenance
        self.program, self.cuda = codes[0].program, "cuda" in conditions_of(codes)
        self.embed, self.test, self.classifier, self.mxnet_api = embed, test, classifier, mxnet_api
        self.side_file = bool(self.program.weights) and not embed
        self.machines = len(codes) > 1
        self.printed = [PrintedCode(code, embed, self.machines) for code in codes]

    def text(self) -> str:
        p = self.program
        parts = [
            self.opening(),
            banner("API", "what a program calls; the same block is @name@.h"),
            api_text(self.runtime, p, self.classifier).strip(),
            banner("CONFIGURATION", "macros to set when compiling this file"),
            self.configuration(),
            *self.thread_text("thread_host"),
            *self.runtime_text(),
            banner("WEIGHTS", f"{len(p.weights)} bytes, packed for the kernels below"),
            *weights(p, None if self.machines else self.printed[0].steps.places, self.embed),
            banner("MEMORY", "the arena: every intermediate has a fixed place"),
            *memory([code.program for code in self.codes]),
            *([] if self.machines else memory_map(p, self.printed[0].steps.places)),
            *self.cuda_text("cuda_table"),
            *self.machine_text("machine_table"),
            self.runtime["predictor.h"].strip(),
            *self.thread_text("thread_pool"),
            *(self.regions() if self.machines else self.printed[0].text()),
            *self.thread_text("thread_work"),
            "}}  // namespace @name@_impl",
            banner("ENTRY POINTS", "the functions declared above"),
            self.runtime["predictor_api.h"].strip(),
            *self.classifier_text(),
            *self.decoder_text(),
            *self.sound_text(),
            *self.tokenizer_text(),
        ]
        if self.mxnet_api:
            parts += mxnet_text(self.runtime, self.codes, self.mxnet_api)
        if self.test:
            parts += [
                banner("SELF-TEST", "compile with -D@NAME@_SELFTEST to get a program"),
                selftest(self.runtime, p, self.test),
            ]
        parts.append("#pragma GCC diagnostic pop")
        conditions = set(conditions_of(self.codes))
        if self.mxnet_api is not None:
            conditions.add("no_mxnet_model" if self.mxnet_api.params is None else "mxnet_model")
        text = "\n\n".join(x for x in parts if x)
        return written(text, p, self.side_file, self.machines, frozenset(conditions)) + "\n"

    def regions(self) -> list[str]:
        """The code of each machine, and how one of them is chosen."""
        everything = {s.name: s for s in all_sections(self.runtime)}
        processor = everything["cpu"].text
        out = [SHARE_TRIPS] if self.program.threads > 1 else []
        out += [banner("CUDA", "NVIDIA's GPUs: addresses and launches")] if self.cuda else []
        out += self.cuda_text("cuda_device")
        for printed in self.printed:
            needed = printed.needed(self.runtime)
            runtime = [s.text for s in needed if s.scope != "file"]
            places = printed.steps.places
            maps = [
                banner("WEIGHTS", "their offsets"),
                *places.stored_table("weights"),
                banner("MEMORY", "the arena: every intermediate has a fixed place"),
                *memory_map(printed.code.program, places),
            ]
            out.append(region(printed.code, [*runtime, *maps, *printed.text()], processor))
        return [*out, table(self.codes), *self.machine_text("machine_choice"), *self.cuda_text("cuda_runs")]

    def cuda_text(self, section: str) -> list[str]:
        """A section of cuda.h, where there are kernels for NVIDIA's GPUs."""
        return [sections([self.runtime["cuda.h"]])[section].text] if self.cuda else []

    def machine_text(self, section: str) -> list[str]:
        """A section of machines.h, where there are several machines."""
        return [sections([self.runtime["machines.h"]])[section].text] if self.machines else []

    def thread_text(self, section: str) -> list[str]:
        """A section of threads.h, where threads are to share kernels."""
        if self.program.threads == 1:
            return []
        return [sections([self.runtime["threads.h"]])[section].text]

    # --- front matter -------------------------------------------------------------------------------------------

    def opening(self) -> str:
        p, o = self.program, self.provenance
        lines = [
            o.licence,
            "",
            f"@name@: a trained model compiled to one C++ file. {signature(p.shape_sets[0])}",
            *(
                f"{'up to' if p.counted else 'or'} {signature(s)}, {s.macs:,} multiply-adds"
                for s in (p.shape_sets[-1:] if p.counted else p.shape_sets[1:])
            ),
            f"{p.macs:,} multiply-adds per run, {len(p.weights):,} bytes of weights, {p.arena.size:,} bytes of arena"
            + (f", {p.prepared:,} bytes of weights computed at create." if p.prepared else "."),
            "",
            "Compile it with GCC or Clang as C++17 or later. It needs no libraries"
            + ("; at run time it reads @name@.weights." if not self.embed and p.weights else "."),
            f"Flags: {o.flags}",
            "",
            f"Made by {o.tool}",
            f"from an ONNX model with SHA-256 {o.model_sha256}, {o.opset},",
            f"for target {o.target}" + (f" with {o.options}." if o.options else "."),
            "",
            "Contents (search for the words): [API] [CONFIGURATION] [RUNTIME] [WEIGHTS] [MEMORY] [KERNELS] [RUN]",
            "[ENTRY POINTS]"
            + (" [CLASSIFIER]" if self.classifier else "")
            + (" [SOUND]" if self.program.sound else "")
            + (" [TOKENIZER]" if self.program.text else "")
            + (" [DECODER]" if self.program.decoder else "")
            + (" [MXNET API]" if self.mxnet_api else "")
            + (" [SELF-TEST]" if self.test else ""),
        ]
        return "\n".join(("// " + line).rstrip() for line in lines)

    def configuration(self) -> str:
        needs = "give memory and weights" if self.side_file else "give memory"
        macros = {
            "FREESTANDING": f"No libc: {needs} to @name@_create().",
            "BIND_ONLY": "The program binds inputs and outputs. Set it for the header too.",
            "API": "How the functions are exported (default: visible).",
        }
        if self.side_file:
            macros["INCBIN"] = "Embeds the weights: the path of their file, a string."
            macros["NO_FILES"] = "No functions of a system: weights files cannot be mapped."
        if self.classifier:
            macros["NO_CLASSIFIER"] = "Leaves the section [CLASSIFIER] out."
        if self.program.text:
            macros["NO_TOKENIZER"] = "Leaves the section [TOKENIZER] out."
        if self.mxnet_api:
            macros["MXNET_API"] = "Adds MXNet's c_predict_api.h, in one file of a program; see [MXNET API]."
        if self.test:
            macros["SELFTEST"] = "Adds main(), which checks the results against onnxruntime."
        if self.cuda:
            macros["NO_CUDA"] = "Leaves GPUs out: only the CPU's kernels run."
        lines = [f"// @NAME@_{name:<13} {about}" for name, about in macros.items()]
        hosted = "#if !defined(@NAME@_FREESTANDING) && !defined(@NAME@_NO_FILES)\n#define @NAME@_HOSTED_FILES\n#endif"
        return "\n".join([*lines, *([hosted] if self.side_file else []), *([_HOSTED_CUDA] if self.cuda else [])])

    def classifier_text(self) -> list[str]:
        if not self.classifier:
            return []
        what = "from outputs to boxes" if self.classifier.detector else "from scores to named classes"
        about = f"from a picture to the input, {what}; left out by -D@NAME@_NO_CLASSIFIER"
        return [
            banner("CLASSIFIER", about),
            "#if !defined(@NAME@_NO_CLASSIFIER)",
            *definitions(self.runtime, self.program, self.classifier),
            "#endif  // !@NAME@_NO_CLASSIFIER",
        ]

    def tokenizer_text(self) -> list[str]:
        text = tokenizer_text(self.runtime, self.program)
        about = "from text to ids and back; left out by -D@NAME@_NO_TOKENIZER"
        if not text:
            return []
        return [
            banner("TOKENIZER", about),
            "#if !defined(@NAME@_NO_TOKENIZER)",
            *text,
            *([text_writer.definition(self.runtime, self.program)] if text_writer.writes(self.program) else []),
            *transcriber.definitions(self.runtime, self.program),
            "#endif  // !@NAME@_NO_TOKENIZER",
        ]

    def sound_text(self) -> list[str]:
        if self.program.sound is None:
            return []
        return [banner("SOUND", "from samples to the input"), *sound.definitions(self.runtime, self.program)]

    def decoder_text(self) -> list[str]:
        if self.program.decoder is None:
            return []
        about = "reads and writes tokens, with the keys and values of the text so far"
        return [banner("DECODER", about), *decoder.definitions(self.runtime, self.program)]

    def bits_as_numbers(self) -> list[str]:
        """The sections for floats of 16 bits and fewer, if more than kernels read inputs or outputs that are such."""
        if not (self.classifier or self.test):
            return []
        kinds = {t.dtype for t in (*self.program.inputs, *self.program.outputs)}
        halves, others = kinds & HALVES.keys(), kinds & (BITS.keys() - HALVES.keys())
        return ["float16"] * bool(halves) + ["small_floats"] * bool(others)

    def runtime_text(self) -> list[str]:
        everything = {s.name: s for s in all_sections(self.runtime)}
        text = {*decoder.needs(self.program), *tokenizer_needs(self.program), *sound.needs(self.program)}
        others = {"float_mode", *self.classifier.needs, *self.bits_as_numbers(), *text}
        others |= {"inflate", "cuda_driver"} if self.cuda else set()
        others |= {"cpuid"} if self.machines else {"cpu", "cpu_needed"}
        printer = CppPrinter() if self.machines else self.printed[0].printer
        run = "" if self.machines else self.printed[0].run
        parts = used_sections(self.runtime, printer, run + self.runtime["predictor_api.h"], others)
        used = {s.name for s in parts}
        mxnet = self.mxnet_api is not None
        wanted = {"files": self.side_file, "fingerprint": self.side_file or mxnet, "sha256": mxnet}
        hosted = closure(everything, [name for name, needed in wanted.items() if needed])
        hosted = [s for s in hosted if s.name not in used]
        outside = [s for s in [*parts, *hosted] if s.scope == "file"]
        return [
            banner("RUNTIME", "what the kernels are written with; only what they use"),
            "\n\n".join(s.text for s in outside),
            "#pragma GCC diagnostic push",
            "namespace @name@_impl { namespace {",
            "\n\n".join(s.text for s in parts if s.scope != "file"),
            *self.hosted_text([s for s in hosted if s.scope != "file"]),
        ]

    def hosted_text(self, parts: Sequence[Section]) -> list[str]:
        """What maps and checks the weights file, where there is one, or checks what MXNet's API is given."""
        if not parts:
            return []
        text = "\n\n".join(s.text for s in parts)
        start, end = (
            "#if !defined(@NAME@_FREESTANDING)  // mapping and checking the weights file",
            "#endif  // !@NAME@_FREESTANDING",
        )
        if not self.side_file:
            start, end = "#if defined(@NAME@_MXNET_API)  // checking the model's files", "#endif  // @NAME@_MXNET_API"
        return [f"{start}\n\n{text}\n\n{end}"]
