"""Classifiers for a DPU, whole in this file: ResNet (basic blocks), MobileNetV2, and YOLOX's backbone.

All end in an average over the last map and a 1x1 convolution, which a DPU runs as it runs any other; a linear layer
would need a change of shape before it. A DPU averages over at most 8x8 cells: inputs of up to 256 pixels.
"""

from __future__ import annotations

from torch import Tensor, nn

from lowwatt.models.yolox import CSPDarknet
from lowwatt.recipe import ModelSettings

OUTPUT = "scores"
DROPOUT = 0.2
"""Of the last features, in training."""

_INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""MobileNetV2 (Sandler et al., 2018, table 2): expansion, channels, blocks, stride of the first."""


class Classifier(nn.Module):
    """Features, their mean, one number a class.

    >>> import torch
    >>> net = resnet(ModelSettings(width=0.125, size=64), 5)
    >>> tuple(net.eval()(torch.zeros(2, 1, 64, 64)).shape)
    (2, 5, 1, 1)
    """

    def __init__(self, backbone: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(DROPOUT)
        self.scores = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.zeros_(self.scores.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float, values 0…255 → (N, classes, 1, 1) logits."""
        features = self.backbone(x)
        last = features[-1] if isinstance(features, tuple) else features
        scores: Tensor = self.scores(self.dropout(self.pool(last)))
        return scores


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "") -> nn.Sequential:
    """Convolution without bias, batch norm, activation ("" for none); padded so that stride 1 keeps the size."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)]
    nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="relu")
    acts = {"": [], "relu": [nn.ReLU(inplace=True)], "relu6": [nn.ReLU6(inplace=True)], "silu": [nn.SiLU(inplace=True)]}
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), *acts[act])


class BasicBlock(nn.Module):
    """ResNet's basic block: two 3x3 convolutions and a shortcut, activation after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride, act=activation)
        self.conv2 = conv(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)
        self.act: nn.Module = nn.SiLU() if activation == "silu" else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        out: Tensor = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return out


def resnet(settings: ModelSettings, num_classes: int) -> Classifier:
    """ResNet (He et al., 2015): width 1 has 64 to 512 channels, depth 1 is ResNet-18, depth 1.75 about ResNet-34."""
    base, blocks, act = _channels(64 * settings.width), max(1, round(2 * settings.depth)), settings.activation
    layers: list[nn.Module] = [conv(settings.channels, base, 3, 2, act=act), nn.MaxPool2d(3, 2, 1)]
    widths = [base * factor for factor in (1, 2, 4, 8)]
    inputs = base
    for stage, outputs in enumerate(widths):
        for index in range(blocks):
            layers.append(BasicBlock(inputs, outputs, 2 if stage and not index else 1, act))
            inputs = outputs
    return Classifier(nn.Sequential(*layers), inputs, num_classes)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 up, depthwise 3x3, linear 1x1 down; a sum where the sizes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = conv(inputs, hidden, 1, act="relu6") if expand > 1 else nn.Identity()
        self.depthwise = conv(hidden, hidden, 3, stride, groups=hidden, act="relu6")
        self.project = conv(hidden, outputs, 1)
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


def mobilenet(settings: ModelSettings, num_classes: int) -> Classifier:
    """MobileNetV2 at `width`; `depth` multiplies the blocks of a stage. ReLU6 throughout, whatever `activation`."""
    inputs, last = _channels(32 * settings.width), _channels(1280 * min(settings.width, 1.0))
    layers: list[nn.Module] = [conv(settings.channels, inputs, 3, 2, act="relu6")]
    for expand, channels, count, stride in _INVERTED:
        outputs = _channels(channels * settings.width)
        for index in range(max(1, round(count * settings.depth))):
            layers.append(InvertedResidual(inputs, outputs, 1 if index else stride, expand))
            inputs = outputs
    layers.append(conv(inputs, last, 1, act="relu6"))
    return Classifier(nn.Sequential(*layers), last, num_classes)


def cspdarknet(settings: ModelSettings, num_classes: int) -> Classifier:
    """YOLOX's backbone: its weights start a detector or a segmenter of the same `model` by `model.init`."""
    return Classifier(CSPDarknet(settings), 16 * int(64 * settings.width), num_classes)


def _channels(count: float) -> int:
    """A multiple of 8, at least 8: what accelerators work on at once."""
    return max(8, round(count / 8) * 8)
