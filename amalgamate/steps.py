"""[RUN]: the steps that call kernels with the addresses of their operands, and what prepares weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import gcd

from dlpack.amalgamate.cpp import AXES, CPP_TYPE, literal, trips_of
from dlpack.amalgamate.machines import SHARE_TRIPS, called
from dlpack.amalgamate.places import Places
from dlpack.amalgamate.text import signature, wrap
from dlpack.amalgamate.wrap import wrapped
from dlpack.graph.ir import HALF, HALVES, TensorType
from dlpack.loops.ir import FILLED
from dlpack.loops.sizes import Size
from dlpack.meaning.open_batch import Bounds
from dlpack.plan.program import (
    Address,
    CallStep,
    CopyStep,
    CountStep,
    FewCall,
    FillStep,
    HaloStep,
    LoopStep,
    PixelsStep,
    Program,
    RowsStep,
    ShareStep,
    SpreadStep,
    Step,
    Stride,
    TapsStep,
)
from dlpack.plan.weight_steps import DequantizeStep, PackedDim, RepackStep, SumStep, WinogradStep


class StepPrinter:
    """Prints the steps of a program; `embed`: its weights are inside the file, `machines`: so is code for others;
    `launch` and `addresses` as in `Code`."""

    def __init__(
        self,
        program: Program,
        embed: bool,
        machines: bool = False,
        launch: Callable[[str, Sequence[str]], str] = called,
        addresses: str = "",
    ) -> None:
        self.program, self.embed, self.machines, self.launch = program, embed, machines, launch
        self.addresses = addresses
        self.places = Places(program)
        self.kernels = {k.name: k.kernel for k in program.kernels}
        self.threaded = program.threads > 1
        self.inside: dict[Step, int] = {}  # calls in loops that threads share → their numbers as jobs

    def run(self) -> str:
        sets = self.program.own_sets
        steps = [step for s in sets for step in s.steps]
        starts = {sum(len(s.steps) for s in sets[:k]): s for k, s in enumerate(sets)} if len(sets) > 1 else {}
        parallel = {k: s for k, s in enumerate(steps) if isinstance(s, CallStep) and self.trips(s) and self.threaded}
        lines: list[str] = []
        if self.threaded:
            calls = (s for step in steps if isinstance(step, LoopStep) for s in step.body if self.trips(s))
            self.inside = {s: len(steps) + k for k, s in enumerate(dict.fromkeys(calls))}
            cases = [self.case(k, self.step(s, 2, parallel=True)) for k, s in parallel.items()]
            trip = f"    [[maybe_unused]] const size_t {_trip(0)} = look(p.pool->trip);"
            for s, k in self.inside.items():
                call = ["    " + line for line in self.step(s, 2, parallel=True)]
                cases.append([f"        case {k}: {{", f"        {trip}", *call, "            return;", "        }"])
            head = "int begin, int end, [[maybe_unused]] int32_t worker"
            lines += [
                "// Runs trips [begin, end) of a step's loop; each worker has its own scratch memory.",
                f"void run_part([[maybe_unused]] const @name@_predictor& p, int32_t index, {head}) {{",
                *self.extent(),
                "    switch (index) {",
                *[line for case in cases for line in case],
                "        default: (void)begin, (void)end; return;",
                "    }",
                "}",
                *([] if self.machines else [SHARE_TRIPS]),
                "",
            ]
        head = "void run_step([[maybe_unused]] const @name@_predictor& p, int32_t index) {"
        lines += [head, *self.extent(), "    switch (index) {"]
        for k, step in enumerate(steps):
            lines += [f"        // {line}" for line in wrap([signature(starts[k])])] if k in starts else []
            lines += self.case(
                k, [f"share_trips(p, {k}, {self.trips(step)});"] if k in parallel else self.step(step, 2)
            )
        lines += ["        default: return;", "    }", "}"]
        names = ",\n    ".join(f'"{self.step_name(s)}"' for s in steps) or "nullptr"
        lines += ["", *self.prepare()]
        alone = len(self.program.shape_sets) == 1 and not self.machines
        count = f"constexpr int32_t kStepCount = {len(steps)};\n" if alone else ""
        text = [part for line in "\n".join(lines).split("\n") for part in ([line] if "//" in line else wrapped(line))]
        return f"{count}constexpr const char* kStepNames[] = {{\n    {names}}};\n\n" + "\n".join(text)

    def prepare(self) -> list[str]:
        """What is computed from the weights as they arrive."""
        steps = self.program.prepare
        if not steps:
            return ["void prepare(const @name@_predictor&, size_t, size_t, bool) {}"]
        mapped = "" if self.embed else " mapped"
        lines = [
            "// Prepares the weights whose last byte is in [from, to).",
            f"void prepare(const @name@_predictor& p, size_t from, size_t to, bool{mapped}) {{",
            "    const auto due = [from, to](size_t end) { return from < end && end <= to; };",
        ]
        read: dict[int, tuple[Address, int]] = {}  # where prepared weights lie → those that they are made of
        for step in steps:
            assert isinstance(step, WinogradStep | RepackStep | DequantizeStep | SumStep)
            parts = [read[a.offset] if a.space == "prepared" else (a, nbytes) for a, nbytes in _reads(step)]
            source, nbytes = max(parts, key=lambda part: part[0].offset)
            read[step.target.offset] = source, nbytes
            lines += [f"    if (due({self.places.offset(source)} + {nbytes})) {{", *self.step(step, 2)]
            if mapped and not isinstance(step, SumStep):  # whose sources kernels read as well
                lines.append(f"        if (mapped) read_once({self.host_pointer(source)}, {nbytes});")
            lines += ["    }"]
        return [*([] if self.embed else _READ_ONCE.split("\n")), *lines, "}"]

    def extent(self) -> list[str]:
        """The number of elements of the open dimension, if one is."""
        if self.program.opened:
            return ["    const int extent = kSmallest + p.set;"]
        return sizes_of_set(self.program.bounds)

    def case(self, k: int, body: list[str]) -> list[str]:
        if len(body) == 1:
            return [f"        case {k}: {body[0].strip()} return;"]
        return [f"        case {k}:", *["    " + line for line in body], "            return;"]

    def trips(self, step: Step) -> str:
        """Of a call: the trips that threads may share, "" for none."""
        kernel = self.kernels[step.kernel] if isinstance(step, CallStep) else None
        if kernel is None or not kernel.trips:
            return ""
        trips = trips_of(kernel.open_trips) if kernel.open_trips else str(kernel.trips)
        if isinstance(step, CallStep) and (few := step.few):
            return f"{_is_small(few)} ? {self.kernels[few.kernel].trips or 1} : {trips}"
        return trips

    def step_name(self, step: Step) -> str:
        if isinstance(step, CallStep):
            return step.kernel
        names = {
            HaloStep: "fill_halo",
            FillStep: "fill_behind",
            SpreadStep: "gather" if isinstance(step, SpreadStep) and step.back else "spread",
            ShareStep: "share",
            CountStep: "count",
            RowsStep: "move_rows",
            PixelsStep: "move_pixels",
            TapsStep: "taps",
        }
        return names.get(type(step), "loop")

    def step(self, step: Step, depth: int, loops: int = 0, parallel: bool = False) -> list[str]:
        """The lines of a step that stands inside of so many loops.

        `parallel`: the part [begin, end) of a call's trips, by thread `worker`.
        """
        pad = "    " * depth
        if isinstance(step, LoopStep):
            t = _trip(loops)
            body = [line for s in step.body for line in self.step(s, depth + 1, loops + 1)]
            count = _count(step.count)
            if isinstance(step.count, Size):
                count = f"static_cast<size_t>({count})"
            order = f"{t} = {count}; {t}-- > 0;" if step.backwards else f"{t} = 0; {t} < {count}; ++{t}"
            return [f"{pad}for (size_t {order}) {{", *body, f"{pad}}}"]
        if isinstance(step, CopyStep):
            return [f"{pad}copy_bytes({self.pointer(step.target)}, {self.pointer(step.source)}, {step.nbytes});"]
        if isinstance(step, WinogradStep):
            sizes = f"{step.inputs}, {step.outputs}, {step.columns}, {step.room}"
            lanes = gcd(step.room, 16)
            write = ", to_f16()" if step.target.dtype == HALF else ""
            pointers = f"{self.host_pointer(step.target)}, {self.host_pointer(step.source)}"
            if step.target.dtype == "int16":  # eight lanes: GCC warns of vectors that are wider than AVX2's
                return [f"{pad}winograd_pairs<own_lanes({gcd(lanes, 8)})>({pointers}, {sizes});"]
            window = f"winograd_{step.window}x{step.window}()"
            given = f"{pointers}, {sizes}, {window}{_read(step.source)}{write}"
            blocks = ", true" if step.blocks else ""
            return [f"{pad}winograd_weights<{step.edge}, own_lanes({lanes}){blocks}>({given});"]
        if isinstance(step, RepackStep):
            return self._repack(step, pad)
        if isinstance(step, SumStep):
            return self._sum(step, pad)
        if isinstance(step, DequantizeStep):
            return self._dequantize(step, pad)
        if not isinstance(step, CallStep):
            return self._moved(step, pad)
        if loops == 1 and step in self.inside:
            return [f"{pad}share_trips(p, {self.inside[step]}, {self.trips(step)}, {_trip(0)});"]
        return self._call(step, pad, parallel)

    def _call(self, step: CallStep, pad: str, parallel: bool) -> list[str]:
        """The lines of a call, and of that for a small picture."""
        if few := step.few:
            return [
                *wrapped(f"{pad}if ({_is_small(few)}) {{"),
                *self._call(CallStep(few.kernel, few.arguments), pad + "    ", parallel),
                f"{pad}}} else {{",
                *self._call(replace(step, few=None), pad + "    ", parallel),
                f"{pad}}}",
            ]
        kernel = self.kernels[step.kernel]
        arguments = [self.pointer(a) for a in step.arguments]
        if parallel and kernel.scratch:
            arguments[-1] += f" + worker * {kernel.scratch}"
        if kernel.trips:
            arguments += ["begin", "end"] if parallel else ["0", self.trips(step)]
        if kernel.opened:
            rows, columns = step.one_row or (None, None)
            whole = {rows: "1", columns: f"({_count(rows)}) * ({_count(columns)})"} if rows and columns else {}
            arguments += [whole.get(size) or _count(size) for size in kernel.sizes] or ["extent"]
        return wrapped(f"{pad}{self.launch(step.kernel, arguments)}")

    def _moved(self, step: Step, pad: str) -> list[str]:
        """The lines of a step that fills or moves values."""
        if isinstance(step, HaloStep):
            rank = len(step.shape)

            def ints(v: Sequence[int]) -> str:
                return ", ".join(map(str, v))

            value = literal(step.fill, step.target.dtype)
            if step.used:
                inner = (n - a - b for n, a, b in zip(step.shape, step.low, step.high, strict=True))
                used = ", ".join(str(n) if s is None else _count(s) for s, n in zip(step.used, inner, strict=True))
                return [
                    f"{pad}{{",
                    f"{pad}    constexpr int32_t shape[] = {{{ints(step.shape)}}};",
                    f"{pad}    constexpr int32_t low[] = {{{ints(step.low)}}}, high[] = {{{ints(step.high)}}};",
                    f"{pad}    const int32_t used[] = {{{used}}};",
                    f"{pad}    fill_border({self.pointer(step.target)}, {rank}, shape, low, used, high, {value});",
                    f"{pad}}}",
                ]
            return [
                f"{pad}{{",
                f"{pad}    constexpr int32_t shape[] = {{{ints((*step.shape, 0))}}};",
                f"{pad}    constexpr int32_t low[] = {{{ints(step.low)}}}, high[] = {{{ints(step.high)}}};",
                f"{pad}    fill_halo({self.pointer(step.target)}, {rank}, shape, low, high, {value});",
                f"{pad}}}",
            ]
        if isinstance(step, FillStep):
            extent, value = _count(step.size), literal(step.value, step.target.dtype)
            rows = ", ".join(f"{{{_count(n)}, {stride}}}" for n, stride in (*step.rows, (1, 0)))
            call = f"fill_behind({self.pointer(step.target)}, {len(step.rows)}, rows, {extent}, {FILLED}, {value});"
            return [f"{pad}{{", f"{pad}    const filled_rows rows[] = {{{rows}}};", f"{pad}    {call}", f"{pad}}}"]
        if isinstance(step, SpreadStep):
            dims = ", ".join(f"{{{_count(n)}, {stride}}}" for n, stride in step.dims)
            pointers = f"{self.pointer(step.target)}, {self.pointer(step.source)}"
            call = f"{'gather' if step.back else 'spread'}({pointers}, {len(step.dims)}, dims);"
            return [f"{pad}{{", f"{pad}    const spread_dim dims[] = {{{dims}}};", f"{pad}    {call}", f"{pad}}}"]
        if isinstance(step, PixelsStep):
            dims = ", ".join(f"{{{_count(n)}, {_stride(a)}, {_stride(b)}}}" for n, a, b in step.dims)
            call = f"move_pixels({self.pointer(step.target)}, {self.pointer(step.source)}, {len(step.dims)}, dims);"
            return [
                f"{pad}{{",
                *wrapped(f"{pad}    const moved_dim dims[] = {{{dims}}};"),
                f"{pad}    {call}",
                f"{pad}}}",
            ]
        if isinstance(step, RowsStep):
            sizes = f"{_count(step.rows)}, {_count(step.columns)}, {step.channels}, {step.pixel}, {step.row}"
            return wrapped(f"{pad}move_rows<{str(step.apart).lower()}>({self.pointer(step.target)}, {sizes});")
        if isinstance(step, TapsStep):
            weights = self.pointer(step.weights) if step.weights else "nullptr"
            sizes = f"{_count(step.source)}, {_count(step.to)}, {step.whole}"
            how = ", ".join(literal(v, "float64") if isinstance(v, float) else str(int(v)) for v in step.how)
            return [
                f"{pad}{{",
                *wrapped(f"{pad}    const taps_rule rule = {{{sizes}, {how}}};"),
                f"{pad}    write_taps({self.pointer(step.places)}, {weights}, rule);",
                f"{pad}}}",
            ]
        if isinstance(step, CountStep):
            kind = CPP_TYPE[step.target.dtype]
            return [f"{pad}*{self.pointer(step.target)} = static_cast<{kind}>({_count(step.size)});"]
        assert isinstance(step, ShareStep)
        count = " * ".join(f"static_cast<float>({n})" for n in (*map(_count, step.sizes), step.fixed))
        return [f"{pad}*{self.pointer(step.target)} = 1.0f / ({count});"]

    def _sum(self, step: SumStep, pad: str) -> list[str]:
        parts = ", ".join(self.host_pointer(a) for a in step.sources)
        call = f"summed_weights<own_lanes({step.lanes})>({self.host_pointer(step.target)}, {step.count}, parts, signs);"
        return [
            f"{pad}{{",
            f"{pad}    const float* const parts[] = {{{parts}}};",
            f"{pad}    constexpr int signs[] = {{{', '.join(map(str, step.signs))}}};",
            f"{pad}    {call}",
            f"{pad}}}",
        ]

    def _repack(self, step: RepackStep, pad: str) -> list[str]:
        """Dimensions with far apart elements in the target come first, so that it is written in order."""
        elements, read = step.written // _size(step.target), _read(step.source)
        pointers = self.host_pointer(step.target), self.host_pointer(step.source)
        if read and step.read == elements * 2 and all(source == target for source, target in step.places):
            return [f"{pad}widen({', '.join(pointers)}, {elements}{read});"]
        dims = [
            (n, source, target) for n, (source, target) in zip(step.extents, step.places, strict=True) if n > 1
        ] or [(1, PackedDim(1, 0, 0), PackedDim(1, 0, 0))]
        dims.sort(key=lambda d: -(d[2].outer or d[2].inner))
        rows = [
            f"{{{n}, {source.size}, {source.outer}, {source.inner}, {target.size}, {target.outer}, {target.inner}}}"
            for n, source, target in dims
        ]
        return [
            f"{pad}constexpr repacked_dim dims[] = {{{', '.join(rows)}}};",
            f"{pad}repack({pointers[0]}, {elements}, {pointers[1]}, {len(dims)}, dims{read});",
        ]

    def _dequantize(self, step: DequantizeStep, pad: str) -> list[str]:
        dims = zip(step.extents, step.places, step.blocks, step.steps, strict=True)
        rows = [f"{{{n}, {p.size}, {p.outer}, {p.inner}, {block}, {each}}}" for n, p, block, each in dims]
        codes, table, scales = (self.host_pointer(a) for a in (step.source, step.table, step.scales))
        zeros = self.host_pointer(step.zeros) if step.zeros else "nullptr"
        elements, target = step.written // _size(step.target), self.host_pointer(step.target)
        if step.pairs:
            elements, target = 2 * elements, f"nibble_place<{step.pairs}>{{{target}, 0}}"
        return [
            f"{pad}constexpr dequantized_dim dims[] = {{{', '.join(rows)}}};",
            f"{pad}const stored_codes<{step.bits}> stored = {{{codes}, {table}, {scales}, {zeros}}};",
            f"{pad}dequantize({target}, {elements}, stored, {len(rows)}, dims);",
        ]

    def pointer(self, address: Address) -> str:
        """Of a step of a run, where the machine finds it."""
        return self.addresses + self.host_pointer(address)

    def host_pointer(self, address: Address) -> str:
        plain = address.space in ("input", "output", "cache")
        offset = str(address.offset) if plain else self.places.offset(address)
        for loop, step in enumerate(address.steps):
            if step:
                offset += f" {'+' if step > 0 else '-'} {_trip(loop)} * {abs(step)}"
        kind = CPP_TYPE[address.dtype]
        if address.space == "arena":
            return f"arena<{kind}>(p, {offset})"
        if address.space == "cache":
            return f"cache_at<{kind}>(p, {offset})"
        if address.space == "weights":
            return f"weight<{kind}>(p, {offset})"
        if address.space == "prepared":
            return f"prepared<{kind}>(p, {offset})"
        return f"{address.space}<{kind}>(p, {address.index}, {offset})"


_READ_ONCE = """\
// Releases the memory of mapped weights that are not needed again.
void read_once([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#if !defined(@NAME@_FREESTANDING)
    forget_pages(data, bytes);
#endif
}
"""


def _reads(step: Step) -> Iterator[tuple[Address, int]]:
    """The weights that a step of `prepare` reads, and how many bytes."""
    if isinstance(step, WinogradStep):
        outputs = -(-step.outputs // step.columns) * step.room if step.blocks else step.outputs
        yield step.source, step.window**2 * step.inputs * outputs * _size(step.source)
    elif isinstance(step, RepackStep):
        yield step.source, step.read
    elif isinstance(step, SumStep):
        yield from ((source, step.count * _size(source)) for source in step.sources)
    else:
        assert isinstance(step, DequantizeStep)
        yield step.source, step.read
        yield step.scales, step.count * _size(step.scales)
        yield step.table, (1 << step.bits) * _size(step.table)
        if step.zeros:
            yield step.zeros, step.count


def _size(address: Address) -> int:
    """Bytes of an element."""
    return TensorType(address.dtype, ()).itemsize


def _read(source: Address) -> str:
    """The argument that says how floats are made of the elements of a weight; nothing where they are floats."""
    if source.dtype == HALF:
        return ", from_f16()"
    return f", from_{source.dtype}()" if source.dtype in HALVES else ""


def _is_small(few: FewCall) -> str:
    """Whether a run's picture has few pixels."""
    return f"{' * '.join(f'({_count(n)})' for n in few.extents)} <= {few.most}"


def _count(n: int | Size) -> str:
    """A number of elements, which may be one of a run."""
    return n.text(*AXES) if isinstance(n, Size) else str(n)


def _stride(stride: Stride) -> str:
    """How far apart elements are, which may depend on how many a run has in a row."""
    if isinstance(stride, int):
        return str(stride)
    count, each = stride
    return f"({_count(count)}) * {each}"


def sizes_of_set(bounds: Sequence[Bounds], place: str = "p.set") -> list[str]:
    """The open sizes of pictures in a set of shapes, by default the current one, in units of their steps."""
    lines = []
    for k, b in reversed(list(enumerate(bounds))):
        unit = b.unit
        number = place if k == 0 else f"{place} % {len(b.sizes)}"
        number += f" * {b.step // unit}" if b.step != unit else ""
        lines.append(f"    [[maybe_unused]] const int {AXES[b.axis]} = {b.smallest // unit} + {number};")
        place = f"{place} / {len(b.sizes)}"
    return lines[::-1]


def _trip(loop: int) -> str:
    """The variable that counts the trips of a loop, 0 being the outermost."""
    return f"t{loop}" if loop else "t"
