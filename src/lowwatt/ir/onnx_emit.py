"""Emitter: what every ONNX writer shares: names, layouts, constants and the model around them.

Our feature maps are NHWC, ONNX operators want NCHW. Each tensor of rank 4 lives in ONNX in one of the two orders
("nchw" or as our graph has it), and is transposed once where a reader wants the other. All inputs and outputs of
rank 4 are NCHW.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.onnx_meta import write_meta
from lowwatt.types import Array, Shape

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)
AXIS_TO_NCHW = (0, 2, 3, 1)
"""Axis of NHWC → axis of NCHW."""

LOWEST_OPSET, HIGHEST_OPSET = 14, 20


class Emitter:
    """Collects ONNX nodes and constants for one graph; rules call `op`, `get` and `finish`."""

    def __init__(self, graph: Graph, opset: int) -> None:
        if not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
            raise ToolError(
                f"opset {opset} cannot be written",
                why=f"known: {LOWEST_OPSET} to {HIGHEST_OPSET}",
                hint="onnxruntime refuses some int8 graphs of opset 21",
            )
        self.graph, self.opset = graph, opset
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.notes: list[str] = []
        self._names = {*graph.tensors}
        self._places: dict[tuple[str, bool], str] = {}
        self._makers: dict[str, Any] = {}

    # -- names and nodes ----------------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """A name that nothing in the file has yet."""
        number, candidate = 0, name
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def op(self, kind: str, inputs: Sequence[str], hint: str, **attrs: Any) -> str:
        """Add an ONNX node; returns the name of its output, made from `hint`."""
        from onnx import helper

        output = self.fresh(hint)
        self._makers[output] = helper.make_node(kind, list(inputs), [output], name=output, **attrs)
        self.nodes.append(self._makers[output])
        return output

    def constant(self, name: str, data: Array) -> str:
        """A constant of exactly this value; equal ones of one name are stored once."""
        known = self.constants.get(name)
        if known is not None and known.dtype == data.dtype and np.array_equal(known, data):
            return name
        free = name not in self.constants and name not in self._makers and self._may_take(name)
        name = name if free else self.fresh(name)
        self._names.add(name)
        self.constants[name] = np.array(data, order="C")
        return name

    def _may_take(self, name: str) -> bool:
        """A constant of the graph may use its own name; other names must be free."""
        tensor = self.graph.tensors.get(name)
        return tensor.is_constant if tensor is not None else name not in self._names

    def ints(self, values: Sequence[int], hint: str) -> str:
        """A constant of whole numbers."""
        return self.constant(hint, np.asarray(values, np.int64))

    def number(self, value: float, hint: str, dtype: type = np.float32) -> str:
        """A constant of one number, which must be exact in its type."""
        if float(dtype(value)) != value:
            raise ToolError("a number does not fit float32 exactly", where=hint, why=str(value))
        return self.constant(hint, np.asarray(value, dtype))

    # -- values in either order ---------------------------------------------------------------------------

    def is_nchw(self, tensor: str) -> bool:
        """True where the value lives as NCHW in the file."""
        return (tensor, True) in self._places

    def place(self, tensor: str, nchw: bool, name: str) -> None:
        """Say that the ONNX value `name` is `tensor` in that order."""
        self._places[tensor, nchw] = name

    def get(self, tensor: str, nchw: bool = False) -> str:
        """ONNX name of a tensor in the wanted order."""
        if (tensor, nchw) not in self._places:
            self._places[tensor, nchw] = self._make(tensor, nchw)
        return self._places[tensor, nchw]

    def _make(self, tensor: str, nchw: bool) -> str:
        entry = self.graph.tensor(tensor)
        if entry.data is not None:
            data = entry.data.transpose(TO_NCHW) if nchw else entry.data
            return self.stored(tensor, data)
        order = TO_NCHW if nchw else TO_NHWC
        hint = f"{tensor}.{'nchw' if nchw else 'nhwc'}"
        return self.op("Transpose", [self._places[tensor, not nchw]], hint, perm=order)

    def stored(self, tensor: str, data: Array, axis: int = 0) -> str:
        """A constant of the graph, laid out as `data` with its channels along `axis`; as float values."""
        return self.constant(tensor, data.astype(np.float32))

    def data(self, node: Node, index: int) -> Array:
        """An operand that must be a constant of the graph."""
        data = self.graph.tensor(node.inputs[index]).data
        if data is None:
            raise ToolError("ONNX export needs constant weights", where=node.name)
        return data

    def shape(self, tensor: str) -> Shape:
        """Shape in the graph's own order."""
        return self.graph.tensor(tensor).shape

    # -- ends ---------------------------------------------------------------------------------------------

    def finish(self, node: Node, value: str, nchw: bool) -> None:
        """Bind the value of a node. It takes the node's name, unless the name must go to the output's NCHW form."""
        value = self.quantized(node, self.activated(node, value))
        rank4 = len(self.shape(node.name)) == 4
        if node.name not in self.graph.outputs or nchw or not rank4:
            value = self._rename(value, node.name)
        self.place(node.name, nchw, value)

    def activated(self, node: Node, value: str) -> str:
        """The value after the `activation` attribute."""
        return value

    def quantized(self, node: Node, value: str) -> str:
        """The value as the tensor's number format leaves it."""
        return value

    def _rename(self, value: str, name: str) -> str:
        """Give the newest value its final name; one that others read or that no node makes is copied."""
        maker = self._makers.get(value)
        if maker is None or self.nodes[-1] is not maker or value in self._places.values():
            maker = self._makers[self.op("Identity", [value], f"{name}.copy")]
        del self._makers[maker.output[0]]
        maker.output[0] = maker.name = name
        self._makers[name] = maker
        return name

    def begin(self, name: str) -> None:
        """Declare a graph input, NCHW where it has rank 4."""
        self.place(name, len(self.shape(name)) == 4, name)

    def end(self) -> None:
        """Bring every output into its final order and name."""
        for name in self.graph.outputs:
            value = self.get(name, len(self.shape(name)) == 4)
            if value != name:
                self.place(name, len(self.shape(name)) == 4, self._rename(value, name))

    def values(self, tensor: str) -> list[str]:
        """Names that a tensor has in the file: its own, and that of its transposed copy where there is one."""
        return [name for (placed, _), name in self._places.items() if placed == tensor]

    def model(self) -> Any:
        """The finished ONNX model, checked by onnx.checker."""
        import onnx
        from onnx import helper, numpy_helper

        opsets = [helper.make_opsetid("", self.opset)]
        constants = [numpy_helper.from_array(data, name) for name, data in self.constants.items()]
        inputs = [self._entry(name) for name in self.graph.inputs]
        outputs = [self._entry(name) for name in self.graph.outputs]
        body = helper.make_graph(self.nodes, self.graph.name or "graph", inputs, outputs, constants)
        version = helper.find_min_ir_version_for(opsets)
        model = helper.make_model(body, opset_imports=opsets, ir_version=version, producer_name="lowwatt")
        helper.set_model_props(model, write_meta(self.graph.meta))
        try:
            onnx.checker.check_model(model)
        except Exception as error:  # the checker's own exception type is not public
            why = str(error).strip()[:300]
            raise ToolError("the ONNX model is not valid", why=why, hint="please report this graph") from error
        return model

    def _entry(self, name: str) -> Any:
        from onnx import TensorProto, helper

        shape = self.shape(name)
        ordered = [shape[axis] for axis in TO_NCHW] if len(shape) == 4 else shape
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ordered)
