"""YOLOX and YOLOX-FPGA, whole in this file: CSPDarknet, PAFPN, decoupled head.

Blocks follow YOLOX (Ge et al., 2021, arXiv 2107.08430). YOLOX-FPGA is the LPCV 2021 winner's change of operators for
the DPU: SiLU → ReLU, Focus → three convolutions, max-pool SPP → dilated convolutions, one gray input channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lowwatt.recipe import ModelSettings
from lowwatt.types import DetectionHead, Preprocess

STRIDES = (8, 16, 32)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, activation; padded so that stride 1 keeps the size."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, activation: str = "relu"
    ) -> None:
        super().__init__()
        pad = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad, dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act: nn.Module = nn.SiLU(inplace=True) if activation == "silu" else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        return self.act(self.bn(self.conv(x)))


class Focus(nn.Module):
    """YOLOX's first layer: every second pixel, four times, as channels; then a convolution. The DPU cannot run it."""

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.conv = ConvBlock(4 * inputs, outputs, 3, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, outputs, H/2, W/2)."""
        corners = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return self.conv(torch.cat(corners, 1))


def stem_convs(inputs: int, outputs: int, activation: str) -> nn.Sequential:
    """YOLOX-FPGA's first layers instead of Focus: three 3x3 convolutions, the first of stride 2, at half the width."""
    half = outputs // 2
    return nn.Sequential(
        ConvBlock(inputs, half, 3, 2, activation=activation),
        ConvBlock(half, half, 3, activation=activation),
        ConvBlock(half, outputs, 3, activation=activation),
    )


