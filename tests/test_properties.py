"""Properties of layouts, index arithmetic and arena plans, checked on examples that Hypothesis generates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlpack.loops.index import DivMod, Linear, arithmetic, floordiv, floormod, merge_divmod
from dlpack.loops.layout import Block, Layout, dense, expand, is_dense, merge_dims, order_of, reshape
from dlpack.plan.memory import ALIGNMENT, Item, lower_bound, plan_arena

quick = settings(max_examples=150, derandomize=True, deadline=None, database=None)

# --- layouts: numpy's own strides are the reference -------------------------------------------------------------------

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> np.ndarray:
    """A view of a buffer whose elements are their own addresses: transposed, cut, and with dimensions taken apart."""
    shape = draw(shapes)
    buffer = np.arange(math.prod(shape)).reshape(shape)
    view = buffer.transpose(draw(st.permutations(range(len(shape)))))
    return view[tuple(slice(draw(st.integers(0, n - 1)), None) for n in view.shape)]


def layout_of(view: np.ndarray) -> Layout:
    """The layout that numpy gives a view of `views`, whose first element is its offset."""
    return Layout(tuple(s // view.itemsize for s in view.strides), int(view.flat[0]))


def addresses(shape: tuple[int, ...], layout: Layout) -> np.ndarray:
    """The address of each element, through `Layout.address`."""
    places = [layout.address([Linear(i) for i in index], {}) for index in np.ndindex(*shape)]
    assert all(place.is_const for place in places)
    return np.array([place.const for place in places]).reshape(shape)


@quick
@given(views())
def test_addresses_are_numpys(view: np.ndarray) -> None:
    np.testing.assert_array_equal(addresses(view.shape, layout_of(view)), view)


@quick
@given(views(), st.data())
def test_a_part_begins_at_its_first_element(view: np.ndarray, data: st.DataObject) -> None:
    begin = [data.draw(st.integers(0, n - 1)) for n in view.shape]
    part = view[tuple(slice(b, None) for b in begin)]
    np.testing.assert_array_equal(addresses(part.shape, layout_of(view).at(begin)), part)


@quick
@given(shapes, st.data())
def test_a_dense_layout_fills_a_range_in_its_order(shape: tuple[int, ...], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    layout = dense(shape, order)
    found = addresses(shape, layout)
    np.testing.assert_array_equal(found.transpose(order).ravel(), np.arange(math.prod(shape)))
    assert is_dense(shape, layout)
    assert [d for d in order_of(shape, layout) if shape[d] > 1] == [d for d in order if shape[d] > 1]


@quick
@given(views())
def test_dense_means_without_gaps(view: np.ndarray) -> None:
    assert is_dense(view.shape, layout_of(view)) == (view.max() - view.min() + 1 == view.size)


@quick
@given(views(), st.data())
def test_expanding_is_broadcasting(view: np.ndarray, data: st.DataObject) -> None:
    full = tuple(data.draw(st.integers(1, 4)) if n == 1 else n for n in view.shape)
    full = (*data.draw(st.lists(st.integers(1, 3), max_size=2)), *full)
    np.testing.assert_array_equal(
        addresses(full, expand(layout_of(view), view.shape, full)), np.broadcast_to(view, full)
    )


def factorings(count: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of `count` elements."""
    primes = [p for p in (2, 3, 5) for _ in range(20) if count % p ** (_ + 1) == 0]
    cuts = st.lists(st.booleans(), min_size=len(primes), max_size=len(primes))

    def grouped(shuffled: list[int], joined: list[bool]) -> tuple[int, ...]:
        out = [1]
        for p, join in zip(shuffled, joined, strict=True):
            if join:
                out[-1] *= p
            else:
                out.append(p)
        return tuple(out)

    return st.builds(grouped, st.permutations(primes), cuts)


