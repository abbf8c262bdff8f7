"""Fit instruction costs to published board times, and say how far such a fit carries.

    python benchmarks/fit_costs.py                      the compiler's model, default parameters
    python benchmarks/fit_costs.py --free load_ns,misc_cycles,load_gb_s,save_gb_s

What is fitted is any `model(network, board, costs) -> milliseconds`; `compiler_model` is ours, whose instructions are
emitted once and timed for each set of costs. Costs of an instruction are one for all boards, bandwidths each board's
own. Errors are squared in the logarithm. Every fit starts at the same nominal costs, not at those of the targets'
files, so that a fit without a network has not seen it.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from zoo_networks import NETWORKS
from zoo_rows import Row, fitted_rows, held_out_rows

from lowwatt.compiler import compile
from lowwatt.compiler.clock import Work, run, work_of
from lowwatt.targets import Costs, load_target

Model = Callable[[str, str, Costs], float]
Vector = NDArray[np.float64]

BOARDS = ("kv260", "ultra96v1")
FREE = ("load_ns", "save_ns", "misc_cycles", "conv_cycles", "load_gb_s", "save_gb_s")
"""The boards' clocks, 300 and 287 MHz, cannot tell nanoseconds from cycles: `*_cycles` of LOAD and SAVE stay."""
NOMINAL = Costs(
    load_ns=60, load_cycles=10, load_gb_s=4, save_ns=30, save_cycles=10, save_gb_s=3, misc_cycles=20, conv_cycles=10
)
HIGHEST = {"load_ns": 300.0, "load_cycles": 60.0, "save_ns": 300.0, "save_cycles": 60.0, "misc_cycles": 100.0}
HIGHEST |= {"conv_cycles": 80.0}
FASTEST = {"kv260": 9.6, "ultra96v1": 4.27}
"""GB/s: two ports of 16 bytes a cycle on KV260, the memory's peak on Ultra96."""


@functools.cache
def _program(network: str, board: str) -> tuple[list[Work], float]:
    """Work of a network's accelerator segments, and nanoseconds of a cycle: the words do not depend on the costs."""
    target = load_target(board)
    segments = compile(NETWORKS[network](), target).segments
    return [work_of(segment.instructions) for segment in segments if segment.side == "dpu"], target.cycle_ns


@functools.cache
def compiler_model(network: str, board: str, costs: Costs) -> float:
    """Accelerator time of a network in milliseconds: the compiler's own instructions, timed anew."""
    works, cycle_ns = _program(network, board)
    return sum(run(work, costs, cycle_ns).total for work in works) / 1e6


