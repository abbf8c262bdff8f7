"""How layers with weights are said in TFLite: their layout, their activation, int8 weights, int32 biases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lowwatt.ir.arithmetic import Reals
from lowwatt.ir.graph import Node
from lowwatt.ir.interpreter import on_integers
from lowwatt.ir.ops.activation import hard_input_fix_point
from lowwatt.ir.tflite_emit import TfliteEmitter
from lowwatt.ir.tflite_window import SAME, VALID, Window, padded
from lowwatt.types import Array, QuantParams

Make = Callable[[int, QuantParams | None, str], int]
"""Adds an operator with a fused activation (number in ActivationFunctionType), an output format and a name."""

FUSED = {"none": 0, "relu": 1, "relu6": 3}
"""Activations that operators contain: numbers in the schema's ActivationFunctionType."""

_LARGEST = (1 << 31) - 1

_NUDGE = 2.0**-20
"""Share that is added to a scale of the DPU's so that halves go up, as there; below zero they would go down, but a ReLU
leaves nothing there. A sum could cross a half that it lies nearer to than 2**-13 of a step; sums are coarser.
"""


# -- activations ------------------------------------------------------------------------------------------------


def activated(e: TfliteEmitter, node: Node, make: Make, quant: QuantParams | None) -> int:
    """An operator with the node's activation, fused where TFLite can; else an operator behind it."""
    name = node.attrs.get("activation", "none")
    if name in FUSED:
        return make(FUSED[name], quant, node.name)
    between = None if quant is None else _unbent(e, node, quant)
    value = make(0, between, f"{node.name}.sum")
    return curve(e, node, name, value, quant)


def _unbent(e: TfliteEmitter, node: Node, quant: QuantParams) -> QuantParams:
    """Format of the value in front of an activation that is not fused.

    The DPU rounds to 8 bits in front of its hard curves, which are flat below -3. A slope below one brings values
    nearer to zero, so that the plain value may go further down; it is given as much room there as above.
    """
    name, out = node.attrs["activation"], e.graph.tensor(node.name).quant
    if name != "leaky_relu" and out is not None and out.is_fixed_point:
        return QuantParams.power_of_two(hard_input_fix_point(node, out))
    assert isinstance(quant.scale, float)
    e.note("activations that are operators of their own, and round once more", node)
    greatest = quant.scale * (127 - min(quant.zero_point, 0))
    if name == "leaky_relu":
        return QuantParams(greatest / 127)
    scale = (3 + (3 if name == "hard_sigmoid" else max(3, greatest))) / 255
    return QuantParams(scale, round(3 / scale) - 128)


def curve(e: TfliteEmitter, node: Node, name: str, value: int, quant: QuantParams | None) -> int:
    """An activation as an operator of its own, in float or between int8 formats."""
    shape = e.shape(node.name)
    if name == "leaky_relu":
        return e.op("LEAKY_RELU", [value], shape, quant, node.name, {"Alpha": float(node.attrs["alpha"])})
    if name == "hard_sigmoid":
        return _hard_sigmoid(e, node, value, quant)
    return e.op({"relu": "RELU", "relu6": "RELU6", "hard_swish": "HARD_SWISH"}[name], [value], shape, quant, node.name)


def _hard_sigmoid(e: TfliteEmitter, node: Node, value: int, quant: QuantParams | None) -> int:
    """relu6(x + 3) / 6; in int8 the sixth changes the scale alone, and a product of that scale keeps the integers."""
    shape, rank = e.shape(node.name), len(e.shape(node.name))
    three = e.constant(f"{node.name}.three", np.full((1,) * rank, 3.0, np.float32))
    sixth = e.constant(f"{node.name}.sixth", np.full((1,) * rank, 1 / 6, np.float32))
    between = None
    if quant is not None:
        assert isinstance(quant.scale, float)
        three, sixth = e.convert(three, QuantParams(3 / 127)), e.convert(sixth, QuantParams(1 / 6 / 127))
        between = QuantParams(6 * quant.scale, quant.zero_point)
    line = e.op("ADD", [value, three], shape, between, f"{node.name}.line", {"FusedActivationFunction": FUSED["relu6"]})
    return e.op("MUL", [line, sixth], shape, quant, node.name)


