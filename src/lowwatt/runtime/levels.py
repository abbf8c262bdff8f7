"""Raw outputs of a detection head, stride by stride, and the curves that turn logits into numbers.

Curves are computed in double and rounded to float32; for int8 outputs they are tables of 256 numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lowwatt.errors import ToolError
from lowwatt.types import Array, DetectionHead, QuantParams

MAX_LOG_SIZE = 20.0
"""Logarithm of a box's size in cells is cut here, so that no garbage output can overflow float32."""


@dataclass(frozen=True, slots=True)
class Level:
    """Outputs of one stride, each (H, W, C): raw int8 where `quants` is set, else float32 logits."""

    stride: int
    classes: Array
    box: Array
    objectness: Array
    quants: tuple[QuantParams, QuantParams, QuantParams] | None


def levels_of(
    outputs: Mapping[str, Array], quants: Mapping[str, QuantParams | None], head: DetectionHead
) -> list[Level]:
    """The strides in the head's order; ToolError where an output is absent or of another shape than the head says."""
    return [_level(outputs, quants, head, index) for index in range(len(head.strides))]


def _level(
    outputs: Mapping[str, Array], quants: Mapping[str, QuantParams | None], head: DetectionHead, index: int
) -> Level:
    names = head.outputs[index]
    channels = (head.num_classes, 4, 1)
    values = [_output(outputs, name, count) for name, count in zip(names, channels, strict=True)]
    if len({value.shape[:2] for value in values}) != 1:
        raise ToolError("outputs of one stride differ in size", where=", ".join(names))
    found = [quants.get(name) for name in names]
    a, b, c = found
    if a and b and c and all(_is_int8(v, q) for v, q in zip(values, (a, b, c), strict=True)):
        return Level(head.strides[index], values[0], values[1], values[2], (a, b, c))
    logits = [np.asarray(v, np.float32) if q is None else q.dequantize(v) for v, q in zip(values, found, strict=True)]
    return Level(head.strides[index], logits[0], logits[1], logits[2], None)


def _output(outputs: Mapping[str, Array], name: str, channels: int) -> Array:
    if name not in outputs:
        raise ToolError("the network has no such output", where=name, why=f"it has {', '.join(outputs)}")
    value = outputs[name]
    plane = value[0] if value.ndim == 4 and value.shape[0] == 1 else value
    if plane.ndim != 3 or plane.shape[2] != channels:
        raise ToolError(
            "an output's shape does not fit the detection head",
            where=name,
            why=f"it is {value.shape}; (1, height, width, {channels}) is expected",
        )
    return np.ascontiguousarray(plane)


def _is_int8(value: Array, quant: QuantParams) -> bool:
    return value.dtype == np.int8 and has_table(quant)


def has_table(quant: QuantParams | None) -> bool:
    """Whether values of this format are signed bytes."""
    return quant is not None and quant.bits == 8 and quant.signed


Curve = Callable[[Array], NDArray[np.float32]]
"""From logits to what they stand for; rising."""


def real(logits: Array) -> NDArray[np.float32]:
    """The logits themselves."""
    return logits.astype(np.float32)


def sigmoid(logits: Array) -> NDArray[np.float32]:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        return (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def tanh(logits: Array) -> NDArray[np.float32]:
    """Hyperbolic tangent."""
    return np.tanh(logits.astype(np.float64)).astype(np.float32)


def root(logits: Array) -> NDArray[np.float32]:
    """sigmoid(x) ** .6, FastestDet's share of the objectness in a score."""
    return (sigmoid(logits).astype(np.float64) ** 0.6).astype(np.float32)


def size(logs: Array) -> NDArray[np.float32]:
    """exp(x), bounded."""
    return np.exp(np.minimum(logs.astype(np.float64), MAX_LOG_SIZE)).astype(np.float32)


@functools.lru_cache(maxsize=64)
def table(quant: QuantParams, curve: Curve) -> NDArray[np.float32]:
    """float32 value of each int8, from -128 up."""
    values = curve(quant.dequantize(np.arange(-128, 128)))
    values.setflags(write=False)
    return values
