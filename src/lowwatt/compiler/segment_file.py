"""Members of a program's file that hold one segment: its words, constants, memory map and layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from lowwatt.compiler.dram import CONSTANTS, Dram, Region
from lowwatt.compiler.isa import ISA0, ISA1, decode
from lowwatt.compiler.partition import Side, subgraph
from lowwatt.compiler.record import record, typed
from lowwatt.compiler.segment import LayerInfo, Segment
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import Target

_REGISTER_BYTES = 1 << 31
"""More than a register can hold: the vendor's runtime counts its bytes in 32 bits with a sign."""


def pack_segment(segment: Segment) -> dict[str, bytes]:
    """Members by name; none for a segment of the host."""
    if segment.side == "host":
        return {}
    runs = [[index, len(list(group))] for index, group in groupby(segment.owners)]
    description = {
        "layers": [asdict(layer) for layer in segment.layers],
        "owners": runs,
        "regions": {name: asdict(region) for name, region in segment.dram.regions.items()},
        "sizes": {str(register): size for register, size in segment.dram.sizes.items()},
    }
    text = json.dumps(description, indent=1, sort_keys=True).encode()
    return {"segment.json": text, "code.bin": segment.code, "constants.bin": segment.dram.constants}


def unpack_segment(
    side: Side, nodes: Sequence[str], graph: Graph, target: Target, members: Mapping[str, bytes]
) -> Segment:
    """What `pack_segment` made; ToolError where members are missing or do not fit together."""
    wanted = set(nodes)
    part = subgraph(graph, [node for node in graph.nodes if node.name in wanted])
    if side == "host":
        return Segment(side, part)
    for name in ("segment.json", "code.bin", "constants.bin"):
        if name not in members:
            raise ToolError("the program's file is damaged", why=f"a segment holds no {name}")
    description: dict[str, Any] = json.loads(members["segment.json"])
    layers = [record(LayerInfo, row) for row in description["layers"]]
    regions = {name: record(Region, row) for name, row in description["regions"].items()}
    sizes = {int(register): typed(int, size, "sizes") for register, size in description["sizes"].items()}
    instructions = decode(members["code.bin"], (ISA0, ISA1)[target.isa])
    runs = [typed(tuple[int, ...], run, "owners") for run in description["owners"]]
    counts = [count for _, count in runs]
    _check(
        sum(counts) == len(instructions) and min(counts, default=1) > 0, "its instructions are not those of its layers"
    )
    owners = [index for index, count in runs for _ in range(count)]
    _check(all(0 <= owner < len(layers) for owner in owners), "an instruction belongs to no layer")
    _check(len(members["constants.bin"]) == sizes.get(CONSTANTS, 0), "its constants have another size")
    _check_memory(part, regions, sizes)
    return Segment("dpu", part, layers, Dram(regions, sizes, members["constants.bin"]), instructions, owners)


def _check_memory(part: Graph, regions: Mapping[str, Region], sizes: Mapping[int, int]) -> None:
    """Registers of a size that there can be, every map within its register, those of inputs and outputs among them."""
    _check(all(0 <= size < _REGISTER_BYTES for size in sizes.values()), "a register of DRAM has no possible size")
    for name, region in regions.items():
        first, last = region.at(0, 0), region.at(region.height - 1, region.width - 1, region.channels - 1)
        inside = 0 <= first <= last < sizes.get(region.register, 0)
        _check(inside and min(region.height, region.width, region.channels) > 0, f"{name} lies outside its register")
    for name in (*part.inputs, *part.outputs):
        _check(name in regions, f"{name} has no place in DRAM")


def _check(sound: bool, why: str) -> None:
    if not sound:
        raise ToolError("the program's file is damaged", why=why)
