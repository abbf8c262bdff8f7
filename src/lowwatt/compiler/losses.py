"""Losses: why a layer does not use the whole convolution array; one function a reason, each from facts of the program.

A reason says how much of the layer's time at the array's peak it costs, so that the greatest can stand first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from lowwatt.compiler.costs import ARRAY_OPERATORS, LayerCost
from lowwatt.compiler.footprint import Footprint
from lowwatt.compiler.idle import BETWEEN
from lowwatt.compiler.workload import packs
from lowwatt.ir.graph import Graph, Node
from lowwatt.targets import Target

_LINES = {"in": "input channels", "out": "output channels", "rows": "rows"}
_LEAST = 0.05
"""A share below which nothing is called lost."""

_SHORT = 0.5
"""Share of a LOAD's time that is no transfer, from which on it is called short."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A reason, in a word for narrow tables and in full, and the share of the array's peak over the layer's time that
    it costs. Shares add up to what is lost, but for what is too little to be named; a remark on a wait has none.
    """

    short: str
    text: str
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the reasons look at: a layer's costs and footprint, and `waits`, shares of its time by whom the array waits
    for. `filled`: for channels in, channels out and rows how many of how many lines are used, where that matters; what
    of the array's use these do not explain is `rest`. `multiplying`: share of CONV's time that is no start. `sparse`:
    the array's kernel has zeros that the layer's has not.
    """

    row: LayerCost
    target: Target
    footprint: Footprint
    waits: Mapping[str, float]
    filled: Mapping[str, tuple[int, int]]
    rest: float
    multiplying: float
    sparse: bool

    @property
    def works(self) -> float:
        """Share of the layer's time in which the array works."""
        return max(0.0, 1.0 - sum(self.waits.values()))

    @property
    def multiplies(self) -> float:
        """Share in which it multiplies: its work without the starts of CONVs."""
        return self.works * self.multiplying

    def emptied(self, name: str) -> float:
        """What the lines that a dimension leaves empty cost, of what the dimensions before it leave."""
        left = self.multiplies
        for other, (used, room) in self.filled.items():
            if other == name:
                return left * (1 - used / room)
            left *= used / room
        return left * (1 - self.rest)


Reason = Callable[[Facts], Loss | None]


def no_convolution(facts: Facts) -> Loss | None:
    """The layer is work of MISC, or moves bytes alone."""
    return None if facts.row.cycles["conv"] else Loss("no conv", "no convolution", 1.0)


def channels_in(facts: Facts) -> Loss | None:
    """Input channels (with augmentation: columns beside them) are no multiple of the array's."""
    return _empty(facts, "in")


def channels_out(facts: Facts) -> Loss | None:
    """Output channels are no multiple of the array's."""
    return _empty(facts, "out")


def rows(facts: Facts) -> Loss | None:
    """Output rows are no multiple of the array's pixels."""
    return _empty(facts, "rows")


def zeros(facts: Facts) -> Loss | None:
    """Lines that stay empty for another cause: zeros in a kernel (dilated, depthwise), edges of tiles."""
    if not facts.row.cycles["conv"] or facts.rest > 1 - _LEAST:
        return None
    words = ("zeros", "zeros in the kernel") if facts.sparse else ("edges", "partial tiles and overlaps")
    return Loss(*words, facts.emptied("rest"))


def starting(facts: Facts) -> Loss | None:
    """Each CONV takes some cycles before its work: many short ones take many."""
    share = facts.works - facts.multiplies
    return Loss("starts", "starts of CONVs", share) if share >= _LEAST else None


def waits_for_load(facts: Facts) -> Loss | None:
    """The array stands still until rows or weights are there."""
    return _wait(facts, "load", "LOAD", "waits for LOAD")


def waits_for_misc(facts: Facts) -> Loss | None:
    """The array stands still until MISC has taken what it made before."""
    return _wait(facts, "misc", "MISC", "waits for MISC")


def waits_for_save(facts: Facts) -> Loss | None:
    """The array stands still until what it made before is saved."""
    return _wait(facts, "save", "SAVE", "waits for SAVE")


