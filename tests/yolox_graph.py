"""Graphs that the compiler is tested on: YOLOX-FPGA of shapes alone, built without torch, and a small quantized one."""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph
from lowwatt.types import QuantParams


class YoloxGraph:
    """Float graph of YOLOX-FPGA (docs/training-recipe.md 1, depth 0.33), weights zero."""

    def __init__(self, width: float, size: int, channels: int = 1, spp: bool = True, classes: int = 80) -> None:
        self.graph = Graph("yolox-fpga")
        self._count = 0
        image = self.graph.add_input("image", (1, size, size, channels))
        features = self._neck(*self._backbone(image, int(64 * width), spp), int(64 * width))
        for stride, feature in zip((8, 16, 32), features, strict=True):
            self._head(feature, int(256 * width), classes, stride)

    def _conv(self, x: str, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1, name: str = "") -> str:
        self._count += 1
        name = name or f"conv{self._count}"
        inputs = self.graph.tensor(x).shape[3]
        # a view of one number: shapes count, values do not
        weights = np.broadcast_to(np.float32(0), (outputs, kernel, kernel, inputs))
        pads = (dilation * (kernel // 2),) * 4
        operands = [x, self.graph.add_constant(f"{name}.weights", weights)]
        return self.graph.add(
            "conv2d", operands, name, stride=(stride,) * 2, pad=pads, dilation=(dilation,) * 2, activation="relu"
        )

    def _op(self, op: str, inputs: list[str], **attrs: object) -> str:
        self._count += 1
        return self.graph.add(op, inputs, f"{op}{self._count}", **attrs)

    def _csp(self, x: str, outputs: int, depth: int, shortcut: bool = True) -> str:
        y, side = self._conv(x, outputs // 2), self._conv(x, outputs // 2)
        for _ in range(depth):
            z = self._conv(self._conv(y, outputs // 2), outputs // 2, 3)
            y = self._op("add", [z, y]) if shortcut else z
        return self._conv(self._op("concat", [y, side], axis=3), outputs)

    def _backbone(self, x: str, base: int, spp: bool) -> tuple[str, str, str]:
        x = self._conv(self._conv(self._conv(x, base // 2, 3, 2), base // 2, 3), base, 3)
        x = self._csp(self._conv(x, 2 * base, 3, 2), 2 * base, 1)
        dark3 = self._csp(self._conv(x, 4 * base, 3, 2), 4 * base, 3)
        dark4 = self._csp(self._conv(dark3, 8 * base, 3, 2), 8 * base, 3)
        x = self._conv(dark4, 16 * base, 3, 2)
        if spp:
            x = self._conv(x, 8 * base)
            branches = [self._conv(x, 8 * base, 3, dilation=d) for d in (1, 3, 5)]
            x = self._conv(self._op("concat", [x, *branches], axis=3), 16 * base)
        return dark3, dark4, self._csp(x, 16 * base, 1, shortcut=False)

    def _up(self, x: str, beside: str) -> str:
        return self._op("concat", [self._op("resize", [x], scale=(2.0, 2.0)), beside], axis=3)

    def _neck(self, dark3: str, dark4: str, dark5: str, base: int) -> tuple[str, str, str]:
        lateral5 = self._conv(dark5, 8 * base)
        lateral4 = self._conv(self._csp(self._up(lateral5, dark4), 8 * base, 1), 4 * base)
        out3 = self._csp(self._up(lateral4, dark3), 4 * base, 1)
        down = self._conv(out3, 4 * base, 3, 2)
        out4 = self._csp(self._op("concat", [down, lateral4], axis=3), 8 * base, 1)
        down = self._conv(out4, 8 * base, 3, 2)
        return out3, out4, self._csp(self._op("concat", [down, lateral5], axis=3), 16 * base, 1)

    def _head(self, x: str, width: int, classes: int, stride: int) -> None:
        stem = self._conv(x, width)
        cls, box = (self._conv(self._conv(stem, width, 3), width, 3) for _ in range(2))
        for tower, outputs, name in ((cls, classes, "cls"), (box, 4, "box"), (box, 1, "obj")):
            self.graph.outputs.append(self._conv(tower, outputs, name=f"{name}_{stride}"))


def yolox_graph(width: float, size: int, channels: int = 1, spp: bool = True, classes: int = 80) -> Graph:
    """YOLOX-FPGA of a width multiplier and input side."""
    return YoloxGraph(width, size, channels, spp, classes).graph


def quantized_yolox_graph(width: float, size: int, seed: int = 0) -> Graph:
    """It with int8 tensors and random weights at fix point 7, so that maps neither die out nor saturate whole."""
    graph = yolox_graph(width, size)
    random = np.random.default_rng(seed)
    for tensor in graph.tensors.values():
        tensor.quant = QuantParams.power_of_two(7 if tensor.is_constant else 0)
        tensor.dtype = "int8"
        if tensor.is_constant:
            tensor.data = random.integers(-16, 17, tensor.shape).astype(np.int8)
    return graph


def quantized_graph() -> Graph:
    """A convolution with ReLU, an addition, a pool: 8x8x3 in, 4x4x6 out, random weights."""
    random = np.random.default_rng(7)
    g = Graph("small")
    x = g.add_input("image", (1, 8, 8, 3), QuantParams.power_of_two(0))
    w = g.add_constant("w", random.integers(-128, 128, (6, 3, 3, 3), np.int8), QuantParams.power_of_two(7))
    b = g.add_constant("b", random.integers(-128, 128, (6,), np.int8), QuantParams.power_of_two(5))
    v = g.add_constant("v", random.integers(-128, 128, (6, 1, 1, 6), np.int8), QuantParams.power_of_two(7))
    y = g.add(
        "conv2d",
        [x, w, b],
        "stem",
        origin="net.stem",
        pad=(1, 1, 1, 1),
        activation="relu",
        quant=QuantParams.power_of_two(-2),
    )
    z = g.add("conv2d", [y, v], "mix", quant=QuantParams.power_of_two(-2))
    s = g.add("add", [z, y], "sum", quant=QuantParams.power_of_two(-3))
    g.outputs = [g.add("max_pool", [s], "pool", kernel=(2, 2), stride=(2, 2), quant=QuantParams.power_of_two(-3))]
    return g
