"""The pipeline: the order of the stages from a model file to a bundle, and nothing else."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlpack import __version__
from dlpack.errors import ModelError, UnsupportedError, UsageError, VerificationError
from dlpack.meaning.labels import check_labels, labels_from_metadata, labels_warning
from dlpack.meaning.preprocess import Preprocess, from_metadata, resolve
from dlpack.meaning.shape_sets import (
    Buckets,
    Shapes,
    bucket_sets,
    check_sets,
    describe_buckets,
    describe_shapes,
    reference_names,
    set_name,
)

if TYPE_CHECKING:
    from dlpack.graph.ir import Graph
    from dlpack.meaning.quantization import Meaning
    from dlpack.plan.compiler import Compiler
    from dlpack.plan.memory import Arena
    from dlpack.plan.program import Program, Variant
    from dlpack.targets.cpu.machine import Machine
    from dlpack.verify.reference import Expected

EMBED_LIMIT = 4 << 20
"""`--weights auto` embeds up to this many bytes and writes a side file beyond."""

RUNTIME_FILES = (
    "vectors.h", "maths.h", "values.h", "winograd.h", "classifier.h", "sha256.h", "files.h", "cpu.h", "api.h",
    "threads.h", "predictor.h", "predictor_api.h", "classifier_api.h", "mxnet.h", "selftest.h",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What `dlpack build` is told. `more_shapes` has further sets of shapes, `buckets` makes them of `shapes`.

    `target_options` has the options that the target declares, by their names on the command line.
    """

    target: str = "native"
    name: str = ""
    shapes: Shapes = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    weights: str = "auto"
    cc: str | None = None
    verify: bool = True
    preprocess: str | None = None
    optimize: str = "speed"
    params: Path | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    threads: int = 1
    more_shapes: tuple[Shapes, ...] = ()
    buckets: Buckets | None = None
    target_options: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inputs that become constants, each with its elements as text."""


@dataclass(frozen=True)
class Progress:
    """Told about stages: `start(name)` and `done(name, seconds, detail)`."""

    start: Callable[[str], None] = lambda name: None
    done: Callable[[str, float, str], None] = lambda name, seconds, detail: None
    warn: Callable[[str], None] = lambda text: None

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Reports one stage; what is appended to the list is its detail."""
        self.start(name)
        detail: list[str] = []
        began = time.perf_counter()
        yield detail
        self.done(name, time.perf_counter() - began, ", ".join(detail))


