"""The NumPy exporter: functions that use np.NAME with NumPy weights, against NumPy itself on other inputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from test_export_mxnet import run

import dlpack
from dlpack import exporters
from dlpack.cli import cli
from dlpack.errors import DlpackError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.numpy import export as exporter

RNG = np.random.default_rng(7)
W = RNG.normal(size=(4, 5))
V = RNG.normal(size=5).astype(np.float32)
TABLE = RNG.normal(size=(11, 3))
PLACES = np.array([[2, 0], [1, 1]])
MASK = np.array([True, False, True, True])


def export(function: Callable[..., Any], dtypes: dict[str, str] | None = None, **shapes: tuple[int, ...]) -> Any:
    return exporter.trace(function, "net", ExportOptions(shapes, dtypes or {})).model


def check(function: Callable[..., Any], inputs: dict[str, Any], model: Any = None) -> Any:
    model = model or export(
        function, {n: x.dtype.name for n, x in inputs.items()}, **{n: x.shape for n, x in inputs.items()}
    )
    onnx.checker.check_model(model, full_check=True)
    want = function(**{n: x.copy() for n, x in inputs.items()})
    want = list(want.values()) if isinstance(want, dict) else list(want) if isinstance(want, tuple | list) else [want]
    got = run(model, inputs)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == np.shape(w)
        assert g.dtype.kind == np.asarray(w).dtype.kind
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
    return model


# Each takes x [3, 4] of float32 between -2 and 2.
UNARY: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "small": lambda x: (np.expm1(x * 1e-4) * 1e4, np.log1p(x * 1e-4) * 1e4),
    "logs": lambda x: np.log(np.abs(x) + 1) + np.log2(x * x + 1) + np.log10(np.square(x) + 2),
    "angles": lambda x: (np.sin(x), np.arctan2(x, x[::-1]), np.arcsin(x / 3), np.deg2rad(x), np.sinh(x)),
    "powers": lambda x: (
        x**2,
        np.power(np.abs(x), 0.5),
        np.abs(x) ** 1.7,
        2**x,
        np.cbrt(x),
        np.hypot(x, 1),
        np.reciprocal(x + 5),
    ),
    "rounding": lambda x: (
        np.floor(x),
        np.ceil(x),
        np.trunc(x),
        np.rint(x),
        np.round(x, 1),
        np.fix(x),
        x // 0.7,
        x % 0.7,
        np.fmod(x, 0.7),
    ),
    "integers": lambda x: (
        (x * 10).astype(np.int64) // 3,
        (x * 10).astype(np.int32) % 3,
        (x > 0).astype(np.uint8) + 2,
        (x * 9).astype(np.int8) * 3,
    ),
    "divmod": lambda x: np.divmod((x * 10).astype(np.int64), -4),
    "modf": lambda x: np.modf(x),
    "comparisons": lambda x: (
        (x > 0) & (x < 1),
        ~(x >= 0.5),
        np.logical_or(x, x > 1),
        x != x,
        (x > 0) ^ (x < 1),
        np.isfinite(1 / (x - x)),
    ),
    "booleans": lambda x: (
        (x > 0) + (x > 1),
        (x > 0) * (x < 1),
        np.sum(x > 0, axis=1),
        np.mean(x > 0),
        np.maximum(x > 0, x < 0),
    ),
    "signs": lambda x: (np.sign(x), np.copysign(2.0, x), np.signbit(x), np.heaviside(x, 0.5), -x, +x, abs(x)),
    "int_division": lambda x: x.astype(np.int32) / 2,
    "where": lambda x: np.where(x > 0, x, x * 0.1),
    "where_scalars": lambda x: np.where(x > 0, 1, 2.5),
    "select": lambda x: np.select([x > 1, x > 0], [x, x * 2], -1.0),
    "clip": lambda x: (np.clip(x, -1, 1), x.clip(0), np.clip(x, None, x[0])),
    "nan": lambda x: np.nan_to_num(np.where(x > 1, np.nan, x), nan=3.0),
    "isclose": lambda x: np.isclose(x, np.rint(x), atol=0.2),
    "matmul": lambda x: x @ W + V,
    "weights_first": lambda x: W.T @ x.T,
    "float64_weights_keep_float": lambda x: (x @ W).astype(np.float64) * np.float64(2),
    "dot": lambda x: (np.dot(x, W), x.dot(W[:, 0]), np.dot(x[0], x[1]), np.dot(x, 3.0)),
    "products": lambda x: (
        np.inner(x, x),
        np.outer(x[0], V),
        np.vdot(x, x),
        np.kron(x, x[:2, :1]),
        np.tensordot(x, W, ([1], [0])),
    ),
    "new_products": lambda x: (
        np.linalg.matmul(x, W),
        np.vecdot(x, x),
        np.matvec(x, x[0]),
        np.linalg.multi_dot([x, W, V]),
    ),
    "tensordot": lambda x: np.tensordot(x.reshape(3, 2, 2), np.ones((2, 2, 5)), 2),
    "einsum": lambda x: (np.einsum("ij,jk->ik", x, W), np.einsum("ij->j", x), np.einsum("ij, kj -> ik", x, x)),
    "sums": lambda x: (x.sum(), x.sum(0), np.sum(x, axis=(0, 1), keepdims=True), np.prod(x, axis=-1), np.add.reduce(x)),
    "means": lambda x: (
        x.mean(),
        x.mean(-1, keepdims=True),
        np.std(x, axis=0),
        x.var(1, ddof=1),
        np.average(x, axis=1, weights=[1, 2, 3, 4]),
    ),
    "extremes": lambda x: (x.max(), x.min(axis=0), np.amax(x, 1), np.ptp(x, axis=1), np.maximum.reduce(x, axis=1)),
    "arg": lambda x: (x.argmax(), np.argmin(x, axis=0), np.argmax(x, axis=-1, keepdims=True)),
    "logic": lambda x: (np.any(x > 1, axis=0), np.all(x > -3), np.count_nonzero(x > 0, axis=1), (x > 0).any()),
    "cumulative": lambda x: (
        np.cumsum(x, axis=1),
        np.cumsum(x),
        np.add.accumulate(x),
        np.diff(x),
        np.diff(x, axis=0, prepend=0),
    ),
    "sorting": lambda x: (np.sort(x, axis=0), np.argsort(x), np.sort(x, axis=None)),
    "norms": lambda x: (
        np.linalg.norm(x),
        np.linalg.norm(x, axis=1, keepdims=True),
        np.linalg.norm(x, 1, axis=0),
        np.linalg.norm(x[0], np.inf),
    ),
    "reshape": lambda x: (
        x.reshape(2, -1),
        x.ravel(),
        x.flatten(),
        np.reshape(x, (4, 3), order="F"),
        x[None],
        np.expand_dims(x, (0, -1)).squeeze(),
    ),
    "transpose": lambda x: (
        x.T,
        np.swapaxes(x[None], 0, 2),
        np.moveaxis(x[None], 0, -1),
        x.reshape(3, 2, 2).transpose(2, 0, 1),
        x.mT,
    ),
    "join": lambda x: (
        np.concatenate([x, W.T[:, :4]]),
        np.stack([x, x], -1),
        np.vstack((x[0], x)),
        np.hstack([x, x[:, :1]]),
        np.column_stack([x[:, 0], x]),
    ),
    "join_flat": lambda x: (
        np.concatenate((x, x), axis=None),
        np.append(x, x[:1], 0),
        np.dstack([x, x]),
        np.array([x[0], x[1] * 2]),
        np.asarray([x[0, 0], 1.0]),
    ),
    "split": lambda x: (*np.split(x, 2, axis=1), *np.array_split(x, 2), *np.hsplit(x, [1, 3])),
    "slices": lambda x: (x[1], x[:, 1:3], x[::-1, ::2], x[..., -1], x[1:, None, :2], x[-1, -2], x[2:0:-1]),
    "arrays_as_index": lambda x: (x[PLACES], x[:, [3, 0]], x[[0, 2], [1, 3]], x[:, MASK], x[np.ix_([0, 2], [1, 2])]),
    "moves": lambda x: (
        np.flip(x),
        np.roll(x, 1, axis=1),
        np.rot90(x),
        np.repeat(x, 2, axis=0),
        np.tile(x, (2, 1)),
        np.fliplr(x),
    ),
    "triangles": lambda x: (np.tril(x), np.triu(x, 1), np.diag(x[0], 1), np.diagonal(x), np.trace(x), np.diag(x)),
    "pads": lambda x: (
        np.pad(x, 1),
        np.pad(x, ((0, 1), (2, 0)), constant_values=3),
        np.pad(x, 1, mode="reflect"),
        np.pad(x, 2, "edge"),
    ),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3)),
    "broadcast": lambda x: (
        np.broadcast_to(x[0], (2, 4)),
        x + x[:, :1],
        *np.broadcast_arrays(x[:1], x[:, :1]),
        *np.meshgrid(x[0], x[:2, 0]),
    ),
    "like": lambda x: (np.zeros_like(x) + x, np.full_like(x, 2) * x, np.ones((3, 4)) - x, np.full((3, 4), x[0, 0])),
    "take": lambda x: (np.take(x, [2, 0], axis=1), x.take(5), np.take_along_axis(x, np.array([[1], [0], [3]]), axis=1)),
    "traced_index": lambda x: np.take(TABLE, np.argmax(x, axis=1), axis=0) + x[:, :3],
    "traced_rows": lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1),
    "traced_pairs": lambda x: x[np.arange(3), np.argmax(x, axis=1)],
    "convolve": lambda x: (
        np.convolve(x[0], [1, 2, 3]),
        np.convolve(x[0], V[:3], "same"),
        np.correlate(x[0], [1.0, -1.0]),
    ),
    "in_place": lambda x: _in_place(x),
    "recurrence": lambda x: _recurrence(x),
    "namespace": lambda x: _array_api(x),
    "loops": lambda x: np.stack([row * k for k, row in enumerate(x)]),
    "constants_inside": lambda x: x * float(np.zeros(3).sum() + 2) + np.linspace(0, 1, 4) + int(np.full((), 3)),
    "determinant": lambda x: np.linalg.det(x[:, :3]),
}


def _in_place(x: Any) -> Any:
    y = x * 1
    y += 1
    y[0] = 5
    y[:, 1] *= 2
    y[1:, 2:] = W[:2, :2]
    np.maximum(y, 0, out=y)
    y[y > 1.5] = y.max() / 2
    y[~(x > 0)] = 7
    return y


def _recurrence(x: Any) -> Any:
    """A loop that fills an array, as NumPy code does."""
    steps, width = x.shape
    states = np.zeros((steps + 1, width))
    for k in range(steps):
        states[k + 1] = np.tanh(x[k] + states[k] @ W[:, :4])
    return states, states[1:].sum(0)


def _array_api(x: Any) -> Any:
    xp = x.__array_namespace__()
    return xp.permute_dims(xp.matmul(x, xp.asarray(W)), (1, 0)), xp.astype(xp.concat([x, x]), xp.float32)


@pytest.mark.parametrize("name", UNARY)
def test_function_computes_what_numpy_computes(name: str) -> None:
    function = UNARY[name]
    x = RNG.uniform(-2, 2, (3, 4)).astype(np.float32)
    with np.errstate(all="ignore"):
        check(function, {"x": x})


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Perceptron:
    """Weights in an object; the model is its method."""

    def __init__(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.layers = [(rng.normal(size=(12, 8)), rng.normal(size=8)), (rng.normal(size=(8, 3)), rng.normal(size=3))]

    def __call__(self, x: Any) -> Any:
        for k, (w, b) in enumerate(self.layers):
            x = x @ w + b
            x = np.maximum(x, 0) if k == 0 else softmax(x)
        return x


def test_object_with_weights() -> None:
    model = check(Perceptron(), {"x": RNG.normal(size=(2, 12)).astype(np.float32)})
    names = {i.name for i in model.graph.initializer}
    assert {"layers.0.0", "layers.1.1"} <= names  # named as in the object
    assert [o.name for o in model.graph.output] == ["output"]


def test_convolution_with_windows() -> None:
    kernel = RNG.normal(size=(5, 3, 3, 3))

    def net(x: Any) -> dict[str, Any]:
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3)
        )
        y = np.maximum(np.einsum("nchwij,ocij->nohw", windows, kernel), 0)
        n, c, h, w = y.shape
        pooled = y.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
        return {"pooled": pooled, "label": np.argmax(pooled.reshape(n, -1), axis=1)}

    model = check(net, {"x": RNG.normal(size=(2, 3, 6, 8)).astype(np.float32)})
    assert [o.name for o in model.graph.output] == ["pooled", "label"]


def test_transformer_block() -> None:
    rng = np.random.default_rng(5)
    wq, wk, wv, wo = rng.normal(size=(4, 16, 16)) * 0.3
    up, down = rng.normal(size=(16, 32)) * 0.3, rng.normal(size=(32, 16)) * 0.3
    embedding = rng.normal(size=(50, 16))

    def norm(x: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def heads(x: Any) -> Any:
        return x.reshape(x.shape[0], 4, 4).transpose(1, 0, 2)

    def block(tokens: NDArray[np.int64]) -> Any:
        x = np.take(embedding, tokens, axis=0)
        q, k, v = heads(x @ wq), heads(x @ wk), heads(x @ wv)
        scores = q @ k.swapaxes(-1, -2) / 2
        scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -1e9)
        mixed = (softmax(scores) @ v).transpose(1, 0, 2).reshape(x.shape)
        x = norm(x + mixed @ wo)
        return norm(x + np.maximum(x @ up, 0) @ down)

    block.__annotations__["tokens"] = NDArray[np.int64]
    model = export(block, tokens=(7,))
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64  # as annotated
    check(block, {"tokens": np.array([3, 1, 4, 1, 5, 9, 2])}, model)


def lstm(x: Any, hidden: Any) -> tuple[Any, Any]:
    gates, cell, outputs = RECURRENT, np.zeros(6), []
    for row in x:
        i, f, g, o = np.split(gates[:4].T @ row + gates[4:].T @ hidden, 4)
        cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        hidden = np.tanh(cell) / (1 + np.exp(-o))
        outputs.append(hidden)
    return np.array(outputs), hidden


RECURRENT = RNG.normal(size=(10, 24)) * 0.4


def test_lstm_with_two_inputs() -> None:
    inputs = {"x": RNG.normal(size=(5, 4)).astype(np.float32), "hidden": RNG.normal(size=6).astype(np.float32)}
    model = check(lstm, inputs)
    assert [i.name for i in model.graph.initializer].count("RECURRENT") <= 1
    total = sum(np.prod(i.dims) for i in model.graph.initializer)
    assert total < 2 * RECURRENT.size + 200  # weights are stored once, not once a step


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "decomposition": (lambda x: np.linalg.pinv(x[:, :3]), r"np\.linalg\.pinv cannot be exported.*line \d+"),
    "unique": (lambda x: np.unique(x), r"np\.unique cannot be exported"),
    "branch": (lambda x: x if x.sum() > 0 else -x, r"as a condition.*np\.where"),
    "float": (lambda x: x * float(x[0, 0]), r"as a Python float"),
    "index": (lambda x: TABLE[np.argmax(x)], r"np\.take"),
    "mask": (lambda x: x[x > 0], r"mask that depends on the input.*np\.where"),
    "nonzero": (lambda x: np.where(x > 0), r"np\.where with one argument"),
    "method": (lambda x: x.tobytes(), r"ndarray\.tobytes cannot"),
    "ufunc": (lambda x: np.spacing(x), r"np\.spacing cannot"),
    "ufunc method": (lambda x: np.subtract.reduceat(x, [0, 1]), r"np\.subtract\.reduceat"),
    "argument": (lambda x: np.sum(x, where=x > 0), r"'where'"),
    "bad shapes": (lambda x: x @ x, r"np\.matmul: MatMul does not fit its inputs' shapes \[3, 4\], \[3, 4\].*line \d+"),
    "bad axis": (lambda x: x.sum(axis=2), r"np\.sum: AxisError.*out of bounds"),
    "bad index": (lambda x: x[5], r"IndexError"),
    "all at once": (lambda x: np.unique(np.spacing(x)), r"np\.spacing cannot.*np\.unique cannot"),
    "bins": (lambda x: np.bincount(np.argmax(x, axis=0)), r"without 'minlength'.*give minlength=N"),
    "complex": (lambda x: np.fft.fft(x), r"returns a complex array; return its \.real"),
    "random": (lambda x: x + np.random.default_rng().normal(size=4), r"differs from the function.*random"),
    "constant": (lambda x: W, r"'output' does not depend on the inputs"),
    "no array": (lambda x: "text", r"returns str"),
    "own error": (lambda x: {}["key"], r"raised KeyError: 'key' \(.*line \d+"),
    "outside array": (lambda x: np.add(x, 1, out=W[:3, :4]), r"made outside"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_traced_names_the_line(name: str) -> None:
    function, text = REFUSED[name]
    original = np.zeros, np.asarray
    with pytest.raises(DlpackError) as e:
        export(function, x=(3, 4))
    assert re.search(text, str(e.value), re.DOTALL), e.value
    assert (np.zeros, np.asarray) == original  # tracing leaves NumPy as it was


MODEL = """
    import numpy as np
    from helper import scale
    rng = np.random.default_rng(0)
    W1, b1 = rng.normal(size=(64, 16)), rng.normal(size=16)
    W2 = rng.normal(size=(16, 4))
    NUMBER = 3

    def predict(x, temperature=2.0):
        h = np.maximum(scale * x @ W1 + b1, 0)
        e = np.exp((h @ W2) / temperature / 10)
        return e / e.sum(axis=1, keepdims=True)

    def make():
        return predict

    def breaks(x):
        raise RuntimeError("no luck")

    def two(x, y):
        return x + y
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("scale = 0.5\n")
    path = tmp_path / "digit_net.py"
    path.write_text(dedent(MODEL))
    return path


