"""Elements that differ between the vendor's own words, run on the simulator, and the integer reference.

Of the compiled .xmodel files named, else of those beside the golden vectors (LOWWATT_SHARED, else ../shared). Where
more are published: docs/dpu.md 8.1.

    python benchmarks/genuine_programs.py [FILE.xmodel ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from verdict import conclude

from lowwatt.errors import ToolError
from lowwatt.sim.genuine import genuine_programs

SHARED = Path(os.environ.get("LOWWATT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def compare(path: Path) -> tuple[int, int, int]:
    """Programs, elements that differ, elements."""
    programs = genuine_programs(path)
    found = [pair for program in programs for pair in program.differences(program.noise()).values()]
    return len(programs), sum(differ for differ, _ in found), sum(size for _, size in found)


def main() -> int:
    files = [Path(name) for name in sys.argv[1:]] or sorted((SHARED / "golden" / "real").glob("tf2*.xmodel"))
    total = [0, 0, 0]
    for path in files:
        try:
            counts = compare(path)
        except ToolError as error:
            print(error, file=sys.stderr)
            return 1
        total = [a + b for a, b in zip(total, counts, strict=True)]
        print(f"{path.name}: {counts[0]} programs, {counts[1]} of {counts[2]} elements differ", flush=True)
    what = f"words of {total[0]} genuine programs against the integer reference, {total[2]} elements"
    return conclude(what, f"{total[1]} differ", "0", total[1] == 0 and total[2] > 0)


if __name__ == "__main__":
    sys.exit(main())
