"""What each operator type of an .xmodel file is in our graph: name and attributes (docs/dpu.md 4.3, 4.4).

The file says (width, height) and (left, right, top, bottom); the graph (height, width) and (top, bottom, left, right).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lowwatt.ir.ops.activation import LEAKY_SLOPE
from lowwatt.ir.xmodel_op import XOp
from lowwatt.types import QuantParams, Shape

Attrs = dict[str, Any]
Converted = tuple[str, Attrs]
Converter = Callable[[XOp, Sequence[Shape]], Converted]

_NONLINEAR = {
    "": "none",
    "NONE": "none",
    "RELU": "relu",
    "RELU6": "relu6",
    "LEAKYRELU": "leaky_relu",
    "HSIGMOID": "hard_sigmoid",
    "HSWISH": "hard_swish",
}
_UNSET = -128


def _pair(op: XOp, key: str, default: list[int] | None = None) -> tuple[int, int]:
    width, height = op.numbers(key, 2, default)
    return height, width


def _pad(op: XOp) -> tuple[int, int, int, int]:
    left, right, top, bottom = op.numbers("pad", 4, [0, 0, 0, 0])
    return top, bottom, left, right


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _mode_pads(op: XOp, shape: Shape, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Padding with `pad_mode` resolved; operators on integers always count as FLOOR (docs/dpu.md 4.3)."""
    mode = "FLOOR" if op.type.endswith("-fix") else op.text("pad_mode", "FLOOR")
    pad = _pad(op)
    if mode == "SAME" and not any(pad) and len(shape) == 4 and min(stride) > 0:
        return _same(shape[1], kernel[0], stride[0]) + _same(shape[2], kernel[1], stride[1])
    if mode not in ("FLOOR", "VALID", "CEIL"):
        raise op.fail(f"pad_mode {mode} with pad {pad} is not supported")
    return pad


def _activation(op: XOp) -> Attrs:
    nonlinear = op.text("nonlinear", "NONE")
    if nonlinear not in _NONLINEAR:
        raise op.fail(f"nonlinear {nonlinear} is not supported")
    attrs: Attrs = {"activation": _NONLINEAR[nonlinear]}
    if nonlinear in ("HSIGMOID", "HSWISH"):
        attrs["hsigmoid_in"] = _hsigmoid_in(op, nonlinear)
    return attrs


def _hsigmoid_in(op: XOp, nonlinear: str) -> int:
    """The fix point before the activation; the shifts beside it must be those of our rule (docs/dpu.md 3.7)."""
    hin, out = op.number("hsigmoid_in", _UNSET), op.tensor_quant()
    if hin == _UNSET or out is None:
        raise op.fail(f"{nonlinear} needs the attribute hsigmoid_in")
    hsigmoid_fix = 7 if nonlinear == "HSWISH" else out.fix_point
    _expect(op, "shift_hsigmoid", 14 + hin - hsigmoid_fix)
    _expect(op, "shift_hswish", hin + 7 - out.fix_point)
    return hin


def check_hard_sigmoid(op: XOp, given: QuantParams, out: QuantParams) -> None:
    """ToolError where the attributes of a hard-sigmoid-fix contradict the fix points around it."""
    _expect(op, "hsigmoid_in", given.fix_point)
    _expect(op, "shift_hsigmoid", 14 + given.fix_point - out.fix_point)


def _expect(op: XOp, key: str, wanted: int) -> None:
    if op.number(key, _UNSET) not in (_UNSET, wanted):
        raise op.fail(f"{key} {op.attrs[key]} does not fit the fix points", f"they give {wanted}")


def _conv(name: str) -> Converter:
    def convert(op: XOp, shapes: Sequence[Shape]) -> Converted:
        kernel, stride, dilation = _pair(op, "kernel"), _pair(op, "stride"), _pair(op, "dilation", [1, 1])
        if len(shapes) < 2 or tuple(shapes[1][1:3]) != kernel:
            raise op.fail("the kernel is not that of the weights", f"{kernel} and {shapes[1:]}"[:80])
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        attrs: Attrs = {"stride": stride, "pad": _mode_pads(op, shapes[0], reach, stride), **_activation(op)}
        if name == "transposed_conv2d":
            if dilation != (1, 1):
                raise op.fail("dilation is not supported", f"it is {dilation}")
            return name, attrs
        attrs["dilation"] = dilation
        if name == "conv2d":
            attrs["group"] = op.number("group", 1)
        return name, attrs

    return convert


def _pool(op: XOp, shapes: Sequence[Shape]) -> Converted:
    kind = {"maxpool2d": "MAX", "avgpool2d": "AVG"}.get(op.type) or op.text("type")
    if kind not in ("MAX", "AVG"):
        raise op.fail(f"type {kind} is not supported")
    attrs: Attrs = {"kernel": _pair(op, "kernel"), "stride": _pair(op, "stride")}
    attrs["pad"] = _mode_pads(op, shapes[0], attrs["kernel"], attrs["stride"])
    if op.flag("global", False) and len(shapes[0]) == 4:
        attrs = {"kernel": shapes[0][1:3], "stride": shapes[0][1:3], "pad": (0, 0, 0, 0)}
    attrs["ceil_mode"] = not op.type.endswith("-fix") and op.text("pad_mode", "FLOOR") == "CEIL"
    if kind == "AVG":
        attrs["count_include_pad"] = op.flag("count_include_pad", True)
    return ("max_pool" if kind == "MAX" else "avg_pool"), attrs