@quick
@given(views(), st.data())
def test_reshaping_keeps_the_order_of_elements(view: np.ndarray, data: st.DataObject) -> None:
    """A layout under a new shape has the same elements, and leads back; it is None only where numpy copies."""
    new = data.draw(factorings(view.size))
    layout = reshape(view.shape, layout_of(view), new)
    numpys = view.reshape(new)
    if layout is None:
        assert not np.shares_memory(numpys, view)
        return
    np.testing.assert_array_equal(addresses(new, layout), numpys)
    back = reshape(new, layout, view.shape)
    assert back is not None
    np.testing.assert_array_equal(addresses(view.shape, back), view)


@quick
@given(st.lists(views(), min_size=1, max_size=1), st.data())
def test_merged_loops_walk_the_same_elements(found: list[np.ndarray], data: st.DataObject) -> None:
    (view,) = found
    other = dense(view.shape, data.draw(st.permutations(range(view.ndim))))
    order = data.draw(st.permutations(range(view.ndim)))
    shape, (a, b) = merge_dims(view.shape, [layout_of(view), other], order)
    assert len(shape) <= view.ndim
    np.testing.assert_array_equal(addresses(tuple(shape), a).ravel(), view.transpose(order).ravel())
    walked = addresses(view.shape, other).transpose(order).ravel()
    np.testing.assert_array_equal(addresses(tuple(shape), b).ravel(), walked)


@quick
@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 3), st.integers(0, 3))
def test_packed_blocks_do_not_overlap(count: int, size: int, inner: int, spare: int) -> None:
    room = size * inner + spare
    layout = Layout((room,), 0, ((0, Block(size, inner, room)),))
    found = [layout.address([Linear(i)], {}).const for i in range(count)]
    assert found == [i // size * room + i % size * inner for i in range(count)]
    assert len(set(found)) == count


# --- index arithmetic: simplified forms equal what they simplify ------------------------------------------------------

RANGES = {"i": (0, 6), "j": (-3, 4), "k": (0, 2)}
PLACES = [
    dict(zip(RANGES, values, strict=True))
    for values in itertools.product(*(range(a, b + 1) for a, b in RANGES.values()))
]


def value(form: Linear, place: Mapping[str, int]) -> int:
    """A form's value, by Python's own arithmetic."""
    total = form.const
    for atom, coefficient in form.terms:
        if isinstance(atom, DivMod):
            inner = value(atom.form, place)
            total += coefficient * (inner // atom.divisor if atom.op == "/" else inner % atom.divisor)
        else:
            total += coefficient * place[atom]
    return total


plain = st.builds(
    lambda const, factors: sum((Linear.var(v) * f for v, f in zip(RANGES, factors, strict=True)), Linear(const)),
    st.integers(-20, 20),
    st.lists(st.integers(-9, 9), min_size=3, max_size=3),
)
"""Linear forms of the loop variables."""

forms = st.recursive(
    plain,
    lambda smaller: st.one_of(
        st.builds(lambda a, d: floordiv(a, d, RANGES), smaller, st.integers(1, 9)),
        st.builds(lambda a, d: floormod(a, d, RANGES), smaller, st.integers(1, 9)),
        st.builds(lambda a, b, f: a + b * f, smaller, smaller, st.integers(-4, 4)),
    ),
    max_leaves=4,
)
"""Forms with divisions inside."""


@quick
@given(forms, st.integers(1, 12))
def test_division_and_modulo_are_pythons(form: Linear, divisor: int) -> None:
    """What is left to divide is never negative, so that C's division gives the same."""
    quotient, rest = floordiv(form, divisor, RANGES), floormod(form, divisor, RANGES)
    divided = [atom.form for atom, _ in (*quotient.terms, *rest.terms) if isinstance(atom, DivMod)]
    assert all(left.bounds(RANGES)[0] >= 0 for left in divided)
    for place in PLACES:
        assert value(quotient, place) == value(form, place) // divisor
        assert value(rest, place) == value(form, place) % divisor


@quick
@given(forms, forms)
def test_arithmetic_is_pythons(a: Linear, b: Linear) -> None:
    found = {op: arithmetic(op, a, b, RANGES) for op in ("Add", "Sub", "Mul")}
    assert found["Mul"] is not None or not (a.is_const or b.is_const)
    for place in PLACES:
        x, y = value(a, place), value(b, place)
        for op, result in (("Add", x + y), ("Sub", x - y), ("Mul", x * y)):
            form = found[op]
            assert form is None or value(form, place) == result


@quick
@given(forms)
def test_bounds_hold(form: Linear) -> None:
    low, high = form.bounds(RANGES)
    assert all(low <= value(form, place) <= high for place in PLACES)


@quick
@given(plain)
def test_bounds_of_linear_forms_are_reached(form: Linear) -> None:
    found = [value(form, place) for place in PLACES]
    assert form.bounds(RANGES) == (min(found), max(found))


@quick
@given(forms)
def test_equal_forms_cancel(form: Linear) -> None:
    assert form - form == Linear()


@quick
@given(forms, st.integers(1, 9), st.integers(-5, 5))
def test_a_quotient_and_its_rest_are_put_together(form: Linear, divisor: int, factor: int) -> None:
    parts = floordiv(form, divisor, RANGES) * (divisor * factor) + floormod(form, divisor, RANGES) * factor
    merged = merge_divmod(parts)
    assert len(merged.terms) <= max(len(parts.terms), len(form.terms))
    for place in PLACES:
        assert value(merged, place) == factor * value(form, place)


@quick
@given(forms, st.integers(-3, 4), st.integers(-2, 2))
def test_substitution_is_evaluation(form: Linear, shift: int, step: int) -> None:
    """j becomes shift + step * k: as when a loop is unrolled or cut."""
    ends = [shift + step * k for k in (RANGES["k"][0], RANGES["k"][1])]
    assume(RANGES["j"][0] <= min(ends) and max(ends) <= RANGES["j"][1])
    found = form.substitute({"j": Linear(shift) + Linear.var("k") * step}, RANGES)
    assert not found.uses("j")
    for place in PLACES:
        assert value(found, place) == value(form, {**place, "j": shift + step * place["k"]})


@quick
@given(forms)
def test_a_coefficient_is_the_step_of_a_loop(form: Linear) -> None:
    step = form.coefficient("k")
    assume(step is not None)
    for place in PLACES:
        assert value(form, {**place, "k": place["k"] + 1}) - value(form, place) == step


# --- arena plans ------------------------------------------------------------------------------------------------------

lives = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 15), st.integers(0, 6)), min_size=1, max_size=24)


