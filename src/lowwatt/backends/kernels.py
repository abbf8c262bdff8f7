"""From a node to a kernel of the compiled core; None where the node needs its integer rule.

Each builder reads the numbers of one operator off the graph, by the rules of `lowwatt.ir.arithmetic`, and gives a
function from the node's feature maps (int8, in input order, constants left out) to its output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.ir import arithmetic
from lowwatt.ir.graph import Graph, Node, Tensor
from lowwatt.ir.ops import spec
from lowwatt.ir.ops.activation import LEAKY_SLOPE
from lowwatt.ir.ops.layout import slices
from lowwatt.ir.ops.resize import nearest_sources
from lowwatt.ir.opspec import IntTensor
from lowwatt.types import Array, QuantParams

Kernel = Callable[[Sequence[Array]], Array]

_MAX_SHIFT = 30
"""Greatest shift of the core's 32-bit rounding (csrc/epilogue.hpp)."""


@dataclass(frozen=True, slots=True)
class _Site:
    """One node with what its builder needs."""

    core: Any
    node: Node
    operands: list[Tensor]
    output: Tensor
    isa: str

    @property
    def out(self) -> QuantParams:
        assert self.output.quant is not None  # build_kernel lets only int8 tensors pass
        return self.output.quant

    def fix_point(self, index: int) -> int:
        quant = self.operands[index].quant
        assert quant is not None
        return quant.fix_point

    def constant(self, index: int) -> Array:
        data = self.operands[index].data
        if data is None:
            raise _NoKernel
        return data


class _NoKernel(Exception):
    """The core cannot do this node exactly."""


def load_core() -> Any:
    """The compiled module; ToolError where it was not built."""
    try:
        from lowwatt import _core
    except ImportError as error:
        raise ToolError(
            "the compiled core is not built",
            why=str(error),
            hint="install lowwatt with pip and a C++17 compiler, or use the reference backend",
        ) from None
    return _core


def build_kernel(core: Any, graph: Graph, node: Node, isa: str = "auto") -> Kernel | None:
    """Kernel of `node`, or None where the core has none that is exact for it."""
    operands = [graph.tensor(name) for name in node.inputs]
    site = _Site(core, node, operands, graph.tensor(node.name), isa)
    builder = _BUILDERS.get(node.op)
    maps = [tensor for tensor in operands if not tensor.is_constant]
    if builder is None or not maps or not all(_is_int8(tensor) for tensor in (*maps, site.output)):
        return None
    try:
        return builder(site)
    except _NoKernel:
        return None


def _is_int8(tensor: Tensor) -> bool:
    quant = tensor.quant
    if quant is None or quant.bits != 8 or not quant.signed or quant.zero_point:
        return False
    return bool(np.frexp(quant.scale)[0] == 0.5)


# -- the end of an accumulating operator ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _End:
    """Rounding and activation; `table`, where there is one, follows the rounding to 8 bits."""

    epilogue: Any
    table: NDArray[np.int8] | None = None

    def then(self, core: Any, kernel: Kernel) -> Kernel:
        if self.table is None:
            return kernel
        table = self.table
        return lambda maps: core.lookup(kernel(maps), table)


def _end(site: _Site, digits: int) -> _End:
    """Epilogue for t = a / 2**digits in output steps (`lowwatt.ir.ops.activation.finish` is the rule)."""
    name, fo = site.node.attrs.get("activation", "none"), site.out.fix_point
    if name in ("hard_sigmoid", "hard_swish"):
        return _curved_end(site, name, digits)
    if digits > _MAX_SHIFT:
        raise _NoKernel
    if name == "none":
        return _End(site.core.Epilogue(digits))
    if name == "relu":
        return _End(site.core.Epilogue(digits, 0))
    if name == "relu6" and fo >= 4:
        return _End(site.core.Epilogue(digits, 0, min(127, 6 << fo)))
    if name == "leaky_relu" and site.node.attrs["alpha"] == LEAKY_SLOPE and digits >= 1:
        return _End(site.core.Epilogue(digits, leaky=True))
    raise _NoKernel


