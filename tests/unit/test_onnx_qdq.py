"""QDQ files equal the integer reference exactly in onnxruntime with graph optimisation off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lowwatt.errors import ToolError
from lowwatt.ir import xmodel
from lowwatt.ir.graph import Graph
from lowwatt.ir.onnx_qdq import validate_qdq, write
from lowwatt.ir.onnx_qdq_ops import QDQ_RULES
from lowwatt.ir.ops import operator_names, spec
from lowwatt.types import QuantParams
from qdq_values import SHAPE, integers, pot


def start(fix_point: int = 3, shape: tuple[int, ...] = SHAPE) -> Graph:
    graph = Graph("test")
    graph.add_input("x", shape, pot(fix_point))
    return graph


def assert_exact(graph: Graph, path: Path, samples: list[Any] | None = None) -> list[str]:
    graph.outputs = graph.outputs or [graph.nodes[-1].name]
    notes = write(graph, path)
    shape = graph.tensor(graph.inputs[0]).shape
    samples = samples or [integers(*shape, seed=s) for s in range(4)]
    report = validate_qdq(path, graph, samples)
    assert report.elements > 0
    assert report.differ_disabled == 0
    return notes


LAYERS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("conv2d", (5, 3, 3, 4), {"pad": (1, 1, 1, 0), "stride": (2, 1)}),
    ("conv2d", (4, 1, 1, 2), {"group": 2}),
    ("depthwise_conv2d", (2, 3, 2, 4), {"pad": (1, 1, 1, 1), "dilation": (2, 1)}),
    ("transposed_conv2d", (3, 3, 3, 4), {"stride": (2, 2), "pad": (1, 0, 1, 1)}),
    ("linear", (5, 4), {}),
]


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "leaky_relu", "hard_sigmoid", "hard_swish"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer[0])
@pytest.mark.parametrize(("weight_fix", "bias_fix", "out_fix"), [(5, 4, 4), (8, 13, 4), (10, 2, 5), (-1, 3, 2)])
def test_layers(
    layer: tuple[str, tuple[int, ...], dict[str, Any]],
    activation: str,
    weight_fix: int,
    bias_fix: int,
    out_fix: int,
    tmp_path: Path,
) -> None:
    """Coarse and fine biases (also finer than half a step), shifts from 0 to 9, every activation."""
    op, shape, attrs = layer
    out_fix = {"hard_sigmoid": 7, "relu6": 4}.get(activation, out_fix)
    graph = start()
    graph.add_constant("w", integers(*shape, seed=7), pot(weight_fix))
    channels = shape[0] * shape[3] if op == "depthwise_conv2d" else shape[0]
    graph.add_constant("b", integers(channels, seed=8), pot(bias_fix))
    graph.add(op, ["x", "w", "b"], "y", quant=pot(out_fix), activation=activation, **attrs)
    assert_exact(graph, tmp_path / "m.onnx")


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu"])
@pytest.mark.parametrize("cut", range(0, 17, 2))
def test_ties_of_a_layer_go_up(activation: str, cut: int, tmp_path: Path) -> None:
    """Every input value times 1 at each shift: all the ties that there are."""
    graph = start(0, (1, 256, 1, 1))
    graph.add_constant("w", np.ones((1, 1, 1, 1), np.int8), pot(cut))
    graph.add("conv2d", ["x", "w"], "y", quant=pot(0), activation=activation)
    every = np.arange(-128, 128, dtype=np.int8).reshape(1, 256, 1, 1)
    assert_exact(graph, tmp_path / "m.onnx", [every])


def test_leaky_relu_beyond_float32_is_rounded_in_double(tmp_path: Path) -> None:
    """shift_cut 16 with a bias in half steps: 27 bits below the point, and 128 * 16 large products."""
    graph = start(6, (1, 8, 8, 16))
    graph.add_constant("w", integers(4, 3, 3, 16, seed=3), pot(10))
    graph.add_constant("b", integers(4, seed=4), pot(17))
    graph.add("conv2d", ["x", "w", "b"], "y", quant=pot(0), activation="leaky_relu")
    assert_exact(graph, tmp_path / "m.onnx")
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "m.onnx")).graph.node}
    assert "Floor" in kinds and "LeakyRelu" not in kinds


# operator, other operands (shape, fix point), attributes, fix point of the output
OTHERS: list[tuple[str, list[tuple[tuple[int, ...], int]], dict[str, Any], int]] = [
    *(("add", [(SHAPE, fix)], {"activation": a}, 2) for fix in (3, 1, 7, 9) for a in ("none", "leaky_relu")),
    ("add", [(SHAPE, 5), (SHAPE, 8)], {"activation": "relu"}, 3),
    ("add", [((4,), 6)], {}, 4),
    ("mul", [(SHAPE, 6)], {"activation": "relu6"}, 4),
    ("mul", [(SHAPE, 6), ((1,), 5)], {}, 3),
    ("max_pool", [], {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1)}, 1),
    ("max_pool", [], {"kernel": (2, 2), "stride": (2, 2), "ceil_mode": True}, 3),
    *(("avg_pool", [], {"kernel": (k, k), "stride": (1, 1)}, 3) for k in (2, 3, 5, 6)),
    ("avg_pool", [], {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1, 0, 1), "ceil_mode": True}, 4),
    ("reduce_mean", [], {"axes": (1, 2), "keepdims": True}, 4),
    ("reduce_mean", [], {"axes": (3,), "keepdims": False}, 5),
    ("reduce_max", [], {"axes": (1, 2), "keepdims": False}, 2),
    ("concat", [(SHAPE, 5), (SHAPE, 1)], {"axis": 3}, 2),
    ("slice", [], {"begin": (0, 1, 0, 0), "end": (1, 7, 6, 3), "strides": (1, 2, 1, 1)}, 2),
    ("pad", [], {"pads": (0, 0, 1, 1, 2, 0, 0, 0), "value": 1.3}, 2),
    ("resize", [], {"scale": (2.0, 3.0)}, 1),
    ("resize", [], {"scale": (2.0, 2.0), "mode": "bilinear", "half_pixel": True}, 3),
    ("resize", [], {"scale": (2.0, 2.0), "mode": "bilinear", "half_pixel": True}, 0),
    ("reshape", [], {"shape": (1, 168)}, 2),
    ("transpose", [], {"order": (0, 3, 1, 2)}, 2),
    ("transpose", [], {"order": (0, 1, 3, 2)}, 3),
    ("identity", [], {}, 1),
    *(("fix", [], {"round_mode": mode}, 1) for mode in ("DPU_ROUND", "STD_ROUND", "PY3_ROUND")),
    ("relu", [], {}, 2),
    ("relu6", [], {}, 5),
    ("leaky_relu", [], {"alpha": 26 / 256}, 3),
    ("hard_sigmoid", [], {}, 7),
    ("hard_swish", [], {}, 3),
]


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case[0])
@pytest.mark.parametrize("fix_point", [3, 5])
def test_operators(
    case: tuple[str, list[tuple[tuple[int, ...], int]], dict[str, Any], int], fix_point: int, tmp_path: Path
) -> None:
    op, others, attrs, out = case
    graph = start(fix_point)
    names = ["x"]
    for index, (shape, fix) in enumerate(others):
        names.append(graph.add_constant(f"c{index}", integers(*shape, seed=index + 20), pot(fix)))
    graph.add(op, names, "y", quant=pot(out), **attrs)
    assert_exact(graph, tmp_path / "m.onnx")


def test_every_operator_with_integers_has_a_form() -> None:
    assert set(QDQ_RULES) == {name for name in operator_names() if spec(name).integer is not None}


@pytest.mark.parametrize("fix_point", [-1, 0, 4])
def test_real_inputs_are_rounded_half_up(fix_point: int, tmp_path: Path) -> None:
    """Ties, and the floats next to them, where adding a half in float32 would already round."""
    steps = np.arange(-130, 130, 0.5)
    exact = np.ldexp(steps, -fix_point).astype(np.float32)
    near = np.concatenate([exact, np.nextafter(exact, np.float32(9e9)), np.nextafter(exact, np.float32(-9e9))])
    graph = start(fix_point, (1, near.size))
    graph.add("identity", ["x"], "y", quant=pot(fix_point))
    assert_exact(graph, tmp_path / "m.onnx", [near.reshape(1, -1)])


@pytest.mark.parametrize("mode", ["DPU_ROUND", "STD_ROUND", "PY3_ROUND"])
def test_fix_of_a_real_input(mode: str, tmp_path: Path) -> None:
    graph = Graph("test")
    graph.add_input("x", (1, 9, 1, 1))
    graph.add("fix", ["x"], "y", quant=pot(1), round_mode=mode)
    x = np.float32([-1.75, -0.75, -0.25, 0, 0.25, 0.75, 1.25, 99, -99]).reshape(1, 9, 1, 1)
    assert_exact(graph, tmp_path / "m.onnx", [x])


def test_several_samples_and_inputs_by_name(tmp_path: Path) -> None:
    graph = start()
    graph.add_input("z", SHAPE, pot(2))
    graph.add("add", ["x", "z"], "y", quant=pot(2))
    batch = {"x": integers(3, *SHAPE[1:]), "z": integers(3, *SHAPE[1:], seed=1)}
    graph.outputs = ["y"]
    write(graph, tmp_path / "m.onnx")
    report = validate_qdq(tmp_path / "m.onnx", graph, [batch, batch])
    assert report.elements == 6 * 7 * 6 * 4 and report.differ_disabled == 0


def test_a_wrong_file_shows(tmp_path: Path) -> None:
    """The validation can fail: another network's file differs."""
    graphs = []
    for name, out in (("a", 2), ("b", 3)):
        graph = start()
        graph.add("relu", ["x"], "y", quant=pot(out))
        graph.outputs = ["y"]
        write(graph, tmp_path / f"{name}.onnx")
        graphs.append(graph)
    report = validate_qdq(tmp_path / "a.onnx", graphs[1], [integers(*SHAPE)])
    assert report.differ_disabled > 0 and report.enabled.greatest > 0


