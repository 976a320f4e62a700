"""Small local buffers → named variables: a register tile becomes `acc0_0, acc0_1, acc1_0 ...`, one vector each.

gcc keeps such variables in registers where it would keep an array of them in memory; and they read better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dlpack.loops.ir import (
    HALF,
    Array,
    Assign,
    Block,
    Declare,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Ref,
    Scope,
    Space,
    Stmt,
    Store,
    expressions,
    exprs,
    map_blocks,
    map_stmts,
    names,
    variables,
    walk,
    walk_expr,
)

_STACK_BYTES = 4096
_ITEMSIZE = {
    "float64": 8, "int64": 8, "uint64": 8, "float32": 4, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2, HALF: 2,
}  # fmt: skip


def allocate_registers(kernel: Kernel, buffers: Mapping[str, tuple[int, ...]], stack: int = _STACK_BYTES) -> Kernel:
    """Turns every local buffer accessed only at constant, non-overlapping places into variables.

    `buffers` has their extents, from the outermost dimension in memory to the innermost. A variable's name ends with
    its place along each dimension in which the variables of the buffer differ, by rows and columns of a register tile.
    The others stay arrays on the stack, or move into the kernel's scratch memory when they are of more than `stack`
    bytes.
    """
    widths: dict[str, set[int]] = {name: set() for name in buffers}
    starts: dict[str, set[tuple[int, int]]] = {name: set() for name in buffers}
    fixed: dict[str, bool] = dict.fromkeys(buffers, True)

    def see(access: Load | Store, lanes: int) -> None:
        if access.buffer in widths:
            fixed[access.buffer] &= access.index.is_const
            widths[access.buffer].add(lanes)
            starts[access.buffer].add((access.index.const, lanes))

    for s in walk(kernel.body):
        if isinstance(s, Store):
            see(s, s.value.lanes)
        for top in exprs(s):
            for e in walk_expr(top):
                if isinstance(e, Load):
                    see(e, e.lanes)
                elif hasattr(e, "buffer") and e.buffer in fixed:
                    fixed[e.buffer] = False
        if hasattr(s, "buffer") and not isinstance(s, Store) and s.buffer in fixed:
            fixed[s.buffer] = False
    named = {n: buffers[n] for n in buffers if fixed[n] and len(starts[n]) <= 64 and _disjoint(starts[n])}
    variables = _variables(named, starts, names(kernel) - named.keys())

    def on_expr(e: Expr) -> Expr:
        if isinstance(e, Load) and e.buffer in named:
            return Ref(e.dtype, e.lanes, variables[e.buffer, e.index.const])
        return e

    def on_stmt(s: Stmt) -> list[Stmt]:
        if isinstance(s, Array) and s.name in named:
            places = sorted(starts[s.name])
            return [Declare(variables[s.name, start], s.dtype, lanes, None) for start, lanes in places]
        if isinstance(s, Store) and s.buffer in named:
            return [Assign(variables[s.buffer, s.index.const], s.value)]
        return [s]

    body = _declare_with_value(_drop_unused(map_stmts(kernel.body, on_stmt, on_expr)))
    body, scratch = _large_arrays_to_scratch(body, stack)
    return replace(kernel, body=_name_repeated_loads(_drop_unread(body), Counter()), scratch=scratch)


def _variables(
    buffers: Mapping[str, tuple[int, ...]], starts: Mapping[str, set[tuple[int, int]]], taken: set[str]
) -> dict[tuple[str, int], str]:
    """A name for each place (start) of each buffer that becomes a variable."""
    out: dict[tuple[str, int], str] = {}
    taken = set(taken)
    for buffer, extents in buffers.items():
        width = min((lanes for _, lanes in starts[buffer]), default=1)
        places = {start: _place(start, extents, width) for start, _ in starts[buffer]}
        differing = [d for d in range(len(extents)) if len({place[d] for place in places.values()}) > 1]
        stem = f"{buffer}_" if differing and buffer[-1].isdigit() else buffer
        while True:
            names = {start: stem + "_".join(str(place[d]) for d in differing) for start, place in places.items()}
            if not taken.intersection(names.values()):
                break
            stem += "_"
        taken |= set(names.values())
        out |= {(buffer, start): name for start, name in names.items()}
    return out


def _place(start: int, extents: Sequence[int], width: int) -> tuple[int, ...]:
    """The index of an element, its last dimension counted in vectors of `width`."""
    out = []
    for extent in reversed(extents):
        start, k = divmod(start, extent)
        out.append(k)
    return (*reversed(out[1:]), out[0] // width) if out else ()


def _drop_unused(stmts: Block) -> Block:
    """Removes variables that only their own sums read, and the loops that nothing is left of."""
    used = variables(stmts) | {
        e.name
        for s in walk(stmts)
        for top in exprs(s)
        for e in walk_expr(top)
        if isinstance(e, Ref) and not (isinstance(s, Assign) and s.name == e.name)
    }
    unused = {s.name for s in walk(stmts) if isinstance(s, Declare)} - used
    if not unused:
        return stmts

    def on_stmt(s: Stmt) -> list[Stmt]:
        gone = (isinstance(s, Declare | Assign) and s.name in unused) or (isinstance(s, For) and not s.body)
        return [] if gone else [s]

    return map_stmts(stmts, on_stmt, lambda e: e)


def _drop_unread(stmts: Block) -> Block:
    """Removes variables of straight-line code that nothing reads: a tile's elements beyond a ragged edge; and loops
    that nothing is left of."""
    out: list[Stmt] = []
    read: set[str] = set()
    for s in reversed(stmts):
        if not isinstance(s, If):
            s = map_blocks(s, _drop_unread)
        if (isinstance(s, Declare) and s.name not in read) or (isinstance(s, For | Scope) and not s.body):
            continue
        if isinstance(s, Array) and not _accesses(out, s.name):
            continue
        assigned = {t.name for t in walk((s,)) if isinstance(t, Assign)}
        read |= assigned | {e.name for e in expressions((s,)) if isinstance(e, Ref)} | variables((s,))
        out.append(s)
    return tuple(reversed(out))


def _accesses(stmts: Sequence[Stmt], buffer: str) -> bool:
    """Whether statements read or write a buffer."""
    nodes: Iterable[Stmt | Expr] = (*walk(tuple(stmts)), *expressions(stmts))
    return any(buffer in (getattr(n, "buffer", None), getattr(n, "pointer", None)) for n in nodes)


def _large_arrays_to_scratch(stmts: Block, stack: int) -> tuple[Block, int]:
    """Moves arrays of more than a stack's share into scratch memory; returns its size in bytes, a multiple of 64."""
    offsets: dict[str, int] = {}
    size = 0
    for s in walk(stmts):
        if isinstance(s, Array) and s.name not in offsets and s.size * _ITEMSIZE.get(s.dtype, 1) > stack:
            offsets[s.name] = size
            size += -(-s.size * _ITEMSIZE.get(s.dtype, 1) // 64) * 64

    def on_stmt(s: Stmt) -> list[Stmt]:
        if isinstance(s, Array) and s.name in offsets:
            return [replace(s, space=Space.SCRATCH, offset=offsets[s.name])]
        return [s]

    return (map_stmts(stmts, on_stmt, lambda e: e), size) if offsets else (stmts, 0)


def _disjoint(places: set[tuple[int, int]]) -> bool:
    end = -1
    for start, lanes in sorted(places):
        if start < end:
            return False
        end = start + lanes
    return True


def _declare_with_value(stmts: Block) -> Block:
    """Joins a declaration with the first assignment when that stands in the same block, before any use."""
    out: list[Stmt] = []
    waiting: dict[str, Declare] = {}
    for s in stmts:
        s = map_blocks(s, _declare_with_value)
        if isinstance(s, Declare) and s.value is None:
            waiting[s.name] = s
            continue
        if isinstance(s, Assign) and s.name in waiting:
            d = waiting.pop(s.name)
            out.append(replace(d, value=s.value))
            continue
        if waiting:
            used = {e.name for e in expressions((s,)) if isinstance(e, Ref)}
            used |= {t.name for t in walk((s,)) if isinstance(t, Assign)}
            out.extend(waiting.pop(n) for n in list(waiting) if n in used)
        out.append(s)
    return tuple(out)


def _name_repeated_loads(stmts: Block, outer: Counter[str]) -> Block:
    """Within a run of updates of registers, names each load that occurs more than once: one load, one name."""
    out: list[Stmt] = []
    run: list[Stmt] = []
    count = Counter(outer)

    def flush() -> None:
        loads = Counter(e for e in expressions(run) if isinstance(e, Load))
        repeated = [e for e, n in loads.items() if n > 1]
        names: dict[Expr, str] = {}
        for e in repeated:
            names[e] = f"{e.buffer}_at{count[e.buffer]}"
            count[e.buffer] += 1
        out.extend(Declare(n, e.dtype, e.lanes, e, True) for e, n in names.items())
        out.extend(
            t
            for t in map_stmts(
                tuple(run), lambda s: [s], lambda e: Ref(e.dtype, e.lanes, names[e]) if e in names else e
            )
        )
        run.clear()

    for s in stmts:
        if isinstance(s, Assign):
            run.append(s)
            continue
        flush()
        out.append(map_blocks(s, lambda block: _name_repeated_loads(block, count)))
    flush()
    return tuple(out)
