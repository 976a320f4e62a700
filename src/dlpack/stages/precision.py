"""Smaller numbers, where the user asks for them: the cleaned model with rounded weights or as an integer network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dlpack.errors import UsageError
from dlpack.meaning.preprocess import Preprocess, from_metadata, resolve
from dlpack.options import Options, Progress

if TYPE_CHECKING:
    from dlpack.graph.ir import Array, Graph
    from dlpack.plan.program import Program

MOST_COMPARED = 100
"""Runs of the calibration data on which the model is compared with what it was."""

SMALL_PART = 0.5
"""An integer network with fewer of its multiply-adds in 8 bits is not worth it."""

Clean = Callable[[Any], tuple[Any, "Graph"]]
"""Cleans an ONNX model, and reads its graph."""


@dataclass(frozen=True)
class Reduced:
    """A model with smaller numbers, `before`: as it was cleaned; `runs`: the calibration data, or nothing."""

    before: Any
    proto: Any
    graph: Graph
    runs: tuple[Mapping[str, Array], ...]
    facts: dict[str, Any]

    def change(self, seeded: Mapping[str, Array], progress: Progress) -> dict[str, Any]:
        """What the manifest says of it: its facts, and how far the outputs moved on the calibration data, or on these
        seeded inputs."""
        from dlpack.precision.accuracy import changes, described

        with progress.stage("accuracy") as detail:
            runs = self.runs[:MOST_COMPARED] or (seeded,)
            found = changes(self.before, self.proto, runs)
            detail.append(described(found))
            on = {"runs": len(runs), "calibration": bool(self.runs)}
            return {**self.facts, "compared_on": on, "changes": [asdict(c) for c in found]}


def check_precision(options: Options) -> None:
    """Raises UsageError for options that need each other, or exclude each other."""
    if options.quantize and options.calibrate is None:
        raise UsageError(
            "--quantize needs inputs as they will come, to find the values' ranges: --calibrate FILE.npz with an array "
            "per input, or a folder of pictures or of such files; 100 to 500 are usual"
        )
    if options.calibrate is not None and not options.quantize:
        raise UsageError("--calibrate is for --quantize int8: give both or none")
    if options.quantize and (options.more_shapes or options.buckets):
        raise UsageError("--quantize takes one set of shapes, that of the calibration data: remove the others")
    if options.quantize and options.weights_type != "float32":
        raise UsageError("--quantize has weights of int8: remove --weights-type")


def reduce_precision(
    proto: Any, graph: Graph, clean: Clean, metadata: Mapping[str, str], options: Options, progress: Progress
) -> Reduced | None:
    """The cleaned model with the numbers that the options ask for; None if they ask for none."""
    if options.quantize:
        return _quantized(proto, graph, clean, metadata, options, progress)
    if options.weights_type != "float32":
        return _rounded(proto, clean, options, progress)
    return None


def _rounded(proto: Any, clean: Clean, options: Options, progress: Progress) -> Reduced:
    from dlpack.model.rounded import round_weights

    rounded, dtype = type(proto)(), options.weights_type
    rounded.CopyFrom(proto)
    if left := round_weights(rounded, dtype, options.batch is not None):
        progress.warn(f"{dtype} cannot hold the values of {', '.join(left)}: they stay float32")
    return Reduced(proto, *clean(rounded), (), {"weights": dtype})


def _quantized(
    proto: Any, graph: Graph, clean: Clean, metadata: Mapping[str, str], options: Options, progress: Progress
) -> Reduced:
    from dlpack.precision.quantize import quantize
    from dlpack.precision.samples import read_samples

    assert options.calibrate is not None  # check_precision
    types = {name: graph.types[name] for name in graph.inputs}
    with progress.stage("quantize") as detail:
        shapes = {name: (t.shape, t.dtype) for name, t in types.items()}
        samples = read_samples(options.calibrate, shapes, _picture(graph, metadata, options))
        made = quantize(proto, samples)
        detail.append(f"onnxruntime, ranges from {len(samples.runs)} runs of {samples.origin}")
    facts = {"weights": "int8", "activations": "uint8", "origin": samples.origin, "samples": len(samples.runs)}
    return Reduced(proto, *clean(made), samples.runs, facts)


def _picture(graph: Graph, metadata: Mapping[str, str], options: Options) -> Preprocess | None:
    """How a picture becomes the input, if that is known."""
    inputs = [[{"name": n, "dtype": graph.types[n].dtype, "shape": list(graph.types[n].shape)} for n in graph.inputs]]
    if options.preprocess:
        return resolve(options.preprocess, inputs)[0]
    if "dlpack.preprocess" in metadata:
        return from_metadata(metadata["dlpack.preprocess"], inputs)[0]
    return None


def rounding(
    program: Program, model: Callable[[], Any], seeded: Mapping[str, Array], progress: Progress
) -> dict[str, Any]:
    """What the manifest says of arithmetic in int8: how many products it is for, and how far the outputs move where
    onnxruntime, which runs the cleaned `model`, rounds as they do.

    Raises UsageError for a model that has no such products.
    """
    from dlpack.precision.accuracy import changes, described
    from dlpack.precision.operands import round_operands

    if not program.rounded:
        raise UsageError(
            "--arithmetic int8 is for products with constant weights of 8 bits and fewer (MatMulNBits, "
            "DequantizeLinear), whose scales are those of columns or of blocks of 16 rows or more; the model has none"
        )
    with progress.stage("accuracy") as detail:
        before = model()
        found = changes(before, round_operands(before, program.rounded), (seeded,))
        detail.append(f"{len(program.rounded)} products in int8, {described(found)}")
        on = {"runs": 1, "calibration": False}
        return {"type": "int8", "products": len(program.rounded), "compared_on": on,
                "changes": [asdict(c) for c in found]}  # fmt: skip


def gains_little(program: Program) -> str | None:
    """A warning where a quantised network's products are not 8-bit dot products: int8 then saves memory alone."""
    total = sum(k.macs for k in program.kernels)
    dots = sum(k.macs for k in program.kernels if k.schedule.startswith("dot"))
    if not total or dots >= SMALL_PART * total:
        return None
    return (
        f"int8 saves memory here and little time: {dots / total:.0%} of the multiply-adds are dot products of 8-bit "
        "integers on this machine: dlpack bench --compare with the float32 bundle decides"
    )
