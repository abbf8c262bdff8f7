"""Rewrites that keep the function: the docstring of each is what the user reads; NoMatch says why one does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, prod

import numpy as np

from lowwatt.compiler.place import NoMatch, Place
from lowwatt.ir.ops.layout import slices
from lowwatt.types import Array, QuantParams

Pieces = list[tuple[int, int, int]]
"""Kernel, padding before and padding behind of the pools of a chain, along one axis."""

_POOL_SIDE = 5
"""Kernel of a chain's pools: YOLOX's SPP has a 5x5 pool already, which the chain then starts from."""
_LARGEST_KERNEL = 16
_LARGEST_AVERAGE = 8
_MAX_SHIFT = 16


def chain_pools(at: Place) -> None:
    """A max pool with a large kernel becomes a chain of 5x5 pools (SPP: 5, 9 and 13 share one chain)."""
    attrs = at.node.attrs
    (kh, kw), (top, bottom, left, right) = attrs["kernel"], attrs["pad"]
    at.require(max(kh, kw) > _POOL_SIDE, "its kernel is not large")
    at.require(not attrs["ceil_mode"], "in ceil mode the last window is another one")
    count = max(ceil((k - 1) / (_POOL_SIDE - 1)) for k in (kh, kw))
    source, quant = at.node.inputs[0], at.quant()
    for step, (down, across) in enumerate(
        zip(_pieces(kh, top, bottom, count), _pieces(kw, left, right, count), strict=True)
    ):
        window = {"kernel": (down[0], across[0]), "pad": (*down[1:], *across[1:])}
        if step < count - 1:
            source = at.put("max_pool", [source], quant, stride=(1, 1), **window)
        else:
            at.node.become("max_pool", [source], stride=attrs["stride"], **window)


def _pieces(kernel: int, before: int, behind: int, count: int) -> Pieces:
    """Windows that see in a row what one of `kernel` sees; the padding is spread as the kernel is."""
    pieces = []
    for _ in range(count):
        reach = min(kernel - 1, _POOL_SIDE - 1)
        share = reach / (kernel - 1) if kernel > 1 else 0
        rest = kernel - 1 - reach  # what the pools that follow can pad at most
        pads = [max(pad - rest, min(reach, round(pad * share))) for pad in (before, behind)]
        pieces.append((reach + 1, pads[0], pads[1]))
        kernel, before, behind = kernel - reach, before - pads[0], behind - pads[1]
    return pieces


def merge_focus(at: Place) -> None:
    """Focus (every second row and column, joined) and the convolution behind it become one convolution of stride 2."""
    join = at.sole_reader(at.node.name)
    at.require(join.op == "concat" and join.attrs["axis"] % len(at.output) == 3, f"{join.op} reads it")
    conv = at.sole_reader(join.name)
    at.require(conv.op == "conv2d" and conv.attrs["group"] == 1, f"{conv.op} reads the joined map")
    at.require(conv.attrs["dilation"] == (1, 1), "the convolution is dilated")
    step = tuple(at.node.attrs["strides"])[1:3]
    offsets = [_offset(at, name, step) for name in join.inputs]
    at.require(sorted(offsets) == list(product(range(step[0]), range(step[1]))), "pixels are missing or come twice")
    formats = {at.graph.tensor(name).quant for name in (at.node.inputs[0], join.name, *join.inputs)}
    at.require(len(formats) == 1, "its maps have different fix points")
    _merge(Place(at.graph, conv, at.target), at.node.inputs[0], step, offsets)


def _offset(at: Place, name: str, step: tuple[int, ...]) -> tuple[int, int]:
    """First row and column of a slice that takes one pixel of each block from the map that all slices share."""
    cut = at.graph.producers().get(name)
    at.require(cut is not None and cut.op == "slice" and cut.inputs == at.node.inputs, "other maps are joined with it")
    assert cut is not None
    n, height, width, channels = at.shape()
    at.require(tuple(cut.attrs["strides"]) == (1, *step, 1) and prod(step) > 1, "the slices have different strides")
    at.require(height % step[0] == 0 and width % step[1] == 0, f"{height}x{width} is no multiple of {step}")
    blocks = (n, height // step[0], width // step[1], channels)
    at.require(at.graph.tensor(name).shape == blocks, "a slice leaves something out")
    rows, columns = slices(cut, at.shape())[1:3]
    return rows.start, columns.start


def _merge(conv: Place, source: str, step: tuple[int, ...], offsets: list[tuple[int, int]]) -> None:
    """The convolution over the whole map: tap (y, x) of slice (i, j) lies at row y * step + i, column x * step + j."""
    old, channels = conv.data(1), conv.graph.tensor(source).shape[3]
    weights = np.zeros((len(old), old.shape[1] * step[0], old.shape[2] * step[1], channels), old.dtype)
    for index, (i, j) in enumerate(offsets):
        weights[:, i :: step[0], j :: step[1]] = old[..., index * channels : (index + 1) * channels]
    attrs = dict(conv.node.attrs)
    attrs["stride"] = tuple(s * f for s, f in zip(attrs["stride"], step, strict=True))
    attrs["pad"] = tuple(p * step[index // 2] for index, p in enumerate(attrs["pad"]))
    conv.node.become("conv2d", [source, conv.constant(weights, conv.quant(1)), *conv.node.inputs[2:]], **attrs)


def slice_as_pool(at: Place) -> None:
    """A slice that takes every n-th row and column becomes a 1x1 pool of that stride."""
    at.require(len(at.output) == 4, "it is no map")
    (_, down, across, channel), size = at.node.attrs["strides"], at.shape()
    at.require(max(down, across) > 1 and channel == 1, "it takes neighbouring rows and columns")
    whole = (size[0], ceil(size[1] / down), ceil(size[2] / across), size[3])
    at.require(
        not any(at.node.attrs["begin"]) and at.output == whole, "it does not go from the first pixel to the last"
    )
    at.node.become("max_pool", at.node.inputs, kernel=(1, 1), stride=(down, across))


def widen_convolution(at: Place) -> None:
    """A convolution that reads every n-th channel reads them all, with zeros for the others."""
    channels, conv = _channels(at), at.sole_reader(at.node.name)
    at.require(conv.op == "conv2d" and conv.attrs["group"] == 1, f"{conv.op} reads it")
    at.require(at.quant() == at.graph.tensor(at.node.name).quant, "it moves the fix point")
    reader = Place(at.graph, conv, at.target)
    old = reader.data(1)
    weights = np.zeros((*old.shape[:3], at.shape()[3]), old.dtype)
    weights[..., channels] = old
    operands = [at.node.inputs[0], reader.constant(weights, reader.quant(1)), *conv.inputs[2:]]
    reader.node.become("conv2d", operands, **conv.attrs)


def select_channels(at: Place) -> None:
    """Every n-th channel is picked by a 1x1 convolution with a one for each (ShuffleNet's channel shuffle)."""
    channels, fo = _channels(at), at.graph.tensor(at.node.name).quant
    one = QuantParams.power_of_two(6) if at.quantized else None  # 64 * 2^-6
    weights = np.zeros((at.output[3], 1, 1, at.shape()[3]))
    weights[np.arange(at.output[3]), 0, 0, np.arange(at.shape()[3])[channels]] = (
        1 if one is None else 1 << one.fix_point
    )
    _require_shift(at, [at.quant(), one, fo])
    at.node.become("conv2d", [at.node.inputs[0], at.constant(weights, one)])


def _channels(at: Place) -> slice:
    """Channels that a slice takes of whole rows and columns."""
    at.require(len(at.output) == 4 and at.node.attrs["strides"][3] > 1, "it takes neighbouring channels")
    at.require(at.output[:3] == at.shape()[:3], "it cuts rows or columns")
    return slices(at.node, at.shape())[3]


def dense_groups(at: Place) -> None:
    """A grouped convolution becomes a dense one with zeros between the groups (as many times the work as groups)."""
    groups, old = at.node.attrs["group"], at.data(1)
    at.require(groups > 1, "it is not grouped")
    outputs, inputs = len(old) // groups, old.shape[3]
    weights = np.zeros((*old.shape[:3], inputs * groups), old.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        weights[rows, ..., group * inputs : (group + 1) * inputs] = old[rows]
    operands = [at.node.inputs[0], at.constant(weights, at.quant(1)), *at.node.inputs[2:]]
    at.node.become("conv2d", operands, **{**at.node.attrs, "group": 1})


def scale_as_depthwise(at: Place) -> None:
    """A product with one constant a channel becomes a 1x1 depthwise convolution."""
    at.require(len(at.node.inputs) == 2 and len(at.output) == 4, "it is no map times a constant")
    constants = [at.graph.tensor(name).is_constant for name in at.node.inputs]
    at.require(sum(constants) == 1, "no operand is a constant")
    index = constants.index(True)
    factor, channels = at.data(index), at.output[3]
    at.require(
        factor.size in (1, channels) and factor.shape[-1:] in ((), (1,), (channels,)), "it differs along the map"
    )
    at.require(at.shape(1 - index) == at.output, "the map is repeated")
    _require_shift(at, [at.quant(0), at.quant(1), at.graph.tensor(at.node.name).quant])
    weights = at.constant(np.broadcast_to(factor.reshape(-1), (1, 1, 1, channels)), at.quant(index))
    at.node.become("depthwise_conv2d", [at.node.inputs[1 - index], weights], **at.node.attrs)


def _require_shift(at: Place, formats: Sequence[QuantParams | None]) -> None:
    """A convolution's shift has limits (docs/dpu.md 3.11); `formats` are those of input, weights and output."""
    points = [quant.fix_point for quant in formats if quant is not None]
    cut = points[0] + points[1] - points[2] if len(points) == 3 else 0
    at.require(0 <= cut <= _MAX_SHIFT, f"a convolution cannot shift by {cut}")


def repeat_operand(at: Place) -> None:
    """An operand of one pixel (the gate of squeeze-and-excite) is repeated over the map by a nearest resize."""
    at.require(len(at.output) == 4, "it is no map")
    names = []
    for name in at.node.inputs:
        tensor = at.graph.tensor(name)
        if tensor.shape != at.output:
            one = (at.output[0], 1, 1, at.output[3])
            at.require(tensor.shape == one and not tensor.is_constant, f"an operand of shape {tensor.shape}")
            name = at.put("resize", [name], tensor.quant, scale=(float(at.output[1]), float(at.output[2])))
        names.append(name)
    at.require(names != at.node.inputs, "no operand is of one pixel")
    at.node.become(at.node.op, names, **at.node.attrs)


def as_map(at: Place) -> None:
    """An operator on vectors works on maps of one row, with reshapes around it, which are free."""
    rank, attrs = len(at.output), dict(at.node.attrs)
    at.require(rank in (2, 3), f"its rank is {rank}")
    shapes = [at.graph.tensor(name).shape for name in at.node.inputs]
    if at.node.op == "concat":
        at.require(attrs["axis"] % rank == rank - 1, "it does not join the last axis")
        attrs["axis"] = 3
    else:
        at.require(set(shapes) == {at.output}, "its operands have different shapes")
    lifted = [
        at.put("reshape", [name], at.graph.tensor(name).quant, shape=(shape[0], *(1,) * (4 - rank), *shape[1:]))
        for name, shape in zip(at.node.inputs, shapes, strict=True)
    ]
    done = at.put(at.node.op, lifted, at.graph.tensor(at.node.name).quant, **attrs)
    at.node.become("reshape", [done], shape=at.output)


def split_outputs(at: Place) -> None:
    """A convolution with too many output channels becomes several side by side, joined by a concat."""
    most = 256 * at.target.array.input_channels
    weights, channels = at.data(1), at.output[3]
    at.require(channels > most and at.node.attrs["group"] == 1, f"it has {channels} output channels")
    parts = []
    for first in range(0, channels, most):
        operands = [at.node.inputs[0], at.constant(weights[first : first + most], at.quant(1))]
        if len(at.node.inputs) > 2:
            operands.append(at.constant(at.data(2)[first : first + most], at.quant(2)))
        parts.append(at.put("conv2d", operands, at.graph.tensor(at.node.name).quant, **at.node.attrs))
    at.node.become("concat", parts, axis=3)


def split_average(at: Place) -> None:
    """An average over a large square becomes averages of averages (20x20: 5x5, then 4x4)."""
    attrs = at.node.attrs
    side = attrs["kernel"][0]
    at.require(attrs["kernel"] == (side, side), "its kernel is not square")
    at.require(not any(attrs["pad"]) and not attrs["ceil_mode"], "it pads")
    at.require(attrs["stride"] == attrs["kernel"] or at.output[1:3] == (1, 1), "its windows overlap")
    factors = _factors(side)
    source = at.node.inputs[0]
    for factor in factors[:-1]:
        source = at.put("avg_pool", [source], None, kernel=(factor, factor), stride=(factor, factor))
    at.node.become("avg_pool", [source], kernel=(factors[-1],) * 2, stride=(factors[-1],) * 2)


def _factors(side: int) -> list[int]:
    """Whole numbers of at most 8 whose product is `side`, the largest first."""
    found, rest = [], side
    for factor in range(_LARGEST_AVERAGE, 1, -1):
        while rest % factor == 0:
            found.append(factor)
            rest //= factor
    if rest > 1 or len(found) < 2:
        raise NoMatch(f"{side} is no product of numbers up to {_LARGEST_AVERAGE}")
    return found


def average_as_depthwise(at: Place) -> None:
    """An average pool becomes a depthwise convolution whose weights are all 1 / (height x width)."""
    attrs = at.node.attrs
    at.require(not attrs["ceil_mode"], "it pads in ceil mode")
    at.require(attrs["count_include_pad"] or not any(attrs["pad"]), "its divisor leaves the padding out")
    kernel = attrs["kernel"]
    weights = at.constant(np.full((1, *kernel, at.output[3]), 1 / prod(kernel)), None)
    at.node.become("depthwise_conv2d", [at.node.inputs[0], weights], stride=attrs["stride"], pad=attrs["pad"])


def split_kernel(at: Place) -> None:
    """A convolution with a large kernel becomes a sum of dilated ones, each with every n-th tap."""
    attrs, weights = at.node.attrs, at.data(1)
    at.require(attrs["dilation"] == (1, 1) and attrs["group"] == 1, "it is dilated or grouped")
    at.require(attrs["activation"] in ("none", "relu"), f"an addition cannot carry {attrs['activation']}")
    down, across = _dilation(weights)
    top, bottom, left, right = attrs["pad"]
    at.require(min(top, bottom) >= down - 1 and min(left, right) >= across - 1, "it pads too little")
    parts: list[str] = []
    for i, j in product(range(down), range(across)):
        below, beside = (weights.shape[1] - 1 - i) % down, (weights.shape[2] - 1 - j) % across
        window = {"pad": (top - i, bottom - below, left - j, right - beside), "dilation": (down, across)}
        taps = at.constant(weights[:, i::down, j::across], None)
        bias = at.node.inputs[2:] if not parts else []
        parts.append(at.put("conv2d", [at.node.inputs[0], taps, *bias], None, stride=attrs["stride"], **window))
    at.node.become("add", parts, activation=attrs["activation"])


def _dilation(weights: Array) -> tuple[int, int]:
    """Dilation (height, width) that brings the kernel within 16 x 16, or halves one that is within it."""
    kernel = weights.shape[1:3]
    down, across = (ceil(side / _LARGEST_KERNEL) for side in kernel)
    if down * across > 1:
        return down, across
    if min(kernel) < 2:
        raise NoMatch(f"a kernel of {kernel[0]}x{kernel[1]} cannot be halved")
    return 2, 2
