"""The report as one HTML page: style, script, charts and pictures are inside, and the network is locked out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from lowwatt.compiler.idle import WAITS
from lowwatt.evaluate import figures
from lowwatt.evaluate.comparison import compare_reports
from lowwatt.evaluate.report import LayerRow, Machine, Report, quantity
from lowwatt.evaluate.template import fill

_ENGINES = ("conv", "load", "save", "misc")
_FLOW = ("load", "conv", "misc", "save")
_OTHERS = (5, 4)
_WAIT_COLOURS = {"load": 1, "misc": 3, "save": 2, "between": 5}


def render(report: Report, against: Report | None = None) -> str:
    """The page as text, the same for the same reports; `against` adds a comparison with an earlier report.

    Everything that comes from the report is escaped; the page's policy forbids every request and foreign script.
    """
    return fill(
        "report_template.html.j2",
        report=report,
        comparison=compare_reports(against, report) if against else None,
        ap_top=max((ap for stage in report.stages for ap in (stage.ap, stage.ap50) if ap), default=1.0),
        **_layer_view(report.layers),
        **machine_view(report),
        **_training_view(report),
    )


def _layer_view(layers: Sequence[LayerRow]) -> dict[str, Any]:
    colours = colours_of(layer.bound_by for layer in layers)
    measured = [index for index, layer in enumerate(layers) if layer.snr_db is not None]
    time = [
        figures.Column(layer.ms, colours[layer.bound_by], _layer_title(layer), f"#layer-{index}")
        for index, layer in enumerate(layers)
    ]
    noise = [
        figures.Column(layers[i].snr_db or 0, 4, f"{layers[i].name}: {quantity(layers[i].snr_db, 'dB')}", f"#layer-{i}")
        for i in measured
    ]
    ends = ("first layer", "last layer")
    return {
        "engines": list(dict.fromkeys(engine for layer in layers for engine in layer.cycles)),
        "colours": colours,
        "bounds": [(name, colours[name], sum(row.ms for row in layers if row.bound_by == name)) for name in colours],
        "time_chart": figures.columns(time, "ms", "milliseconds by layer", ends) if time else "",
        "snr_chart": figures.columns(noise, "dB", "signal to noise by layer", ends) if noise else "",
        "top": _tops(layers),
        "has_banks": any(layer.image_banks is not None for layer in layers),
    }


def machine_view(report: Report) -> dict[str, Any]:
    """Where the time goes, time line and roofline; empty where the report has no machine."""
    machine, layers = report.machine, [layer for layer in report.layers if layer.where == "dpu"]
    if machine is None:
        return {"spent": [], "timeline": "", "roofline": ""}
    blocks, tracks = _blocks(report.layers, machine), _tracks(machine)
    spots = _spots(report.layers, machine)
    return {
        "spent": _spent(layers, machine) if layers and all(layer.waits for layer in layers) else [],
        "timeline": figures.timeline(blocks, tracks, "layers and busy engines over time", machine.ms) if tracks else "",
        "roofline": figures.roofline(spots, 2 * machine.peak_gmacs, machine.load_gb_s) if spots else "",
    }


def _spent(layers: Sequence[LayerRow], machine: Machine) -> list[tuple[str, int, bool, float]]:
    """Milliseconds by what the array does meanwhile: name, colour class, whether it is a faint one, ms."""
    waited = {name: sum(layer.ms * layer.waits.get(name, 0.0) for layer in layers) for name in WAITS}
    useful = sum(layer.ms * layer.utilisation for layer in layers)
    rest = sum(layer.ms for layer in layers) - sum(waited.values()) - useful
    rows = [("useful work", 0, False, useful), ("empty lines and starts", 0, True, rest)]
    rows += [(f"waits {words}", _WAIT_COLOURS[name], False, waited[name]) for name, words in WAITS.items()]
    return [row for row in rows if row[3] > 0.001 * machine.ms]


def _blocks(layers: Sequence[LayerRow], machine: Machine) -> list[figures.Block]:
    """The accelerator's layers one after the other, each as long as it makes the frame longer."""
    colours, now, found = colours_of(layer.bound_by for layer in layers), 0.0, []
    for index, layer in enumerate(layers):
        if layer.where == "dpu" and machine.ms:
            end = now + layer.ms / machine.ms
            found.append(figures.Block(now, end, colours[layer.bound_by], _layer_title(layer), f"#layer-{index}"))
            now = end
    return found


