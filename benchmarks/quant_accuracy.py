"""What the accuracy benchmarks of quantization share: a model, a data set, and AP of a stage."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verdict import conclude

import lowwatt
from lowwatt.ir.graph import Graph
from lowwatt.loading import load_with_head
from lowwatt.quant.ptq import QuantReport
from lowwatt.recipe import QuantSettings
from lowwatt.verbs.quantize import on_stage, quantize_on
from lowwatt.verbs.yardstick import Yardstick, yardstick_for

DETECTOR = Path(lowwatt.__file__).parent / "zoo" / "yolox_fpga_person.safetensors"
"""The packaged detector: YOLOX-FPGA, width .25, 256 x 256 gray, people of coco_mini."""

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


class Quiet:
    """A progress bar that shows nothing."""

    def __init__(self, title: str) -> None:
        self.title = title

    def start(self, total: int) -> None:
        """Nothing."""

    def update(self, done: int, info: Any = None) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A float network with the data that it is calibrated and measured on."""

    graph: Graph
    yardstick: Yardstick

    def quantize(self, **settings: Any) -> QuantReport:
        """Quantize with these settings of a recipe's `quant` section; prints what each step brought."""
        chosen = QuantSettings(**settings)
        report = quantize_on(self.graph, self.yardstick.calibration(chosen.images), chosen, Quiet)
        for note in report.notes:
            print(
                f"  {note.name}: {note.seconds:.0f} s, outputs {note.snr_db:.1f} dB, loss {note.loss:.4f}"
                f"{'' if note.kept else ' (not kept)'}"
            )
        return report

    def measure(self, report: QuantReport, stage: str) -> float:
        """AP (or top-1) of one stage of a quantization, printed."""
        figure = self.yardstick.measure(*on_stage(report, stage), Quiet(stage))
        print(f"  {stage}: {self.yardstick.name} {figure:.5f}", flush=True)
        return figure


def conclude_loss(network: Subject, report: QuantReport, stage: str, what: str, bar: float) -> int:
    """The last line of a benchmark of the share of FP32 accuracy that a stage loses; 0 where it is within `bar`."""
    before, after = network.measure(report, "FP32"), network.measure(report, stage)
    lost = 1 - after / before
    return conclude(what, f"{lost:+.1%} ({before:.4f} → {after:.4f})", f"{bar:.0%}", lost <= bar)


def subject(about: str, model: Path = DETECTOR) -> Subject:
    """From the command line: --model and --data."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--model", type=Path, default=model)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "coco_mini", help="COCO folder")
    given = parser.parse_args()
    graph, line = load_with_head(given.model)
    print(line or f"{given.model.name}, {len(graph.nodes)} nodes")
    return Subject(graph, yardstick_for(graph, str(given.data)))
