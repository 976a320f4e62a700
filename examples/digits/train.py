"""Train a LeNet-5-style CNN on scikit-learn's digits in NumPy alone, and write it as ``digits.onnx``.

    python examples/digits/train.py

The network is LeNet-5 on 8x8 pixels: 5x5 convolution, ReLU, 2x2 max pooling, twice, then three dense layers.
Besides the model it writes ``held_out.csv``: for each digit, the first held-out image, as ``classify.py`` reads them.
Everything random comes from one seed, and the arithmetic runs on one thread, so that a run can be repeated.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
SEED = 5
HELD_OUT = 0.2  # part of the shuffled images that training never sees
EPOCHS = 150
BATCH = 32
LEARNING_RATE = 1e-3
LABELS = [str(digit) for digit in range(10)]

Array = np.ndarray


class Conv:
    """A KxK convolution over NCHW, by im2col; the default padding of K // 2 keeps height and width."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, k: int, padding: int | None = None) -> None:
        self.k, self.padding = k, k // 2 if padding is None else padding
        self.weight = he(rng, (outputs, inputs, k, k), fan_in=inputs * k * k)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x: Array) -> Array:
        p = self.padding
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (self.k, self.k), (2, 3))
        n, c, h, w = windows.shape[:4]
        self.columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * self.k * self.k)
        self.shape = x.shape
        y = self.columns @ self.weight.reshape(len(self.weight), -1).T + self.bias
        return y.reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        n, c = self.shape[:2]
        h, w = dy.shape[2:]
        k, p = self.k, self.padding
        rows = dy.transpose(0, 2, 3, 1).reshape(n * h * w, -1)
        dweight = (rows.T @ self.columns).reshape(self.weight.shape)
        dcolumns = (rows @ self.weight.reshape(len(self.weight), -1)).reshape(n, h, w, c, k, k)
        dx = np.zeros((n, c, h + k - 1, w + k - 1), np.float32)
        for i in range(k):
            for j in range(k):
                dx[:, :, i : i + h, j : j + w] += dcolumns[..., i, j].transpose(0, 3, 1, 2)
        return dx[:, :, p : h + k - 1 - p, p : w + k - 1 - p], [dweight, rows.sum(0)]


class Dense:
    """``y = x @ weight.T + bias``, the layout of ONNX's Gemm with transB."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        self.weight = he(rng, (outputs, inputs), fan_in=inputs)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.weight.T + self.bias

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        return dy @ self.weight, [dy.T @ self.x, dy.sum(0)]


class Relu:
    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        return dy * self.positive, []


class MaxPool:
    """2x2, stride 2. Where several pixels tie for the maximum, they share its gradient."""

    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
        y = blocks.max((3, 5), keepdims=True)
        self.share = (blocks == y).astype(np.float32)
        self.share /= self.share.sum((3, 5), keepdims=True)
        return y.reshape(n, c, h // 2, w // 2)

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        n, c, h, w = dy.shape
        return (self.share * dy[:, :, :, None, :, None]).reshape(n, c, 2 * h, 2 * w), []


class Flatten:
    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        return dy.reshape(self.shape), []


Layer = Conv | Dense | Relu | MaxPool | Flatten


def he(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    """He initialisation (He et al. 2015): normal with variance 2 / fan_in."""
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


def lenet(rng: np.random.Generator) -> list[Layer]:
    """Layers from 1x8x8 images in 0..1 to ten logits."""
    return [
        Conv(rng, 1, 6, k=5),
        Relu(),
        MaxPool(),
        Conv(rng, 6, 16, k=5),
        Relu(),
        MaxPool(),
        Flatten(),
        Dense(rng, 16 * 2 * 2, 120),
        Relu(),
        Dense(rng, 120, 84),
        Relu(),
        Dense(rng, 84, 10),
    ]


def parameters(layers: list[Layer]) -> list[Array]:
    return [array for layer in layers if isinstance(layer, Conv | Dense) for array in (layer.weight, layer.bias)]


def gradients(layers: list[Layer], x: Array, labels: Array) -> tuple[float, list[Array]]:
    """The mean cross-entropy of a batch, and its gradient in the order of :func:`parameters`."""
    for layer in layers:
        x = layer.forward(x)
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    here = np.arange(len(labels))
    loss = -float(np.log(p[here, labels]).mean())
    p[here, labels] -= 1
    dy = p / len(labels)
    grads: list[Array] = []
    for layer in reversed(layers):
        dy, own = layer.backward(dy)
        grads = own + grads
    return loss, grads


def shifted(rng: np.random.Generator, images: Array) -> Array:
    """Half of the images moved by at most one pixel each way, zeros moving in."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    dy, dx = rng.integers(-1, 2, (2, len(images))) * (rng.random(len(images)) < 0.5)
    rows = (1 + dy)[:, None, None] + np.arange(8)[:, None]
    columns = (1 + dx)[:, None, None] + np.arange(8)
    return padded[np.arange(len(images))[:, None, None], 0, rows, columns][:, None]