def _eltwise(op: XOp, shapes: Sequence[Shape]) -> Converted:
    """Of one operand it moves the fix point and applies the activation: compiled files of ours have these."""
    kind, attrs = op.text("type", "ADD"), _activation(op)
    if kind not in ("ADD", "MUL"):
        raise op.fail(f"type {kind} is not supported", hint="known: ADD, MUL")
    if len(shapes) > 1:
        return kind.lower(), attrs
    name = attrs["activation"]
    if name not in ("none", "relu", "relu6", "leaky_relu"):
        raise op.fail(f"nonlinear {op.attrs['nonlinear']} of one operand is not supported")
    alone = {"alpha": LEAKY_SLOPE} if name == "leaky_relu" else {}
    return ("identity" if name == "none" else name), alone


def _matmul(op: XOp, shapes: Sequence[Shape]) -> Converted:
    plain = len(op.args.get("input", ())) == 2 and not op.flag("transpose_a", False)
    if not plain or not op.flag("transpose_b", False) or len(shapes[1]) != 2:
        raise op.fail("only x times transposed weights (out, in) is supported")
    return "linear", {}


def _resize(op: XOp, shapes: Sequence[Shape]) -> Converted:
    """By `scale`, or by the stated output shape where a size is given as an argument."""
    if op.attrs.get("scale"):
        width, height = op.reals("scale", 2)
        scale = (height, width)
    elif len(shapes[0]) == 4 and len(op.shape) == 4:
        scale = (op.shape[1] / shapes[0][1], op.shape[2] / shapes[0][2])
    else:
        raise op.fail("neither a scale nor a size is given")
    flags = {"align_corners": op.flag("align_corners", False), "half_pixel": op.flag("half_pixel_centers", False)}
    return "resize", {"scale": scale, "mode": op.text("mode").lower(), **flags}


def _slice(op: XOp, shapes: Sequence[Shape]) -> Converted:
    return "slice", {key: op.numbers(key) for key in ("begin", "end", "strides")}


def _pads(op: XOp, shapes: Sequence[Shape]) -> Converted:
    """The constant is bytes in steps of the tensor (pad-fix), or real numbers (pad)."""
    given, quant = op.attrs.get("constant_values") or b"\0", op.tensor_quant()
    if isinstance(given, bytes):
        steps = [(v + 128) % 256 - 128 for v in given]
        values = [step * quant.scale if quant is not None else float(step) for step in steps]
    else:
        values = list(op.reals("constant_values"))
    if len(set(values)) != 1:
        raise op.fail("different values on different sides are not supported")
    return "pad", {"pads": op.numbers("paddings"), "mode": op.text("mode").lower(), "value": values[0]}


def _flatten(op: XOp, shapes: Sequence[Shape]) -> Converted:
    rank = len(shapes[0])
    first, last = op.number("start_axis"), op.number("end_axis")
    if not -rank <= first < rank or not -rank <= last < rank or first % rank > last % rank:
        raise op.fail("no such axes", f"{first} to {last} of {rank}")
    first, last = first % rank, last % rank
    joined = math.prod(shapes[0][first : last + 1])
    return "reshape", {"shape": (*shapes[0][:first], joined, *shapes[0][last + 1 :])}


def _reshape(op: XOp, shapes: Sequence[Shape]) -> Converted:
    """To the stated shape: `shape` may hold 0 or -1, or be left to another argument."""
    return "reshape", {"shape": op.shape}


def _reduce(name: str) -> Converter:
    def convert(op: XOp, shapes: Sequence[Shape]) -> Converted:
        return name, {"axes": op.numbers("axis"), "keepdims": op.flag("keep_dims", False)}

    return convert


def _plain(name: str) -> Converter:
    return lambda op, shapes: (name, {})


def _axis(name: str) -> Converter:
    return lambda op, shapes: (name, {"axis": op.number("axis")})


CONVERTERS: dict[str, Converter] = {
    "conv2d": _conv("conv2d"),
    "depthwise-conv2d": _conv("depthwise_conv2d"),
    "transposed-conv2d": _conv("transposed_conv2d"),
    "maxpool2d": _pool,
    "avgpool2d": _pool,
    "pool": _pool,
    "eltwise": _eltwise,
    "matmul": _matmul,
    "resize": _resize,
    "upsample": _resize,
    "downsample": _resize,
    "strided_slice": _slice,
    "pad": _pads,
    "flatten": _flatten,
    "reshape": _reshape,
    "squeeze": _reshape,
    "concat": _axis("concat"),
    "softmax": _axis("softmax"),
    "transpose": lambda op, shapes: ("transpose", {"order": op.numbers("order")}),
    "leaky-relu": lambda op, shapes: ("leaky_relu", {"alpha": op.real("alpha")}),
    "batchnorm": lambda op, shapes: ("batch_norm", {"eps": op.real("epsilon")}),
    "reduction_mean": _reduce("reduce_mean"),
    "reduction_max": _reduce("reduce_max"),
    "hard-sigmoid": _plain("hard_sigmoid"),
    "hard-swish": _plain("hard_swish"),
    "swish": _plain("silu"),
    **{name: _plain(name) for name in ("relu", "relu6", "sigmoid", "tanh", "exp", "sqrt", "neg")},
    **{name: _plain(name) for name in ("add", "mul", "sub", "div", "pow")},
}
"""By type of the float operator; the integer operator of the same name with -fix converts alike."""


def converter(type_name: str) -> Converter | None:
    """Converter of an operator type, float or -fix; None for somebody else's."""
    return CONVERTERS.get(type_name.removesuffix("-fix"))
