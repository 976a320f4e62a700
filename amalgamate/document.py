"""The one C++ file: a program and the runtime's text go in, the file's text comes out. Pure: no files, no clock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from dlpack.amalgamate.classifier import NOTHING, Classifier, api_text, definitions, quoted
from dlpack.amalgamate.cpp import CPP_TYPE, CppPrinter, literal
from dlpack.amalgamate.runtime import Section, closure, sections
from dlpack.plan.program import (
    CallStep,
    CopyStep,
    HaloStep,
    LoopStep,
    NamedKernel,
    Program,
    Ref,
    Step,
    Tensor,
    Variant,
    WinogradStep,
)

_RUNTIME_PARTS = ("vectors.h", "maths.h", "values.h", "winograd.h", "classifier.h", "sha256.h", "files.h", "cpu.h")

_ALIGNED_EMBED_LIMIT = 1 << 20
"""Up to here embedded weights are an aligned array; beyond it a pointer to a literal, which compilers take in a
fraction of the memory (clang 19: 16 bytes per byte of weights instead of 88)."""


@dataclass(frozen=True)
class Sample:
    """What the self-test knows of one output: expected values at some places, and the tolerance."""

    places: tuple[int, ...]
    values: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True)
class SelfTest:
    """Input ranges (see runtime_c/selftest.h) and the outputs' samples, for one set of shapes."""

    ranges: tuple[tuple[float, float], ...]
    samples: tuple[Sample, ...]


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


def emit_header(program: Program, runtime: Mapping[str, str], classifier: Classifier = NOTHING) -> str:
    """NAME.h: the API block of NAME.cc."""
    return _written(api_text(runtime, program, classifier), program)


def emit_source(
    program: Program,
    runtime: Mapping[str, str],
    provenance: Provenance,
    embed: bool,
    test: Sequence[SelfTest],
    fma_call: bool = False,
    classifier: Classifier = NOTHING,
) -> str:
    """NAME.cc: the whole predictor, with a self-test for each variant or none; `fma_call` as in `CppPrinter`."""
    return Document(program, runtime, provenance, embed, test, fma_call, classifier).text()


_WORDS = {
    "inputs": ("kInputs", r"\1->set->inputs"),
    "outputs": ("kOutputs", r"\1->set->outputs"),
    "input_room": (r"kInputs[\1].bytes", r"kInputRoom[\1]"),
    "output_room": (r"kOutputs[\1].bytes", r"kOutputRoom[\1]"),
    "steps": ("kStepCount", r"\1->set->steps"),
    "first_step": ("", r"\1->set->first_step + "),
    "set": ("", "set, "),
    "picture": ("kPicture", r"kPictures[\1->set - kShapes]"),
}
"""What ``@word(argument)@`` in the runtime's text becomes: with one set of shapes, with several."""


def _written(text: str, program: Program) -> str:
    """The text as it is for a program: with its name, and what there is of threads and of several shapes.

    The lines between ``//@ condition`` and ``//@ end`` are kept where the condition holds: threads, one_thread,
    shapes, one_shape.
    """
    several = len(program.variants) > 1
    several_threads = program.threads > 1
    holds = {
        "threads": several_threads,
        "one_thread": not several_threads,
        "shapes": several,
        "one_shape": not several,
        "end": True,
    }
    out, keep = [], True
    for line in text.split("\n"):
        if line.startswith("//@ "):
            keep = holds[line[4:]]
        elif keep:
            out.append(line)
    text = "\n".join(out)
    for word, forms in _WORDS.items():
        text = re.sub(rf"@{word}\(([^@]*)\)@", forms[several], text)
    return text.replace("@name@", program.name).replace("@NAME@", program.name.upper())


def all_sections(runtime: Mapping[str, str]) -> list[Section]:
    """The sections of runtime_c that a file may need, in the order in which they stand in it."""
    return list(sections([runtime[n] for n in _RUNTIME_PARTS]).values())


