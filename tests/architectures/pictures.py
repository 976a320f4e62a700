"""Networks for pictures of timm and torchvision, at 64 x 64 pixels where they allow it, and of Keras."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from architectures.base import Architecture, noise, picture

TIMM: dict[str, dict[str, Any]] = {
    name: {"size": 64}
    for name in (
        "resnet10t", "mobilenetv3_small_050", "mobilenetv4_conv_small", "efficientnet_b0", "efficientnet_lite0",
        "tf_efficientnetv2_b0", "ghostnet_050", "ghostnetv2_100", "mnasnet_small", "fbnetc_100", "tinynet_e",
        "lcnet_035", "mixnet_s", "regnetx_002", "regnety_002", "densenet121", "dla46_c", "rexnet_100",
        "mobileone_s0", "repghostnet_050", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "fastvit_t8",
        "efficientvit_b0", "convnext_atto", "convnextv2_atto", "ese_vovnet19b_dw", "starnet_s1", "mambaout_femto",
        "hgnetv2_b0", "pvt_v2_b0", "inception_next_atto", "repvit_m0_9", "cs3darknet_focus_s", "skresnet18",
        "spnasnet_100", "semnasnet_075", "nf_regnet_b0", "tf_mobilenetv3_small_075", "shvit_s1",
    )
} | {
    name: {"size": 64, "img_size": 64}
    for name in ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "xcit_nano_12_p16_224", "pit_ti_224",
                 "gmlp_ti16_224", "efficientvit_m0", "coat_lite_tiny")
} | {"levit_128s": {"size": 224}, "efficientvit_m0": {"size": 224}}  # fmt: skip

TORCHVISION = {
    "squeezenet1_1": 64, "shufflenet_v2_x0_5": 64, "googlenet": 64, "mobilenet_v2": 64, "mnasnet0_5": 64,
    "lraspp_mobilenet_v3_large": 64, "deeplabv3_mobilenet_v3_large": 64, "s3d": 0, "mc3_18": 0,
}  # fmt: skip

KERAS: dict[str, dict[str, Any]] = {
    "MobileNet": {"alpha": 0.25}, "MobileNetV2": {"alpha": 0.35}, "MobileNetV3Small": {}, "EfficientNetB0": {},
    "EfficientNetV2B0": {}, "DenseNet121": {}, "NASNetMobile": {},
}  # fmt: skip


def architectures() -> Iterator[Architecture]:
    for name, given in TIMM.items():
        yield Architecture(name, "timm", timm_model(name, given))
    for name, size in TORCHVISION.items():
        yield Architecture(name, "torchvision", torchvision_model(name, size))
    yield Architecture("YOLOv8-like", "written here", _yolo)
    for name, given in KERAS.items():
        yield Architecture(f"keras {name}", "keras", _keras(name, given))


def import_torchvision() -> None:
    """Its build for CUDA does not load beside a PyTorch for CPUs; what does not need its operators then does."""
    try:
        import torchvision
    except ModuleNotFoundError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
        import torchvision  # noqa: F401


def timm_model(name: str, given: dict[str, Any]) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def maker() -> tuple[Any, dict[str, Any]]:
        import timm
        import torch

        torch.manual_seed(0)
        options = {k: v for k, v in given.items() if k != "size"}
        model = timm.create_model(name, pretrained=False, num_classes=10, exportable=True, **options)
        return model.eval(), {"x": picture(given["size"])}

    return maker


def torchvision_model(name: str, size: int) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def maker() -> tuple[Any, dict[str, Any]]:
        import torch
        from torchvision import models

        torch.manual_seed(0)
        more = {"weights_backbone": None} if "v3_large" in name else {}
        more |= {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
        model = models.get_model(name, weights=None, num_classes=10, **more).eval()
        if more.get("weights_backbone", 0) is None:
            return _Out(model), {"x": picture(size)}
        side = 224 if name == "s3d" else 64  # of a video; s3d averages 7 x 7 pixels of a 32nd
        return model, {"x": picture(size) if size else noise(1, 3, 16, side, side)}

    return maker


def _Out(model: Any) -> Any:
    import torch

    class Out(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return self.model(x)["out"]

    return Out().eval()


def _yolo() -> tuple[Any, dict[str, Any]]:
    import torch

    from architectures.yolo import Yolo

    torch.manual_seed(0)
    return Yolo(width=16, classes=5).eval(), {"x": picture(64)}


def _keras(name: str, given: dict[str, Any]) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def maker() -> tuple[Any, dict[str, Any]]:
        import keras

        keras.utils.set_random_seed(0)
        shape = (96, 96, 3)
        model = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=10, **given)
        return model, {}

    return maker
