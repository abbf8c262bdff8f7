"""export: the pair of files that TensorRT's implicit quantization and Qualcomm's converters take."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.files import write_bytes, write_text
from lowwatt.ir.graph import Graph
from lowwatt.verbs.export_source import Inputs, Source, need_quantized

TOLERANCE = 0.01
"""Share of output elements of the pair that may differ by more than a step from those of the QDQ file."""


def deploy(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """`out` with QDQ, and beside it `…_deploy_model.onnx` in float with `…_clip_ranges.json` (MQBench's names).

    The proof puts the ranges of the JSON, and nothing else, into the float network and compares with the QDQ file.
    """
    from lowwatt.ir import onnx_deploy, onnx_qdq

    graph = source.graph
    need_quantized(graph, "deploy")
    model, clip_ranges = (out.with_name(f"{out.stem}_{end}") for end in ("deploy_model.onnx", "clip_ranges.json"))
    ranges = onnx_deploy.write(graph, model)
    write_text(clip_ranges, json.dumps(ranges, indent=2) + "\n")
    notes = onnx_qdq.write(graph, out)
    proof = _proof(graph, out, model, json.loads(clip_ranges.read_text(encoding="utf-8")), samples)
    return [f"float network: {model}", f"ranges: {clip_ranges}", *notes, *_coarse(graph, ranges), proof]


def _proof(graph: Graph, out: Path, model: Path, ranges: Mapping[str, Any], samples: Sequence[Inputs]) -> str:
    from lowwatt.ir import onnx_deploy, onnx_qdq

    with tempfile.TemporaryDirectory() as folder:
        ranged = Path(folder) / "ranged.onnx"
        write_bytes(ranged, onnx_deploy.with_ranges(model, ranges))
        runners = [onnx_qdq.open_onnxruntime(path, optimise=False) for path in (out, ranged)]
    found = onnx_qdq.compare_files(graph, samples, runners[0], runners[1])
    if found.share(found.beyond) > TOLERANCE:
        raise ToolError(
            "the float network with its ranges differs from the QDQ file",
            where=str(model),
            why=str(found),
            hint="please report this graph",
        )
    return f"float network with the ranges of the JSON alone, against the QDQ file (onnxruntime): {found}"


def _coarse(graph: Graph, ranges: Mapping[str, Any]) -> list[str]:
    """TensorRT takes the greatest weight of each channel as its range: say where the integers do not reach 127."""
    if "tensorrt" not in ranges:
        return []
    short = total = 0
    for tensor in graph.constants():
        if tensor.quant is not None and isinstance(tensor.quant.scale, tuple) and tensor.data is not None:
            axis = tensor.quant.axis or 0
            rest = tuple(i for i in range(tensor.data.ndim) if i != axis)
            reach = np.abs(tensor.data.astype(int)).max(axis=rest)
            short, total = short + int(np.count_nonzero(reach < tensor.quant.qmax)), total + reach.size
    if not short:
        return []
    return [f"{short} of {total} channels of weights do not reach 127: TensorRT will choose a finer scale for them"]
