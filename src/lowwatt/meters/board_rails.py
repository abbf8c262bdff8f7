"""What the supplies of known boards feed: rails by the chip that measures them and its own label."""

from __future__ import annotations

from dataclasses import dataclass

from lowwatt.meters.base import Rail

Chip = tuple[str, int | None]
"""A chip's name in the kernel, and its I2C address where several of that name are told apart by it."""


@dataclass(frozen=True, slots=True)
class Board:
    """Known by having all of these chips; `chips` give the rail of each label."""

    name: str
    chips: dict[Chip, dict[str, Rail]]


_5V = ("5V",)
ULTRA96_V2 = Board(
    "Ultra96-V2",
    {
        ("ir38060", 0x45): {"pout1": Rail("5V", "the whole board: all other rails are made of it")},
        ("irps5401", 0x43): {
            "pout1": Rail("AUX", "FPGA fabric, auxiliary 1.8 V", _5V, "VCCAUX"),
            "pout2": Rail("1V2", "1.2 V of FPGA banks", _5V, "VCCO 1.2V"),
            "pout3": Rail("PSDDR", "1.1 V of the LPDDR4 and its controller's pins", _5V, "VCCO 1.1V"),
            "pout4": Rail("INT", "FPGA fabric, 0.85 V: the DPU", _5V, "VCCINT"),
            "pout5": Rail("3V3_D", "3.3 V of the display port", _5V, "3.3V DP"),
        },
        ("irps5401", 0x44): {
            "pout1": Rail("PSAUX", "processing system, auxiliary 1.8 V", _5V, "VCCPSAUX"),
            "pout2": Rail("PSINT_LP", "processing system, low-power domain", _5V),
            "pout3": Rail("3V3", "3.3 V of pins and devices", _5V, "VCCO 3.3V"),
            "pout4": Rail("PSINT_FP", "ARM cores (full-power domain): neither the FPGA fabric nor the DRAM", _5V),
            "pout5": Rail("PSPLL", "clocks of the processing system", _5V, "PSPLL 1.2V"),
        },
    },
)
"""Names are those of its PYNQ image (Avnet/Ultra96-PYNQ, sensorconf-v2/ultra96.conf), others those of Avnet's tools."""

KV260 = Board(
    "Kria KV260",
    {("ina260_u14", None): {"power1": Rail("SOM_5V0", "the whole module: ARM cores, fabric, DRAM; not the carrier")}},
)

BOARDS = (ULTRA96_V2, KV260)
