"""Every backend that is installed here on YOLOX-FPGA: its AP beside that of the integer reference of the same graph.

The float detector is quantized for each target (calibration on 128 images of train, nothing else), written in all of
the targets' formats with their proofs, and each runtime is scored on val through the engine that serves images. Rows
say how many output elements are more than one step off, and the greatest differences of a score and of a box's corner
(scores from .1, two images). Runtimes that are not installed are named; the board's (vart, pynq) is left out here:
tests/unit/test_vart.py has it on a stand-in.

    python benchmarks/runtime_conformance.py [--model M.safetensors] [--data COCO] [--limit N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from quant_accuracy import DETECTOR, SHARED, Quiet
from verdict import conclude

from lowwatt.cli.console import print_table
from lowwatt.cli.tables import runtimes_table, without_figures
from lowwatt.errors import ToolError
from lowwatt.verbs.export_all import FLOAT, TOLERANCE, ExportAllJob, export_all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DETECTOR)
    parser.add_argument("--data", default=str(SHARED / "data" / "coco_mini"), help="COCO folder")
    parser.add_argument("--limit", type=int, default=0, help="score the first N images of val; 0: all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = export_all(ExportAllJob(given.model, Path(folder), given.data, limit=given.limit), Quiet, print)
    for row in result["files"]:
        print(f"  {row['scheme']:12} {row['format']:16} {row['bytes']:9} bytes  {row['error']}")
    return judged(result)


def judged(result: dict[str, Any]) -> int:
    print_table(runtimes_table(result))
    for line in without_figures(result):
        print(line)
    pairs = [row for row in result["rows"] if "value" in row and row["scheme"] != FLOAT]
    worst = max((abs(row["value"] - row["reference"]) for row in pairs), default=0.0)
    refused = any(row["state"] == "refused" for row in (*result["rows"], *result["files"]))
    what = f"greatest difference of AP from the reference, {len(pairs)} INT8 pairs of target and runtime, points"
    return conclude(what, f"{100 * worst:.2f}", f"{100 * TOLERANCE:.1f}", worst <= TOLERANCE and not refused)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToolError as error:
        sys.exit(str(error))
