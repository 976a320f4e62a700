"""What a machine with a GPU is given: bundles of every model of the zoo at batch 1 and 8, their kernels as files by
which the cost model is compared with it, and a sample of ONNX's node tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime

from bench.gpu import kernels
from bench.rounds import ROOT
from dlpack.errors import DlpackError
from dlpack.options import Options
from dlpack.pipeline import build

BATCHES = (1, 8)
CARRIED = ("manifest.json", "reference.npz", "*.so", "*.weights")
"""What `measure` reads of a bundle."""

CASES = 12
"""Of the node tests every so many-th is in the sample."""

LEAST_ELEMENTS = 1024
"""Of a weight that `lightened` changes; smaller ones are biases and scales."""


def batched(model: Path, batch: int, folder: Path, light: bool = False) -> Path:
    """The model with another first dimension of its inputs, and with light weights if so asked."""
    if batch == 1 and not light:
        return model
    proto = onnx.load(model)
    if light:
        lightened(proto)
    if batch > 1:
        _widen_inputs(proto, batch)
    path = folder / f"{model.stem}_{batch}.onnx"
    onnx.save(proto, path)
    return path


def lightened(proto: onnx.ModelProto) -> None:
    """Gives all numbers of a weight the same magnitude: they differ in sign alone, so that a file of them packs into a
    twentieth. What is computed takes as long, and a wrong order of numbers is still seen."""
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= LEAST_ELEMENTS:
            magnitude = np.sqrt(np.mean(np.square(values, dtype=np.float64))).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.copysign(magnitude, values), tensor.name))


def coarse_reference(bundle: Path, model: Path) -> None:
    """Gives a bundle's reference inputs that pack well, 0, 1/4, 1/2 or 3/4 where they are floats, and their outputs."""
    path = bundle / "reference.npz"
    facts = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    random = np.random.default_rng(0)
    with np.load(path) as file:
        arrays = dict(file)
    given = {}
    for k, tensor in enumerate(facts["inputs"]):
        value = arrays[f"in_{k}"]
        if value.dtype == np.float32:
            value = random.integers(0, 4, value.shape).astype(np.float32) / 4
        arrays[f"in_{k}"] = given[tensor["name"]] = value
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = session.run([tensor["name"] for tensor in facts["outputs"]], given)
    np.savez(path, **arrays | {f"out_{k}": value for k, value in enumerate(outputs)})


def _widen_inputs(proto: onnx.ModelProto, batch: int) -> None:
    """Shapes behind the inputs are inferred anew."""
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == 1:
            dims[0].dim_value = batch
    for tensor in proto.graph.initializer:  # shapes that a Reshape gets
        _widen(tensor, batch, {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"})


def _widen(tensor: onnx.TensorProto, batch: int, shapes: set[str]) -> None:
    if tensor.name not in shapes:
        return
    shape = onnx.numpy_helper.to_array(tensor).copy()
    if shape.size > 1 and shape[0] == 1:
        shape[0] = batch
        tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))


@dataclass(frozen=True)
class Work:
    """A bundle to build: of a model at a batch size, for `archs`; the ONNX file is kept beside it if so asked."""

    model: Path
    batch: int
    folder: Path
    archs: str
    keep_model: bool
    light: bool

    @property
    def name(self) -> str:
        return self.model.stem if self.batch == 1 else f"{self.model.stem}_{self.batch}"


def build_all(
    models: list[Path], folder: Path, archs: str, keep_models: bool, light: bool = False, jobs: int | None = None
) -> list[str]:
    """Builds the bundles, `jobs` at a time (as many as there are cores), and returns what could not be built, a line
    each; models stay beside them if kept."""
    folder.mkdir(parents=True, exist_ok=True)
    work = [Work(model, batch, folder, archs, keep_models, light) for model in models for batch in BATCHES]
    work.sort(key=lambda w: -w.model.stat().st_size)  # the longest first
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        done = [build_one(w) for w in work]
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            done = list(pool.map(build_one, work))
    return [failure for failure in done if failure]


def build_one(work: Work) -> str:
    """Builds a bundle unless it is there; "", or what it could not be built for."""
    target = work.folder / work.name
    if (target / "manifest.json").is_file():
        return ""
    try:
        with TemporaryDirectory() as scratch:
            source = batched(work.model, work.batch, Path(scratch), work.light)
            build(source, target, Options("cuda", name="net", target_options={"arch": work.archs}))
            write_kernels(source, work.folder / "kernels" / f"{work.name}.npz", work.archs)
            if work.light:
                coarse_reference(target, source)
            if work.keep_model:
                shutil.copy(source, work.folder / f"{work.name}.onnx")
    except DlpackError as e:
        shutil.rmtree(target, ignore_errors=True)
        return f"{work.name}: {str(e).splitlines()[0]}"
    return ""


def write_kernels(model: Path, path: Path, archs: str) -> None:
    """Writes a model's kernels as they are scheduled for the first of the GPUs, without weights, to be timed."""
    from dlpack.plan.compiler import compile_graph
    from dlpack.stages.prepare import clean_graph
    from dlpack.targets.gpu.build import archs_of, text_of
    from dlpack.targets.gpu.machine import GENERIC, GPUS
    from dlpack.targets.gpu.nvrtc import compile_images
    from dlpack.targets.gpu.schedule import GpuBackend

    gpu = GPUS.get(archs_of(archs)[0], GENERIC)
    _, graph = clean_graph(onnx.load(model), {})
    program = compile_graph(graph, "net", GpuBackend(gpu))
    images = compile_images(text_of(program), list(dict.fromkeys([gpu.arch, GENERIC.arch])))
    path.parent.mkdir(parents=True, exist_ok=True)
    kernels.write(path, kernels.plan_of(program), {image.name: image.data for image in images}, {})


def write_cases(folder: Path, every: int = CASES) -> str:
    """Writes a sample of the node tests; "" or what went wrong."""
    command = [sys.executable, "-m", "conformance.gpu", str(every), "0", "--pack", str(folder.resolve() / "cases")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"node tests: {(done.stdout + done.stderr).strip()[-400:]}"


def pack(folder: Path, archive: Path) -> None:
    """Writes what `measure` needs of a folder's bundles into a .tar.xz, equal weights of several bundles once."""
    seen: dict[str, Path] = {}
    with tarfile.open(archive, "w:xz", preset=1) as tar:
        for manifest in sorted(folder.glob("*/manifest.json")):
            facts = json.loads(manifest.read_text(encoding="utf-8"))
            if "weights" in facts:
                _share(
                    manifest.with_name(facts["weights"]["file"]), seen.setdefault(facts["weights"]["sha256"], manifest)
                )
            for pattern in CARRIED:
                for path in sorted(manifest.parent.glob(pattern)):
                    tar.add(path, path.relative_to(folder))
        for path in sorted((*folder.glob("kernels/*.npz"), *folder.glob("cases/*.npz"))):
            tar.add(path, path.relative_to(folder))


def _share(weights: Path, first: Path) -> None:
    """Makes a weights file a link to the one of the bundle with the manifest `first`, which is equal."""
    other = first.with_name(weights.name)
    if not weights.samefile(other):
        weights.unlink()
        os.link(other, weights)
