"""Build time against depth: `python -m bench.depth [--layers 50,200,1000]`.

Residual nets of a few shapes are built for this machine; each stage is timed in seconds of CPU time, including the
compiler's. A cost that grows with the layers costs the same for each: where the last column is far above 1, a
stage costs more per layer in the deepest net than in the one before.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh

STAGES = ((16, 28), (32, 14), (64, 7))
"""Channels and size of a net's three stages; the layers are split evenly among them."""


def residual_net(layers: int) -> onnx.ModelProto:
    """A net of `layers` convolutions 3x3: blocks of two, each with Relu, and a sum around the two."""
    rng = np.random.default_rng(layers)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def conv(x: str, inputs: int, outputs: int, stride: int = 1) -> str:
        name = f"conv{len(weights)}"
        w = rng.standard_normal((outputs, inputs, 3, 3), dtype=np.float32) * np.float32(0.2 / inputs**0.5)
        weights.append(nh.from_array(w, f"{name}.w"))
        nodes.append(oh.make_node("Conv", [x, f"{name}.w"], [name], name, pads=[1] * 4, strides=[stride] * 2))
        return name

    def then(op: str, *inputs: str) -> str:
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(oh.make_node(op, list(inputs), [name], name))
        return name

    x, before = "x", STAGES[0][0]
    for number, (channels, _) in enumerate(STAGES):
        end = layers * (number + 1) // len(STAGES)
        x = then("Relu", conv(x, before, channels, 2 if number else 1))
        while len(weights) + 2 <= end:
            inner = conv(then("Relu", conv(x, channels, channels)), channels, channels)
            x = then("Relu", then("Add", inner, x))
        while len(weights) < end:
            x = then("Relu", conv(x, channels, channels))
        before = channels
    (channels, size), (last, small) = STAGES[0], STAGES[-1]
    graph = oh.make_graph(
        nodes,
        "depth",
        [oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, channels, size, size])],
        [oh.make_tensor_value_info(x, onnx.TensorProto.FLOAT, [1, last, small, small])],
        weights,
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9)


@dataclass(frozen=True)
class Build:
    """One net's build: seconds of CPU time by stage, its kernels, steps and bytes of C++."""

    layers: int
    seconds: dict[str, float]
    kernels: int
    steps: int
    source: int


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def build_net(layers: int, folder: Path, cc: str | None = None) -> Build:
    """Builds a net of so many layers in `folder`, with all that `dlpack build` does."""
    from dlpack.bundle.loader import load, read_kernels, read_manifest
    from dlpack.pipeline import Options, Progress, build

    model = folder / f"depth{layers}.onnx"
    onnx.save(residual_net(layers), model)
    seconds: dict[str, float] = {}
    began: dict[str, float] = {}

    def start(stage: str) -> None:
        began[stage] = cpu_seconds()

    def done(stage: str, _wall: float, _detail: str) -> None:
        seconds[stage] = seconds.get(stage, 0.0) + cpu_seconds() - began[stage]

    bundle = build(model, folder / f"depth{layers}", Options(cc=cc, weights="file"), Progress(start, done))
    manifest = read_manifest(bundle)
    with load(bundle) as predictor:
        steps = len(predictor.steps)
    return Build(layers, seconds, len(read_kernels(bundle)), steps, (bundle / manifest["source"]).stat().st_size)


def growth(builds: Sequence[Build], stage: str) -> float | None:
    """What a layer more costs between the two deepest nets, over what it costs between the two before; 1 is linear."""
    if len(builds) < 3:
        return None
    a, b, c = sorted(builds, key=lambda n: n.layers)[-3:]
    first = (b.seconds[stage] - a.seconds[stage]) / (b.layers - a.layers)
    second = (c.seconds[stage] - b.seconds[stage]) / (c.layers - b.layers)
    return second / first if first > 0 else None


def table(builds: Sequence[Build]) -> str:
    """A row per stage, a column per net, as Markdown."""
    builds = sorted(builds, key=lambda n: n.layers)
    lines = [
        f"| | {' | '.join(f'{n.layers} layers' for n in builds)} | ms per layer | growth |",
        f"|---|{'--:|' * (len(builds) + 2)}",
    ]
    deepest = builds[-1]
    totals = [Build(n.layers, {"all": sum(n.seconds.values())}, n.kernels, n.steps, n.source) for n in builds]
    for rows, stages in ((builds, list(deepest.seconds)), (totals, ["all"])):
        for stage in stages:
            each = 1e3 * rows[-1].seconds[stage] / deepest.layers
            grown = growth(rows, stage)
            seconds = " | ".join(f"{n.seconds[stage]:.2f} s" for n in rows)
            lines.append(f"| {stage} | {seconds} | {each:.2f} | {'' if grown is None else f'{grown:.2f}'} |")
    for what, numbers in (
        ("kernels", [n.kernels for n in builds]),
        ("steps", [n.steps for n in builds]),
        ("bytes of C++", [n.source for n in builds]),
    ):
        lines.append(f"| {what} | {' | '.join(f'{n:,}' for n in numbers)} | | |")
    return "\n".join(lines)


def _layers(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    try:
        layers = [int(n) for n in text.split(",")]
    except ValueError as e:
        raise click.BadParameter("give numbers with commas between them") from e
    if min(layers) < len(STAGES):
        raise click.BadParameter(f"a net has {len(STAGES)} layers or more")
    return layers


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--layers", default="50,200,1000", callback=_layers, metavar="LIST", help="The depths to build.")
@click.option("--cc", default=None, help="The C++ compiler (default: the bundled Clang).", metavar="PATH")
def main(layers: list[int], cc: str | None) -> None:
    """Build networks of several depths and report the cost of each stage."""
    builds = []
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        build_net(len(STAGES), Path(folder), cc)  # imports, and the compiler's own cache
        for depth in layers:
            builds.append(build_net(depth, Path(folder), cc))
            click.echo(f"{depth} layers: {sum(builds[-1].seconds.values()):.1f} s", err=True)
    click.echo(table(builds))


if __name__ == "__main__":
    main(prog_name="python -m bench.depth")