def test_sums_beyond_float32_are_stated(tmp_path: Path) -> None:
    graph = start(0, (1, 3, 3, 512))
    graph.add_constant("w", np.full((1, 3, 3, 512), 127, np.int8), pot(7))
    graph.add("conv2d", ["x", "w"], "y", quant=pot(0))
    graph.outputs = ["y"]
    assert "y: a sum could reach" in write(graph, tmp_path / "m.onnx")[0]
    graph.tensor("w").data = np.ones((1, 3, 3, 512), np.int8)
    assert write(graph, tmp_path / "m.onnx") == []


@pytest.mark.parametrize(
    ("op", "attrs", "quant", "part"),
    [
        ("custom", {"type": "Mine", "shape": (1, 2)}, pot(3), "custom cannot be written"),
        ("relu", {}, QuantParams.power_of_two(3, 16), "16-bit"),
        ("relu", {}, QuantParams(0.3), "float32 exactly"),
        ("leaky_relu", {"alpha": 0.2}, QuantParams.power_of_two(3), "slope"),
        ("hard_sigmoid", {}, QuantParams.power_of_two(6), "fix point of 7"),
        ("resize", {"scale": (1.7, 1.0), "mode": "bilinear"}, QuantParams.power_of_two(3), "not exact"),
    ],
)
def test_refusals(op: str, attrs: dict[str, Any], quant: QuantParams | None, part: str, tmp_path: Path) -> None:
    graph = start()
    graph.add(op, ["x"], "y", quant=quant, **attrs)
    graph.outputs = ["y"]
    with pytest.raises(ToolError, match=part):
        write(graph, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_golden_set(shared: Path, tmp_path: Path) -> None:
    """Every golden case, both kinds."""
    folders = sorted((shared / "golden").glob("case*"))
    assert len(folders) >= 94
    for folder in folders:
        graph = xmodel.read(folder / "model.xmodel")
        facts = json.loads((folder / "case.json").read_text())
        arrays = {entry["name"]: np.load(folder / entry["file"]) for entry in facts["inputs"]}
        names = graph.inputs if len(graph.inputs) == len(arrays) else list(arrays)
        inputs = dict(zip(names, arrays.values(), strict=True)) if set(names) != set(arrays) else arrays
        write(graph, tmp_path / "m.onnx")
        report = validate_qdq(tmp_path / "m.onnx", graph, [inputs])
        assert report.elements == sum(int(np.prod(entry["shape"])) for entry in facts["outputs"]), folder.name
        assert report.differ_disabled == 0, folder.name


def island() -> Graph:
    """conv → silu → conv → softmax and sigmoid, joined: float in the middle and behind the end."""
    graph = start(4)
    graph.add_constant("w", integers(6, 3, 3, 4), pot(8))
    graph.add("conv2d", ["x", "w"], "a", quant=pot(3), pad=(1, 1, 1, 1))
    graph.add("silu", ["a"], "s", quant=pot(4))
    graph.add_constant("v", integers(4, 1, 1, 6), pot(8))
    graph.add("conv2d", ["s", "v"], "b", quant=pot(3))
    graph.add("softmax", ["b"], "p", axis=3)
    graph.add("sigmoid", ["b"], "g")
    graph.outputs = [graph.add("concat", ["p", "g"], "all", axis=3), "s"]
    return graph.verify()


def test_float_islands_are_float_operators(tmp_path: Path) -> None:
    graph = island()
    write(graph, tmp_path / "m.onnx")
    report = validate_qdq(tmp_path / "m.onnx", graph, [integers(*SHAPE, seed=s) for s in range(4)])
    assert report.differ_disabled <= 0.01 * report.elements