def _curved_end(site: _Site, name: str, digits: int) -> _End:
    """Round to 8 bits at `hsigmoid_in`, then the table of the curve (facts/xmodel.md 3.7)."""
    fo, fi = site.out.fix_point, site.node.attrs["hsigmoid_in"]
    fi = min(fo, 5) if fi is None else fi
    rule = arithmetic.hard_sigmoid if name == "hard_sigmoid" else arithmetic.hard_swish
    if digits + fo - fi > _MAX_SHIFT or (name == "hard_sigmoid" and fo < arithmetic.HARD_SIGMOID_FIX_POINT):
        raise _NoKernel
    return _End(site.core.Epilogue(digits + fo - fi), rule(_every_int8(), fi, site.out).astype(np.int8))


def _every_int8() -> NDArray[np.int64]:
    return np.arange(-128, 128, dtype=np.int64)


def _doubled_bias(site: _Site, channels: int) -> NDArray[np.int32]:
    """floor(2 * b * 2**shift_bias): the bias in half accumulator steps (facts/xmodel.md 3.2)."""
    if len(site.operands) == 2:
        return np.zeros(channels, np.int32)
    digits = arithmetic.shift_bias(site.fix_point(0), site.fix_point(1), site.fix_point(2))
    bias = np.floor(arithmetic.shift(site.constant(2), digits + 1))
    if np.abs(bias).max(initial=0) >= 1 << 30:
        raise _NoKernel
    return bias.astype(np.int32)


# -- convolutions --------------------------------------------------------------------------------------------


def _window(site: _Site) -> dict[str, Any]:
    attrs = site.node.attrs
    return {"stride": tuple(attrs["stride"]), "pad": tuple(attrs["pad"]), "dilation": tuple(attrs["dilation"])}


def _packed(site: _Site, make: Callable[..., Any], weights: Array, channels: int, **settings: Any) -> Kernel:
    """Kernel of a convolution with packed weights; the core refuses where 32 bits could overflow."""
    if not _is_int8(site.operands[1]):
        raise _NoKernel
    digits = arithmetic.shift_cut(site.fix_point(0), site.fix_point(1), site.out.fix_point) + 1
    end, bias = _end(site, digits), _doubled_bias(site, channels)
    try:
        packed = make(np.ascontiguousarray(weights, np.int8), bias, end.epilogue, **settings)
    except ValueError:
        raise _NoKernel from None
    return end.then(site.core, lambda maps: packed(maps[0]))


def _convolution(site: _Site) -> Kernel:
    weights = site.constant(1)
    settings = {**_window(site), "groups": site.node.attrs["group"], "kernel": site.isa}
    return _packed(site, site.core.convolution, weights, len(weights), **settings)


def _depthwise(site: _Site) -> Kernel:
    weights = site.constant(1)
    return _packed(site, site.core.depthwise_convolution, weights, weights.shape[0] * weights.shape[3], **_window(site))


def _transposed(site: _Site) -> Kernel:
    """Zeros between the inputs, padded by kernel - 1 - pad; the weights are stored flipped."""
    weights = site.constant(1)
    (kh, kw), (top, bottom, left, right) = weights.shape[1:3], site.node.attrs["pad"]
    pad = (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right)
    if min(pad) < 0:
        raise _NoKernel
    settings = {"pad": pad, "insert": tuple(site.node.attrs["stride"]), "kernel": site.isa}
    return _packed(site, site.core.convolution, weights, len(weights), **settings)


def _linear(site: _Site) -> Kernel:
    """A 1x1 convolution over all leading dimensions."""
    weights = site.constant(1)
    kernel = _packed(site, site.core.convolution, weights[:, None, None], len(weights), kernel=site.isa)

    def run(maps: Sequence[Array]) -> Array:
        x = maps[0]
        return kernel([x.reshape(1, 1, -1, x.shape[-1])]).reshape(*x.shape[:-1], len(weights))

    return run


# -- operators without weights -------------------------------------------------------------------------------


def _elementwise(site: _Site) -> None:
    """Only whole feature maps of one shape: no constants, no broadcasting."""
    if any(t.is_constant or t.shape != site.output.shape for t in site.operands):
        raise _NoKernel


def _add(site: _Site) -> Kernel:
    _elementwise(site)
    points = [site.fix_point(i) for i in range(len(site.operands))]
    drops = [point - min(points) for point in points]
    end = _end(site, 2 + min(points) - site.out.fix_point)
    return end.then(site.core, lambda maps: site.core.add(list(maps), drops, end.epilogue))


