"""Graph: nodes in topological order over named tensors, NHWC throughout.

Conventions (docs/architecture.md has them in full): feature maps are NHWC, convolution weights OHWI, depthwise
weights [mult, kh, kw, C], linear weights [out, in]; spatial attributes are (height, width) and pads
(top, bottom, left, right). A node has one output, a tensor of the node's own name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.types import Array, QuantParams, Shape


@dataclass(slots=True)
class Tensor:
    """A named value. `data` is set for constants: float32, or the integers themselves where `quant` is set."""

    name: str
    shape: Shape
    dtype: str = "float32"
    quant: QuantParams | None = None
    data: Array | None = None

    @property
    def is_constant(self) -> bool:
        """True for weights, biases and other constants."""
        return self.data is not None


@dataclass(slots=True)
class Node:
    """One operator. `name` is also the name of its output tensor; `origin` the user's layer it came from."""

    name: str
    op: str
    inputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    origin: str = ""

    def become(self, op: str, inputs: Iterable[str], **attrs: Any) -> None:
        """Do something else; name, shape and quantization of the output stay. Attributes are completed as in `add`."""
        from lowwatt.ir.ops import spec

        self.op, self.inputs = op, list(inputs)
        self.attrs = spec(op).complete(attrs, where=self.name)

    def redirect(self, old: str, new: str) -> None:
        """Read another tensor wherever `old` is read."""
        self.inputs = [new if name == old else name for name in self.inputs]


