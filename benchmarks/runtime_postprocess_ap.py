"""AP with the compiled post-processing and with its NumPy twin, on the same outputs; the winner's beside them.

The packaged detector on the compiled core (integers, one class), and yolox_nano at 320 on onnxruntime (floats, 80
classes), both on the whole val split of coco_mini.

    python benchmarks/runtime_postprocess_ap.py [--data COCO] [--model yolox_nano_416.onnx]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from runtime_postprocess import SHARED, network
from verdict import conclude
from winner_postprocess import compiled_nms, final_version

import lowwatt
from lowwatt.backends import open_backend
from lowwatt.data.coco import CocoData
from lowwatt.evaluate import coco_ap
from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.letterbox import read_image
from lowwatt.loading import load_graph
from lowwatt.recipe import DataSettings
from lowwatt.runtime.postprocess import Postprocessor
from lowwatt.runtime.preprocess import Preprocessor
from lowwatt.types import Array, DetectionHead, Detections, Letterbox
from lowwatt.verbs.evaluate import relabelled, split_for

PACKAGED = Path(lowwatt.__file__).parent / "zoo" / "yolox_fpga_person.lwg"
BAR = 0.01
"""AP points."""

Outputs = dict[str, Array]
Reading = Callable[[Outputs, Letterbox], Detections]


def outputs_of(graph: Graph, backend: str, data: CocoData) -> Iterator[tuple[int, Outputs, Letterbox]]:
    opened, preprocess = open_backend(backend, graph), meta.preprocess(graph)
    ready = Preprocessor(preprocess, graph.tensor(graph.inputs[0]).quant)
    for image in data.images:
        values, box = ready(read_image(image.path, preprocess.channels))
        yield image.id, opened.run({graph.inputs[0]: values}), box


def average_precisions(graph: Graph, backend: str, root: str, readings: dict[str, Reading]) -> dict[str, float]:
    """AP points of each reading of the same outputs."""
    data = split_for(meta.labels(graph), DataSettings(root=root))
    found: dict[str, list[tuple[int, Detections]]] = {name: [] for name in readings}
    for number, outputs, box in outputs_of(graph, backend, data):
        for name, reading in readings.items():
            found[name].append((number, relabelled(reading(outputs, box), data.labels)))
    points = {name: 100 * coco_ap(data, results).ap for name, results in found.items()}
    for name, value in points.items():
        boxes = sum(len(one) for _, one in found[name])
        print(f"  {name}: AP {value:.4f} points, {boxes} boxes of {len(data)} images", flush=True)
    return points


def ours(graph: Graph) -> dict[str, Reading]:
    quants, names = {name: graph.tensor(name).quant for name in graph.outputs}, meta.labels(graph)
    return {
        "compiled": Postprocessor(meta.head(graph), quants, names=names, engine="core"),
        "NumPy": Postprocessor(meta.head(graph), quants, names=names, engine="numpy"),
    }


def winners(head: DetectionHead, names: tuple[str, ...]) -> Reading:
    nms = compiled_nms()

    def read(outputs: Outputs, box: Letterbox) -> Detections:
        rows = final_version([(outputs[c], outputs[b], outputs[o]) for c, b, o in head.outputs], box, nms)
        if rows is None:
            return Detections.empty(names)
        return Detections(rows[:, 1:5].astype(np.float32), rows[:, 5], rows[:, 6].astype(np.int64), names)

    return read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(SHARED / "coco_mini"))
    parser.add_argument("--model", type=Path, default=SHARED / "weights" / "yolox_nano_416.onnx")
    given = parser.parse_args()
    packaged, nano = load_graph(PACKAGED), network(given.model)
    print("the packaged detector on the core")
    integers = average_precisions(packaged, "core", given.data, ours(packaged))
    print("yolox_nano at 320 on onnxruntime")
    beside = {"winner's final": winners(meta.head(nano), meta.labels(nano))}
    floats = average_precisions(nano, "onnxruntime", given.data, {**ours(nano), **beside})
    worst = max(abs(points["compiled"] - points["NumPy"]) for points in (integers, floats))
    what = "AP points between compiled and NumPy post-processing"
    return conclude(what, f"{worst:.4f}", f"{BAR}", worst <= BAR)


if __name__ == "__main__":
    sys.exit(main())
