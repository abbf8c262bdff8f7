"""Order of layers: a layer comes as late as can be after the layers that it reads, so that their maps are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lowwatt.compiler.lowering.layer import Layer


def spread(layers: Sequence[Layer], writers: Callable[[str], set[str]]) -> list[Layer]:
    """The layers in another order of execution: of those that can come next, always the one whose inputs are oldest.

    `writers` gives the names of the layers that write a tensor. Branches of a network (the towers of a head) then take
    turns, and one is worked on while the other's map goes to DRAM and back.
    """
    needs = {layer.name: set().union(*(writers(name) for name in reads(layer))) for layer in layers}
    left, done = list(layers), dict[str, int]()
    order: list[Layer] = []
    while left:
        ready = [layer for layer in left if needs[layer.name] <= done.keys()]
        chosen = min(ready, key=lambda layer: max((done[name] for name in needs[layer.name]), default=-1))
        done[chosen.name] = len(order)
        order.append(chosen)
        left.remove(chosen)
    return order


def reads(layer: Layer) -> tuple[str, ...]:
    """Tensors that a layer reads."""
    return (layer.input, *(layer.misc.operands if layer.misc is not None else ()))