def build(
    model: str | Path, output: str | Path, options: Options | None = None, progress: Progress | None = None
) -> Path:
    """Builds a bundle from a model file; returns its folder.

    Raises a `DlpackError` for everything a user can mend; then nothing is left behind.
    """
    options, progress = options or Options(), progress or Progress()
    model, output = Path(model), Path(output)
    from dlpack.bundle.folder import checksums, new_bundle, write_json, write_manifest, write_notice, write_sbom
    from dlpack.bundle.report import write_report
    from dlpack.targets import check_options, get_target

    target = get_target(options.target)
    name, renamed = bundle_name(options.name, model)
    if renamed:
        progress.warn(renamed)
    problem = target.missing() if not options.cc else None
    if problem:
        from dlpack.errors import ToolchainError

        raise ToolchainError(f"target {target.name} cannot be built here: it needs {problem}")
    if target.downloads_weights and options.weights == "embed":
        raise UsageError(f"target {target.name} keeps the weights in a file of their own: leave --weights embed out")
    check_options(target, options.target_options)
    with new_bundle(output) as folder:
        with progress.stage("read") as detail:
            source = read_source(model, options.params, options.shapes, options.dtypes, options.values)
            for text in source.warnings:
                progress.warn(text)
            detail.append(f"{len(source.proto.graph.node)} nodes, {source.opset}")
            sets, bucketed = _shape_sets(options, source)
            _check_options(options, source, sets)
        machine = replace(target.machine(), threads=options.threads)
        program, trials = _compile(model, name, source, sets, options, machine, progress)
        a = program.arena
        described = [_described(v) for v in program.variants]
        check_sets(described)
        with progress.stage("emit") as detail:
            from dlpack.amalgamate.classifier import Classifier
            from dlpack.amalgamate.document import Provenance, emit_header, emit_source
            from dlpack.targets.toolchains.compiler import source_flags

            embed = options.weights == "embed" or (
                options.weights == "auto" and len(program.weights) <= EMBED_LIMIT and not target.downloads_weights
            )
            runtime = read_runtime()
            provenance = Provenance(
                f"dlpack {__version__}",
                source.sha256,
                source.opset,
                f"{target.name} ({machine.name})",
                _options_text(options),
                "SPDX-License-Identifier: Apache-2.0 (this text and the runtime; the weights: the model's licence)",
                source_flags(machine.name),
            )
            test = [_self_test(v, t) for v, t in zip(program.variants, trials, strict=True)]
            labels, pictures = _labels(options, source), _preprocess(options, source, described)
            classifier = Classifier(labels, pictures)
            if classifier.preprocess and (misfit := classifier.preprocess.misfit()):
                progress.warn(misfit)
            text = emit_source(program, runtime, provenance, embed, test, machine.fma_call, classifier)
            (folder / f"{name}.cc").write_text(text, encoding="utf-8")
            (folder / f"{name}.h").write_text(emit_header(program, runtime, classifier), encoding="utf-8")
            if program.weights and not embed:
                (folder / f"{name}.weights").write_bytes(program.weights)
            where = "inside" if embed else "beside"
            detail.append(f"{name}.cc {len(text):,} bytes, weights {len(program.weights):,} bytes {where}")
        manifest: dict[str, Any] = {
            "format": 1,
            "name": name,
            "tool": f"dlpack {__version__}",
            "target": target.name,
            "machine": machine.name,
            "model_sha256": source.sha256,
            "opset": source.opset,
            **described[0],
            "ranges": [list(r) for r in trials[0].ranges],
            "source": f"{name}.cc",
            "header": f"{name}.h",
            "macs": program.macs,
            "weights_bytes": len(program.weights),
            "threads": program.threads,
            "prepared_bytes": program.prepared,
            "arena": _arena_facts(a),
        }
        kernels = [
            {"name": k.name, "computes": k.title, "schedule": k.schedule, "macs": k.macs, "nodes": list(k.sources)}
            for k in program.kernels
        ]
        write_json(folder / "kernels.json", kernels)
        if len(program.variants) > 1:
            facts = [{"macs": v.macs, "arena": _arena_facts(v.arena)} for v in program.variants]
            manifest["shapes"] = [{**d, **f} for d, f in zip(described, facts, strict=True)]
            for entry, picture in zip(manifest["shapes"], pictures, strict=False):
                entry |= {"preprocess": picture.to_json()} if picture else {}
        if options.buckets:
            manifest["buckets"] = describe_buckets(source.proto, options.buckets, bucketed, described)
        if labels:
            manifest["labels"] = list(labels)
        if classifier.preprocess:
            manifest["preprocess"] = classifier.preprocess.to_json()
        from dlpack.meaning.task import task_of

        number = next((k for k, picture in enumerate(pictures) if picture), 0)
        expected = trials[number].expected.outputs
        task = task_of(options.task, source.metadata, {**manifest, **described[number]}, expected)
        if task:
            manifest["task"] = task
        names_classes = (task or {}).get("kind") in (None, "classify", "digits")
        if names_classes and (warning := labels_warning(labels, manifest["outputs"])):
            progress.warn(warning)
        if program.weights and not embed:
            manifest["weights"] = {
                "file": f"{name}.weights",
                "bytes": len(program.weights),
                "sha256": hashlib.sha256(program.weights).hexdigest(),
            }
        from dlpack.verify.reference import expected_arrays

        arrays: dict[str, Any] = {}
        for number, t in enumerate(trials):
            arrays |= zip(reference_names("in", len(t.inputs), number), t.inputs.values(), strict=True)
            arrays |= expected_arrays(t.expected, number)
        np.savez(folder / "reference.npz", **arrays)
        if target.library:
            with progress.stage("toolchain") as detail:
                from dlpack.targets.toolchains.compiler import compile_library

                library = target.library.format(name)
                compiler = compile_library(
                    folder / f"{name}.cc", folder / library, target.zig_target, target.flags, options.cc
                )
                manifest["library"] = library
                detail.append(f"{compiler}, {library} {(folder / library).stat().st_size:,} bytes")
        if target.package:
            with progress.stage("package") as detail:
                from dlpack.targets.base import PackageOptions

                packaging = PackageOptions(options.cc, options.target_options)
                detail.append(target.package(folder, manifest, packaging))
        write_manifest(folder / "manifest.json", manifest)
        if (target.library or target.run) and target.runs_here() and options.verify:
            with progress.stage("verify") as detail:
                from dlpack.verify.check import verify_bundle

                errors = verify_bundle(folder)
                manifest["verification"] = [e.__dict__ for e in errors]
                bad = [e for e in errors if not e.passed]
                if bad:
                    lines = "; ".join(f"{e.name}: relative error {e.relative:.3g}" for e in bad)
                    raise VerificationError(f"the compiled predictor differs from onnxruntime: {lines}")
                detail.append(f"largest relative error {max((e.relative for e in errors), default=0.0):.2g}")
        write_notice(folder, manifest)
        manifest["files"] = checksums(folder, name)
        write_manifest(folder / "manifest.json", manifest)
        write_sbom(folder, manifest)
        write_report(folder, manifest, kernels)
    return output


