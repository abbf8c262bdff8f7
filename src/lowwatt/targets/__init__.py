"""Machine descriptions: one YAML file each, and the typed value that is read from it."""

from lowwatt.targets.fingerprint import fingerprint
from lowwatt.targets.target import (
    Array,
    Costs,
    EnergyFigures,
    HostCosts,
    Options,
    Target,
    load_target,
    target_names,
)

__all__ = [
    "Array",
    "Costs",
    "EnergyFigures",
    "HostCosts",
    "Options",
    "Target",
    "fingerprint",
    "load_target",
    "target_names",
]
