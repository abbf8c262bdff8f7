"""Activations: operators of their own, and the `activation` attribute fused into others."""

from __future__ import annotations

from typing import Any

from lowwatt.ir.graph import Node
from lowwatt.ir.ops.checks import fail, same_shape
from lowwatt.ir.opspec import REQUIRED, OpSpec, TorchRule

LEAKY_SLOPE = 26 / 256
"""The DPU's one slope of leaky relu; a trained slope is ignored by it (facts/xmodel.md 3.2)."""

ACTIVATIONS = ("none", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish")

ACTIVATION_ATTRS: dict[str, Any] = {"activation": "none", "alpha": LEAKY_SLOPE, "hsigmoid_in": None}
"""Attributes of an operator that may carry an activation.

`hsigmoid_in` is the fix point of the 8-bit value that hard_sigmoid and hard_swish see (XIR's name for it);
None lets the integer rule choose.
"""


def check_activation(node: Node) -> None:
    """ToolError where `activation` is none of `ACTIVATIONS`."""
    if node.attrs["activation"] not in ACTIVATIONS:
        raise fail(
            node, f"unknown activation {node.attrs['activation']!r}", hint=f"known: {', '.join(ACTIVATIONS)}"
        )


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


def _torch_clip(torch: Any, node: Node, operands: Any) -> Any:
    return torch.clamp(operands[0], node.attrs["min"], node.attrs["max"])


SPECS = [
    OpSpec("relu", same_shape, torch=_named("relu")),
    OpSpec("relu6", same_shape, torch=_named("relu6")),
    OpSpec("leaky_relu", same_shape, {"alpha": REQUIRED}, torch=_named("leaky_relu")),
    OpSpec("hard_sigmoid", same_shape, torch=_named("hard_sigmoid")),
    OpSpec("hard_swish", same_shape, torch=_named("hard_swish")),
    OpSpec("clip", same_shape, {"min": REQUIRED, "max": REQUIRED}, torch=_torch_clip),
    *(OpSpec(n, same_shape, torch=_pointwise(n)) for n in ("sigmoid", "silu", "tanh", "exp", "sqrt", "neg")),
]
