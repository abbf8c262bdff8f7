"""Losses of outputs against the float network's, and tuning by them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lowwatt.ir import meta  # noqa: E402
from lowwatt.ir.graph import Graph  # noqa: E402
from lowwatt.quant.calibration import calibrate, collect  # noqa: E402
from lowwatt.quant.executor import TorchExecutor  # noqa: E402
from lowwatt.quant.output_loss import output_loss  # noqa: E402
from lowwatt.quant.plan import apply, make_plan  # noqa: E402
from lowwatt.quant.ptq import prepared_copy, quantize  # noqa: E402
from lowwatt.quant.scheme import load_scheme  # noqa: E402
from lowwatt.quant.tune import tunable, tune  # noqa: E402
from lowwatt.types import ClassHead, DetectionHead  # noqa: E402
from quant_graphs import images, residual_graph  # noqa: E402


def outputs(graph: Graph, batches: list[np.ndarray]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return TorchExecutor(graph)({"images": torch.from_numpy(np.concatenate(batches))})


def test_tuning_brings_the_outputs_nearer_and_keeps_integers() -> None:
    rules = load_scheme("academic").with_bits(4, 4)
    base, batches = prepared_copy(residual_graph(), rules), images(16)
    plan = make_plan(base, rules)
    params = calibrate(base, plan, collect(base, batches), "mse")
    rounded = apply(base, params)
    loss, real = output_loss(base), outputs(base, batches)
    on_grid = base.copy()
    for slot in plan.of_kind("weights"):
        data = rounded.tensor(slot.name).data
        on_grid.set_constant(slot.name, params[slot.name].dequantize(data))
    graph, formats = tune(base, on_grid, plan, params, batches, lambda share: None)
    tuned = apply(graph, formats)
    before, after = (float(loss(outputs(g, batches), real)) for g in (rounded, tuned))
    assert after < 0.7 * before
    for slot in plan.of_kind("weights"):
        assert np.array_equal(rounded.tensor(slot.name).data, tuned.tensor(slot.name).data)
        assert formats[slot.name].scale != params[slot.name].scale
    again, _ = tune(base, on_grid, plan, params, batches, lambda share: None)
    assert all(np.array_equal(t.data, again.tensor(t.name).data) for t in graph.constants())


def test_effort_good_tunes_few_bits_and_nothing_else() -> None:
    few = quantize(residual_graph(), images(), scheme=load_scheme("academic").with_bits(4, 4), effort="good")
    assert few.notes[-1].name == "tune_outputs"
    for scheme in ("vitis", "academic"):
        eight = load_scheme(scheme) if scheme == "vitis" else load_scheme(scheme).with_bits(8, 8)
        notes = quantize(residual_graph(), images(), scheme=eight, effort="good").notes
        assert "tune_outputs" not in [note.name for note in notes]


def test_powers_of_two_cannot_be_tuned() -> None:
    graph = prepared_copy(residual_graph(), load_scheme("vitis"))
    assert not tunable(make_plan(graph, load_scheme("vitis")))


def detector() -> Graph:
    """A graph whose outputs are a detector's of one stride."""
    graph = residual_graph()
    meta.set_head(graph, DetectionHead((4,), (("cls", "box", "obj"),), 3), ("a", "b", "c"), (1, 2, 3))
    return graph


def raw(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, 3, 3, n, generator=draw) for name, n in (("cls", 3), ("box", 4), ("obj", 1))}


def test_a_detectors_loss_is_about_what_it_sees() -> None:
    loss, real = output_loss(detector()), raw(0)
    assert float(loss(real, real)) == pytest.approx(0, abs=1e-5)
    assert float(loss(raw(1), real)) > 0.5
    nothing = {**real, "obj": torch.full((2, 3, 3, 1), -30.0)}
    assert float(loss({**nothing, "cls": raw(2)["cls"], "box": raw(2)["box"]}, nothing)) == pytest.approx(0, abs=1e-4)


def test_a_classifiers_loss_is_the_divergence() -> None:
    graph = residual_graph()
    classes = graph.tensor("head").shape[-1]
    meta.set_head(graph, ClassHead("head", classes), ())
    real, found = {"head": torch.randn(4, classes)}, {"head": torch.randn(4, classes)}
    p, q = (x["head"].softmax(1) for x in (real, found))
    assert float(output_loss(graph)(found, real)) == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-4)
