"""Superlayers, tiles, engine times and the program as a whole."""

from __future__ import annotations

import dataclasses
import time
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowwatt.compiler import Program, compile
from lowwatt.compiler.subject import FeatureMap, Window
from lowwatt.compiler.superlayers import Superlayer
from lowwatt.compiler.tiling import tile, words
from lowwatt.compiler.timing import Timing, time_superlayer
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import load_target
from yolox_graph import quantized_graph, yolox_graph

LPCV = load_target("ultra96v2-lpcv")
KV260 = load_target("kv260")


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
    g.outputs = [g.add("reshape", [both], "flat", shape=(1, 16 * 16 * 36))]
    program = compile(g)
    assert [layer.op for layer in program.layers] == ["conv2d", "conv2d"]
    assert program.free == ["both", "flat"]


def test_every_node_stands_somewhere_once() -> None:
    program = compile(yolox_graph(0.25, 160))
    seen = [name for layer in program.layers for name in layer.nodes] + program.free
    assert sorted(seen) == sorted(node.name for node in program.graph.nodes)


# -- tiles and engines ------------------------------------------------------------------------------------------------


def layer_of(side: int, inputs: int, outputs: int, kernel: int, stride: int, dilation: int = 1) -> Superlayer:
    pad = dilation * (kernel // 2)
    reach = (kernel - 1) * dilation + 1
    out = (side + 2 * pad - reach) // stride + 1
    window = Window((kernel,) * 2, (stride,) * 2, (dilation,) * 2, (pad,) * 4)
    sink = FeatureMap(out, out, outputs)
    source = FeatureMap(side, side, inputs)
    groups = ceil(inputs / LPCV.array.input_channels)
    layer = Superlayer(source, sink, sink, window, kernel_passes=kernel**2, input_groups=groups, ops=["conv2d"])
    layer.weight_bytes = kernel**2 * inputs
    return layer


convolutions = st.builds(
    layer_of,
    side=st.integers(3, 120),
    inputs=st.integers(1, 300),
    outputs=st.integers(1, 300),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 3),
).filter(lambda layer: layer.window.kernel >= layer.window.stride)  # else rows between windows are never read


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_tiles_cover_the_grid_once_and_fit(layer: Superlayer) -> None:
    tiling = tile(layer, LPCV)
    count = np.zeros((layer.grid.height, layer.grid.width, ceil(layer.grid.channels / 12)), int)
    for part in tiling.tiles(layer, 12):
        count[part.rows.start : part.rows.stop, part.columns.start : part.columns.stop, part.channel_groups] += 1
    assert (count == 1).all()
    assert words(layer, LPCV, ceil(tiling.rows / 8), tiling.columns) <= LPCV.bank_depth
    assert tiling.kept_weights * layer.input_groups * layer.kernel_passes <= LPCV.bank_depth


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_engines_do_their_work_and_no_more(layer: Superlayer) -> None:
    timing = time_superlayer(layer, LPCV)
    grid = layer.grid
    passes = layer.input_groups * layer.kernel_passes
    cycles = grid.width * ceil(grid.height / 8) * ceil(grid.channels / 12) * passes
    assert timing.busy["conv"] == pytest.approx(cycles * LPCV.cycle_ns)  # docs/dpu.md 1.4
    assert timing.save_bytes == grid.elements
    seen_rows = len(layer.source_rows(0, grid.height))
    seen_columns = len(layer.source_columns(0, grid.width))
    least = seen_rows * seen_columns * layer.source.channels + grid.channels * layer.weight_bytes
    assert timing.load_bytes >= least
    assert max(timing.busy.values()) <= timing.ns <= sum(timing.busy.values()) + 1e-6


@settings(max_examples=40, deadline=None)
@given(convolutions)
def test_a_faster_machine_is_not_slower(layer: Superlayer) -> None:
    base = time_superlayer(layer, LPCV).ns
    faster = dataclasses.replace(LPCV, clock_mhz=300)
    wider = dataclasses.replace(LPCV, costs=dataclasses.replace(LPCV.costs, load_gb_s=6.5, save_gb_s=5.8))
    assert time_superlayer(layer, faster).ns <= base + 1e-6
    assert time_superlayer(layer, wider).ns <= base + 1e-6


