"""The arrays of a large json file, item by item: Objects365's annotations are 5 GB and need not fit in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lowwatt.errors import ToolError

_CHUNK = 1 << 20
_LARGEST = 1 << 26  # characters of one item; a damaged file must not be read whole in search of its end
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def stream_arrays(path: str | Path) -> Iterator[tuple[str, Any]]:
    """(key, item) for every item of every array of the object that the file holds, in the file's order.

    Other values of that object are passed over. Memory is bounded by the largest item. Raises ToolError for a file that
    cannot be read or is no such json.
    """
    source = Path(path)
    try:
        with source.open(encoding="utf-8-sig") as file:
            yield from _Reader(file).items()
    except FileNotFoundError:
        raise ToolError("no such annotation file", where=str(source)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ToolError("cannot read the annotations", where=str(source), why=str(error)[:200]) from None


class _Reader:
    """A window of the text that moves on; ValueError where the text is no json."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.place, self.ended = file, "", 0, False

    def items(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise ValueError(f"a key is {str(key)[:40]!r}")
            self._expect(":")
            if self._peek() == "[":
                yield from ((key, item) for item in self._array())
            else:
                self._value()
            self._comma("}")
        self._expect("}")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        while self._peek() != "]":
            yield self._value()
            self._comma("]")
        self._expect("]")

    def _comma(self, end: str) -> None:
        if self._peek() != end:
            self._expect(",")
            if self._peek() == end:
                raise ValueError(f"a comma before {end}")

    def _expect(self, mark: str) -> None:
        if self._peek() != mark:
            raise ValueError(f"{mark} is missing before {self.text[self.place : self.place + 40]!r}")
        self.place += 1

    def _peek(self) -> str:
        """The next character that is no space, not yet taken; empty at the end."""
        while True:
            self.place = _SPACE.match(self.text, self.place).end()  # type: ignore[union-attr]
            if self.place < len(self.text) or not self._more():
                return self.text[self.place : self.place + 1]

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.place)
                if end + 2 < len(self.text) or self.ended:  # a number may go on behind the window: 1.|5, 1e-|5
                    self.place = end
                    return value
            except json.JSONDecodeError:
                if self.ended or len(self.text) - self.place > _LARGEST:
                    raise
            self._more()

    def _more(self) -> bool:
        """Move the window on by at least as much as it holds, so that a long item is not parsed over and over."""
        held = self.text[self.place :]
        read = self.file.read(max(_CHUNK, len(held)))
        self.text, self.place, self.ended = held + read, 0, not read
        return bool(read)
