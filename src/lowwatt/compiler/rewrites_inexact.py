"""Rewrites that put a like function in a node's place: the network needs fine-tuning after them."""

from __future__ import annotations

from lowwatt.compiler.limits import DPU_LEAKY_SLOPE
from lowwatt.compiler.place import Place
from lowwatt.compiler.rules import FOLLOWERS, limits_of


def replace_silu(at: Place) -> None:
    """SiLU and hard-swish become hard-swish where the machine has it, else ReLU."""
    has_hard_swish = takes(at, "hard_swish")
    at.require(at.node.op == "silu" or not has_hard_swish, "hard-swish is not what keeps it from the accelerator")
    at.node.become("hard_swish" if has_hard_swish else "relu", at.node.inputs)


def replace_sigmoid(at: Place) -> None:
    """A sigmoid inside the network becomes hard-sigmoid, where the machine has it."""
    at.require(takes(at, "hard_sigmoid"), "the machine has no hard-sigmoid")
    at.require(_inside(at), "it makes an output: end the graph before it, lowwatt decodes raw outputs")
    at.node.become("hard_sigmoid", at.node.inputs)


def change_slope(at: Place) -> None:
    """A leaky ReLU gets the accelerator's slope, 26/256."""
    at.require(at.node.attrs["alpha"] != DPU_LEAKY_SLOPE, "it has that slope")
    if at.node.op != "leaky_relu":
        at.require(at.node.attrs["activation"] == "leaky_relu", "its activation is no leaky ReLU")
    at.node.attrs["alpha"] = DPU_LEAKY_SLOPE


def takes(at: Place, op: str) -> bool:
    """Whether the machine has an operator at all."""
    return all(limit.__name__ != "not_on_machine" for limit in limits_of(op, at.target.isa))


def _inside(at: Place) -> bool:
    """True where something that computes reads the value, perhaps by way of operators that only move it."""
    readers, seen = at.graph.consumers(), [at.node.name]
    for name in seen:
        for reader in readers[name]:
            if reader.op not in (*FOLLOWERS, "transpose"):
                return True
            seen.append(reader.name)
    return False
