"""One node of a graph as the core's kernels see it, and how accumulators end: rounding, activation, bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowwatt.ir import arithmetic
from lowwatt.ir.graph import Node, Tensor
from lowwatt.ir.ops.activation import LEAKY_SLOPE, hard_input_fix_point
from lowwatt.types import Array, QuantParams

Kernel = Callable[[Sequence[Array]], Array]

_MAX_SHIFT = 30
"""Greatest shift of the core's 32-bit rounding (csrc/epilogue.hpp)."""


@dataclass(frozen=True, slots=True)
class Site:
    """One node with what its builder needs."""

    core: Any
    node: Node
    operands: list[Tensor]
    output: Tensor
    isa: str

    @property
    def out(self) -> QuantParams:
        """Quantization of the output."""
        assert self.output.quant is not None  # build_kernel lets only int8 tensors pass
        return self.output.quant

    def fix_point(self, index: int) -> int:
        """Fix point of an operand."""
        quant = self.operands[index].quant
        if quant is None:
            raise NoKernel
        return quant.fix_point

    def constant(self, index: int) -> Array:
        """Integers of a constant operand."""
        data = self.operands[index].data
        if data is None:
            raise NoKernel
        return data


class NoKernel(Exception):
    """The core cannot do this node exactly."""


def is_int8(tensor: Tensor) -> bool:
    """True for 8 bits, signed, with a fix point: what the core's kernels take."""
    quant = tensor.quant
    return quant is not None and quant.bits == 8 and quant.signed and quant.is_fixed_point


# -- the end of an accumulating operator ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class End:
    """Rounding and activation; `table`, where there is one, follows the rounding to 8 bits."""

    epilogue: Any
    table: NDArray[np.int8] | None = None

    def then(self, core: Any, kernel: Kernel) -> Kernel:
        """`kernel`, followed by the table."""
        if self.table is None:
            return kernel
        table = self.table
        return lambda maps: core.lookup(kernel(maps), table)


def make_end(site: Site, digits: int) -> End:
    """Epilogue for t = a / 2**digits in output steps (`lowwatt.ir.ops.activation.finish` is the rule)."""
    name, fo = site.node.attrs.get("activation", "none"), site.out.fix_point
    if name in ("hard_sigmoid", "hard_swish"):
        return _curved_end(site, name, digits)
    if digits > _MAX_SHIFT:
        raise NoKernel
    if name == "none":
        return End(site.core.Epilogue(digits))
    if name == "relu":
        return End(site.core.Epilogue(digits, 0))
    if name == "relu6" and fo >= 4:
        return End(site.core.Epilogue(digits, 0, min(127, 6 << fo)))
    if name == "leaky_relu" and site.node.attrs["alpha"] == LEAKY_SLOPE and digits >= 1:
        return End(site.core.Epilogue(digits, leaky=True))
    raise NoKernel


def _curved_end(site: Site, name: str, digits: int) -> End:
    """Round to 8 bits at `hsigmoid_in`, then the table of the curve (docs/dpu.md 3.7)."""
    fo, fi = site.out.fix_point, hard_input_fix_point(site.node, site.out)
    rule = arithmetic.hard_sigmoid if name == "hard_sigmoid" else arithmetic.hard_swish
    if digits + fo - fi > _MAX_SHIFT or (name == "hard_sigmoid" and fo < arithmetic.HARD_SIGMOID_FIX_POINT):
        raise NoKernel
    return End(site.core.Epilogue(digits + fo - fi), rule(every_int8(), fi, site.out).astype(np.int8))


def every_int8() -> NDArray[np.int64]:
    """-128 … 127: the values a table stands for."""
    return np.arange(-128, 128, dtype=np.int64)


def doubled_bias(site: Site, channels: int) -> NDArray[np.int32]:
    """floor(2 * b * 2**shift_bias): the bias in half accumulator steps (docs/dpu.md 3.2)."""
    if len(site.operands) == 2:
        return np.zeros(channels, np.int32)
    digits = arithmetic.shift_bias(site.fix_point(0), site.fix_point(1), site.fix_point(2))
    bias = np.floor(arithmetic.shift(site.constant(2), digits + 1))
    if np.abs(bias).max(initial=0) >= 1 << 30:
        raise NoKernel
    return bias.astype(np.int32)


def move_table(site: Site, index: int) -> NDArray[np.int8] | None:
    """Table of R(q * 2**(fo - fi)); None where the fix points are equal."""
    fi = site.fix_point(index)
    if fi == site.out.fix_point:
        return None
    return arithmetic.move(every_int8(), fi, site.out).astype(np.int8)
