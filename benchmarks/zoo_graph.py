"""A graph of shapes that grows layer by layer (weights zero): what the networks of the model zoo are built with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lowwatt.ir.graph import Graph

Sides = int | tuple[int, int]


def pair(sides: Sides) -> tuple[int, int]:
    """(height, width)."""
    return sides if isinstance(sides, tuple) else (sides, sides)


class Network:
    """A graph that grows layer by layer."""

    def __init__(self, side: Sides, activation: str = "relu") -> None:
        self.graph, self.activation = Graph("zoo"), activation
        self.image = self.graph.add_input("image", (1, *pair(side), 3))

    def _name(self) -> str:
        return f"n{len(self.graph.nodes)}"

    def channels(self, x: str) -> int:
        """Channels of a map."""
        return self.graph.tensor(x).shape[3]

    def op(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Any operator."""
        return self.graph.add(op, inputs, self._name(), **attrs)

    def conv(
        self, x: str, outputs: int, kernel: Sides = 1, stride: int = 1, pad: int = -1, act: str = "", dilation: int = 1
    ) -> str:
        """Convolution; padded to keep the size unless `pad` is given."""
        high, wide = pair(kernel)
        weights = np.broadcast_to(np.float32(0), (outputs, high, wide, self.channels(x)))
        rows, columns = (dilation * (k // 2) if pad < 0 else pad for k in (high, wide))
        operands = [x, self.graph.add_constant(f"{self._name()}.w", weights)]
        window = {"stride": (stride,) * 2, "pad": (rows, rows, columns, columns), "dilation": (dilation,) * 2}
        return self.op("conv2d", operands, **window, activation=act or self.activation)

    def depthwise(self, x: str, stride: int = 1, kernel: int = 3, act: str = "relu6", multiplier: int = 1) -> str:
        """Depthwise convolution that keeps the size."""
        weights = np.broadcast_to(np.float32(0), (multiplier, kernel, kernel, self.channels(x)))
        operands = [x, self.graph.add_constant(f"{self._name()}.w", weights)]
        window = {"stride": (stride,) * 2, "pad": (kernel // 2,) * 4}
        return self.op("depthwise_conv2d", operands, **window, activation=act)

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0, ceil: bool = False) -> str:
        """Max pool."""
        window = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 4}
        return self.op("max_pool", [x], **window, ceil_mode=ceil)

    def average(self, x: str) -> str:
        """3x3 average pool that keeps the size."""
        return self.op("avg_pool", [x], kernel=(3, 3), stride=(1, 1), pad=(1,) * 4)

    def join(self, *parts: str) -> str:
        """Channels side by side."""
        return self.op("concat", parts, axis=3)

    def add(self, x: str, y: str, act: str = "none") -> str:
        """Sum of two maps."""
        return self.op("add", [x, y], activation=act)

    def up(self, x: str) -> str:
        """Nearest upsampling by two."""
        return self.op("resize", [x], scale=(2.0, 2.0))

    def classify(self, x: str, classes: int = 1000) -> Graph:
        """Global average and classifier: the end of a network."""
        sides = self.graph.tensor(x).shape[1:3]
        mean = self.op("avg_pool", [x], kernel=sides, stride=sides)
        return self.end(self.conv(mean, classes, act="none"))

    def end(self, *outputs: str) -> Graph:
        """The graph with its outputs named."""
        self.graph.outputs = list(outputs)
        return self.graph
