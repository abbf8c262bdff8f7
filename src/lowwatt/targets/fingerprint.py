"""The 64-bit fingerprint of a DPUCZDX8G, by which the vendor's runtime recognises the core it was compiled for.

Bit layout: Vitis-AI v3.5, target_factory/src/create_target_v2.cpp and create_target_DPUCZDX8G_ISA1.cpp
(docs/dpu.md 1.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lowwatt.errors import ToolError

if TYPE_CHECKING:
    from lowwatt.targets.target import Target

_ARRAYS = ("B512", "B800", "B1024", "B1152", "B1600", "B2304", "B3136", "B4096")
_DPUCZDX8G = 1


def fingerprint(target: Target) -> int:
    """Fingerprint of the target's array, instruction set and options.

    On ISA1 the write parallelism is 1 for both engines, as in every published file.

    >>> from lowwatt.targets import load_target
    >>> hex(fingerprint(load_target("ultra96v2-lpcv")))
    '0x1000020f2014405'
    """
    if target.array.name not in _ARRAYS:
        raise ToolError(
            "the array has no fingerprint", where=target.array.name, hint="known arrays: " + ", ".join(_ARRAYS)
        )
    feature = _isa0(target) if target.isa == 0 else _isa1(target)
    return _DPUCZDX8G << 56 | target.isa << 48 | feature | _ARRAYS.index(target.array.name)


def _isa0(target: Target) -> int:
    options = target.options
    rows = options.pool_rows << 8 | options.depthwise_rows << 12 | options.eltwise_rows << 16
    flags = {
        26: options.augmentation,
        28: options.leaky_relu,
        29: options.relu6,
        30: options.average_pool,
        31: options.depthwise_relu6,
        36: options.eltwise_mul,
        37: options.max_reduce,
    }
    return rows | target.image_groups << 24 | _bits(flags)


def _isa1(target: Target) -> int:
    options = target.options
    rows = options.depthwise_rows << 8 | options.eltwise_rows << 16
    flags = {26: options.augmentation, 28: options.leaky_relu, 30: options.max_reduce}
    return rows | target.image_groups << 24 | _bits(flags)


def _bits(flags: dict[int, bool]) -> int:
    return sum(1 << bit for bit, on in flags.items() if on)
