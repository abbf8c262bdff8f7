"""The 64-bit fingerprint of a DPUCZDX8G, by which the vendor's runtime recognises the core a program was compiled for.

Bits 63:56 are the family, 55:48 the instruction set, 25:24 the image groups, 3:0 the array; the table has the rest.
Source: Vitis-AI v3.5, target_factory/src/create_target_v2.cpp and create_target_DPUCZDX8G_ISA1.cpp; v2.0,
dsa/DPU-TRD/dpu_ip/DPUCZDX8G_v3_4_0/ttcl/fingerprint_json.ttcl (docs/dpu.md 1.3).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lowwatt.errors import ToolError
from lowwatt.targets.core import ARRAYS, Core, Options, alu_options

_DPUCZDX8G = 1
_FAMILIES = {
    2: "DPUCAHX8H",
    3: "DPUCAHX8L",
    4: "DPUCZDI4G",
    5: "DPUCVDX8H",
    6: "DPUCVDX8G",
    7: "DPUCADF8H",
    8: "IPU_PHX",
    9: "DPUCV2DX8G",
}
_ROWS = ("pool_rows", "depthwise_rows", "eltwise_rows")


class _Bits(NamedTuple):
    low: int
    width: int = 1

    @property
    def mask(self) -> int:
        return (1 << self.width) - 1 << self.low

    def read(self, word: int) -> int:
        return (word & self.mask) >> self.low


_FAMILY, _ISA, _GROUPS, _ARRAY = _Bits(56, 8), _Bits(48, 8), _Bits(24, 2), _Bits(0, 4)
_OPTIONS = {
    0: {
        "pool_rows": _Bits(8, 4),
        "depthwise_rows": _Bits(12, 4),
        "eltwise_rows": _Bits(16, 4),
        "augmentation": _Bits(26),
        "leaky_relu": _Bits(28),
        "relu6": _Bits(29),
        "average_pool": _Bits(30),
        "depthwise_relu6": _Bits(31),
        "eltwise_mul": _Bits(36),
        "max_reduce": _Bits(37),
    },
    1: {
        "depthwise_rows": _Bits(8, 4),
        "augmentation": _Bits(26),
        "leaky_relu": _Bits(28),
        "depthwise_leaky_relu": _Bits(29),
        "save_argmax": _Bits(30),
    },
}
_ALWAYS = {0: 0, 1: 1 << 16}
"""Bits that every core of the instruction set has. On ISA1 they are where ISA0 counts elementwise rows."""


def fingerprint(core: Core) -> int:
    """Fingerprint of a core. ToolError for an array that none of the vendor's cores has, or more than 15 rows.

    >>> from lowwatt.targets import load_target
    >>> hex(fingerprint(load_target("ultra96v2-lpcv").core))
    '0x1000020f2014405'
    """
    if core.array not in ARRAYS:
        known = ", ".join(array.name for array in ARRAYS)
        raise ToolError("the array has no fingerprint", where=core.array.name, hint=f"known arrays: {known}")
    word = _DPUCZDX8G << _FAMILY.low | core.isa << _ISA.low | _ALWAYS[core.isa]
    word |= core.image_groups << _GROUPS.low | ARRAYS.index(core.array)
    for option, bits in _OPTIONS[core.isa].items():
        word |= _value(core, option, bits) << bits.low
    return word


def _value(core: Core, option: str, bits: _Bits) -> int:
    """What the fingerprint says of an option: a core without depthwise convolution counts no rows for it."""
    if option == "depthwise_rows" and core.isa == 0 and not core.options.depthwise:
        return 0
    value = int(getattr(core.options, option))
    if value >> bits.width:
        raise ToolError("the core has no fingerprint", where=option, why=f"{value} does not fit {bits.width} bits")
    return value


def decode(word: int) -> Core:
    """Core of a fingerprint. ToolError where it is of another family or says something that is not understood.

    >>> decode(0x101000056010407).array.name
    'B4096'
    """
    where = f"{word:#x}"
    if not 0 <= word < 1 << 64:
        raise ToolError("no fingerprint", where=where, why="a fingerprint has 64 bits")
    family, isa = _FAMILY.read(word), _ISA.read(word)
    if family != _DPUCZDX8G:
        why = f"it is of family {_FAMILIES.get(family, family)}, lowwatt knows DPUCZDX8G (Zynq UltraScale+)"
        raise ToolError("not a machine of lowwatt", where=where, why=why)
    if isa not in _OPTIONS:
        raise ToolError("not a machine of lowwatt", where=where, why=f"instruction set {isa}; 0 and 1 are known")
    _check_bits(word, isa)
    groups: Any = _GROUPS.read(word)
    return Core(ARRAYS[_ARRAY.read(word)], 1 if isa else 0, groups, _options(isa, word))


def _check_bits(word: int, isa: int) -> None:
    """ToolError for bits that are not understood: what they switch on could change what the core computes."""
    known = [_FAMILY, _ISA, _GROUPS, _ARRAY, *_OPTIONS[isa].values()]
    rest = word & ~sum(bits.mask for bits in known)
    wrong = [f"bit {bit}" for bit in range(64) if (rest ^ _ALWAYS[isa]) >> bit & 1]
    if _ARRAY.read(word) >= len(ARRAYS):
        wrong.append(f"array {_ARRAY.read(word)}")
    if _GROUPS.read(word) < 2:
        wrong.append(f"{_GROUPS.read(word)} image groups")
    for option, bits in _OPTIONS[isa].items():
        if option in _ROWS and bits.read(word) == 0 and (isa, option) != (0, "depthwise_rows"):
            wrong.append(f"{option} 0")
    if wrong:
        hint = "compare it with the arch.json that was built with the core"
        raise ToolError("the fingerprint is not understood", where=f"{word:#x}", why=", ".join(wrong), hint=hint)


def _options(isa: int, word: int) -> Options:
    flags = {option: bool(bits.read(word)) for option, bits in _OPTIONS[isa].items() if option not in _ROWS}
    rows = {option: bits.read(word) for option, bits in _OPTIONS[isa].items() if option in _ROWS}
    if isa == 1:
        return alu_options(rows["depthwise_rows"], **flags)
    depthwise = rows["depthwise_rows"] > 0
    return Options(
        **flags,
        depthwise=depthwise,
        pool_rows=rows["pool_rows"],
        depthwise_rows=max(1, rows["depthwise_rows"]),
        eltwise_rows=rows["eltwise_rows"],
    )
