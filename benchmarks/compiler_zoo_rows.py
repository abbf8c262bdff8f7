"""Mean error of the modelled accelerator time over published board times; nothing is fitted here.

Published: frames a second with many threads of single-core boards in the vendor's model zoo (zoo_rows.py states which
rows, and by what rules). The costs are those of the targets' files, whose provenance says what they were fitted to;
what no fit has seen is in compiler_zoo_holdout.py, and what a fit without a family makes of it in
compiler_zoo_leave_one_out.py.

    python benchmarks/compiler_zoo_rows.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from verdict import conclude
from zoo_networks import NETWORKS
from zoo_rows import Row, fitted_rows

from lowwatt.compiler import compile

BAR = 7.0


def modelled(rows: Sequence[Row]) -> list[float]:
    """Accelerator time of each row in milliseconds, with the costs of the targets' files."""
    graphs = {row.network: NETWORKS[row.network]() for row in rows}
    return [compile(graphs[row.network], row.board).dpu_ms for row in rows]


def mean_error(rows: Sequence[Row], times: Sequence[float]) -> float:
    """Print each row's error in percent and the boards' means; returns the mean of all."""
    found: dict[str, list[float]] = {}
    for row, ms in zip(rows, times, strict=True):
        error = 100 * (ms / row.ms - 1)
        found.setdefault(row.board, []).append(abs(error))
        what = f"{row.network:22} {row.board:10} {row.version}"
        print(f"{what} published {row.ms:7.2f} ms, modelled {ms:7.2f} ms {error:+6.1f} %")
    for board, errors in found.items():
        print(f"{board}: mean error {sum(errors) / len(errors):.1f} %, worst {max(errors):.1f} %, {len(errors)} rows")
    return sum(sum(errors) for errors in found.values()) / len(rows)


def main() -> int:
    rows = fitted_rows()
    mean = mean_error(rows, modelled(rows))
    return conclude(f"mean error over {len(rows)} published board times", f"{mean:.1f} %", f"{BAR:.1f} %", mean <= BAR)


if __name__ == "__main__":
    sys.exit(main())
