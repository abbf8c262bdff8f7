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
_LANE = Markup(
    '<g><title>{}</title><path class="lane c{}" d="{}"/></g><line class="grid" x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
)
_DOT = Markup('<a href="{}"><path class="dot c{}" d="M{:.1f} {:.1f}h.01"><title>{}</title></path></a>')
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


@dataclass(frozen=True, slots=True)
class Lane:
    """One track of a time line: its name, colour class and the shares (0…1) of equal spans."""

    name: str
    colour: int
    shares: Sequence[float]


def lanes(tracks: Sequence[Lane], label: str, ends: tuple[str, str]) -> Markup:
    """Tracks one above the other, each as high at a time as it is busy then."""
    each = HEIGHT / max(len(tracks), 1)
    drawn = [_lane(track, (index + 1) * each, each) for index, track in enumerate(tracks)]
    names = [_TICK.format(100 * (index + 0.5) / len(tracks), track.name) for index, track in enumerate(tracks)]
    svg = _SVG.format(WIDTH, HEIGHT, label, Markup("").join(drawn))
    return _CHART.format(svg, Markup("").join(names), *ends)


def _lane(track: Lane, floor: float, height: float) -> Markup:
    step = WIDTH / max(len(track.shares), 1)
    tops = [floor - 0.86 * height * share for share in track.shares]
    steps = "".join(f"V{top:.1f}H{(index + 1) * step:.1f}" for index, top in enumerate(tops))
    mean = sum(track.shares) / max(len(track.shares), 1)
    title = f"{track.name}: busy {100 * mean:.0f} % of the time"
    return _LANE.format(title, track.colour, f"M0 {floor:.1f}{steps}V{floor:.1f}Z", WIDTH, floor, floor)


@dataclass(frozen=True, slots=True)
class Spot:
    """One layer of a roofline: MACs a byte loaded, 1e9 MACs a second; colour, text and link as in Column."""

    intensity: float
    speed: float
    colour: int
    title: str
    link: str


def roofline(spots: Sequence[Spot], peak: float, gb_s: float) -> Markup:
    """Speed over intensity, both logarithmic, under what array (`peak`, GMAC/s) and memory (`gb_s`) allow."""
    right = 10.0 ** math.ceil(math.log10(max([2 * peak / gb_s, *(spot.intensity for spot in spots)])))
    left = 10.0 ** math.floor(math.log10(min([peak / gb_s / 2, *(spot.intensity for spot in spots)])))
    top = 10.0 ** math.ceil(math.log10(max([peak * 1.2, *(spot.speed for spot in spots)])))
    low = 10.0 ** math.floor(math.log10(min([peak / 20, *(spot.speed for spot in spots)])))

    def place(intensity: float, speed: float) -> tuple[float, float]:
        return WIDTH * _share(intensity, left, right), HEIGHT * (1 - _share(max(speed, low), low, top))

    corners = [(max(left, low / gb_s), max(low, left * gb_s)), (peak / gb_s, peak), (right, peak)]
    roof = _LINE.format(5, " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*corner) for corner in corners)))
    dots = [_DOT.format(s.link, s.colour, *place(s.intensity, s.speed), s.title) for s in spots]
    ticks = [10.0**k for k in range(round(math.log10(low)), round(math.log10(top)) + 1)]
    levels = [100 * (1 - _share(tick, low, top)) for tick in ticks]
    grid = [_GRID.format(WIDTH, HEIGHT * level / 100, HEIGHT * level / 100) for level in levels]
    marks = [_TICK.format(level, f"{tick:g}") for level, tick in zip(levels, ticks, strict=True)]
    svg = _SVG.format(WIDTH, HEIGHT, "speed over MACs a byte loaded", Markup("").join([*grid, roof, *dots]))
    return _CHART.format(svg, Markup("").join(marks), f"{left:g} MACs a byte loaded", f"{right:g}")


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, by its logarithm."""
    return math.log(value / low) / math.log(high / low)


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
