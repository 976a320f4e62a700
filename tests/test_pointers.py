"""Addresses that begin alike share a pointer, and long lines are broken."""

from __future__ import annotations

import pytest

from dlpack.amalgamate.cpp import CppPrinter
from dlpack.amalgamate.wrap import wrapped
from dlpack.loops.index import Linear
from dlpack.loops.ir import Block, Const, Expr, For, If, Kernel, Load, Op, Param, Pointer, Stmt, Store, map_stmts, walk
from dlpack.loops.pointers import with_pointers

ROW, COLUMN = Linear.var("row"), Linear.var("column")
PARAMS = (Param("x", "float32", False), Param("y", "float32", True))


def at(index: Linear) -> Load:
    return Load("float32", 1, "x", index, 1)


def plus(*terms: Expr) -> Expr:
    total = terms[0]
    for term in terms[1:]:
        total = Op("float32", 1, "+", (total, term))
    return total


def loops(*body: Stmt) -> Kernel:
    return Kernel(PARAMS, (For("row", 0, 6, 1, (For("column", 0, 5, 1, body),)),))


def put(value: Expr, index: Linear = ROW * 5 + COLUMN) -> Store:
    return Store("y", index, value, 1)


def pointers(kernel: Kernel) -> list[Pointer]:
    return [s for s in walk(kernel.body) if isinstance(s, Pointer)]


def without_pointers(body: Block) -> Block:
    """The statements with every pointer put back into the addresses that use it."""
    known = {s.name: s for s in walk(body) if isinstance(s, Pointer)}

    def whole(buffer: str, index: Linear) -> tuple[str, Linear]:
        while buffer in known:
            buffer, index = known[buffer].buffer, index + known[buffer].index
        return buffer, index

    def on_stmt(s: Stmt) -> list[Stmt]:
        if isinstance(s, Store):
            buffer, index = whole(s.buffer, s.index)
            return [Store(buffer, index, s.value, s.valid)]
        return [] if isinstance(s, Pointer) else [s]

    def on_expr(e: Expr) -> Expr:
        return Load(e.dtype, e.lanes, *whole(e.buffer, e.index), e.valid) if isinstance(e, Load) else e

    return map_stmts(body, on_stmt, on_expr)


STENCIL = loops(put(plus(at(ROW * 7 + COLUMN), at(ROW * 7 + COLUMN + 1), at(ROW * 7 + COLUMN + 7))))


def test_a_pointer_is_named_after_the_innermost_loop_that_moves_it() -> None:
    assert CppPrinter().kernel(STENCIL, "k") == (
        """\
void k(const float* __restrict x, float* __restrict y) {
    for (int row = 0; row < 6; ++row) {
        for (int column = 0; column < 5; ++column) {
            const float* const x_column = x + row * 7 + column;
            y[row * 5 + column] = x_column[0] + x_column[1] + x_column[7];
        }
    }
}"""
    )


def test_pointers_build_on_each_other() -> None:
    first = Store("y", ROW * 5, at(ROW * 7), 1)
    inner = For("column", 0, 5, 1, (put(plus(at(ROW * 7 + COLUMN), at(ROW * 7 + COLUMN + 1), at(ROW * 7))),))
    kernel = Kernel(PARAMS, (For("row", 0, 6, 1, (first, inner)),))
    made = with_pointers(kernel)
    assert [(p.name, p.buffer) for p in pointers(made) if not p.written] == [("x_row", "x"), ("x_column", "x_row")]
    assert without_pointers(made.body) == kernel.body


def test_addresses_stay_what_they_were() -> None:
    made = with_pointers(STENCIL)
    assert pointers(made)
    assert without_pointers(made.body) == STENCIL.body


def test_one_access_needs_no_pointer() -> None:
    kernel = loops(put(at(ROW * 7 + COLUMN)))
    assert with_pointers(kernel) == kernel


def guarded(index: Linear) -> Expr:
    """``column < 4 ? x[index] : 0``"""
    four = Const("int32", 1, 4)
    condition = Op("bool", 1, "<", (Load("int32", 1, "x", Linear(), 1), four))
    return Op("float32", 1, "select", (condition, at(index), Const("float32", 1, 0.0)))


@pytest.mark.parametrize(
    "body",
    [
        (put(plus(guarded(ROW * 7 + COLUMN), guarded(ROW * 7 + COLUMN + 1))),),
        (If(Const("bool", 1, True), (put(at(ROW * 7 + COLUMN)),), (put(at(ROW * 7 + COLUMN + 1)),)),),
        (put(plus(at(ROW * 7 + COLUMN - 8), at(ROW * 7 + COLUMN - 7))),),
        (put(plus(at(ROW * 7 - COLUMN), at(ROW * 7 - COLUMN + 1))),),
    ],
    ids=["select", "if", "constant", "stride"],
)
def test_no_pointer_may_leave_its_buffer(body: tuple[Stmt, ...]) -> None:
    """None is made where all accesses hang on a condition, or begin before the sum's other part."""
    assert "x" not in {p.buffer for p in pointers(with_pointers(loops(*body)))}


def test_a_pointer_takes_no_name_that_is_taken() -> None:
    kernel = Kernel((*PARAMS, Param("x_column", "float32", False)), STENCIL.body)
    assert [p.name for p in pointers(with_pointers(kernel))] == ["x_column_2"]


def test_a_long_line_is_broken_outside_first_and_aligned_with_its_bracket() -> None:
    assert wrapped("    store(y + 8, max_(first * 2.0f + second * 4.0f, of_the_third_row));", 60) == [
        "    store(y + 8,",
        "          max_(first * 2.0f + second * 4.0f,",
        "               of_the_third_row));",
    ]
    assert wrapped("    const f32x8 sum = first + second * third;", 36) == [
        "    const f32x8 sum = first",
        "        + second * third;",
    ]


def test_a_line_is_not_broken_inside_of_a_template_s_brackets() -> None:
    assert wrapped("    weights<4, 8>(prepared<float>(p, here), weight<float>(p, there), 8, 8, 8);", 60) == [
        "    weights<4, 8>(prepared<float>(p, here),",
        "                  weight<float>(p, there), 8, 8, 8);",
    ]


def test_what_is_far_to_the_right_is_aligned_with_a_bracket_that_leaves_room() -> None:
    line = f"    y = {'function(' * 9}first, second_argument{')' * 9};"
    assert wrapped(line) == [line[: line.index(" second")], " " * 80 + "second_argument)))))))));"]


def test_a_line_that_fits_or_cannot_be_broken_stays() -> None:
    assert wrapped("    y[0] = x[0];") == ["    y[0] = x[0];"]
    assert wrapped("x" * 130) == ["x" * 130]
