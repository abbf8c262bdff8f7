"""A convolution as CONV computes it: phases, each a plain convolution of some outputs with some kernel positions."""

from __future__ import annotations

from lowwatt.compiler.lowering.layer import Convolution, Phase
from lowwatt.compiler.lowering.numbers import Scaling
from lowwatt.compiler.subject import Window


def plain(window: Window, scaling: Scaling, channels: int) -> Convolution:
    """One phase: every output sees the whole kernel."""
    taps = _taps(range(window.kernel[0]), range(window.kernel[1]))
    phase = Phase(window.kernel, taps, (-window.pad[0], -window.pad[2]))
    return Convolution((phase,), scaling, channels, stride=window.stride)


def dilated(window: Window, scaling: Scaling, channels: int) -> Convolution:
    """Rows and columns a dilation apart are neighbours to CONV; one phase for each remainder."""
    taps = _taps(range(window.kernel[0]), range(window.kernel[1]))
    down, across = window.dilation
    phases = tuple(
        Phase(window.kernel, taps, (a - window.pad[0], b - window.pad[2]), (a, b))
        for a in range(down)
        for b in range(across)
    )
    return Convolution(phases, scaling, channels, spacing=window.dilation, step=window.dilation)


def transposed(window: Window, scaling: Scaling, channels: int) -> Convolution:
    """Outputs with one remainder of the stride see one part of the kernel (docs/dpu.md 4.3: stored flipped)."""
    (kh, kw), (sh, sw), (top, _, left, _) = window.kernel, window.stride, window.pad
    phases = []
    for a in range(sh):
        for b in range(sw):
            rows, row = _part(kh, sh, kh - 1 - top, a)
            columns, column = _part(kw, sw, kw - 1 - left, b)
            phases.append(Phase((len(rows), len(columns)), _taps(rows, columns), (row, column), (a, b)))
    return Convolution(tuple(phases), scaling, channels, step=window.stride)


def _part(kernel: int, stride: int, pad: int, output: int) -> tuple[range, int]:
    """Kernel positions that outputs of a remainder meet inputs at, and the first one's input."""
    first = (pad - output) % stride
    return range(first, kernel, stride), (output + first - pad) // stride


def _taps(rows: range, columns: range) -> tuple[tuple[int, int], ...]:
    return tuple((y, x) for y in rows for x in columns)
