"""export: ncnn's own files, run on ncnn where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowwatt.backends.ncnn import open_ncnn
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
