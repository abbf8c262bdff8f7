"""Convolutions and the fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lowwatt.ir.accumulate import convolve, convolve_depthwise, convolve_transposed, multiply
from lowwatt.ir.arithmetic import Integers, Reals, add_bias, shift_bias, shift_cut
from lowwatt.ir.graph import Node
from lowwatt.ir.ops.activation import ACTIVATION_ATTRS, check_activation, finish, real_activation, torch_fused
from lowwatt.ir.ops.checks import Pads, fail, feature_map, pads, pair, windows
from lowwatt.ir.opspec import IntegerRule, IntTensor, OpSpec, RealRule
from lowwatt.types import Array, QuantParams, Shape

_WINDOW = {"stride": (1, 1), "pad": (0, 0, 0, 0)}
_DILATED = {**_WINDOW, "dilation": (1, 1)}


# -- shapes ------------------------------------------------------------


def _weights(node: Node, shapes: Sequence[Shape]) -> Shape:
    if len(shapes[1]) != 4:
        raise fail(node, "the weights must have rank 4", f"they have shape {shapes[1]}")
    return shapes[1]


def _check_bias(node: Node, shapes: Sequence[Shape], channels: int) -> None:
    check_activation(node)
    if len(shapes) == 3 and tuple(shapes[2]) != (channels,):
        raise fail(node, f"the bias must have shape ({channels},)", f"it has shape {shapes[2]}")


def _channels(node: Node, given: int, wanted: int) -> None:
    if given != wanted:
        raise fail(node, "the weights do not fit the input", f"input channels {given}, weights made for {wanted}")


def _window_shape(node: Node, shape: Shape, kernel: Shape, channels: int) -> Shape:
    top, bottom, left, right = pads(node)
    stride, dilation = pair(node, "stride"), pair(node, "dilation")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    height = windows(node, shape[1], reach[0], stride[0], top, bottom)
    width = windows(node, shape[2], reach[1], stride[1], left, right)
    return shape[0], height, width, channels


def _conv_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    x, weights = feature_map(node, shapes[0]), _weights(node, shapes)
    group = node.attrs["group"]
    if not isinstance(group, int) or group < 1 or weights[0] % group:
        raise fail(node, f"group {group} does not divide the {weights[0]} output channels")
    _channels(node, x[3], weights[3] * group)
    _check_bias(node, shapes, weights[0])
    return _window_shape(node, x, weights[1:3], weights[0])


def _depthwise_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    x, weights = feature_map(node, shapes[0]), _weights(node, shapes)
    _channels(node, x[3], weights[3])
    _check_bias(node, shapes, weights[0] * weights[3])
    return _window_shape(node, x, weights[1:3], weights[0] * weights[3])


def _transposed_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    x, weights = feature_map(node, shapes[0]), _weights(node, shapes)
    _channels(node, x[3], weights[3])
    _check_bias(node, shapes, weights[0])
    top, bottom, left, right = pads(node)
    stride = pair(node, "stride")
    height = (x[1] - 1) * stride[0] + weights[1] - top - bottom
    width = (x[2] - 1) * stride[1] + weights[2] - left - right
    if height < 1 or width < 1:
        raise fail(node, "the padding takes the whole map", f"the output would be {height} x {width}")
    return x[0], height, width, weights[0]


def _linear_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    x, weights = shapes[0], shapes[1]
    if len(weights) != 2 or not x:
        raise fail(node, "takes [..., in] and weights [out, in]", f"it was given {x} and {weights}")
    _channels(node, x[-1], weights[1])
    _check_bias(node, shapes, weights[0])
    return (*x[:-1], weights[0])


# -- torch ------------------------------------------------------------


def _nchw(x: Any) -> Any:
    """NHWC → NCHW (and OHWI → OIHW) as a view: torch then sees channels_last memory and copies nothing."""
    return x.permute(0, 3, 1, 2)


def _bias(operands: Sequence[Any]) -> Any:
    return operands[2] if len(operands) == 3 else None


def _padded(torch: Any, x: Any, pad: Pads) -> tuple[Any, tuple[int, int]]:
    """NCHW map and the symmetric padding left for the convolution; uneven padding is put in by hand."""
    top, bottom, left, right = pad
    if top == bottom and left == right:
        return x, (top, left)
    return torch.nn.functional.pad(x, (left, right, top, bottom)), (0, 0)


def _torch_conv(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x, pad = _padded(torch, _nchw(operands[0]), pads(node))
    stride, dilation = pair(node, "stride"), pair(node, "dilation")
    out = torch.nn.functional.conv2d(x, _nchw(operands[1]), _bias(operands), stride, pad, dilation, node.attrs["group"])
    return torch_fused(torch, node, out.permute(0, 2, 3, 1))


def _torch_depthwise(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    x, pad = _padded(torch, _nchw(operands[0]), pads(node))
    mult, height, width, channels = operands[1].shape
    # output channel c * mult + m: torch wants [C * mult, 1, kh, kw] with the same order
    weights = operands[1].permute(3, 0, 1, 2).reshape(channels * mult, 1, height, width)
    stride, dilation = pair(node, "stride"), pair(node, "dilation")
    out = torch.nn.functional.conv2d(x, weights, _bias(operands), stride, pad, dilation, channels)
    return torch_fused(torch, node, out.permute(0, 2, 3, 1))


def _torch_transposed(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    top, bottom, left, right = pads(node)
    weights = operands[1].flip(1, 2).permute(3, 0, 1, 2)
    out = torch.nn.functional.conv_transpose2d(_nchw(operands[0]), weights, _bias(operands), pair(node, "stride"))
    height, width = out.shape[2:]
    cut = out[:, :, top : height - bottom, left : width - right]
    return torch_fused(torch, node, cut.permute(0, 2, 3, 1))


def _torch_linear(torch: Any, node: Node, operands: Sequence[Any]) -> Any:
    return torch_fused(torch, node, torch.nn.functional.linear(*operands))


# -- sums, of integers or of real values --------------------------------------------


def _sum_conv(node: Node, x: Array, weights: Array) -> Reals:
    return convolve(x, weights, pair(node, "stride"), pads(node), pair(node, "dilation"), node.attrs["group"])


def _sum_depthwise(node: Node, x: Array, weights: Array) -> Reals:
    return convolve_depthwise(x, weights, pair(node, "stride"), pads(node), pair(node, "dilation"))


def _sum_transposed(node: Node, x: Array, weights: Array) -> Reals:
    return convolve_transposed(x, weights, pair(node, "stride"), pads(node))


def _sum_linear(node: Node, x: Array, weights: Array) -> Reals:
    return multiply(x, weights)


_Sum = Callable[[Node, Array, Array], Reals]


def _real(total: _Sum) -> RealRule:
    """Float form: sum, bias, activation."""

    def rule(node: Node, operands: Sequence[Array]) -> Array:
        value = total(node, operands[0], operands[1])
        value = value + operands[2] if len(operands) == 3 else value
        return real_activation(node.attrs["activation"], value, node.attrs["alpha"])

    return rule


def _integer(total: _Sum) -> IntegerRule:
    """Integer form: sum, bias, shift, activation and the one rounding (docs/dpu.md 3.2)."""

    def rule(node: Node, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
        return _end(node, total(node, operands[0].values, operands[1].values), operands, out)

    return rule


def _end(node: Node, acc: Reals, operands: Sequence[IntTensor], out: QuantParams) -> Integers:
    """Bias, shift, activation and the one rounding after the sum (docs/dpu.md 3.2)."""
    fi, fw = operands[0].quant.fix_point, operands[1].quant.fix_point
    cut = shift_cut(fi, fw, out.fix_point)
    if len(operands) == 2:
        return finish(node, add_bias(acc, None, 0, cut), out)
    bias = operands[2]
    return finish(node, add_bias(acc, bias.values, shift_bias(fi, fw, bias.quant.fix_point), cut), out)


# -- work ------------------------------------------------------------


def _conv_macs(node: Node, shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(shapes[1][1:])


def _depthwise_macs(node: Node, shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(shapes[1][1:3])


def _transposed_macs(node: Node, shapes: Sequence[Shape], output: Shape) -> int:
    """Each input value meets each weight of its channel once; inserted zeros are not counted."""
    return math.prod(shapes[0][:3]) * math.prod(shapes[1])


SPECS = [
    OpSpec(
        "conv2d",
        _conv_shape,
        {**_DILATED, "group": 1, **ACTIVATION_ATTRS},
        (2, 3),
        integer=_integer(_sum_conv),
        real=_real(_sum_conv),
        torch=_torch_conv,
        macs=_conv_macs,
    ),
    OpSpec(
        "depthwise_conv2d",
        _depthwise_shape,
        {**_DILATED, **ACTIVATION_ATTRS},
        (2, 3),
        integer=_integer(_sum_depthwise),
        real=_real(_sum_depthwise),
        torch=_torch_depthwise,
        macs=_depthwise_macs,
    ),
    OpSpec(
        "transposed_conv2d",
        _transposed_shape,
        {**_WINDOW, **ACTIVATION_ATTRS},
        (2, 3),
        integer=_integer(_sum_transposed),
        real=_real(_sum_transposed),
        torch=_torch_transposed,
        macs=_transposed_macs,
    ),
    OpSpec(
        "linear",
        _linear_shape,
        ACTIVATION_ATTRS,
        (2, 3),
        integer=_integer(_sum_linear),
        real=_real(_sum_linear),
        torch=_torch_linear,
        macs=_conv_macs,
    ),
]
