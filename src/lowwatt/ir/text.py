"""The readable form of a Graph: one line per input, constant and node. Weights are not part of it.

    lowwatt-graph 1 tiny
    input image: 1x4x4x1 int8 fix 0
    const stem.weight: 2x3x3x1 int8 fix 6
    stem = conv2d(image, stem.weight, pad=[1, 1, 1, 1]): 1x4x4x2 int8 fix 3  # backbone.stem
    output stem
    meta labels = ["cat"]

A name that is not a plain word stands in double quotes, as JSON writes it. Values of attributes are JSON, where
a list stands for a tuple; an attribute at its operator's default is left out. A quantized tensor says `fix N`
(scale 2**-N), `scale S zero Z` or `scale S;S;S axis A`, and `bits N`, `round R`, `narrow` or `unsigned` where these
differ from what is usual.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any, get_args

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops import spec
from lowwatt.types import QuantParams, Rounding, Shape

FORMAT = 1
"""Version of the text and file form; a reader refuses newer ones."""

_PLAIN = re.compile(r"\w[\w./-]*")
_WORD = re.compile(r"[^\s(),=:]+")
_SHAPE = re.compile(r"scalar|\d+(?:x\d+)*")
_DTYPE = re.compile(r"(bool|float|u?int)(\d*)")


def to_text(graph: Graph) -> str:
    """Text of a graph; `from_text` gives an equal graph back, but for the constants' values.

    >>> g = Graph("tiny")
    >>> _ = g.add_input("image", (1, 4, 4, 1), QuantParams.power_of_two(0))
    >>> print(to_text(g), end="")
    lowwatt-graph 1 tiny
    input image: 1x4x4x1 int8 fix 0
    """
    produced = {node.name for node in graph.nodes} | set(graph.inputs)
    lines = [f"lowwatt-graph {FORMAT} {_name(graph.name)}"]
    lines += [f"input {_declare(graph.tensor(name))}" for name in graph.inputs]
    lines += [f"const {_declare(tensor)}" for name, tensor in graph.tensors.items() if name not in produced]
    lines += [_node_line(node, graph.tensor(node.name)) for node in graph.nodes]
    lines += [f"output {_name(name)}" for name in graph.outputs]
    lines += [f"meta {_name(key)} = {_json(graph.meta[key])}" for key in sorted(graph.meta)]
    return "\n".join(lines) + "\n"


def from_text(text: str) -> Graph:
    """Graph of a text; its constants have a shape but no data. ToolError names the line that is wrong."""
    lines = text.splitlines()
    graph = Graph(_header(lines[0] if lines else ""))
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            _read_line(graph, _Scanner(line))
        except (ValueError, RecursionError) as error:
            raise ToolError("cannot read the graph's text", where=f"line {number}", why=str(error)) from None
    return graph


# -- writing ------------------------------------------------------------------------------------------


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def _declare(tensor: Tensor) -> str:
    return f"{_name(tensor.name)}: {_type(tensor)}"


def _type(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    quant = "" if tensor.quant is None else " " + _quant(tensor.quant, tensor.dtype)
    return f"{shape} {tensor.dtype}{quant}"


def _quant(quant: QuantParams, dtype: str) -> str:
    if quant.is_fixed_point:
        words = f"fix {quant.fix_point}"
    elif isinstance(quant.scale, tuple):
        words = f"scale {';'.join(map(repr, quant.scale))} axis {quant.axis}"
        words += f" zeros {';'.join(map(str, quant.zero_points))}" if quant.zero_points else ""
    else:
        words = f"scale {quant.scale!r} zero {quant.zero_point}"
    bits, signed = _default_format(dtype)
    words += "" if quant.bits == bits else f" bits {quant.bits}"
    words += "" if quant.rounding == "DPU_ROUND" else f" round {quant.rounding}"
    words += " narrow" if quant.narrow else ""
    return words + ("" if quant.signed == signed else " signed" if quant.signed else " unsigned")


def _default_format(dtype: str) -> tuple[int, bool]:
    kind, width = _split_dtype(dtype)
    return (int(width or 8), kind != "uint") if kind in ("int", "uint") else (8, True)


def _split_dtype(dtype: str) -> tuple[str, str]:
    match = _DTYPE.fullmatch(dtype)
    if match is None:
        raise ValueError(f"{dtype} is no type of number")
    return match[1], match[2]


def _node_line(node: Node, tensor: Tensor) -> str:
    arguments = [_name(name) for name in node.inputs]
    defaults = spec(node.op).attrs
    given = {k: v for k, v in node.attrs.items() if k not in defaults or _tuples(v) != defaults[k]}
    arguments += [f"{key}={_json(value)}" for key, value in given.items()]
    origin = "" if node.origin == node.name else f"  # {json.dumps(node.origin)[1:-1]}"
    return f"{_name(node.name)} = {node.op}({', '.join(arguments)}): {_type(tensor)}{origin}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """JSON stand-in for bytes and for NumPy's scalars and arrays."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ToolError("the graph cannot be written as text", why=f"it holds a {type(value).__name__}")


# -- reading ------------------------------------------------------------------------------------------


def _header(line: str) -> str:
    words = line.split(maxsplit=2)
    if len(words) < 2 or words[0] != "lowwatt-graph" or not re.fullmatch(r"[0-9]{1,9}", words[1]):
        raise ToolError("this is no graph of ours", why="the first line is not `lowwatt-graph VERSION NAME`")
    if int(words[1]) > FORMAT:
        raise ToolError(
            "the graph was written by a newer version",
            why=f"format {words[1]}, this version reads up to {FORMAT}",
            hint="update lowwatt",
        )
    try:
        return _Scanner(words[2]).name() if len(words) > 2 else ""
    except ValueError as error:
        raise ToolError("cannot read the graph's text", where="line 1", why=str(error)) from None


