"""lpcv: a detector over a folder of images as the contest runs it: results, time, energy, score."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.evaluate.contest import ContestImage, Found, contest_ids, list_images, write_json, write_xml
from lowwatt.files import exclusive, write_text
from lowwatt.meters import Computed, Meter, Recording, measure, open_meter
from lowwatt.recipe import DataSettings
from lowwatt.types import Detections
from lowwatt.verbs.compile import DEFAULT_TARGET
from lowwatt.verbs.detect import choose_backend, packaged_model
from lowwatt.verbs.evaluate import detector, relabelled, split_for

if TYPE_CHECKING:
    from lowwatt.compiler import Program
    from lowwatt.data.coco import CocoData
    from lowwatt.runtime import Engine

RESULTS, RESULTS_XML, REPORT = "results.json", "results.xml", "report.json"


@dataclass(frozen=True, slots=True)
class _Subject:
    """What runs: an engine, and the program whose modelled time stands for the target's on the simulator."""

    engine: Engine
    backend: str
    program: Program | None


@dataclass(slots=True)
class _Run:
    """What came of it: detections by image id, images that failed, seconds by this machine's clock, energy if read."""

    found: list[tuple[int, Detections]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    energy: Recording | None = None


def run_contest(
    images: str,
    model: Path | None,
    out: Path,
    backend: str = "simulator",
    *,
    target: str = "",
    meter: str = "auto",
    rails: Sequence[str] = (),
    annotations: Path | None = None,
    limit: int = 0,
    warm_up: int = 8,
    progress: Any = None,
) -> dict[str, Any]:
    """Run, write results.json, results.xml and report.json into `out`, and give the report.

    All stages work at the same time, at the settings of every accuracy in this project. On the simulator the time is
    the target's, which the compiler models, and so is the energy; elsewhere both are this machine's. `target` is what
    a graph is compiled for there (a program only where it is named). An unreadable image counts as one without
    detections. The first `warm_up` images run once before the clock starts. With
    `annotations` (COCO json, whose file names lie in `images`) these say which images count, and there is an AP.
    """
    file = model or packaged_model()
    subject = _open(file, backend, target)
    data = _labelled(images, annotations, subject.engine.labels, limit)
    listed = list_images(images) if data is None else [ContestImage(image.id, image.path) for image in data.images]
    chosen = listed[: limit or None]
    gauge, absent = _meter(meter, rails, subject, target)
    with exclusive(out):  # where nothing can be written, that is told before the run
        run = _run(subject.engine, chosen, gauge, warm_up, progress)
        if data is not None:
            run.found = [(image, relabelled(one, data.labels)) for image, one in run.found]
        taken = _time(subject, len(chosen), run.seconds)
        energy, why = _spent(gauge, run, taken["seconds"], len(chosen))
        report = {
            "model": str(file),
            "backend": subject.backend,
            "images": len(chosen),
            "failed": run.failed,
            "detections": sum(len(found) for _, found in run.found),
            "time": taken,
            "energy": None if energy is None else _energy(energy, len(chosen)),
            "why_no_energy": why or absent,
            "ap": None if data is None else _ap(data, run.found),
        }
        report |= _score(report, energy)
        _write(out, run.found, _ids(subject.engine) if data is None else data.category_ids, report)
    return report


# -- what runs, on what ------------------------------------------------------------------------------------------------


def _open(model: Path, backend: str, target: str) -> _Subject:
    from lowwatt.compiler import Program
    from lowwatt.compiler import compile as compile_graph
    from lowwatt.ir import meta
    from lowwatt.ir.graph import Graph
    from lowwatt.loading import load, load_graph
    from lowwatt.runtime.opening import with_head

    network: Any = load(model)
    if not isinstance(network, (Graph, Program)):
        network = load_graph(model)
    name = choose_backend(backend, getattr(network, "graph", network).is_quantized)
    if name == "simulator" and (target or isinstance(network, Graph)):
        graph = getattr(network, "graph", network)
        graph = graph if meta.has_head(graph) else with_head(graph)
        network = compile_graph(graph, target or DEFAULT_TARGET)
    return _Subject(detector(network, name), name, network if name == "simulator" else None)


def _labelled(images: str, annotations: Path | None, labels: Sequence[str], limit: int) -> CocoData | None:
    """The annotated images with the classes that the detector knows."""
    if annotations is None:
        return None
    settings = DataSettings(root=images, images=".", val=str(annotations.resolve()), format="coco")
    data = split_for(labels, settings)
    return data.first(limit) if limit else data


def _meter(name: str, rails: Sequence[str], subject: _Subject, target: str) -> tuple[Meter | None, str]:
    """The meter, or why there is none. What a simulation costs this computer is not the target's energy."""
    options: dict[str, Any] = {"rails": rails} if rails else {}
    program = subject.program
    if name == "modelled" or (name == "auto" and program is not None):
        machine = program.target if program is not None else target or DEFAULT_TARGET
        return open_meter("modelled", target=machine), ""
    if program is not None and not name.startswith("trace"):
        why = "the simulator computes what the target would; this computer's power says nothing of it"
        hint = "--meter modelled, or another --backend"
        raise ToolError(f"the {name} meter cannot measure a simulated run", why=why, hint=hint)
    if name != "auto":
        return open_meter(name, **options), ""
    try:
        return open_meter("auto", **options), ""
    except ToolError as error:
        return None, f"{error.what}: {error.why}"


# -- the run ----------------------------------------------------------------------------------------------------------


def _run(engine: Engine, images: Sequence[ContestImage], meter: Meter | None, warm_up: int, progress: Any) -> _Run:
    paths = [str(image.path) for image in images]
    for _ in engine.stream(list(islice(cycle(paths), warm_up))):
        pass
    run = _Run()
    reading = nullcontext() if meter is None or isinstance(meter, Computed) else measure(meter)
    stream = engine.stream(paths, progress=False if progress is None else progress)
    with closing(stream) as results, reading as run.energy:
        began = time.monotonic()
        for image, result in zip(images, results, strict=True):
            run.found.append((image.id, result.detections))
            if result.error:
                run.failed.append({"id": image.id, "file": str(image.path), "why": result.error})
        run.seconds = time.monotonic() - began
    return run


# -- figures ----------------------------------------------------------------------------------------------------------


def _time(subject: _Subject, images: int, wall: float) -> dict[str, Any]:
    """The time that is scored, where it comes from, and this machine's."""
    program, seconds, how = subject.program, wall, "measured"
    provenance = "by this machine's clock, from the first image read to the last result"
    if program is not None:
        seconds, how = images * program.latency_ms / 1000, "modelled"
        each = f"{images} x {program.latency_ms:.3f} ms, the compiler's latency on {program.target.name}"
        provenance = f"{each}; {program.target.provenance}"
    return {
        "seconds": seconds,
        "fps": images / seconds,
        "ms_per_frame": 1000 * seconds / images,
        "how": how,
        "provenance": provenance,
        "wall_seconds": wall,
    }


def _spent(meter: Meter | None, run: _Run, seconds: float, images: int) -> tuple[Recording | None, str]:
    """The energy of the run, or why it is not known; a run of hours does not end in an error for that."""
    energy = run.energy
    try:
        if isinstance(meter, Computed):
            energy = meter.over(seconds, images)
        if energy is not None:
            energy.check()
    except ToolError as error:
        return None, f"{error.what}: {error.why}"
    return energy, ""


def _energy(energy: Recording, images: int) -> dict[str, Any]:
    return {**energy.to_json(), "counted": list(energy.counted), "joules_per_image": energy.total / images}


def _ap(data: CocoData, found: Sequence[tuple[int, Detections]]) -> float | None:
    """None where the annotations hold nothing to find."""
    from lowwatt.evaluate.coco import coco_ap

    ap = coco_ap(data, found).ap
    return ap if ap >= 0 else None


def _score(report: dict[str, Any], energy: Recording | None) -> dict[str, Any]:
    """The score, or why there is none."""
    from lowwatt.evaluate.lpcv import score

    lacking = ["an AP (--annotations)"] if report["ap"] is None else []
    if energy is None or not energy.whole:
        lacking.append("an energy (--meter)" if energy is None else "an energy without long gaps")
    if lacking or energy is None:
        return {"score": None, "why_no_score": f"a score needs {' and '.join(lacking)}"}
    return {"score": score(ap=report["ap"], energy_j=energy.total, fps=report["time"]["fps"]), "why_no_score": ""}


def _write(out: Path, found: Found, ids: Sequence[int], report: dict[str, Any]) -> None:
    """The three files; a report is there only while it belongs to the other two, which are then whole."""
    energy = report["energy"]
    (out / REPORT).unlink(missing_ok=True)
    write_json(out / RESULTS, found, ids)
    write_xml(out / RESULTS_XML, found, ids, report["time"]["seconds"], energy and energy["joules"])
    write_text(out / REPORT, json.dumps(report, indent=1) + "\n")


def _ids(engine: Engine) -> tuple[int, ...]:
    from lowwatt.ir import meta

    return contest_ids(engine.labels, meta.category_ids(engine.graph), engine.head.num_classes)