def test_a_small_convolution_by_hand() -> None:
    """8x8x12 → 12 channels, 1x1: one tile, one CONV of 8 columns; every engine waits for the one before."""
    layer = layer_of(8, 12, 12, 1, 1)
    timing = time_superlayer(layer, LPCV)
    load = 67.7 + 11.4 * LPCV.cycle_ns
    weights, rows = 12 * (load + 12 / 3.25), 8 * (load + 96 / 3.25)
    convolve = 8 * LPCV.cycle_ns
    save = 8 * (32 + 7.5 * LPCV.cycle_ns + 96 / 2.9)
    assert timing.busy == pytest.approx({"load": weights + rows, "conv": convolve, "misc": 0, "save": save})
    assert timing.ns == pytest.approx(weights + rows + convolve + save)
    assert (timing.load_bytes, timing.save_bytes) == (144 + 768, 768)


def test_an_engine_works_in_order_and_waits() -> None:
    timing = Timing()
    assert timing.run("load", 5) == 5
    assert timing.run("conv", 3, 5) == 8
    assert timing.run("conv", 1, 2) == 9
    assert timing.ns == 9 and timing.busy["conv"] == 4


def test_wide_maps_are_cut_in_columns() -> None:
    layer = layer_of(120, 300, 12, 3, 1)
    tiling = tile(layer, LPCV)
    assert tiling.columns < 120
    assert time_superlayer(layer, LPCV).load_bytes > layer.source.elements  # columns at the seams are loaded twice


@settings(max_examples=30, deadline=None)
@given(st.integers(9, 400), st.integers(1, 200), st.integers(2, 3))
def test_a_pool_behind_a_convolution_saves_its_own_map(side: int, channels: int, kernel: int) -> None:
    g, x = start((1, side, side, 24))
    g.outputs = [g.add("max_pool", [conv(g, x, channels)], "pool", kernel=(kernel,) * 2, stride=(2, 2))]
    (layer,) = compile(g).layers
    assert layer.save_bytes == np.prod(g.tensor("pool").shape)
    assert layer.cycles["misc"] > 0


def test_a_layer_that_cannot_be_cut_is_named() -> None:
    layer = layer_of(64, 12 * 256, 12, 1, 1)
    deep = dataclasses.replace(LPCV, bank_depth=128)
    g, x = start()
    conv(g, x, 24)
    layer.nodes.append(g.nodes[0])
    with pytest.raises(ToolError, match="does not fit") as error:
        tile(layer, deep)
    assert error.value.where == "conv0"


def test_weights_that_do_not_fit_choose_the_cheaper_order() -> None:
    heavy = layer_of(26, 300, 300, 3, 1)  # 225 words a group, 9 of 25 fit
    assert tile(heavy, LPCV).channel_groups == tile(heavy, LPCV).kept_weights == 9
    light = layer_of(8, 300, 300, 3, 1)  # one tile: nothing is loaded twice
    assert tile(light, LPCV).channel_groups == 25
    weights = 300 * 300 * 9
    assert time_superlayer(light, LPCV).load_bytes == weights + 64 * 300


def test_augmentation_packs_few_channels() -> None:
    g, x = start((1, 64, 64, 3))
    g.outputs = [conv(g, x, 16, 3)]
    plain = dataclasses.replace(KV260, options=dataclasses.replace(KV260.options, augmentation=False))
    assert compile(g, plain).layers[0].cycles["conv"] == 3 * compile(g, KV260).layers[0].cycles["conv"]


def test_transposed_convolution_loads_its_input_once() -> None:
    g, x = start((1, 8, 8, 12))
    w = g.add_constant("w", np.zeros((12, 4, 4, 12), np.float32))
    g.outputs = [g.add("transposed_conv2d", [x, w], "up", stride=(2, 2), pad=(1, 1, 1, 1))]
    layer = compile(g).layers[0]
    assert layer.load_bytes == 8 * 8 * 12 + 12 * 12 * 16
    assert layer.cycles["conv"] == 16 * 2 * 4  # 16 columns, 2 row groups, a quarter of 16 kernel positions


def test_nearest_upsampling_by_hand() -> None:
    g, x = start((1, 8, 8, 12))
    g.outputs = [g.add("resize", [x], "up", scale=(2.0, 2.0))]
    layer = compile(g).layers[0]
    assert (layer.load_bytes, layer.save_bytes) == (768, 3072)
    assert layer.cycles["misc"] == pytest.approx(4 * (20 + 16 * 4))  # 4 times 4 rows, 16 columns, 2x2 positions


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
    assert [segment.where for segment in program.segments] == ["dpu", "host", "dpu"]
    assert host.where == "host" and "estimate" in host.bound_by and host.cycles == {}
    assert program.host_nodes_ms == host.ms > 0
    assert program.host_ms == pytest.approx(1.85 + 32.9e-6 * 16 * 16 * 24 + host.ms)


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