@dataclass(frozen=True)
class Source:
    """A model as read from its file."""

    proto: Any
    sha256: str
    opset: str
    metadata: dict[str, str]
    labels: tuple[str, ...] | None
    warnings: tuple[str, ...]
    exported: bool = False
    """Whether an exporter has made it, for the shapes that it was told."""


@dataclass(frozen=True)
class _Trial:
    """Seeded inputs of one set of shapes, the ranges that they are in, and what shall be computed from them."""

    ranges: tuple[tuple[float, float], ...]
    inputs: dict[str, Any]
    expected: Expected


def _compile(
    model: Path, name: str, source: Source, sets: list[Shapes], options: Options, machine: Machine, progress: Progress
) -> tuple[Program, list[_Trial]]:
    """The program for all sets of shapes, and what it shall compute in each."""
    from dlpack.model.meaning import meanings

    compiler: Compiler | None = None
    trials: list[_Trial] = []
    for number, shapes in enumerate(sets):
        with progress.stage("clean") as detail:
            try:
                proto = source.proto
                if number and source.exported:
                    proto = read_source(model, options.params, shapes, options.dtypes, options.values).proto
                proto, graph = _clean(proto, shapes)
            except (ModelError, UnsupportedError) as e:
                if number:  # the first set had no error
                    e.args = (f"with {describe_shapes(shapes)}: {e}",)
                raise
            detail.append(f"{len(graph.nodes)} nodes")
        with progress.stage("reference") as detail:  # before it is compiled: it finds operands that do not fit
            trials.append(_try(proto, graph, source.metadata))
            detail.append("onnxruntime")
        with progress.stage("compile") as detail:
            compiler = compiler or _compiler(name, options, machine)
            variant = compiler.add(graph, meanings(graph, source.metadata))
            a = variant.arena
            detail.append(f"{len(compiler.kernels)} kernels")
            detail.append(f"arena {a.size:,} bytes (lower bound {a.lower_bound:,}, without sharing {a.naive:,})")
            if len(sets) > 1:
                detail.append(set_name(_described(variant)))
    assert compiler is not None
    return compiler.program(), trials


def _clean(proto: Any, shapes: Shapes) -> tuple[Any, Graph]:
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.read import read_graph

    try:
        proto = clean(proto, shapes, lambda op, domain: not operators.supported(op, domain))
        return proto, read_graph(proto, operators.supported)
    except UnsupportedError as e:
        from dlpack.model.values import advice

        if text := advice(proto):
            e.args = (f"{e}\n{text}",)
        raise


def _compiler(name: str, options: Options, machine: Machine) -> Compiler:
    from dlpack.plan.compiler import Compiler
    from dlpack.targets.cpu.schedule import CpuBackend

    backend = CpuBackend(machine)
    tile = (lambda layer: 0) if options.optimize == "size" else backend.winograd_tile
    return Compiler(name, backend.schedule, tile, options.threads)


def _try(proto: Any, graph: Graph, metadata: Mapping[str, str]) -> _Trial:
    """Raises ModelError for a model that does not run, or whose outputs have other shapes than it seemed."""
    from dlpack.verify.reference import input_ranges, reference, seeded_input

    ranges = input_ranges(graph, metadata)
    types = [graph.types[n] for n in graph.inputs]
    arrays = [seeded_input(k, t.shape, t.dtype, *ranges[k]) for k, t in enumerate(types)]
    given = dict(zip(graph.inputs, arrays, strict=True))
    expected = reference(proto, given, ranges)
    for name, value in zip(graph.outputs, expected.outputs, strict=True):
        if value.shape != graph.types[name].shape:
            raise ModelError(
                f"the output '{name}' has the shape {list(value.shape)}, though its operators' attributes and operands "
                f"say {list(graph.types[name].shape)}; the file is damaged: export or download it again"
            )
    return _Trial(ranges, given, expected)


