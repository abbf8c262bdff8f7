"""Seven published latencies of the LPCV 2021 winner against the emitted programs' time, `vendor` schedule.

Only the two host parameters are fitted, here and now: nanoseconds an output element and milliseconds a frame. The error
is that of each row under the fit to all seven; the second figure leaves the row out of the fit.

    python benchmarks/compiler_seed_rows.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from lowwatt.compiler import compile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from lpcv2021 import LATENCY_ROWS
from yolox_graph import yolox_graph

BAR, BAR_LEFT_OUT = 1.0, 1.5
Row = tuple[float, float, int]
"""Published milliseconds, accelerator's milliseconds, output elements."""


def fit(rows: Sequence[Row]) -> tuple[float, float]:
    """ns an element and ms a frame, by least squares of the relative errors."""
    published, dpu, elements = (np.array(column, float) for column in zip(*rows, strict=True))
    terms = np.stack([elements * 1e-6, np.ones(len(rows))], axis=1) / published[:, None]
    element, frame = np.linalg.lstsq(terms, 1 - dpu / published, rcond=None)[0]
    return float(element), float(frame)


def error(row: Row, host: tuple[float, float]) -> float:
    """Percent by which a row's latency is modelled too long."""
    published, dpu, elements = row
    return 100 * ((dpu + host[0] * elements * 1e-6 + host[1]) / published - 1)


def measured() -> list[Row]:
    rows = []
    for row in LATENCY_ROWS:
        graph = yolox_graph(row.width, row.side, row.channels, row.spp)
        elements = sum(prod(graph.tensor(name).shape[1:]) for name in graph.outputs)
        rows.append((row.latency_ms, compile(graph, "ultra96v2-lpcv").dpu_ms, elements))
    return rows


def main() -> int:
    rows = measured()
    host = fit(rows)
    print(f"host: {host[0]:.1f} ns an output element + {host[1]:.2f} ms a frame")
    errors = [error(row, host) for row in rows]
    left_out = [error(row, fit(rows[:k] + rows[k + 1 :])) for k, row in enumerate(rows)]
    for published, row, one, other in zip(LATENCY_ROWS, rows, errors, left_out, strict=True):
        print(f"{published.name:24} {row[0]:7.3f} ms, DPU {row[1]:6.2f}: {one:+5.2f} %, left out {other:+5.2f} %")
    mean, without = (sum(map(abs, found)) / len(found) for found in (errors, left_out))
    holds = mean <= BAR and without <= BAR_LEFT_OUT
    figure, bar = f"{mean:.2f} % (leave-one-out {without:.2f} %)", f"{BAR} % ({BAR_LEFT_OUT} %)"
    return conclude("seven published latency rows, mean error", figure, bar, holds)


if __name__ == "__main__":
    sys.exit(main())
