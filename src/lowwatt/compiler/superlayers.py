"""Superlayers: what the machine does in one go between reading feature maps from DRAM and writing one back.

A convolution takes along what follows it alone: batch norm, activation, and one operator of the MISC engine (addition,
pool, depthwise). Everything else that the accelerator takes becomes a MISC superlayer of its own, or is free: a concat
by addresses, a reshape, a move of the fix point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

from lowwatt.compiler.rules import MOVES
from lowwatt.compiler.subject import FeatureMap, Subject, Window
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops import spec
from lowwatt.targets import Target

FREE = ("concat", *MOVES)
"""Operators that cost nothing: addresses, padding while loading, a shift that the next operator does anyway."""
CONVOLUTIONS = ("conv2d", "transposed_conv2d", "linear")
FOLDED = ("batch_norm", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish")
ELTWISE = ("add", "mul")


@dataclass(frozen=True, slots=True)
class Misc:
    """Work of the MISC engine on the map that reaches it: `rows` output rows at once, `passes` cycles a pixel group.

    `operands`: further maps loaded from DRAM (the other side of an addition).
    """

    op: str
    rows: int
    passes: int
    operands: int = 0


@dataclass(slots=True)
class Superlayer:
    """One superlayer: `source` is read from DRAM, `grid` is worked on in groups of rows, `sink` goes back to DRAM.

    The grid is the convolution's output, or, where the MISC engine works alone, the sink. `window` and `upscale`
    (height, width) say which source rows a grid row needs. `kernel_passes` are cycles of the array for each pixel,
    input and output channel group; 0 without a convolution. `weight_bytes` are those of one output channel.
    """

    source: FeatureMap
    grid: FeatureMap
    sink: FeatureMap
    window: Window
    upscale: tuple[int, int] = (1, 1)
    misc: Misc | None = None
    kernel_passes: int = 0
    input_groups: int = 0
    weight_bytes: int = 0
    ops: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    macs: int = 0

    @property
    def name(self) -> str:
        """Name of the tensor that is written."""
        return self.nodes[-1].name

    @property
    def op(self) -> str:
        """Operators that do work, joined by +."""
        return "+".join(self.ops)

    @property
    def has_conv(self) -> bool:
        """True where the array works."""
        return self.kernel_passes > 0

    @property
    def operands(self) -> int:
        """Maps of the grid's size that are loaded beside the source."""
        return 0 if self.misc is None else self.misc.operands

    def source_rows(self, first: int, last: int) -> range:
        """Rows of the source that grid rows first ... last-1 look at."""
        return self._span(0, first, last, self.source.height)

    def source_columns(self, first: int, last: int) -> range:
        """Columns of the source that grid columns first ... last-1 look at."""
        return self._span(1, first, last, self.source.width)

    def _span(self, axis: int, first: int, last: int, size: int) -> range:
        low = first * self.window.stride[axis] - self.window.pad[2 * axis]
        high = low + self.window.reach(axis, last - first)
        return range(max(0, low // self.upscale[axis]), min(size, ceil(high / self.upscale[axis])))


def superlayers(graph: Graph, target: Target, where: Mapping[str, str]) -> list[Superlayer]:
    """Superlayers of the nodes that `where` puts on the accelerator, in order of execution."""
    return _Merger(graph, target, where).run()


class _Merger:
    """Walks the graph once; `_last` maps a tensor to the superlayer that writes it."""

    def __init__(self, graph: Graph, target: Target, where: Mapping[str, str]) -> None:
        self._graph, self._target, self._where = graph, target, where
        self._producers, self._consumers = graph.producers(), graph.consumers()
        self._layers: list[Superlayer] = []
        self._last: dict[str, Superlayer] = {}

    def run(self) -> list[Superlayer]:
        for node in self._graph.nodes:
            if self._where[node.name] == "dpu" and node.op not in FREE:
                self._take(Subject(node, self._graph, self._producers, self._target))
        return self._layers

    def _take(self, subject: Subject) -> None:
        node = subject.node
        before = self._before(subject)
        if before is not None and node.op in FOLDED:
            self._append(before, subject)
        elif before is not None and node.op not in CONVOLUTIONS:
            before.misc, before.sink = misc_work(subject), subject.output
            before.ops.append(node.op)
            self._append(before, subject)
        else:
            self._layers.append(convolution(subject) if node.op in CONVOLUTIONS else alone(subject))
            self._append(self._layers[-1], subject)

    def _append(self, layer: Superlayer, subject: Subject) -> None:
        node = subject.node
        layer.nodes.append(node)
        layer.macs += macs_of(node, self._graph)
        self._last[node.name] = layer

    def _before(self, subject: Subject) -> Superlayer | None:
        """Superlayer that this node can join: it writes an input that nobody else reads, and has room."""
        node = subject.node
        names = node.inputs if node.op in ELTWISE else node.inputs[:1]
        candidates = [self._last[name] for name in names if self._joins(name)]
        if node.op not in FOLDED:
            candidates = [layer for layer in candidates if layer.has_conv and layer.misc is None]
        return max(candidates, key=self._order, default=None)

    def _order(self, layer: Superlayer) -> int:
        return next(i for i, other in enumerate(self._layers) if other is layer)

    def _joins(self, name: str) -> bool:
        return name in self._last and len(self._consumers[name]) == 1 and name not in self._graph.outputs


def convolution(subject: Subject) -> Superlayer:
    """Superlayer of a convolution: the array makes `pixels` rows of a column at once (docs/dpu.md 1.4)."""
    window, output = subject.window, subject.output
    layer = Superlayer(subject.input, output, output, window, kernel_passes=window.positions)
    layer.input_groups = subject.input_groups
    layer.weight_bytes = window.positions * subject.input.channels
    layer.ops.append(subject.node.op)
    if subject.node.op == "transposed_conv2d":
        _transpose(layer)
    elif packs(subject):
        layer.kernel_passes, layer.input_groups = window.kernel[0], 1
    return layer


def _transpose(layer: Superlayer) -> None:
    """A transposed convolution is stride x stride convolutions, each with its share of the kernel."""
    window = layer.window
    (kh, kw), (sh, sw), (top, bottom, left, right) = window.kernel, window.stride, window.pad
    layer.kernel_passes = ceil(kh / sh) * ceil(kw / sw)
    layer.upscale = window.stride
    layer.window = Window(window.kernel, pad=(kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right))


def packs(subject: Subject) -> bool:
    """Channel augmentation: LOAD packs the kernel's columns beside few input channels (docs/dpu.md 1.4)."""
    packed = subject.input.channels * subject.window.kernel[1]
    return subject.target.options.augmentation and packed <= subject.target.array.input_channels


def alone(subject: Subject) -> Superlayer:
    """Superlayer of an operator that the MISC engine does without a convolution."""
    window, upscale = subject.window, (1, 1)
    if subject.node.op == "resize":
        window, upscale = Window(), window.kernel
    layer = Superlayer(subject.input, subject.output, subject.output, window, upscale, misc_work(subject))
    layer.input_groups = subject.input_groups
    layer.ops.append(subject.node.op)
    return layer


def misc_work(subject: Subject) -> Misc:
    """Cost of an operator on the MISC engine: an elementwise operator one cycle a pixel group and further operand,
    a window its kernel positions (nearest upsampling is a 2x2 depthwise convolution)."""
    op, options = subject.node.op, subject.target.options
    if op in ELTWISE:
        operands = len(subject.node.inputs) - 1
        return Misc(op, options.eltwise_rows, operands, operands)
    if "pool" in op or op.startswith("reduce_"):
        return Misc(op, options.pool_rows, subject.window.positions)
    return Misc(op, options.depthwise_rows, subject.window.positions)


def macs_of(node: Node, graph: Graph) -> int:
    """Multiply-accumulates of a node for one image."""
    output = graph.tensor(node.name).shape
    macs = spec(node.op).macs(node, [graph.tensor(name).shape for name in node.inputs], output)
    return macs // max(1, output[0]) if output else macs


def free_nodes(graph: Graph, layers: Iterable[Superlayer], where: Mapping[str, str]) -> list[str]:
    """Nodes on the accelerator that no superlayer works on."""
    busy = {node.name for layer in layers for node in layer.nodes}
    return [n.name for n in graph.nodes if where[n.name] == "dpu" and n.name not in busy]
