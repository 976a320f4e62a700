"""[SELF-TEST]: what runs seeded inputs and compares with the reference's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlpack.amalgamate.classifier import quoted
from dlpack.amalgamate.cpp import literal, number_type
from dlpack.amalgamate.wrap import wrapped
from dlpack.plan.program import Program, ShapeSet, Tensor


@dataclass(frozen=True)
class Sample:
    """What the self-test knows of one output: expected values at some places, and the tolerance; or strings."""

    places: tuple[int, ...]
    values: tuple[float, ...]
    tolerance: float
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SelfTest:
    """Input ranges (see runtime_c/selftest.h) and the outputs' samples, for the set of shapes of that number.

    `words`: of inputs that are strings, those that the numbers stand for.
    """

    ranges: tuple[tuple[float, float], ...]
    samples: tuple[Sample, ...]
    words: tuple[tuple[str, ...], ...] = ()
    shape_set: int = 0


def selftest(runtime: Mapping[str, str], program: Program, tests: Sequence[SelfTest]) -> str:
    """The section's text; the first test is of set 0."""
    (fill, compare), *others = (_of_shape_set(program.shape_sets[t.shape_set], t) for t in tests)
    forget = ["  @name@_reset(p);"] if program.decoder else []  # of the rows that the set before has written
    for test, (fills, compares) in zip(tests[1:], others, strict=True):
        compare += [f"  @name@_set_shape(p, {test.shape_set});", *forget, *fills, "  @name@_run(p);", *compares]
    text = runtime["selftest.h"].strip()
    return text.replace("@fill@", "\n".join(fill)).replace("@compare@", "\n".join(compare))


def _of_shape_set(shape_set: ShapeSet, test: SelfTest) -> tuple[list[str], list[str]]:
    """The lines that fill the inputs, and those that compare the outputs."""
    fill, compare = [], []
    for i, (t, (low, high)) in enumerate(zip(shape_set.inputs, test.ranges, strict=True)):
        if t.dtype.startswith("S"):
            fill += _texts(i, t, test.words[i], high)
            continue
        kind = number_type(t.dtype)
        n = t.nbytes // max(1, _size(t.dtype))
        fill.append(
            f"  @name@_impl::fill_input(const_cast<{kind}*>(@name@_impl::input<{kind}>(*p, {i}, 0)), {n}, {i}, "
            f"{literal(low, 'float64')}, {literal(high, 'float64')});"
        )
    for i, (t, s) in enumerate(zip(shape_set.outputs, test.samples, strict=True)):
        if not s.places:
            continue
        if s.texts:
            compare += _same_texts(i, t, s)
            continue
        kind = number_type(t.dtype)
        compare += [
            "  {",
            *wrapped("    const uint32_t places[] = {" + ", ".join(f"{k}u" for k in s.places) + "};"),
            *wrapped("    const double expected[] = {" + ", ".join(literal(v, "float64") for v in s.values) + "};"),
            f"    const {kind}* const got = @name@_impl::output<{kind}>(*p, {i}, 0);",
            f"    wrong += @name@_impl::compare({quoted(t.name)}, got, places, expected, {len(s.places)}, "
            f"{literal(s.tolerance, 'float64')});",
            "  }",
        ]
    return fill, compare


def _texts(index: int, tensor: Tensor, words: Sequence[str], high: float) -> list[str]:
    """Fills an input of strings with words."""
    count = tensor.nbytes // _size(tensor.dtype)
    return [
        "  {",
        *wrapped("    const char* const words[] = {" + ", ".join(map(quoted, words)) + "};"),
        f"    @name@_impl::fill_texts(p, {index}, {count}, words, {literal(high, 'float64')});",
        "  }",
    ]


def _same_texts(index: int, tensor: Tensor, sample: Sample) -> list[str]:
    """Compares strings of an output."""
    return [
        "  {",
        *wrapped("    const uint32_t places[] = {" + ", ".join(f"{k}u" for k in sample.places) + "};"),
        *wrapped("    const char* const expected[] = {" + ", ".join(map(quoted, sample.texts)) + "};"),
        f"    const char* const got = @name@_impl::output<char>(*p, {index}, 0);",
        f"    wrong += @name@_impl::compare_texts({quoted(tensor.name)}, got, {_size(tensor.dtype)}, places, expected, "
        f"{len(sample.places)});",
        "  }",
    ]


def _size(dtype: str) -> int:
    return Tensor("", dtype, ()).nbytes
