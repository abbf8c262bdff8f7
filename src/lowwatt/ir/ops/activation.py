"""Activations: operators of their own, and the `activation` attribute fused into others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lowwatt.ir.arithmetic import Integers, Reals, hard_sigmoid, hard_swish, requantize, shift
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import fail, same_shape
from lowwatt.ir.opspec import REQUIRED, IntegerRule, IntTensor, OpSpec, RealRule, TorchRule
from lowwatt.types import Array, QuantParams

LEAKY_SLOPE = 26 / 256
"""The DPU's one slope of leaky relu; a trained slope is ignored by it (docs/dpu.md 3.2)."""

ACTIVATIONS = ("none", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish")

ACTIVATION_ATTRS: dict[str, Any] = {"activation": "none", "alpha": LEAKY_SLOPE, "hsigmoid_in": None}
"""Attributes of an operator that may carry an activation.

`hsigmoid_in` is the fix point of the 8-bit value that hard_sigmoid and hard_swish see (XIR's name for it);
None lets the integer rule choose.
"""


def check_activation(node: Node) -> None:
    """ToolError where `activation` is none of `ACTIVATIONS`."""
    if node.attrs["activation"] not in ACTIVATIONS:
        raise fail(node, f"unknown activation {node.attrs['activation']!r}", hint=f"known: {', '.join(ACTIVATIONS)}")


def torch_activation(torch: Any, name: str, x: Any, alpha: float = LEAKY_SLOPE) -> Any:
    """Activation `name` on a torch tensor."""
    functional = torch.nn.functional
    if name == "none":
        return x
    if name == "leaky_relu":
        return functional.leaky_relu(x, alpha)
    table = {
        "relu": functional.relu,
        "relu6": functional.relu6,
        "hard_sigmoid": functional.hardsigmoid,
        "hard_swish": functional.hardswish,
    }
    return table[name](x)


def torch_fused(torch: Any, node: Node, x: Any) -> Any:
    """The `activation` attribute of `node`, on a torch tensor."""
    return torch_activation(torch, node.attrs["activation"], x, node.attrs["alpha"])


def _named(name: str) -> TorchRule:
    def rule(torch: Any, node: Node, operands: Any) -> Any:
        return torch_activation(torch, name, operands[0], node.attrs.get("alpha", LEAKY_SLOPE))

    return rule


def _pointwise(name: str) -> TorchRule:
    def rule(torch: Any, node: Node, operands: Any) -> Any:
        function = torch.nn.functional.silu if name == "silu" else getattr(torch, name)
        return function(operands[0])

    return rule


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) is infinite where the result is 0
        return np.asarray(1 / (1 + np.exp(-x)))


def _hard_sigmoid_real(x: Array) -> Array:
    return np.clip(x / 6 + 0.5, 0, 1)


_CURVES: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_sigmoid": _hard_sigmoid_real,
    "hard_swish": lambda x: x * _hard_sigmoid_real(x),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "neg": np.negative,
}


def real_activation(name: str, x: Array, alpha: float = LEAKY_SLOPE) -> Array:
    """Activation `name` on real values."""
    if name == "none":
        return x
    return np.where(x < 0, alpha * x, x) if name == "leaky_relu" else _CURVES[name](x)


def _real(name: str) -> RealRule:
    return lambda node, operands: real_activation(name, operands[0], node.attrs.get("alpha", LEAKY_SLOPE))


def _real_clip(node: Node, operands: Sequence[Array]) -> Array:
    return np.clip(operands[0], node.attrs["min"], node.attrs["max"])


def finish(node: Node, t: Reals, out: QuantParams) -> Integers:
    """Integer form of the `activation` attribute: on the unrounded `t` (in output steps), then R().

    hard_sigmoid and hard_swish first round `t` to 8 bits (docs/dpu.md 3.7).
    """
    name = node.attrs["activation"]
    if name not in ("hard_sigmoid", "hard_swish"):
        return requantize(_bend(node, name, t, out.fix_point), out)
    fi = hard_input_fix_point(node, out)
    eight = requantize(np.ldexp(t, fi - out.fix_point), QuantParams.power_of_two(fi))
    return (hard_sigmoid if name == "hard_sigmoid" else hard_swish)(eight, fi, out)


def hard_input_fix_point(node: Node, out: QuantParams) -> int:
    """Fix point of the 8-bit value that a fused hard_sigmoid or hard_swish sees: `hsigmoid_in`.

    Where that is None: the output's, but no finer than 5, so that the whole slope from -3 to 3 fits into 8 bits.
    """
    given = node.attrs["hsigmoid_in"]
    return min(out.fix_point, 5) if given is None else int(given)


def _bend(node: Node, name: str, t: Reals, fo: int) -> Reals:
    """none, relu, relu6 or leaky_relu on unrounded output steps (docs/dpu.md 3.2, 3.9)."""
    if name == "none":
        return t
    if name == "leaky_relu":
        if node.attrs["alpha"] != LEAKY_SLOPE:
            raise fail(node, f"slope {node.attrs['alpha']}", f"the DPU knows 26/256 = {LEAKY_SLOPE} alone")
        return np.where(t < 0, t * LEAKY_SLOPE, t)
    positive: Reals = np.maximum(t, 0)
    if name == "relu":
        return positive
    if fo < 4:
        raise fail(
            node,
            f"relu6 at fix point {fo}",
            "below 4 the vendor's two references disagree",
            "quantize the output with fix point 4 or more",
        )
    return np.minimum(positive, math.ldexp(6.0, fo))


def _integer(name: str) -> IntegerRule:
    def rule(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
        x = operands[0]
        t = shift(x.values, out.fix_point - x.quant.fix_point)
        return requantize(_bend(node, name, t, out.fix_point), out)

    return rule


def _hard_sigmoid(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    return hard_sigmoid(operands[0].values, operands[0].quant.fix_point, out)


def _hard_swish(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    return hard_swish(operands[0].values, operands[0].quant.fix_point, out)


def _torch_clip(torch: Any, node: Node, operands: Any) -> Any:
    return torch.clamp(operands[0], node.attrs["min"], node.attrs["max"])


SPECS = [
    *(OpSpec(n, same_shape, integer=_integer(n), real=_real(n), torch=_named(n)) for n in ("relu", "relu6")),
    OpSpec(
        "leaky_relu",
        same_shape,
        {"alpha": REQUIRED},
        integer=_integer("leaky_relu"),
        real=_real("leaky_relu"),
        torch=_named("leaky_relu"),
    ),
    OpSpec(
        "hard_sigmoid",
        same_shape,
        integer=_hard_sigmoid,
        real=_real("hard_sigmoid"),
        torch=_named("hard_sigmoid"),
    ),
    OpSpec("hard_swish", same_shape, integer=_hard_swish, real=_real("hard_swish"), torch=_named("hard_swish")),
    OpSpec("clip", same_shape, {"min": REQUIRED, "max": REQUIRED}, real=_real_clip, torch=_torch_clip),
    *(
        OpSpec(name, same_shape, real=_real(name), torch=_pointwise(name))
        for name in ("sigmoid", "silu", "tanh", "exp", "sqrt", "neg")
    ),
]
