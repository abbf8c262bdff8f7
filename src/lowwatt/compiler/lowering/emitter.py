"""Emitter: instructions one after the other, without tokens, each with the layer that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from lowwatt.compiler.dram import Region
from lowwatt.compiler.isa import ISA0, ISA1, Instruction
from lowwatt.compiler.isa.window import INIT_OF
from lowwatt.targets import Target


class Emitter:
    """Collects a segment's instructions in program order.

    `layers[k]` is the index of the layer that instruction k belongs to. An INIT is emitted only where its numbers
    differ from those that its engine already has.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.isa = (ISA0, ISA1)[target.isa]
        self.instructions: list[Instruction] = []
        self.layers: list[int] = []
        self.layer = -1
        self._inits: dict[str, dict[str, int]] = {}
        self._save_port = 0

    def emit(self, name: str, **numbers: int) -> None:
        """Append one instruction of real numbers; words of a bank go round at its end."""
        for key in numbers:
            if key.startswith("bank_addr"):
                numbers[key] %= self.target.bank_depth
        self.instructions.append(Instruction.make(self.isa.spec(name), **numbers))
        self.layers.append(self.layer)

    def load(self, bank: int, address: int, start: int, pixels: int, pixel_words: int, region: Region) -> None:
        """LOAD `pixels` pixels of all channels of a region from byte `start`."""
        self.load_bytes(region.register, start, bank, address, pixels, region.pixel_bytes, region.channels, pixel_words)

    def load_bytes(
        self,
        register: int,
        start: int,
        bank: int,
        address: int,
        count: int,
        step: int,
        width: int,
        jump: int,
        **pads: int,
    ) -> None:
        """LOAD `width` bytes at each of `count` places `step` apart, to words `jump` apart."""
        self.emit(
            "LOAD",
            reg_id=register,
            ddr_addr=start,
            bank_id=bank,
            bank_addr=address,
            length=count,
            channel=width,
            jump_read=step,
            jump_write=jump,
            **pads,
        )

    def save(self, bank: int, address: int, start: int, pixels: int, pixel_words: int, region: Region) -> None:
        """SAVE `pixels` pixels of all channels of a region to byte `start`; the two ports take turns."""
        self.emit(
            "SAVE",
            reg_id=region.register,
            ddr_addr=start,
            bank_id=bank,
            bank_addr=address,
            length=pixels,
            channel=region.channels,
            jump_read=pixel_words,
            jump_write=region.pixel_bytes,
            hp_id=self._save_port,
        )
        self._save_port ^= 1

    def window(self, name: str, numbers: Mapping[str, int]) -> None:
        """CONV, POOL, DPTWISE or ALU; what its INIT holds goes there, the rest into the instruction."""
        init = self.isa.spec(INIT_OF[name]).named
        lasting = {key: value for key, value in numbers.items() if key in init}
        if self._inits.get(name) != lasting:
            self.emit(INIT_OF[name], **lasting)
            self._inits[name] = lasting
        own = self.isa.spec(name).named
        self.emit(name, **{key: value for key, value in numbers.items() if key in own and key not in init})
