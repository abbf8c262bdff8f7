"""Layers of a network, and the program as a whole."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from lowwatt.compiler import Program, compile
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import load_target
from yolox_graph import quantized_graph, yolox_graph

KV260 = load_target("kv260")
LPCV = load_target("ultra96v2-lpcv")


@pytest.fixture
def quantized() -> Graph:
    return quantized_graph()


def conv(g: Graph, x: str, outputs: int, kernel: int = 1, stride: int = 1, **attrs: Any) -> str:
    name = f"conv{len(g.nodes)}"
    weights = np.broadcast_to(np.float32(0), (outputs, kernel, kernel, g.tensor(x).shape[-1]))
    pad = (kernel // 2,) * 4
    return g.add("conv2d", [x, g.add_constant(f"{name}.w", weights)], name, stride=(stride,) * 2, pad=pad, **attrs)


def start(shape: tuple[int, ...] = (1, 16, 16, 24)) -> tuple[Graph, str]:
    g = Graph("net")
    return g, g.add_input("image", shape)


def layers(g: Graph, *outputs: str, target: str = "ultra96v2-lpcv") -> list[tuple[str, str]]:
    g.outputs = list(outputs)
    return [(layer.name, layer.op) for layer in compile(g, target).layers]


# -- superlayers ------------------------------------------------------------------------------------------------------


def test_norm_and_activation_go_along_with_the_convolution() -> None:
    g, x = start()
    y = conv(g, x, 24)
    stats = [g.add_constant(n, np.ones(24, np.float32)) for n in ("scale", "bias", "mean", "var")]
    g.add("relu", [g.add("batch_norm", [y, *stats], "bn")], "act")
    assert layers(g, "act") == [("act", "conv2d")]


def test_an_addition_joins_the_later_convolution() -> None:
    g, x = start()
    a, b = conv(g, x, 24), conv(g, x, 24, 3)
    g.add("add", [a, b], "sum")
    assert layers(g, "sum") == [("conv0", "conv2d"), ("sum", "conv2d+add")]


def test_what_somebody_else_reads_is_written() -> None:
    g, x = start()
    y = conv(g, x, 24)
    g.add("max_pool", [y], "pool", kernel=(2, 2), stride=(2, 2))
    g.add("add", [y, y], "twice")
    assert layers(g, "pool", "twice") == [("conv0", "conv2d"), ("pool", "max_pool"), ("twice", "add")]


def test_an_output_is_written() -> None:
    g, x = start()
    y = conv(g, x, 24)
    g.add("relu", [y], "act")
    assert layers(g, y, "act")[0] == ("conv0", "conv2d")


@pytest.mark.parametrize("op", ["max_pool", "depthwise_conv2d"])
def test_pool_and_depthwise_join_a_convolution_once(op: str) -> None:
    g, x = start()
    for i in range(2):
        y = conv(g, x, 24) if i == 0 else x
        if op == "max_pool":
            x = g.add(op, [y], f"n{i}", kernel=(2, 2), stride=(2, 2))
        else:
            x = g.add(op, [y, g.add_constant(f"w{i}", np.zeros((1, 3, 3, 24), np.float32))], f"n{i}", pad=(1, 1, 1, 1))
    assert layers(g, x) == [("n0", f"conv2d+{op}"), ("n1", op)]


def test_concat_and_reshape_are_free() -> None:
    g, x = start()
    both = g.add("concat", [conv(g, x, 24), conv(g, x, 12)], "both", axis=3)
    g.outputs = [conv(g, g.add("reshape", [both], "tall", shape=(1, 32, 8, 36)), 12)]
    program = compile(g)
    assert [layer.op for layer in program.layers] == ["conv2d", "conv2d", "conv2d"]
    assert program.free == ["both", "tall"]


def test_a_reshape_that_is_an_output_is_a_copy() -> None:
    g, x = start()
    flat = g.add("reshape", [conv(g, x, 24)], "flat", shape=(1, 16 * 16 * 24))
    assert layers(g, flat) == [("conv0", "conv2d"), ("flat", "reshape")]


def test_every_node_stands_somewhere_once() -> None:
    program = compile(yolox_graph(0.25, 160))
    seen = [name for layer in program.layers for name in layer.nodes] + program.free
    assert sorted(seen) == sorted(node.name for node in program.graph.nodes)


# -- work by hand ----------------------------------------------------------------------------------------------------


def test_augmentation_packs_few_channels() -> None:
    g, x = start((1, 64, 64, 3))
    g.outputs = [conv(g, x, 16, 3)]
    machine = dataclasses.replace(KV260, costs=dataclasses.replace(KV260.costs, conv_cycles=0))
    plain = dataclasses.replace(machine, options=dataclasses.replace(KV260.options, augmentation=False))
    assert compile(g, plain).layers[0].cycles["conv"] == 3 * compile(g, machine).layers[0].cycles["conv"]


def test_nearest_upsampling_by_hand() -> None:
    g, x = start((1, 8, 8, 12))
    g.outputs = [g.add("resize", [x], "up", scale=(2.0, 2.0))]
    layer = compile(g).layers[0]
    assert (layer.load_bytes, layer.save_bytes) == (768, 3072)
    words = 8 * 4 * 8  # rows, copies of each pixel, columns: an element-wise unit of one row
    assert layer.cycles["misc"] == pytest.approx(8 * 4 * LPCV.costs.misc_cycles + words)


# -- the program ------------------------------------------------------------------------------------------------------


def test_totals_are_the_sums_of_the_layers() -> None:
    program = compile(yolox_graph(0.25, 160))
    assert program.dpu_ms == pytest.approx(sum(layer.ms for layer in program.layers))
    assert program.latency_ms == pytest.approx(program.dpu_ms + program.host_ms)
    assert program.fps == pytest.approx(1000 / program.latency_ms)
    assert all(0 < layer.utilisation < 1 for layer in program.layers if "conv2d" in layer.op)
    assert all(layer.bound_by == max(layer.cycles, key=lambda e: layer.cycles[e]) for layer in program.layers)


def test_host_nodes_are_marked_as_estimates() -> None:
    g, x = start()
    y = g.add("silu", [conv(g, x, 24)], "act")
    g.outputs = [conv(g, y, 24)]
    program = compile(g)
    host = program.layers[1]
    assert [segment.side for segment in program.segments] == ["dpu", "host", "dpu"]
    assert host.where == "host" and "estimate" in host.bound_by and host.cycles == {}
    assert program.host_nodes_ms == host.ms > 0
    reading = LPCV.host.frame_ms + LPCV.host.element_ns * 1e-6 * 16 * 16 * 24
    assert program.host_ms == pytest.approx(reading + host.ms)


def test_a_batch_is_timed_as_one_image() -> None:
    found = []
    for batch in (1, 4):
        g, x = start((batch, 16, 16, 24))
        g.outputs = [conv(g, x, 24, 3)]
        found.append(compile(g).to_json())
    assert found[0] == found[1]


def test_same_time_for_float_and_quantized(quantized: Graph) -> None:
    floating = quantized.copy()
    for tensor in floating.tensors.values():
        tensor.quant = None
    assert compile(floating).to_json() == compile(quantized).to_json()


def test_compile_takes_a_file_and_a_target_file(quantized: Graph, tmp_path: Any) -> None:
    from lowwatt.ir import store

    store.save(quantized, tmp_path / "net.lwg")
    (tmp_path / "fast.yaml").write_text("base: ultra96v2-lpcv\nname: fast\nclock_mhz: 300\n")
    fast = compile(tmp_path / "net.lwg", tmp_path / "fast.yaml")
    assert fast.target.name == "fast"
    assert fast.dpu_ms < compile(quantized).dpu_ms


def test_nothing_to_compile() -> None:
    g, x = start()
    g.outputs = [x]
    with pytest.raises(ToolError, match="nothing to compile"):
        compile(g)


def test_json_has_what_scripts_read() -> None:
    found = compile(yolox_graph(0.25, 160)).to_json()
    assert {"latency_ms", "dpu_ms", "host_ms", "layers", "verdicts", "fps", "target", "segments"} <= set(found)
    keys = {"name", "op", "origin", "where", "macs", "cycles", "load_bytes", "save_bytes", "ms", "utilisation"}
    assert keys <= set(found["layers"][0])


def test_compiling_is_quick() -> None:
    graph = yolox_graph(0.375, 416)
    began = time.process_time()
    assert isinstance(compile(graph), Program)
    assert time.process_time() - began < 5