def used_sections(
    runtime: Mapping[str, str], printer: CppPrinter, run: str, others: Iterable[str] = ()
) -> list[Section]:
    """The sections of runtime_c that printed kernels and the text of `run` use, `others`, and all that these need."""
    everything = {s.name: s for s in all_sections(runtime)}
    wanted = {"vectors", *others} | printer.types
    wanted |= {f.removesuffix("_") for f in printer.functions} - {"splat", "select", "bits_as"}
    of_steps = ("fill_halo", "copy_bytes", "winograd_weights")
    wanted |= {name for name in of_steps if f"{name}(" in run or f"{name}<" in run}
    overloads = {f"{name.removesuffix('_')}_f64" for name in printer.double_functions} & everything.keys()
    return closure(everything, wanted | overloads)


class Document:
    """NAME.cc in the making; its printer gathers what the kernels need of the runtime."""

    def __init__(
        self,
        program: Program,
        runtime: Mapping[str, str],
        provenance: Provenance,
        embed: bool,
        test: Sequence[SelfTest],
        fma_call: bool = False,
        classifier: Classifier = NOTHING,
    ) -> None:
        self.program, self.runtime, self.provenance = program, runtime, provenance
        self.embed, self.test, self.classifier = embed, test, classifier
        self.printer = CppPrinter(fma_call)
        self.kernels = {k.name: k.kernel for k in program.kernels}
        self.threaded = program.threads > 1

    def text(self) -> str:
        p = self.program
        kernels = [self.kernel(k) for k in p.kernels]
        run = self.run()
        parts = [
            self.opening(),
            self.banner("API", "what a program calls; the same block is @name@.h"),
            api_text(self.runtime, p, self.classifier).strip(),
            self.banner("CONFIGURATION", "macros to set when compiling this file"),
            _CONFIGURATION,
            *self.thread_text("thread_host"),
            *self.runtime_text(run),
            self.banner("WEIGHTS", f"{len(p.weights)} bytes, packed for the kernels below"),
            *self.weights(),
            self.banner("MEMORY", "the arena: every intermediate has a fixed place"),
            *self.memory(),
            self.banner("KERNELS", f"{len(p.kernels)} kernels, named after their first place and their operators"),
            *kernels,
            self.banner("RUN", "the kernels in order, with the address of each operand"),
            run,
            *self.thread_text("thread_work"),
            "}  // namespace",
            self.banner("ENTRY POINTS", "the functions declared above"),
            self.runtime["predictor_api.h"].strip(),
            *self.classifier_text(),
            self.banner("MXNET API", "compile with -D@NAME@_MXNET_API to get the functions of MXNet's c_predict_api.h"),
            self.runtime["mxnet.h"].strip(),
        ]
        if self.test:
            parts += [self.banner("SELF-TEST", "compile with -D@NAME@_SELFTEST to get a program"), self.selftest()]
        return _written("\n\n".join(x for x in parts if x), p) + "\n"

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
            f"@name@: a neural network compiled to one C++ file. {_signature(p.variants[0])}",
            *(f"or {_signature(v)}, {v.macs:,} multiply-adds" for v in p.variants[1:]),
            f"{p.macs:,} multiply-adds per run, {len(p.weights):,} bytes of weights, {p.arena.size:,} bytes of arena"
            + (f", {p.prepared:,} bytes of weights computed at create." if p.prepared else "."),
            "",
            "Compile it with GCC or Clang as C++17 or later; it needs no library and no other file"
            + (", except @name@.weights at run time." if not self.embed and p.weights else "."),
            f"Flags: {o.flags}",
            "",
            f"Made by {o.tool}",
            f"from an ONNX model with SHA-256 {o.model_sha256}, {o.opset},",
            f"for target {o.target}" + (f" with {o.options}." if o.options else "."),
            "",
            "Contents (search for the words): [API] [CONFIGURATION] [RUNTIME] [WEIGHTS] [MEMORY] [KERNELS] [RUN]",
            "[ENTRY POINTS]"
            + (" [CLASSIFIER]" if self.classifier else "")
            + " [MXNET API]"
            + (" [SELF-TEST]" if self.test else ""),
        ]
        return "\n".join(("// " + line).rstrip() for line in lines)

    def banner(self, name: str, about: str) -> str:
        return f"// {'=' * 117}\n// [{name}] {about}\n// {'=' * 117}"

    def classifier_text(self) -> list[str]:
        if not self.classifier:
            return []
        about = "from a picture to the input, from scores to named classes; left out by -D@NAME@_NO_CLASSIFIER"
        return [
            self.banner("CLASSIFIER", about),
            "#if !defined(@NAME@_NO_CLASSIFIER)",
            *definitions(self.runtime, self.program, self.classifier),
            "#endif  // !@NAME@_NO_CLASSIFIER",
        ]

    def runtime_text(self, run: str) -> list[str]:
        everything = {s.name: s for s in all_sections(self.runtime)}
        others = {"cpu", "float_mode", *self.classifier.needs}
        parts = used_sections(self.runtime, self.printer, run + self.runtime["predictor_api.h"], others)
        hosted = [s for s in closure(everything, ["sha256", "files"]) if s.name not in {x.name for x in parts}]
        outside = [s for s in [*parts, *hosted] if s.scope == "file"]
        return [
            self.banner("RUNTIME", "what the kernels are written with; only what they use"),
            "\n\n".join(s.text for s in outside).replace("HOSTED_FILES", "@NAME@_FILES"),
            "namespace {",
            "\n\n".join(s.text for s in parts if s.scope != "file"),
            "#if !defined(@NAME@_FREESTANDING)  // mapping and checking the weights file\n\n"
            + "\n\n".join(s.text for s in hosted if s.scope != "file").replace("HOSTED_FILES", "@NAME@_FILES")
            + "\n\n#endif  // !@NAME@_FREESTANDING",
        ]

    # --- data ---------------------------------------------------------------------------------------------------

    def weights(self) -> list[str]:
        data = self.program.weights
        digest = hashlib.sha256(data).digest()
        out = [
            f"constexpr size_t kWeightsBytes = {len(data)};",
            "[[maybe_unused]] constexpr uint8_t kWeightsDigest[32] = {  // SHA-256\n    "
            + ",\n    ".join(", ".join(f"0x{b:02x}" for b in digest[i : i + 16]) for i in (0, 16))
            + "};",
        ]
        if not self.embed or not data:
            out.append("const uint8_t* embedded_weights() { return nullptr; }  // they lie in @name@.weights")
        elif len(data) <= _ALIGNED_EMBED_LIMIT:
            out.append(f"alignas(64) constexpr unsigned char kWeights[kWeightsBytes + 1] =\n{_string(data)};")
            out.append("const uint8_t* embedded_weights() { return kWeights; }")
        else:
            out.append(f"constexpr const char* kWeights =\n{_string(data)};")
            out.append("const uint8_t* embedded_weights() { return reinterpret_cast<const uint8_t*>(kWeights); }")
        return out

    def memory(self) -> list[str]:
        p = self.program
        a = p.arena
        out = [
            f"// Placed {a.strategy}. The most bytes alive at once: {a.lower_bound:,}; without sharing: {a.naive:,}.\n"
            f"constexpr size_t kArenaBytes = {a.size};\n"
            f"constexpr size_t kPreparedBytes = {p.prepared};  // weights that are computed when a predictor is made",
            *self.tensors("Input", p.inputs),
            *self.tensors("Output", p.outputs),
            *self.shapes(),
            *([f"constexpr int32_t kMostThreads = {p.threads};"] if p.threads > 1 else []),
            self.runtime["predictor.h"].strip(),
            *self.thread_text("thread_pool"),
        ]
        return out

    def tensors(self, kind: str, tensors: Sequence[Tensor], variant: int = 0) -> list[str]:
        """Their number, shapes and descriptions; behind the names of a further variant's stands its number."""
        of = f"_{variant}" if variant else ""
        shapes = "\n".join(
            f"constexpr int64_t k{kind}Shape{i}{of}[] = {{{', '.join(str(d) for d in (*t.shape, 0))}}};"
            for i, t in enumerate(tensors)
        )
        rows = ",\n    ".join(
            f'{{{quoted(t.name)}, "{t.dtype}", k{kind}Shape{i}{of}, {len(t.shape)}, {t.nbytes}, {_scaling(t)}}}'
            for i, t in enumerate(tensors)
        )
        count = "" if variant else f"constexpr int32_t k{kind}Count = {len(tensors)};\n"
        if not tensors:
            rows = "{nullptr, nullptr, nullptr, 0, 0, 0, 0}"
        return [f"{count}{shapes}\nconstexpr @name@_tensor k{kind}s{of}[] = {{\n    {rows}}};"]

    def shapes(self) -> list[str]:
        """Where there are several sets of shapes: the tables of the others, and of all sets."""
        variants = self.program.variants
        if len(variants) == 1:
            return []
        out, rows, first = [], ["{kInputs, kOutputs, 0, kStepCount}"], len(variants[0].steps)
        for k, v in enumerate(variants[1:], 1):
            out += [*self.tensors("Input", v.inputs, k), *self.tensors("Output", v.outputs, k)]
            rows.append(f"{{kInputs_{k}, kOutputs_{k}, {first}, {len(v.steps)}}}")
            first += len(v.steps)
        for kind, all_tensors in (("Input", [v.inputs for v in variants]), ("Output", [v.outputs for v in variants])):
            most = [max(t.nbytes for t in same) for same in zip(*all_tensors, strict=True)]
            out.append(f"constexpr size_t k{kind}Room[] = {{{', '.join(map(str, (*most, 0)))}}};  // bytes, the most")
        return [
            *out,
            f"constexpr int32_t kStepCount = {len(variants[0].steps)};",
            "// A set of shapes: its inputs and outputs, and its steps among those of all sets.\n"
            "struct shape_set {\n  const @name@_tensor* inputs;\n  const @name@_tensor* outputs;\n"
            "  int32_t first_step, steps;\n};",
            f"constexpr int32_t kShapeCount = {len(variants)};\n"
            "constexpr shape_set kShapes[] = {\n    " + ",\n    ".join(rows) + "};",
        ]

    # --- code ---------------------------------------------------------------------------------------------------

    def kernel(self, k: NamedKernel) -> str:
        lines = [f"// {k.title}"]
        lines.append(f"// {k.schedule}" + (f"; {k.macs:,} multiply-adds" if k.macs else ""))
        lines += [f"// ONNX: {line}" for line in _wrap(k.sources)]
        return "\n".join([*lines, self.printer.kernel(k.kernel, k.name, k.restrict)])

    def run(self) -> str:
        variants = self.program.variants
        steps = [s for v in variants for s in v.steps]
        starts = {sum(len(v.steps) for v in variants[:k]): v for k, v in enumerate(variants) if len(variants) > 1}
        shared = {k: s for k, s in enumerate(steps) if isinstance(s, CallStep) and self.trips(s) and self.threaded}
        lines: list[str] = []
        if self.threaded:
            cases = [self.case(k, self.step(s, 2, shared=True)) for k, s in shared.items()]
            head = "int begin, int end, [[maybe_unused]] int32_t worker"
            lines += [
                "// The part [begin, end) of the trips of a step's loop; each worker has a scratch of its own.",
                f"void run_part([[maybe_unused]] const @name@_predictor& p, int32_t index, {head}) {{",
                "    switch (index) {",
                *[line for case in cases for line in case],
                "        default: (void)begin, (void)end; return;",
                "    }",
                "}",
                "void share_trips(const @name@_predictor& p, int32_t index, int32_t trips);",
                "",
            ]
        lines += ["void run_step([[maybe_unused]] const @name@_predictor& p, int32_t index) {", "    switch (index) {"]
        for k, step in enumerate(steps):
            lines += (
                [f"        // {line}" for v in [starts[k]] for line in _wrap([_signature(v)])] if k in starts else []
            )
            lines += self.case(k, [f"share_trips(p, {k}, {self.trips(step)});"] if k in shared else self.step(step, 2))
        lines += ["        default: return;", "    }", "}"]
        names = ",\n    ".join(f'"{self.step_name(s)}"' for s in steps) or "nullptr"
        lines += ["", *self.prepare()]
        count = f"constexpr int32_t kStepCount = {len(steps)};\n" if len(variants) == 1 else ""
        return f"{count}constexpr const char* kStepNames[] = {{\n    {names}}};\n\n" + "\n".join(lines)

    def prepare(self) -> list[str]:
        """What is computed from the weights as they come."""
        steps = self.program.prepare
        if not steps:
            return ["void prepare(const @name@_predictor&, size_t, size_t, bool) {}"]
        mapped = "" if self.embed else " mapped"
        lines = [
            "// Computes what hangs on weights whose last byte is among those from `from` up to `to`.",
            f"void prepare(const @name@_predictor& p, size_t from, size_t to, bool{mapped}) {{",
            "    const auto due = [from, to](size_t end) { return from < end && end <= to; };",
        ]
        for step in steps:
            assert isinstance(step, WinogradStep)
            nbytes = 36 * step.inputs * step.outputs
            lines += [f"    if (due({step.source.offset + nbytes})) {{", *self.step(step, 2)]
            lines += [f"        if (mapped) read_once({self.ref(step.source)}, {nbytes});"] if mapped else []
            lines += ["    }"]
        return [*([] if self.embed else _READ_ONCE.split("\n")), *lines, "}"]

    def case(self, k: int, body: list[str]) -> list[str]:
        if len(body) == 1:
            return [f"        case {k}: {body[0].strip()} return;"]
        return [f"        case {k}:", *["    " + line for line in body], "            return;"]

    def trips(self, step: Step) -> int:
        """Of a call: the trips that threads may share."""
        return self.kernels[step.kernel].trips if isinstance(step, CallStep) else 0

    def step_name(self, step: Step) -> str:
        if isinstance(step, CallStep):
            return step.kernel
        return "fill_halo" if isinstance(step, HaloStep) else "loop"

    def step(self, step: Step, depth: int, loops: int = 0, shared: bool = False) -> list[str]:
        """The lines of a step that stands inside of so many loops.

        `shared`: the part [begin, end) of a call's trips, by thread `worker`.
        """
        pad = "    " * depth
        if isinstance(step, LoopStep):
            t = _trip(loops)
            body = [line for s in step.body for line in self.step(s, depth + 1, loops + 1)]
            return [f"{pad}for (size_t {t} = 0; {t} < {step.count}; ++{t}) {{", *body, f"{pad}}}"]
        if isinstance(step, CopyStep):
            return [f"{pad}copy_bytes({self.ref(step.target)}, {self.ref(step.source)}, {step.nbytes});"]
        if isinstance(step, WinogradStep):
            sizes = f"{step.inputs}, {step.outputs}, {step.columns}, {step.room}"
            lanes = gcd(step.room, 16)
            refs = f"{self.ref(step.target)}, {self.ref(step.source)}"
            return [f"{pad}winograd_weights<{step.edge}, {lanes}>({refs}, {sizes});"]
        if isinstance(step, HaloStep):
            rank = len(step.shape)

            def ints(v: Sequence[int]) -> str:
                return ", ".join(map(str, v))

            value = literal(step.fill, step.target.dtype)
            return [
                f"{pad}{{",
                f"{pad}    constexpr int32_t shape[] = {{{ints((*step.shape, 0))}}};",
                f"{pad}    constexpr int32_t low[] = {{{ints(step.low)}}}, high[] = {{{ints(step.high)}}};",
                f"{pad}    fill_halo({self.ref(step.target)}, {rank}, shape, low, high, {value});",
                f"{pad}}}",
            ]
        assert isinstance(step, CallStep)
        kernel = self.kernels[step.kernel]
        arguments = [self.ref(a) for a in step.arguments]
        if shared and kernel.scratch:
            arguments[-1] += f" + worker * {kernel.scratch}"
        if kernel.trips:
            arguments += ["begin", "end"] if shared else ["0", str(kernel.trips)]
        text = f"{pad}{step.kernel}({', '.join(arguments)});"
        if len(text) > 118:
            inner = ",\n".join(f"{pad}    {a}" for a in arguments)
            text = f"{pad}{step.kernel}(\n{inner});"
        return text.split("\n")

    def ref(self, r: Ref) -> str:
        offset = str(r.offset)
        for loop, step in enumerate(r.steps):
            if step:
                offset += f" {'+' if step > 0 else '-'} {_trip(loop)} * {abs(step)}"
        kind = CPP_TYPE[r.dtype]
        if r.space == "arena":
            return f"arena<{kind}>(p, {offset})"
        if r.space == "weights":
            return f"weight<{kind}>(p, {offset})"
        if r.space == "prepared":
            return f"prepared<{kind}>(p, {offset})"
        return f"{r.space}<{kind}>(p, {r.index}, {offset})"

    def selftest(self) -> str:
        (fill, compare), *others = map(self.selftest_of, self.program.variants, self.test)
        for k, (fills, compares) in enumerate(others, 1):
            compare += [f"  @name@_set_shape(p, {k});", *fills, "  @name@_run(p);", *compares]
        text = self.runtime["selftest.h"].strip()
        return text.replace("@fill@", "\n".join(fill)).replace("@compare@", "\n".join(compare))

    def selftest_of(self, variant: Variant, test: SelfTest) -> tuple[list[str], list[str]]:
        """The lines that fill the inputs, and those that compare the outputs."""
        fill, compare = [], []
        for i, (t, (low, high)) in enumerate(zip(variant.inputs, test.ranges, strict=True)):
            kind = CPP_TYPE[t.dtype]
            n = t.nbytes // max(1, _size(t.dtype))
            fill.append(
                f"  fill_input(const_cast<{kind}*>(input<{kind}>(*p, {i}, 0)), {n}, {i}, "
                f"{literal(low, 'float64')}, {literal(high, 'float64')});"
            )
        for i, (t, s) in enumerate(zip(variant.outputs, test.samples, strict=True)):
            if not s.places:
                continue
            compare += [
                "  {",
                "    const uint32_t places[] = {" + _rows([f"{k}u" for k in s.places]) + "};",
                "    const double expected[] = {" + _rows([literal(v, "float64") for v in s.values]) + "};",
                f"    wrong += compare({quoted(t.name)}, output<{CPP_TYPE[t.dtype]}>(*p, {i}, 0), places, expected, "
                f"{len(s.places)}, {literal(s.tolerance, 'float64')});",
                "  }",
            ]
        return fill, compare


