"""Small float networks and images that the tests of quantization share."""

from __future__ import annotations

import numpy as np

from lowwatt.ir.graph import Graph

SIDE = 12


def images(count: int = 8, seed: int = 1) -> list[np.ndarray]:
    """Batches of one image, smooth enough to have structure and different enough to calibrate on."""
    random = np.random.default_rng(seed)
    waves = np.sin(np.arange(SIDE)[:, None] * random.uniform(0.2, 2, (count, 1, 1)) + np.arange(SIDE))
    noise = random.normal(0, 20, (count, SIDE, SIDE))
    return [
        np.clip(128 + 90 * w + n, 0, 255).astype(np.float32)[None, :, :, None]
        for w, n in zip(waves, noise, strict=True)
    ]


class Net:
    """A graph being built; layers have seeded random weights that keep the signal's size."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph("net")
        self.graph.add_input("images", (1, SIDE, SIDE, 1))

    def conv(self, name: str, source: str, outputs: int, kernel: int = 3, **attrs: object) -> str:
        """A convolution of stride 1 that keeps the size."""
        inputs = self.graph.tensor(source).shape[-1]
        gain = (2 / (kernel * kernel * inputs)) ** 0.5 / (100 if source == "images" else 1)
        weights = self.random.normal(0, gain, (outputs, kernel, kernel, inputs)).astype(np.float32)
        return self._layer("conv2d", name, source, weights, outputs, kernel, attrs)

    def depthwise(self, name: str, source: str, **attrs: object) -> str:
        """A depthwise convolution of 3x3; its channels have very different ranges, as MobileNets have them."""
        channels = self.graph.tensor(source).shape[-1]
        spread = np.exp(self.random.normal(0, 1.5, channels))
        weights = (self.random.normal(0, 0.4, (1, 3, 3, channels)) * spread).astype(np.float32)
        return self._layer("depthwise_conv2d", name, source, weights, channels, 3, attrs)

    def _layer(
        self, op: str, name: str, source: str, weights: np.ndarray, outputs: int, kernel: int, attrs: dict[str, object]
    ) -> str:
        self.graph.add_constant(f"{name}_w", weights)
        self.graph.add_constant(f"{name}_b", self.random.normal(0, 0.3, outputs).astype(np.float32))
        operands, pad = [source, f"{name}_w", f"{name}_b"], (kernel // 2,) * 4
        return self.graph.add(op, operands, name, **{"pad": pad, "activation": "relu", **attrs})


def residual_graph() -> Graph:
    """Residual sum, depthwise layer, concat, pools, SiLU and a linear head: two outputs."""
    net = Net()
    add = net.graph.add
    stem = net.conv("stem", "images", 8)
    body = net.conv("body", net.depthwise("deep", stem), 8, 1, activation="none")
    joined = add(
        "concat",
        [add("add", [stem, body], "sum"), add("max_pool", [stem], "pool", kernel=(3, 3), stride=(1, 1), pad=(1,) * 4)],
        "joined",
        axis=3,
    )
    curved = add("silu", [net.conv("mix", joined, 8, activation="none")], "curved")
    map_ = net.conv("map", curved, 3, 1, activation="none")
    pooled = add("avg_pool", [curved], "mean", kernel=(SIDE, SIDE), stride=(SIDE, SIDE))
    flat = add("reshape", [pooled], "flat", shape=(1, 8))
    net.graph.add_constant("head_w", net.random.normal(0, 0.3, (5, 8)).astype(np.float32))
    net.graph.outputs = [map_, add("linear", [flat, "head_w"], "head")]
    return net.graph
