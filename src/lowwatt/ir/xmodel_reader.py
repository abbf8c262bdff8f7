"""An .xmodel file as a graph: first operator by operator, then the `fix` operators are folded (xmodel_fold)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.ir.xmodel_fold import fold
from lowwatt.ir.xmodel_op import XOp
from lowwatt.ir.xmodel_proto import decode, messages
from lowwatt.ir.xmodel_types import check_hard_sigmoid, converter
from lowwatt.types import Shape

_COPIES = ("upload", "download", "identity", "fix2float")
_HINT = "the file is damaged, or no .xmodel of XIR 2 (serial_v2)"


def read(path: str | Path) -> Graph:
    """Graph of an .xmodel file: exported (float operators and `fix`) or compiled (integer operators).

    A tensor is named after the layer. `meta["xmodel"]` says for each tensor which operator of the file holds the same
    values. Operators of unknown type become `custom`. ToolError for damaged and foreign files, and for shapes that do
    not follow from the operators.
    """
    message = _parse(Path(path))
    if not message.op_node:
        raise ToolError("the file holds no operators", where=str(path), hint=_HINT)
    reader = _Reader(message.graph_name)
    try:
        for node in message.op_node:
            reader.add(XOp.of(node))
        reader.finish(decode(message.graph_attr["return_ops"]) if "return_ops" in message.graph_attr else None)
    except ToolError as error:
        raise ToolError(
            f"cannot read {path}: {error.what}", where=error.where, why=error.why, hint=error.hint
        ) from None
    return reader.graph


def _parse(path: Path) -> Any:
    message = messages()["Graph"]()
    try:
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ToolError("cannot read the file", where=str(path), why=error.strerror or str(error)) from None
    except (DecodeError, RuntimeError) as error:
        raise ToolError("cannot read the file", where=str(path), why=str(error)[:200], hint=_HINT) from None
    return message


class _Reader:
    """Builds the graph operator by operator; `value` maps each operator read so far to its tensor."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name or "xmodel")
        self.value: dict[str, str] = {}
        self.tensors: dict[str, str] = {}
        self.source: dict[str, str] = {}
        self.read: set[str] = set()

    def add(self, op: XOp) -> None:
        if op.name in self.value:
            raise op.fail("two operators of one name")
        unknown = [name for name in op.inputs() if name not in self.value]
        if unknown:
            raise op.fail("the file is not in order", f"{unknown[0]} comes later or never")
        self.read.update(op.inputs())
        self.value[op.name] = self._tensor(op)
        self.tensors[op.tensor] = self.value[op.name]
        if self.value[op.name] == op.name and self.graph.tensor(op.name).quant is not None:
            self.source[op.name] = op.name

    def _tensor(self, op: XOp) -> str:
        """Add the operator's tensor to the graph; returns its name."""
        if op.type in ("data", "data-fix"):
            return self.graph.add_input(op.name, _positive(op, op.numbers("shape")), op.tensor_quant())
        if op.type in ("const", "const-fix"):
            return self._constant(op)
        inputs = [self.value[name] for name in op.inputs()]
        if op.type in _COPIES and len(inputs) == 1:
            return inputs[0]
        name = self._node(op, inputs)
        shape = self.graph.tensor(name).shape
        if op.shape and op.shape != shape:
            raise op.fail("the stated shape does not follow from the operator", f"stated {op.shape}, it gives {shape}")
        return name

    def _constant(self, op: XOp) -> str:
        data, shape = op.constant(), _positive(op, op.numbers("shape"))
        self.graph.add_constant(op.name, data, op.tensor_quant())
        self.graph.tensors[op.name].shape = shape  # the data may have been left out
        return op.name

    def _node(self, op: XOp, inputs: list[str]) -> str:
        shapes = [self.graph.tensor(i).shape for i in inputs]
        if op.type in ("fix", "float2fix"):
            return self.graph.add(
                "fix", inputs, op.name, quant=op.quant(), round_mode=op.text("round_mode", "DPU_ROUND")
            )
        convert = converter(op.type)
        if convert is None or not inputs:
            return self._custom(op, inputs)
        name, attrs = convert(op, shapes)
        quant = op.tensor_quant() if op.type.endswith("-fix") else None
        if op.type in ("resize", "upsample-fix", "downsample-fix"):
            inputs = inputs[:1]
        self._check_quant(op, name, inputs)
        return self.graph.add(name, inputs, op.name, quant=quant, **attrs)

    def _check_quant(self, op: XOp, name: str, inputs: Sequence[str]) -> None:
        """ToolError where an integer operator lacks its fix point, or copies bytes to another one unscaled."""
        if not op.type.endswith("-fix"):
            return
        out, given = op.tensor_quant(), self.graph.tensor(inputs[0]).quant
        if out is None:
            raise op.fail("its tensor has no fix_point")
        if name in ("reshape", "pad", "transpose") and given is not None and given != out:
            raise op.fail("it copies integers and must keep their fix point", f"{given.fix_point} to {out.fix_point}")
        if name == "hard_sigmoid" and given is not None:
            check_hard_sigmoid(op, given, out)

    def _custom(self, op: XOp, inputs: list[str]) -> str:
        params = {
            k: v
            for k, v in sorted(op.attrs.items())
            if isinstance(v, (bool, int, float, str, list)) and k not in ("shape", "data_type")
        }
        shape = op.numbers("shape", default=list(op.shape))
        return self.graph.add(
            "custom", inputs, op.name, quant=op.tensor_quant(), type=op.type, shape=shape, params=params
        )

    def finish(self, return_ops: Any) -> None:
        """Outputs (the file's own list, else what nobody reads), then fold.

        The list of a compiled file names operators of the file that it was compiled from; of these only tensors are
        called so in it.
        """
        names = return_ops if isinstance(return_ops, list) and return_ops else None
        names = names or [name for name in self.value if name not in self.read]
        known = self.tensors | self.value
        unknown = [n for n in names if n not in known]
        if unknown:
            raise ToolError("return_ops names no operator", where=str(unknown[0]))
        outputs = dict.fromkeys(known[n] for n in names)
        self.graph.outputs = [o for o in outputs if not self.graph.tensor(o).is_constant]
        fold(self.graph, self.source)
        self.graph.meta["xmodel"] = {t: o for t, o in self.source.items() if t in self.graph.tensors}


def _positive(op: XOp, shape: Shape) -> Shape:
    if min(shape, default=1) < 1:
        raise op.fail("every dimension must be at least 1", f"shape {shape}")
    return shape
