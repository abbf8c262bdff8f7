"""Mean error of the modelled accelerator time over published board times of standard networks; nothing is fitted here.

Published: multi-thread frames a second of single-core boards in the vendor's model zoo (docs/dpu.md 5.1), which is
the best public proxy of accelerator time. The costs come from a fit over these boards with another model of the
schedule, so this checks the structure of ours.

    python benchmarks/compiler_zoo_rows.py
"""

from __future__ import annotations

import sys

from verdict import conclude
from zoo_networks import NETWORKS

from lowwatt.compiler import compile

BAR = 7.0
# network: milliseconds on KV260 (Vitis AI 1.4), on Ultra96 v1 (1.0)
PUBLISHED: dict[str, dict[str, float]] = {
    "resnet18": {"kv260": 4.68, "ultra96v1": 12.85},
    "resnet50": {"kv260": 12.97, "ultra96v1": 29.88},
    "vgg16": {"kv260": 51.28},
    "vgg19": {"kv260": 58.82},
    "mobilenet_v1": {"ultra96v1": 5.36},
    "mobilenet_v2": {"kv260": 3.22},
    "mobilenet_v2 1.4": {"kv260": 4.80, "ultra96v1": 9.59},
    "inception_v1": {"kv260": 4.75, "ultra96v1": 13.32},
    "squeezenet": {"kv260": 1.79, "ultra96v1": 3.53},
    "yolov3 416": {"kv260": 72.46, "ultra96v1": 180.8},
}


def main() -> int:
    errors: dict[str, list[float]] = {"kv260": [], "ultra96v1": []}
    for name, boards in PUBLISHED.items():
        graph = NETWORKS[name]()
        for board, published in boards.items():
            modelled = compile(graph, board).dpu_ms
            error = 100 * (modelled / published - 1)
            errors[board].append(abs(error))
            print(f"{name:18} {board:10} published {published:7.2f} ms, modelled {modelled:7.2f} ms {error:+6.1f} %")
    for board, found in errors.items():
        print(f"{board}: mean error {sum(found) / len(found):.1f} % over {len(found)} networks")
    every = [error for found in errors.values() for error in found]
    mean = sum(every) / len(every)
    holds = mean <= BAR
    return conclude(f"mean error over {len(every)} published board times", f"{mean:.1f} %", f"{BAR:.1f} %", holds)


if __name__ == "__main__":
    sys.exit(main())