def between_layers(facts: Facts) -> Loss | None:
    """The first rows and weights are loaded, or the last rows saved, while the array stands still."""
    return _wait(facts, BETWEEN, "drain", "fill and drain between layers")


def loaded_again(facts: Facts) -> Loss | None:
    """Chunks of output channels, or strips that overlap, load a map more than once."""
    again = facts.footprint.again
    if again <= 1 + _LEAST or not _loads_hold_up(facts):
        return None
    return Loss(f"maps {again:.1f}x", f"maps are loaded {again:.1f} times")


def short_loads(facts: Facts) -> Loss | None:
    """A LOAD costs more to begin than its bytes take."""
    row, costs = facts.row, facts.target.costs
    mean = row.load_bytes / max(1, facts.footprint.loads)
    begin = costs.load_ns + costs.load_cycles * facts.target.cycle_ns
    short = begin > _SHORT * (begin + mean / costs.load_gb_s)
    return Loss(f"{mean:.0f} B LOADs", f"LOADs of {mean:.0f} bytes") if short and _loads_hold_up(facts) else None


REASONS: tuple[Reason, ...] = (
    no_convolution,
    channels_in,
    channels_out,
    rows,
    zeros,
    starting,
    waits_for_load,
    waits_for_misc,
    waits_for_save,
    between_layers,
    loaded_again,
    short_loads,
)


def losses(
    row: LayerCost,
    graph: Graph,
    target: Target,
    footprint: Footprint,
    waits: Mapping[str, float],
    multiplying: float,
) -> list[Loss]:
    """Every reason that holds, the costliest first; `waits` are shares of the layer's time."""
    filled, rest, sparse = _lines(row, graph, target)
    facts = Facts(row, target, footprint, waits, filled, rest, multiplying, sparse)
    found = [loss for reason in REASONS if (loss := reason(facts))]
    if found and found[0].share == 1.0:  # without a convolution nothing waits
        return found[:1]
    return sorted(found, key=lambda loss: -loss.share)


def _empty(facts: Facts, name: str) -> Loss | None:
    """Lines of the array that a dimension leaves empty, as `used/room`."""
    if name not in facts.filled:
        return None
    used, room = facts.filled[name]
    return Loss(f"{used}/{room} {name}", f"{used} of {room} {_LINES[name]}", facts.emptied(name))


def _wait(facts: Facts, whom: str, short: str, text: str) -> Loss | None:
    share = facts.waits.get(whom, 0.0)
    return Loss(short, text, share) if share >= _LEAST else None


def _loads_hold_up(facts: Facts) -> bool:
    return facts.waits.get("load", 0.0) + facts.waits.get(BETWEEN, 0.0) >= _LEAST and facts.row.bound_by == "load"


def _lines(row: LayerCost, graph: Graph, target: Target) -> tuple[dict[str, tuple[int, int]], float, bool]:
    """Lines filled by each dimension, what of the array's use they leave unexplained, and whether its kernel is sparse.

    A dimension that the layer was mapped around (rows put together from pieces, say) shows by a use above its share.
    """
    node = next((n for n in graph.nodes if n.name in row.nodes and n.op in ARRAY_OPERATORS), None)
    if node is None or not row.array_use:
        return {}, row.array_use or 1.0, node is None
    filled, rest = {}, row.array_use
    for name, size, lines in _extents(node, graph, target):
        share = size / (ceil(size / lines) * lines)
        if share <= 1 - _LEAST and rest <= share + 1e-9:
            rest /= share
            filled[name] = size, ceil(size / lines) * lines
    return filled, rest, node.attrs.get("dilation", (1, 1)) != (1, 1)


def _extents(node: Node, graph: Graph, target: Target) -> Iterator[tuple[str, int, int]]:
    inputs, output = graph.tensor(node.inputs[0]).shape, graph.tensor(node.name).shape
    lanes = target.array.input_channels
    kernel = graph.tensor(node.inputs[1]).shape
    packed = node.op == "conv2d" and target.options.augmentation and packs(inputs[-1], kernel[2], lanes)
    yield "in", inputs[-1] * (kernel[2] if packed else 1), lanes
    yield "out", output[-1], target.array.output_channels
    if len(output) == 4:
        yield "rows", output[1], target.array.pixels
