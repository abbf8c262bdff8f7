"""A copy with a border: each row is put together in the banks from the map's and from a constant, then saved."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.dram import CONSTANTS, Dram
from lowwatt.compiler.lowering.emitter import Emitter
from lowwatt.compiler.lowering.layer import Border, Layer
from lowwatt.compiler.lowering.space import Space
from lowwatt.errors import ToolError


def emit_padding(layer: Layer, border: Border, dram: Dram, emitter: Emitter, space: Space) -> None:
    """Append the instructions of a layer that adds a border."""
    for channels in _chunks(layer, emitter):
        _Padding(layer, border, dram, emitter, space, channels).run()


def _chunks(layer: Layer, emitter: Emitter) -> Iterator[range]:
    """Channels of which two rows of words fit a bank."""
    lanes = emitter.target.array.input_channels
    groups = emitter.target.bank_depth // (2 * layer.sink.width)
    if not groups:
        raise ToolError("a row does not fit a bank", where=layer.name, why=f"{layer.sink.width} columns")
    for first in range(0, layer.sink.channels, groups * lanes):
        yield range(first, min(layer.sink.channels, first + groups * lanes))


class _Padding:
    """Some channels of the map, row by row."""

    def __init__(
        self, layer: Layer, border: Border, dram: Dram, emitter: Emitter, space: Space, channels: range
    ) -> None:
        self._layer, self._border, self._emitter = layer, border, emitter
        self._source = dram.regions[layer.input].part(channels.start, len(channels))
        self._sink = dram.regions[layer.name].part(channels.start, len(channels))
        words = ceil(len(channels) / emitter.target.array.input_channels)
        rows = BankMap(0, emitter.target.array.pixels, 0, 2, layer.sink.width, words)
        space.take("inputs", rows.words)
        self._rows = rows

    def run(self) -> None:
        for row in range(self._layer.sink.height):
            bank, address = self._rows.place(row)
            self._load_row(bank, address, row - self._border.top)
            start, width = self._sink.at(row, 0), self._layer.sink.width
            self._emitter.save(bank, address, start, width, self._rows.pixel_words, self._sink)

    def _load_row(self, bank: int, address: int, row: int) -> None:
        """Left border, the map's row, right border."""
        size, border, words = self._layer.source, self._border, self._rows.pixel_words
        inside = min(max(row, 0), size.height - 1)
        if row != inside and border.fill is not None:
            self._fill(bank, address, self._layer.sink.width)
            return
        middle = address + border.left * words
        start = self._source.at(inside, 0)
        self._emitter.load(bank, middle, start, size.width, words, self._source)
        self._side(bank, address, border.left, self._source.at(inside, 0))
        self._side(bank, middle + size.width * words, border.right, self._source.at(inside, size.width - 1))

    def _side(self, bank: int, address: int, pixels: int, edge: int) -> None:
        """Pixels beside the row: the constant, or its last pixel again and again."""
        if self._border.fill is not None:
            self._fill(bank, address, pixels)
            return
        for k in range(pixels):
            self._emitter.load(
                bank, address + k * self._rows.pixel_words, edge, 1, self._rows.pixel_words, self._source
            )

    def _fill(self, bank: int, address: int, pixels: int) -> None:
        if pixels and self._border.fill is not None:
            width = self._source.channels
            jump = self._rows.pixel_words
            self._emitter.load_bytes(CONSTANTS, self._border.fill, bank, address, pixels, width, width, jump)
