"""What the benchmarks on the digits task share: the network as a graph, its accuracy, and a peer's figures."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from digits_task import Data, as_input, calibration, make_data, trained

from lowwatt.capture import capture
from lowwatt.ir.graph import Graph
from lowwatt.ir.passes import FLOAT_PASSES, run_passes
from lowwatt.quant.executor import TorchExecutor
from lowwatt.quant.ptq import QuantReport, quantize, report_of
from lowwatt.quant.reconstruct import Method, Settings, reconstruct
from lowwatt.quant.scheme import load_scheme
from lowwatt.types import Array

METHODS: tuple[Method, ...] = ("adaround", "brecq", "qdrop")
NETS = ("res", "mb")
BITS = {"w4a4": (4, 4), "w2a4": (2, 4)}
ITERATIONS, BATCH = 500, 32
PULL = {"res": 0.01, "mb": 0.1}
"""Weight of the regulariser: that of MQBench's own configurations for ResNet-18 and MobileNetV2."""

RECORDED = Path(__file__).parent / "quant_digits_mqbench.json"
WEIGHTS = Path("runs/digits")
"""Where the trained networks are kept; about seven minutes make them where they are absent."""


@dataclass(frozen=True, slots=True)
class Task:
    """A trained network of a seed: its data, its float graph, calibration batches (NHWC)."""

    data: Data
    graph: Graph
    batches: list[Array]


def arguments(about: str) -> tuple[Path, Path | None]:
    """Folders of the trained networks and of the peer, from --weights and --peer; one thread of torch."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--peer", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    return given.weights or (given.peer / "weights" if given.peer else WEIGHTS), given.peer


def task(net: str, seed: int, weights: Path) -> Task:
    data = make_data(seed)
    graph = capture(trained(net, seed, weights, data), torch.zeros(1, 1, 32, 32))
    run_passes(graph, FLOAT_PASSES)
    batches = [batch.permute(0, 2, 3, 1).contiguous().numpy() for batch in calibration(data).split(BATCH)]
    return Task(data, graph, batches)


def calibrated(given: Task, setting: str) -> QuantReport:
    """Rounded to nearest, with ranges of least squared error."""
    return quantize(given.graph, given.batches, scheme=load_scheme("academic_affine").with_bits(*BITS[setting]))


def reconstructed(net: str, given: Task, report: QuantReport, method: Method, seed: int) -> tuple[Graph, float]:
    """The quantized graph, and the CPU seconds of its reconstruction."""
    settings = Settings(method, ITERATIONS, BATCH, fisher=True, pull=PULL[net], seed=seed)
    begin = time.process_time()
    graph, params = reconstruct(report.floating, report.plan, report.params, given.batches, settings)
    seconds = time.process_time() - begin
    return report_of(graph, report.plan, params, report.images).quantized, seconds


def accuracy(graph: Graph, data: Data) -> float:
    """Per cent of the test images, on the fake-quantized graph."""
    executor, right = TorchExecutor(graph), 0
    with torch.inference_mode():
        for images, labels in zip(data.test_images.split(250), data.test_labels.split(250), strict=True):
            out = executor({graph.inputs[0]: as_input(images).permute(0, 2, 3, 1).contiguous()})
            right += int((out[graph.outputs[0]].argmax(1) == labels).sum())
    return 100 * right / len(data.test_labels)


def peer_rows(peer: Path | None) -> list[dict[str, Any]]:
    """MQBench's rows: those in `mqbench.jsonl` of a peer's folder, else the recorded ones."""
    if peer is None:
        return list(json.loads(RECORDED.read_text())["rows"])
    return [json.loads(line) for line in (peer / "mqbench.jsonl").read_text().splitlines()]
