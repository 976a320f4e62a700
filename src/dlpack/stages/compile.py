"""From a prepared model to a program for each machine, and what its inputs and outputs mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dlpack.errors import UnsupportedError, UsageError
from dlpack.loops.sizes import SAMPLES, Size
from dlpack.meaning.labels import check_labels
from dlpack.meaning.preprocess import Preprocess, from_metadata, resolve
from dlpack.meaning.shape_sets import check_sets, set_name
from dlpack.options import Options, Progress
from dlpack.stages.decoder import with_decoder
from dlpack.stages.prepare import Prepared
from dlpack.stages.ways import Batch

if TYPE_CHECKING:
    from dlpack.amalgamate.classifier import Classifier
    from dlpack.plan.program import Program, ShapeSet, Tensor
    from dlpack.targets.base import Build


def needed(builds: Sequence[Build], prepared: Prepared) -> tuple[Build, ...]:
    """The builds that are of use to the model. Raises UsageError for float16 where the model is quantised."""
    from dlpack.graph.quantized import is_quantized

    integers = any(is_quantized(case.graph) for case in prepared.cases)
    if integers and any(b.halves for b in builds):
        raise UsageError("arithmetic in float16 is for networks of floats, and this one has quantised values")
    return tuple(b for b in builds if integers or b.rounds or not b.for_dots) or tuple(builds)


def compile_for(
    name: str, prepared: Prepared, options: Options, builds: Sequence[Build], progress: Progress
) -> dict[str, Program]:
    """By machine, the program for all sets of shapes; all have the same weights, and as many threads."""
    batch = prepared.batch
    if batch is None or batch.graph is None:
        return _compiled(name, prepared, options, builds, progress)
    try:
        return _compiled(name, prepared, options, builds, progress)
    except UnsupportedError as e:  # no kernels for any size
        other = replace(prepared, batch=batch.otherwise(e))
        return compile_for(name, other, options, builds, progress)


def _compiled(
    name: str, prepared: Prepared, options: Options, builds: Sequence[Build], progress: Progress
) -> dict[str, Program]:
    from dlpack.bundle.manifest import described
    from dlpack.kernels.settled import Weights
    from dlpack.plan.compiler import Compiler
    from dlpack.plan.stages import with_stages
    from dlpack.targets.base import about

    weights = Weights()
    programs: dict[str, Program] = {}
    machines = {build.machine().name: build for build in builds}
    cases = prepared.cases[:1] if prepared.batch else prepared.cases
    alone = len(machines) == len(cases) == 1
    for machine, build in machines.items():
        backend = build.backend(build.machine(), options.threads)
        compiler = Compiler(name, backend, options.optimize != "size", options.threads, weights, alone)
        for case in cases:
            with progress.stage("compile") as detail:
                graph = prepared.batch.graph if prepared.batch else None
                try:
                    shape_set = compiler.add(graph or case.graph, case.meanings)
                except UnsupportedError as e:
                    if graph and (build.halves or build.rounds):
                        e.args = (f"{e} (--arithmetic float32 may do it)",)
                    raise
                a = shape_set.arena
                detail.append(f"{len(compiler.kernels)} kernels")
                detail.append(f"arena {a.size:,} bytes (lower bound {a.lower_bound:,}, without sharing {a.naive:,})")
                detail += [set_name(described(shape_set))] if len(cases) > 1 else []
                detail += [f"for {machine}"] if len(machines) > 1 else []
                detail += [f"for {told}"] if (told := about(build.machine())) else []
        program = compiler.program()
        program = with_decoder(program, prepared.generation) if prepared.generation else program
        if prepared.batch:
            graph = prepared.batch.graph
            sized = by_size if graph and graph.opens else by_extent if graph else by_sample
            program = sized(program, prepared.batch)
        programs[machine] = program
        check_sets([described(s) for s in programs[machine].ends])
    if prepared.batch and prepared.batch.graph:
        programs = with_stages(programs, prepared.batch.open)
    threads, blob = max(p.threads for p in programs.values()), bytes(weights.blob)
    return {machine: replace(program, weights=blob, threads=threads) for machine, program in programs.items()}


def by_sample(program: Program, batch: Batch) -> Program:
    """The program for one sample as that for up to the batch's largest number of them."""
    from dlpack.plan.open_sets import OpenSets

    one = program.shape_sets[0]

    def several(t: Tensor, dimension: int | None, samples: int) -> Tensor:
        return replace(t, shape=tuple(n * samples if d == dimension else n for d, n in enumerate(t.shape)))

    @lru_cache(16)
    def of_number(number: int) -> ShapeSet:
        n = number + 1
        return replace(
            one,
            inputs=tuple(several(t, batch.open.inputs.get(t.name), n) for t in one.inputs),
            outputs=tuple(several(t, batch.outputs.get(t.name), n) for t in one.outputs),
            macs=one.macs * n,
            steps=one.steps if n == 1 else (),
            places=one.places if n == 1 else (),
            blocks=one.blocks if n == 1 else (),
            samples=n,
        )

    return replace(program, shape_sets=OpenSets(batch.open.largest, of_number))


