"""Number formats as data: where each scheme puts integers, and that all executors then agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.quant_graphs import images, residual_graph  # noqa: E402

from lowwatt.errors import ToolError  # noqa: E402
from lowwatt.ir import store  # noqa: E402
from lowwatt.ir.interpreter import run  # noqa: E402
from lowwatt.quant import quantize  # noqa: E402
from lowwatt.quant.executor import TorchExecutor  # noqa: E402
from lowwatt.quant.plan import make_plan  # noqa: E402
from lowwatt.quant.ptq import prepared_copy  # noqa: E402
from lowwatt.quant.scheme import load_scheme, scheme_names  # noqa: E402


@pytest.mark.parametrize("name", scheme_names())
def test_fake_quantized_network_is_that_of_the_reference(name: str) -> None:
    """Rounded values agree; float32 may tip one that lies beside a boundary, and what follows it."""
    quantized = quantize(residual_graph(), images(), scheme=name).quantized
    image = images(1, seed=5)[0]
    fake = TorchExecutor(quantized)({"images": torch.from_numpy(image)})
    for output, values in run(quantized, {"images": image}).items():
        quant = quantized.tensor(output).quant
        real = values if quant is None else quant.dequantize(values)
        assert np.abs(real - fake[output].numpy()).max() <= 0.02 * np.abs(real).max()


@pytest.mark.parametrize("name", scheme_names())
def test_every_tensor_is_explained_and_the_file_keeps_the_formats(name: str, tmp_path: Path) -> None:
    report = quantize(residual_graph(), images(), scheme=name)
    lines = report.plan.explain()
    named = {line.split(":")[0] for line in lines}
    assert {node.name for node in report.quantized.nodes} <= named and all("(" in line for line in lines)
    store.save(report.quantized, tmp_path / "q.lwg")
    again = store.load(tmp_path / "q.lwg")
    assert {n: t.quant for n, t in again.tensors.items()} == {n: t.quant for n, t in report.quantized.tensors.items()}


def _plan(name: str, **bits: int):  # type: ignore[no-untyped-def]
    return make_plan(
        prepared_copy(residual_graph(), load_scheme(name)), load_scheme(name).with_bits(bits.get("w"), bits.get("a"))
    )


def test_the_dpu_has_every_tensor_between_operators_and_shares_along_copies() -> None:
    plan = _plan("vitis")
    assert plan.slots["pool"].group == plan.slots["joined"].group == plan.slots["sum"].group
    assert plan.slots["stem_b"].kind == "bias" and plan.slots["curved"].rule == "read by conv2d map"
    assert not plan.floats


def test_inputs_only_leaves_what_no_integer_operator_reads_in_float() -> None:
    plan = _plan("tensorrt")
    assert "mix" not in plan.slots and "map" not in plan.slots and "stem_b" not in plan.slots
    assert plan.slots["curved"].kind == "activations" and plan.slots["stem_w"].format.per_channel
    assert plan.floats["curved" if "curved" in plan.floats else "mix"]


def test_first_and_last_layers_have_eight_bits_in_papers() -> None:
    plan = _plan("academic", w=2, a=4)
    bits = {name: slot.format.bits for name, slot in plan.slots.items() if slot.kind == "weights"}
    assert bits == {"stem_w": 8, "deep_w": 2, "body_w": 2, "mix_w": 2, "map_w": 8, "head_w": 8}
    assert plan.slots["images"].format.bits == 8 and plan.slots["stem"].format.bits == 4


def test_scales_by_channel_follow_the_weights_layout() -> None:
    params = quantize(residual_graph(), images(), scheme="onnxruntime").params
    assert params["deep_w"].axis == 3 and params["body_w"].axis == 0
    assert params["deep_b"].bits == 32 and params["deep_b"].axis == 0
    scales = np.asarray(params["deep_b"].scale) / params["stem"].scale
    np.testing.assert_allclose(scales, params["deep_w"].scale, rtol=1e-6)


def test_a_target_may_fix_what_an_operator_makes() -> None:
    """Where nothing else shares the scale; other formats are the images'."""
    graph = residual_graph()
    graph.outputs.append(graph.add("sigmoid", ["map"], "score"))
    params = quantize(graph, images(), scheme="litert").params
    assert (params["score"].scale, params["score"].zero_point) == (1 / 256, -128)
    assert params["map"].scale != 1 / 256 and params["score"].signed


OWN = """
about: mine
activations: {bits: 8, signed: false}
weights: {bits: 6, per_channel: true}
operators: [conv2d]
tensors: both
"""


def test_a_users_own_target_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    report = quantize(residual_graph(), images(), scheme=path)
    assert report.plan.scheme.name == "mine"
    assert report.quantized.tensor("stem_w").quant.bits == 6  # type: ignore[union-attr]
    assert [node.op for node in report.float_nodes if node.name == "deep"] == ["depthwise_conv2d"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (OWN + "tensor: both\n", "unknown setting tensor"),
        (OWN.replace("bits: 6", "bits: 99"), "wrong value for weights.bits"),
        (OWN.replace("[conv2d]", "[convv2d]"), "unknown operator convv2d"),
        (OWN.replace("signed: false", "per_channel: true"), "activations have one scale"),
        ("- 1", "cannot read the scheme"),
        (": : :", "cannot read the scheme"),
    ],
)
def test_a_wrong_file_is_named(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ToolError, match=what) as caught:
        load_scheme(path)
    assert str(path) in caught.value.where


def test_unknown_names_and_impossible_bits_are_refused() -> None:
    with pytest.raises(ToolError, match="unknown scheme") as caught:
        load_scheme("onnxrutime")
    assert "onnxruntime" in (caught.value.hint or "")
    with pytest.raises(ToolError, match="8 bits only"):
        load_scheme("vitis").with_bits(4, None)
    with pytest.raises(ToolError, match="1-bit weights"):
        load_scheme("academic").with_bits(1, None)
