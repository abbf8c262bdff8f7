"""From a legal graph to layers: what runs on the array and on MISC in one go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lowwatt.compiler.dram import Dram
from lowwatt.compiler.isa.codes import ACTIVATIONS
from lowwatt.compiler.lowering import numbers
from lowwatt.compiler.lowering.layer import Border, Convolution, Layer, Misc
from lowwatt.compiler.lowering.legalize import MOVES, copies
from lowwatt.compiler.lowering.mapping import flatten, fold
from lowwatt.compiler.lowering.memory import Constants, place
from lowwatt.compiler.lowering.order import spread
from lowwatt.compiler.lowering.phases import dilated, plain, transposed
from lowwatt.compiler.subject import FeatureMap, Subject, Window, macs_of
from lowwatt.compiler.workload import packs
from lowwatt.errors import ToolError
from lowwatt.ir import arithmetic
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target

ARRAY = ("conv2d", "transposed_conv2d", "linear")
FOLDED = ("batch_norm", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish")
"""What a convolution of a float graph takes along; in a graph of integers it is folded in already."""

Fits = Callable[[Layer], bool]


class Builder:
    """Walks a legal graph once and makes its layers, whose maps then get their places."""

    def __init__(self, graph: Graph, target: Target, fits: Fits, spreads: bool = False) -> None:
        self.graph, self.target, self._spreads = graph, target, spreads
        self._fits = fits
        self._producers, self._consumers = graph.producers(), graph.consumers()
        self._copies = set(copies(graph))
        self._members = {name for node in graph.nodes if node.op == "concat" for name in node.inputs}
        self._constants = Constants()
        self._last: dict[str, Layer] = {}
        self.layers: list[Layer] = []

    def run(self) -> tuple[list[Layer], Dram]:
        """Layers in order of execution, and the memory map."""
        for node in self.graph.nodes:
            if node.op != "concat" and (node.op not in MOVES or node.name in self._copies):
                self._take(node)
        if self._spreads:
            self.layers = [self._map(layer) for layer in spread(self.layers, self._writers)]
        ahead = _AHEAD if self.target.options.augmentation else 0
        return self.layers, place(self.graph, self.layers, self._constants, ahead)

    def _map(self, layer: Layer) -> Layer:
        """The layer mapped onto the array as well as can be, if that fits."""
        better = fold(flatten(layer, self.target), self.target, lambda count: self._filled(0, count))
        return better if self._fits(better) else layer

    def _writers(self, name: str) -> set[str]:
        """Names of the layers that write a tensor: its own, its source's, or those of all members of a concat."""
        if name in self._last:
            return {self._last[name].name}
        node = self._producers.get(name)
        if node is None:
            return set()
        sources = node.inputs if node.op == "concat" else node.inputs[:1]
        return set().union(*(self._writers(source) for source in sources))

    # -- layers -------------------------------------------------------------------------------------------------

    def _take(self, node: Node) -> None:
        subject = Subject(node, self.graph, self._producers, self.target)
        before = self._before(node)
        if before is not None and self._floats(node) and node.op in FOLDED:
            self._append(before, node)
        elif node.op in ARRAY:
            self._add(self._convolution(subject), node)
        else:
            alone = self._alone(subject)
            joined = None if before is None else self._join(before, alone, node)
            self._add(alone if joined is None else joined, node)
            if joined is not None and before is not None:
                self.layers.remove(before)

    def _add(self, layer: Layer, node: Node) -> None:
        self.layers.append(layer)
        self._last[node.name] = layer

    def _append(self, layer: Layer, node: Node) -> None:
        layer.name, layer.nodes = node.name, (*layer.nodes, node.name)
        self._last[node.name] = layer

    def _floats(self, node: Node) -> bool:
        return self.graph.tensor(node.name).quant is None

    def _before(self, node: Node) -> Layer | None:
        """Layer that this node can join: the latest that writes an input of it which nobody else reads."""
        names = node.inputs if node.op in ("add", "mul") else node.inputs[:1]
        found = [self._last[name] for name in names if self._is_private(name)]
        return max(found, key=self.layers.index, default=None)

    def _is_private(self, name: str) -> bool:
        return name in self._last and len(self._consumers[name]) == 1 and name not in self.graph.outputs

    def _join(self, before: Layer, alone: Layer, node: Node) -> Layer | None:
        """A convolution and the MISC operator behind it as one layer; None where the machine cannot."""
        conv = before.conv
        if conv is None or before.misc is not None or alone.misc is None or conv.step != (1, 1):
            return None
        if node.inputs.count(before.name) > 1:
            return None
        misc = alone.misc
        if misc.is_elementwise:
            others = tuple(name for name in node.inputs if name != before.name)
            misc = replace(misc, operands=others, first_operand=node.inputs.index(before.name))
        nodes, op = (*before.nodes, *alone.nodes), f"{before.op}+{alone.op}"
        joined = replace(before, name=node.name, op=op, nodes=nodes, macs=before.macs + alone.macs)
        joined.misc, joined.sink, joined.repeat = misc, alone.sink, alone.repeat
        return joined if self._fits(joined) else None

    def _layer(self, subject: Subject) -> Layer:
        node, out = subject.node, subject.output
        size = self._size(subject.graph.tensor(node.inputs[0]).shape, subject)
        macs = macs_of(node, self.graph)
        return Layer(node.name, node.op, node.origin, (node.name,), macs, node.inputs[0], size, out, out)

    def _size(self, shape: tuple[int, ...], subject: Subject) -> FeatureMap:
        return FeatureMap.of(subject.flattened or shape)

    # -- the array ----------------------------------------------------------------------------------------------

    def _convolution(self, subject: Subject) -> Layer:
        layer, node = self._layer(subject), subject.node
        scaling = numbers.scaling(self.graph, node)
        window, channels = subject.window, layer.grid.channels
        if node.op == "transposed_conv2d":
            layer.conv = transposed(window, scaling, channels)
        elif window.dilation != (1, 1):
            layer.conv = dilated(window, scaling, channels)
        else:
            layer.conv = plain(window, scaling, channels)
            if self._packs(layer, window) and self._is_dense(layer.input):
                layer.conv = replace(layer.conv, packed=True)
        weights = self._weights(node, layer.conv, layer.source.channels)
        bias = numbers.bias(self.graph, node, channels)
        layer.conv = replace(
            layer.conv,
            weights=self._constants.at(f"{node.name}:w", weights),
            bias=self._constants.at(f"{node.name}:b", bias),
        )
        return layer

    def _packs(self, layer: Layer, window: Window) -> bool:
        """Channel augmentation: LOAD puts the kernel's columns beside few input channels, where that takes fewer cycles
        (docs/dpu.md 8.3: at most 32 bytes, which the widths of the padding fields explain)."""
        channels, columns = layer.source.channels, window.kernel[1]
        fewer = packs(channels, columns, self.target.array.input_channels)
        fits = channels * columns <= _PACKED_BYTES and window.pad[2] * channels < _PACKED_BYTES
        return self.target.options.augmentation and fewer and fits

    def _is_dense(self, name: str) -> bool:
        """True where a map's pixels follow one another: it is no part of a concat and no slice."""
        node = self._producers.get(name)
        return name not in self._members and (node is None or node.op not in MOVES or node.name in self._copies)

    def _weights(self, node: Node, conv: Convolution, channels: int) -> np.ndarray:
        """[out, taps, in] in the order in which LOAD brings them; a constant's shape alone for a float graph."""
        shape = self.graph.tensor(node.inputs[1]).shape
        if self.graph.tensor(node.inputs[1]).quant is None:
            return np.broadcast_to(np.int8(0), (shape[0], conv.taps, channels))
        values = numbers.integers(self.graph, node.inputs[1])
        if node.op == "linear":
            kernel = conv.phases[0].kernel
            values = values.reshape(shape[0], *kernel, channels)
        return numbers.by_output(values, [tap for phase in conv.weight_phases for tap in phase.taps])

    # -- MISC ---------------------------------------------------------------------------------------------------

    def _alone(self, subject: Subject) -> Layer:
        """Layer of an operator that needs no convolution."""
        layer, node = self._layer(subject), subject.node
        layer.grid = layer.source
        if node.op in ("add", "mul"):
            rows = self.target.options.eltwise_rows
            aligned = numbers.alignment(self.graph, node)
            layer.misc = Misc(node.op, rows, operands=tuple(node.inputs[1:]), alignment=aligned)
            layer.misc = replace(layer.misc, scaling=numbers.Scaling(act_type=ACTIVATIONS[node.attrs["activation"]]))
        elif node.op in ("max_pool", "avg_pool") or node.op.startswith("reduce_"):
            layer.misc = self._pool(subject)
        elif node.op == "depthwise_conv2d":
            layer.misc = self._depthwise(subject)
        elif node.op == "hard_sigmoid":
            layer.misc = self._hard_sigmoid(node)
        elif node.op == "resize":
            self._resize(layer, node)
        elif node.op == "pad":
            self._pad(layer, node)
        elif node.op == "reshape":
            layer.source = layer.grid = layer.sink
            layer.misc = self._unary(layer, node)
        elif node.op in (*MOVES, "relu", "relu6", "leaky_relu", "batch_norm"):
            layer.misc = self._unary(layer, node)
        else:
            raise ToolError(
                "the compiler has no lowering for an operator",
                where=node.name,
                why=node.op,
                hint="mark it for the host: an open issue, please report it",
            )
        return layer

    def _pool(self, subject: Subject) -> Misc:
        node, rows, window = subject.node, self.target.options.pool_rows, _settled(subject)
        if node.op in ("max_pool", "reduce_max"):
            return Misc("max", rows, window)
        fi, fo = (numbers.fix_point(self.graph, name) for name in (node.inputs[0], node.name))
        factors = arithmetic.dpu_average_factor(window.kernel)
        if node.op == "reduce_mean":
            (n1, m1), (n2, m2) = (arithmetic.reciprocal(k) for k in window.kernel)
            factors = (n1 * n2, m1 + m2)
        if self.graph.tensor(node.name).quant is None:
            return Misc("average", rows, window, numbers.Scaling(shift_cut=factors[1]), factor=1)
        factor, scaling = numbers.average(window.kernel, factors, fi, fo)
        if self.target.isa == 0 and not 0 <= fi - fo <= _POOL_SHIFT:
            return self._weighted_sum(subject, window, factor, scaling)
        return Misc("average", rows, window, scaling, factor=factor)

    def _weighted_sum(self, subject: Subject, window: Window, factor: int, scaling: numbers.Scaling) -> Misc:
        """An average as a depthwise convolution whose weights are all the factor, where POOL's shift does not fit."""
        channels = subject.input.channels
        bias, weights = self._filled(0, channels), self._filled(factor, window.positions * channels)
        return Misc("depthwise", self.target.options.depthwise_rows, window, scaling, weights=weights, bias=bias)

    def _depthwise(self, subject: Subject) -> Misc:
        node = subject.node
        weights = numbers.integers(self.graph, node.inputs[1])
        bias = numbers.bias(self.graph, node, weights.shape[3])
        return Misc(
            "depthwise",
            self.target.options.depthwise_rows,
            subject.window,
            numbers.scaling(self.graph, node),
            weights=self._constants.at(f"{node.name}:w", weights[0]),
            bias=self._constants.at(f"{node.name}:b", bias),
        )

    def _hard_sigmoid(self, node: Node) -> Misc:
        fi, fo = (numbers.fix_point(self.graph, name) for name in (node.inputs[0], node.name))
        scaling = numbers.Scaling(shift_cut=14 + fi - fo, shift_bias=fi)
        return Misc("hard_sigmoid", self.target.options.depthwise_rows, scaling=scaling)

    def _unary(self, layer: Layer, node: Node) -> Misc | None:
        """An activation or a move of the fix point. None for a plain copy; one operand of an addition where that will
        do; else a depthwise convolution by 1."""
        fi, fo = (numbers.fix_point(self.graph, name) for name in (node.inputs[0], node.name))
        activation = node.op if node.op in ACTIVATIONS else "none"
        if activation == "none" and fi == fo:
            return None
        if activation in ("none", "relu"):
            return self._single(fo - fi, ACTIVATIONS[activation])
        weight, scaling = numbers.unit(fi, fo, activation)
        channels = layer.source.channels
        weights, bias = self._filled(weight, channels), self._filled(0, channels)
        return Misc("depthwise", self.target.options.depthwise_rows, scaling=scaling, weights=weights, bias=bias)

    def _single(self, shift: int, act: int = 0) -> Misc:
        """An addition of one operand: it moves the fix point and can have a relu."""
        aligned, rows = numbers.Alignment((0,), shift), self.target.options.eltwise_rows
        return Misc("add", rows, alignment=aligned, scaling=numbers.Scaling(act_type=act))

    def _filled(self, value: int, count: int) -> int:
        """Address of a constant that has one value everywhere."""
        return self._constants.at(f"{value}x{count}", np.full(count, value, np.int8))

    def _resize(self, layer: Layer, node: Node) -> None:
        """Each pixel is repeated, as the vendor's compiler does it (docs/dpu.md 8.6)."""
        layer.repeat = int(node.attrs["scale"][0]), int(node.attrs["scale"][1])
        layer.misc = self._single(0)

    def _pad(self, layer: Layer, node: Node) -> None:
        """A border of a constant, or of the edge once more, which is what one mirrored row and column are."""
        pads = [int(p) for p in node.attrs["pads"]]
        quant, fill = self.graph.tensor(node.name).quant, None
        if node.attrs["mode"] == "constant":
            value = 0 if quant is None else int(arithmetic.quantize(np.array([node.attrs["value"]]), quant)[0])
            pixels = np.full(layer.sink.width * layer.sink.channels, value, np.int8)
            fill = self._constants.at(f"{node.name}:fill", pixels)
        layer.border = Border(pads[2], pads[4], pads[5], fill)


_POOL_SHIFT = 15
"""Greatest shift_cut of POOL: four bits."""
_PACKED_BYTES = 32
"""Most bytes of a pixel with its kernel's columns beside it."""
_AHEAD = 32
"""Bytes before the first map of a register where LOAD packs columns: the padding of a row begins before the row."""
_MANY_ROWS = 24
"""Kernel rows that a window of stride 1 sees without going round the banks more often than it has addresses."""


def _settled(subject: Subject) -> Window:
    """Window whose stride says nothing (one output) at stride 1: its rows then lie in different banks."""
    window, out = subject.window, subject.output
    down = window.stride[0] if out.height > 1 else 1 if window.kernel[0] <= _MANY_ROWS else window.kernel[0]
    return replace(window, stride=(down, window.stride[1] if out.width > 1 else 1))
