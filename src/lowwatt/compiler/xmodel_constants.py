"""Where a segment's constants lie and how they are loaded, read off its LOADs: the memory map does not keep it."""

from __future__ import annotations

from lowwatt.compiler.dram import CONSTANTS
from lowwatt.compiler.segment import Segment
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target


class ConstantLoads:
    """For each layer the (bank, address) of every load of constants, and the narrowest kernel of its convolution."""

    def __init__(self, segment: Segment, target: Target) -> None:
        self._target = target
        self._loads: dict[int, list[tuple[int, int]]] = {}
        self._columns: dict[int, int] = {}
        for one, layer in zip(segment.instructions, segment.owners, strict=True):
            if one.name == "LOAD" and one.numbers["reg_id"] == CONSTANTS:
                self._loads.setdefault(layer, []).append((one.numbers["bank_id"], one.numbers["ddr_addr"]))
            elif one.name == "CONVINIT":
                self._columns[layer] = min(one.numbers["kernel_w"], self._columns.get(layer, 16))

    def address(self, layer: int | None, node: Node, index: int) -> int:
        """First byte of a convolution's weights (index 1) or bias; 0 where none is loaded.

        A layer may hold an array's convolution and a depthwise one, whose constants follow the other's.
        """
        weights, depthwise = self._target.weight_banks, self._target.depthwise_bank
        if node.op == "depthwise_conv2d" and depthwise is not None:
            weights = range(depthwise, depthwise + 1)
        first = self._first(layer, weights)
        return (
            first
            if index == 1
            else self._first(layer, range(self._target.bias_bank, self._target.bias_bank + 1), first)
        )

    def _first(self, layer: int | None, banks: range, behind: int = 0) -> int:
        loads = [] if layer is None else self._loads.get(layer, [])
        return min((address for bank, address in loads if bank in banks and address >= behind), default=0)

    def packs(self, layer: int | None, node: Node, graph: Graph) -> bool:
        """Whether LOAD puts the kernel's columns beside the channels: CONV then sees one column (docs/dpu.md 8.3)."""
        if layer is None or node.op != "conv2d":
            return False
        return self._columns.get(layer) == 1 < graph.tensor(node.inputs[1]).shape[2]
