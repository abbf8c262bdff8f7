"""A tile whose lines are pieces of rows: LOAD brings the source rows of each line's kernel side by side.

Line p of the array sees rows `p * kernel height + k` of the stage, a map of which LOAD fills row k of line p with what
kernel row k of that line's piece needs, zeros where it lies outside. To CONV that is a convolution whose stride in
height is its kernel's height. Neither neighbouring pieces nor kernel rows need to be neighbours in the map: so pieces
of a map's last rows fill the whole array, and so does a dilated kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lowwatt.compiler.bankmap import BankMap
from lowwatt.compiler.dram import CONSTANTS
from lowwatt.compiler.lowering.layer import Convolution, Fold, Layer, Pair
from lowwatt.compiler.lowering.misc import emit_eltwise

if TYPE_CHECKING:
    from lowwatt.compiler.lowering.stream import Strip


MAX_ROW_WORDS = 1024
"""Most words from one row to the next of a slot: `jump_read_endl` has ten bits."""


def stage_columns(conv: Convolution, columns: int) -> int:
    """Source columns that so many neighbouring outputs see."""
    return (columns - 1) * conv.stride[1] + (conv.phases[0].kernel[1] - 1) * conv.spacing[1] + 1


def stage_words(layer: Layer, columns: int, lanes: int) -> int:
    """Words that a stage for so many output columns takes of each bank."""
    conv = layer.conv
    assert conv is not None
    return conv.phases[0].kernel[0] * stage_columns(conv, columns) * layer.source_groups(lanes)


@dataclass(frozen=True, slots=True)
class Gather:
    """Emits a strip's tiles of pieces."""

    strip: Strip
    conv: Convolution
    fold: Fold

    def stages(self) -> list[BankMap]:
        """Load the stages of all tiles; what they hold serves every chunk of output channels."""
        found = []
        for pieces in self.fold.tiles:
            stage = self._map("inputs", 0, stage_columns(self.conv, self.fold.columns), self._kernel[0])
            for line, piece in enumerate(pieces):
                for k in range(self._kernel[0]):
                    self._load(stage, line * self._kernel[0] + k, piece, k)
            found.append(stage)
        return found

    def run(self, stages: Sequence[BankMap]) -> None:
        """Work on all tiles and save their pieces."""
        for stage, pieces in zip(stages, self.fold.tiles, strict=True):
            self._tile(stage, pieces)

    @property
    def _kernel(self) -> Pair:
        return self.conv.phases[0].kernel

    def _map(self, ring: str, group: int, columns: int, stride: int = 1) -> BankMap:
        strip = self.strip
        words = strip.layer.source_groups(strip.lanes) if group == 0 else len(strip.groups)
        found = BankMap(group * strip.pixels, strip.pixels, 0, 1, columns, words, stride)
        return replace(found, base=strip.space.take(ring, found.words))

    # -- LOAD ---------------------------------------------------------------------------------------------------

    def _load(self, stage: BankMap, row: int, piece: Pair, k: int) -> None:
        """One row of a stage: a stretch of a source row between zeros, or zeros alone."""
        origin, size = self.conv.phases[0].origin, self.strip.layer.source
        source = piece[0] * self.conv.stride[0] + origin[0] + k * self.conv.spacing[0]
        first = piece[1] * self.conv.stride[1] + origin[1]
        last = first + stage.columns
        bank, address = stage.place(row)
        if not 0 <= source < size.height:
            self._zeros(bank, address, stage.columns, stage.pixel_words)
            return
        inside = range(max(0, first), min(size.width, last))
        region = self.strip.source_region()
        start = address + (inside.start - first) * stage.pixel_words
        self.strip.load_row(bank, start, region, source, inside, stage.pixel_words)
        self._zeros(bank, address, inside.start - first, stage.pixel_words)
        behind = address + (inside.stop - first) * stage.pixel_words
        self._zeros(bank, behind, last - inside.stop, stage.pixel_words)

    def _zeros(self, bank: int, address: int, pixels: int, words: int) -> None:
        if pixels > 0:
            width = self.strip.layer.source.channels
            emitter = self.strip.emitter
            emitter.load_bytes(CONSTANTS, self.fold.zeros, bank, address, pixels, width, width, words)

    # -- CONV, MISC, SAVE ---------------------------------------------------------------------------------------

    def _tile(self, stage: BankMap, pieces: Sequence[Pair]) -> None:
        made = self._map("made", 1, self.fold.columns)
        for group in self.strip.groups:
            self.strip.parameters.load_weights(self.conv, group)
            for first in range(min(self.conv.spacing[1], self.fold.columns)):
                self._conv(stage, made, len(pieces), group, first)
        misc = self.strip.layer.misc
        sink = made
        if misc is not None:
            operands = [self._operand(name, pieces) for name in misc.operands]
            sink = self._map("made", 1, self.fold.columns)
            for start in range(0, len(pieces), misc.rows):
                rows = range(start, min(len(pieces), start + misc.rows))
                emit_eltwise(self.strip, misc, rows, made, operands, sink)
        self._save(sink, pieces)

    def _conv(self, stage: BankMap, made: BankMap, lines: int, group: int, first: int) -> None:
        """Columns `first`, `first + dilation`, … of all lines."""
        (kh, kw), conv, spread = self._kernel, self.conv, self.conv.spacing[1]
        bank, address = stage.place(0)
        out_bank, out = made.place(0)
        strip = self.strip
        numbers = {
            "bank_id_in": bank,
            "bank_addr_in": address + first * stage.pixel_words,
            "jump_read": spread * stage.pixel_words,
            "jump_read_endl": stage.row_words,
            "kernel_h": kh,
            "stride_h": kh,
            "pad_bottom": kh - 1,
            "kernel_w": kw,
            "stride_w": conv.stride[1],
            "pad_right": kw - 1,
            "bank_id_out": out_bank,
            "bank_addr_out": out + first * made.pixel_words + group - strip.groups.start,
            "jump_write": spread * made.pixel_words,
            "stride_out": 1,
            "jump_write_endl": 1,
            "length": len(range(first, self.fold.columns, spread)),
            "valid_pixel_parallel": lines,
            **strip.parameters.of_conv(conv, group),
        }
        strip.emitter.window("CONV", numbers)

    def _operand(self, name: str, pieces: Sequence[Pair]) -> BankMap:
        operand = self._map("made", 1, self.fold.columns)
        region = self.strip.part(self.strip.regions[name], self.strip.layer.grid.channels)
        for line, (row, column) in enumerate(pieces):
            bank, address = operand.place(line)
            columns = range(column, column + self.fold.columns)
            self.strip.load_row(bank, address, region, row, columns, operand.pixel_words)
        return operand

    def _save(self, sink: BankMap, pieces: Sequence[Pair]) -> None:
        layer = self.strip.layer
        region = self.strip.part(self.strip.regions[layer.name], layer.sink.channels)
        for line, (row, column) in enumerate(pieces):
            bank, address = sink.place(line)
            start = region.at(row, column)
            self.strip.emitter.save(bank, address, start, self.fold.columns, sink.pixel_words, region)
