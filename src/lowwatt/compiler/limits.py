"""Limits of the machine, one function each.

A limit's docstring is the message; what it returns says what was found ("" where the rule holds). Source: docs/dpu.md 2
(Vitis-AI v3.5 target files and dpu_op_filter.py; UG1414 "Currently supported operators"). ISA0 is the instruction set
of DPUCZDX8G 3.x (the LPCV board), ISA1 that of 4.x.
"""

from __future__ import annotations

from collections.abc import Callable

from lowwatt.compiler.subject import Subject
from lowwatt.ir.interpreter import on_integers

Limit = Callable[[Subject], str]

DPU_LEAKY_SLOPE = 26 / 256
_MAX_GROUPS = 256
_FIELD_4_BIT = 15


def _sides(values: tuple[int, int], low: int, high: int) -> str:
    return "" if all(low <= v <= high for v in values) else f"{values[0]}x{values[1]}"


def feature_map(s: Subject) -> str:
    """The accelerator works on rank-4 maps (N, H, W, C)."""
    return "" if len(s.shape()) == 4 else f"shape {s.shape()}"


def kernel_16(s: Subject) -> str:
    """Kernel sides are 1 to 16."""
    return _sides(s.window.kernel, 1, 16)


def stride_8(s: Subject) -> str:
    """Strides are 1 to 8, unless the kernel covers the whole input."""
    window = s.window
    whole = window.kernel == (s.input.height, s.input.width)
    return "" if whole else _sides(window.stride, 1, 8)


def stride_16(s: Subject) -> str:
    """Strides of a transposed convolution are 1 to 16."""
    return _sides(s.window.stride, 1, 16)


def conv_pads(s: Subject) -> str:
    """Pads are at most 15 and at most the dilated kernel."""
    window = s.window
    limits = [min(_FIELD_4_BIT, (k - 1) * d + 1) for k, d in zip(window.kernel, window.dilation, strict=True)]
    top, bottom, left, right = window.pad
    fits = max(top, bottom) <= limits[0] and max(left, right) <= limits[1]
    return "" if fits else f"pads {window.pad}, limits {limits[0]} and {limits[1]}"


def weights_fit(s: Subject) -> str:
    """The weights of one output channel fit a bank: kernel height x width x channel groups."""
    words = s.weight_words
    return "" if words <= s.target.bank_depth else f"{words} words, a bank holds {s.target.bank_depth}"


def input_channels(s: Subject) -> str:
    """Input channels times dilation are at most 256 channel groups."""
    most = _MAX_GROUPS * s.target.array.input_channels
    found = s.input.channels * max(s.window.dilation)
    return "" if found <= most else f"{found}, at most {most}"


def output_channels(s: Subject) -> str:
    """Output channels are at most 256 channel groups."""
    most = _MAX_GROUPS * s.target.array.input_channels
    return "" if s.output.channels <= most else f"{s.output.channels}, at most {most}"


def no_groups(s: Subject) -> str:
    """Convolutions are not grouped (group 1, or depthwise)."""
    group = s.node.attrs["group"]
    return "" if group == 1 else f"group {group}"


def conv_activation_isa0(s: Subject) -> str:
    """The convolution's own activation is none, ReLU, ReLU6, or LeakyReLU of slope 26/256."""
    return _activation(s, ("none", "relu", "relu6", "leaky_relu"))


