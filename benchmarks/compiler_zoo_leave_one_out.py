"""Mean error over published board times of costs that were fitted without the network's family.

For each family the costs are fitted anew (fit_costs.py) to the rows of all others, and the family's own rows modelled
with them. The costs of the targets' files play no part.

    python benchmarks/compiler_zoo_leave_one_out.py
"""

from __future__ import annotations

import sys

from compiler_zoo_rows import mean_error
from fit_costs import compiler_model, leave_one_out, parameters
from verdict import conclude
from zoo_rows import fitted_rows

BAR = 8.0


def main() -> int:
    rows = fitted_rows()
    mean = mean_error(rows, leave_one_out(rows, compiler_model, parameters()))
    families = len({row.family for row in rows})
    what = f"mean error over {len(rows)} published board times, each of {families} families left out of the fit in turn"
    return conclude(what, f"{mean:.1f} %", f"{BAR:.1f} %", mean <= BAR)


if __name__ == "__main__":
    sys.exit(main())