# -- layers with weights ----------------------------------------------------------------------------------------


def layer(e: TfliteEmitter, node: Node) -> None:
    """A convolution or linear layer: in int8 where its formats are TFLite's, else in float."""
    integers = _has_integer_form(e, node)
    if not integers and any(e.quant(name) is not None for name in (node.inputs[0], node.name)):
        e.note("layers that read or make integers, and run in float", node)
    quant = e.quant(node.name) if integers else None
    source = e.get(node.inputs[0]) if integers else e.real(node.inputs[0])
    weights = _weights(e, node, integers)
    operands = [source, weights, _bias(e, node, source, weights)]
    e.finish(node, activated(e, node, lambda fused, q, name: _KINDS[node.op](e, node, operands, fused, q, name), quant))


def _has_integer_form(e: TfliteEmitter, node: Node) -> bool:
    """int8 in and out, constant weights of at most 8 bits without a zero point."""
    weights = e.graph.tensor(node.inputs[1])
    plain = weights.quant is not None and weights.quant.signed and not weights.quant.zero_point
    plain = plain and weights.quant is not None and not any(weights.quant.zero_points) and weights.quant.bits <= 8
    return plain and weights.is_constant and e.quant(node.inputs[0]) is not None and e.quant(node.name) is not None


def _weights(e: TfliteEmitter, node: Node, integers: bool) -> int:
    tensor = e.graph.tensor(node.inputs[1])
    if tensor.data is None:
        if node.op != "linear":
            raise e.refuse(node, "its weights are computed", "TFLite's convolutions take constant weights")
        return e.real(node.inputs[1])
    if not integers:
        real = tensor.data if tensor.quant is None else tensor.quant.dequantize(tensor.data)
        return e.constant(f"{node.name}.weights", _laid(node, real).astype(np.float32))
    assert tensor.quant is not None
    return e.constant(f"{node.name}.weights", _laid(node, tensor.data), _weight_format(e, node, tensor.quant))


def _laid(node: Node, weights: Array) -> Array:
    """Weights in TFLite's layout: OHWI, not flipped for transposed convolutions; [1, kh, kw, C * mult]; [out, in]."""
    if node.op == "depthwise_conv2d":
        mult, height, width, channels = weights.shape
        return weights.transpose(1, 2, 3, 0).reshape(1, height, width, channels * mult)
    return weights[:, ::-1, ::-1] if node.op == "transposed_conv2d" else weights


def _weight_format(e: TfliteEmitter, node: Node, quant: QuantParams) -> QuantParams:
    """The graph's scale a channel, along the file's axis of output channels."""
    if isinstance(quant.scale, tuple):
        scales = tuple(_repeated(quant, e.shape(node.name)[-1]).tolist())
        return QuantParams(scales, axis=3 if node.op == "depthwise_conv2d" else 0)
    rectified = node.attrs["activation"] in ("relu", "relu6")
    return QuantParams(quant.scale * (1 + _NUDGE) if rectified and on_integers(e.graph, node) else quant.scale)


def _bias(e: TfliteEmitter, node: Node, source: int, weights: int) -> int:
    """int32 in steps of the accumulator, or float32; zeros where the graph has none."""
    real, laid, read = _real_bias(e, node), e.tensors[weights].quant, e.tensors[source].quant
    own = e.graph.tensor(node.inputs[1]).quant
    if laid is None or read is None or own is None:
        return e.constant(f"{node.name}.bias", real.astype(np.float32))
    steps = np.rint(real / (_repeated(own, len(real)) * read.scale))
    given = e.graph.tensor(node.inputs[2]).quant if len(node.inputs) == 3 else None
    if given is not None and given.bits < 32 and np.any(steps * _repeated(own, len(real)) * read.scale != real):
        e.note("integer biases that are finer than the accumulator's steps, and rounded", node)
    if np.abs(steps).max(initial=0) > _LARGEST:
        e.note("biases that are beyond int32, and saturate", node)
    scale = tuple((_repeated(laid, len(real)) * read.scale).tolist())
    quant = QuantParams(scale, bits=32, axis=0) if laid.axis is not None else QuantParams(scale[0], bits=32)
    return e.constant(f"{node.name}.bias", np.clip(steps, -_LARGEST, _LARGEST).astype(np.int64), quant)


