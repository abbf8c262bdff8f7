"""ONNX files as float Graphs.

Inputs and outputs keep their ONNX names; feature maps become NHWC, and `meta["source_layout"]` says which inputs and
outputs the file has as NCHW. A node is named after the value it makes, its origin is the ONNX node's name. What depends
on constants or shapes alone is computed while reading, so shapes must be static (a free batch dimension becomes 1).
Weights that a file stores as integers behind a DequantizeLinear are such constants; where it also rounds activations at
run time (DynamicQuantizeLinear and back), the rounding is left out, and `meta["notes"]` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir.builder import TO_NCHW, LayoutBuilder, Value
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_call import Call
from lowwatt.ir.onnx_layers import LAYER_RULES
from lowwatt.ir.onnx_meta import read_meta
from lowwatt.ir.onnx_shapes import SHAPE_RULES
from lowwatt.types import Array, Shape


def read(path: str | Path) -> Graph:
    """Read a float ONNX model.

    Raises ToolError for a file that is missing, damaged or not ONNX, for dynamic shapes, and for an operator without
    a counterpart, naming the node.

    >>> # graph = read("yolox_nano_416.onnx"); graph.inputs, graph.outputs  →  (['images'], ['output'])
    """
    model = _load(Path(path))
    try:
        return _Reader(model).graph(Path(path).stem)
    except ToolError as error:
        where = ", ".join(part for part in (str(path), error.where) if part)
        raise ToolError(error.what, where=where, why=error.why, hint=error.hint) from None
    except Exception as error:  # a well-formed protobuf can still hold attributes of the wrong kind
        raise ToolError(
            "cannot read the ONNX model", where=str(path), why=f"{type(error).__name__}: {error}"
        ) from error


def _load(path: Path) -> Any:
    import onnx

    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise ToolError("no such file", where=str(error.filename or path)) from None
    except Exception as error:  # protobuf and onnx raise many kinds on foreign and damaged files
        raise ToolError("cannot read the ONNX model", where=str(path), why=str(error) or type(error).__name__) from None
    if not model.graph.node and not model.graph.output:
        raise ToolError("cannot read the ONNX model", where=str(path), why="it holds no graph")
    return model


RULES = {**LAYER_RULES, **SHAPE_RULES}
"""ONNX operator → rule, opsets 7 to 21."""

_GROWING = ("ConstantOfShape", "Expand", "Tile", "Range")
"""Operators whose result can be far larger than their operands."""

_GREATEST_CONSTANT = 1 << 27
"""Elements that a computed constant may have."""


class _Reader:
    """Reads the nodes of one model in order into a builder."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self._builder = LayoutBuilder(model.graph.name or "graph")
        self._values: dict[str, Value] = {}
        self._metadata = {entry.key: entry.value for entry in model.metadata_props}
        self._unrounded: dict[str, str] = {}

    def graph(self, name: str) -> Graph:
        """The whole model."""
        self._refuse_quantized()
        self._read_constants()
        self._read_inputs()
        for node in self._graph.node:
            self._read_node(node)
        outputs = [(o.name, self._value(o.name, "the graph's outputs")) for o in self._graph.output]
        graph = self._builder.finish(outputs)
        graph.name = graph.name or name
        graph.meta.update(read_meta(self._metadata))
        if self._unrounded:
            graph.meta["notes"] = [f"the file rounds at run time, left out here: {', '.join(self._unrounded.values())}"]
        return graph

    def _refuse_quantized(self) -> None:
        for node in self._graph.node:
            if node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear") or "Integer" in node.op_type:
                raise ToolError(
                    f"the model is quantized already ({node.op_type})",
                    where=node.name or "".join(node.output[:1]),
                    hint="give the float model, or an .xmodel or .lwg of the quantized one; "
                    "`lowwatt run --backend onnxruntime` runs the file as it is",
                )

    def _read_constants(self) -> None:
        from onnx import numpy_helper

        if self._graph.sparse_initializer:
            raise ToolError("sparse constants are not supported", where=self._graph.sparse_initializer[0].values.name)
        for tensor in self._graph.initializer:
            self._values[tensor.name] = self._builder.constant(tensor.name, numpy_helper.to_array(tensor))

    def _read_inputs(self) -> None:
        for entry in self._graph.input:
            if entry.name not in self._values:
                shape, nchw = _static_shape(entry), not self._reads_nhwc(entry.name)
                self._values[entry.name] = self._builder.input(entry.name, shape, nchw)

    def _reads_nhwc(self, name: str) -> bool:
        """True where all readers of an input turn it from NHWC to NCHW first (models that come from TensorFlow)."""
        readers = [node for node in self._graph.node if name in node.input]
        return bool(readers) and all(n.op_type == "Transpose" and _order(n) == TO_NCHW for n in readers)

    def _value(self, name: str, reader: str) -> Value:
        if name not in self._values:
            raise ToolError("the model is not in order", where=reader, why=f"nothing before it makes {name!r}")
        return self._values[name]

    def _read_node(self, node: Any) -> None:
        name = node.name or node.output[0]
        inputs = [self._value(i, name) if i else None for i in node.input]
        if node.op_type in ("Shape", "Size") and inputs[0] is not None:
            self._store(node, [_shape_constant(node, inputs[0])])
        elif all(v is None or v.data is not None for v in inputs):
            self._store(node, self._compute(node, inputs))
        elif node.op_type == "DynamicQuantizeLinear":
            self._unrounded[node.output[0]] = name
            self._store(node, inputs * 3)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self._unrounded:
            self._store(node, inputs[:1])
        elif any(i in self._unrounded for i in node.input):
            why = "something else than DequantizeLinear reads the integers"
            raise ToolError("the rounding at run time cannot be left out", where=name, why=why)
        else:
            rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is None:
                raise _unsupported(node, name)
            call = Call(node.op_type, node.output[0], name, inputs, _attributes(node), self._opset, len(node.output))
            result = rule(self._builder, call)
            self._store(node, result if isinstance(result, list) else [result])

    def _store(self, node: Any, results: list[Any]) -> None:
        for name, result in zip(node.output, results, strict=False):
            value = result if isinstance(result, Value) else self._builder.constant(name, np.asarray(result))
            if name:
                self._values[name] = value

    def _compute(self, node: Any, inputs: list[Value | None]) -> list[Array]:
        """Value of a node on constants, by ONNX's own reference."""
        if not _is_computable(node):
            raise _unsupported(node, node.name)
        if node.op_type in _GROWING and _grown(node, inputs) > _GREATEST_CONSTANT:
            raise ToolError(f"the constant of {node.op_type} is too large", where=node.name or node.output[0])
        feeds = {name: v.data for name, v in zip(node.input, inputs, strict=True) if v is not None}
        try:
            return _reference(node, feeds, self._opset)
        except Exception as error:  # the reference raises what NumPy raises
            where = node.name or node.output[0]
            raise ToolError(f"cannot compute the constant {node.op_type}", where=where, why=str(error)) from None