def _mul(site: _Site) -> Kernel:
    _elementwise(site)
    if len(site.operands) != 2:
        raise _NoKernel
    end = _end(site, site.fix_point(0) + site.fix_point(1) - site.out.fix_point)
    return end.then(site.core, lambda maps: site.core.multiply(maps[0], maps[1], end.epilogue))


def _move_table(site: _Site, index: int) -> NDArray[np.int8] | None:
    """Table of R(q * 2**(fo - fi)); None where the fix points are equal."""
    fi = site.fix_point(index)
    if fi == site.out.fix_point:
        return None
    return arithmetic.move(_every_int8(), fi, site.out).astype(np.int8)


def _pool_window(site: _Site) -> tuple[Any, ...]:
    attrs, (_, height, width, _) = site.node.attrs, site.output.shape
    top, _, left, _ = attrs["pad"]
    return (height, width), tuple(attrs["kernel"]), tuple(attrs["stride"]), (top, left)


def _max_pool(site: _Site) -> Kernel:
    window, table = _pool_window(site), _move_table(site, 0)
    end = _End(None, table)
    return end.then(site.core, lambda maps: site.core.max_pool(maps[0], *window))


def _avg_pool(site: _Site) -> Kernel:
    attrs = site.node.attrs
    if any(attrs["pad"]) and not attrs["count_include_pad"]:
        raise _NoKernel
    factor, digits = arithmetic.dpu_average_factor(tuple(attrs["kernel"]))
    end, window = _end(site, digits + site.fix_point(0) - site.out.fix_point), _pool_window(site)
    if factor * attrs["kernel"][0] * attrs["kernel"][1] > 1 << 23:
        raise _NoKernel
    return lambda maps: site.core.average_pool(maps[0], *window, factor, end.epilogue)


def _concat(site: _Site) -> Kernel:
    if any(t.is_constant for t in site.operands):
        raise _NoKernel
    tables = [_move_table(site, i) for i in range(len(site.operands))]
    axis = site.node.attrs["axis"] % len(site.output.shape)
    return lambda maps: site.core.concat(list(maps), tables, axis)


def _resize(site: _Site) -> Kernel:
    """Nearest by whole factors, where the rule copies each pixel the same number of times."""
    if site.node.attrs["mode"] != "nearest":
        raise _NoKernel
    factors = []
    for axis in (1, 2):
        size, out = site.operands[0].shape[axis], site.output.shape[axis]
        if out % size or (nearest_sources(site.node, size, out) != np.arange(out) // (out // size)).any():
            raise _NoKernel
        factors.append(out // size)
    end = _End(None, _move_table(site, 0))
    return end.then(site.core, lambda maps: site.core.repeat(maps[0], (factors[0], factors[1])))


def _unary(site: _Site) -> Kernel:
    """Any operator of one value: its integer rule on all 256 values makes the table."""
    rule, quant = spec(site.node.op).integer, site.operands[0].quant
    assert rule is not None and quant is not None
    try:
        table = rule(site.node, [IntTensor(_every_int8(), quant)], site.out).astype(np.int8)
    except ToolError:
        raise _NoKernel from None
    return lambda maps: site.core.lookup(maps[0], table)


def _rearrange(site: _Site) -> Kernel:
    """slice, reshape and transpose: NumPy moves the values, a table their fix point."""
    end = _End(None, _move_table(site, 0))
    attrs = site.node.attrs
    if site.node.op == "slice":
        taken = slices(site.node, site.operands[0].shape)
        return end.then(site.core, lambda maps: np.ascontiguousarray(maps[0][taken]))
    if site.node.op == "transpose":
        return end.then(site.core, lambda maps: np.ascontiguousarray(maps[0].transpose(attrs["order"])))
    return end.then(site.core, lambda maps: np.ascontiguousarray(maps[0]).reshape(attrs["shape"]))


_BUILDERS: dict[str, Callable[[_Site], Kernel]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _depthwise,
    "transposed_conv2d": _transposed,
    "linear": _linear,
    "add": _add,
    "mul": _mul,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "concat": _concat,
    "resize": _resize,
    **dict.fromkeys(("slice", "reshape", "transpose"), _rearrange),
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish", "fix", "identity"), _unary),
}
