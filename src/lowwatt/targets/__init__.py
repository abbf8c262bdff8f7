"""Machine descriptions: arrays and cores as data, one YAML file a board, and whatever else names a machine."""

from lowwatt.targets.boards import board, target_names
from lowwatt.targets.core import ARRAYS, Array, Core, Options, array_named
from lowwatt.targets.fingerprint import decode, fingerprint
from lowwatt.targets.load import load_target
from lowwatt.targets.names import core_name, core_named, named_cores
from lowwatt.targets.target import Costs, Dram, EnergyFigures, HostCosts, Target

__all__ = [
    "ARRAYS",
    "Array",
    "Core",
    "Costs",
    "Dram",
    "EnergyFigures",
    "HostCosts",
    "Options",
    "Target",
    "array_named",
    "board",
    "core_name",
    "core_named",
    "decode",
    "fingerprint",
    "load_target",
    "named_cores",
    "target_names",
]
