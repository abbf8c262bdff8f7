"""Mean error of the modelled accelerator time over published board times that the costs were never fitted to.

Families held out are named, with the rule that chose them, in zoo_rows.py.

    python benchmarks/compiler_zoo_holdout.py
"""

from __future__ import annotations

import sys

from compiler_zoo_rows import mean_error, modelled
from verdict import conclude
from zoo_rows import held_out_rows

BAR = 8.0


def main() -> int:
    rows = held_out_rows()
    mean = mean_error(rows, modelled(rows))
    what = f"mean error over {len(rows)} published board times that no fit has seen"
    return conclude(what, f"{mean:.1f} %", f"{BAR:.1f} %", mean <= BAR)


if __name__ == "__main__":
    sys.exit(main())
