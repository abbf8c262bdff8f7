"""Target: a machine as data. `targets/*.yaml` holds the known ones; a user's own file works the same way."""

from __future__ import annotations

import functools
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lowwatt import yaml_text
from lowwatt.errors import ToolError, did_you_mean

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Array:
    """The convolution array: pixels (output rows) x input channels x output channels a cycle.

    >>> Array("B2304", 8, 12, 12).macs_per_cycle
    1152
    """

    name: str
    pixels: _Count
    input_channels: _Count
    output_channels: _Count

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates a clock cycle; the name counts twice as many operations."""
        return self.pixels * self.input_channels * self.output_channels


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Options:
    """What was switched on when the core was built (docs/dpu.md 1.2 and 1.3).

    `pool_rows`, `depthwise_rows`, `eltwise_rows`: rows that the MISC engine works on at once.
    `augmentation`: few input channels are packed together with the kernel's columns.
    """

    augmentation: bool = False
    leaky_relu: bool = True
    relu6: bool = True
    average_pool: bool = True
    depthwise: bool = True
    depthwise_relu6: bool = True
    eltwise_mul: bool = False
    max_reduce: bool = True
    pool_rows: _Count = 4
    depthwise_rows: _Count = 4
    eltwise_rows: _Count = 1


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Costs:
    """Time of an instruction beside its work: `*_ns` + `*_cycles` of the clock; bandwidths in GB/s (1e9).

    Source: the fit of docs/dpu.md 5.1 over sixteen published board times.
    """

    load_ns: float
    load_cycles: float
    load_gb_s: _Positive
    save_ns: float
    save_cycles: float
    save_gb_s: _Positive
    misc_cycles: float
    conv_cycles: float = 0.0
    provenance: str = ""


@dataclass(config=_CONFIG, frozen=True, slots=True)
class HostCosts:
    """Time on the board's CPU: nanoseconds an output element, milliseconds a frame.

    `mac_ns` is used only for convolutions that the accelerator does not take; it is an estimate.
    """

    element_ns: float
    frame_ms: float
    mac_ns: float
    provenance: str = ""


@dataclass(config=_CONFIG, frozen=True, slots=True)
class EnergyFigures:
    """Mean power while running (W), constant energy an image (J), and what the figures rest on."""

    watts: _Positive
    joules_per_image: float
    rail: str
    images: _Count
    provenance: str


@dataclass(config=_CONFIG, frozen=True, slots=True)
class Target:
    """A machine: array, memories, options, instruction set, costs. Operator limits follow from `isa` in compiler/rules.

    `bank_depth` counts words of `array.input_channels` bytes; every image group has `array.pixels` banks,
    the weight buffer `array.output_channels`.

    >>> load_target("ultra96v2-lpcv").peak_gops
    345.6
    """

    name: str
    description: str
    board: str
    array: Array
    clock_mhz: _Positive
    isa: Literal[0, 1]
    image_groups: Literal[2, 3]
    costs: Costs
    host: HostCosts
    energy: EnergyFigures
    options: Options = Field(default_factory=Options)
    bank_depth: _Count = 2048
    provenance: str = ""

    @property
    def cycle_ns(self) -> float:
        """Nanoseconds of one clock cycle."""
        return 1000.0 / self.clock_mhz

    @property
    def peak_gops(self) -> float:
        """Operations (two a multiply-accumulate) a nanosecond at full use of the array."""
        return 2 * self.array.macs_per_cycle * self.clock_mhz / 1000

    @property
    def fingerprint(self) -> int:
        """The 64 bits by which a runtime recognises the core (docs/dpu.md 1.3)."""
        from lowwatt.targets.fingerprint import fingerprint

        return fingerprint(self)

    def to_json(self) -> dict[str, Any]:
        """The description as json-able values; `from_json` gives an equal target back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any, where: str = "") -> Target:
        """Target of json-able values; ToolError names the key that is wrong."""
        try:
            return _adapter().validate_python(values)
        except ValidationError as error:
            raise _explain(error, where) from None


@functools.cache
def _adapter() -> TypeAdapter[Target]:
    return TypeAdapter(Target)


def target_names() -> tuple[str, ...]:
    """Names of the machines that come with lowwatt.

    >>> "kv260" in target_names()
    True
    """
    folder = resources.files("lowwatt.targets")
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_target(name: str | Path) -> Target:
    """Machine by name, or from a YAML file of the same keys.

    A file may start from a known machine with `base: NAME` and state only what differs.
    Raises ToolError for an unknown name (with the nearest known one), an unreadable file, an unknown key or a wrong
    value.

    >>> load_target("ultra96v2-lpcv").array.name
    'B2304'
    """
    if str(name) in target_names():
        text = resources.files("lowwatt.targets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        return Target.from_json(_resolve(_parse(text, str(name)), str(name), ()), str(name))
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = [other for other in target_names() if other.startswith(str(name))]
        near = f"did you mean {known[0]}?" if known else did_you_mean(str(name), target_names())
        raise ToolError(f"unknown target {name}", hint=f"{near} (`lowwatt doctor` lists all; a YAML file works too)")
    return Target.from_json(_resolve(_read(path), str(path), ()), str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError("cannot read the target", where=str(path), why=str(error)) from None


def _parse(text: str, where: str) -> dict[str, Any]:
    values = yaml_text.parse(text, "cannot read the target", where)
    if not isinstance(values, dict):
        raise ToolError("cannot read the target", where=where, why="it is not a mapping")
    return values


def _resolve(values: dict[str, Any], where: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Values with those of `base` under them, section by section."""
    base = values.pop("base", None)
    if base is None:
        return values
    if base in seen or base not in target_names():
        why = "it rests on itself" if base in seen else f"base {base} is no known machine"
        raise ToolError("cannot read the target", where=where, why=why, hint=did_you_mean(str(base), target_names()))
    text = resources.files("lowwatt.targets").joinpath(f"{base}.yaml").read_text(encoding="utf-8")
    return _merge(_resolve(_parse(text, base), base, (*seen, base)), values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def _explain(error: ValidationError, where: str) -> ToolError:
    first = error.errors()[0]
    *sections, key = [str(part) for part in first["loc"]] or ["target"]
    place = ".".join([*sections, key])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return ToolError(f"unknown key {place}", where=where, hint=did_you_mean(key, _known_keys(sections)))
    return ToolError("wrong value in the target", where=f"{where}: {place}", why=first["msg"])


def _known_keys(sections: list[str]) -> tuple[str, ...]:
    kinds: dict[str, type] = {
        "array": Array,
        "options": Options,
        "costs": Costs,
        "host": HostCosts,
        "energy": EnergyFigures,
    }
    kind = kinds[sections[-1]] if sections and sections[-1] in kinds else Target
    return tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
