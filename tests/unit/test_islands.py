"""Networks with operators in their middle that the accelerator lacks: quantized, cut, and run from end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lowwatt._core")

from lowwatt.backends import open_backend
from lowwatt.compiler import Program, compile
from lowwatt.compiler.partition import Part, partition, run_parts
from lowwatt.compiler.rules import check
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, store, xmodel
from lowwatt.ir.graph import Graph
from lowwatt.quant import quantize
from lowwatt.targets import load_target
from lowwatt.types import Array

LPCV = load_target("ultra96v2-lpcv")
ON_INTEGERS = ["reference", "core", "simulator"]
Values = Mapping[str, Array]


def images(count: int, size: tuple[int, int, int, int] = (1, 12, 12, 3)) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, size).astype(np.float32) for _ in range(count)]


def conv(graph: Graph, source: str, outputs: int, name: str, group: int = 1) -> str:
    channels = graph.tensor(source).shape[3] // group
    rng = np.random.default_rng(len(graph.nodes))
    weights = rng.normal(0, (9 * channels) ** -0.5, (outputs, 3, 3, channels)).astype(np.float32)
    bias = rng.normal(0, 0.1, outputs).astype(np.float32)
    operands = [source, graph.add_constant(f"{name}_w", weights), graph.add_constant(f"{name}_b", bias)]
    return graph.add("conv2d", operands, name, pad=(1, 1, 1, 1), group=group)


def with_middle(middle: Callable[[Graph, str], str]) -> Graph:
    """conv → middle → conv, with a way around the middle."""
    graph = Graph("middle")
    a = graph.add("relu", [conv(graph, graph.add_input("images", (1, 12, 12, 3)), 8, "a")], "a_act")
    b = middle(graph, a)
    joined = graph.add("concat", [a, b], "joined", axis=3)
    graph.outputs = [conv(graph, joined, 4, "last")]
    return graph


def silu(graph: Graph, x: str) -> str:
    return graph.add("silu", [conv(graph, x, 8, "m")], "middle")


def softmax(graph: Graph, x: str) -> str:
    return graph.add("softmax", [x], "middle", axis=3)


def grouped(graph: Graph, x: str) -> str:
    return conv(graph, x, 8, "middle", group=2)


def norm(graph: Graph, x: str) -> str:
    """Over channels: what stands between two float operators stays in float with them."""
    power = graph.add("pow", [x, graph.add_constant("two", np.full((1,), 2, np.float32))], "power")
    mean = graph.add("reduce_mean", [power], "mean", axes=(3,), keepdims=True)
    shifted = graph.add("add", [mean, graph.add_constant("one", np.full((1,), 1, np.float32))], "shifted")
    return graph.add("div", [x, graph.add("sqrt", [shifted], "root")], "middle")


MIDDLES = {"silu": silu, "softmax": softmax, "grouped": grouped, "norm": norm}


@pytest.fixture(scope="module", params=list(MIDDLES))
def network(request: pytest.FixtureRequest) -> Graph:
    return quantize(with_middle(MIDDLES[request.param]), images(4)).quantized


def parts_of(graph: Graph) -> list[Part]:
    return partition(graph, check(graph, LPCV))


def runner(backend: str) -> Callable[[Graph, Values], Values]:
    return lambda graph, inputs: open_backend(backend, graph).run(inputs)


def test_backends_give_the_integers_of_the_reference(network: Graph) -> None:
    for image in images(2):
        expected = interpreter.run(network, {"images": image})
        assert len(np.unique(expected["last"])) > 20
        for name in ("core", "simulator"):
            np.testing.assert_array_equal(open_backend(name, network).run({"images": image})["last"], expected["last"])


def test_the_middle_is_cut_out(network: Graph) -> None:
    parts = parts_of(network)
    assert [part.side for part in parts] == ["dpu", "host", "dpu"]
    assert "middle" in [node.name for node in parts[1].graph.nodes]
    for part in parts:
        if part.side == "dpu":
            assert all(interpreter.on_integers(part.graph, node) for node in part.graph.nodes)


@pytest.mark.parametrize("backend", ON_INTEGERS)
def test_parts_give_the_integers_of_the_whole(network: Graph, backend: str) -> None:
    batch = np.concatenate(images(2))
    found = run_parts(network, parts_of(network), {"images": batch}, runner(backend), interpreter.run)
    np.testing.assert_array_equal(found["last"], interpreter.run(network, {"images": batch})["last"])


def test_a_host_that_runs_onnxruntime_is_at_most_a_step_off(network: Graph) -> None:
    """Its own float32 may tip a value beside a boundary; what the accelerator makes of equal inputs is equal."""
    host = [part for part in parts_of(network) if part.side == "host"]
    for part in host:
        rng = np.random.default_rng(1)
        inputs = {n: rng.integers(-128, 128, part.graph.tensor(n).shape).astype(np.int8) for n in part.graph.inputs}
        theirs = open_backend("onnxruntime", part.graph).run(inputs)
        for name, ours in interpreter.run(part.graph, inputs).items():
            apart = np.abs(ours.astype(int) - theirs[name])
            assert apart.max() <= 1 and np.mean(apart > 0) < 0.001


def test_a_program_keeps_islands(network: Graph, tmp_path: Path) -> None:
    program = compile(network, LPCV)
    assert [segment.side for segment in program.segments] == ["dpu", "host", "dpu"]
    program.save(tmp_path / "p.lwp")
    assert Program.load(tmp_path / "p.lwp").verify() == 0
    store.save(network, tmp_path / "g.lwg")
    image = images(1)[0]
    again = interpreter.run(store.load(tmp_path / "g.lwg"), {"images": image})
    np.testing.assert_array_equal(again["last"], interpreter.run(network, {"images": image})["last"])


def test_an_xmodel_has_no_float_operators(tmp_path: Path) -> None:
    """Say so, and which; an integer operator of the host (a grouped convolution) is no obstacle."""
    with pytest.raises(ToolError, match="cannot hold pow in float") as error:
        xmodel.write(quantize(with_middle(norm), images(1)).quantized, tmp_path / "m.xmodel")
    assert error.value.where == "power" and "qdq" in error.value.hint
    xmodel.write(quantize(with_middle(grouped), images(1)).quantized, tmp_path / "m.xmodel")


def test_yolox_nano_runs_in_parts(shared: Path) -> None:
    """Megvii's network as it is: 103 SiLU, Focus and SPP in front, decoded scores behind."""
    from lowwatt.loading import load_graph

    path = shared / "data" / "weights" / "yolox_nano_416.onnx"
    if not path.is_file():
        pytest.skip("the weights are not here")
    image = images(1, (1, 416, 416, 3))[0]
    graph = quantize(load_graph(path), [image]).quantized
    parts = parts_of(graph)
    assert len(parts) > 100 and sum(node.op == "silu" for node in graph.nodes) > 100
    expected = open_backend("core", graph).run({graph.inputs[0]: image})
    assert expected["output"].dtype == np.float32 and expected["output"].shape == (1, 3549, 85)
    found = run_parts(graph, parts, {graph.inputs[0]: image}, runner("core"), interpreter.run)
    np.testing.assert_array_equal(found["output"], expected["output"])
