"""Integer inference of YOLOX-FPGA (width .375, 320 x 320, gray) on the compiled core against onnxruntime's best int8.

One thread, random weights, all contestants in turn in the same minute; the least time of each counts. onnxruntime
runs with all its graph optimisations: the QDQ file as lowwatt exports it, and the same network quantized by
onnxruntime's own quantizer in every form that it offers. Beside each time stands how many of the 88 convolutions its
optimiser turned into QLinearConv, its int8 kernel: what is not runs in float32.

    python benchmarks/compiler_fast_speed.py
"""

from __future__ import annotations

import itertools
import logging
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from lowwatt.backends import open_backend
from lowwatt.backends.kernels import load_core
from lowwatt.ir import interpreter, onnx_qdq, onnx_writer
from lowwatt.ir.graph import Graph

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from road_core_speed import quantized_yolox
from verdict import conclude

from yolox_graph import yolox_graph

BAR = 1.0
ROUNDS = 25
Run = Callable[[], object]


class Images(CalibrationDataReader):  # type: ignore[misc]
    """Two random images, for onnxruntime's calibration."""

    def __init__(self) -> None:
        random = np.random.default_rng(2)
        self._left = [{"image": random.random((1, 1, 320, 320), np.float32)} for _ in range(2)]

    def get_next(self) -> dict[str, Any] | None:
        """The next image, None after the last."""
        return self._left.pop() if self._left else None


def float_yolox() -> Graph:
    """The float network, weights of a scale that keeps the activations alive."""
    graph = yolox_graph(0.375, 320, 1)
    random = np.random.default_rng(0)
    for constant in graph.constants():
        scale = np.sqrt(2 / np.prod(constant.shape[1:]))
        constant.data = (scale * random.standard_normal(constant.shape)).astype(np.float32)
    return graph


def onnx_files(folder: Path, integers: Graph) -> dict[str, Path]:
    """What onnxruntime may run, by setting."""
    files = {"QDQ as lowwatt exports it": folder / "exported.onnx", "float32": folder / "float.onnx"}
    onnx_qdq.write(integers, files["QDQ as lowwatt exports it"])
    onnx_writer.write(float_yolox(), files["float32"])
    forms = itertools.product((QuantFormat.QDQ, QuantFormat.QOperator), ("QUInt8", "QInt8"), ("QInt8", "QUInt8"))
    for (form, activations, weights), per_channel in itertools.product(forms, (False, True)):
        if (activations, weights) == ("QInt8", "QUInt8"):
            continue  # onnxruntime does not offer it
        name = f"{form} {activations} x {weights}, a scale a {'channel' if per_channel else 'tensor'}"
        files[name] = folder / f"{len(files)}.onnx"
        types = {"activation_type": QuantType[activations], "weight_type": QuantType[weights]}
        quantize_static(files["float32"], files[name], Images(), quant_format=form, per_channel=per_channel, **types)
    return files


def open_onnxruntime(path: Path, image: np.ndarray) -> tuple[Run, int]:
    """A run of one frame, and the number of int8 convolutions in the optimised graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kernels = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    return (lambda: session.run(None, {"image": image})), kernels["QLinearConv"]


def least_ms(runs: dict[str, Run]) -> dict[str, float]:
    """Least wall time of each, all in turn: what else the machine does meets them alike."""
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], 1000 * (time.perf_counter() - start))
    return least


def open_core(graph: Graph, image: np.ndarray) -> dict[str, Run]:
    """The core by kernel, each first held to the integer reference."""
    runs: dict[str, Run] = {}
    expected = interpreter.run(graph, {"image": image})
    for isa in load_core().kernels()[1:]:
        backend = open_backend("core", graph, isa=isa)
        found = backend.run({"image": image})
        assert all(np.array_equal(found[name], value) for name, value in expected.items()), f"{isa} is not exact"
        runs[f"core, {isa}"] = lambda backend=backend: backend.run({"image": image})
    return runs


def main() -> int:
    logging.disable(logging.WARNING)  # onnxruntime's quantizer advises
    integers = quantized_yolox()
    image = np.random.default_rng(1).integers(0, 128, (1, 320, 320, 1)).astype(np.int8)
    real = image.reshape(1, 1, 320, 320).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        opened = {name: open_onnxruntime(path, real) for name, path in onnx_files(Path(folder), integers).items()}
    core = open_core(integers, image)
    times = least_ms({**core, **{name: run for name, (run, _) in opened.items()}})
    print(f"{platform.machine()}, onnxruntime {ort.__version__}; ms a frame")
    for name in core:
        print(f"{times[name]:8.2f}  {name}")
    for name, (_, int8) in opened.items():
        print(f"{times[name]:8.2f}  onnxruntime, {name}: {int8} of 88 convolutions in int8")
    best = min(opened, key=lambda name: times[name])
    figure = min(times[name] for name in core) / times[best]
    return conclude(
        f"core against onnxruntime's best ({best})", f"{figure:.2f} of its time", f"{BAR:.1f}", figure <= BAR
    )


if __name__ == "__main__":
    sys.exit(main())
