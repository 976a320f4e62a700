"""[WEIGHTS] and [MEMORY]: the data, and the tables that describe inputs, outputs and sets of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from dlpack.amalgamate.classifier import quoted
from dlpack.amalgamate.cpp import AXES
from dlpack.amalgamate.decoder import cache_bytes
from dlpack.amalgamate.fingerprint import fingerprint
from dlpack.amalgamate.places import Places
from dlpack.amalgamate.steps import sizes_of_set
from dlpack.amalgamate.text import bytes_literal, scaling
from dlpack.amalgamate.wrap import wrapped
from dlpack.loops.sizes import SAMPLES
from dlpack.plan.program import Program, Tensor
from dlpack.plan.stages import stage_arena, stage_rooms

_ALIGNED_EMBED_LIMIT = 1 << 20
"""Up to here embedded weights are an aligned array; beyond it a pointer to a literal, which compilers take in a
fraction of the memory (clang 19: 16 bytes per byte of weights instead of 88)."""


def weights(program: Program, places: Places | None, embed: bool) -> list[str]:
    """The packed weights, what lies where in them if all machines read them alike, and their fingerprint; the bytes
    themselves where they are to be embedded."""
    data = program.weights
    mark = fingerprint(data)
    out = [
        f"constexpr size_t kWeightsBytes = {len(data)};",
        "[[maybe_unused]] constexpr uint8_t kWeightsFingerprint[32] = {\n    "
        + ",\n    ".join(", ".join(f"0x{b:02x}" for b in mark[i : i + 16]) for i in (0, 16))
        + "};",
        *(["// Offsets in the weights.", *places.stored_table("weights")] if data and places else []),
    ]
    if not data:
        out.append("const uint8_t* embedded_weights() { return nullptr; }")
    elif not embed:
        out.append(_INCLUDED)
    elif len(data) <= _ALIGNED_EMBED_LIMIT:
        out.append(f"alignas(64) constexpr unsigned char kWeights[kWeightsBytes + 1] =\n{bytes_literal(data)};")
        out.append("const uint8_t* embedded_weights() { return kWeights; }")
    else:
        out.append(f"constexpr const char* kWeights =\n{bytes_literal(data)};")
        out.append("const uint8_t* embedded_weights() { return reinterpret_cast<const uint8_t*>(kWeights); }")
    return out


_INCLUDED = """\
#if defined(@NAME@_INCBIN)
}  // namespace
#if defined(__APPLE__)
__asm__(".section __TEXT,__const");
#else
__asm__(".pushsection .rodata,\\"a\\"");
#endif
__asm__(".balign 64\\n@name@_included:\\n.incbin \\"" @NAME@_INCBIN "\\"\\n@name@_included_end:");
#if defined(__APPLE__)
__asm__(".text");
#else
__asm__(".popsection");
#endif
extern const uint8_t included[] __asm__("@name@_included") __attribute__((visibility("hidden")));
extern const uint8_t included_end[] __asm__("@name@_included_end") __attribute__((visibility("hidden")));
namespace {
// Null if it is not the file that belongs to this one.
const uint8_t* embedded_weights() {
  return static_cast<size_t>(included_end - included) == kWeightsBytes ? included : nullptr;
}
#else
const uint8_t* embedded_weights() { return nullptr; }  // they lie in @name@.weights
#endif"""


def memory(programs: Sequence[Program]) -> list[str]:
    """Sizes of arena and prepared weights, inputs, outputs and sets of shapes; `programs` has one for each machine."""
    p = programs[0]
    a = max((program.arena for program in programs), key=lambda arena: arena.size)
    prepared = max(program.prepared for program in programs)
    return [
        f"constexpr size_t kArenaBytes = {a.size};\n"
        f"constexpr size_t kPreparedBytes = {prepared};  // weights that are computed when a predictor is made"
        + (f"\nconstexpr size_t kTextWork = {p.text.work_bytes};  // what tokenizing works in" if p.text else ""),
        *_caches(p),
        *_tensors("Input", p.inputs),
        *_tensors("Output", p.outputs),
        *_true_shapes(p),
        *_exceeded(p),
        *_shapes(p, len(programs) > 1),
        *_stages(programs),
        *([f"constexpr int32_t kMostThreads = {p.threads};"] if p.threads > 1 else []),
    ]


def _stages(programs: Sequence[Program]) -> list[str]:
    """Where smaller sizes have plans of their own: up to which set of shapes each suffices, and what it takes."""
    p = programs[0]
    if not p.staged:
        return []
    rows = []
    for same in zip(*(program.stages for program in programs), strict=True):
        rooms = f", {{{', '.join(map(str, stage_rooms(same)))}}}" if p.opened else ""
        rows.append(f"    {{{same[0].last}, {stage_arena(same)}{rooms}}}")
    most = max(program.arena.size for program in programs)
    rooms = " size_t rooms[kInputCount + kOutputCount];" if p.opened else ""
    return [
        f"typedef uint{32 if most < 1 << 32 else 64}_t place_offset;  // in the arena",
        "// The last set of shapes for which these bytes suffice: of the arena"
        + (", and of each input and output." if p.opened else "."),
        f"struct memory_stage {{ int32_t last; size_t arena;{rooms} }};\n"
        "constexpr memory_stage kStages[] = {\n" + ",\n".join(rows) + "};",
    ]


def _caches(program: Program) -> list[str]:
    """What lies before the arena of a decoder."""
    if program.decoder is None:
        return []
    return [
        f"constexpr size_t kSamplerOffset = {program.cached};  // the keys and values of a text lie before it\n"
        f"constexpr size_t kCacheBytes = {cache_bytes(program)};"
    ]


def memory_map(program: Program, places: Places) -> list[str]:
    """What lies where in the arena and in the prepared weights."""
    a = program.arena
    return [
        f"// Offsets in the arena, placed {a.strategy}. At most {a.lower_bound:,} bytes are in use at once; without\n"
        f"// sharing it would take {a.naive:,}. Each block is in use from its first step to its last (see run_step()).",
        *places.arena_table(),
        *(["// Offsets in the prepared weights."] if program.prepared else []),
        *places.stored_table("prepared"),
    ]


def _tensors(kind: str, tensors: Sequence[Tensor], number: int = 0) -> list[str]:
    """Their number, shapes and descriptions; behind the names of a further set of shapes stands its number."""
    of = f"_{number}" if number else ""
    shapes = "\n".join(
        f"constexpr int64_t k{kind}Shape{i}{of}[] = {{{', '.join(str(d) for d in (*t.shape, 0))}}};"
        for i, t in enumerate(tensors)
    )
    rows = ",\n    ".join(
        f'{{{quoted(t.name)}, "{t.dtype}", k{kind}Shape{i}{of}, {len(t.shape)}, {t.nbytes}, {scaling(t)}}}'
        for i, t in enumerate(tensors)
    )
    count = "" if number else f"constexpr int32_t k{kind}Count = {len(tensors)};\n"
    if not tensors:
        rows = "{nullptr, nullptr, nullptr, 0, 0, 0, 0}"
    return [f"{count}{shapes}\nconstexpr @name@_tensor k{kind}s{of}[] = {{\n    {rows}}};"]


def _true_shapes(program: Program) -> list[str]:
    """Where only a run knows the size of outputs: which output holds the true shape of each, or -1."""
    places = {t.name: k for k, t in enumerate(program.outputs)}
    numbers = [places[t.true_shape] if t.true_shape else -1 for t in program.outputs]
    if max(numbers, default=-1) < 0:
        return []
    return [f"constexpr int32_t kTrueShape[] = {{{', '.join(map(str, numbers))}}};"]


def _exceeded(program: Program) -> list[str]:
    """Where the user has stated maxima: which output says that a run exceeded one."""
    limited = [k for k, t in enumerate(program.outputs) if t.limits]
    return [f"constexpr int32_t kExceeded = {k};" for k in limited]


def _shapes(program: Program, machines: bool) -> list[str]:
    """Where there are several sets of shapes: the tables of the others, and of all sets; `machines`: their steps differ
    from machine to machine."""
    sets = program.shape_sets
    if len(sets) == 1:
        return []
    if program.counted:
        return [*_counted(program), *([] if machines else [f"constexpr int32_t kStepCount = {len(sets[0].steps)};"])]
    out, first = [], len(sets[0].steps)
    more = "" if machines else ", 0, kStepCount"
    rows = [f"{{kInputs, kOutputs{more}}}"]
    for k, s in enumerate(sets[1:], 1):
        out += [*_tensors("Input", s.inputs, k), *_tensors("Output", s.outputs, k)]
        more = "" if machines else f", {first}, {len(s.steps)}"
        rows.append(f"{{kInputs_{k}, kOutputs_{k}{more}}}")
        first += len(s.steps)
    for kind, all_tensors in (("Input", [s.inputs for s in sets]), ("Output", [s.outputs for s in sets])):
        most = [max(t.nbytes for t in same) for same in zip(*all_tensors, strict=True)]
        out.append(_room(kind, most))
    steps = [] if machines else ["  int32_t first_step, steps;  // among those of all sets"]
    lines = [
        "// A set of shapes.",
        "struct shape_set {",
        "  const @name@_tensor* inputs;",
        "  const @name@_tensor* outputs;",
    ]
    return [
        *out,
        *([] if machines else [f"constexpr int32_t kStepCount = {len(sets[0].steps)};"]),
        "\n".join([*lines, *steps, "};"]),
        f"constexpr int32_t kShapeCount = {len(sets)};\n"
        "constexpr shape_set kShapes[] = {\n    " + ",\n    ".join(rows) + "};",
    ]


def _counted(program: Program) -> list[str]:
    """Sets of shapes that differ in an open dimension: which one that is in each input and output, -1 where there is
    none, how many bytes one more of its elements takes, and the most bytes."""
    if program.pictures:
        return _pictures(program)
    one, two, most = program.shape_sets[0], program.shape_sets[1], program.shape_sets[-1]
    out = [f"constexpr int32_t kShapeCount = {len(program.shape_sets)};"]
    out += (
        [f"constexpr int32_t kSmallest = {one.extent};  // extent of the open dimension in set 0"] if one.extent else []
    )
    sizes = 0
    for kind, tensors in (
        ("Input", (one.inputs, two.inputs, most.inputs)),
        ("Output", (one.outputs, two.outputs, most.outputs)),
    ):
        opened, strides, rooms = [], [], []
        for a, b, c in zip(*tensors, strict=True):
            opened.append(next((str(d) for d, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), "-1"))
            strides.append(b.nbytes - a.nbytes)
            rooms.append(c.nbytes)
            sizes += len(a.shape)
        if program.rooms:
            count = len(one.inputs)
            rooms = list(program.rooms[:count] if kind == "Input" else program.rooms[count:])
        out += [
            f"constexpr int32_t k{kind}Open[] = {{{', '.join([*opened, '-1'])}}};\n"
            f"constexpr size_t k{kind}Stride[] = {{{', '.join(map(str, (*strides, 0)))}}};  // bytes, from set to set",
            _room(kind, rooms),
        ]
    return [*out, f"constexpr int32_t kExtentCount = {sizes};  // of all inputs and outputs"]


def _pictures(program: Program) -> list[str]:
    """Sets of shapes that differ in the sizes of pictures: which inputs and outputs that concerns, which dimensions of
    inputs are open, and all extents in a set."""
    one, most = program.shape_sets[0], program.shape_sets[-1]
    out = [f"constexpr int32_t kShapeCount = {len(program.shape_sets)};"]
    rows, extents = [], []
    for kind, tensors, largest in (("Input", one.inputs, most.inputs), ("Output", one.outputs, most.outputs)):
        opened = [next((str(d) for d, s in enumerate(t.sizes) if s), "-1") for t in tensors]
        out += [
            f"constexpr int32_t k{kind}Open[] = {{{', '.join([*opened, '-1'])}}};  // the first open dimension",
            _room(kind, [t.nbytes for t in largest]),
        ]
        extents += [
            s.text(*AXES) if s else str(n)
            for t in tensors
            for n, s in zip(t.shape, t.sizes or (None,) * len(t.shape), strict=True)
        ]
    for k, t in enumerate(one.inputs):
        for d, s in enumerate(t.sizes):
            if s:
                place = program.place_of(s)
                b, inner = program.bounds[place], prod(len(b.sizes) for b in program.bounds[place + 1 :])
                rows.append(f"{{{k}, {d}, {b.step}, {len(b.sizes)}, {inner}}}")
    return [
        *out,
        *(_samples(program) if program.by_sample else []),
        f"constexpr int32_t kExtentCount = {len(extents)};  // of all inputs and outputs",
        "// An open dimension of an input: how many sizes it has, so far apart, and how many sets have the same one.",
        "struct open_dim { int32_t input, dimension, step, count, sets; };",
        f"constexpr open_dim kOpenDims[] = {{{', '.join(rows)}}};",
        "// All extents of inputs and outputs in a set of shapes.",
        "void set_extents(int32_t set, int64_t* extents) {",
        *sizes_of_set(program.bounds, "set"),
        *wrapped(f"    const int64_t all[] = {{{', '.join(extents)}}};"),
        "    for (int64_t e : all) *extents++ = e;",
        "}",
    ]


def _samples(program: Program) -> list[str]:
    """How many samples a set of shapes has, and in which inputs, then outputs, each sample has a part."""
    one = program.shape_sets[0]
    each = (any(s and s.axis == SAMPLES for s in t.sizes) for t in (*one.inputs, *one.outputs))
    return [
        f"constexpr bool kOfSamples[] = {{{', '.join(map(str, each)).lower()}}};  // inputs, then outputs",
        "int32_t samples_in(int32_t set) {",
        *sizes_of_set(program.bounds, "set"),
        "    return samples;",
        "}",
    ]


def _room(kind: str, most: Sequence[int]) -> str:
    return f"constexpr size_t k{kind}Room[] = {{{', '.join(map(str, (*most, 0)))}}};  // bytes, the most"
