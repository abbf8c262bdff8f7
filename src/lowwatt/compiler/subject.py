"""Subject: one node as the operator rules and the cost model look at it, sizes already worked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.targets import Target
from lowwatt.types import Shape

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Size of one image's map: height, width, channels; one byte an element."""

    height: int
    width: int
    channels: int

    @property
    def elements(self) -> int:
        """Number of values."""
        return self.height * self.width * self.channels

    @classmethod
    def of(cls, shape: Shape) -> FeatureMap:
        """Map of one image; other ranks than 4 are one row of vectors (the last axis).

        >>> FeatureMap.of((1, 1000))
        FeatureMap(height=1, width=1, channels=1000)
        """
        if len(shape) == 4:
            return cls(shape[1], shape[2], shape[3])
        return cls(1, prod(shape[1:-1]), shape[-1]) if len(shape) > 1 else cls(1, 1, prod(shape))


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride, dilation (height, width) and pads (top, bottom, left, right)."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: Pads = (0, 0, 0, 0)

    @property
    def positions(self) -> int:
        """Kernel height times width."""
        return self.kernel[0] * self.kernel[1]

    def reach(self, axis: int, outputs: int) -> int:
        """Input positions that `outputs` neighbouring outputs look at along an axis (0 height, 1 width).

        >>> Window((3, 3), (2, 2)).reach(0, 8)
        17
        """
        return (outputs - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1


@dataclass(frozen=True, slots=True)
class Subject:
    """A node, the graph it stands in, the nodes that make its inputs, and the machine."""

    node: Node
    graph: Graph
    producers: Mapping[str, Node]
    target: Target

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input."""
        return self.graph.tensor(self.node.inputs[index]).shape

    def producer(self, index: int = 0) -> Node | None:
        """Node that makes an input; None for graph inputs and constants."""
        return self.producers.get(self.node.inputs[index])

    @property
    def input(self) -> FeatureMap:
        """Map of the first input; a fully connected layer over a flattened map sees the map itself."""
        source = self.flattened
        return FeatureMap.of(source if source is not None else self.shape())

    @property
    def output(self) -> FeatureMap:
        """Map of the output."""
        return FeatureMap.of(self.graph.tensor(self.node.name).shape)

    @property
    def flattened(self) -> Shape | None:
        """Shape of the map that a `linear` takes whole, through a reshape; None where it does not."""
        before = self.producer()
        if self.node.op != "linear" or before is None or before.op != "reshape":
            return None
        shape = self.graph.tensor(before.inputs[0]).shape
        return shape if len(shape) == 4 and prod(shape[1:]) == self.shape()[-1] else None

    @property
    def window(self) -> Window:
        """Window of a convolution, pool or reduction; 1x1 for everything else."""
        attrs, op = self.node.attrs, self.node.op
        if op == "linear":
            whole = self.flattened
            return Window() if whole is None else Window((whole[1], whole[2]))
        if op.startswith("reduce_"):
            return Window((self.input.height, self.input.width))
        if op == "resize":
            return Window((ceil(attrs["scale"][0]), ceil(attrs["scale"][1])))
        kernel = self.shape(1)[1:3] if "conv" in op else attrs.get("kernel", (1, 1))
        return Window(
            (int(kernel[0]), int(kernel[1])),
            tuple(attrs.get("stride", (1, 1))),
            tuple(attrs.get("dilation", (1, 1))),
            tuple(attrs.get("pad", (0, 0, 0, 0))),
        )

    @property
    def input_groups(self) -> int:
        """Input channels in words of the array's width, rounded up."""
        return ceil(self.input.channels / self.target.array.input_channels)

    @property
    def weight_words(self) -> int:
        """Words of one output channel's weights."""
        return self.window.positions * self.input_groups


def macs_of(node: Node, graph: Graph) -> int:
    """Multiply-accumulates of a node for one image."""
    output = graph.tensor(node.name).shape
    macs = spec(node.op).macs(node, [graph.tensor(name).shape for name in node.inputs], output)
    return macs // max(1, output[0]) if output else macs
