"""Steps that improve a quantization: equalisation, bias correction, effort; errors by layer; allocated bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.quant_graphs import Net, images, residual_graph  # noqa: E402

from lowwatt.backends import open_backend  # noqa: E402
from lowwatt.compiler import compile  # noqa: E402
from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.ir.graph import Graph  # noqa: E402
from lowwatt.quant import quantize  # noqa: E402
from lowwatt.quant.allocate import CHOICES, allocate, layer_noise, with_allocation  # noqa: E402
from lowwatt.quant.balance import balance, channel_ranges  # noqa: E402
from lowwatt.quant.bias import correct_biases  # noqa: E402
from lowwatt.quant.budget import Budget  # noqa: E402
from lowwatt.quant.calibration import calibrate, collect  # noqa: E402
from lowwatt.quant.equalize import equalize  # noqa: E402
from lowwatt.quant.executor import TorchExecutor, quantizers_of  # noqa: E402
from lowwatt.quant.plan import WEIGHTED, make_plan  # noqa: E402
from lowwatt.quant.ptq import prepared_copy  # noqa: E402
from lowwatt.quant.scheme import load_scheme  # noqa: E402
from lowwatt.quant.sensitivity import Replay, layer_errors  # noqa: E402
from lowwatt.recipe import QuantSettings  # noqa: E402


def _outputs(graph: Graph, image: np.ndarray) -> dict[str, np.ndarray]:
    return {n: v.numpy() for n, v in TorchExecutor(graph)({"images": torch.from_numpy(image)}).items()}


def _spread(graph: Graph, name: str) -> float:
    """Ratio of the widest to the narrowest channel of a depthwise layer."""
    widest = np.abs(np.asarray(graph.tensor(name).data)).max((0, 1, 2))
    return float(widest.max() / widest.min())


def test_equalisation_keeps_the_function_and_evens_the_channels() -> None:
    graph = prepared_copy(residual_graph(), load_scheme("academic"))
    even = equalize(graph)
    for name, value in _outputs(graph, images(1)[0]).items():
        np.testing.assert_allclose(_outputs(even, images(1)[0])[name], value, rtol=1e-3, atol=1e-4)
    assert _spread(even, "deep_w") < _spread(graph, "deep_w") / 2
    assert graph.tensor("deep_w").data is not even.tensor("deep_w").data


def test_equalisation_stops_at_curves_outputs_and_shared_weights() -> None:
    net = Net()
    first = net.conv("first", "images", 4, activation="none")
    second = net.graph.add("silu", [first], "curve")
    third = net.conv("third", second, 4)
    weights = [net.graph.add("conv2d", [third, "shared_w"], n, pad=(1,) * 4) for n in ()]
    net.graph.outputs = [third, *weights]
    even = equalize(net.graph)
    for name in ("first_w", "third_w"):
        np.testing.assert_array_equal(even.tensor(name).data, net.graph.tensor(name).data)


def test_equalisation_helps_scales_that_all_channels_share() -> None:
    net = Net()
    deep = net.depthwise("deep", net.conv("stem", "images", 16))
    net.graph.outputs = [net.conv("body", deep, 4, 1, activation="none")]
    notes = quantize(net.graph, images(), scheme=load_scheme("snpe").with_bits(4, None), effort="good").notes
    by_name = {note.name: note for note in notes}
    assert by_name["equalize_channels"].kept
    assert by_name["equalize_channels"].snr_db > by_name["correct_means"].snr_db + 1


def _curved(spread: float = 2.0) -> Graph:
    """conv, SiLU, depthwise, SiLU, conv: channels in front of the depthwise layer differ by e**spread."""
    net = Net()
    first = net.conv("first", "images", 16, activation="none")
    factors = np.exp(net.random.normal(0, spread, 16)).astype(np.float32)
    net.graph.set_constant("first_w", net.graph.tensors["first_w"].data * factors[:, None, None, None])  # type: ignore
    deep = net.depthwise("deep", net.graph.add("silu", [first], "curve"), activation="none")
    net.graph.set_constant("deep_w", net.graph.tensors["deep_w"].data / factors)  # type: ignore[operator]
    net.graph.outputs = [net.conv("last", net.graph.add("silu", [deep], "bend"), 4, 1, activation="none")]
    return net.graph


def test_balancing_goes_through_curves_that_run_in_float() -> None:
    graph = prepared_copy(_curved(), load_scheme("onnxruntime"))
    even = balance(graph, images(), {"curve", "bend"})
    for name, value in _outputs(graph, images(1)[0]).items():
        np.testing.assert_allclose(_outputs(even, images(1)[0])[name], value, rtol=1e-3, atol=1e-4)
    before, after = (_widest_ratio(g, n) for g, n in ((graph, "curve"), (even, "curve.evened")))
    assert after < before / 2
    assert balance(graph, images(), set()).nodes == graph.nodes


def _widest_ratio(graph: Graph, name: str) -> float:
    low, high = channel_ranges(graph, images())[name]
    size = np.maximum(np.abs(low), np.abs(high))
    return float(size.max() / size.min())


def test_balancing_saves_what_one_scale_would_round_away() -> None:
    notes = {note.name: note for note in quantize(_curved(), images(), scheme="onnxruntime", effort="good").notes}
    assert notes["equalize_channels"].kept
    assert notes["equalize_channels"].snr_db > notes["correct_means"].snr_db + 3


def test_the_worst_layers_stay_in_float_within_their_share_of_the_work() -> None:
    report = quantize(_curved(), images(), scheme="onnxruntime", effort="good", budget=Budget(float_share=0.3))
    spared = report.plan.spared
    work = {node.name: np.prod(report.floating.tensor(node.inputs[1]).shape) for node in report.floating.nodes
            if node.op in ("conv2d", "depthwise_conv2d")}  # fmt: skip
    assert spared and sum(work[name] for name in spared) <= 0.3 * sum(work.values())
    assert spared <= {node.name for node in report.float_nodes}
    assert all("spared" in report.plan.floats[name] for name in spared if name in report.plan.floats)
    assert all(report.quantized.tensor(f"{name}_w").quant is None for name in spared)


def test_layers_stay_in_float_while_the_target_is_quick_enough() -> None:
    """A millisecond for each convolution in float: two may, and they are those that lose most."""

    def latency(graph: Graph) -> float:
        layers = [node for node in graph.nodes if node.op in WEIGHTED]
        return float(sum(graph.tensor(node.inputs[1]).quant is None for node in layers))

    def spared(limit: float) -> frozenset[str]:
        budget = Budget(max_ms=limit, latency=latency)
        return quantize(residual_graph(), images(), effort="good", budget=budget).plan.spared

    two = spared(2.5)
    assert len(two) == 2 and spared(1.0) < two and not spared(0.5)
    with pytest.raises(ToolError, match="no latency"):
        quantize(residual_graph(), images(), scheme="onnxruntime", effort="good", budget=Budget(max_ms=1))


def test_what_the_dpu_leaves_to_the_host_is_compiled_and_runs() -> None:
    from lowwatt.verbs.quantize import budget_of

    whole = compile(quantize(residual_graph(), images()).quantized)
    budget = budget_of(QuantSettings(max_ms=1.5 * whole.latency_ms), "ultra96v2-lpcv")
    report = quantize(residual_graph(), images(), effort="good", budget=budget)
    program = compile(report.quantized)
    assert report.plan.spared and whole.latency_ms < program.latency_ms <= 1.5 * whole.latency_ms
    assert {segment.side for segment in program.segments} == {"dpu", "host"}
    image = {"images": images()[0][:1]}
    wanted = open_backend("reference", report.quantized).run(image)
    for name, value in open_backend("mixed", program, host="core").run(image).items():
        np.testing.assert_array_equal(value, wanted[name])


def test_as_few_bits_as_keep_the_outputs() -> None:
    scheme = load_scheme("academic").with_bits(8, 8)
    bits = {}
    for db in (10.0, 30.0):
        report = quantize(residual_graph(), images(), scheme=scheme, budget=Budget(keep_db=db))
        bits[db] = [slot.format.bits for slot in report.plan.of_kind("weights")]
        assert report.notes[1].name == "allocate_bits" and report.notes[1].snr_db > db - 3
    assert sum(bits[10.0]) < sum(bits[30.0]) <= 8 * len(bits[30.0])
    for budget, message in ((Budget(0.5, 20.0), "one of them"), (Budget(keep_db=90.0), "too coarse")):
        with pytest.raises(ToolError, match=message):
            quantize(residual_graph(), images(), scheme=scheme, budget=budget)
    with pytest.raises(ToolError, match="8 bits only"):
        quantize(residual_graph(), images(), budget=Budget(keep_db=20.0))


def test_corrected_biases_bring_the_means_back() -> None:
    graph = prepared_copy(residual_graph(), load_scheme("academic"))
    plan = make_plan(graph, load_scheme("academic").with_bits(4, 4))
    batches = images(8)
    params = calibrate(graph, plan, collect(graph, batches), "minmax")
    corrected, formats = correct_biases(graph, graph, plan, params, batches, "minmax")
    images_ = torch.from_numpy(np.concatenate(batches))

    def mean(of: Graph, quantizers: dict) -> np.ndarray:  # type: ignore[type-arg]
        return TorchExecutor(of, quantizers)({"images": images_})["map"].mean((0, 1, 2)).numpy()

    exact = mean(graph, {})
    before = np.abs(mean(graph, quantizers_of(params)) - exact).max()
    assert np.abs(mean(corrected, quantizers_of(formats)) - exact).max() < before / 20


def test_a_step_that_does_not_help_is_taken_back() -> None:
    report = quantize(residual_graph(), images(), effort="good")
    best = max(note.snr_db for note in report.notes)
    kept = [note.snr_db for note in report.notes if note.kept]
    assert kept == sorted(kept) and kept[-1] == best


def test_unknown_effort_and_useless_images_are_refused() -> None:
    with pytest.raises(ToolError, match="unknown effort"):
        quantize(residual_graph(), images(), effort="god")
    with pytest.raises(ToolError, match="blank"):
        quantize(residual_graph(), [np.full((2, 12, 12, 1), 7.0, np.float32)])


def test_few_or_unlike_images_are_warned_about_with_a_measure() -> None:
    assert "cannot be checked" in quantize(residual_graph(), images(1)).warnings[0]
    dark = [image / 40 for image in images(4)]
    mixed = [image for pair in zip(images(4), dark, strict=True) for image in pair]
    assert "ranges differ" in quantize(residual_graph(), mixed).warnings[0]
    assert quantize(residual_graph(), images(32)).warnings == []


# -- errors by layer, allocated bits ------------------------------------------------------------------------


def test_layer_errors_name_the_layer_that_was_spoiled() -> None:
    report = quantize(residual_graph(), images(), scheme=load_scheme("academic").with_bits(8, 8))
    coarse = report.plan.slots["body_w"].format.model_copy(update={"bits": 2})
    plan = make_plan(report.floating, load_scheme("academic").with_bits(8, 8))
    plan.slots["body_w"] = type(plan.slots["body_w"])("body_w", "weights", coarse, "spoiled", "body_w")
    params = calibrate(report.floating, plan, collect(report.floating, images()), "mse")
    spoiled = replace(report, plan=plan, params=params, changed=report.floating)
    rows = layer_errors(spoiled, np.concatenate(images()))
    assert max(rows, key=lambda row: row.gain).node == "body"
    assert min(rows, key=lambda row: min(row.alone.values())).node == "body"
    assert all(-1 <= row.cosine <= 1.000001 for row in rows)


def test_replaying_a_change_is_running_the_whole_network() -> None:
    graph = prepared_copy(residual_graph(), load_scheme("academic"))
    report = quantize(graph, images())
    batch = np.concatenate(images(2))
    some = quantizers_of({name: report.params[name] for name in ("deep_w", "sum", "images") if name != "images"})
    whole = TorchExecutor(graph, some)({"images": torch.from_numpy(batch)})
    for name, value in Replay(graph, {}, batch).with_quantizers(some).items():
        assert torch.equal(value, whole[name])


def test_bits_go_to_the_layers_that_need_them() -> None:
    graph = prepared_copy(residual_graph(), load_scheme("academic"))
    plan = make_plan(graph, load_scheme("academic").with_bits(8, 8))
    noise = layer_noise(graph, plan, collect(graph, images()), np.concatenate(images()))
    whole = allocate(graph, noise, snr_db=-100)
    half = allocate(graph, noise, size=whole.size * 2)
    assert set(whole.bits.values()) == {CHOICES[-1]}
    assert half.size <= whole.size * 2 and len(set(half.bits.values())) > 1
    assert half.snr_db > whole.snr_db
    kept = allocate(graph, noise, snr_db=half.snr_db - 0.01)
    assert kept.size <= half.size * 1.05
    slots = with_allocation(plan, graph, half).slots
    assert {name: slots[graph.node(name).inputs[1]].format.bits for name in half.bits} == half.bits


def test_a_share_of_the_size_is_kept_by_giving_bits_where_they_count() -> None:
    report = quantize(residual_graph(), images(), scheme=load_scheme("academic").with_bits(8, 8), budget=Budget(0.6))
    slots = {slot.name: slot.format.bits for slot in report.plan.of_kind("weights")}
    sizes = {name: np.prod(report.floating.tensor(name).shape) for name in slots}
    assert sum(sizes[n] * slots[n] for n in slots) <= 0.6 * 8 * sum(sizes.values())
    assert [note.name for note in report.notes if note.kept][:2] == ["calibrate_ranges", "allocate_bits"]
    with pytest.raises(ToolError, match="8 bits only"):
        quantize(residual_graph(), images(), budget=Budget(0.5))


def test_impossible_budgets_are_refused() -> None:
    graph = prepared_copy(residual_graph(), load_scheme("academic"))
    noise = {"stem": dict.fromkeys(CHOICES, 0.1)}
    with pytest.raises(ToolError, match="do not fit"):
        allocate(graph, noise, size=1)
    with pytest.raises(ToolError, match="too coarse"):
        allocate(graph, noise, snr_db=50)
    with pytest.raises(ToolError, match="one of them"):
        allocate(graph, noise)
