"""Time of post-processing beside the LPCV 2021 winner's: outputs of yolox_nano at 320 on real images, 2,100 x 85.

Every reading gets the same outputs, rounded to int8 with a power-of-two scale for each map, as an accelerator would
give them. The winner's code takes float32: turning the integers into floats is not counted against it. Ours takes the
integers, and once the same floats.

    python benchmarks/runtime_postprocess.py [--model yolox_nano_416.onnx] [--images FOLDER]
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from verdict import conclude
from winner_postprocess import Maps, Nms, compiled_nms, final_version, first_version, numpy_nms

from lowwatt.backends import open_backend
from lowwatt.ir import meta
from lowwatt.ir.arithmetic import quantize
from lowwatt.ir.graph import Graph
from lowwatt.letterbox import letterbox, read_image
from lowwatt.loading import load_with_head
from lowwatt.runtime.postprocess import Postprocessor
from lowwatt.runtime.sources import images_of
from lowwatt.types import Array, DetectionHead, Letterbox, QuantParams

SHARED = Path(os.environ.get("LOWWATT_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
SIZE = 320
IMAGES, ROUNDS = 40, 40
FINAL_BAR, FIRST_BAR = 10.0, 40.0


@dataclass(frozen=True, slots=True)
class Case:
    """Outputs of one image, as integers and as floats."""

    integers: dict[str, Array]
    floats: dict[str, Array]
    box: Letterbox


def network(model: Path) -> Graph:
    """The detector for inputs of 320 x 320."""
    proto = onnx.load(model)
    for side in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = SIZE
    del proto.graph.value_info[:]
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = sum((SIZE // s) ** 2 for s in (8, 16, 32))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(proto, Path(folder) / "network.onnx")
        return load_with_head(Path(folder) / "network.onnx")[0]


def outputs_of(graph: Graph, folder: Path) -> tuple[dict[str, QuantParams], list[Case]]:
    """Outputs of the first images, and the format that their integers have."""
    backend, preprocess = open_backend("onnxruntime", graph, threads=1), meta.preprocess(graph)
    found = []
    for _, path in zip(range(IMAGES), images_of(folder), strict=False):
        assert isinstance(path, Path)
        padded, box = letterbox(read_image(path, preprocess.channels), preprocess)
        found.append((backend.run({graph.inputs[0]: padded[None].astype(np.float32)}), box))
    quants = {name: fitting([outputs[name] for outputs, _ in found]) for name in graph.outputs}
    return quants, [make_case(outputs, quants, box) for outputs, box in found]


def fitting(values: Sequence[Array]) -> QuantParams:
    """The finest power-of-two scale that cuts nothing off."""
    greatest = max(float(np.abs(value).max()) for value in values)
    return QuantParams.power_of_two(math.floor(math.log2(127 / greatest)))


def make_case(outputs: dict[str, Array], quants: dict[str, QuantParams], box: Letterbox) -> Case:
    integers = {name: np.ascontiguousarray(quantize(value, quants[name]), np.int8) for name, value in outputs.items()}
    return Case(integers, {name: quants[name].dequantize(value) for name, value in integers.items()}, box)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read outputs: which of them it takes, and what it does."""

    takes: Callable[[Case], dict[str, Array]]
    run: Callable[[dict[str, Array], Letterbox], object]


def integers(one: Case) -> dict[str, Array]:
    return one.integers


def floats(one: Case) -> dict[str, Array]:
    return one.floats


def winners(version: Callable[[Maps, Letterbox, Nms], object], nms: Nms, head: DetectionHead) -> Reading:
    def run(outputs: dict[str, Array], box: Letterbox) -> object:
        return version([(outputs[c], outputs[b], outputs[o]) for c, b, o in head.outputs], box, nms)

    return Reading(floats, run)


Times = dict[str, list[float]]
"""Median microseconds of each image, by reading."""


def in_streams(readings: dict[str, Reading], cases: Sequence[Case]) -> Times:
    """In each round every reading goes through all images, as a thread that does nothing else."""
    rounds = [{name: [seconds(one, case) for case in cases] for name, one in readings.items()} for _ in range(ROUNDS)]
    return medians(rounds)


def in_turn(readings: dict[str, Reading], cases: Sequence[Case]) -> Times:
    """Image by image, each reading after the others, which leave the caches to nobody."""
    rounds: list[Times] = []
    for _ in range(ROUNDS):
        found: Times = {name: [] for name in readings}
        for case in cases:
            for name, one in readings.items():
                found[name].append(seconds(one, case))
        rounds.append(found)
    return medians(rounds)


def medians(rounds: Sequence[Times]) -> Times:
    return {
        name: [1e6 * median(image) for image in zip(*(one[name] for one in rounds), strict=True)] for name in rounds[0]
    }


def seconds(reading: Reading, one: Case) -> float:
    """Time of one image. Its outputs are newly written, as a network leaves them (the winner's code changes them)."""
    fresh = {output: value.copy() for output, value in reading.takes(one).items()}
    start = time.perf_counter()
    reading.run(fresh, one.box)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHARED / "weights" / "yolox_nano_416.onnx")
    parser.add_argument("--images", type=Path, default=SHARED / "coco_mini" / "images")
    given = parser.parse_args()
    graph = network(given.model)
    head = meta.head(graph)
    quants, cases = outputs_of(graph, given.images)
    print(describe(head, quants, cases))
    readings = {
        "ours, integers": Reading(integers, Postprocessor(head, quants)),
        "ours, floats": Reading(floats, Postprocessor(head, {})),
        "ours, integers, NumPy": Reading(integers, Postprocessor(head, quants, engine="numpy")),
        "winner's final": winners(final_version, compiled_nms(), head),
        "winner's first": winners(first_version, numpy_nms, head),
    }
    turns = show("in turn", in_turn(readings, cases))
    ratios = [turns[f"winner's {version}"] / turns["ours, integers"] for version in ("final", "first")]
    print(f"  winner's over ours: {ratios[0]:.1f} x, {ratios[1]:.1f} x")
    mean = show("each in a stream of its own", in_streams(readings, cases))
    status = 0
    for version, bar in (("final", FINAL_BAR), ("first", FIRST_BAR)):
        ratio = mean[f"winner's {version}"] / mean["ours, integers"]
        what = f"post-processing, time of the winner's {version} version over ours"
        status |= conclude(what, f"{ratio:.1f} x", f"{bar:.0f} x", ratio >= bar)
    return status


def show(how: str, times: Times) -> dict[str, float]:
    """Print microseconds a frame, mean over the images, and give them."""
    print(how)
    for name, images in times.items():
        print(
            f"  {name}: {np.mean(images):.1f} us a frame (median image {median(images):.1f}, slowest {max(images):.1f})"
        )
    return {name: float(np.mean(images)) for name, images in times.items()}


def describe(head: DetectionHead, quants: dict[str, QuantParams], cases: Sequence[Case]) -> str:
    """How many boxes reach the threshold, and how many stay."""
    every = Postprocessor(head, quants, iou=1.0, max_det=1 << 30)
    ours = Postprocessor(head, quants)
    reach = [len(every(one.integers, one.box)) for one in cases]
    stay = [len(ours(one.integers, one.box)) for one in cases]
    return (
        f"{len(cases)} images: {min(reach)} to {max(reach)} boxes reach .01 (median {median(reach):.0f}), "
        f"{min(stay)} to {max(stay)} stay (median {median(stay):.0f})"
    )


if __name__ == "__main__":
    sys.exit(main())
