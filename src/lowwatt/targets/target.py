"""Target: a machine as data. A board is a core, its clock, its memory, and what things cost there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from lowwatt.errors import ToolError, did_you_mean
from lowwatt.records import Above, AtLeast, Reader, WrongValue
from lowwatt.targets.core import Array, Core, Count, Options
from lowwatt.targets.fingerprint import fingerprint

_Positive = Annotated[float, Above(0)]


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class HostCosts:
    """Time on the board's CPU: nanoseconds an output element, milliseconds a frame.

    `mac_ns` is used only for convolutions that the accelerator does not take; it is an estimate.
    """

    element_ns: float
    frame_ms: float
    mac_ns: float
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class AssumedEnergy:
    """Picojoules a multiply-accumulate and a byte of DRAM traffic, as the user of a target assumes them.

    No target of ours has them: published measurements give none (docs/dpu.md 6.2).
    """

    pj_per_mac: Annotated[float, AtLeast(0)]
    pj_per_dram_byte: Annotated[float, AtLeast(0)]
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class EnergyFigures:
    """Mean power while running (W), constant energy an image (J), what the figures rest on, and what is assumed."""

    watts: _Positive
    joules_per_image: float
    rail: str
    images: Count
    provenance: str
    assumed: AssumedEnergy | None = None

    def joules(self, seconds: float, images: int) -> float:
        """Energy of `images` frames in `seconds`: watts x time + a constant an image (docs/dpu.md 6.2)."""
        return self.watts * seconds + self.joules_per_image * images

    @property
    def words(self) -> str:
        """The formula and what it rests on, in words."""
        each = f"{self.watts} W x time + {self.joules_per_image * 1000:g} mJ an image"
        return f"modelled: {each}, rail {self.rail}; {self.provenance}"


@dataclass(frozen=True, slots=True)
class Dram:
    """The board's memory: what it is, its peak in GB/s (1e9; None where that is not known), and who says so."""

    kind: str = ""
    peak_gb_s: _Positive | None = None
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine: array, memories, options, instruction set, costs. Operator limits follow from `isa` in compiler/rules.

    `bank_depth` counts words of `array.input_channels` bytes; every image group has `array.pixels` banks,
    the weight buffer `array.output_channels`.

    >>> from lowwatt.targets import load_target
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
    options: Options = field(default_factory=Options)
    bank_depth: Count = 2048
    provenance: str = ""
    dram: Dram = field(default_factory=Dram)

    @property
    def core(self) -> Core:
        """The core without its board."""
        return Core(self.array, self.isa, self.image_groups, self.options)

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
        return fingerprint(self.core)

    @property
    def bank_bytes(self) -> int:
        """Bytes of one bank, of whatever kind."""
        return self.bank_depth * self.array.input_channels

    @property
    def image_banks(self) -> range:
        """Numbers of the image banks: `array.pixels` of each image group, one group after the other.

        >>> from lowwatt.targets import load_target
        >>> load_target("kv260").image_banks
        range(0, 16)
        """
        return range(self.image_groups * self.array.pixels)

    @property
    def weight_banks(self) -> range:
        """Numbers of the weight banks, one an output channel (docs/dpu.md 8.3)."""
        return range(self.image_banks.stop, self.image_banks.stop + self.array.output_channels)

    @property
    def depthwise_bank(self) -> int | None:
        """Number of the bank of depthwise weights; None where the core was built without depthwise convolution."""
        return self.weight_banks.stop if self.options.depthwise else None

    @property
    def bias_bank(self) -> int:
        """Number of the bias bank, the last of all."""
        return self.weight_banks.stop + self.options.depthwise

    def to_json(self) -> dict[str, Any]:
        """The description as json-able values; `from_json` gives an equal target back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any, where: str = "") -> Target:
        """Target of json-able values; ToolError names the key that is wrong."""
        try:
            return Reader(by_hand=True, closed=True).read(Target, values)
        except WrongValue as error:
            raise _explain(error, where) from None


def _explain(error: WrongValue, where: str) -> ToolError:
    *sections, key = [str(part) for part in error.place] or ["target"]
    place = ".".join([*sections, key])
    if error.unknown:
        return ToolError(f"unknown key {place}", where=where, hint=did_you_mean(key, _known_keys(sections)))
    return ToolError("wrong value in the target", where=f"{where}: {place}", why=error.why)


def _known_keys(sections: list[str]) -> tuple[str, ...]:
    kinds: dict[str, type] = {
        "array": Array,
        "options": Options,
        "costs": Costs,
        "host": HostCosts,
        "energy": EnergyFigures,
        "assumed": AssumedEnergy,
        "dram": Dram,
    }
    kind = kinds[sections[-1]] if sections and sections[-1] in kinds else Target
    return tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
