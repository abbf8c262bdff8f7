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
_BLOCKS = 26
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
_LANE = Markup('<path class="lane c{}" d="{}"/><line class="grid" x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
_STRIPE = Markup('<rect class="stripe" x="{:.2f}" y="0" width="{:.2f}" height="{}"/>')
_BLOCK = Markup(
    '<a href="{}"><rect class="bar c{}" x="{:.2f}" y="0" width="{:.2f}" height="{}"/>'
    '<rect class="hit" x="{:.2f}" y="0" width="{:.2f}" height="{}"><title>{}</title></rect></a>'
)
_TIMELINE = Markup(
    '<div class="chart timeline" data-ms="{}"><div class="plot">{}{}</div><div class="x"><span>0 ms</span>'
    '<button type="button" hidden="">show all</button><span>{}</span></div>'
    '<p class="readout" role="status">Point at a layer to read about it; drag across to look closer.</p></div>'
)
_DOT = Markup(
    '<a href="{}"><path class="dot c{}" stroke-width="{:.1f}" d="M{:.1f} {:.1f}h.01"><title>{}</title></path></a>'
)
_MARK = Markup('<span class="mark" style="right:{:.1f}%;top:{:.1f}%">{}</span>')
_FOOT = Markup('<span class="foot" style="left:{:.1f}%">{}</span>')
_SCALED = Markup('<div class="chart roofline"><div class="plot">{}{}</div><div class="x">{}</div></div>')
_HIT = Markup('<rect class="hit" x="{:.2f}" y="0" width="{:.2f}" height="{}"><title>{}</title></rect>')


@dataclass(frozen=True, slots=True)
class Column:
    """One bar: its value, colour class, the text shown on hover and the link it leads to."""

    value: float
    colour: int
    title: str
    link: str


def columns(
    bars: Sequence[Column], unit: str, label: str, ends: tuple[str, str], top: float = 0, signed: bool = False
) -> Markup:
    """Bars side by side over zero; `ends` is the text under the first and the last. Charts of one `top` have one scale.

    What is less than zero has a bar only where the chart is `signed`.

    >>> chart = columns([Column(2, 0, "conv1: 2 ms", "#layer-0")], "ms", "time", ("first", "last"))
    >>> "<title>conv1: 2 ms</title>" in chart
    True
    """
    values = [bar.value for bar in bars]
    top = top if top > 0 else max(values, default=0)
    ticks = _signed_ticks(min(values, default=0), top) if signed else nice_ticks(top)
    step = WIDTH / max(len(bars), 1)
    drawn = [_bar(bar, index * step, step, ticks) for index, bar in enumerate(bars)]
    return _chart(Markup("").join(drawn), ticks, unit, label, ends)


def _bar(bar: Column, x: float, step: float, ticks: Sequence[float]) -> Markup:
    value = max(bar.value, ticks[0])
    top, bottom = (HEIGHT * _down(end, ticks) for end in (max(value, 0), min(value, 0)))
    gap = step * 0.12
    return _BAR.format(bar.link, x, step, HEIGHT, bar.title, bar.colour, x + gap, top, step - 2 * gap, bottom - top)


def _down(value: float, ticks: Sequence[float]) -> float:
    """How far a value lies below the top of an axis, as a share of it."""
    return (ticks[-1] - value) / (ticks[-1] - ticks[0])


def _signed_ticks(low: float, top: float) -> list[float]:
    """Round numbers around zero and both ends, as few as for one of their distance."""
    low, top = min(low, 0.0), max(top, 0.0)
    step = nice_ticks(top - low)[1]
    below, above = (math.ceil(end / step * (1 - 1e-9)) for end in (-low, top))
    return [float(f"{index * step:.9g}") for index in range(-below, max(above, 1 - below) + 1)]


def line(
    points: Sequence[tuple[float, float]],
    titles: Sequence[str],
    colour: int,
    label: str,
    ends: tuple[str, str],
    unit: str = "",
) -> Markup:
    """A curve of (x, y) over zero, x ascending; each point shows its title on hover. `ends` as for columns."""
    ticks = nice_ticks(max((y for _, y in points), default=0))
    first, last = points[0][0], points[-1][0]
    scale = WIDTH / ((last - first) or 1)
    placed = [((x - first) * scale, HEIGHT * (1 - max(y, 0) / ticks[-1])) for x, y in points]
    path = _LINE.format(colour, " ".join(f"{x:.1f},{y:.1f}" for x, y in placed))
    step = WIDTH / len(points)
    hits = [_HIT.format(x - step / 2, step, HEIGHT, title) for (x, _), title in zip(placed, titles, strict=True)]
    return _chart(path + Markup("").join(hits), ticks, unit, label, ends)


@dataclass(frozen=True, slots=True)
class Lane:
    """One track of a time line: its name, colour class and the shares (0…1) of equal spans."""

    name: str
    colour: int
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch (0…1 of the time) of a time line's first track, with colour, text and link as in Column."""

    start: float
    end: float
    colour: int
    title: str
    link: str


def timeline(blocks: Sequence[Block], tracks: Sequence[Lane], label: str, ms: float) -> Markup:
    """Blocks on top, and below them tracks, each as high at a time as it is busy then.

    The page's script lets a reader look closer at a part of the `ms` milliseconds.
    """
    each = (HEIGHT - _BLOCKS) / max(len(tracks), 1)
    floors = [_BLOCKS + (index + 1) * each for index in range(len(tracks))]
    stripes = [_STRIPE.format(WIDTH * b.start, WIDTH * (b.end - b.start), HEIGHT) for b in blocks[1::2]]
    drawn = [_lane(track, floor, each) for track, floor in zip(tracks, floors, strict=True)]
    names = [_TICK.format(50 * _BLOCKS / HEIGHT, "layers")]
    for track, floor in zip(tracks, floors, strict=True):
        mean = sum(track.shares) / max(len(track.shares), 1)
        names.append(_TICK.format(100 * (floor - each / 2) / HEIGHT, f"{track.name} {100 * mean:.0f} %"))
    svg = _SVG.format(WIDTH, HEIGHT, label, Markup("").join([*stripes, *drawn, *map(_block, blocks)]))
    return _TIMELINE.format(ms, svg, Markup("").join(names), f"{ms:.4g} ms")


def _block(block: Block) -> Markup:
    x, width = WIDTH * block.start, WIDTH * (block.end - block.start)
    return _BLOCK.format(block.link, block.colour, x, width, _BLOCKS - 3, x, width, HEIGHT, block.title)


def _lane(track: Lane, floor: float, height: float) -> Markup:
    step = WIDTH / max(len(track.shares), 1)
    tops = [round(floor - 0.86 * height * share, 1) for share in track.shares]
    turns = [index for index, top in enumerate(tops) if index == 0 or top != tops[index - 1]]
    steps = "".join(f"H{index * step:.1f}V{tops[index]}" for index in turns)
    return _LANE.format(track.colour, f"M0 {floor:.1f}{steps}H{WIDTH}V{floor:.1f}Z", WIDTH, floor, floor)


@dataclass(frozen=True, slots=True)
class Spot:
    """One layer of a roofline: operations a byte, 1e9 operations a second, share of all time (its dot's area); colour,
    text and link as in Column.
    """

    intensity: float
    speed: float
    share: float
    colour: int
    title: str
    link: str


def roofline(spots: Sequence[Spot], peak: float, gb_s: float) -> Markup:
    """Speed over intensity, both logarithmic, under what array (`peak`, GOPS) and memory (`gb_s`) allow."""
    bend = peak / gb_s
    axes = _Axes.around(
        [bend / 4, 4 * bend, *(spot.intensity for spot in spots)], [peak / 20, 1.6 * peak, *(s.speed for s in spots)]
    )
    start = max(axes.left, axes.low / gb_s)
    corners = [axes.place(start, start * gb_s), axes.place(bend, peak), axes.place(axes.right, peak)]
    roof = _LINE.format(5, " ".join(f"{x:.1f},{y:.1f}" for x, y in corners))
    ordered = sorted(spots, key=lambda spot: -spot.share)  # small dots lie on top
    svg = _SVG.format(
        WIDTH, HEIGHT, "speed over operations a byte", axes.grid() + roof + Markup("").join(map(axes.dot, ordered))
    )
    middle = math.sqrt(start * bend)
    names = axes.name(axes.right, peak, f"{peak:g} GOPS, the array's peak")
    names += axes.name(middle, middle * gb_s, f"{gb_s:g} GB/s loaded")
    return _SCALED.format(svg, axes.ticks() + names, axes.feet())


@dataclass(frozen=True, slots=True)
class _Axes:
    """Two logarithmic axes from a power of ten to another."""

    left: float
    right: float
    low: float
    top: float

    @classmethod
    def around(cls, across: Sequence[float], up: Sequence[float]) -> _Axes:
        return cls(*_decades(across), *_decades(up))

    def place(self, x: float, y: float) -> tuple[float, float]:
        return WIDTH * _share(x, self.left, self.right), HEIGHT * (1 - _share(max(y, self.low), self.low, self.top))

    def dot(self, spot: Spot) -> Markup:
        size = 6 + 60 * math.sqrt(spot.share)
        return _DOT.format(spot.link, spot.colour, size, *self.place(spot.intensity, spot.speed), spot.title)

    def grid(self) -> Markup:
        heights = [self.place(self.left, y)[1] for y in _powers(self.low, self.top)]
        return Markup("").join(_GRID.format(WIDTH, y, y) for y in heights)

    def ticks(self) -> Markup:
        levels = [(y, self.place(self.left, y)[1]) for y in _powers(self.low, self.top)]
        return Markup("").join(_TICK.format(100 * at / HEIGHT, f"{y:g}") for y, at in levels)

    def feet(self) -> Markup:
        places = [(x, self.place(x, self.low)[0]) for x in _powers(self.left, self.right)]
        return Markup("").join(_FOOT.format(100 * at / WIDTH, f"{x:g}") for x, at in places)

    def name(self, x: float, y: float, text: str) -> Markup:
        """Text that ends left above a place."""
        across, down = self.place(x, y)
        return _MARK.format(100.6 - 100 * across / WIDTH, 100 * down / HEIGHT, text)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten around the values."""
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))


def _powers(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, by its logarithm."""
    return math.log(value / low) / math.log(high / low)


def _chart(drawing: Markup, ticks: Sequence[float], unit: str, label: str, ends: tuple[str, str]) -> Markup:
    shares = [_down(tick, ticks) for tick in ticks]
    grid = Markup("").join(_GRID.format(WIDTH, HEIGHT * share, HEIGHT * share) for share in shares)
    texts = [f"{tick:g}".replace("-", "−", 1) if tick < 0 else f"{tick:g}" for tick in ticks]
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