def _shape_sets(options: Options, source: Source) -> tuple[list[Shapes], dict[str, list[int]]]:
    """The sets of shapes to compile for, and the dimensions that have buckets."""
    if not options.buckets:
        return [options.shapes, *options.more_shapes], {}
    if options.more_shapes:
        raise UsageError(f"{options.buckets}: give each input one --shape, or leave the buckets out")
    return bucket_sets(source.proto, options.shapes, options.buckets)


def _described(variant: Variant) -> dict[str, Any]:
    """Inputs and outputs as the manifest has them."""
    return {
        kind: [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape), **_meant(t.meaning)} for t in tensors]
        for kind, tensors in (("inputs", variant.inputs), ("outputs", variant.outputs))
    }


def _meant(meaning: Meaning) -> dict[str, Any]:
    more: dict[str, Any] = {"quantization": meaning.quantization.to_json()} if meaning.quantization else {}
    return {**more, "probabilities": True} if meaning.probabilities else more


def _arena_facts(a: Arena) -> dict[str, Any]:
    return {"bytes": a.size, "lower_bound": a.lower_bound, "naive": a.naive, "strategy": a.strategy}


def read_source(
    model: Path,
    params: Path | None = None,
    shapes: Shapes | None = None,
    dtypes: Mapping[str, str] | None = None,
    values: Mapping[str, tuple[str, ...]] | None = None,
) -> Source:
    """The model as ONNX: read from an ONNX file, or exported from another framework's file or from a callable.

    The inputs in `values` are constants in it.
    """
    from dlpack.exporters import ExportOptions, accepted, export, find_exporter, is_callable
    from dlpack.exporters.base import main_file
    from dlpack.model.load import load_model
    from dlpack.model.tensors import weight_warnings

    model = main_file(model)
    options = ExportOptions(shapes or {}, dtypes or {})
    parts = [model]
    warnings: tuple[str, ...] = ()
    made = is_callable(model) or (model.is_file() and find_exporter(model) is not None)
    if is_callable(model):
        proto, parts = export(model, params, options).model, []
    elif made:
        exported = export(model, params, options)
        proto, warnings = exported.model, exported.warnings
        parts += [exported.params] if exported.params else []
    elif params is not None:
        raise UsageError(f"--params is for models in two files, and {model} is not one of them")
    else:
        try:
            proto = load_model(model)
        except ModelError as e:
            raise e if model.suffix == ".onnx" else ModelError(f"{e}; accepted are {accepted()}") from e
    opset = ", ".join(f"{o.domain or 'ai.onnx'} opset {o.version}" for o in proto.opset_import)
    metadata = {p.key: p.value for p in proto.metadata_props}
    labels = labels_from_metadata(metadata["dlpack.labels"]) if "dlpack.labels" in metadata else None
    data = b"".join(part.read_bytes() for part in parts) or proto.SerializeToString(deterministic=True)
    digest = hashlib.sha256(data).hexdigest()
    if values:
        from dlpack.model.values import fix_values

        fix_values(proto, values)
    return Source(proto, digest, opset, metadata, labels, (*warnings, *weight_warnings(proto)), made)


def _labels(options: Options, source: Source) -> tuple[str, ...]:
    """The class names: those told, else the model's own."""
    return check_labels(options.labels, "--labels") if options.labels else source.labels or ()


def _check_options(options: Options, source: Source, sets: list[Shapes]) -> None:
    """Refuses preprocessing, task and labels that can be seen to be wrong before anything is compiled."""
    from dlpack.meaning.task import read_option
    from dlpack.model.metadata import described_inputs

    if options.labels:
        check_labels(options.labels, "--labels")
    if options.task:
        read_option(options.task)
    inputs = [described_inputs(source.proto, shapes) for shapes in sets]
    if options.preprocess and all(inputs):
        resolve(options.preprocess, inputs)


def _preprocess(options: Options, source: Source, described: list[dict[str, Any]]) -> tuple[Preprocess | None, ...]:
    """What to do to a picture in each set of shapes: as told, else as the model's metadata has it; () for neither."""
    sets = [d["inputs"] for d in described]
    if options.preprocess:
        return resolve(options.preprocess, sets)
    text = source.metadata.get("dlpack.preprocess")
    return from_metadata(text, sets) if text is not None else ()


def read_runtime() -> dict[str, str]:
    """The texts of runtime_c by file name."""
    folder = resources.files("dlpack.runtime_c")
    return {name: (folder / name).read_text(encoding="utf-8") for name in RUNTIME_FILES}


