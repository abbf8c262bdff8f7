"""Golden cases of the vendor's CPU runner that every backend reproduces bit for bit, through `lowwatt run`'s own code.

LOWWATT_SHARED=folder python benchmarks/road_golden.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from verdict import conclude

from lowwatt.backends import backend_names
from lowwatt.verbs.run import run_file

ROOT = Path(__file__).resolve().parent.parent
CASES = 94


def equal(case: Path, backend: str) -> bool:
    about = json.loads((case / "case.json").read_text())
    inputs = [f"{row['name']}={case / row['file']}" for row in about["inputs"]]
    with tempfile.TemporaryDirectory() as folder:
        run_file(case / "model.xmodel", inputs, backend, Path(folder))
        found = {row["name"]: np.load(Path(folder) / f"{row['name']}.npy") for row in about["outputs"]}
    return all(np.array_equal(found[row["name"]], np.load(case / row["file"])) for row in about["outputs"])


def main() -> int:
    shared = Path(os.environ.get("LOWWATT_SHARED", ROOT.parent / "shared"))
    cases = sorted((shared / "golden").glob("case*"))
    counts = {}
    for backend in backend_names():
        counts[backend] = sum(equal(case, backend) for case in cases)
        print(f"{backend:12} {counts[backend]} of {len(cases)}")
    least = min(counts.values())
    return conclude("golden cases equal on every backend", f"{least}", f"{CASES}", least == CASES)


if __name__ == "__main__":
    sys.exit(main())
