"""Many small programs in one translation unit: the runtime once, then each program's kernels and one entry function.

For testing only: compiling a thousand programs one by one takes hours, in batches minutes. Kernels and steps are
printed by what prints NAME.cc; only what is around them differs.
"""

from __future__ import annotations

from collections.abc import Mapping

from dlpack.amalgamate.document import PrintedCode, all_sections, used_sections
from dlpack.amalgamate.machines import Code
from dlpack.amalgamate.places import Places
from dlpack.amalgamate.runtime import Section
from dlpack.amalgamate.steps import StepPrinter
from dlpack.plan.program import Program


class BatchPrinter:
    """Prints programs one after the other, and then what must stand before them."""

    def __init__(self, runtime: Mapping[str, str]) -> None:
        self.runtime = runtime
        self.needed: set[Section] = set()

    def program(self, program: Program, name: str) -> str:
        """A program in a namespace of its own, with the entry NAME(inputs, outputs, arena, weights); see _ENTRY.

        Arena and weights are aligned to 64 bytes, inputs and outputs as their elements.
        """
        printed = PrintedCode(Code(program), embed=False)
        steps = StepPrinter(program, embed=False)
        places = steps.places
        run = "\n".join(line for step in (*program.prepare, *program.steps) for line in steps.step(step, 1))
        self.needed |= set(used_sections(self.runtime, printed.printer, run))
        return "\n\n".join(
            [
                f"namespace {{\nnamespace of_{name} {{",
                *places.stored_table("weights"),
                *places.arena_table(),
                *(_prepared(program, places) if program.prepared else []),
                *(k.replace("@NAME@_", "") for k in printed.kernels),
                f"void run([[maybe_unused]] const pointers& p) {{\n{run}\n}}",
                f"}}  // namespace of_{name}\n}}  // namespace",
                _ENTRY.replace("NAME", name),
            ]
        )

    def opening(self) -> str:
        """The runtime that the programs printed so far need."""
        parts = [s for s in all_sections(self.runtime) if s in self.needed]
        return "\n\n".join(
            [
                "#include <stddef.h>\n#include <stdint.h>",
                *(s.text for s in parts if s.scope == "file"),
                "namespace {",
                *(s.text for s in parts if s.scope != "file"),
                _POINTERS,
                "}  // namespace",
            ]
        )


def _prepared(program: Program, places: Places) -> list[str]:
    """Memory for prepared weights, which each run prepares anew."""
    return [
        *places.stored_table("prepared"),
        f"alignas(64) uint8_t prepared_weights[{program.prepared}];",
        "template <class T> T* prepared(const pointers&, size_t offset) {",
        "  return reinterpret_cast<T*>(prepared_weights + offset);",
        "}",
    ]


_POINTERS = """\
struct pointers {
  const void* const* inputs;
  void* const* outputs;
  uint8_t* arena_;
  const uint8_t* weights;
};
template <class T> T* arena(const pointers& p, size_t offset) { return reinterpret_cast<T*>(p.arena_ + offset); }
template <class T> const T* weight(const pointers& p, size_t offset) {
  return reinterpret_cast<const T*>(p.weights + offset);
}
template <class T> const T* input(const pointers& p, int index, size_t offset) {
  return reinterpret_cast<const T*>(static_cast<const uint8_t*>(p.inputs[index]) + offset);
}
template <class T> T* output(const pointers& p, int index, size_t offset) {
  return reinterpret_cast<T*>(static_cast<uint8_t*>(p.outputs[index]) + offset);
}"""

_ENTRY = """\
extern "C" __attribute__((visibility("default"))) void NAME(
    const void* const* inputs, void* const* outputs, uint8_t* arena, const uint8_t* weights);
extern "C" void NAME(const void* const* inputs, void* const* outputs, uint8_t* arena, const uint8_t* weights) {
  of_NAME::run({inputs, outputs, arena, weights});
}"""
