"""Capture: a torch module becomes a Graph, by way of `torch.export`, under the user's own names.

Every operator that the export lists is looked up in `lowwatt.aten.RULES`; what depends on constants alone is
computed on the spot. Nodes are called by the module they came from (`backbone.dark2.0.conv`), constants by their
parameter; batch norms stay until a pass folds them.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from lowwatt.aten import RULES, VIEWS, Call, Result
from lowwatt.errors import ToolError, did_you_mean
from lowwatt.ir import meta
from lowwatt.ir.builder import LayoutBuilder, Value
from lowwatt.ir.graph import Graph

if TYPE_CHECKING:
    from lowwatt.models.checkpoint import Model


def capture(
    module: nn.Module, example: torch.Tensor, *, output_names: Sequence[str] | None = None, name: str = ""
) -> Graph:
    """Float Graph (NHWC) of a module in inference mode.

    `example` is an NCHW input of the shape that the graph is made for; `output_names` one name for each tensor that
    `forward` returns, in order (default: the nodes' own). Raises ToolError for an operator without a counterpart,
    naming it, its module and the line of source.

    >>> graph = capture(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), output_names=["y"])
    >>> graph.outputs, graph.tensor("y").shape
    (['y'], (1, 6, 6, 4))
    """
    with _inference(module):
        program = _export(module, example)
    reader = _Reader(program, LayoutBuilder(name or type(module).__name__))
    outputs = [value for value in map(reader.read, program.graph.nodes) if value is not None][-1]
    names: list[Any] = [None] * len(outputs) if output_names is None else list(output_names)
    if len(names) != len(outputs):
        raise ToolError("the names of the outputs do not fit", why=f"{len(names)} names for {len(outputs)} tensors")
    return reader.builder.finish(list(zip(names, outputs, strict=True)))


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; afterwards every part of it is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _export(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, (example,))
    except Exception as error:  # the exporter raises many kinds; each says that the module cannot be traced
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ToolError(
            "the network cannot be captured",
            where=type(module).__name__,
            why=reason[:300],
            hint="forward() must take this one tensor and must not branch on values",
        ) from error


class _Reader:
    """Reads the nodes of an exported program in order into a builder."""

    def __init__(self, program: torch.export.ExportedProgram, builder: LayoutBuilder) -> None:
        self.builder = builder
        self._values: dict[fx.Node, Result] = {}
        signature = program.graph_signature
        targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        targets.update(signature.inputs_to_lifted_tensor_constants)
        stored = {**program.state_dict, **program.constants}
        self._constants = {place: (target, stored[target]) for place, target in targets.items()}

    def read(self, node: fx.Node) -> list[Value] | None:
        """Take one node in; the program's last one gives the outputs."""
        if node.op == "placeholder":
            self._values[node] = self._placeholder(node)
        elif node.op == "output":
            return [self._output(argument) for argument in node.args[0]]
        elif node.target is operator.getitem:
            self._values[node] = self._values[node.args[0]][node.args[1]]
        elif node.users or _packet(node).endswith("_"):
            self._values[node] = self._call(node)
        return None

    def _placeholder(self, node: fx.Node) -> Value:
        if node.name in self._constants:
            name, data = self._constants[node.name]
            return self.builder.constant(name, _array(data))
        return self.builder.input(node.name, tuple(node.meta["val"].shape))

    def _output(self, argument: Any) -> Value:
        value = self._values.get(argument) if isinstance(argument, fx.Node) else None
        if not isinstance(value, Value):
            raise ToolError("the network gives back something other than tensors", why=f"output {argument}")
        return value

    def _call(self, node: fx.Node) -> Result:
        operands = fx.map_arg((node.args, node.kwargs), lambda n: self._values[n])
        if not any(isinstance(v, Value) and v.data is None for v in _leaves(operands)):
            return self._compute(node)
        packet = _packet(node)
        rule = RULES.get(packet.removesuffix("_"))
        if rule is None:
            raise self._unsupported(node, packet)
        result = rule(self.builder, self._describe(node, operands))
        if packet.endswith("_"):
            self._rebind(node, result)
        return result

    def _describe(self, node: fx.Node, operands: Any) -> Call:
        """Arguments by name, with the schema's defaults, and the names that the node goes by."""
        arguments = {}
        for position, argument in enumerate(node.target._schema.arguments):
            default = argument.default_value if argument.has_default_value() else None
            given = operands[0][position] if position < len(operands[0]) else default
            arguments[argument.name] = operands[1].get(argument.name, given)
        path, kind = _module_of(node)
        packet = _packet(node).removesuffix("_")
        leaf = path and kind.startswith("torch.nn.modules.") and ".container." not in kind
        name = path if leaf else f"{path}.{packet}" if path else packet
        return Call(name, path or name, arguments, _shapes(node.meta.get("val")), _place(node))

    def _compute(self, node: fx.Node) -> Result:
        """Value of an operator on constants."""
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: _tensor(self._values[n]))
        kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        result = node.target(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            return self.builder.constant(node.name, _array(result))
        return [self.builder.constant(f"{node.name}_{i}", _array(r)) for i, r in enumerate(result)]

    def _rebind(self, node: fx.Node, result: Result) -> None:
        """An operator in place changes its operand for the readers that come later; views of it would change too."""
        changed = node.all_input_nodes[0]
        related = [changed, *(user for user in changed.users if user is not node)]
        if any(_packet(other) in VIEWS for other in related):
            raise ToolError(
                "an operator changes a view in place",
                where=_place(node),
                hint="use the operator without the trailing underscore",
            )
        self._values[changed] = result

    def _unsupported(self, node: fx.Node, packet: str) -> ToolError:
        near = did_you_mean(packet, RULES)
        return ToolError(
            f"the operator aten.{packet} cannot be captured",
            where=_place(node),
            why="the graph has no such operator",
            hint=near if near.startswith("did") else "use another layer, or keep this one outside the network",
        )


def _packet(node: fx.Node) -> str:
    """aten operator without its overload: `aten.add_.Tensor` → `add_`."""
    return str(node.target).split(".")[1] if node.op == "call_function" and "." in str(node.target) else ""


def _leaves(operands: Any) -> Iterator[Any]:
    if isinstance(operands, dict):
        operands = tuple(operands.values())
    if isinstance(operands, (tuple, list)):
        for operand in operands:
            yield from _leaves(operand)
    else:
        yield operands


def _array(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _tensor(value: Result) -> Any:
    if isinstance(value, Value):
        return torch.from_numpy(value.data)
    return [None if v is None else torch.from_numpy(v.data) for v in value]


def _shapes(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_shapes(v) for v in value]
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _module_of(node: fx.Node) -> tuple[str, str]:
    """Path and class of the innermost module that the node came from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def _place(node: fx.Node) -> str:
    """Module path, and the last line of the user's own source that led to the node."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f"{file}:{line}" for file, line in frames if "/torch/" not in file.replace("\\", "/")]
    return ", ".join(part for part in (_module_of(node)[0], own[-1] if own else "") if part) or node.name


def capture_model(model: Model) -> Graph:
    """Graph of a trained model as captured, batch norms and all, with what it is for in its meta."""
    height, width = model.preprocess.size
    example = torch.zeros(1, model.preprocess.channels, height, width)
    graph = capture(model.module.eval(), example, output_names=model.head.names, name=model.recipe.name)
    graph.rename(graph.inputs[0], "images")
    meta.set_preprocess(graph, model.preprocess)
    meta.set_head(graph, model.head, model.labels, model.category_ids)
    return graph