def by_extent(program: Program, batch: Batch) -> Program:
    """The program with kernels for any size as that for each of them."""
    from dlpack.plan.open_sets import OpenSets
    from dlpack.plan.program import CallStep, LoopStep

    most, graph = program.shape_sets[0], batch.graph
    assert graph is not None
    kernels = {k.name: k for k in program.kernels}
    called = [kernels[s.kernel] for s in most.steps if isinstance(s, CallStep)]
    in_loops = [
        kernels[s.kernel] for step in most.steps if isinstance(step, LoopStep) for s in step.body
        if isinstance(s, CallStep)
    ]  # fmt: skip

    def sized(t: Tensor, dimension: int | None, n: int) -> Tensor:
        return replace(t, shape=tuple(n if d == dimension else size for d, size in enumerate(t.shape)))

    def macs(n: int) -> int:
        own: int = sum(k.macs * n**k.kernel.opened // graph.open**k.kernel.opened for k in called)
        return own + n * sum(k.macs for k in in_loops)

    @lru_cache(16)
    def of_number(number: int) -> ShapeSet:
        n = batch.open.smallest + number
        return replace(
            most,
            inputs=tuple(sized(t, batch.open.inputs.get(t.name), n) for t in most.inputs),
            outputs=tuple(sized(t, batch.outputs.get(t.name), n) for t in most.outputs),
            macs=macs(n),
            extent=n,
        )

    return replace(
        program,
        shape_sets=OpenSets(batch.open.count, of_number),
        kernels=tuple(replace(k, macs=0) if k.kernel.opened else k for k in program.kernels),
        rooms=tuple(t.nbytes for t in (*most.inputs, *most.outputs)),
    )


def by_size(program: Program, batch: Batch) -> Program:
    """The program with kernels for pictures of any size as that for each of them."""
    from dlpack.plan.open_sets import OpenSets
    from dlpack.plan.program import CallStep

    most = _of_samples(program.shape_sets[0], batch) if batch.by_sample else program.shape_sets[0]
    made = {s.axis: (n // s.times, s.times) for t in most.inputs for n, s in zip(t.shape, t.sizes, strict=False) if s}
    count = len(batch.open.bounds)
    axes = [*range(count - 1), SAMPLES] if batch.by_sample else range(count)
    made[SAMPLES] = 1, 1
    whole = {axis: made[axis][0] for axis in axes}
    units = [made[axis][1] for axis in axes]
    bounds = tuple(
        replace(b, unit=unit, axis=axis) for b, unit, axis in zip(batch.open.bounds, units, axes, strict=True)
    )
    kernels = {k.name: k for k in program.kernels}
    called = [kernels[s.kernel] for s in most.steps if isinstance(s, CallStep)]

    def sized(t: Tensor, numbers: Mapping[int, int]) -> Tensor:
        own = t.sizes or (None,) * len(t.shape)
        return replace(t, shape=tuple(s.in_run(numbers) if s else n for n, s in zip(t.shape, own, strict=True)))

    def macs(numbers: Mapping[int, int]) -> int:
        total = 0
        for k in called:
            part = float(k.macs)
            for s in k.kernel.sizes:
                part *= s.in_run(numbers) / s.in_run(whole)
            total += round(part)
        return total * numbers.get(SAMPLES, 1)

    @lru_cache(16)
    def of_number(number: int) -> ShapeSet:
        sizes = batch.open.sizes(number)
        own = {axis: n // unit for axis, n, unit in zip(axes, sizes, units, strict=True)}
        inputs, outputs = (tuple(sized(t, own) for t in of) for of in (most.inputs, most.outputs))
        return replace(most, inputs=inputs, outputs=outputs, macs=macs(own), sizes=sizes, samples=own.get(SAMPLES, 0))

    plain = tuple(replace(k, macs=0) if k.kernel.opened else k for k in program.kernels)
    return replace(program, shape_sets=OpenSets(batch.open.count, of_number), kernels=plain, bounds=bounds)


def _of_samples(one: ShapeSet, batch: Batch) -> ShapeSet:
    """The inputs and outputs of one sample as those of any number of them."""

    def several(t: Tensor, d: int) -> Tensor:
        own = t.sizes or (None,) * len(t.shape)
        sizes = tuple(Size(SAMPLES, times=t.shape[k]) if k == d else s for k, s in enumerate(own))
        return replace(t, sizes=sizes)

    dims = {name: own[-1] for name, own in batch.open.dims.items()}
    return replace(
        one,
        inputs=tuple(several(t, dims.get(t.name, -1)) for t in one.inputs),
        outputs=tuple(several(t, batch.outputs.get(t.name, -1)) for t in one.outputs),
    )


def in_file(programs: Mapping[str, Program], builds: Sequence[Build]) -> dict[str, Program]:
    """Those of the programs whose kernels stand in NAME.cc."""
    machines = {build.machine().name for build in builds if build.code}
    return {machine: program for machine, program in programs.items() if machine in machines}


def classifier_of(options: Options, prepared: Prepared, program: Program) -> Classifier:
    """Class names, the preprocessing for each set of shapes, the task: from the options or the model's metadata."""
    from dlpack.amalgamate.classifier import Classifier
    from dlpack.bundle.manifest import described
    from dlpack.meaning.task import task_of

    if prepared.generation:
        hears = prepared.generation.features and not prepared.generation.heard_mask
        return Classifier((), (), {"kind": "transcribe" if hears else "generate"})
    source = prepared.source
    labels = check_labels(options.labels, "--labels") if options.labels else source.labels or ()
    sets = [program.shape_sets[k] for k in prepared.tried()]
    inputs = [described(s)["inputs"] for s in sets]
    pictures: tuple[Preprocess | None, ...] = ()
    if options.preprocess:
        pictures = resolve(options.preprocess, inputs)
    elif "dlpack.preprocess" in source.metadata:
        pictures = from_metadata(source.metadata["dlpack.preprocess"], inputs)
    number = next((k for k, picture in enumerate(pictures) if picture), 0)
    expected = prepared.cases[number].trial.expected.outputs[: source.outputs]
    told = described(sets[number])
    own = {**told, "outputs": told["outputs"][: source.outputs], **({"preprocess": {}} if any(pictures) else {})}
    return Classifier(labels, pictures, task_of(options.task, source.metadata, own, expected))