# -- the vector that is fitted ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """One number of the fit: a cost of all boards (`board` empty), or a board's time a byte (1 / bandwidth)."""

    cost: str
    board: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value; a byte takes at least what the wires need, at most ten times that."""
        if not self.board:
            return 0.0, HIGHEST[self.cost]
        return 1 / FASTEST[self.board], 10 / FASTEST[self.board]


def parameters(free: Sequence[str] = FREE) -> list[Parameter]:
    """What is free, one parameter each or, for bandwidths, one a board."""
    made = [[Parameter(c, b) for b in BOARDS] if c.endswith("gb_s") else [Parameter(c)] for c in free]
    return [one for several in made for one in several]


def to_costs(free: Sequence[Parameter], x: Vector, start: Costs = NOMINAL) -> dict[str, Costs]:
    """Costs of each board."""
    found = {}
    for board in BOARDS:
        mine = {p.cost: float(1 / v if p.board else v) for p, v in zip(free, x, strict=True) if p.board in ("", board)}
        found[board] = replace(start, **mine)
    return found


# -- the fit ----------------------------------------------------------------------------------------------------------


def logs(rows: Sequence[Row], model: Model, costs: Mapping[str, Costs]) -> Vector:
    """Logarithm of modelled over published time, row by row."""
    return np.array([np.log(model(row.network, row.board, costs[row.board]) / row.ms) for row in rows])


def fit(
    rows: Sequence[Row], model: Model, free: Sequence[Parameter], start: Costs = NOMINAL, rounds: int = 8
) -> Vector:
    """Least squares by Gauss-Newton with bounds; times are nearly linear in the costs, so few rounds do."""
    bounds = np.array([p.bounds for p in free])
    x = np.array([1 / getattr(start, p.cost) if p.board else getattr(start, p.cost) for p in free])
    x = np.clip(x, *bounds.T)
    errors = logs(rows, model, to_costs(free, x, start))
    for _ in range(rounds):
        slopes = _slopes(rows, model, free, x, errors, start)
        wanted = x + _bounded_step(slopes, errors, bounds - x[:, None])
        for _ in range(4):
            found = logs(rows, model, to_costs(free, wanted, start))
            if found @ found < errors @ errors:
                break
            wanted = (wanted + x) / 2
        else:
            return x
        gain = 1 - (found @ found) / (errors @ errors)
        x, errors = wanted, found
        if gain < 1e-3:
            break
    return x


def _slopes(
    rows: Sequence[Row], model: Model, free: Sequence[Parameter], x: Vector, errors: Vector, start: Costs
) -> Vector:
    columns = []
    for index, parameter in enumerate(free):
        low, high = parameter.bounds
        step = (high - low) / 50 * (1 if x[index] < (low + high) / 2 else -1)
        moved = x.copy()
        moved[index] += step
        mine = np.array([parameter.board in ("", row.board) for row in rows])
        column = np.zeros(len(rows))
        touched = [row for row, touches in zip(rows, mine, strict=True) if touches]
        if touched:
            column[mine] = (logs(touched, model, to_costs(free, moved, start)) - errors[mine]) / step
        columns.append(column)
    return np.stack(columns, axis=1)


def _bounded_step(slopes: Vector, errors: Vector, room: Vector) -> Vector:
    """Least squares of `errors + slopes @ step` with each element of the step within its room, one after the other.

    A weak pull to a step of none (1e-3 of each column) keeps costs that the rows do not tell apart from running off.
    """
    scale = np.linalg.norm(slopes, axis=0)
    squares = slopes.T @ slopes + np.diag(1e-3 * scale**2 + 1e-12)
    towards, step = -slopes.T @ errors, np.zeros(len(scale))
    for _ in range(2000):
        for i in range(len(step)):
            rest = towards[i] - squares[i] @ step + squares[i, i] * step[i]
            step[i] = np.clip(rest / squares[i, i], *room[i])
    return step


# -- how far it carries -----------------------------------------------------------------------------------------------


def leave_one_out(rows: Sequence[Row], model: Model, free: Sequence[Parameter], rounds: int = 8) -> list[float]:
    """Modelled time of each row in milliseconds by a fit that has seen no row of its family."""
    times: dict[int, float] = {}
    for family in dict.fromkeys(row.family for row in rows):
        costs = to_costs(free, fit([row for row in rows if row.family != family], model, free, rounds=rounds))
        for index, row in enumerate(rows):
            if row.family == family:
                times[index] = model(row.network, row.board, costs[row.board])
    return [times[index] for index in range(len(rows))]


def percent(rows: Sequence[Row], times: Sequence[float]) -> Vector:
    """Errors in percent of the published times."""
    return np.array([100 * (ms / row.ms - 1) for row, ms in zip(rows, times, strict=True)])


def report(model: Model, free: Sequence[Parameter]) -> dict[str, Costs]:
    """Fit, print costs and every error; returns the costs of each board."""
    rows, unseen = fitted_rows(), held_out_rows()
    costs = to_costs(free, fit(rows, model, free))
    seen = percent(rows, [model(row.network, row.board, costs[row.board]) for row in rows])
    without = percent(rows, leave_one_out(rows, model, free))
    never = percent(unseen, [model(row.network, row.board, costs[row.board]) for row in unseen])
    for board, found in costs.items():
        print(
            board,
            ", ".join(f"{name} {getattr(found, name):.3g}" for name in HIGHEST | {"load_gb_s": 0, "save_gb_s": 0}),
        )
    for row, one, other in zip(rows, seen, without, strict=True):
        print(f"{row.network:22} {row.board:10} {row.ms:7.2f} ms, fitted {one:+6.1f} %, left out {other:+6.1f} %")
    for row, one in zip(unseen, never, strict=True):
        print(f"{row.network:22} {row.board:10} {row.ms:7.2f} ms, never fitted {one:+6.1f} %")
    for what, errors in (("fitted", seen), ("family left out", without), ("never fitted", never)):
        print(
            f"{what}: {len(errors)} rows, mean error {np.abs(errors).mean():.1f} %, worst {np.abs(errors).max():.1f} %"
        )
    return costs


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--free", default=",".join(FREE), help="costs that are fitted, by comma")
    report(compiler_model, parameters(options.parse_args().free.split(",")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
