"""Codes in fields of instructions: which activation, which work of the ALU (docs/dpu.md 8.3)."""

from __future__ import annotations

from collections.abc import Mapping

ACTIVATIONS: Mapping[str, int] = {"none": 0, "relu": 1, "leaky_relu": 3, "relu6": 4}
"""act_type of CONVINIT, DPTWISE and ALUINIT; relu6 is inferred (docs/dpu.md 8.5)."""

EXEC_MODES: Mapping[str, int] = {"depthwise": 0, "average": 2, "max": 3, "hard_sigmoid": 7}
"""exec_mode of ALUINIT."""
