"""From a graph to a Program: operator rules, parts, instruction words, time and traffic of every layer."""

from lowwatt.compiler.costs import LayerCost
from lowwatt.compiler.passes import PASSES, Plan, compile
from lowwatt.compiler.program import Program
from lowwatt.compiler.segment import Segment

__all__ = ["PASSES", "LayerCost", "Plan", "Program", "Segment", "compile"]