def _is_computable(node: Any) -> bool:
    """False for what is random, and for loops, which may have no end; also inside of branches."""
    if "Random" in node.op_type or node.op_type in ("Bernoulli", "Multinomial", "Loop", "Scan"):
        return False
    bodies = [body for a in node.attribute for body in (a.g, *a.graphs)]
    return all(_is_computable(inner) for body in bodies for inner in body.node)


def _reference(node: Any, feeds: dict[str, Array | None], opset: int) -> list[Array]:
    """Outputs of one node by the rules of its own opset, or, where onnx has kept only newer rules, by those."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in feeds]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name]
    body = helper.make_graph([node], "constant", inputs, outputs)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)])
    try:
        evaluator = ReferenceEvaluator(model)
    except RuntimeError:
        evaluator = ReferenceEvaluator(node)
    return list(evaluator.run(None, feeds))


def _grown(node: Any, inputs: list[Value | None]) -> float:
    """Elements that a growing operator would make, roughly."""
    numbers = [np.abs(np.asarray(v.data, np.float64)) for v in inputs if v is not None and v.data is not None]
    if node.op_type == "Range":
        return float(numbers[0] + numbers[1]) / max(float(numbers[2]), 1e-9)
    size = 1.0 if node.op_type == "ConstantOfShape" else float(numbers[0].size)
    return size * float(np.prod(np.maximum(numbers[-1], 1)))


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def _order(node: Any) -> Shape:
    return tuple(next((a.ints for a in node.attribute if a.name == "perm"), ()))


def _static_shape(entry: Any) -> Shape:
    """Shape of an input; a free first dimension is a batch of 1."""
    tensor = entry.type.tensor_type
    if not tensor.HasField("shape"):
        raise ToolError("the input's shape is unknown", where=entry.name, hint="export the model with static shapes")
    sizes = [d.dim_value for d in tensor.shape.dim]
    if sizes and sizes[0] <= 0:
        sizes[0] = 1
    if any(size <= 0 for size in sizes):
        free = [d.dim_param or "?" for d in tensor.shape.dim if d.dim_value <= 0]
        raise ToolError(
            "the input's shape is not static",
            where=entry.name,
            why=f"dimension {', '.join(free)} is free",
            hint="export the model with static shapes",
        )
    return tuple(sizes)


def _shape_constant(node: Any, value: Value) -> Array:
    if node.op_type == "Size":
        return np.asarray(np.prod(value.shape), np.int64)
    attributes = _attributes(node)
    return np.asarray(value.shape[attributes.get("start") : attributes.get("end")], np.int64)


def _unsupported(node: Any, name: str) -> ToolError:
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return ToolError(f"unsupported ONNX operator {kind}", where=name, hint=did_you_mean(node.op_type, RULES))
