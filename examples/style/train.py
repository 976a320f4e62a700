"""Train a small fast-style-transfer network (Johnson et al. 2016) in PyTorch, and write it as ``style.onnx``.

    python examples/style/train.py

Johnson's losses compare features of a VGG that was trained on a million photos. Here nothing is downloaded: style is
how colours and the answers to random filters are distributed on four scales, and content is brightness. The style,
`pictures.style_picture`, is painted by a formula.
Everything random comes from one seed and the arithmetic runs on one thread, so that a run can be repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from pictures import crop, photo_crop, scene, style_picture
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SEED = 1
WIDTH = 8  # channels at full resolution; 2 and 4 times as many at a half and a quarter
BLOCKS = 3
SIDE = 128  # of a training picture
BATCH = 4
PHOTOS = 0.65  # of the training pictures; the others are scenes
SCENES = 200
STEPS = 1400
LEARNING_RATE = 3e-3
SCALES = 4
CONTENT = 0.3  # the weight of content against style


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution over reflected borders, instance-normalised; the norm's shift makes a bias superfluous."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)
    return [layer, nn.InstanceNorm2d(outputs, affine=True)]


class Block(nn.Sequential):
    """A residual block: x + f(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__(*conv(channels, channels, 3), nn.ReLU(), *conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def network(width: int = WIDTH, blocks: int = BLOCKS) -> nn.Sequential:
    """From N x 3 x H x W in 0..1 to the same; H and W are multiples of 4."""
    return nn.Sequential(
        *conv(3, width, 9), nn.ReLU(),
        *conv(width, 2 * width, 3, 2), nn.ReLU(),
        *conv(2 * width, 4 * width, 3, 2), nn.ReLU(),
        *[Block(4 * width) for _ in range(blocks)],
        nn.Upsample(scale_factor=2, mode="bilinear"), *conv(4 * width, 2 * width, 3), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="bilinear"), *conv(2 * width, width, 3), nn.ReLU(),
        nn.Conv2d(width, 3, 9, padding=4, padding_mode="reflect"), nn.Sigmoid(),
    )  # fmt: skip


def random_filters(count: int, channels: int, side: int) -> Tensor:
    """White noise of unit norm, count x channels x side x side."""
    filters = torch.randn(count, channels, side, side)
    return filters / filters.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def gabor_filters(count: int, side: int = 11) -> Tensor:
    """Stripes of random direction, frequency, phase and colour under a Gaussian, of unit norm, count x 3 x side x side.
    Strokes answer to them, each direction to its own; to noise, all directions look alike."""
    angle, frequency, phase = torch.rand(3, count, 1, 1)
    y, x = torch.meshgrid(2 * [torch.arange(side) - (side - 1) / 2], indexing="ij")
    along = x * (np.pi * angle).cos() + y * (np.pi * angle).sin()
    stripes = torch.cos(2 * np.pi * ((0.06 + 0.22 * frequency) * along + phase))
    stripes = stripes * torch.exp(-(x**2 + y**2) / (2 * (side / 5) ** 2))
    stripes = stripes - stripes.mean((1, 2), keepdim=True)
    filters = stripes[:, None] * torch.randn(count, 3, 1, 1)
    return filters / filters.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def wasserstein(made: Tensor, style: Tensor) -> Tensor:
    """Per channel, how far each picture's distribution of values is from that of all style pictures together: on a line
    it is the distance of the sorted values."""
    style = style.transpose(0, 1).flatten(1).sort(1).values
    return (made.flatten(2).sort(2).values - style[:, len(made) // 2 :: len(made)]).abs().mean()


def style_loss(made: Tensor, style: Tensor) -> Tensor:
    """Sliced Wasserstein distance (Heitz et al. 2021) between features of each picture and of the style: of colours, of
    the answers to random Gabor filters, and of random mixtures of the positive ones among neighbouring answers, which
    tell strokes that cross from strokes that lie side by side. Every step draws filters of its own."""
    total = made.new_zeros(())
    for scale in range(SCALES):
        stride = 2 if scale == 0 else 1  # every fourth pixel of so many is enough
        y, x = torch.randint(stride, (2,)).tolist()
        colours, gabors, mixtures = random_filters(8, 3, 1), gabor_filters(24), random_filters(16, 24, 3)
        pair = [p[:, :, y:, x:] for p in (made, style)]
        total = total + wasserstein(*(F.conv2d(p, colours, stride=stride) for p in pair))
        pair = [F.conv2d(p, gabors, stride=stride) for p in pair]
        total = total + wasserstein(*pair)
        total = total + wasserstein(*(F.conv2d(F.relu(p), mixtures) for p in pair))
        made, style = F.avg_pool2d(made, 2), F.avg_pool2d(style, 2)
    return total / 3


def content_loss(made: Tensor, given: Tensor) -> Tensor:
    """How far brightness differs on scales of 4, 8 and 16 pixels, whatever its mean and contrast. Differences weigh as
    much as brightness varies around them in the picture that is given: plain parts are left to the strokes."""
    total = made.new_zeros(())
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    made, given = ((p * weights).sum(1, keepdim=True) for p in (made, given))
    for scale in (4, 8, 16):
        pair = (F.avg_pool2d(p, scale) for p in (made, given))
        y, x = ((p - p.mean((2, 3), keepdim=True)) / (p.std((2, 3), keepdim=True) + 0.05) for p in pair)
        contrast = F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)
        contrast = contrast / (contrast.mean((2, 3), keepdim=True) + 0.05)
        total = total + (contrast * (y - x).abs()).mean() / 3
    return total


def tensor(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32))


def resized(picture: np.ndarray, height: int) -> np.ndarray:
    width = round(height * picture.shape[1] / picture.shape[0])
    result = F.interpolate(tensor([picture]), (height, width), mode="bilinear", antialias=True)
    return np.asarray(result[0].permute(1, 2, 0))


def train(net: nn.Sequential, steps: int) -> None:
    """Adam (Kingma and Ba 2015); the learning rate rises for 50 steps, then falls to zero along a cosine."""
    rng = np.random.default_rng(SEED)
    painting = style_picture(rng)
    photos = [resized(p / 255, height) for p in load_sample_images().images for height in (176, 224, 288, 384)]
    scenes = [scene(rng, SIDE) for _ in range(SCENES)]
    optimizer = torch.optim.Adam(net.parameters())
    seen: list[tuple[float, float]] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * step / steps))
        crops = [crop(rng, painting, SIDE) for _ in range(BATCH)]
        pictures = [
            photo_crop(rng, photos, SIDE) if rng.random() < PHOTOS else scenes[rng.integers(SCENES)]
            for _ in range(BATCH)
        ]
        given = tensor(pictures)
        made = net(given)
        style, content = style_loss(made, tensor(crops)), content_loss(made, given)
        optimizer.zero_grad()
        (style + CONTENT * content).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        seen.append((style.item(), content.item()))
        if step % 100 == 99:
            means = np.mean(seen[-100:], 0)
            print(f"step {step + 1:4}  style {means[0]:.4f}  content {means[1]:.4f}", flush=True)


