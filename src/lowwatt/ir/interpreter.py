"""The integer reference: runs a quantized graph in NumPy, node by node; the arbiter of every other executor.

Nodes that the number format has no integers for (a SiLU, a softmax) are float islands: they compute in float between
quantized tensors, and are what the host does (docs/architecture.md, "Float islands").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.arithmetic import integer_type, quantize
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops import spec
from lowwatt.ir.opspec import IntTensor
from lowwatt.types import Array, QuantParams


def run(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name, raw integers (the tensor's dtype), shapes as declared.

    `inputs` are arrays by input name: real values (any float dtype), quantized here with the input's own fix
    point and DPU_ROUND; or the integers themselves. More images than the graph was made for (first dimension) run
    one after the other. ToolError for a missing or unknown name, a wrong shape, integers out of range.

    >>> from lowwatt.types import QuantParams
    >>> g = Graph()
    >>> _ = g.add_input("x", (1, 2), QuantParams.power_of_two(1))
    >>> _ = g.add("relu", ["x"], "y", quant=QuantParams.power_of_two(0))
    >>> g.outputs = ["y"]
    >>> run(g, {"x": np.array([[-1.0, 2.6]])})["y"].tolist()
    [[0, 3]]
    """
    return outputs_of(graph, execute(graph, inputs))


def outputs_of(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs among the values of a run; an output may also be a constant."""
    constants = {tensor.name: tensor.data for tensor in graph.constants() if tensor.data is not None}
    return {name: constants[name] if name in constants else values[name] for name in graph.outputs}


def execute(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every input and node output by tensor name, as `run` gives them."""
    check_executable(graph)
    return in_batches(graph, inputs, lambda values: _execute(graph, values))


def in_batches(
    graph: Graph, inputs: Mapping[str, Array], execute_one: Callable[[dict[str, Array]], dict[str, Array]]
) -> dict[str, Array]:
    """Check the inputs, quantize real ones, and call `execute_one` for each batch of the size in the graph."""
    values = _checked_inputs(graph, inputs)
    batch = {len(v) // (graph.tensor(k).shape[0] or 1) for k, v in values.items() if v.ndim}
    if len(batch) > 1:
        raise ToolError("the inputs hold different numbers of images", where=graph.name)
    count = batch.pop() if batch else 1
    if count == 1:
        return execute_one(values)
    parts = [execute_one({k: np.split(v, count)[i] for k, v in values.items()}) for i in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def on_integers(graph: Graph, node: Node) -> bool:
    """Whether a node is computed on integers: its operator can be, and its operands and its output have fix points."""
    return spec(node.op).integer is not None and not _floating(graph, node)


def _floating(graph: Graph, node: Node) -> list[str]:
    """What of a node's output and operands has no fix point: real values, or integers of other formats."""
    return [name for name in (node.name, *node.inputs) if not _fixed(graph.tensor(name).quant)]


def _fixed(quant: QuantParams | None) -> bool:
    return quant is not None and quant.is_fixed_point


def check_executable(graph: Graph) -> None:
    """ToolError naming the first node or constant that cannot run."""
    for node in graph.nodes:
        if not on_integers(graph, node) and spec(node.op).real is None:
            raise ToolError("the node cannot run", where=node.name, why=f"{node.op} has no rule here")
    for constant in graph.constants():
        data = constant.data
        if data is None or data.shape != constant.shape:
            raise ToolError("the constant has no data", where=constant.name, why="its file left the weights out")
        if constant.quant is not None and not np.issubdtype(data.dtype, np.integer):
            raise ToolError("the quantized constant holds no integers", where=constant.name, why=f"dtype {data.dtype}")


def _execute(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    values = dict(inputs)
    for node in graph.nodes:
        values[node.name] = evaluate(graph, node, values)
    return values


def evaluate(graph: Graph, node: Node, values: Mapping[str, Array]) -> Array:
    """Output of one node; `values` hold the inputs that are not constants."""
    operands = [Operand.of(graph.tensor(name), values) for name in node.inputs]
    return compute(node, operands, graph.tensor(node.name).quant)


@dataclass(frozen=True, slots=True)
class Operand:
    """What a node reads: integers with their quantization, or real values."""

    values: Array
    quant: QuantParams | None

    @classmethod
    def of(cls, tensor: Tensor, values: Mapping[str, Array]) -> Operand:
        """The constant itself, or the value computed for it."""
        return cls(values[tensor.name] if tensor.data is None else tensor.data, tensor.quant)

    @property
    def real(self) -> Array:
        """Real values, float64."""
        return (self.values if self.quant is None else self.quant.dequantize(self.values)).astype(np.float64)


def compute(node: Node, operands: Sequence[Operand], out: QuantParams | None) -> Array:
    """Output of a node (`check_executable` saw to its rule): on integers where all is quantized, else in float.

    A float node takes quantized operands as the real values they stand for; its value is float32, computed in float64
    and rounded once, so that hosts which compute in float32 seldom differ. Where its output is quantized, DPU_ROUND
    follows, or what a `fix` says.
    """
    integer, real = spec(node.op).integer, spec(node.op).real
    integers = [IntTensor(x.values, x.quant) for x in operands if x.quant is not None and x.quant.is_fixed_point]
    try:
        if integer is not None and out is not None and out.is_fixed_point and len(integers) == len(operands):
            return integer(node, integers, out).astype(integer_type(out))
        assert real is not None
        with np.errstate(all="ignore"):  # what is not a number is found when it is rounded
            value = real(node, [x.real for x in operands]).astype(np.float32)
        mode = node.attrs.get("round_mode")
        return value if out is None else quantize(value, out, mode)
    except ToolError as error:
        raise error if error.where else ToolError(error.what, where=node.name, why=error.why) from None


def _checked_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    for name in inputs:
        if name not in graph.inputs:
            raise ToolError("the graph has no such input", where=name, hint=did_you_mean(name, graph.inputs))
    missing = [name for name in graph.inputs if name not in inputs]
    if missing:
        raise ToolError("an input is missing", where=missing[0])
    return {name: _checked_input(graph.tensor(name), np.asarray(inputs[name])) for name in graph.inputs}


def _checked_input(tensor: Tensor, value: Array) -> Array:
    shape = tensor.shape
    whole = len(value.shape) == len(shape) and value.shape[1:] == shape[1:]
    if not whole or (shape and (value.shape[0] < 1 or value.shape[0] % shape[0])):
        raise ToolError("the input has the wrong shape", where=tensor.name, why=f"{value.shape}, not {shape}")
    if np.issubdtype(value.dtype, np.floating):
        return value if tensor.quant is None else quantize(value, tensor.quant)
    if not np.issubdtype(value.dtype, np.integer):
        raise ToolError("the input is neither real nor whole", where=tensor.name, why=f"dtype {value.dtype}")
    if tensor.quant is None:
        raise ToolError("the input takes real values", where=tensor.name, why=f"it was given {value.dtype}")
    low, high = tensor.quant.qmin, tensor.quant.qmax
    if value.size and (value.min() < low or value.max() > high):
        raise ToolError(
            "the input is out of range",
            where=tensor.name,
            why=f"integers are taken as they are and must lie in {low}…{high}",
            hint="give real values (float32), which are quantized",
        )
    return value.astype(integer_type(tensor.quant))