def train(layers: list[Layer], images: Array, labels: Array, rng: np.random.Generator) -> None:
    """Adam (Kingma and Ba 2015) with a learning rate that falls to zero along a cosine; the weights change in place."""
    weights = parameters(layers)
    mean = [np.zeros_like(w) for w in weights]
    square = [np.zeros_like(w) for w in weights]
    steps = EPOCHS * -(-len(images) // BATCH)
    step = 0
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        losses = []
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            loss, grads = gradients(layers, shifted(rng, images[batch]), labels[batch])
            losses.append(loss)
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            step += 1
            for w, m, s, g in zip(weights, mean, square, grads, strict=True):
                m += 0.1 * (g - m)
                s += 0.001 * (g * g - s)
                w -= (rate / (1 - 0.9**step)) * m / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
        if epoch % 25 == 24:
            print(f"epoch {epoch + 1:3}  loss {np.mean(losses):.4f}", flush=True)


def to_onnx(layers: list[Layer]) -> onnx.ModelProto:
    """The layers as ONNX, with the scaling of 0..16 to 0..1 before and a softmax behind them."""
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    count: dict[str, int] = {}

    def constant(name: str, value: Array) -> str:
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(op: str, stem: str, x: str, *more: str, output: str = "", **attributes: object) -> str:
        count[stem] = count.get(stem, 0) + 1
        name = f"{stem}{count[stem]}" if stem in ("conv", "relu", "pool", "dense") else stem
        nodes.append(helper.make_node(op, [x, *more], [output or name], name=name, **attributes))
        return output or name

    x = add("Div", "scale", "image", constant("brightest", np.float32(16).reshape(1)))
    for layer in layers:
        if isinstance(layer, Conv | Dense):
            stem = "conv" if isinstance(layer, Conv) else "dense"
            at = f"{stem}{count.get(stem, 0) + 1}"
            w, b = constant(f"{at}.weight", layer.weight), constant(f"{at}.bias", layer.bias)
            if isinstance(layer, Conv):
                x = add("Conv", stem, x, w, b, kernel_shape=[layer.k] * 2, pads=[layer.k // 2] * 4)
            else:
                x = add("Gemm", stem, x, w, b, transB=1)
        elif isinstance(layer, Relu):
            x = add("Relu", "relu", x)
        elif isinstance(layer, MaxPool):
            x = add("MaxPool", "pool", x, kernel_shape=[2, 2], strides=[2, 2])
        else:
            x = add("Flatten", "flatten", x)
    add("Softmax", "softmax", x, output="probability")

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 10])],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="examples/digits/train.py"
    )
    helper.set_model_props(model, {"dlpack.labels": json.dumps(LABELS)})
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(path: Path, images: Array, labels: Array) -> float:
    """The share of images whose most probable digit is right, as onnxruntime computes the written file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = [int(np.argmax(session.run(["probability"], {"image": image[None]})[0])) for image in images]
    return float(np.mean(np.array(answers) == labels))


def write_examples(path: Path, images: Array, labels: Array) -> None:
    """One CSV line per digit: the digit, then the 64 pixels of its first image, row by row."""
    first = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    lines = [",".join(str(int(v)) for v in (labels[i], *images[i].flat)) for i in first]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def main() -> None:
    started = time.perf_counter()
    rng = np.random.default_rng(SEED)
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]  # N x 1 x 8 x 8, 0..16
    labels = digits.target
    order = rng.permutation(len(images))
    split = len(order) - round(HELD_OUT * len(order))
    seen, held_out = order[:split], order[split:]

    layers = lenet(rng)
    with threadpool_limits(limits=1):
        train(layers, images[seen] / 16, labels[seen], rng)

    path = HERE / "digits.onnx"
    path.write_bytes(to_onnx(layers).SerializeToString(deterministic=True))
    write_examples(HERE / "held_out.csv", images[held_out], labels[held_out])
    print(f"{path.name}: {path.stat().st_size} bytes, {sum(w.size for w in parameters(layers))} weights")
    print(
        f"accuracy on {len(held_out)} held-out images: {100 * accuracy(path, images[held_out], labels[held_out]):.2f} %"
    )
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
