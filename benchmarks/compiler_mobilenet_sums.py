"""Sums of our MobileNetV2 program for a B4096 beside those of the vendor's own program for it.

The vendor's: dpu of Xilinx/Vitis-AI 1.x, demo/DNNDK, mobilenet_v2 224 (an .elf, decoded with `lowwatt disasm`;
docs/dpu.md 8.1): bytes and instructions of LOAD and SAVE, cycles of CONV and MISC (an addition counted with both
operands).

    python benchmarks/compiler_mobilenet_sums.py
"""

from __future__ import annotations

import sys
from collections import Counter

from verdict import conclude
from zoo_classifiers import mobilenet_v2

from lowwatt.compiler import compile
from lowwatt.compiler.clock import work_of
from lowwatt.compiler.isa import ENGINES, Instruction

BAR = 1.0
PUBLISHED = {
    "SAVE bytes": 2_876_424,
    "LOAD bytes": 6_811_240,
    "CONV cycles": 166_334,
    "MISC cycles": 372_540,
}
COUNTS = {"LOAD": 12_505, "CONV": 1_507}


def sums(instructions: list[Instruction]) -> dict[str, int]:
    """The same sums of our program."""
    work = work_of(instructions)

    def of(values, engine: str) -> int:  # type: ignore[no-untyped-def]
        return int(values[work.engines == ENGINES.index(engine)].sum())

    second = sum(i.numbers["length"] * i.numbers["channel_group"] for i in instructions if i.name == "ELEW")
    return {
        "SAVE bytes": of(work.bytes, "SAVE"),
        "LOAD bytes": of(work.bytes, "LOAD"),
        "CONV cycles": of(work.cycles, "CONV"),
        "MISC cycles": of(work.cycles, "MISC") + second,
    }


def main() -> int:
    (segment,) = compile(mobilenet_v2(1.0, classes=1000), "kv260").segments
    instructions, errors = list(segment.instructions), []
    for what, ours in sums(instructions).items():
        errors.append(100 * abs(ours / PUBLISHED[what] - 1))
        print(f"{what:12} published {PUBLISHED[what]:10,}  ours {ours:10,}  {errors[-1]:.3f} %")
    counted = Counter(i.name for i in instructions)
    for name, count in COUNTS.items():
        print(f"{name:12} published {count:10,}  ours {counted[name]:10,}  (instructions, no bar)")
    holds = errors[0] == 0 and max(errors) <= BAR
    return conclude("MobileNetV2 224 B4096, worst sum", f"{max(errors):.3f} %", f"{BAR:.0f} %, SAVE exact", holds)


if __name__ == "__main__":
    sys.exit(main())
