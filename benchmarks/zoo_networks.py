"""Standard networks of the model zoo as Graphs of shapes (weights zero): what published board times are compared on.

Layer lists follow the papers and the zoo's Caffe versions (ResNet-50 with the stride in the first 1x1 convolution).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lowwatt.ir.graph import Graph


class Network:
    """A graph that grows layer by layer."""

    def __init__(self, side: int, activation: str = "relu") -> None:
        self.graph, self.activation = Graph("zoo"), activation
        self.image = self.graph.add_input("image", (1, side, side, 3))

    def _name(self) -> str:
        return f"n{len(self.graph.nodes)}"

    def channels(self, x: str) -> int:
        """Channels of a map."""
        return self.graph.tensor(x).shape[3]

    def op(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Any operator."""
        return self.graph.add(op, inputs, self._name(), **attrs)

    def conv(self, x: str, outputs: int, kernel: int = 1, stride: int = 1, pad: int = -1, act: str = "") -> str:
        """Convolution; padded to keep the size unless `pad` is given."""
        weights = np.broadcast_to(np.float32(0), (outputs, kernel, kernel, self.channels(x)))
        pads = (kernel // 2 if pad < 0 else pad,) * 4
        operands = [x, self.graph.add_constant(f"{self._name()}.w", weights)]
        return self.op("conv2d", operands, stride=(stride,) * 2, pad=pads, activation=act or self.activation)

    def depthwise(self, x: str, stride: int) -> str:
        """3x3 depthwise convolution with ReLU6."""
        weights = np.broadcast_to(np.float32(0), (1, 3, 3, self.channels(x)))
        operands = [x, self.graph.add_constant(f"{self._name()}.w", weights)]
        return self.op("depthwise_conv2d", operands, stride=(stride,) * 2, pad=(1,) * 4, activation="relu6")

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0, ceil: bool = False) -> str:
        """Max pool."""
        window = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 4}
        return self.op("max_pool", [x], **window, ceil_mode=ceil)

    def classify(self, x: str, classes: int = 1000) -> Graph:
        """Global average and classifier: the end of a network."""
        side = self.graph.tensor(x).shape[1]
        mean = self.op("avg_pool", [x], kernel=(side, side), stride=(side, side))
        return self.end(self.conv(mean, classes, act="none"))

    def end(self, *outputs: str) -> Graph:
        """The graph with its outputs named."""
        self.graph.outputs = list(outputs)
        return self.graph


def resnet(depths: Sequence[int], bottleneck: bool) -> Graph:
    n = Network(224)
    x = n.pool(n.conv(n.image, 64, 7, 2), 3, 2, 1)
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for block in range(depth):
            stride = 2 if block == 0 and stage > 0 else 1
            y, outputs = _residual(n, x, width, stride, bottleneck)
            if stride > 1 or n.channels(x) != outputs:
                x = n.conv(x, outputs, 1, stride, act="none")
            x = n.op("add", [x, y], activation="relu")
    return n.classify(x)


def _residual(n: Network, x: str, width: int, stride: int, bottleneck: bool) -> tuple[str, int]:
    if bottleneck:
        return n.conv(n.conv(n.conv(x, width, 1, stride), width, 3), 4 * width, act="none"), 4 * width
    return n.conv(n.conv(x, width, 3, stride), width, 3, act="none"), width


def vgg(depths: Sequence[int]) -> Graph:
    n = Network(224)
    x = n.image
    for width, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            x = n.conv(x, width, 3)
        x = n.pool(x, 2, 2)
    return n.end(n.conv(n.conv(n.conv(x, 4096, 7, pad=0), 4096), 1000, act="none"))


def mobilenet_v1() -> Graph:
    n = Network(224)
    x = n.conv(n.image, 32, 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in plan:
        x = n.conv(n.depthwise(x, stride), width)
    return n.classify(x, 1001)


def mobilenet_v2(multiplier: float) -> Graph:
    def width(channels: int) -> int:
        wanted = channels * multiplier
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * wanted else rounded + 8

    n = Network(224, "relu6")
    x = n.conv(n.image, width(32), 3, 2)
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, channels, depth, stride in plan:
        for block in range(depth):
            y = n.conv(x, n.channels(x) * expand) if expand > 1 else x
            y = n.conv(n.depthwise(y, stride if block == 0 else 1), width(channels), act="none")
            x = n.op("add", [x, y]) if block else y
    return n.classify(n.conv(x, max(1280, width(1280))), 1001)


def squeezenet() -> Graph:
    n = Network(227)
    x = n.pool(n.conv(n.image, 64, 3, 2, pad=0), 3, 2, ceil=True)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        y = n.conv(x, squeeze)
        x = n.op("concat", [n.conv(y, 4 * squeeze), n.conv(y, 4 * squeeze, 3)], axis=3)
        x = n.pool(x, 3, 2, ceil=True) if index in (1, 3) else x
    x = n.conv(x, 1000)
    side = n.graph.tensor(x).shape[1]
    return n.end(n.op("avg_pool", [x], kernel=(side, side), stride=(1, 1)))


def inception_v1() -> Graph:
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
        x = _inception(n, x, *widths) if widths else n.pool(x, 3, 2, ceil=True)
    return n.classify(x)


def _inception(n: Network, x: str, one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int) -> str:
    branches = [
        n.conv(x, one),
        n.conv(n.conv(x, reduce3), three, 3),
        n.conv(n.conv(x, reduce5), five, 5),
        n.conv(n.pool(x, 3, 1, 1), pooled),
    ]
    return n.op("concat", branches, axis=3)


def yolov3() -> Graph:
    n = Network(416, "leaky_relu")
    x, stages = n.conv(n.image, 32, 3), []
    for width, depth in [(64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)]:
        x = n.conv(x, width, 3, 2)
        for _ in range(depth):
            x = n.op("add", [n.conv(n.conv(x, width // 2), width, 3), x])
        stages.append(x)
    outputs = []
    for level, width in enumerate((512, 256, 128)):
        for _ in range(2):
            x = n.conv(n.conv(x, width), 2 * width, 3)
        x = n.conv(x, width)
        outputs.append(n.conv(n.conv(x, 2 * width, 3), 255, act="none"))
        if level < 2:
            up = n.op("resize", [n.conv(x, width // 2)], scale=(2.0, 2.0))
            x = n.op("concat", [up, stages[3 - level]], axis=3)
    return n.end(*outputs)


NETWORKS: dict[str, Callable[[], Graph]] = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "vgg16": lambda: vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: vgg((2, 2, 4, 4, 4)),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": lambda: mobilenet_v2(1.0),
    "mobilenet_v2 1.4": lambda: mobilenet_v2(1.4),
    "inception_v1": inception_v1,
    "squeezenet": squeezenet,
    "yolov3 416": yolov3,
}
