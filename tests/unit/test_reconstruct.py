"""Cutting graphs into blocks, and reconstruction: coverage, grids, legality, losses, seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolox_graph import yolox_graph

torch = pytest.importorskip("torch")

from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.ir.arithmetic import quantize as quantize_values  # noqa: E402
from lowwatt.ir.graph import Graph  # noqa: E402
from lowwatt.ir.text import from_text, to_text  # noqa: E402
from lowwatt.quant import quantize, vitis  # noqa: E402
from lowwatt.quant.activations import Activation  # noqa: E402
from lowwatt.quant.blocks import Mode, cut  # noqa: E402
from lowwatt.quant.executor import fake_quantize  # noqa: E402
from lowwatt.quant.plan import WEIGHTED  # noqa: E402
from lowwatt.quant.ptq import QuantReport, report_of  # noqa: E402
from lowwatt.quant.reconstruct import BlockReport, Method, Settings, reconstruct  # noqa: E402
from lowwatt.quant.rounding import Adam, Masks, SoftWeights, pull_at  # noqa: E402
from lowwatt.quant.scheme import Scheme, load_scheme  # noqa: E402
from lowwatt.types import QuantParams  # noqa: E402

METHODS: list[Method] = ["adaround", "brecq", "qdrop"]
QUICK = Settings(iterations=10, batch=4, lr=0.02, scale_lr=0.002, pull=0.001)
LONG = replace(QUICK, iterations=200)


def conv(graph: Graph, random: np.random.Generator, name: str, source: str, outputs: int, **attrs: object) -> str:
    inputs = graph.tensor(source).shape[3]
    weights = random.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, 3, 3, inputs)).astype(np.float32)
    graph.add_constant(f"{name}_w", weights)
    graph.add_constant(f"{name}_b", random.normal(0, 0.1, outputs).astype(np.float32))
    return graph.add("conv2d", [source, f"{name}_w", f"{name}_b"], name, pad=(1, 1, 1, 1), activation="relu", **attrs)


def branched() -> Graph:
    """A stem, a residual sum, a concat with a pool, and two heads."""
    random = np.random.default_rng(3)
    graph = Graph("branched")
    x = conv(graph, random, "stem", graph.add_input("images", (1, 8, 8, 2)), 6)
    y = conv(graph, random, "b", conv(graph, random, "a", x, 6), 6)
    z = graph.add("add", [x, y], "sum")
    w = graph.add("max_pool", [z], "pool", kernel=(3, 3), stride=(1, 1), pad=(1, 1, 1, 1))
    both = graph.add("concat", [conv(graph, random, "c", z, 4), w], "joined", axis=3)
    graph.outputs = [conv(graph, random, "left", both, 3), conv(graph, random, "right", both, 5)]
    return graph


def images(count: int = 2, size: int = 8, channels: int = 2) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.uniform(0, 1, (4, size, size, channels)).astype(np.float32) for _ in range(count)]


def yolox() -> Graph:
    graph = yolox_graph(0.125, 32, classes=3)
    random = np.random.default_rng(1)
    for tensor in graph.constants():
        spread = (2 / np.prod(tensor.shape[1:])) ** 0.5
        tensor.data = random.normal(0, spread, tensor.shape).astype(np.float32)
    return graph


def run(
    report: QuantReport, batches: list[np.ndarray], settings: Settings = QUICK
) -> tuple[QuantReport, list[BlockReport]]:
    seen: list[BlockReport] = []
    graph, params = reconstruct(report.floating, report.plan, report.params, batches, settings, seen.append)
    return report_of(graph, report.plan, params, report.images), seen


def academic(weights: int = 3, activations: int = 4) -> Scheme:
    return load_scheme("academic").with_bits(weights, activations)


@pytest.mark.parametrize("mode", ["layer", "block"])
@pytest.mark.parametrize("make", [branched, yolox])
def test_blocks_hold_every_node_once_and_read_only_what_is_there(mode: Mode, make: object) -> None:
    graph = make()  # type: ignore[operator]
    known = set(graph.inputs)
    blocks = cut(graph, mode)
    for block in blocks:
        assert known.issuperset(block.inputs)
        known.update(block.outputs)
    assert sorted(n.name for b in blocks for n in b.nodes) == sorted(n.name for n in graph.nodes)
    assert known.issuperset(graph.outputs)


def test_layers_and_regions() -> None:
    layers = [block.name for block in cut(branched(), "layer")]
    assert layers == ["stem", "a", "b", "c", "joined", "left", "right"]
    blocks = cut(branched(), "block")
    assert [block.name for block in blocks] == ["stem", "a … c", "left … right"]
    assert blocks[1].inputs == ("stem",) and blocks[1].outputs == ("joined",)
    assert blocks[2].outputs == ("left", "right")
    assert any(len(block.inputs) > 1 and len(block.outputs) > 1 for block in cut(yolox(), "block"))
    assert max(len(block.layers) for block in cut(yolox(), "block")) == 8
    assert all(len(block.layers) <= 1 for block in cut(yolox(), "layer"))


@pytest.mark.parametrize("scheme", ["academic", "vitis"])
@pytest.mark.parametrize("method", METHODS)
def test_every_convolution_of_yolox_is_reconstructed(method: Method, scheme: str) -> None:
    batches = images(1, 32, 1)
    report = quantize(yolox(), batches, scheme=scheme)
    after, seen = run(report, batches, Settings(method=method, iterations=2, batch=2))
    layers = [node.name for node in report.floating.nodes if node.op in WEIGHTED]
    assert len(layers) == 88
    assert sorted(name for block in seen for name in block.layers) == sorted(layers)
    assert all(after.quantized.tensor(node.inputs[1]).quant for node in after.quantized.nodes if node.op in WEIGHTED)
    if scheme == "vitis":
        assert vitis.violations(after.quantized) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", [academic(), load_scheme("vitis"), load_scheme("onnxruntime"), load_scheme("snpe")])
def test_weights_lie_on_the_grid_and_no_block_gets_worse(method: Method, scheme: Scheme) -> None:
    report = quantize(branched(), images(), scheme=scheme)
    settings = Settings(method=method, iterations=60, batch=4, lr=0.02)
    graph, params = reconstruct(report.floating, report.plan, report.params, images(), settings)
    for slot in report.plan.of_kind("weights"):
        data, quant = graph.tensor(slot.name).data, params[slot.name]
        assert data is not None
        assert np.array_equal(quant.dequantize(quantize_values(data, quant)), data)
        float_data = report.floating.tensor(slot.name).data
        assert float_data is not None
        inside = np.abs(float_data) < np.min(np.abs(quant.step(4) * quant.qmax))
        assert np.all((np.abs(data - float_data) < quant.step(4) * 1.0001)[inside])
    _, seen = run(report, images(), settings)
    assert all(block.after <= block.before for block in seen)
    assert sum(block.after for block in seen) < sum(block.before for block in seen)


def test_fix_points_stay_and_real_scales_learn() -> None:
    vitis_report = quantize(branched(), images())
    _, params = reconstruct(vitis_report.floating, vitis_report.plan, vitis_report.params, images(), LONG)
    assert params == vitis_report.params
    report = quantize(branched(), images(), scheme=academic())
    _, params = reconstruct(report.floating, report.plan, report.params, images(), LONG)
    moved = {name for name, quant in params.items() if quant != report.params[name]}
    assert moved and all(report.plan.slots[name].kind == "activations" for name in moved)
    fixed = replace(LONG, learn_scales=False)
    assert reconstruct(report.floating, report.plan, report.params, images(), fixed)[1] == report.params


def test_biases_in_accumulator_steps_follow_the_scales() -> None:
    report = quantize(branched(), images(), scheme="onnxruntime")
    _, params = reconstruct(report.floating, report.plan, report.params, images(), LONG)
    source, weights = params["a"].scale, np.asarray(params["b_w"].scale)
    assert params["a"] != report.params["a"]
    assert np.allclose(params["b_b"].scale, source * weights)


def test_a_seed_gives_the_same_bytes() -> None:
    report = quantize(branched(), images(), scheme=academic())

    def weights(seed: int) -> bytes:
        settings = Settings(iterations=40, batch=2, lr=0.05, seed=seed)
        graph, _ = reconstruct(report.floating, report.plan, report.params, images(), settings)
        return b"".join(t.data.tobytes() for t in graph.constants() if t.data is not None)

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_fisher_weights_serve_every_head() -> None:
    report = quantize(branched(), images(), scheme=academic())
    _, seen = run(report, images(), Settings(method="brecq", iterations=12, batch=4, fisher=True))
    assert len(seen) == 3 and all(np.isfinite(block.after) for block in seen)


def test_a_layer_left_in_float_stays_there_and_shared_weights_are_rounded_once() -> None:
    graph = branched()
    graph.node("b").inputs[1] = "a_w"
    graph.prune()
    report = quantize(graph, images(), scheme=academic())
    plan = report.plan.without(["left_w"])
    params = {name: quant for name, quant in report.params.items() if name != "left_w"}
    result, _ = reconstruct(report.floating, plan, params, images(), QUICK)
    assert result.tensor("left_w").data is report.floating.tensor("left_w").data
    shared = result.tensor("a_w").data
    assert shared is not None
    assert np.array_equal(params["a_w"].dequantize(quantize_values(shared, params["a_w"])), shared)


def test_a_zero_point_for_each_channel_travels_everywhere() -> None:
    report = quantize(branched(), images(), scheme=load_scheme("academic_affine").with_bits(2, 4))
    after, _ = run(report, images())
    quant = after.quantized.tensor("b_w").quant
    assert quant is not None and len(set(quant.zero_points)) > 1
    again = from_text(to_text(after.quantized))
    assert again.tensor("b_w").quant == quant
    data = after.quantized.tensor("b_w").data
    assert data is not None and data.min() >= 0 and data.max() <= 3
    real = torch.from_numpy(quant.dequantize(data))
    torch.testing.assert_close(fake_quantize(real, quant), real)


def test_biases_learn_where_they_are_float() -> None:
    report = quantize(branched(), images(), scheme=academic())
    given = report.floating, report.plan, report.params
    learned, _ = reconstruct(*given, images(), LONG)
    kept, _ = reconstruct(*given, images(), replace(LONG, bias_lr=0.0))
    before = report.floating.tensor("c_b").data
    assert np.array_equal(kept.tensor("c_b").data, before)  # type: ignore[arg-type]
    assert not np.array_equal(learned.tensor("c_b").data, before)  # type: ignore[arg-type]
    narrow = quantize(branched(), images())
    result, _ = reconstruct(narrow.floating, narrow.plan, narrow.params, images(), LONG)
    assert result.tensor("c_b").data is narrow.floating.tensor("c_b").data


def test_refusals() -> None:
    report = quantize(branched(), images(), scheme=academic())
    given = report.floating, report.plan, report.params
    with pytest.raises(ToolError, match="at least one image"):
        reconstruct(*given, [], QUICK)
    with pytest.raises(ToolError, match="unknown method"):
        reconstruct(*given, images(), Settings(method="adarund"))  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="GiB of activations") as caught:
        reconstruct(*given, images(), Settings(memory=1 << 15))
    assert "images" in str(caught.value.hint)


def test_soft_weights_start_at_the_float_weights_and_harden_to_nearest() -> None:
    data = np.random.default_rng(2).normal(0, 0.3, (4, 3)).astype(np.float32)
    quant = QuantParams((0.2, 0.1, 0.2, 0.3), 0, 3, axis=0, rounding="PY3_ROUND")
    weights = SoftWeights({"w": data}, {"w": quant})
    clipped = np.clip(data, quant.step(2) * quant.qmin, quant.step(2) * quant.qmax)
    weights.soften()
    np.testing.assert_allclose(weights.leaves["w"].detach().numpy(), clipped, atol=1e-6)
    np.testing.assert_allclose(weights.hard()["w"].numpy(), fake_quantize(torch.from_numpy(data), quant).numpy())


def test_gradients_of_soft_weights_and_of_the_regulariser_are_the_formulas() -> None:
    data = np.random.default_rng(2).normal(0, 0.3, (4, 3)).astype(np.float32)
    weights = SoftWeights({"w": data}, {"w": QuantParams(0.2, 0, 3)})
    weights.soften()
    found = weights.gradient([2 * weights.leaves["w"].detach()], (0.5, 3.0))
    v = weights.v.detach().clone().requires_grad_()
    h = (torch.sigmoid(v) * 1.2 - 0.1).clamp(0, 1)
    loss = ((weights.low + weights.step * h) ** 2).sum() + 0.5 * (1 - (2 * h - 1).abs() ** 3).sum()
    (expected,) = torch.autograd.grad(loss, v)
    torch.testing.assert_close(found, expected)


def test_gradients_of_activations_are_those_of_lsq() -> None:
    x = torch.linspace(-1, 3, 41).requires_grad_()
    quant = QuantParams(0.15, 3, 4, signed=False, rounding="PY3_ROUND")
    slope = torch.randn(41, generator=torch.Generator().manual_seed(0))
    activation = Activation.of(quant, True, None)
    (activation(x) * slope).sum().backward()
    steps = x.detach() / 0.15
    inside = (steps > -3.5) & (steps < 12.5)
    expected = torch.where(inside, steps.round() - steps, steps.round().clamp(-3, 12))
    torch.testing.assert_close(x.grad, slope * inside)
    torch.testing.assert_close(activation.scale.grad, (slope * expected).sum(), atol=1e-4, rtol=1e-4)


def test_dropped_activations_are_the_float_values() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    quant = QuantParams(0.5, 0, 4)
    y = Activation.of(quant, False, Masks(0.25, 0))(x)
    rounded = y == fake_quantize(x.detach(), quant)
    assert bool((rounded | (y == x)).all()) and 0.2 < float(rounded.float().mean()) < 0.3
    y.sum().backward()
    assert bool(((x.grad == 1) | rounded).all())


def test_adam_is_torchs() -> None:
    start = torch.randn(5, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    adam, peer = Adam(ours, torch.full((5,), 0.1)), torch.optim.Adam([theirs], 0.1)
    for _ in range(5):
        adam.step(ours * 2)
        peer.zero_grad()
        (theirs**2).sum().backward()
        peer.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_the_pull_begins_after_the_warm_up_and_its_exponent_falls() -> None:
    assert pull_at(19, 100, 0.01) is None
    assert pull_at(20, 100, 0.01) == (0.01, 20.0)
    assert pull_at(100, 100, 0.01) == (0.01, 2.0)
