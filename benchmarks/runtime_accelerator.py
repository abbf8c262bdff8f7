"""A detector at 320 pixels on an accelerator that needs time but no processor: what the runtime is measured around."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import numpy as np

from lowwatt.ir import meta
from lowwatt.ir.graph import Graph
from lowwatt.types import Array, DetectionHead, Preprocess, QuantParams

SIZE, CLASSES, STRIDES = 320, 80, (8, 16, 32)
SHARED = Path(os.environ.get("LOWWATT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
CONTEST = {"conf": 0.01, "iou": 0.65, "max_det": 300}
"""Settings of the LPCV 2021 winner."""


def detector() -> Graph:
    """Shapes, head and number formats of YOLOX-FPGA: gray, int8, 2,100 anchors of 80 classes."""
    graph = Graph("simulated")
    graph.add_input("image", (1, SIZE, SIZE, 1), QuantParams.power_of_two(-1))
    names = []
    for stride in STRIDES:
        triple = tuple(f"{kind}{stride}" for kind in ("cls", "box", "obj"))
        for name, channels in zip(triple, (CLASSES, 4, 1), strict=True):
            weights = np.broadcast_to(np.int8(0), (channels, stride, stride, 1))
            constant = graph.add_constant(f"{name}_w", weights, QuantParams.power_of_two(0))
            quant = QuantParams.power_of_two(4)
            graph.add("conv2d", ["image", constant], name, stride=(stride, stride), quant=quant)
        names.append(triple)
    graph.outputs = [name for triple in names for name in triple]
    meta.set_preprocess(graph, Preprocess((SIZE, SIZE), 1))
    meta.set_head(graph, DetectionHead(STRIDES, tuple(names), CLASSES), [f"c{k}" for k in range(CLASSES)], ())
    return graph


def outputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Raw outputs of one image as a detector gives them: most anchors are sure of nothing, some 5 % reach 0.01."""
    rng = np.random.default_rng(seed)
    middle = {"cls": -30.0, "box": 8.0, "obj": -110.0}
    spread = {"cls": 30.0, "box": 12.0, "obj": 35.0}
    values = {}
    for name in graph.outputs:
        numbers = rng.normal(middle[name[:3]], spread[name[:3]], graph.tensor(name).shape)
        values[name] = np.clip(np.rint(numbers), -128, 127).astype(np.int8)
    return values


class Accelerator:
    """A machine that takes `seconds` for an image, one after the other, in which the processor is free.

    What its runners ask for while it is busy waits in its queue, as with a driver's.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._free, self._lock = seconds, 0.0, Lock()

    def work(self) -> None:
        """Ask for an image's inference and sleep until it is done."""
        now = time.perf_counter()
        with self._lock:
            self._free = done = max(now, self._free) + self._seconds
        if done > now:
            time.sleep(done - now)


class Runner:
    """A backend that hands images to an accelerator; gives the same outputs each time."""

    name = "simulated"

    def __init__(self, graph: Graph, accelerator: Accelerator) -> None:
        self.inputs, self.outputs = tuple(graph.inputs), tuple(graph.outputs)
        self.quants = {name: graph.tensor(name).quant for name in (*self.inputs, *self.outputs)}
        self._accelerator, self._found = accelerator, outputs(graph)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, raw integers."""
        if inputs[self.inputs[0]].dtype != np.int8:
            raise TypeError("the accelerator takes int8")
        self._accelerator.work()
        return self._found


def images(count: int) -> list[str]:
    """Paths of `count` images of coco_mini, over and over."""
    files = sorted(str(path) for path in (SHARED / "data/coco_mini/images").rglob("*.jpg"))
    if not files:
        raise SystemExit(f"no images in {SHARED / 'data/coco_mini'}; LOWWATT_SHARED names the folder")
    return (files * (count // len(files) + 1))[:count]