def conv_activation_isa1(s: Subject) -> str:
    """The convolution's own activation is none, ReLU, ReLU6, LeakyReLU of slope 26/256, hard-sigmoid or hard-swish."""
    return _activation(s, ("none", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish"))


def simple_activation(s: Subject) -> str:
    """The operator's own activation is none, ReLU or ReLU6."""
    return _activation(s, ("none", "relu", "relu6"))


def add_activation(s: Subject) -> str:
    """An addition's own activation is none or ReLU."""
    return _activation(s, ("none", "relu"))


def _activation(s: Subject, allowed: tuple[str, ...]) -> str:
    attrs, options = s.node.attrs, s.target.options
    name = attrs.get("activation", "none")
    off = {"leaky_relu": not options.leaky_relu, "relu6": not options.relu6}
    if name not in allowed or off.get(name, False):
        return str(name)
    return _slope(attrs["alpha"]) if name == "leaky_relu" else ""


def leaky_slope(s: Subject) -> str:
    """LeakyReLU has the slope 26/256 = 0.1015625."""
    return _slope(s.node.attrs["alpha"])


def _slope(alpha: float) -> str:
    return "" if abs(alpha - DPU_LEAKY_SLOPE) < 1e-9 else f"slope {alpha:g}"


def depthwise_present(s: Subject) -> str:
    """Depthwise convolution needs a core that was built with it."""
    return "" if s.target.options.depthwise else s.target.name


def alu_window(s: Subject) -> str:
    """Kernel sides and strides are 1 to 256; pads at most 15 (top, left) and 255 (bottom, right)."""
    window = s.window
    top, bottom, left, right = window.pad
    if max(top, left) > _FIELD_4_BIT or max(bottom, right) > 255:
        return f"pads {window.pad}"
    return _sides(window.kernel, 1, 256) or _sides(window.stride, 1, 256)


def pool_window(s: Subject) -> str:
    """Pool kernels and strides are 1 to 8, pads at most the kernel and at most 7."""
    window = s.window
    if max(window.pad) > min(7, *window.kernel):
        return f"pads {window.pad}"
    return _sides(window.kernel, 1, 8) or _sides(window.stride, 1, 8)


def average_kernel(s: Subject) -> str:
    """Average-pool kernels are square, 2 to 8."""
    kernel = s.window.kernel
    return f"{kernel[0]}x{kernel[1]}" if kernel[0] != kernel[1] else _sides(kernel, 2, 8)


def average_present(s: Subject) -> str:
    """Average pooling needs a core that was built with it."""
    return "" if s.target.options.average_pool else s.target.name


def spatial_axes(s: Subject) -> str:
    """A mean goes over height and width."""
    axes = sorted(a % len(s.shape()) for a in s.node.attrs["axes"])
    return "" if axes == [1, 2] else f"axes {tuple(s.node.attrs['axes'])}"


def mul_present(s: Subject) -> str:
    """Elementwise multiplication needs a core that was built with it."""
    return "" if s.target.options.eltwise_mul else s.target.name


def same_shapes(s: Subject) -> str:
    """Elementwise operands have one shape."""
    shapes = {s.graph.tensor(name).shape for name in s.node.inputs}
    return "" if len(shapes) == 1 else " and ".join(str(shape) for shape in sorted(shapes))


def channel_axis(s: Subject) -> str:
    """A concat joins channels of rank-4 maps (then it is free: a matter of addresses)."""
    axis, rank = s.node.attrs["axis"], len(s.shape())
    return "" if rank == 4 and axis % rank == 3 else f"axis {axis} of rank {rank}"


def channel_slice(s: Subject) -> str:
    """A slice takes whole rows and columns with stride 1, and cuts channels alone."""
    attrs, shape = s.node.attrs, s.shape()
    if any(step != 1 for step in attrs["strides"]):
        return f"strides {tuple(attrs['strides'])}"
    whole = s.graph.tensor(s.node.name).shape[:-1] == shape[:-1]
    return "" if whole else f"{shape} cut to {s.graph.tensor(s.node.name).shape}"


def border(s: Subject) -> str:
    """A padding goes round height and width alone, and mirrors one row and column at most."""
    pads, mode = tuple(s.node.attrs["pads"]), s.node.attrs["mode"]
    around = not any((*pads[:2], *pads[6:]))
    return "" if around and (mode == "constant" or max(pads) <= 1) else f"{mode}, {pads}"


def resize_scale(s: Subject) -> str:
    """Nearest resize has whole factors; bilinear 2, 4 or 8 (2 or 4 with half pixels), equal in height and width."""
    attrs = s.node.attrs
    height, width = attrs["scale"]
    found = f"{attrs['mode']} by {height:g} x {width:g}"
    if attrs["mode"] == "nearest":
        return "" if height == int(height) and width == int(width) else found
    allowed = (2, 4) if attrs["half_pixel"] else (2, 4, 8)
    return "" if height == width and height in allowed else found


def resize_alignment(s: Subject) -> str:
    """A resize does not align corners."""
    return "align_corners" if s.node.attrs["align_corners"] else ""


def fused_activation(s: Subject) -> str:
    """An activation runs inside the convolution or addition right before it."""
    before = s.producer()
    while before is not None and before.op in ("batch_norm", "identity", "fix"):
        before = s.producers.get(before.inputs[0])
    hosts = ("conv2d", "depthwise_conv2d", "transposed_conv2d", "linear", "add")
    if before is None:
        return "it stands on a graph input"
    return "" if before.op in hosts else f"it follows {before.op}"


def integers(s: Subject) -> str:
    """The accelerator works on integers; in a quantized graph this node computes in float."""
    mixed = s.graph.has_integers and s.node.op != "fix"  # a fix on real values is how they go in
    return s.node.name if mixed and not on_integers(s.graph, s.node) else ""


def not_on_machine(s: Subject) -> str:
    """The accelerator has no such operator."""
    return s.node.attrs["type"] if s.node.op == "custom" else s.node.op
