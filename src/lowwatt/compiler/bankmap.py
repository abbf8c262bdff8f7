"""Where the rows of a feature map lie in the banks of an image group.

An operator of stride s reads its rows in slots of s: row h is in slot `h div s`, as that slot's row `h mod s`; slot k
is in bank `k mod pixels`, so that the rows which an instruction reads at once lie in different banks. A map that a
stride-1 operator reads has one row a slot: row h in bank h mod pixels. (Source: docs/dpu.md 8.6, `stride_offset_in`.)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BankMap:
    """Rows of `columns` pixels, `pixel_words` words each, from word `base` of the banks `first_bank` up.

    A wrap is one slot in each bank. There is room for `wraps` of them; further ones overwrite the first (a ring).

    >>> m = BankMap(first_bank=8, pixels=8, base=100, wraps=2, columns=10, pixel_words=3, stride=2)
    >>> m.place(0), m.place(3), m.place(17)
    ((8, 100), (9, 130), (8, 190))
    """

    first_bank: int
    pixels: int
    base: int
    wraps: int
    columns: int
    pixel_words: int
    stride: int = 1

    @property
    def row_words(self) -> int:
        """Words of a row."""
        return self.columns * self.pixel_words

    @property
    def wrap_words(self) -> int:
        """Words of a slot."""
        return self.row_words * self.stride

    @property
    def words(self) -> int:
        """Words that the map takes of each bank."""
        return self.wrap_words * self.wraps

    @property
    def rows(self) -> int:
        """Rows for which there is room."""
        return self.wraps * self.pixels * self.stride

    def bank(self, slot: int) -> int:
        """Bank of a slot; slots before the map's first row count on backwards."""
        return self.first_bank + slot % self.pixels

    def wrap_address(self, wrap: int) -> int:
        """First word of the slots of a wrap; 0 for a wrap that no row is in."""
        return self.base + wrap % self.wraps * self.wrap_words if wrap >= 0 else 0

    def place(self, row: int) -> tuple[int, int]:
        """Bank and first word of a row."""
        slot, phase = divmod(row, self.stride)
        return self.bank(slot), self.wrap_address(slot // self.pixels) + phase * self.row_words
