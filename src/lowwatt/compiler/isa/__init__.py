"""Instruction words of DPUCZDX8G: encode, decode, print, and check the tokens (docs/dpu.md 8)."""

from __future__ import annotations

from lowwatt.compiler.isa.instruction import Instruction, assemble, decode, encode
from lowwatt.compiler.isa.listing import listing, text
from lowwatt.compiler.isa.order import Order, legal_order
from lowwatt.compiler.isa.table import ENGINES, ISA0, ISA0_FIRST, ISA1, Field, InstructionSet, InstructionSpec
from lowwatt.compiler.isa.tokens import Tokens, balance, first_stuck

__all__ = [
    "ENGINES",
    "ISA0",
    "ISA0_FIRST",
    "ISA1",
    "Field",
    "Instruction",
    "InstructionSet",
    "InstructionSpec",
    "Order",
    "Tokens",
    "assemble",
    "balance",
    "decode",
    "encode",
    "first_stuck",
    "legal_order",
    "listing",
    "text",
]
