"""targets: the machines that lowwatt knows, what one is made of, and how several differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lowwatt.targets import ARRAYS, Target, core_name, load_target, target_names


@dataclass(frozen=True)
class Property:
    """One property of several machines, in words."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the machines differ in it."""
        return len(set(self.values)) > 1


def open_targets(names: Sequence[str]) -> list[Target]:
    """The named machines; all that come with lowwatt where none is named."""
    return [load_target(name) for name in names or target_names()]


def to_json(target: Target) -> dict[str, Any]:
    """The description with what follows from it."""
    follows = {
        "core": _name(target),
        "fingerprint": _fingerprint(target),
        "peak_gops": target.peak_gops,
        "bank_bytes": target.bank_bytes,
        "image_banks": {"first": target.image_banks.start, "count": len(target.image_banks)},
        "weight_banks": {"first": target.weight_banks.start, "count": len(target.weight_banks)},
        "depthwise_bank": target.depthwise_bank,
        "bias_bank": target.bias_bank,
    }
    return {**target.to_json(), **follows}


def properties(targets: Sequence[Target]) -> list[Property]:
    """What the machines are made of, row by row."""
    return [Property(name, tuple(of(target) for target in targets)) for name, of in _PROPERTIES.items()]


def operators(targets: Sequence[Target]) -> Iterator[Property]:
    """What the machines' instruction sets do not have in common: for each operator the limits that one has alone."""
    from lowwatt.compiler.rules import RULES

    sets = sorted({target.isa for target in targets})
    for op in dict.fromkeys(op for isa in sets for op in RULES[isa]):
        row = Property(op, tuple(_alone(op, target.isa, sets) for target in targets))
        if row.differs:
            yield row


def _alone(op: str, isa: int, sets: Sequence[int]) -> str:
    from lowwatt.compiler.limits import feature_map
    from lowwatt.compiler.rules import RULES

    if op not in RULES[isa]:
        return "runs on the host"
    others = [RULES[other][op] for other in sets if other != isa and op in RULES[other]]
    limits = [limit for limit in RULES[isa][op] if any(limit not in other for other in others)]
    own = [limit for limit in limits if limit is not feature_map]
    return " ".join(" ".join((limit.__doc__ or "").split()) for limit in own) or "taken"


def same_programs(targets: Sequence[Target]) -> bool:
    """Whether a program that was compiled for one of them runs on all: the runtime compares fingerprints."""
    return len({_fingerprint(target) for target in targets}) == 1


def _fingerprint(target: Target) -> str | None:
    """In hexadecimal; None for an array of somebody's own, which the vendor's tools do not know."""
    return f"{target.fingerprint:#x}" if target.array in ARRAYS else None


def _name(target: Target) -> str:
    return core_name(target.core) if target.array in ARRAYS else target.array.name


def _array(target: Target) -> str:
    array = target.array
    return f"{array.name}: {array.pixels} pixels x {array.input_channels} x {array.output_channels} channels"


def _buffer(banks: range, target: Target) -> str:
    return f"{len(banks) * target.bank_bytes:,} B in banks {banks.start} to {banks.stop - 1}"


def _yes(name: str) -> Callable[[Target], str]:
    return lambda target: "yes" if getattr(target.options, name) else "no"


def _rows(name: str) -> Callable[[Target], str]:
    return lambda target: str(getattr(target.options, name))


def _depthwise_bank(target: Target) -> str:
    return "none" if target.depthwise_bank is None else str(target.depthwise_bank)


def _dram(target: Target) -> str:
    peak = target.dram.peak_gb_s
    return f"{target.dram.kind or 'unknown'}, peak {'unknown' if peak is None else f'{peak:g} GB/s'}"


_SETS = {0: "ISA0 (Vitis AI up to 2.0)", 1: "ISA1 (Vitis AI 2.5 and later)"}

_PROPERTIES: dict[str, Callable[[Target], str]] = {
    "core": _name,
    "fingerprint": lambda t: _fingerprint(t) or "none",
    "array": _array,
    "instruction set": lambda t: _SETS[t.isa],
    "clock": lambda t: f"{t.clock_mhz:g} MHz",
    "peak": lambda t: f"{t.peak_gops:.1f} GOPS",
    "image groups": lambda t: str(t.image_groups),
    "image buffer": lambda t: _buffer(t.image_banks, t),
    "weight buffer": lambda t: _buffer(t.weight_banks, t),
    "depthwise bank": _depthwise_bank,
    "bias bank": lambda t: str(t.bias_bank),
    "a bank": lambda t: f"{t.bank_bytes:,} B: {t.bank_depth} words of {t.array.input_channels}",
    "channel augmentation": _yes("augmentation"),
    "LeakyReLU": _yes("leaky_relu"),
    "ReLU6": _yes("relu6"),
    "average pool": _yes("average_pool"),
    "depthwise": _yes("depthwise"),
    "depthwise ReLU6": _yes("depthwise_relu6"),
    "depthwise LeakyReLU": _yes("depthwise_leaky_relu"),
    "elementwise multiplication": _yes("eltwise_mul"),
    "max-reduce": _yes("max_reduce"),
    "argmax on saving": _yes("save_argmax"),
    "pool rows at once": _rows("pool_rows"),
    "depthwise rows at once": _rows("depthwise_rows"),
    "elementwise rows at once": _rows("eltwise_rows"),
    "memory": _dram,
    "LOAD, SAVE bandwidth": lambda t: f"{t.costs.load_gb_s:g}, {t.costs.save_gb_s:g} GB/s",
    "board": lambda t: t.board,
    "known from": lambda t: t.provenance,
    "costs from": lambda t: t.costs.provenance,
}
