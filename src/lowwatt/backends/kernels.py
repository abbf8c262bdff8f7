"""From a node to a kernel of the compiled core; None where the node needs its integer rule.

Each builder reads the numbers of one operator off the graph, by the rules of `lowwatt.ir.arithmetic`, and gives a
function from the node's feature maps (int8, in input order, constants left out) to its output.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lowwatt.backends.site import End, Kernel, NoKernel, Site, doubled_bias, every_int8, is_int8, make_end, move_table
from lowwatt.errors import ToolError
from lowwatt.ir import arithmetic, interpreter
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.ops.layout import slices
from lowwatt.ir.ops.resize import nearest_sources
from lowwatt.types import Array

SLOWER = "NumPy gives the same integers, ten times slower or more"


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


def find_core() -> Any:
    """The compiled module, or None where it was not built, with a warning: NumPy gives the same, but is slow."""
    try:
        return load_core()
    except ToolError:
        warnings.warn(f"the compiled core is not built: {SLOWER}", RuntimeWarning, stacklevel=1)
        return None


def build_kernel(core: Any, graph: Graph, node: Node, isa: str = "auto") -> Kernel | None:
    """Kernel of `node`, or None where the core has none that is exact for it, or is None itself."""
    if core is None:
        return None
    operands = [graph.tensor(name) for name in node.inputs]
    site = Site(core, node, operands, graph.tensor(node.name), isa)
    builder = _BUILDERS.get(node.op)
    maps = [tensor for tensor in operands if not tensor.is_constant]
    if builder is None or not maps or not all(is_int8(tensor) for tensor in (*maps, site.output)):
        return None
    try:
        return builder(site)
    except NoKernel:
        return None


# -- convolutions --------------------------------------------------------------------------------------------


def _window(site: Site) -> dict[str, Any]:
    attrs = site.node.attrs
    return {"stride": tuple(attrs["stride"]), "pad": tuple(attrs["pad"]), "dilation": tuple(attrs["dilation"])}


def _packed(site: Site, make: Callable[..., Any], weights: Array, channels: int, **settings: Any) -> Kernel:
    """Kernel of a convolution with packed weights; the core refuses where 32 bits could overflow."""
    if not is_int8(site.operands[1]):
        raise NoKernel
    digits = arithmetic.shift_cut(site.fix_point(0), site.fix_point(1), site.out.fix_point) + 1
    end, bias = make_end(site, digits), doubled_bias(site, channels)
    try:
        packed = make(np.ascontiguousarray(weights, np.int8), bias, end.epilogue, **settings)
    except ValueError:
        raise NoKernel from None
    return end.then(site.core, lambda maps: packed(maps[0]))


def _convolution(site: Site) -> Kernel:
    weights = site.constant(1)
    size = site.operands[0].shape[1:3]
    settings = {**_window(site), "groups": site.node.attrs["group"], "kernel": site.isa, "size": size}
    return _packed(site, site.core.convolution, weights, len(weights), **settings)


def _depthwise(site: Site) -> Kernel:
    weights = site.constant(1)
    return _packed(site, site.core.depthwise_convolution, weights, weights.shape[0] * weights.shape[3], **_window(site))


def _transposed(site: Site) -> Kernel:
    """Zeros between the inputs, padded by kernel - 1 - pad; the weights are stored flipped."""
    weights = site.constant(1)
    (kh, kw), (top, bottom, left, right) = weights.shape[1:3], site.node.attrs["pad"]
    pad = (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right)
    if min(pad) < 0:
        raise NoKernel
    settings = {"pad": pad, "insert": tuple(site.node.attrs["stride"]), "kernel": site.isa}
    return _packed(site, site.core.convolution, weights, len(weights), **settings)


def _linear(site: Site) -> Kernel:
    """A 1x1 convolution over all leading dimensions."""
    weights = site.constant(1)
    kernel = _packed(site, site.core.convolution, weights[:, None, None], len(weights), kernel=site.isa)

    def run(maps: Sequence[Array]) -> Array:
        x = maps[0]
        return kernel([x.reshape(1, 1, -1, x.shape[-1])]).reshape(*x.shape[:-1], len(weights))

    return run


# -- operators without weights -------------------------------------------------------------------------------


def _elementwise(site: Site) -> None:
    """Only whole feature maps of one shape: no constants, no broadcasting."""
    if any(t.is_constant or t.shape != site.output.shape for t in site.operands):
        raise NoKernel


def _add(site: Site) -> Kernel:
    _elementwise(site)
    points = [site.fix_point(i) for i in range(len(site.operands))]
    drops = [point - min(points) for point in points]
    end = make_end(site, 2 + min(points) - site.out.fix_point)
    return end.then(site.core, lambda maps: site.core.add(list(maps), drops, end.epilogue))


def _mul(site: Site) -> Kernel:
    _elementwise(site)
    if len(site.operands) != 2:
        raise NoKernel
    end = make_end(site, site.fix_point(0) + site.fix_point(1) - site.out.fix_point)
    return end.then(site.core, lambda maps: site.core.multiply(maps[0], maps[1], end.epilogue))


def _pool_window(site: Site) -> tuple[Any, ...]:
    attrs, (_, height, width, _) = site.node.attrs, site.output.shape
    top, _, left, _ = attrs["pad"]
    return (height, width), tuple(attrs["kernel"]), tuple(attrs["stride"]), (top, left)


def _max_pool(site: Site) -> Kernel:
    window, table = _pool_window(site), move_table(site, 0)
    end = End(None, table)
    return end.then(site.core, lambda maps: site.core.max_pool(maps[0], *window))


def _avg_pool(site: Site) -> Kernel:
    attrs = site.node.attrs
    if any(attrs["pad"]) and not attrs["count_include_pad"]:
        raise NoKernel
    factor, digits = arithmetic.dpu_average_factor(tuple(attrs["kernel"]))
    end, window = make_end(site, digits + site.fix_point(0) - site.out.fix_point), _pool_window(site)
    if factor * attrs["kernel"][0] * attrs["kernel"][1] > 1 << 23:
        raise NoKernel
    return lambda maps: site.core.average_pool(maps[0], *window, factor, end.epilogue)


def _concat(site: Site) -> Kernel:
    if any(t.is_constant for t in site.operands):
        raise NoKernel
    tables = [move_table(site, i) for i in range(len(site.operands))]
    axis = site.node.attrs["axis"] % len(site.output.shape)
    return lambda maps: site.core.concat(list(maps), tables, axis)


def _resize(site: Site) -> Kernel:
    """Nearest by whole factors, where the rule copies each pixel the same number of times."""
    if site.node.attrs["mode"] != "nearest":
        raise NoKernel
    factors = []
    for axis in (1, 2):
        size, out = site.operands[0].shape[axis], site.output.shape[axis]
        if out % size or (nearest_sources(site.node, size, out) != np.arange(out) // (out // size)).any():
            raise NoKernel
        factors.append(out // size)
    end = End(None, move_table(site, 0))
    return end.then(site.core, lambda maps: site.core.repeat(maps[0], (factors[0], factors[1])))


def _unary(site: Site) -> Kernel:
    """Any operator of one value, on integers or in float: the reference's answer to all 256 values is its table."""
    operand = interpreter.Operand(every_int8(), site.operands[0].quant)
    try:
        table = interpreter.compute(site.node, [operand], site.out)
    except ToolError:
        raise NoKernel from None
    return lambda maps: site.core.lookup(maps[0], table)


def _rearrange(site: Site) -> Kernel:
    """slice, reshape and transpose: NumPy moves the values, a table their fix point."""
    end = End(None, move_table(site, 0))
    attrs = site.node.attrs
    if site.node.op == "slice":
        taken = slices(site.node, site.operands[0].shape)
        return end.then(site.core, lambda maps: np.ascontiguousarray(maps[0][taken]))
    if site.node.op == "transpose":
        return end.then(site.core, lambda maps: np.ascontiguousarray(maps[0].transpose(attrs["order"])))
    return end.then(site.core, lambda maps: np.ascontiguousarray(maps[0]).reshape(attrs["shape"]))


_BUILDERS: dict[str, Callable[[Site], Kernel]] = {
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
    **dict.fromkeys(("sigmoid", "silu", "tanh", "exp", "sqrt", "neg", "clip"), _unary),
}
