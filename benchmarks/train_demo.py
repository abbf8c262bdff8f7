"""AP that the demonstration's recipe reaches on the embedded sample set, in the time that the demonstration gives it.

python benchmarks/train_demo.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from verdict import conclude

from lowwatt.recipe import load_recipe
from lowwatt.training import train

BAR = 0.55
RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "demo.yaml"


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    recipe = load_recipe(RECIPE)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ap = train(recipe, folder).info["ap"]
    minutes = (time.monotonic() - began) / 60
    what = f"AP of the sample set after {minutes:.1f} minutes (the recipe allows {recipe.train.minutes:g})"
    return conclude(what, f"{ap:.3f}", f">= {BAR}", ap >= BAR)


if __name__ == "__main__":
    sys.exit(main())