@quick
@given(lives)
def test_plans_never_overlap_what_is_alive(found: list[tuple[int, int, int]]) -> None:
    items = [Item(f"b{k}", size, first, first + steps) for k, (size, first, steps) in enumerate(found)]
    arena = plan_arena(items)
    placed = [(i, arena.offsets[i.name]) for i in items if i.size]
    assert arena.offsets.keys() == {i.name for i, _ in placed}
    for (a, at), (b, bt) in itertools.combinations(placed, 2):
        together = a.first <= b.last and b.first <= a.last
        assert not together or at + a.size <= bt or bt + b.size <= at
    assert all(at >= 0 and at % ALIGNMENT == 0 and at + a.size <= arena.size for a, at in placed)


@quick
@given(lives)
def test_plans_lie_between_the_lower_bound_and_the_naive_sum(found: list[tuple[int, int, int]]) -> None:
    items = [Item(f"b{k}", size, first, first + steps) for k, (size, first, steps) in enumerate(found)]
    arena = plan_arena(items)
    rounded = {i.name: -(-i.size // ALIGNMENT) * ALIGNMENT for i in items}
    alive = [sum(rounded[i.name] for i in items if i.first <= step <= i.last) for step in range(24)]
    assert arena.lower_bound == max(alive)
    assert arena.naive == sum(rounded.values())
    assert arena.lower_bound <= arena.size <= arena.naive
    assert lower_bound(items) <= arena.lower_bound
    assert plan_arena(items) == arena