def _tracks(machine: Machine) -> list[figures.Lane]:
    """In the order in which data passes the engines."""
    order = [name for name in _FLOW if name in machine.busy] + [name for name in machine.busy if name not in _FLOW]
    return [
        figures.Lane(name.upper(), _ENGINES.index(name) if name in _ENGINES else 5, machine.busy[name])
        for name in order
    ]


def _spots(layers: Sequence[LayerRow], machine: Machine) -> list[figures.Spot]:
    colours = colours_of(layer.bound_by for layer in layers)
    return [
        figures.Spot(
            2 * layer.macs / layer.load_bytes,
            2 * layer.macs / _working_ms(layer, machine) / 1e6,
            layer.ms / machine.ms,
            colours[layer.bound_by],
            _layer_title(layer),
            f"#layer-{index}",
        )
        for index, layer in enumerate(layers)
        if layer.where == "dpu" and layer.macs and layer.load_bytes and _working_ms(layer, machine) and machine.ms
    ]


def _working_ms(layer: LayerRow, machine: Machine) -> float:
    """A layer's time, or its busiest engine's where it overlaps with other layers."""
    return max(layer.ms, max(layer.cycles.values(), default=0) / machine.clock_mhz / 1e3)


def colours_of(bounds: Iterable[str]) -> dict[str, int]:
    """A colour class for each thing that bounds a layer; the engines keep theirs from one report to the next.

    >>> colours_of(["load", "conv", "host"])
    {'conv': 0, 'load': 1, 'host': 5}
    """
    names = sorted(set(bounds))
    known = {name: _ENGINES.index(name.lower()) for name in names if name.lower() in _ENGINES}
    known = dict(sorted(known.items(), key=lambda item: item[1]))
    others = [name for name in names if name not in known]
    return known | {name: _OTHERS[index % len(_OTHERS)] for index, name in enumerate(others)}


def _layer_title(layer: LayerRow) -> str:
    use = f"{100 * layer.utilisation:.0f} % of the array"
    text = f"{layer.name} ({layer.op})\n{quantity(layer.ms, 'ms')}, bound by {layer.bound_by}, {use}"
    return f"{text}\n{layer.why}" if layer.why else text


def _tops(layers: Sequence[LayerRow]) -> dict[str, float]:
    """Largest value of each column that has bars, never zero."""
    columns: dict[str, list[float]] = {
        "ms": [layer.ms for layer in layers],
        "macs": [layer.macs for layer in layers],
        "load": [layer.load_bytes for layer in layers],
        "save": [layer.save_bytes for layer in layers],
        "snr": [layer.snr_db or 0 for layer in layers],
    }
    return {name: max(values, default=0) or 1 for name, values in columns.items()}


def _training_view(report: Report) -> dict[str, Any]:
    rows = report.training
    loss = [(float(row.epoch), row.loss) for row in rows if row.loss is not None]
    ap = [(float(row.epoch), row.ap) for row in rows if row.ap is not None]
    return {"loss_chart": _curve(loss, 1, "loss"), "ap_chart": _curve(ap, 0, report.measures[0])}


def _curve(points: Sequence[tuple[float, float]], colour: int, label: str) -> Markup:
    if len(points) < 2:
        return Markup("")
    points = sorted(points)
    titles = [f"epoch {epoch:g}: {label} {value:.4g}" for epoch, value in points]
    ends = (f"epoch {points[0][0]:g}", f"{points[-1][0]:g}")
    return figures.line(points, titles, colour, f"{label} by epoch", ends)