class Bottleneck(nn.Module):
    """1x1 then 3x3 convolution, with a shortcut where wanted."""

    def __init__(self, channels: int, shortcut: bool, activation: str) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels, 1, activation=activation)
        self.conv2 = ConvBlock(channels, channels, 3, activation=activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels go through bottlenecks, half around them; a 1x1 convolution joins them."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool, activation: str) -> None:
        super().__init__()
        hidden = outputs // 2
        self.conv1 = ConvBlock(inputs, hidden, 1, activation=activation)
        self.conv2 = ConvBlock(inputs, hidden, 1, activation=activation)
        self.blocks = nn.Sequential(*(Bottleneck(hidden, shortcut, activation) for _ in range(depth)))
        self.conv3 = ConvBlock(2 * hidden, outputs, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        return self.conv3(torch.cat((self.blocks(self.conv1(x)), self.conv2(x)), 1))


class PoolSPP(nn.Module):
    """YOLOX's spatial pyramid: max pools of 5, 9 and 13 beside the input. The DPU takes no kernel above 8."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv1 = ConvBlock(channels, hidden, 1, activation=activation)
        self.pools = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in (5, 9, 13))
        self.conv2 = ConvBlock(4 * hidden, channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        x = self.conv1(x)
        return self.conv2(torch.cat((x, *(pool(x) for pool in self.pools)), 1))


class DilatedSPP(nn.Module):
    """YOLOX-FPGA's spatial pyramid: three parallel 3x3 convolutions of dilation 1, 3 and 5 beside the input."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv1 = ConvBlock(channels, hidden, 1, activation=activation)
        self.branches = nn.ModuleList(
            ConvBlock(hidden, hidden, 3, dilation=dilation, activation=activation) for dilation in (1, 3, 5)
        )
        self.conv2 = ConvBlock(4 * hidden, channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        x = self.conv1(x)
        return self.conv2(torch.cat((x, *(branch(x) for branch in self.branches)), 1))


def _pyramid(kind: str, channels: int, activation: str) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return PoolSPP(channels, activation) if kind == "pool" else DilatedSPP(channels, activation)


class CSPDarknet(nn.Module):
    """Backbone; gives features of stride 8, 16 and 32 with 4, 8 and 16 times `64 * width` channels."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        act, base, depth = settings.activation, int(64 * settings.width), max(round(3 * settings.depth), 1)
        stem = Focus if settings.stem == "focus" else stem_convs
        self.stem = stem(settings.channels, base, act)
        self.dark2 = _stage(base, depth, act)
        self.dark3 = _stage(2 * base, 3 * depth, act)
        self.dark4 = _stage(4 * base, 3 * depth, act)
        self.dark5 = nn.Sequential(
            ConvBlock(8 * base, 16 * base, 3, 2, activation=act),
            _pyramid(settings.spp, 16 * base, act),
            CSPLayer(16 * base, 16 * base, depth, False, act),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) → features of stride 8, 16, 32."""
        small = self.dark3(self.dark2(self.stem(x)))
        middle = self.dark4(small)
        return small, middle, self.dark5(middle)


def _stage(inputs: int, depth: int, activation: str) -> nn.Sequential:
    down = ConvBlock(inputs, 2 * inputs, 3, 2, activation=activation)
    return nn.Sequential(down, CSPLayer(2 * inputs, 2 * inputs, depth, True, activation))


class PAFPN(nn.Module):
    """Neck: features go from coarse to fine and back. YOLOX-FPGA has shortcuts in its CSP blocks, YOLOX has none."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        act, base, depth = settings.activation, int(64 * settings.width), max(round(3 * settings.depth), 1)
        short = settings.neck_shortcuts
        c3, c4, c5 = 4 * base, 8 * base, 16 * base
        self.reduce5 = ConvBlock(c5, c4, 1, activation=act)
        self.up4 = CSPLayer(2 * c4, c4, depth, short, act)
        self.reduce4 = ConvBlock(c4, c3, 1, activation=act)
        self.up3 = CSPLayer(2 * c3, c3, depth, short, act)
        self.down3 = ConvBlock(c3, c3, 3, 2, activation=act)
        self.out4 = CSPLayer(2 * c3, c4, depth, short, act)
        self.down4 = ConvBlock(c4, c4, 3, 2, activation=act)
        self.out5 = CSPLayer(2 * c4, c5, depth, short, act)
        self.upsample = nn.Upsample(scale_factor=2.0, mode="nearest")

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Backbone features → features of the same strides and widths."""
        small, middle, large = features
        top = self.reduce5(large)
        middle = self.reduce4(self.up4(torch.cat((self.upsample(top), middle), 1)))
        out3 = self.up3(torch.cat((self.upsample(middle), small), 1))
        out4 = self.out4(torch.cat((self.down3(out3), middle), 1))
        return out3, out4, self.out5(torch.cat((self.down4(out4), top), 1))


class HeadLevel(nn.Module):
    """Decoupled head of one stride: a tower for the classes, one for box and objectness."""

    def __init__(self, inputs: int, width: int, num_classes: int, activation: str) -> None:
        super().__init__()
        self.stem = ConvBlock(inputs, width, 1, activation=activation)
        self.cls_tower = _tower(width, activation)
        self.box_tower = _tower(width, activation)
        self.cls = nn.Conv2d(width, num_classes, 1)
        self.box = nn.Conv2d(width, 4, 1)
        self.obj = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) → raw class (num_classes), box (4) and objectness (1) maps."""
        x = self.stem(x)
        box = self.box_tower(x)
        return self.cls(self.cls_tower(x)), self.box(box), self.obj(box)


def _tower(width: int, activation: str) -> nn.Sequential:
    return nn.Sequential(*(ConvBlock(width, width, 3, activation=activation) for _ in range(2)))


def _share_towers(levels: Sequence[HeadLevel]) -> None:
    """All strides use the first one's tower convolutions, with batch norms of their own (RTMDet, Lyu et al., 2022)."""
    first, *others = levels
    for level in others:
        for own, common in ((level.cls_tower, first.cls_tower), (level.box_tower, first.box_tower)):
            for block, source in zip(own, common, strict=True):
                block.conv = source.conv


class YOLOX(nn.Module):
    """The detector: image in, nine raw maps out; decoding is outside (`lowwatt.runtime.postprocess`).

    >>> model = YOLOX(ModelSettings(width=0.125), num_classes=3)
    >>> [tuple(o.shape) for o in model(torch.zeros(1, 1, 64, 64))[:3]]
    [(1, 3, 8, 8), (1, 4, 8, 8), (1, 1, 8, 8)]
    """

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__()
        base, width = int(64 * settings.width), int(256 * settings.width)
        self.num_classes = num_classes
        self.backbone = CSPDarknet(settings)
        self.neck = PAFPN(settings)
        levels = [HeadLevel(factor * base, width, num_classes, settings.activation) for factor in (4, 8, 16)]
        if settings.head == "shared":
            _share_towers(levels)
        self.head = nn.ModuleList(levels)
        self._initialise()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) float, values 0…255 → (cls, box, obj) of stride 8, then 16, then 32, each NCHW and raw."""
        features = self.neck(self.backbone(x))
        return tuple(out for level, feature in zip(self.head, features, strict=True) for out in level(feature))

    def _initialise(self) -> None:
        """Class and objectness logits start at a probability of 0.01 (focal loss paper; YOLOX does the same)."""
        prior = -math.log((1 - 0.01) / 0.01)
        for level in self.head:
            nn.init.constant_(level.cls.bias, prior)
            nn.init.constant_(level.obj.bias, prior)


def build_model(settings: ModelSettings, num_classes: int) -> YOLOX:
    """The network of a recipe as it runs, freshly initialised from torch's global generator.

    With `reparam` it is trained in another form: `lowwatt.models.reparam.expand`.
    """
    return YOLOX(settings, num_classes)


def output_names(strides: Sequence[int] = STRIDES) -> tuple[str, ...]:
    """Names of the outputs in order.

    >>> output_names()[:4]
    ('cls_8', 'box_8', 'obj_8', 'cls_16')
    """
    return tuple(f"{kind}_{stride}" for stride in strides for kind in ("cls", "box", "obj"))


def head_of(settings: ModelSettings, num_classes: int) -> DetectionHead:
    """How the outputs are read; the same for every setting."""
    outputs = tuple((f"cls_{s}", f"box_{s}", f"obj_{s}") for s in STRIDES)
    return DetectionHead(STRIDES, outputs, num_classes)


def preprocess_of(settings: ModelSettings) -> Preprocess:
    """Letterbox to the top left corner, padded with 0, as YOLOX-FPGA is trained."""
    return Preprocess((settings.size, settings.size), settings.channels)
