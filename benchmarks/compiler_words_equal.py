"""Elements that differ between executed instruction words and the integer reference.

Accelerator parts of the golden graphs where they are at hand (LOWWATT_SHARED names the folder, else ../shared), and
YOLOX-FPGA with random int8 weights at four sizes and three widths, both schedules. `--quick`: one size and width.

    python benchmarks/compiler_words_equal.py [--quick]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lowwatt.compiler.lowering import SCHEDULES, lower
from lowwatt.compiler.partition import partition
from lowwatt.compiler.rules import check
from lowwatt.ir import interpreter
from lowwatt.ir.graph import Graph
from lowwatt.loading import load_graph
from lowwatt.sim.machine import run_words
from lowwatt.targets import load_target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from yolox_graph import quantized_yolox_graph

TARGETS = (
    "ultra96v2-lpcv",
    "kv260",
    "kv260-vai3",
    "zcu104-dnndk",
    "DPUCZDX8G_ISA0_B512_MAX",
    "DPUCZDX8G_ISA0_B1152_MAX",
)
SHARED = Path(os.environ.get("LOWWATT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def golden() -> Iterator[tuple[str, Graph]]:
    for folder in sorted(SHARED.glob("golden/case*")):
        graph = load_graph(folder / "model.xmodel")
        if graph.is_quantized:
            yield folder.name, graph


def differing(graph: Graph, board: str) -> tuple[int, int]:
    """Elements that differ, of how many, over all accelerator parts and both schedules."""
    target, random = load_target(board), np.random.default_rng(0)
    inputs = {name: random.integers(-128, 128, graph.tensor(name).shape).astype(np.int8) for name in graph.inputs}
    values, bad, total = interpreter.execute(graph, inputs), 0, 0
    for part in partition(graph, check(graph, target)):
        for schedule in SCHEDULES if part.side == "dpu" else ():
            segment = lower(part.graph, target, schedule)
            found = run_words(segment, target, {name: values[name] for name in part.graph.inputs})
            bad += sum(int((found[name] != values[name]).sum()) for name in found)
            total += sum(value.size for value in found.values())
    return bad, total


def main() -> int:
    quick = "--quick" in sys.argv
    sides, widths = ((320,), (0.375,)) if quick else ((288, 320, 352, 416), (0.25, 0.3125, 0.375))
    graphs = [*golden(), *((f"yolox {w} {s}", quantized_yolox_graph(w, s, seed=s)) for s in sides for w in widths)]
    bad = total = 0
    for board in TARGETS[:3] if quick else TARGETS:
        here = [0, 0]
        for name, graph in graphs:
            found = differing(graph, board)
            here = [a + b for a, b in zip(here, found, strict=True)]
            if found[0]:
                print(f"{board} {name}: {found[0]} of {found[1]} elements differ")
        print(f"{board}: {here[0]} of {here[1]} elements differ over {len(graphs)} graphs", flush=True)
        bad, total = bad + here[0], total + here[1]
    what = f"words against the integer reference, {total} elements"
    return conclude(what, f"{bad} differ", "0", bad == 0 and total > 0)


if __name__ == "__main__":
    sys.exit(main())