class _Scanner:
    """Reads one line from left to right; ValueError says what was expected."""

    def __init__(self, line: str) -> None:
        self.line, self.at = line, 0

    def skip(self) -> None:
        while self.at < len(self.line) and self.line[self.at] == " ":
            self.at += 1

    def accept(self, mark: str) -> bool:
        self.skip()
        found = self.line.startswith(mark, self.at)
        self.at += len(mark) if found else 0
        return found

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise ValueError(f"expected {mark!r} in column {self.at + 1}")

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        self.skip()
        found = pattern.match(self.line, self.at)
        if found is None:
            raise ValueError(f"expected {what} in column {self.at + 1}")
        self.at = found.end()
        return found[0]

    def name(self) -> str:
        self.skip()
        if self.line.startswith('"', self.at):
            return str(self.json())
        return self.match(_WORD, "a name")

    def json(self) -> Any:
        self.skip()
        value, self.at = json.JSONDecoder().raw_decode(self.line, self.at)
        return value

    def words(self) -> list[str]:
        """The rest, up to a comment, as words."""
        head = self.line[self.at :].partition("  # ")[0]
        self.at += len(head)
        return head.split()


def _read_line(graph: Graph, line: _Scanner) -> None:
    first = line.name()
    if line.accept("="):
        _read_node(graph, line, first)
    elif first in ("input", "const"):
        name = line.name()
        line.expect(":")
        _declared(graph, _read_type(name, line))
        graph.inputs += [name] if first == "input" else []
    elif first == "output":
        graph.outputs.append(line.name())
    elif first == "meta":
        key = line.name()
        line.expect("=")
        graph.meta[key] = line.json()
    else:
        raise ValueError(f"{first} is neither input, const, output, meta nor a node")


def _declared(graph: Graph, tensor: Tensor) -> None:
    if tensor.name in graph.tensors:
        raise ValueError(f"two tensors are called {tensor.name}")
    graph.tensors[tensor.name] = tensor


def _read_node(graph: Graph, line: _Scanner, name: str) -> None:
    node = Node(name, line.match(_WORD, "an operator"), [], {}, name)
    line.expect("(")
    while not line.accept(")"):
        word = line.name()
        if line.accept("="):
            node.attrs[word] = _tuples(line.json())
        else:
            node.inputs.append(word)
        if not line.accept(","):
            line.expect(")")
            break
    node.attrs = spec(node.op).complete(node.attrs, where=name)
    line.expect(":")
    _declared(graph, _read_type(name, line))
    if line.accept("# "):
        node.origin = str(json.loads(f'"{line.line[line.at :]}"'))
    graph.nodes.append(node)


def _read_type(name: str, line: _Scanner) -> Tensor:
    shape = _shape(line.match(_SHAPE, "a shape"))
    dtype, *words = line.words() or ["missing"]
    _split_dtype(dtype)
    quant = _read_quant(words, dtype)
    if quant is not None and quant.axis is not None and len(quant.step(len(shape)).ravel()) != shape[quant.axis]:
        raise ValueError(f"{len(quant.step(len(shape)).ravel())} scales along axis {quant.axis} of {shape}")
    return Tensor(name, shape, dtype, quant)


def _shape(text: str) -> Shape:
    return () if text == "scalar" else tuple(int(size) for size in text.split("x"))


def _read_quant(words: list[str], dtype: str) -> QuantParams | None:
    if not words:
        return None
    bits, signed = _default_format(dtype)
    if words[-1] in ("signed", "unsigned"):
        signed = words.pop() == "signed"
    narrow = words[-1] == "narrow"
    given = dict(zip((words := words[:-1] if narrow else words)[::2], words[1::2], strict=True))
    bits = int(given.pop("bits", bits))
    if not 1 <= bits <= 64:
        raise ValueError(f"{bits} bits")
    rounding: Any = given.pop("round", "DPU_ROUND")
    if rounding not in get_args(Rounding):
        raise ValueError(f"rounding {rounding}")
    if set(given) == {"fix"}:
        fix_point = int(given["fix"])
        if abs(fix_point) > 1000:
            raise ValueError(f"fix point {fix_point}")
        return QuantParams.power_of_two(fix_point, bits, signed)
    if set(given) == {"scale", "zero"}:
        return QuantParams(_scale(given["scale"]), int(given["zero"]), bits, signed, None, narrow, rounding)
    if set(given) - {"zeros"} == {"scale", "axis"}:
        scales = tuple(_scale(text) for text in given["scale"].split(";"))
        zeros = tuple(map(int, given["zeros"].split(";"))) if "zeros" in given else ()
        if zeros and len(zeros) != len(scales):
            raise ValueError(f"{len(scales)} scales and {len(zeros)} zero points")
        return QuantParams(scales, 0, bits, signed, int(given["axis"]), narrow, rounding, zeros)
    raise ValueError(f"expected `fix N`, `scale S zero Z` or `scale S;S axis A`, found {' '.join(words)}")


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(f"scale {text}")
    return value


def _tuples(value: Any) -> Any:
    """Attributes hold tuples where JSON has lists, and bytes where it has their stand-in."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        return {key: _tuples(v) for key, v in value.items()}
    return value