_READ_ONCE = """\
// Gives the memory back that holds a part of the mapped weights.
void read_once([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#if !defined(@NAME@_FREESTANDING)
    forget_pages(data, bytes);
#endif
}
"""

_CONFIGURATION = """\
// @NAME@_FREESTANDING  no libc: nothing is allocated and no file is read; give memory and weights to @name@_create()
// @NAME@_API           how the functions are exported; default: visible
// @NAME@_NO_CLASSIFIER leaves out what a picture and class names need, where there is such
// @NAME@_MXNET_API     adds MXNet's c_predict_api.h (MXPredCreate ...), in one file of a program; see [MXNET API]
// @NAME@_SELFTEST      adds main(): runs seeded inputs and compares with what onnxruntime computed
#if !defined(@NAME@_FREESTANDING)
#include <stdlib.h>
#define @NAME@_FILES
#endif"""


def _trip(loop: int) -> str:
    """The variable that counts the trips of a loop, 0 being the outermost."""
    return f"t{loop}" if loop else "t"


def _type(t: Tensor) -> str:
    return f"{t.dtype}[{'x'.join(map(str, t.shape))}]"


def _signature(v: Variant) -> str:
    inputs, outputs = (", ".join(f"{_plain(t.name)}: {_type(t)}" for t in ts) for ts in (v.inputs, v.outputs))
    return f"{inputs} -> {outputs}"


