"""Operators: shapes, refusals, and the float form against the integer form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph, Node
from lowwatt.ir.interpreter import run
from lowwatt.ir.ops import operator_names, spec
from lowwatt.types import QuantParams, Shape

Q = QuantParams.power_of_two
MAP = (1, 8, 10, 4)

SHAPES: list[tuple[str, list[Shape], dict[str, Any], Shape]] = [
    ("conv2d", [MAP, (6, 3, 3, 4), (6,)], {"stride": (2, 2), "pad": (1, 1, 1, 1)}, (1, 4, 5, 6)),
    ("conv2d", [MAP, (6, 3, 3, 2)], {"group": 2}, (1, 6, 8, 6)),
    ("conv2d", [MAP, (6, 3, 2, 4)], {"dilation": (2, 3)}, (1, 4, 7, 6)),
    ("depthwise_conv2d", [MAP, (2, 3, 3, 4), (8,)], {"pad": (1, 1, 0, 0)}, (1, 8, 8, 8)),
    ("transposed_conv2d", [MAP, (6, 4, 4, 4)], {"stride": (2, 2), "pad": (1, 1, 1, 1)}, (1, 16, 20, 6)),
    ("linear", [(3, 5), (7, 5), (7,)], {}, (3, 7)),
    ("linear", [(1, 2, 3, 5), (7, 5)], {}, (1, 2, 3, 7)),
    ("max_pool", [MAP], {"kernel": (3, 3), "stride": (2, 2)}, (1, 3, 4, 4)),
    ("max_pool", [MAP], {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True}, (1, 4, 5, 4)),
    # the window that would begin behind the map is dropped, as in PyTorch
    ("avg_pool", [(1, 4, 4, 2)], {"kernel": (1, 1), "stride": (2, 2), "ceil_mode": True}, (1, 2, 2, 2)),
    ("add", [MAP, (4,)], {}, MAP),
    ("mul", [MAP, MAP, (1,)], {}, MAP),
    ("concat", [MAP, MAP], {"axis": 3}, (1, 8, 10, 8)),
    ("concat", [MAP], {"axis": -1}, MAP),
    ("slice", [MAP], {"begin": (0, 1, 0, 0), "end": (1, 8, -1, 4), "strides": (1, 2, 2, 1)}, (1, 4, 5, 4)),
    ("slice", [MAP], {"begin": (0, 0, 0, 0), "end": (2**31,) * 4, "strides": (1, 1, 1, 1)}, MAP),
    ("pad", [MAP], {"pads": (0, 0, 1, 2, 0, 3, 0, 0)}, (1, 11, 13, 4)),
    ("resize", [MAP], {"scale": (2, 3)}, (1, 16, 30, 4)),
    ("resize", [MAP], {"scale": (0.5, 0.5), "mode": "bilinear"}, (1, 4, 5, 4)),
    ("reshape", [MAP], {"shape": (1, 320)}, (1, 320)),
    ("transpose", [MAP], {"order": (0, 3, 1, 2)}, (1, 4, 8, 10)),
    ("reduce_mean", [MAP], {"axes": (1, 2), "keepdims": False}, (1, 4)),
    ("reduce_max", [MAP], {"axes": (-1,), "keepdims": True}, (1, 8, 10, 1)),
    ("softmax", [MAP], {"axis": -1}, MAP),
    ("batch_norm", [MAP, (4,), (4,), (4,), (4,)], {}, MAP),
    ("fix", [MAP], {}, MAP),
    ("custom", [MAP], {"type": "Mine", "shape": (1, 5)}, (1, 5)),
]

REFUSED: list[tuple[str, list[Shape], dict[str, Any], str]] = [
    ("conv2d", [(8, 10, 4), (6, 3, 3, 4)], {}, "feature map"),
    ("conv2d", [MAP, (6, 3, 3, 5)], {}, "do not fit the input"),
    ("conv2d", [MAP, (6, 3, 4)], {}, "rank 4"),
    ("conv2d", [MAP, (6, 3, 3, 4), (5,)], {}, "bias must have shape"),
    ("conv2d", [MAP, (6, 9, 3, 4)], {}, "larger than the padded map"),
    ("conv2d", [MAP, (6, 3, 3, 4)], {"stride": (0, 1)}, "at least 1"),
    ("conv2d", [MAP, (6, 3, 3, 4)], {"stride": 2}, "whole numbers"),
    ("conv2d", [MAP, (6, 3, 3, 4)], {"pad": (1, 1)}, "4 whole numbers"),
    ("conv2d", [MAP, (6, 3, 3, 4)], {"group": 4}, "does not divide"),
    ("conv2d", [MAP, (6, 3, 3, 4)], {"activation": "gelu"}, "unknown activation"),
    ("conv2d", [MAP], {}, "takes 2 to 3 inputs"),
    ("depthwise_conv2d", [MAP, (1, 3, 3, 5)], {}, "do not fit"),
    ("transposed_conv2d", [MAP, (6, 1, 1, 4)], {"pad": (4, 4, 0, 0)}, "takes the whole map"),
    ("linear", [(3, 5), (7, 6)], {}, "do not fit"),
    ("max_pool", [MAP], {"kernel": (2, 2), "stride": (2, 2), "pad": (2, 2, 0, 0)}, "smaller than the window"),
    ("add", [MAP, (3,)], {}, "do not fit"),
    ("concat", [MAP, (1, 8, 9, 4)], {"axis": 3}, "agree in all but axis"),
    ("concat", [MAP], {"axis": 4}, "no axis 4"),
    ("slice", [MAP], {"begin": (0, 8, 0, 0), "end": (1, 8, 8, 8), "strides": (1, 1, 1, 1)}, "takes nothing"),
    ("slice", [MAP], {"begin": (0,) * 4, "end": (1,) * 4, "strides": (1, 1, 1, -1)}, "at least 1"),
    ("pad", [MAP], {"pads": (0,) * 8, "mode": "reflect"}, "unknown mode"),
    ("resize", [MAP], {"scale": (2, 2), "mode": "cubic"}, "unknown mode"),
    ("resize", [MAP], {"scale": (0.01, 1)}, "leaves nothing"),
    ("reshape", [MAP], {"shape": (1, 321)}, "numbers of elements differ"),
    ("transpose", [MAP], {"order": (0, 1, 1, 2)}, "no order"),
    ("reduce_mean", [MAP], {"axes": (), "keepdims": True}, "names no axis"),
    ("batch_norm", [MAP, (4,), (4,), (3,), (4,)], {}, "one scale"),
    ("fix", [MAP], {"round_mode": "UP"}, "unknown round_mode"),
]


def _graph(op: str, shapes: list[Shape], attrs: dict[str, Any]) -> Graph:
    graph = Graph()
    names = [graph.add_input(f"x{i}", s) for i, s in enumerate(shapes)]
    graph.outputs = [graph.add(op, names, "y", **attrs)]
    return graph


@pytest.mark.parametrize(("op", "shapes", "attrs", "expected"), SHAPES)
def test_shape(op: str, shapes: list[Shape], attrs: dict[str, Any], expected: Shape) -> None:
    assert _graph(op, shapes, attrs).tensor("y").shape == expected


@pytest.mark.parametrize(("op", "shapes", "attrs", "message"), REFUSED)
def test_refused(op: str, shapes: list[Shape], attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError) as error:
        _graph(op, shapes, attrs)
    assert message in str(error.value) and error.value.where == "y"


def test_attributes_are_checked_by_name() -> None:
    with pytest.raises(ToolError, match="no attribute strides"):
        _graph("max_pool", [MAP], {"kernel": (2, 2), "strides": (2, 2)})
    with pytest.raises(ToolError, match="needs the attribute stride"):
        _graph("max_pool", [MAP], {"kernel": (2, 2)})
    with pytest.raises(ToolError, match="unknown operator"):
        _graph("conv3d", [MAP], {})


def test_every_operator_but_custom_has_a_float_form() -> None:
    assert [name for name in operator_names() if spec(name).torch is None] == ["custom"]


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "macs"),
    [
        ("conv2d", [MAP, (6, 3, 3, 4)], {"pad": (1, 1, 1, 1)}, 8 * 10 * 6 * 36),
        ("conv2d", [MAP, (6, 1, 1, 2)], {"group": 2}, 8 * 10 * 6 * 2),
        ("depthwise_conv2d", [MAP, (1, 3, 3, 4)], {"pad": (1, 1, 1, 1)}, 8 * 10 * 4 * 9),
        ("transposed_conv2d", [MAP, (6, 2, 2, 4)], {"stride": (2, 2)}, 8 * 10 * 4 * 24),
        ("linear", [(3, 5), (7, 5)], {}, 3 * 5 * 7),
        ("relu", [MAP], {}, 0),
    ],
)
def test_macs(op: str, shapes: list[Shape], attrs: dict[str, Any], macs: int) -> None:
    graph = _graph(op, shapes, attrs)
    assert spec(op).macs(graph.node("y"), shapes, graph.tensor("y").shape) == macs


FLOAT_FORMS = [(op, shapes, attrs) for op, shapes, attrs, _ in SHAPES if op != "custom"] + [
    ("max_pool", [MAP], {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 0, 0, 1)}),
    ("avg_pool", [MAP], {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1), "ceil_mode": True}),
    ("avg_pool", [MAP], {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 0, 0, 1), "count_include_pad": False}),
    ("pad", [MAP], {"pads": (0, 0, 1, 2, 0, 3, 0, 0), "mode": "symmetric"}),
    ("resize", [MAP], {"scale": (2, 2), "mode": "bilinear", "half_pixel": True}),
    ("resize", [MAP], {"scale": (1.5, 2), "align_corners": True}),
    ("resize", [MAP], {"scale": (1.5, 2), "half_pixel": True}),
    *((op, [MAP], {}) for op in ("relu", "relu6", "sigmoid", "silu", "tanh", "hard_sigmoid", "hard_swish")),
    *((op, [MAP], {}) for op in ("exp", "neg", "identity")),
    ("leaky_relu", [MAP], {"alpha": 0.25}),
    ("clip", [MAP], {"min": -0.5, "max": 0.5}),
    ("sub", [MAP, (4,)], {}),
    ("div", [MAP, (4,)], {}),
]


@pytest.mark.parametrize(("op", "shapes", "attrs"), FLOAT_FORMS)
def test_float_form_has_the_shape_and_a_gradient(op: str, shapes: list[Shape], attrs: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    graph = _graph(op, shapes, attrs)
    operands = [(torch.rand(s) + 0.1).requires_grad_() for s in shapes]
    out = spec(op).torch(torch, graph.node("y"), operands)
    assert tuple(out.shape) == graph.tensor("y").shape
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(o.grad is not None for o in operands)


REAL_FORMS = [
    *((op, shapes, attrs) for op, shapes, attrs in FLOAT_FORMS if spec(op).real is not None),
    ("avg_pool", [MAP], {"kernel": (3, 3), "stride": (2, 2), "pad": (1,) * 4, "count_include_pad": False}),
    ("add", [MAP, MAP], {"activation": "leaky_relu", "alpha": 0.2}),
    ("mul", [MAP, (4,), (4,)], {"activation": "hard_swish"}),
    ("sqrt", [MAP], {}),
    ("pow", [MAP, (4,)], {}),
    ("conv2d", [MAP, (6, 3, 3, 2), (6,)], {"group": 2, "pad": (1, 1, 0, 1), "stride": (2, 1), "activation": "relu6"}),
    ("depthwise_conv2d", [MAP, (2, 3, 3, 4), (8,)], {"pad": (1, 1, 1, 1), "activation": "hard_swish"}),
    ("transposed_conv2d", [MAP, (3, 3, 3, 4)], {"stride": (2, 2), "pad": (1, 1, 1, 1)}),
    ("linear", [(2, 5), (3, 5), (3,)], {"activation": "leaky_relu"}),
]


@pytest.mark.parametrize(("op", "shapes", "attrs"), REAL_FORMS)
def test_float_form_in_numpy_is_that_of_torch(op: str, shapes: list[Shape], attrs: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rng, real, node = np.random.default_rng(0), spec(op).real, _graph(op, shapes, attrs).node("y")
    low = 0.1 if op in ("batch_norm", "sqrt", "pow", "div") else -4
    operands = [rng.uniform(low, 4, shape) for shape in shapes]
    assert real is not None
    expected = spec(op).torch(torch, node, [torch.from_numpy(x) for x in operands])
    np.testing.assert_allclose(real(node, operands), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_all_but_foreign_operators_have_a_float_form_in_numpy() -> None:
    assert {name for name in operator_names() if spec(name).real is None} == {"custom"}


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_average_is_pytorchs(ceil: bool, counted: bool) -> None:
    torch = pytest.importorskip("torch")
    attrs = {"kernel": (3, 3), "stride": (2, 2), "pad": (1,) * 4, "ceil_mode": ceil, "count_include_pad": counted}
    node = _graph("avg_pool", [MAP], attrs).node("y")
    x = torch.rand(MAP)
    ours = spec("avg_pool").torch(torch, node, [x]).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), 3, 2, 1, ceil, counted)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("align", [False, True])
def test_bilinear_is_pytorchs(align: bool) -> None:
    torch = pytest.importorskip("torch")
    attrs = {"scale": (2, 2), "mode": "bilinear", "half_pixel": not align, "align_corners": align}
    node, x = _graph("resize", [MAP], attrs).node("y"), torch.rand(MAP)
    ours = spec("resize").torch(torch, node, [x]).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        x.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear", align_corners=align
    )
    torch.testing.assert_close(ours, theirs)


EXACT = [  # operators whose integer form is the float form, rounded once
    ("conv2d", [MAP, (6, 3, 3, 4), (6,)], {"stride": (2, 2), "pad": (1, 0, 1, 0), "activation": "relu"}),
    ("conv2d", [MAP, (6, 3, 3, 2)], {"group": 2, "dilation": (2, 1)}),
    ("depthwise_conv2d", [MAP, (2, 3, 3, 4), (8,)], {"activation": "leaky_relu"}),
    ("transposed_conv2d", [MAP, (6, 4, 3, 4), (6,)], {"stride": (2, 2), "pad": (1, 1, 0, 2)}),
    ("linear", [(3, 5), (7, 5), (7,)], {"activation": "relu6"}),
    ("max_pool", [MAP], {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1), "ceil_mode": True}),
    ("avg_pool", [MAP], {"kernel": (2, 4), "stride": (2, 2), "pad": (1, 1, 1, 1)}),
    ("mul", [MAP, MAP], {"activation": "relu"}),
    ("add", [MAP, MAP, MAP], {}),
    ("concat", [MAP, MAP], {"axis": 3}),
    ("slice", [MAP], {"begin": (0, 1, 0, 0), "end": (1, 8, 9, 4), "strides": (1, 2, 2, 1)}),
    ("pad", [MAP], {"pads": (0, 0, 1, 2, 0, 3, 0, 0), "value": -0.5}),
    ("pad", [MAP], {"pads": (0, 0, 1, 2, 0, 3, 0, 0), "mode": "symmetric"}),
    ("resize", [MAP], {"scale": (2, 3)}),
    ("resize", [MAP], {"scale": (2, 2), "mode": "bilinear", "half_pixel": True}),
    ("transpose", [MAP], {"order": (0, 3, 1, 2)}),
    ("reshape", [MAP], {"shape": (1, 320)}),
    ("reduce_max", [MAP], {"axes": (1, 2), "keepdims": True}),
    ("reduce_mean", [MAP], {"axes": (1,), "keepdims": True}),
    ("leaky_relu", [MAP], {"alpha": 26 / 256}),
    ("relu6", [MAP], {}),
    ("identity", [MAP], {}),
]


@pytest.mark.parametrize(("op", "shapes", "attrs"), EXACT)
def test_integer_form_is_the_float_form_rounded_once(op: str, shapes: list[Shape], attrs: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    graph, fix_points, out = Graph(), [5, 6, 9], Q(4)
    if op == "add":
        fix_points = [5, 5, 5]  # equal: no guard bits are lost
    values = [rng.integers(-128, 128, s, dtype=np.int8) for s in shapes]
    names = [graph.add_input(f"x{i}", s, Q(f)) for i, (s, f) in enumerate(zip(shapes, fix_points, strict=False))]
    graph.outputs = [graph.add(op, names, "y", quant=out, **attrs)]
    ours = spec(op).integer(graph.node("y"), [_operand(v, f) for v, f in zip(values, fix_points, strict=False)], out)
    real = [torch.from_numpy(v).double() * 2.0**-f for v, f in zip(values, fix_points, strict=False)]
    exact = spec(op).torch(torch, graph.node("y"), real).numpy() * 2.0**4
    np.testing.assert_array_equal(ours, np.clip(np.floor(exact + 0.5), -128, 127))


def _operand(values: np.ndarray, fix_point: int) -> Any:
    from lowwatt.ir.opspec import IntTensor

    return IntTensor(values, Q(fix_point))


def test_unequal_addition_floors_to_guard_bits() -> None:
    graph = Graph()
    graph.add_input("a", (1, 1), Q(7))
    graph.add_input("b", (1, 1), Q(2))
    graph.outputs = [graph.add("add", ["a", "a", "a", "b"], "y", quant=Q(2))]
    # each a is floor(4 * -5 / 32) = -1 quarter: 10 - 3/4 rounds to 9, where the exact 10 - 15/32 rounds to 10
    assert run(graph, {"a": np.array([[-5]]), "b": np.array([[10]])})["y"].item() == 9


@pytest.mark.parametrize(
    ("op", "attrs", "quant", "message"),
    [
        ("relu6", {}, Q(3), "fix point 3"),
        ("leaky_relu", {"alpha": 0.1}, Q(4), "slope 0.1"),
        ("hard_sigmoid", {}, Q(5), "fix point of 7"),
        ("avg_pool", {"kernel": (3, 3), "stride": (1, 1), "pad": (1,) * 4, "count_include_pad": False}, Q(4), "count"),
    ],
)
def test_what_the_dpu_cannot_do_is_refused(op: str, attrs: dict[str, Any], quant: QuantParams, message: str) -> None:
    graph = Graph()
    graph.add_input("x", MAP, Q(4))
    graph.outputs = [graph.add(op, ["x"], "y", quant=quant, **attrs)]
    with pytest.raises(ToolError) as error:
        run(graph, {"x": np.zeros(MAP, np.int8)})
    assert message in str(error.value) and error.value.where == "y"


def test_fused_hard_swish_rounds_twice() -> None:
    """t8 = R(t) at hsigmoid_in, then the product with its gate: the same as two nodes."""
    rng = np.random.default_rng(2)
    x, w = rng.integers(-128, 128, (1, 4, 4, 8), dtype=np.int8), rng.integers(-128, 128, (8, 1, 1, 8), dtype=np.int8)
    fused, split = Graph(), Graph()
    for graph in (fused, split):
        graph.add_input("x", x.shape, Q(5))
        graph.add_constant("w", w, Q(9))
    fused.add("conv2d", ["x", "w"], "y", quant=Q(3), activation="hard_swish", hsigmoid_in=4)
    split.add("conv2d", ["x", "w"], "t", quant=Q(4))
    split.add("hard_swish", ["t"], "y", quant=Q(3))
    fused.outputs = split.outputs = ["y"]
    np.testing.assert_array_equal(run(fused, {"x": x})["y"], run(split, {"x": x})["y"])


def test_one_image_graph_runs_a_batch_on_torch() -> None:
    torch = pytest.importorskip("torch")
    whole = Node("s", "slice", ["x"], {"begin": (0, 0, 0, 0), "end": (1, 4, 4, 2), "strides": (1, 2, 2, 1)})
    flat = Node("r", "reshape", ["x"], {"shape": (1, 32)})
    x = torch.rand(3, 4, 4, 2)
    assert spec("slice").torch(torch, whole, [x]).shape == (3, 2, 2, 2)
    assert spec("reshape").torch(torch, flat, [x]).shape == (3, 32)
