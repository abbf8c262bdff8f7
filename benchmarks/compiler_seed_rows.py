"""Seven published latencies of the LPCV 2021 winner against the emitted programs' time, `vendor` schedule.

Only the two host parameters are fitted, here and now: nanoseconds an output element and milliseconds a frame. The error
is that of each row under the fit to all seven; the second figure leaves the row out of the fit.

    python benchmarks/compiler_seed_rows.py
"""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path

from lowwatt.compiler import compile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from lpcv2021 import LATENCY_ROWS, HostTerm, TimedRow
from yolox_graph import yolox_graph

BAR, BAR_LEFT_OUT = 1.0, 1.5


def measured() -> list[TimedRow]:
    rows = []
    for row in LATENCY_ROWS:
        graph = yolox_graph(row.width, row.side, row.channels, row.spp)
        elements = sum(prod(graph.tensor(name).shape[1:]) for name in graph.outputs)
        rows.append(TimedRow(row.latency_ms, compile(graph, "ultra96v2-lpcv").dpu_ms, elements))
    return rows


def main() -> int:
    rows = measured()
    host = HostTerm.fit(rows)
    print(f"host: {host.element_ns:.1f} ns an output element + {host.frame_ms:.2f} ms a frame")
    errors = [100 * row.error(host) for row in rows]
    left_out = [100 * row.error(fit) for row, fit in zip(rows, HostTerm.left_out(rows), strict=True)]
    for known, row, error, other in zip(LATENCY_ROWS, rows, errors, left_out, strict=True):
        times = f"{row.published:7.3f} ms, DPU {row.dpu_ms:6.2f}"
        print(f"{known.name:24} {times}: {error:+5.2f} %, left out {other:+5.2f} %")
    mean, without = (sum(map(abs, found)) / len(found) for found in (errors, left_out))
    holds = mean <= BAR and without <= BAR_LEFT_OUT
    figure, bar = f"{mean:.2f} % (leave-one-out {without:.2f} %)", f"{BAR} % ({BAR_LEFT_OUT} %)"
    return conclude("seven published latency rows, mean error", figure, bar, holds)


if __name__ == "__main__":
    sys.exit(main())