def _scaling(t: Tensor) -> str:
    """Scale and zero point; 0 where the tensor is not quantised."""
    q = t.meaning.quantization
    return f"{literal(q.scale, 'float32')}, {q.zero_point}" if q else "0, 0"


def _size(dtype: str) -> int:
    return Tensor("", dtype, ()).nbytes


def _plain(name: str) -> str:
    """A name as it may stand in a comment."""
    return "".join(c if c.isprintable() and c != "\\" else "?" for c in name)


def _wrap(words: Sequence[str], width: int = 108) -> list[str]:
    lines, line = [], ""
    for w in words:
        w = _plain(w)
        if line and len(line) + len(w) + 2 > width:
            lines.append(line + ",")
            line = w
        else:
            line = f"{line}, {w}" if line else w
    return [*lines, line] if line else lines


def _rows(items: Sequence[str], per_row: int = 8) -> str:
    return ",\n        ".join(", ".join(items[i : i + per_row]) for i in range(0, len(items), per_row))


_ESCAPES = [
    chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' and not chr(b).isdigit() else f"\\{b:03o}" for b in range(256)
]


def _string(data: bytes, width: int = 512) -> str:
    """Bytes as C string literals; octal escapes of three digits, so that no escape runs into the next character."""
    rows = ("".join([_ESCAPES[b] for b in data[i : i + width]]) for i in range(0, len(data), width))
    return "\n".join(f'"{row}"' for row in rows)
