"""The XML of a hand-off file, as far as machines need it: modules with their parameters and clocks.

It is read as a stream and without a document type: a hand-off file has none, and entities make XML explode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from lowwatt.errors import ToolError
from lowwatt.targets.text import read_bytes


@dataclass
class Module:
    """One block of the design: parameters by name, and Hz of its clock ports as text."""

    kind: str
    parameters: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, str] = field(default_factory=dict)


@dataclass
class Design:
    """The chip and the blocks in it."""

    chip: str = ""
    modules: list[Module] = field(default_factory=list)


def read_design(path: Path, what: str) -> Design:
    """Modules of a hand-off file; ToolError `what` for anything else."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(read_bytes(path, what), True)
    except expat.ExpatError as error:
        raise ToolError(what, where=str(path), why=str(error), hint="is it a .hwh, and whole?") from None
    except (_Doctype, ValueError, LookupError) as error:
        raise ToolError(what, where=str(path), why=str(error)) from None
    if reader.root != "EDKSYSTEM":
        raise ToolError(what, where=str(path), why=f"its root is {reader.root[:80]}, that of a hand-off file EDKSYSTEM")
    return reader.design


class _Doctype(Exception):
    pass


def _refuse(*_: object) -> NoReturn:
    raise _Doctype("it has a document type, which no hand-off file has")


class _Reader:
    def __init__(self) -> None:
        self.design, self.root = Design(), ""
        self._open: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        within = self._open[-2:]
        self._open.append(tag)
        if tag == "SYSTEMINFO":
            self.design.chip = attributes.get("DEVICE", "") + attributes.get("SPEEDGRADE", "")
        elif tag == "MODULE":
            self.design.modules.append(Module(attributes.get("MODTYPE", "")))
        elif within == ["MODULE", "PARAMETERS"] and tag == "PARAMETER":
            self.design.modules[-1].parameters[attributes.get("NAME", "")] = attributes.get("VALUE", "")
        elif within == ["MODULE", "PORTS"] and tag == "PORT" and "CLKFREQUENCY" in attributes:
            self.design.modules[-1].clocks[attributes.get("NAME", "")] = attributes["CLKFREQUENCY"]

    def end(self, _: str) -> None:
        self._open.pop()
