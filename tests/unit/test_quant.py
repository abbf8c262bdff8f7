"""Calibration, fix points, legality and fake quantization."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.ir.graph import Graph  # noqa: E402
from lowwatt.ir.interpreter import execute, run  # noqa: E402
from lowwatt.quant import quantize, vitis  # noqa: E402
from lowwatt.quant.analysis import accumulated_snr, snr_db  # noqa: E402
from lowwatt.quant.calibration import Histogram  # noqa: E402
from lowwatt.quant.executor import TorchExecutor, fake_quantize  # noqa: E402
from lowwatt.quant.fit import Samples, fit, widest_fix_point  # noqa: E402
from lowwatt.quant.scheme import load_scheme  # noqa: E402
from lowwatt.types import QuantParams  # noqa: E402

RANDOM = np.random.default_rng(7)


def small_graph(activation: str = "relu") -> Graph:
    """conv → relu twice, concat, max pool, conv: what a CSP block is made of."""
    graph = Graph("small")
    graph.add_input("images", (1, 12, 12, 1))
    x = conv(graph, "a", "images", 1, 4, stride=(2, 2))
    x = graph.add(activation, [x], "a_act")
    y = graph.add("relu", [conv(graph, "b", x, 4, 4)], "b_act")
    z = graph.add("concat", [x, y], "joined", axis=3)
    z = graph.add("max_pool", [z], "pooled", kernel=(3, 3), stride=(1, 1), pad=(1, 1, 1, 1))
    graph.outputs = [conv(graph, "c", z, 8, 3)]
    return graph


def conv(graph: Graph, name: str, source: str, inputs: int, outputs: int, stride: tuple[int, int] = (1, 1)) -> str:
    weights = RANDOM.normal(0, (9 * inputs) ** -0.5, (outputs, 3, 3, inputs)).astype(np.float32)
    graph.add_constant(f"{name}_w", weights)
    graph.add_constant(f"{name}_b", RANDOM.normal(0, 0.3, outputs).astype(np.float32))
    operands = [source, f"{name}_w", f"{name}_b"]
    return graph.add("conv2d", operands, name, pad=(1, 1, 1, 1), stride=stride)


def images(count: int = 8) -> list[np.ndarray]:
    return [RANDOM.integers(0, 256, (1, 12, 12, 1)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 255, -1), (0, 127.4, 0), (-1, 0.99, 7), (0, 0, 18), (-300, 1, -2)]
)
def test_widest_fix_point_clips_nothing(low: float, high: float, expected: int) -> None:
    assert widest_fix_point(low, high) == expected


def test_histogram_growth_keeps_every_element() -> None:
    histogram = Histogram()
    for scale in (0.001, 1.0, 77.0):
        histogram.update(torch.from_numpy(RANDOM.normal(0, scale, 1000).astype(np.float32)))
    assert histogram.counts.sum() == 3000
    assert 2.0**histogram.exponent >= max(-histogram.low, histogram.high)


def test_least_squares_prefers_a_finer_grid_when_outliers_are_few() -> None:
    data = np.concatenate([RANDOM.normal(0, 0.1, 100_000), [1.5]]).astype(np.float32)
    samples, format = Samples.of_constant(data, None), load_scheme("vitis").weights
    assert fit(samples, format, "mse").fix_point > fit(samples, format, "minmax").fix_point


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_quantized_graph_is_legal_and_close(method: str) -> None:
    report = quantize(small_graph(), images(), calibration=method)
    assert vitis.violations(report.quantized) == []
    assert report.images == 8
    assert report.quantized.is_quantized
    snr = accumulated_snr(report.floating, report.quantized, images(1)[0])
    assert min(snr.values()) > 15


def test_copies_share_one_fix_point() -> None:
    quantized = quantize(small_graph(), images()).quantized
    joined = quantized.tensor("joined").quant
    pool = quantized.node("pooled")
    assert all(quantized.tensor(i).quant == joined for i in quantized.node("joined").inputs)
    assert quantized.tensor(pool.name).quant == joined


def test_fake_quantized_network_equals_the_integers() -> None:
    quantized = quantize(small_graph(), images()).quantized
    image = images(1)[0]
    fake = TorchExecutor(quantized)({"images": torch.from_numpy(image)})
    for name, integers in run(quantized, {"images": image}).items():
        quant = quantized.tensor(name).quant
        assert quant is not None
        assert np.array_equal(fake[name].numpy(), quant.dequantize(integers))


def test_fake_quantize_rounds_half_up_and_saturates() -> None:
    value = torch.tensor([-1000.0, -1.5, -0.5, 0.5, 1.5, 2.5, 1000.0])
    assert fake_quantize(value, QuantParams.power_of_two(0)).tolist() == [-128, -1, 0, 1, 2, 3, 127]


def test_shift_windows_are_kept_with_extreme_weights() -> None:
    graph = small_graph()
    graph.tensors["b_w"].data = graph.tensors["b_w"].data * np.float32(1e-4)  # type: ignore[operator]
    graph.tensors["c_b"].data = graph.tensors["c_b"].data * np.float32(1e-6)  # type: ignore[operator]
    graph.tensors["a_w"].data = graph.tensors["a_w"].data * np.float32(1e4)  # type: ignore[operator]
    quantized = quantize(graph, images()).quantized
    assert vitis.violations(quantized) == []
    execute(quantized, {"images": images(1)[0]})


def test_violations_names_the_broken_rule() -> None:
    quantized = quantize(small_graph(), images()).quantized
    quantized.tensor("c").quant = QuantParams.power_of_two(30)
    assert "shift_cut" in vitis.violations(quantized)[0]


def test_an_operator_without_integers_is_a_float_island() -> None:
    report = quantize(small_graph("silu"), images())
    assert [node.name for node in report.float_nodes] == ["a_act"]
    assert report.quantized.tensor("a_act").quant is not None  # convolutions read it
    assert min(accumulated_snr(report.floating, report.quantized, images(1)[0]).values()) > 15


def test_decoding_behind_the_last_island_stays_in_float() -> None:
    """Sigmoid, and what joins it with the rest of the output; but not the convolutions, nor what they read."""
    graph = small_graph("silu")
    gate = graph.add("sigmoid", ["c"], "gate")
    stride = graph.add_constant("stride", np.full(3, 8.0, np.float32))
    scaled = graph.add("mul", [gate, stride], "scaled")
    graph.outputs = [graph.add("concat", [scaled, "pooled"], "all", axis=3)]
    report = quantize(graph, images())
    assert [node.name for node in report.float_nodes] == ["a_act", "gate", "scaled", "all"]
    quantized = report.quantized
    assert all(quantized.tensor(name).quant is None for name in ("gate", "scaled", "all", "stride"))
    assert quantized.tensor("c").quant is not None and vitis.violations(quantized) == []
    image = images(1)[0]
    found = run(quantized, {"images": image})["all"]
    fake = TorchExecutor(quantized)({"images": torch.from_numpy(image)})["all"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fake.numpy(), rtol=1e-5)


def test_an_operator_of_somebody_elses_is_named() -> None:
    graph = small_graph()
    graph.outputs = [graph.add("custom", ["c"], "mine", type="Mine", shape=(1, 4))]
    with pytest.raises(ToolError, match="Mine cannot run") as caught:
        quantize(graph, images())
    assert caught.value.where == "mine"


def test_calibration_refuses_no_images_and_broken_values() -> None:
    with pytest.raises(ToolError, match="at least one image"):
        quantize(small_graph(), [])
    with pytest.raises(ToolError, match="not finite"):
        quantize(small_graph(), [np.full((1, 12, 12, 1), np.nan, np.float32)])


def test_snr_of_an_exact_and_a_noisy_copy() -> None:
    signal = np.array([3.0, -4.0])
    assert snr_db(signal, signal) == float("inf")
    assert snr_db(signal, signal * 0.9) == pytest.approx(20)