def to_onnx(net: nn.Sequential) -> onnx.ModelProto:
    """The network as ONNX, height and width open; the picture that goes in has 0..255, the one that comes out 0..1."""
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    count: dict[str, int] = {}

    def constant(name: str, value: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(name: str, value: Tensor) -> str:
        return constant(name, value.detach().numpy())

    def add(op: str, stem: str, *inputs: str, output: str = "", **attributes: object) -> str:
        count[stem] = count.get(stem, 0) + 1
        name = f"{stem}{count[stem]}"
        nodes.append(helper.make_node(op, inputs, [output or name], name=name, **attributes))
        return output or name

    def layer(module: nn.Module, x: str) -> str:
        if isinstance(module, Block):
            y = x
            for part in module:
                y = layer(part, y)
            return add("Add", "sum", x, y)
        if isinstance(module, nn.Conv2d):
            at = f"conv{count.get('conv', 0) + 1}"
            k = module.kernel_size[0]
            x = add("Pad", "pad", x, borders(k // 2), mode="reflect")
            first = at == "conv1"  # takes 0..255
            parts = [weight(f"{at}.weight", module.weight / 255 if first else module.weight)]
            parts += [weight(f"{at}.bias", module.bias)] if module.bias is not None else []
            return add("Conv", "conv", x, *parts, kernel_shape=[k, k], strides=list(module.stride))
        if isinstance(module, nn.InstanceNorm2d):
            at = f"norm{count.get('norm', 0) + 1}"
            parts = [weight(f"{at}.scale", module.weight), weight(f"{at}.bias", module.bias)]
            return add("InstanceNormalization", "norm", x, *parts, epsilon=module.eps)
        if isinstance(module, nn.Upsample):
            return add("Resize", "up", x, "", "twice", mode="linear")
        if isinstance(module, nn.ReLU):
            return add("Relu", "relu", x)
        return add("Sigmoid", "sigmoid", x, output="stylised")

    def borders(p: int) -> str:
        name = f"borders{p}"
        if name not in {i.name for i in initializers}:
            constant(name, np.array([0, 0, p, p, 0, 0, p, p], np.int64))
        return name

    constant("twice", np.array([1, 1, 2, 2], np.float32))
    x = "picture"
    for module in net:
        x = layer(module, x)
    shape = [1, 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "style",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("stylised", TensorProto.FLOAT, shape)],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="examples/style/train.py"
    )
    task = {"kind": "style", "range": [0, 1]}
    helper.set_model_props(
        model, {"dlpack.preprocess": json.dumps({"preset": "none"}), "dlpack.task": json.dumps(task)}
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def difference(path: Path, net: nn.Sequential) -> float:
    """The largest difference between the written file in onnxruntime and the network in PyTorch, of 1."""
    picture = np.random.default_rng(SEED).random((1, 3, 64, 96), np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {"picture": 255 * picture})[0]
    with torch.no_grad():
        return float(np.abs(got - net(torch.from_numpy(picture)).numpy()).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("-o", dest="path", type=Path, default=HERE / "style.onnx", help="the file that is written")
    arguments = parser.parse_args()
    began = time.perf_counter(), time.process_time()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = network()
    train(net, arguments.steps)
    arguments.path.write_bytes(to_onnx(net).SerializeToString(deterministic=True))
    size, weights = arguments.path.stat().st_size, sum(p.numel() for p in net.parameters())
    print(f"{arguments.path.name}: {size} bytes, {weights} weights")
    error = difference(arguments.path, net)
    if error > 1e-3:
        raise RuntimeError(f"{arguments.path} differs from the network that was trained by {error:.2g}")
    print(f"{time.perf_counter() - began[0]:.0f} s, {time.process_time() - began[1]:.0f} s of CPU time")


if __name__ == "__main__":
    main()