@dataclass(slots=True)
class Graph:
    """Nodes (topological), the tensors they name, and `meta`: json-able facts that travel along.

    Known keys of `meta`: preprocess, head, classifier, labels, category_ids (see `lowwatt.ir.meta`), source, and notes,
    what a user should know of how the graph was read.
    """

    name: str = "graph"
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    # -- building ---------------------------------------------------------------------------------------------

    def add_input(self, name: str, shape: Shape, quant: QuantParams | None = None) -> str:
        """Declare a graph input; returns its name."""
        self._new(Tensor(name, tuple(shape), "float32" if quant is None else quant.dtype, quant))
        self.inputs.append(name)
        return name

    def add_constant(self, name: str, data: Array, quant: QuantParams | None = None) -> str:
        """Add a constant (integers where `quant` is given); returns its name."""
        self._new(Tensor(name, tuple(data.shape), str(data.dtype), quant, data))
        return name

    def add(
        self,
        op: str,
        inputs: Iterable[str],
        name: str,
        *,
        origin: str = "",
        quant: QuantParams | None = None,
        **attrs: Any,
    ) -> str:
        """Append an operator; its output shape is inferred. Returns the output's name.

        Attributes are completed with the operator's defaults; unknown ones raise ToolError.
        """
        from lowwatt.ir.ops import spec

        node = Node(name, op, list(inputs), spec(op).complete(attrs, where=name), origin or name)
        shape = spec(op).output_shape(node, [self.tensor(i).shape for i in node.inputs])
        self._new(Tensor(name, shape, "float32" if quant is None else quant.dtype, quant))
        self.nodes.append(node)
        return name

    def insert(self, before: Node, op: str, inputs: Iterable[str], name: str, **given: Any) -> str:
        """As `add`, right in front of a node and of that node's origin."""
        self.add(op, inputs, name, origin=before.origin, **given)
        self.nodes.insert(self.nodes.index(before), self.nodes.pop())
        return name

    def _new(self, tensor: Tensor) -> None:
        if tensor.name in self.tensors:
            raise ToolError("two tensors of one name", where=tensor.name)
        self.tensors[tensor.name] = tensor

    # -- reading ----------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> Tensor:
        """Tensor by name; ToolError where there is none."""
        try:
            return self.tensors[name]
        except KeyError:
            raise ToolError("the graph has no such tensor", where=name) from None

    def node(self, name: str) -> Node:
        """Node by name; ToolError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ToolError("the graph has no such node", where=name)

    def producers(self) -> dict[str, Node]:
        """Node that makes each tensor (inputs and constants have none)."""
        return {node.name: node for node in self.nodes}

    def consumers(self) -> dict[str, list[Node]]:
        """Nodes that read each tensor, in order; a tensor nobody reads has an empty list."""
        table: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                table[name].append(node)
        return table

    def constants(self) -> Iterator[Tensor]:
        """Constants, in order of creation."""
        return (t for t in self.tensors.values() if t.is_constant)

    @property
    def is_quantized(self) -> bool:
        """True where integers go in: every input carries quantization. Inside there may be float islands."""
        return bool(self.inputs) and all(self.tensors[n].quant is not None for n in self.inputs)

    @property
    def has_integers(self) -> bool:
        """True where any tensor carries quantization."""
        return any(t.quant is not None for t in self.tensors.values())

    # -- changing ---------------------------------------------------------------------------------------------

    def copy(self) -> Graph:
        """Deep copy of structure; constant arrays are shared (treat them as read-only)."""
        return Graph(
            self.name,
            list(self.inputs),
            list(self.outputs),
            [Node(n.name, n.op, list(n.inputs), dict(n.attrs), n.origin) for n in self.nodes],
            {k: copy.copy(t) for k, t in self.tensors.items()},
            copy.deepcopy(self.meta),
        )

    def set_constant(self, name: str, data: Array) -> None:
        """Give a float constant another value of its shape; copies of the graph keep the old one."""
        tensor = self.tensor(name)
        if not tensor.is_constant or tensor.shape != data.shape:
            raise ToolError("the constant cannot take this value", where=name, why=f"shape {data.shape}")
        tensor.data = np.ascontiguousarray(data, np.float32)

    def replace_uses(self, old: str, new: str) -> None:
        """Let every reader of tensor `old`, and the outputs, read `new` instead."""
        for node in self.nodes:
            node.redirect(old, new)
        self.outputs = [new if o == old else o for o in self.outputs]

    def remove(self, name: str) -> None:
        """Remove the node `name` and its tensor (nobody may read it any more)."""
        self.nodes = [n for n in self.nodes if n.name != name]
        del self.tensors[name]

    def rename(self, old: str, new: str) -> None:
        """Rename a tensor and, where there is one, the node that makes it."""
        if old == new:
            return
        if new in self.tensors:
            raise ToolError("two tensors of one name", where=new)
        self.tensors = {new if k == old else k: t for k, t in self.tensors.items()}
        self.tensors[new].name = new
        for node in self.nodes:
            if node.name == old:
                node.name = new
        self.replace_uses(old, new)
        self.inputs = [new if i == old else i for i in self.inputs]

    def prune(self) -> int:
        """Remove nodes and constants that no output needs; returns how many went. Inputs stay."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        before = len(self.tensors)
        self.nodes = [n for n in self.nodes if n.name in needed]
        self.tensors = {k: t for k, t in self.tensors.items() if k in needed or k in self.inputs}
        return before - len(self.tensors)

    def verify(self) -> Graph:
        """Check names, order, attributes and shapes by each operator's own rules; returns self or raises ToolError."""
        from lowwatt.ir.ops import spec

        known = set(self.inputs) | {t.name for t in self.constants()}
        for node in self.nodes:
            missing = [i for i in node.inputs if i not in known]
            if missing:
                raise ToolError(
                    "the graph is not in order",
                    where=node.name,
                    why=f"it reads {missing[0]}, which comes later or never",
                )
            expected = spec(node.op).output_shape(node, [self.tensor(i).shape for i in node.inputs])
            if self.tensor(node.name).shape != expected:
                raise ToolError(
                    "a shape does not follow from the operator",
                    where=node.name,
                    why=f"stated {self.tensor(node.name).shape}, {node.op} gives {expected}",
                )
            known.add(node.name)
        for name in self.outputs:
            if name not in known:
                raise ToolError("the graph has no such output", where=name)
        return self
