"""Charts of the report as inline SVG: they follow the page in width, light and dark, print, and need no script.

The drawing is stretched to the width it gets (`preserveAspectRatio="none"`), so text and ticks are HTML.
Colours are classes `c0`…`c5`, defined in the page's style. Strings are escaped by `Markup.format`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 1000, 200
_SVG = Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>')
_CHART = Markup(
    '<div class="chart"><div class="plot">{}{}</div><div class="x"><span>{}</span><span>{}</span></div></div>'
)
_GRID = Markup('<line class="grid" x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
_TICK = Markup('<span class="tick" style="top:{:.1f}%">{}</span>')
_BAR = Markup(
    '<a href="{}"><rect class="hit" x="{:.2f}" y="0" width="{:.2f}" height="{}"><title>{}</title></rect>'
    '<rect class="bar c{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/></a>'
)
_LINE = Markup('<polyline class="line c{}" points="{}"/>')
_HIT = Markup('<rect class="hit" x="{:.2f}" y="0" width="{:.2f}" height="{}"><title>{}</title></rect>')


@dataclass(frozen=True, slots=True)
class Column:
    """One bar: its value, colour class, the text shown on hover and the link it leads to."""

    value: float
    colour: int
    title: str
    link: str


def columns(bars: Sequence[Column], unit: str, label: str, ends: tuple[str, str]) -> Markup:
    """Bars side by side over zero; `ends` is the text under the first and the last.

    >>> chart = columns([Column(2, 0, "conv1: 2 ms", "#layer-0")], "ms", "time", ("first", "last"))
    >>> "<title>conv1: 2 ms</title>" in chart
    True
    """
    ticks = nice_ticks(max((bar.value for bar in bars), default=0))
    step = WIDTH / max(len(bars), 1)
    drawn = [_bar(bar, index * step, step, ticks[-1]) for index, bar in enumerate(bars)]
    return _chart(Markup("").join(drawn), ticks, unit, label, ends)


def _bar(bar: Column, x: float, step: float, top: float) -> Markup:
    height = HEIGHT * max(bar.value, 0) / top
    gap = step * 0.12
    return _BAR.format(
        bar.link, x, step, HEIGHT, bar.title, bar.colour, x + gap, HEIGHT - height, step - 2 * gap, height
    )


def line(points: Sequence[tuple[float, float]], titles: Sequence[str], colour: int, label: str) -> Markup:
    """A curve of (x, y) over zero, x ascending; each point shows its title on hover."""
    ticks = nice_ticks(max((y for _, y in points), default=0))
    first, last = points[0][0], points[-1][0]
    scale = WIDTH / ((last - first) or 1)
    placed = [((x - first) * scale, HEIGHT * (1 - max(y, 0) / ticks[-1])) for x, y in points]
    path = _LINE.format(colour, " ".join(f"{x:.1f},{y:.1f}" for x, y in placed))
    step = WIDTH / len(points)
    hits = [_HIT.format(x - step / 2, step, HEIGHT, title) for (x, _), title in zip(placed, titles, strict=True)]
    ends = (f"epoch {first:g}", f"{last:g}")
    return _chart(path + Markup("").join(hits), ticks, "", label, ends)


def _chart(drawing: Markup, ticks: Sequence[float], unit: str, label: str, ends: tuple[str, str]) -> Markup:
    shares = [1 - tick / ticks[-1] for tick in ticks]
    grid = Markup("").join(_GRID.format(WIDTH, HEIGHT * share, HEIGHT * share) for share in shares)
    texts = [f"{tick:g}" for tick in ticks]
    texts[-1] = f"{texts[-1]} {unit}".rstrip()
    marks = Markup("").join(_TICK.format(100 * share, text) for share, text in zip(shares, texts, strict=True))
    return _CHART.format(_SVG.format(WIDTH, HEIGHT, label, grid + drawing), marks, *ends)


def nice_ticks(top: float) -> list[float]:
    """Round numbers from zero to at least `top`, three to six of them.

    >>> nice_ticks(0.83), nice_ticks(42)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    """
    if top <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(top))
    step = next(power * share for share in (0.2, 0.25, 0.5, 1, 2) if top <= 5 * power * share * (1 + 1e-9))
    count = math.ceil(top / step * (1 - 1e-9))
    return [float(f"{index * step:.9g}") for index in range(count + 1)]
