"""Names that the vendor gives to cores, such as DPUCZDX8G_ISA1_B4096.

Source: Vitis-AI v3.5, src/vai_runtime/target_factory: {targets,expired_targets}/DPUCZDX8G_*.prototxt for the listed
names, src/create_target_v2.cpp for the form of the others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.targets.core import ARRAYS, Array, Core, Options, alu_options
from lowwatt.targets.fingerprint import decode, fingerprint

PREFIX = "DPUCZDX8G"
_UNLISTED = re.compile(PREFIX + r"_ISA[01]_B\d+_([0-9A-Fa-f]{16})")
_TWO_GROUPS = ("B2304", "B3136", "B4096")
_MULTIPLIES = ("B4096",)


def core_named(name: str) -> Core:
    """Core of a name; ToolError with the nearest one.

    >>> core_named("DPUCZDX8G_ISA0_B4096_MAX_BG2").image_groups
    2
    """
    unlisted = _UNLISTED.fullmatch(name)
    if not unlisted:
        if name not in named_cores():
            raise ToolError(
                f"unknown core {name}", hint=f"{did_you_mean(name, named_cores())}; a fingerprint works too"
            )
        return named_cores()[name]
    core = decode(int(unlisted[1], 16))
    if core_name(core).casefold() != name.casefold():
        raise ToolError(f"unknown core {name}", why=f"its fingerprint is that of {core_name(core)}")
    return core


def core_name(core: Core) -> str:
    """The listed name of a core; an unlisted one is called by its fingerprint, as the vendor's runtime does.

    >>> core_name(decode(0x101000016010407))
    'DPUCZDX8G_ISA1_B4096_0101000016010407'
    """
    word = fingerprint(core)
    return _listed().get(word) or f"{PREFIX}_ISA{core.isa}_{core.array.name}_{word:016X}"


@functools.cache
def named_cores() -> dict[str, Core]:
    """Every core that the vendor lists, by name. Vitis AI 2.5 used 3.x's names of ISA1 for cores without argmax."""
    return {f"{PREFIX}_{name}": core for array in ARRAYS for name, core in _cores(array)}


@functools.cache
def _listed() -> dict[int, str]:
    return {fingerprint(core): name for name, core in named_cores().items()}


def _cores(array: Array) -> Iterator[tuple[str, Core]]:
    rows, name = array.pixels // 2, array.name
    full = Options(augmentation=True, pool_rows=rows, depthwise_rows=rows)
    yield f"ISA0_{name}_MAX", Core(array, 0, 3, full)
    if name in _TWO_GROUPS:
        yield f"ISA0_{name}_MAX_BG2", Core(array, 0, 2, full)
    if name in _MULTIPLIES:
        multiplies = Options(augmentation=True, pool_rows=rows, depthwise_rows=rows, eltwise_mul=True)
        yield f"ISA0_{name}_MAX_EM", Core(array, 0, 3, multiplies)
    yield f"ISA0_{name}_MIN", Core(array, 0, 2, _BARE)
    alu = alu_options(rows, augmentation=True, leaky_relu=True, save_argmax=True)
    yield f"ISA1_{name}", Core(array, 1, 2, alu)


_BARE = Options(
    leaky_relu=False, average_pool=False, depthwise=False, depthwise_relu6=False, pool_rows=1, depthwise_rows=1
)