def test_build_takes_a_function(code: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = CliRunner().invoke(cli, ["build", f"{code}:predict", "--shape", "x=2x64", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert (out / "digit_net.cc").exists()  # named after the file
    names: dict[str, Any] = {"__name__": "digit_net"}
    exec(code.read_text().replace("from helper import scale", "scale = 0.5"), names)
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    predictor = dlpack.load(out)
    np.testing.assert_allclose(np.asarray(predictor.run({"x": x})["output"]), names["predict"](x), rtol=1e-4)


def test_export_of_a_function_in_a_package(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["export", "digit_net:predict", "--shape", "x=1x64"])
    assert result.exit_code == 0, result.output
    first = (tmp_path / "predict.onnx").read_bytes()
    assert onnx.load_from_string(first).graph.initializer[0].name
    CliRunner().invoke(cli, ["export", f"{code}:make", "--shape", "x=1x64", "-o", "made.onnx"])  # a factory
    made = onnx.load("made.onnx")
    x = RNG.normal(size=(1, 64)).astype(np.float32)
    np.testing.assert_allclose(run(made, {"x": x})[0], run(onnx.load_from_string(first), {"x": x})[0])


@pytest.mark.parametrize(
    ("name", "shapes", "text"),
    [
        ("digit_net.py:nothing", {}, "there is no 'nothing' in it; it has predict, make"),
        ("digit_net.py:NUMBER", {}, "of the type int, not a function"),
        ("digit_net.py:predict", {}, "--shape x=1x784"),
        ("digit_net.py:predict", {"y": (1, 2)}, "no parameter of the function; it has: x, temperature"),
        ("digit_net.py:breaks", {"x": (1, 2)}, r"raised RuntimeError: no luck \(.*digit_net.py, line \d+: raise"),
        ("digit_net.py:two", {"x": (1, 2)}, "--shape y=1x784"),
        ("missing.py:predict", {}, "there is no file missing.py"),
        ("no_such_package.net:predict", {}, "there is no module 'no_such_package'"),
        ("broken.py:predict", {}, r"raised ZeroDivisionError.*broken.py, line 1"),
        ("imports.py:predict", {}, "imports 'not_installed_anywhere', which is not installed"),
        ("syntax.py:predict", {}, "SyntaxError"),
        ("digit_net.py", {}, "digit_net.py:predict"),
        ("weights.npz", {}, "without a model"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(
    name: str, shapes: dict[str, tuple[int, ...]], text: str, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(code.parent)
    Path("broken.py").write_text("1 / 0\n")
    Path("imports.py").write_text("import not_installed_anywhere\n")
    Path("syntax.py").write_text("def\n")
    np.savez("weights.npz", a=W)
    with pytest.raises(UsageError) as e:
        exporters.export(Path(name), None, ExportOptions(shapes))
    assert re.search(text, str(e.value), re.DOTALL), e.value


def test_exit_codes_and_types(code: Path, tmp_path: Path) -> None:
    run_cli = CliRunner().invoke
    wrong = run_cli(cli, ["export", f"{code}:predict", "--shape", "x=1x64:float99"])
    assert wrong.exit_code == 2 and "int64" in wrong.stderr
    typed = run_cli(
        cli, ["export", f"{code}:two", "--shape", "x=3:int32", "--shape", "y=3:int64", "-o", str(tmp_path / "t.onnx")]
    )
    assert typed.exit_code == 0, typed.output
    x, y = np.arange(3, dtype=np.int32), np.full(3, 2**40)
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "t.onnx"), {"x": x, "y": y})[0], x + y)
    with pytest.raises(UnsupportedError):
        export(lambda x: np.linalg.svd(x), x=(3, 3))
    both = run_cli(cli, ["export", f"{code}:predict", "--params", str(code), "--shape", "x=1x64"])
    assert both.exit_code == 2 and "--params" in both.stderr
