"""Rewrites of what a machine does not take into what it takes: a visible list, and the loop that applies it.

A rewrite is tried on each node that breaks a limit, on a copy of the graph, and stays only if fewer nodes break one
then and no more run on the host. Exact ones keep the function; on integers those that would round in more places than
before are left. Inexact ones put a like function in its place, and only who asks for them gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lowwatt.compiler import rewrites_exact as exact
from lowwatt.compiler import rewrites_inexact as inexact
from lowwatt.compiler.place import NoMatch, Place
from lowwatt.compiler.rules import check, refused
from lowwatt.ir.graph import Graph
from lowwatt.targets import Target

Keeps = Literal["integers", "reals", "nothing"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite. `apply` changes the graph at a node of one of `ops`, or raises NoMatch with the reason.

    `keeps` says what stays equal: integers (and real values), real values alone, or nothing: then it needs fine-tuning.
    """

    name: str
    ops: tuple[str, ...]
    apply: Callable[[Place], None]
    keeps: Keeps = "integers"

    @property
    def what(self) -> str:
        """What it does, in a sentence."""
        return " ".join((self.apply.__doc__ or "").split())


_VECTORS = ("add", "mul", "concat", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish")
_LEAKY = ("leaky_relu", "conv2d", "transposed_conv2d", "linear")

EXACT = (
    Rewrite("chain-pools", ("max_pool",), exact.chain_pools),
    Rewrite("merge-focus", ("slice",), exact.merge_focus),
    Rewrite("slice-as-pool", ("slice",), exact.slice_as_pool),
    Rewrite("widen-convolution", ("slice",), exact.widen_convolution),
    Rewrite("select-channels", ("slice",), exact.select_channels),
    Rewrite("dense-groups", ("conv2d",), exact.dense_groups),
    Rewrite("split-outputs", ("conv2d",), exact.split_outputs),
    Rewrite("scale-as-depthwise", ("mul",), exact.scale_as_depthwise),
    Rewrite("repeat-operand", ("add", "mul"), exact.repeat_operand),
    Rewrite("as-map", _VECTORS, exact.as_map),
    Rewrite("split-average", ("avg_pool",), exact.split_average, "reals"),
    Rewrite("average-as-depthwise", ("avg_pool",), exact.average_as_depthwise, "reals"),
    Rewrite("split-kernel", ("conv2d",), exact.split_kernel, "reals"),
)
INEXACT = (
    Rewrite("replace-silu", ("silu", "hard_swish"), inexact.replace_silu, "nothing"),
    Rewrite("replace-sigmoid", ("sigmoid",), inexact.replace_sigmoid, "nothing"),
    Rewrite("change-slope", _LEAKY, inexact.change_slope, "nothing"),
)


@dataclass(frozen=True, slots=True)
class Change:
    """A node that a rewrite changed, and its operator before."""

    rewrite: str
    node: str
    op: str


@dataclass(frozen=True, slots=True)
class Miss:
    """A node that stays off the accelerator, and why a rewrite did not fit it."""

    rewrite: str
    node: str
    op: str
    reason: str


@dataclass(slots=True)
class Rewriting:
    """The rewritten graph, what changed, and what did not fit where."""

    graph: Graph
    changes: list[Change] = field(default_factory=list)
    misses: list[Miss] = field(default_factory=list)


def rewrite(graph: Graph, target: Target, rewrites: Sequence[Rewrite] = EXACT) -> Rewriting:
    """A copy of the graph, rewritten for a machine, float or quantized; names of inputs and outputs stay.

    >>> from lowwatt.targets import load_target
    >>> g = Graph()
    >>> pool = dict(kernel=(9, 9), stride=(1, 1), pad=(4, 4, 4, 4))
    >>> g.outputs = [g.add("max_pool", [g.add_input("x", (1, 20, 20, 8))], "y", **pool)]
    >>> [(n.op, n.attrs["kernel"]) for n in rewrite(g, load_target("ultra96v2-lpcv")).graph.nodes]
    [('max_pool', (5, 5)), ('max_pool', (5, 5))]
    """
    result = Rewriting(graph.copy())
    while _round(result, target, rewrites):
        pass
    return result


def _round(result: Rewriting, target: Target, rewrites: Sequence[Rewrite]) -> bool:
    """Try everything once; True where something changed, so that another round may find more."""
    before = len(result.changes)
    result.misses = []
    for one in rewrites:
        for name in refused(result.graph, target):
            node = result.graph.producers().get(name)  # an earlier change may have taken it away
            if node is None or node.op not in one.ops:
                continue
            try:
                result.graph = _tried(result.graph, name, target, one)
                result.changes.append(Change(one.name, name, node.op))
            except NoMatch as miss:
                result.misses.append(Miss(one.name, name, node.op, str(miss)))
    return len(result.changes) > before


def _tried(graph: Graph, name: str, target: Target, one: Rewrite) -> Graph:
    """The graph after a rewrite at a node; NoMatch where it does not fit or does not help."""
    trial = graph.copy()
    at = Place(trial, trial.node(name), target)
    at.require(
        one.keeps == "integers" or not at.quantized, "on integers it would change values: rewrite, then quantize"
    )
    one.apply(at)
    trial.prune()
    trial.verify()
    _require_gain(graph, at)
    return trial


def _require_gain(before: Graph, at: Place) -> None:
    """NoMatch unless fewer nodes break a limit than before, and no more run on the host."""
    left = refused(at.graph, at.target)
    fewer = len(left) < len(refused(before, at.target))
    at.require(fewer, f"what comes of it breaks a limit too: {_first_new(left, before, at.node.name)}")
    on_host = [sum(one.where == "host" for one in check(graph, at.target)) for graph in (before, at.graph)]
    at.require(on_host[1] <= on_host[0], "among its neighbours it stays on the host all the same")


def _first_new(left: Sequence[str], graph: Graph, name: str) -> str:
    """The first node off the accelerator that the rewrite made or left."""
    known = graph.producers()
    return next((node for node in left if node not in known), name)