_KEYWORDS = frozenset(
    "alignas alignof and asm auto bool break case catch char class const continue default delete do double else "
    "enum explicit export extern false float for friend goto if inline int long mutable namespace new not nullptr "
    "operator or private protected public register return short signed sizeof static struct switch template this "
    "throw true try typedef union unsigned using virtual void volatile while xor std main".split()
)


# Functions and types of C and POSIX that a model may be called after.
_C_NAMES = frozenset(
    "abort abs accept access acos alarm asin assert atan atof atoi bind bool bsearch calloc ceil clock close "
    "connect copysign cos creat ctime difftime div dup erf errno exec exit exp fabs fclose fdim file floor fma fmax "
    "fmin fmod fopen fork fprintf fputs fread free frexp fseek fsync ftell fwrite gamma getc getenv gets hypot "
    "index isalpha j0 j1 jn kill labs ldexp ldiv lgamma link linux listen log logb lseek malloc memchr memcmp "
    "memcpy memmove memset mktime mmap modf nan nearbyint nice open pause perror pipe pow printf puts qsort raise "
    "rand random read realloc recv remainder remove rename rewind rint round scalbn scanf select send setjmp "
    "shutdown signal sin size_t sleep socket sqrt srand stat stderr stdin stdout strcat strchr strcmp strcpy strlen "
    "strtol swab sync system tan tgamma time times trunc umask uname ungetc unix unlink utime wait write y0 y1 "
    "yn".split()
)


@cache
def _reserved() -> frozenset[str]:
    """What a model may not be called, for its name is a C++ namespace: keywords, C's names and the runtime's own."""
    code = "\n".join(read_runtime().values())
    code = re.sub(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"|@\w+@\w*", " ", code, flags=re.DOTALL)
    return _KEYWORDS | _C_NAMES | frozenset(re.findall(r"[A-Za-z_]\w*", code))


def c_name(text: str) -> str:
    """A C identifier from a file name or `--name`."""
    name = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_").lower()
    if not name or name[0].isdigit():
        name = f"net_{name}".rstrip("_")
    return f"{name}_net" if name in _reserved() else name


def bundle_name(name: str, model: Path) -> tuple[str, str]:
    """The name that `--name` gives, or else the model's file; and what to warn of where the latter cannot be taken as
    it is. Raises UsageError for a `--name` that cannot."""
    from dlpack.exporters import model_stem

    given = name or model_stem(model)
    taken = c_name(given)
    if taken == given:
        return taken, ""
    if given.lower() in _KEYWORDS | _C_NAMES:
        reason = "it is a word of C or C++"
    elif given.lower() in _reserved():
        reason = "the emitted code uses that word itself"
    else:
        reason = "C names and macros begin with it, so it is lower-case letters, digits and underscores, a letter first"
    if name:
        raise UsageError(f"--name {name!r} cannot be taken: {reason}; --name {taken} can")
    return taken, f"the bundle is called {taken!r}, not {given!r}: {reason}; --name gives it another"


def _options_text(options: Options) -> str:
    words = [
        describe_shapes({k: v})
        for n, shapes in enumerate((options.shapes, *options.more_shapes))
        for k, v in sorted(shapes.items())
        if n == 0 or any(v != s[k] for s in (options.shapes, *options.more_shapes))
    ]
    words += [f"--value {name}={','.join(elements)}" for name, elements in sorted(options.values.items())]
    if options.buckets:
        words.append(str(options.buckets))
    if options.optimize != "speed":
        words.append(f"--optimize {options.optimize}")
    if options.threads != 1:
        words.append(f"--threads {options.threads}")
    if options.weights != "auto":
        words.append(f"--weights {options.weights}")
    return " ".join(words)


def _self_test(variant: Variant, trial: _Trial) -> Any:
    from dlpack.amalgamate.document import Sample, SelfTest
    from dlpack.verify.reference import RELATIVE_TOLERANCE

    samples = []
    for t, want, given in zip(variant.outputs, trial.expected.outputs, trial.expected.tolerances, strict=True):
        flat = np.asarray(want).reshape(-1)
        places = np.unique(np.linspace(0, max(0, flat.size - 1), min(64, flat.size)).astype(np.int64))
        finite = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
        span = max(abs(float(finite.max())), abs(float(finite.min()))) if finite.size else 0.0
        tolerance = given.largest if given else span * RELATIVE_TOLERANCE if flat.dtype.kind == "f" else 0.0
        values = tuple(float(flat[p]) for p in places)
        samples.append(Sample(tuple(int(p) for p in places) if t.nbytes else (), values, tolerance))
    return SelfTest(trial.ranges, tuple(samples))
