"""The rules by which a layer is cut into strips and chunks, each on a layer small enough to work out by hand.

The machine is a B2304: banks of 2,048 words of 12 channels, 8 rows at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lowwatt.compiler.lowering.build import Builder
from lowwatt.compiler.lowering.layer import Layer
from lowwatt.compiler.lowering.legalize import legalize
from lowwatt.compiler.lowering.tiling import tile
from lowwatt.errors import ToolError
from lowwatt.ir.graph import Graph
from lowwatt.targets import load_target

LPCV = load_target("ultra96v2-lpcv")


def last_layer(graph: Graph) -> Layer:
    return Builder(legalize(graph), LPCV, lambda layer: True).run()[0][-1]


def convolution(height: int, width: int, inputs: int, outputs: int, kernel: int = 1, behind: str = "") -> Layer:
    """A convolution that keeps the map's size, with a pool, a depthwise convolution or an addition behind it."""
    g = Graph("net")
    x = g.add_input("x", (1, height, width, inputs))
    w = g.add_constant("w", np.zeros((outputs, kernel, kernel, inputs), np.float32))
    y = g.add("conv2d", [x, w], "conv", pad=(kernel // 2,) * 4)
    if behind == "pool":
        y = g.add("max_pool", [y], "pool", kernel=(2, 2), stride=(2, 2))
    elif behind == "depthwise":
        v = g.add_constant("v", np.zeros((1, 3, 3, outputs), np.float32))
        y = g.add("depthwise_conv2d", [y, v], "depthwise", pad=(1, 1, 1, 1))
    elif behind == "add":
        y = g.add("add", [y, g.add_input("z", (1, height, width, outputs))], "sum")
    g.outputs = [y]
    return last_layer(g)


def alone(op: str, shape: tuple[int, ...], **attrs: Any) -> Layer:
    g = Graph("net")
    g.outputs = [g.add(op, [g.add_input("x", shape)], "y", **attrs)]
    return last_layer(g)


# -- chunks: the fewest equal ones whose weights fit -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "chunk"),
    [
        (300, 300, 3, 9),  # 25 groups in: 225 words a group out, 9 fit; 25 groups out in 3 chunks: 9
        (300, 120, 3, 5),  # 10 groups out in 2 chunks of 5, not 9 and 1
        (12, 300, 1, 25),  # a word a group out: all at once
    ],
)
def test_chunks(inputs: int, outputs: int, kernel: int, chunk: int) -> None:
    assert tile(convolution(8, 8, inputs, outputs, kernel), LPCV).chunk == chunk


def test_weights_of_one_output_channel_fill_at_most_a_bank() -> None:
    """3x3 on 228 groups: 2,052 words."""
    with pytest.raises(ToolError, match="weights of one output channel do not fit a bank") as error:
        tile(convolution(8, 8, 228 * 12, 12, 3), LPCV)
    assert error.value.where == "conv"


# -- strips: the fewest equal ones with which the engines can take turns -----------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "columns"),
    [
        (1, 700),  # two wraps of 700 words: one is read while the other is loaded
        (3, 350),  # a tile sees rows of the wraps above and below: three wraps, 2,100 words; so two strips
    ],
)
def test_wraps_that_a_kernel_needs(kernel: int, columns: int) -> None:
    assert tile(convolution(32, 700, 12, 12, kernel), LPCV).columns == columns


def test_strips_are_equal() -> None:
    """128 columns of 25 groups, 3x3: 600 words for 22 columns and two beside them; five strips of 26 need 2,100."""
    assert tile(convolution(64, 128, 300, 300, 3), LPCV).columns == 22


def test_an_instruction_has_at_most_1024_columns() -> None:
    assert tile(convolution(8, 1500, 12, 12), LPCV).columns == 750
    assert tile(convolution(8, 1024, 12, 12), LPCV).columns == 1024


def test_rows_that_are_left_over_become_room() -> None:
    """64 words a wrap of 8 rows: all 8 wraps of the map lie in the banks at once."""
    found = tile(convolution(64, 64, 12, 12, 3), LPCV)
    assert (found.source_wraps, found.grid_wraps, found.sink_wraps) == (8, 8, 0)


def test_a_pool_sees_slots_of_its_stride() -> None:
    """16 grid rows a wrap: 2 x 64 words, 4 wraps; 32 columns and 4 wraps of the pool's own."""
    found = tile(convolution(64, 64, 12, 12, behind="pool"), LPCV)
    assert (found.columns, found.grid_wraps, found.sink_wraps) == (32, 4, 4)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (409, 409),  # three wraps of 409 words of grid, two of sink: 2,045
        (410, 205),  # 2,050
    ],
)
def test_a_depthwise_behind_needs_three_wraps_of_the_grid_and_two_of_its_own(width: int, columns: int) -> None:
    assert tile(convolution(64, width, 12, 12, behind="depthwise"), LPCV).columns == columns


def test_an_addition_goes_where_its_operand_was_if_that_saves_a_strip() -> None:
    """200 columns of 2 groups: grid and operand 2 x 2 x 400 words; a sink of its own, 800 more, does not fit."""
    found = tile(convolution(64, 200, 24, 24, behind="add"), LPCV)
    assert found.in_place and (found.columns, found.grid_wraps) == (200, 2)
    assert not tile(convolution(64, 100, 24, 24, behind="add"), LPCV).in_place


def test_what_has_no_weights_is_cut_by_channels_first() -> None:
    """A pool on 600 channels, 64 wide: 50 groups would take 6,400 words a wrap; strips of columns share none of it."""
    found = tile(alone("max_pool", (1, 64, 64, 600), kernel=(2, 2), stride=(2, 2)), LPCV)
    assert found.columns == 32 and found.chunk < 50


def test_a_strip_holds_whole_copies_of_a_pixel() -> None:
    """1,400 columns out in three strips: 467, made even."""
    assert tile(alone("resize", (1, 9, 700, 24), scale=(2.0, 2.0)), LPCV).columns == 468
