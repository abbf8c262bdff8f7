"""torch's aten operators in the terms of `lowwatt.ir.builder`: the tables that `lowwatt.capture` looks into."""

from lowwatt.aten.call import Call, Result
from lowwatt.aten.layers import LAYER_RULES
from lowwatt.aten.shapes import SHAPE_RULES, VIEWS

RULES = {**LAYER_RULES, **SHAPE_RULES}
"""aten operator (without overload and trailing underscore) → rule."""

__all__ = ["RULES", "VIEWS", "Call", "Result"]
