"""What runtimes make of the exported files of every scheme, against the integer reference, on the packaged detector.

Post-training quantization on images of the sample set; other images of it run on the reference and on each runtime
that is installed (openvino, ncnn and litert are skipped where they are not). A float output counts in steps of its own
range, as many as the coarsest activations have. Rows that count for the bar: onnxruntime with graph optimisation off
for all schemes, their own runtime, and for deploy pairs the float network with the ranges of the JSON against the QDQ
file.

Float32 tips a value that lies beside a rounding boundary, about one in 100,000, and what follows spreads: "one pixel"
says how far, the reference against itself. "node by node" gives each node what onnxruntime computed before it.

    python benchmarks/quant_export_conformance.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from verdict import conclude

import lowwatt
from lowwatt.backends import open_backend
from lowwatt.backends.ncnn import open_ncnn
from lowwatt.backends.openvino import open_openvino
from lowwatt.errors import ToolError
from lowwatt.ir import meta, ncnn, onnx_deploy, onnx_qdq, onnx_qdq_fast
from lowwatt.ir.agreement import Agreement
from lowwatt.ir.graph import Graph
from lowwatt.ir.interpreter import run
from lowwatt.ir.onnx_qdq import Runner, open_onnxruntime, validate
from lowwatt.loading import load_graph
from lowwatt.quant import quantize
from lowwatt.quant.scheme import Scheme, load_scheme, scheme_names
from lowwatt.recipe import DataSettings
from lowwatt.types import Array
from lowwatt.verbs.data import calibration_batches, open_split
from lowwatt.verbs.export_tflite import agreement

BAR = 0.01
"""Share of elements that may differ by more than one step."""

DETECTOR = Path(lowwatt.__file__).parent / "zoo" / "yolox_fpga_person.safetensors"
CALIBRATION, COMPARED = 32, 2
Row = tuple[str, bool, Agreement]
"""Runtime, whether it counts for the bar, and what was found."""


def images(graph: Graph, split: str, count: int) -> list[Array]:
    """Batches of the sample set."""
    return list(calibration_batches(open_split(DataSettings(root="sample"), split), meta.preprocess(graph), count))


def variants() -> Iterator[tuple[str, Scheme]]:
    """Every scheme, and the one of any bit width at 8 bits too."""
    for name in scheme_names():
        yield name, load_scheme(name)
    yield "academic W8A8", load_scheme("academic").with_bits(8, 8)


def rows(graph: Graph, scheme: Scheme, samples: Sequence[Array], folder: Path) -> Iterator[Row]:
    """A row for each runtime."""
    file = folder / "net.onnx"
    onnx_qdq.write(graph, file)
    opened: list[tuple[str, bool, Runner]] = []
    for name, counts, runner in _runners(graph, scheme, file, folder):
        try:
            opened.append((name, counts, runner()))
        except ImportError as error:
            print(f"{scheme.name}: {name} skipped, pip install {error.name}")
    found = validate(graph, samples, [runner for _, _, runner in opened])
    yield from ((name, counts, one) for (name, counts, _), one in zip(opened, found, strict=True))
    if "tflite" in scheme.exports or scheme.legality == "dpu":
        yield from _on_litert(graph, samples)
    if "deploy" in scheme.exports:
        yield "deploy pair", True, deployed(graph, file, samples, folder)
    yield "node by node", True, onnx_qdq.validate_nodes(graph, [{graph.inputs[0]: s[:1]} for s in samples])
    yield "one pixel", False, nudged(graph, samples)


def _on_litert(graph: Graph, samples: Sequence[Array]) -> Iterator[Row]:
    try:
        backend = open_backend("litert", graph)
    except ToolError as error:
        print(f"litert skipped, {error.hint}")
        return
    yield "litert", True, agreement(backend, graph, [{graph.inputs[0]: s} for s in samples])


def nudged(graph: Graph, samples: Sequence[Array]) -> Agreement:
    """The reference against itself, one pixel of each image two levels brighter: how far one step spreads."""

    def reference(feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        found = run(graph, {name: np.ascontiguousarray(value.transpose(0, 2, 3, 1)) for name, value in feeds.items()})
        quants = {name: graph.tensor(name).quant for name in names}
        real = [found[name] if quant is None else quant.dequantize(found[name]) for name, quant in quants.items()]
        return [value.transpose(0, 3, 1, 2) if value.ndim == 4 else value for value in real]

    def brighter(feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        changed = {name: value.copy() for name, value in feeds.items()}
        for value in changed.values():
            middle = tuple(size // 2 for size in value.shape[2:])
            value[0, 0][middle] = (value[0, 0][middle] + 2) % 256
        return reference(changed, names)

    return onnx_qdq.compare_files(graph, [{graph.inputs[0]: s} for s in samples], reference, brighter)


def _runners(graph: Graph, scheme: Scheme, file: Path, folder: Path) -> list[tuple[str, bool, Callable[[], Runner]]]:
    own = scheme.name
    found: list[tuple[str, bool, Callable[[], Runner]]] = [
        ("onnxruntime, off", True, lambda: open_onnxruntime(file, False)),
        ("onnxruntime, on", own == "onnxruntime", lambda: open_onnxruntime(file, True)),
        ("openvino", own == "openvino", lambda: open_openvino(file)),
    ]
    if "ncnn" in scheme.exports:
        param = ncnn.write(graph, folder / "net.param")[0]
        found.append(("ncnn", True, lambda: open_ncnn(param)))
    if "qdq-fast" in scheme.exports:
        fast = folder / "fast.onnx"
        onnx_qdq_fast.write(graph, fast)
        found.append(("qdq-fast, on", True, lambda: open_onnxruntime(fast, True)))
    return found


def deployed(graph: Graph, file: Path, samples: Sequence[Array], folder: Path) -> Agreement:
    """The float network with the ranges of the JSON, against the QDQ file."""
    ranges = json.loads(json.dumps(onnx_deploy.write(graph, folder / "float.onnx")))
    (folder / "ranged.onnx").write_bytes(onnx_deploy.with_ranges(folder / "float.onnx", ranges))
    runners = [open_onnxruntime(path, False) for path in (file, folder / "ranged.onnx")]
    return onnx_qdq.compare_files(graph, [{graph.inputs[0]: s} for s in samples], runners[0], runners[1])


def main() -> int:
    graph = load_graph(DETECTOR)
    batches, samples = images(graph, "train", CALIBRATION), [images(graph, "val", 4)[0][:COMPARED]]
    worst = 0.0
    print(f"{'scheme':14} {'runtime':17} {'elements':>9} {'differ':>8} {'> 1 step':>9} {'most':>5}")
    for name, scheme in variants():
        report = quantize(graph, batches, scheme=scheme)
        with tempfile.TemporaryDirectory() as folder:
            for runtime, counts, one in rows(report.quantized, scheme, samples, Path(folder)):
                differ, beyond = one.share(one.differ), one.share(one.beyond)
                mark = "" if counts else "  for comparison"
                print(f"{name:14} {runtime:17} {one.elements:9} {differ:8.2%} {beyond:9.3%} {one.greatest:5}{mark}")
                worst = max(worst, beyond if counts else 0.0)
    what = "elements that differ by more than one step, worst scheme and runtime"
    return conclude(what, f"{worst:.2%}", f"{BAR:.0%}", worst <= BAR)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToolError as error:
        sys.exit(str(error))
