"""The compiled core equals the integer reference bit for bit: random shapes, extremes, every kernel of this CPU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.backends.core import CoreBackend
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.types import QuantParams

core = pytest.importorskip("lowwatt._core")
KERNELS = core.kernels()
Q = QuantParams.power_of_two

small = st.integers(1, 3)
pads = st.tuples(*[st.integers(0, 3)] * 4)
activations = st.sampled_from(["none", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish"])
fills = st.sampled_from(["random", "low", "high", "mixed"])


def integers(rng: np.random.Generator, shape: tuple[int, ...], fill: str) -> np.ndarray:
    """int8 values: all over the range, or nothing but its ends."""
    if fill == "random":
        return rng.integers(-128, 128, shape).astype(np.int8)
    ends = {"low": [-128], "high": [127], "mixed": [-128, 127]}[fill]
    return rng.choice(np.array(ends, np.int8), shape)


def out_fix_point(activation: str, natural: int) -> int:
    """Fix point at which the activation is defined (relu6 from 4, hard_sigmoid from 7)."""
    return {"relu6": max(natural, 4), "hard_sigmoid": 7}.get(activation, natural)


def equal(graph: Graph, x: np.ndarray, *, fallbacks: tuple[str, ...] = ()) -> np.ndarray:
    """Run on the reference and on every kernel; the outputs must not differ in one bit."""
    expected = interpreter.run(graph, {"x": x})
    for kernel in KERNELS:
        backend = CoreBackend(graph, kernel)
        assert backend.fallbacks == fallbacks
        found = backend.run({"x": x})
        for name, value in expected.items():
            assert found[name].dtype == np.int8
            np.testing.assert_array_equal(found[name], value, err_msg=f"{name} on {kernel}")
    return expected[graph.outputs[0]]


def layer(op: str, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None, fo: int, **attrs: object) -> Graph:
    graph = Graph()
    operands = [graph.add_input("x", (1, *x.shape[1:]), Q(4)), graph.add_constant("w", weights, Q(6))]
    if bias is not None:
        operands.append(graph.add_constant("b", bias, Q(attrs.pop("fb", 8))))  # type: ignore[arg-type]
    graph.outputs = [graph.add(op, operands, "y", quant=Q(fo), **attrs)]
    return graph


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    groups=small,
    channels=st.integers(1, 9) | st.sampled_from([16, 31, 64]),
    out=st.integers(1, 19) | st.sampled_from([32, 50, 65]),
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    dilation=st.tuples(small, small),
    pad=pads,
    activation=activations,
    fill=fills,
    fb=st.integers(-4, 16),
    natural=st.integers(-4, 9),
)
def test_convolution(
    seed, batch, size, groups, channels, out, kernel, stride, dilation, pad, activation, fill, fb, natural
) -> None:
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = max(size[0], reach[0] - pad[0] - pad[1]), max(size[1], reach[1] - pad[2] - pad[3])
    rng = np.random.default_rng(seed)
    x = integers(rng, (batch, height, width, groups * channels), fill)
    weights = integers(rng, (groups * out, *kernel, channels), fill)
    bias = integers(rng, (groups * out,), "random")
    attrs = {"stride": stride, "dilation": dilation, "pad": pad, "group": groups, "activation": activation, "fb": fb}
    equal(layer("conv2d", x, weights, bias, out_fix_point(activation, natural), **attrs), x)


# -- Winograd's method -----------------------------------------------------------------------------------------


def by_winograd(graph: Graph, shift: int, kernel: str, **window: object) -> Any:
    """The layer's convolution by Winograd's method, its output rounded by 2**shift."""
    weights = graph.tensor("w").data
    bias = np.zeros(len(weights), np.int32)
    return core.convolution(weights, bias, core.Epilogue(shift), kernel=kernel, method="winograd", **window)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 27), st.integers(1, 27)),
    channels=st.integers(1, 40),
    out=st.integers(1, 70),
    pad=pads,
    fill=fills,
    fo=st.integers(-6, 9),
)
def test_winograd(seed, size, channels, out, pad, fill, fo) -> None:
    height, width = max(size[0], 3 - pad[0] - pad[1]), max(size[1], 3 - pad[2] - pad[3])
    rng = np.random.default_rng(seed)
    x, weights = integers(rng, (2, height, width, channels), fill), integers(rng, (out, 3, 3, channels), fill)
    graph = layer("conv2d", x, weights, None, fo, pad=pad)
    expected = interpreter.run(graph, {"x": x})["y"]
    for kernel in KERNELS:
        convolution = by_winograd(graph, 4 + 6 - fo + 1, kernel, pad=pad)
        assert convolution.method == "winograd"
        np.testing.assert_array_equal(convolution(x), expected, err_msg=kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1)])
def test_winograd_at_the_greatest_sums(kernel: str, signs: tuple[int, int]) -> None:
    """Sums of up to 227 * 9 products of the extremes lie just within the 26 bits that it keeps."""
    extremes = {1: 127, -1: -128}
    weights = np.full((17, 3, 3, 227), extremes[signs[0]], np.int8)
    weights[1] = np.where(np.arange(9).reshape(3, 3, 1) % 2, -128, 127)
    x = np.full((1, 6, 7, 227), extremes[signs[1]], np.int8)
    graph = layer("conv2d", x, weights, None, -10, pad=(1, 1, 1, 1))
    expected = interpreter.run(graph, {"x": x})["y"]
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(by_winograd(graph, 21, kernel, pad=(1, 1, 1, 1))(x), expected)


def test_winograd_is_refused_where_it_is_not_exact() -> None:
    too_great = np.full((1, 3, 3, 228), -128, np.int8)
    ones = np.ones((2, 3, 3, 32), np.int8)
    for weights, window in (
        (too_great, {}),
        (ones[:, :2], {}),
        (ones, {"stride": (1, 2)}),
        (ones, {"dilation": (2, 1)}),
        (ones, {"insert": (2, 2)}),
        (ones[:, :, :, :16], {"groups": 2}),
    ):
        bias, rounding = np.zeros(len(weights), np.int32), core.Epilogue(1)
        with pytest.raises(ValueError, match="Winograd"):
            core.convolution(weights, bias, rounding, method="winograd", **window)
        assert core.convolution(weights, bias, rounding, size=(64, 64), **window).method == "direct"


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_quicker_method_is_chosen_by_the_size(kernel: str) -> None:
    weights, bias = np.ones((96, 3, 3, 96), np.int8), np.zeros(96, np.int32)
    for size, method in (((40, 40), "winograd"), ((2, 2), "direct"), ((0, 0), "direct")):
        found = core.convolution(weights, bias, core.Epilogue(1), pad=(1, 1, 1, 1), kernel=kernel, size=size)
        assert found.method == method


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mult=st.integers(1, 3),
    channels=st.integers(1, 20),
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    dilation=st.tuples(small, small),
    pad=pads,
    activation=activations,
    fill=fills,
    natural=st.integers(-2, 9),
)
def test_depthwise(seed, mult, channels, kernel, stride, dilation, pad, activation, fill, natural) -> None:
    rng = np.random.default_rng(seed)
    x = integers(rng, (1, 8, 7, channels), fill)
    weights, bias = integers(rng, (mult, *kernel, channels), fill), integers(rng, (mult * channels,), "random")
    attrs = {"stride": stride, "dilation": dilation, "pad": pad, "activation": activation}
    equal(layer("depthwise_conv2d", x, weights, bias, out_fix_point(activation, natural), **attrs), x)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 5),
    out=st.integers(1, 18),
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    stride=st.tuples(small, small),
    pad=st.tuples(*[st.integers(0, 1)] * 4),
    fill=fills,
)
def test_transposed(seed, channels, out, kernel, stride, pad, fill) -> None:
    rng = np.random.default_rng(seed)
    x = integers(rng, (1, 4, 5, channels), fill)
    weights = integers(rng, (out, *kernel, channels), fill)
    equal(layer("transposed_conv2d", x, weights, None, 3, stride=stride, pad=pad, activation="relu"), x)


@pytest.mark.parametrize("fill", ["random", "low", "mixed"])
@pytest.mark.parametrize("rows", [1, 6, 29])
def test_linear(rows: int, fill: str) -> None:
    rng = np.random.default_rng(3)
    x, weights = integers(rng, (1, rows, 33), fill), integers(rng, (21, 33), fill)
    equal(layer("linear", x, weights, integers(rng, (21,), fill), 2), x)


@pytest.mark.parametrize("fo", [-9, -6, 0, 3, 8, 14])
@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu"])
def test_every_shift_and_tie(fo: int, activation: str) -> None:
    """A 1x1 convolution over all int8 values: shift_cut from 19 down to -4 meets each tie and each saturation."""
    x = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
    weights = np.array([1, -1, 2, 64, -128, 127], np.int8).reshape(-1, 1, 1, 1)
    fallbacks = ("y",) if activation == "leaky_relu" and fo > 10 else ()
    equal(layer("conv2d", x, weights, None, fo, activation=activation), x, fallbacks=fallbacks)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    points=st.lists(st.integers(-3, 8), min_size=2, max_size=4),
    fo=st.integers(-4, 9),
    activation=activations,
    op=st.sampled_from(["add", "mul", "concat"]),
)
def test_between_tensors(seed, points, fo, activation, op) -> None:
    rng = np.random.default_rng(seed)
    x = integers(rng, (1, 5, 6, 37), "random")
    graph = Graph()
    source = graph.add_input("x", x.shape, Q(4))
    points = points[:2] if op == "mul" else points
    operands = [graph.add("fix", [source], f"f{i}", quant=Q(p)) for i, p in enumerate(points)]
    if op == "concat":
        graph.outputs = [graph.add(op, operands, "y", quant=Q(fo), axis=int(rng.integers(1, 4)))]
        equal(graph, x)
        return
    quant = Q(out_fix_point(activation, fo))
    graph.outputs = [graph.add(op, operands, "y", quant=quant, activation=activation)]
    digits = 2 + min(points) - quant.fix_point if op == "add" else sum(points) - quant.fix_point
    equal(graph, x, fallbacks=("y",) if activation == "leaky_relu" and digits < 1 else ())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    op=st.sampled_from(["max_pool", "avg_pool"]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(small, small),
    pad=st.tuples(*[st.integers(0, 2)] * 4),
    ceil_mode=st.booleans(),
    fo=st.integers(1, 7),
    fill=fills,
)
def test_pooling(seed, op, kernel, stride, pad, ceil_mode, fo, fill) -> None:
    pad = tuple(min(p, k - 1) for p, k in zip(pad, (kernel[0], kernel[0], kernel[1], kernel[1]), strict=True))
    x = integers(np.random.default_rng(seed), (2, 9, 8, 33), fill)
    graph = Graph()
    source = graph.add_input("x", (1, *x.shape[1:]), Q(4))
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "ceil_mode": ceil_mode}
    graph.outputs = [graph.add(op, [source], "y", quant=Q(fo), **attrs)]
    equal(graph, x)


@pytest.mark.parametrize("scale", [(2, 2), (1, 3), (4, 1)])
@pytest.mark.parametrize("half_pixel", [False, True])
def test_nearest(scale: tuple[int, int], half_pixel: bool) -> None:
    x = integers(np.random.default_rng(0), (1, 5, 4, 9), "random")
    graph = Graph()
    source = graph.add_input("x", x.shape, Q(4))
    graph.outputs = [graph.add("resize", [source], "y", quant=Q(2), scale=scale, half_pixel=half_pixel)]
    equal(graph, x)


@pytest.mark.parametrize("op", ["relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish", "fix", "identity"])
def test_one_value(op: str) -> None:
    x = np.arange(-128, 128).astype(np.int8).reshape(1, 4, 4, 16)
    graph = Graph()
    attrs = {"alpha": 26 / 256} if op == "leaky_relu" else {}
    graph.outputs = [graph.add(op, [graph.add_input("x", x.shape, Q(5))], "y", quant=Q(7), **attrs)]
    equal(graph, x)


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("transpose", {"order": (0, 3, 1, 2)}),
        ("reshape", {"shape": (1, 48, 4)}),
        ("slice", {"begin": (0, 1, 0, 2), "end": (1, 4, 6, 8), "strides": (1, 2, 3, 1)}),
    ],
)
@pytest.mark.parametrize("fo", [3, 4, 6])
def test_rearranging(op: str, attrs: dict[str, tuple[int, ...]], fo: int) -> None:
    x = integers(np.random.default_rng(0), (1, 4, 6, 8), "random")
    graph = Graph()
    moved = graph.add(op, [graph.add_input("x", x.shape, Q(4))], "moved", quant=Q(fo), **attrs)
    graph.outputs = [graph.add("relu", [moved], "y", quant=Q(4)), moved]
    equal(graph, x)


def test_other_operators_run_by_their_rule() -> None:
    x = integers(np.random.default_rng(0), (1, 4, 6, 8), "random")
    graph = Graph()
    source = graph.add_input("x", x.shape, Q(4))
    padded = graph.add("pad", [source], "padded", quant=Q(4), pads=(0, 0, 1, 2, 0, 1, 0, 0))
    graph.outputs = [graph.add("relu", [padded], "y", quant=Q(4))]
    equal(graph, x, fallbacks=("padded",))


def test_weights_that_could_overflow_are_refused() -> None:
    """32 bits hold 2 * acc of 65,535 products of the extremes; one channel more runs by the integer rule."""
    channels = 1 << 16
    x = np.full((1, 1, 1, channels), -128, np.int8)
    weights = np.full((1, 1, 1, channels), -128, np.int8)
    equal(layer("conv2d", x[..., :-1], weights[..., :-1], None, 10), x[..., :-1])
    backend = CoreBackend(layer("conv2d", x, weights, None, 10))
    assert backend.fallbacks == ("y",)
    with pytest.raises(ToolError, match="overflows"):
        backend.run({"x": x})


@pytest.mark.parametrize(
    "settings",
    [
        {"groups": 3},
        {"stride": (0, 1)},
        {"pad": (-1, 0, 0, 0)},
        {"kernel": "abacus"},
        {"method": "guess"},
    ],
)
def test_the_core_refuses_nonsense(settings: dict[str, object]) -> None:
    weights, bias = np.ones((4, 1, 1, 2), np.int8), np.zeros(4, np.int32)
    with pytest.raises(ValueError):
        core.convolution(weights, bias, core.Epilogue(1), **settings)


def test_the_core_refuses_inputs_of_another_shape() -> None:
    kernel = core.convolution(np.ones((4, 3, 3, 2), np.int8), np.zeros(4, np.int32), core.Epilogue(1))
    for shape in [(1, 5, 5, 3), (1, 2, 5, 2), (1, 0, 5, 2)]:
        with pytest.raises(ValueError):
            kernel(np.zeros(shape, np.int8))


def test_one_backend_in_many_threads() -> None:
    rng = np.random.default_rng(0)
    graph = layer("conv2d", np.zeros((1, 12, 12, 8)), integers(rng, (24, 3, 3, 8), "random"), None, 0)
    backend = CoreBackend(graph)
    inputs = [integers(rng, (1, 12, 12, 8), "random") for _ in range(8)]
    expected = [interpreter.run(graph, {"x": x})["y"] for x in inputs]
    found: list[np.ndarray | None] = [None] * len(inputs)

    def work(index: int) -> None:
        for _ in range(5):
            found[index] = backend.run({"x": inputs[index]})["y"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, right)
