"""Published scores (facts: lpcv2021.md 3) that the formula gives from the row's own figures.

Two rows of the slides do not follow from their own figures; they are named, not counted.

    python benchmarks/road_score_rows.py
"""

from __future__ import annotations

import sys

from lowwatt.evaluate import score

TOLERANCE = 2e-4
# name, AP, energy J, (fps or latency ms), printed score
ROWS = [
    ("w.3125 416, no SPP", 0.248, 548.888, {"fps": 31.025}, 22.759),
    ("gray 288", 0.246, 378.108, {"fps": 45.837}, 49.681),
    ("gray 320", 0.274, 416.239, {"fps": 40.723}, 63.509),
    ("gray 352", 0.293, 480.148, {"fps": 34.658}, 57.444),
    ("leaderboard 1", 0.274, 200.283, {"latency_ms": 26.625}, 120.296),
    ("leaderboard 2", 0.262, 201.394, {"latency_ms": 27.064}, 98.357),
    ("leaderboard 3", 0.241, 251.814, {"latency_ms": 34.849}, 38.58),
    ("leaderboard 4", 0.233, 227.456, {"latency_ms": 32.757}, 37.036),
    ("leaderboard 5", 0.237, 257.28, {"latency_ms": 34.305}, 34.731),
    ("leaderboard 6", 0.233, 258.196, {"latency_ms": 31.425}, 34.28),
    ("leaderboard 7", 0.254, 311.0, {"latency_ms": 42.057}, 32.603),
    ("leaderboard 8", 0.252, 319.332, {"latency_ms": 46.289}, 27.036),
]
DO_NOT_FOLLOW = [
    ("w.375 416", 0.300, 635.876, {"fps": 25.702}, 34.510),
    ("gray 416", 0.322, 635.785, {"fps": 25.748}, 49.407),
]


def main() -> int:
    found = 0
    for name, ap, energy, speed, printed in [*ROWS, *DO_NOT_FOLLOW]:
        value = score(ap=ap, energy_j=energy, **speed)
        equal = abs(value / printed - 1) <= TOLERANCE
        found += equal
        print(f"{name:20} printed {printed:8.3f}, formula {value:8.3f}{'' if equal else '  (does not follow)'}")
    holds = found == len(ROWS)
    verdict = "holds" if holds else "falls short"
    print(f"published scores that the formula gives: {found}, bar {len(ROWS)}: {verdict}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
