"""export: ncnn's own files, run on ncnn where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lowwatt.errors import ToolError
from lowwatt.ir.onnx_qdq import Runner
from lowwatt.types import Array
from lowwatt.verbs.export_runtimes import prove_on
from lowwatt.verbs.export_source import Inputs, Source, need_quantized


def ncnn(source: Source, out: Path, samples: Sequence[Inputs]) -> list[str]:
    """`.param` and `.bin` in int8, and the calibration table."""
    from lowwatt.ir import ncnn as files

    need_quantized(source.graph, "ncnn")
    param, binary, table = files.write(source.graph, out)
    return [
        f"weights: {binary}",
        f"calibration table: {table}",
        prove_on("ncnn", open_ncnn, source.graph, param, samples),
    ]


def open_ncnn(param: Path) -> Runner:
    """ncnn's files on its CPU kernels, in float32 and int8. ImportError where ncnn is not installed."""
    import ncnn as runtime

    net = runtime.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise ToolError("ncnn cannot open the model", where=str(param))

    def run(feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        return [_extract(net, feeds, name) for name in names]

    return run


def _extract(net: object, feeds: Mapping[str, Array], name: str) -> Array:
    """One output, with the batch that ncnn has not."""
    import ncnn as runtime

    extractor = net.create_extractor()  # type: ignore[attr-defined]
    for key, value in feeds.items():
        extractor.input(key, runtime.Mat(np.ascontiguousarray(value[0])).clone())
    status, found = extractor.extract(name)
    if status:
        raise ToolError("ncnn cannot run the model", where=name)
    return np.array(found)[None]
