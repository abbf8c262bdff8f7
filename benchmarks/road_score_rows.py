"""Published scores (docs/training-recipe.md 3) that the formula gives from the row's own figures.

Two rows of the slides do not follow from their own figures; they are named, not counted.

    python benchmarks/road_score_rows.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from lowwatt.evaluate import score

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from verdict import conclude

from lpcv2021 import DO_NOT_FOLLOW, SCORE_ROWS, ScoreRow

TOLERANCE = 2e-4


def follows(row: ScoreRow) -> bool:
    value = score(ap=row.ap, energy_j=row.energy_j, **row.speed)
    equal = abs(value / row.printed - 1) <= TOLERANCE
    print(f"{row.name:20} printed {row.printed:8.3f}, formula {value:8.3f}{'' if equal else '  (does not follow)'}")
    return equal


def main() -> int:
    found = sum([follows(row) for row in SCORE_ROWS])
    strangers = sum([not follows(row) for row in DO_NOT_FOLLOW])
    holds = found == len(SCORE_ROWS) and strangers == len(DO_NOT_FOLLOW)
    return conclude("published scores that the formula gives", f"{found}", f"{len(SCORE_ROWS)}", holds)


if __name__ == "__main__":
    sys.exit(main())
