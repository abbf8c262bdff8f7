"""Rewrites: each keeps the function, bit for bit on integers, is tried where it helps, and says why it does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowwatt.backends import open_backend
from lowwatt.compiler.place import Place
from lowwatt.compiler.rewrites import EXACT, INEXACT, Rewriting, rewrite
from lowwatt.compiler.rewrites_exact import chain_pools, merge_focus
from lowwatt.compiler.rules import check, refused
from lowwatt.errors import ToolError
from lowwatt.ir import interpreter, store
from lowwatt.ir.graph import Graph
from lowwatt.ir.ops import operator_names
from lowwatt.targets import Target, load_target
from lowwatt.types import QuantParams
from lowwatt.verbs.rewrite import prove, rewrite_file, rewrite_graph

LPCV = load_target("ultra96v2-lpcv")
WITH_MUL = dataclasses.replace(LPCV, options=dataclasses.replace(LPCV.options, eltwise_mul=True))
ISA1 = dataclasses.replace(load_target("kv260"), isa=1)
Q = QuantParams.power_of_two
MAP = (1, 12, 16, 8)


class Case:
    """A network of a convolution, then what is rewritten; float, or quantized with random integers."""

    def __init__(self, integers: bool, shape: tuple[int, ...] = MAP) -> None:
        self.integers, self.random = integers, np.random.default_rng(4)
        self.graph = Graph("case")
        self.last = self.graph.add_input("x", shape, self.quant(4))

    def quant(self, point: int) -> QuantParams | None:
        return Q(point) if self.integers else None

    def constant(self, name: str, shape: tuple[int, ...], point: int = 7) -> str:
        whole = self.random.integers(-128, 128, shape).astype(np.int8)
        data = whole if self.integers else (whole / 128).astype(np.float32)
        return self.graph.add_constant(name, data, self.quant(point))

    def add(self, op: str, *others: str, name: str = "", point: int = 4, source: str = "", **attrs: Any) -> str:
        operands = [source or self.last, *others]
        name = name or f"{op}_{len(self.graph.nodes)}"
        self.last = self.graph.add(op, operands, name, quant=self.quant(point), **attrs)
        return self.last

    def conv(self, outputs: int, *kernel: int, bias: bool = True, point: int = 1, **attrs: Any) -> str:
        inputs = self.graph.tensor(self.last).shape[3] // attrs.get("group", 1)
        number = len(self.graph.nodes)
        operands = [self.constant(f"w{number}", (outputs, *kernel, inputs))]
        operands += [self.constant(f"b{number}", (outputs,), 6)] if bias else []
        return self.add("conv2d", *operands, point=point, **attrs)

    def done(self, *outputs: str) -> Graph:
        self.graph.outputs = list(outputs or [self.last])
        return self.graph.verify()


def pools(case: Case) -> Graph:
    case.conv(8, 1, 1)
    x = case.last
    pooled = [
        case.add("max_pool", source=x, point=1, kernel=(k, k), stride=(1, 1), pad=(k // 2,) * 4) for k in (5, 9, 13)
    ]
    case.add("concat", *pooled, source=x, point=1, axis=3)
    case.conv(4, 1, 1)
    return case.done()


def focus(case: Case) -> Graph:
    cuts = []
    for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)):
        window = {"begin": (0, i, j, 0), "end": (1, 12, 16, 8), "strides": (1, 2, 2, 1)}
        cuts.append(case.add("slice", source="x", **window))
    case.add("concat", *cuts[1:], source=cuts[0], axis=3)
    case.conv(6, 3, 3, pad=(1, 1, 1, 1), activation="relu")
    return case.done()


def strided(case: Case) -> Graph:
    case.conv(8, 1, 1)
    case.add("slice", point=0, begin=(0, 0, 0, 0), end=(1, 12, 16, 8), strides=(1, 2, 3, 1))
    return case.done()


def shuffle(case: Case) -> Graph:
    case.conv(8, 1, 1)
    x = case.last
    cuts = [
        case.add("slice", source=x, point=1, begin=(0, 0, 0, i), end=(1, 12, 16, 8), strides=(1, 1, 1, 2))
        for i in (0, 1)
    ]
    case.conv(4, 3, 3, pad=(1, 1, 1, 1))
    case.add("concat", case.last, source=cuts[0], point=1, axis=3)
    case.conv(3, 1, 1)
    return case.done()


def groups(case: Case) -> Graph:
    case.conv(6, 3, 3, group=2, stride=(2, 2), pad=(1, 0, 1, 0), activation="relu")
    return case.done()


def wide(case: Case) -> Graph:
    case.conv(256 * LPCV.array.input_channels + 5, 1, 1)
    return case.done()


def scaled(case: Case) -> Graph:
    case.conv(8, 1, 1)
    case.add("mul", case.constant("scale", (8,)), point=2, activation="relu")
    return case.done()


def gated(case: Case) -> Graph:
    x = case.conv(8, 1, 1)
    gate = case.add("max_pool", point=1, kernel=(2, 2), stride=(2, 2))
    gate = case.add("max_pool", point=1, kernel=(6, 8), stride=(6, 8))
    case.add("mul", gate, source=x, point=-2)
    return case.done()


def vectors(case: Case) -> Graph:
    case.conv(8, 1, 1)
    case.add("reshape", point=1, shape=(1, 12 * 16 * 8))
    a = case.add("linear", case.constant("v", (10, 12 * 16 * 8)), point=-3)
    case.add("add", a, point=-4, activation="relu")
    case.add("linear", case.constant("u", (4, 10)), point=-4)
    return case.done()


def average(case: Case) -> Graph:
    case = Case(case.integers, (1, 20, 40, 8))
    case.conv(8, 1, 1)
    case.add("avg_pool", point=3, kernel=(20, 20), stride=(20, 20))
    return case.done()


def oblong_average(case: Case) -> Graph:
    case.conv(8, 1, 1)
    case.add("avg_pool", point=3, kernel=(3, 11), stride=(1, 2), pad=(1, 1, 5, 0))
    return case.done()


def large_kernel(case: Case) -> Graph:
    case.conv(4, 19, 5, stride=(1, 2), pad=(9, 9, 2, 2), activation="relu")
    return case.done()


Build = Any
CASES: list[tuple[Build, Target, list[str]]] = [
    (pools, LPCV, ["chain-pools"] * 2),
    (focus, LPCV, ["merge-focus"]),
    (strided, LPCV, ["slice-as-pool"]),
    (shuffle, LPCV, ["widen-convolution", "select-channels"]),
    (groups, LPCV, ["dense-groups"]),
    (wide, LPCV, ["split-outputs"]),
    (scaled, LPCV, ["scale-as-depthwise"]),
    (gated, WITH_MUL, ["repeat-operand"]),
    (vectors, LPCV, ["as-map"]),
    (average, LPCV, ["split-average"]),
    (oblong_average, LPCV, ["average-as-depthwise"]),
    (large_kernel, LPCV, ["split-kernel"]),
]
REALS = {one.name for one in EXACT if one.keeps == "reals"}


def names(result: Rewriting) -> list[str]:
    return [change.rewrite for change in result.changes]


@pytest.mark.parametrize(("build", "target", "expected"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_the_float_network_stays_the_same(build: Build, target: Target, expected: list[str]) -> None:
    graph = build(Case(integers=False))
    assert refused(graph, target)
    result = rewrite(graph, target)
    assert names(result) == expected and result.misses == [] and refused(result.graph, target) == []
    assert all(verdict.where == "dpu" for verdict in check(result.graph, target))
    assert (result.graph.inputs, result.graph.outputs) == (graph.inputs, graph.outputs)
    assert "0 differ" in prove(graph, result.graph) or "apart by at most" in prove(graph, result.graph)


@pytest.mark.parametrize(("build", "target", "expected"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_integers_stay_the_same(build: Build, target: Target, expected: list[str]) -> None:
    graph = build(Case(integers=True))
    result = rewrite(graph, target)
    if expected[0] in REALS:
        assert names(result) == []
        assert any("rewrite, then quantize" in miss.reason for miss in result.misses)
        return
    assert names(result) == expected and refused(result.graph, target) == []
    for seed in range(3):
        shape = graph.tensor("x").shape
        x = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        before, after = interpreter.run(graph, {"x": x}), interpreter.run(result.graph, {"x": x})
        for name, value in before.items():
            assert len(np.unique(value)) > 3
            np.testing.assert_array_equal(after[name], value)


def test_every_exact_rewrite_has_a_case() -> None:
    assert {one.name for one in EXACT} == {name for _, _, expected in CASES for name in expected}


def test_pools_of_an_spp_share_one_chain() -> None:
    result = rewrite(pools(Case(integers=True)), LPCV).graph
    chain = [node for node in result.nodes if node.op == "max_pool"]
    assert [node.attrs["kernel"] for node in chain] == [(5, 5)] * 3
    assert [node.inputs for node in chain[1:]] == [[chain[0].name], [chain[1].name]]


@given(st.data())
def test_any_large_pool_is_a_chain(data: st.DataObject) -> None:
    """Kernels of any two sides, all paddings and strides, another fix point behind."""
    side = st.integers(1, 14)
    kernel = data.draw(st.tuples(side, side).filter(lambda k: max(k) > 5))
    pad = [data.draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 0, 1, 1)]
    graph = Graph()
    graph.add_input("x", (1, 14, 15, 2), Q(3))
    attrs = {"kernel": kernel, "stride": data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), "pad": tuple(pad)}
    graph.outputs = [graph.add("max_pool", ["x"], "y", quant=Q(data.draw(st.integers(2, 4))), **attrs)]
    changed = graph.copy()
    chain_pools(Place(changed, changed.node("y"), LPCV))
    changed.verify()
    assert all(max(node.attrs["kernel"]) <= 5 for node in changed.nodes)
    x = np.random.default_rng(0).integers(-128, 128, (1, 14, 15, 2)).astype(np.int8)
    np.testing.assert_array_equal(interpreter.run(graph, {"x": x})["y"], interpreter.run(changed, {"x": x})["y"])


@given(st.data())
def test_focus_of_any_order_and_window(data: st.DataObject) -> None:
    down, across = data.draw(st.sampled_from([(2, 2), (1, 2), (3, 2)]))
    order = data.draw(st.permutations([(i, j) for i in range(down) for j in range(across)]))
    case = Case(integers=True)
    cuts = [
        case.add("slice", source="x", begin=(0, i, j, 0), end=(1, 12, 16, 8), strides=(1, down, across, 1))
        for i, j in order
    ]
    case.add("concat", *cuts[1:], source=cuts[0], axis=3)
    pad = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    case.conv(
        3,
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 3)),
        stride=data.draw(st.sampled_from([(1, 1), (2, 1)])),
        pad=pad,
    )
    graph = case.done()
    changed = graph.copy()
    merge_focus(Place(changed, changed.nodes[0], LPCV))
    changed.prune()
    assert [node.op for node in changed.verify().nodes] == ["conv2d"]
    x = np.random.default_rng(0).integers(-128, 128, MAP).astype(np.int8)
    for name, value in interpreter.run(graph, {"x": x}).items():
        np.testing.assert_array_equal(interpreter.run(changed, {"x": x})[name], value)


def one(op: str, shape: tuple[int, ...] = MAP, **attrs: Any) -> Graph:
    case = Case(integers=False, shape=shape)
    case.conv(8, 1, 1)
    case.add(op, name="node", **attrs)
    return case.done()


MISSES = [
    (one("max_pool", kernel=(9, 9), stride=(2, 2), ceil_mode=True), "ceil mode"),
    (one("slice", begin=(0, 1, 0, 0), end=(1, 12, 16, 8), strides=(1, 2, 2, 1)), "from the first pixel"),
    (one("slice", begin=(0, 1, 0, 0), end=(1, 12, 16, 8), strides=(1, 1, 1, 1)), "neighbouring"),
    (one("avg_pool", kernel=(12, 16), stride=(1, 1), pad=(0, 0, 1, 1), count_include_pad=False), "not square"),
    (one("avg_pool", kernel=(11, 11), stride=(11, 11)), "11 is no product"),
    (one("avg_pool", kernel=(12, 12), stride=(1, 1)), "overlap"),
    (one("avg_pool", (1, 34, 34, 8), kernel=(34, 34), stride=(34, 34)), "breaks a limit too: node"),
]


@pytest.mark.parametrize(("graph", "reason"), MISSES)
def test_what_does_not_fit_says_why(graph: Graph, reason: str) -> None:
    bare = dataclasses.replace(LPCV, options=dataclasses.replace(LPCV.options, depthwise=False))
    result = rewrite(graph, bare)
    assert result.changes == []
    assert any(reason in miss.reason and miss.node == "node" for miss in result.misses), result.misses


def test_a_graph_is_not_changed_in_place_and_what_runs_is_left() -> None:
    graph = groups(Case(integers=True))
    before = store.pack(graph)
    rewrite(graph, LPCV)
    assert store.pack(graph) == before
    taken = one("max_pool", kernel=(5, 5), stride=(1, 1), pad=(2, 2, 2, 2))
    assert rewrite(taken, LPCV).changes == []


def test_rewrites_name_operators_and_say_what_they_do() -> None:
    for one in (*EXACT, *INEXACT):
        assert set(one.ops) <= set(operator_names()) and one.what.endswith(".")
    assert {one.keeps for one in INEXACT} == {"nothing"} and "nothing" not in {one.keeps for one in EXACT}


# -- inexact ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "target", "op"),
    [
        (one("silu"), LPCV, "relu"),
        (one("hard_swish"), LPCV, "relu"),
        (one("silu"), ISA1, "hard_swish"),
        (one("leaky_relu", alpha=0.1), LPCV, "leaky_relu"),
    ],
)
def test_like_functions_are_put_in_when_asked_for(graph: Graph, target: Target, op: str) -> None:
    assert rewrite(graph, target).changes == []
    result = rewrite(graph, target, INEXACT).graph
    assert result.node("node").op == op and refused(result, target) == []


def test_a_sigmoid_is_replaced_inside_the_network_alone() -> None:
    graph = one("sigmoid")
    assert "makes an output" in rewrite(graph, ISA1, INEXACT).misses[0].reason
    graph.outputs = [graph.add("mul", ["node", graph.nodes[0].name], "product")]
    assert rewrite(graph, ISA1, INEXACT).graph.node("node").op == "hard_sigmoid"
    assert "no hard-sigmoid" in rewrite(graph, LPCV, INEXACT).misses[0].reason


# -- the verb --------------------------------------------------------------------------------------------


def test_the_report_counts_before_and_after(tmp_path: Path) -> None:
    case = Case(integers=False)
    case.conv(8, 1, 1)
    case.add("silu", name="act")
    case.add("max_pool", name="pool", kernel=(9, 9), stride=(1, 1), pad=(4, 4, 4, 4))
    case.conv(8, 1, 1)
    graph = case.done()
    store.save(graph, tmp_path / "g.lwg")
    report = rewrite_file(tmp_path / "g.lwg", "ultra96v2-lpcv", (), tmp_path / "r.lwg", inexact=False)
    assert [row["name"] for row in report.rewrites] == ["chain-pools"]
    assert (report.before.on_host, report.before.parts, report.after.on_host, report.after.parts) == (2, 3, 1, 3)
    assert "apart by at most" in report.proof[0]
    assert prove(graph, store.load(tmp_path / "r.lwg"))
    _, more = rewrite_graph(graph, LPCV, inexact=True)
    assert [(row["name"], row["keeps"]) for row in more.rewrites] == [
        ("chain-pools", "integers"),
        ("replace-silu", "nothing"),
    ]
    assert more.after.on_host == 0 and more.after.parts == 1 and "dB" in more.proof[1]


def test_a_wrong_rewrite_is_found_out() -> None:
    for integers in (False, True):
        graph = groups(Case(integers))
        wrong = rewrite(graph, LPCV).graph
        weights = wrong.tensor(wrong.nodes[0].inputs[1])
        weights.data = np.roll(np.asarray(weights.data), 1, axis=0)
        with pytest.raises(ToolError, match="other values"):
            prove(graph, wrong)


def test_refusals_of_the_verb(tmp_path: Path, repository: Path) -> None:
    store.save(one("silu"), tmp_path / "g.lwg")
    with pytest.raises(ToolError, match="written as"):
        rewrite_file(tmp_path / "g.lwg", None, (), tmp_path / "r.onnx", inexact=False)
    with pytest.raises(ToolError, match="no trained weights"):
        rewrite_file(repository / "recipes" / "demo.yaml", None, (), tmp_path / "r.lwg", inexact=False)


@pytest.mark.parametrize(
    ("file", "inexact", "parts"), [("yolox_nano_416", True, (151, 2)), ("FastestDet", False, (28, 2))]
)
def test_published_networks(file: str, inexact: bool, parts: tuple[int, int], shared: Path) -> None:
    """As they are, operators alternate between host and accelerator; rewritten, decoding alone is left."""
    path = shared / "data" / "weights" / f"{file}.onnx"
    if not path.is_file():
        pytest.skip("the weights are not here")
    report = rewrite_file(path, "ultra96v2-lpcv", (), None, inexact)
    assert (report.before.parts, report.after.parts) == parts
    assert report.after.on_host < report.before.on_host / 4


def test_a_rewritten_network_quantizes_and_runs() -> None:
    pytest.importorskip("torch")
    from lowwatt.quant import quantize

    graph = rewrite(shuffle(Case(integers=False)), LPCV).graph
    images = [np.random.default_rng(s).uniform(-1, 1, MAP).astype(np.float32) for s in range(4)]
    quantized = quantize(graph, images).quantized
    assert all(verdict.where == "dpu" for verdict in check(quantized, LPCV))
    core = open_backend("reference", quantized).run({"x": images[0]})
    assert len(np.unique(core[quantized.outputs[0]])) > 20
