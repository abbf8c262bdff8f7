"""What the benchmarks of classification and segmentation share: a recipe's whole road, and what its integers are worth.

FP32 runs on onnxruntime; the integers of the whole val split on the compiled core, and those of a few images also on
the simulator, from the instruction words of the program: every output must be the same there, bit for bit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from quant_accuracy import SHARED, Quiet
from verdict import conclude

from lowwatt.backends import open_backend
from lowwatt.compiler import Program
from lowwatt.ir import meta
from lowwatt.ir.arithmetic import quantize
from lowwatt.letterbox import letterbox, read_image
from lowwatt.recipe import Recipe, load_recipe
from lowwatt.types import Array
from lowwatt.verbs.produce import Road

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
DROP = 0.01
SIMULATED = 8


def measured(about: str, recipe: str, data: str, baseline: Callable[[Road], tuple[str, float]]) -> int:
    """Run the road, print what it gives, conclude: INT8 within a point of FP32, and FP32 above the baseline."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("settings", nargs="*", help="settings of the recipe: key=value")
    parser.add_argument("--data", default=str(SHARED / "data" / data))
    parser.add_argument("--out", type=Path, help="folder for what the road leaves; by default it goes")
    given = parser.parse_args()
    chosen = load_recipe(RECIPES / recipe, [f"data.root={given.data}", "quant.max_drop=1", *given.settings])
    with tempfile.TemporaryDirectory() as folder:
        return _conclude(_road(chosen, given.out or Path(folder)), baseline)


def _road(recipe: Recipe, out: Path) -> Road:
    road = Road(recipe, out, listener=lambda line: print(line, flush=True), progress=Quiet)
    began = time.process_time()
    road.produce()
    print(f"the whole road: {time.process_time() - began:.0f} CPU s, {road.recipe.train.threads} thread")
    return road


def _conclude(road: Road, baseline: Callable[[Road], tuple[str, float]]) -> int:
    program = Program.load(road.out / "program.lwp")
    yardstick = road.yardstick(program.graph)
    for stage, score in road.accuracy.items():
        print(f"{stage:10} {yardstick.name} {score.value:.4f}  {yardstick.second} {score.second:.4f}")
    differ = differing(program, [image.path for image in road.validation_data.images[:: yardstick.scored // SIMULATED]])
    print(f"simulator and core: {differ} values differ in {SIMULATED} images; {program.latency_ms:.2f} ms (modelled)")
    naive, floor = baseline(road)
    print(f"{naive}: {yardstick.name} {floor:.4f}")
    before, after = road.accuracy["FP32"].value, road.accuracy["integer"].value
    return conclude(
        f"{yardstick.name} that {road.recipe.name} loses by INT8 on {yardstick.scored} images",
        f"{before - after:+.4f} ({before:.4f} → {after:.4f})",
        f"{DROP} of an FP32 above {floor:.4f}, no value of the simulator differs",
        before - after <= DROP and before > floor and not differ,
    )


def differing(program: Program, files: Sequence[Path]) -> int:
    """Output values of the simulator that are not those of the core."""
    preprocess, graph = meta.preprocess(program.graph), program.graph
    quant = graph.tensor(graph.inputs[0]).quant
    assert quant is not None
    simulator, core = open_backend("simulator", program, fidelity="words"), open_backend("core", graph)
    count = 0
    for file in files[:SIMULATED]:
        pixels, _ = letterbox(read_image(file, preprocess.channels), preprocess)
        given: dict[str, Array] = {graph.inputs[0]: quantize(pixels.astype(np.float64), quant)[None]}
        ours, theirs = simulator.run(given), core.run(given)
        count += sum(int((ours[name] != theirs[name]).sum()) for name in graph.outputs)
    return count
