"""Classifiers of the model zoo as Graphs of shapes.

Layer lists follow the papers, and where the frameworks differ the one that the zoo took the network from.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from zoo_graph import Network, Sides

from lowwatt.ir.graph import Graph

RESNET50 = (3, 4, 6, 3)


def resnet18(side: Sides = 224, classes: int = 1000) -> Graph:
    n = Network(side)
    x = n.pool(n.conv(n.image, 64, 7, 2), 3, 2, 1)
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if block == 0 and stage > 0 else 1
            y = n.conv(n.conv(x, width, 3, stride), width, 3, act="none")
            x = n.add(n.conv(x, width, 1, stride, act="none") if stride > 1 else x, y, "relu")
    return n.classify(x, classes) if classes else n.end(x)


def resnet(depths: Sequence[int], style: str, side: Sides = 224, classes: int = 1000) -> Graph:
    """Bottleneck ResNet; styles differ in where a stage halves the map.

    caffe: in the first 1x1 convolution of its first block. torch (v1.5): in that block's 3x3 convolution. slim: in the
    3x3 convolution of its last block, whose shortcut is a pool of one element.
    """
    n = Network(side)
    x = n.pool(n.conv(n.image, 64, 7, 2), 3, 2, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            halves = block == depth - 1 and stage < 3 if style == "slim" else block == 0 and stage > 0
            x = _bottleneck(n, x, 64 << stage, 2 if halves else 1, style)
    return n.classify(x, classes)


def _bottleneck(n: Network, x: str, width: int, stride: int, style: str) -> str:
    first, second = (stride, 1) if style == "caffe" else (1, stride)
    y = n.conv(n.conv(n.conv(x, width, 1, first), width, 3, second), 4 * width, act="none")
    if n.channels(x) != 4 * width:
        x = n.conv(x, 4 * width, 1, stride, act="none")
    elif stride > 1:
        x = n.pool(x, 1, stride)
    return n.add(x, y, "relu")


def sphereface(depths: Sequence[int]) -> Graph:
    """Face recognition of 112 x 96 pixels: plain residual pairs behind a strided convolution a stage."""
    n = Network((112, 96))
    x = n.image
    for width, depth in zip((64, 128, 256, 512), depths, strict=True):
        x = n.conv(x, width, 3, 2)
        for _ in range(depth):
            x = n.add(x, n.conv(n.conv(x, width, 3), width, 3))
    flat = n.op("reshape", [x], shape=(1, 7 * 6 * 512))
    weights = n.graph.add_constant("fc.w", np.broadcast_to(np.float32(0), (512, 7 * 6 * 512)))
    return n.end(n.op("linear", [flat, weights]))


def vgg(depths: Sequence[int]) -> Graph:
    n = Network(224)
    x = n.image
    for width, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            x = n.conv(x, width, 3)
        x = n.pool(x, 2, 2)
    return n.end(n.conv(n.conv(n.conv(x, 4096, 7, pad=0), 4096), 1000, act="none"))


def rounded(channels: float) -> int:
    """Channels as the MobileNets round them: to eights, and never more than a tenth down."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def mobilenet_v1(multiplier: float = 1.0, side: int = 224) -> Graph:
    n = Network(side, "relu6")
    x = n.conv(n.image, int(32 * multiplier), 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in plan:
        x = n.conv(n.depthwise(x, stride), int(width * multiplier))
    return n.classify(x, 1001)


def mobilenet_v2_blocks(n: Network, multiplier: float) -> tuple[str, str]:
    """Output of the last block, and the expansion at a sixteenth of the size that SSD looks at."""
    x, expansion = n.conv(n.image, rounded(32 * multiplier), 3, 2), ""
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, channels, depth, first in plan:
        for block in range(depth):
            stride = first if block == 0 else 1
            y = n.conv(x, n.channels(x) * expand) if expand > 1 else x
            expansion = y if (channels, stride) == (160, 2) else expansion
            y = n.conv(n.depthwise(y, stride), rounded(channels * multiplier), act="none")
            x = n.add(x, y) if block else y
    return x, expansion


def mobilenet_v2(multiplier: float = 1.0, classes: int = 1001) -> Graph:
    n = Network(224, "relu6")
    x, _ = mobilenet_v2_blocks(n, multiplier)
    return n.classify(n.conv(x, max(1280, rounded(1280 * multiplier))), classes)


def mobilenet_edge(multiplier: float) -> Graph:
    """MobileNet-EdgeTPU: the early expansions are full 3x3 convolutions; the first block has none."""
    n = Network(224)
    x = n.conv(n.conv(n.image, rounded(32 * multiplier), 3, 2), rounded(16 * multiplier), act="none")
    # fused, kernel, stride of the first, its expansion, channels, blocks
    plan = [
        (True, 3, 2, 8, 32, 4), (True, 3, 2, 8, 48, 4), (False, 3, 2, 8, 96, 4),
        (False, 3, 1, 8, 96, 4), (False, 5, 2, 8, 160, 4), (False, 3, 1, 8, 192, 1),
    ]  # fmt: skip
    for fused, kernel, stride, expand, channels, depth in plan:
        for block in range(depth):
            first = block == 0
            width = n.channels(x) * (expand if first else 4)
            y = n.conv(x, width, 3 if fused else 1, stride if fused and first else 1)
            y = y if fused else n.depthwise(y, stride if first else 1, kernel, "relu")
            y = n.conv(y, rounded(channels * multiplier), act="none")
            x = y if first else n.add(x, y)
    return n.classify(n.conv(x, 1280), 1001)


def efficientnet_edge(width: float, depth: float, side: int) -> Graph:
    """EfficientNet-EdgeTPU, without squeeze and excite; fused blocks halve the map in their projection."""
    n = Network(side)
    x = n.conv(n.image, rounded(32 * width), 3, 2)
    # fused, kernel, stride of the first, expansion, channels in and out, blocks
    plan = [
        (True, 3, 1, 4, 24, 24, 1), (True, 3, 2, 8, 24, 32, 2), (True, 3, 2, 8, 32, 48, 4),
        (False, 5, 2, 8, 48, 96, 5), (False, 5, 1, 8, 96, 144, 4), (False, 5, 2, 8, 144, 192, 2),
    ]  # fmt: skip
    for fused, kernel, first, expand, inputs, outputs, blocks in plan:
        for block in range(ceil(blocks * depth)):
            stride = 1 if block else first
            y = n.conv(x, rounded((outputs if block else inputs) * width) * expand, 3 if fused else 1)
            y = y if fused else n.depthwise(y, stride, kernel, "relu")
            y = n.conv(y, rounded(outputs * width), 1, stride if fused else 1, act="none")
            x = n.add(x, y) if block else y
    return n.classify(n.conv(x, rounded(1280 * width)), 1001)


def squeezenet(side: int = 227) -> Graph:
    n = Network(side)
    x = n.pool(n.conv(n.image, 64, 3, 2, pad=0), 3, 2, ceil=True)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        y = n.conv(x, squeeze)
        x = n.join(n.conv(y, 4 * squeeze), n.conv(y, 4 * squeeze, 3))
        x = n.pool(x, 3, 2, ceil=True) if index in (1, 3) else x
    x = n.conv(x, 1000)
    side = n.graph.tensor(x).shape[1]
    return n.end(n.op("avg_pool", [x], kernel=(side, side), stride=(1, 1)))


def inception_v1(large: int = 5) -> Graph:
    """GoogLeNet; TF-slim's has 3x3 for the paper's 5x5 convolutions."""
    n = Network(224)
    x = n.pool(n.conv(n.image, 64, 7, 2), 3, 2, ceil=True)
    x = n.pool(n.conv(n.conv(x, 64), 192, 3), 3, 2, ceil=True)
    plan = [
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (),
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), (),
        (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ]  # fmt: skip
    for widths in plan:
        x = _inception_v1(n, x, large, *widths) if widths else n.pool(x, 3, 2, ceil=True)
    return n.classify(x)


def _inception_v1(n: Network, x: str, large: int, one: int, mid: int, three: int, low: int, five: int, by: int) -> str:
    return n.join(
        n.conv(x, one),
        n.conv(n.conv(x, mid), three, 3),
        n.conv(n.conv(x, low), five, large),
        n.conv(n.pool(x, 3, 1, 1), by),
    )


def inception_v2_blocks(n: Network, slim: bool) -> tuple[str, str]:
    """BN-Inception: the map at a sixteenth of the size and the last one.

    TF-slim's first convolution is a 7x7 depthwise one with eight outputs a channel and a 1x1 convolution.
    """
    stem = n.conv(n.depthwise(n.image, 2, 7, "none", 8), 64) if slim else n.conv(n.image, 64, 7, 2)
    x = n.pool(stem, 3, 2, ceil=not slim, pad=1 if slim else 0)
    x = n.pool(n.conv(n.conv(x, 64), 192, 3), 3, 2, ceil=not slim, pad=1 if slim else 0)
    late = 96 if slim else 128
    plan = [
        (64, 64, 64, 64, 96, 32), (64, 64, 96, 64, 96, 64), (0, 128, 160, 64, 96, 0),
        (224, 64, 96, 96, 128, 128), (192, 96, 128, 96, 128, 128), (160, 128, 160, 128, 160, late),
        (96, 128, 192, 160, 192, late), (0, 128, 192, 192, 256, 0),
        (352, 192, 320, 160, 224, 128), (352, 192, 320, 192, 224, 128),
    ]  # fmt: skip
    middle = ""
    for index, widths in enumerate(plan):
        middle = x if index == 7 else middle
        x = _inception_v2(n, x, *widths)
    return middle, x


def inception_v2(slim: bool) -> Graph:
    n = Network(224)
    return n.classify(inception_v2_blocks(n, slim)[1], 1001 if slim else 1000)


def _inception_v2(n: Network, x: str, one: int, mid: int, three: int, low: int, double: int, by: int) -> str:
    stride = 1 if one else 2
    parts = [n.conv(n.conv(x, mid), three, 3, stride), n.conv(n.conv(n.conv(x, low), double, 3), double, 3, stride)]
    if not one:
        return n.join(*parts, n.pool(x, 3, 2, 1))
    return n.join(n.conv(x, one), *parts, n.conv(n.average(x), by))


def inception_v3() -> Graph:
    n = Network(299)
    x = n.conv(n.conv(n.conv(n.image, 32, 3, 2, 0), 32, 3, 1, 0), 64, 3)
    x = n.pool(n.conv(n.conv(n.pool(x, 3, 2), 80), 192, 3, 1, 0), 3, 2)
    for pooled in (32, 64, 64):
        double = n.conv(n.conv(n.conv(x, 64), 96, 3), 96, 3)
        x = n.join(n.conv(x, 64), n.conv(n.conv(x, 48), 64, 5), double, n.conv(n.average(x), pooled))
    x = n.join(n.conv(x, 384, 3, 2, 0), n.conv(n.conv(n.conv(x, 64), 96, 3), 96, 3, 2, 0), n.pool(x, 3, 2))
    for c in (128, 160, 160, 192):
        single = n.conv(n.conv(n.conv(x, c), c, (1, 7)), 192, (7, 1))
        double = n.conv(n.conv(n.conv(n.conv(n.conv(x, c), c, (7, 1)), c, (1, 7)), c, (7, 1)), 192, (1, 7))
        x = n.join(n.conv(x, 192), single, double, n.conv(n.average(x), 192))
    seven = n.conv(n.conv(n.conv(x, 192), 192, (1, 7)), 192, (7, 1))
    x = n.join(n.conv(n.conv(x, 192), 320, 3, 2, 0), n.conv(seven, 192, 3, 2, 0), n.pool(x, 3, 2))
    for _ in range(2):
        parts = [n.conv(x, 320)]
        for y in (n.conv(x, 384), n.conv(n.conv(x, 448), 384, 3)):
            parts += [n.conv(y, 384, (1, 3)), n.conv(y, 384, (3, 1))]
        x = n.join(*parts, n.conv(n.average(x), 192))
    return n.classify(x, 1001)


def inception_v4() -> Graph:
    n = Network(299)
    x = n.conv(n.conv(n.conv(n.image, 32, 3, 2, 0), 32, 3, 1, 0), 64, 3)
    x = n.join(n.pool(x, 3, 2), n.conv(x, 96, 3, 2, 0))
    tall = n.conv(n.conv(n.conv(x, 64), 64, (1, 7)), 64, (7, 1))
    x = n.join(n.conv(n.conv(x, 64), 96, 3, 1, 0), n.conv(tall, 96, 3, 1, 0))
    x = n.join(n.conv(x, 192, 3, 2, 0), n.pool(x, 3, 2))
    for _ in range(4):
        double = n.conv(n.conv(n.conv(x, 64), 96, 3), 96, 3)
        x = n.join(n.conv(x, 96), n.conv(n.conv(x, 64), 96, 3), double, n.conv(n.average(x), 96))
    x = n.join(n.conv(x, 384, 3, 2, 0), n.conv(n.conv(n.conv(x, 192), 224, 3), 256, 3, 2, 0), n.pool(x, 3, 2))
    for _ in range(7):
        single = n.conv(n.conv(n.conv(x, 192), 224, (1, 7)), 256, (7, 1))
        double = n.conv(n.conv(n.conv(n.conv(n.conv(x, 192), 192, (7, 1)), 224, (1, 7)), 224, (7, 1)), 256, (1, 7))
        x = n.join(n.conv(x, 384), single, double, n.conv(n.average(x), 128))
    seven = n.conv(n.conv(n.conv(x, 256), 256, (1, 7)), 320, (7, 1))
    x = n.join(n.conv(n.conv(x, 192), 192, 3, 2, 0), n.conv(seven, 320, 3, 2, 0), n.pool(x, 3, 2))
    for _ in range(3):
        parts = [n.conv(x, 256)]
        for y in (n.conv(x, 384), n.conv(n.conv(n.conv(x, 384), 448, (1, 3)), 512, (3, 1))):
            parts += [n.conv(y, 256, (1, 3)), n.conv(y, 256, (3, 1))]
        x = n.join(*parts, n.conv(n.average(x), 256))
    return n.classify(x, 1001)


def inception_resnet_v2() -> Graph:
    n = Network(299)
    x = n.conv(n.conv(n.conv(n.image, 32, 3, 2, 0), 32, 3, 1, 0), 64, 3)
    x = n.pool(n.conv(n.conv(n.pool(x, 3, 2), 80), 192, 3, 1, 0), 3, 2)
    double = n.conv(n.conv(n.conv(x, 64), 96, 3), 96, 3)
    x = n.join(n.conv(x, 96), n.conv(n.conv(x, 48), 64, 5), double, n.conv(n.average(x), 64))
    for _ in range(10):
        double = n.conv(n.conv(n.conv(x, 32), 48, 3), 64, 3)
        x = _scaled(n, x, n.conv(x, 32), n.conv(n.conv(x, 32), 32, 3), double)
    x = n.join(n.conv(x, 384, 3, 2, 0), n.conv(n.conv(n.conv(x, 256), 256, 3), 384, 3, 2, 0), n.pool(x, 3, 2))
    for _ in range(20):
        x = _scaled(n, x, n.conv(x, 192), n.conv(n.conv(n.conv(x, 128), 160, (1, 7)), 192, (7, 1)))
    double = n.conv(n.conv(n.conv(x, 256), 288, 3), 320, 3, 2, 0)
    single = n.conv(n.conv(x, 256), 288, 3, 2, 0)
    x = n.join(n.conv(n.conv(x, 256), 384, 3, 2, 0), single, double, n.pool(x, 3, 2))
    for _ in range(10):
        x = _scaled(n, x, n.conv(x, 192), n.conv(n.conv(n.conv(x, 192), 224, (1, 3)), 256, (3, 1)))
    return n.classify(n.conv(x, 1536), 1001)


def _scaled(n: Network, x: str, *branches: str) -> str:
    """Residual block; the scale of its branch is part of the last convolution's weights."""
    return n.add(x, n.conv(n.join(*branches), n.channels(x), act="none"), "relu")
