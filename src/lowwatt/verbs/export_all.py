"""export --all: every target's files of one network, each run on every runtime that is here, in one table.

A float network is quantized for each target, and goes out in float, too. A row says how far a runtime is from the
integer reference of the same graph, and what both score on a labelled data set, through the engine that serves images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.backends import Backend, open_backend, status_of, takes_programs
from lowwatt.errors import ToolError
from lowwatt.evaluate.apart import Apart, apart
from lowwatt.ir import meta
from lowwatt.ir.agreement import Agreement, compare_outputs
from lowwatt.ir.graph import Graph
from lowwatt.types import Array
from lowwatt.verbs.compile import DEFAULT_TARGET
from lowwatt.verbs.export import FORMATS, export_graph

if TYPE_CHECKING:
    from lowwatt.verbs.yardstick import Yardstick

FLOAT = "float"
"""What stands for a scheme where nothing is quantized."""
FLOAT_EXPORTS = ("onnx", "tflite")
FLOAT_RUNTIMES = ("onnxruntime", "openvino", "ncnn", "litert", "cuda", "tensorrt")
WRITTEN_BY = {"tflite": "litert"}
"""Formats that only what a backend needs can write."""
NO_TARGETS = ("academic", "academic_affine")
"""Schemes that no machine has."""
COMPARED = 2
"""Images on which outputs are compared one by one."""
TOLERANCE = 0.002
"""Accuracy (.2 points) that a runtime may be off the reference of the same graph."""


@dataclass(frozen=True, slots=True)
class ExportAllJob:
    """What `lowwatt export --all` is asked: file, folder to write to, data set, images for calibration, images that are
    scored (0: all), schemes (empty: those of all targets), the DPU that is compiled for (empty: the usual one), effort
    of quantization, and how much accuracy (0…1) a target may lose of the float network's.
    """

    file: Path
    out: Path
    root: str = "sample"
    images: int = 128
    limit: int = 0
    schemes: tuple[str, ...] = ()
    target: str = ""
    effort: str = "fast"
    max_drop: float = 0.05


@dataclass(frozen=True, slots=True)
class Variant:
    """The network for one scheme: which files its tools read, and which backends run it."""

    scheme: str
    graph: Graph
    exports: Sequence[str]
    runtimes: Sequence[str]


@dataclass(slots=True)
class Row:
    """A runtime beside the reference. `state`: ok, off (the accuracy is another than the reference's), lost (too much
    of the float network's is gone), refused, or absent (not usable here).
    """

    scheme: str
    runtime: str
    state: str
    why: str = ""
    elements: Agreement = field(default_factory=Agreement)
    apart: Apart = field(default_factory=Apart)
    value: float = 0.0
    reference: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As a json-able row."""
        ran = self.state in ("ok", "off", "lost")
        figures = {
            "beyond_one_step": self.elements.share(self.elements.beyond),
            "score_apart": self.apart.score,
            "box_apart_px": self.apart.box,
            "value": self.value,
            "reference": self.reference,
        }
        said = {"scheme": self.scheme, "runtime": self.runtime, "state": self.state, "why": self.why}
        return {**said, **(figures if ran else {})}


def export_all(
    job: ExportAllJob, progress: Callable[[str], Any], tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Write and measure; {measure, scored, float: accuracy of the float network, files, rows, verdict}.

    `files` are rows of {scheme, format, file, bytes, state, error}; `float` is 0 for a graph that came quantized;
    `verdict` is empty, or what is wrong. `tell` is given what is being done.
    """
    from lowwatt.loading import load_with_head
    from lowwatt.verbs.yardstick import yardstick_for

    graph, line = load_with_head(job.file)
    if line:
        tell(line)
    yardstick = _limited(yardstick_for(graph, job.root), job.limit)
    files: list[dict[str, Any]] = []
    rows: list[Row] = []
    samples = [image[None] for batch in yardstick.calibration(COMPARED) for image in batch]
    for variant in variants(job, graph, yardstick, tell):
        files += _write_files(job, variant)
        rows += _measure(job, variant, yardstick, samples, progress)
    before = next((row.reference for row in rows if row.scheme == FLOAT and row.reference), 0.0)
    for row in rows:
        if row.state in ("ok", "off") and row.value < before - job.max_drop:
            row.state = "lost"
    return {
        "measure": yardstick.name,
        "scored": yardstick.scored,
        "float": before,
        "files": files,
        "rows": [row.to_json() for row in rows],
        "verdict": _verdict(files, rows),
    }


def _limited(yardstick: Yardstick, limit: int) -> Yardstick:
    if limit:
        yardstick.val = yardstick.val.first(limit)
    return yardstick


def variants(job: ExportAllJob, graph: Graph, yardstick: Yardstick, tell: Callable[[str], None]) -> Iterator[Variant]:
    """The network in float and quantized for each target; a graph that is quantized already is for its own."""
    from lowwatt.quant import quantize
    from lowwatt.quant.scheme import load_scheme, scheme_names

    tag = meta.scheme(graph)
    if graph.has_integers:
        rules = load_scheme("vitis" if tag is None else tag.name)
        yield Variant(rules.name, graph, rules.exports, rules.runtimes)
        return
    yield Variant(FLOAT, graph, FLOAT_EXPORTS, FLOAT_RUNTIMES)
    batches = list(yardstick.calibration(job.images))
    for name in job.schemes or [name for name in scheme_names() if name not in NO_TARGETS]:
        rules = load_scheme(name)
        tell(f"{rules.name}: {rules.about}")
        quantized = quantize(graph, batches, scheme=rules, effort=job.effort).quantized
        yield Variant(rules.name, quantized, rules.exports, rules.runtimes)


def _write_files(job: ExportAllJob, variant: Variant) -> list[dict[str, Any]]:
    """Each format with its own proof; what is refused becomes a row that says why."""
    rows = []
    for format in variant.exports:
        path = job.out / variant.scheme / f"{job.file.stem}{FORMATS[format][0]}"
        row: dict[str, Any] = {"scheme": variant.scheme, "format": format, "file": str(path), "bytes": 0, "error": ""}
        rows.append(row | _written(job, variant.graph, path, format))
    return rows


def _written(job: ExportAllJob, graph: Graph, path: Path, format: str) -> dict[str, Any]:
    """Its bytes, or why there are none; `state` as of a `Row`."""
    status = status_of(WRITTEN_BY.get(format, "reference"))
    if not status.usable:
        return {"state": "absent", "error": f"{status.why}; {status.how_to_install}"}
    try:
        made = export_graph(graph, path, format, machine=job.target or DEFAULT_TARGET)
    except ToolError as error:
        return {"state": "refused", "error": f"{error.what} ({error.where})" if error.where else error.what}
    return {"state": "ok", "bytes": made["bytes"]}


def _measure(
    job: ExportAllJob,
    variant: Variant,
    yardstick: Yardstick,
    samples: Sequence[Array],
    progress: Callable[[str], Any],
) -> Iterator[Row]:
    """A row for each runtime of a variant."""
    exact, scored = _references(variant.graph)
    wanted = [exact.run({variant.graph.inputs[0]: sample}) for sample in samples]
    reference = yardstick.measure(variant.graph, scored, progress(f"{variant.scheme} reference"))
    for runtime in variant.runtimes:
        status = status_of(runtime)
        if not status.usable:
            yield Row(variant.scheme, runtime, "absent", f"{status.why}; {status.how_to_install}")
            continue
        try:
            backend = open_backend(runtime, _source(job, variant, runtime))
            row = _compared(variant, runtime, backend, samples, wanted)
            row.value = yardstick.measure(variant.graph, backend, progress(f"{variant.scheme} {runtime}"))
        except ToolError as error:
            yield Row(variant.scheme, runtime, "refused", error.what)
            continue
        row.reference = reference
        row.state = "ok" if abs(row.value - reference) <= TOLERANCE else "off"
        yield row


def _references(graph: Graph) -> tuple[Backend, Any]:
    """What defines the outputs, and a quicker one that gives the same for a whole data set."""
    if not graph.has_integers:
        exact = open_backend("onnxruntime", graph, optimise=False)
        return exact, exact
    exact = open_backend("reference", graph)
    if all(t.quant is None or t.quant.is_fixed_point for t in graph.tensors.values()):
        return exact, "core"
    from lowwatt.quant.backend import TorchBackend

    return exact, TorchBackend(graph)


def _source(job: ExportAllJob, variant: Variant, runtime: str) -> Any:
    if not takes_programs(runtime):
        return variant.graph
    from lowwatt.compiler import compile

    return compile(variant.graph, job.target or DEFAULT_TARGET)


def _compared(
    variant: Variant, runtime: str, backend: Backend, samples: Sequence[Array], wanted: Sequence[dict[str, Array]]
) -> Row:
    graph, row = variant.graph, Row(variant.scheme, runtime, "ok")
    for sample, expected in zip(samples, wanted, strict=True):
        found = backend.run({graph.inputs[0]: sample})
        row.elements += compare_outputs(graph, found, expected)
        if "head" in graph.meta:
            row.apart |= apart(graph, found, expected)
    return row


def _verdict(files: Sequence[dict[str, Any]], rows: Sequence[Row]) -> str:
    off, refused = ([f"{r.scheme} on {r.runtime}" for r in rows if r.state == state] for state in ("off", "refused"))
    lost = dict.fromkeys(row.scheme for row in rows if row.state == "lost")
    failed = [f"{row['format']} for {row['scheme']}" for row in files if row["state"] == "refused"]
    parts = [
        ("the integers lose too much (--effort good may help)", lost),
        ("more than .2 points off the reference", off),
        ("refused", refused),
        ("not written", failed),
    ]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