def _real_bias(e: TfliteEmitter, node: Node) -> Reals:
    """The bias as real numbers, exactly."""
    if len(node.inputs) < 3:
        return np.zeros(e.shape(node.name)[-1])
    tensor = e.graph.tensor(node.inputs[2])
    if tensor.data is None:
        raise e.refuse(node, "its bias is computed", "add it with an operator of its own")
    if tensor.quant is None:
        return tensor.data.astype(np.float64)
    real: Reals = (tensor.data.astype(np.float64) - tensor.quant.zeros(1)) * tensor.quant.step(1)
    return real


def _repeated(quant: QuantParams, channels: int) -> Reals:
    """Scale of each output channel: a depthwise layer has several for each input channel."""
    scales = np.atleast_1d(np.asarray(quant.scale, np.float64))
    return np.repeat(scales, channels // len(scales))


def _convolution(
    e: TfliteEmitter, node: Node, operands: Sequence[int], fused: int, quant: QuantParams | None, name: str
) -> int:
    source, weights, bias = operands
    (top, _, left, _), stride, dilation = node.attrs["pad"], node.attrs["stride"], node.attrs["dilation"]
    kernel = [(k - 1) * d + 1 for k, d in zip(e.shape(node.inputs[1])[1:3], dilation, strict=True)]
    window = Window(e.shape(node.inputs[0]), e.shape(node.name), (kernel[0], kernel[1]), stride, (top, left))
    source, padding = padded(e, node, source, window)
    fields = {"Padding": padding, "StrideH": stride[0], "StrideW": stride[1], "FusedActivationFunction": fused}
    fields |= {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
    if node.op == "conv2d":
        version = 6 if node.attrs["group"] > 1 else 1
        return e.op("CONV_2D", [source, weights, bias], e.shape(node.name), quant, name, fields, version)
    fields["DepthMultiplier"] = e.shape(node.inputs[1])[0]
    version = 2 if tuple(dilation) != (1, 1) else 1
    return e.op("DEPTHWISE_CONV_2D", [source, weights, bias], e.shape(node.name), quant, name, fields, version)


def _transposed(
    e: TfliteEmitter, node: Node, operands: Sequence[int], fused: int, quant: QuantParams | None, name: str
) -> int:
    """SAME or VALID where that is what the padding takes away; else all of it, cut by SLICE."""
    source, weights, bias = operands
    before, after = e.shape(node.inputs[0]), e.shape(node.name)
    kernel, stride = e.shape(node.inputs[1])[1:3], node.attrs["stride"]
    top, bottom, left, right = node.attrs["pad"]
    window = Window(after, before, (kernel[0], kernel[1]), stride, (top, left))
    cut = not window.is_same and any((top, bottom, left, right))
    whole = (after[0], after[1] + top + bottom, after[2] + left + right, after[3]) if cut else after
    fields = {"Padding": SAME if window.is_same else VALID, "StrideH": stride[0], "StrideW": stride[1]}
    fields["FusedActivationFunction"] = fused
    inputs = [e.ints(f"{name}.shape", whole), weights, source, bias]
    version = 4 if fused else 3
    value = e.op("TRANSPOSE_CONV", inputs, whole, quant, f"{name}.whole" if cut else name, fields, version)
    if not cut:
        return value
    corner, size = e.ints(f"{name}.corner", (0, top, left, 0)), e.ints(f"{name}.size", after)
    return e.op("SLICE", [value, corner, size], after, quant, name)


def _linear(
    e: TfliteEmitter, node: Node, operands: Sequence[int], fused: int, quant: QuantParams | None, name: str
) -> int:
    keep = len(e.shape(node.name)) != 2
    fields = {"FusedActivationFunction": fused, "KeepNumDims": keep}
    return e.op("FULLY_CONNECTED", operands, e.shape(node.name), quant, name, fields, 5 if keep else 1)


_KINDS: dict[str, Callable[[TfliteEmitter, Node, Sequence[int], int, QuantParams | None, str], int]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "transposed_conv2d": _transposed,
    "linear": _linear,
}
