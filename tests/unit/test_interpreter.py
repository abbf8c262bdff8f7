"""The integer reference: inputs, batches, mixed graphs, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.ir.interpreter import execute, on_integers, run
from lowwatt.types import QuantParams

Q = QuantParams.power_of_two


def _network() -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph("net")
    graph.add_input("x", (1, 6, 6, 3), Q(4))
    graph.add_constant("w", rng.integers(-128, 128, (8, 3, 3, 3), dtype=np.int8), Q(8))
    graph.add_constant("b", rng.integers(-128, 128, (8,), dtype=np.int8), Q(7))
    graph.add("conv2d", ["x", "w", "b"], "c", quant=Q(3), pad=(1, 1, 1, 1), activation="relu")
    begin, end, strides = (0, 0, 0, 0), (1, 6, 6, 8), (1, 2, 2, 1)
    graph.add("slice", ["c"], "s", quant=Q(3), begin=begin, end=end, strides=strides)
    graph.add("reshape", ["s"], "r", quant=Q(3), shape=(1, 72))
    graph.outputs = ["c", "r"]
    return graph.verify()


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, (count, 6, 6, 3), dtype=np.int8)


def test_outputs_have_the_tensors_type_and_shape() -> None:
    out = run(_network(), {"x": _images(1)})
    assert {k: (v.shape, v.dtype) for k, v in out.items()} == {"c": ((1, 6, 6, 8), np.int8), "r": ((1, 72), np.int8)}


def test_execute_gives_every_tensor() -> None:
    assert list(execute(_network(), {"x": _images(1)})) == ["x", "c", "s", "r"]


def test_a_batch_is_its_images() -> None:
    graph, images = _network(), _images(3)
    together = run(graph, {"x": images})
    for i in range(3):
        alone = run(graph, {"x": images[i : i + 1]})
        assert all(np.array_equal(alone[k][0], together[k][i]) for k in graph.outputs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_input_is_quantized(dtype: type) -> None:
    graph, images = _network(), _images(1)
    real = (images * 0.0625).astype(dtype)
    np.testing.assert_array_equal(run(graph, {"x": real})["c"], run(graph, {"x": images})["c"])
    np.testing.assert_array_equal(execute(graph, {"x": np.full((1, 6, 6, 3), 99.0)})["x"], 127)


def test_wider_integers_are_taken_where_they_fit() -> None:
    graph, images = _network(), _images(1)
    np.testing.assert_array_equal(run(graph, {"x": images.astype(np.int64)})["c"], run(graph, {"x": images})["c"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "an input is missing"),
        ({"x": _images(1), "y": _images(1)}, "no such input"),
        ({"x": np.zeros((1, 6, 6, 4), np.int8)}, "wrong shape"),
        ({"x": np.zeros((6, 6, 3), np.int8)}, "wrong shape"),
        ({"x": np.zeros((0, 6, 6, 3), np.int8)}, "wrong shape"),
        ({"x": np.full((1, 6, 6, 3), 128)}, "out of range"),
        ({"x": np.zeros((1, 6, 6, 3), bool)}, "neither real nor whole"),
        ({"x": np.full((1, 6, 6, 3), np.nan)}, "cannot quantize"),
    ],
)
def test_inputs_are_checked(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        run(_network(), inputs)


def test_a_real_input_may_feed_several_fixes() -> None:
    graph = Graph()
    graph.add_input("x", (1, 4))
    graph.add("fix", ["x"], "a", quant=Q(0))
    graph.add("fix", ["x"], "b", quant=Q(1), round_mode="STD_ROUND")
    graph.outputs = ["a", "b"]
    out = run(graph, {"x": np.array([[-1.5, -0.25, 0.25, 70.0]], np.float32)})
    assert out["a"].tolist() == [[-1, 0, 0, 70]] and out["b"].tolist() == [[-3, -1, 1, 127]]
    with pytest.raises(ToolError, match="takes real values"):
        run(graph, {"x": np.zeros((1, 4), np.int8)})


def test_two_inputs_must_hold_as_many_images() -> None:
    graph = Graph()
    graph.add_input("x", (1, 4), Q(0))
    graph.add_input("y", (1, 4), Q(0))
    graph.outputs = [graph.add("add", ["x", "y"], "z", quant=Q(0))]
    with pytest.raises(ToolError, match="different numbers of images"):
        run(graph, {"x": np.zeros((2, 4), np.int8), "y": np.zeros((1, 4), np.int8)})


def _linear(quant: QuantParams | None, source: QuantParams | None = Q(4)) -> Graph:
    graph = Graph()
    weights = graph.add_constant("w", np.ones((2, 4), np.int8), Q(0))
    graph.add_input("x", (1, 4), source)
    graph.outputs = [graph.add("linear", ["x", weights], "y", quant=quant)]
    return graph


def _with(op: str, quant: QuantParams | None, source: QuantParams | None = Q(4), **attrs: Any) -> Graph:
    graph = Graph()
    graph.add_input("x", (1, 4), source)
    graph.outputs = [graph.add(op, ["x"], "y", quant=quant, **attrs)]
    return graph


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (_with("custom", Q(4), type="Mine", shape=(1, 4)), "custom has no rule here"),
    ],
)
def test_what_cannot_run_is_named(graph: Graph, why: str) -> None:
    with pytest.raises(ToolError) as error:
        run(graph, {"x": np.zeros((1, 4), np.int8)})
    assert error.value.where == "y" and error.value.why == why


@pytest.mark.parametrize(("out", "source"), [(None, Q(4)), (Q(4), None), (QuantParams(0.1, 3), Q(4))])
def test_a_layer_without_fix_points_all_round_runs_in_float(
    out: QuantParams | None, source: QuantParams | None
) -> None:
    graph = _linear(out, source)
    value = run(graph, {"x": np.full((1, 4), 0.25)})["y"]
    real = value if out is None else out.dequantize(value)
    assert np.allclose(real, 1.0, atol=0.06)


@pytest.mark.parametrize("data", [np.zeros(0, np.int8), np.zeros((8, 3, 3, 3), np.float32)])
def test_constants_must_hold_integers(data: np.ndarray) -> None:
    graph = _network()
    graph.tensors["w"].data = data
    with pytest.raises(ToolError, match="constant") as error:
        run(graph, {"x": _images(1)})
    assert error.value.where == "w"


# -- float islands -------------------------------------------------------------------------------------------


def _island() -> Graph:
    """int8 → exp → (float) → times a constant → int8, and the float value as an output."""
    graph = Graph("island")
    graph.add_input("x", (1, 4), Q(4))
    graph.add("exp", ["x"], "e")
    graph.add("mul", ["e", graph.add_constant("half", np.full((1, 4), 0.5, np.float32))], "m", quant=Q(5))
    graph.add("relu", ["m"], "r", quant=Q(4))
    graph.outputs = ["e", "r"]
    return graph.verify()


def test_an_island_computes_in_float_between_quantized_tensors() -> None:
    x = np.array([[-16, 0, 16, 127]], np.int8)
    values = execute(_island(), {"x": x})
    real = np.exp(x / 16.0)
    assert values["e"].dtype == np.float32 and values["m"].dtype == np.int8
    np.testing.assert_array_equal(values["e"], real.astype(np.float32))
    steps = np.floor(values["e"].astype(np.float64) * 0.5 * 32 + 0.5)
    np.testing.assert_array_equal(values["m"], np.minimum(steps, 127))
    np.testing.assert_array_equal(values["r"], (values["m"].astype(int) + 1) >> 1)


def test_on_integers_needs_a_rule_and_quantized_operands() -> None:
    graph = _island()
    assert [on_integers(graph, node) for node in graph.nodes] == [False, False, True]


def test_a_value_that_is_no_number_is_named() -> None:
    with pytest.raises(ToolError, match="cannot quantize the values") as error:
        run(_with("sqrt", Q(4)), {"x": np.full((1, 4), -1.0)})
    assert error.value.where == "y"
